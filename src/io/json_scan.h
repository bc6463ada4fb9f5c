/*
 * What the readers of JSON share to get through strings eight bytes at a time.
 */
#ifndef LASH_JSON_SCAN_H
#define LASH_JSON_SCAN_H

#include "base/base.h"
#include "io/json.h"

#include <string.h>

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

/* The first byte from `s` on that cannot stand in a string as it is; `end` if all can. */
static inline const char *json_scan_plain(const char *s, const char *end)
{
    while (end - s >= 8) {
        size_t plain = json_find_special(s);
        s += plain;
        if (plain == 8) {
            continue;
        }
        if ((unsigned char)*s < 0x80) {
            return s;
        }
        do {
            int len = json_utf8_length(s, (size_t)(end - s));
            if (len < 0) {
                return s;
            }
            s += len;
        } while (s < end && (unsigned char)*s >= 0x80);
    }
    while (s < end) {
        unsigned char c = (unsigned char)*s;
        int len = c < 0x80 ? 1 : json_utf8_length(s, (size_t)(end - s));
        if (c < 0x20 || c == '"' || c == '\\' || len < 0) {
            return s;
        }
        s += len;
    }
    return s;
}

#endif
