/* What fs.c (the loop's side) and fs_job.c (the threads' side) share; nobody else includes it. */
#ifndef LASH_FS_INT_H
#define LASH_FS_INT_H

#include "base/base.h"
#include "io/fs.h"

#include <stdatomic.h>

/* While a job runs its thread has it all, but for `abandoned`. Otherwise the loop has it. */
struct fs_request {
    uv_work_t work;
    uv_poll_t poll;
    uv_loop_t *loop; /* borrowed */
    fs_done_fn done;
    void *arg;
    bool writes;
    bool in_job;
    bool polling;          /* the poll handle is open, or closing */
    bool freed;            /* by the caller: goes away with its last job or handle */
    atomic_bool abandoned; /* for the thread: nobody wants the result */

    char *path; /* owned */
    size_t max;
    struct fs_write_options options;
    int fd;           /* -1 = none */
    bool watch;       /* the job left an open fd that may wait for somebody */
    bool unwatchable; /* epoll does not take it: it never waits */
    int old_flags;    /* of a descriptor that we share with others; -1 = it is our own */
    size_t offset;    /* written so far */
    int err;          /* errno, 0 = none */
    struct fs_result result;
    struct buf message; /* owned: result.message */
};

/* In a thread of the pool: does it all, or opens `fd` and sets `watch`. */
void fs_job(struct fs_request *req);

/* One read or write of a watched descriptor. Returns true when the request is over. */
bool fs_step(struct fs_request *req);

/* Closes the descriptor, if there is one. */
void fs_close_fd(struct fs_request *req);

#endif
