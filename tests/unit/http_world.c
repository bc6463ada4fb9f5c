#include "base/base.h"

#include "http_world.h"

#include "io/timer.h"
#include "test.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* tests/run says where the tests are. */
void world_path(const char *name, char out[4096])
{
    const char *tests = getenv("LASH_TESTS");
    (void)snprintf(out, 4096, "%s/%s", tests ? tests : "tests", name);
}

/* Kept ready by tests/run: the first server of a case needs no start. */
static bool server_ready(struct world *w)
{
    static bool taken;
    const char *port = getenv("LASH_TEST_SERVER");
    if (port == NULL || taken) {
        return false;
    }
    taken = true;
    w->port = (int)strtol(port, NULL, 10);
    return true;
}

static void server_start(struct world *w, bool tls)
{
    char script[4096], cert[4096], key[4096];
    world_path("program/httpd.py", script);
    world_path("fixtures/tls/server.pem", cert);
    world_path("fixtures/tls/server.key", key);
    int to[2], from[2];
    ASSERT_INT(pipe2(to, O_CLOEXEC), 0);
    ASSERT_INT(pipe2(from, O_CLOEXEC), 0);
    w->server = fork();
    ASSERT_TRUE(w->server >= 0);
    if (w->server == 0) {
        (void)dup2(to[0], 0);
        (void)dup2(from[1], 1);
        // with its path: python looks for its library beside what it was called as
        execl("/usr/bin/python3", "/usr/bin/python3", script, tls ? "--tls" : NULL, cert, key,
              (char *)NULL);
        execlp("python3", "python3", script, tls ? "--tls" : NULL, cert, key, (char *)NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    char line[32] = "";
    for (size_t n = 0; strchr(line, '\n') == NULL; n++) {
        ASSERT_TRUE(n < sizeof line - 1 && read(from[0], line + n, 1) == 1);
    }
    close(from[0]);
    w->port = (int)strtol(line, NULL, 10);
    ASSERT_TRUE(w->port > 0);
    w->server_stdin = to[1];
}

void world_start(struct world *w, bool tls)
{
    int err = 0;
    memset(w, 0, sizeof *w);
    signal(SIGPIPE, SIG_IGN);
    if (tls || !server_ready(w)) {
        server_start(w, tls);
    }
    ASSERT_INT(uv_loop_init(&w->loop), 0);
    uv_loop_set_data(&w->loop, NULL); /* for io/timer.h */
    w->http = http_new(&w->loop, &err);
    ASSERT_TRUE(w->http != NULL);
}

void world_stop(struct world *w)
{
    http_close(w->http, NULL, NULL);
    timer_close(&w->loop);
    ASSERT_INT(uv_run(&w->loop, UV_RUN_DEFAULT), 0);
    ASSERT_INT(uv_loop_close(&w->loop), 0);
    if (w->server > 0) {
        close(w->server_stdin);
        ASSERT_INT(waitpid(w->server, NULL, 0), w->server);
    }
}

void world_count(struct http_request *req, void *arg)
{
    (void)req;
    ((struct world *)arg)->done++;
}

struct http_request *world_make(struct world *w, const char *method, const char *path)
{
    char url[512];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d%s", w->port, path);
    return http_request_new(method, url);
}

/* Runs it to its end. */
struct http_result *world_run(struct world *w, struct http_request *req)
{
    int before = w->done;
    int err = http_start(w->http, req, world_count, w);
    ASSERT_STR(err == 0 ? "" : http_result(req)->message, "");
    ASSERT_INT(w->done, before);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    ASSERT_INT(w->done, before + 1);
    ASSERT_INT(http_running(w->http), 0);
    return http_result(req);
}

/* The whole in one: checks status and body. */
void world_expect(struct world *w, const char *path, int status, const char *body)
{
    struct http_request *req = world_make(w, "GET", path);
    struct http_result *res = world_run(w, req);
    ASSERT_STR(res->code ? res->code : "none", "none");
    ASSERT_INT(res->status, status);
    ASSERT_STR(res->body.data ? res->body.data : "", body);
    http_request_free(req);
}

void world_expect_error(struct world *w, struct http_request *req, const char *code,
                        const char *part)
{
    struct http_result *res = world_run(w, req);
    ASSERT_STR(res->code ? res->code : "none", code);
    if (strstr(res->message, part) == NULL) {
        ASSERT_STR(res->message, part);
    }
    http_request_free(req);
}

void world_wait_closed(struct world *w)
{
    int found = 0;
    for (int fd = 3; fd < 100; fd++) {
        struct sockaddr_in peer;
        socklen_t len = sizeof peer;
        if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0 && peer.sin_family == AF_INET &&
            ntohs(peer.sin_port) == w->port) {
            struct pollfd end = {.fd = fd, .events = POLLRDHUP};
            found++;
            ASSERT_INT(poll(&end, 1, 60000), 1);
        }
    }
    ASSERT_INT(found, 1);
}

bool world_has(const struct http_result *res, const char *part)
{
    return res->body.data != NULL && strstr(res->body.data, part) != NULL;
}
