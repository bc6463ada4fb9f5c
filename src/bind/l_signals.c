/*
 * lash.core.signals: the signals that end the program as the commands see them, and the watchdog's
 * way into the library.
 */
#include "base/base.h"

#include "bind/bind.h"
#include "engine/interrupt.h"
#include "engine/task.h"
#include "engine/watchdog.h"

#include <lauxlib.h>

static const char entry_key; /* registry: the task of the console's entry, kept alive */

static void check_main(lua_State *L)
{
    if (runtime_of(L)->worker != NULL) {
        luaL_error(L, "this is for the main thread, not for workers");
    }
}

/* asked() -> the signal that asked the program to end, such as 2, or nil */
static int l_asked(lua_State *L)
{
    int sig = interrupt_signal();
    if (sig == 0) {
        return 0;
    }
    lua_pushinteger(L, sig);
    return 1;
}

/* console(task): SIGINT cancels this task only; console(nil): nothing is entered.
 * console(false): SIGINT is for the program again. */
static int l_console(lua_State *L)
{
    check_main(L);
    luaL_checkany(L, 1);
    lua_settop(L, 1);
    struct task *t = lua_toboolean(L, 1) ? luaL_checkudata(L, 1, "lash.task") : NULL;
    if (lua_isboolean(L, 1)) {
        interrupt_end_console();
    } else {
        interrupt_set_entry(t);
    }
    lua_rawsetp(L, LUA_REGISTRYINDEX, &entry_key); /* the one before is not borrowed any more */
    return 0;
}

/* watchdog(ms): how long a task may hold the main loop untold; 0: as long as it likes */
static int l_watchdog(lua_State *L)
{
    lua_Integer ms = luaL_checkinteger(L, 1);
    check_main(L);
    luaL_argcheck(L, ms >= 0 && ms <= 3600000, 1, "between 0 and 3600000 ms");
    watchdog_set_limit((unsigned)ms);
    return 0;
}

/* held() -> the function of lash.watchdog that makes an event of what the running task has done so
 * far in its present step, or nil */
static int l_held(lua_State *L)
{
    return watchdog_take(L) ? 1 : 0;
}

/* Calls a function of lash.watchdog with what is on the stack. */
static int call_watchdog(lua_State *L, const char *name)
{
    int n = lua_gettop(L);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "lash.watchdog");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, name);
    lua_insert(L, 1);
    lua_settop(L, n + 1);
    lua_call(L, n, 1);
    return 1;
}

static int watchdog_collect(lua_State *L)
{
    return call_watchdog(L, "collect");
}

static int watchdog_tell(lua_State *L)
{
    return call_watchdog(L, "tell");
}

void bind_watch(struct runtime *rt)
{
    watchdog_open(rt, WATCHDOG_MS, watchdog_collect, watchdog_tell);
}

int luaopen_lash_core_signals(lua_State *L)
{
    static const luaL_Reg functions[] = {{"asked", l_asked},
                                         {"console", l_console},
                                         {"watchdog", l_watchdog},
                                         {"held", l_held},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
