/*
 * lash.core.http: one request as one wait. lua/lash/http.lua is the face that users see.
 */
#include "base/base.h"

#include "bind/bind.h"
#include "bind/fail.h"
#include "bind/l_body.h"
#include "bind/l_http.h"
#include "bind/type.h"
#include "engine/task.h"
#include "io/http.h"

#include <lauxlib.h>

#define REQUEST_TYPE "lash.http.request"

/* User value 1 is the body, where that is a string: the request borrows its bytes. */
struct http_op {
    struct op op;
    struct http_request *req; /* owned */
    bool brief;               /* only what exchange() gives is wanted */
};

static const char service_key;

static void close_service(void *data)
{
    http_close(data, NULL, NULL);
}

struct http *l_http_service(lua_State *L)
{
    struct runtime *rt = runtime_of(L);
    struct http *h = runtime_service(rt, &service_key);
    int err;
    if (h == NULL && (h = http_new(runtime_loop(rt), &err)) != NULL) {
        runtime_set_service(rt, &service_key, h, close_service);
    }
    return h;
}

static void request_done(struct http_request *req, void *arg)
{
    struct http_op *http = arg;
    (void)req;
    op_done(&http->op);
}

static void request_cancel(struct op *op)
{
    struct http_op *http = (struct http_op *)op;
    if (http->req != NULL) { /* a script can call __gc */
        http_abort(http->req);
    }
}

static int request_gc(lua_State *L)
{
    struct http_op *http = luaL_checkudata(L, 1, REQUEST_TYPE);
    http_request_free(http->req);
    http->req = NULL;
    op_gone(&http->op);
    return 0;
}

static int push_answer(lua_State *L, struct http_request *req, bool brief)
{
    struct http_result *res = http_result(req);
    if (res->code != NULL) {
        return bind_fail(L, res->code, res->message);
    }
    lua_pushinteger(L, res->status);
    lua_pushlstring(L, res->body.data ? res->body.data : "", res->body.len);
    if (brief) {
        l_http_push_head(L, req);
        return 3;
    }
    l_http_push_headers(L, req);
    lua_pushstring(L, res->url);
    lua_pushstring(L, res->version);
    lua_pushnumber(L, (lua_Number)res->first_byte_us * 1e-6);
    lua_pushnumber(L, (lua_Number)res->total_us * 1e-6);
    return 7;
}

static int request_finish(lua_State *L, struct op *op)
{
    struct http_op *http = (struct http_op *)op;
    if (http->req == NULL) {
        return luaL_error(L, "the request was released");
    }
    luaL_checkstack(L, 12, NULL);
    int pushed = push_answer(L, http->req, http->brief);
    // not left to the collector: it does not see how much memory this is
    http_request_free(http->req);
    http->req = NULL;
    lua_pushnil(L);
    lua_setiuservalue(L, op->index, 1);
    return pushed;
}

uint64_t l_http_option_ms(lua_State *L, int arg, const char *name, uint64_t standard)
{
    uint64_t ms = standard;
    if (lua_getfield(L, arg, name) != LUA_TNIL) {
        lua_Number seconds = luaL_checknumber(L, -1);
        luaL_argcheck(L, seconds >= 0 && seconds <= 1e6, arg, "a time is out of range");
        ms = (uint64_t)(seconds * 1000 + 0.999);
    }
    lua_pop(L, 1);
    return ms;
}

lua_Integer l_http_option_count(lua_State *L, int arg, const char *name, lua_Integer standard)
{
    lua_Integer n = standard;
    if (lua_getfield(L, arg, name) != LUA_TNIL) {
        n = luaL_checkinteger(L, -1);
        luaL_argcheck(L, n >= 0, arg, "a limit is negative");
    }
    lua_pop(L, 1);
    return n;
}

static void read_limits(lua_State *L, int arg, struct http_request *req)
{
    http_request_connect_timeout(req, l_http_option_ms(L, arg, "connect_timeout", 10 * 1000));
    http_request_timeout(req, l_http_option_ms(L, arg, "timeout", 0));
    http_request_idle_timeout(req, l_http_option_ms(L, arg, "idle_timeout", 300 * 1000));
    http_request_max_body(req,
                          (size_t)l_http_option_count(L, arg, "max_body", (lua_Integer)64 << 20));
    http_request_max_redirects(req, (unsigned)l_http_option_count(L, arg, "redirects", 10));
}

static void read_way(lua_State *L, int arg, struct http_request *req)
{
    if (lua_getfield(L, arg, "proxy") != LUA_TNIL) {
        http_request_proxy(req, luaL_checkstring(L, -1));
    }
    if (lua_getfield(L, arg, "ca_file") != LUA_TNIL) {
        http_request_ca_file(req, luaL_checkstring(L, -1));
    }
    lua_getfield(L, arg, "version_2");
    if (lua_toboolean(L, -1)) {
        http_request_version_2(req);
    }
    lua_pop(L, 3);
}

void l_http_read_request(lua_State *L, struct http_request *req)
{
    size_t len = 0;
    struct buf own = {0};
    bool is_own = lua_type(L, 4) == LUA_TUSERDATA;
    const char *body = is_own ? NULL : luaL_optlstring(L, 4, NULL, &len);
    luaL_checktype(L, 5, LUA_TTABLE);
    read_limits(L, 5, req);
    read_way(L, 5, req);
    l_http_read_headers(L, 3, req);
    if (lua_getfield(L, 5, "content_type") != LUA_TNIL && !http_request_has(req, "Content-Type")) {
        (void)http_request_header(req, "Content-Type", luaL_checkstring(L, -1));
    }
    lua_pop(L, 1);
    if (is_own) {
        luaL_argexpected(L, l_body_take(L, 4, &own), 4, "string");
        http_request_own_body(req, &own);
    } else if (body != NULL) {
        lua_pushvalue(L, 4);
        lua_setiuservalue(L, -2, 1);
        http_request_body(req, body, len);
    }
}

/* Pushes the userdata. */
static struct http_op *new_request(lua_State *L, const char *method, const char *url)
{
    struct http_op *http = lua_newuserdatauv(L, sizeof(*http), 1);
    *http = (struct http_op){.op = {.cancel = request_cancel, .finish = request_finish}};
    luaL_setmetatable(L, REQUEST_TYPE);
    http->req = http_request_new(method, url);
    return http;
}

static int start(lua_State *L, bool brief)
{
    const char *method = bind_check_text(L, 1);
    const char *url = bind_check_text(L, 2);
    task_check(L);
    struct http *h = l_http_service(L);
    if (h == NULL) {
        return bind_fail(L, "no_libcurl", http_unavailable());
    }
    struct http_op *http = new_request(L, method, url);
    http->brief = brief;
    l_http_read_request(L, http->req);
    if (http_start(h, http->req, request_done, http) != 0) {
        struct http_result *res = http_result(http->req);
        return bind_fail(L, res->code, res->message);
    }
    return task_wait(L, &http->op);
}

/* lines(headers) -> what the functions below take in place of these headers as often as they like,
 * read and checked once | nil, err */
static int l_lines(lua_State *L)
{
    lua_settop(L, 1);
    struct http_op *http = new_request(L, "", "");
    l_http_read_headers(L, 1, http->req);
    struct http_result *res = http_result(http->req);
    if (res->code != NULL) {
        return bind_fail(L, res->code, res->message);
    }
    size_t len;
    const char *lines = http_request_lines(http->req, &len);
    lua_pushlstring(L, lines, len);
    return 1;
}

/* send(method, url, headers, body | nil, options)
 * body: a string, or what body() of lash.core.json gave, once;
 * headers: { name = value or list } that is plain, see l_http_headers.c, { name, value, ... }, what
 * lines() gave, or nil; options: connect_timeout, timeout, idle_timeout (seconds, 0 = none),
 * max_body (bytes), redirects, proxy, ca_file, version_2, content_type (unless the headers have
 * one).
 * -> status, body, headers, url, version, seconds to the first byte, seconds in all | nil, err */
static int l_send(lua_State *L)
{
    return start(L, false);
}

/* exchange(method, url, headers, body | nil, options): as send
 * -> status, body, head | nil, err; the head is for header() and headers() */
static int l_exchange(lua_State *L)
{
    return start(L, true);
}

/* limit_hosts(n): at most n requests of this runtime to one host at once; 0 = no limit
 * -> true | nil, err */
static int l_limit_hosts(lua_State *L)
{
    lua_Integer n = luaL_checkinteger(L, 1);
    luaL_argcheck(L, n >= 0 && n <= 1000000, 1, "expected a number of requests");
    task_check(L);
    struct http *h = l_http_service(L);
    if (h == NULL) {
        return bind_fail(L, "no_libcurl", http_unavailable());
    }
    http_limit_hosts(h, (unsigned)n);
    lua_pushboolean(L, 1);
    return 1;
}

/* library() -> { version =, tls =, ca_file = } of libcurl | nil, err */
static int l_library(lua_State *L)
{
    struct http_library library;
    if (!http_library(&library)) {
        return bind_fail(L, "no_libcurl", http_unavailable());
    }
    lua_newtable(L);
    lua_pushstring(L, library.version);
    lua_setfield(L, -2, "version");
    lua_pushstring(L, library.tls);
    lua_setfield(L, -2, "tls");
    lua_pushstring(L, library.ca_file);
    lua_setfield(L, -2, "ca_file");
    return 1;
}

int luaopen_lash_core_http(lua_State *L)
{
    static const luaL_Reg functions[] = {{"send", l_send},
                                         {"exchange", l_exchange},
                                         {"open", l_http_open},
                                         {"file", l_http_file},
                                         {"lines", l_lines},
                                         {"plain_headers", l_http_plain_headers},
                                         {"header", l_http_header},
                                         {"headers", l_http_headers},
                                         {"limit_hosts", l_limit_hosts},
                                         {"library", l_library},
                                         {NULL, NULL}};
    l_http_open_streams(L);
    l_http_open_files(L);
    bind_type_gc(L, REQUEST_TYPE, request_gc);
    luaL_newlib(L, functions);
    return 1;
}
