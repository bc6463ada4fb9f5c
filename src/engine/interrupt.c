#include "base/base.h"

#include "engine/interrupt.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    PATIENCE_MS = 2000,
    REPEAT_MS = 20, /* timeout(1) and the like send theirs to us and to our group */
    /* A cancelled task may compute this many instructions before the next raise: its closers do
     * their work in that. */
    CLOSERS_INSTRUCTIONS = 5000000,
    GENTLE_INSTRUCTIONS = 200000, /* ... and what goes on after a pcall */
    TICK = 1000,        /* between two looks: coroutines that come and go are counted too */
    LIBRARY_TICK = 100, /* the same while only code of the library keeps a raise back */
    GENTLE_RAISES = 3,
    MAX_RAISES = 10, /* then it is not unwound any more */
    HOOKS = 4,
};

/* Of the one main thread: written by it and by its signal handlers. */
static struct {
    struct runtime *rt;
    pthread_t thread;
    uv_async_t wake;            /* from a handler into the loop */
    volatile sig_atomic_t open; /* rt and wake may be used */
    atomic_int first;           /* the signal that asked for the end, or 0; workers may read it */
    struct task *task;          /* borrowed: of the command */
    volatile sig_atomic_t console;
    struct task *volatile entry;   /* borrowed: what runs at the console */
    volatile sig_atomic_t entries; /* signals that the present entry got */
    volatile sig_atomic_t early;   /* one came between two entries: the next one gets it */
    volatile sig_atomic_t waits;   /* for a child, whose terminal it is, too */
    volatile sig_atomic_t late;    /* one came meanwhile */
    volatile sig_atomic_t told;    /* that a second one ends the program */
    volatile sig_atomic_t has_timer;
    int timer;
    uint64_t since; /* ms: when the first signal came */
    void (*at_end[HOOKS])(void);
} self;

static uint64_t now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- the end of the process ---- */

/* Async-signal-safe. */
static _Noreturn void die(int sig)
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = SIG_DFL;
    sigemptyset(&action.sa_mask);
    (void)sigaction(sig, &action, NULL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, sig);
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    (void)raise(sig);
    _exit(128 + sig); /* the first process of a container does not die by signals */
}

/* Async-signal-safe. */
static void run_hooks(void)
{
    for (size_t i = 0; i < HOOKS && self.at_end[i] != NULL; i++) {
        self.at_end[i]();
    }
}

/* Async-signal-safe. */
static _Noreturn void end_now(int sig)
{
    run_hooks();
    die(sig);
}

void interrupt_leave(int status)
{
    run_hooks();
    if (self.first != 0) {
        die(self.first);
    }
    _exit(status);
}

void interrupt_at_end(void (*fn)(void))
{
    for (size_t i = 0; i < HOOKS; i++) {
        if (self.at_end[i] == NULL) {
            self.at_end[i] = fn;
            return;
        }
    }
    panic(__FILE__, __LINE__, "no slot for one more function at the end");
}

/* ---- patience ---- */

/* The kernel's own calls: they may be made in a handler, and only there the timer is ever needed.
 */
static void start_patience(void)
{
    if (!self.has_timer) {
        struct sigevent event;
        memset(&event, 0, sizeof(event));
        event.sigev_notify = SIGEV_SIGNAL;
        event.sigev_signo = SIGVTALRM;
        self.has_timer = syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &self.timer) == 0;
    }
    if (self.has_timer) {
        struct itimerspec when = {
            .it_value = {PATIENCE_MS / 1000, PATIENCE_MS % 1000 * 1000000},
        };
        (void)syscall(SYS_timer_settime, self.timer, 0, &when, NULL);
    }
}

static void stop_patience(void)
{
    if (self.has_timer) {
        struct itimerspec never = {{0, 0}, {0, 0}};
        (void)syscall(SYS_timer_settime, self.timer, 0, &never, NULL);
    }
}

static void on_patience(int sig)
{
    static const char text[] = "lash: still ending: something holds the main thread or does not "
                               "end; a second Ctrl-C ends the program at once\n";
    int code = errno;
    (void)sig;
    if (self.first != 0 && self.first != SIGINT) { /* nobody is there who could press a key */
        end_now(self.first);
    }
    if ((self.first != 0 || self.entries > 0) && !self.told) {
        self.told = true;
        if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0) {
            /* nobody to tell */
        }
    }
    errno = code;
}

/* ---- the first signal ---- */

static struct task *target(void)
{
    return self.first != 0 ? self.task : self.entries > 0 ? self.entry : NULL;
}

static void interrupt_hook(lua_State *L, lua_Debug *ar);

static void cancel_target(void)
{
    struct task *t = target();
    if (t != NULL) {
        task_cancel(t, CANCEL_USER);
    }
}

/* The running task belongs to the target, which has perhaps no time to cancel it; but the command's
 * own task at a console does not. */
static void cancel_running(struct task *t)
{
    cancel_target();
    if (t != NULL && (self.first != 0 || (self.entries > 0 && t != self.task))) {
        task_cancel(t, CANCEL_USER);
    }
}

static void set_count(lua_State *L, int count)
{
    if (lua_gethookcount(L) != count || lua_gethookmask(L) != LUA_MASKCOUNT) {
        lua_sethook(L, interrupt_hook, LUA_MASKCOUNT, count);
    }
}

/* Whether to raise here: at once where the signal met Lua, then in what goes on and on. Never in
 * the library's own code, which is not made to end between any two instructions: it waits soon, or
 * comes back to the user's code. */
static bool raises_here(lua_State *L, lua_Debug *ar, struct task *t)
{
    int count = lua_gethookcount(L);
    t->spun = count == 1 ? CLOSERS_INSTRUCTIONS : t->spun + (unsigned)count;
    if (t->spun < (t->unwinding ? CLOSERS_INSTRUCTIONS : GENTLE_INSTRUCTIONS)) {
        set_count(L, TICK);
        return false;
    }
    t->spun = CLOSERS_INSTRUCTIONS;
    (void)lua_getinfo(L, "S", ar);
    if (runtime_is_library(self.rt, ar->source)) {
        set_count(L, LIBRARY_TICK);
        return false;
    }
    t->spun = 0;
    return true;
}

static void interrupt_hook(lua_State *L, lua_Debug *ar)
{
    struct runtime *rt = runtime_of(L);
    struct task *t = rt->current;
    cancel_running(t);
    if (t == NULL || t->cancel == CANCEL_NONE) { /* of a signal that does not concern it */
        lua_sethook(L, NULL, 0, 0);
        return;
    }
    if (!raises_here(L, ar, t)) {
        return;
    }
    set_count(L, ++t->interrupts <= GENTLE_RAISES ? TICK : 1);
    if (t->interrupts > MAX_RAISES && lua_isyieldable(L)) {
        rt->giving_up = true;
        lua_yield(L, 0); /* from a count hook: returns here, then to whoever resumed */
        return;
    }
    cancel_push(L, t->cancel);
    lua_error(L);
}

/* Into the loop, for waits; onto the Lua state that runs, for what does not wait. */
static void reach_lua(void)
{
    struct runtime *rt = self.rt;
    rt->interrupt = interrupt_hook;
    rt->interrupted = true;
    if (rt->innermost != NULL) {
        lua_sethook(rt->innermost, interrupt_hook, LUA_MASKCOUNT, 1);
    }
    (void)uv_async_send(&self.wake);
}

static void ask_for_end(int sig)
{
    self.since = now_ms();
    self.told = false;
    self.first = sig;
    start_patience();
    if (self.open) {
        reach_lua();
    }
}

/* The second one counts when it was said what it does: nobody leaves a console by impatience. */
static void interrupt_entry(void)
{
    if (self.entry == NULL) {
        self.early = true;
        return;
    }
    if (self.entries++ == 0) {
        start_patience();
        reach_lua();
    } else if (self.told) {
        end_now(SIGINT);
    }
}

static void on_signal(int sig)
{
    int code = errno;
    if (!pthread_equal(pthread_self(), self.thread)) { /* a thread of libuv or libcurl got it */
        (void)pthread_kill(self.thread, sig);
    } else if (sig == SIGINT && self.console && self.open && self.first == 0) {
        if (self.waits && !self.told) { /* the child decides when it has had enough */
            self.late = true;
        } else {
            interrupt_entry();
        }
    } else if (self.first == 0) {
        ask_for_end(sig);
    } else if (sig == SIGINT || sig != self.first || now_ms() - self.since > REPEAT_MS) {
        end_now(sig);
    }
    errno = code;
}

void interrupt_running(lua_State *L)
{
    struct runtime *rt = runtime_of(L);
    if (self.open && rt == self.rt) {
        rt->interrupt = interrupt_hook;
        lua_sethook(L, interrupt_hook, LUA_MASKCOUNT, 1);
    }
}

void interrupt_end_step(struct runtime *rt, lua_State *from)
{
    if (rt == self.rt && rt->interrupt == interrupt_hook) {
        rt->giving_up = false;
        if (lua_gethook(from) == interrupt_hook) {
            lua_sethook(from, NULL, 0, 0);
        }
    }
}

static void on_wake(uv_async_t *wake)
{
    (void)wake;
    cancel_target();
}

/* ---- the program's side ---- */

/* No SA_RESTART: a plain blocking read of a script ends with EINTR, and Lua goes on to the hook. */
static void take_signal(int sig, void (*handler)(int))
{
    static const int all[] = {SIGINT, SIGTERM, SIGHUP, SIGVTALRM};
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = handler;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) { /* handlers do not interrupt each other */
        sigaddset(&action.sa_mask, all[i]);
    }
    ASSERT(sigaction(sig, &action, NULL) == 0);
}

void interrupt_open(struct runtime *rt)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    ASSERT(uv_async_init(runtime_loop(rt), &self.wake, on_wake) == 0);
    uv_unref((uv_handle_t *)&self.wake);
    self.rt = rt;
    self.thread = pthread_self();
    self.open = true;
    take_signal(SIGVTALRM, on_patience);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        struct sigaction before;
        if (sigaction(signals[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN) {
            take_signal(signals[i], on_signal);
        }
    }
}

void interrupt_close(void)
{
    if (self.open) {
        self.open = false;
        self.task = NULL;
        self.entry = NULL;
        uv_close((uv_handle_t *)&self.wake, NULL);
    }
}

void interrupt_set_task(struct task *t)
{
    self.task = t;
    cancel_target();
}

/* Signals of the terminal, which it sends to its foreground group. */
static void hold_signals(sigset_t *before)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, &set, before);
}

/* What interrupted one entry does not reach the next, unless it came too late for the first. */
static void forget_entry(void)
{
    self.early =
        self.early || (self.entries > 0 && self.entry != NULL && self.entry->cancel == CANCEL_NONE);
    self.entry = NULL;
    stop_patience();
    self.entries = 0;
    self.told = false;
    if (self.first == 0) {
        self.rt->interrupted = false;
        self.rt->giving_up = false;
    } else {
        start_patience();
    }
}

void interrupt_set_entry(struct task *t)
{
    if (self.open) {
        sigset_t before;
        hold_signals(&before);
        forget_entry();
        self.console = true;
        self.entry = t;
        if (t != NULL && self.early) {
            self.early = false;
            interrupt_entry();
        }
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
}

void interrupt_end_console(void)
{
    if (self.open) {
        forget_entry();
        self.early = false;
        self.console = false;
    }
}

void interrupt_check(lua_State *L)
{
    struct runtime *rt = runtime_of(L);
    if (rt == self.rt && rt->interrupted) {
        cancel_running(rt->current);
    }
    task_check(L);
}

/* ---- children ---- */

static bool is_main(const struct runtime *rt)
{
    return self.open && rt == self.rt;
}

/* Once a task knows of its cancel, what it starts is there to clean up. */
void interrupt_hold(lua_State *L, sigset_t *before)
{
    struct runtime *rt = runtime_of(L);
    struct task *t = rt->current;
    hold_signals(before);
    if (is_main(rt) && rt->interrupted && t != NULL && t->raises == 0 && t->interrupts == 0) {
        (void)pthread_sigmask(SIG_SETMASK, before, NULL);
        interrupt_check(L);
        hold_signals(before);
    }
}

void interrupt_release(lua_State *L, const sigset_t *before, pid_t child, bool waits)
{
    static const int signals[] = {SIGINT, SIGHUP};
    sigset_t pending;
    sigemptyset(&pending);
    if (is_main(runtime_of(L)) && child > 0) {
        (void)sigpending(&pending);
        self.waits = waits && self.console;
    }
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        if (sigismember(&pending, signals[i]) == 1) { /* it has come before the child */
            (void)kill(child, signals[i]);
        }
    }
    (void)pthread_sigmask(SIG_SETMASK, before, NULL);
}

void interrupt_child_ended(lua_State *L)
{
    sigset_t before;
    if (!is_main(runtime_of(L)) || !self.waits) {
        return;
    }
    hold_signals(&before);
    self.waits = false;
    if (self.late) {
        self.late = false;
        interrupt_entry();
        cancel_target();
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}

int interrupt_signal(void)
{
    return self.first;
}
