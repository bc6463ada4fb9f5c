/*
 * The program's three standard streams: they are open from the start, stdout can be set aside for
 * the answer, and a reader of stdout that goes away ends the program. Main thread, unless said
 * otherwise.
 */
#ifndef LASH_STREAM_H
#define LASH_STREAM_H

#include "base/base.h"

enum { STREAM_EXIT_IO = 74, STREAM_EXIT_CLOSED = 141 };

/* Once at the start, before any thread. A standard stream that is closed becomes one on which every
 * read and write fails, so that no other file takes its number. SIGPIPE ends the program with 141
 * when it is stdout that nobody reads any more; a closed socket stays an error of its write, and so
 * does a file that is too large (SIGXFSZ). */
void stream_open(void);

/* Keeps the program's stdout apart: descriptor 1 is stderr from now on, for all that writes there,
 * children too; stream_fd(1) is the old one. Idempotent. */
void stream_reserve(void);

/* True when stdout is kept apart: then the C stream of that name is stderr's. Any thread. */
bool stream_reserved(void);

/* The descriptor behind a standard stream's number. Any thread. */
int stream_fd(int fd);

/* Writes all bytes, waiting where the descriptor is non-blocking. Returns 0, or -1 with errno. Any
 * thread. */
int stream_write(int fd, const char *data, size_t len);

/* While a line is edited on the terminal, what others write to it has to stand above that line: the
 * editor gives the function that does it, see editor_above(). Set once. */
void stream_set_above(bool (*above)(int fd, const char *text, size_t len));
bool stream_has_above(void);

/* True when the text was taken for that. Any thread. */
bool stream_above(int fd, const char *text, size_t len);

/* While the console keeps the keys of the terminal for itself, who reads from there or starts a
 * child that may has to be lent it first: see editor_lend(). Set once. */
void stream_set_lend(unsigned (*lend)(void), void (*give_back)(unsigned loan));

/* 0, or what has to be given back. Any thread. */
unsigned stream_lend(void);
void stream_give_back(unsigned loan);

#endif
