#include "base/base.h"

#include "engine/dispatch.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_LANES = 3 };

enum slot_state { SLOT_PENDING, SLOT_STARTED, SLOT_SETTLED };

struct lane_wait;

struct slot {
    enum slot_state state;
    bool barrier;
    bool rests;                    /* started, but its lanes and the process do not count it */
    struct lane *lanes[MAX_LANES]; /* borrowed from the dispatcher; NULL = none */
    long next_started;             /* chain of slots that got their permit and were not taken yet */
    struct lane_wait *parked;      /* in whose chain it waits; NULL = in none */
    long next_parked;
};

/* A batch in the queue of a lane. */
struct lane_wait {
    struct list node; /* in lane.waiters, or in none */
    struct batch *batch;
    struct lane *lane;
    struct lane_wait *next; /* of the same batch */
    long first, last;       /* chain of struct slot.next_parked, in call order; first -1 = empty */
};

struct batch {
    struct dispatcher *dispatcher;
    struct list node;        /* in dispatcher.turn or .waiters, or in none */
    struct lane_wait *waits; /* owned: one per lane of its slots */
    size_t cap;
    bool counted;       /* for the process's cap */
    struct slot *slots; /* owned */
    size_t count;
    size_t capacity;
    size_t first_pending; /* no slot before it is pending */
    size_t cursor;        /* slots from here on were not looked at: none of them is parked */
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
    list_init(&d->turn);
    list_init(&d->waiters);
}

void dispatcher_release(struct dispatcher *d)
{
    ASSERT(list_empty(&d->turn) && list_empty(&d->waiters) && d->lanes == NULL);
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
    list_init(&lane->waiters);
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

/* The lane that the slot has to wait for, or NULL. */
static struct lane *slot_blocked_by(const struct slot *s)
{
    for (int i = 0; i < MAX_LANES; i++) {
        if (s->lanes[i] != NULL && s->lanes[i]->running >= s->lanes[i]->limit) {
            return s->lanes[i];
        }
    }
    return NULL;
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

struct batch *batch_new(struct dispatcher *d, size_t cap, bool counted, void (*wake)(void *arg),
                        void *arg)
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

bool batch_limit(struct batch *b, size_t slot, char kind, const char *name, size_t limit)
{
    struct slot *s = &b->slots[slot];
    int i = 0;
    while (i < MAX_LANES && s->lanes[i] != NULL) {
        i++;
    }
    ASSERT(limit > 0);
    if (i == MAX_LANES || s->state != SLOT_PENDING || s->parked != NULL) {
        return false;
    }
    struct lane *lane = lane_use(b->dispatcher, kind, name, limit);
    s->lanes[i] = lane;
    for (struct lane_wait *w = b->waits; w != NULL; w = w->next) {
        if (w->lane == lane) {
            return true;
        }
    }
    struct lane_wait *wait = xcalloc(1, sizeof(*wait));
    wait->batch = b;
    wait->lane = lane;
    wait->first = -1;
    wait->next = b->waits;
    list_init(&wait->node);
    b->waits = wait;
    return true;
}

/* Queues the batch at the lane, unless it is queued there already. */
static void batch_await_lane(struct batch *b, struct lane *lane)
{
    for (struct lane_wait *w = b->waits; w != NULL; w = w->next) {
        if (w->lane == lane && list_empty(&w->node)) {
            list_append(&lane->waiters, &w->node);
        }
    }
}

/* The slot waits for the lane: nobody looks at it again before that has room. */
static void batch_park(struct batch *b, long i, struct lane *lane)
{
    struct lane_wait *w = b->waits;
    while (w != NULL && w->lane != lane) {
        w = w->next;
    }
    ASSERT(w != NULL); /* batch_limit() made one for every lane */
    bool at_end = w->first >= 0 && w->last < i;
    long *at = at_end ? &b->slots[w->last].next_parked : &w->first;
    while (*at >= 0 && *at < i) {
        at = &b->slots[*at].next_parked;
    }
    b->slots[i].next_parked = *at;
    b->slots[i].parked = w;
    *at = i;
    if (b->slots[i].next_parked < 0) {
        w->last = i;
    }
}

static void batch_unpark(struct batch *b, struct lane_wait *w)
{
    struct slot *s = &b->slots[w->first];
    w->first = s->next_parked;
    s->parked = NULL;
}

/* The first slot in the chain of the lane that may start, or -1. */
static long first_parked(struct batch *b, struct lane_wait *w)
{
    while (w->first >= 0) {
        long i = w->first;
        struct lane *lane = slot_blocked_by(&b->slots[i]);
        if (lane == NULL) {
            return i;
        }
        if (lane == w->lane) {
            batch_await_lane(b, lane);
            return -1;
        }
        batch_unpark(b, w);
        batch_park(b, i, lane);
        batch_await_lane(b, lane);
    }
    return -1;
}

/* The slot that may start now as far as its batch and lanes go, or -1. Queues the batch at the
 * lanes that stand in the way of its slots. */
static long batch_startable(struct batch *b)
{
    if (b->pending == 0 || b->barrier_runs || b->running >= b->cap) {
        return -1; /* a slot of its own that ends gives it its next turn */
    }
    while (b->slots[b->first_pending].state != SLOT_PENDING) {
        b->first_pending++;
    }
    long best = -1;
    for (struct lane_wait *w = b->waits; w != NULL; w = w->next) {
        long i = first_parked(b, w);
        best = i >= 0 && (best < 0 || i < best) ? i : best;
    }
    while (best < 0 && b->cursor < b->count) {
        struct slot *s = &b->slots[b->cursor];
        if (s->barrier && (b->cursor != b->first_pending || b->running > 0)) {
            return -1;
        }
        struct lane *lane = slot_blocked_by(s);
        if (lane == NULL) {
            return (long)b->cursor;
        }
        batch_await_lane(b, lane);
        if (s->barrier) {
            return -1;
        }
        batch_park(b, (long)b->cursor++, lane);
    }
    return best;
}

static void batch_start_slot(struct batch *b, long i)
{
    struct slot *s = &b->slots[i];
    s->state = SLOT_STARTED;
    if (s->parked != NULL) {
        batch_unpark(b, s->parked);
    } else {
        b->cursor = (size_t)i + 1;
    }
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

static void batch_get_turn(struct batch *b)
{
    if (b->pending > 0) {
        list_remove(&b->node);
        list_append(&b->dispatcher->turn, &b->node);
    }
}

/* One slot to each batch in turn, until none of them can start one more. */
static void dispatcher_serve(struct dispatcher *d)
{
    struct list *node;
    while ((node = list_take(&d->turn)) != NULL) {
        struct batch *b = container_of(node, struct batch, node);
        long i = batch_startable(b);
        if (i < 0) {
            continue;
        }
        if (b->counted && d->running >= d->cap) {
            list_append(&d->waiters, &b->node);
            continue;
        }
        batch_start_slot(b, i);
        batch_get_turn(b);
        b->wake(b->wake_arg);
    }
}

/* Gives a turn to the longest waiting of each queue in which something became free. */
static bool dispatcher_call_up(struct dispatcher *d, struct lane *const lanes[MAX_LANES])
{
    bool any = false;
    for (int i = 0; i < MAX_LANES; i++) {
        struct lane *lane = lanes[i];
        if (lane != NULL && lane->running < lane->limit && !list_empty(&lane->waiters)) {
            struct list *node = list_take(&lane->waiters);
            batch_get_turn(container_of(node, struct lane_wait, node)->batch);
            any = true;
        }
    }
    if (d->running < d->cap && !list_empty(&d->waiters)) {
        batch_get_turn(container_of(d->waiters.next, struct batch, node));
        any = true;
    }
    return any;
}

/* Hands on what became free. One who cannot use it (its own cap is reached, another lane stands in
 * its way) lets the next one have it. */
static void dispatcher_hand_on(struct dispatcher *d, struct lane *const lanes[MAX_LANES])
{
    do {
        dispatcher_serve(d);
    } while (dispatcher_call_up(d, lanes));
}

void batch_start(struct batch *b)
{
    batch_get_turn(b);
    dispatcher_serve(b->dispatcher);
}

long batch_first(const struct batch *b)
{
    return b->started_head;
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

/* Gives back the permits of a started slot that others than its batch count. */
static void slot_rest(struct batch *b, struct slot *s)
{
    if (!s->rests) {
        s->rests = true;
        slot_count(s, -1);
        b->dispatcher->running -= b->counted;
    }
}

/* Gives back all permits of a started slot. */
static void slot_release(struct batch *b, struct slot *s)
{
    slot_rest(b, s);
    s->state = SLOT_SETTLED;
    if (s->barrier) {
        b->barrier_runs = false;
    }
    b->running--;
    b->settled++;
}

void batch_settle(struct batch *b, size_t slot)
{
    ASSERT(slot < b->count && b->slots[slot].state == SLOT_STARTED);
    slot_release(b, &b->slots[slot]);
    (void)dispatcher_call_up(b->dispatcher, b->slots[slot].lanes); /* others come first */
    batch_get_turn(b);
    dispatcher_hand_on(b->dispatcher, b->slots[slot].lanes);
}

void batch_rest(struct batch *b, size_t slot)
{
    ASSERT(slot < b->count && b->slots[slot].state == SLOT_STARTED);
    slot_rest(b, &b->slots[slot]);
    (void)dispatcher_call_up(b->dispatcher, b->slots[slot].lanes);
    dispatcher_hand_on(b->dispatcher, b->slots[slot].lanes);
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
    b->cursor = b->count;
    list_remove(&b->node);
    for (struct lane_wait *w = b->waits; w != NULL; w = w->next) {
        w->first = -1;
        list_remove(&w->node);
    }
}

size_t batch_pending(const struct batch *b)
{
    return b->pending;
}

size_t batch_count(const struct batch *b)
{
    return b->count;
}

bool batch_runs(const struct batch *b, size_t slot)
{
    return b->slots[slot].state == SLOT_STARTED;
}

bool batch_waits(const struct batch *b, size_t slot)
{
    return b->slots[slot].state == SLOT_PENDING;
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
    struct dispatcher *d = b->dispatcher;
    batch_abandon(b);
    for (size_t i = 0; i < b->count; i++) {
        struct slot *s = &b->slots[i];
        if (s->state == SLOT_STARTED) {
            slot_release(b, s);
            dispatcher_hand_on(d, s->lanes);
        }
        for (int lane = 0; lane < MAX_LANES; lane++) {
            lane_unuse(d, s->lanes[lane]);
        }
    }
    while (b->waits != NULL) {
        struct lane_wait *next = b->waits->next;
        free(b->waits);
        b->waits = next;
    }
    free(b->slots);
    free(b);
}
