#include "base/base.h"

#include "base/sha256.h"

#include <string.h>

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

static uint32_t read_word(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void write_word(uint8_t *p, uint32_t x)
{
    p[0] = (uint8_t)(x >> 24);
    p[1] = (uint8_t)(x >> 16);
    p[2] = (uint8_t)(x >> 8);
    p[3] = (uint8_t)x;
}

/* One round. Instead of moving the eight words along, the caller moves their names. */
#define ROUND(a, b, c, d, e, f, g, h, i)                                      \
    do {                                                                      \
        uint32_t t1_ = (h) + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + \
                       ((g) ^ ((e) & ((f) ^ (g)))) + K[i] + w[i];             \
        (d) += t1_;                                                           \
        (h) = t1_ + (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) +          \
              (((a) & (b)) | ((c) & ((a) | (b))));                            \
    } while (0)

static void add_block(uint32_t state[8], const uint8_t *block)
{
    uint32_t w[64];
    for (int i = 0; i < 16; i++) {
        w[i] = read_word(block + 4 * i);
    }
    for (int i = 16; i < 64; i++) {
        uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; i += 8) {
        ROUND(a, b, c, d, e, f, g, h, i);
        ROUND(h, a, b, c, d, e, f, g, i + 1);
        ROUND(g, h, a, b, c, d, e, f, i + 2);
        ROUND(f, g, h, a, b, c, d, e, i + 3);
        ROUND(e, f, g, h, a, b, c, d, i + 4);
        ROUND(d, e, f, g, h, a, b, c, i + 5);
        ROUND(c, d, e, f, g, h, a, b, i + 6);
        ROUND(b, c, d, e, f, g, h, a, i + 7);
    }
    const uint32_t sums[8] = {a, b, c, d, e, f, g, h};
    for (int i = 0; i < 8; i++) {
        state[i] += sums[i];
    }
}

void sha256_init(struct sha256 *s)
{
    *s = (struct sha256){.h = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
                               0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

void sha256_update(struct sha256 *s, const void *data, size_t len)
{
    const uint8_t *in = data;
    size_t have = s->total % SHA256_BLOCK;
    if (len == 0) { // data may be NULL then
        return;
    }
    s->total += len;
    if (have > 0) {
        size_t part = SHA256_BLOCK - have < len ? SHA256_BLOCK - have : len;
        memcpy(s->block + have, in, part);
        in += part;
        len -= part;
        if (have + part < SHA256_BLOCK) {
            return;
        }
        add_block(s->h, s->block);
    }
    for (; len >= SHA256_BLOCK; in += SHA256_BLOCK, len -= SHA256_BLOCK) {
        add_block(s->h, in);
    }
    memcpy(s->block, in, len);
}

void sha256_digest(const struct sha256 *s, uint8_t out[SHA256_LEN])
{
    static const uint8_t end[SHA256_BLOCK] = {0x80};
    struct sha256 last = *s;
    size_t have = last.total % SHA256_BLOCK;
    uint8_t bits[8];
    write_word(bits, (uint32_t)(s->total >> 29));
    write_word(bits + 4, (uint32_t)(s->total << 3));
    sha256_update(&last, end, have < 56 ? 56 - have : 120 - have);
    sha256_update(&last, bits, sizeof(bits));
    for (int i = 0; i < 8; i++) {
        write_word(out + 4 * i, last.h[i]);
    }
}

void sha256_hmac(const void *key, size_t key_len, const void *data, size_t len,
                 uint8_t out[SHA256_LEN])
{
    uint8_t block[SHA256_BLOCK] = {0};
    struct sha256 s;
    if (key_len > SHA256_BLOCK) {
        sha256_init(&s);
        sha256_update(&s, key, key_len);
        sha256_digest(&s, block);
    } else if (key_len > 0) {
        memcpy(block, key, key_len);
    }
    for (int i = 0; i < SHA256_BLOCK; i++) {
        block[i] ^= 0x36;
    }
    sha256_init(&s);
    sha256_update(&s, block, SHA256_BLOCK);
    sha256_update(&s, data, len);
    sha256_digest(&s, out);
    for (int i = 0; i < SHA256_BLOCK; i++) {
        block[i] ^= 0x36 ^ 0x5c;
    }
    sha256_init(&s);
    sha256_update(&s, block, SHA256_BLOCK);
    sha256_update(&s, out, SHA256_LEN);
    sha256_digest(&s, out);
}
