/*
 * libcurl's sockets and timers on the uv loop. Callbacks of libcurl only take notes here; callbacks
 * of the loop call libcurl, and then http_pump().
 */
#include "base/base.h"

#include "io/http_int.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A socket of libcurl's. Those of connections are watched on while nothing is asked of them, for
 * the next request will: to begin and to end that are seven system calls. libcurl tells when it
 * closes them; what it opens otherwise, it closes without a word. Freed in the close callback. */
struct sock {
    struct list node;
    uv_poll_t poll;
    struct http *http;
    curl_socket_t fd; /* libcurl's */
    bool lasts;       /* in http.by_fd, until it is closed */
    bool initialised;
    bool wanted; /* libcurl waits for events */
    int events;  /* those that are watched for, while the poll is active */
};

static void http_gone(struct http *h)
{
    h->open_handles--;
    if (h->open_handles > 0 || !h->closing) {
        return;
    }
    http_closed_fn closed = h->closed;
    void *arg = h->closed_arg;
    free(h->by_fd);
    free(h);
    if (closed != NULL) {
        closed(arg);
    }
}

static void on_sock_closed(uv_handle_t *handle)
{
    struct sock *s = handle->data;
    struct http *h = s->http;
    free(s);
    http_gone(h);
}

static void on_handle_closed(uv_handle_t *handle)
{
    http_gone(handle->data);
}

static void sock_close(struct sock *s)
{
    list_remove(&s->node);
    if (s->lasts) {
        s->http->by_fd[s->fd] = NULL;
    }
    if (!s->initialised) {
        free(s);
        return;
    }
    (void)uv_poll_stop(&s->poll); // cannot fail on an initialised handle
    uv_close((uv_handle_t *)&s->poll, on_sock_closed);
}

void http_action(struct http *h, curl_socket_t fd, int events)
{
    int running;
    CURLMcode rc = h->curl->multi_socket_action(h->multi, fd, events, &running);
    ASSERT(rc != CURLM_RECURSIVE_API_CALL && rc != CURLM_BAD_HANDLE);
    http_pump(h);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct sock *s = poll->data;
    int flags = 0;
    if (!s->wanted) { // most often the server closes an idle connection: libcurl finds out by
                      // itself
        (void)uv_poll_stop(poll);
        return;
    }
    if (status < 0) {
        flags = CURL_CSELECT_ERR;
    }
    if (events & UV_READABLE) {
        flags |= CURL_CSELECT_IN;
    }
    if (events & UV_WRITABLE) {
        flags |= CURL_CSELECT_OUT;
    }
    http_action(s->http, s->fd, flags);
}

static void on_timer(uv_timer_t *timer)
{
    http_action(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static void on_turn(uv_idle_t *turn)
{
    (void)uv_idle_stop(turn);
    http_action(turn->data, CURL_SOCKET_TIMEOUT, 0);
}

/* Not a timer of 0 ms: libuv 1.44 runs one that is started
 * by a timer's callback before it looks at anything else, so a busy libcurl would never let go. */
void http_kick(struct http *h)
{
    (void)uv_idle_start(&h->turn, on_turn);
}

/* libcurl must not be called from here. */
static int on_curl_timer(CURLM *multi, long timeout_ms, void *arg)
{
    struct http *h = arg;
    (void)multi;
    if (h->closing) {
        return 0;
    }
    (void)uv_timer_stop(&h->timer);
    if (timeout_ms == 0) {
        http_kick(h);
    } else if (timeout_ms > 0) {
        (void)uv_timer_start(&h->timer, on_timer, (uint64_t)timeout_ms, 0);
    }
    return 0;
}

static struct sock *sock_new(struct http *h, curl_socket_t fd)
{
    struct sock *s = xcalloc(1, sizeof *s);
    s->http = h;
    s->fd = fd;
    list_append(&h->socks, &s->node);
    return s;
}

void http_sock_opened(struct http *h, curl_socket_t fd)
{
    size_t at = (size_t)fd;
    if (at >= h->fds) {
        size_t n = at < 32 ? 64 : 2 * at;
        h->by_fd = xrealloc(h->by_fd, n * sizeof *h->by_fd);
        memset(h->by_fd + h->fds, 0, (n - h->fds) * sizeof *h->by_fd);
        h->fds = n;
    }
    if (h->by_fd[at] != NULL) {
        sock_close(h->by_fd[at]);
    }
    h->by_fd[at] = sock_new(h, fd);
    h->by_fd[at]->lasts = true;
}

static struct sock *lasting(struct http *h, curl_socket_t fd)
{
    return (size_t)fd < h->fds ? h->by_fd[fd] : NULL;
}

int http_sock_close(void *arg, curl_socket_t fd)
{
    struct sock *s = lasting(arg, fd);
    if (s != NULL) {
        sock_close(s);
    }
    return close(fd);
}

static int sock_watch(struct sock *s, int events)
{
    struct http *h = s->http;
    uv_handle_t *handle = (uv_handle_t *)&s->poll;
    if (!s->initialised) {
        int err = uv_poll_init_socket(h->loop, &s->poll, s->fd);
        if (err != 0) {
            return err;
        }
        s->poll.data = s;
        s->initialised = true;
        h->open_handles++;
    }
    s->wanted = true;
    uv_ref(handle);
    if (uv_is_active(handle) && s->events == events) {
        return 0;
    }
    s->events = events;
    return uv_poll_start(&s->poll, events, on_poll);
}

/* Nothing is asked of it for now. The loop need not go on for its sake. */
static void sock_rest(struct sock *s)
{
    s->wanted = false;
    if (s->initialised) {
        if (s->events & UV_WRITABLE) {
            (void)uv_poll_stop(&s->poll);
        }
        uv_unref((uv_handle_t *)&s->poll);
    }
}

/* Its request ends in pump(): an error return here would end every transfer of the multi. */
static void sock_broken(struct http *h, CURL *easy, int err)
{
    char *owner = NULL;
    (void)h->curl->easy_getinfo(easy, CURLINFO_PRIVATE, &owner);
    struct handle *handle = (struct handle *)(void *)owner; // NULL: one of libcurl's own
    if (handle != NULL && handle->req != NULL) {
        handle->req->broken = err;
        h->any_broken = true;
        http_kick(h);
    }
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *sock)
{
    struct http *h = arg;
    struct sock *s = lasting(h, fd);
    s = s != NULL ? s : sock;
    if (what == CURL_POLL_REMOVE) {
        if (s != NULL && s->lasts) {
            sock_rest(s);
        } else if (s != NULL) {
            sock_close(s);
        }
        return 0;
    }
    if (h->closing) {
        return 0;
    }
    if (s == NULL) {
        s = sock_new(h, fd);
        (void)h->curl->multi_assign(h->multi, fd, s); // fails for unknown sockets only
    }
    int err = sock_watch(s, (what & CURL_POLL_IN ? UV_READABLE : 0) |
                                (what & CURL_POLL_OUT ? UV_WRITABLE : 0));
    if (err != 0) {
        sock_broken(h, easy, err);
    }
    return 0;
}

bool http_watch_multi(struct http *h)
{
    const struct curl_api *curl = h->curl;
    return curl->multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket) == CURLM_OK &&
           curl->multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h) == CURLM_OK &&
           curl->multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer) == CURLM_OK &&
           curl->multi_setopt(h->multi, CURLMOPT_TIMERDATA, h) == CURLM_OK;
}

void http_open_handles(struct http *h)
{
    ASSERT(uv_timer_init(h->loop, &h->timer) == 0 && uv_timer_init(h->loop, &h->watchdog) == 0 &&
           uv_idle_init(h->loop, &h->turn) == 0);
    uv_unref((uv_handle_t *)&h->watchdog);
    h->timer.data = h;
    h->turn.data = h;
    h->watchdog.data = h;
    h->open_handles = 3;
}

void http_close_handles(struct http *h)
{
    while (!list_empty(&h->socks)) {
        sock_close(container_of(h->socks.next, struct sock, node));
    }
    uv_close((uv_handle_t *)&h->turn, on_handle_closed);
    uv_close((uv_handle_t *)&h->timer, on_handle_closed);
    uv_close((uv_handle_t *)&h->watchdog, on_handle_closed);
}
