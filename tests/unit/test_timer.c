#include "base/base.h"

#include "io/timer.h"

#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
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
    timer_close(loop);
    ASSERT_INT(uv_run(loop, UV_RUN_DEFAULT), 0);
    ASSERT_INT(uv_loop_close(loop), 0);
}

/* The loop's clock is old when they start, which must not make them early. On a busy machine some
 * are late, not all. */
TEST(timer_is_never_early)
{
    uv_loop_t loop = {.data = NULL};
    uint64_t least_late = UINT64_MAX;
    ASSERT_INT(uv_loop_init(&loop), 0);
    for (uint64_t us = 0; us < 12000; us += 370) {
        struct shot s = {0};
        usleep(us % 1000 + 300);
        uint64_t start = uv_hrtime();
        s.timer = timer_start_ns(&loop, us * 1000, fire, &s);
        uv_run(&loop, UV_RUN_DEFAULT);
        ASSERT_INT(s.count, 1);
        ASSERT_TRUE(s.fired_ns >= start + us * 1000);
        uint64_t late = s.fired_ns - start - us * 1000;
        least_late = late < least_late ? late : least_late;
    }
    ASSERT_TRUE(least_late < 100 * 1000000u);
    finish(&loop);
}

TEST(timer_stop)
{
    uv_loop_t loop = {.data = NULL};
    ASSERT_INT(uv_loop_init(&loop), 0);
    struct shot never = {0}, first = {0}, last = {0}, victim = {0};
    never.timer = timer_start(&loop, 0, fire, &never);
    timer_stop(never.timer);
    timer_stop(NULL);
    first.timer = timer_start(&loop, 5, fire, &first);
    victim.timer = timer_start(&loop, 6, fire, &victim);
    last.timer = timer_start(&loop, 30, fire, &last);
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
    ASSERT_TRUE(first.fired_ns <= last.fired_ns);
    finish(&loop);
}

TEST(timer_many)
{
    enum { N = 10000 };
    static struct shot shots[N];
    uv_loop_t loop = {.data = NULL};
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

/* Started and stopped at random: what is left fires in the order of time. When exactly one is due
 * is known between two readings of the clock. */
TEST(timer_order)
{
    enum { N = 500 };
    static struct shot shots[N];
    static uint64_t least[N], most[N]; /* ns; 0 = stopped */
    uv_loop_t loop = {.data = NULL};
    ASSERT_INT(uv_loop_init(&loop), 0);
    srand(7);
    for (int i = 0; i < N; i++) {
        uint64_t ns = 1000000 + 1000 * (uint64_t)(rand() % 20000);
        shots[i] = (struct shot){0};
        least[i] = uv_hrtime() + ns;
        shots[i].timer = timer_start_ns(&loop, ns, fire, &shots[i]);
        most[i] = uv_hrtime() + ns;
        int other = rand() % (i + 1);
        if (rand() % 3 == 0 && shots[other].timer != NULL) {
            timer_stop(shots[other].timer);
            shots[other].timer = NULL;
            least[other] = most[other] = 0;
        }
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    for (int i = 0; i < N; i++) {
        ASSERT_INT(shots[i].count, least[i] != 0);
        for (int j = 0; j < N; j++) {
            if (most[j] != 0 && most[j] < least[i]) {
                ASSERT_TRUE(shots[j].fired_ns <= shots[i].fired_ns);
            }
        }
    }
    finish(&loop);
}

struct chain {
    uv_loop_t loop;
    int count;
    int turns;
};

static void on_turn(uv_check_t *handle)
{
    ((struct chain *)handle->data)->turns++;
}

static void again(void *arg)
{
    struct chain *c = arg;
    if (++c->count < 100) {
        timer_start(&c->loop, 0, again, c);
    }
}

/* A timer of 0 that starts another one lets everything else have its turn between. */
TEST(timer_at_once)
{
    struct chain c = {.count = 0};
    ASSERT_INT(uv_loop_init(&c.loop), 0);
    uv_check_t check;
    ASSERT_INT(uv_check_init(&c.loop, &check), 0);
    check.data = &c;
    ASSERT_INT(uv_check_start(&check, on_turn), 0);
    uv_unref((uv_handle_t *)&check);
    timer_start(&c.loop, 0, again, &c);
    uv_run(&c.loop, UV_RUN_DEFAULT);
    ASSERT_INT(c.count, 100);
    ASSERT_TRUE(c.turns >= 99);
    uv_close((uv_handle_t *)&check, NULL);
    finish(&c.loop);
}

/* Without a descriptor for an exact clock they are a little late, never early. */
TEST(timer_without_descriptors)
{
    uv_loop_t loop = {.data = NULL};
    ASSERT_INT(uv_loop_init(&loop), 0);
    struct rlimit before;
    ASSERT_INT(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
    ASSERT_INT(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct shot shots[3] = {{0}};
    uint64_t start = uv_hrtime();
    for (unsigned i = 0; i < 3; i++) {
        shots[i].timer = timer_start_ns(&loop, i * 2700000, fire, &shots[i]);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    ASSERT_INT(setrlimit(RLIMIT_NOFILE, &before), 0);
    for (unsigned i = 0; i < 3; i++) {
        ASSERT_INT(shots[i].count, 1);
        ASSERT_TRUE(shots[i].fired_ns >= start + i * 2700000);
    }
    finish(&loop);
}
