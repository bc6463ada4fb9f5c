#include "base/base.h"

#include "io/fs_watch.h"

#include "io/fs_int.h"
#include "io/fs_watch_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#define READ_SIZE 16384

static void start_job(struct fs_watch *w);

static void forget(struct watched *dirs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(dirs[i].below);
    }
}

/* Memory goes when the caller has let go and neither a thread nor the loop has it. */
static void maybe_release(struct fs_watch *w)
{
    if (!w->freed || w->in_job || w->handle) {
        return;
    }
    if (w->fd >= 0) {
        (void)close(w->fd); // only read
    }
    forget(w->dirs, w->ndirs);
    forget(w->scan.found, w->scan.nfound);
    for (struct fs_event event; fs_watch_take(w, &event);) {
        free(event.name);
    }
    free(w->dirs);
    free(w->scan.found);
    buf_release(&w->scan.todo.data);
    buf_release(&w->scan.names.data);
    buf_release(&w->message);
    free(w->path);
    free(w->root);
    free(w->only);
    free(w);
}

/* -- the queue --------------------------------------------------------------------------------- */

static struct fs_event *queued(struct fs_watch *w, size_t i)
{
    return &w->queue[(w->first + i) % FS_WATCH_QUEUE];
}

static bool same_name(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static void push(struct fs_watch *w, enum fs_event_kind kind, const char *name)
{
    if (w->count == FS_WATCH_QUEUE) {
        return; // the last one is an overflow
    }
    for (size_t i = w->count; i > 0; i--) {
        struct fs_event *event = queued(w, i - 1);
        if (event->kind == kind && same_name(event->name, name)) {
            return;
        }
    }
    if (w->count == FS_WATCH_QUEUE - 1) {
        kind = FS_EVENT_OVERFLOW;
        name = NULL;
    }
    *queued(w, w->count++) = (struct fs_event){kind, name != NULL ? xstrdup(name) : NULL};
}

bool fs_watch_take(struct fs_watch *w, struct fs_event *event)
{
    if (w->count == 0) {
        return false;
    }
    *event = *queued(w, 0);
    w->first = (w->first + 1) % FS_WATCH_QUEUE;
    w->count--;
    return true;
}

/* -- what is watched --------------------------------------------------------------------------- */

static size_t index_of(const struct fs_watch *w, int wd)
{
    size_t low = 0;
    size_t high = w->ndirs;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (w->dirs[mid].wd < wd) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static struct watched *find(const struct fs_watch *w, int wd)
{
    size_t i = index_of(w, wd);
    return i < w->ndirs && w->dirs[i].wd == wd ? &w->dirs[i] : NULL;
}

/* Takes `below` over. The kernel counts upwards, so new ones stand at the end. */
static void keep(struct fs_watch *w, int wd, char *below)
{
    struct watched *known = find(w, wd);
    if (known != NULL) {
        free(known->below);
        known->below = below;
        return;
    }
    if (w->ndirs == w->dirs_cap) {
        w->dirs_cap = w->dirs_cap > 0 ? 2 * w->dirs_cap : 4;
        w->dirs = xrealloc(w->dirs, w->dirs_cap * sizeof *w->dirs);
    }
    size_t i = index_of(w, wd);
    memmove(&w->dirs[i + 1], &w->dirs[i], (w->ndirs - i) * sizeof *w->dirs);
    w->dirs[i] = (struct watched){wd, below};
    w->ndirs++;
}

static void drop(struct fs_watch *w, struct watched *dir)
{
    free(dir->below);
    size_t i = (size_t)(dir - w->dirs);
    memmove(dir, dir + 1, (w->ndirs - i - 1) * sizeof *dir);
    w->ndirs--;
}

/* A directory has left its place: nothing below it has the path that we know. */
static void drop_below(struct fs_watch *w, const char *below)
{
    size_t len = strlen(below);
    for (size_t i = w->ndirs; i > 0; i--) {
        struct watched *dir = &w->dirs[i - 1];
        if (strncmp(dir->below, below, len) == 0 &&
            (dir->below[len] == '\0' || dir->below[len] == '/')) {
            (void)inotify_rm_watch(w->fd, dir->wd); // fails when the kernel was quicker
            drop(w, dir);
        }
    }
}

/* -- events ------------------------------------------------------------------------------------ */

/* Of the watched directory itself. */
static void on_root(struct fs_watch *w, uint32_t mask)
{
    if ((mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED)) != 0) {
        if (!w->over) {
            push(w, FS_EVENT_RENAME, w->only);
        }
        w->over = true; // its path means something else now
    } else if (w->only == NULL) {
        push(w, FS_EVENT_CHANGE, NULL);
    }
}

static void on_name(struct fs_watch *w, const struct watched *dir, uint32_t mask, const char *name)
{
    if ((w->only != NULL && strcmp(w->only, name) != 0) || fs_is_beside(name)) {
        return;
    }
    struct buf path = {0};
    buf_appendf(&path, "%s%s%s", dir->below, dir->below[0] != '\0' ? "/" : "", name);
    bool moves = (mask & (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)) != 0;
    push(w, moves ? FS_EVENT_RENAME : FS_EVENT_CHANGE, path.data);
    if (w->recursive && w->only == NULL && (mask & IN_ISDIR) != 0) {
        if ((mask & IN_MOVED_FROM) != 0) {
            drop_below(w, path.data);
        } else if ((mask & (IN_CREATE | IN_MOVED_TO)) != 0) {
            texts_add(&w->scan.todo, path.data);
        }
    }
    buf_release(&path);
}

static void on_overflow(struct fs_watch *w)
{
    push(w, FS_EVENT_OVERFLOW, NULL);
    if (w->recursive && w->only == NULL) { // there may be directories that we were not told of
        w->scan.silent = true;
        texts_add(&w->scan.todo, "");
    }
}

static void on_event(struct fs_watch *w, const struct inotify_event *event)
{
    if ((event->mask & IN_Q_OVERFLOW) != 0) {
        on_overflow(w);
        return;
    }
    struct watched *dir = find(w, event->wd);
    if (dir == NULL || w->over) {
        return;
    }
    bool root = dir->below[0] == '\0';
    if (event->len > 0) {
        on_name(w, dir, event->mask, event->name);
    } else if (root) {
        on_root(w, event->mask);
    } else if ((event->mask & IN_IGNORED) != 0) {
        drop(w, dir);
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct fs_watch *w = poll->data;
    _Alignas(struct inotify_event) char data[READ_SIZE];
    (void)events;
    (void)status; // the read tells
    ssize_t n = read(w->fd, data, sizeof data);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n < 0) {
        w->err = errno;
    }
    for (char *at = data; at < data + n;) {
        const struct inotify_event *event = (const struct inotify_event *)at;
        on_event(w, event);
        at += sizeof *event + event->len;
    }
    if (w->err != 0) {
        fs_watch_describe(w);
        w->over = true;
    }
    if (w->over) {
        (void)uv_poll_stop(poll);
    } else if (w->scan.todo.data.len > 0) {
        // what the kernel says of new directories is not read before we know them
        (void)uv_poll_stop(poll);
        start_job(w);
    }
    if (w->count > 0 || w->over) {
        w->wake(w, w->arg);
    }
}

/* -- jobs -------------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
    struct fs_watch *w = handle->data;
    w->handle = false;
    maybe_release(w);
}

/* Takes over what a thread has found. */
static void merge(struct fs_watch *w)
{
    for (size_t i = 0; i < w->scan.nfound; i++) {
        keep(w, w->scan.found[i].wd, w->scan.found[i].below);
    }
    w->scan.nfound = 0;
    for (const char *name; (name = texts_take(&w->scan.names)) != NULL;) {
        push(w, FS_EVENT_RENAME, name);
    }
}

static void start_reading(struct fs_watch *w)
{
    int rc = 0;
    if (!w->handle) {
        rc = uv_poll_init(w->loop, &w->poll, w->fd);
        w->handle = rc == 0;
        w->poll.data = w;
    }
    rc = rc == 0 ? uv_poll_start(&w->poll, UV_READABLE, on_poll) : rc;
    w->err = -rc;
    if (w->handle) {
        fs_watch_keep_alive(w, w->keep_alive);
    }
}

static void on_job(uv_work_t *work)
{
    struct fs_watch *w = work->data;
    if (w->root == NULL) {
        fs_watch_job_open(w);
    } else {
        fs_watch_job_scan(w);
    }
}

static void on_job_done(uv_work_t *work, int status)
{
    struct fs_watch *w = work->data;
    (void)status; // UV_ECANCELED only if nobody waits
    w->in_job = false;
    if (w->freed) {
        maybe_release(w);
        return;
    }
    if (w->err == 0 && w->scan.again) {
        start_job(w);
        return;
    }
    merge(w);
    w->scan.silent = false;
    w->opened = true;
    if (w->err == 0) {
        start_reading(w);
    }
    if (w->err != 0) {
        fs_watch_describe(w);
        w->over = true;
    }
    w->wake(w, w->arg);
}

static void start_job(struct fs_watch *w)
{
    w->in_job = true;
    w->work.data = w;
    ASSERT(uv_queue_work(w->loop, &w->work, on_job, on_job_done) == 0);
}

/* -- the caller's side ------------------------------------------------------------------------- */

struct fs_watch *fs_watch_start(uv_loop_t *loop, const char *path, bool recursive, fs_watch_fn wake,
                                void *arg)
{
    struct fs_watch *w = xcalloc(1, sizeof *w);
    w->loop = loop;
    w->wake = wake;
    w->arg = arg;
    w->recursive = recursive;
    w->fd = -1;
    w->path = xstrdup(path);
    for (size_t len = strlen(path); len > 1 && w->path[len - 1] == '/'; len--) {
        w->path[len - 1] = '\0';
    }
    atomic_init(&w->abandoned, false);
    start_job(w);
    return w;
}

void fs_watch_free(struct fs_watch *w)
{
    if (w == NULL) {
        return;
    }
    w->freed = true;
    if (w->in_job) {
        atomic_store(&w->abandoned, true);
        (void)uv_cancel((uv_req_t *)&w->work); // fails when it has begun: its end is awaited
    }
    if (w->handle && !uv_is_closing((uv_handle_t *)&w->poll)) {
        uv_close((uv_handle_t *)&w->poll, on_closed);
    }
    maybe_release(w);
}

void fs_watch_keep_alive(struct fs_watch *w, bool alive)
{
    w->keep_alive = alive;
    if (w->handle && alive) {
        uv_ref((uv_handle_t *)&w->poll);
    } else if (w->handle) {
        uv_unref((uv_handle_t *)&w->poll);
    }
}

bool fs_watch_is_open(const struct fs_watch *w)
{
    return w->opened;
}

bool fs_watch_is_over(const struct fs_watch *w)
{
    return w->over && w->count == 0;
}

bool fs_watch_is_directory(const struct fs_watch *w)
{
    return w->only == NULL;
}

const char *fs_watch_path(const struct fs_watch *w)
{
    return w->path;
}

const char *fs_watch_code(const struct fs_watch *w)
{
    return w->err != 0 ? fs_error_name(w->err) : NULL;
}

const char *fs_watch_message(const struct fs_watch *w)
{
    return w->message.data;
}
