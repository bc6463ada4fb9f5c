/*
 * SHA-256 (FIPS 180-4) and HMAC-SHA-256 (RFC 2104), piece by piece. The state is the caller's and
 * holds no memory of its own: it may be copied and forgotten. Any thread, one at a time.
 *
 * By hand: the OpenSSL that libcurl brings along is loaded with it, on the first request, and is no
 * dependency of lash.
 */
#ifndef LASH_SHA256_H
#define LASH_SHA256_H

#include "base/base.h"

enum { SHA256_LEN = 32, SHA256_BLOCK = 64 };

struct sha256 {
    uint32_t h[8];
    uint64_t total; /* bytes so far */
    uint8_t block[SHA256_BLOCK];
};

void sha256_init(struct sha256 *s);
void sha256_update(struct sha256 *s, const void *data, size_t len);
/* The digest of all bytes so far. `s` stays as it is and can go on. */
void sha256_digest(const struct sha256 *s, uint8_t out[SHA256_LEN]);

void sha256_hmac(const void *key, size_t key_len, const void *data, size_t len,
                 uint8_t out[SHA256_LEN]);

#endif
