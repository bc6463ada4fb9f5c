/*
 * lash.core.timer: lash.sleep and lash.now.
 */
#include "base/base.h"

#include "bind/bind.h"
#include "bind/type.h"
#include "engine/task.h"
#include "io/timer.h"

#include <lauxlib.h>
#include <math.h>
#include <time.h>

#define SLEEP_TYPE "lash.sleep"

struct sleep_op {
    struct op op;
    struct timer *timer; /* owned while it runs */
};

static void sleep_over(void *arg)
{
    struct sleep_op *sleep = arg;
    sleep->timer = NULL;
    op_done(&sleep->op);
}

static void sleep_cancel(struct op *op)
{
    struct sleep_op *sleep = (struct sleep_op *)op;
    timer_stop(sleep->timer);
    sleep->timer = NULL;
}

static int sleep_gc(lua_State *L)
{
    struct sleep_op *sleep = luaL_checkudata(L, 1, SLEEP_TYPE);
    sleep_cancel(&sleep->op);
    op_gone(&sleep->op);
    return 0;
}

static int sleep_finish(lua_State *L, struct op *op)
{
    (void)L;
    (void)op;
    return 0;
}

/* sleep(seconds): the task waits, others run; 0 lets them run once */
static int l_sleep(lua_State *L)
{
    lua_Number seconds = luaL_checknumber(L, 1);
    luaL_argcheck(L, seconds >= 0 && seconds <= 1e9, 1,
                  "expected a number of seconds between 0 and a billion");
    task_check(L);
    struct sleep_op *sleep = lua_newuserdatauv(L, sizeof(*sleep), 0);
    *sleep = (struct sleep_op){.op = {.cancel = sleep_cancel, .finish = sleep_finish}};
    luaL_setmetatable(L, SLEEP_TYPE);
    sleep->timer =
        timer_start_ns(runtime_loop(runtime_of(L)), (uint64_t)(seconds * 1e9), sleep_over, sleep);
    return task_wait(L, &sleep->op);
}

/* now() -> seconds since 1970-01-01 UTC, a float with sub-microsecond digits */
static int l_now(lua_State *L)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec * 1e-9);
    return 1;
}

int luaopen_lash_core_timer(lua_State *L)
{
    static const luaL_Reg functions[] = {{"sleep", l_sleep}, {"now", l_now}, {NULL, NULL}};
    bind_type_gc(L, SLEEP_TYPE, sleep_gc);
    luaL_newlib(L, functions);
    return 1;
}
