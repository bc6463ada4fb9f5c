/*
 * What the tests of http share: a loop with its service, and a server of their own,
 * tests/program/httpd.py. Every case begins with world_start() and ends with world_stop().
 */
#ifndef HTTP_WORLD_H
#define HTTP_WORLD_H

#include "base/base.h"
#include "io/http.h"

#include <sys/types.h>
#include <uv.h>

struct world {
    uv_loop_t loop;
    struct http *http;
    int port;
    int server_stdin; /* closing it ends the server */
    pid_t server;
    int done; /* requests */
};

void world_path(const char *name, char out[4096]);
void world_start(struct world *w, bool tls);
void world_stop(struct world *w);
void world_count(struct http_request *req, void *arg);
struct http_request *world_make(struct world *w, const char *method, const char *path);
struct http_result *world_run(struct world *w, struct http_request *req);
void world_expect(struct world *w, const char *path, int status, const char *body);
void world_expect_error(struct world *w, struct http_request *req, const char *code,
                        const char *part);
/* Waits until the server has closed the one connection that is kept. */
void world_wait_closed(struct world *w);
bool world_has(const struct http_result *res, const char *part);

#endif
