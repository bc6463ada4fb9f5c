/*
 * Child processes. Each is the leader of a session and process group of its own, and what is in
 * that group ends with it: nothing that it started is left behind, unless asked for.
 *
 * Any thread that runs a loop may start processes on it; a process belongs to that thread. The two
 * functions for the way out are for every thread.
 *
 * A process is over when its leader has ended, both outputs are at their end, and its group is
 * gone. One whose output somebody else keeps open is given a moment, then it is over too.
 */
#ifndef LASH_PROC_H
#define LASH_PROC_H

#include "base/base.h"
#include "base/buf.h"

#include <uv.h>

struct proc;

struct proc_options {
    const char *const *argv; /* borrowed until proc_start() returns, as all here; ends in NULL */
    char *const *envp;       /* "NAME=value"; its PATH is where argv[0] is looked for */
    const char *cwd;         /* NULL = ours */
    bool input;              /* stdin is for proc_write(); otherwise it is /dev/null */
    bool join;               /* stderr goes where stdout goes */
    bool detach;             /* when the leader ends by itself, the others of its group live on */
    bool stream;             /* stdout is for proc_peek(), and waits until somebody reads it */
    size_t max_output;       /* bytes that are kept of each output otherwise */
    uint64_t timeout_ms;     /* from the start until it is stopped; 0 = none */
};

/* Called from the loop. None may free the process, but for `over`. */
struct proc_events {
    void (*readable)(void *arg);           /* stdout has more, or is at its end */
    void (*written)(void *arg, int error); /* proc_write() is done: 0, or UV_EPIPE ... */
    void (*over)(void *arg);               /* the last event */
};

struct proc_fault {
    const char *code;   /* "cwd", or the name of an error: "ENOENT", "E2BIG", "EMFILE" ... */
    struct buf message; /* owned by the caller: a sentence that names the command and the remedy */
};

/* One output as it was kept: when `total` is more than `len`, the first two thirds and the last
 * third of max_output bytes, without what was between. */
struct proc_output {
    const char *data;
    size_t len;
    uint64_t total;
};

struct proc_result {
    int code;       /* exit status, or -1 */
    int signal;     /* that ended it, or 0 */
    bool unknown;   /* somebody else has taken its status: neither code nor signal */
    bool timed_out; /* its time was up */
    struct proc_output out;
    struct proc_output err;
};

/* Starts a process, or tells why it cannot: NULL and `fault`. The caller owns it. */
struct proc *proc_start(uv_loop_t *loop, const struct proc_options *options,
                        const struct proc_events *events, void *arg, struct proc_fault *fault);

/* Frees a process, NULL is ignored. One that is not over is stopped, and ends unseen; there are no
 * events any more. */
void proc_free(struct proc *p);

/* SIGTERM to the group, SIGKILL to what is left of it 100 ms later. `over` tells of the end.
 * Idempotent. */
void proc_stop(struct proc *p);

/* A signal to the whole group. Returns 0, UV_ESRCH when it has ended, UV_EINVAL ... */
int proc_kill(struct proc *p, int sig);

int proc_pid(const struct proc *p);
bool proc_is_over(const struct proc *p);
bool proc_timed_out(const struct proc *p);

/* Valid when it is over, until proc_free(). */
void proc_result(struct proc *p, struct proc_result *result);

/* Writes to its stdin: 0 = done, 1 = `written` will be called, or an error. One at a time; `data`
 * is borrowed until then, or until proc_write_cancel(), after which nobody knows how much arrived.
 */
int proc_write(struct proc *p, const void *data, size_t len);
void proc_write_cancel(struct proc *p);
/* Ends its stdin. What is being written is given up. */
void proc_close_input(struct proc *p);

/* The bytes of stdout that have come and were not consumed; `ended` when no more will come. */
size_t proc_peek(const struct proc *p, const char **data, bool *ended);
void proc_consume(struct proc *p, size_t len);
/* Reads on until so many bytes are there, where it would have waited for its reader before. */
void proc_want(struct proc *p, size_t len);
/* Nobody reads stdout any more: the rest is kept for the result, up to max_output bytes. */
void proc_capture(struct proc *p);

/* Sends `sig` to every group that lives. Async-signal-safe, any thread. SIGKILL is for the way out
 * of the program: from then on no process starts any more. */
void proc_kill_all(int sig);

/* The program ends: gives groups that are being stopped up to `grace_ms` to be gone, then kills all
 * that are left. Groups that nobody has stopped are killed at once. Any thread. */
void proc_end_all(unsigned grace_ms);

#endif
