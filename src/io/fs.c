#include "base/base.h"

#include "io/fs.h"

#include "io/fs_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SHOW_MAX 200

static void start_job(struct fs_request *req);

/* Memory goes when the caller has let go and neither a thread nor the loop has it. */
static void maybe_release(struct fs_request *req)
{
    if (!req->freed || req->in_job || req->polling) {
        return;
    }
    fs_close_fd(req);
    free(req->path);
    buf_release(&req->result.data);
    buf_release(&req->message);
    free(req);
}

static void show_path(const char *path, struct buf *out)
{
    size_t len = strlen(path);
    for (size_t i = 0; i < len && i < SHOW_MAX; i++) {
        unsigned char c = (unsigned char)path[i];
        buf_append_char(out, c < ' ' || c == 0x7f ? '?' : (char)c);
    }
    if (len > SHOW_MAX) {
        buf_append_str(out, "...");
    }
}

static const char *advice(const struct fs_request *req)
{
    switch (req->err) {
    case ENOENT:
        return req->writes ? "its directory does not exist: create it first"
                           : "there is no such file: check the path";
    case EISDIR:
        return "it is a directory: name a file";
    case ENOTDIR:
        return "a part of the path before the last is not a directory: check the path";
    case EACCES:
        return "permission denied: change its permissions or the user";
    case EROFS:
        return "the file system is read-only";
    case ENOSPC:
        return "no space is left on the device: make room";
    case ENXIO:
        return req->writes ? "no program has it open for reading" : "nothing is behind this device";
    case EMFILE:
    case ENFILE:
        return "too many open files: do less at once, or raise ulimit -n";
    default:
        break;
    }
    const char *text = strerrordesc_np(req->err);
    return text != NULL ? text : "unknown error";
}

static void describe(struct fs_request *req)
{
    struct buf *m = &req->message;
    buf_append_str(m, req->writes ? "cannot write '" : "cannot read '");
    show_path(req->path, m);
    buf_append_str(m, "': ");
    if (req->err == EFBIG && !req->writes) {
        buf_appendf(m, "it is larger than %zu bytes: raise max", req->max);
    } else {
        buf_append_str(m, advice(req));
    }
    req->result.code = uv_err_name(-req->err);
    req->result.message = m->data;
}

static void finish(struct fs_request *req)
{
    fs_close_fd(req);
    if (req->err != 0) {
        buf_release(&req->result.data);
        describe(req);
    } else if (req->writes) {
        buf_release(&req->result.data);
    }
    req->done(req, req->arg);
}

/* -- watched by the loop ----------------------------------------------------------------------- */

static void on_poll_closed(uv_handle_t *handle)
{
    struct fs_request *req = handle->data;
    req->polling = false;
    maybe_release(req);
}

static void stop_polling(struct fs_request *req)
{
    if (req->polling && !uv_is_closing((uv_handle_t *)&req->poll)) {
        (void)uv_poll_stop(&req->poll);
        uv_close((uv_handle_t *)&req->poll, on_poll_closed);
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct fs_request *req = poll->data;
    (void)events;
    // with a status it is at least an error or a hang-up: the call itself tells which
    (void)status;
    if (fs_step(req)) {
        stop_polling(req);
        finish(req);
    }
}

static void start_polling(struct fs_request *req)
{
    int rc = uv_poll_init(req->loop, &req->poll, req->fd);
    if (rc == UV_EPERM) {
        // /dev/null, /dev/zero: they have no epoll because they never wait
        req->unwatchable = true;
        start_job(req);
        return;
    }
    if (rc != 0) {
        req->err = -rc;
        finish(req);
        return;
    }
    req->poll.data = req;
    req->polling = true;
    rc = uv_poll_start(&req->poll, req->writes ? UV_WRITABLE : UV_READABLE, on_poll);
    if (rc != 0) {
        req->err = -rc;
        stop_polling(req);
        finish(req);
    }
}

/* -- in the pool ------------------------------------------------------------------------------- */

static void on_job(uv_work_t *work)
{
    fs_job(work->data);
}

static void on_job_done(uv_work_t *work, int status)
{
    struct fs_request *req = work->data;
    (void)status; // UV_ECANCELED only if nobody waits
    req->in_job = false;
    if (req->freed) {
        maybe_release(req);
    } else if (req->watch && req->err == 0) {
        start_polling(req);
    } else {
        finish(req);
    }
}

static void start_job(struct fs_request *req)
{
    req->watch = false;
    req->in_job = true;
    req->work.data = req;
    ASSERT(uv_queue_work(req->loop, &req->work, on_job, on_job_done) == 0);
}

static struct fs_request *request_new(uv_loop_t *loop, const char *path, fs_done_fn done, void *arg)
{
    struct fs_request *req = xcalloc(1, sizeof *req);
    req->loop = loop;
    req->path = xstrdup(path);
    req->done = done;
    req->arg = arg;
    req->fd = -1;
    req->old_flags = -1;
    atomic_init(&req->abandoned, false);
    return req;
}

struct fs_request *fs_read(uv_loop_t *loop, const char *path, size_t max, fs_done_fn done,
                           void *arg)
{
    struct fs_request *req = request_new(loop, path, done, arg);
    req->max = max;
    start_job(req);
    return req;
}

struct fs_request *fs_write(uv_loop_t *loop, const char *path, const void *data, size_t len,
                            const struct fs_write_options *options, fs_done_fn done, void *arg)
{
    struct fs_request *req = request_new(loop, path, done, arg);
    req->writes = true;
    req->options = *options;
    buf_append(&req->result.data, data, len);
    start_job(req);
    return req;
}

void fs_free(struct fs_request *req)
{
    if (req == NULL) {
        return;
    }
    req->freed = true;
    if (req->in_job) {
        atomic_store(&req->abandoned, true);
        (void)uv_cancel((uv_req_t *)&req->work); // fails when it has begun: its end is awaited
    }
    stop_polling(req);
    maybe_release(req);
}

struct fs_result *fs_result(struct fs_request *req)
{
    return &req->result;
}
