/*
 * At most so many requests to one host and port at once; the others wait in the order they came.
 */
#include "base/base.h"

#include "io/http_int.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct place {
    struct list node;
    struct list waiting; /* request.place_node */
    unsigned active;
    char *key; /* owned: host and port */
};

static void place_drop(struct place *p)
{
    if (p->active == 0 && list_empty(&p->waiting)) {
        list_remove(&p->node);
        free(p->key);
        free(p);
    }
}

static struct place *place_of(struct http *h, const struct url *url)
{
    struct buf key = {0};
    buf_append(&key, url->host, url->host_len);
    for (size_t i = 0; i < key.len; i++) {
        key.data[i] = (char)tolower((unsigned char)key.data[i]);
    }
    buf_appendf(&key, ":%u", url->port);
    for (struct list *at = h->places.next; at != &h->places; at = at->next) {
        struct place *p = container_of(at, struct place, node);
        if (strcmp(p->key, key.data) == 0) {
            buf_release(&key);
            return p;
        }
    }
    struct place *p = xcalloc(1, sizeof *p);
    list_init(&p->waiting);
    p->key = key.data;
    list_append(&h->places, &p->node);
    return p;
}

static void admit(struct http *h, struct place *p)
{
    while ((h->per_host == 0 || p->active < h->per_host) && !list_empty(&p->waiting)) {
        p->active++;
        list_append(&h->admitted, list_take(&p->waiting));
        http_kick(h);
    }
}

bool limit_enter(struct http *h, struct http_request *req)
{
    if (h->per_host == 0) {
        return true;
    }
    struct place *p = place_of(h, &req->at);
    req->place = p;
    if (p->active < h->per_host && list_empty(&p->waiting)) {
        p->active++;
        return true;
    }
    req->state = REQ_QUEUED;
    list_append(&p->waiting, &req->place_node);
    return false;
}

void limit_leave(struct http_request *req)
{
    struct http *h = req->http;
    struct place *p = req->place;
    if (p == NULL) {
        return;
    }
    req->place = NULL;
    // of those in a list the admitted ones have been counted
    bool counted = list_empty(&req->place_node);
    for (struct list *at = h->admitted.next; at != &h->admitted && !counted; at = at->next) {
        counted = at == &req->place_node;
    }
    list_remove(&req->place_node);
    p->active -= counted;
    if (!h->closing) {
        admit(h, p);
    }
    place_drop(p);
}

void http_limit_hosts(struct http *h, unsigned n)
{
    struct list *next;
    h->per_host = n;
    for (struct list *at = h->places.next; at != &h->places; at = next) {
        struct place *p = container_of(at, struct place, node);
        next = at->next;
        admit(h, p);
    }
}
