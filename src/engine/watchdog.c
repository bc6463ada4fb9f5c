#include "base/base.h"

#include "engine/interrupt.h"
#include "engine/task.h"
#include "engine/task_int.h"
#include "engine/watchdog.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum {
    STILL_MS = 1000,  /* held so long, it is told while it goes on */
    LONGEST_MS = 100, /* between two looks at a step: for deadlines that it does not let fire */
    DEPTH = 64,       /* tasks that wait for each other, looked at */
};

/* Of a step: nothing is known; a record is there; it was told, and an event is to be made; no more
 * is to be done. */
enum stage { WATCHING, COLLECTED, SAID, DONE };

static const char note_key; /* registry: the record, then the function that makes the event */

/* Of the one main thread: written by it and by the handler of the timer. */
static struct {
    struct runtime *rt; /* NULL: nothing is watched */
    lua_CFunction collect;
    lua_CFunction tell;
    unsigned limit;
    timer_t timer;
    bool has_timer;
    volatile sig_atomic_t armed;
    volatile sig_atomic_t busy;   /* a step runs */
    volatile sig_atomic_t step;   /* its number */
    volatile sig_atomic_t seen;   /* the step that the timer watches */
    volatile sig_atomic_t hooked; /* the step for which the hook was set */
    volatile sig_atomic_t stage;  /* of the step that is seen */
    unsigned next;                /* ms to the next look at it */
    uint64_t since;               /* when it was seen first, ns */
    uint64_t cpu;                 /* what the thread had used by then, ns */
    long waits;                   /* ... and how often it had waited */
} dog;

/* ---- the timer ---- */

static uint64_t cpu_ns(long *waits)
{
    struct rusage used;
    memset(&used, 0, sizeof(used));
    (void)getrusage(RUSAGE_THREAD, &used);
    *waits = used.ru_nvcsw;
    return ((uint64_t)used.ru_utime.tv_sec + (uint64_t)used.ru_stime.tv_sec) * 1000000000u +
           ((uint64_t)used.ru_utime.tv_usec + (uint64_t)used.ru_stime.tv_usec) * 1000;
}

static uint64_t held_ms(void)
{
    return (uv_hrtime() - dog.since) / 1000000;
}

static void arm(unsigned ms)
{
    struct itimerspec when = {.it_value = {ms / 1000, (long)(ms % 1000) * 1000000}};
    dog.armed = timer_settime(dog.timer, 0, &when, NULL) == 0;
}

/* Looks at the present step again when the limit is over. */
static void watch_step(void)
{
    dog.seen = dog.step;
    dog.stage = WATCHING;
    dog.next = dog.limit;
    dog.since = uv_hrtime();
    dog.cpu = cpu_ns(&dog.waits);
    arm(dog.limit);
}

/* The thread neither computed nor waited for something: others had the processor. */
static bool was_kept_waiting(void)
{
    long waits;
    uint64_t cpu = cpu_ns(&waits) - dog.cpu;
    return waits == dog.waits && cpu < (uint64_t)dog.limit * 1000000 / 4 * 3;
}

static void hold_hook(lua_State *L, lua_Debug *ar);

/* Of others' hooks (a debugger, an interrupt) none is taken away. */
static void set_hook(void)
{
    lua_State *L = dog.rt->innermost;
    if (L != NULL && lua_gethook(L) == NULL) {
        dog.hooked = dog.step;
        lua_sethook(L, hold_hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
    }
}

/* On the main thread. */
static void on_timer(int sig, siginfo_t *info, void *context)
{
    int code = errno;
    (void)sig;
    (void)context;
    if (info->si_code != SI_TIMER || dog.rt == NULL) {
        return;
    }
    dog.armed = false;
    if (dog.busy && dog.step != dog.seen) {
        watch_step();
    } else if (dog.busy) {
        if (dog.stage == WATCHING && was_kept_waiting()) {
            arm(dog.limit);
        } else {
            set_hook();
            dog.next = dog.next * 2 < LONGEST_MS ? dog.next * 2 : LONGEST_MS;
            arm(dog.next);
        }
    }
    errno = code;
}

static bool make_timer(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_timer;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    sigfillset(&action.sa_mask);
    struct sigevent event;
    memset(&event, 0, sizeof(event));
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGURG; /* which is ignored where nobody handles it */
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    return sigaction(SIGURG, &action, NULL) == 0 &&
           timer_create(CLOCK_MONOTONIC, &event, &dog.timer) == 0;
}

/* ---- whom it delays ---- */

/* The task that waits for the end of this one, or NULL. */
static const struct task *parent_of(const struct task *t)
{
    struct group *g = t->group;
    if (g == NULL || g->owner != NULL) {
        return g ? g->owner : NULL;
    }
    for (struct list *n = dog.rt->tasks.next; n != &dog.rt->tasks; n = n->next) {
        const struct task *other = container_of(n, struct task, all_node);
        if (group_joined(other->op) == g) {
            return other;
        }
    }
    return NULL;
}

/* A tool's function, or a task beside which others live: those that only wait for its end are not
 * delayed. */
static bool delays_somebody(const struct task *t)
{
    if (t->in_call) {
        return true;
    }
    size_t live = 0;
    for (struct list *n = dog.rt->tasks.next; n != &dog.rt->tasks; n = n->next) {
        live++;
    }
    size_t waiting = 0;
    for (const struct task *at = t; at != NULL && waiting < DEPTH; at = parent_of(at)) {
        waiting++;
    }
    return live > waiting;
}

/* ---- telling ---- */

/* record, ms, still -> */
static int tell_protected(lua_State *L)
{
    lua_pushcfunction(L, dog.tell);
    lua_insert(L, 1);
    lua_call(L, 3, 1);
    dog.stage = lua_isfunction(L, -1) ? SAID : DONE;
    lua_rawsetp(L, LUA_REGISTRYINDEX, &note_key);
    return 0;
}

static void tell(lua_State *L, bool still)
{
    dog.stage = DONE;
    lua_pushcfunction(L, tell_protected);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &note_key);
    lua_pushinteger(L, (lua_Integer)held_ms());
    lua_pushboolean(L, still);
    if (lua_pcall(L, 3, 0, 0) != LUA_OK) {
        lua_pop(L, 1); /* no memory, or a library that a script has broken: it is not told */
    }
}

/* Before all that the step made ready: the run that is to get the event may end there. */
static int spawn_first(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &note_key);
    struct task *t = task_spawn(L, 0, NULL, 0);
    list_remove(&t->ready_node);
    list_append(dog.rt->ready.next, &t->ready_node);
    return 0;
}

/* Workers must not look at `dog`: it is the main thread's. */
static bool is_watched(const struct runtime *rt)
{
    return rt->worker == NULL && dog.rt == rt;
}

bool watchdog_take(lua_State *L)
{
    if (!is_watched(runtime_of(L)) || dog.stage == WATCHING || dog.seen != dog.step) {
        return false;
    }
    if (dog.stage == COLLECTED) {
        tell(L, false);
    }
    if (dog.stage != SAID) {
        return false;
    }
    dog.stage = DONE;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &note_key);
    return true;
}

static int collect_protected(lua_State *L)
{
    lua_pushcfunction(L, dog.collect);
    lua_call(L, task_push_call(L, runtime_of(L)->current), 1);
    dog.stage = lua_isnil(L, -1) ? DONE : COLLECTED;
    lua_rawsetp(L, LUA_REGISTRYINDEX, &note_key);
    return 0;
}

static void collect(lua_State *L)
{
    lua_pushcfunction(L, collect_protected);
    if (lua_pcall(L, 0, 0, 0) != LUA_OK) {
        dog.stage = DONE;
        lua_pop(L, 1);
    }
}

/* The timers of deadlines are in the loop that nobody runs now. Returns whether `t` is cancelled.
 */
static bool cancel_overdue(const struct task *t)
{
    for (struct list *n = dog.rt->tasks.next; n != &dog.rt->tasks; n = n->next) {
        struct task *other = container_of(n, struct task, all_node);
        if (task_deadline_passed(other)) {
            task_cancel(other, CANCEL_DEADLINE); /* and what it waits for, and so on */
        }
    }
    return t->cancel != CANCEL_NONE;
}

/* Once, in the code that holds the loop, or that goes on after a C function which held it. */
static void hold_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    const struct task *t = runtime_of(L)->current;
    if (dog.rt == NULL || dog.rt->interrupted || t == NULL || dog.hooked != dog.step ||
        dog.seen != dog.step || !lua_checkstack(L, LUA_MINSTACK)) {
        return;
    }
    if (dog.stage == WATCHING && delays_somebody(t)) {
        collect(L);
    }
    if (dog.stage == COLLECTED && held_ms() >= STILL_MS) {
        tell(L, true);
    }
    if (cancel_overdue(t)) {
        interrupt_running(L);
    }
}

/* ---- steps ---- */

static void end_held_step(lua_State *L)
{
    if (dog.stage == COLLECTED) {
        tell(L, false);
    }
    if (dog.stage == SAID) {
        lua_pushcfunction(L, spawn_first);
        if (lua_pcall(L, 0, 0, 0) != LUA_OK) {
            lua_pop(L, 1);
        }
    }
    dog.stage = DONE;
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &note_key);
}

void watchdog_begin(struct runtime *rt)
{
    if (is_watched(rt)) {
        dog.step = (sig_atomic_t)((unsigned)dog.step + 1);
        dog.busy = true;
        if (!dog.armed) {
            watch_step();
        }
    }
}

void watchdog_end(struct runtime *rt)
{
    if (is_watched(rt)) {
        dog.busy = false;
        if (dog.stage != WATCHING && dog.seen == dog.step) {
            end_held_step(rt->L);
        }
    }
}

void watchdog_open(struct runtime *rt, unsigned limit_ms, lua_CFunction collect_fn,
                   lua_CFunction tell_fn)
{
    if (make_timer()) {
        dog.rt = rt;
        dog.collect = collect_fn;
        dog.tell = tell_fn;
        dog.has_timer = true;
        dog.limit = limit_ms;
    }
}

void watchdog_set_limit(unsigned limit_ms)
{
    dog.limit = limit_ms;
    if (limit_ms == 0) {
        watchdog_close();
    }
}

void watchdog_close(void)
{
    dog.rt = NULL;
    if (dog.has_timer) {
        dog.has_timer = false;
        (void)timer_delete(dog.timer);
    }
}
