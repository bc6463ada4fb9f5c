/*
 * Ways to end without a word: a crash, an abort, Ctrl-\. For the program only; main thread.
 */
#ifndef LASH_CRASH_H
#define LASH_CRASH_H

/* `restore` (async-signal-safe) is called before the process dies so; it dies all the same. Signals
 * that somebody else has taken are left alone. */
void crash_open(void (*restore)(void));

#endif
