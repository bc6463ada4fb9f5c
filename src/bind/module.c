/*
 * lash.so: the library inside somebody else's Lua state, by `require "lash"` in a stock lua5.4.
 * Nothing runs there but inside agent:run_sync and conversation:send_sync, which drive the loop to
 * the end of the run and leave no handle, thread or descriptor behind.
 */
#include "base/base.h"
#include "base/trace.h"

#include "bind/bind.h"

#include <lauxlib.h>
#include <signal.h>
#include <stdlib.h>

#define RUNTIME_TYPE "lash.runtime"

static const char module_key; /* registry: keeps the runtime as long as the state */

__attribute__((visibility("default"))) int luaopen_lash(lua_State *L);

/* The state closes; the loop is closed already, but for a run that an error of the host cut short.
 * The runtime is not part of the state: a lost worker may still send it what nobody waits for. */
struct guest {
    struct runtime *rt; /* owned; NULL when the state has closed */
};

static int runtime_gc(lua_State *L)
{
    struct guest *guest = luaL_checkudata(L, 1, RUNTIME_TYPE);
    if (guest->rt != NULL && bind_close_pool(guest->rt) == 0) {
        runtime_release(guest->rt);
        free(guest->rt);
    }
    guest->rt = NULL;
    return 0;
}

int luaopen_lash(lua_State *L)
{
    signal(SIGPIPE, SIG_IGN); /* a connection that the peer closed is an error, not the end */
    trace_init();
    struct guest *guest = lua_newuserdatauv(L, sizeof(*guest), 0);
    struct runtime *rt = xcalloc(1, sizeof(*rt));
    guest->rt = rt;
    runtime_init_around(rt, L);
    luaL_newmetatable(L, RUNTIME_TYPE);
    lua_pushcfunction(L, runtime_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &module_key);
    if (bind_open(rt) != 0) {
        return luaL_error(L, "not enough memory");
    }
    lua_getglobal(L, "require");
    lua_pushliteral(L, "lash.init");
    lua_call(L, 1, 1);
    return 1;
}
