/*
 * A line that has more rows than the screen, such as a paste of many lines: readline would write
 * its last rows over each other. Here a part around the cursor is shown, and how many lines are
 * above and below it. Main thread.
 */
#ifndef LASH_TALL_H
#define LASH_TALL_H

#include "base/base.h"
#include "shell/readline_dl.h"

/* Takes the place of readline's own function. Does nothing with libedit. */
void tall_open(const struct readline_api *rl);

/* Draws the line, or the part of it. */
void tall_redisplay(void);

/* After a change of the screen's size. Readline redraws in a better way than by force, but only if
 * it draws itself. */
void tall_resize(void);

/* A line begins behind this prompt. */
void tall_begin(const char *prompt);

/* The line was entered, the cursor is below it: when only a part of it was shown, all of it is
 * written in its place. */
void tall_write_whole(const char *prompt, const char *line);

#endif
