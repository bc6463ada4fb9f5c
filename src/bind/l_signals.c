/*
 * lash.core.signals: the signals that end the program as the commands see them.
 */
#include "base/base.h"

#include "bind/bind.h"
#include "engine/interrupt.h"
#include "engine/task.h"

#include <lauxlib.h>

static const char entry_key; /* registry: the task of the console's entry, kept alive */

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

/* line(fd) -> true when a line can be read | false: Ctrl-C took it. For a terminal. */
static int l_line(lua_State *L)
{
    lua_pushboolean(L, interrupt_wait_line(L, (int)luaL_checkinteger(L, 1)));
    return 1;
}

/* console(task): SIGINT cancels this task only; console(nil): a line is read, see line().
 * console(false): SIGINT is for the program again. */
static int l_console(lua_State *L)
{
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

int luaopen_lash_core_signals(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"asked", l_asked}, {"console", l_console}, {"line", l_line}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
