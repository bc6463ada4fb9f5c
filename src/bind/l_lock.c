/*
 * lash.core.lock: permits of semaphores that the whole process shares. lash.mutex and lash.limit
 * are made of these in lua/lash/lock.lua.
 */
#include "base/base.h"

#include "bind/bind.h"
#include "bind/fail.h"
#include "bind/type.h"
#include "engine/semaphore.h"
#include "engine/task.h"

#include <lauxlib.h>
#include <stdatomic.h>
#include <stdio.h>

#define PERMIT_TYPE "lash.permit"

struct permit_op {
    struct op op;
    struct permit permit;
};

static void permit_granted(struct permit *p)
{
    op_done(&container_of(p, struct permit_op, permit)->op);
}

/* Leaves the queue; or passes on what was granted, but came too late to be taken. */
static void permit_drop(struct op *op)
{
    permit_release(&((struct permit_op *)op)->permit);
}

static int permit_finish(lua_State *L, struct op *op)
{
    lua_pushvalue(L, op->index);
    return 1;
}

static int l_permit_gc(lua_State *L)
{
    struct permit_op *x = luaL_checkudata(L, 1, PERMIT_TYPE);
    permit_release(&x->permit);
    op_gone(&x->op);
    return 0;
}

/* permit:close(): gives it back, once however often it is called. */
static int l_permit_close(lua_State *L)
{
    struct permit_op *x = luaL_checkudata(L, 1, PERMIT_TYPE);
    permit_release(&x->permit);
    return 0;
}

static struct permit_op *push_permit(lua_State *L)
{
    struct runtime *rt = runtime_of(L);
    task_check(L);
    if (rt->current == NULL) {
        luaL_error(L, "a lock belongs to a task: none runs here");
    }
    (void)runtime_loop(rt); /* letters come there */
    struct permit_op *x = lua_newuserdatauv(L, sizeof(*x), 0);
    *x = (struct permit_op){
        .op = {.cancel = permit_drop, .finish = permit_finish, .forgo = permit_drop}};
    permit_init(&x->permit, rt, permit_granted);
    luaL_setmetatable(L, PERMIT_TYPE);
    return x;
}

static size_t check_limit(lua_State *L)
{
    lua_Integer limit = luaL_checkinteger(L, 2);
    luaL_argcheck(L, limit >= 1, 2, "at least one permit");
    return (size_t)limit;
}

/* acquire(name, limit) -> permit, waiting for it; nil when the task itself holds all of them */
static int l_acquire(lua_State *L)
{
    const char *name = bind_check_text(L, 1);
    size_t limit = check_limit(L);
    struct permit_op *x = push_permit(L);
    switch (permit_ask(&x->permit, name, limit)) {
    case PERMIT_HELD:
        return 1;
    case PERMIT_WAITING:
        return task_wait(L, &x->op);
    default:
        return 0;
    }
}

/* try(name, limit) -> permit, or nil when one would have to wait */
static int l_try(lua_State *L)
{
    const char *name = bind_check_text(L, 1);
    size_t limit = check_limit(L);
    struct permit_op *x = push_permit(L);
    return permit_try(&x->permit, name, limit) == PERMIT_HELD ? 1 : 0;
}

/* unique() -> a number that no other call in this process has got */
static int l_unique(lua_State *L)
{
    static atomic_llong last;
    lua_pushinteger(L, (lua_Integer)(atomic_fetch_add(&last, 1) + 1));
    return 1;
}

/* count() -> semaphores that somebody holds or waits for: for tests */
static int l_count(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)semaphore_count());
    return 1;
}

/* waiting(name) -> how many wait for it: for tests */
static int l_waiting(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)semaphore_waiting(bind_check_text(L, 1)));
    return 1;
}

int luaopen_lash_core_lock(lua_State *L)
{
    static const luaL_Reg methods[] = {{"close", l_permit_close},
                                       {"__close", l_permit_close},
                                       {"__gc", l_permit_gc},
                                       {NULL, NULL}};
    static const luaL_Reg functions[] = {{"acquire", l_acquire}, {"try", l_try},
                                         {"unique", l_unique},   {"count", l_count},
                                         {"waiting", l_waiting}, {NULL, NULL}};
    bind_type_push(L, PERMIT_TYPE, methods);
    bind_type_hide(L, PERMIT_TYPE,
                   "take the lock inside the function: a permit belongs to one task");
    luaL_newlib(L, functions);
    return 1;
}
