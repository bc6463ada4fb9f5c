/*
 * http: HTTP/1.1 requests on a uv loop, over libcurl's multi_socket interface. Loop thread only.
 *
 * One `struct http` a loop; a request is built, started, and freed by the caller:
 *
 *     req = http_request_new("POST", "https://host/path");
 *     http_request_header(req, "Content-Type", "application/json");
 *     http_request_body(req, text, len);
 *     http_start(http, req, on_done, arg);     -> on_done(req, arg) later, once
 *     http_request_free(req);                  at any time; aborts what still runs
 *
 * Callbacks are called from the loop, never before http_start() returns, never inside libcurl: they
 * may start, abort and free any request, this one included. Redirects are followed here, not by
 * libcurl: headers that may hold keys do not travel to another origin.
 */
#ifndef LASH_HTTP_H
#define LASH_HTTP_H

#include "base/base.h"
#include "base/buf.h"

#include <uv.h>

struct http;
struct http_request;

typedef void (*http_done_fn)(struct http_request *req, void *arg);
typedef void (*http_data_fn)(struct http_request *req, void *arg);
typedef void (*http_want_fn)(struct http_request *req, void *arg);
typedef void (*http_closed_fn)(void *arg);

/* What became of a request. Pointers live as long as the request, or until it is started again. */
struct http_result {
    /* NULL, or why there is no complete answer: "timeout" "connect" "resolve" "tls" "too_large"
     * "closed" (the server hung up before the end) "protocol" "encoding" "url" "request"
     * "redirect" (it asks for a body that is gone) "cancelled" "no_libcurl" */
    const char *code;
    const char *message; /* with code: a sentence that names the place and the remedy, no secrets */
    int status;          /* HTTP status; 0 while no answer has begun */
    const char *version; /* "1.1", "1.0" or "2" */
    const char *url;     /* of the answer, after redirects, without user and password */
    struct buf body;     /* decoded; the caller may buf_move() it out */
    uint64_t received;   /* bytes of the body as decoded, delivered ones included */
    uint64_t first_byte_us; /* from http_start() to the first byte of the answer; 0 = none came */
    uint64_t total_us;
    unsigned redirects; /* followed */
    size_t nheaders;
};

/* Makes the service of one loop, which must outlive it. NULL with *err = UV_ENOSYS when libcurl
 * cannot be used (http_unavailable() says why), or another libuv code. Also raises the soft limit
 * of open files to the hard one, at most 65536, once in the process. */
struct http *http_new(uv_loop_t *loop, int *err);

/* Why http_new() failed: a sentence with the remedy. */
const char *http_unavailable(void);

/* What carries the requests. Texts are the library's own, for good; tls and ca_file may be NULL. */
struct http_library {
    const char *version; /* of libcurl */
    const char *tls;     /* the TLS library and its version */
    const char *ca_file; /* whose authorities count while SSL_CERT_FILE names no other */
};

/* Loads libcurl. False: it cannot be used, see http_unavailable(). Any thread. */
bool http_library(struct http_library *library);

/* Aborts all requests without calling back and closes every handle; `closed` (may be NULL) is
 * called from the loop when the last one is gone and the memory freed. Requests stay the callers'
 * to free. */
void http_close(struct http *h, http_closed_fn closed, void *arg);

/* At most `n` requests to one host and port at once, 0 = no limit, as at first: later ones wait in
 * the order they came, for as long as their timeout in all lets them. */
void http_limit_hosts(struct http *h, unsigned n);

/* Requests that are started and not done. */
size_t http_running(const struct http *h);

/* A request with default options. Bad methods and URLs are reported by http_start(). */
struct http_request *http_request_new(const char *method, const char *url);

/* Adds a header. Returns 0, or UV_EINVAL for one that would change the framing or break the
 * message: http_result(req)->message says why, and http_start() refuses the request too. */
int http_request_header(struct http_request *req, const char *name, const char *value);

/* All headers that were added, `len` bytes, for http_request_add_lines(); borrowed as they are. */
const char *http_request_lines(const struct http_request *req, size_t *len);

/* Adds what http_request_lines() gave of another request; other bytes break the message. */
void http_request_add_lines(struct http_request *req, const char *lines, size_t len);

/* Was a header of that name, in any case, added? */
bool http_request_has(const struct http_request *req, const char *name);

/* The body: borrowed until the request is done or freed; libcurl may send it more than once. */
void http_request_body(struct http_request *req, const void *data, size_t len);

/* The body, moved out of the buffer: the request frees it when it is freed. */
void http_request_own_body(struct http_request *req, struct buf *body);

/* The body comes in pieces, by http_give(). `length` of all of it, or -1: then chunks are sent.
 * on_want is called whenever libcurl waits for a piece, and when the body has to begin anew. Only
 * with `replayable` that may be: else a redirect that asks for the body again is an error. */
void http_request_upload(struct http_request *req, http_want_fn on_want, int64_t length,
                         bool replayable);

/* Is a piece of the body waited for? */
bool http_wants(const struct http_request *req);

/* Is the body still being sent? No longer when the answer is one that makes it useless. */
bool http_sending(const struct http_request *req);

/* True once after the body had to begin anew: the next piece is its first again. Pieces that are
 * given before this was asked are dropped. */
bool http_restarts(struct http_request *req);

/* The next piece (copied), or the end. A body that is longer or shorter than its length ends the
 * request with the code "request". Ignored when the body is of no use any more. */
void http_give(struct http_request *req, const void *data, size_t len);
void http_give_end(struct http_request *req);

/* Options, all before http_start(); 0 = no limit where a default is given. */
void http_request_connect_timeout(struct http_request *req, uint64_t ms); /* 10 s */
void http_request_timeout(struct http_request *req, uint64_t ms);         /* in all: none */
/* No byte in either direction for so long; looked at once a second: 300 s */
void http_request_idle_timeout(struct http_request *req, uint64_t ms);
void http_request_max_body(struct http_request *req, size_t bytes);    /* decoded: 64 MiB */
void http_request_max_redirects(struct http_request *req, unsigned n); /* 10; 0 = do not follow */
/* A proxy's URL instead of those of the environment; "" = none. Copied. */
void http_request_proxy(struct http_request *req, const char *url);
/* Certificate authorities instead of SSL_CERT_FILE and SSL_CERT_DIR. Copied. */
void http_request_ca_file(struct http_request *req, const char *path);
/* HTTP/2 over TLS where the server knows it. Refused by http_start() with a libcurl before 8.0. */
void http_request_version_2(struct http_request *req);

/* Streaming: on_data is called when the head of the answer is there, and whenever more of the body
 * came; http_take() takes what there is. A consumer that takes nothing makes libcurl stop reading
 * at `high_mark` bytes (at least 16 KiB), so a slow reader holds the server back, not memory. */
void http_request_stream(struct http_request *req, http_data_fn on_data, size_t high_mark);

/* Appends all waiting bytes of the body to `out`; lets a held back server go on. */
void http_take(struct http_request *req, struct buf *out);

/* Is the head of the answer there, of the last one, after redirects? */
bool http_has_head(const struct http_request *req);

/* The URL of the present answer, without user and password; borrowed until the request is done. */
const char *http_present_url(struct http_request *req);

/* Starts the request. Returns 0: `done` will be called once. Or a negative libuv code: nothing was
 * started, http_result(req) has code and message. */
int http_start(struct http *h, struct http_request *req, http_done_fn done, void *arg);

/* Stops the request at once; `done` is not called. Its result has the code "cancelled". Harmless
 * when it is not running. */
void http_abort(struct http_request *req);

/* Frees the request, NULL is ignored; aborts it first if it runs. */
void http_request_free(struct http_request *req);

/* Frees a streamed request of whose answer nothing is of interest any more, but not at once: its
 * end is awaited for `ms` milliseconds, so that the connection can be used again. */
void http_leave(struct http_request *req, uint64_t ms);

/* The result, complete when `done` was called; partial while it runs. */
struct http_result *http_result(struct http_request *req);

/* Header `i` < nheaders of the answer (of the last one, without 1xx, redirects and trailers), in
 * the order they came; names in the server's spelling. Both NUL terminated. */
void http_result_header(const struct http_request *req, size_t i, const char **name,
                        const char **value);

/* All of them, "name\0value\0name\0value\0...", `len` bytes; borrowed as they are. */
const char *http_result_head(const struct http_request *req, size_t *len);

/* The first header of that name in any case, or NULL. */
const char *http_result_find(const struct http_request *req, const char *name);

#endif
