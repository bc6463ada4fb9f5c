/*
 * What the parts of proc share: the life of a group (proc_group.c). Included by these only.
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
    bool spared;      /* when the leader has ended, the others are left alone */
    bool reaped;      /* the leader has ended: `status` is what waitpid() tells of it, or -1 */
    int status;
    bool killed;      /* SIGKILL was sent at `kill_at` */
    uint64_t kill_at; /* ms of uv_hrtime(); 0 = not asked to end */
};

enum {
    PROC_GRACE_MS = 100, /* from SIGTERM to SIGKILL, and from there until we give up waiting */
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
 * copied. */
void proc_group_orphan(struct proc_group *g);

#endif
