/*
 * What the parts of proc share: the life of a group (proc_group.c), the start of a program
 * (proc_spawn.c), what is kept of an output (proc_keep.c). Included by these only, and by child.c,
 * whose groups stand in the same table.
 */
#ifndef LASH_PROC_INT_H
#define LASH_PROC_INT_H

#include "io/proc.h"

#include <stdatomic.h>
#include <sys/types.h>

/* A process group of ours, from before its start until nothing of it is left. */
struct proc_group {
    atomic_int *slot; /* its place in the table of live groups; NULL when gone */
    pid_t pid;        /* the leader; the group and the session have the same number */
    bool spared;      /* when the leader ends before it is stopped, the others live on */
    bool reaped;      /* the leader has ended: `status` is what waitpid() tells of it, or -1 */
    int status;
    bool killed;      /* SIGKILL was sent at `kill_at` */
    uint64_t kill_at; /* ms of uv_hrtime(); 0 = not asked to end */
};

enum {
    PROC_GRACE_MS = 100, /* from SIGTERM to SIGKILL */
    PROC_ZOMBIE_MS = 50, /* and from there until what is left are zombies that nobody takes away */
    PROC_POLL_MS = 5,    /* how often we look whether a dying group is gone */
};

uint64_t proc_now_ms(void);

/* Takes a place in the table for a process that is about to start. False when the program ends. */
bool proc_group_reserve(struct proc_group *g);

/* In the new process, before it runs anything: false when it must not. */
bool proc_group_enter(atomic_int *slot, pid_t pid);

/* It has started / could not be started. */
void proc_group_started(struct proc_group *g, pid_t pid);
void proc_group_forget(struct proc_group *g);

/* SIGTERM now, SIGKILL PROC_GRACE_MS later, by proc_group_step(). Idempotent. */
void proc_group_stop(struct proc_group *g);

/* Looks after a group that is to end: takes the leader's status when it has ended, sends SIGKILL
 * when it is time. True when nothing of it is left: its place in the table is free then. */
bool proc_group_step(struct proc_group *g);

/* Nobody waits for this group any more: a thread sees to its end, stopping it if it was not. `g` is
 * copied. Its outputs (owned from here on; -1 = none) stay open until then: who says good-bye in
 * them must not die of it. */
void proc_group_orphan(struct proc_group *g, int out, int err);

/* ---- proc_spawn.c ---- */

/* The parent's ends of a new process's pipes. Non-blocking is not set; -1 where there is none. */
struct proc_pipes {
    int in;
    int out;
    int err;
};

/* Starts the program. Returns 0 with `pipes` (owned by the caller from then on) and the group, or
 * -1 with the fault. */
/* Tells of an error of the parent, an errno. Returns -1. */
int proc_spawn_fault(const struct proc_options *options, int error, struct proc_fault *fault);

int proc_spawn(const struct proc_options *options, struct proc_group *group,
               struct proc_pipes *pipes, struct proc_fault *fault);

/* ---- proc_keep.c ---- */

/* Bytes of one output: either all that came and nobody consumed, or head and tail. */
struct proc_keep {
    struct buf buf;
    size_t start;   /* what is before was consumed; 0 when capturing */
    bool capturing; /* keeps at most `max` bytes: a head, and a ring of what came last */
    size_t max;
    size_t ring;    /* where the next byte goes, once `total` is more than `max` */
    uint64_t total; /* all that came, but for what was consumed */
};

void proc_keep_init(struct proc_keep *k, size_t max, bool capturing);
void proc_keep_release(struct proc_keep *k);
void proc_keep_add(struct proc_keep *k, const char *data, size_t len);
void proc_keep_consume(struct proc_keep *k, size_t len);
size_t proc_keep_unread(const struct proc_keep *k);
/* From now on it captures. */
void proc_keep_capture(struct proc_keep *k);
/* Puts the bytes in their order; nothing is added any more. */
void proc_keep_finish(struct proc_keep *k, struct proc_output *out);

#endif
