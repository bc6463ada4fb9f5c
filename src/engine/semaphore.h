/*
 * Counting semaphores of the whole process, found by name: what lash.mutex and lash.limit stand on.
 * Tasks of any runtime wait in one queue, first in, first out.
 *
 * A permit belongs to one task and is used on the thread of that task's runtime only. Who gives one
 * back on another thread passes it to the first in the queue and sends that runtime a letter. A
 * permit that its task still has when it ends is given back then, so none is held by nobody.
 */
#ifndef LASH_SEMAPHORE_H
#define LASH_SEMAPHORE_H

#include "base/base.h"
#include "base/list.h"
#include "engine/runtime.h"

struct semaphore;

enum permit_state {
    PERMIT_NONE,
    PERMIT_WAITING, /* in the queue */
    PERMIT_GRANTED, /* ours, but the letter has not arrived yet */
    PERMIT_HELD,
};

struct permit {
    struct mail mail;
    struct runtime *rt;                /* borrowed */
    struct task *owner;                /* borrowed while it is not PERMIT_NONE */
    struct list of_owner;              /* in task.permits */
    void (*granted)(struct permit *p); /* on rt's thread, in a loop callback */
    struct semaphore *semaphore;       /* from here on guarded by the lock of all semaphores */
    struct list node;                  /* in the semaphore's holders or waiters */
    size_t limit;
    enum permit_state state;
};

void permit_init(struct permit *p, struct runtime *rt, void (*granted)(struct permit *p));

/* Asks for a permit in the name of the running task: at most `limit` are held at once. Asked for
 * with different limits, each waits for its own. Returns PERMIT_HELD at once, or PERMIT_WAITING:
 * p->granted() follows. PERMIT_NONE: the task holds all `limit` itself, it would wait for ever. */
enum permit_state permit_ask(struct permit *p, const char *name, size_t limit);

/* The same without waiting: PERMIT_HELD or PERMIT_NONE. */
enum permit_state permit_try(struct permit *p, const char *name, size_t limit);

/* Gives it back, or leaves the queue. Idempotent, legal in every state. */
void permit_release(struct permit *p);

/* Gives back all that the task has: it has ended. */
void permit_release_all(struct list *permits);

/* True when a task of `rt` may get a permit that somebody in another runtime has now. */
bool permit_may_come(struct runtime *rt);

/* Semaphores that somebody holds or waits for: for tests. */
size_t semaphore_count(void);

/* How many wait for it: for tests. */
size_t semaphore_waiting(const char *name);

#endif
