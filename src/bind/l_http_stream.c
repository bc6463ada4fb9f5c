/*
 * lash.core.http.open: a request whose body is given, and whose answer is read, in pieces. The
 * stream is one userdata, each wait for it another. lua/lash/http/stream.lua is its face.
 */
#include "base/base.h"

#include "bind/bind.h"
#include "bind/fail.h"
#include "bind/l_http.h"
#include "bind/l_http_stream.h"
#include "bind/type.h"
#include "io/url.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_TYPE "lash.http.stream.wait"

#define LEAVE_MS 500
#define HIGH_MARK ((size_t)64 << 10)
#define LINE_MAX_STANDARD ((lua_Integer)1 << 20)
#define EVENT_MAX_STANDARD ((lua_Integer)16 << 20)

/* User value 1 is the stream's userdata. */
struct wait {
    struct op op;
    struct stream *stream;
    enum what what;
    size_t n; /* bytes; 0 = as they come */
};

/* ---- from the loop ---- */

void l_stream_wake(struct stream *s)
{
    struct wait *wait = s->waiter;
    s->waiter = NULL;
    if (wait != NULL) {
        op_done(&wait->op);
    }
}

static bool wants_event(const struct wait *wait)
{
    return wait != NULL &&
           (wait->what == WANT_EVENT || wait->what == WANT_TEXT || wait->what == WANT_PLAIN);
}

static void on_progress(struct http_request *req, void *arg)
{
    struct stream *s = arg;
    (void)req;
    bool begins = s->waiter != NULL && s->waiter->what == WANT_BEGIN;
    // half an event, a comment, an echo: nothing that its task would have to see
    if (begins ? l_stream_has_begun(s) : !wants_event(s->waiter) || l_stream_find_event(s)) {
        l_stream_wake(s);
    } else if (begins && http_has_head(req)) {
        l_stream_start_clock(s);
    }
}

static void on_done(struct http_request *req, void *arg)
{
    struct stream *s = arg;
    (void)req;
    s->done = true;
    l_stream_wake(s);
}

void l_stream_give_up(struct stream *s, const char *code)
{
    if (s->code == NULL) {
        s->code = code;
    }
    if (s->req != NULL) {
        http_abort(s->req);
    }
    buf_release(&s->in);
    s->at = s->searched = 0;
    s->found = s->given = false;
    s->done = true;
}

static void stream_close(struct stream *s)
{
    list_remove(&s->held.node);
    l_stream_give_up(s, "cancelled");
    http_request_free(s->req);
    s->req = NULL;
    l_stream_close_events(s);
    l_stream_wake(s);
}

static void on_drop(struct held *held)
{
    stream_close(container_of(held, struct stream, held));
}

/* ---- what has come ---- */

/* Each returns how many results it pushed, or -1: more has to come first. */

const char *l_stream_shown(struct stream *s)
{
    if (s->shown.len == 0 && s->url.len > 0) {
        url_show(s->url.data, &s->shown);
    }
    return s->shown.data != NULL ? s->shown.data : "";
}

int l_stream_push_end(lua_State *L, struct stream *s)
{
    if (s->code != NULL) {
        if (s->url.len == 0) { // nothing may be made any more
            return bind_fail(L, s->code, "the answer was closed: nothing more can be read");
        }
        if (s->message.len == 0) {
            buf_appendf(&s->message, "the answer of %s was %s: nothing more can be read",
                        l_stream_shown(s), s->left ? "left" : "closed");
        }
        return bind_fail(L, s->code, s->message.data);
    }
    struct http_result *res = http_result(s->req);
    if (res->code != NULL) {
        return bind_fail(L, res->code, res->message);
    }
    lua_pushnil(L);
    return 1;
}

bool l_stream_is_broken(const struct stream *s)
{
    return s->code != NULL || (s->done && http_result(s->req)->code != NULL);
}

bool l_stream_take(struct stream *s)
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
    } else if (l_stream_is_broken(s)) {
        return l_stream_push_end(L, s);
    } else {
        return -1;
    }
    return 1;
}

static int read_bytes(lua_State *L, struct stream *s, size_t n)
{
    while (n == 0 ? l_stream_waiting(s) == 0 : l_stream_waiting(s) < n) {
        if (!l_stream_take(s)) {
            break;
        }
    }
    bool all = s->done && !l_stream_is_broken(s);
    if (n == 0 && l_stream_waiting(s) > 0) {
        return push_bytes(L, s, l_stream_waiting(s));
    }
    if (n > 0 && (l_stream_waiting(s) >= n || (all && l_stream_waiting(s) > 0))) {
        return push_bytes(L, s, l_stream_waiting(s) < n ? l_stream_waiting(s) : n);
    }
    return s->done ? l_stream_push_end(L, s) : -1;
}

static int line_too_long(lua_State *L, struct stream *s)
{
    buf_appendf(&s->message, "%s sends a line of more than %zu bytes: raise max_line",
                l_stream_shown(s), s->max_line);
    l_stream_give_up(s, "too_large");
    return l_stream_push_end(L, s);
}

static int read_line(lua_State *L, struct stream *s)
{
    const char *feed = NULL;
    do {
        size_t from = s->searched > s->at ? s->searched : s->at;
        feed = l_stream_waiting(s) > 0 ? memchr(s->in.data + from, '\n', s->in.len - from) : NULL;
        s->searched = s->in.len;
    } while (feed == NULL && l_stream_waiting(s) <= s->max_line + 1 && l_stream_take(s));
    size_t len = feed != NULL ? (size_t)(feed - s->in.data) - s->at : l_stream_waiting(s);
    const char *line = s->in.data != NULL ? s->in.data + s->at : "";
    size_t shown = feed != NULL && len > 0 && line[len - 1] == '\r' ? len - 1 : len;
    if (shown > s->max_line && (feed != NULL || shown > s->max_line + 1 || s->done)) {
        return line_too_long(L, s);
    }
    if (feed == NULL && (!s->done || l_stream_is_broken(s) || len == 0)) {
        return s->done ? l_stream_push_end(L, s) : -1;
    }
    lua_pushlstring(L, line, shown);
    s->at += len + (feed != NULL);
    s->searched = s->at;
    return 1;
}

static int produce(lua_State *L, struct stream *s, enum what what, size_t n)
{
    luaL_checkstack(L, 12, NULL);
    s->given = false; // its bytes may go
    if (what == WANT_BEGIN) {
        return l_stream_push_begin(L, s);
    }
    if (s->code != NULL) {
        return what == WANT_PLAIN ? 0 : l_stream_push_end(L, s);
    }
    if (what == WANT_STEP) {
        return step(L, s);
    }
    if (what == WANT_LINE) {
        return read_line(L, s);
    }
    if (what == WANT_BYTES) {
        return read_bytes(L, s, n);
    }
    return l_stream_find_event(s) ? l_stream_push_event(L, s, what) : -1;
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
    if (wants_event(wait) ||
        (wait->what == WANT_BEGIN && s->req != NULL && http_has_head(s->req))) {
        l_stream_start_clock(s);
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
    l_stream_stop_clock(wait->stream);
    return pushed;
}

void l_stream_check_free(lua_State *L, const struct stream *s)
{
    task_check(L);
    if (s->waiter != NULL) {
        must_be_alone(L);
    }
}

struct stream *l_stream_check(lua_State *L)
{
    struct stream *s = luaL_checkudata(L, 1, STREAM_TYPE);
    l_stream_check_free(L, s);
    return s;
}

int l_stream_get(lua_State *L, struct stream *s, enum what what, size_t n)
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
    return l_stream_get(L, l_stream_check(L), WANT_STEP, 0);
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
    return l_stream_get(L, l_stream_check(L), WANT_BYTES, (size_t)n);
}

/* stream:line() -> line | nil | nil, err */
static int l_line(lua_State *L)
{
    return l_stream_get(L, l_stream_check(L), WANT_LINE, 0);
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
        l_stream_stop_clock(s);
        http_leave(s->req, LEAVE_MS);
        s->req = NULL;
        s->done = true;
        s->code = "cancelled";
        s->left = true;
    }
    buf_release(&s->kept);
    s->kept_at = 0;
    stream_close(s);
    return 0;
}

static int l_gc(lua_State *L)
{
    struct stream *s = luaL_checkudata(L, 1, STREAM_TYPE);
    stream_close(s);
    buf_release(&s->message);
    buf_release(&s->url);
    buf_release(&s->shown);
    buf_release(&s->stray);
    buf_release(&s->kept);
    free(s->before);
    s->before = NULL;
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
    struct stream *s = lua_newuserdatauv(L, sizeof *s, 2);
    *s = (struct stream){.held = {.drop = on_drop}};
    list_init(&s->held.node);
    luaL_setmetatable(L, STREAM_TYPE);
    s->req = http_request_new(method, url);
    s->loop = runtime_loop(runtime_of(L));
    buf_append_str(&s->url, url);
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
                                       {"over", l_over},   {"read", l_read},   {"line", l_line},
                                       {"leave", l_leave}, {"close", l_close}, {"__close", l_close},
                                       {"__gc", l_gc},     {NULL, NULL}};
    bind_type_gc(L, WAIT_TYPE, wait_gc);
    bind_type_push(L, STREAM_TYPE, methods);
    luaL_setfuncs(L, l_stream_event_methods, 0);
    lua_pop(L, 1);
}
