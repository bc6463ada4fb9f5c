/*
 * fs: whole files, read and written without blocking the loop. Loop thread only.
 *
 * Regular files go through libuv's thread pool, one job each. What may wait for somebody (FIFOs,
 * terminals, sockets, /dev/stdin) never blocks a thread of that pool: it is watched by the loop.
 *
 * A request is started by fs_read() or fs_write(), calls `done` once from the loop, and is freed by
 * the caller with fs_free(), at any time.
 */
#ifndef LASH_FS_H
#define LASH_FS_H

#include "base/base.h"
#include "base/buf.h"

#include <uv.h>

struct fs_request;
typedef void (*fs_done_fn)(struct fs_request *req, void *arg);

struct fs_result {
    const char *code;    /* NULL, or the name of the error: "ENOENT", "EISDIR", "EFBIG" ... */
    const char *message; /* with code: a sentence that names the file and the remedy */
    struct buf data;     /* fs_read(): the whole file; the caller may buf_move() it out */
};

struct fs_write_options {
    bool append; /* add to the end instead of replacing the file */
    bool sync;   /* wait until it is on the disk */
    int mode;    /* permissions, octal; -1 = those of the old file, or 0666 less the umask */
};

/* Reads `path` to its end. A file over `max` bytes is the error EFBIG, never a part. */
struct fs_request *fs_read(uv_loop_t *loop, const char *path, size_t max, fs_done_fn done,
                           void *arg);

/* Makes `data` (copied) the contents of `path`. Other programs see the old file or the new one,
 * nothing between: a temporary file beside it is renamed, and the old one stays as it is on errors.
 * Only where that cannot be (the directory is read-only, the file has several names or another
 * owner, is a device or a FIFO, or with append) it is written in place. Symbolic links are
 * followed. */
struct fs_request *fs_write(uv_loop_t *loop, const char *path, const void *data, size_t len,
                            const struct fs_write_options *options, fs_done_fn done, void *arg);

/* Frees a request, NULL is ignored. One that is under way is given up: `done` is not called, a file
 * that was to be replaced is not replaced from then on, and what a thread still does ends unseen
 * (the loop stays alive for it). */
void fs_free(struct fs_request *req);

/* Valid once `done` was called. */
struct fs_result *fs_result(struct fs_request *req);

#endif
