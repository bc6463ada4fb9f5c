/*
 * io/pattern against the C library's expressions, where both mean the same.
 */
#include "base/base.h"
#include "test.h"

#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "io/pattern.h"

static unsigned below(unsigned *seed, unsigned n)
{
    *seed = *seed * 1103515245U + 12345U;
    return (*seed >> 16) % n;
}

static void random_choice(struct buf *b, unsigned *seed, unsigned depth);

static void random_piece(struct buf *b, unsigned *seed, unsigned depth)
{
    static const char *const atoms[] = {"a", "b", ".", "[ab]", "[^a]", "[a-b]", "c"};
    static const char *const repeats[] = {"*", "+", "?", "{2}", "{1,2}", "{0,}", "{0,3}"};
    if (depth < 3 && below(seed, 3) == 0) {
        buf_append_char(b, '(');
        random_choice(b, seed, depth + 1);
        buf_append_char(b, ')');
    } else {
        buf_append_str(b, atoms[below(seed, ARRAY_LEN(atoms))]);
    }
    if (below(seed, 2) == 0) {
        buf_append_str(b, repeats[below(seed, ARRAY_LEN(repeats))]);
    }
}

static void random_choice(struct buf *b, unsigned *seed, unsigned depth)
{
    for (unsigned n = 1 + below(seed, 2); n > 0; n--) {
        for (unsigned m = 1 + below(seed, 3); m > 0; m--) {
            random_piece(b, seed, depth);
        }
        if (n > 1) {
            buf_append_char(b, '|');
        }
    }
}

static void compare(const char *source, unsigned *seed)
{
    char error[120];
    struct pattern *p;
    regex_t oracle;
    ASSERT_INT(pattern_compile(source, strlen(source), &p, error, sizeof(error)), 0);
    ASSERT_INT(regcomp(&oracle, source, REG_EXTENDED | REG_NOSUB), 0);
    for (int i = 0; i < 20; i++) {
        char text[12];
        unsigned n = below(seed, sizeof(text));
        for (unsigned j = 0; j < n; j++) {
            text[j] = "abc"[below(seed, 3)];
        }
        text[n] = '\0';
        int expected = regexec(&oracle, text, 0, NULL, 0) == 0;
        if (pattern_match(p, text, n) != expected) {
            test_fail(__FILE__, __LINE__, "%s on \"%s\": expected %d", source, text, expected);
        }
    }
    regfree(&oracle);
    pattern_free(p);
}

TEST(pattern_agrees_with_regcomp)
{
    unsigned seed = 1;
    struct buf b;
    buf_init(&b);
    for (int i = 0; i < 3000; i++) {
        buf_clear(&b);
        bool begin = below(&seed, 2) == 0;
        bool end = below(&seed, 2) == 0;
        buf_append_str(&b, begin ? "^(" : "(");
        random_choice(&b, &seed, 0);
        buf_append_str(&b, end ? ")$" : ")");
        compare(b.data, &seed);
    }
    buf_release(&b);
}

/* Whatever the bytes: an answer, and no step outside of them. */
TEST(pattern_survives_junk)
{
    static const char junk[] = "ab()[]{}|*+?^$.\\-,:=<!0123dwsbpux\xC3\xA9\xFF";
    unsigned seed = 2;
    unsigned good = 0;
    for (int i = 0; i < 50000; i++) {
        char error[120];
        char source[16];
        struct pattern *p;
        unsigned n = below(&seed, sizeof(source));
        for (unsigned j = 0; j < n; j++) {
            source[j] = junk[below(&seed, sizeof(junk) - 1)];
        }
        char *exact = xmemdup(source, n);
        if (pattern_compile(exact, n, &p, error, sizeof(error)) == 0) {
            good++;
            ASSERT_TRUE(pattern_match(p, exact, n) >= 0);
            pattern_free(p);
        } else {
            ASSERT_TRUE(strncmp(error, "position ", 9) == 0);
        }
        free(exact);
    }
    ASSERT_TRUE(good > 1000);
}
