/*
 * The parts of JSON that need no nesting: UTF-8, escapes, numbers. See json.h.
 */
#include "base/base.h"
#include "io/json.h"
#include "io/json_scan.h"

#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The powers of ten that are exact as doubles. */
static const double exact_tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;
static locale_t c_locale; /* constant after the first use; lives as long as the process */

static void make_c_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    ASSERT(c_locale != (locale_t)0);
}

static locale_t get_c_locale(void)
{
    (void)pthread_once(&c_locale_once, make_c_locale); // fails only for a bad argument
    return c_locale;
}

/* ---- UTF-8 ---- */

int json_utf8_length(const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    unsigned char lo = 0x80, hi = 0xBF;
    int more;

    if (s[0] < 0x80) {
        return 1;
    }
    if (s[0] >= 0xC2 && s[0] <= 0xDF) {
        more = 1;
    } else if ((s[0] & 0xF0) == 0xE0) {
        more = 2;
        lo = s[0] == 0xE0 ? 0xA0 : lo; // no overlong forms
        hi = s[0] == 0xED ? 0x9F : hi; // no surrogates
    } else if (s[0] >= 0xF0 && s[0] <= 0xF4) {
        more = 3;
        lo = s[0] == 0xF0 ? 0x90 : lo;
        hi = s[0] == 0xF4 ? 0x8F : hi; // nothing above U+10FFFF
    } else {
        return -1;
    }
    for (int i = 1; i <= more; i++) {
        if ((size_t)i >= n || s[i] < lo || s[i] > hi) {
            return -i;
        }
        lo = 0x80;
        hi = 0xBF;
    }
    return more + 1;
}

size_t json_plain_run(const char *s, size_t n)
{
    return (size_t)(json_scan_plain(s, s + n) - s);
}

/* ---- strings ---- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

int json_hex4(const char *s, size_t n)
{
    int value = 0;
    if (n < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        int digit = hex_value(s[i]);
        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    return value;
}

char json_unescaped(unsigned char c)
{
    static const char table[256] = {
        ['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
        ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t',
    };
    return table[c];
}

static size_t put_utf8(char *out, unsigned cp)
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | (cp >> 6));
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | (cp >> 12));
        out[1] = (char)(0x80 | ((cp >> 6) & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | (cp >> 18));
    out[1] = (char)(0x80 | ((cp >> 12) & 0x3F));
    out[2] = (char)(0x80 | ((cp >> 6) & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

size_t json_unescape(struct json_str s, char *out)
{
    const char *p = s.raw;
    const char *end = s.raw + s.len;
    char *o = out;

    while (p < end) {
        if (*p != '\\') {
            *o++ = *p++;
            continue;
        }
        if (p[1] != 'u') {
            *o++ = json_unescaped((unsigned char)p[1]);
            p += 2;
            continue;
        }
        unsigned cp = (unsigned)json_hex4(p + 2, 4);
        p += 6;
        if (cp >= 0xD800 && cp <= 0xDFFF) { // the reader made sure that the other half follows
            cp = 0x10000 + ((cp - 0xD800) << 10) + ((unsigned)json_hex4(p + 2, 4) - 0xDC00);
            p += 6;
        }
        o += put_utf8(o, cp);
    }
    return (size_t)(o - out);
}

size_t json_write_escape(unsigned char c, char out[6])
{
    static const char hex[] = "0123456789abcdef";
    static const char table[256] = {
        ['"'] = '"',  ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f',
        ['\n'] = 'n', ['\r'] = 'r',  ['\t'] = 't',
    };

    out[0] = '\\';
    if (table[c] != 0) {
        out[1] = table[c];
        return 2;
    }
    memcpy(out + 1, "u00", 3);
    out[4] = hex[c >> 4];
    out[5] = hex[c & 15];
    return 6;
}

/* ---- numbers ---- */

/* Slow but exact: the C library, on a copy that ends with NUL. */
static double parse_slowly(const char *s, size_t len)
{
    char small[64];
    char *copy = len < sizeof(small) ? small : xmalloc(len + 1);
    memcpy(copy, s, len);
    copy[len] = '\0';
    double value = strtod_l(copy, NULL, get_c_locale());
    if (copy != small) {
        free(copy);
    }
    return value;
}

double json_parse_double(uint64_t mantissa, long exponent, const char *s, size_t len)
{
    if (mantissa > ((uint64_t)1 << 53) || exponent < -22 || exponent > 22) {
        return parse_slowly(s, len);
    }
    // both factors are exact, so one operation rounds correctly
    double value = (double)mantissa;
    value = exponent < 0 ? value / exact_tens[-exponent] : value * exact_tens[exponent];
    return s[0] == '-' ? -value : value;
}

size_t json_write_integer(int64_t value, char out[JSON_NUMBER_MAX])
{
    char digits[JSON_NUMBER_MAX];
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    size_t n = 0;
    size_t len = 0;
    do {
        digits[n++] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    if (value < 0) {
        out[len++] = '-';
    }
    while (n > 0) {
        out[len++] = digits[--n];
    }
    out[len] = '\0';
    return len;
}

/* Most floats that people write have few decimals: finds m and k <= 6 with value == m / 10^k and
 * writes that. m < 10^15 makes it what the shortest conversion would give. Returns 0 if there is no
 * such m. */
static size_t write_short_decimal(double value, char out[JSON_NUMBER_MAX])
{
    double magnitude = fabs(value);
    if (!(magnitude < 1e9) || magnitude < 1e-3) {
        if (magnitude != 0) {
            return 0;
        }
    }
    for (int k = 1; k <= 6; k++) {
        double scaled = nearbyint(magnitude * exact_tens[k]);
        if (scaled / exact_tens[k] != magnitude) {
            continue;
        }
        uint64_t m = (uint64_t)scaled;
        uint64_t unit = (uint64_t)exact_tens[k];
        uint64_t fraction = m % unit;
        size_t len = signbit(value) ? 1 : 0;
        out[0] = '-';
        len += json_write_integer((int64_t)(m / unit), out + len);
        out[len++] = '.';
        for (int i = 0; i < k; i++) {
            unit /= 10;
            out[len++] = (char)('0' + fraction / unit);
            fraction %= unit;
        }
        out[len] = '\0';
        return len;
    }
    return 0;
}

size_t json_write_double(double value, char out[JSON_NUMBER_MAX])
{
    if (!isfinite(value)) {
        return 0;
    }
    size_t len = write_short_decimal(value, out);
    if (len > 0) {
        return len;
    }
    locale_t c = get_c_locale();
    locale_t old = uselocale(c); // this thread only: printf has no variant that takes a locale
    // a denormal has fewer digits than 15, so the shortest may be any number of them
    for (int precision = fabs(value) < 0x1p-1022 ? 1 : 15; precision <= 17; precision++) {
        len = (size_t)snprintf(out, JSON_NUMBER_MAX, "%.*g", precision, value);
        if (precision == 17 || strtod_l(out, NULL, c) == value) {
            break;
        }
    }
    (void)uselocale(old);
    if (strpbrk(out, ".e") == NULL) {
        memcpy(out + len, ".0", 3);
        len += 2;
    }
    return len;
}
