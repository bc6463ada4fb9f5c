/* The reader of expressions: makes the tree that pattern.c unfolds. */
#include "base/base.h"
#include "io/pattern_program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "io/json.h"

#define NESTING_MAX 200
#define LAST_CHAR 0x10FFFFU

static const struct range digit_ranges[] = {{'0', '9'}};
static const struct range word_ranges[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
static const struct range space_ranges[] = {
    {0x09, 0x0D},     {0x20, 0x20},     {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
    {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF},
};

/* ---- small things ---- */

void pattern_refuse(struct pattern_compiler *c, size_t pos, const char *what)
{
    if (!c->failed) {
        c->failed = true;
        (void)snprintf(c->error, c->error_size, "position %zu: %s", pos + 1, what);
    }
}

/* Refuses a construct that is named by its first `len` bytes, or fewer where the pattern ends. */
static void refuse_construct(struct pattern_compiler *c, size_t len, const char *what)
{
    char text[100];
    len = len < c->len - c->pos ? len : c->len - c->pos;
    (void)snprintf(text, sizeof(text), "%s %.*s is not supported", what, (int)len, c->s + c->pos);
    pattern_refuse(c, c->pos, text);
}

static bool at_end(const struct pattern_compiler *c)
{
    return c->pos >= c->len;
}

static char peek(const struct pattern_compiler *c, size_t ahead)
{
    return c->pos + ahead < c->len ? c->s[c->pos + ahead] : '\0';
}

static bool take(struct pattern_compiler *c, const char *text)
{
    size_t n = strlen(text);
    if (c->len - c->pos < n || memcmp(c->s + c->pos, text, n) != 0) {
        return false;
    }
    c->pos += n;
    return true;
}

void *pattern_room(void *array, size_t count, size_t *cap, size_t size)
{
    if (count < *cap) {
        return array;
    }
    *cap = *cap == 0 ? 16 : *cap * 2;
    return xrealloc(array, *cap * size);
}

static uint32_t add_node(struct pattern_compiler *c, enum node_kind kind)
{
    if (c->nnodes >= NODES_MAX) {
        pattern_refuse(c, c->pos, "the expression is too long");
        return 0;
    }
    c->nodes = pattern_room(c->nodes, c->nnodes, &c->nodes_cap, sizeof(*c->nodes));
    memset(&c->nodes[c->nnodes], 0, sizeof(*c->nodes));
    c->nodes[c->nnodes].kind = kind;
    return (uint32_t)c->nnodes++;
}

static uint32_t add_single(struct pattern_compiler *c, enum opcode op, uint32_t x)
{
    uint32_t n = add_node(c, NODE_SINGLE);
    if (n != 0) {
        c->nodes[n].single.op = op;
        c->nodes[n].single.x = x;
    }
    return n;
}

/* ---- classes ---- */

static void add_range(struct pattern_compiler *c, uint32_t lo, uint32_t hi)
{
    struct pattern *p = c->p;
    p->ranges = pattern_room(p->ranges, p->nranges, &c->ranges_cap, sizeof(*p->ranges));
    p->ranges[p->nranges].lo = lo;
    p->ranges[p->nranges++].hi = hi;
}

/* Adds the class that \d, \w, \s or their opposites name; false if the letter names none. */
static bool add_named(struct pattern_compiler *c, char letter)
{
    const struct range *r;
    size_t n;
    switch (letter | 0x20) {
    case 'd':
        r = digit_ranges;
        n = ARRAY_LEN(digit_ranges);
        break;
    case 'w':
        r = word_ranges;
        n = ARRAY_LEN(word_ranges);
        break;
    case 's':
        r = space_ranges;
        n = ARRAY_LEN(space_ranges);
        break;
    default:
        return false;
    }
    uint32_t from = 0;
    for (size_t i = 0; i < n; i++) {
        if ((letter & 0x20) != 0) {
            add_range(c, r[i].lo, r[i].hi);
        } else {
            add_range(c, from, r[i].lo - 1);
            from = r[i].hi + 1;
        }
    }
    if ((letter & 0x20) == 0) {
        add_range(c, from, LAST_CHAR);
    }
    return true;
}

static int compare_ranges(const void *a, const void *b)
{
    const struct range *x = a;
    const struct range *y = b;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

/* Makes a class of the ranges from `first` on, in order and merged. */
static uint32_t finish_class(struct pattern_compiler *c, size_t first, bool negated)
{
    struct pattern *p = c->p;
    size_t n = p->nranges - first;
    struct range *r = n > 0 ? p->ranges + first : NULL;
    size_t kept = 0;

    if (n > 0) {
        qsort(r, n, sizeof(*r), compare_ranges);
    }
    for (size_t i = 0; i < n; i++) {
        if (kept > 0 && r[i].lo <= r[kept - 1].hi + 1) {
            r[kept - 1].hi = r[i].hi > r[kept - 1].hi ? r[i].hi : r[kept - 1].hi;
        } else {
            r[kept++] = r[i];
        }
    }
    p->nranges = first + kept;
    p->classes = pattern_room(p->classes, p->nclasses, &c->classes_cap, sizeof(*p->classes));
    p->classes[p->nclasses].first = first;
    p->classes[p->nclasses].count = kept;
    p->classes[p->nclasses].negated = negated;
    return (uint32_t)p->nclasses++;
}

/* ---- characters ---- */

static uint32_t parse_plain(struct pattern_compiler *c)
{
    int width = json_utf8_length(c->s + c->pos, c->len - c->pos);
    if (width < 0) {
        pattern_refuse(c, c->pos, "the bytes are not UTF-8");
        return 0;
    }
    const unsigned char *u = (const unsigned char *)c->s + c->pos;
    uint32_t cp = width == 1 ? u[0] : u[0] & (0x7FU >> width);
    for (int i = 1; i < width; i++) {
        cp = (cp << 6) | (u[i] & 0x3FU);
    }
    c->pos += (size_t)width;
    return cp;
}

static uint32_t parse_hex(struct pattern_compiler *c, size_t digits)
{
    uint32_t value = 0;
    for (size_t i = 0; i < digits; i++) {
        char h = peek(c, 0);
        const char *all = "0123456789abcdefABCDEF";
        const char *found = h == '\0' ? NULL : strchr(all, h);
        if (found == NULL) {
            pattern_refuse(c, c->pos, "expected a hexadecimal digit");
            return 0;
        }
        uint32_t digit = (uint32_t)(found - all);
        value = value * 16 + (digit > 15 ? digit - 6 : digit);
        c->pos++;
    }
    return value;
}

/* After `\u`: four digits, two times four for a surrogate pair, or any number in braces. */
static uint32_t parse_unicode(struct pattern_compiler *c)
{
    if (take(c, "{")) {
        size_t n = 0;
        while (peek(c, n) != '}' && n < 7) {
            n++;
        }
        uint32_t cp = n > 0 && n < 7 ? parse_hex(c, n) : LAST_CHAR + 1;
        if (cp > LAST_CHAR || !take(c, "}")) {
            pattern_refuse(c, c->pos, "\\u{...} needs a code point up to 10FFFF");
            return 0;
        }
        return cp;
    }
    uint32_t unit = parse_hex(c, 4);
    if (unit >= 0xD800 && unit <= 0xDBFF && peek(c, 0) == '\\' && peek(c, 1) == 'u') {
        c->pos += 2;
        uint32_t low = parse_hex(c, 4);
        if (low >= 0xDC00 && low <= 0xDFFF) {
            return 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
        }
        pattern_refuse(c, c->pos, "half of a surrogate pair stands alone");
    }
    return unit;
}

/* After a backslash: an escape that means one character. */
static uint32_t parse_escaped_char(struct pattern_compiler *c)
{
    static const char from[] = "fnrtv";
    static const char to[] = "\f\n\r\t\v";
    char e = peek(c, 0);
    if (at_end(c)) {
        pattern_refuse(c, c->pos, "a backslash ends the expression");
        return 0;
    }
    const char *known = e != '\0' ? strchr(from, e) : NULL;
    if (known != NULL) {
        c->pos++;
        return (uint32_t)(unsigned char)to[known - from];
    }
    if (e == 'x' || e == 'u') {
        c->pos++;
        return e == 'x' ? parse_hex(c, 2) : parse_unicode(c);
    }
    if (e == 'c' && ((peek(c, 1) | 0x20) >= 'a' && (peek(c, 1) | 0x20) <= 'z')) {
        c->pos += 2;
        return (uint32_t)c->s[c->pos - 1] & 31U;
    }
    if (e == '0' && !(peek(c, 1) >= '0' && peek(c, 1) <= '9')) {
        c->pos++;
        return 0;
    }
    bool letter = ((e | 0x20) >= 'a' && (e | 0x20) <= 'z') || (e >= '0' && e <= '9');
    if (letter) {
        c->pos--;
        if (e == 'p' || e == 'P') {
            refuse_construct(c, 2, "the Unicode property");
        } else if (e == 'k' || (e >= '1' && e <= '9')) {
            refuse_construct(c, 2, "the backreference");
        } else {
            refuse_construct(c, 2, "the escape");
        }
        c->pos++;
        return 0;
    }
    return parse_plain(c);
}

/* One end of a range in a class; adds a named class and returns false. */
static bool parse_class_char(struct pattern_compiler *c, uint32_t *out)
{
    if (peek(c, 0) != '\\') {
        *out = parse_plain(c);
        return true;
    }
    c->pos++;
    if (!at_end(c) && add_named(c, peek(c, 0))) {
        c->pos++;
        return false;
    }
    *out = take(c, "b") ? '\b' : parse_escaped_char(c);
    return true;
}

/* After `[`. */
static uint32_t parse_class(struct pattern_compiler *c)
{
    size_t begin = c->pos - 1;
    size_t first = c->p->nranges;
    bool negated = take(c, "^");

    while (!c->failed && !take(c, "]")) {
        uint32_t lo = 0;
        uint32_t hi = 0;
        size_t at = c->pos;
        if (at_end(c)) {
            pattern_refuse(c, begin, "the class does not end");
            break;
        }
        bool single = parse_class_char(c, &lo);
        if (peek(c, 0) != '-' || peek(c, 1) == ']' || c->pos + 1 >= c->len) {
            if (single) {
                add_range(c, lo, lo);
            }
            continue;
        }
        c->pos++;
        if (!single || !parse_class_char(c, &hi) || hi < lo) {
            pattern_refuse(c, at, "the range in the class is not in order");
            break;
        }
        add_range(c, lo, hi);
    }
    return add_single(c, OP_CLASS, finish_class(c, first, negated));
}

/* ---- the tree ---- */

/* After `(`. */
static uint32_t parse_group(struct pattern_compiler *c)
{
    size_t begin = --c->pos;
    bool name = take(c, "(?<") && peek(c, 0) != '=' && peek(c, 0) != '!';
    c->pos = begin;
    if (name) {
        c->pos += 3;
        while (strchr("<>()[]{}|*+?.\\^$ ", peek(c, 0)) == NULL) {
            c->pos++;
        }
        if (!take(c, ">")) {
            pattern_refuse(c, begin, "the name of the group does not end");
        }
    } else if (take(c, "(?=") || take(c, "(?!")) {
        c->pos = begin;
        refuse_construct(c, 3, "lookahead");
    } else if (take(c, "(?<")) {
        c->pos = begin;
        refuse_construct(c, 4, "lookbehind");
    } else if (!take(c, "(?:") && take(c, "(?")) {
        c->pos = begin;
        refuse_construct(c, 3, "the group");
    } else if (c->pos == begin) {
        c->pos++;
    }
    if (c->failed) {
        return 0;
    }
    if (++c->nesting > NESTING_MAX) {
        pattern_refuse(c, begin, "groups are nested too deeply");
        return 0;
    }
    uint32_t n = pattern_parse(c);
    c->nesting--;
    if (!take(c, ")")) {
        pattern_refuse(c, begin, "the group does not end");
    }
    return n;
}

static uint32_t parse_escape(struct pattern_compiler *c)
{
    char e = peek(c, 0);
    size_t first = c->p->nranges;
    if (e == 'b' || e == 'B') {
        c->pos++;
        return add_single(c, e == 'b' ? OP_WORD_EDGE : OP_NO_WORD_EDGE, 0);
    }
    if (!at_end(c) && add_named(c, e)) {
        c->pos++;
        return add_single(c, OP_CLASS, finish_class(c, first, false));
    }
    return add_single(c, OP_CHAR, parse_escaped_char(c));
}

static uint32_t parse_atom(struct pattern_compiler *c)
{
    switch (peek(c, 0)) {
    case '^':
        c->pos++;
        return add_single(c, OP_BEGIN, 0);
    case '$':
        c->pos++;
        return add_single(c, OP_END, 0);
    case '.':
        c->pos++;
        return add_single(c, OP_ANY, 0);
    case '[':
        c->pos++;
        return parse_class(c);
    case '(':
        c->pos++;
        return parse_group(c);
    case '\\':
        c->pos++;
        return parse_escape(c);
    case '*':
    case '+':
    case '?':
        pattern_refuse(c, c->pos, "there is nothing to repeat");
        return 0;
    default:
        return add_single(c, OP_CHAR, parse_plain(c));
    }
}

static bool parse_count(struct pattern_compiler *c, uint32_t *out)
{
    size_t first = c->pos;
    uint32_t value = 0;
    while (peek(c, 0) >= '0' && peek(c, 0) <= '9') {
        value = value < 1000000 ? value * 10 + (uint32_t)(peek(c, 0) - '0') : value;
        c->pos++;
    }
    *out = value;
    return c->pos > first;
}

/* Is there a repetition here? Takes it. */
static bool parse_repetition(struct pattern_compiler *c, uint32_t *min, uint32_t *max)
{
    size_t begin = c->pos;
    *min = 0;
    *max = NO_LIMIT;
    if (take(c, "*")) {
        // as it is
    } else if (take(c, "+")) {
        *min = 1;
    } else if (take(c, "?")) {
        *max = 1;
    } else if (take(c, "{") && parse_count(c, min)) {
        if (!take(c, ",")) {
            *max = *min;
        } else if (peek(c, 0) != '}' && !parse_count(c, max)) {
            *max = NO_LIMIT;
        }
        if (!take(c, "}")) {
            c->pos = begin;
            return false;
        }
        if (*max < *min) {
            pattern_refuse(c, begin, "the repetition has its limits the wrong way round");
        }
    } else {
        c->pos = begin;
        return false;
    }
    (void)take(c, "?"); // lazy or not makes no difference to whether there is a match
    return true;
}

static uint32_t parse_list(struct pattern_compiler *c)
{
    uint32_t list = add_node(c, NODE_LIST);
    uint32_t last = 0;

    while (!c->failed && !at_end(c) && peek(c, 0) != '|' && peek(c, 0) != ')') {
        uint32_t min, max;
        size_t begin = c->pos;
        uint32_t n = parse_atom(c);
        if (!c->failed && parse_repetition(c, &min, &max)) {
            if (c->nodes[n].kind == NODE_SINGLE && c->nodes[n].single.op >= OP_BEGIN) {
                pattern_refuse(c, begin, "an assertion cannot be repeated");
            }
            uint32_t repeat = add_node(c, NODE_REPEAT);
            c->nodes[repeat].child = n;
            c->nodes[repeat].min = min;
            c->nodes[repeat].max = max;
            n = repeat;
        }
        if (c->failed) {
            break;
        }
        if (last == 0) {
            c->nodes[list].child = n;
        } else {
            c->nodes[last].next = n;
        }
        last = n;
    }
    return list;
}

uint32_t pattern_parse(struct pattern_compiler *c)
{
    uint32_t choice = add_node(c, NODE_CHOICE);
    uint32_t last = 0;
    do {
        uint32_t n = parse_list(c);
        if (c->failed) {
            break;
        }
        if (last == 0) {
            c->nodes[choice].child = n;
        } else {
            c->nodes[last].next = n;
        }
        last = n;
    } while (take(c, "|"));
    return choice;
}
