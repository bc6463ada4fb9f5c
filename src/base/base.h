/*
 * What every C file includes first: allocation that never returns NULL, assertions, small macros.
 * Any thread may call these. Nothing here knows of lash.
 */
#ifndef LASH_BASE_H
#define LASH_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define NORETURN __attribute__((noreturn))
#define NOINLINE __attribute__((noinline)) /* for what is rare: its registers burden the rest */

/* Prints where an impossible state was met and aborts. */
NORETURN void panic(const char *file, int line, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The exit status of a program that has no memory left. */
enum { EXIT_MEMORY = 71 };

/* Ends the program with one sentence and EXIT_MEMORY: `size` bytes could not be had, 0 = unknown.
 * Any thread; calls the hook first, which must be legal anywhere. */
NORETURN void out_of_memory(size_t size);
void out_of_memory_hook(void (*hook)(void));

/* Stays on in release builds: an impossible state must not go on. */
#define ASSERT(cond)                                                  \
    do {                                                              \
        if (!(cond)) {                                                \
            panic(__FILE__, __LINE__, "assertion failed: %s", #cond); \
        }                                                             \
    } while (0)

/* For checks too slow for release builds. */
#ifdef LASH_DEBUG
#define DEBUG_ASSERT(cond) ASSERT(cond)
#else
#define DEBUG_ASSERT(cond) ((void)0)
#endif

/* Like malloc and friends, but a program that is out of memory ends with one sentence. The caller
 * owns the result and gives it to free(). A size of 0 gives a valid pointer. */
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *ptr, size_t size);
char *xstrdup(const char *s);
void *xmemdup(const void *data, size_t len);

#endif
