/*
 * The errors that cancelled tasks raise: one value per reason and state, made once.
 */
#include "base/base.h"

#include "engine/task.h"
#include "engine/task_int.h"

#include <lauxlib.h>

static const char cancel_key; /* registry: reason -> error value, error value -> reason */

static const char *const reason_names[] = {
    [CANCEL_NONE] = "none",       [CANCEL_USER] = "user",     [CANCEL_DEADLINE] = "deadline",
    [CANCEL_SIBLING] = "sibling", [CANCEL_PARENT] = "parent", [CANCEL_STALL] = "stall",
};

static const char *const reason_texts[] = {
    [CANCEL_NONE] = "",
    [CANCEL_USER] = "cancelled",
    [CANCEL_DEADLINE] = "deadline exceeded",
    [CANCEL_SIBLING] = "cancelled because a sibling failed",
    [CANCEL_PARENT] = "cancelled because the task that it belonged to has ended",
    [CANCEL_STALL] = "every task waits for another one: nothing can happen any more",
};

const char *cancel_reason_name(enum cancel_reason reason)
{
    return reason_names[reason];
}

void cancel_push(lua_State *L, enum cancel_reason reason)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &cancel_key);
    lua_rawgeti(L, -1, reason);
    lua_remove(L, -2);
}

enum cancel_reason cancel_reason_of(lua_State *L, int index)
{
    if (!lua_istable(L, index)) {
        return CANCEL_NONE;
    }
    index = lua_absindex(L, index);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &cancel_key);
    lua_pushvalue(L, index);
    lua_rawget(L, -2);
    enum cancel_reason reason = (enum cancel_reason)lua_tointeger(L, -1); /* 0 when nil */
    lua_pop(L, 2);
    return reason;
}

static int cancel_tostring(lua_State *L)
{
    lua_getfield(L, 1, "message");
    return 1;
}

/* ---- xpcall ---- */

/* A handler is not called for an interrupt: Lua calls it inside the hook that raised, where no hook
 * can stop it any more if it spins. */
static int call_handler(lua_State *L)
{
    if (runtime_of(L)->interrupted && cancel_reason_of(L, 1) != CANCEL_NONE) {
        lua_settop(L, 1);
        return 1;
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

static int xpcall_return(lua_State *L, int status, lua_KContext ctx)
{
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_pushboolean(L, false);
        lua_pushvalue(L, -2);
        return 2;
    }
    return lua_gettop(L) - (int)ctx;
}

static int l_xpcall(lua_State *L)
{
    int n = lua_gettop(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 2);
    lua_pushcclosure(L, call_handler, 1);
    lua_replace(L, 2);
    lua_pushboolean(L, true);
    lua_pushvalue(L, 1);
    lua_rotate(L, 3, 2); // -- fn handler true fn args...
    return xpcall_return(L, lua_pcallk(L, n - 2, LUA_MULTRET, 2, 2, xpcall_return), 2);
}

void cancel_open(lua_State *L)
{
    if (runtime_of(L)->owns_state) {
        lua_pushcfunction(L, l_xpcall);
        lua_setglobal(L, "xpcall");
    }
    lua_newtable(L);
    lua_newtable(L); // -- errors mt
    lua_pushcfunction(L, cancel_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "lash.cancel");
    lua_setfield(L, -2, "__name");
    for (int reason = CANCEL_USER; reason <= CANCEL_STALL; reason++) {
        lua_newtable(L); // -- errors mt err
        lua_pushstring(L, reason == CANCEL_DEADLINE ? "timeout" : "cancelled");
        lua_setfield(L, -2, "code");
        lua_pushstring(L, reason_names[reason]);
        lua_setfield(L, -2, "reason");
        lua_pushstring(L, reason_texts[reason]);
        lua_setfield(L, -2, "message");
        lua_pushvalue(L, -2);
        lua_setmetatable(L, -2);
        lua_pushvalue(L, -1);
        lua_rawseti(L, -4, reason);
        lua_pushinteger(L, reason);
        lua_rawset(L, -4); // -- errors mt
    }
    lua_pop(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &cancel_key);
}
