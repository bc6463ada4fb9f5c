/*
 * The threads' side of fs_watch: finding out what there is to watch, and adding it.
 */
#include "base/base.h"

#include "io/fs_int.h"
#include "io/fs_watch_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define MASK                                                                         \
    (IN_ATTRIB | IN_CREATE | IN_MODIFY | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | \
     IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR)

void texts_add(struct texts *t, const char *text)
{
    buf_append(&t->data, text, strlen(text) + 1);
}

const char *texts_take(struct texts *t)
{
    if (t->at == t->data.len) {
        buf_clear(&t->data);
        t->at = 0;
        return NULL;
    }
    const char *text = t->data.data + t->at;
    t->at += strlen(text) + 1;
    return text;
}

static void found(struct fs_watch *w, int wd, const char *below)
{
    if (w->scan.nfound == w->scan.cap) {
        w->scan.cap = w->scan.cap > 0 ? 2 * w->scan.cap : 16;
        w->scan.found = xrealloc(w->scan.found, w->scan.cap * sizeof *w->scan.found);
    }
    w->scan.found[w->scan.nfound++] = (struct watched){wd, xstrdup(below)};
}

static bool is_directory(DIR *dir, const struct dirent *entry)
{
    struct stat st;
    if (entry->d_type != DT_UNKNOWN) {
        return entry->d_type == DT_DIR;
    }
    return fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/* What is in a directory that was just added: it may have come before the watch saw it. */
static int look_through(struct fs_watch *w, const char *path, const char *below)
{
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return errno;
    }
    struct buf name = {0};
    struct dirent *entry;
    while (!atomic_load(&w->abandoned) && (errno = 0, entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            fs_is_beside(entry->d_name)) {
            continue;
        }
        buf_clear(&name);
        buf_appendf(&name, "%s%s%s", below, below[0] != '\0' ? "/" : "", entry->d_name);
        if (is_directory(dir, entry)) {
            texts_add(&w->scan.todo, name.data);
        }
        if (!w->scan.silent) {
            texts_add(&w->scan.names, name.data);
        }
    }
    int err = errno;
    (void)closedir(dir);
    buf_release(&name);
    return err;
}

/* Directories that come and go, or may not be read, are no failure of the watch. */
static bool passed_over(int err)
{
    return err == ENOENT || err == ENOTDIR || err == EACCES || err == ELOOP;
}

static int add(struct fs_watch *w, const char *below)
{
    struct buf path = {0};
    bool root = below[0] == '\0';
    buf_appendf(&path, "%s%s%s", w->root, root ? "" : "/", below);
    int wd = inotify_add_watch(w->fd, path.data, MASK | (root ? 0 : IN_DONT_FOLLOW));
    int err = wd < 0 ? errno : 0;
    if (err == 0) {
        found(w, wd, below);
        err = w->recursive && w->only == NULL ? look_through(w, path.data, below) : 0;
    } else {
        w->no_watches = err == ENOSPC;
    }
    buf_release(&path);
    return passed_over(err) && !root ? 0 : err;
}

void fs_watch_job_scan(struct fs_watch *w)
{
    uint64_t began = uv_hrtime();
    w->scan.again = false;
    while (w->err == 0 && !atomic_load(&w->abandoned)) {
        if (fs_turn_is_over(began)) {
            w->scan.again = true;
            return;
        }
        const char *next = texts_take(&w->scan.todo);
        if (next == NULL) {
            return;
        }
        char *below = xstrdup(next);
        w->err = add(w, below);
        free(below);
    }
}

/* A file is watched through its directory. */
static int find_root(struct fs_watch *w)
{
    struct stat st;
    if (stat(w->path, &st) != 0) {
        return errno;
    }
    w->root = S_ISDIR(st.st_mode) ? xstrdup(w->path) : realpath(w->path, NULL);
    if (w->root == NULL) {
        return errno;
    }
    if (!S_ISDIR(st.st_mode)) {
        char *slash = strrchr(w->root, '/');
        w->only = xstrdup(slash + 1);
        slash[slash == w->root ? 1 : 0] = '\0';
    }
    return 0;
}

static int open_inotify(struct fs_watch *w)
{
    w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (w->fd >= 0) {
        return 0;
    }
    int err = errno;
    if (err == EMFILE) { // of this process, or of the user's inotify?
        int fd = open("/", O_PATH | O_CLOEXEC);
        w->no_instances = fd >= 0;
        if (fd >= 0) {
            (void)close(fd); // only a question
        }
    }
    return err;
}

void fs_watch_job_open(struct fs_watch *w)
{
    w->err = find_root(w);
    w->err = w->err == 0 ? open_inotify(w) : w->err;
    if (w->err == 0) {
        w->scan.silent = true;
        texts_add(&w->scan.todo, "");
        fs_watch_job_scan(w);
    }
}
