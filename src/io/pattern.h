/*
 * Regular expressions as JSON Schema means them: those of ECMA-262, over code points, unanchored.
 *
 * They are matched by simulating an automaton, so time grows with length of text times size of
 * program, whatever the expression: there is no backtracking. What such a machine cannot do, or
 * would need tables for, is refused by name: lookahead and lookbehind, backreferences, \p{...} and
 * inline flags. No Lua. A pattern never changes once it is made: any thread may match with it.
 *
 * As in ECMA-262, \d and \w are ASCII, \s is Unicode's white space, `.` is anything but a line end,
 * ^ and $ are the ends of the text. A `{` that begins no repetition, and a backslash before a
 * punctuation character, mean the character itself.
 */
#ifndef LASH_PATTERN_H
#define LASH_PATTERN_H

#include "base/base.h"

/* Instructions in a program; what counted repetitions unfold to counts. */
#define PATTERN_PROGRAM_MAX 32768
/* Steps of one match before it gives up. */
#define PATTERN_STEPS_MAX 100000000

struct pattern;

/* Makes a pattern. Returns 0 and an owned pattern in *out, or UV_EINVAL and one sentence in `error`
 * (120 bytes are enough). */
int pattern_compile(const char *source, size_t len, struct pattern **out, char *error,
                    size_t error_size);

/* Does it match anywhere in the text? 1 or 0, or UV_E2BIG after PATTERN_STEPS_MAX steps. Bytes that
 * are not UTF-8 count as U+FFFD each. */
int pattern_match(const struct pattern *p, const char *text, size_t len);

/* Frees a pattern; NULL is allowed. */
void pattern_free(struct pattern *p);

#endif
