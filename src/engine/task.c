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

/* ---- bodies ---- */

struct task *task_at(lua_State *L, int index)
{
    return runtime_userdata(L, index, runtime_of(L)->task_type, TASK_TYPE);
}

void task_push_self(lua_State *L, struct task *t)
{
    anchors_push(&t->rt->anchors, L, t->anchor);
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

/* Leaves one value: the result, a table of several, or the error. */
static int body_finish(lua_State *L, int status, lua_KContext ctx)
{
    struct task *t = (struct task *)ctx;
    t->failed = status != LUA_OK && status != LUA_YIELD;
    if (t->failed) {
        return 1;
    }
    int n = lua_gettop(L) - 1; // -- handler results...
    t->nresults = n;
    if (n == 0) {
        lua_pushnil(L);
    } else if (n > 1) {
        lua_createtable(L, n, 0);
        lua_insert(L, 2);
        for (int i = n; i >= 1; i--) {
            lua_rawseti(L, 2, i);
        }
    }
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

/* Allocates nothing. */
static void drop_anchors(lua_State *L, struct task *t)
{
    anchors_drop(&t->rt->anchors, L, t->co_anchor);
    anchors_drop(&t->rt->anchors, L, t->anchor);
}

/* Pushes the userdata of a task that does not run yet. */
static struct task *push_task(lua_State *L, struct runtime *rt)
{
    struct task *t = lua_newuserdatauv(L, sizeof(*t), UV_COUNT);
    *t = (struct task){.rt = rt, .state = TASK_DONE};
    list_init(&t->ready_node);
    list_init(&t->all_node);
    list_init(&t->sibling);
    list_init(&t->waiters);
    list_init(&t->permits);
    list_init(&t->held);
    list_init(&t->groups);
    list_init(&t->permit.node);
    group_init(&t->own, rt, t);
    lua_rawgeti(L, LUA_REGISTRYINDEX, rt->task_type);
    lua_setmetatable(L, -2);
    return t;
}

static void inherit(struct task *t, const struct task *parent)
{
    if (parent != NULL) {
        t->in_call = parent->in_call;
        t->call_id = parent->call_id;
        if (parent->cancel != CANCEL_NONE) {
            t->grace = GRACE_OVER; /* made by a closer: or one would lead to the next for ever */
        }
    }
}

/* Allocates nothing: there is a place for the group's userdata. */
static void join_group(lua_State *L, struct task *t, struct group *group, int group_index)
{
    struct task *user = t->rt->current;
    t->group = group;
    if (group->live == 0 && group->owner == NULL) {
        if (user != NULL) {
            group->user = user;
            list_append(&user->groups, &group->of_user);
        }
        lua_pushvalue(L, group_index);
        group->anchor = anchors_keep(&t->rt->anchors, L);
    }
    list_append(&group->children, &t->sibling);
    group->live++;
    if (group->cancel != CANCEL_NONE) {
        task_cancel(t, group->cancel);
    }
}

struct task *task_spawn(lua_State *L, int nargs, struct group *group, int group_index)
{
    struct runtime *rt = runtime_of(L);
    luaL_checkstack(L, 5, NULL);
    struct task *t = push_task(L, rt); // -- fn args... task
    lua_insert(L, -(nargs + 2));
    anchors_reserve(&rt->anchors, L, 3);
    lua_State *co = lua_newthread(L); // -- task fn args... co
    if (!lua_checkstack(co, nargs + 4)) {
        luaL_error(L, "too many arguments for a task");
    }
    /* nothing raises from here on */
    t->co_anchor = anchors_keep(&rt->anchors, L);
    lua_pushvalue(L, -(nargs + 2));
    t->anchor = anchors_keep(&rt->anchors, L);
    lua_pushcfunction(co, task_body);
    lua_xmove(L, co, nargs + 1);
    t->co = co;
    t->nargs = nargs + 1;
    t->id = ++rt->last_task_id;
    inherit(t, rt->current);
    t->state = TASK_READY;
    list_append(&rt->tasks, &t->all_node);
    list_append(&rt->ready, &t->ready_node);
    TRACE(TASK, "%llu starts in %s", (unsigned long long)t->id, rt->worker ? "a worker" : "main");
    if (group != NULL) {
        join_group(L, t, group, group_index);
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
    struct task *parent = group != NULL ? group_child_done(group, t) : NULL;
    drop_anchors(rt->L, t); /* the collector may have it from here on */
    return parent;
}

static void task_done(struct task *t)
{
    while (t != NULL) {
        t = task_finish(t);
    }
}

static void give_back(struct task *t)
{
    void (*take_back)(struct task_permit *) = t->permit.take_back;
    if (take_back != NULL) {
        t->permit.take_back = NULL;
        list_remove(&t->permit.node);
        take_back(&t->permit);
    }
}

/* Stores the one value on top of the coroutine as result or error. Allocates nothing. */
static void task_end(struct task *t)
{
    lua_State *L = t->rt->L;
    if (t->failed || t->nresults > 0) {
        task_push_self(L, t);
        lua_xmove(t->co, L, 1);
        lua_setiuservalue(L, -2, UV_RESULT);
        lua_pop(L, 1);
    }
    give_back(t);
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
    give_back(t);
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
    struct task *t = task_at(L, task_index);
    luaL_argcheck(L, t->state == TASK_DONE, task_index, "the task has not ended");
    t->observed = true;
    lua_pushboolean(L, !t->failed);
    lua_getiuservalue(L, task_index, UV_RESULT);
    if (t->failed || t->nresults == 1) {
        return 2;
    }
    int results = lua_gettop(L);
    luaL_argcheck(L, t->nresults == 0 || lua_istable(L, results), task_index,
                  "its results were taken away");
    luaL_checkstack(L, t->nresults, "too many results");
    for (int i = 1; i <= t->nresults; i++) {
        lua_rawgeti(L, results, i);
    }
    lua_remove(L, results);
    return t->nresults + 1;
}

void task_push_traceback(lua_State *L, int task_index)
{
    (void)task_at(L, task_index);
    lua_getiuservalue(L, task_index, UV_TRACEBACK);
}

void task_set_tag(lua_State *L, int task_index)
{
    (void)task_at(L, task_index);
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

void task_mark_call(lua_State *L, struct task *t)
{
    t->in_call = true;
    t->call_id = t->id;
    task_push_self(L, t);
    lua_insert(L, -2);
    lua_setiuservalue(L, -2, UV_CALL);
    lua_pop(L, 1);
}

void task_begin_call(lua_State *L, int job, int seconds)
{
    struct task *t = runtime_of(L)->current;
    luaL_argcheck(L, t != NULL, job, "only a task makes calls");
    if (lua_type(L, seconds) == LUA_TNUMBER) {
        task_set_deadline(t, lua_tonumber(L, seconds));
    }
    lua_pushvalue(L, job);
    task_mark_call(L, t);
    t->call_began = uv_hrtime();
}

int task_push_end_of_call(lua_State *L)
{
    const struct task *t = runtime_of(L)->current;
    lua_pushinteger(L, (lua_Integer)((uv_hrtime() - t->call_began) / 1000000));
    if (t->cancel != CANCEL_NONE) {
        lua_pushstring(L, cancel_reason_name(t->cancel));
    } else {
        lua_pushnil(L);
    }
    if (!watchdog_take(L)) {
        lua_pushnil(L);
    }
    return 3;
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
    struct task *t = task_at(L, 1);
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
    list_remove(&t->permit.node);
    return 0;
}

void task_open(lua_State *L)
{
    struct runtime *rt = runtime_of(L);
    anchors_open(&rt->anchors, L);
    cancel_open(L);
    protect_open(L);
    coroutine_open(L);
    luaL_newmetatable(L, TASK_TYPE);
    lua_pushcfunction(L, task_gc);
    lua_setfield(L, -2, "__gc");
    rt->task_type = luaL_ref(L, LUA_REGISTRYINDEX);
    group_open(L);
}
