/*
 * Texts of others: what any thread writes to the terminal while something of the console stands at
 * its bottom. They wait here until the thread of the loop prints them above that.
 */
#ifndef LASH_ABOVE_H
#define LASH_ABOVE_H

#include "base/base.h"
#include "base/buf.h"

#include <uv.h>

/* `print` is called from the loop when there are texts, and from above_write() on the thread of the
 * loop when there are very many, unless above_hold() says that it may not. */
void above_open(uv_loop_t *loop, void (*print)(void));
void above_close(void);

/* Whether something stands at the bottom. When it does not, texts are the business of who writes
 * them. */
void above_set_active(bool active);

/* Between above_hold(true) and above_hold(false) `print` is called from the loop only. */
void above_hold(bool held);

/* Adds to `out` all whole lines that wait, or all there is. A line that does not end is broken. */
void above_take(struct buf *out, bool all);

/* Calls `print` soon, from the loop. Any thread. */
void above_wake(void);

/* Any thread: takes a text that is to go to `fd`, if something stands at the bottom and `fd` is a
 * terminal. False: write it yourself. */
bool above_write(int fd, const char *text, size_t len);

#endif
