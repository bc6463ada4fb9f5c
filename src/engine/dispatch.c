#include "base/base.h"

#include "engine/dispatch.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_LANES = 3 };

enum slot_state { SLOT_PENDING, SLOT_STARTED, SLOT_SETTLED };

struct slot {
    enum slot_state state;
    bool barrier;
    struct lane *lanes[MAX_LANES]; /* borrowed from the dispatcher; NULL = none */
    long next_started; /* chain of slots that got their permit and were not taken yet */
};

struct batch {
    struct dispatcher *dispatcher;
    struct list node; /* in dispatcher.batches while it has pending slots */
    size_t cap;
    bool counted; /* for the process's cap */
    struct slot *slots; /* owned */
    size_t count;
    size_t capacity;
    size_t first_pending; /* no slot before it is pending */
    size_t pending;
    size_t running;
    size_t settled;
    bool barrier_runs;
    long started_head, started_tail; /* chain of struct slot.next_started; -1 = empty */
    void (*wake)(void *arg);
    void *wake_arg;
};

void dispatcher_init(struct dispatcher *d, size_t cap)
{
    *d = (struct dispatcher){.cap = cap};
    list_init(&d->batches);
}

void dispatcher_release(struct dispatcher *d)
{
    ASSERT(list_empty(&d->batches) && d->lanes == NULL);
}

static struct lane *lane_use(struct dispatcher *d, char kind, const char *name, size_t limit)
{
    for (struct lane *lane = d->lanes; lane != NULL; lane = lane->next) {
        if (lane->name[0] == kind && strcmp(lane->name + 1, name) == 0) {
            lane->users++;
            lane->limit = limit;
            return lane;
        }
    }
    struct lane *lane = xcalloc(1, sizeof(*lane));
    size_t len = strlen(name);
    lane->name = xmalloc(len + 2);
    lane->name[0] = kind;
    memcpy(lane->name + 1, name, len + 1);
    lane->limit = limit;
    lane->users = 1;
    lane->next = d->lanes;
    d->lanes = lane;
    return lane;
}

static void lane_unuse(struct dispatcher *d, struct lane *lane)
{
    if (lane == NULL || --lane->users > 0) {
        return;
    }
    struct lane **at = &d->lanes;
    while (*at != lane) {
        at = &(*at)->next;
    }
    *at = lane->next;
    free(lane->name);
    free(lane);
}

static bool slot_may_start(const struct slot *s)
{
    for (int i = 0; i < MAX_LANES; i++) {
        if (s->lanes[i] != NULL && s->lanes[i]->running >= s->lanes[i]->limit) {
            return false;
        }
    }
    return true;
}

/* Counts the slot in (+1) or out (-1) of its lanes. */
static void slot_count(struct slot *s, int by)
{
    for (int i = 0; i < MAX_LANES; i++) {
        if (s->lanes[i] != NULL) {
            s->lanes[i]->running += (size_t)by;
        }
    }
}

struct batch *batch_new(struct dispatcher *d, size_t cap, bool counted, void (*wake)(void *arg), void *arg)
{
    ASSERT(cap > 0);
    struct batch *b = xcalloc(1, sizeof(*b));
    b->dispatcher = d;
    b->cap = cap;
    b->counted = counted;
    b->wake = wake;
    b->wake_arg = arg;
    b->started_head = b->started_tail = -1;
    list_init(&b->node);
    return b;
}

size_t batch_add(struct batch *b, bool barrier)
{
    if (b->count == b->capacity) {
        b->capacity = b->capacity ? b->capacity * 2 : 16;
        b->slots = xrealloc(b->slots, b->capacity * sizeof(*b->slots));
    }
    b->slots[b->count] = (struct slot){.barrier = barrier, .next_started = -1};
    b->pending++;
    return b->count++;
}

void batch_limit(struct batch *b, size_t slot, char kind, const char *name, size_t limit)
{
    struct slot *s = &b->slots[slot];
    int i = 0;
    while (i < MAX_LANES && s->lanes[i] != NULL) {
        i++;
    }
    ASSERT(i < MAX_LANES && limit > 0);
    s->lanes[i] = lane_use(b->dispatcher, kind, name, limit);
}

/* The slot that may start now, or -1. */
static long batch_startable(struct batch *b)
{
    if (b->pending == 0 || b->barrier_runs || b->running >= b->cap) {
        return -1;
    }
    if (b->counted && b->dispatcher->running >= b->dispatcher->cap) {
        return -1;
    }
    while (b->slots[b->first_pending].state != SLOT_PENDING) {
        b->first_pending++;
    }
    for (size_t i = b->first_pending; i < b->count; i++) {
        struct slot *s = &b->slots[i];
        if (s->state != SLOT_PENDING) {
            continue;
        }
        if (s->barrier) {
            bool earlier_settled = i == b->first_pending && b->running == 0;
            return earlier_settled && slot_may_start(s) ? (long)i : -1;
        }
        if (slot_may_start(s)) {
            return (long)i;
        }
    }
    return -1;
}

static void batch_start_slot(struct batch *b, long i)
{
    struct slot *s = &b->slots[i];
    s->state = SLOT_STARTED;
    slot_count(s, 1);
    b->barrier_runs = s->barrier;
    b->pending--;
    b->running++;
    b->dispatcher->running += b->counted;
    if (b->started_tail >= 0) {
        b->slots[b->started_tail].next_started = i;
    } else {
        b->started_head = i;
    }
    b->started_tail = i;
}

/* Gives out permits, one to each batch in turn, until nobody can start. */
static void dispatcher_serve(struct dispatcher *d)
{
    size_t waiting = 0;
    for (struct list *n = d->batches.next; n != &d->batches; n = n->next) {
        waiting++;
    }
    for (size_t idle = 0; idle < waiting;) {
        struct batch *b = container_of(list_take(&d->batches), struct batch, node);
        long i = batch_startable(b);
        if (i < 0) {
            idle++;
        } else {
            idle = 0;
            batch_start_slot(b, i);
            b->wake(b->wake_arg);
        }
        if (b->pending > 0) {
            list_append(&d->batches, &b->node);
        } else {
            waiting--;
        }
    }
}

void batch_start(struct batch *b)
{
    if (b->pending > 0) {
        list_append(&b->dispatcher->batches, &b->node);
        dispatcher_serve(b->dispatcher);
    }
}

long batch_take(struct batch *b)
{
    long i = b->started_head;
    if (i >= 0) {
        b->started_head = b->slots[i].next_started;
        if (b->started_head < 0) {
            b->started_tail = -1;
        }
    }
    return i;
}

/* Gives back the permits of a started slot. */
static void slot_release(struct batch *b, struct slot *s)
{
    s->state = SLOT_SETTLED;
    slot_count(s, -1);
    if (s->barrier) {
        b->barrier_runs = false;
    }
    b->running--;
    b->settled++;
    b->dispatcher->running -= b->counted;
}

void batch_settle(struct batch *b, size_t slot)
{
    ASSERT(slot < b->count && b->slots[slot].state == SLOT_STARTED);
    slot_release(b, &b->slots[slot]);
    dispatcher_serve(b->dispatcher);
}

void batch_abandon(struct batch *b)
{
    for (size_t i = 0; i < b->count; i++) {
        if (b->slots[i].state == SLOT_PENDING) {
            b->slots[i].state = SLOT_SETTLED;
            b->settled++;
        }
    }
    b->pending = 0;
    list_remove(&b->node);
}

bool batch_done(const struct batch *b)
{
    return b->settled == b->count;
}

void batch_free(struct batch *b)
{
    if (b == NULL) {
        return;
    }
    batch_abandon(b);
    for (size_t i = 0; i < b->count; i++) {
        struct slot *s = &b->slots[i];
        if (s->state == SLOT_STARTED) {
            slot_release(b, s);
        }
        for (int lane = 0; lane < MAX_LANES; lane++) {
            lane_unuse(b->dispatcher, s->lanes[lane]);
        }
    }
    struct dispatcher *d = b->dispatcher;
    free(b->slots);
    free(b);
    dispatcher_serve(d);
}
