/*
 * C unit tests. Each file tests one module and registers its cases:
 *
 *     TEST(name) { ASSERT_INT(1 + 1, 2); }
 *
 * `unit --list` prints the cases, `unit N` runs one: tests/run gives each a process and a time
 * limit.
 */
#ifndef LASH_TEST_H
#define LASH_TEST_H

#include "base/base.h"

struct test_case {
    const char *file;
    const char *name;
    void (*run)(void);
    struct test_case *next;
};

void test_register(struct test_case *test);

/* How many times slower than usual this run may find things: 1, or more under valgrind and the
 * like. */
unsigned test_slower(void);

/* `full` in `make check-all`, `few` in any other run: how much a case does that takes long. */
unsigned test_times(unsigned full, unsigned few);

/* Skips a case that needs signals to come at once: the thread sanitizer keeps them back while code
 * that it does not know runs, valgrind until its turn comes. */
void test_needs_prompt_signals(void);

/* Skips a case in which this process has to keep up with another, or with a thread that sleeps. */
void test_needs_pace(void);

/* Makes an empty directory and works in it from now on; `dir` gets its path. */
void test_enter_dir(char *dir, size_t size);

/* How many names there are in a directory, without . and .. */
int test_count_names(const char *path);

NORETURN void test_fail(const char *file, int line, const char *fmt, ...) PRINTF_LIKE(3, 4);

#define TEST(id)                                                         \
    static void test_##id(void);                                         \
    __attribute__((constructor)) static void register_##id(void)         \
    {                                                                    \
        static struct test_case test = {__FILE__, #id, test_##id, NULL}; \
        test_register(&test);                                            \
    }                                                                    \
    static void test_##id(void)

#define ASSERT_TRUE(cond)                                        \
    do {                                                         \
        if (!(cond)) {                                           \
            test_fail(__FILE__, __LINE__, "expected %s", #cond); \
        }                                                        \
    } while (0)

#define ASSERT_INT(got, want)                                                                \
    do {                                                                                     \
        long long got_ = (long long)(got), want_ = (long long)(want);                        \
        if (got_ != want_) {                                                                 \
            test_fail(__FILE__, __LINE__, "%s: expected %lld, got %lld", #got, want_, got_); \
        }                                                                                    \
    } while (0)

#define ASSERT_STR(got, want)                                                             \
    do {                                                                                  \
        const char *got_ = (got), *want_ = (want);                                        \
        if (got_ == NULL || strcmp(got_, want_) != 0) {                                   \
            test_fail(__FILE__, __LINE__, "%s: expected \"%s\", got \"%s\"", #got, want_, \
                      got_ ? got_ : "(null)");                                            \
        }                                                                                 \
    } while (0)

#endif
