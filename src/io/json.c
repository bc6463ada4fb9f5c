#include "base/base.h"
#include "io/json.h"
#include "io/json_scan.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum state {
    WANT_VALUE,       /* a value must come */
    WANT_FIRST_VALUE, /* after '[': a value or ']' */
    WANT_FIRST_KEY,   /* after '{': a key or '}' */
    WANT_MORE,        /* after a value: ',' or the closing bracket, or the end at depth 0 */
    FAILED,
};

void json_reader_init(struct json_reader *r, const char *text, size_t len, unsigned max_depth)
{
    r->text = text;
    r->len = len;
    r->pos = 0;
    r->start = r->end = 0;
    r->depth = 0;
    r->max_depth = max_depth == 0 ? JSON_DEPTH_DEFAULT : max_depth;
    if (r->max_depth > JSON_DEPTH_CAP) {
        r->max_depth = JSON_DEPTH_CAP;
    }
    r->state = WANT_VALUE;
    r->error_pos = 0;
    r->expected = NULL;
    r->fault = false;
}

static enum json_token fail(struct json_reader *r, size_t pos, const char *expected)
{
    r->state = FAILED;
    r->error_pos = pos;
    r->expected = expected;
    return JSON_ERROR;
}

/* Like fail(), with a whole sentence in place of what was expected. */
static enum json_token fail_because(struct json_reader *r, size_t pos, const char *sentence)
{
    r->fault = true;
    return fail(r, pos, sentence);
}

static bool inside_object(const struct json_reader *r)
{
    unsigned level = r->depth - 1;
    return r->depth > 0 && ((r->in_object[level / 64] >> (level % 64)) & 1) != 0;
}

static void skip_blanks(struct json_reader *r)
{
    size_t i = r->pos;
    while (i < r->len) {
        char c = r->text[i];
        if (c != ' ' && c != '\n' && c != '\t' && c != '\r') {
            break;
        }
        i++;
    }
    r->pos = i;
}

/* Most texts have no blanks. */
static inline void skip_space(struct json_reader *r)
{
    if (r->pos >= r->len || (unsigned char)r->text[r->pos] <= ' ') {
        skip_blanks(r);
    }
}

static enum json_token open_level(struct json_reader *r, bool object)
{
    if (r->depth >= r->max_depth) {
        return fail_because(r, r->pos, "nested too deeply");
    }
    uint64_t bit = (uint64_t)1 << (r->depth % 64);
    if (object) {
        r->in_object[r->depth / 64] |= bit;
    } else {
        r->in_object[r->depth / 64] &= ~bit;
    }
    r->depth++;
    r->pos++;
    r->end = r->pos;
    r->state = object ? WANT_FIRST_KEY : WANT_FIRST_VALUE;
    return object ? JSON_OBJECT_BEGIN : JSON_ARRAY_BEGIN;
}

static enum json_token close_level(struct json_reader *r)
{
    bool object = inside_object(r);
    r->depth--;
    r->start = r->pos++;
    r->end = r->pos;
    r->state = WANT_MORE;
    return object ? JSON_OBJECT_END : JSON_ARRAY_END;
}

/* Checks the escape at text[i] == '\\' and returns its length, 0 after a fault. */
static size_t check_escape(struct json_reader *r, size_t i)
{
    const char *s = r->text + i;
    size_t n = r->len - i;
    if (n >= 2 && json_unescaped((unsigned char)s[1]) != 0) {
        return 2;
    }
    if (n < 2 || s[1] != 'u') {
        fail(r, i + 1, "one of \"\\/bfnrtu after a backslash");
        return 0;
    }
    int unit = json_hex4(s + 2, n - 2);
    if (unit < 0) {
        fail_because(r, i, "\\u needs four hexadecimal digits");
        return 0;
    }
    if (unit < 0xD800 || unit > 0xDFFF) {
        return 6;
    }
    int low = n >= 12 && s[6] == '\\' && s[7] == 'u' ? json_hex4(s + 8, n - 8) : -1;
    if (unit > 0xDBFF || low < 0xDC00 || low > 0xDFFF) {
        fail_because(r, i, "half of a surrogate pair stands alone");
        return 0;
    }
    return 12;
}

/* Reads the string that begins at r->pos with its quote. */
static enum json_token read_string(struct json_reader *r, enum json_token token)
{
    size_t i = r->pos + 1;
    bool escaped = false;
    for (;;) {
        i = (size_t)(json_scan_plain(r->text + i, r->text + r->len) - r->text);
        if (i >= r->len) {
            return fail(r, i, "'\"' to end the string");
        }
        unsigned char c = (unsigned char)r->text[i];
        if (c == '"') {
            break;
        }
        if (c == '\\') {
            size_t n = check_escape(r, i);
            if (n == 0) {
                return JSON_ERROR;
            }
            escaped = true;
            i += n;
        } else if (c < 0x20) {
            return fail_because(r, i, "a control character in a string must be escaped");
        } else {
            return fail_because(r, i, "the bytes are not UTF-8");
        }
    }
    r->u.str.raw = r->text + r->pos + 1;
    r->u.str.len = i - (r->pos + 1);
    r->u.str.escaped = escaped;
    r->start = r->pos;
    r->pos = r->end = i + 1;
    r->state = WANT_MORE;
    return token;
}

static enum json_token read_key(struct json_reader *r, const char *expected)
{
    if (r->pos >= r->len || r->text[r->pos] != '"') {
        return fail(r, r->pos, expected);
    }
    if (read_string(r, JSON_KEY) == JSON_ERROR) {
        return JSON_ERROR;
    }
    skip_space(r);
    if (r->pos >= r->len || r->text[r->pos] != ':') {
        return fail(r, r->pos, "':' after a key");
    }
    r->pos++;
    r->state = WANT_VALUE;
    return JSON_KEY;
}

static enum json_token read_word(struct json_reader *r, const char *word, enum json_token token)
{
    size_t n = strlen(word);
    if (r->len - r->pos < n || memcmp(r->text + r->pos, word, n) != 0) {
        return fail(r, r->pos, "a value");
    }
    r->start = r->pos;
    r->pos += n;
    r->end = r->pos;
    r->state = WANT_MORE;
    return token;
}

/* What the digits of a number add up to while they are read. */
struct digits {
    uint64_t mantissa; /* exact while count <= 19 */
    int count;         /* significant digits; stops at 20 */
};

static size_t read_digits(const struct json_reader *r, size_t i, struct digits *d)
{
    while (i < r->len && (unsigned char)(r->text[i] - '0') <= 9) {
        if (d->count < 19) {
            d->mantissa = d->mantissa * 10 + (uint64_t)(r->text[i] - '0');
            d->count += d->mantissa != 0;
        } else {
            d->count = 20;
        }
        i++;
    }
    return i;
}

static enum json_token read_float(struct json_reader *r, size_t i, struct digits d)
{
    long exponent = 0;
    if (i < r->len && r->text[i] == '.') {
        size_t first = i + 1;
        i = read_digits(r, first, &d);
        if (i == first) {
            return fail(r, i, "a digit after the decimal point");
        }
        exponent = d.count < 20 ? -(long)(i - first) : 0;
    }
    if (i < r->len && (r->text[i] == 'e' || r->text[i] == 'E')) {
        i++;
        bool minus = i < r->len && r->text[i] == '-';
        i += i < r->len && (r->text[i] == '-' || r->text[i] == '+');
        struct digits e = {0, 0};
        size_t first = i;
        i = read_digits(r, first, &e);
        if (i == first) {
            return fail(r, i, "a digit in the exponent");
        }
        long value = e.mantissa < 100000 && e.count < 20 ? (long)e.mantissa : 100000;
        exponent += minus ? -value : value;
    }
    double value = json_parse_double(d.count < 20 ? d.mantissa : UINT64_MAX, exponent,
                                     r->text + r->start, i - r->start);
    if (isinf(value)) {
        return fail_because(r, r->start, "the number is too large for a float");
    }
    r->u.number = value;
    r->pos = r->end = i;
    r->state = WANT_MORE;
    return JSON_FLOAT;
}

static enum json_token read_number(struct json_reader *r)
{
    size_t i = r->pos;
    bool negative = r->text[i] == '-';
    struct digits d = {0, 0};

    r->start = r->pos;
    i += negative;
    if (i >= r->len || (unsigned char)(r->text[i] - '0') > 9) {
        return fail(r, i, "a digit after '-'");
    }
    if (r->text[i] == '0') {
        i++;
        if (i < r->len && (unsigned char)(r->text[i] - '0') <= 9) {
            return fail_because(r, i - 1, "a number must not begin with 0");
        }
    } else {
        i = read_digits(r, i, &d);
    }
    if (i < r->len && (r->text[i] == '.' || r->text[i] == 'e' || r->text[i] == 'E')) {
        return read_float(r, i, d);
    }
    r->pos = r->end = i;
    r->state = WANT_MORE;
    if (d.count == 20 || d.mantissa > (uint64_t)INT64_MAX + negative) {
        return JSON_BIG;
    }
    r->u.integer = (int64_t)(negative ? 0 - d.mantissa : d.mantissa);
    return JSON_INTEGER;
}

static enum json_token read_value(struct json_reader *r, const char *expected)
{
    if (r->pos >= r->len) {
        return fail(r, r->pos, expected);
    }
    r->start = r->pos;
    switch (r->text[r->pos]) {
    case '"':
        return read_string(r, JSON_STRING);
    case '{':
        return open_level(r, true);
    case '[':
        return open_level(r, false);
    case 't':
        return read_word(r, "true", JSON_TRUE);
    case 'f':
        return read_word(r, "false", JSON_FALSE);
    case 'n':
        return read_word(r, "null", JSON_NULL);
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return read_number(r);
    default:
        if (r->pos == 0 && r->len >= 3 && memcmp(r->text, "\xEF\xBB\xBF", 3) == 0) {
            return fail_because(r, 0, "a byte order mark must not stand before JSON");
        }
        return fail(r, r->pos, expected);
    }
}

/* After a value: a comma and what follows it, or the end of the level or of the text. */
static enum json_token read_more(struct json_reader *r)
{
    bool object = inside_object(r);
    char c = r->pos < r->len ? r->text[r->pos] : '\0';
    if (r->depth == 0) {
        if (r->pos < r->len) {
            return fail(r, r->pos, "the end of the text");
        }
        r->start = r->end = r->pos;
        return JSON_END;
    }
    if (c == (object ? '}' : ']')) {
        return close_level(r);
    }
    if (c != ',') {
        return fail(r, r->pos, object ? "',' or '}' in an object" : "',' or ']' in an array");
    }
    r->pos++;
    skip_space(r);
    return object ? read_key(r, "a key in double quotes") : read_value(r, "a value");
}

enum json_token json_next(struct json_reader *r)
{
    skip_space(r);
    char c = r->pos < r->len ? r->text[r->pos] : '\0';
    switch (r->state) {
    case WANT_VALUE:
        return read_value(r, "a value");
    case WANT_FIRST_VALUE:
        return c == ']' ? close_level(r) : read_value(r, "a value or ']'");
    case WANT_FIRST_KEY:
        return c == '}' ? close_level(r) : read_key(r, "a key in double quotes or '}'");
    case WANT_MORE:
        return read_more(r);
    default:
        return JSON_ERROR;
    }
}

bool json_skip(struct json_reader *r, enum json_token t, size_t *start)
{
    if (start != NULL) {
        *start = r->start;
    }
    if (t != JSON_ARRAY_BEGIN && t != JSON_OBJECT_BEGIN) {
        return t != JSON_ERROR;
    }
    unsigned outside = r->depth - 1;
    while (r->depth > outside) {
        if (json_next(r) == JSON_ERROR) {
            return false;
        }
    }
    return true;
}

/* What stands at the fault, for a reader of the message. */
static void describe_found(const struct json_reader *r, char *out, size_t size)
{
    size_t i = r->error_pos;
    if (i >= r->len) {
        (void)snprintf(out, size, "the end of the text");
        return;
    }
    unsigned char c = (unsigned char)r->text[i];
    int len = json_utf8_length(r->text + i, r->len - i);
    if (c < 0x20 || c == 0x7F || len < 0) {
        (void)snprintf(out, size, "the byte 0x%02X", c);
    } else {
        (void)snprintf(out, size, "'%.*s'", len, r->text + i);
    }
}

void json_error_text(const struct json_reader *r, char *out, size_t size)
{
    size_t pos = r->error_pos + 1;
    char found[32];
    if (r->fault) {
        if (strcmp(r->expected, "nested too deeply") == 0) {
            (void)snprintf(out, size, "position %zu: nested deeper than %u levels", pos,
                           r->max_depth);
            return;
        }
        (void)snprintf(out, size, "position %zu: %s", pos, r->expected);
        return;
    }
    describe_found(r, found, sizeof(found));
    (void)snprintf(out, size, "position %zu: expected %s, found %s", pos, r->expected, found);
}
