#include "test.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct test_case *cases;

void test_register(struct test_case *test)
{
    struct test_case **at = &cases;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = test;
}

void test_fail(const char *file, int line, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    printf("%s:%d: ", file, line);
    vprintf(fmt, args);
    putchar('\n');
    va_end(args);
    fflush(stdout);
    exit(1);
}

unsigned test_slower(void)
{
    const char *text = getenv("TEST_SLOWER");
    unsigned long n = text != NULL ? strtoul(text, NULL, 10) : 1;
    return n >= 1 && n <= 1000 ? (unsigned)n : 1;
}

unsigned test_times(unsigned full, unsigned few)
{
    return getenv("LASH_THOROUGH") != NULL ? full : few;
}

void test_enter_dir(char *dir, size_t size)
{
    const char *tmp = getenv("TMPDIR");
    ASSERT_TRUE(snprintf(dir, size, "%s/lash-unit-XXXXXX", tmp != NULL ? tmp : "/tmp") < (int)size);
    ASSERT_TRUE(mkdtemp(dir) != NULL);
    ASSERT_INT(chdir(dir), 0);
}

int test_count_names(const char *path)
{
    int n = -2;
    DIR *dir = opendir(path);
    ASSERT_TRUE(dir != NULL);
    while (readdir(dir) != NULL) {
        n++;
    }
    closedir(dir);
    return n;
}

static void skip_when_slow(const char *why)
{
    if (test_slower() >= 20) {
        printf("skipped: %s\n", why);
        exit(77);
    }
}

void test_needs_prompt_signals(void)
{
    skip_when_slow("signals come too late here");
}

void test_needs_pace(void)
{
    skip_when_slow("a server in another process is too fast here");
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (struct test_case *t = cases; t != NULL; t = t->next) {
            printf("%s %s\n", t->file, t->name);
        }
        return 0;
    }
    if (argc != 2) {
        fprintf(stderr, "usage: unit --list | unit N\n");
        return 2;
    }
    long n = strtol(argv[1], NULL, 10);
    for (struct test_case *t = cases; t != NULL; t = t->next) {
        if (n-- == 0) {
            t->run();
            return 0;
        }
    }
    fprintf(stderr, "unit: no such case\n");
    return 2;
}
