/*
 * Requests that nobody reads any more, kept for a moment so that their connection can be used
 * again.
 */
#include "base/base.h"

#include "io/http_int.h"
#include "io/timer.h"

#include <stdlib.h>

/* What may still come after the last thing of interest: the end of a chunked body, a trailer. */
#define LEFT_MAX ((size_t)64 << 10)

struct left {
    struct list node; /* in http.left */
    struct http_request *req;
    struct timer *timer;
    size_t seen;
};

static void drop(struct left *l)
{
    list_remove(&l->node);
    timer_stop(l->timer);
    http_request_free(l->req);
    free(l);
}

static void on_time(void *arg)
{
    struct left *l = arg;
    l->timer = NULL;
    drop(l);
}

static void on_data(struct http_request *req, void *arg)
{
    struct left *l = arg;
    struct buf rest = {0};
    http_take(req, &rest);
    l->seen += rest.len;
    buf_release(&rest);
    if (l->seen > LEFT_MAX) {
        drop(l);
    }
}

static void on_done(struct http_request *req, void *arg)
{
    (void)req;
    drop(arg);
}

/* libcurl has all of the body: what the caller lent is not looked at again. */
static bool is_sent(struct http_request *req)
{
    curl_off_t sent = 0;
    (void)req->http->curl->easy_getinfo(req->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
    return !req->upload.used && (uint64_t)sent >= req->body_len;
}

void http_leave(struct http_request *req, uint64_t ms)
{
    if (req->http == NULL || req->state != REQ_RUNNING || req->on_data == NULL ||
        !http_has_head(req) || !is_sent(req)) {
        http_request_free(req);
        return;
    }
    struct http *h = req->http;
    struct left *l = xcalloc(1, sizeof *l);
    l->req = req;
    l->timer = timer_start(h->loop, ms, on_time, l);
    list_append(&h->left, &l->node);
    req->max_redirects = 0;
    req->on_data = on_data;
    req->done = on_done;
    req->arg = l;
    if (req->result.body.len > 0 || req->paused) {
        on_data(req, l);
    }
}

void http_left_free(struct http *h)
{
    while (!list_empty(&h->left)) {
        drop(container_of(h->left.next, struct left, node));
    }
}
