#include "base/base.h"

#include "base/fault.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void panic(const char *file, int line, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "lash: bug at %s:%d: ", file, line);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

static void (*memory_hook)(void);

void out_of_memory_hook(void (*hook)(void))
{
    memory_hook = hook;
}

void out_of_memory(size_t size)
{
    if (size > 0) {
        fprintf(stderr, "lash: out of memory (%zu bytes asked for)\n", size);
    } else {
        fputs("lash: out of memory\n", stderr);
    }
    if (memory_hook != NULL) {
        memory_hook();
    }
    _exit(EXIT_MEMORY); /* other threads run, and nothing that we could do needs no memory */
}

static void *checked(void *ptr, size_t size)
{
    if (ptr == NULL) {
        out_of_memory(size);
    }
    return ptr;
}

static bool fails(void)
{
    return fault_alloc(FAULT_C);
}

void *xmalloc(size_t size)
{
    return checked(fails() ? NULL : malloc(size ? size : 1), size);
}

void *xcalloc(size_t count, size_t size)
{
    return checked(fails() ? NULL : calloc(count ? count : 1, size ? size : 1), count * size);
}

void *xrealloc(void *ptr, size_t size)
{
    return checked(fails() ? NULL : realloc(ptr, size ? size : 1), size);
}

char *xstrdup(const char *s)
{
    return xmemdup(s, strlen(s) + 1);
}

void *xmemdup(const void *data, size_t len)
{
    void *copy = xmalloc(len);
    if (len > 0) {
        memcpy(copy, data, len);
    }
    return copy;
}
