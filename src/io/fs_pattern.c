#include "base/base.h"

#include "io/fs_pattern.h"

#include <ctype.h>
#include <string.h>

#define NOT_A_CHARACTER 0x110000u /* plus the byte */

/* The next character, and behind it: *s moves on. */
static uint32_t take(const char **s)
{
    const unsigned char *p = (const unsigned char *)*s;
    unsigned more = p[0] >= 0xf0 && p[0] < 0xf8   ? 3
                    : p[0] >= 0xe0 && p[0] < 0xf0 ? 2
                    : p[0] >= 0xc2 && p[0] < 0xe0 ? 1
                                                  : 0;
    uint32_t c = more == 0 ? p[0] : p[0] & (0x3fu >> more);
    for (unsigned i = 1; i <= more; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            more = 0;
            break;
        }
        c = c << 6 | (p[i] & 0x3f);
    }
    *s += 1 + more;
    return more == 0 && p[0] >= 0x80 ? NOT_A_CHARACTER + p[0] : c;
}

/* [:alpha:] at `p`, in brackets: behind it, or NULL when it is none. */
static const char *class_end(const char *p)
{
    if (p[0] != '[' || p[1] != ':') {
        return NULL;
    }
    const char *end = strstr(p + 2, ":]");
    return end != NULL && strspn(p + 2, "abcdefghijklmnopqrstuvwxyz") == (size_t)(end - p - 2)
               ? end + 2
               : NULL;
}

static bool in_class(const char *p, uint32_t c)
{
    static const struct {
        const char *name;
        int (*is)(int c);
    } classes[] = {
        {"alnum", isalnum}, {"alpha", isalpha}, {"blank", isblank}, {"cntrl", iscntrl},
        {"digit", isdigit}, {"graph", isgraph}, {"lower", islower}, {"print", isprint},
        {"punct", ispunct}, {"space", isspace}, {"upper", isupper}, {"xdigit", isxdigit},
    };
    size_t len = strcspn(p + 2, ":");
    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        if (strlen(classes[i].name) == len && strncmp(classes[i].name, p + 2, len) == 0) {
            return c < 0x80 && classes[i].is((int)c);
        }
    }
    return false;
}

/* Behind the bracket expression at `p`, or NULL when it is not closed. */
static const char *bracket_end(const char *p)
{
    p++;
    p += *p == '!' || *p == '^';
    for (const char *first = p; *p != '\0'; p++) {
        const char *end = class_end(p);
        if (end != NULL) {
            p = end - 1;
        } else if (*p == '\\' && p[1] != '\0') {
            p++;
        } else if (*p == ']' && p != first) {
            return p + 1;
        }
    }
    return NULL;
}

static uint32_t take_escaped(const char **p)
{
    *p += **p == '\\' && (*p)[1] != '\0';
    return take(p);
}

static bool in_bracket(const char *p, const char *end, uint32_t c)
{
    bool negated = p[1] == '!' || p[1] == '^';
    bool found = false;
    p += negated ? 2 : 1;
    end--;
    while (p < end) {
        const char *class = class_end(p);
        if (class != NULL) {
            found = found || in_class(p, c);
            p = class;
            continue;
        }
        uint32_t low = take_escaped(&p);
        uint32_t high = low;
        if (*p == '-' && p + 1 < end) {
            p++;
            high = take_escaped(&p);
        }
        found = found || (low <= c && c <= high);
    }
    return found != negated;
}

bool fs_pattern_is_wild(const char *part)
{
    for (const char *p = part; *p != '\0'; p++) {
        if (*p == '*' || *p == '?' || (*p == '[' && bracket_end(p) != NULL)) {
            return true;
        }
        p += *p == '\\' && p[1] != '\0';
    }
    return false;
}

void fs_pattern_unescape(const char *part, struct buf *out)
{
    for (const char *p = part; *p != '\0'; p++) {
        p += *p == '\\' && p[1] != '\0';
        buf_append_char(out, *p);
    }
}

/* Matches one character of the name with what stands at *p, which is no star. */
static bool matches_one(const char **p, const char **name)
{
    const char *end = **p == '[' ? bracket_end(*p) : NULL;
    uint32_t c = take(name);
    if (end != NULL) {
        bool in = in_bracket(*p, end, c);
        *p = end;
        return in;
    }
    if (**p == '?') {
        (*p)++;
        return true;
    }
    return **p != '\0' && take_escaped(p) == c;
}

bool fs_pattern_matches(const char *part, const char *name)
{
    const char *star = NULL; // the last one met, and up to where it has taken the name
    const char *taken = NULL;
    while (*name != '\0') {
        if (*part == '*') {
            star = ++part;
            taken = name;
            continue;
        }
        if (matches_one(&part, &name)) {
            continue;
        }
        if (star == NULL) {
            return false;
        }
        (void)take(&taken);
        part = star;
        name = taken;
    }
    part += strspn(part, "*");
    return *part == '\0';
}
