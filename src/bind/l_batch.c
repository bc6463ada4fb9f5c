/*
 * The part of lash.core.engine that is about batches: permits for calls, and the tasks that run
 * under them.
 */
#include "base/base.h"

#include "bind/bind.h"
#include "bind/type.h"
#include "engine/dispatch.h"
#include "engine/task.h"

#include <lauxlib.h>
#include <limits.h>

#define BATCH_TYPE "lash.batch"
#define NEXT_TYPE "lash.batch.next"

struct next_op {
    struct op op;
    struct lua_batch *batch; /* borrowed: on the waiter's stack */
};

struct lua_batch {
    struct batch *batch; /* owned; NULL when closed */
    struct next_op *waiting;
    struct group group; /* the tasks that run() has started */
    struct list lent;   /* struct task_permit.node: theirs */
    bool closing;       /* run() was left before their end: the last one closes the batch */
};

static struct lua_batch *check_batch(lua_State *L)
{
    struct lua_batch *b = runtime_userdata(L, 1, runtime_of(L)->batch_type, BATCH_TYPE);
    luaL_argcheck(L, b->batch != NULL, 1, "the batch is closed");
    return b;
}

static void batch_wake(void *arg)
{
    struct lua_batch *b = arg;
    struct next_op *next = b->waiting;
    b->waiting = NULL;
    if (next != NULL) {
        op_done(&next->op);
    }
}

/* batch(cap [, uncounted]); one that is made inside a running call never counts for the process */
static int l_batch(lua_State *L)
{
    lua_Integer cap = luaL_checkinteger(L, 1);
    luaL_argcheck(L, cap >= 1, 1, "at least one call must be allowed to run");
    lua_settop(L, 2);
    struct lua_batch *b = lua_newuserdatauv(L, sizeof(*b), 0);
    *b = (struct lua_batch){0};
    struct runtime *rt = runtime_of(L);
    group_init(&b->group, rt, NULL);
    list_init(&b->lent);
    lua_rawgeti(L, LUA_REGISTRYINDEX, rt->batch_type);
    lua_setmetatable(L, -2);
    bool counted = !lua_toboolean(L, 2) && (rt->current == NULL || !rt->current->in_call);
    b->batch = batch_new(&rt->dispatcher, (size_t)cap, counted, batch_wake, b);
    return 1;
}

/* batch:add(barrier) -> the number of the new slot */
static int l_batch_add(lua_State *L)
{
    struct lua_batch *b = check_batch(L);
    size_t slot = batch_add(b->batch, lua_toboolean(L, 2));
    lua_pushinteger(L, (lua_Integer)slot + 1);
    return 1;
}

static size_t check_slot(lua_State *L, const struct lua_batch *b, bool running)
{
    lua_Integer slot = luaL_checkinteger(L, 2);
    luaL_argcheck(L, slot >= 1 && (size_t)slot <= batch_count(b->batch), 2,
                  "there is no such slot");
    luaL_argcheck(L, !running || batch_runs(b->batch, (size_t)slot - 1), 2,
                  "the slot does not run");
    return (size_t)slot - 1;
}

/* batch:limit(slot, kind, name, limit) */
static int l_batch_limit(lua_State *L)
{
    struct lua_batch *b = check_batch(L);
    lua_Integer limit = luaL_checkinteger(L, 5);
    luaL_argcheck(L, limit >= 1, 5, "a limit is at least 1");
    size_t slot = check_slot(L, b, false);
    bool fits = batch_limit(b->batch, slot, luaL_checkstring(L, 3)[0], luaL_checkstring(L, 4),
                            (size_t)limit);
    luaL_argcheck(L, fits, 2, "the slot has limits enough");
    return 0;
}

/* batch:start([n]) -> slots that have to wait for their permit. Before, n slots are added that need
 * no more than that. */
static int l_batch_start(lua_State *L)
{
    struct batch *b = check_batch(L)->batch;
    lua_Integer n = luaL_optinteger(L, 2, 0);
    luaL_argcheck(L, n >= 0 && n <= INT_MAX, 2, "expected a number of slots");
    for (lua_Integer i = 0; i < n; i++) {
        (void)batch_add(b, false);
    }
    batch_start(b);
    lua_pushinteger(L, (lua_Integer)batch_pending(b));
    return 1;
}

static void next_cancel(struct op *op)
{
    struct next_op *next = (struct next_op *)op;
    if (next->batch != NULL && next->batch->waiting == next) {
        next->batch->waiting = NULL;
    }
}

/* Waits for the next slot that gets its permit; finish() goes on then. */
static int await_permit(lua_State *L, struct lua_batch *b,
                        int (*finish)(lua_State *L, struct op *op))
{
    struct next_op *next = lua_newuserdatauv(L, sizeof(*next), 0);
    *next = (struct next_op){.op = {.cancel = next_cancel, .finish = finish}, .batch = b};
    luaL_setmetatable(L, NEXT_TYPE);
    b->waiting = next;
    return task_wait(L, &next->op);
}

static int batch_next(lua_State *L, struct lua_batch *b);

static int next_finish(lua_State *L, struct op *op)
{
    struct lua_batch *b = ((struct next_op *)op)->batch;
    luaL_argcheck(L, b->batch != NULL, 1, "the batch is closed");
    lua_settop(L, 1);
    return batch_next(L, b);
}

static int batch_next(lua_State *L, struct lua_batch *b)
{
    long slot = batch_take(b->batch);
    if (slot >= 0) {
        lua_pushinteger(L, slot + 1);
        return 1;
    }
    return batch_done(b->batch) ? 0 : await_permit(L, b, next_finish);
}

/* batch:next() -> slot that got its permit, waiting for one; nil when all are settled */
static int l_batch_next(lua_State *L)
{
    struct lua_batch *b = check_batch(L);
    lua_settop(L, 1);
    return batch_next(L, b);
}

/* Its tasks have nothing to give back any more. */
static void drop(struct lua_batch *b)
{
    struct list *node;
    while ((node = list_take(&b->lent)) != NULL) {
        container_of(node, struct task_permit, node)->take_back = NULL;
    }
    batch_free(b->batch);
    b->batch = NULL;
    batch_wake(b); /* who waits finds it closed */
}

static void settle(struct lua_batch *b, size_t slot)
{
    batch_settle(b->batch, slot);
    if (!batch_done(b->batch)) {
        return;
    } else if (b->closing) {
        drop(b);
    } else {
        batch_wake(b);
    }
}

static int l_batch_settle(lua_State *L)
{
    struct lua_batch *b = check_batch(L);
    settle(b, check_slot(L, b, true));
    return 0;
}

/* ---- tasks ---- */

static void take_back(struct task_permit *permit)
{
    settle(permit->lender, permit->slot);
}

static void lend(struct lua_batch *b, struct task *t, size_t slot)
{
    t->permit.take_back = take_back;
    t->permit.lender = b;
    t->permit.slot = slot;
    list_append(&b->lent, &t->permit.node);
}

static int batch_run(lua_State *L, struct lua_batch *b);

static int run_finish(lua_State *L, struct op *op)
{
    struct lua_batch *b = ((struct next_op *)op)->batch;
    luaL_argcheck(L, b->batch != NULL, 1, "the batch is closed");
    lua_settop(L, 4);
    return batch_run(L, b);
}

/* -- batch fn list tasks */
static int batch_run(lua_State *L, struct lua_batch *b)
{
    long slot;
    while ((slot = batch_first(b->batch)) >= 0) {
        lua_pushvalue(L, 2);
        lua_rawgeti(L, 3, slot + 1);
        lua_pushinteger(L, slot + 1);
        lend(b, task_spawn(L, 2, &b->group, 1), (size_t)slot);
        (void)batch_take(b->batch);
        lua_rawseti(L, 4, slot + 1);
    }
    if (!batch_done(b->batch)) {
        return await_permit(L, b, run_finish);
    }
    return task_wait(L, group_push_join(L, &b->group));
}

/* batch:run(fn, list, tasks): runs fn(list[slot], slot) in a task of its own as soon as the slot
 * has its permit, which is given back when fn has ended, however that came; tasks[slot] is that
 * task. Waits for the end of all of them. A batch that is closed before cancels them. */
static int l_batch_run(lua_State *L)
{
    struct lua_batch *b = check_batch(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    luaL_checktype(L, 3, LUA_TTABLE);
    luaL_checktype(L, 4, LUA_TTABLE);
    lua_settop(L, 4);
    const struct task *t = runtime_of(L)->current;
    luaL_argcheck(L, t == NULL || t->group != &b->group, 1, "a task cannot wait for its own batch");
    task_check(L);
    bind_check_call(L);
    return batch_run(L, b);
}

/* batch:rest(slot): it keeps its place in the batch and gives back what others wait for */
static int l_batch_rest(lua_State *L)
{
    struct lua_batch *b = check_batch(L);
    batch_rest(b->batch, check_slot(L, b, true));
    return 0;
}

/* batch:pending() -> slots that wait for a permit */
static int l_batch_pending(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)batch_pending(check_batch(L)->batch));
    return 1;
}

/* batch:waits(slot) -> true when it has had no permit so far */
static int l_batch_waits(lua_State *L)
{
    struct lua_batch *b = check_batch(L);
    lua_pushboolean(L, batch_waits(b->batch, check_slot(L, b, false)));
    return 1;
}

static int l_batch_abandon(lua_State *L)
{
    struct lua_batch *b = check_batch(L);
    batch_abandon(b->batch);
    if (batch_done(b->batch)) {
        batch_wake(b);
    }
    return 0;
}

static int l_batch_close(lua_State *L)
{
    struct lua_batch *b = runtime_userdata(L, 1, runtime_of(L)->batch_type, BATCH_TYPE);
    lua_settop(L, 1);
    if (b->group.live == 0) {
        drop(b);
        return 0;
    }
    if (b->batch != NULL) {
        b->closing = true;
        batch_abandon(b->batch);
        long slot;
        while (b->batch != NULL && (slot = batch_take(b->batch)) >= 0) {
            settle(b, (size_t)slot); /* its permit came when nobody was there to take it */
        }
    }
    group_cancel(&b->group, CANCEL_PARENT);
    return task_wait(L, group_push_join(L, &b->group));
}

static int l_batch_gc(lua_State *L)
{
    drop(runtime_userdata(L, 1, runtime_of(L)->batch_type, BATCH_TYPE));
    return 0;
}

void bind_add_batch(lua_State *L)
{
    static const luaL_Reg methods[] = {{"add", l_batch_add},
                                       {"limit", l_batch_limit},
                                       {"start", l_batch_start},
                                       {"next", l_batch_next},
                                       {"settle", l_batch_settle},
                                       {"run", l_batch_run},
                                       {"abandon", l_batch_abandon},
                                       {"rest", l_batch_rest},
                                       {"waits", l_batch_waits},
                                       {"pending", l_batch_pending},
                                       {"__gc", l_batch_gc},
                                       {"__close", l_batch_close},
                                       {NULL, NULL}};
    luaL_newmetatable(L, NEXT_TYPE);
    bind_type_push(L, BATCH_TYPE, methods);
    bind_type_hide(L, BATCH_TYPE, NULL);
    runtime_of(L)->batch_type = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pop(L, 1);
    lua_pushcfunction(L, l_batch);
    lua_setfield(L, -2, "batch");
}
