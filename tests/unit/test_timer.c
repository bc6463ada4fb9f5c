#include "base/base.h"

#include "io/timer.h"

#include "test.h"

#include <string.h>
#include <unistd.h>

struct shot {
    struct timer *timer;
    uint64_t fired_ns;
    int count;
    struct shot *stops; /* another one to stop when this fires */
};

static void fire(void *arg)
{
    struct shot *s = arg;
    s->count++;
    s->fired_ns = uv_hrtime();
    timer_stop(s->timer); // the firing one: harmless
    s->timer = NULL;
    if (s->stops != NULL) {
        timer_stop(s->stops->timer);
    }
}

static void finish(uv_loop_t *loop)
{
    ASSERT_INT(uv_run(loop, UV_RUN_DEFAULT), 0);
    ASSERT_INT(uv_loop_close(loop), 0);
}

/* The loop's clock is old when they start, which must not make them early. */
TEST(timer_is_never_early)
{
    uv_loop_t loop;
    ASSERT_INT(uv_loop_init(&loop), 0);
    for (uint64_t us = 0; us < 12000; us += 370) {
        struct shot s = {0};
        usleep(us % 1000 + 300);
        uint64_t start = uv_hrtime();
        s.timer = timer_start_ns(&loop, us * 1000, fire, &s);
        uv_run(&loop, UV_RUN_DEFAULT);
        ASSERT_INT(s.count, 1);
        ASSERT_TRUE(s.fired_ns >= start + us * 1000);
        ASSERT_TRUE(s.fired_ns < start + us * 1000 + 200 * 1000000u);
    }
    finish(&loop);
}

TEST(timer_stop)
{
    uv_loop_t loop;
    ASSERT_INT(uv_loop_init(&loop), 0);
    struct shot never = {0}, first = {0}, last = {0}, victim = {0};
    never.timer = timer_start(&loop, 0, fire, &never);
    timer_stop(never.timer);
    timer_stop(NULL);
    last.timer = timer_start(&loop, 30, fire, &last);
    first.timer = timer_start(&loop, 5, fire, &first);
    victim.timer = timer_start(&loop, 6, fire, &victim);
    first.stops = &victim;
    struct timer *far = timer_start(&loop, UINT64_MAX, fire, &never);
    struct timer *farther = timer_start(&loop, UINT64_MAX / 2, fire, &never);
    for (int i = 0; i < 3; i++) {
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    timer_stop(far);
    timer_stop(farther);
    uv_run(&loop, UV_RUN_DEFAULT);
    ASSERT_INT(never.count, 0);
    ASSERT_INT(victim.count, 0);
    ASSERT_INT(first.count, 1);
    ASSERT_INT(last.count, 1);
    ASSERT_TRUE(first.fired_ns < last.fired_ns);
    finish(&loop);
}

TEST(timer_many)
{
    enum { N = 10000 };
    static struct shot shots[N];
    uv_loop_t loop;
    ASSERT_INT(uv_loop_init(&loop), 0);
    for (int i = 0; i < N; i++) {
        shots[i].timer = timer_start(&loop, (uint64_t)(i % 20), fire, &shots[i]);
    }
    for (int i = 0; i < N; i += 3) {
        timer_stop(shots[i].timer);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    for (int i = 0; i < N; i++) {
        ASSERT_INT(shots[i].count, i % 3 != 0);
    }
    finish(&loop);
}
