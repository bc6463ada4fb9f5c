/*
 * Stopping the job that a worker runs: a signal to its thread sets a hook, which raises the cancel
 * error in whatever Lua code runs there; a letter ends its waits.
 */
#include "base/base.h"

#include "engine/worker.h"
#include "engine/worker_int.h"

#include <lauxlib.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum {
    GENTLE_RAISES = 3,
    GENTLE_STEP = 10,             /* instructions until the first look at how much room was used */
    GENTLE_NS = 15 * 1000 * 1000, /* of processor time, where each instruction takes long */
    MAX_RAISES =
        10, /* then the call is not unwound any more: Lua takes square time for deep pcalls */
};

static uint64_t cpu_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* After one of the first raises handlers and closers have room: so many instructions, or so much
 * time. */
static bool has_room(struct worker *w)
{
    /* Without memory nearly every step is a whole collection. */
    int gentle = memory_met(&w->rt.memory) ? 1 : GENTLE_RAISES;
    if (w->raises == 0 || w->raises > gentle) {
        return false;
    }
    w->steps += w->step;
    w->step *= 2; /* looking costs more than most code in between */
    return w->steps < RUNTIME_GENTLE_COUNT && cpu_ns() - w->raised_ns < GENTLE_NS;
}

static void interrupt_hook(lua_State *L, lua_Debug *ar)
{
    struct worker *w = worker_self;
    enum cancel_reason reason = (enum cancel_reason)atomic_load(&w->interrupt);
    if (reason == CANCEL_NONE || w->task == NULL) { /* a late signal: that job is over */
        w->rt.interrupted = false;
        lua_sethook(L, NULL, 0, 0);
        return;
    }
    task_cancel(w->task, reason);
    if (has_room(w)) {
        lua_sethook(L, interrupt_hook, LUA_MASKCOUNT, w->step);
        return;
    }
    /* Few raises leave room; then every instruction raises, so that no pcall loop outlives it. */
    int count = ++w->raises <= GENTLE_RAISES ? GENTLE_STEP : 1;
    w->steps = 0;
    w->step = GENTLE_STEP;
    w->raised_ns = cpu_ns();
    lua_sethook(L, interrupt_hook, LUA_MASKCOUNT, count);
    /* Not where a signal that came again stopped a call or a return: Lua yields between
     * instructions only, and goes on elsewhere as if it ran. */
    if (w->raises > MAX_RAISES && ar->event == LUA_HOOKCOUNT && lua_isyieldable(L)) {
        w->rt.giving_up = true;
        lua_yield(L, 0); /* returns here, then to whoever resumed */
        return;
    }
    cancel_push(L, reason);
    lua_error(L);
}

/* On the worker's own thread: there lua_sethook() may be called at any moment. */
static void on_signal(int sig)
{
    (void)sig;
    struct worker *w = worker_self;
    if (w == NULL) {
        return;
    }
    w->rt.interrupted = true; /* what waits or was not started yet meets it when it is resumed */
    if (w->rt.innermost != NULL) {
        lua_sethook(w->rt.innermost, interrupt_hook,
                    LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
    }
}

static void deliver_cancel(struct runtime *rt, struct mail *mail)
{
    struct worker *w = container_of(mail, struct worker, cancel_mail);
    uv_mutex_lock(&w->pool->lock);
    w->cancel_posted = false;
    uv_mutex_unlock(&w->pool->lock);
    enum cancel_reason reason = (enum cancel_reason)atomic_load(&w->interrupt);
    if (reason != CANCEL_NONE && w->task != NULL) {
        rt->interrupted = true;
        task_cancel(w->task, reason);
    }
}

void worker_make_interruptible(struct worker *w)
{
    w->cancel_mail.deliver = deliver_cancel;
    list_init(&w->cancel_mail.node);
    w->rt.interrupt = interrupt_hook;
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_signal; /* no SA_RESTART: plain blocking calls end with EINTR */
    sigemptyset(&action.sa_mask);
    ASSERT(sigaction(SIGUSR2, &action, NULL) == 0);
}

void worker_interrupt(struct worker *w, enum cancel_reason reason)
{
    if (atomic_load(&w->interrupt) == CANCEL_NONE) {
        atomic_store(&w->interrupt, (int)reason);
    }
    if (!w->cancel_posted) { /* for waits in its loop */
        w->cancel_posted = true;
        runtime_post(&w->rt, &w->cancel_mail);
    }
    if (!w->ended) { /* for running Lua and blocking calls */
        (void)pthread_kill(w->thread, SIGUSR2);
    }
}

bool worker_cancelled(const struct worker *w)
{
    return atomic_load(&w->interrupt) != CANCEL_NONE;
}
