/*
 * coroutine.resume, wrap, yield and close of every state, so that a wait inside a user's coroutine
 * reaches the scheduler: the one who resumes it yields outward, and goes on when the wait is over.
 */
#include "base/base.h"

#include "engine/task.h"
#include "engine/task_int.h"

#include <lauxlib.h>

/* lua_resetthread() with the closers that it runs in reach of the interrupting signal. */
static int close_thread(lua_State *L, lua_State *co)
{
    struct runtime *rt = runtime_of(L);
    struct task *t = rt->current;
    bool unwinding = t != NULL && t->unwinding;
    lua_State *outer = rt->innermost;
    rt->innermost = co;
    runtime_carry_interrupt(rt, L, co);
    task_unwinds(t);
    int status = lua_resetthread(co);
    if (t != NULL) {
        t->unwinding = unwinding;
    }
    rt->innermost = outer;
    runtime_carry_interrupt(rt, co, L);
    return status;
}

static int move_results(lua_State *L, lua_State *co, int nres)
{
    if (!lua_checkstack(L, nres + 1)) {
        lua_pop(co, nres);
        lua_pushliteral(L, "too many results to resume");
        return -1;
    }
    lua_xmove(co, L, nres);
    return nres;
}

static int co_wait(lua_State *L, lua_State *co, lua_KContext ctx, lua_KFunction k);

static int co_step(lua_State *L, lua_State *co, int nargs, lua_KContext ctx, lua_KFunction k)
{
    struct runtime *rt = runtime_of(L);
    for (;;) {
        int nres;
        int status = runtime_resume(rt, co, L, nargs, &nres);
        if (status == LUA_YIELD && task_is_token(co, nres)) {
            co_wait(L, co, ctx, k);
            lua_pop(co, 1);
            nargs = 0;
            continue;
        }
        if (status == LUA_YIELD && rt->giving_up) {
            cancel_push(L, rt->current->cancel);
            return -1;
        }
        if (status == LUA_OK || status == LUA_YIELD) {
            return move_results(L, co, nres);
        }
        lua_xmove(co, L, 1);
        return -1;
    }
}

/* Resumes until `co` yields to its user or ends. Returns the number of results moved to L, -1 with
 * an error message on top. May yield outward; `k` then goes on with co_go_on(). `ctx` says whether
 * a closer resumes it: what runs in there has begun elsewhere, perhaps, and does not change that.
 */
static int co_run(lua_State *L, lua_State *co, int nargs, lua_KContext ctx, lua_KFunction k)
{
    int n = co_step(L, co, nargs, ctx, k);
    struct task *t = runtime_of(L)->current;
    if (t != NULL) {
        t->unwinding = ctx != 0;
    }
    return n;
}

/* The inner coroutine waits: so does the one that resumed it. */
static int co_wait(lua_State *L, lua_State *co, lua_KContext ctx, lua_KFunction k)
{
    (void)co;
    struct runtime *rt = runtime_of(L);
    struct task *t = rt->current;
    ASSERT(t != NULL);
    if (lua_isyieldable(L)) {
        lua_pushlightuserdata(L, (void *)&task_wait_token);
        return lua_yieldk(L, 1, ctx, k); /* does not return */
    }
    if (rt->worker != NULL) {
        task_pump(t);
        return 0;
    }
    t->state = TASK_RUNNING; /* first: an op that is done by its cancel must not make it ready */
    if (t->op != NULL) {
        struct op *op = t->op;
        op->cancel(op);
        if (t->op == op) {
            task_drop_op(t);
        }
    }
    t->refusal = TASK_CANNOT_WAIT;
    return 0;
}

static int co_go_on(lua_State *L, lua_State *co, lua_KContext ctx, lua_KFunction k)
{
    if (!task_is_waiting(co)) {
        lua_pushliteral(L, "the coroutine was closed while it waited");
        return -1;
    }
    lua_pop(co, 1);
    return co_run(L, co, 0, ctx, k);
}

static int co_start(lua_State *L, lua_State *co, int nargs, lua_KContext ctx, lua_KFunction k)
{
    if (task_is_waiting(co)) {
        lua_pushliteral(L, "cannot resume a coroutine that waits");
        return -1;
    }
    if (!lua_checkstack(co, nargs + 1)) {
        lua_pushliteral(L, "too many arguments to resume");
        return -1;
    }
    lua_xmove(L, co, nargs);
    return co_run(L, co, nargs, ctx, k);
}

static lua_KContext closer_resumes(lua_State *L)
{
    const struct task *t = runtime_of(L)->current;
    return t != NULL && t->unwinding;
}

static int resume_return(lua_State *L, int n)
{
    lua_pushboolean(L, n >= 0);
    int count = n >= 0 ? n : 1;
    lua_insert(L, -(count + 1));
    return count + 1;
}

static int resume_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    return resume_return(L, co_go_on(L, lua_tothread(L, 1), ctx, resume_k));
}

static lua_State *check_co(lua_State *L)
{
    lua_State *co = lua_tothread(L, 1);
    luaL_argexpected(L, co, 1, "coroutine");
    return co;
}

static int l_co_resume(lua_State *L)
{
    lua_State *co = check_co(L);
    return resume_return(L, co_start(L, co, lua_gettop(L) - 1, closer_resumes(L), resume_k));
}

static int wrap_return(lua_State *L, lua_State *co, int n)
{
    if (n >= 0) {
        return n;
    }
    int status = lua_status(co); // -- error
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_xmove(L, co, 1);
        (void)close_thread(
            L, co); /* its pending variables; leaves the error, or the one of a closer */
        lua_xmove(co, L, 1);
    }
    if (lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int wrap_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    return wrap_return(L, co, co_go_on(L, co, ctx, wrap_k));
}

static int wrap_call(lua_State *L)
{
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    return wrap_return(L, co, co_start(L, co, lua_gettop(L), closer_resumes(L), wrap_k));
}

static int l_co_wrap(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_State *co = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    lua_pushcclosure(L, wrap_call, 1);
    return 1;
}

static int l_co_yield(lua_State *L)
{
    struct task *t = runtime_of(L)->current;
    if (t != NULL && t->co == L) {
        return luaL_error(L, "attempt to yield from outside a coroutine (this is a task: "
                             "lash.sleep(0) lets others run)");
    }
    return lua_yield(L, lua_gettop(L));
}

static int l_co_close(lua_State *L)
{
    lua_State *co = check_co(L);
    if (task_is_waiting(co)) {
        return luaL_error(L, "cannot close a coroutine that waits");
    }
    int status = lua_status(co);
    lua_Debug ar;
    if (L == co || (status == LUA_OK && lua_getstack(co, 0, &ar) != 0)) {
        return luaL_error(L, "cannot close a %s coroutine", L == co ? "running" : "normal");
    }
    status = close_thread(L, co);
    lua_pushboolean(L, status == LUA_OK);
    if (status == LUA_OK) {
        return 1;
    }
    lua_xmove(co, L, 1);
    return 2;
}

void coroutine_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"resume", l_co_resume},
                                         {"wrap", l_co_wrap},
                                         {"yield", l_co_yield},
                                         {"close", l_co_close},
                                         {NULL, NULL}};
    lua_getglobal(L, "coroutine");
    luaL_setfuncs(L, functions, 0);
    lua_pop(L, 1);
}
