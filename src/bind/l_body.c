#include "base/base.h"

#include "bind/l_body.h"
#include "bind/l_json.h"
#include "bind/type.h"

#include "engine/runtime.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define BODY_TYPE "lash.http.body"

enum {
    LONG = 64 << 10, /* shorter ones are strings: making and freeing those costs no more */
    STEP = 64 << 10, /* the next body, a little longer, fits where the last one was */
};

/* -> bytes of the whole; the items are looked at, and changed, by nobody else meanwhile */
static size_t length(lua_State *L, lua_Integer n)
{
    size_t len = lua_rawlen(L, 1) + lua_rawlen(L, 3) + (size_t)(n > 0 ? n - 1 : 0);
    for (lua_Integer i = 1; i <= n; i++) {
        if (lua_rawgeti(L, 2, i) != LUA_TSTRING) {
            return 0; // l_json_join() says which one is no text
        }
        len += lua_rawlen(L, -1);
        lua_pop(L, 1);
    }
    return len;
}

static void add(lua_State *L, int index, struct buf *to)
{
    size_t len;
    const char *text = lua_tolstring(L, index, &len);
    memcpy(to->data + to->len, text, len);
    to->len += len;
}

int l_body_make(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TSTRING);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checktype(L, 3, LUA_TSTRING);
    lua_settop(L, 3);
    lua_Integer n = (lua_Integer)lua_rawlen(L, 2);
    size_t len = length(L, n);
    lua_settop(L, 3);
    // where memory is limited each byte counts, and only what is Lua's is counted
    if (len < LONG || runtime_of(L)->memory.limit != 0) {
        return l_json_join(L);
    }
    struct buf *body = lua_newuserdatauv(L, sizeof *body, 0);
    buf_init(body);
    luaL_setmetatable(L, BODY_TYPE);
    size_t cap = len / STEP * STEP + STEP;
    body->data = malloc(cap);
    if (body->data == NULL) {
        return luaL_error(L, "not enough memory");
    }
    body->cap = cap;
    add(L, 1, body);
    for (lua_Integer i = 1; i <= n; i++) {
        if (i > 1) {
            body->data[body->len++] = ',';
        }
        lua_rawgeti(L, 2, i);
        add(L, -1, body);
        lua_pop(L, 1);
    }
    add(L, 3, body);
    body->data[body->len] = '\0';
    return 1;
}

bool l_body_take(lua_State *L, int arg, struct buf *to)
{
    struct buf *body = luaL_testudata(L, arg, BODY_TYPE);
    if (body == NULL) {
        return false;
    }
    luaL_argcheck(L, body->data != NULL, arg, "this body was sent before: make another");
    buf_move(to, body);
    return true;
}

static int body_gc(lua_State *L)
{
    buf_release(luaL_checkudata(L, 1, BODY_TYPE));
    return 0;
}

static int body_tostring(lua_State *L)
{
    struct buf *body = luaL_checkudata(L, 1, BODY_TYPE);
    lua_pushlstring(L, body->data != NULL ? body->data : "", body->len);
    return 1;
}

void l_body_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"__gc", body_gc}, {"__tostring", body_tostring}, {NULL, NULL}};
    bind_type_push(L, BODY_TYPE, methods);
    lua_pop(L, 1);
}
