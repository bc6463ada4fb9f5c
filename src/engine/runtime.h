/*
 * A runtime: one libuv loop, one Lua state and the tasks that run on it, all on one thread. The
 * main thread has one, every worker has one; all functions here belong to the runtime's own thread,
 * but for runtime_post().
 *
 * The loop is: drain the ready queue, then uv_run(ONCE). Lua is resumed outside uv_run() only; uv
 * and curl callbacks do bookkeeping and put tasks on the ready queue (op_done).
 */
#ifndef LASH_RUNTIME_H
#define LASH_RUNTIME_H

#include "base/base.h"
#include "base/list.h"
#include "engine/anchors.h"
#include "engine/dispatch.h"
#include "engine/memory.h"
#include "io/child.h"

#include <lua.h>
#include <signal.h>
#include <stdatomic.h>
#include <uv.h>

struct runtime;
struct task;
struct worker;

/* A letter from another thread: embedded in what it carries, which is the receiver's from then on.
 */
struct mail {
    struct list node;
    void (*deliver)(struct runtime *rt, struct mail *mail); /* on rt's thread, in a loop callback */
};

/* Something of an upper layer that lives as long as the loop is open (the curl multi). */
struct service {
    const void *key; /* any address that is the layer's own */
    void *data;      /* owned by the layer; NULL = free slot */
    void (*close)(
        void *data); /* starts closing its handles; the loop then runs until they are gone */
};

struct runtime {
    lua_State *L; /* the main Lua state: owned when owns_state */
    bool owns_state;
    bool closing; /* refuses new work; no Lua callbacks from here on */
    uv_loop_t loop;
    bool loop_open;
    struct list ready;             /* struct task.ready_node */
    struct list tasks;             /* struct task.all_node: every task that has not ended */
    struct task *current;          /* the task that is being resumed; NULL between tasks */
    lua_State *volatile innermost; /* the Lua state that executes right now, for the interrupting
                                      signal */
    lua_Hook interrupt;            /* the hook that the signal sets; on main task_check() does */
    volatile sig_atomic_t interrupted; /* whatever runs from now on gets that hook */
    bool giving_up;       /* that hook yields instead of raising: what yields is not resumed */
    atomic_bool in_grace; /* a closer of a cancelled task has waited; any thread may read it */
    uint64_t last_task_id;
    struct anchors anchors;                 /* what running tasks live on */
    int task_type;                          /* their metatable, in the registry */
    int join_type;                          /* ... of the operations that wait for their end */
    int batch_type;                         /* ... and of the batches of calls */
    bool (*is_library)(const char *source); /* of a function: is it the library's own? */
    struct worker *worker;                  /* the worker whose runtime this is; NULL on main */
    struct pool *pool;                      /* borrowed; NULL until it is made */
    struct child_set children;              /* of os.execute and io.popen */
    struct service services[8];
    struct dispatcher dispatcher; /* permits of this runtime's calls */

    uv_mutex_t mail_lock; /* guards mail, loop_open as seen by senders */
    struct list mail;     /* struct mail.node */
    int mail_fd;          /* an eventfd: written to wake the loop; open while the loop is */
    uv_poll_t mail_poll;  /* waits for it; unref'd while nothing is expected */
    atomic_int wakers;    /* between runtime_put() and the end of runtime_wake() */
    unsigned expected;    /* letters that are on their way to us for sure */

    struct memory memory; /* of the Lua state, when owns_state */
};

/* Makes a runtime with a Lua state of its own, standard libraries open. Returns 0 or UV_ENOMEM.
 * `blocks`: the state's small objects live in engine/blocks.h. Their memory is kept for others of
 * their size until the state is closed, so this is for the state that lives as long as the process.
 */
int runtime_init(struct runtime *rt, bool blocks);

/* Lets the collector run in the mode and with the parameters of the beginning. */
void runtime_reset_gc(lua_State *L);

/* Makes a runtime around a state that somebody else owns (stock lua5.4 with require "lash"). */
void runtime_init_around(struct runtime *rt, lua_State *L);

/* The first half of runtime_release(), idempotent: cancels what runs, closes the Lua state that it
 * owns. Letters are still received. */
void runtime_close_state(struct runtime *rt);

/* Cancels what runs, closes services, state and loop. The loop has no open handle afterwards. */
void runtime_release(struct runtime *rt);

/* The runtime that a Lua state (or any coroutine of it) belongs to. Raises a Lua error if none. */
struct runtime *runtime_of(lua_State *L);

/* As luaL_checkudata(), for a type whose metatable has the number `type` in the registry: what
 * comes by the thousand is not looked up by name. */
void *runtime_userdata(lua_State *L, int index, int type, const char *name);

/* Whether a function with this source belongs to the library. */
static inline bool runtime_is_library(const struct runtime *rt, const char *source)
{
    return rt->is_library != NULL && rt->is_library(source);
}

/* Opens the loop before its first use, where that may fail: 0, or a libuv code (UV_EMFILE ...). */
int runtime_open_loop(struct runtime *rt);

/* The loop, opened on first use. */
uv_loop_t *runtime_loop(struct runtime *rt);

/* Closes services and the loop, if it is open, until the next use: leaves no handle or descriptor.
 */
void runtime_close_loop(struct runtime *rt);

enum {
    RUNTIME_STALLED = 1,
    RUNTIME_GENTLE_COUNT =
        100000, /* instructions that handlers and closers get between interrupts */
};

/* Runs tasks and loop until finished(arg) is true: 0, or until nothing can happen any more because
 * every task waits for another one: RUNTIME_STALLED. */
int runtime_run(struct runtime *rt, bool (*finished)(void *arg), void *arg);

/* lua_resume() that keeps track of the innermost running state: everybody resumes through this. */
int runtime_resume(struct runtime *rt, lua_State *co, lua_State *from, int nargs, int *nres);

/* An interrupt that has hit `from` goes on in `to`: into coroutines that are entered, and out
 * again. */
void runtime_carry_interrupt(struct runtime *rt, lua_State *from, lua_State *to);

/* Sends a letter to rt's thread; legal from any thread while rt is not released. */
void runtime_post(struct runtime *rt, struct mail *mail);

/* The same in two steps, for those who hold a lock that rt's thread takes: else it wakes up, runs
 * before us, and waits for that lock. When runtime_put() says true, runtime_wake() has to follow
 * soon; only until then the runtime is there for sure. */
bool runtime_put(struct runtime *rt, struct mail *mail);
void runtime_wake(struct runtime *rt);

/* Takes back a letter that was posted to rt and is not delivered yet. On rt's thread. */
void runtime_take_back(struct runtime *rt, struct mail *mail);

/* Delivers what has arrived, without the loop: when its senders have ended. */
void runtime_deliver_mail(struct runtime *rt);

/* While letters are expected the loop stays alive for them; each expect needs one received. */
void runtime_expect(struct runtime *rt);
void runtime_received(struct runtime *rt);

/* The service under `key`, or NULL. */
void *runtime_service(struct runtime *rt, const void *key);
void runtime_set_service(struct runtime *rt, const void *key, void *data,
                         void (*close)(void *data));

#endif
