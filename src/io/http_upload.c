/*
 * Bodies that come in pieces while they are sent. libcurl asks in its callback; when nothing is
 * there it pauses, and the caller is told outside of libcurl.
 */
#include "base/base.h"

#include "io/http_int.h"

#include <stdio.h>
#include <string.h>

void http_request_upload(struct http_request *req, http_want_fn on_want, int64_t length,
                         bool replayable)
{
    req->has_body = true;
    req->upload = (struct upload){
        .used = true, .replayable = replayable, .length = length, .on_want = on_want};
}

void upload_release(struct upload *up)
{
    buf_release(&up->buf);
    *up = (struct upload){0};
}

static void want(struct http_request *req)
{
    req->upload.event = true;
    if (list_empty(&req->event_node)) {
        list_append(&req->http->events, &req->event_node);
    }
}

bool upload_rewind(struct http_request *req)
{
    struct upload *up = &req->upload;
    if (!up->used || (up->taken == 0 && up->given == up->buf.len)) {
        return true; // nothing of it has left
    }
    if (!up->replayable) {
        return false;
    }
    buf_release(&up->buf);
    up->offset = 0;
    up->given = up->taken = 0;
    up->ended = up->paused = false;
    up->restart = true;
    want(req);
    return true;
}

/* libcurl callbacks: bookkeeping only. */
static size_t on_read(char *out, size_t size, size_t count, void *arg)
{
    struct http_request *req = arg;
    struct upload *up = &req->upload;
    size_t n = up->buf.len - up->offset;
    size_t room = size * count;
    if (req->refusal != NULL) {
        return CURL_READFUNC_ABORT;
    }
    if (n == 0) {
        if (up->ended) {
            return 0;
        }
        up->paused = true;
        want(req);
        return CURL_READFUNC_PAUSE;
    }
    n = n < room ? n : room;
    memcpy(out, up->buf.data + up->offset, n);
    up->offset += n;
    up->taken += n;
    req->active_ms = uv_now(req->http->loop);
    if (up->offset == up->buf.len) {
        buf_clear(&up->buf);
        up->offset = 0;
    }
    return n;
}

static int on_seek(void *arg, curl_off_t offset, int origin)
{
    struct http_request *req = arg;
    if (offset != 0 || origin != SEEK_SET || !upload_rewind(req)) {
        return CURL_SEEKFUNC_FAIL;
    }
    return CURL_SEEKFUNC_OK;
}

CURLcode upload_setup(struct http_request *req)
{
    const struct curl_api *curl = req->http->curl;
    CURL *easy = req->easy;
    CURLcode rc = curl->easy_setopt(easy, CURLOPT_UPLOAD, 1L);
    rc = rc ? rc : curl->easy_setopt(easy, CURLOPT_CUSTOMREQUEST, req->method);
    // without a length HTTP/1.1 sends chunks
    rc =
        rc ? rc : curl->easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)req->upload.length);
    rc = rc ? rc : curl->easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
    rc = rc ? rc : curl->easy_setopt(easy, CURLOPT_READDATA, (void *)req);
    rc = rc ? rc : curl->easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
    rc = rc ? rc : curl->easy_setopt(easy, CURLOPT_SEEKDATA, (void *)req);
    if (!req->upload.replayable) {
        // an old connection may turn out to be closed, when a part of the body is gone
        rc = rc ? rc : curl->easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    }
    return rc;
}

static void go_on(struct http_request *req)
{
    struct upload *up = &req->upload;
    if (up->paused && req->state == REQ_RUNNING) {
        up->paused = false;
        req->active_ms = uv_now(req->http->loop);
        http_unpause(req);
    }
}

static bool is_wanted(const struct http_request *req)
{
    const struct upload *up = &req->upload;
    return req->http != NULL && up->used && !up->ended && !up->restart && req->refusal == NULL;
}

void http_give(struct http_request *req, const void *data, size_t len)
{
    struct upload *up = &req->upload;
    if (!is_wanted(req)) {
        return;
    }
    if (up->length >= 0 && len > (uint64_t)up->length - up->given) {
        req->refusal = "body_too_long";
    } else {
        buf_append(&up->buf, data, len);
        up->given += len;
    }
    go_on(req);
}

void http_give_end(struct http_request *req)
{
    struct upload *up = &req->upload;
    if (!is_wanted(req)) {
        return;
    }
    if (up->length >= 0 && up->given < (uint64_t)up->length) {
        req->refusal = "body_too_short";
    }
    up->ended = true;
    go_on(req);
}

bool http_wants(const struct http_request *req)
{
    return is_wanted(req) && req->upload.paused;
}

bool http_sending(const struct http_request *req)
{
    bool useless = http_has_head(req) && req->result.status >= 300;
    return is_wanted(req) && !useless;
}

bool http_restarts(struct http_request *req)
{
    bool restart = req->upload.restart;
    req->upload.restart = false;
    return restart;
}
