/*
 * A reader of its own, as it has to be fast only where texts are as expected: what is rare
 * (escapes, fractions, nesting outside of the shape) is left to io/json.c.
 *
 * Functions get the place where something begins, and return the one behind it; NULL: refused.
 */
#include "base/base.h"

#include "io/json_pick.h"
#include "io/json_scan.h"

#include <string.h>

struct pick {
    const char *end;
    const struct json_shape *shape;
    struct json_picked *out;
    unsigned depth; /* open arrays and objects */
};

static const char *take(struct pick *p, const struct json_rule *rule, const char *s);

/* ---- tokens ---- */

/* What is behind the text, a control character, cannot go on with what is in it: but for blanks,
 * nothing has to look whether the text is over. */
static const char *skip_blanks(const struct pick *p, const char *s)
{
    while (s < p->end && (*s == ' ' || *s == '\n' || *s == '\t' || *s == '\r')) {
        s++;
    }
    return s;
}

static inline const char *skip_space(const struct pick *p, const char *s)
{
    return (unsigned char)*s > ' ' ? s : skip_blanks(p, s);
}

static inline bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Any value, by io/json.c. */
static const char *read_slowly(const struct pick *p, const char *s, struct json_picked *value)
{
    static const enum json_picked_kind kinds[] = {
        [JSON_NULL] = PICKED_NULL,       [JSON_FALSE] = PICKED_BOOL,    [JSON_TRUE] = PICKED_BOOL,
        [JSON_INTEGER] = PICKED_INTEGER, [JSON_STRING] = PICKED_STRING,
    };
    struct json_reader r;
    json_reader_init(&r, s, (size_t)(p->end - s), JSON_DEPTH_DEFAULT - p->depth);
    enum json_token t = json_next(&r);
    value->kind = t < ARRAY_LEN(kinds) ? kinds[t] : PICKED_NOTHING;
    value->integer = t == JSON_INTEGER ? r.u.integer : t == JSON_TRUE;
    if (t == JSON_STRING) {
        value->str = r.u.str;
    }
    return json_skip(&r, t, NULL) ? s + r.end : NULL;
}

/* The string that begins at `s`, in which `at` is the first that is no plain ASCII. */
static const char *read_odd_string(const struct pick *p, const char *s, const char *at,
                                   struct json_str *str)
{
    bool escaped = false;
    for (;;) {
        at = json_scan_plain(at, p->end);
        if (*at != '\\' || json_unescaped((unsigned char)at[1]) == 0) {
            break;
        }
        escaped = true;
        at += 2;
    }
    if (*at != '"') { // an escape with a number, or a fault
        struct json_picked value;
        const char *end = read_slowly(p, s, &value);
        *str = value.str;
        return end;
    }
    *str = (struct json_str){.raw = s + 1, .len = (size_t)(at - s - 1), .escaped = escaped};
    return at + 1;
}

static inline const char *read_string(const struct pick *p, const char *s, struct json_str *str)
{
    const char *quote = json_scan_ascii(s + 1, p->end);
    if (*quote != '"') {
        return read_odd_string(p, s, quote, str);
    }
    *str = (struct json_str){.raw = s + 1, .len = (size_t)(quote - s - 1)};
    return quote + 1;
}

static const char *read_word(const struct pick *p, const char *s, const char *word)
{
    size_t len = strlen(word);
    return (size_t)(p->end - s) >= len && memcmp(s, word, len) == 0 ? s + len : NULL;
}

/* A short number without sign, fraction and exponent; else it is read slowly. */
static const char *read_number(const struct pick *p, const char *start, struct json_picked *value)
{
    const char *s = start;
    int64_t sum = 0;
    while (is_digit(*s) && s - start < 18) {
        sum = sum * 10 + (*s++ - '0');
    }
    if (s == start || is_digit(*s) || *s == '.' || *s == 'e' || *s == 'E' ||
        (*start == '0' && s - start > 1)) {
        return read_slowly(p, start, value);
    }
    value->kind = PICKED_INTEGER;
    value->integer = sum;
    return s;
}

/* A value that has no others in it and is no string. */
static const char *read_short(const struct pick *p, const char *s, struct json_picked *value)
{
    switch (*s) {
    case 't':
    case 'f':
        value->kind = PICKED_BOOL;
        value->integer = *s == 't';
        return read_word(p, s, *s == 't' ? "true" : "false");
    case 'n':
        value->kind = PICKED_NULL;
        return read_word(p, s, "null");
    default:
        return read_number(p, s, value);
    }
}

/* `c`, and blanks before and behind it. */
static inline const char *pass(const struct pick *p, const char *s, char c)
{
    if (*s != c && *(s = skip_space(p, s)) != c) {
        return NULL;
    }
    return skip_space(p, s + 1);
}

/* A key and its colon, up to the value. */
static inline const char *read_key(const struct pick *p, const char *s, struct json_str *key)
{
    if (*s != '"' || (s = read_string(p, s, key)) == NULL) {
        return NULL;
    }
    return pass(p, s, ':');
}

/* An array or object, whatever is in it. The lowest bit of `objects` says what is open innermost.
 */
static const char *skip_nested(const struct pick *p, const char *start)
{
    struct json_picked value;
    uint64_t objects = 0;
    unsigned depth = 0;
    const char *s = start;
    for (;;) {
        if ((objects & 1) != 0 && (s = read_key(p, s, &value.str)) == NULL) {
            return NULL;
        }
        if (*s == '"') {
            s = read_string(p, s, &value.str);
        } else if (*s != '{' && *s != '[') {
            s = read_short(p, s, &value);
        } else if (depth == 64) {
            return read_slowly(p, start, &value);
        } else {
            depth++;
            objects = objects << 1 | (*s == '{');
            s = skip_space(p, s + 1);
            if (*s != ((objects & 1) != 0 ? '}' : ']')) {
                continue;
            }
        }
        while (s != NULL && *(s = skip_space(p, s)) != ',') {
            if (*s != ((objects & 1) != 0 ? '}' : ']')) {
                return NULL;
            }
            s++;
            objects >>= 1;
            if (--depth == 0) {
                return s;
            }
        }
        if (s == NULL) {
            return NULL;
        }
        s = skip_space(p, s + 1);
    }
}

/* PICKED_NOTHING: it is no value that can be picked. */
static inline const char *read_value(const struct pick *p, const char *s, struct json_picked *value)
{
    if (*s == '"') {
        value->kind = PICKED_STRING;
        return read_string(p, s, &value->str);
    }
    if (*s == '{' || *s == '[') {
        value->kind = PICKED_NOTHING;
        return skip_nested(p, s);
    }
    return read_short(p, s, value);
}

/* ---- rules ---- */

static inline const char *take_value(const struct pick *p, const struct json_rule *rule,
                                     const char *s)
{
    struct json_picked *out = &p->out[rule->slot];
    s = read_value(p, s, out);
    if (s == NULL || out->kind == PICKED_NOTHING) {
        return NULL;
    }
    if (rule->raw_slot >= 0) {
        if (out->kind != PICKED_STRING) {
            return NULL;
        }
        if (out->str.escaped) {
            p->out[rule->raw_slot] = *out;
            p->out[rule->raw_slot].str.escaped = false;
        }
    }
    return s;
}

static const char *take_object_text(const struct pick *p, const struct json_rule *rule,
                                    const char *start)
{
    const char *s = *start == '{' ? skip_nested(p, start) : NULL;
    if (s == NULL || *skip_space(p, start + 1) == '}') {
        return s;
    }
    p->out[rule->slot].kind = PICKED_STRING;
    p->out[rule->slot].str = (struct json_str){.raw = start, .len = (size_t)(s - start)};
    return s;
}

static const char *take_null(const struct pick *p, const char *s)
{
    return *s == 'n' ? read_word(p, s, "null") : NULL;
}

/* The rule of a field; -1 = none. */
static inline int find_rule(const struct pick *p, const struct json_rule *object,
                            const struct json_str *key)
{
    if (((object->lengths >> (key->len % 64)) & 1) == 0) {
        return -1;
    }
    const struct json_rule *rules = &p->shape->rules[object->first];
    for (int i = 0; i < object->count; i++) {
        if (rules[i].name_len == key->len && memcmp(rules[i].name, key->raw, key->len) == 0) {
            return i;
        }
    }
    return -1;
}

/* A key, its colon and its value. `seen` has a bit for each rule that was used. */
static inline const char *take_field(struct pick *p, const struct json_rule *object, uint32_t *seen,
                                     const char *s)
{
    struct json_str key;
    if ((s = read_key(p, s, &key)) == NULL || key.escaped) {
        return NULL; // with escapes it may be the name of one that has a rule
    }
    int found = find_rule(p, object, &key);
    if (found >= 0) {
        const struct json_rule *rule = &p->shape->rules[object->first + found];
        if ((*seen >> found) & 1) {
            return NULL; // which of the two counts is not for us to say
        }
        *seen |= (uint32_t)1 << found;
        return rule->kind == RULE_VALUE ? take_value(p, rule, s) : take(p, rule, s);
    }
    if (object->others == RULE_ANY) {
        struct json_picked ignored;
        return read_value(p, s, &ignored);
    }
    return object->others == RULE_NULL ? take_null(p, s) : NULL;
}

static const char *take_fields(struct pick *p, const struct json_rule *object, const char *s)
{
    uint32_t seen = 0;
    if (*s != '{') {
        return NULL;
    }
    s = skip_space(p, s + 1);
    if (*s == '}') {
        return s + 1;
    }
    p->depth++;
    while ((s = take_field(p, object, &seen, s)) != NULL) {
        s = skip_space(p, s);
        if (*s != ',') {
            p->depth--;
            return *s == '}' ? s + 1 : NULL;
        }
        s = skip_space(p, s + 1);
    }
    return NULL;
}

static const char *take_single(struct pick *p, const struct json_rule *array, const char *s)
{
    if (*s != '[') {
        return NULL;
    }
    p->depth++;
    s = take(p, &p->shape->rules[array->first], skip_space(p, s + 1));
    p->depth--;
    if (s == NULL) {
        return NULL;
    }
    s = skip_space(p, s);
    return *s == ']' ? s + 1 : NULL;
}

/* The value that begins at `s`. As deep as the shape is. */
static const char *take(struct pick *p, const struct json_rule *rule, const char *s)
{
    struct json_picked ignored;
    switch (rule->kind) {
    case RULE_ANY:
        return read_value(p, s, &ignored);
    case RULE_NULL:
        return take_null(p, s);
    case RULE_VALUE:
        return take_value(p, rule, s);
    case RULE_OBJECT_TEXT:
        return take_object_text(p, rule, s);
    case RULE_FIELDS:
        return take_fields(p, rule, s);
    case RULE_SINGLE:
        return take_single(p, rule, s);
    default:
        return NULL;
    }
}

bool json_pick(const struct json_shape *shape, const char *text, size_t len,
               struct json_picked *out)
{
    struct pick p = {.end = text + len, .shape = shape, .out = out};
    if (len > JSON_PICK_TEXT_MAX) {
        return false;
    }
    for (int i = 0; i < shape->nvalues; i++) {
        out[i].kind = PICKED_NOTHING;
    }
    const char *s = take(&p, &shape->rules[0], skip_space(&p, text));
    return s != NULL && skip_space(&p, s) == p.end;
}

char json_find_mark(const struct json_shape *shape, const char *text, size_t len)
{
    for (int i = 0; i < shape->nmarks; i++) {
        const struct json_mark *mark = &shape->marks[i];
        if (mark->text_len == len && memcmp(mark->text, text, len) == 0) {
            return mark->mark;
        }
    }
    return '\0';
}
