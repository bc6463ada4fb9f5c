#include "base/base.h"

#include "io/http.h"
#include "io/timer.h"

#include "http_world.h"
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

TEST(http_answers)
{
    struct world w;
    world_start(&w, false);
    world_expect(&w, "/status/200", 200, "status 200");
    world_expect(&w, "/status/404", 404, "status 404");
    world_expect(&w, "/status/500", 500, "status 500");
    world_expect(&w, "/status/204", 204, "");
    world_expect(&w, "/gzip", 200, "hello, packed world");
    world_expect(&w, "/deflate", 200, "hello, packed world");
    world_expect(&w, "/chunked", 200, "one two three");
    world_expect(&w, "/trickle/30", 200, "abcdefghijklmnopqrstuvwxyzabcd");
    world_expect(&w, "/close", 200, "until the end");
    world_expect(&w, "/delay/50", 200, "late");

    struct http_request *req = world_make(&w, "HEAD", "/big/1000");
    struct http_result *res = world_run(&w, req);
    ASSERT_TRUE(res->code == NULL);
    ASSERT_INT(res->body.len, 0);
    ASSERT_STR(http_result_find(req, "content-length"), "1000");
    http_request_free(req);

    req = world_make(&w, "GET", "/big/5000000");
    res = world_run(&w, req);
    ASSERT_INT(res->body.len, 5000000);
    ASSERT_INT(res->received, 5000000);
    ASSERT_INT((unsigned char)res->body.data[4999999], 4999999 % 256);
    ASSERT_TRUE(res->first_byte_us > 0 && res->first_byte_us <= res->total_us);
    ASSERT_STR(res->version, "1.1");
    http_request_free(req);
    world_stop(&w);
}

TEST(http_requests_as_sent)
{
    struct world w;
    world_start(&w, false);
    struct http_request *req = world_make(&w, "POST", "/echo?a=b%20c");
    ASSERT_INT(http_request_header(req, "X-One", "  1 "), 0);
    ASSERT_INT(http_request_header(req, "X-Empty", ""), 0);
    http_request_body(req, "some\0thing", 10);
    struct http_result *res = world_run(&w, req);
    ASSERT_TRUE(world_has(res, "\"method\": \"POST\""));
    ASSERT_TRUE(world_has(res, "/echo?a=b%20c"));
    ASSERT_TRUE(world_has(res, "[\"X-One\", \"1\"]"));
    ASSERT_TRUE(world_has(res, "[\"X-Empty\", \"\"]"));
    ASSERT_TRUE(world_has(res, "some\\u0000thing"));
    ASSERT_TRUE(world_has(res, "gzip"));
    ASSERT_TRUE(!world_has(res, "Content-Type"));
    ASSERT_TRUE(!world_has(res, "Expect"));
    http_request_free(req);

    // a body beyond every buffer: sent in pieces, without waiting for a 100
    struct buf big = {0};
    for (int i = 0; i < 300000; i++) {
        buf_append(&big, "0123456789", 10);
    }
    req = world_make(&w, "PUT", "/echo");
    http_request_body(req, big.data, big.len);
    res = world_run(&w, req);
    ASSERT_TRUE(world_has(res, "\"method\": \"PUT\"") && world_has(res, "\"length\": 3000000"));
    ASSERT_TRUE(!world_has(res, "Expect"));
    http_request_free(req);
    buf_release(&big);

    static const char *const bare[] = {"DELETE", "OPTIONS", "PATCH", "POST", "PUT", "PURGE"};
    for (size_t i = 0; i < ARRAY_LEN(bare); i++) {
        req = world_make(&w, bare[i], "/echo");
        res = world_run(&w, req);
        ASSERT_INT(res->status, 200);
        ASSERT_TRUE(world_has(res, bare[i]));
        bool length = i >= 2 && i <= 4;
        ASSERT_INT(world_has(res, "Content-Length"), length);
        ASSERT_TRUE(!world_has(res, "Content-Type"));
        http_request_free(req);
    }

    // a GET and a DELETE may carry one too
    req = world_make(&w, "GET", "/echo");
    http_request_body(req, "why not", 7);
    res = world_run(&w, req);
    ASSERT_TRUE(world_has(res, "\"method\": \"GET\"") && world_has(res, "why not"));
    http_request_free(req);
    world_stop(&w);
}

TEST(http_headers_of_answers)
{
    struct world w;
    world_start(&w, false);
    struct http_request *req = world_make(&w, "GET", "/headers");
    struct http_result *res = world_run(&w, req);
    static const char *const wanted[][2] = {
        {"X-Twice", "a"},         {"x-twice", "b"}, {"Set-Cookie", "a=1; Path=/"},
        {"Set-Cookie", "b=2, c"}, {"X-Empty", ""},  {"X-Folded", "one two"},
        {"Content-Length", "2"},
    };
    ASSERT_INT(res->nheaders, ARRAY_LEN(wanted));
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        const char *name, *value;
        http_result_header(req, i, &name, &value);
        ASSERT_STR(name, wanted[i][0]);
        ASSERT_STR(value, wanted[i][1]);
    }
    http_request_free(req);

    req = world_make(&w, "GET", "/early");
    res = world_run(&w, req);
    ASSERT_INT(res->status, 200);
    ASSERT_STR(http_result_find(req, "x-late"), "yes");
    ASSERT_TRUE(http_result_find(req, "x-early") == NULL);
    http_request_free(req);

    req = world_make(&w, "GET", "/chunked");
    (void)world_run(&w, req);
    ASSERT_TRUE(http_result_find(req, "X-After") == NULL);
    http_request_free(req);

    world_expect_error(&w, world_make(&w, "GET", "/hugehead"), "too_large", "256 KiB");
    world_stop(&w);
}

TEST(http_redirects)
{
    struct world w, other;
    char path[128];
    world_start(&w, false);
    world_start(&other, false);
    world_expect(&w, "/redirect?to=/status/201", 201, "status 201");

    struct http_request *req = world_make(&w, "POST", "/redirect?to=/echo&code=303");
    http_request_body(req, "text", 4);
    ASSERT_INT(http_request_header(req, "Content-Type", "text/plain"), 0);
    ASSERT_INT(http_request_header(req, "Authorization", "Bearer sesame"), 0);
    struct http_result *res = world_run(&w, req);
    ASSERT_TRUE(world_has(res, "\"method\": \"GET\"") && !world_has(res, "text") &&
                world_has(res, "sesame"));
    ASSERT_INT(res->redirects, 1);
    ASSERT_TRUE(strstr(res->url, "/echo") != NULL);
    http_request_free(req);

    // 307 keeps method and body; another origin does not get the keys
    (void)snprintf(path, sizeof path, "/redirect?to=http://127.0.0.1:%d/echo&code=307", other.port);
    req = world_make(&w, "PUT", path);
    http_request_body(req, "text", 4);
    ASSERT_INT(http_request_header(req, "Authorization", "Bearer sesame"), 0);
    ASSERT_INT(http_request_header(req, "x-goog-api-key", "sesame"), 0);
    ASSERT_INT(http_request_header(req, "Cookie", "sesame"), 0);
    ASSERT_INT(http_request_header(req, "X-Kept", "yes"), 0);
    res = world_run(&w, req);
    ASSERT_TRUE(world_has(res, "\"method\": \"PUT\"") && world_has(res, "\"body\": \"text\""));
    ASSERT_TRUE(world_has(res, "X-Kept") && !world_has(res, "sesame"));
    http_request_free(req);

    req = world_make(&w, "GET", "/redirect?to=/echo");
    http_request_max_redirects(req, 0);
    res = world_run(&w, req);
    ASSERT_TRUE(res->code == NULL);
    ASSERT_INT(res->status, 302);
    ASSERT_STR(res->body.data, "over there");
    http_request_free(req);

    world_expect_error(&w, world_make(&w, "GET", "/loop"), "protocol", "10 redirects");
    world_expect_error(&w, world_make(&w, "GET", "/redirect?to=file:///etc/passwd"), "url",
                       "redirects");
    world_expect_error(&w, world_make(&w, "GET", "/redirect?to=ftp://127.0.0.1/x"), "url",
                       "scheme");
    http_close(other.http, NULL, NULL);
    timer_close(&other.loop);
    uv_run(&other.loop, UV_RUN_DEFAULT);
    ASSERT_INT(uv_loop_close(&other.loop), 0);
    close(other.server_stdin);
    world_stop(&w);
    ASSERT_INT(waitpid(other.server, NULL, 0), other.server);
}

TEST(http_connections_are_kept)
{
    struct world w;
    world_start(&w, false);
    world_expect(&w, "/status/200", 200, "status 200");
    world_expect(&w, "/status/200", 200, "status 200");
    world_expect(&w, "/connections", 200, "1");

    // closed by the server while idle: a new one, no error
    world_expect(&w, "/idle/20", 200, "ok");
    world_wait_closed(&w);
    world_expect(&w, "/connections", 200, "2");

    // closed just when the next request arrives
    static const char *const methods[] = {"GET", "POST", "PUT"};
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        world_expect(&w, "/last", 200, "ok");
        struct http_request *req = world_make(&w, methods[i], "/echo");
        struct buf body = {0};
        for (int n = 0; i > 0 && n < 400000; n++) {
            buf_append(&body, "abcdefgh", 8); // more than the sockets' buffers hold
        }
        http_request_body(req, body.data, body.len);
        struct http_result *res = world_run(&w, req);
        ASSERT_STR(res->code ? res->message : "none", "none");
        char part[64];
        (void)snprintf(part, sizeof part, "\"length\": %zu", body.len);
        ASSERT_TRUE(world_has(res, part) && world_has(res, methods[i]));
        http_request_free(req);
        buf_release(&body);
    }
    world_stop(&w);
}

TEST(http_failures)
{
    struct world w;
    world_start(&w, false);
    world_expect_error(&w, world_make(&w, "GET", "/cut/10"), "closed", "closed the connection");
    world_expect_error(&w, world_make(&w, "GET", "/hangup"), "closed", "try again");
    struct http_request *req = world_make(&w, "POST", "/half");
    struct buf body = {0};
    for (int n = 0; n < 400000; n++) {
        buf_append(&body, "abcdefgh", 8);
    }
    http_request_body(req, body.data, body.len);
    world_expect_error(&w, req, "closed", "closed the connection");
    buf_release(&body);
    world_expect_error(&w, world_make(&w, "GET", "/badgzip"), "encoding", "unpacked");
    world_expect_error(&w, world_make(&w, "GET", "/garbage"), "protocol", "not HTTP");
    world_expect_error(&w, http_request_new("GET", "http://127.0.0.1:1/?key=sesame"), "connect",
                       "no connection to http://127.0.0.1:1/: ");
    world_expect_error(&w, http_request_new("GET", "http://nowhere.invalid/x"), "resolve",
                       "http://nowhere.invalid/x has no address");

    req = world_make(&w, "GET", "/delay/5000");
    http_request_timeout(req, 100);
    world_expect_error(&w, req, "timeout", "within 100 ms");
    req = world_make(&w, "GET", "/stuck");
    http_request_idle_timeout(req, 200);
    world_expect_error(&w, req, "timeout", "200 ms");

    req = world_make(&w, "GET", "/big/70000");
    http_request_max_body(req, 65536);
    world_expect_error(&w, req, "too_large", "64 KiB");
    req = world_make(&w, "GET", "/endless");
    http_request_max_body(req, 1 << 20);
    world_expect_error(&w, req, "too_large", "1 MiB");
    req = world_make(&w, "GET", "/endless?to=/echo"); // a redirect whose body does not end
    http_request_max_body(req, 1 << 20);
    http_request_timeout(req, 10 * 1000);
    world_expect_error(&w, req, "too_large", "1 MiB");
    req = world_make(&w, "GET", "/bomb");
    http_request_max_body(req, 8 << 20);
    world_expect_error(&w, req, "too_large", "8 MiB");
    req = world_make(&w, "GET", "/big/65536");
    http_request_max_body(req, 65536);
    ASSERT_INT(world_run(&w, req)->body.len, 65536);
    http_request_free(req);
    world_stop(&w);
}

static void refuse(struct world *w, const char *method, const char *url, const char *code)
{
    struct http_request *req = http_request_new(method, url);
    ASSERT_INT(http_start(w->http, req, world_count, w), UV_EINVAL);
    ASSERT_STR(http_result(req)->code, code);
    ASSERT_TRUE(strstr(http_result(req)->message, "sesame") == NULL);
    http_request_free(req);
}

TEST(http_refusals)
{
    struct world w;
    world_start(&w, false);
    static const char *const urls[] = {
        "",
        "example.com",
        "ftp://example.com/",
        "file:///etc/passwd",
        "http://",
        "http:///path",
        "http://host:99999/",
        "http://host:0/",
        "http://host:8a/",
        "http://ho st/",
        "http://host/a b",
        "http://host/a\nb",
        "http://a@b@c/",
        "http://good.com\\@evil.com/",
        "http://[::1/",
        "gopher://x",
        "http://user:sesame@host:x/?key=sesame",
        "https//x?sesame",
        "http://[::1]x/",
    };
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        refuse(&w, "GET", urls[i], "url");
    }
    refuse(&w, "GET / HTTP/1.1\r\nX: y", "http://localhost/", "request");
    refuse(&w, "", "http://localhost/", "request");
    refuse(&w, "CONNECT", "http://localhost/", "request");

    static const char *const headers[][2] = {
        {"", "x"},
        {"A b", "x"},
        {"A:", "x"},
        {"A\r\nB", "x"},
        {"A", "x\r\nB: y"},
        {"A", "x\ny"},
        {"A", "x\ry"},
        {"A", "\x01"},
        {"Content-Length", "3"},
        {"transfer-encoding", "chunked"},
        {"\xc3\xa9", "x"},
    };
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        struct http_request *req = world_make(&w, "GET", "/echo");
        ASSERT_INT(http_request_header(req, headers[i][0], headers[i][1]), UV_EINVAL);
        ASSERT_INT(http_start(w.http, req, world_count, &w), UV_EINVAL);
        ASSERT_STR(http_result(req)->code, "request");
        http_request_free(req);
    }
    ASSERT_INT(w.done, 0);
    world_stop(&w);
}

struct stream {
    struct world *w;
    struct http_request *req;
    struct buf all;
    size_t most; /* waiting bytes seen at once */
    bool take;
    int events;
    uv_timer_t timer;
};

static void on_data(struct http_request *req, void *arg)
{
    struct stream *s = arg;
    s->events++;
    ASSERT_INT(http_result(req)->status, 200);
    size_t waiting = http_result(req)->body.len;
    s->most = waiting > s->most ? waiting : s->most;
    if (s->take) {
        struct buf got = {0};
        http_take(req, &got);
        buf_append(&s->all, got.data, got.len);
        buf_release(&got);
    }
}

static void stream_done(struct http_request *req, void *arg)
{
    struct stream *s = arg;
    (void)req;
    s->w->done++;
}

/* The consumer was away: the server was held back, memory did not grow. */
static void on_awake(uv_timer_t *timer)
{
    struct stream *s = timer->data;
    size_t len = http_result(s->req)->body.len;
    if (len < 100000) {
        return; // the server is slow
    }
    ASSERT_TRUE(len < 200000);
    ASSERT_INT(s->w->done, 0);
    s->take = true;
    http_take(s->req, &s->all);
    uv_close((uv_handle_t *)timer, NULL);
}

TEST(http_stream)
{
    struct world w;
    world_start(&w, false);
    struct stream s = {.w = &w, .take = true};
    s.req = world_make(&w, "GET", "/trickle/20?ms=20");
    http_request_stream(s.req, on_data, 0);
    ASSERT_INT(http_start(w.http, s.req, stream_done, &s), 0);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    ASSERT_INT(w.done, 1);
    ASSERT_STR(s.all.data, "abcdefghijklmnopqrst");
    ASSERT_TRUE(s.events > 2); // not all at its end
    ASSERT_INT(http_result(s.req)->received, 20);
    http_request_free(s.req);
    buf_release(&s.all);

    w.done = 0;
    s = (struct stream){.w = &w, .take = false};
    s.req = world_make(&w, "GET", "/redirect?to=/big/20000000");
    http_request_stream(s.req, on_data, 100000);
    ASSERT_INT(http_start(w.http, s.req, stream_done, &s), 0);
    uv_timer_init(&w.loop, &s.timer);
    s.timer.data = &s;
    uv_timer_start(&s.timer, on_awake, 500, 100);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    ASSERT_INT(w.done, 1);
    ASSERT_INT(s.all.len, 20000000);
    ASSERT_TRUE(s.most < 200000);
    for (size_t i = 0; i < s.all.len; i += 997) {
        ASSERT_INT((unsigned char)s.all.data[i], i % 256);
    }
    http_request_free(s.req);
    buf_release(&s.all);
    world_stop(&w);
}

TEST(http_tls)
{
    struct world w;
    char url[64];
    world_start(&w, true);
    (void)snprintf(url, sizeof url, "https://localhost:%d/echo", w.port);
    world_expect_error(&w, http_request_new("GET", url), "tls", "SSL_CERT_FILE");
    char ca[4096];
    world_path("fixtures/tls/ca.pem", ca);
    setenv("SSL_CERT_FILE", ca, 1);
    for (int i = 0; i < 2; i++) {
        struct http_request *req = http_request_new("POST", url);
        http_request_body(req, "hidden", 6);
        struct http_result *res = world_run(&w, req);
        ASSERT_STR(res->code ? res->message : "none", "none");
        ASSERT_TRUE(world_has(res, "hidden"));
        ASSERT_TRUE(world_has(res, i == 0 ? "\"nth\": 1" : "\"nth\": 2"));
        http_request_free(req);
    }
    setenv("SSL_CERT_FILE", "/nonexistent/ca.pem", 1);
    (void)snprintf(url, sizeof url, "https://127.0.0.1:%d/echo", w.port);
    world_expect_error(&w, http_request_new("GET", url), "tls", "CA file");
    // plain HTTP to a TLS port
    world_expect_error(&w, world_make(&w, "GET", "/echo"), "closed", "closed");
    world_stop(&w);
}

TEST(http_sockets_are_not_inherited)
{
    struct world w;
    world_start(&w, false);
    world_expect(&w, "/status/200", 200, "status 200");
    int found = 0;
    for (int fd = 3; fd < 100; fd++) {
        int type;
        socklen_t len = sizeof type;
        struct sockaddr_storage addr;
        socklen_t addr_len = sizeof addr;
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM &&
            getsockname(fd, (struct sockaddr *)&addr, &addr_len) == 0 &&
            addr.ss_family == AF_INET) {
            found++;
            ASSERT_TRUE(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        }
    }
    ASSERT_INT(found, 1);
    world_stop(&w);
}
