#include "base/base.h"

#include "io/http_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHOW_MAX 200

enum job { JOB_NONE, JOB_OPEN, JOB_READ, JOB_CREATE, JOB_WRITE, JOB_COMMIT, JOB_CLEAN };

/* While a job runs its thread has it all, but for the first five. */
struct http_file {
    uv_work_t work;
    uv_loop_t *loop; /* borrowed */
    http_file_fn done;
    void *arg;
    bool freed; /* by the caller: goes away after its last job */

    enum job job;
    char *path;   /* owned */
    char *target; /* owned: what is replaced, symbolic links followed */
    char *beside; /* owned: the temporary file; NULL = none is there */
    int fd;       /* -1 = none */
    uint64_t size;
    uint64_t offset;
    size_t want;
    struct buf data; /* owned */
    int err;         /* errno, 0 = none */
    struct buf message;
};

/* -- in a thread of the pool ------------------------------------------------------------------- */

static int open_file(struct http_file *f)
{
    struct stat st;
    if (f->fd >= 0) {
        return EBUSY;
    }
    // non-blocking, or a FIFO without a writer would keep the thread
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (f->fd < 0 || fstat(f->fd, &st) != 0) {
        return errno;
    }
    if (!S_ISREG(st.st_mode)) {
        return S_ISDIR(st.st_mode) ? EISDIR : ESPIPE;
    }
    f->size = (uint64_t)st.st_size;
    return 0;
}

static int read_piece(struct http_file *f)
{
    ssize_t n;
    buf_clear(&f->data);
    buf_reserve(&f->data, f->want);
    do {
        n = pread(f->fd, f->data.data, f->want, (off_t)f->offset);
    } while (n < 0 && errno == EINTR);
    f->data.len = n > 0 ? (size_t)n : 0;
    f->data.data[f->data.len] = '\0';
    return n < 0 ? errno : 0;
}

static int open_beside(struct http_file *f)
{
    const char *slash = strrchr(f->target, '/');
    size_t dir = slash != NULL ? (size_t)(slash - f->target) + 1 : 0;
    for (int tries = 0; tries < 100; tries++) {
        uint64_t random;
        struct buf name = {0};
        if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random) {
            return errno;
        }
        buf_append(&name, f->target, dir);
        buf_appendf(&name, ".lash-%016llx.tmp", (unsigned long long)random);
        f->fd = open(name.data, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (f->fd >= 0) {
            f->beside = name.data;
            return 0;
        }
        int err = errno;
        buf_release(&name);
        if (err != EEXIST) {
            return err;
        }
    }
    return EEXIST;
}

static int dress(int fd, const struct stat *old)
{
    if (geteuid() == 0 && fchown(fd, old->st_uid, old->st_gid) != 0) {
        return errno;
    }
    return fchmod(fd, old->st_mode & 07777) != 0 ? errno : 0;
}

static int create_file(struct http_file *f)
{
    struct stat st;
    if (f->fd >= 0 || f->target != NULL) {
        return EBUSY;
    }
    bool exists = stat(f->path, &st) == 0;
    size_t len = strlen(f->path);
    if (!exists && errno != ENOENT) {
        return errno;
    }
    if (exists && !S_ISREG(st.st_mode)) {
        return S_ISDIR(st.st_mode) ? EISDIR : ESPIPE;
    }
    if (exists && faccessat(AT_FDCWD, f->path, W_OK, AT_EACCESS) != 0) {
        return errno;
    }
    if (len == 0 || f->path[len - 1] == '/') {
        return len == 0 ? ENOENT : EISDIR;
    }
    f->target = exists ? realpath(f->path, NULL) : xstrdup(f->path);
    if (f->target == NULL) {
        return errno;
    }
    int err = open_beside(f);
    return err == 0 && exists ? dress(f->fd, &st) : err;
}

static int write_piece(struct http_file *f)
{
    size_t at = 0;
    while (at < f->data.len) {
        ssize_t n = write(f->fd, f->data.data + at, f->data.len - at);
        if (n < 0 && errno != EINTR) {
            return errno;
        }
        at += n > 0 ? (size_t)n : 0;
    }
    buf_clear(&f->data);
    return 0;
}

static int commit_file(struct http_file *f)
{
    int fd = f->fd;
    if (f->beside == NULL || fd < 0) {
        return EBADF;
    }
    f->fd = -1;
    if (close(fd) != 0) { // a full quota on a network file system is told here
        return errno;
    }
    if (rename(f->beside, f->target) != 0) {
        return errno;
    }
    free(f->beside);
    f->beside = NULL;
    return 0;
}

static int clean(struct http_file *f)
{
    if (f->fd >= 0) {
        (void)close(f->fd); // nobody wants what was written
        f->fd = -1;
    }
    if (f->beside != NULL) {
        (void)unlink(f->beside); // best effort
        free(f->beside);
        f->beside = NULL;
    }
    return 0;
}

static void run_job(uv_work_t *work)
{
    static int (*const jobs[])(struct http_file *) = {
        [JOB_OPEN] = open_file,    [JOB_READ] = read_piece,    [JOB_CREATE] = create_file,
        [JOB_WRITE] = write_piece, [JOB_COMMIT] = commit_file, [JOB_CLEAN] = clean,
    };
    struct http_file *f = work->data;
    f->err = jobs[f->job](f);
}

/* -- on the loop ------------------------------------------------------------------------------- */

static void after_job(uv_work_t *work, int status);

static void start(struct http_file *f, enum job job)
{
    ASSERT(f->job == JOB_NONE);
    f->job = job;
    f->work.data = f;
    ASSERT(uv_queue_work(f->loop, &f->work, run_job, after_job) == 0);
}

static void release(struct http_file *f)
{
    free(f->path);
    free(f->target);
    buf_release(&f->data);
    buf_release(&f->message);
    free(f);
}

static const char *advice(const struct http_file *f)
{
    bool writes = f->job == JOB_CREATE;
    switch (f->err) {
    case ENOENT:
        return writes ? "its directory does not exist: create it first"
                      : "there is no such file: check the path";
    case EISDIR:
        return "it is a directory: name a file";
    case ESPIPE:
        return "it is a device or a pipe, not a file";
    case EACCES:
        return "permission denied: change its permissions or the user";
    case ENOSPC:
        return "no space is left on the device: make room";
    default:
        break;
    }
    const char *text = strerrordesc_np(f->err);
    return text != NULL ? text : "unknown error";
}

static void describe(struct http_file *f)
{
    struct buf *m = &f->message;
    buf_clear(m);
    buf_append_str(m,
                   f->job == JOB_OPEN || f->job == JOB_READ ? "cannot read '" : "cannot write '");
    for (size_t i = 0; f->path[i] != '\0' && i < SHOW_MAX; i++) {
        unsigned char c = (unsigned char)f->path[i];
        buf_append_char(m, c < ' ' || c == 0x7f ? '?' : (char)c);
    }
    buf_appendf(m, "': %s", advice(f));
}

static void after_job(uv_work_t *work, int status)
{
    struct http_file *f = work->data;
    (void)status; // it is never cancelled
    if (f->err != 0) {
        describe(f);
    }
    f->job = JOB_NONE;
    if (f->freed) {
        if (f->fd >= 0 || f->beside != NULL) {
            start(f, JOB_CLEAN);
        } else {
            release(f);
        }
        return;
    }
    f->done(f, f->arg);
}

struct http_file *http_file_new(uv_loop_t *loop, const char *path, http_file_fn done, void *arg)
{
    struct http_file *f = xcalloc(1, sizeof *f);
    f->loop = loop;
    f->done = done;
    f->arg = arg;
    f->path = xstrdup(path);
    f->fd = -1;
    return f;
}

void http_file_open(struct http_file *f)
{
    start(f, JOB_OPEN);
}

void http_file_read(struct http_file *f, uint64_t offset, size_t n)
{
    f->offset = offset;
    f->want = n;
    start(f, JOB_READ);
}

void http_file_create(struct http_file *f)
{
    start(f, JOB_CREATE);
}

void http_file_write(struct http_file *f)
{
    start(f, JOB_WRITE);
}

void http_file_commit(struct http_file *f)
{
    start(f, JOB_COMMIT);
}

void http_file_discard(struct http_file *f)
{
    start(f, JOB_CLEAN);
}

void http_file_free(struct http_file *f)
{
    if (f == NULL) {
        return;
    }
    f->freed = true;
    if (f->job != JOB_NONE) {
        return;
    }
    if (f->fd >= 0 || f->beside != NULL) {
        start(f, JOB_CLEAN);
    } else {
        release(f);
    }
}

bool http_file_busy(const struct http_file *f)
{
    return f->job != JOB_NONE;
}

struct buf *http_file_data(struct http_file *f)
{
    return &f->data;
}

uint64_t http_file_size(const struct http_file *f)
{
    return f->size;
}

const char *http_file_code(const struct http_file *f)
{
    return f->err != 0 ? uv_err_name(-f->err) : NULL;
}

const char *http_file_message(const struct http_file *f)
{
    return f->message.data;
}
