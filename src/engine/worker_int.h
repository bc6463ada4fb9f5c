/*
 * Jobs, workers and the pool as worker.c (the threads), stop.c (how a job is stopped) and
 * offload.c (who waits for them) share them. Included by these only.
 */
#ifndef LASH_WORKER_INT_H
#define LASH_WORKER_INT_H

#include "engine/worker.h"

#include "base/buf.h"

#include <stdatomic.h>

/* What a running job tells the one who waits for it. */
struct report {
    struct mail mail;
    struct list node; /* in offload_op.reports */
    struct job *job;  /* kept alive by it */
    struct buf value; /* a shipped message */
};

struct job {
    struct mail mail;      /* the way back */
    atomic_int refs;       /* its owner and its reports on their way */
    struct list node;      /* in pool.jobs while it waits */
    struct runtime *from;  /* who gets it back; guarded by pool.lock while a worker has it */
    struct offload_op *op; /* main side only; NULL when nobody waits any more */
    struct worker *worker; /* who runs it; guarded by pool.lock */
    bool watched;          /* reports are wanted */
    atomic_int nreports;   /* that are on their way */
    char *tag;             /* owned; names the job when its result comes too late, or NULL */
    bool lost;             /* it was answered before its result came; main side only */
    uint64_t started_ms;   /* of uv_hrtime() */
    uint64_t ended_ms;
    bool hopes;    /* was queued for a worker that tidies up */
    bool expected; /* runtime_expect() was called and not yet answered; main side only */
    size_t memory; /* bytes that it may add to its worker's state; 0 = no limit */
    struct buf code;
    struct buf args;
    struct buf result;   /* a shipped message; empty: there was no memory, or no thread, for it */
    const char *refusal; /* ... or this is why it was not run */
};

struct worker {
    struct pool *pool;
    struct list node; /* in pool.workers */
    uv_thread_t thread;
    struct runtime rt;
    struct job *job;   /* guarded by pool.lock */
    struct task *task; /* of the job; worker's thread only */
    struct mail cancel_mail;
    bool cancel_posted;   /* guarded by pool.lock */
    atomic_int interrupt; /* enum cancel_reason: the running job is to end */
    int raises;           /* how often the hook has raised in this job */
    int steps;            /* instructions since the last of them, about */
    int step;             /* instructions until the next look at them */
    uint64_t raised_ns;   /* processor time of the thread then */
    bool lost;            /* set aside: nobody waits for its job; guarded by pool.lock */
    bool ended;           /* its thread has left its loop; guarded by pool.lock */
    bool tidies;          /* has told its result, and is free in a moment; guarded by pool.lock */
    size_t base_memory;   /* bytes of its state before the first job */
    struct buf path;      /* a copy of pool.path, for its own thread */
    struct buf cpath;
    unsigned path_version; /* of the copy */
    bool path_new;         /* its state does not have it yet */
};

struct pool {
    struct runtime *rt;
    int (*setup)(struct runtime *rt);
    uv_mutex_t lock;
    uv_cond_t work; /* a job was queued, or the pool closes */
    uv_cond_t end;  /* a worker has ended */
    struct list jobs;
    size_t queued;
    struct list workers; /* those whose thread has not been joined */
    size_t count;        /* threads that take jobs */
    size_t lost;         /* threads that are stuck in C and were replaced */
    size_t idle;
    size_t tidying; /* threads that are idle in a moment, unless a finalizer hangs */
    size_t limit;
    size_t memory; /* bytes of a job that does not say how many; 0 = no limit */
    bool closing;
    struct buf path; /* package.path of the main state, and package.cpath: guarded by lock */
    struct buf cpath;
    unsigned path_version; /* 0 = not set */
    struct list late;      /* struct job.node: results of lost jobs; runtime's own thread only */
    size_t nlate;
};

struct offload_op {
    struct op op;
    struct pool *pool;
    struct job *job;     /* NULL when it came back */
    struct timer *grace; /* owned: runs from the cancel on */
    struct timer *hope;  /* owned: runs while the job waits for a worker that tidies up */
    unsigned step;       /* of ending the worker's children */
    bool extended;       /* closers of the job wait: the grace was made longer */
    struct list reports; /* struct report.node: owned; user value 1 is called with each */
    bool failed;         /* ... and has raised the error that is there now */
    bool unwinding;      /* of the task, when that was called */
    const char *refusal; /* why the job was not run, and will not be; NULL = no memory */
    struct buf result;
};

enum { POOL_NO_ROOM = 1 };

/* One more worker, if there may be one: what is queued has waited for too long. */
void pool_help(struct pool *pool);

/* Queues the job. Returns 0, or UV_EBUSY (queue full), UV_EAGAIN (too many lost), or why no thread
 * could be had; POOL_NO_ROOM for a job of a worker when no other one is free for it. */
int pool_submit(struct pool *pool, struct job *job);

#define POOL_ALL_LOST \
    "no worker can take this call: too many workers are stuck in calls that do not end"

/* The worker does not obey: from now on nobody counts on it, and another one takes its place. With
 * pool.lock held. */
void worker_set_aside(struct worker *w);

/* Forgets one reference; the last one frees the job. Any thread. */
void job_unref(struct job *job);

/* Ends the waits for queued jobs of the pool's own thread, when no worker is left to run them. */
void offload_drop_queued(struct pool *pool);

/* Frees the late results that nobody asked for. */
void pool_drop_late(struct pool *pool);

/* The worker whose thread this is, or NULL. */
extern _Thread_local struct worker *worker_self;

/* Before its thread starts. */
void worker_make_interruptible(struct worker *w);

/* Makes the running job of the worker end. With pool.lock held: it cannot begin another one. */
void worker_interrupt(struct worker *w, enum cancel_reason reason);

#endif
