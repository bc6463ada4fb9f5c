/*
 * What stands at the bottom of the terminal while no line is edited: lines that change in place, or
 * a text that comes in pieces. What others write appears above it. The thread of the loop.
 */
#ifndef LASH_BOTTOM_H
#define LASH_BOTTOM_H

#include "base/base.h"

/* See editor_area() and editor_tail(). */
void bottom_area(const char *text);
void bottom_tail(const char *text, size_t len);

/* Prints the texts of others that wait. Nothing is drawn while the terminal is lent. */
void bottom_print(void);

/* Prints all that waits; nothing stands there any more: the area is taken away, a text stays. */
void bottom_end(void);

#endif
