/*
 * fs: files and directories without blocking the loop. Loop thread only.
 *
 * The work is done in libuv's thread pool, one job each; what may take long (a tree, a big copy)
 * goes back to the end of the pool's queue every few milliseconds, so that others get their turn.
 * What may wait for somebody (FIFOs, terminals, sockets, /dev/stdin) never blocks a thread of that
 * pool: it is watched by the loop, or refused.
 *
 * A request is started by fs_read(), fs_write() or fs_start(), calls `done` once from the loop, and
 * is freed by the caller with fs_free(), at any time.
 */
#ifndef LASH_FS_H
#define LASH_FS_H

#include "base/base.h"
#include "base/buf.h"

#include <sys/stat.h>
#include <uv.h>

struct fs_request;
typedef void (*fs_done_fn)(struct fs_request *req, void *arg);

struct fs_result {
    const char *code;    /* NULL, or the name of the error: "ENOENT", "EISDIR", "EFBIG" ... */
    const char *message; /* with code: a sentence that names the file and the remedy */
    struct buf data;     /* fs_read(): the whole file; the caller may buf_move() it out. Of
                            fs_start(): see the verbs */
    size_t count;        /* FS_LIST, FS_GLOB: names in `data` */
    struct stat stat;    /* FS_STAT */
};

struct fs_write_options {
    bool append;   /* add to the end instead of replacing the file */
    bool in_place; /* do not replace the file but its contents */
    bool sync;     /* wait until it is on the disk */
    int mode;      /* permissions, octal; -1 = those of the old file, or 0666 less the umask */
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

enum fs_verb {
    FS_STAT,     /* -> stat; of a link itself unless `follow`, then `data` is what it points to */
    FS_LIST,     /* names of a directory, hidden ones with `all` -> data: for each the letter of its
                    type (fs_type()), the name and a NUL; sorted by bytes */
    FS_MKDIR,    /* with `parents` and `mode` */
    FS_REMOVE,   /* a file, link, empty directory, or with `recursive` all that is in it; never
                    through links, never "/" */
    FS_RENAME,   /* to `other` */
    FS_COPY,     /* a regular file to `other`, which is replaced as by fs_write() */
    FS_LINK,     /* makes `other` one more name of the file `path` */
    FS_SYMLINK,  /* makes `other` a symbolic link to `path` */
    FS_READLINK, /* -> data */
    FS_REALPATH, /* -> data */
    FS_CHMOD,    /* to `mode` */
    FS_GLOB,     /* paths that match the pattern `path` -> data: each with a NUL; sorted by bytes */
    FS_TEMP,     /* a new file, or a `directory`, in `path`, with a name that ends in `other` and
                    permissions `mode` -> data: its path. Removed again by fs_free() unless
                    fs_keep() was called */
    FS_READ,     /* of fs_read() and fs_write(), not for fs_start() */
    FS_WRITE,
};

struct fs_command {
    enum fs_verb verb;
    const char *path;
    const char *other;
    bool follow;
    bool all;
    bool parents;
    bool recursive;
    bool directory;
    int mode;   /* -1 = what the umask leaves */
    size_t max; /* FS_LIST, FS_GLOB: more names than these are the error E2BIG, never a part */
};

/* Starts a command; its texts are copied. */
struct fs_request *fs_start(uv_loop_t *loop, const struct fs_command *command, fs_done_fn done,
                            void *arg);

/* Removes a file, or a tree, without anybody who waits for it; errors are not told. With `now` the
 * calling thread does it itself: the loop is about to close. */
void fs_discard(uv_loop_t *loop, const char *path, bool recursive, bool now);

/* The caller has the result of FS_TEMP and cares for it from now on. */
void fs_keep(struct fs_request *req);

/* Frees a request, NULL is ignored. One that is under way is given up: `done` is not called, a file
 * that was to be replaced is not replaced from then on, a tree is not removed any further, and what
 * a thread still does ends unseen (the loop stays alive for it). */
void fs_free(struct fs_request *req);

/* Valid once `done` was called. */
struct fs_result *fs_result(struct fs_request *req);

/* A letter of FS_LIST for what st_mode says, and the word for a letter: "file", "directory",
 * "link", "fifo", "socket", "device", "unknown". */
char fs_type(mode_t mode);
const char *fs_type_name(char type);

#endif
