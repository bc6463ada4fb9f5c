/*
 * A streamed answer as l_http_stream.c (the transfer, bytes, lines, waiting) and l_http_events.c
 * (its events) share it. For the state's thread.
 */
#ifndef LASH_L_HTTP_STREAM_H
#define LASH_L_HTTP_STREAM_H

#include "base/buf.h"
#include "engine/task.h"
#include "io/http.h"
#include "io/json_pick.h"
#include "io/sse.h"

#include <lauxlib.h>

#define STREAM_TYPE "lash.http.stream"

/* User values: 1 is the body, whose bytes the request borrows, 2 the picker. */
struct stream {
    struct held held;         /* by the task that opened it */
    struct http_request *req; /* owned; NULL when closed */
    struct wait *waiter;      /* borrowed: the one wait for it */
    bool done;                /* the request is */
    struct buf in;            /* taken from the request */
    size_t at;                /* what was consumed of it */
    size_t searched;          /* no line feed before this */
    size_t max_line;
    size_t max_event;
    struct sse *sse;        /* owned; made when the first event is asked for */
    struct sse_event event; /* the last one that was found; borrows from `sse` and `in` */
    bool found;             /* it was not given yet */
    bool given;             /* nothing was asked for since it was */
    bool event_too_large;
    const struct json_shape *shape; /* NULL, or what is picked out of events */
    struct picks *before;           /* owned; NULL, or what plain() picked last */
    bool quiet;                     /* echoes are kept back: see l_http_events.c */
    struct buf kept;                /* these */
    size_t kept_at;                 /* what was given of them */
    uint64_t event_timeout_ms;
    uint64_t event_left_ns; /* of it, for the event that is waited for */
    uv_loop_t *loop;
    struct timer *timer; /* owned while an event is waited for */
    uint64_t timer_began_ns;
    uint64_t event_given_ns; /* when the last event was; 0 = none yet */
    const char *code;        /* NULL, or why nothing more is read: our own reasons */
    bool left;               /* the reason is stream:leave() */
    struct buf message;      /* empty: made when somebody asks */
    struct buf url;
    struct buf shown; /* the same for messages, made likewise */
    struct buf stray; /* of the events, once it is closed */
};

enum what { WANT_STEP, WANT_BYTES, WANT_LINE, WANT_EVENT, WANT_TEXT, WANT_PLAIN, WANT_BEGIN };

/* ---- l_http_stream.c ---- */

/* Moves what came into s->in. Returns false when nothing new did. */
bool l_stream_take(struct stream *s);

static inline size_t l_stream_waiting(const struct stream *s)
{
    return s->in.len - s->at;
}

bool l_stream_is_broken(const struct stream *s);

/* Its URL for messages. */
const char *l_stream_shown(struct stream *s);

/* Pushes its failure, or `nil` for its end; returns how many results that are. */
int l_stream_push_end(lua_State *L, struct stream *s);

/* Ends the transfer for a reason of ours: everything that reads is told it from now on. */
void l_stream_give_up(struct stream *s, const char *code);

/* Its waiter looks what there is. */
void l_stream_wake(struct stream *s);

/* The stream that is argument 1, which nobody waits for. A cancelled task raises. */
struct stream *l_stream_check(lua_State *L);

/* The same of a stream that is at hand. */
void l_stream_check_free(lua_State *L, const struct stream *s);

/* Results, or the wait for them. */
int l_stream_get(lua_State *L, struct stream *s, enum what what, size_t n);

/* ---- l_http_events.c ---- */

/* Looks through what came. Returns whether there is something to give: an event, the end, a
 * failure. Calls no Lua. */
bool l_stream_find_event(struct stream *s);

/* Pushes what was found, as `event` or `next` return it. */
int l_stream_push_event(lua_State *L, struct stream *s, enum what what);

/* Whether the head is there, and with it what begin() waits for; or nothing more comes. Calls no
 * Lua.
 */
bool l_stream_has_begun(struct stream *s);

/* Pushes what begin() returns, or gives -1: more has to come first. */
int l_stream_push_begin(lua_State *L, struct stream *s);

/* Only waiting for an event counts against its limit: a slow reader is not the server's fault. */
void l_stream_start_clock(struct stream *s);
void l_stream_stop_clock(struct stream *s);

/* The transfer is over, and its memory goes, but for what was kept back. */
void l_stream_close_events(struct stream *s);

extern const luaL_Reg l_stream_event_methods[];

#endif
