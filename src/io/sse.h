/*
 * Server-sent events (text/event-stream) out of bytes that come in any pieces. No loop, no Lua; any
 * thread, one at a time.
 *
 *     struct sse *sse = sse_new(max);
 *     while (len > 0) {
 *         size_t used;
 *         enum sse_what what = sse_feed(sse, data, len, &used, &event);
 *         data += used, len -= used;
 *         if (what == SSE_EVENT) ...          its texts live until the next call
 *     }
 *
 * It is pulled: after each event the caller may stop and keep the rest of the bytes, so what waits
 * for a slow consumer is bytes and not events. However the bytes are split, the events are the
 * same.
 */
#ifndef LASH_SSE_H
#define LASH_SSE_H

#include "base/base.h"

struct sse;

enum sse_what {
    SSE_MORE,      /* all bytes are used, no event is complete */
    SSE_EVENT,     /* one is: *event */
    SSE_TOO_LARGE, /* it would pass the limit; from now on every call says so */
};

/* Texts may hold any bytes, NUL too. Behind each is a NUL or a line end, which is no part of it.
 * Borrowed until the next call, and no longer than the bytes that were given live. */
struct sse_event {
    const char *name; /* "message" when the server gave none */
    size_t name_len;
    const char *data; /* the data lines, joined by line feeds */
    size_t data_len;
    const char *id; /* the last id of the stream, NULL as long as there was none */
    size_t id_len;
    int64_t retry_ms; /* asked for since the event before; -1 = nothing */
};

/* A parser of which no event, with its name and id, may pass `max` bytes. */
struct sse *sse_new(size_t max);
void sse_free(struct sse *s); /* NULL is ignored */

/* Parses up to the end of the next event, or all. *used <= len; never 0 while len > 0, but for
 * SSE_TOO_LARGE. */
enum sse_what sse_feed(struct sse *s, const char *data, size_t len, size_t *used,
                       struct sse_event *event);

/* The stream has ended: gives what would be an event if a blank line followed, as servers forget
 * it. Call it until it says SSE_MORE. A line without its line end counts too. */
enum sse_what sse_end(struct sse *s, struct sse_event *event);

/* The lines so far that the standard has no field for, which servers write where an error meets
 * them in mid-stream (a bare JSON object, a page of HTML), joined by line feeds: of all of them the
 * first SSE_STRAY_MAX bytes. A line without its line end belongs to it after sse_end(). Never NULL;
 * borrowed until the next call. Blank lines are none of them. */
#define SSE_STRAY_MAX ((size_t)16 << 10)
const char *sse_stray(const struct sse *s, size_t *len);

/* How many lines were comments so far: a server's way to keep a connection alive. */
uint64_t sse_comments(const struct sse *s);

#endif
