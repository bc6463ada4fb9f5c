#include "base/base.h"

#include "base/fault.h"

#ifdef LASH_DEBUG

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    bool active;
    bool all;
    bool on;
    unsigned long long at;
    atomic_ullong count;
} fault;

static void tell_count(void)
{
    fprintf(stderr, "LASH_FAIL_ALLOC: %llu allocations\n", atomic_load(&fault.count));
}

static void read_environment(void)
{
    const char *text = getenv("LASH_FAIL_ALLOC");
    if (text == NULL || *text == '\0') {
        return;
    }
    char *rest;
    fault.at = strtoull(text, &rest, 10);
    fault.all = strstr(rest, ",all") != NULL;
    fault.on = strstr(rest, ",on") != NULL;
    fault.active = true;
    if (fault.at == 0) {
        (void)atexit(tell_count);
    }
}

bool fault_alloc(enum fault_door door)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, read_environment);
    if (!fault.active || (door == FAULT_C && !fault.all)) {
        return false;
    }
    unsigned long long n = atomic_fetch_add(&fault.count, 1) + 1;
    return fault.at != 0 && (n == fault.at || (fault.on && n > fault.at));
}

#endif
