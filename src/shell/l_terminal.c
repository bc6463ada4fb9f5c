/*
 * lash.core.terminal: waits for a line of a terminal that edits its lines itself.
 */
#include "base/base.h"

#include "shell/shell.h"

#include "bind/fail.h"
#include "bind/type.h"
#include "engine/task.h"

#include <fcntl.h>
#include <lauxlib.h>
#include <stdlib.h>

#define WAIT_TYPE "lash.terminal.wait"

struct wait_op {
    struct op op;
    uv_poll_t *poll; /* owned by the loop once it is closed */
};

static void free_poll(uv_handle_t *handle)
{
    free(handle);
}

static void stop(struct wait_op *wait)
{
    if (wait->poll != NULL) {
        uv_close((uv_handle_t *)wait->poll, free_poll);
        wait->poll = NULL;
    }
}

/* A terminal that has gone is readable, too: the read says why. */
static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct wait_op *wait = poll->data;
    stop(wait);
    op_done(&wait->op);
}

static void wait_cancel(struct op *op)
{
    stop((struct wait_op *)op);
}

static int wait_gc(lua_State *L)
{
    struct wait_op *wait = luaL_checkudata(L, 1, WAIT_TYPE);
    stop(wait);
    op_gone(&wait->op);
    return 0;
}

static int wait_finish(lua_State *L, struct op *op)
{
    (void)op;
    lua_pushboolean(L, true);
    return 1;
}

/* readable(fd) -> true: the task waits until something can be read, others run | nil, err */
static int l_readable(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1);
    task_check(L);
    struct wait_op *wait = lua_newuserdatauv(L, sizeof(*wait), 0);
    *wait = (struct wait_op){.op = {.cancel = wait_cancel, .finish = wait_finish}};
    luaL_setmetatable(L, WAIT_TYPE);
    uv_poll_t *poll = xmalloc(sizeof(*poll));
    int flags = fcntl(fd, F_GETFL);
    int status = uv_poll_init(runtime_loop(runtime_of(L)), poll, fd);
    if (flags >= 0) { /* libuv makes it non-blocking, for all who share the terminal */
        (void)fcntl(fd, F_SETFL, flags);
    }
    if (status != 0) {
        free(poll);
        return bind_fail(L, uv_err_name(status), uv_strerror(status));
    }
    poll->data = wait;
    wait->poll = poll;
    (void)uv_poll_start(poll, UV_READABLE, on_readable);
    return task_wait(L, &wait->op);
}

int luaopen_lash_core_terminal(lua_State *L)
{
    static const luaL_Reg functions[] = {{"readable", l_readable}, {NULL, NULL}};
    bind_type_gc(L, WAIT_TYPE, wait_gc);
    luaL_newlib(L, functions);
    return 1;
}
