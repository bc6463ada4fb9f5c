/*
 * Copying a regular file: to a new one beside the target, which is renamed at the end, so that
 * others see the old file or the whole copy. In threads of the pool; a big file takes several
 * turns.
 */
#include "base/base.h"

#include "io/fs_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STEP ((size_t)1 << 20)

struct copy {
    int from; /* owned */
    int to;   /* owned */
    off_t at;
    struct stat source;
    struct stat old; /* of the target, if there is one */
    bool exists;
    char *target; /* owned: where the links of the target lead */
    struct buf beside;
    bool in_place;
    bool by_hand; /* the kernel does not copy between these two */
};

static void close_both(struct copy *c)
{
    if (c->from >= 0) {
        (void)close(c->from); // only read
    }
    if (c->to >= 0) {
        (void)close(c->to); // given up: what was written goes, or its error was told
    }
    c->from = c->to = -1;
}

static void copy_free(void *state)
{
    struct copy *c = state;
    close_both(c);
    if (c->beside.len > 0) {
        (void)unlink(c->beside.data); // best effort: the error that led here is the one to report
    }
    buf_release(&c->beside);
    free(c->target);
    free(c);
}

static int open_source(struct fs_request *req, struct copy *c)
{
    // non-blocking, or a FIFO without a writer would keep the thread
    c->from = open(req->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (c->from < 0 || fstat(c->from, &c->source) != 0) {
        return errno == ENXIO ? EINVAL : errno; // a socket
    }
    return S_ISREG(c->source.st_mode) ? 0 : S_ISDIR(c->source.st_mode) ? EISDIR : EINVAL;
}

static int look_at_target(struct fs_request *req, struct copy *c)
{
    size_t len = strlen(req->other);
    c->exists = stat(req->other, &c->old) == 0;
    if (!c->exists) {
        struct stat link;
        if (errno != ENOENT) {
            return errno;
        }
        if (len == 0 || req->other[len - 1] == '/') {
            return len == 0 ? ENOENT : EISDIR;
        }
        c->in_place = lstat(req->other, &link) == 0; // what the link means is to be made
        return 0;
    }
    if (S_ISDIR(c->old.st_mode)) {
        return EISDIR;
    }
    if (!S_ISREG(c->old.st_mode) ||
        (c->old.st_dev == c->source.st_dev && c->old.st_ino == c->source.st_ino)) {
        return EINVAL;
    }
    if (faccessat(AT_FDCWD, req->other, W_OK, AT_EACCESS) != 0) {
        return errno;
    }
    c->target = realpath(req->other, NULL);
    c->in_place = c->target == NULL || fs_must_stay(&c->old);
    return 0;
}

static int open_in_place(struct fs_request *req, struct copy *c)
{
    c->to = open(req->other, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK,
                 c->source.st_mode & 0777);
    return c->to < 0 ? errno : 0;
}

static int open_target(struct fs_request *req, struct copy *c)
{
    if (!c->in_place) {
        const char *target = c->exists ? c->target : req->other;
        c->to = fs_open_beside(target, c->source.st_mode & 0777, &c->beside);
        if (c->to >= 0) {
            return c->exists ? fs_dress(c->to, &c->old, -1) : 0;
        }
        int err = errno;
        buf_clear(&c->beside);
        if (!c->exists || !fs_only_the_way(err)) {
            return err;
        }
        c->in_place = true;
    }
    return open_in_place(req, c);
}

/* By read and write. Returns bytes, 0 at the end, -1 with errno. */
static ssize_t copy_by_hand(struct copy *c)
{
    char data[64 << 10];
    ssize_t n = pread(c->from, data, sizeof data, c->at);
    for (ssize_t done = 0; done < n;) {
        ssize_t wrote = write(c->to, data + done, (size_t)(n - done));
        if (wrote < 0 && errno != EINTR) {
            return -1;
        }
        done += wrote > 0 ? wrote : 0;
    }
    c->at += n > 0 ? n : 0;
    return n;
}

static ssize_t copy_some(struct copy *c)
{
    if (!c->by_hand) {
        off_t before = c->at;
        ssize_t n = copy_file_range(c->from, &c->at, c->to, NULL, STEP, 0);
        if (n > 0 || (n < 0 && errno != EXDEV && errno != EINVAL && errno != ENOSYS &&
                      errno != EOPNOTSUPP && errno != EBADF && errno != EPERM)) {
            return n;
        }
        c->at = before; // files of /proc look empty to it
        c->by_hand = true;
    }
    return copy_by_hand(c);
}

/* All is written: it takes its name. */
static int commit(struct fs_request *req, struct copy *c)
{
    int to = c->to;
    c->to = -1;
    if (close(to) != 0 && errno != EINTR) {
        return errno;
    }
    if (c->in_place) {
        return 0;
    }
    if (rename(c->beside.data, c->exists ? c->target : req->other) != 0) {
        return errno;
    }
    buf_clear(&c->beside);
    return 0;
}

static int begin(struct fs_request *req, struct copy *c)
{
    int err = open_source(req, c);
    err = err == 0 ? look_at_target(req, c) : err;
    return err == 0 && !fs_abandoned(req) ? open_target(req, c) : err;
}

void fs_job_copy(struct fs_request *req)
{
    uint64_t began = uv_hrtime();
    struct copy *c = req->state;
    if (c == NULL) {
        c = req->state = xcalloc(1, sizeof *c);
        req->free_state = copy_free;
        c->from = c->to = -1;
        req->err = begin(req, c);
    }
    while (req->err == 0 && !fs_abandoned(req)) {
        ssize_t n = copy_some(c);
        if (n == 0) {
            req->err = commit(req, c);
            break;
        }
        if (n < 0 && errno != EINTR) {
            req->err = errno;
        } else if (fs_turn_is_over(began)) {
            req->again = true;
            return;
        }
    }
}
