#include "base/base.h"

#include "io/http_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define HEAD_MAX ((size_t)256 << 10)
#define RESERVE_MAX ((size_t)1 << 20)
#define STREAM_ROOM ((size_t)8 << 10) /* what many pieces need that come one upon the other */
#define INTERIM_MAX 32                /* 1xx answers before the real one */

static void touch(struct http_request *req)
{
    req->active_ms = uv_now(req->http->loop);
}

static void want_data_event(struct http_request *req)
{
    if (req->on_data == NULL) {
        return;
    }
    req->data_event = true;
    if (list_empty(&req->event_node)) {
        list_append(&req->http->events, &req->event_node);
    }
}

static uint64_t since_start_us(const struct http_request *req)
{
    return (uv_hrtime() - req->started_ns) / 1000;
}

static bool is_followed(const struct http_request *req)
{
    int s = req->result.status;
    return req->max_redirects > 0 && req->has_location &&
           (s == 301 || s == 302 || s == 303 || s == 307 || s == 308);
}

/* Length that the server announced for the bytes we are going to store; false if none is known. */
static bool announced_length(const struct http_request *req, uint64_t *len)
{
    const char *text = http_result_find(req, "Content-Length");
    if (text == NULL || http_result_find(req, "Content-Encoding") != NULL ||
        strcmp(req->method, "HEAD") == 0 || req->result.status == 304) {
        return false;
    }
    char *end;
    errno = 0;
    *len = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *text != '-';
}

/* "HTTP/1.1 200 OK". Returns false when there were too many before. */
static bool begin_head(struct http_request *req, const char *line, size_t len)
{
    http_head_clear(req);
    req->head_done = false;
    req->has_location = false;
    req->redirecting = false;
    req->passed_over = 0;
    const char *space = memchr(line, ' ', len);
    int status = 0;
    for (const char *p = space ? space + 1 : line + len;
         p < line + len && *p >= '0' && *p <= '9' && status < 1000; p++) {
        status = status * 10 + (*p - '0');
    }
    req->result.status = status;
    if (status < 200 && ++req->interim > INTERIM_MAX) {
        req->refusal = "interim";
        return false;
    }
    return true;
}

/* Returns false when the answer is refused for its size. */
static bool end_head(struct http_request *req)
{
    req->head_done = true;
    if (req->result.status < 200) {
        return true; // 1xx: the real one follows
    }
    req->redirecting = is_followed(req);
    if (req->result.status >= 300 && req->upload.paused) {
        // libcurl sends no more of the body then, but would wait for ever for the pause's end
        req->unpause = true;
        if (list_empty(&req->event_node)) {
            list_append(&req->http->events, &req->event_node);
        }
    }
    uint64_t len;
    if (!req->redirecting && announced_length(req, &len)) {
        if (req->max_body > 0 && len > req->max_body) {
            req->refusal = "too_large";
            return false;
        }
        if (req->on_data == NULL) {
            buf_reserve(&req->result.body, len < RESERVE_MAX ? (size_t)len : RESERVE_MAX);
            buf_append(&req->result.body, "", 0);
        }
    }
    if (!req->redirecting) {
        want_data_event(req);
    }
    return true;
}

static size_t trim(const char **text, size_t len)
{
    while (len > 0 && (**text == ' ' || **text == '\t')) {
        (*text)++;
        len--;
    }
    while (len > 0 && ((*text)[len - 1] == ' ' || (*text)[len - 1] == '\t')) {
        len--;
    }
    return len;
}

static void header_line(struct http_request *req, const char *line, size_t len)
{
    if (line[0] == ' ' || line[0] == '\t') {
        len = trim(&line, len);
        http_head_continue(req, line, len);
        return;
    }
    const char *colon = memchr(line, ':', len);
    if (colon == NULL) {
        return;
    }
    const char *value = colon + 1;
    size_t value_len = trim(&value, len - (size_t)(value - line));
    size_t name_len = (size_t)(colon - line);
    http_head_add(req, line, name_len, value, value_len);
    if (name_len == 8 && strncasecmp(line, "Location", 8) == 0 && value_len > 0) {
        req->has_location = true;
    }
}

/* libcurl callbacks: bookkeeping only. */
static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
    struct http_request *req = ((struct handle *)arg)->req;
    size_t whole = size * count;
    size_t len = whole;
    touch(req);
    if (req->result.first_byte_us == 0) {
        req->result.first_byte_us = since_start_us(req);
    }
    while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r')) {
        len--;
    }
    req->head_bytes += whole;
    if (req->head_bytes > HEAD_MAX) {
        req->refusal = "head_too_large";
        return 0;
    }
    bool fresh = !req->head_done || req->result.status < 200;
    if (fresh && len > 5 && strncasecmp(line, "HTTP/", 5) == 0) {
        return begin_head(req, line, len) ? whole : 0;
    }
    if (req->head_done) {
        return whole; // trailers could forge what was said in the head
    }
    if (len == 0) {
        return end_head(req) ? whole : 0;
    }
    header_line(req, line, len);
    return whole;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct http_request *req = ((struct handle *)arg)->req;
    size_t len = size * count;
    touch(req);
    if (req->refusal != NULL) {
        return 0; // what was refused when libcurl went on after a pause may be followed by more
    }
    if (req->redirecting) {
        req->passed_over += len;
        if (req->max_body > 0 && req->passed_over > req->max_body) {
            req->refusal = "too_large";
            return 0;
        }
        return len;
    }
    if (req->on_data != NULL && req->result.body.len >= req->high_mark) {
        req->paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    if (req->max_body > 0 && len > req->max_body - req->result.received) {
        req->refusal = "too_large";
        return 0;
    }
    if (req->on_data != NULL && req->result.body.data == NULL) {
        buf_reserve(&req->result.body, len < STREAM_ROOM ? STREAM_ROOM : len);
    }
    buf_append(&req->result.body, data, len);
    req->result.received += len;
    want_data_event(req);
    return len;
}

static curl_socket_t on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *addr)
{
    struct http_request *req = ((struct handle *)arg)->req;
    (void)purpose;
    // libcurl 7.88 does not set it itself, and tools' processes must not inherit connections
    int fd = socket(addr->family, addr->socktype | SOCK_CLOEXEC, addr->protocol);
    if (fd < 0) {
        req->socket_errno = errno;
        return CURL_SOCKET_BAD;
    }
    http_sock_opened(req->http, fd);
    gate_pass(req, true);
    return fd;
}

static int on_connected(void *arg, char *ip, char *local_ip, int port, int local_port)
{
    (void)ip;
    (void)local_ip;
    (void)port;
    (void)local_port;
    gate_pass(((struct handle *)arg)->req, false);
    return CURL_PREREQFUNC_OK;
}

bool http_easy_connect(const struct curl_api *curl, struct handle *handle)
{
    CURL *easy = handle->easy;
    return curl->easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
           curl->easy_setopt(easy, CURLOPT_WRITEDATA, handle) == CURLE_OK &&
           curl->easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK &&
           curl->easy_setopt(easy, CURLOPT_HEADERDATA, handle) == CURLE_OK &&
           curl->easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket) == CURLE_OK &&
           curl->easy_setopt(easy, CURLOPT_OPENSOCKETDATA, handle) == CURLE_OK &&
           // a connection lives longer than the handle that opened it
           curl->easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, http_sock_close) == CURLE_OK &&
           curl->easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, handle->req->http) == CURLE_OK &&
           curl->easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_connected) == CURLE_OK &&
           curl->easy_setopt(easy, CURLOPT_PREREQDATA, handle) == CURLE_OK;
}

void http_easy_begin(struct http_request *req)
{
    req->head_done = false;
    req->redirecting = false;
    req->paused = req->upload.paused = false;
    req->unpause = false;
    req->interim = 0;
    req->head_bytes = 0;
    req->result.status = 0;
    http_head_clear(req);
    buf_clear(&req->result.body);
    touch(req);
}

static bool body_is_gone(struct http_request *req)
{
    struct buf shown = {0};
    url_show(req->url, &shown);
    http_fail(req, "redirect",
              "%s redirects (status %d) and wants the body again, of which a part is gone: send it "
              "where it redirects to, or give the body as a text or a file",
              shown.data, req->result.status);
    buf_release(&shown);
    return false;
}

/* The answer is a redirect: turns the request into the one to make next. False = none is made. */
static bool redirect(struct http_request *req)
{
    const char *to = NULL;
    struct url next;
    (void)req->http->curl->easy_getinfo(req->easy, CURLINFO_REDIRECT_URL, &to);
    const char *wrong = to == NULL ? "is not valid" : url_parse(to, &next);
    struct buf shown = {0};
    url_show(req->url, &shown);
    if (wrong != NULL) {
        http_fail(req, "url", "%s redirects to a URL that %s", shown.data, wrong);
        buf_release(&shown);
        return false;
    }
    if (req->result.redirects >= req->max_redirects) {
        http_fail(req, "protocol",
                  "%s: more than %u redirects in a row: is it a loop? else raise the "
                  "limit of redirects",
                  shown.data, req->max_redirects);
        buf_release(&shown);
        return false;
    }
    buf_release(&shown);
    if (!url_same_origin(&req->at, &next)) {
        http_request_drop_secrets(req);
    }
    int status = req->result.status;
    bool safe = strcmp(req->method, "GET") == 0 || strcmp(req->method, "HEAD") == 0;
    bool is_post = strcmp(req->method, "POST") == 0;
    if ((status == 303 && !safe) || ((status == 301 || status == 302) && is_post)) {
        http_request_set_method(req, "GET");
        http_request_drop_body(req);
    } else if (!upload_rewind(req)) {
        return body_is_gone(req);
    }
    http_request_set_url(req, to);
    req->result.redirects++;
    return true;
}

/* The server closed an idle connection just when we began to send: nothing came back, so once more
 * on a new one. libcurl does that itself unless the body was under way. */
static bool is_stale(struct http_request *req, CURLcode rc)
{
    long fresh = 1;
    (void)req->http->curl->easy_getinfo(req->easy, CURLINFO_NUM_CONNECTS, &fresh);
    return (rc == CURLE_SEND_ERROR || rc == CURLE_RECV_ERROR || rc == CURLE_GOT_NOTHING) &&
           fresh == 0 && !req->retried && req->result.first_byte_us == 0;
}

const char *http_present_url(struct http_request *req)
{
    if (req->at.userinfo == NULL) {
        return req->url;
    }
    buf_clear(&req->shown_url);
    buf_append_str(&req->shown_url, req->at.tls ? "https://" : "http://");
    buf_append_str(&req->shown_url, req->at.host);
    return req->shown_url.data;
}

bool http_easy_end(struct http_request *req, CURLcode rc)
{
    const struct curl_api *curl = req->http->curl;
    if (rc == CURLE_OK && req->refusal != NULL) {
        rc = CURLE_WRITE_ERROR;
    } else if (rc == CURLE_OK && (!req->head_done || req->result.status < 200)) {
        rc = CURLE_PARTIAL_FILE; // closed in the middle of the head: libcurl is content with that
    }
    if (rc == CURLE_OK && req->redirecting) {
        if (redirect(req)) {
            return true;
        }
    } else if (rc != CURLE_OK) {
        if (is_stale(req, rc) && upload_rewind(req)) {
            req->retried = true;
            return true;
        }
        http_error_of_curl(req, rc);
    }
    long version = 0;
    (void)curl->easy_getinfo(req->easy, CURLINFO_HTTP_VERSION, &version);
    req->result.version = version == CURL_HTTP_VERSION_1_0   ? "1.0"
                          : version == CURL_HTTP_VERSION_2_0 ? "2"
                                                             : "1.1";
    req->result.url = http_present_url(req);
    req->result.total_us = since_start_us(req);
    return false;
}
