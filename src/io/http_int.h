/*
 * What the http*.c files share; nobody else includes it. Loop thread only.
 *
 *     http.c          requests: start, end, abort, delivery of events, watchdog, teardown
 *     http_sock.c     libcurl's sockets and timers on the loop
 *     http_handle.c   libcurl's handles: what each transfer is told, and how they are used again
 *     http_easy.c     one transfer in libcurl: callbacks, redirects
 *     http_upload.c   bodies that come in pieces
 *     http_error.c    libcurl's results as codes and sentences
 *     http_gate.c     one name lookup at a time for one host
 *     http_limit.c    so many requests at a time for one host
 *     http_leave.c    requests whose rest nobody reads
 *     http_request.c  building requests, reading results: no libcurl in it
 */
#ifndef LASH_HTTP_INT_H
#define LASH_HTTP_INT_H

#include "base/base.h"
#include "base/list.h"
#include "io/curl_dl.h"
#include "io/http.h"
#include "io/url.h"

#define HTTP_SPARE_HANDLES 64

struct http {
    uv_loop_t *loop; /* borrowed until closed */
    const struct curl_api *curl;
    CURLM *multi;
    uv_timer_t timer;    /* libcurl's */
    uv_idle_t turn;      /* for 0 ms: the loop's next turn */
    uv_timer_t watchdog; /* each second while requests run; does not keep the loop alive */
    unsigned open_handles;
    bool closing;
    bool any_broken;
    struct list running;  /* request.node: in libcurl or held at a gate */
    struct list events;   /* request.event_node: something to tell the caller */
    struct list released; /* request.gate_node: let through a gate; launched outside callbacks */
    struct list gates;    /* gate.node */
    struct list places;   /* place.node */
    struct list admitted; /* request.place_node: may go on, outside callbacks */
    struct list left;     /* left.node: what http_leave() took over */
    unsigned per_host;    /* 0 = no limit */
    size_t ngates;
    struct list socks;                        /* sock.node */
    struct sock **by_fd;                      /* owned: those of connections */
    size_t fds;                               /* its length */
    size_t nrunning;                          /* started, not yet delivered */
    struct handle *spare[HTTP_SPARE_HANDLES]; /* owned; the last was used last */
    size_t nspare;
    struct address *address; /* counted: the last that was asked for; or NULL */
    char encodings[64]; /* header line: what libcurl can unpack; "" = it finds that out itself */
    http_closed_fn closed;
    void *closed_arg;
};

enum request_state {
    REQ_NEW,
    REQ_QUEUED,   /* its host has as many requests as it may have */
    REQ_HELD,     /* waits for another request's name lookup */
    REQ_RUNNING,  /* libcurl has it */
    REQ_FINISHED, /* the result is there, `done` not yet called */
    REQ_DONE,
};

struct header_ref {
    size_t name; /* offsets into request.head */
    size_t value;
};

/* A body that comes in pieces. */
struct upload {
    bool used;
    bool replayable;
    bool ended;     /* the last piece was given */
    bool paused;    /* libcurl waits for a piece */
    bool restart;   /* the giver does not know yet that it has to begin anew */
    bool event;     /* on_want is due */
    int64_t length; /* -1 = unknown */
    uint64_t given;
    uint64_t taken; /* by libcurl */
    size_t offset;  /* of what is not taken yet, in buf */
    struct buf buf; /* owned */
    http_want_fn on_want;
};

struct http_request {
    struct http *http; /* borrowed while started and not done */
    enum request_state state;
    struct list node;
    struct list event_node;
    struct list gate_node;
    struct list place_node;
    struct gate *gate;   /* borrowed: the one it leads or is held at */
    struct place *place; /* borrowed: where it is counted or queued */

    char *method;     /* owned */
    char *url;        /* owned; the present one, redirects change it */
    struct url at;    /* its parts, once it was checked */
    struct buf lines; /* headers to send, "Name: value" with a NUL each */
    size_t nlines;
    const void *body; /* borrowed from the caller, or of own_body */
    struct buf own_body;
    size_t body_len;
    bool has_body;
    struct upload upload;
    char *proxy;   /* owned; NULL = as the environment says */
    char *ca_file; /* owned; NULL = as the environment says */
    bool version_2;
    uint64_t connect_timeout_ms;
    uint64_t timeout_ms;
    uint64_t idle_timeout_ms;
    size_t max_body;
    unsigned max_redirects;
    size_t high_mark;
    http_data_fn on_data; /* NULL: the body is collected */
    http_done_fn done;
    void *arg;

    struct handle *handle; /* owned while RUNNING */
    CURL *easy;            /* borrowed from it */
    uint64_t started_ns;
    uint64_t active_ms;  /* uv_now() when bytes last moved */
    uint64_t uploaded;   /* as last seen */
    bool head_done;      /* the head of the answer is complete */
    bool redirecting;    /* it will be followed: its body is of no interest */
    size_t passed_over;  /* bytes of such a body */
    unsigned interim;    /* 1xx answers */
    size_t head_bytes;   /* of heads, 1xx and trailers included */
    bool unpause;        /* libcurl stopped sending while it was paused */
    CURLcode unpause_rc; /* what waited in libcurl was refused when it went on */
    bool has_location;
    bool paused; /* the consumer is behind */
    bool retried;
    bool data_event;         /* on_data is due */
    int broken;              /* libuv code: its socket could not be watched */
    int socket_errno;        /* why no socket could be had */
    struct buf head;         /* "name\0value\0" of the answer's headers */
    struct header_ref *refs; /* owned */
    size_t refs_cap;
    const char *refusal; /* code set by a callback that stopped the transfer, else NULL */
    struct http_result result;
    struct buf message;   /* owned: result.message */
    struct buf shown_url; /* owned: result.url of one with user or password */
};

/* A URL, taken apart by libcurl once for all requests to it. */
struct address {
    CURLU *parts; /* owned */
    char *text;   /* owned */
    size_t users; /* handles that know it, and http.address */
};

/* One transfer of libcurl's. It keeps its options from one request to the next, so one that ended
 * well is used again, and told only what is different. */
struct handle {
    CURL *easy;               /* owned */
    struct http_request *req; /* borrowed: whose it is; NULL in http.spare */
    bool fresh;               /* it was told nothing yet */
    /* what it was told: */
    char method[12]; /* "" = of a request for which handles are not kept */
    bool sends_body;
    struct address *address; /* counted; NULL = libcurl takes the URL apart itself */
    uint64_t environment;    /* the mark of what it was then */
    long timeout_ms;
    long connect_timeout_ms;
    long send_buffer;
    struct curl_slist *lines; /* owned: one block with all nodes of the present list */
    size_t lines_cap;
    char errbuf[CURL_ERROR_SIZE];
};

/* http.c */
/* After every call into libcurl that can end transfers: ends them, starts others, calls back. */
void http_pump(struct http *h);

/* http_sock.c */
/* Tells libcurl that something happened, and pumps. Not from its callbacks. */
void http_action(struct http *h, curl_socket_t fd, int events);
/* Makes http_action() run in the loop's next turn. From anywhere. */
void http_kick(struct http *h);
/* In libcurl's callbacks: a socket of a connection was opened; it is to be closed. */
void http_sock_opened(struct http *h, curl_socket_t fd);
int http_sock_close(void *http, curl_socket_t fd);
/* Connects the multi to this file's callbacks; false when libcurl refuses. */
bool http_watch_multi(struct http *h);
void http_open_handles(struct http *h);
/* Closes all handles; the last close callback frees `h` and calls h->closed. */
void http_close_handles(struct http *h);

/* http_leave.c */
/* Frees all that http_leave() took over. */
void http_left_free(struct http *h);

/* http_request.c */
/* The present URL becomes `url`, which is valid. */
void http_request_set_url(struct http_request *req, const char *url);
/* Sets code and sentence of the result, unless there is one already. */
void http_fail(struct http_request *req, const char *code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Is it a line to send, "Name: value" or "Name;", of that name in any case? */
bool header_line_is(const char *line, const char *name, size_t len);
/* Method, URL and body fit together? 0 or UV_EINVAL with the result set. */
int http_request_check(struct http_request *req);
/* Forgets the headers of an answer: another one begins. */
void http_head_clear(struct http_request *req);
void http_head_add(struct http_request *req, const char *name, size_t name_len, const char *value,
                   size_t value_len);
/* A folded line belongs to the value before it. */
void http_head_continue(struct http_request *req, const char *text, size_t len);
/* Drops the headers to send that may hold keys. */
void http_request_drop_secrets(struct http_request *req);
/* A redirect that makes a GET of the request. */
void http_request_drop_body(struct http_request *req);
void http_request_set_method(struct http_request *req, const char *method);

/* http_handle.c */
/* A handle that was told all about the request, which owns it then; 0 or UV_ENOMEM/UV_EINVAL with
 * the result set. */
int handle_take(struct http *h, struct http_request *req);
/* Takes it from the request, to be used again if its transfer ended well. It is in no multi. */
void handle_give_back(struct http_request *req, bool clean);
void handles_init(struct http *h);
void handles_free(struct http *h);

/* http_easy.c */
/* Connects a handle to this file's callbacks, for good; false when libcurl refuses. */
bool http_easy_connect(const struct curl_api *curl, struct handle *handle);
/* A transfer begins: forgets what an earlier one of the request left. */
void http_easy_begin(struct http_request *req);
/* What libcurl knows of the transfer goes into the result. Returns true when the request has to be
 * launched again: a redirect (its URL and method are changed) or a stale connection. */
bool http_easy_end(struct http_request *req, CURLcode rc);

/* Tells libcurl which directions are still paused. Not from its callbacks. */
void http_unpause(struct http_request *req);

/* http_upload.c */
CURLcode upload_setup(struct http_request *req);
/* The body will be sent from its beginning; false when that is not possible any more. */
bool upload_rewind(struct http_request *req);
void upload_release(struct upload *up);

/* http_limit.c */
/* May the request go on now? If not it is queued, and comes back in http.admitted. */
bool limit_enter(struct http *h, struct http_request *req);
/* The request ends or goes elsewhere. Harmless for one that is not counted. */
void limit_leave(struct http_request *req);

/* http_error.c */
void http_error_of_curl(struct http_request *req, CURLcode rc);

/* http_gate.c */
/* May the request go on to libcurl now? If not it is held, and comes back in http.released. */
bool gate_enter(struct http *h, struct http_request *req);
/* In a libcurl callback: the request has an address (`fresh`), or an old connection. */
void gate_pass(struct http_request *req, bool fresh);
/* The request ends or goes elsewhere. When its lookup failed those that waited for it end likewise:
 * returns them in `failed` (request.gate_node). */
void gate_leave(struct http_request *req, bool lookup_failed, struct list *failed);
void gates_free(struct http *h);

#endif
