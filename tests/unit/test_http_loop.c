/*
 * Many requests on one loop: side by side, aborted, from callbacks, and looking up names.
 */
#include "base/base.h"

#include "io/http.h"
#include "io/timer.h"

#include "http_world.h"
#include "test.h"

#include <dlfcn.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

/* Every name lookup of the process comes here: *.test are ours. */
static atomic_int lookups;
static atomic_bool held; /* they do not answer */

/* How long that of slow.test takes. */
static unsigned slow_ms(void)
{
    return test_slower() < 20 ? 3000 : 9000;
}

typedef int (*lookup_fn)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

__attribute__((visibility("default"))) int getaddrinfo(const char *name, const char *service,
                                                       const struct addrinfo *hints,
                                                       struct addrinfo **result)
{
    lookup_fn real = (lookup_fn)dlsym(RTLD_NEXT, "getaddrinfo");
    size_t len = name ? strlen(name) : 0;
    if (len < 5 || strcmp(name + len - 5, ".test") != 0) {
        return real(name, service, hints, result);
    }
    atomic_fetch_add(&lookups, 1);
    usleep(strncmp(name, "slow", 4) == 0 ? slow_ms() * 1000 : 50 * 1000);
    while (atomic_load(&held)) {
        usleep(1000);
    }
    return strncmp(name, "none", 4) == 0 ? EAI_NONAME : real("127.0.0.1", service, hints, result);
}

TEST(http_many_at_once)
{
    enum { N = 200 };
    struct world w;
    world_start(&w, false);
    struct http_request *reqs[N];
    uint64_t t0 = uv_hrtime();
    for (int i = 0; i < N; i++) {
        reqs[i] = world_make(&w, "GET", "/delay/300");
        ASSERT_INT(http_start(w.http, reqs[i], world_count, &w), 0);
    }
    ASSERT_INT(http_running(w.http), N);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    ASSERT_INT(w.done, N);
    for (int i = 0; i < N; i++) {
        ASSERT_STR(http_result(reqs[i])->body.data, "late");
        http_request_free(reqs[i]);
    }
    ASSERT_TRUE((uv_hrtime() - t0) / 1000000 < 300 * N / 2);
    world_stop(&w);
}

static void must_not_be_called(struct http_request *req, void *arg)
{
    (void)req;
    (void)arg;
    ASSERT_TRUE(!"called back after abort");
}

static void on_tick(uv_timer_t *timer)
{
    struct http_request **reqs = timer->data;
    for (int i = 0; i < 6; i += 2) {
        http_abort(reqs[i]);
        ASSERT_STR(http_result(reqs[i])->code, "cancelled");
        http_request_free(reqs[i + 1]);
    }
    uv_close((uv_handle_t *)timer, NULL);
}

TEST(http_abort_and_close)
{
    struct world w;
    world_start(&w, false);
    static const char *const paths[] = {"/delay/60000", "/stuck",   "/endless",
                                        "/stuck",       "/endless", "/delay/60000"};
    struct http_request *reqs[6];
    for (int i = 0; i < 6; i++) {
        reqs[i] = world_make(&w, "GET", paths[i]);
        http_request_max_body(reqs[i], 0);
        ASSERT_INT(http_start(w.http, reqs[i], must_not_be_called, NULL), 0);
    }
    uv_timer_t timer;
    uv_timer_init(&w.loop, &timer);
    timer.data = reqs;
    uv_timer_start(&timer, on_tick, 100, 0);
    uv_run(&w.loop, UV_RUN_DEFAULT); // ends by itself: nothing runs any more
    ASSERT_INT(http_running(w.http), 0);
    for (int i = 0; i < 6; i += 2) {
        http_abort(reqs[i]); // harmless
        http_request_free(reqs[i]);
    }
    // aborted before anything happened, and while the service goes away
    struct http_request *early = world_make(&w, "GET", "/delay/60000");
    ASSERT_INT(http_start(w.http, early, must_not_be_called, NULL), 0);
    http_request_free(early);
    struct http_request *late = world_make(&w, "GET", "/delay/60000");
    ASSERT_INT(http_start(w.http, late, must_not_be_called, NULL), 0);
    for (int i = 0; i < 20; i++) {
        uv_run(&w.loop, UV_RUN_NOWAIT);
    }
    world_stop(&w);
    ASSERT_STR(http_result(late)->code, "cancelled");
    http_request_free(late);
}

/* Frees itself and others, and starts the next, from its own callback. */
struct chain {
    struct world *w;
    struct http_request *victim;
    int left;
};

static void chain_next(struct http_request *req, void *arg)
{
    struct chain *c = arg;
    ASSERT_INT(http_result(req)->status, 200);
    http_request_free(req);
    http_request_free(c->victim);
    c->victim = NULL;
    if (c->left-- > 0) {
        ASSERT_INT(http_start(c->w->http, world_make(c->w, "GET", "/status/200"), chain_next, c),
                   0);
    }
}

TEST(http_callbacks_may_do_anything)
{
    struct world w;
    world_start(&w, false);
    struct chain c = {&w, world_make(&w, "GET", "/delay/60000"), 20};
    ASSERT_INT(http_start(w.http, c.victim, must_not_be_called, NULL), 0);
    ASSERT_INT(http_start(w.http, world_make(&w, "GET", "/status/200"), chain_next, &c), 0);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    ASSERT_INT(c.left, -1);
    world_expect(&w, "/connections", 200, "2");
    world_stop(&w);
}

TEST(http_service_without_requests)
{
    uv_loop_t loop = {.data = NULL};
    int err = 0;
    ASSERT_INT(uv_loop_init(&loop), 0);
    struct http *h = http_new(&loop, &err);
    ASSERT_TRUE(h != NULL);
    ASSERT_INT(uv_run(&loop, UV_RUN_DEFAULT), 0); // does not keep the loop alive
    http_close(h, NULL, NULL);
    timer_close(&loop);
    ASSERT_INT(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ASSERT_INT(uv_loop_close(&loop), 0);
}

/* Time that this thread has run: a busy machine does not make it pass. */
static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

struct ticker {
    uv_timer_t timer;
    uint64_t last_ns;
    uint64_t gap_ns; /* the longest */
    int left;
    struct http_request *req;
};

static void on_ticker(uv_timer_t *timer)
{
    struct ticker *t = timer->data;
    uint64_t now = cpu_ns();
    t->gap_ns = now - t->last_ns > t->gap_ns ? now - t->last_ns : t->gap_ns;
    t->last_ns = now;
    if (--t->left == 0) {
        http_request_free(t->req);
        uv_close((uv_handle_t *)timer, NULL);
    }
}

static void discard(struct http_request *req, void *arg)
{
    struct buf got = {0};
    (void)arg;
    http_take(req, &got);
    buf_release(&got);
}

/* Each turn of libcurl asks for the next one at once. */
TEST(http_fast_server_leaves_the_loop_to_others)
{
    struct world w;
    world_start(&w, false);
    struct ticker t = {.last_ns = cpu_ns(), .left = 100};
    t.req = world_make(&w, "GET", "/endless");
    http_request_max_body(t.req, 0);
    http_request_stream(t.req, discard, (size_t)1 << 30);
    ASSERT_INT(http_start(w.http, t.req, must_not_be_called, NULL), 0);
    uv_timer_init(&w.loop, &t.timer);
    t.timer.data = &t;
    uv_timer_start(&t.timer, on_ticker, 5, 5);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    ASSERT_TRUE(t.gap_ns / 1000000 < 100 * test_slower());
    world_stop(&w);
}

static void start_named(struct world *w, struct http_request **reqs, int n, const char *host,
                        uint64_t connect_timeout_ms)
{
    for (int i = 0; i < n; i++) {
        char url[128];
        (void)snprintf(url, sizeof url, "http://%s:%d/status/200", host, w->port);
        reqs[i] = http_request_new("GET", url);
        http_request_connect_timeout(reqs[i], connect_timeout_ms);
        ASSERT_INT(http_start(w->http, reqs[i], world_count, w), 0);
    }
}

/* libcurl would start a thread for each. */
static void count_turn(uv_prepare_t *prepare)
{
    (*(int *)prepare->data)++;
}

static void end_wait(uv_timer_t *timer)
{
    uv_close((uv_handle_t *)timer, NULL);
}

/* Connections are watched while they are idle: that neither keeps the loop alive, nor busy when the
 * server closes them, and what opens in their place is watched in its own right. */
TEST(http_idle_connections_rest)
{
    enum { N = 20 };
    struct world w;
    int turns = 0;
    uv_prepare_t prepare;
    uv_timer_t timer;
    world_start(&w, false);
    for (int i = 0; i < 3; i++) {
        struct http_request *reqs[N];
        for (int j = 0; j < N; j++) {
            reqs[j] = world_make(&w, "GET", j % 2 ? "/idle/20" : "/delay/10");
            ASSERT_INT(http_start(w.http, reqs[j], world_count, &w), 0);
        }
        uv_run(&w.loop, UV_RUN_DEFAULT);
        ASSERT_TRUE(!uv_loop_alive(&w.loop));
        for (int j = 0; j < N; j++) {
            ASSERT_INT(http_result(reqs[j])->status, 200);
            http_request_free(reqs[j]);
        }
        ASSERT_INT(uv_prepare_init(&w.loop, &prepare), 0);
        prepare.data = &turns;
        ASSERT_INT(uv_prepare_start(&prepare, count_turn), 0);
        uv_unref((uv_handle_t *)&prepare);
        ASSERT_INT(uv_timer_init(&w.loop, &timer), 0);
        ASSERT_INT(uv_timer_start(&timer, end_wait, 100 * test_slower(), 0), 0);
        turns = 0;
        uv_run(&w.loop, UV_RUN_DEFAULT); // meanwhile half of them are closed
        ASSERT_TRUE(turns < 3 * N);
        uv_close((uv_handle_t *)&prepare, NULL);
        uv_run(&w.loop, UV_RUN_DEFAULT);
    }
    ASSERT_INT(w.done, 3 * N);
    world_expect(&w, "/delay/1", 200, "late");
    world_stop(&w);
}

TEST(http_one_lookup_for_many_requests)
{
    enum { N = 100, LONG_MS = 100000 };
    struct world w;
    struct http_request *reqs[N];
    world_start(&w, false);
    atomic_store(&held, true);
    start_named(&w, reqs, N, "many.test", LONG_MS);
    for (int i = 0; i < 10 || lookups == 0; i++) {
        uv_run(&w.loop, UV_RUN_NOWAIT);
    }
    // the one that does the lookup gives up: another takes over
    http_request_free(reqs[0]);
    http_request_free(reqs[N - 1]);
    atomic_store(&held, false);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    ASSERT_INT(w.done, N - 2);
    ASSERT_INT(lookups, 2);
    for (int i = 1; i < N - 1; i++) {
        ASSERT_STR(http_result(reqs[i])->code ? http_result(reqs[i])->message : "", "");
        http_request_free(reqs[i]);
    }
    lookups = 0;
    start_named(&w, reqs, N, "none.test", LONG_MS);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    ASSERT_INT(lookups, 1);
    for (int i = 0; i < N; i++) {
        ASSERT_STR(http_result(reqs[i])->code, "resolve");
        http_request_free(reqs[i]);
    }
    // while they wait
    start_named(&w, reqs, 3, "other.test", LONG_MS);
    http_close(w.http, NULL, NULL);
    int err;
    w.http = http_new(&w.loop, &err);
    for (int i = 0; i < 3; i++) {
        ASSERT_STR(http_result(reqs[i])->code, "cancelled");
        http_request_free(reqs[i]);
    }
    world_stop(&w);
}

TEST(http_slow_lookup_blocks_nobody)
{
    struct world w;
    struct http_request *reqs[3];
    world_start(&w, false);
    uint64_t began = uv_hrtime();
    start_named(&w, reqs, 3, "slow.test", 300);
    for (int i = 0; i < 10; i++) {
        uv_run(&w.loop, UV_RUN_NOWAIT);
    }
    http_request_free(reqs[0]);
    ASSERT_TRUE((uv_hrtime() - began) / 1000000 < slow_ms() - 500);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    uint64_t took = (uv_hrtime() - began) / 1000000;
    ASSERT_TRUE(took >= 290 && took < slow_ms() - 300);
    ASSERT_INT(w.done, 2);
    for (int i = 1; i < 3; i++) {
        ASSERT_STR(http_result(reqs[i])->code, "timeout");
        ASSERT_TRUE(strstr(http_result(reqs[i])->message, "connect_timeout") != NULL);
        http_request_free(reqs[i]);
    }
    world_stop(&w);
    ASSERT_TRUE((uv_hrtime() - began) / 1000000 < slow_ms() - 100);
    usleep((slow_ms() + 100) * 1000); // the detached threads end, so that nobody calls it a leak
}
