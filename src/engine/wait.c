/*
 * Waiting: how a task gives way to others until its op is done, and what a cancelled task may still
 * wait for: nothing, but in the `<close>` handlers that the cancel itself runs, for a short grace.
 */
#include "base/base.h"
#include "base/patience.h"
#include "base/trace.h"

#include "engine/task.h"
#include "engine/task_int.h"
#include "io/timer.h"

#include <lauxlib.h>

enum {
    GRACE_MS = 200,         /* for the waits of closers, from the first one on */
    STUBBORN_RAISES = 10000 /* so often a cancelled task may catch the error and wait again */
};

static void make_ready(struct task *t)
{
    if (t->state == TASK_WAITING) { /* a task whose wait runs the loop in place goes on by itself */
        t->state = TASK_READY;
        TRACE(TASK, "%llu is ready", (unsigned long long)t->id);
        list_append(&t->rt->ready, &t->ready_node);
    }
}

void task_drop_op(struct task *t)
{
    t->op->task = NULL;
    t->op = NULL;
}

void task_end_wait(struct task *t)
{
    struct op *op = t->op;
    if (op == NULL) {
        return;
    }
    op->cancel(op);
    if (!op->lingers && t->op == op) {
        task_drop_op(t);
        make_ready(t);
    }
}

/* ---- the grace of closers ---- */

static void on_grace_end(void *arg)
{
    struct task *t = arg;
    t->grace_timer = NULL;
    t->grace = GRACE_OVER;
    task_end_wait(t);
}

/* True while the cancelled task runs closers because of an error, and may wait in them. */
static bool in_grace(struct task *t)
{
    if (!t->unwinding || t->grace == GRACE_OVER || t->rt->closing) {
        return false;
    }
    if (t->grace == GRACE_UNUSED) {
        t->grace = GRACE_RUNS;
        t->grace_timer = timer_start(runtime_loop(t->rt), patience_ms(GRACE_MS), on_grace_end, t);
        atomic_store(&t->rt->in_grace, true);
    }
    return true;
}

void task_end_grace(struct task *t)
{
    timer_stop(t->grace_timer);
    t->grace_timer = NULL;
    t->grace = GRACE_OVER;
}

/* ---- waiting ---- */

const char task_wait_token;

/* On main, in a cancelled task that goes on and on: no instruction of its own is left to it. */
static void stubborn_hook(lua_State *L, lua_Debug *ar)
{
    struct task *t = runtime_of(L)->current;
    if (t == NULL || t->raises < STUBBORN_RAISES) {
        lua_sethook(L, NULL, 0, 0);
        return;
    }
    (void)lua_getinfo(L, "S", ar);
    if (runtime_is_library(t->rt, ar->source)) { /* it has to bring the task to its end */
        return;
    }
    cancel_push(L, t->cancel);
    lua_error(L);
}

void task_forget_stubborn(lua_State *L)
{
    if (lua_gethook(L) == stubborn_hook) {
        lua_sethook(L, NULL, 0, 0);
    }
}

void task_check(lua_State *L)
{
    struct runtime *rt = runtime_of(L);
    struct task *t = rt->current;
    if (rt->closing) { /* a finalizer: what it makes would not be finalized */
        luaL_error(L, "the program ends: nothing can be waited for");
    }
    if (t == NULL || t->cancel == CANCEL_NONE || in_grace(t)) {
        return;
    }
    if (rt->worker == NULL &&
        ++t->raises >= STUBBORN_RAISES) { /* workers have a hook of their own */
        if (!rt->interrupted) {           /* else the signal's hook does the same */
            rt->interrupt = stubborn_hook;
        }
        /* goes out with errors into those who resumed this coroutine */
        lua_sethook(L, rt->interrupt, LUA_MASKCOUNT, 1);
    }
    cancel_push(L, t->cancel);
    lua_error(L);
}

void op_wake(struct op *op)
{
    op->woken = true;
    struct task *t = op->task;
    if (t != NULL) {
        task_drop_op(t);
        make_ready(t);
    }
}

void op_done(struct op *op)
{
    op_wake(op);
    op->woken = false;
    op->done = true;
}

void op_gone(struct op *op)
{
    struct task *t = op->task;
    if (t != NULL) {
        task_drop_op(t);
        t->refusal = "what the task waited for was released";
        make_ready(t);
    }
}

/* ctx: the stack index of the op's userdata. */
static int wait_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    struct task *t = runtime_of(L)->current;
    ASSERT(t != NULL);
    struct op *op = lua_touserdata(L, (int)ctx);
    if (op != t->waited) { /* taken from the stack with the debug library: it may be gone */
        return luaL_error(L, "what the task waited for was taken away");
    }
    if (t->refusal != NULL) {
        const char *why = t->refusal;
        t->refusal = NULL;
        return luaL_error(L, "%s", why);
    }
    if (op->woken && t->cancel != CANCEL_NONE &&
        !in_grace(t)) { /* its io goes on: that ends first */
        lua_settop(L, (int)ctx);
        return task_wait(L, op);
    }
    if (op->forgo != NULL && op->done && t->cancel != CANCEL_NONE && !in_grace(t)) {
        op->forgo(op);
    }
    task_check(L);
    ASSERT(op->done || op->woken);
    return op->finish(L, op);
}

static bool wait_is_over(void *arg)
{
    struct task *t = arg;
    return t->op == NULL;
}

void task_pump(struct task *t)
{
    struct runtime *rt = t->rt;
    struct task *current = rt->current;
    t->state = TASK_RUNNING;
    while (runtime_run(rt, wait_is_over, t) != 0) {
        if (t->cancel != CANCEL_NONE) { /* what lingers will never end */
            task_drop_op(t);
            break;
        }
        task_cancel(t, CANCEL_STALL);
    }
    rt->current = current;
}

int task_wait(lua_State *L, struct op *op)
{
    struct runtime *rt = runtime_of(L);
    struct task *t = rt->current;
    op->index = lua_gettop(L);
    op->woken = false;
    if (t == NULL || (!lua_isyieldable(L) && rt->worker == NULL)) {
        if (!op->done) {
            op->cancel(op);
        }
        return luaL_error(L, "%s", t ? TASK_CANNOT_WAIT : "cannot wait outside of a task");
    }
    bool cancelled = t->cancel != CANCEL_NONE && !in_grace(t);
    if (!op->done) {
        op->task = t;
        t->op = op;
        t->waited = op;
        if (cancelled) { /* as if it had waited already: what lingers ends in its time */
            task_end_wait(t);
        }
    }
    if (cancelled && (op->done || !op->lingers)) {
        task_check(L);
    }
    if (op->done) {
        return op->finish(L, op);
    }
    if (!lua_isyieldable(L)) {
        task_pump(t);
        return wait_k(L, LUA_OK, op->index);
    }
    t->state = TASK_WAITING;
    TRACE(TASK, "%llu waits", (unsigned long long)t->id);
    lua_pushlightuserdata(L, (void *)&task_wait_token);
    return lua_yieldk(L, 1, op->index, wait_k);
}
