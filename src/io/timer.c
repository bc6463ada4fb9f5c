#include "base/base.h"

#include "io/timer.h"

#include <stdlib.h>

#define NS_PER_MS 1000000u

struct timer {
    uv_timer_t handle;
    timer_fn fn; /* NULL once it fired or was stopped */
    void *arg;   /* borrowed until it fires or is stopped */
};

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void on_timer(uv_timer_t *handle)
{
    struct timer *t = handle->data;
    timer_fn fn = t->fn;
    t->fn = NULL;
    fn(t->arg);
    // fn may have called timer_stop() on this very timer
    if (!uv_is_closing((uv_handle_t *)handle)) {
        uv_close((uv_handle_t *)handle, on_closed);
    }
}

struct timer *timer_start_ns(uv_loop_t *loop, uint64_t ns, timer_fn fn, void *arg)
{
    struct timer *t = xmalloc(sizeof *t);
    t->fn = fn;
    t->arg = arg;
    ASSERT(uv_timer_init(loop, &t->handle) == 0);
    t->handle.data = t;
    // libuv counts whole milliseconds of a cached clock that lies up to a turn behind: from the
    // true time we take the first whole millisecond that is not early, and give its distance to
    // that clock
    uint64_t now = uv_hrtime();
    uint64_t due = ns > UINT64_MAX - now - NS_PER_MS ? UINT64_MAX / NS_PER_MS
                                                     : (now + ns + NS_PER_MS - 1) / NS_PER_MS;
    uint64_t base = uv_now(loop);
    uint64_t timeout = ns == 0 || due < base ? 0 : due - base;
    ASSERT(uv_timer_start(&t->handle, on_timer, timeout, 0) == 0);
    return t;
}

struct timer *timer_start(uv_loop_t *loop, uint64_t ms, timer_fn fn, void *arg)
{
    return timer_start_ns(loop, ms > UINT64_MAX / NS_PER_MS ? UINT64_MAX : ms * NS_PER_MS, fn, arg);
}

void timer_stop(struct timer *t)
{
    if (t == NULL || uv_is_closing((uv_handle_t *)&t->handle)) {
        return;
    }
    t->fn = NULL;
    uv_close((uv_handle_t *)&t->handle, on_closed);
}
