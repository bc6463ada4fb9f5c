#include "base/base.h"

#include "io/http.h"

#include "http_world.h"
#include "test.h"

#include <string.h>
#include <uv.h>

/* A body of `pieces` pieces of 1000 bytes. */
struct giver {
    struct world *w;
    struct http_request *req;
    int pieces;
    int given;
    int restarts;
    int wants;
    bool holds_back;
};

static void on_want(struct http_request *req, void *arg)
{
    struct giver *g = arg;
    char piece[1000];
    g->wants++;
    if (http_restarts(req)) {
        g->restarts++;
        g->given = 0;
    }
    memset(piece, 'a' + g->given % 26, sizeof piece);
    if (!http_wants(req) || g->holds_back) {
        return;
    }
    if (g->given < g->pieces) {
        g->given++;
        http_give(req, piece, sizeof piece);
    } else {
        http_give_end(req);
    }
}

static void on_done(struct http_request *req, void *arg)
{
    struct giver *g = arg;
    (void)req;
    g->w->done++;
}

static struct http_result *upload(struct giver *g, const char *method, const char *path,
                                  int64_t length, bool replayable)
{
    int before = g->w->done;
    g->req = world_make(g->w, method, path);
    http_request_upload(g->req, on_want, length, replayable);
    ASSERT_INT(http_start(g->w->http, g->req, on_done, g), 0);
    uv_run(&g->w->loop, UV_RUN_DEFAULT);
    ASSERT_INT(g->w->done, before + 1);
    return http_result(g->req);
}

static void expect_upload(struct world *w, int64_t length, const char *part)
{
    struct giver g = {.w = w, .pieces = 30};
    struct http_result *res = upload(&g, "PUT", "/count", length, false);
    ASSERT_STR(res->code ? res->message : "none", "none");
    ASSERT_TRUE(world_has(res, "\"bytes\": 30000") && world_has(res, part));
    ASSERT_TRUE(world_has(res, "\"PUT\""));
    ASSERT_INT(g.restarts, 0);
    http_request_free(g.req);
}

static void expect_upload_error(struct world *w, const char *path, int64_t length, const char *code,
                                const char *part)
{
    struct giver g = {.w = w, .pieces = 3};
    struct http_result *res = upload(&g, "POST", path, length, false);
    ASSERT_STR(res->code ? res->code : "none", code);
    if (strstr(res->message, part) == NULL) {
        ASSERT_STR(res->message, part);
    }
    http_request_free(g.req);
}

TEST(http_upload_in_pieces)
{
    struct world w;
    world_start(&w, false);
    expect_upload(&w, -1, "\"chunked\": true");
    expect_upload(&w, 30000, "\"chunked\": false");
    expect_upload_error(&w, "/count", 3500, "request", "shorter than its length");
    expect_upload_error(&w, "/count", 2500, "request", "longer than its length");
    expect_upload_error(&w, "/redirect?to=/count&code=307", 3000, "redirect", "wants the body");
    expect_upload_error(&w, "/hangup", -1, "closed", "closed the connection");
    world_stop(&w);
}

TEST(http_upload_again)
{
    struct world w;
    world_start(&w, false);
    struct giver g = {.w = &w, .pieces = 5};
    struct http_result *res = upload(&g, "POST", "/redirect?to=/count&code=308", 5000, true);
    ASSERT_STR(res->code ? res->message : "none", "none");
    ASSERT_TRUE(world_has(res, "\"bytes\": 5000"));
    ASSERT_INT(g.restarts, 1);
    http_request_free(g.req);

    // an old connection that the server closes just when the body is under way
    world_expect(&w, "/last", 200, "ok");
    g = (struct giver){.w = &w, .pieces = 4000};
    res = upload(&g, "PUT", "/count", 4000000, true);
    ASSERT_STR(res->code ? res->message : "none", "none");
    ASSERT_TRUE(world_has(res, "\"bytes\": 4000000"));
    ASSERT_TRUE(g.restarts <= 1);
    http_request_free(g.req);

    // one that cannot be had again goes by a connection of its own
    world_expect(&w, "/last", 200, "ok");
    g = (struct giver){.w = &w, .pieces = 4000};
    res = upload(&g, "PUT", "/count", -1, false);
    ASSERT_TRUE(world_has(res, "\"bytes\": 4000000"));
    ASSERT_INT(g.restarts, 0);
    http_request_free(g.req);
    world_stop(&w);
}

/* The answer comes while the body is held back: it does not wait for it. */
TEST(http_upload_answered_early)
{
    struct world w;
    world_start(&w, false);
    struct giver g = {.w = &w, .holds_back = true};
    struct http_result *res = upload(&g, "POST", "/refuse/0?status=500", -1, false);
    ASSERT_INT(res->status, 500);
    http_request_free(g.req);
    // by the limit in all, as nobody answers
    g.req = world_make(&w, "POST", "/count");
    http_request_upload(g.req, on_want, 10, false);
    http_request_timeout(g.req, 200);
    ASSERT_INT(http_start(w.http, g.req, on_done, &g), 0);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    ASSERT_STR(http_result(g.req)->code, "timeout");
    http_give(g.req, "late", 4); // harmless
    http_give_end(g.req);
    http_request_free(g.req);
    world_stop(&w);
}

static void free_it(uv_timer_t *timer)
{
    struct giver *g = timer->data;
    if (!http_wants(g->req)) {
        return; // it has not come so far
    }
    http_request_free(g->req);
    uv_close((uv_handle_t *)timer, NULL);
}

TEST(http_upload_ends_while_it_waits)
{
    test_needs_pace();
    struct world w;
    world_start(&w, false);
    struct giver g = {.w = &w, .holds_back = true};
    uv_timer_t timer;
    g.req = world_make(&w, "POST", "/count");
    http_request_upload(g.req, on_want, -1, false);
    ASSERT_INT(http_start(w.http, g.req, on_done, &g), 0);
    uv_timer_init(&w.loop, &timer);
    timer.data = &g;
    uv_timer_start(&timer, free_it, 10, 10);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    ASSERT_INT(w.done, 0);
    ASSERT_INT(http_running(w.http), 0);
    // and with its service
    g.req = world_make(&w, "POST", "/count");
    http_request_upload(g.req, on_want, -1, false);
    ASSERT_INT(http_start(w.http, g.req, on_done, &g), 0);
    for (int i = 0; i < 20; i++) {
        uv_run(&w.loop, UV_RUN_NOWAIT);
    }
    world_stop(&w);
    ASSERT_STR(http_result(g.req)->code, "cancelled");
    http_request_free(g.req);
}

struct line {
    struct world *w;
    struct http_request *reqs[20];
    int order[20];
};

static void note_order(struct http_request *req, void *arg)
{
    struct line *line = arg;
    for (int i = 0; i < 20; i++) {
        if (line->reqs[i] == req) {
            line->order[line->w->done++] = i;
        }
    }
}

static void start_line(struct line *line, const char *path)
{
    for (int i = 0; i < 20; i++) {
        line->reqs[i] = world_make(line->w, "GET", path);
        ASSERT_INT(http_start(line->w->http, line->reqs[i], note_order, line), 0);
    }
}

static void free_line(struct line *line)
{
    for (int i = 0; i < 20; i++) {
        http_request_free(line->reqs[i]);
    }
}

TEST(http_one_after_the_other)
{
    struct world w;
    world_start(&w, false);
    struct line line = {.w = &w};
    http_limit_hosts(w.http, 1);
    start_line(&line, "/redirect?to=/status/200");
    http_abort(line.reqs[3]);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    ASSERT_INT(w.done, 19);
    free_line(&line);
    world_expect(&w, "/connections", 200, "1"); // no two at once ever
    w.done = 0;
    start_line(&line, "/status/200");
    uv_run(&w.loop, UV_RUN_DEFAULT);
    for (int i = 0; i < 20; i++) {
        ASSERT_INT(line.order[i], i);
        ASSERT_INT(http_result(line.reqs[i])->status, 200);
    }
    free_line(&line);
    // a service that ends while they wait
    start_line(&line, "/stuck");
    for (int i = 0; i < 20; i++) {
        uv_run(&w.loop, UV_RUN_NOWAIT);
    }
    world_stop(&w);
    for (int i = 0; i < 20; i++) {
        ASSERT_STR(http_result(line.reqs[i])->code, "cancelled");
    }
    free_line(&line);
}
