/*
 * What is known of the terminal at stdout, and writing to it past the buffer of the C library. Main
 * thread.
 */
#ifndef LASH_SCREEN_H
#define LASH_SCREEN_H

#include "base/base.h"

/* Writes all of it, or as much as goes before the terminal is gone. */
void screen_write(const char *text, size_t len);

/* Erases the row of the cursor, the `rows` - 1 above it, and all below. */
void screen_erase(unsigned rows);

/* To the first column: of the next row, if something stands in front of the cursor, which nobody
 * knows of. A row of blanks ends in the next one then, else it may be written over. */
void screen_fresh_line(void);

/* Rows that a text takes which begins in the first column. Control sequences take none; a letter
 * that the C library does not know takes one cell. */
unsigned screen_rows(const char *text, size_t len);

#endif
