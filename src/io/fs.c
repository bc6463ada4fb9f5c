#include "base/base.h"

#include "io/fs.h"

#include "io/fs_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void start_job(struct fs_request *req);

/* Memory goes when the caller has let go and neither a thread nor the loop has it. */
static void maybe_release(struct fs_request *req)
{
    if (!req->freed || req->in_job || req->polling) {
        return;
    }
    fs_close_fd(req);
    free(req->path);
    free(req->other);
    buf_release(&req->result.data);
    buf_release(&req->fault);
    buf_release(&req->message);
    free(req);
}

static void finish(struct fs_request *req)
{
    fs_close_fd(req);
    if (req->err != 0) {
        buf_release(&req->result.data);
        fs_describe(req);
    } else if (req->verb == FS_WRITE) {
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
    rc = uv_poll_start(&req->poll, req->verb == FS_WRITE ? UV_WRITABLE : UV_READABLE, on_poll);
    if (rc != 0) {
        req->err = -rc;
        stop_polling(req);
        finish(req);
    }
}

/* -- in the pool ------------------------------------------------------------------------------- */

/* One turn; what the job kept goes with its last one, for that may take a while too. */
static void run_job(struct fs_request *req)
{
    req->again = false;
    req->job(req);
    if (!req->again && req->state != NULL) {
        req->free_state(req->state);
        req->state = NULL;
    }
}

static void job_drop(struct fs_request *req)
{
    (void)req; // run_job() does it
}

static void on_job(uv_work_t *work)
{
    run_job(work->data);
}

static void release_or_undo(struct fs_request *req)
{
    if (req->undo || req->state != NULL) {
        req->job = req->undo ? fs_job_undo : job_drop;
        req->undo = false;
        start_job(req);
    } else {
        maybe_release(req);
    }
}

static void on_job_done(uv_work_t *work, int status)
{
    struct fs_request *req = work->data;
    (void)status; // UV_ECANCELED only if nobody waits
    req->in_job = false;
    if (req->freed) {
        release_or_undo(req);
    } else if (req->again) {
        start_job(req);
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

static struct fs_request *request_new(uv_loop_t *loop, enum fs_verb verb, const char *path,
                                      fs_done_fn done, void *arg)
{
    struct fs_request *req = xcalloc(1, sizeof *req);
    req->loop = loop;
    req->verb = verb;
    req->job = fs_job;
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
    struct fs_request *req = request_new(loop, FS_READ, path, done, arg);
    req->max = max;
    start_job(req);
    return req;
}

struct fs_request *fs_write(uv_loop_t *loop, const char *path, const void *data, size_t len,
                            const struct fs_write_options *options, fs_done_fn done, void *arg)
{
    struct fs_request *req = request_new(loop, FS_WRITE, path, done, arg);
    req->options = *options;
    buf_append(&req->result.data, data, len);
    start_job(req);
    return req;
}

static void (*job_of(enum fs_verb verb))(struct fs_request *)
{
    switch (verb) {
    case FS_LIST:
        return fs_job_list;
    case FS_REMOVE:
        return fs_job_remove;
    case FS_COPY:
        return fs_job_copy;
    case FS_GLOB:
        return fs_job_glob;
    case FS_READ:
    case FS_WRITE:
        return fs_job;
    default:
        return fs_job_path;
    }
}

static struct fs_request *command_new(uv_loop_t *loop, const struct fs_command *command,
                                      fs_done_fn done, void *arg)
{
    struct fs_request *req = request_new(loop, command->verb, command->path, done, arg);
    req->job = job_of(command->verb);
    req->command = *command;
    req->command.path = req->command.other = NULL;
    req->other = command->other != NULL ? xstrdup(command->other) : NULL;
    req->max = command->max;
    return req;
}

struct fs_request *fs_start(uv_loop_t *loop, const struct fs_command *command, fs_done_fn done,
                            void *arg)
{
    struct fs_request *req = command_new(loop, command, done, arg);
    start_job(req);
    return req;
}

static void on_discarded(struct fs_request *req, void *arg)
{
    (void)arg;
    fs_free(req);
}

void fs_discard(uv_loop_t *loop, const char *path, bool recursive, bool now)
{
    struct fs_command command = {
        .verb = FS_REMOVE, .path = path, .recursive = recursive, .mode = -1};
    struct fs_request *req = command_new(loop, &command, on_discarded, NULL);
    if (!now) {
        start_job(req);
        return;
    }
    do {
        run_job(req);
    } while (req->again);
    fs_free(req);
}

void fs_keep(struct fs_request *req)
{
    req->undo = false;
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
        return;
    }
    stop_polling(req);
    release_or_undo(req);
}

struct fs_result *fs_result(struct fs_request *req)
{
    return &req->result;
}

/* -- what the jobs share ----------------------------------------------------------------------- */

#define TURN_NS 20000000u

bool fs_turn_is_over(uint64_t began)
{
    return uv_hrtime() - began > TURN_NS;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void fs_sort(struct buf *data, size_t count, size_t skip)
{
    if (count < 2) {
        return;
    }
    char **names = xcalloc(count, sizeof *names);
    char *at = data->data;
    for (size_t i = 0; i < count; i++) {
        names[i] = at + skip;
        at += skip + strlen(at + skip) + 1;
    }
    qsort(names, count, sizeof *names, compare_texts);
    struct buf sorted = {0};
    buf_reserve(&sorted, data->len);
    for (size_t i = 0; i < count; i++) {
        buf_append(&sorted, names[i] - skip, skip + strlen(names[i]) + 1);
    }
    free(names);
    buf_move(data, &sorted);
}

char fs_type(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return 'f';
    case S_IFDIR:
        return 'd';
    case S_IFLNK:
        return 'l';
    case S_IFIFO:
        return 'p';
    case S_IFSOCK:
        return 's';
    case S_IFCHR:
    case S_IFBLK:
        return 'c';
    default:
        return '?';
    }
}

const char *fs_type_name(char type)
{
    switch (type) {
    case 'f':
        return "file";
    case 'd':
        return "directory";
    case 'l':
        return "link";
    case 'p':
        return "fifo";
    case 's':
        return "socket";
    case 'c':
        return "device";
    default:
        return "unknown";
    }
}
