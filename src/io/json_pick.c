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

struct value {
    enum json_token token;
    struct json_str str;
    int64_t integer;
};

static const char *take(struct pick *p, const struct json_rule *rule, const char *s);

/* ---- tokens ---- */

static inline bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static inline const char *skip_space(const struct pick *p, const char *s)
{
    while (s < p->end && (unsigned char)*s <= ' ' && is_space(*s)) {
        s++;
    }
    return s;
}

/* Any value, by io/json.c. */
static const char *read_slowly(const struct pick *p, const char *s, struct value *value)
{
    struct json_reader r;
    json_reader_init(&r, s, (size_t)(p->end - s), JSON_DEPTH_DEFAULT - p->depth);
    enum json_token t = json_next(&r);
    value->token = t;
    value->str = r.u.str;
    value->integer = t == JSON_INTEGER ? r.u.integer : 0;
    return json_skip(&r, t, NULL) ? s + r.end : NULL;
}

static inline const char *read_string(const struct pick *p, const char *s, struct value *value)
{
    const char *quote = json_scan_plain(s + 1, p->end);
    if (quote == p->end || *quote != '"') {
        return read_slowly(p, s, value); // an escape, or a fault
    }
    value->token = JSON_STRING;
    value->str = (struct json_str){.raw = s + 1, .len = (size_t)(quote - s - 1)};
    return quote + 1;
}

static const char *read_word(const struct pick *p, const char *s, enum json_token token,
                             struct value *value)
{
    const char *word = token == JSON_NULL ? "null" : token == JSON_TRUE ? "true" : "false";
    size_t len = strlen(word);
    value->token = token;
    return (size_t)(p->end - s) >= len && memcmp(s, word, len) == 0 ? s + len : NULL;
}

/* A short number without sign, fraction and exponent; else it is read slowly. */
static const char *read_number(const struct pick *p, const char *start, struct value *value)
{
    const char *s = start;
    int64_t sum = 0;
    while (s < p->end && *s >= '0' && *s <= '9' && s - start < 18) {
        sum = sum * 10 + (*s++ - '0');
    }
    bool more = s < p->end && ((*s >= '0' && *s <= '9') || *s == '.' || *s == 'e' || *s == 'E');
    if (s == start || more || (*start == '0' && s - start > 1)) {
        return read_slowly(p, start, value);
    }
    value->token = JSON_INTEGER;
    value->integer = sum;
    return s;
}

/* A value that has no others in it. */
static inline const char *read_scalar(const struct pick *p, const char *s, struct value *value)
{
    switch (*s) {
    case '"':
        return read_string(p, s, value);
    case 't':
        return read_word(p, s, JSON_TRUE, value);
    case 'f':
        return read_word(p, s, JSON_FALSE, value);
    case 'n':
        return read_word(p, s, JSON_NULL, value);
    default:
        return read_number(p, s, value);
    }
}

/* A key and its colon, up to the value. */
static inline const char *read_key(const struct pick *p, const char *s, struct value *key)
{
    if (s == p->end || *s != '"' || (s = read_string(p, s, key)) == NULL) {
        return NULL;
    }
    s = skip_space(p, s);
    return s < p->end && *s == ':' ? skip_space(p, s + 1) : NULL;
}

/* An array or object, whatever is in it. The lowest bit of `objects` says what is open innermost.
 */
static const char *skip_nested(const struct pick *p, const char *start)
{
    struct value value;
    uint64_t objects = 0;
    unsigned depth = 0;
    const char *s = start;
    for (;;) {
        if (depth > 0 && (objects & 1) != 0 && (s = read_key(p, s, &value)) == NULL) {
            return NULL;
        }
        if (s == p->end) {
            return NULL;
        }
        if (*s != '{' && *s != '[') {
            s = read_scalar(p, s, &value);
        } else if (depth == 64) {
            return read_slowly(p, start, &value);
        } else {
            depth++;
            objects = objects << 1 | (*s == '{');
            s = skip_space(p, s + 1);
            if (s == p->end || *s != ((objects & 1) != 0 ? '}' : ']')) {
                continue;
            }
        }
        while (s != NULL && (s = skip_space(p, s)) < p->end && *s != ',') {
            if (*s != ((objects & 1) != 0 ? '}' : ']')) {
                return NULL;
            }
            s++;
            objects >>= 1;
            if (--depth == 0) {
                return s;
            }
        }
        if (s == NULL || s == p->end) {
            return NULL;
        }
        s = skip_space(p, s + 1);
    }
}

static const char *read_value(const struct pick *p, const char *s, struct value *value)
{
    if (s == p->end) {
        return NULL;
    }
    if (*s == '{' || *s == '[') {
        value->token = *s == '[' ? JSON_ARRAY_BEGIN : JSON_OBJECT_BEGIN;
        return skip_nested(p, s);
    }
    return read_scalar(p, s, value);
}

/* ---- rules ---- */

static const char *take_value(const struct pick *p, const struct json_rule *rule, const char *s)
{
    struct json_picked *out = &p->out[rule->slot];
    struct value value;
    s = read_value(p, s, &value);
    if (s == NULL || (rule->raw_slot >= 0 && value.token != JSON_STRING)) {
        return NULL;
    }
    switch (value.token) {
    case JSON_STRING:
        out->kind = PICKED_STRING;
        out->str = value.str;
        if (value.str.escaped && rule->raw_slot >= 0) {
            p->out[rule->raw_slot] = *out;
            p->out[rule->raw_slot].str.escaped = false;
        }
        return s;
    case JSON_INTEGER:
        out->kind = PICKED_INTEGER;
        out->integer = value.integer;
        return s;
    case JSON_FALSE:
    case JSON_TRUE:
        out->kind = PICKED_BOOL;
        out->integer = value.token == JSON_TRUE;
        return s;
    case JSON_NULL:
        out->kind = PICKED_NULL;
        return s;
    default:
        return NULL;
    }
}

static const char *take_object_text(const struct pick *p, const struct json_rule *rule,
                                    const char *start)
{
    struct value value;
    const char *s = read_value(p, start, &value);
    if (s == NULL || value.token != JSON_OBJECT_BEGIN) {
        return NULL;
    }
    if (*skip_space(p, start + 1) == '}') {
        return s;
    }
    p->out[rule->slot].kind = PICKED_STRING;
    p->out[rule->slot].str = (struct json_str){.raw = start, .len = (size_t)(s - start)};
    return s;
}

static const char *take_null(const struct pick *p, const char *s)
{
    struct value value;
    s = read_value(p, s, &value);
    return s != NULL && value.token == JSON_NULL ? s : NULL;
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
    struct value key;
    if ((s = read_key(p, s, &key)) == NULL || key.str.escaped) {
        return NULL; // with escapes it may be the name of one that has a rule
    }
    int found = find_rule(p, object, &key.str);
    if (found >= 0) {
        if ((*seen >> found) & 1) {
            return NULL; // which of the two counts is not for us to say
        }
        *seen |= (uint32_t)1 << found;
        return take(p, &p->shape->rules[object->first + found], s);
    }
    if (object->others == RULE_ANY) {
        return read_value(p, s, &key);
    }
    return object->others == RULE_NULL ? take_null(p, s) : NULL;
}

static const char *take_fields(struct pick *p, const struct json_rule *object, const char *s)
{
    uint32_t seen = 0;
    if (s == p->end || *s != '{') {
        return NULL;
    }
    s = skip_space(p, s + 1);
    if (s < p->end && *s == '}') {
        return s + 1;
    }
    p->depth++;
    while ((s = take_field(p, object, &seen, s)) != NULL) {
        s = skip_space(p, s);
        if (s == p->end || *s != ',') {
            p->depth--;
            return s < p->end && *s == '}' ? s + 1 : NULL;
        }
        s = skip_space(p, s + 1);
    }
    return NULL;
}

static const char *take_single(struct pick *p, const struct json_rule *array, const char *s)
{
    if (s == p->end || *s != '[') {
        return NULL;
    }
    p->depth++;
    s = take(p, &p->shape->rules[array->first], skip_space(p, s + 1));
    p->depth--;
    if (s == NULL) {
        return NULL;
    }
    s = skip_space(p, s);
    return s < p->end && *s == ']' ? s + 1 : NULL;
}

/* The value that begins at `s`. As deep as the shape is. */
static const char *take(struct pick *p, const struct json_rule *rule, const char *s)
{
    struct value value;
    switch (rule->kind) {
    case RULE_ANY:
        return read_value(p, s, &value);
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
