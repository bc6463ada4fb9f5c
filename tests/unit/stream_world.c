#include "base/base.h"

#include "stream_world.h"

#include "base/buf.h"
#include "bind/bind.h"
#include "io/sse.h"

#include <glob.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* User value of the parser's userdata: freed also when an error is raised. */
struct parse {
    struct sse *sse;
    char *piece; /* a copy of its own: reading past it is seen by the sanitizers */
};

static int parse_gc(lua_State *L)
{
    struct parse *p = luaL_checkudata(L, 1, "test.sse");
    sse_free(p->sse);
    free(p->piece);
    *p = (struct parse){0};
    return 0;
}

static void push_field(lua_State *L, const char *name, const char *value, size_t len)
{
    lua_pushlstring(L, value, len);
    lua_setfield(L, -2, name);
}

/* Appends the event to the list below. */
static void push_event(lua_State *L, int list, const struct sse_event *event)
{
    lua_createtable(L, 0, 3);
    push_field(L, "event", event->name, event->name_len);
    push_field(L, "data", event->data, event->data_len);
    if (event->id != NULL) {
        push_field(L, "id", event->id, event->id_len);
    }
    lua_rawseti(L, list, luaL_len(L, list) + 1);
}

static enum sse_what feed(lua_State *L, struct parse *p, int list, const char *data, size_t len)
{
    enum sse_what what = SSE_MORE;
    size_t at = 0;
    p->piece = xmemdup(data, len);
    while (at < len && what != SSE_TOO_LARGE) {
        struct sse_event event;
        size_t used;
        what = sse_feed(p->sse, p->piece + at, len - at, &used, &event);
        if (what != SSE_TOO_LARGE && (used == 0 || used > len - at)) {
            luaL_error(L, "sse_feed used %d of %d bytes", (int)used, (int)(len - at));
        }
        at += used;
        if (what == SSE_EVENT) {
            push_event(L, list, &event);
        }
    }
    free(p->piece);
    p->piece = NULL;
    return what;
}

/* The length of the next piece at `at`: `pieces` is a number of bytes, or a list of them. */
static size_t next_piece(lua_State *L, lua_Integer n, size_t left)
{
    lua_Integer size = lua_tointeger(L, 2);
    if (lua_istable(L, 2)) {
        size = lua_rawgeti(L, 2, n) == LUA_TNUMBER ? lua_tointeger(L, -1) : (lua_Integer)left;
        lua_pop(L, 1);
    }
    return size > 0 && (size_t)size < left ? (size_t)size : left;
}

/* parse(text [, pieces [, max]]) -> list of events, stray, whether one was too large */
static int l_parse(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    size_t max = (size_t)luaL_optinteger(L, 3, 64 << 20);
    lua_settop(L, 2);
    struct parse *p = lua_newuserdatauv(L, sizeof *p, 0);
    *p = (struct parse){0};
    luaL_setmetatable(L, "test.sse");
    p->sse = sse_new(max);
    lua_newtable(L); // -- text pieces parser list
    enum sse_what what = SSE_MORE;
    size_t at = 0;
    for (lua_Integer n = 1; at < len && what != SSE_TOO_LARGE; n++) {
        size_t size = next_piece(L, n, len - at);
        what = feed(L, p, 4, text + at, size);
        at += size;
    }
    struct sse_event event;
    while (what != SSE_TOO_LARGE && (what = sse_end(p->sse, &event)) == SSE_EVENT) {
        push_event(L, 4, &event);
    }
    const char *stray = sse_stray(p->sse, &len);
    lua_pushlstring(L, stray, len);
    lua_pushboolean(L, what == SSE_TOO_LARGE);
    return 3;
}

static void show(struct buf *out, const struct sse_event *event)
{
    buf_appendf(out, "%zu %zu %zu ", event->name_len, event->data_len, event->id_len);
    buf_append(out, event->name, event->name_len);
    buf_append(out, event->data, event->data_len);
}

/* All that a text split at `at` gives, as bytes. */
static void show_all(struct buf *out, const char *text, size_t len, size_t at)
{
    struct sse *s = sse_new(len + 100);
    struct sse_event event;
    buf_clear(out);
    for (size_t done = 0, used; done < len; done += used) {
        if (sse_feed(s, text + done, (done < at ? at : len) - done, &used, &event) == SSE_EVENT) {
            show(out, &event);
        }
    }
    while (sse_end(s, &event) == SSE_EVENT) {
        show(out, &event);
    }
    const char *stray = sse_stray(s, &len);
    buf_append(out, stray, len);
    sse_free(s);
}

/* unequal(text) -> the first offset at which it can be split to give other events; nil: nowhere */
static int l_unequal(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    struct buf want = {0}, got = {0};
    size_t at = 1;
    show_all(&want, text, len, len);
    do {
        show_all(&got, text, len, at);
    } while (got.len == want.len && memcmp(got.data, want.data, want.len) == 0 && ++at < len);
    buf_release(&want);
    buf_release(&got);
    if (at < len) {
        lua_pushinteger(L, (lua_Integer)at);
        return 1;
    }
    return 0;
}

/* files(pattern) -> list of paths, sorted */
static int l_files(lua_State *L)
{
    glob_t found;
    const char *pattern = luaL_checkstring(L, 1);
    lua_newtable(L);
    if (glob(pattern, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) {
            lua_pushstring(L, found.gl_pathv[i]);
            lua_rawseti(L, -2, (lua_Integer)i + 1);
        }
        globfree(&found);
    }
    return 1;
}

static int open_sse(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"parse", l_parse}, {"files", l_files}, {"unequal", l_unequal}, {NULL, NULL}};
    luaL_newmetatable(L, "test.sse");
    lua_pushcfunction(L, parse_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, functions);
    return 1;
}

static int with_traceback(lua_State *L)
{
    luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
    return 1;
}

/* (name) -> the module tests/fuzz/NAME.lua */
static int open_world(lua_State *L)
{
    const char *tests = getenv("LASH_TESTS");
    luaL_requiref(L, "sse", open_sse, 0);
    lua_getglobal(L, "package");
    lua_pushfstring(L, "%s/fuzz/?.lua", tests != NULL ? tests : "tests");
    lua_setfield(L, -2, "path");
    lua_getglobal(L, "require");
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

void stream_world_open(struct runtime *rt, const char *name)
{
    if (runtime_init(rt, true) != 0 || bind_open(rt) != 0) {
        fputs("stream_world: no memory\n", stderr);
        exit(1);
    }
    lua_pushcfunction(rt->L, with_traceback);
    lua_pushcfunction(rt->L, open_world);
    lua_pushstring(rt->L, name);
    if (lua_pcall(rt->L, 1, 1, 1) != LUA_OK) {
        fprintf(stderr, "stream_world: %s\n", lua_tostring(rt->L, -1));
        exit(1);
    }
    lua_remove(rt->L, 1);
}

bool stream_world_call(struct runtime *rt, const char *function, int nargs, int nres)
{
    lua_State *L = rt->L;
    int at = lua_gettop(L) - nargs + 1;
    lua_pushcfunction(L, with_traceback);
    lua_insert(L, at);
    lua_getfield(L, 1, function);
    lua_insert(L, at + 1);
    int code = lua_pcall(L, nargs, nres, at);
    lua_remove(L, at);
    return code == LUA_OK;
}
