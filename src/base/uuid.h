/*
 * UUIDs of RFC 9562, of random bytes of the kernel. Any thread.
 */
#ifndef LASH_UUID_H
#define LASH_UUID_H

#include "base/base.h"

enum { UUID_LEN = 16, UUID_TEXT_LEN = 36 };

/* Version 4: random. Returns 0 or a negative errno. */
int uuid_v4(uint8_t out[UUID_LEN]);

/* Version 7: the time, to a quarter of a microsecond, then random. Each is greater than all that
 * this process has made before, on whichever thread, even if the clock was set back. Returns 0 or a
 * negative errno. */
int uuid_v7(uint8_t out[UUID_LEN]);

/* The 60 bits of time of a version 7 UUID: `ns` since 1970 as milliseconds and 4096ths of one, but
 * more than `last`. For uuid_v7() and its tests. */
uint64_t uuid_v7_time(uint64_t ns, uint64_t last);

/* Writes the 36 characters of the usual form, in lower case, without NUL. */
void uuid_text(const uint8_t uuid[UUID_LEN], char out[UUID_TEXT_LEN]);

#endif
