#include "base/base.h"

#include "io/fs_pattern.h"

#include "test.h"

#include <string.h>

static void expect(const char *pattern, const char *name, bool matches)
{
    if (fs_pattern_matches(pattern, name) != matches) {
        test_fail(__FILE__, __LINE__, "'%s' and '%s': expected %s", pattern, name,
                  matches ? "a match" : "none");
    }
}

TEST(fs_pattern_matches)
{
    static const struct {
        const char *pattern;
        const char *yes[6];
        const char *no[6];
    } cases[] = {
        {"*", {"a", "abc", "ü"}, {NULL}},
        {"*.c", {"a.c", ".c", "a.c.c"}, {"a.cc", "c", "ac"}},
        {"a*b*c", {"abc", "axxbxxc", "abcbc"}, {"ab", "acb", "abcd"}},
        {"?", {"a", "ü", "€", "\xff", "\xf0\x9f\x98\x80"}, {"ab", "üx", "\xff\xff"}},
        {"??", {"ab", "üx", "\xc3("}, {"ü", "abc"}},
        {"[abc]x", {"ax", "cx"}, {"dx", "x", "abcx"}},
        {"[a-c]", {"a", "b", "c"}, {"d", "-", "A"}},
        {"[!a-c]", {"d", "-", "ü"}, {"a", "b"}},
        {"[^a]", {"b", "^"}, {"a"}},
        {"[]a]", {"]", "a"}, {"[", "b"}},
        {"[!]a]", {"b", "["}, {"]", "a"}},
        {"[a-]", {"a", "-"}, {"b"}},
        {"[\\]x]", {"]", "x"}, {"\\", "a"}},
        {"[ä-ü]", {"ö", "ü"}, {"a", "Ö", "\xc3"}},
        {"[[:digit:]_]*", {"1", "_a", "9z"}, {"a", ":", "[", "d"}},
        {"[[:nonsense:]]", {NULL}, {"n", ":", "]"}},
        {"[a", {"[a"}, {"a", "["}},
        {"[", {"["}, {"a"}},
        {"\\*", {"*"}, {"a", "\\*", "\\"}},
        {"a\\", {"a\\"}, {"a"}},
        {"\\a", {"a"}, {"\\a"}},
        {"***a", {"a", "bba"}, {"b"}},
        {"\xff*", {"\xff", "\xff\xfe"}, {"\xfe"}},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (size_t j = 0; j < 6; j++) {
            if (cases[i].yes[j] != NULL) {
                expect(cases[i].pattern, cases[i].yes[j], true);
            }
            if (cases[i].no[j] != NULL) {
                expect(cases[i].pattern, cases[i].no[j], false);
            }
        }
    }
}

/* Backtracking stays within the product of the lengths: exponential would never end. */
TEST(fs_pattern_is_never_slow)
{
    char name[256];
    char pattern[512];
    memset(name, 'a', sizeof name - 1);
    name[255] = '\0';
    for (size_t i = 0; i < 500; i += 2) {
        memcpy(pattern + i, "*a", 2);
    }
    memcpy(pattern + 500, "*b", 3);
    expect(pattern, name, false);
    pattern[501] = 'a';
    expect(pattern, name, true);
}

TEST(fs_pattern_escapes)
{
    static const struct {
        const char *part;
        bool wild;
        const char *text;
    } cases[] = {
        {"plain", false, "plain"}, {"a\\*b", false, "a*b"}, {"a[b", false, "a[b"},
        {"a\\", false, "a\\"},     {"\\\\", false, "\\"},   {"a*", true, NULL},
        {"[a]", true, NULL},       {"\\[a]", false, "[a]"}, {"a?", true, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        ASSERT_INT(fs_pattern_is_wild(cases[i].part), cases[i].wild);
        if (!cases[i].wild) {
            struct buf text = {0};
            fs_pattern_unescape(cases[i].part, &text);
            ASSERT_STR(text.data, cases[i].text);
            buf_release(&text);
        }
    }
}
