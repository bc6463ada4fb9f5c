/*
 * Base64 of RFC 4648, with the usual alphabet or the one for URLs. No state; any thread.
 */
#ifndef LASH_BASE64_H
#define LASH_BASE64_H

#include "base/base.h"

/* Bytes of the encoded text of `len` bytes. */
size_t base64_encoded_len(size_t len, bool pad);

/* Encodes into `out`, which has room for base64_encoded_len() bytes. No NUL is added. */
void base64_encode(const void *data, size_t len, bool url, bool pad, char *out);

/* Room that base64_decode() needs for `len` characters. */
size_t base64_decoded_room(size_t len);

/* Decodes strictly: nothing but the alphabet, padding that is right (with `url` it may be missing
 * altogether), and no bits set that mean nothing. Returns 0 and the number of bytes in `*out_len`,
 * or -EINVAL with the offset of what is wrong in `*bad` (`len`: the text ends too early); `out`
 * then holds the beginning. */
int base64_decode(const char *text, size_t len, bool url, void *out, size_t *out_len, size_t *bad);

#endif
