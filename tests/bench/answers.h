/*
 * What the server of the bench answers: OpenAI Responses, as one JSON body or as a stream. All
 * answers are bytes made once at start, HTTP head included. One thread; who has a `struct text`
 * frees its data.
 */
#ifndef BENCH_ANSWERS_H
#define BENCH_ANSWERS_H

#include <stddef.h>

struct text {
    char *data; /* owned */
    size_t len, cap;
};

/* Pointer, or the end of the program. */
void *must(void *p);

void text_reserve(struct text *t, size_t more);
__attribute__((format(printf, 2, 3))) void text_addf(struct text *t, const char *format, ...);
/* A whole HTTP answer with a JSON body. */
void text_add_http(struct text *out, int status, const struct text *body);

/* What is asked for: `rounds` turns with `calls` calls each, then a text. */
struct shape {
    size_t calls, rounds;
    const char *tool, *args; /* args: JSON text */
};

/* The answer of a turn, counted from 0. As a stream each event is a chunk of HTTP, as real servers
 * do. */
void answer_make(struct text *out, const struct shape *shape, size_t turn, int stream);

#endif
