/*
 * The terminal's settings: they are those from before, or readline's while a line is edited, or
 * quiet. Quiet means that keys are not shown but kept, as they are typed, for the next line: while
 * the console draws what must not be broken by them. Signals of the keyboard go on as ever.
 *
 * Who reads from the terminal meanwhile, or starts a child that may, is lent it: then the settings
 * are those from before. The thread of the loop, unless a function says else.
 */
#ifndef LASH_TTY_H
#define LASH_TTY_H

#include "base/base.h"

void tty_open(void);

/* Right before readline changes the settings, and when it has changed them back. */
void tty_begin_line(void);
void tty_end_line(void);

/* Until the next line, or tty_loud(). `pastes`: the terminal is asked to mark them, as readline
 * does, so that one is one line then. In the background nothing is changed. */
void tty_quiet(bool pastes);
void tty_loud(void);

/* Lends the terminal: 0 when there is nothing to be given back, as it is not quiet. Any thread. */
unsigned tty_lend(void);
void tty_give_back(unsigned loan);

/* Whether it is lent. Any thread. */
bool tty_is_lent(void);

/* Whether the program was stopped since the last call: others have written to the terminal. */
bool tty_was_stopped(void);

/* The settings from before again, after somebody else has left them in disorder. */
void tty_recover(void);

/* The same, async-signal-safe and at any time, and only if we have changed them. */
void tty_restore(void);

#endif
