/*
 * JSON text (RFC 8259): a strict pull reader and the writing of numbers and strings.
 *
 * No Lua, no allocation that outlives a call, no recursion: a reader is a plain struct, its nesting
 * is a bit per level. Any thread may use it, one at a time per reader. Nothing depends on the C
 * locale.
 *
 * Limits and choices, all of them part of the contract:
 *
 *  - Nesting: `max_depth` levels, at most JSON_DEPTH_CAP.
 *
 *  - The text must be UTF-8 without a byte order mark; an escaped lone surrogate is an error.
 *
 *  - Integers in [-2^63, 2^63-1] are exact, longer ones are given as their text; `-0` is 0.
 *
 *  - A number with a fraction or an exponent is a double; too large a one is an error, too small a
 *    one is 0.
 *
 *  - Duplicate keys are given as they come: what they mean is the caller's choice.
 */
#ifndef LASH_JSON_H
#define LASH_JSON_H

#include "base/base.h"

#define JSON_DEPTH_DEFAULT 512
#define JSON_DEPTH_CAP 1024

enum json_token {
    JSON_ERROR, /* see json_error_text(); every later token is an error too */
    JSON_END,   /* one whole value was read and nothing but white space follows */
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_INTEGER, /* u.integer */
    JSON_BIG,     /* an integer beyond 64 bits: its digits are text[start..end) */
    JSON_FLOAT,   /* u.number */
    JSON_STRING,  /* u.str */
    JSON_KEY,     /* u.str; the value comes next */
    JSON_ARRAY_BEGIN,
    JSON_ARRAY_END,
    JSON_OBJECT_BEGIN,
    JSON_OBJECT_END,
};

/* A string as it stands between its quotes, already checked. */
struct json_str {
    const char *raw; /* borrowed from the text */
    size_t len;
    bool escaped; /* has a backslash: see json_unescape() */
};

struct json_reader {
    const char *text; /* borrowed until the last token was used; need not end with NUL */
    size_t len;
    size_t pos;
    size_t start; /* the token is text[start..end) */
    size_t end;
    unsigned depth; /* open arrays and objects */
    unsigned max_depth;
    int state;
    union {
        int64_t integer;
        double number;
        struct json_str str;
    } u;
    size_t error_pos;     /* offset of the fault from 0 */
    const char *expected; /* "expected ..."; or a whole sentence when `fault` */
    bool fault;
    uint64_t in_object[JSON_DEPTH_CAP / 64]; /* a bit per open level */
};

/* Begins to read `text`. A max_depth of 0 means JSON_DEPTH_DEFAULT. Cannot fail. */
void json_reader_init(struct json_reader *r, const char *text, size_t len, unsigned max_depth);

/* The next token. Costs time in proportion to the token. */
enum json_token json_next(struct json_reader *r);

/* Having just got the first token `t` of a value: reads to the end of that value. Returns false on
 * a fault. On success r->end is the offset behind the value; *start, if asked for, where it began.
 */
bool json_skip(struct json_reader *r, enum json_token t, size_t *start);

/* After JSON_ERROR: one sentence such as `position 17: expected ',' or '}' in an object, found 'x'`
 * (bytes count from 1). Always ends with NUL; 160 bytes are enough. */
void json_error_text(const struct json_reader *r, char *out, size_t size);

/* Writes the text of a string token to `out` (room for s.len bytes) and returns its length. */
size_t json_unescape(struct json_str s, char *out);

#define JSON_NUMBER_MAX 32

/* Both write the shortest text that reads back as the same value, end it with NUL, and return its
 * length. A float always has a fraction or an exponent. json_write_double() returns 0 for
 * infinities and NaN, which have no JSON. */
size_t json_write_integer(int64_t value, char out[JSON_NUMBER_MAX]);
size_t json_write_double(double value, char out[JSON_NUMBER_MAX]);

/* How many bytes at `s` (n > 0) are one well-formed UTF-8 character; or, negated, how many bytes at
 * the start of an ill-formed sequence belong together (the "maximal subpart" that one U+FFFD
 * replaces). */
int json_utf8_length(const char *s, size_t n);

/* How many bytes at `s` can stand in a JSON string as they are: well-formed UTF-8 without quote,
 * backslash and control characters. */
size_t json_plain_run(const char *s, size_t n);

/* The escape of a byte that stopped json_plain_run() and is no fault of UTF-8; writes at most 6
 * bytes, returns how many. */
size_t json_write_escape(unsigned char c, char out[6]);

/* The double of a checked number s[0..len) whose digits make `mantissa` (UINT64_MAX: more than fit)
 * times 10^exponent. */
double json_parse_double(uint64_t mantissa, long exponent, const char *s, size_t len);

/* The value of the four hexadecimal digits at `s`, or -1. */
int json_hex4(const char *s, size_t n);

/* The character that a backslash and `c` stand for; 0 if it is none of the two-character escapes.
 */
char json_unescaped(unsigned char c);

#endif
