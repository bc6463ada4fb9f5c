/*
 * The groups that live: a table that a signal handler can walk, how a group ends, and the thread
 * that sees to the end of those whose owner has gone.
 */
#include "base/base.h"
#include "base/list.h"
#include "base/patience.h"
#include "base/trace.h"

#include "io/proc.h"
#include "io/proc_int.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

enum {
    CHUNK = 64,
    STARTING = -1,
    STARTING_MS = 250,   /* for those that are about to start when all are to be killed */
    STUCK_POLL_MS = 500, /* after SIGKILL, for one that hangs in the kernel */
};

/* Grows, and never shrinks: walkers need no lock. */
struct chunk {
    atomic_int pids[CHUNK]; /* 0 = free, STARTING = taken, else the group */
    _Atomic(struct chunk *) next;
};

static struct chunk first_chunk;
static atomic_bool leaving; /* no process starts any more */

struct orphan {
    struct list node;
    struct proc_group group;
    int out;
    int err;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct list list; /* struct orphan.node; zeroed until the first one */
    bool running;     /* the thread is there */
} orphans = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

uint64_t proc_now_ms(void)
{
    return uv_hrtime() / 1000000;
}

/* ---- the table ---- */

static atomic_int *take_slot(void)
{
    struct chunk *c = &first_chunk;
    for (;;) {
        for (size_t i = 0; i < CHUNK; i++) {
            int expected = 0;
            if (atomic_compare_exchange_strong(&c->pids[i], &expected, STARTING)) {
                return &c->pids[i];
            }
        }
        struct chunk *next = atomic_load(&c->next);
        if (next == NULL) {
            struct chunk *fresh = xcalloc(1, sizeof(*fresh));
            if (atomic_compare_exchange_strong(&c->next, &next, fresh)) {
                next = fresh;
            } else {
                free(fresh);
            }
        }
        c = next;
    }
}

/* Calls kill() for each group. Returns whether some are about to start, whose number is not known
 * yet. */
static bool signal_all(int sig)
{
    bool starting = false;
    for (struct chunk *c = &first_chunk; c != NULL; c = atomic_load(&c->next)) {
        for (size_t i = 0; i < CHUNK; i++) {
            int pid = atomic_load(&c->pids[i]);
            starting = starting || pid == STARTING;
            if (pid > 0) {
                (void)kill(-pid, sig); // gone already: that is what is wanted
            }
        }
    }
    return starting;
}

void proc_kill_all(int sig)
{
    int code = errno;
    if (sig == SIGKILL) {
        atomic_store(&leaving, true);
    }
    // a thread that is not run may have started a child and not told its number yet
    for (int i = 0; signal_all(sig) && sig == SIGKILL && i < STARTING_MS; i++) {
        static const struct timespec pause = {.tv_nsec = 1000000L};
        (void)nanosleep(&pause, NULL);
    }
    errno = code;
}

static bool have_orphans(void)
{
    pthread_mutex_lock(&orphans.lock);
    bool some = orphans.running;
    pthread_mutex_unlock(&orphans.lock);
    return some;
}

void proc_end_all(unsigned grace_ms)
{
    static const struct timespec pause = {.tv_nsec = PROC_POLL_MS * 1000000L};
    uint64_t until = proc_now_ms() + grace_ms;
    while (have_orphans() && proc_now_ms() < until) {
        (void)nanosleep(&pause, NULL);
    }
    proc_kill_all(SIGKILL);
}

/* exit(), wherever it is called: os.exit, the end of a host's main. */
static void on_exit_of_program(void)
{
    proc_kill_all(SIGKILL);
}

static void watch_exit(void)
{
    ASSERT(atexit(on_exit_of_program) == 0);
}

/* ---- one group ---- */

bool proc_group_reserve(struct proc_group *g)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    ASSERT(pthread_once(&once, watch_exit) == 0);
    *g = (struct proc_group){.slot = take_slot()};
    if (atomic_load(&leaving)) {
        proc_group_forget(g);
        return false;
    }
    return true;
}

/* The order matters: proc_kill_all() sets its flag before it walks the table, so either it finds us
 * there, or we find the flag. */
bool proc_group_enter(atomic_int *slot, pid_t pid)
{
    atomic_store(slot, (int)pid);
    return !atomic_load(&leaving);
}

void proc_group_started(struct proc_group *g, pid_t pid)
{
    g->pid = pid;
    atomic_store(g->slot, (int)pid);
}

void proc_group_forget(struct proc_group *g)
{
    if (g->slot != NULL) {
        atomic_store(g->slot, 0);
        g->slot = NULL;
    }
}

void proc_group_stop(struct proc_group *g)
{
    if (g->slot != NULL && g->kill_at == 0) {
        TRACE(PROC, "%d gets SIGTERM", (int)g->pid);
        (void)kill(-g->pid, SIGTERM);
        g->kill_at = proc_now_ms() + patience_ms(PROC_GRACE_MS);
    }
}

static void reap_leader(struct proc_group *g)
{
    pid_t got;
    int status;
    do {
        got = waitpid(g->pid, &status, WNOHANG);
    } while (got < 0 && errno == EINTR);
    if (got != 0) {
        g->reaped = true;
        g->status = got == g->pid ? status : -1; // ECHILD: somebody else in this process took it
    }
}

bool proc_group_step(struct proc_group *g)
{
    if (g->slot == NULL) {
        return true;
    }
    uint64_t now = proc_now_ms();
    if (!g->reaped) {
        reap_leader(g);
    }
    bool left_alone = g->spared && g->kill_at == 0;
    bool empty = g->reaped && (left_alone || (kill(-g->pid, 0) < 0 && errno == ESRCH));
    bool hopeless = g->reaped && g->killed && now >= g->kill_at + patience_ms(PROC_ZOMBIE_MS);
    if (empty || hopeless) {
        TRACE(PROC, "%d is gone%s", (int)g->pid, empty ? "" : ", but for zombies");
        proc_group_forget(g);
        return true;
    }
    if (g->kill_at != 0 && !g->killed && now >= g->kill_at) {
        TRACE(PROC, "%d gets SIGKILL", (int)g->pid);
        (void)kill(-g->pid, SIGKILL);
        g->killed = true;
    }
    return false;
}

/* ---- groups without an owner ---- */

static void close_both(int out, int err)
{
    if (out >= 0) {
        (void)close(out);
    }
    if (err >= 0) {
        (void)close(err);
    }
}

/* Returns the ms until they want to be looked at again, 0 when none is left. With the lock held. */
static unsigned step_orphans(void)
{
    unsigned pause = 0;
    for (struct list *n = orphans.list.next, *next; n != &orphans.list; n = next) {
        next = n->next;
        struct orphan *o = container_of(n, struct orphan, node);
        if (proc_group_step(&o->group)) {
            list_remove(&o->node);
            close_both(o->out, o->err);
            free(o);
        } else if (!o->group.killed || proc_now_ms() < o->group.kill_at + PROC_GRACE_MS) {
            pause = PROC_POLL_MS;
        } else if (pause == 0) {
            pause = STUCK_POLL_MS;
        }
    }
    return pause;
}

static void *orphans_main(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&orphans.lock);
    unsigned pause;
    while ((pause = step_orphans()) != 0) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += pause * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        (void)pthread_cond_timedwait(&orphans.changed, &orphans.lock, &until);
    }
    orphans.running = false;
    pthread_mutex_unlock(&orphans.lock);
    return NULL;
}

/* With the lock held. Signals are for others. */
static bool start_thread(void)
{
    pthread_t thread;
    pthread_attr_t attr;
    sigset_t all, old;
    sigfillset(&all);
    ASSERT(pthread_attr_init(&attr) == 0);
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    int status = pthread_create(&thread, &attr, orphans_main, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    (void)pthread_attr_destroy(&attr);
    return status == 0;
}

void proc_group_orphan(struct proc_group *g, int out, int err)
{
    if (proc_group_step(g)) {
        close_both(out, err);
        return;
    }
    proc_group_stop(g);
    struct orphan *o = xcalloc(1, sizeof(*o));
    o->group = *g;
    o->out = out;
    o->err = err;
    g->slot = NULL;
    pthread_mutex_lock(&orphans.lock);
    if (orphans.list.next == NULL) {
        list_init(&orphans.list);
    }
    list_append(&orphans.list, &o->node);
    if (!orphans.running) {
        orphans.running = start_thread();
    } else {
        (void)pthread_cond_signal(&orphans.changed);
    }
    if (!orphans.running) { // no thread to be had: no grace either
        o->group.kill_at = proc_now_ms();
        (void)step_orphans();
        (void)waitpid(o->group.pid, &o->group.status, 0);
        o->group.reaped = true;
        (void)step_orphans();
    }
    pthread_mutex_unlock(&orphans.lock);
}
