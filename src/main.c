/*
 * The program: arguments -> one command (lua/lash/cmd/init.lua) -> exit status.
 */
#include "base/base.h"
#include "base/trace.h"

#include "bind/bind.h"
#include "bind/stream.h"
#include "engine/interrupt.h"
#include "engine/runtime.h"
#include "engine/task.h"
#include "engine/watchdog.h"
#include "io/proc.h"
#include "shell/shell.h"

#include <errno.h>
#include <lauxlib.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_BUG = 70, STOPPING_MS = 200 };

static int load_command(lua_State *L)
{
    lua_getglobal(L, "require");
    lua_pushliteral(L, "lash.cmd");
    lua_call(L, 1, 1);
    return 1;
}

/* argv as a Lua table, arg[0] being the program */
static int push_arguments(lua_State *L)
{
    char **argv = lua_touserdata(L, 1);
    lua_newtable(L);
    for (int i = 0; argv[i] != NULL; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    return 1;
}

static int start(lua_State *L)
{
    lua_settop(L, 1);
    lua_pushcfunction(L, load_command);
    lua_call(L, 0, 1);
    lua_pushcfunction(L, push_arguments);
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    task_spawn(L, 1, NULL, 0);
    return 1;
}

static int results(lua_State *L)
{
    int n = task_push_results(L, 1);
    if (!lua_toboolean(L, 2)) {
        luaL_tolstring(L, 3, NULL);
        task_push_traceback(L, 1);
        return 2;
    }
    return n > 1 ? 1 : 0;
}

static int report_bug(lua_State *L, int index)
{
    if (memory_is_error(L, index)) {
        fputs("lash: out of memory\n", stderr);
        return EXIT_MEMORY;
    }
    const char *text = lua_tostring(L, index);
    fprintf(stderr, "lash: bug: %s\n", text ? text : "unknown error");
    return EXIT_BUG;
}

/* Runs the command as the main task. What it leaves running is cancelled by the caller. */
static int run(struct runtime *rt, char **argv)
{
    lua_State *L = rt->L;
    lua_pushcfunction(L, start);
    lua_pushlightuserdata(L, argv);
    if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
        return report_bug(L, -1);
    }
    struct task *t = lua_touserdata(L, -1);
    interrupt_set_task(t);
    task_drive(t);
    interrupt_set_task(NULL);
    if (interrupt_signal() != 0 && t->failed) { /* it went on and on, until it was given up */
        fputs("lash: cancelled\n", stderr);
        lua_settop(L, 0);
        return 128 + interrupt_signal();
    }
    lua_pushcfunction(L, results);
    lua_insert(L, -2);
    if (lua_pcall(L, 1, 2, 0) != LUA_OK || lua_type(L, -2) == LUA_TSTRING) {
        return report_bug(L, lua_type(L, -2) == LUA_TSTRING ? -2 : -1);
    }
    int status = lua_isinteger(L, -2) ? (int)lua_tointeger(L, -2) : 0;
    lua_settop(L, 0);
    return status;
}

static void kill_children(void)
{
    proc_kill_all(SIGKILL);
}

/* What print and io.write left in the buffer must arrive, or the program has not done its work. */
static int flush_stdout(int status)
{
    bool before = ferror(stdout) != 0;
    errno = 0;
    if ((fflush(stdout) == 0 && !before) || stream_reserved()) {
        return status;
    }
    int code = errno;
    if (status == 0) {
        fprintf(stderr, "lash: cannot write to stdout%s%s\n", code ? ": " : "",
                code ? strerror(code) : "");
    }
    if (status > 1) { /* it failed for a reason of its own */
        return status;
    }
    return code == EPIPE ? STREAM_EXIT_CLOSED : STREAM_EXIT_IO;
}

int main(int argc, char **argv)
{
    (void)argc;
    stream_open();
    trace_init();
    struct runtime rt;
    out_of_memory_hook(kill_children);
    if (runtime_init(&rt, true) != 0) {
        out_of_memory(0);
    }
    int err = runtime_open_loop(&rt); /* later, when a script has used up the files, it could not */
    if (err != 0) {
        fprintf(stderr, "lash: no event loop can be had: %s\n", uv_strerror(err));
        return STREAM_EXIT_IO;
    }
    if (bind_open(&rt) != 0) {
        out_of_memory(0);
    }
    shell_open(&rt);
    interrupt_at_end(kill_children);
    interrupt_open(&rt);
    bind_watch(&rt);
    int status = flush_stdout(run(&rt, argv));
    watchdog_close();
    task_cancel_all(&rt, CANCEL_PARENT, 500);
    size_t lost = bind_close_pool(&rt);
    if (lost > 0) {
        proc_end_all(STOPPING_MS);
        interrupt_leave(status); /* a lost worker still runs: nothing below may be touched */
    }
    interrupt_close();
    runtime_release(&rt);
    proc_end_all(STOPPING_MS);
    if (interrupt_signal() != 0) {
        (void)fflush(NULL);
        interrupt_leave(status);
    }
    return status;
}
