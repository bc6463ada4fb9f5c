/*
 * Tasks: coroutines that the runtime schedules, their waits, cancel, and groups of tasks that begin
 * and end together. Everything here runs on the runtime's own thread.
 *
 * A wait has one op. The op is embedded first in a full userdata that lies on the waiting
 * coroutine's stack, so it lives as long as the wait; its __gc releases the io if that still goes
 * on.
 *
 * Cancel is level-triggered: it ends the present wait, and every later wait of the task raises
 * again, so pcall cannot swallow it. Only the `<close>` handlers that an error runs in a cancelled
 * task may wait, within a grace of 200 ms.
 */
#ifndef LASH_TASK_H
#define LASH_TASK_H

#include "base/base.h"
#include "base/list.h"
#include "engine/runtime.h"

#include <lua.h>

enum cancel_reason {
    CANCEL_NONE,
    CANCEL_USER,     /* somebody asked for it */
    CANCEL_DEADLINE, /* its time is up */
    CANCEL_SIBLING,  /* another task of a fail-fast group failed */
    CANCEL_PARENT,   /* the task that it belonged to has ended */
    CANCEL_STALL,    /* every task waits for another: nothing can happen any more */
};

struct op {
    struct task *task; /* borrowed while waiting; set by task_wait(), NULL otherwise */
    /* Stops the io now; it must not call op_done() afterwards, unless `lingers` is set: then the
     * task goes on waiting until op_done(), which has to come. */
    void (*cancel)(struct op *op);
    /* Runs in the task when the op is done: pushes results, returns their count; may raise. The
     * userdata of the op is at stack index op->index. */
    int (*finish)(lua_State *L, struct op *op);
    /* Or NULL. Instead of finish(), when the op is done but its task was cancelled before it could
     * take what it had waited for: passes that on to others. Calls no Lua. */
    void (*forgo)(struct op *op);
    bool done;
    bool woken; /* op_wake() was called since the wait began */
    bool lingers;
    int index; /* stack index of the op's userdata in the waiting function */
};

/* Waits for `op`, whose userdata is on top of the stack: `return task_wait(L, op);`. Raises where
 * no wait is possible (a comparator, a gsub callback, the top level of a required module, on main),
 * and when the task is cancelled. In a worker such places run the worker's own loop instead. */
int task_wait(lua_State *L, struct op *op);

/* The op is done: its task becomes ready. From uv and curl callbacks, or before task_wait(). */
void op_done(struct op *op);

/* The op, which lingers, has something for its task before it is done: finish() takes that, and
 * waits again with task_wait(). A task that was cancelled meanwhile just waits on. */
void op_wake(struct op *op);

/* The userdata of the op goes away, from its __gc. Only the debug library can bring that about
 * while a task waits for it: the wait raises. */
void op_gone(struct op *op);

/* Raises the cancel error if the running task is cancelled. Every waiting primitive does it first.
 */
void task_check(lua_State *L);

struct group {
    struct runtime *rt;
    struct list children; /* struct task.sibling: those that have not ended */
    size_t live;
    struct list waiters; /* struct join_op: done when live == 0 */
    struct task *owner;  /* the task whose implicit group this is, or NULL */
    struct task *user;   /* else the one that spawned here while it was empty; NULL when empty */
    struct list of_user; /* in user->groups */
    int anchor;          /* of its userdata, while somebody lives in it; 0 = none */
    bool fail_fast;      /* the first error cancels the siblings */
    enum cancel_reason cancel;
};

/* Closers that run because the task was cancelled may wait, for a short time from their first wait
 * on. */
enum task_grace { GRACE_UNUSED, GRACE_RUNS, GRACE_OVER };

/* What somebody has lent to a task for as long as its function runs, however that ends. */
struct task_permit {
    struct list node;                              /* of the lender */
    void (*take_back)(struct task_permit *permit); /* NULL: nothing is lent; calls no Lua */
    void *lender;
    size_t slot;
};

enum task_state {
    TASK_READY,
    TASK_RUNNING,
    TASK_WAITING,
    TASK_ENDING, /* its body has ended, tasks that it left behind are being cancelled */
    TASK_DONE,
};

/* Lives in a full userdata "lash.task"; user values: 1 its result, several in a table, or the
 * error; 2 traceback, 3 tag, 4 watcher, 5 job of its call. Kept alive until it is done, with its
 * coroutine and the userdata of its group. */
struct task {
    struct runtime *rt;
    uint64_t id;
    enum task_state state;
    lua_State *co; /* borrowed: anchored; NULL when done */
    int anchor;    /* of its userdata, and of its coroutine */
    int co_anchor;
    int nargs;
    int nresults;
    struct op *op;           /* what it waits for */
    const struct op *waited; /* what its last wait was for; to compare only */
    enum cancel_reason cancel;
    unsigned raises; /* waits that raised the cancel error */
    bool unwinding;  /* cancelled, and an error runs its closers */
    enum task_grace grace;
    struct timer *grace_timer; /* owned */
    bool failed;               /* ended with an error, which is user value 1 */
    bool observed;             /* somebody took its result or error */
    bool lost;                 /* cancelled, but a worker still runs what it had offloaded */
    bool in_call;              /* runs a tool's function; inherited by what it spawns */
    uint64_t call_id;          /* of the task that began that call; inherited likewise */
    uint64_t call_began;       /* when it began one itself, of uv_hrtime(); 0 = it has not */
    unsigned interrupts;       /* how often a signal's hook has raised in it, on main */
    unsigned spun;             /* instructions since then */
    const char *refusal;       /* why the present wait is impossible: raised instead of waiting */
    struct timer *deadline;    /* owned */
    uint64_t due;              /* ms of uv_hrtime() at which it fires */
    struct list ready_node;
    struct list all_node;
    struct list sibling;
    struct task *cancel_next; /* the chain inside task_cancel() */
    struct task *cancel_prev;
    struct group *group; /* that it belongs to; NULL for the root */
    struct group own;    /* what it spawned itself */
    struct list groups;  /* struct group.of_user: it does not end before these are empty */
    struct list waiters; /* struct join_op */
    struct list permits; /* struct permit.of_owner: given back when the task has ended */
    struct list held;    /* struct held.node */
    struct task_permit permit;
};

/* Starts a task of the function and `nargs` arguments on top of L's stack, replaces them by the
 * task's userdata and returns it. `group_index`: positive stack index of the userdata that holds
 * `group`; 0 when that is a task's own, or NULL. */
struct task *task_spawn(lua_State *L, int nargs, struct group *group, int group_index);

/* The task whose userdata is at the stack index; raises when there is something else. */
struct task *task_at(lua_State *L, int index);

/* Pushes the userdata of a task that is not done. */
void task_push_self(lua_State *L, struct task *t);

/* Something open between two waits, as a connection: embedded in what owns it. It is dropped when
 * the task is cancelled or fails, so that nothing goes on until the collector comes by; a task that
 * ends well leaves it to those it was given to. */
struct held {
    struct list node; /* its owner takes it out, and may at any time: list_init() it first */
    void (*drop)(struct held *held); /* stops the io; runs no Lua, may call op_done() */
};
void task_hold(struct task *t, struct held *held); /* t may be NULL: then nobody holds it */

/* Asynchronous, idempotent; keeps the first reason. Legal on any task, on oneself and on ended
 * ones. */
void task_cancel(struct task *t, enum cancel_reason reason);

/* Cancels the task with CANCEL_DEADLINE after `seconds`; one deadline a task, the earlier one wins.
 */
void task_set_deadline(struct task *t, double seconds);

/* True when its deadline is over, though perhaps nobody had time to cancel it yet. */
bool task_deadline_passed(const struct task *t);

/* Pushes what became of a task that is done: true, results... or false, error. Returns the count.
 */
int task_push_results(lua_State *L, int task_index);

/* Pushes the text of the traceback that was taken where the task failed, or nil. */
void task_push_traceback(lua_State *L, int task_index);

/* Takes the string on top of the stack as a name for what the task does, told of late results. */
void task_set_tag(lua_State *L, int task_index);
/* Pushes that name or nil; the text, or NULL. The task is not done. */
const char *task_push_tag(lua_State *L, struct task *t);

/* The task, which is not done, and what it spawns run a tool's function, of which the table on top
 * of the stack tells; takes it. */
void task_mark_call(lua_State *L, struct task *t);
/* The running task begins a call of a tool: the table that tells of it is at the stack index `job`,
 * the seconds that it may take, if that is a number, at `seconds`. Raises when no task runs. */
void task_begin_call(lua_State *L, int job, int seconds);
/* Pushes ms since then, the reason for which the task was cancelled or nil, and the function of
 * lash.watchdog that tells that it has held the loop, or nil. Returns their count. */
int task_push_end_of_call(lua_State *L);
/* Pushes the table of the call that the task belongs to: 1; or nothing: 0. */
int task_push_call(lua_State *L, const struct task *t);

/* Pushes the function that gets the reports of the code that the running task runs in place of a
 * worker: true, or false with nothing pushed. */
bool task_push_watcher(lua_State *L);
/* Exchanges it with the value at the positive stack index. */
void task_swap_watcher(lua_State *L, int index);

/* Message handler for lua_pcallk(): tells that closers run from here on, so that those of a
 * cancelled task may wait. Who has called it puts task.unwinding back as it was. */
int task_on_error(lua_State *L);

/* A lua_CFunction, caller(handler) -> fn(f, ...): calls f(...) as xpcall(f, handler, ...) does, and
 * gives the text of its one result when that is UTF-8, an integer, a boolean or nothing; nil, n,
 * the result or a table of the n; or false, 0, what the handler made of the error. */
int protect_push_caller(lua_State *L);

/* A lua_CFunction, attempt(handler) -> fn(job, seconds | false, f, args, ctx): calls f(args, ctx)
 * as such a function does, as a call of a tool that begins and ends with that: gives the text or
 * nil or false, what task_push_end_of_call() pushes, and the rest. */
int protect_push_attempt(lua_State *L);

void group_init(struct group *g, struct runtime *rt, struct task *owner);
void group_cancel(struct group *g, enum cancel_reason reason);

/* Pushes an op userdata that is done when the task, or all of the group, has ended; its `lingers`
 * variant for groups cancels the children and waits for their end. For task_wait(). */
struct op *task_push_join(lua_State *L, struct task *t);
struct op *group_push_join(lua_State *L, struct group *g);

/* Pushes the error value that cancelled tasks raise: one table per reason, with __tostring. With
 * CANCEL_NONE the text for a task that cannot go on, because a C function yielded past everybody.
 * Allocates nothing. */
void cancel_push(lua_State *L, enum cancel_reason reason);
/* The reason, if the value at `index` is a cancel error; CANCEL_NONE otherwise. */
enum cancel_reason cancel_reason_of(lua_State *L, int index);
/* "user", "deadline", ... */
const char *cancel_reason_name(enum cancel_reason reason);

/* Resumes ready tasks: those that were ready when it was called. */
void task_run_ready(struct runtime *rt);

/* Registers metatables and the coroutine functions that let waits through. Before user code loads.
 */
void task_open(lua_State *L);

/* Runs the loop until the task has ended; when every task waits for another one, it is cancelled.
 * For the one who drives the runtime, outside of all tasks. */
void task_drive(struct task *t);

/* Cancels all tasks and runs them to their end, for at most `grace_ms`. */
void task_cancel_all(struct runtime *rt, enum cancel_reason reason, uint64_t grace_ms);

#endif
