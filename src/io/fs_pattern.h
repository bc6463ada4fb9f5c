/*
 * One part of a glob pattern, what stands between two slashes. Any thread.
 *
 *   *        any characters       ?   one character (of UTF-8; a byte that is none counts as one)
 *   [a-z_]   one of these         [!a-z], [^a-z]   one of the others; [[:alpha:]] and its like are
 *                                 classes of ASCII characters
 *   \x       x itself. A [ without its ] and a \ at the end stand for themselves.
 */
#ifndef LASH_FS_PATTERN_H
#define LASH_FS_PATTERN_H

#include "base/base.h"
#include "base/buf.h"

/* True when the part holds a wildcard that means something. */
bool fs_pattern_is_wild(const char *part);

/* Appends the text that a part without wildcards stands for. */
void fs_pattern_unescape(const char *part, struct buf *out);

/* Matches all of `name`. In time proportional to the product of both lengths. */
bool fs_pattern_matches(const char *part, const char *name);

#endif
