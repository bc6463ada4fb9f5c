/*
 * os.execute and io.popen as Lua has them, but for their children: those of a sync call end with it
 * when it is stopped (the worker kills them), and their signals are as a program expects them;
 * those of a call do not get the keys of providers. lash.exec is the way that does not block.
 */
#include "base/base.h"

#include "bind/bind.h"
#include "bind/fail.h"
#include "bind/stream.h"
#include "engine/interrupt.h"
#include "engine/runtime.h"
#include "io/child.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A Lua file whose close waits for the child. luaL_Stream is first: liolib.c looks at it only. */
struct pipe_stream {
    luaL_Stream stream;
    struct child *child; /* owned until closed */
    unsigned loan;       /* of the terminal, until closed */
};

static int push_failure(lua_State *L, int err, const char *command)
{
    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", command, strerror(-err));
    lua_pushinteger(L, -err);
    return 3;
}

static int push_end(lua_State *L, struct child *child, unsigned loan)
{
    int status = child_wait(&runtime_of(L)->children, child);
    interrupt_child_ended(L);
    stream_give_back(loan);
    errno = 0; /* else it would be taken for the reason */
    return luaL_execresult(L, status);
}

/* What a tool starts may be asked for by a model. */
static bool gets_keys(lua_State *L)
{
    struct runtime *rt = runtime_of(L);
    return rt->worker == NULL && (rt->current == NULL || !rt->current->in_call);
}

/* The children of workers have no terminal: see child_start(). */
static unsigned lend_terminal(lua_State *L)
{
    return runtime_of(L)->worker == NULL ? stream_lend() : 0;
}

/* execute([command]) -> true | nil, "exit" | "signal", code; without a command: true */
static int l_execute(lua_State *L)
{
    if (lua_isnoneornil(L, 1)) {
        lua_pushboolean(L, access("/bin/sh", X_OK) == 0);
        return 1;
    }
    const char *command = luaL_checkstring(L, 1);
    struct child *child;
    sigset_t before;
    interrupt_hold(L, &before);
    unsigned loan = lend_terminal(L);
    int err = child_start(&runtime_of(L)->children, command, -1, -1, gets_keys(L), &child);
    interrupt_release(L, &before, err == 0 ? child_pid(child) : 0, true);
    if (err != 0) {
        stream_give_back(loan);
        return push_failure(L, err, command);
    }
    return push_end(L, child, loan);
}

static int close_pipe(lua_State *L)
{
    struct pipe_stream *p = luaL_checkudata(L, 1, LUA_FILEHANDLE);
    struct child *child = p->child;
    p->child = NULL;
    (void)fclose(p->stream.f);
    return push_end(L, child, p->loan);
}

/* Opens the pipe and starts the child: 0 or a negative errno. */
static int open_pipe(lua_State *L, struct pipe_stream *p, const char *command, bool reads)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return -errno;
    }
    int ours = reads ? fds[0] : fds[1];
    int theirs = reads ? fds[1] : fds[0];
    FILE *f = fdopen(ours, reads ? "r" : "w");
    int err = f == NULL ? -errno : 0;
    if (err == 0) {
        p->loan = lend_terminal(L);
        err = child_start(&runtime_of(L)->children, command, reads ? -1 : theirs,
                          reads ? theirs : -1, gets_keys(L), &p->child);
    }
    (void)close(theirs);
    if (err == 0) {
        p->stream.f = f;
        p->stream.closef = close_pipe;
        return 0;
    }
    stream_give_back(p->loan);
    if (f != NULL) {
        (void)fclose(f);
    } else {
        (void)close(ours);
    }
    return err;
}

/* popen(command [, "r" | "w"]) -> file | nil, message, errno */
static int l_popen(lua_State *L)
{
    const char *command = luaL_checkstring(L, 1);
    const char *mode = luaL_optstring(L, 2, "r");
    luaL_argcheck(L, (mode[0] == 'r' || mode[0] == 'w') && mode[1] == '\0', 2, "invalid mode");
    struct pipe_stream *p = lua_newuserdatauv(L, sizeof(*p), 0);
    *p = (struct pipe_stream){0}; /* closef == NULL: a closed file */
    luaL_setmetatable(L, LUA_FILEHANDLE);
    (void)fflush(stdout); /* not all: one that another thread blocks in would hold us up */
    sigset_t before;
    interrupt_hold(L, &before);
    int err = open_pipe(L, p, command, mode[0] == 'r');
    interrupt_release(L, &before, err == 0 ? child_pid(p->child) : 0, false);
    return err == 0 ? 1 : push_failure(L, err, command);
}

static void replace(lua_State *L, const char *library, const char *name, lua_CFunction fn)
{
    lua_getglobal(L, library);
    lua_pushcfunction(L, fn);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

void bind_replace_process(lua_State *L)
{
    replace(L, LUA_OSLIBNAME, "execute", l_execute);
    replace(L, LUA_IOLIBNAME, "popen", l_popen);
}
