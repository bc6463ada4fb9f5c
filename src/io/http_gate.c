/*
 * libcurl starts a thread for every name lookup, also for the thousandth of the same name at the
 * same time (curl#4852). So only one request looks up a host that libcurl's cache does not know;
 * the others wait until it has an address. Numeric hosts and localhost need no lookup and no gate.
 */
#include "base/base.h"

#include "io/http_int.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define OPEN_MS 50000u /* libcurl's cache keeps a name for 60 s */
#define GATES_MAX 256  /* beyond, hosts are so many that sharing a lookup helps little */

struct gate {
    struct list node;
    struct list held;            /* request.gate_node */
    struct http_request *leader; /* it does the lookup; NULL = nobody */
    uint64_t open_until;         /* uv_now() */
    char *host;                  /* owned, with the port: the cache's key */
};

static void gate_free(struct http *h, struct gate *g)
{
    list_remove(&g->node);
    h->ngates--;
    free(g->host);
    free(g);
}

static struct gate *find(struct http *h, const char *host)
{
    uint64_t now = uv_now(h->loop);
    struct list *next;
    for (struct list *at = h->gates.next; at != &h->gates; at = next) {
        struct gate *g = container_of(at, struct gate, node);
        next = at->next;
        if (strcasecmp(g->host, host) == 0) {
            return g;
        }
        if (g->leader == NULL && list_empty(&g->held) && g->open_until <= now) {
            gate_free(h, g);
        }
    }
    return NULL;
}

static struct gate *gate_new(struct http *h, const char *host)
{
    struct gate *g = xcalloc(1, sizeof *g);
    list_init(&g->held);
    g->host = xstrdup(host);
    list_append(&h->gates, &g->node);
    h->ngates++;
    return g;
}

bool gate_enter(struct http *h, struct http_request *req)
{
    const struct url *url = &req->at;
    req->gate = NULL;
    if (url_is_local_name(url)) {
        return true;
    }
    struct buf key = {0};
    buf_append(&key, url->host, url->host_len);
    buf_appendf(&key, ":%u", url->port);
    struct gate *g = find(h, key.data);
    if (g == NULL && h->ngates < GATES_MAX) {
        g = gate_new(h, key.data);
    }
    buf_release(&key);
    if (g == NULL || g->open_until > uv_now(h->loop)) {
        return true;
    }
    req->gate = g;
    if (g->leader == NULL && list_empty(&g->held)) {
        g->leader = req;
        return true;
    }
    req->state = REQ_HELD;
    list_append(&g->held, &req->gate_node);
    return false;
}

/* Lets `node`'s request out, as the new leader or as one that needs none. */
static void release(struct http *h, struct gate *g, struct list *node, bool leads)
{
    struct http_request *req = container_of(node, struct http_request, gate_node);
    req->gate = leads ? g : NULL;
    g->leader = leads ? req : g->leader;
    list_append(&h->released, node);
}

static void release_next(struct http *h, struct gate *g)
{
    struct list *node = list_take(&g->held);
    if (node != NULL) {
        release(h, g, node, true);
    }
}

void gate_pass(struct http_request *req, bool fresh)
{
    struct gate *g = req->gate;
    if (g == NULL || g->leader != req) {
        return;
    }
    struct http *h = req->http;
    req->gate = NULL;
    g->leader = NULL;
    if (!fresh) {
        // on an old connection: the cache may have forgotten the name meanwhile
        release_next(h, g);
        return;
    }
    g->open_until = uv_now(h->loop) + OPEN_MS;
    struct list *node;
    while ((node = list_take(&g->held)) != NULL) {
        release(h, g, node, false);
    }
}

void gate_leave(struct http_request *req, bool lookup_failed, struct list *failed)
{
    struct gate *g = req->gate;
    req->gate = NULL;
    if (g == NULL) {
        return;
    }
    if (g->leader != req) {
        list_remove(&req->gate_node);
        return;
    }
    list_remove(&req->gate_node); // promoted, but not yet launched
    g->leader = NULL;
    if (!lookup_failed) {
        release_next(req->http, g);
        return;
    }
    list_splice(failed, &g->held);
}

void gates_free(struct http *h)
{
    while (!list_empty(&h->gates)) {
        struct gate *g = container_of(h->gates.next, struct gate, node);
        ASSERT(g->leader == NULL && list_empty(&g->held));
        gate_free(h, g);
    }
}
