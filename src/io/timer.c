/*
 * One heap of timers a loop, and one timerfd that is set to the first of them. libuv's own timers
 * count whole milliseconds of a cached clock: a sleep of 100 ms took 101.3.
 */
#include "base/base.h"

#include "io/timer.h"

#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define NS_PER_MS 1000000u
#define NS_PER_S 1000000000u
#define NEVER UINT64_MAX
#define FAR ((uint64_t)INT64_MAX) /* the system's clocks end here, after 292 years */

struct timer {
    uint64_t due; /* ns of uv_hrtime() */
    uint64_t number;
    size_t place; /* in the heap; OUT once it fires */
    struct timers *of;
    timer_fn fn;
    void *arg; /* borrowed until it fires or is stopped */
    bool at_once;
};

#define OUT SIZE_MAX

struct timers {
    struct timer **heap; /* the first to fire on top; of equals the one that was started first */
    size_t count;
    size_t room;
    size_t at_once;   /* how many wait for the next turn only */
    uint64_t started; /* how many so far */
    uint64_t set_to;  /* what the alarm is set to, or NEVER; perhaps for one that was stopped */
    uv_poll_t alarm;
    uv_timer_t coarse; /* instead of the alarm where no descriptor is left for it */
    uv_idle_t turn;    /* while timers of 0 wait */
    int fd;            /* of the alarm, or -1 */
    int open;          /* handles that are not closed yet */
    bool firing;
};

// ---- the heap ----

static bool is_before(const struct timer *a, const struct timer *b)
{
    return a->due != b->due ? a->due < b->due : a->number < b->number;
}

static void put(struct timers *all, size_t place, struct timer *t)
{
    all->heap[place] = t;
    t->place = place;
}

static void rise(struct timers *all, struct timer *t, size_t place)
{
    while (place > 0 && is_before(t, all->heap[(place - 1) / 2])) {
        put(all, place, all->heap[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    put(all, place, t);
}

static void sink(struct timers *all, struct timer *t, size_t place)
{
    for (;;) {
        size_t child = 2 * place + 1;
        if (child + 1 < all->count && is_before(all->heap[child + 1], all->heap[child])) {
            child++;
        }
        if (child >= all->count || !is_before(all->heap[child], t)) {
            break;
        }
        put(all, place, all->heap[child]);
        place = child;
    }
    put(all, place, t);
}

static void add(struct timers *all, struct timer *t)
{
    if (all->count == all->room) {
        all->room = all->room > 0 ? all->room * 2 : 16;
        all->heap = xrealloc(all->heap, all->room * sizeof(all->heap[0]));
    }
    all->count++;
    rise(all, t, all->count - 1);
}

static void take(struct timers *all, struct timer *t)
{
    size_t place = t->place;
    struct timer *last = all->heap[--all->count];
    t->place = OUT;
    if (last != t) {
        sink(all, last, place);
        rise(all, last, last->place);
    }
    if (t->at_once && --all->at_once == 0) {
        uv_idle_stop(&all->turn);
    }
}

// ---- the clock ----

static void set_alarm(struct timers *all, uint64_t due)
{
    struct itimerspec spec = {.it_value = {0}};
    if (due != NEVER) {
        spec.it_value.tv_sec = (time_t)(due / NS_PER_S);
        spec.it_value.tv_nsec = (long)(due % NS_PER_S);
    }
    ASSERT(timerfd_settime(all->fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0);
    all->set_to = due;
}

static void on_coarse(uv_timer_t *handle);

// The first whole millisecond that is not early, by a clock that lies up to a turn behind.
static void set_coarse(struct timers *all, uint64_t due)
{
    uint64_t base = uv_now(all->coarse.loop);
    uint64_t ms = (due + NS_PER_MS - 1) / NS_PER_MS;
    ASSERT(uv_timer_start(&all->coarse, on_coarse, ms > base ? ms - base : 0, 0) == 0);
    all->set_to = due;
}

// An alarm that is too early finds nothing to do; so it is not set anew when a timer is stopped.
static void set_clock(struct timers *all)
{
    uv_handle_t *handle = all->fd >= 0 ? (uv_handle_t *)&all->alarm : (uv_handle_t *)&all->coarse;
    if (all->count == 0) {
        uv_unref(handle);
        return;
    }
    uv_ref(handle);
    uint64_t due = all->heap[0]->due;
    if (all->firing || all->heap[0]->at_once || due >= all->set_to) {
        return;
    }
    if (all->fd >= 0) {
        set_alarm(all, due);
    } else {
        set_coarse(all, due);
    }
}

static void fire_due(struct timers *all)
{
    uint64_t now = uv_hrtime(); // what is started from now on is due later: this ends
    all->firing = true;
    while (all->count > 0 && all->heap[0]->due <= now) {
        struct timer *t = all->heap[0];
        take(all, t);
        t->fn(t->arg);
        free(t);
    }
    all->firing = false;
    set_clock(all);
}

static void on_alarm(uv_poll_t *handle, int status, int events)
{
    (void)status;
    (void)events;
    struct timers *all = handle->data;
    set_alarm(all, NEVER); // also takes back that it can be read
    fire_due(all);
}

static void on_coarse(uv_timer_t *handle)
{
    struct timers *all = handle->data;
    all->set_to = NEVER;
    fire_due(all);
}

static void on_turn(uv_idle_t *handle)
{
    fire_due(handle->data);
}

// ---- one of them a loop ----

static void open_alarm(struct timers *all, uv_loop_t *loop)
{
    all->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (all->fd >= 0 && uv_poll_init(loop, &all->alarm, all->fd) != 0) {
        (void)close(all->fd);
        all->fd = -1;
    }
    if (all->fd >= 0) {
        all->open++;
        all->alarm.data = all;
        ASSERT(uv_poll_start(&all->alarm, UV_READABLE, on_alarm) == 0);
        uv_unref((uv_handle_t *)&all->alarm);
    }
}

static struct timers *timers_of(uv_loop_t *loop)
{
    struct timers *all = uv_loop_get_data(loop);
    if (all == NULL) {
        all = xcalloc(1, sizeof(*all));
        all->set_to = NEVER;
        open_alarm(all, loop);
        ASSERT(uv_timer_init(loop, &all->coarse) == 0 && uv_idle_init(loop, &all->turn) == 0);
        all->open += 2;
        all->coarse.data = all;
        all->turn.data = all;
        uv_loop_set_data(loop, all);
    }
    return all;
}

static void on_closed(uv_handle_t *handle)
{
    struct timers *all = handle->data;
    if (--all->open == 0) {
        if (all->fd >= 0) {
            (void)close(all->fd);
        }
        free(all->heap);
        free(all);
    }
}

void timer_close(uv_loop_t *loop)
{
    struct timers *all = uv_loop_get_data(loop);
    if (all == NULL) {
        return;
    }
    DEBUG_ASSERT(all->count == 0);
    uv_loop_set_data(loop, NULL);
    uv_close((uv_handle_t *)&all->coarse, on_closed);
    uv_close((uv_handle_t *)&all->turn, on_closed);
    if (all->fd >= 0) {
        uv_close((uv_handle_t *)&all->alarm, on_closed);
    }
}

// ---- timers ----

struct timer *timer_start_ns(uv_loop_t *loop, uint64_t ns, timer_fn fn, void *arg)
{
    struct timers *all = timers_of(loop);
    struct timer *t = xmalloc(sizeof(*t));
    uint64_t now = uv_hrtime();
    *t = (struct timer){.due = ns < FAR - now ? now + ns : FAR,
                        .number = all->started++,
                        .of = all,
                        .fn = fn,
                        .arg = arg,
                        .at_once = ns == 0};
    if (t->at_once && all->at_once++ == 0) {
        ASSERT(uv_idle_start(&all->turn, on_turn) == 0);
    }
    add(all, t);
    set_clock(all);
    return t;
}

struct timer *timer_start(uv_loop_t *loop, uint64_t ms, timer_fn fn, void *arg)
{
    return timer_start_ns(loop, ms > FAR / NS_PER_MS ? FAR : ms * NS_PER_MS, fn, arg);
}

void timer_stop(struct timer *t)
{
    if (t == NULL || t->place == OUT) {
        return;
    }
    struct timers *all = t->of;
    take(all, t);
    free(t);
    set_clock(all);
}
