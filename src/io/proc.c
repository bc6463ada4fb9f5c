/*
 * A running process on its loop: its pipes, its end, its times.
 */
#include "base/base.h"
#include "base/trace.h"

#include "io/proc.h"
#include "io/proc_int.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    READ_SIZE = 64 << 10,
    HIGH_MARK = 256 << 10, /* so much of a stream waits for its reader */
    DRAIN_MS = 100,        /* after the leader's end, when somebody else keeps a pipe open */
    STUCK_MS = 2000, /* after SIGKILL: one that hangs in the kernel is not awaited any longer */
    WATCH_MS = 10,   /* how often we look for the leader's end without a pidfd */
};

/* A descriptor that the loop watches. */
struct channel {
    struct proc *p;
    uv_poll_t poll;
    int fd;      /* owned; -1 when there is none (any more) */
    bool opened; /* the handle exists: it will have to be closed */
};

struct proc {
    uv_loop_t *loop; /* borrowed */
    struct proc_group group;
    struct proc_events events;
    void *arg;
    struct channel in;
    struct channel out;
    struct channel err;
    struct channel leader; /* a pidfd; none on old systems: then the timer looks */
    uv_timer_t timer;
    unsigned handles; /* of the loop, that are not closed yet */
    struct proc_keep kept_out;
    struct proc_keep kept_err;
    size_t high;         /* a stream is held back above this; SIZE_MAX while capturing */
    const char *pending; /* borrowed: what proc_write() still has to write; NULL = nothing */
    size_t pending_len;
    uint64_t timeout_at;  /* ms; 0 = none */
    uint64_t drain_until; /* ms; 0 = the leader has not ended */
    bool timed_out;
    bool over;
    bool freed;
};

/* ---- handles ---- */

static void maybe_release(struct proc *p)
{
    if (!p->freed || p->handles > 0) {
        return;
    }
    proc_keep_release(&p->kept_out);
    proc_keep_release(&p->kept_err);
    free(p);
}

static void on_channel_closed(uv_handle_t *handle)
{
    struct channel *c = handle->data;
    c->p->handles--;
    maybe_release(c->p);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct proc *p = handle->data;
    p->handles--;
    maybe_release(p);
}

/* The loop watches it no more; returns the descriptor, the caller's from here on. */
static int channel_release(struct channel *c)
{
    int fd = c->fd;
    c->fd = -1;
    if (c->opened) {
        c->opened = false;
        (void)uv_poll_stop(&c->poll); // takes it out of the loop's epoll, before anybody closes it
        uv_close((uv_handle_t *)&c->poll, on_channel_closed);
    }
    return fd;
}

static void channel_close(struct channel *c)
{
    int fd = channel_release(c);
    if (fd >= 0) {
        (void)close(fd);
    }
}

static int channel_open(struct proc *p, struct channel *c)
{
    c->p = p;
    if (c->fd < 0) {
        return 0;
    }
    int rc = uv_poll_init(p->loop, &c->poll, c->fd); // makes it non-blocking
    if (rc == 0) {
        c->poll.data = c;
        c->opened = true;
        p->handles++;
    }
    return rc;
}

static void advance(struct proc *p);

/* ---- stdin ---- */

static void input_done(struct proc *p, int error)
{
    p->pending = NULL;
    if (p->in.opened) {
        (void)uv_poll_stop(&p->in.poll);
    }
    if (error != 0) {
        channel_close(&p->in);
    }
}

/* Writes what the pipe takes. True when it is over, with `error`. */
static bool input_step(struct proc *p, int *error)
{
    *error = 0;
    while (p->pending_len > 0) {
        ssize_t n = write(p->in.fd, p->pending, p->pending_len);
        if (n > 0) {
            p->pending += n;
            p->pending_len -= (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            return false;
        } else if (n < 0 && errno != EINTR) {
            *error = -errno;
            break;
        }
    }
    input_done(p, *error);
    return true;
}

static void on_writable(uv_poll_t *poll, int status, int events)
{
    struct channel *c = poll->data;
    struct proc *p = c->p;
    int error;
    (void)status; // of an error the write tells
    (void)events;
    if (input_step(p, &error)) {
        p->events.written(p->arg, error);
    }
}

int proc_write(struct proc *p, const void *data, size_t len)
{
    int error;
    ASSERT(p->pending == NULL);
    if (p->in.fd < 0) {
        return UV_EPIPE;
    }
    p->pending = data;
    p->pending_len = len;
    if (input_step(p, &error)) {
        return error;
    }
    int rc = uv_poll_start(&p->in.poll, UV_WRITABLE, on_writable);
    if (rc != 0) {
        input_done(p, rc);
        return rc;
    }
    return 1;
}

void proc_write_cancel(struct proc *p)
{
    if (p->pending != NULL) {
        input_done(p, 0);
    }
}

static void input_close(struct proc *p, int error)
{
    bool waits = p->pending != NULL;
    p->pending = NULL;
    channel_close(&p->in);
    if (waits) {
        p->events.written(p->arg, error);
    }
}

void proc_close_input(struct proc *p)
{
    p->pending = NULL;
    channel_close(&p->in);
}

/* ---- stdout and stderr ---- */

static struct proc_keep *kept_of(struct channel *c)
{
    return c == &c->p->out ? &c->p->kept_out : &c->p->kept_err;
}

static void on_readable(uv_poll_t *poll, int status, int events);

/* Reads, or waits for the reader. */
static void output_flow(struct channel *c)
{
    if (!c->opened) {
        return;
    }
    struct proc_keep *k = kept_of(c);
    bool hold = !k->capturing && proc_keep_unread(k) >= c->p->high;
    int rc = hold ? uv_poll_stop(&c->poll) : uv_poll_start(&c->poll, UV_READABLE, on_readable);
    if (rc != 0) {
        channel_close(c);
    }
}

/* Reads once, at most `max` bytes. Returns what read() does, and closes the channel at its end. */
static ssize_t output_read(struct channel *c, size_t max)
{
    char data[READ_SIZE];
    ssize_t n;
    do {
        n = read(c->fd, data, max < sizeof(data) ? max : sizeof(data));
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        proc_keep_add(kept_of(c), data, (size_t)n);
    } else if (n == 0 || errno != EAGAIN) {
        channel_close(c);
    }
    return n;
}

/* All that is in the pipe now, whoever waits: the leader has ended and its words are not lost. */
static void output_drain(struct channel *c)
{
    int size = c->fd >= 0 ? fcntl(c->fd, F_GETPIPE_SZ) : 0;
    size_t left = size > 0 ? (size_t)size : 0;
    while (left > 0 && c->fd >= 0) {
        ssize_t n = output_read(c, left);
        if (n <= 0) {
            break;
        }
        left -= (size_t)n;
    }
}

static void tell_readable(struct proc *p)
{
    if (!p->kept_out.capturing && p->events.readable != NULL) {
        p->events.readable(p->arg);
    }
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct channel *c = poll->data;
    struct proc *p = c->p;
    (void)status; // of an error the read tells
    (void)events;
    (void)output_read(c, READ_SIZE);
    output_flow(c);
    if (c == &p->out) {
        tell_readable(p);
    }
    if (c->fd < 0) {
        advance(p);
    }
}

size_t proc_peek(const struct proc *p, const char **data, bool *ended)
{
    const struct proc_keep *k = &p->kept_out;
    *ended = p->out.fd < 0;
    *data = k->buf.data != NULL ? k->buf.data + k->start : "";
    return k->capturing ? 0 : proc_keep_unread(k);
}

void proc_consume(struct proc *p, size_t len)
{
    if (len > 0) {
        proc_keep_consume(&p->kept_out, len);
        if (proc_keep_unread(&p->kept_out) <= p->high / 2) {
            output_flow(&p->out);
        }
    }
}

void proc_want(struct proc *p, size_t len)
{
    if (len > p->high) {
        p->high = len;
    }
    output_flow(&p->out);
}

void proc_capture(struct proc *p)
{
    proc_keep_capture(&p->kept_out);
    output_flow(&p->out);
}

/* ---- the end ---- */

static bool leader_ended(struct proc *p)
{
    siginfo_t info = {0};
    int rc;
    do {
        rc = waitid(P_PID, (id_t)p->group.pid, &info, WEXITED | WNOHANG | WNOWAIT);
    } while (rc != 0 && errno == EINTR);
    return rc != 0 || info.si_pid != 0; // ECHILD: somebody took its status
}

/* The leader has ended: what it wrote is in the pipes, and soon here. */
static void begin_drain(struct proc *p)
{
    TRACE(PROC, "%d has ended", proc_pid(p));
    p->drain_until = proc_now_ms() + DRAIN_MS;
    channel_close(&p->leader);
    int size = p->out.fd >= 0 ? fcntl(p->out.fd, F_GETPIPE_SZ) : 0;
    if (size > 0 && p->high < SIZE_MAX / 2) {
        p->high += (size_t)size; // a slow reader gets the rest, and holds nothing back any more
        output_flow(&p->out);
    }
    input_close(p, UV_EPIPE);
}

/* Nothing more is awaited from the outputs. */
static bool outputs_over(struct proc *p, uint64_t now)
{
    if (p->drain_until == 0) {
        return false;
    }
    if (now >= p->drain_until && (p->out.fd >= 0 || p->err.fd >= 0)) {
        output_drain(&p->out);
        output_drain(&p->err);
        channel_close(&p->out);
        channel_close(&p->err);
        TRACE(PROC, "%d has left its pipes to others", proc_pid(p));
        tell_readable(p);
    }
    return p->out.fd < 0 && p->err.fd < 0;
}

static void close_all(struct proc *p)
{
    channel_close(&p->in);
    channel_close(&p->out);
    channel_close(&p->err);
    channel_close(&p->leader);
    if (!uv_is_closing((uv_handle_t *)&p->timer)) {
        uv_close((uv_handle_t *)&p->timer, on_timer_closed);
    }
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return b != 0 && (a == 0 || b < a) ? b : a;
}

static void on_timer(uv_timer_t *timer)
{
    advance(timer->data);
}

static void set_timer(struct proc *p, uint64_t now)
{
    bool ended = p->drain_until != 0;
    uint64_t at = 0;
    if (!ended) {
        at = sooner(p->timed_out ? 0 : p->timeout_at,
                    p->group.killed ? p->group.kill_at + STUCK_MS : p->group.kill_at);
        at = sooner(at, p->leader.fd < 0 ? now + WATCH_MS : 0);
    } else if (p->out.fd >= 0 || p->err.fd >= 0) {
        at = sooner(p->drain_until, p->group.killed ? 0 : p->group.kill_at);
    } else {
        at = now + PROC_POLL_MS;
    }
    if (at == 0) {
        (void)uv_timer_stop(&p->timer);
        return;
    }
    // the loop's clock lies up to a turn behind, and timers count from it
    uint64_t base = uv_now(p->loop);
    (void)uv_timer_start(&p->timer, on_timer, at > base ? at - base : 0, 0);
}

/* Whatever happened: goes as far as it can. */
static void advance(struct proc *p)
{
    if (p->over || p->freed) {
        return;
    }
    uint64_t now = proc_now_ms();
    if (p->drain_until == 0 && leader_ended(p)) {
        begin_drain(p);
    }
    if (p->drain_until == 0 && !p->timed_out && p->timeout_at != 0 && now >= p->timeout_at) {
        p->timed_out = true;
        TRACE(PROC, "%d: its time is up", proc_pid(p));
        proc_group_stop(&p->group);
    }
    if (p->drain_until == 0 && p->group.killed && now >= p->group.kill_at + STUCK_MS) {
        proc_group_orphan(&p->group, -1, -1);
        begin_drain(p);
    }
    bool quiet = outputs_over(p, now);
    bool gone = false;
    if (quiet || p->group.kill_at != 0) {
        gone = proc_group_step(&p->group);
        if (!gone && quiet) {
            proc_group_stop(&p->group);
        }
    }
    if (quiet && gone) {
        p->over = true;
        close_all(p);
        p->events.over(p->arg);
        return;
    }
    set_timer(p, now);
}

static void on_leader(uv_poll_t *poll, int status, int events)
{
    struct channel *c = poll->data;
    (void)status;
    (void)events;
    advance(c->p);
}

/* ---- life ---- */

static int open_channels(struct proc *p)
{
    int rc;
    if ((rc = channel_open(p, &p->in)) != 0 || (rc = channel_open(p, &p->out)) != 0 ||
        (rc = channel_open(p, &p->err)) != 0) {
        return rc;
    }
    if (channel_open(p, &p->leader) != 0 ||
        (p->leader.opened && uv_poll_start(&p->leader.poll, UV_READABLE, on_leader) != 0)) {
        channel_close(&p->leader); // the timer looks instead
    }
    output_flow(&p->out);
    output_flow(&p->err);
    return 0;
}

struct proc *proc_start(uv_loop_t *loop, const struct proc_options *options,
                        const struct proc_events *events, void *arg, struct proc_fault *fault)
{
    struct proc_group group;
    struct proc_pipes pipes;
    if (proc_spawn(options, &group, &pipes, fault) != 0) {
        return NULL;
    }
    TRACE(PROC, "%d is '%s'", (int)group.pid, options->argv[0]);
    struct proc *p = xcalloc(1, sizeof(*p));
    p->loop = loop;
    p->group = group;
    p->group.spared = options->detach;
    p->group.status = -1;
    p->events = *events;
    p->arg = arg;
    p->high = HIGH_MARK;
    p->in.fd = pipes.in;
    p->out.fd = pipes.out;
    p->err.fd = pipes.err;
    p->leader.fd = (int)syscall(SYS_pidfd_open, group.pid, 0); // close-on-exec by itself
    proc_keep_init(&p->kept_out, options->max_output, !options->stream);
    proc_keep_init(&p->kept_err, options->max_output, true);
    ASSERT(uv_timer_init(loop, &p->timer) == 0);
    p->timer.data = p;
    p->handles = 1;
    uint64_t now = proc_now_ms();
    p->timeout_at = options->timeout_ms > 0 ? now + options->timeout_ms : 0;
    int rc = open_channels(p);
    if (rc != 0) {
        proc_free(p);
        (void)proc_spawn_fault(options, -rc, fault);
        return NULL;
    }
    set_timer(p, now);
    return p;
}

void proc_free(struct proc *p)
{
    if (p == NULL || p->freed) {
        return;
    }
    p->freed = true;
    p->pending = NULL;
    p->handles++; // closing the last one must not free it under our hands
    if (!p->over) {
        int out = channel_release(&p->out);
        proc_group_orphan(&p->group, out, channel_release(&p->err));
    }
    close_all(p);
    p->handles--;
    maybe_release(p);
}

void proc_stop(struct proc *p)
{
    if (!p->over) {
        proc_group_stop(&p->group);
        set_timer(p, proc_now_ms());
    }
}

int proc_kill(struct proc *p, int sig)
{
    if (p->group.slot == NULL) {
        return UV_ESRCH;
    }
    return kill(-p->group.pid, sig) == 0 ? 0 : -errno;
}

int proc_pid(const struct proc *p)
{
    return (int)p->group.pid;
}

bool proc_is_over(const struct proc *p)
{
    return p->over;
}

bool proc_timed_out(const struct proc *p)
{
    return p->timed_out;
}

void proc_result(struct proc *p, struct proc_result *result)
{
    int status = p->group.status;
    bool exited = status != -1 && WIFEXITED(status);
    *result = (struct proc_result){
        .code = exited ? WEXITSTATUS(status) : -1,
        .signal = status != -1 && WIFSIGNALED(status) ? WTERMSIG(status) : 0,
        .unknown = status == -1,
        .timed_out = p->timed_out,
    };
    proc_keep_finish(&p->kept_out, &result->out);
    proc_keep_finish(&p->kept_err, &result->err);
}
