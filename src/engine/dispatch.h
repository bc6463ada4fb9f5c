/*
 * Who may run now: permits for the calls of batches. Mechanism only: it knows neither tools nor
 * models nor Lua. One dispatcher a runtime, on the runtime's own thread.
 *
 * A batch is a row of slots in call order. A slot starts when its batch is below its cap, the
 * process below its own, its tool below its limit, its name (parallel = "name") is free, and no
 * barrier (parallel = false) stands in its way. Within a batch slots start in call order, except
 * that slots which wait for a name or a tool let later ones pass. Batches take turns: none starves.
 */
#ifndef LASH_DISPATCH_H
#define LASH_DISPATCH_H

#include "base/base.h"
#include "base/list.h"

struct batch;

/* A named lock or a tool's cap, shared by batches: at most `limit` slots run under it. */
struct lane {
    struct lane *next;
    char *name; /* owned; its first letter is the kind */
    size_t limit;
    size_t running;
    size_t users;        /* slots that refer to it */
    struct list waiters; /* struct lane_wait: batches that could start a slot but for it */
};

struct dispatcher {
    size_t cap; /* running calls in this process, 256 by default */
    size_t running;
    struct list turn;    /* struct batch.node: those that may be able to start a slot */
    struct list waiters; /* struct batch.node: those that could but for the process's cap */
    struct lane *lanes;  /* owned */
};

void dispatcher_init(struct dispatcher *d, size_t cap);
/* All batches must have been freed. */
void dispatcher_release(struct dispatcher *d);

/* Makes a batch that runs at most `cap` slots at once. `counted`: they count for the process's cap;
 * not so for batches inside a running call, which would wait for a permit while they hold one.
 * wake(arg) is called, perhaps at once, when a slot got its permit and waits to be taken by
 * batch_take(). */
struct batch *batch_new(struct dispatcher *d, size_t cap, bool counted, void (*wake)(void *arg),
                        void *arg);
/* Gives back what it holds; legal at any time. */
void batch_free(struct batch *b);

/* Adds the next slot; a barrier runs alone in its batch. Returns its index from 0. */
size_t batch_add(struct batch *b, bool barrier);

/* At most `limit` slots of all batches that have the same kind and name run at once. `kind` keeps
 * names apart ('=' for parallel = "name", '#' for a tool's own cap, ...). False when the slot has
 * 3 already, or had its turn. */
bool batch_limit(struct batch *b, size_t slot, char kind, const char *name, size_t limit);

/* Slots in all. */
size_t batch_count(const struct batch *b);

/* True for a slot that has its permit and is not settled. */
bool batch_runs(const struct batch *b, size_t slot);

/* No more slots come: permits are handed out from here on. */
void batch_start(struct batch *b);

/* True for a slot that has had no permit so far and was not given up. */
bool batch_waits(const struct batch *b, size_t slot);

/* The slot that batch_take() would take. */
long batch_first(const struct batch *b);

/* Takes the next slot that got its permit: its index, or -1 when there is none at the moment. */
long batch_take(struct batch *b);

/* A taken slot has ended: its permits go to whoever waits. */
void batch_settle(struct batch *b, size_t slot);

/* A started slot pauses: it keeps its place in its batch, as a barrier too, until it is settled;
 * its permits of lanes and process go to whoever waits, for good. Once a slot. */
void batch_rest(struct batch *b, size_t slot);

/* Slots that have neither started nor were given up. */
size_t batch_pending(const struct batch *b);

/* Slots that have not started are given up and never will: counted as settled. */
void batch_abandon(struct batch *b);

/* True when every slot is settled. */
bool batch_done(const struct batch *b);

#endif
