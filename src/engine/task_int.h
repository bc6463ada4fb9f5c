/*
 * What task.c, wait.c, cancel.c, protect.c, group.c, coroutine.c and watchdog.c share. Included by
 * these only.
 */
#ifndef LASH_TASK_INT_H
#define LASH_TASK_INT_H

#include "engine/task.h"

extern const char
    task_wait_token; /* its address is what a wait yields; nothing else may yield it */

#define TASK_CANNOT_WAIT                                                                           \
    "cannot wait here: this code runs inside a comparator, a gsub callback, a metamethod such as " \
    "__gc or __tostring, or the top level of a required module; wait before or after it instead"

static inline bool task_is_token(lua_State *co, int nres)
{
    return nres == 1 && lua_touserdata(co, -1) == (void *)&task_wait_token;
}

/* True for a coroutine that is suspended in a wait: its token is still on its stack. */
static inline bool task_is_waiting(lua_State *co)
{
    return lua_status(co) == LUA_YIELD && lua_gettop(co) >= 1 && task_is_token(co, 1);
}

/* Runs the loop in place until the current wait of the task is over: for a worker's task in code
 * that cannot yield. Nobody is inside uv_run() then, and what else lives there belongs to the same
 * call. */
void task_pump(struct task *t);

/* Takes the op away from the task that waits for it. */
void task_drop_op(struct task *t);

/* Drops what the task holds. */
void task_drop_held(struct task *t);

/* Ends the present wait of the task, if it has one: its io stops now. */
void task_end_wait(struct task *t);

/* No wait of a closer is allowed any more. */
void task_end_grace(struct task *t);

/* An error was raised in the task (may be NULL): what runs until it is caught are closers. */
void task_unwinds(struct task *t);

/* The hook that ends a cancelled task which waits again and again is taken from this state. */
void task_forget_stubborn(lua_State *L);

/* True while something runs that it spawned, itself or into a group. */
bool task_has_children(const struct task *t);

/* Cancels that: a task has ended, and nobody closed its groups. */
void task_cancel_children(struct task *t);

/* A child of the group is over. Returns the task that only waited for this, its last child, to be
 * over itself, or NULL. */
struct task *group_child_done(struct group *g, struct task *t);

/* All that wait for the end of the task or group, in `waiters`, go on. */
void group_finish_joins(struct list *waiters);

/* The group that this op waits for, or NULL. */
struct group *group_joined(const struct op *op);

/* Registers the metatable of joins. */
void group_open(lua_State *L);

/* Makes the cancel errors of a state. */
void cancel_open(lua_State *L);

/* Replaces pcall and xpcall. */
void protect_open(lua_State *L);

/* Replaces the functions of the coroutine library. */
void coroutine_open(lua_State *L);

#endif
