#include "base/base.h"
#include "base/trace.h"

#include "engine/interrupt.h"
#include "engine/semaphore.h"
#include "engine/task.h"
#include "engine/task_int.h"
#include "engine/watchdog.h"
#include "io/timer.h"

#include <lauxlib.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { UV_RESULT = 1, UV_TRACEBACK, UV_TAG, UV_WATCHER, UV_CALL, UV_COUNT = UV_CALL };

#define DEEP 1000 /* levels of calls of which no traceback is made */
#define TASK_TYPE "lash.task"

/* registry: what lives as long as the task runs, by addresses in it: t -> its userdata, &t->co ->
 * its coroutine, &t->group -> the userdata of its group. Not user values: the debug library reaches
 * those. */
static const char anchor_key;

/* ---- bodies ---- */

void task_push_self(lua_State *L, struct task *t)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &anchor_key);
    lua_rawgetp(L, -1, t);
    lua_remove(L, -2);
}

/* Message handler: keeps the error as it is and stores the traceback of where it happened. */
static int body_traceback(lua_State *L)
{
    struct task *t = runtime_of(L)->current;
    task_unwinds(t);
    if (t != NULL && cancel_reason_of(L, 1) == CANCEL_NONE) {
        lua_Debug ar;
        task_push_self(L, t);
        if (lua_getstack(L, DEEP,
                         &ar)) { /* after a stack overflow a traceback alone takes a second */
            lua_pushfstring(L, "stack traceback:\n\t(more than %d levels of calls)", DEEP);
        } else {
            luaL_traceback(L, L, NULL, 1);
        }
        lua_setiuservalue(L, -2, UV_TRACEBACK);
        lua_settop(L, 1);
    }
    return 1;
}

/* Leaves one value: a table of the results with n, or the error. */
static int body_finish(lua_State *L, int status, lua_KContext ctx)
{
    struct task *t = (struct task *)ctx;
    t->failed = status != LUA_OK && status != LUA_YIELD;
    if (t->failed) {
        return 1;
    }
    int n = lua_gettop(L) - 1; // -- handler results...
    lua_createtable(L, n, 1);
    lua_insert(L, 2);
    for (int i = n; i >= 1; i--) {
        lua_rawseti(L, 2, i);
    }
    lua_pushinteger(L, n);
    lua_setfield(L, 2, "n");
    return 1;
}

static int task_body(lua_State *L)
{
    struct task *t = runtime_of(L)->current;
    lua_pushcfunction(L, body_traceback);
    lua_insert(L, 1); // -- handler fn args...
    int status = lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 1, (lua_KContext)t, body_finish);
    return body_finish(L, status, (lua_KContext)t);
}

/* The anchored coroutine of a task; anchors the group at `group_index` too, if that is not 0. */
static lua_State *make_thread(lua_State *L, struct task *t, int group_index)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &anchor_key);
    lua_State *co = lua_newthread(L);
    lua_rawsetp(L, -2, &t->co);
    if (group_index != 0) {
        lua_pushvalue(L, group_index);
        lua_rawsetp(L, -2, &t->group);
    }
    lua_pop(L, 1);
    return co;
}

/* Allocates nothing. */
static void drop_anchors(lua_State *L, struct task *t)
{
    const void *const keys[] = {t, &t->co, &t->group};
    lua_rawgetp(L, LUA_REGISTRYINDEX, &anchor_key);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (lua_rawgetp(L, -1, keys[i]) != LUA_TNIL) {
            lua_pushnil(L);
            lua_rawsetp(L, -3, keys[i]);
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

struct task *task_spawn(lua_State *L, int nargs, struct group *group, int group_index)
{
    struct runtime *rt = runtime_of(L);
    struct task *t = lua_newuserdatauv(L, sizeof(*t), UV_COUNT); // -- fn args... task
    *t = (struct task){.rt = rt, .state = TASK_DONE, .nargs = nargs + 1};
    list_init(&t->ready_node);
    list_init(&t->all_node);
    list_init(&t->sibling);
    list_init(&t->waiters);
    list_init(&t->permits);
    list_init(&t->held);
    list_init(&t->groups);
    group_init(&t->own, rt, t);
    luaL_setmetatable(L, TASK_TYPE);
    lua_insert(L, -(nargs + 2)); // -- task fn args...
    luaL_checkstack(L, 3, NULL);
    lua_State *co = make_thread(L, t, group_index);
    if (!lua_checkstack(co, nargs + 4)) {
        drop_anchors(L, t);
        luaL_error(L, "too many arguments for a task");
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &anchor_key);
    lua_pushvalue(L, -(nargs + 3));
    lua_rawsetp(L, -2, t);
    lua_pop(L, 1);
    /* nothing raises from here on */
    lua_pushcfunction(co, task_body);
    lua_xmove(L, co, nargs + 1);
    t->co = co;
    t->id = ++rt->last_task_id;
    t->in_call = rt->current != NULL && rt->current->in_call;
    t->call_id = rt->current != NULL ? rt->current->call_id : 0;
    if (rt->current != NULL && rt->current->cancel != CANCEL_NONE) {
        t->grace = GRACE_OVER; /* made by a closer: or one would lead to the next for ever */
    }
    t->state = TASK_READY;
    list_append(&rt->tasks, &t->all_node);
    list_append(&rt->ready, &t->ready_node);
    TRACE(TASK, "%llu starts in %s", (unsigned long long)t->id, rt->worker ? "a worker" : "main");
    t->group = group;
    if (group != NULL) {
        if (group->live == 0 && group->owner == NULL && rt->current != NULL) {
            group->user = rt->current;
            list_append(&rt->current->groups, &group->of_user);
        }
        list_append(&group->children, &t->sibling);
        group->live++;
        if (group->cancel != CANCEL_NONE) {
            task_cancel(t, group->cancel);
        }
    }
    return t;
}

static void stop_timers(struct task *t)
{
    timer_stop(t->deadline);
    t->deadline = NULL;
    task_end_grace(t);
}

void task_hold(struct task *t, struct held *held)
{
    if (t != NULL) {
        list_append(&t->held, &held->node);
    }
}

void task_drop_held(struct task *t)
{
    struct list *node;
    while ((node = list_take(&t->held)) != NULL) {
        struct held *held = container_of(node, struct held, node);
        held->drop(held);
    }
}

/* The task is over and so is everything that it spawned. Returns its parent if that is over with
 * it. */
static struct task *task_finish(struct task *t)
{
    struct runtime *rt = t->rt;
    TRACE(TASK, "%llu has %s", (unsigned long long)t->id, t->failed ? "failed" : "ended");
    t->state = TASK_DONE;
    t->co = NULL;
    list_remove(&t->all_node);
    stop_timers(t);
    permit_release_all(&t->permits);
    if (t->failed) {
        task_drop_held(t);
    }
    while (list_take(&t->held) != NULL) { /* it goes on without a holder */
    }
    group_finish_joins(&t->waiters);
    struct group *group = t->group;
    t->group = NULL;
    lua_State *L = rt->L;
    task_push_self(L, t); /* keeps it alive to the end of this function */
    struct task *parent = group != NULL ? group_child_done(group, t) : NULL;
    drop_anchors(L, t);
    lua_pop(L, 1);
    return parent;
}

static void task_done(struct task *t)
{
    while (t != NULL) {
        t = task_finish(t);
    }
}

/* Stores the one value on top of the coroutine as result or error. Allocates nothing. */
static void task_end(struct task *t)
{
    lua_State *L = t->rt->L;
    task_push_self(L, t);
    lua_xmove(t->co, L, 1);
    lua_setiuservalue(L, -2, UV_RESULT);
    lua_pop(L, 1);
    if (task_has_children(t)) {
        t->state = TASK_ENDING;
        task_cancel_children(t);
    } else {
        task_done(t);
    }
}

static void end_with_cancel(struct task *t)
{
    lua_State *L = t->rt->L;
    t->failed = true;
    task_push_self(L, t);
    cancel_push(L, t->cancel);
    lua_setiuservalue(L, -2, UV_RESULT);
    lua_pop(L, 1);
    task_done(t);
}

/* A foreign C function yielded past everybody, or an interrupted call is given up: nothing can be
 * raised there, so the task is closed. */
static void end_stray(struct task *t)
{
    t->failed = true;
    if (t->op != NULL) {
        t->op->cancel(t->op);
        task_drop_op(t);
    }
    struct runtime *rt = t->rt;
    struct task *current = rt->current;
    lua_State *innermost = rt->innermost;
    rt->current = t; /* its closers are its own, and are interrupted as it was */
    rt->innermost = t->co;
    (void)lua_resetthread(t->co);
    rt->innermost = innermost;
    rt->current = current;
    lua_settop(t->co, 0);
    cancel_push(t->co, t->cancel); /* allocates nothing: it may be memory that is short */
    task_end(t);
}

static void task_step(struct runtime *rt, struct task *t)
{
    if (t->cancel != CANCEL_NONE && t->nargs >= 0) { /* cancelled before its first step */
        end_with_cancel(t);
        return;
    }
    lua_State *co = t->co;
    if (t->nargs < 0 && task_is_waiting(co)) {
        lua_pop(co, 1);
    }
    int nargs = t->nargs > 0 ? t->nargs : 0;
    t->nargs = -1;
    t->state = TASK_RUNNING;
    struct task *outer = rt->current;
    rt->current = t;
    lua_State *from = rt->innermost ? rt->innermost : rt->L;
    int nres;
    int status = runtime_resume(rt, co, from, nargs, &nres);
    rt->current = outer;
    task_forget_stubborn(from); /* that was for this task alone */
    interrupt_end_step(rt, from);
    if (status == LUA_YIELD) {
        if (!task_is_token(co, nres)) {
            end_stray(t);
        }
        return;
    }
    t->failed = t->failed || status != LUA_OK;
    task_end(t);
}

void task_run_ready(struct runtime *rt)
{
    struct list *last = rt->ready.prev; /* only those that are ready now: the loop gets its turn */
    struct list *node;
    while ((node = list_take(&rt->ready)) != NULL) {
        watchdog_begin(rt);
        task_step(rt, container_of(node, struct task, ready_node));
        watchdog_end(rt);
        if (node == last) {
            break;
        }
    }
}

int task_push_results(lua_State *L, int task_index)
{
    struct task *t = luaL_checkudata(L, task_index, TASK_TYPE);
    luaL_argcheck(L, t->state == TASK_DONE, task_index, "the task has not ended");
    t->observed = true;
    lua_pushboolean(L, !t->failed);
    lua_getiuservalue(L, task_index, UV_RESULT);
    if (t->failed) {
        return 2;
    }
    int results = lua_gettop(L);
    luaL_argcheck(L, lua_istable(L, results), task_index, "its results were taken away");
    lua_getfield(L, results, "n");
    lua_Integer count = lua_tointeger(L, -1);
    lua_pop(L, 1);
    luaL_argcheck(L, count >= 0 && count < INT_MAX, task_index, "its results were changed");
    int n = (int)count;
    luaL_checkstack(L, n, "too many results");
    for (int i = 1; i <= n; i++) {
        lua_rawgeti(L, results, i);
    }
    lua_remove(L, results);
    return n + 1;
}

void task_push_traceback(lua_State *L, int task_index)
{
    luaL_checkudata(L, task_index, TASK_TYPE);
    lua_getiuservalue(L, task_index, UV_TRACEBACK);
}

void task_set_tag(lua_State *L, int task_index)
{
    luaL_checkudata(L, task_index, TASK_TYPE);
    lua_setiuservalue(L, task_index, UV_TAG);
}

const char *task_push_tag(lua_State *L, struct task *t)
{
    task_push_self(L, t);
    lua_getiuservalue(L, -1, UV_TAG);
    lua_remove(L, -2);
    return lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
}

bool task_push_watcher(lua_State *L)
{
    struct task *t = runtime_of(L)->current;
    if (t == NULL) {
        return false;
    }
    task_push_self(L, t);
    lua_getiuservalue(L, -1, UV_WATCHER);
    lua_remove(L, -2);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return false;
    }
    return true;
}

void task_swap_watcher(lua_State *L, int index)
{
    task_push_self(L, runtime_of(L)->current);
    lua_getiuservalue(L, -1, UV_WATCHER);
    lua_pushvalue(L, index);
    lua_setiuservalue(L, -3, UV_WATCHER);
    lua_replace(L, index);
    lua_pop(L, 1);
}

void task_mark_call(lua_State *L, int task_index)
{
    struct task *t = luaL_checkudata(L, task_index, TASK_TYPE);
    t->in_call = true;
    t->call_id = t->id;
    lua_setiuservalue(L, task_index, UV_CALL);
}

int task_push_call(lua_State *L, const struct task *t)
{
    for (struct list *n = t->rt->tasks.next; n != &t->rt->tasks; n = n->next) {
        struct task *call = container_of(n, struct task, all_node);
        if (call->id == t->call_id) {
            task_push_self(L, call);
            lua_getiuservalue(L, -1, UV_CALL);
            lua_remove(L, -2);
            return 1;
        }
    }
    return 0;
}

static bool task_has_ended(void *arg)
{
    struct task *t = arg;
    return t->state == TASK_DONE;
}

void task_drive(struct task *t)
{
    while (runtime_run(t->rt, task_has_ended, t) != 0) {
        task_cancel(t, CANCEL_STALL);
    }
}

static bool no_task(void *arg)
{
    struct runtime *rt = arg;
    return list_empty(&rt->tasks);
}

struct grace {
    struct runtime *rt;
    bool over;
};

static void on_grace(void *arg)
{
    struct grace *g = arg;
    g->over = true;
}

static bool grace_is_over(void *arg)
{
    struct grace *g = arg;
    return g->over || no_task(g->rt);
}

void task_cancel_all(struct runtime *rt, enum cancel_reason reason, uint64_t grace_ms)
{
    if (no_task(rt)) {
        return;
    }
    for (struct list *n = rt->tasks.next; n != &rt->tasks; n = n->next) {
        task_cancel(container_of(n, struct task, all_node), reason);
    }
    struct grace g = {.rt = rt};
    struct timer *timer = timer_start(runtime_loop(rt), grace_ms, on_grace, &g);
    (void)runtime_run(rt, grace_is_over, &g);
    if (!g.over) {
        timer_stop(timer);
    }
}

static int task_gc(lua_State *L)
{
    struct task *t = luaL_checkudata(L, 1, TASK_TYPE);
    if (t->state != TASK_DONE && !t->rt->closing) { /* called by a script */
        return 0;
    }
    if (t->failed && !t->observed && t->rt != NULL && t->cancel == CANCEL_NONE) {
        t->observed = true;
        lua_getiuservalue(L, 1, UV_RESULT);
        const char *text = lua_isstring(L, -1) ? lua_tostring(L, -1) : luaL_typename(L, -1);
        fprintf(stderr, "lash: task %llu failed and nobody asked for its result: %s\n",
                (unsigned long long)t->id, text);
    }
    stop_timers(t);
    list_remove(&t->all_node);
    list_remove(&t->ready_node);
    list_remove(&t->sibling);
    return 0;
}

void task_open(lua_State *L)
{
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &anchor_key);
    cancel_open(L);
    protect_open(L);
    coroutine_open(L);
    luaL_newmetatable(L, TASK_TYPE);
    lua_pushcfunction(L, task_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    group_open(L);
}
