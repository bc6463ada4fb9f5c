#include "answers.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Models send about four characters a delta; of large arguments larger pieces, or they cost only
 * time. */
enum { PIECE = 4, LARGE = 64 << 10, LARGE_PIECE = 4 << 10 };

static const char USAGE[] =
    "{\"input_tokens\":120,\"input_tokens_details\":{\"cached_tokens\":0},"
    "\"output_tokens\":24,\"output_tokens_details\":{\"reasoning_tokens\":0},"
    "\"total_tokens\":144}";
static const char *const WORDS[] = {"All", " looked", " up."};
static const char SAID[] = "All looked up.";

void *must(void *p)
{
    if (!p) {
        fputs("server: out of memory\n", stderr);
        abort();
    }
    return p;
}

/* -- text -------------------------------------------------------------------------------------- */

void text_reserve(struct text *t, size_t more)
{
    if (t->len + more <= t->cap) {
        return;
    }
    size_t cap = t->cap ? t->cap : 512;
    while (cap < t->len + more) {
        cap *= 2;
    }
    t->data = must(realloc(t->data, cap));
    t->cap = cap;
}

void text_addf(struct text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    assert(len >= 0);
    text_reserve(t, (size_t)len + 1);
    va_start(args, format);
    vsnprintf(t->data + t->len, (size_t)len + 1, format, args);
    va_end(args);
    t->len += (size_t)len;
}

static void text_add(struct text *t, const char *data, size_t len)
{
    text_reserve(t, len);
    memcpy(t->data + t->len, data, len);
    t->len += len;
}

/* Adds `raw` as the inside of a JSON string. */
static void text_add_escaped(struct text *t, const char *raw, size_t len)
{
    text_reserve(t, 2 * len);
    for (size_t i = 0; i < len; i++) {
        if (raw[i] == '"' || raw[i] == '\\') {
            t->data[t->len++] = '\\';
        }
        t->data[t->len++] = raw[i];
    }
}

void text_add_http(struct text *out, int status, const struct text *body)
{
    text_addf(out, "HTTP/1.1 %d %s\r\ncontent-type: application/json\r\n", status,
              status == 200 ? "OK" : "Bad Request");
    text_addf(out, "content-length: %zu\r\n\r\n", body->len);
    text_add(out, body->data, body->len);
}

/* -- items ------------------------------------------------------------------------------------- */

static void add_reasoning(struct text *t, size_t turn)
{
    text_addf(t,
              "{\"id\":\"rs_%zu\",\"type\":\"reasoning\",\"summary\":[],\"encrypted_content\""
              ":\"gAAAAABbench-%zu-0123456789abcdef0123456789abcdef==\"}",
              turn, turn);
}

static void add_call(struct text *t, const struct shape *s, size_t turn, size_t k, int done)
{
    text_addf(t,
              "{\"id\":\"fc_%zu_%zu\",\"type\":\"function_call\",\"status\":\"%s\","
              "\"arguments\":\"",
              turn, k, done ? "completed" : "in_progress");
    if (done) {
        text_add_escaped(t, s->args, strlen(s->args));
    }
    text_addf(t, "\",\"call_id\":\"call_%zu_%zu\",\"name\":\"%s\"}", turn, k, s->tool);
}

static void add_part(struct text *t, const char *said)
{
    text_addf(t, "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":\"%s\"}",
              said);
}

static void add_message(struct text *t, size_t turn, int done)
{
    text_addf(t,
              "{\"id\":\"msg_%zu\",\"type\":\"message\",\"status\":\"%s\",\"role\":\"assistant\","
              "\"phase\":\"final_answer\",\"content\":[",
              turn, done ? "completed" : "in_progress");
    if (done) {
        add_part(t, SAID);
    }
    text_addf(t, "]}");
}

/* The response object; without items and usage while it is in progress. */
static void add_response(struct text *t, const struct shape *s, size_t turn, int done)
{
    text_addf(
        t,
        "{\"id\":\"resp_%zu\",\"object\":\"response\",\"created_at\":1760000000,\"status\":\"%s\","
        "\"error\":null,\"incomplete_details\":null,\"model\":\"bench\",\"output\":[",
        turn, done ? "completed" : "in_progress");
    if (done && turn < s->rounds) {
        add_reasoning(t, turn);
        for (size_t k = 0; k < s->calls; k++) {
            text_addf(t, ",");
            add_call(t, s, turn, k, 1);
        }
    } else if (done) {
        add_message(t, turn, 1);
    }
    text_addf(t, "],\"usage\":%s}", done ? USAGE : "null");
}

/* -- streams ----------------------------------------------------------------------------------- */

struct stream {
    struct text *out;
    struct text event; /* the present one; its memory is used again */
    size_t number;
};

static struct text *event_begin(struct stream *s, const char *type)
{
    s->event.len = 0;
    text_addf(&s->event, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%zu,", type, type,
              s->number++);
    return &s->event;
}

static void event_end(struct stream *s)
{
    text_addf(&s->event, "}\n\n");
    text_addf(s->out, "%zx\r\n", s->event.len);
    text_add(s->out, s->event.data, s->event.len);
    text_addf(s->out, "\r\n");
}

static void stream_call(struct stream *s, const struct shape *shape, size_t turn, size_t k)
{
    size_t len = strlen(shape->args), step = len > LARGE ? LARGE_PIECE : PIECE;
    struct text *e = event_begin(s, "response.output_item.added");
    text_addf(e, "\"output_index\":%zu,\"item\":", k + 1);
    add_call(e, shape, turn, k, 0);
    event_end(s);
    for (size_t at = 0; at < len; at += step) {
        event_begin(s, "response.function_call_arguments.delta");
        text_addf(e, "\"item_id\":\"fc_%zu_%zu\",\"output_index\":%zu,\"delta\":\"", turn, k,
                  k + 1);
        text_add_escaped(e, shape->args + at, len - at < step ? len - at : step);
        text_addf(e, "\",\"obfuscation\":\"0123456789ab\"");
        event_end(s);
    }
    event_begin(s, "response.function_call_arguments.done");
    text_addf(e, "\"item_id\":\"fc_%zu_%zu\",\"output_index\":%zu,\"arguments\":\"", turn, k,
              k + 1);
    text_add_escaped(e, shape->args, len);
    text_addf(e, "\"");
    event_end(s);
    event_begin(s, "response.output_item.done");
    text_addf(e, "\"output_index\":%zu,\"item\":", k + 1);
    add_call(e, shape, turn, k, 1);
    event_end(s);
}

static void stream_calls(struct stream *s, const struct shape *shape, size_t turn)
{
    static const char *const kinds[] = {"response.output_item.added", "response.output_item.done"};
    for (size_t i = 0; i < 2; i++) {
        text_addf(event_begin(s, kinds[i]), "\"output_index\":0,\"item\":");
        add_reasoning(&s->event, turn);
        event_end(s);
    }
    for (size_t k = 0; k < shape->calls; k++) {
        stream_call(s, shape, turn, k);
    }
}

static void stream_text_event(struct stream *s, size_t turn, const char *kind, const char *field,
                              const char *said)
{
    struct text *e = event_begin(s, kind);
    text_addf(e, "\"item_id\":\"msg_%zu\",\"output_index\":0,\"content_index\":0,", turn);
    if (strcmp(field, "part") == 0) {
        text_addf(e, "\"part\":");
        add_part(e, said);
    } else {
        text_addf(e, "\"%s\":\"%s\",\"logprobs\":[]", field, said);
    }
    event_end(s);
}

static void stream_message(struct stream *s, size_t turn)
{
    text_addf(event_begin(s, "response.output_item.added"), "\"output_index\":0,\"item\":");
    add_message(&s->event, turn, 0);
    event_end(s);
    stream_text_event(s, turn, "response.content_part.added", "part", "");
    for (size_t i = 0; i < sizeof WORDS / sizeof WORDS[0]; i++) {
        stream_text_event(s, turn, "response.output_text.delta", "delta", WORDS[i]);
    }
    stream_text_event(s, turn, "response.output_text.done", "text", SAID);
    stream_text_event(s, turn, "response.content_part.done", "part", SAID);
    text_addf(event_begin(s, "response.output_item.done"), "\"output_index\":0,\"item\":");
    add_message(&s->event, turn, 1);
    event_end(s);
}

static void stream_response(struct stream *s, const struct shape *shape, size_t turn,
                            const char *kind, int done)
{
    text_addf(event_begin(s, kind), "\"response\":");
    add_response(&s->event, shape, turn, done);
    event_end(s);
}

static void make_stream(struct text *out, const struct shape *shape, size_t turn)
{
    struct stream s = {.out = out};
    text_addf(out, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                   "transfer-encoding: chunked\r\n\r\n");
    stream_response(&s, shape, turn, "response.created", 0);
    stream_response(&s, shape, turn, "response.in_progress", 0);
    if (turn < shape->rounds) {
        stream_calls(&s, shape, turn);
    } else {
        stream_message(&s, turn);
    }
    stream_response(&s, shape, turn, "response.completed", 1);
    text_addf(out, "0\r\n\r\n");
    free(s.event.data);
}

void answer_make(struct text *out, const struct shape *shape, size_t turn, int stream)
{
    struct text body = {0};
    if (stream) {
        make_stream(out, shape, turn);
        return;
    }
    add_response(&body, shape, turn, 1);
    text_add_http(out, 200, &body);
    free(body.data);
}
