/*
 * The part of lash.core.engine that is about workers: shipping functions, running them there, and
 * what a running call tells and asks.
 */
#include "base/base.h"
#include "base/patience.h"

#include "bind/bind.h"
#include "engine/pristine.h"
#include "engine/ship.h"
#include "engine/task.h"
#include "engine/worker.h"

#include <lauxlib.h>

/* ship(what, values...) -> bytes; raises when something cannot travel */
static int l_ship(lua_State *L)
{
    const char *what = luaL_checkstring(L, 1);
    ship_encode(L, lua_gettop(L) - 1, what, false);
    return 1;
}

/* Watches the deadline of a call that runs in the thread whose loop has the timer. */
static void deadline_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    struct task *t = runtime_of(L)->current;
    if (task_deadline_passed(t)) {
        task_cancel(t, CANCEL_DEADLINE);
        lua_sethook(L, deadline_hook, LUA_MASKCOUNT, 1); /* no pcall loop outlives the next ones */
        task_check(L);
    }
}

static int offload_here_done(lua_State *L, int status, lua_KContext unwinding)
{
    runtime_of(L)->current->unwinding = unwinding != 0;
    if (lua_gethook(L) == deadline_hook) {
        lua_sethook(L, NULL, 0, 0);
    }
    task_swap_watcher(L, 1);
    task_check(L); /* as after a wait */
    bool ok = status == LUA_OK || status == LUA_YIELD;
    lua_pushboolean(L, ok);
    lua_replace(L, 2);
    return lua_gettop(L) - 1;
}

/* A worker asks and nobody is free: it does the work itself, rather than wait for a worker. Reports
 * go to its own watcher. */
static int offload_here(lua_State *L)
{
    size_t code_len, args_len;
    const char *code = lua_tolstring(L, 2, &code_len);
    const char *args = lua_tolstring(L, 3, &args_len);
    pristine_push_globals(L);
    int globals = lua_gettop(L);
    int n = ship_decode(L, code, code_len, globals);
    n += ship_decode(L, args, args_len, globals);
    lua_rotate(L, 3, n); // -- watcher code fn args... the rest
    lua_settop(L, n + 2);
    task_swap_watcher(L, 1);
    lua_pushcfunction(L, task_on_error);
    lua_replace(L, 2); // -- watcher handler fn args...
    if (lua_gethook(L) == NULL) {
        lua_sethook(L, deadline_hook, LUA_MASKCOUNT, RUNTIME_GENTLE_COUNT);
    }
    lua_KContext unwinding = runtime_of(L)->current->unwinding;
    int status = lua_pcallk(L, n - 1, LUA_MULTRET, 2, unwinding, offload_here_done);
    return offload_here_done(L, status, unwinding);
}

/* Workers find the modules that the main state finds: a script may change package.path any time. */
static void pass_search_path(lua_State *L, struct pool *pool)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    if (lua_getfield(L, -1, "package") == LUA_TTABLE) {
        lua_getfield(L, -1, "path");
        lua_getfield(L, -2, "cpath");
        if (lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TSTRING) {
            pool_set_search_path(pool, lua_tostring(L, -2), lua_tostring(L, -1));
        }
        lua_pop(L, 2);
    }
    lua_pop(L, 2);
}

/* -- watcher | nil, code, args...; memory < 0: the limit of the pool */
static int offload(lua_State *L, lua_Integer memory)
{
    struct runtime *rt = runtime_of(L);
    size_t code_len, args_len;
    const char *code = luaL_checklstring(L, 2, &code_len);
    task_check(L);
    if (rt->current == NULL) {
        return luaL_error(L, "cannot wait outside of a task");
    }
    ship_encode(L, lua_gettop(L) - 2, "an argument", true); // -- watcher code values... args
    lua_insert(L, 3);
    lua_settop(L, 3);
    struct pool *pool = bind_pool(rt);
    if (rt->worker == NULL) {
        pass_search_path(L, pool);
    }
    int watcher = lua_isnil(L, 1) ? 0 : 1;
    const char *args = lua_tolstring(L, 3, &args_len);
    const char *tag = rt->current != NULL ? task_push_tag(L, rt->current) : NULL;
    size_t bytes = memory < 0 ? pool_memory(pool) : (size_t)memory;
    struct op *op = pool_push_offload(L, pool, code, code_len, args, args_len, watcher, tag, bytes);
    return op != NULL ? task_wait(L, op) : offload_here(L);
}

/* offload(code, args...) -> true, results... | false, error, traceback: runs a shipped function on
 * a worker and waits for it */
static int l_offload(lua_State *L)
{
    lua_pushnil(L);
    lua_insert(L, 1);
    return offload(L, -1);
}

/* offload_within(bytes | nil, on_report | nil, code, args...): the same with a memory limit of its
 * own, 0 = none, and on_report as in offload_watched. When the work is done in place, by the worker
 * that asks, the limit of its own call holds. */
static int l_offload_within(lua_State *L)
{
    lua_Integer bytes = -1;
    if (!lua_isnil(L, 1)) {
        bytes = luaL_checkinteger(L, 1);
        luaL_argcheck(L, bytes >= 0, 1, "a limit is at least 0 bytes");
    }
    if (!lua_isnil(L, 2)) {
        luaL_checktype(L, 2, LUA_TFUNCTION);
    }
    lua_remove(L, 1);
    return offload(L, bytes);
}

/* memory_limit([bytes]) -> bytes that a job may use which does not say how many; 0 = no limit */
static int l_memory_limit(lua_State *L)
{
    luaL_argcheck(L, !runtime_of(L)->closing, 1, "the program ends: there are no workers any more");
    struct pool *pool = bind_pool(runtime_of(L));
    if (!lua_isnoneornil(L, 1)) {
        lua_Integer bytes = luaL_checkinteger(L, 1);
        luaL_argcheck(L, bytes >= 0, 1, "a limit is at least 0 bytes");
        pool_set_memory(pool, (size_t)bytes);
    }
    lua_pushinteger(L, (lua_Integer)pool_memory(pool));
    return 1;
}

/* memory_fault() -> the sentence about the memory limit that the running job has met, or nil */
static int l_memory_fault(lua_State *L)
{
    memory_push_fault(L, &runtime_of(L)->memory);
    return 1;
}

/* offload_watched(on_report, code, args...): the same, and on_report(values...) is called in the
 * waiting task for each engine.report(values...) of the function. */
static int l_offload_watched(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    return offload(L, -1);
}

/* report(values...) -> true when they are on their way to the one who has offloaded the running
 * function; false when nobody wants them, or too many are on their way. */
static int l_report(lua_State *L)
{
    struct worker *w = runtime_of(L)->worker;
    bool sent = false;
    if (task_push_watcher(L)) {
        lua_insert(L, 1);
        lua_call(L, lua_gettop(L) - 1, 0);
        sent = true;
    } else if (w != NULL) {
        size_t len;
        ship_encode(L, lua_gettop(L), "a report", true);
        const char *data = lua_tolstring(L, -1, &len);
        sent = worker_report(w, data, len);
    }
    lua_pushboolean(L, sent);
    return 1;
}

/* cancelled() -> true when the running task, or the call that it works for, is to end. */
static int l_cancelled(lua_State *L)
{
    struct runtime *rt = runtime_of(L);
    bool task = rt->current != NULL && rt->current->cancel != CANCEL_NONE;
    lua_pushboolean(L, task || (rt->worker != NULL && worker_cancelled(rt->worker)));
    return 1;
}

/* late([prefix]) -> nil, or list of { tag =, ms = }: results that came after their call was given
 * up, of tasks whose tag begins with the prefix; each is told once. */
static int l_late(lua_State *L)
{
    struct runtime *rt = runtime_of(L);
    const char *prefix = luaL_optstring(L, 1, "");
    lua_settop(L, 1);
    if (rt->pool != NULL && rt->worker == NULL) {
        for (lua_Integer i = 1; pool_push_late(L, rt->pool, prefix); i++) {
            if (i == 1) {
                lua_newtable(L); // -- prefix late list
                lua_insert(L, 2);
            }
            lua_rawseti(L, 2, i);
        }
    }
    return lua_gettop(L) - 1;
}

/* jobs([n]) -> how many workers there may be */
static int l_jobs(lua_State *L)
{
    luaL_argcheck(L, !runtime_of(L)->closing, 1, "the program ends: there are no workers any more");
    struct pool *pool = bind_pool(runtime_of(L));
    if (!lua_isnoneornil(L, 1)) {
        lua_Integer n = luaL_checkinteger(L, 1);
        luaL_argcheck(L, n >= 1 && n <= 1024, 1, "between 1 and 1024 workers");
        pool_set_limit(pool, (size_t)n);
    }
    lua_pushinteger(L, (lua_Integer)pool_limit(pool));
    return 1;
}

static int l_workers(lua_State *L)
{
    struct runtime *rt = runtime_of(L);
    lua_pushinteger(L, rt->pool ? (lua_Integer)pool_size(rt->pool) : 0);
    return 1;
}

static int l_in_worker(lua_State *L)
{
    lua_pushboolean(L, runtime_of(L)->worker != NULL);
    return 1;
}

/* patience(n): for tests, see base/patience.h */
static int l_patience(lua_State *L)
{
    lua_Integer n = luaL_checkinteger(L, 1);
    luaL_argcheck(L, n >= 1 && n <= 1000, 1, "between 1 and 1000 times the usual");
    patience_set((unsigned)n);
    return 0;
}

void bind_add_offload(lua_State *L)
{
    static const luaL_Reg functions[] = {{"ship", l_ship},
                                         {"offload", l_offload},
                                         {"offload_watched", l_offload_watched},
                                         {"offload_within", l_offload_within},
                                         {"memory_limit", l_memory_limit},
                                         {"memory_fault", l_memory_fault},
                                         {"report", l_report},
                                         {"cancelled", l_cancelled},
                                         {"late", l_late},
                                         {"jobs", l_jobs},
                                         {"workers", l_workers},
                                         {"in_worker", l_in_worker},
                                         {"patience", l_patience},
                                         {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
