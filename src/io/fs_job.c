/*
 * The threads' side of fs: everything that may block on a disk. Also the single steps on watched
 * descriptors, which do not block.
 */
#include "base/base.h"

#include "io/fs_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK ((size_t)64 << 10)
#define WRITE_CHUNK ((size_t)8 << 20) /* between looks at `abandoned` */
#define OPEN_FLAGS (O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

static bool abandoned(struct fs_request *req)
{
    return atomic_load(&req->abandoned);
}

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
    while (!abandoned(req)) {
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
    while (req->offset < data->len && !abandoned(req)) {
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

/* A new file beside `target`; its name goes to `name`. Returns the descriptor or -1 with errno. */
static int open_beside(const char *target, mode_t mode, struct buf *name)
{
    const char *slash = strrchr(target, '/');
    size_t dir = slash ? (size_t)(slash - target) + 1 : 0;
    for (int tries = 0; tries < 100; tries++) {
        uint64_t random;
        if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random) {
            return -1;
        }
        buf_clear(name);
        buf_append(name, target, dir);
        buf_appendf(name, ".lash-%016llx.tmp", (unsigned long long)random);
        int fd = open(name->data, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
        if (fd >= 0 || errno != EEXIST) {
            return fd;
        }
    }
    return -1;
}

/* Errors of the way, not of the file: the file itself may still be written in place. */
static bool only_the_way(int err)
{
    return err == EACCES || err == EPERM || err == EROFS || err == EBUSY || err == EXDEV;
}

static int dress(int fd, const struct fs_request *req, const struct stat *old)
{
    if (old != NULL && geteuid() == 0 && fchown(fd, old->st_uid, old->st_gid) != 0) {
        return errno;
    }
    if (old != NULL || req->options.mode >= 0) {
        mode_t mode = mode_of(req, old != NULL ? old->st_mode & 07777 : 0666);
        return fchmod(fd, mode) != 0 ? errno : 0;
    }
    return 0;
}

/* `old`: what is there now, or NULL. Sets *in_place when that should be tried instead. */
static void replace(struct fs_request *req, const char *target, const struct stat *old,
                    bool *in_place)
{
    struct buf name = {0};
    req->fd = open_beside(target, mode_of(req, 0666), &name);
    if (req->fd < 0) {
        req->err = errno;
        *in_place = old != NULL && only_the_way(req->err);
        buf_release(&name);
        return;
    }
    req->err = dress(req->fd, req, old);
    if (req->err == 0) {
        req->err = write_all(req);
    }
    fs_close_fd(req);
    if (req->err == 0 && !abandoned(req) && rename(name.data, target) == 0) {
        buf_release(&name);
        return;
    }
    if (req->err == 0 && !abandoned(req)) {
        req->err = errno;
        *in_place = only_the_way(req->err);
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
        if (req->options.append || dangling) {
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
    uid_t me = geteuid();
    char *target = realpath(req->path, NULL);
    if (req->options.append || old->st_nlink > 1 || (me != 0 && me != old->st_uid) ||
        target == NULL) {
        in_place = true;
    } else {
        replace(req, target, old, &in_place);
    }
    free(target);
    if (in_place && !abandoned(req)) {
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
    if (req->unwatchable && req->writes) {
        req->err = write_all(req);
    } else if (req->unwatchable) {
        read_all(req, 0);
    } else if (req->writes) {
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
    if (!req->writes) {
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
