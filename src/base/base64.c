#include "base/base.h"

#include "base/base64.h"

#include <errno.h>
#include <string.h>

static const char plain_alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

enum { NO_DIGIT = 0xff };

size_t base64_encoded_len(size_t len, bool pad)
{
    size_t rest = len % 3;
    size_t tail = rest == 0 ? 0 : pad ? 4 : rest + 1;
    return len / 3 * 4 + tail;
}

void base64_encode(const void *data, size_t len, bool url, bool pad, char *out)
{
    const char *digits = url ? url_alphabet : plain_alphabet;
    const uint8_t *in = data;
    const uint8_t *whole_end = in + len / 3 * 3;
    for (; in < whole_end; in += 3, out += 4) {
        uint32_t group = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];
        out[0] = digits[group >> 18];
        out[1] = digits[group >> 12 & 63];
        out[2] = digits[group >> 6 & 63];
        out[3] = digits[group & 63];
    }
    size_t rest = len % 3;
    if (rest == 0) {
        return;
    }
    uint32_t group = (uint32_t)in[0] << 16 | (rest == 2 ? (uint32_t)in[1] << 8 : 0);
    *out++ = digits[group >> 18];
    *out++ = digits[group >> 12 & 63];
    if (rest == 2) {
        *out++ = digits[group >> 6 & 63];
    }
    for (size_t i = rest; pad && i < 3; i++) {
        *out++ = '=';
    }
}

size_t base64_decoded_room(size_t len)
{
    return len / 4 * 3 + 3;
}

static void make_values(uint8_t values[256], bool url)
{
    const char *digits = url ? url_alphabet : plain_alphabet;
    memset(values, NO_DIGIT, 256);
    for (uint8_t i = 0; i < 64; i++) {
        values[(uint8_t)digits[i]] = i;
    }
}

/* How much of the text is digits; what follows must be padding, and enough of it. */
static int check_padding(const char *text, size_t len, bool url, size_t *digits, size_t *bad)
{
    size_t pads = 0;
    while (pads < 2 && pads < len && text[len - 1 - pads] == '=') {
        pads++;
    }
    *digits = len - pads;
    size_t rest = *digits % 4;
    size_t wanted = rest == 0 ? 0 : 4 - rest;
    if (rest == 1 || (pads < wanted && !(url && pads == 0))) {
        *bad = len; // the group is not finished
        if (rest == 1 && pads > 0) {
            *bad = *digits;
        }
        return -EINVAL;
    }
    if (pads > wanted) {
        *bad = *digits + wanted;
        return -EINVAL;
    }
    return 0;
}

/* The first thing in the text that is no digit. There may be none. */
static size_t first_bad(const uint8_t values[256], const char *text, size_t digits)
{
    size_t at = 0;
    while (at < digits && values[(uint8_t)text[at]] != NO_DIGIT) {
        at++;
    }
    return at;
}

int base64_decode(const char *text, size_t len, bool url, void *out, size_t *out_len, size_t *bad)
{
    uint8_t values[256];
    make_values(values, url);
    size_t digits;
    int err = check_padding(text, len, url, &digits, bad);
    if (err != 0) {
        size_t at = first_bad(values, text, digits);
        *bad = at < digits ? at : *bad; // what is wrong first is what helps
        return err;
    }
    const uint8_t *in = (const uint8_t *)text;
    uint8_t *to = out;
    uint8_t seen = 0; // bit 7: something was no digit
    for (size_t i = 0; i < digits / 4; i++, in += 4, to += 3) {
        uint8_t a = values[in[0]], b = values[in[1]], c = values[in[2]], d = values[in[3]];
        seen |= a | b | c | d;
        to[0] = (uint8_t)(a << 2 | b >> 4);
        to[1] = (uint8_t)(b << 4 | c >> 2);
        to[2] = (uint8_t)(c << 6 | d);
    }
    size_t rest = digits % 4;
    uint8_t unused = 0; // bits of the last digit that belong to no byte
    if (rest > 0) {
        uint8_t a = values[in[0]], b = values[in[1]], c = rest == 3 ? values[in[2]] : 0;
        seen |= a | b | c;
        *to++ = (uint8_t)(a << 2 | b >> 4);
        unused = b & 15;
        if (rest == 3) {
            *to++ = (uint8_t)(b << 4 | c >> 2);
            unused = c & 3;
        }
    }
    if (seen > 63 || unused != 0) {
        *bad = seen > 63 ? first_bad(values, text, digits) : digits - 1;
        return -EINVAL;
    }
    *out_len = (size_t)(to - (uint8_t *)out);
    return 0;
}
