#include "base/base.h"

#include "base/trace.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

unsigned trace_mask;

static uint64_t start_ms;

static const struct {
    const char *name;
    enum trace_area area;
} areas[] = {
    {"task", TRACE_TASK}, {"http", TRACE_HTTP}, {"worker", TRACE_WORKER}, {"proc", TRACE_PROC}};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void add_area(const char *name, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(areas); i++) {
        if (strlen(areas[i].name) == len && memcmp(areas[i].name, name, len) == 0) {
            trace_mask |= areas[i].area;
            return;
        }
    }
    fprintf(stderr, "lash: LASH_TRACE: '%.*s' is not one of task, http, worker, proc\n", (int)len,
            name);
}

void trace_init(void)
{
    const char *at = getenv("LASH_TRACE");
    trace_mask = 0;
    start_ms = now_ms();
    while (at != NULL && *at != '\0') {
        size_t len = strcspn(at, ",");
        if (len > 0) {
            add_area(at, len);
        }
        at += len + (at[len] == ',');
    }
}

void trace_line(const char *area, const char *fmt, ...)
{
    char line[512]; /* one write, so that lines of threads stay whole */
    int len =
        snprintf(line, sizeof(line), "[%6llu ms] ", (unsigned long long)(now_ms() - start_ms));
    for (const char *c = area; *c != '\0'; c++) {
        line[len++] = (char)tolower((unsigned char)*c);
    }
    line[len++] = ' ';
    va_list args;
    va_start(args, fmt);
    int more = vsnprintf(line + len, sizeof(line) - (size_t)len - 1, fmt, args);
    va_end(args);
    len += more < 0 ? 0 : more;
    if ((size_t)len > sizeof(line) - 2) {
        len = (int)sizeof(line) - 2;
    }
    line[len++] = '\n';
    (void)!fwrite(line, 1, (size_t)len, stderr); /* nowhere to tell of a failure */
}
