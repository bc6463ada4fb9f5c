/*
 * lash.core.engine: tasks, groups and batches for the Lua library; l_offload.c adds what is about
 * workers. Users see them through lash.spawn, lash.gather, lash.map and the agents; nothing here is
 * documented for scripts.
 */
#include "base/base.h"

#include "bind/bind.h"
#include "bind/type.h"
#include "engine/task.h"
#include "engine/worker.h"

#include <lauxlib.h>
#include <string.h>

#define GROUP_TYPE "lash.group"

static enum cancel_reason check_reason(lua_State *L, int index)
{
    static const char *const names[] = {"user", "deadline", "sibling", "parent", NULL};
    static const enum cancel_reason reasons[] = {CANCEL_USER, CANCEL_DEADLINE, CANCEL_SIBLING,
                                                 CANCEL_PARENT};
    return reasons[luaL_checkoption(L, index, "user", names)];
}

/* ---- tasks ---- */

static struct task *check_task(lua_State *L)
{
    return task_at(L, 1);
}

void bind_check_call(lua_State *L)
{
    struct runtime *rt = runtime_of(L);
    if (rt->worker != NULL && rt->current == NULL) {
        luaL_error(L, "the call has ended: a finalizer cannot start a task any more");
    }
}

/* spawn(fn, ...) -> task, a child of the running task */
static int l_spawn(lua_State *L)
{
    struct runtime *rt = runtime_of(L);
    luaL_checktype(L, 1, LUA_TFUNCTION);
    struct task *parent = rt->current;
    if (rt->closing) {
        return luaL_error(L, "the program ends: no new task can start");
    }
    bind_check_call(L);
    if (parent == NULL) {
        task_spawn(L, lua_gettop(L) - 1, NULL, 0);
        return 1;
    }
    task_check(L);
    task_spawn(L, lua_gettop(L) - 1, &parent->own, 0);
    return 1;
}

static int l_task_wait(lua_State *L)
{
    struct task *t = check_task(L);
    luaL_argcheck(L, t != runtime_of(L)->current, 1, "a task cannot wait for itself");
    lua_settop(L, 1);
    return task_wait(L, task_push_join(L, t));
}

/* task:result() -> true, values... | false, error; the task must have ended */
static int l_task_result(lua_State *L)
{
    check_task(L);
    lua_settop(L, 1);
    return task_push_results(L, 1);
}

static int l_task_traceback(lua_State *L)
{
    check_task(L);
    task_push_traceback(L, 1);
    return 1;
}

static int l_task_cancel(lua_State *L)
{
    task_cancel(check_task(L), check_reason(L, 2));
    return 0;
}

static int l_task_deadline(lua_State *L)
{
    lua_Number seconds = luaL_checknumber(L, 2);
    luaL_argcheck(L, seconds == seconds, 2, "expected a number of seconds, got NaN");
    task_set_deadline(check_task(L), seconds);
    return 0;
}

static int l_task_status(lua_State *L)
{
    static const char *const names[] = {"ready", "running", "waiting", "ending", "done"};
    lua_pushstring(L, names[check_task(L)->state]);
    return 1;
}

/* task:lost() -> true when it was cancelled and a worker may still run what it had offloaded */
static int l_task_lost(lua_State *L)
{
    lua_pushboolean(L, check_task(L)->lost);
    return 1;
}

/* task:cancelled() -> the reason for which it was cancelled, or nil; also while it runs on */
static int l_task_cancelled(lua_State *L)
{
    enum cancel_reason reason = check_task(L)->cancel;
    if (reason == CANCEL_NONE) {
        return 0;
    }
    lua_pushstring(L, cancel_reason_name(reason));
    return 1;
}

/* task:told(): somebody has told of its error, should it fail. */
static int l_task_told(lua_State *L)
{
    check_task(L)->observed = true;
    return 0;
}

/* task:mark_call(job): this task and what it spawns run a tool's function, which the watchdog finds
 * in the table. */
static int l_task_mark_call(lua_State *L)
{
    struct task *t = check_task(L);
    luaL_argcheck(L, t->state != TASK_DONE, 1, "the task has ended");
    lua_settop(L, 2);
    task_mark_call(L, t);
    return 0;
}

/* task:begun() -> hrtime() at which it began a call, or nil */
static int l_task_begun(lua_State *L)
{
    const struct task *t = check_task(L);
    if (t->call_began == 0) {
        return 0;
    }
    lua_pushinteger(L, (lua_Integer)t->call_began);
    return 1;
}

/* task:tag(text): the name under which engine.late() tells of what it offloads. */
static int l_task_tag(lua_State *L)
{
    check_task(L);
    luaL_checkstring(L, 2);
    lua_settop(L, 2);
    task_set_tag(L, 1);
    return 0;
}

static int l_current(lua_State *L)
{
    struct task *t = runtime_of(L)->current;
    if (t == NULL) {
        return 0;
    }
    task_push_self(L, t);
    return 1;
}

static int l_in_call(lua_State *L)
{
    struct task *t = runtime_of(L)->current;
    lua_pushboolean(L, t != NULL && t->in_call);
    return 1;
}

static int l_check(lua_State *L)
{
    task_check(L);
    return 0;
}

/* cancel_reason(err) -> "user", "deadline", ... | nil */
static int l_cancel_reason(lua_State *L)
{
    luaL_checkany(L, 1);
    enum cancel_reason reason = cancel_reason_of(L, 1);
    if (reason == CANCEL_NONE) {
        return 0;
    }
    lua_pushstring(L, cancel_reason_name(reason));
    return 1;
}

/* begin_call(job, seconds | false, tag): the running task begins a call, as mark_call() says, and
 * has so much time for it; the tag is for engine.late() */
static int l_begin_call(lua_State *L)
{
    luaL_checkstring(L, 3);
    lua_settop(L, 3);
    task_begin_call(L, 1, 2);
    task_push_self(L, runtime_of(L)->current);
    lua_replace(L, 2); // -- job task tag
    task_set_tag(L, 2);
    return 0;
}

/* end_call() -> ms since then, the reason for which the running task was cancelled or nil, and the
 * function of lash.watchdog that tells that it has held the loop, or nil */
static int l_end_call(lua_State *L)
{
    const struct task *t = runtime_of(L)->current;
    luaL_argcheck(L, t != NULL && t->call_began != 0, 1, "no call has begun");
    return task_push_end_of_call(L);
}

/* ---- groups ---- */

static int l_group(lua_State *L)
{
    bool fail_fast = lua_toboolean(L, 1);
    struct group *g = lua_newuserdatauv(L, sizeof(*g), 0);
    group_init(g, runtime_of(L), NULL);
    g->fail_fast = fail_fast;
    luaL_setmetatable(L, GROUP_TYPE);
    return 1;
}

static int l_group_spawn(lua_State *L)
{
    struct group *g = luaL_checkudata(L, 1, GROUP_TYPE);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    task_check(L);
    bind_check_call(L);
    task_spawn(L, lua_gettop(L) - 2, g, 1);
    return 1;
}

static int l_group_wait(lua_State *L)
{
    struct group *g = luaL_checkudata(L, 1, GROUP_TYPE);
    struct task *t = runtime_of(L)->current;
    luaL_argcheck(L, t == NULL || t->group != g, 1, "a task cannot wait for its own group");
    lua_settop(L, 1);
    return task_wait(L, group_push_join(L, g));
}

static int l_group_cancel(lua_State *L)
{
    struct group *g = luaL_checkudata(L, 1, GROUP_TYPE);
    group_cancel(g, check_reason(L, 2));
    return 0;
}

/* A group that nobody waited for to its end (an error flew past) must not leave children behind. */
static int l_group_close(lua_State *L)
{
    struct group *g = luaL_checkudata(L, 1, GROUP_TYPE);
    lua_settop(L, 1);
    if (g->live == 0) {
        return 0;
    }
    group_cancel(g, CANCEL_PARENT);
    return task_wait(L, group_push_join(L, g));
}

/* ---- the loop ---- */

/* drive(fn, ...) -> true, results... | false, error: for callers that are not tasks */
static int l_drive(lua_State *L)
{
    struct runtime *rt = runtime_of(L);
    luaL_checktype(L, 1, LUA_TFUNCTION);
    if (rt->current != NULL) {
        return luaL_error(L, "a task cannot drive the loop that it runs on");
    }
    bind_check_call(L);
    int err = rt->closing ? UV_ECANCELED : runtime_open_loop(rt);
    if (err != 0) {
        return luaL_error(L, "no event loop can be had: %s", uv_strerror(err));
    }
    lua_pushnil(L);
    lua_insert(L, 1); // -- nil fn args...
    struct task *t = task_spawn(L, lua_gettop(L) - 2, NULL, 0);
    lua_replace(L, 1);
    lua_settop(L, 1);
    task_drive(t);
    if (!rt->owns_state) { /* a guest in somebody else's program leaves nothing running behind */
        task_cancel_all(rt, CANCEL_PARENT, 1000);
        (void)bind_close_pool(rt);
        runtime_close_loop(rt);
    }
    return task_push_results(L, 1);
}

/* reserve(slots): room on the stack of the coroutine that calls, at once: it is doubled otherwise.
 */
static int l_reserve(lua_State *L)
{
    lua_Integer slots = luaL_checkinteger(L, 1);
    luaL_argcheck(L, slots > 0 && slots < 1000, 1, "a few slots");
    luaL_checkstack(L, (int)slots, NULL);
    return 0;
}

static int l_hrtime(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)uv_hrtime());
    return 1;
}

/* memory() -> bytes in this Lua state */
static int l_memory(lua_State *L)
{
    struct runtime *rt = runtime_of(L);
    lua_Integer counted = (lua_Integer)rt->memory.used;
    lua_Integer asked = (lua_Integer)lua_gc(L, LUA_GCCOUNT) * 1024 + lua_gc(L, LUA_GCCOUNTB);
    lua_pushinteger(L, rt->owns_state ? counted : asked);
    return 1;
}

/* live() -> tasks that have not ended, open handles of the loop: for tests */
static int l_live(lua_State *L)
{
    struct runtime *rt = runtime_of(L);
    lua_Integer tasks = 0;
    for (struct list *n = rt->tasks.next; n != &rt->tasks; n = n->next) {
        tasks++;
    }
    lua_pushinteger(L, tasks);
    lua_pushinteger(L, rt->loop_open ? (lua_Integer)rt->loop.active_handles : 0);
    return 2;
}

static void new_type(lua_State *L, const char *name, const luaL_Reg *methods)
{
    bind_type_push(L, name, methods);
    bind_type_hide(L, name, NULL);
    lua_pop(L, 1);
}

int luaopen_lash_core_engine(lua_State *L)
{
    static const luaL_Reg task_methods[] = {{"wait", l_task_wait},
                                            {"result", l_task_result},
                                            {"cancel", l_task_cancel},
                                            {"deadline", l_task_deadline},
                                            {"status", l_task_status},
                                            {"traceback", l_task_traceback},
                                            {"mark_call", l_task_mark_call},
                                            {"lost", l_task_lost},
                                            {"tag", l_task_tag},
                                            {"cancelled", l_task_cancelled},
                                            {"told", l_task_told},
                                            {"begun", l_task_begun},
                                            {NULL, NULL}};
    static const luaL_Reg group_methods[] = {{"spawn", l_group_spawn},
                                             {"wait", l_group_wait},
                                             {"cancel", l_group_cancel},
                                             {"__close", l_group_close},
                                             {NULL, NULL}};
    static const luaL_Reg functions[] = {{"spawn", l_spawn},
                                         {"current", l_current},
                                         {"in_call", l_in_call},
                                         {"check", l_check},
                                         {"cancel_reason", l_cancel_reason},
                                         {"group", l_group},
                                         {"begin_call", l_begin_call},
                                         {"end_call", l_end_call},
                                         {"caller", protect_push_caller},
                                         {"attempt", protect_push_attempt},
                                         {"drive", l_drive},
                                         {"hrtime", l_hrtime},
                                         {"reserve", l_reserve},
                                         {"memory", l_memory},
                                         {"live", l_live},
                                         {NULL, NULL}};
    new_type(L, "lash.task", task_methods);
    new_type(L, GROUP_TYPE, group_methods);
    luaL_newlib(L, functions);
    bind_add_batch(L);
    bind_add_offload(L);
    return 1;
}
