/*
 * pcall and xpcall of every state. They are Lua's own, but for two things: they tell when a
 * cancelled task runs the `<close>` handlers of what an error has left (it may wait there for a
 * while), and no handler of xpcall is called for an interrupt.
 */
#include "base/base.h"

#include "engine/task.h"
#include "engine/task_int.h"
#include "io/json.h"

#include <lauxlib.h>

/* Between the message handler of an error and the return of the pcall that catches it only closers
 * run. */
void task_unwinds(struct task *t)
{
    if (t != NULL && t->cancel != CANCEL_NONE) {
        t->unwinding = true;
    }
}

int task_on_error(lua_State *L)
{
    task_unwinds(runtime_of(L)->current);
    return 1;
}

/* Lua calls a handler inside the hook that raised, where no hook can stop it any more if it spins.
 */
static int call_handler(lua_State *L)
{
    struct runtime *rt = runtime_of(L);
    task_unwinds(rt->current);
    bool hooked = rt->interrupted || (rt->interrupt != NULL && lua_gethook(L) == rt->interrupt);
    if (hooked && cancel_reason_of(L, 1) != CANCEL_NONE) {
        lua_settop(L, 1);
        return 1;
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

/* `caller_unwinds`: whether the code that called pcall is a closer of a cancelled task itself. */
static int protected_return(lua_State *L, int status, lua_KContext caller_unwinds)
{
    struct task *t = runtime_of(L)->current;
    if (t != NULL) {
        t->unwinding = caller_unwinds != 0;
    }
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_pushboolean(L, false);
        lua_pushvalue(L, -2);
        return 2;
    }
    return lua_gettop(L) - 2; // -- ... handler true results...
}

/* -- x handler true fn args... */
static int call_protected(lua_State *L)
{
    struct task *t = runtime_of(L)->current;
    lua_KContext unwinds = t != NULL && t->unwinding;
    int status = lua_pcallk(L, lua_gettop(L) - 4, LUA_MULTRET, 2, unwinds, protected_return);
    return protected_return(L, status, unwinds);
}

static int l_pcall(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushnil(L);
    lua_pushcfunction(L, task_on_error);
    lua_pushboolean(L, true);
    lua_rotate(L, 1, 3); // -- nil handler true fn args...
    return call_protected(L);
}

static int l_xpcall(lua_State *L)
{
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 2);
    lua_pushcclosure(L, call_handler, 1);
    lua_replace(L, 2);
    lua_pushboolean(L, true);
    lua_pushvalue(L, 1);
    lua_rotate(L, 3, 2); // -- fn handler true fn args...
    return call_protected(L);
}

/* ---- calls of tools ---- */

static bool is_utf8(const char *text, size_t len)
{
    size_t i = 0;
    while (i < len) {
        int step = (unsigned char)text[i] < 0x80 ? 1 : json_utf8_length(text + i, len - i);
        if (step <= 0) {
            return false;
        }
        i += (size_t)step;
    }
    return true;
}

/* Leaves the text of a value on top whose text needs no thought, or nothing: false. */
static bool plain_text(lua_State *L)
{
    size_t len;
    switch (lua_type(L, -1)) {
    case LUA_TNIL:
        lua_pushliteral(L, "null");
        return true;
    case LUA_TBOOLEAN:
        lua_pushstring(L, lua_toboolean(L, -1) ? "true" : "false");
        return true;
    case LUA_TNUMBER:
        if (lua_isinteger(L, -1)) {
            char text[JSON_NUMBER_MAX];
            lua_pushlstring(L, text, json_write_integer(lua_tointeger(L, -1), text));
            return true;
        }
        return false;
    case LUA_TSTRING: {
        const char *text = lua_tolstring(L, -1, &len);
        return is_utf8(text, len);
    }
    default:
        return false;
    }
}

static int called(lua_State *L, int status, lua_KContext caller_unwinds)
{
    struct task *t = runtime_of(L)->current;
    if (t != NULL) {
        t->unwinding = caller_unwinds != 0;
    }
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_pushboolean(L, false);
        lua_pushinteger(L, 0);
        lua_pushvalue(L, -3);
        return 3;
    }
    int n = lua_gettop(L) - 1; // -- handler results...
    luaL_checkstack(L, 4, NULL);
    if (n == 0) {
        lua_pushnil(L);
    }
    if (n <= 1 && plain_text(L)) {
        return 1;
    }
    if (n > 1) {
        lua_createtable(L, n, 0);
        lua_insert(L, 2);
        for (int i = n; i >= 1; i--) {
            lua_rawseti(L, 2, i);
        }
    }
    lua_pushnil(L);
    lua_pushinteger(L, n);
    lua_rotate(L, -3, 2); // -- nil n value
    return 3;
}

static int call_mapped(lua_State *L)
{
    struct task *t = runtime_of(L)->current;
    lua_KContext unwinds = t != NULL && t->unwinding;
    luaL_checkany(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1); // -- handler fn args...
    int status = lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 1, unwinds, called);
    return called(L, status, unwinds);
}

static int attempted(lua_State *L, int status, lua_KContext caller_unwinds)
{
    int n = called(L, status, caller_unwinds); // -- ... text | nil n value | false 0 failure
    int rest = task_push_end_of_call(L);
    lua_rotate(L, -(n - 1 + rest), rest); // -- ... text rest [n value]
    return n + rest;
}

static int call_attempt(lua_State *L)
{
    struct task *t = runtime_of(L)->current;
    lua_settop(L, 5);
    luaL_checkany(L, 3);
    task_begin_call(L, 1, 2);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_replace(L, 2); // -- job handler fn args ctx
    lua_remove(L, 1);
    lua_KContext unwinds = t->unwinding;
    int status = lua_pcallk(L, 2, LUA_MULTRET, 1, unwinds, attempted);
    return attempted(L, status, unwinds);
}

static int push_with_handler(lua_State *L, lua_CFunction fn)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_pushcclosure(L, call_handler, 1);
    lua_pushcclosure(L, fn, 1);
    return 1;
}

int protect_push_caller(lua_State *L)
{
    return push_with_handler(L, call_mapped);
}

int protect_push_attempt(lua_State *L)
{
    return push_with_handler(L, call_attempt);
}

void protect_open(lua_State *L)
{
    if (!runtime_of(L)->owns_state) { /* a host's own functions stay as they are */
        return;
    }
    lua_pushcfunction(L, l_pcall);
    lua_setglobal(L, "pcall");
    lua_pushcfunction(L, l_xpcall);
    lua_setglobal(L, "xpcall");
}
