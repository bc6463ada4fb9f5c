/*
 * What is kept of one output of a process, in bounded memory: however much it writes.
 */
#include "base/base.h"

#include "io/proc_int.h"

#include <stdlib.h>
#include <string.h>

void proc_keep_init(struct proc_keep *k, size_t max, bool capturing)
{
    *k = (struct proc_keep){.max = max, .capturing = capturing};
    buf_init(&k->buf);
}

void proc_keep_release(struct proc_keep *k)
{
    buf_release(&k->buf);
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The head is what lies before the ring. */
static size_t ring_begin(const struct proc_keep *k)
{
    return k->max - k->max / 3;
}

static void add_to_ring(struct proc_keep *k, const char *data, size_t len)
{
    size_t size = k->max / 3;
    if (size == 0) {
        return;
    }
    if (len > size) {
        data += len - size;
        len = size;
    }
    while (len > 0) {
        size_t n = least(len, k->max - k->ring);
        memcpy(k->buf.data + k->ring, data, n);
        data += n;
        len -= n;
        k->ring += n;
        if (k->ring == k->max) {
            k->ring = ring_begin(k);
        }
    }
}

void proc_keep_add(struct proc_keep *k, const char *data, size_t len)
{
    k->total += len;
    size_t n = k->capturing ? least(len, k->max - k->buf.len) : len;
    if (n > 0) {
        buf_append(&k->buf, data, n);
    }
    if (n < len) {
        if (k->ring == 0) {
            k->ring = ring_begin(k);
        }
        add_to_ring(k, data + n, len - n);
    }
}

size_t proc_keep_unread(const struct proc_keep *k)
{
    return k->buf.len - k->start;
}

/* Moves the unread bytes to the front when that is cheap beside what was consumed. */
static void compact(struct proc_keep *k)
{
    size_t unread = proc_keep_unread(k);
    if (unread == 0) {
        buf_clear(&k->buf);
    } else if (k->start >= unread) {
        memmove(k->buf.data, k->buf.data + k->start, unread);
        k->buf.len = unread;
        k->buf.data[unread] = '\0';
    } else {
        return;
    }
    k->start = 0;
}

void proc_keep_consume(struct proc_keep *k, size_t len)
{
    ASSERT(!k->capturing && len <= proc_keep_unread(k));
    k->start += len;
    k->total -= len;
    compact(k);
}

void proc_keep_capture(struct proc_keep *k)
{
    if (k->capturing) {
        return;
    }
    struct buf old = k->buf;
    size_t start = k->start;
    proc_keep_init(k, k->max, true);
    if (old.len > start) {
        proc_keep_add(k, old.data + start, old.len - start);
    }
    buf_release(&old);
}

void proc_keep_finish(struct proc_keep *k, struct proc_output *out)
{
    size_t begin = ring_begin(k);
    if (k->capturing && k->total > k->max && k->ring > begin) {
        size_t first = k->ring - begin; // the newest bytes come first: the others go before them
        char *newest = xmemdup(k->buf.data + begin, first);
        memmove(k->buf.data + begin, k->buf.data + k->ring, k->max - k->ring);
        memcpy(k->buf.data + k->max - first, newest, first);
        free(newest);
        k->ring = begin;
    }
    *out = (struct proc_output){
        .data = k->buf.data != NULL ? k->buf.data + k->start : "",
        .len = proc_keep_unread(k),
        .total = k->total,
    };
}
