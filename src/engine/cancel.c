/*
 * Cancel and deadlines of tasks, and the errors that cancelled tasks raise: one value per reason
 * and state, made once.
 */
#include "base/base.h"
#include "base/trace.h"

#include "engine/task.h"
#include "engine/task_int.h"
#include "io/timer.h"

#include <lauxlib.h>
#include <math.h>

#define MAX_DEADLINE_MS 1000000000000u /* 31 years */

static const char cancel_key; /* registry: reason -> error value, error value -> reason */

static const char *const reason_names[] = {
    [CANCEL_NONE] = "none",       [CANCEL_USER] = "user",     [CANCEL_DEADLINE] = "deadline",
    [CANCEL_SIBLING] = "sibling", [CANCEL_PARENT] = "parent", [CANCEL_STALL] = "stall",
};

static const char *const reason_texts[] = {
    [CANCEL_NONE] = "",
    [CANCEL_USER] = "cancelled",
    [CANCEL_DEADLINE] = "deadline exceeded",
    [CANCEL_SIBLING] = "cancelled because a sibling failed",
    [CANCEL_PARENT] = "cancelled because the task that it belonged to has ended",
    [CANCEL_STALL] = "every task waits for another one: nothing can happen any more",
};

const char *cancel_reason_name(enum cancel_reason reason)
{
    return reason_names[reason];
}

void cancel_push(lua_State *L, enum cancel_reason reason)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &cancel_key);
    lua_rawgeti(L, -1, reason);
    lua_remove(L, -2);
}

enum cancel_reason cancel_reason_of(lua_State *L, int index)
{
    if (!lua_istable(L, index)) {
        return CANCEL_NONE;
    }
    index = lua_absindex(L, index);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &cancel_key);
    lua_pushvalue(L, index);
    lua_rawget(L, -2);
    enum cancel_reason reason = (enum cancel_reason)lua_tointeger(L, -1); /* 0 when nil */
    lua_pop(L, 2);
    return reason;
}

static int cancel_tostring(lua_State *L)
{
    lua_getfield(L, 1, "message");
    return 1;
}

/* ---- cancelling tasks ---- */

static bool may_cancel(const struct task *t)
{
    return t->cancel == CANCEL_NONE && t->state != TASK_DONE && t->state != TASK_ENDING;
}

static void mark_cancelled(struct task *t, enum cancel_reason reason)
{
    t->cancel = reason;
    TRACE(TASK, "%llu is cancelled: %s", (unsigned long long)t->id, cancel_reason_name(reason));
    if (t->own.cancel == CANCEL_NONE) {
        t->own.cancel = reason;
    }
}

/* Appends those that can be cancelled to the chain that ends in `last`; returns its new end. */
static struct task *mark_all(struct task *last, struct list *children, enum cancel_reason reason)
{
    for (struct list *n = children->next; n != children; n = n->next) {
        struct task *child = container_of(n, struct task, sibling);
        if (may_cancel(child)) {
            mark_cancelled(child, reason);
            child->cancel_prev = last;
            child->cancel_next = NULL;
            last->cancel_next = child;
            last = child;
        }
    }
    return last;
}

/* With it what it spawned and the group that it waits for, and so on down: the deepest ones end
 * their waits first. A chain, for scripts may nest without end. */
void task_cancel(struct task *t, enum cancel_reason reason)
{
    if (!may_cancel(t)) {
        return;
    }
    mark_cancelled(t, reason);
    t->cancel_prev = t->cancel_next = NULL;
    struct task *last = t;
    for (struct task *at = t; at != NULL; at = at->cancel_next) {
        struct group *joined = group_joined(at->op);
        last = mark_all(last, &at->own.children, at->cancel);
        if (joined != NULL) {
            last = mark_all(last, &joined->children, CANCEL_PARENT);
        }
    }
    while (last != NULL) {
        struct task *at = last;
        last = at->cancel_prev;
        task_drop_held(at);
        task_end_wait(at);
    }
}

static void on_deadline(void *arg)
{
    struct task *t = arg;
    t->deadline = NULL;
    task_cancel(t, CANCEL_DEADLINE);
}

void task_set_deadline(struct task *t, double seconds)
{
    double ms = ceil(seconds * 1000);
    uint64_t after = !(ms > 0) ? 0 : ms < MAX_DEADLINE_MS ? (uint64_t)ms : MAX_DEADLINE_MS;
    uint64_t due = uv_hrtime() / 1000000 + after;
    if (t->state == TASK_DONE || (t->deadline != NULL && t->due <= due)) {
        return;
    }
    timer_stop(t->deadline);
    t->due = due;
    t->deadline = timer_start(runtime_loop(t->rt), after, on_deadline, t);
}

bool task_deadline_passed(const struct task *t)
{
    return t != NULL && (t->cancel == CANCEL_DEADLINE ||
                         (t->deadline != NULL && uv_hrtime() / 1000000 >= t->due));
}

/* ---- the errors ---- */

void cancel_open(lua_State *L)
{
    lua_newtable(L);
    lua_newtable(L); // -- errors mt
    lua_pushcfunction(L, cancel_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "lash.cancel");
    lua_setfield(L, -2, "__name");
    for (int reason = CANCEL_USER; reason <= CANCEL_STALL; reason++) {
        lua_newtable(L); // -- errors mt err
        lua_pushstring(L, reason == CANCEL_DEADLINE ? "timeout" : "cancelled");
        lua_setfield(L, -2, "code");
        lua_pushstring(L, reason_names[reason]);
        lua_setfield(L, -2, "reason");
        lua_pushstring(L, reason_texts[reason]);
        lua_setfield(L, -2, "message");
        lua_pushvalue(L, -2);
        lua_setmetatable(L, -2);
        lua_pushvalue(L, -1);
        lua_rawseti(L, -4, reason);
        lua_pushinteger(L, reason);
        lua_rawset(L, -4); // -- errors mt
    }
    lua_pop(L, 1);
    lua_pushliteral(L, "a C function yielded outside of a coroutine");
    lua_rawseti(L, -2, CANCEL_NONE);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &cancel_key);
}
