/*
 * The threads' side of fs: everything that may block on a disk. Also the single steps on watched
 * descriptors, which do not block.
 */
#include "base/base.h"

#include "io/fs_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK ((size_t)64 << 10)
#define WRITE_CHUNK ((size_t)8 << 20) /* between looks at `abandoned` */
#define OPEN_FLAGS (O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

void fs_close_fd(struct fs_request *req)
{
    if (req->fd < 0) {
        return;
    }
    if (req->old_flags >= 0) {
        (void)fcntl(req->fd, F_SETFL, req->old_flags); // as its other owners know it
    }
    (void)close(req->fd); // what could not be written was reported by write or fsync
    req->fd = -1;
}

/* /dev/stdin and the like: the number of the descriptor that the path means, or -1. */
static int own_descriptor(const char *path)
{
    static const char *const names[] = {"/dev/stdin", "/dev/stdout", "/dev/stderr"};
    static const char *const dirs[] = {"/dev/fd/", "/proc/self/fd/"};
    for (int i = 0; i < (int)ARRAY_LEN(names); i++) {
        if (strcmp(path, names[i]) == 0) {
            return i;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        size_t len = strlen(dirs[i]);
        if (strncmp(path, dirs[i], len) == 0) {
            char *end;
            long fd = strtol(path + len, &end, 10);
            return end != path + len && *end == '\0' && fd >= 0 && fd < INT32_MAX ? (int)fd : -1;
        }
    }
    return -1;
}

/* Shares the descriptor. Watching makes it non-blocking, so its flags are put back at the end. */
static int open_shared(struct fs_request *req, int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (copy >= 0) {
        req->old_flags = fcntl(copy, F_GETFL);
    }
    return copy;
}

static bool waits_for_somebody(const struct stat *st)
{
    return S_ISFIFO(st->st_mode) || S_ISCHR(st->st_mode) || S_ISSOCK(st->st_mode);
}

/* -- reading ----------------------------------------------------------------------------------- */

/* One read of at most `want` bytes, never past max + 1. Returns bytes, 0 at the end, -1 with errno.
 */
static ssize_t read_some(struct fs_request *req, size_t want)
{
    struct buf *data = &req->result.data;
    size_t left = req->max + 1 - data->len;
    want = want < left ? want : left;
    buf_reserve(data, want);
    data->data[data->len] = '\0';
    ssize_t n;
    do {
        n = read(req->fd, data->data + data->len, want);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        data->len += (size_t)n;
        data->data[data->len] = '\0';
        if (data->len > req->max) {
            errno = EFBIG;
            return -1;
        }
    }
    return n;
}

/* `expected` bytes, most likely; 0 = unknown. */
static void read_all(struct fs_request *req, size_t expected)
{
    struct buf *data = &req->result.data;
    size_t want = expected > 0 ? expected + 1 : CHUNK;
    while (!fs_abandoned(req)) {
        size_t room = data->cap > data->len + 1 ? data->cap - data->len - 1 : 0;
        ssize_t n = read_some(req, room > 0 ? room : want);
        if (n == 0) {
            return;
        }
        if (n < 0) {
            // files of /proc may have nothing to say at the moment
            req->watch = errno == EAGAIN && !req->unwatchable;
            req->err = req->watch ? 0 : errno;
            return;
        }
        want = data->len > CHUNK ? data->len / 2 : CHUNK;
    }
}

static void job_read(struct fs_request *req)
{
    struct stat st;
    // non-blocking, or a FIFO without a writer would keep the thread
    req->fd = open(req->path, O_RDONLY | OPEN_FLAGS);
    if (req->fd < 0 && errno == ENXIO && own_descriptor(req->path) >= 0) {
        req->fd = open_shared(req, own_descriptor(req->path)); // a socket
    }
    if (req->fd < 0 || fstat(req->fd, &st) != 0) {
        req->err = errno;
    } else if (S_ISDIR(st.st_mode)) {
        req->err = EISDIR;
    } else if (waits_for_somebody(&st)) {
        req->watch = true;
    } else if (S_ISREG(st.st_mode) && st.st_size > 0 && (uint64_t)st.st_size > req->max) {
        req->err = EFBIG;
    } else {
        read_all(req, S_ISREG(st.st_mode) ? (size_t)st.st_size : 0);
    }
}

/* -- writing ----------------------------------------------------------------------------------- */

/* Writes what is left. Returns 0 or errno. */
static int write_all(struct fs_request *req)
{
    struct buf *data = &req->result.data;
    while (req->offset < data->len && !fs_abandoned(req)) {
        size_t left = data->len - req->offset;
        ssize_t n =
            write(req->fd, data->data + req->offset, left < WRITE_CHUNK ? left : WRITE_CHUNK);
        if (n < 0 && errno != EINTR) {
            return errno;
        }
        req->offset += n > 0 ? (size_t)n : 0;
    }
    if (req->options.sync && fsync(req->fd) != 0 && errno != EINVAL && errno != ENOTSUP) {
        return errno;
    }
    return 0;
}

static mode_t mode_of(const struct fs_request *req, mode_t standard)
{
    return req->options.mode >= 0 ? (mode_t)req->options.mode : standard;
}

static void write_in_place(struct fs_request *req)
{
    int how = req->options.append ? O_APPEND : O_TRUNC;
    req->fd = open(req->path, O_WRONLY | O_CREAT | how | OPEN_FLAGS, mode_of(req, 0666));
    if (req->fd < 0) {
        req->err = errno;
        return;
    }
    if (req->options.mode >= 0 && fchmod(req->fd, (mode_t)req->options.mode) != 0) {
        req->err = errno;
        return;
    }
    req->err = write_all(req);
}

/* `old`: what is there now, or NULL. Sets *in_place when that should be tried instead. */
static void replace(struct fs_request *req, const char *target, const struct stat *old,
                    bool *in_place)
{
    struct buf name = {0};
    req->fd = fs_open_beside(target, mode_of(req, 0666), &name);
    if (req->fd < 0) {
        req->err = errno;
        *in_place = old != NULL && fs_only_the_way(req->err);
        buf_release(&name);
        return;
    }
    req->err = fs_dress(req->fd, old, req->options.mode);
    if (req->err == 0) {
        req->err = write_all(req);
    }
    fs_close_fd(req);
    if (req->err == 0 && !fs_abandoned(req) && rename(name.data, target) == 0) {
        buf_release(&name);
        return;
    }
    if (req->err == 0 && !fs_abandoned(req)) {
        req->err = errno;
        *in_place = fs_only_the_way(req->err);
    }
    (void)unlink(name.data); // best effort: the error that led here is the one to report
    buf_release(&name);
}

static void write_regular(struct fs_request *req, const struct stat *old)
{
    bool in_place = false;
    struct stat link;
    if (old == NULL) {
        bool dangling = lstat(req->path, &link) == 0; // the link's target is to be made
        if (req->options.append || req->options.in_place || dangling) {
            write_in_place(req);
        } else {
            replace(req, req->path, NULL, &in_place);
        }
        return;
    }
    if (faccessat(AT_FDCWD, req->path, W_OK, AT_EACCESS) != 0) {
        req->err = errno;
        return;
    }
    char *target = realpath(req->path, NULL);
    if (req->options.append || req->options.in_place || fs_must_stay(old) || target == NULL) {
        in_place = true;
    } else {
        replace(req, target, old, &in_place);
    }
    free(target);
    if (in_place && !fs_abandoned(req)) {
        req->err = 0;
        req->offset = 0;
        write_in_place(req);
    }
}

static void job_write(struct fs_request *req)
{
    struct stat st;
    size_t len = strlen(req->path);
    bool exists = stat(req->path, &st) == 0;
    int own = own_descriptor(req->path);
    if (!exists && errno != ENOENT) {
        req->err = errno;
    } else if ((exists && S_ISDIR(st.st_mode)) ||
               (!exists && len > 0 && req->path[len - 1] == '/')) {
        req->err = EISDIR;
    } else if (len == 0 || (!exists && own >= 0)) {
        req->err = len == 0 ? ENOENT : EBADF;
    } else if (own >= 0 && (S_ISREG(st.st_mode) || S_ISSOCK(st.st_mode))) {
        // others write there too: neither replaced nor cut
        req->fd = open_shared(req, own);
        req->err = req->fd < 0 ? errno : 0;
        req->watch = S_ISSOCK(st.st_mode);
        if (req->fd >= 0 && !req->watch) {
            req->err = write_all(req);
        }
    } else if (exists && !S_ISREG(st.st_mode)) {
        req->fd = open(req->path, O_WRONLY | OPEN_FLAGS);
        req->err = req->fd < 0 ? errno : 0;
        req->watch = waits_for_somebody(&st);
        if (req->fd >= 0 && !req->watch) {
            req->err = write_all(req);
        }
    } else {
        write_regular(req, exists ? &st : NULL);
    }
}

/* -- both -------------------------------------------------------------------------------------- */

void fs_job(struct fs_request *req)
{
    if (req->unwatchable && req->verb == FS_WRITE) {
        req->err = write_all(req);
    } else if (req->unwatchable) {
        read_all(req, 0);
    } else if (req->verb == FS_WRITE) {
        job_write(req);
    } else {
        job_read(req);
    }
    if (!req->watch) {
        fs_close_fd(req);
    }
}

bool fs_step(struct fs_request *req)
{
    struct buf *data = &req->result.data;
    ssize_t n;
    if (req->verb == FS_READ) {
        n = read_some(req, CHUNK);
        if (n > 0 || (n < 0 && errno == EAGAIN)) {
            return false;
        }
        req->err = n < 0 ? errno : 0;
        return true;
    }
    n = data->len > req->offset ? write(req->fd, data->data + req->offset, data->len - req->offset)
                                : 0;
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    req->err = n < 0 ? errno : 0;
    req->offset += n > 0 ? (size_t)n : 0;
    return req->err != 0 || req->offset == data->len;
}
