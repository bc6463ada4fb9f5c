/*
 * lash.core.http.open: a request whose body is given, and whose answer is read, in pieces. The
 * stream is one userdata, each wait for it another. lua/lash/http/stream.lua is its face.
 */
#include "base/base.h"

#include "bind/bind.h"
#include "bind/fail.h"
#include "bind/l_http.h"
#include "bind/type.h"
#include "engine/task.h"
#include "io/sse.h"
#include "io/timer.h"
#include "io/url.h"

#include <lauxlib.h>
#include <string.h>

#define STREAM_TYPE "lash.http.stream"
#define WAIT_TYPE "lash.http.stream.wait"

#define LEAVE_MS 500
#define HIGH_MARK ((size_t)64 << 10)
#define LINE_MAX_STANDARD ((lua_Integer)1 << 20)
#define EVENT_MAX_STANDARD ((lua_Integer)16 << 20)

/* User value 1 is the body, whose bytes the request borrows. */
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
    struct sse *sse; /* owned; made when the first event is asked for */
    uint64_t event_timeout_ms;
    uint64_t event_left_ns; /* of it, for the event that is waited for */
    struct timer *timer;    /* owned while an event is waited for */
    uint64_t timer_began_ns;
    uint64_t event_given_ns; /* when the last event was; 0 = none yet */
    const char *code;        /* NULL, or why nothing more is read: our own reasons */
    struct buf message;
    struct buf shown; /* the URL for messages */
    struct buf stray; /* of the events, once it is closed */
};

enum what { WANT_STEP, WANT_BYTES, WANT_LINE, WANT_EVENT };

/* User value 1 is the stream's userdata. */
struct wait {
    struct op op;
    struct stream *stream;
    enum what what;
    size_t n; /* bytes; 0 = as they come */
};

/* ---- from the loop ---- */

static void wake(struct stream *s)
{
    struct wait *wait = s->waiter;
    s->waiter = NULL;
    if (wait != NULL) {
        op_done(&wait->op);
    }
}

static void on_progress(struct http_request *req, void *arg)
{
    (void)req;
    wake(arg);
}

static void on_done(struct http_request *req, void *arg)
{
    struct stream *s = arg;
    (void)req;
    s->done = true;
    wake(s);
}

/* Ends the transfer for a reason of ours: everything that reads is told it from now on. */
static void give_up(struct stream *s, const char *code)
{
    if (s->code == NULL) {
        s->code = code;
    }
    if (s->req != NULL) {
        http_abort(s->req);
    }
    buf_release(&s->in);
    s->at = s->searched = 0;
    s->done = true;
}

/* No more bytes come, though the stream did not end: half an event is none, half a stray line is
 * worth showing. */
static void end_lines(struct stream *s)
{
    struct sse_event unfinished;
    if (s->sse != NULL) {
        (void)sse_end(s->sse, &unfinished);
    }
}

static void stall(struct stream *s)
{
    uint64_t comments = s->sse != NULL ? sse_comments(s->sse) : 0;
    if (s->code == NULL) {
        buf_appendf(&s->message,
                    "no event came from %s for %.3g s, though its connection is alive (%llu "
                    "keep-alive comments so far): try again, or raise event_timeout",
                    s->shown.data, (double)s->event_timeout_ms / 1000,
                    (unsigned long long)comments);
    }
    end_lines(s);
    give_up(s, "stalled");
}

static void on_event_timeout(void *arg)
{
    struct stream *s = arg;
    s->timer = NULL;
    stall(s);
    wake(s);
}

static void start_clock(struct stream *s, lua_State *L)
{
    if (s->event_timeout_ms > 0 && s->timer == NULL) {
        uv_loop_t *loop = runtime_loop(runtime_of(L));
        s->timer_began_ns = uv_hrtime();
        s->timer = timer_start_ns(loop, s->event_left_ns, on_event_timeout, s);
    }
}

/* Only waiting counts: a slow reader is not the server's fault. In nanoseconds, or a flood of
 * events that do not count would never be waited for. */
static void stop_clock(struct stream *s)
{
    if (s->timer != NULL) {
        uint64_t gone = uv_hrtime() - s->timer_began_ns;
        s->event_left_ns = gone < s->event_left_ns ? s->event_left_ns - gone : 1;
        timer_stop(s->timer);
        s->timer = NULL;
    }
}

static void stream_close(struct stream *s)
{
    list_remove(&s->held.node);
    stop_clock(s);
    if (s->code == NULL && s->req != NULL) {
        buf_appendf(&s->message, "the answer of %s was closed: nothing more can be read",
                    s->shown.data);
    }
    give_up(s, "cancelled");
    http_request_free(s->req);
    s->req = NULL;
    if (s->sse != NULL && s->stray.data == NULL) {
        size_t len;
        const char *stray = sse_stray(s->sse, &len);
        buf_append(&s->stray, stray, len);
    }
    sse_free(s->sse);
    s->sse = NULL;
    wake(s);
}

static void on_drop(struct held *held)
{
    stream_close(container_of(held, struct stream, held));
}

/* ---- what has come ---- */

/* Each returns how many results it pushed, or -1: more has to come first. */

/* Its failure, or `nil` for its end. */
static int push_end(lua_State *L, struct stream *s)
{
    if (s->code != NULL) {
        return bind_fail(L, s->code, s->message.data ? s->message.data : s->code);
    }
    struct http_result *res = http_result(s->req);
    if (res->code != NULL) {
        return bind_fail(L, res->code, res->message);
    }
    lua_pushnil(L);
    return 1;
}

static bool is_broken(const struct stream *s)
{
    return s->code != NULL || (s->done && http_result(s->req)->code != NULL);
}

static size_t waiting(const struct stream *s)
{
    return s->in.len - s->at;
}

/* Moves what came into s->in. Returns false when nothing new did. */
static bool take(struct stream *s)
{
    if (s->req == NULL || http_result(s->req)->body.len == 0 || !http_has_head(s->req)) {
        return false;
    }
    if (s->at == s->in.len) {
        buf_clear(&s->in);
        s->at = s->searched = 0;
    } else if (s->at > s->in.len / 2) { // rarely enough to stay linear
        s->in.len -= s->at;
        memmove(s->in.data, s->in.data + s->at, s->in.len + 1);
        s->searched = s->searched > s->at ? s->searched - s->at : 0;
        s->at = 0;
    }
    http_take(s->req, &s->in);
    return true;
}

static int push_bytes(lua_State *L, struct stream *s, size_t n)
{
    lua_pushlstring(L, s->in.data + s->at, n);
    s->at += n;
    return 1;
}

/* For the one who gives the body: "send", "rewind", or "head" when the answer is there and the body
 * is sent or of no use any more. */
static int step(lua_State *L, struct stream *s)
{
    if (http_restarts(s->req)) {
        lua_pushliteral(L, "rewind");
    } else if (http_wants(s->req)) {
        lua_pushliteral(L, "send");
    } else if (http_has_head(s->req) && (s->done || !http_sending(s->req))) {
        lua_pushliteral(L, "head"); // it may be broken behind that: who reads is told
    } else if (is_broken(s)) {
        return push_end(L, s);
    } else {
        return -1;
    }
    return 1;
}

static int read_bytes(lua_State *L, struct stream *s, size_t n)
{
    while (n == 0 ? waiting(s) == 0 : waiting(s) < n) {
        if (!take(s)) {
            break;
        }
    }
    bool all = s->done && !is_broken(s);
    if (n == 0 && waiting(s) > 0) {
        return push_bytes(L, s, waiting(s));
    }
    if (n > 0 && (waiting(s) >= n || (all && waiting(s) > 0))) {
        return push_bytes(L, s, waiting(s) < n ? waiting(s) : n);
    }
    return s->done ? push_end(L, s) : -1;
}

static int line_too_long(lua_State *L, struct stream *s)
{
    buf_appendf(&s->message, "%s sends a line of more than %zu bytes: raise max_line",
                s->shown.data, s->max_line);
    give_up(s, "too_large");
    return push_end(L, s);
}

static int read_line(lua_State *L, struct stream *s)
{
    const char *feed = NULL;
    do {
        size_t from = s->searched > s->at ? s->searched : s->at;
        feed = waiting(s) > 0 ? memchr(s->in.data + from, '\n', s->in.len - from) : NULL;
        s->searched = s->in.len;
    } while (feed == NULL && waiting(s) <= s->max_line + 1 && take(s));
    size_t len = feed != NULL ? (size_t)(feed - s->in.data) - s->at : waiting(s);
    const char *line = s->in.data != NULL ? s->in.data + s->at : "";
    size_t shown = feed != NULL && len > 0 && line[len - 1] == '\r' ? len - 1 : len;
    if (shown > s->max_line && (feed != NULL || shown > s->max_line + 1 || s->done)) {
        return line_too_long(L, s);
    }
    if (feed == NULL && (!s->done || is_broken(s) || len == 0)) {
        return s->done ? push_end(L, s) : -1;
    }
    lua_pushlstring(L, line, shown);
    s->at += len + (feed != NULL);
    s->searched = s->at;
    return 1;
}

static int push_event(lua_State *L, struct stream *s, const struct sse_event *event)
{
    if (s->event_timeout_ms > 0) {
        s->event_given_ns = uv_hrtime();
    }
    lua_createtable(L, 0, 4);
    lua_pushlstring(L, event->name, event->name_len);
    lua_setfield(L, -2, "event");
    lua_pushlstring(L, event->data, event->data_len);
    lua_setfield(L, -2, "data");
    if (event->id != NULL) {
        lua_pushlstring(L, event->id, event->id_len);
        lua_setfield(L, -2, "id");
    }
    if (event->retry_ms >= 0) {
        lua_pushnumber(L, (lua_Number)event->retry_ms / 1000);
        lua_setfield(L, -2, "retry");
    }
    return 1;
}

static int read_event(lua_State *L, struct stream *s)
{
    struct sse_event event;
    enum sse_what what = SSE_MORE;
    if (s->sse == NULL) {
        s->sse = sse_new(s->max_event);
    }
    while (what == SSE_MORE && (waiting(s) > 0 || take(s))) {
        size_t used;
        what = sse_feed(s->sse, s->in.data + s->at, waiting(s), &used, &event);
        s->at += used;
    }
    if (what == SSE_MORE && s->done) {
        if (is_broken(s)) {
            end_lines(s);
        } else {
            what = sse_end(s->sse, &event);
        }
    }
    if (what == SSE_TOO_LARGE) {
        buf_appendf(&s->message, "%s sends an event of more than %zu bytes: raise max_event",
                    s->shown.data, s->max_event);
        give_up(s, "too_large");
        return push_end(L, s);
    }
    return what == SSE_EVENT ? push_event(L, s, &event) : s->done ? push_end(L, s) : -1;
}

static int produce(lua_State *L, struct stream *s, enum what what, size_t n)
{
    luaL_checkstack(L, 12, NULL);
    if (s->code != NULL) {
        return push_end(L, s);
    }
    if (what == WANT_STEP) {
        return step(L, s);
    }
    if (what == WANT_LINE) {
        return read_line(L, s);
    }
    return what == WANT_EVENT ? read_event(L, s) : read_bytes(L, s, n);
}

/* ---- waiting ---- */

static void wait_cancel(struct op *op)
{
    struct wait *wait = (struct wait *)op;
    struct stream *s = wait->stream;
    if (s->waiter == wait) {
        s->waiter = NULL;
    }
    stream_close(s);
}

static int wait_gc(lua_State *L)
{
    struct wait *wait = luaL_checkudata(L, 1, WAIT_TYPE);
    if (wait->stream->waiter == wait) {
        wait->stream->waiter = NULL;
    }
    op_gone(&wait->op);
    return 0;
}

static int must_be_alone(lua_State *L)
{
    return luaL_error(L, "another task already waits for this answer: one task reads it");
}

/* The wait is on top of the stack. */
static int wait_on(lua_State *L, struct wait *wait)
{
    struct stream *s = wait->stream;
    if (s->waiter != NULL) {
        return must_be_alone(L);
    }
    s->waiter = wait;
    wait->op.done = false;
    if (wait->what == WANT_EVENT) {
        start_clock(s, L);
    }
    return task_wait(L, &wait->op);
}

static int wait_finish(lua_State *L, struct op *op)
{
    struct wait *wait = (struct wait *)op;
    lua_settop(L, op->index);
    int pushed = produce(L, wait->stream, wait->what, wait->n);
    if (pushed < 0) {
        return wait_on(L, wait);
    }
    stop_clock(wait->stream);
    return pushed;
}

static struct stream *check_stream(lua_State *L)
{
    struct stream *s = luaL_checkudata(L, 1, STREAM_TYPE);
    task_check(L);
    if (s->waiter != NULL) {
        must_be_alone(L);
    }
    return s;
}

static int get(lua_State *L, struct stream *s, enum what what, size_t n)
{
    int pushed = produce(L, s, what, n);
    if (pushed >= 0) {
        return pushed;
    }
    struct wait *wait = lua_newuserdatauv(L, sizeof *wait, 1);
    *wait = (struct wait){
        .op = {.cancel = wait_cancel, .finish = wait_finish}, .stream = s, .what = what, .n = n};
    luaL_setmetatable(L, WAIT_TYPE);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    return wait_on(L, wait);
}

/* ---- methods ---- */

/* stream:step() -> "send" | "rewind" | "head" | nil, err */
static int l_step(lua_State *L)
{
    return get(L, check_stream(L), WANT_STEP, 0);
}

/* stream:send(bytes | nil): the next piece of the body, or its end */
static int l_send(lua_State *L)
{
    struct stream *s = luaL_checkudata(L, 1, STREAM_TYPE);
    size_t len;
    const char *data = luaL_optlstring(L, 2, NULL, &len);
    if (s->req == NULL) {
        return 0;
    }
    if (data != NULL) {
        http_give(s->req, data, len);
    } else {
        http_give_end(s->req);
    }
    return 0;
}

/* stream:head() -> status, headers, seconds to the first byte, url */
static int l_head(lua_State *L)
{
    struct stream *s = luaL_checkudata(L, 1, STREAM_TYPE);
    if (s->req == NULL || !http_has_head(s->req)) {
        return 0;
    }
    struct http_result *res = http_result(s->req);
    lua_pushinteger(L, res->status);
    l_http_push_headers(L, s->req);
    lua_pushnumber(L, (lua_Number)res->first_byte_us * 1e-6);
    lua_pushstring(L, http_present_url(s->req));
    return 4;
}

/* stream:brief() -> status, head as of exchange() */
static int l_brief(lua_State *L)
{
    struct stream *s = luaL_checkudata(L, 1, STREAM_TYPE);
    if (s->req == NULL || !http_has_head(s->req)) {
        return 0;
    }
    lua_pushinteger(L, http_result(s->req)->status);
    l_http_push_head(L, s->req);
    return 2;
}

/* stream:over() -> version, seconds in all, bytes; nothing as long as it is not */
static int l_over(lua_State *L)
{
    struct stream *s = luaL_checkudata(L, 1, STREAM_TYPE);
    if (s->req == NULL || !s->done || http_result(s->req)->code != NULL) {
        return 0;
    }
    struct http_result *res = http_result(s->req);
    lua_pushstring(L, res->version);
    lua_pushnumber(L, (lua_Number)res->total_us * 1e-6);
    lua_pushinteger(L, (lua_Integer)res->received);
    return 3;
}

/* stream:read(n) -> n bytes, fewer at the end, then nil | nil, err; n = 0: what has come */
static int l_read(lua_State *L)
{
    lua_Integer n = luaL_optinteger(L, 2, 0);
    luaL_argcheck(L, n >= 0, 2, "expected a number of bytes");
    return get(L, check_stream(L), WANT_BYTES, (size_t)n);
}

/* stream:line() -> line | nil | nil, err */
static int l_line(lua_State *L)
{
    return get(L, check_stream(L), WANT_LINE, 0);
}

/* stream:event(anew) -> event | nil | nil, err; `anew`: event_timeout begins anew */
static int l_event(lua_State *L)
{
    struct stream *s = check_stream(L);
    if (lua_toboolean(L, 2) || s->event_left_ns == 0) {
        s->event_left_ns = s->event_timeout_ms * 1000000;
    } else if (s->event_given_ns != 0 && s->code == NULL) {
        // the one before was a mere sign of life: a flood of them leaves no time for waiting
        uint64_t gone = uv_hrtime() - s->event_given_ns;
        if (gone >= s->event_left_ns) {
            stall(s);
        } else {
            s->event_left_ns -= gone;
        }
    }
    return get(L, s, WANT_EVENT, 0);
}

/* stream:stray() -> the lines that event() passed over: see sse_stray() */
static int l_stray(lua_State *L)
{
    struct stream *s = luaL_checkudata(L, 1, STREAM_TYPE);
    size_t len = s->stray.len;
    const char *stray = s->stray.data != NULL ? s->stray.data : "";
    if (s->sse != NULL) {
        stray = sse_stray(s->sse, &len);
    }
    lua_pushlstring(L, stray, len);
    return 1;
}

/* stream:close(): at once, and any number of times */
static int l_close(lua_State *L)
{
    stream_close(luaL_checkudata(L, 1, STREAM_TYPE));
    return 0;
}

/* stream:leave(): as close, but the end of the answer is awaited in the background for a moment, so
 * that its connection can be used again */
static int l_leave(lua_State *L)
{
    struct stream *s = luaL_checkudata(L, 1, STREAM_TYPE);
    if (s->req != NULL && s->waiter == NULL) {
        stop_clock(s);
        http_leave(s->req, LEAVE_MS);
        s->req = NULL;
        s->done = true;
        s->code = "cancelled";
        buf_appendf(&s->message, "the answer of %s was left: nothing more can be read",
                    s->shown.data);
    }
    stream_close(s);
    return 0;
}

static int l_gc(lua_State *L)
{
    struct stream *s = luaL_checkudata(L, 1, STREAM_TYPE);
    stream_close(s);
    buf_release(&s->message);
    buf_release(&s->shown);
    buf_release(&s->stray);
    return 0;
}

/* ---- opening ---- */

static void read_upload(lua_State *L, int options, struct http_request *req)
{
    lua_getfield(L, options, "upload");
    lua_getfield(L, options, "replayable");
    if (lua_toboolean(L, -2)) {
        http_request_upload(req, on_progress, l_http_option_count(L, options, "length", -1),
                            lua_toboolean(L, -1));
    }
    lua_pop(L, 2);
}

/* open(method, url, headers, body | nil, options) -> stream | nil, err
 * options as of send, and upload (the body will be given), replayable, length (bytes; nil =
 * chunks), max_line, max_event (bytes), event_timeout (seconds) */
int l_http_open(lua_State *L)
{
    const char *method = bind_check_text(L, 1);
    const char *url = bind_check_text(L, 2);
    task_check(L);
    struct http *h = l_http_service(L);
    if (h == NULL) {
        return bind_fail(L, "no_libcurl", http_unavailable());
    }
    struct stream *s = lua_newuserdatauv(L, sizeof *s, 1);
    *s = (struct stream){.held = {.drop = on_drop}};
    list_init(&s->held.node);
    luaL_setmetatable(L, STREAM_TYPE);
    s->req = http_request_new(method, url);
    url_show(url, &s->shown);
    l_http_read_request(L, s->req);
    read_upload(L, 5, s->req);
    s->max_line = (size_t)l_http_option_count(L, 5, "max_line", LINE_MAX_STANDARD);
    s->max_event = (size_t)l_http_option_count(L, 5, "max_event", EVENT_MAX_STANDARD);
    s->event_timeout_ms = l_http_option_ms(L, 5, "event_timeout", 0);
    http_request_stream(s->req, on_progress, HIGH_MARK);
    if (http_start(h, s->req, on_done, s) != 0) {
        struct http_result *res = http_result(s->req);
        return bind_fail(L, res->code, res->message);
    }
    task_hold(runtime_of(L)->current, &s->held);
    return 1;
}

void l_http_open_streams(lua_State *L)
{
    static const luaL_Reg methods[] = {{"step", l_step},   {"send", l_send},   {"head", l_head},
                                       {"brief", l_brief}, {"over", l_over},   {"read", l_read},
                                       {"line", l_line},   {"event", l_event}, {"stray", l_stray},
                                       {"leave", l_leave}, {"close", l_close}, {"__close", l_close},
                                       {"__gc", l_gc},     {NULL, NULL}};
    bind_type_gc(L, WAIT_TYPE, wait_gc);
    bind_type_push(L, STREAM_TYPE, methods);
    lua_pop(L, 1);
}
