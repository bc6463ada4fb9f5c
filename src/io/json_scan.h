/*
 * What the readers of JSON share to get through strings 8 or 16 bytes at a time.
 */
#ifndef LASH_JSON_SCAN_H
#define LASH_JSON_SCAN_H

#include "base/base.h"
#include "io/json.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* The offset of the first of the 8 bytes at `s` that is a control character, '"', '\\' or not
 * ASCII; 8 = none is. */
static inline size_t json_find_special(const char *s)
{
    const uint64_t ones = 0x0101010101010101U;
    const uint64_t highs = ones * 0x80;
    uint64_t w;
    memcpy(&w, s, sizeof w);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    w = __builtin_bswap64(w);
#endif
    uint64_t control = w - ones * 0x20;
    uint64_t quote = (w ^ (ones * '"')) - ones;
    uint64_t backslash = (w ^ (ones * '\\')) - ones;
    // the high bit of such a byte is set; a borrow may set one behind it, but none before it
    uint64_t special = (control | quote | backslash | w) & highs;
    return special == 0 ? 8 : (size_t)__builtin_ctzll(special) / 8;
}

#ifdef __SSE2__
/* The same of 16 bytes; 16 = none is. */
static inline size_t json_find_special16(const char *s)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)s);
    __m128i odd = _mm_cmplt_epi8(bytes, _mm_set1_epi8(' ')); // signed: 0x80 and more are less
    __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
    __m128i backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
    __m128i special = _mm_or_si128(odd, _mm_or_si128(quote, backslash));
    unsigned high_bits = (unsigned)_mm_movemask_epi8(special);
    return high_bits == 0 ? 16 : (size_t)__builtin_ctz(high_bits);
}
#endif

/* The first byte from `s` on that is such; `end` if none is. */
static inline const char *json_scan_ascii(const char *s, const char *end)
{
#ifdef __SSE2__
    while (end - s >= 16) {
        size_t plain = json_find_special16(s);
        s += plain;
        if (plain < 16) {
            return s;
        }
    }
#endif
    while (end - s >= 8) {
        size_t plain = json_find_special(s);
        s += plain;
        if (plain < 8) {
            return s;
        }
    }
    while (s < end && (unsigned char)(*s - 0x20) < 0x60 && *s != '"' && *s != '\\') {
        s++;
    }
    return s;
}

/* The first byte from `s` on that cannot stand in a string as it is; `end` if all can. */
static inline const char *json_scan_plain(const char *s, const char *end)
{
    while ((s = json_scan_ascii(s, end)) < end && (unsigned char)*s >= 0x80) {
        do {
            int len = json_utf8_length(s, (size_t)(end - s));
            if (len < 0) {
                return s;
            }
            s += len;
        } while (s < end && (unsigned char)*s >= 0x80);
    }
    return s;
}

#endif
