#include "base/base.h"
#include "base/files.h"
#include "base/trace.h"

#include "io/http.h"

#include "io/http_int.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define OPEN_FILES_MAX 65536
#define WATCHDOG_MS 1000

static void raise_open_files(void)
{
    files_raise_limit(OPEN_FILES_MAX);
}

/* -- life of a request ------------------------------------------------------------------------- */

/* Takes the request out of libcurl. One that was stopped halfway is not used again: a detached
 * resolver thread may belong to it. */
static void unlaunch(struct http_request *req, bool clean)
{
    struct http *h = req->http;
    if (req->easy == NULL) {
        return;
    }
    CURLMcode rc = h->curl->multi_remove_handle(h->multi, req->easy);
    ASSERT(rc != CURLM_RECURSIVE_API_CALL);
    handle_give_back(req, clean);
}

/* The result is set: `done` is due. What was sent is of no use any more. */
static void finish(struct http_request *req)
{
    struct http *h = req->http;
    req->state = REQ_FINISHED;
    TRACE(HTTP, "%p is over: status %ld, %llu us", (void *)req, (long)req->result.status,
          (unsigned long long)(uv_hrtime() - req->started_ns) / 1000);
    list_remove(&req->node);
    buf_release(&req->lines);
    req->nlines = 0;
    buf_release(&req->upload.buf);
    req->body = NULL;
    if (req->result.total_us == 0) {
        req->result.total_us = (uv_hrtime() - req->started_ns) / 1000;
    }
    if (list_empty(&req->event_node)) {
        list_append(&h->events, &req->event_node);
    }
}

/* Gives the request to libcurl; 0 or a negative code with the result set. */
static int launch(struct http_request *req)
{
    struct http *h = req->http;
    int err = handle_take(h, req);
    if (err != 0) {
        return err;
    }
    if (h->curl->multi_add_handle(h->multi, req->easy) != CURLM_OK) {
        http_fail(req, "request", "libcurl takes no more requests");
        handle_give_back(req, false);
        return UV_ENOMEM;
    }
    http_easy_begin(req);
    req->state = REQ_RUNNING;
    return 0;
}

/* To libcurl, or first to the gate of its host. Outside libcurl's callbacks. */
static int pass_on(struct http_request *req)
{
    struct http *h = req->http;
    if (!gate_enter(h, req)) {
        req->active_ms = uv_now(h->loop);
        return 0;
    }
    int err = launch(req);
    if (err != 0) {
        struct list failed;
        list_init(&failed);
        gate_leave(req, false, &failed);
        limit_leave(req);
        http_kick(h);
    }
    return err;
}

static int go(struct http_request *req)
{
    return limit_enter(req->http, req) ? pass_on(req) : 0;
}

static void launch_admitted(struct http *h)
{
    struct list *node;
    while ((node = list_take(&h->admitted)) != NULL) {
        struct http_request *req = container_of(node, struct http_request, place_node);
        if (pass_on(req) != 0) {
            finish(req);
        }
    }
}

static void launch_released(struct http *h)
{
    struct list *node;
    while ((node = list_take(&h->released)) != NULL) {
        struct http_request *req = container_of(node, struct http_request, gate_node);
        if (launch(req) != 0) {
            struct list failed;
            list_init(&failed);
            gate_leave(req, false, &failed); // may add to h->released
            limit_leave(req);
            finish(req);
        }
    }
}

/* The request is over in libcurl, with the result set; those that shared its lookup fail with it.
 */
static void end(struct http_request *req, bool clean)
{
    struct list failed;
    list_init(&failed);
    bool lookup_failed = req->result.code != NULL && strcmp(req->result.code, "resolve") == 0;
    unlaunch(req, clean);
    gate_leave(req, lookup_failed, &failed);
    list_remove(&req->gate_node); // let through, but not yet launched
    limit_leave(req);
    finish(req);
    struct list *node;
    while ((node = list_take(&failed)) != NULL) {
        struct http_request *other = container_of(node, struct http_request, gate_node);
        other->gate = NULL;
        limit_leave(other);
        http_error_of_curl(other, CURLE_COULDNT_RESOLVE_HOST);
        finish(other);
    }
}

static void on_message(struct http *h, CURL *easy, CURLcode rc)
{
    char *owner = NULL;
    (void)h->curl->easy_getinfo(easy, CURLINFO_PRIVATE, &owner);
    struct http_request *req = ((struct handle *)(void *)owner)->req;
    ASSERT(req != NULL && req->easy == easy);
    bool again = http_easy_end(req, rc);
    if (!again) {
        end(req, rc == CURLE_OK);
        return;
    }
    struct list failed;
    list_init(&failed);
    unlaunch(req, rc == CURLE_OK);
    gate_leave(req, false, &failed);
    limit_leave(req);
    if (go(req) != 0) {
        finish(req);
    }
}

static void end_broken(struct http *h)
{
    struct list *next;
    h->any_broken = false;
    for (struct list *at = h->running.next; at != &h->running; at = next) {
        struct http_request *req = container_of(at, struct http_request, node);
        next = at->next;
        if (req->unpause_rc != CURLE_OK) {
            http_error_of_curl(req, req->unpause_rc);
            end(req, false);
        } else if (req->broken != 0) {
            http_fail(req, "connect",
                      "its socket cannot be watched: %s: make fewer requests at once",
                      uv_strerror(req->broken));
            end(req, false);
        }
    }
}

static void watch(struct http *h);

void http_unpause(struct http_request *req)
{
    int still = (req->paused ? CURLPAUSE_RECV : 0) | (req->upload.paused ? CURLPAUSE_SEND : 0);
    // may call on_body(), which only stores; what else follows comes from the loop
    CURLcode rc = req->http->curl->easy_pause(req->easy, still);
    if (rc != CURLE_OK) {
        // libcurl would go on behind what it could not deliver
        req->unpause_rc = rc;
        req->http->any_broken = true;
    }
    http_kick(req->http);
}

/* One event at a time, from the head: a callback may free any request. */
static void deliver(struct http *h)
{
    struct list *node;
    while (!h->closing && (node = list_take(&h->events)) != NULL) {
        struct http_request *req = container_of(node, struct http_request, event_node);
        if (req->unpause) {
            req->unpause = req->upload.paused = false;
            if (req->state == REQ_RUNNING) {
                http_unpause(req);
            }
        }
        bool data = req->data_event;
        bool wants = !data && req->upload.event;
        if (data || wants) {
            *(data ? &req->data_event : &req->upload.event) = false;
            if (req->state == REQ_FINISHED || req->upload.event) {
                list_append(&h->events, &req->event_node);
            }
            (data ? req->on_data : req->upload.on_want)(req, req->arg);
        } else if (req->state == REQ_FINISHED) {
            req->state = REQ_DONE;
            req->http = NULL;
            h->nrunning--;
            req->done(req, req->arg);
        }
    }
}

void http_pump(struct http *h)
{
    CURLMsg *msg;
    int left;
    while ((msg = h->curl->multi_info_read(h->multi, &left)) != NULL) {
        if (msg->msg == CURLMSG_DONE) {
            // the message dies with multi_remove_handle()
            on_message(h, msg->easy_handle, msg->data.result);
        }
    }
    if (h->any_broken) {
        end_broken(h);
    }
    launch_admitted(h);
    launch_released(h);
    deliver(h);
    if (!h->closing) {
        watch(h);
    }
}

/* -- the watchdog ------------------------------------------------------------------------------ */

/* True when not one byte moved for too long. Uploads have no callback: libcurl's count is looked at
 * only when all seems still. */
static bool is_idle(struct http_request *req, uint64_t now)
{
    if (req->paused || req->upload.paused || req->idle_timeout_ms == 0 ||
        now - req->active_ms < req->idle_timeout_ms) {
        return false;
    }
    curl_off_t uploaded = 0;
    (void)req->http->curl->easy_getinfo(req->easy, CURLINFO_SIZE_UPLOAD_T, &uploaded);
    if ((uint64_t)uploaded != req->uploaded) {
        req->uploaded = (uint64_t)uploaded;
        req->active_ms = now;
        return false;
    }
    return true;
}

static bool held_too_long(const struct http_request *req, uint64_t now)
{
    uint64_t gone = (uv_hrtime() - req->started_ns) / 1000000;
    return (req->state == REQ_HELD && req->connect_timeout_ms > 0 &&
            now - req->active_ms >= req->connect_timeout_ms) ||
           (req->timeout_ms > 0 && gone >= req->timeout_ms);
}

static void end_stalled(struct http *h)
{
    uint64_t now = uv_now(h->loop);
    struct list *next;
    for (struct list *at = h->running.next; at != &h->running; at = next) {
        struct http_request *req = container_of(at, struct http_request, node);
        next = at->next;
        if ((req->state == REQ_HELD || req->state == REQ_QUEUED) && held_too_long(req, now)) {
            http_error_of_curl(req, CURLE_OPERATION_TIMEDOUT);
            end(req, false);
        } else if (req->state == REQ_RUNNING && is_idle(req, now)) {
            struct buf shown = {0};
            url_show(req->url, &shown);
            http_fail(req, "timeout",
                      "nothing came from %s for %llu ms: the server may be stuck: try "
                      "again, or raise idle_timeout",
                      shown.data, (unsigned long long)req->idle_timeout_ms);
            buf_release(&shown);
            end(req, false);
        }
    }
}

/* libcurl's wish for a timer got lost at times (curl#15627): an early call is legal and cheap. */
static void on_watchdog(uv_timer_t *timer)
{
    struct http *h = timer->data;
    end_stalled(h);
    http_action(h, CURL_SOCKET_TIMEOUT, 0);
}

static void watch(struct http *h)
{
    bool needed = !list_empty(&h->running);
    if (needed == (bool)uv_is_active((uv_handle_t *)&h->watchdog)) {
        return;
    }
    if (needed) {
        (void)uv_timer_start(&h->watchdog, on_watchdog, WATCHDOG_MS, WATCHDOG_MS);
    } else {
        (void)uv_timer_stop(&h->watchdog);
    }
}

/* -- the service ------------------------------------------------------------------------------- */

static bool set_multi(struct http *h)
{
    const struct curl_api *curl = h->curl;
    // idle connections are bounded by the files that we may open, not by the requests of the
    // moment: by default a burst of turns would close nearly all it opened
    struct rlimit limit;
    rlim_t files = 512;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        files = limit.rlim_cur < OPEN_FILES_MAX ? limit.rlim_cur : OPEN_FILES_MAX;
    }
    long idle = (long)(files / 2);
    return http_watch_multi(h) &&
           curl->multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, idle) == CURLM_OK;
}

struct http *http_new(uv_loop_t *loop, int *err)
{
    static uv_once_t once = UV_ONCE_INIT;
    const struct curl_api *curl = curl_dl();
    if (curl == NULL) {
        *err = UV_ENOSYS;
        return NULL;
    }
    uv_once(&once, raise_open_files);
    struct http *h = xcalloc(1, sizeof *h);
    h->loop = loop;
    h->curl = curl;
    list_init(&h->running);
    list_init(&h->events);
    list_init(&h->released);
    list_init(&h->gates);
    list_init(&h->places);
    list_init(&h->admitted);
    list_init(&h->left);
    list_init(&h->socks);
    h->multi = curl->multi_init();
    if (h->multi == NULL || !set_multi(h)) {
        if (h->multi != NULL) {
            (void)curl->multi_cleanup(h->multi);
        }
        free(h);
        *err = UV_ENOMEM;
        return NULL;
    }
    handles_init(h);
    http_open_handles(h);
    return h;
}

const char *http_unavailable(void)
{
    return curl_dl() == NULL ? curl_dl_error() : "libcurl is out of memory";
}

bool http_library(struct http_library *library)
{
    const struct curl_api *curl = curl_dl();
    if (curl == NULL) {
        return false;
    }
    const curl_version_info_data *info = curl->version_info(CURLVERSION_NOW);
    *library =
        (struct http_library){.version = info->version,
                              .tls = info->ssl_version,
                              .ca_file = info->age >= CURLVERSION_SEVENTH ? info->cainfo : NULL};
    return true;
}

size_t http_running(const struct http *h)
{
    return h->nrunning;
}

static int check_version_2(struct http *h, struct http_request *req)
{
    const curl_version_info_data *info = h->curl->version_info(CURLVERSION_NOW);
    if (info->version_num >= 0x080000 && (info->features & CURL_VERSION_HTTP2)) {
        return 0;
    }
    http_fail(req, "request",
              "HTTP/2 needs libcurl 8.0 or newer with HTTP/2 in it, and this is %s, which spins on "
              "larger uploads: leave version out",
              info->version);
    return UV_ENOTSUP;
}

int http_start(struct http *h, struct http_request *req, http_done_fn done, void *arg)
{
    ASSERT(req->state == REQ_NEW);
    if (h->closing) {
        http_fail(req, "cancelled", "the program is ending: no new requests");
        return UV_ECANCELED;
    }
    int err = http_request_check(req);
    if (err == 0 && req->version_2) {
        err = check_version_2(h, req);
    }
    if (err != 0) {
        return err;
    }
    req->http = h;
    req->done = done;
    req->arg = arg;
    req->started_ns = uv_hrtime();
    err = go(req);
    if (err != 0) {
        req->http = NULL;
        return err;
    }
    list_append(&h->running, &req->node);
    h->nrunning++;
    TRACE(HTTP, "%p starts, %zu are running", (void *)req, h->nrunning);
    watch(h);
    return 0;
}

void http_abort(struct http_request *req)
{
    struct http *h = req->http;
    if (h == NULL) {
        return;
    }
    struct list failed;
    list_init(&failed);
    unlaunch(req, false);
    gate_leave(req, false, &failed);
    list_remove(&req->gate_node);
    limit_leave(req);
    list_remove(&req->node);
    list_remove(&req->event_node);
    req->result.code = NULL;
    http_fail(req, "cancelled", "the request was cancelled");
    req->state = REQ_DONE;
    req->http = NULL;
    h->nrunning--;
    if (h->closing) {
        return;
    }
    if (!list_empty(&h->released) || !list_empty(&h->admitted)) {
        http_kick(h);
    }
    watch(h);
}

void http_take(struct http_request *req, struct buf *out)
{
    struct buf *body = &req->result.body;
    if (out->len == 0) { // its memory is for what comes next, unless that is much
        struct buf empty = *out;
        *out = *body;
        *body = empty;
        if (body->cap > 2 * req->high_mark) {
            buf_release(body);
        }
        buf_clear(body);
    } else {
        buf_append(out, body->data, body->len);
        buf_clear(body);
    }
    if (req->paused && req->state == REQ_RUNNING) {
        req->paused = false;
        req->active_ms = uv_now(req->http->loop);
        http_unpause(req);
    }
}

static void abort_all(struct list *requests, bool events)
{
    while (!list_empty(requests)) {
        struct list *at = requests->next;
        http_abort(events ? container_of(at, struct http_request, event_node)
                          : container_of(at, struct http_request, node));
    }
}

void http_close(struct http *h, http_closed_fn closed, void *arg)
{
    ASSERT(!h->closing);
    h->closing = true;
    h->closed = closed;
    h->closed_arg = arg;
    http_left_free(h);
    abort_all(&h->running, false);
    abort_all(&h->events, true);
    gates_free(h);
    handles_free(h);
    (void)h->curl->multi_cleanup(h->multi); // calls on_curl_socket() for what is still open
    http_close_handles(h);
}
