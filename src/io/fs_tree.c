/*
 * Removing a file or a tree. In threads of the pool, in turns.
 *
 * Every step is made from the descriptor of a directory that was opened without following links, so
 * whatever others put in the place of a directory meanwhile, nothing outside of the tree is
 * touched. Of a deep tree only the innermost directories stay open; an outer one is opened again
 * from the inner one, and has to be the same as before.
 */
#include "base/base.h"

#include "io/fs_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPEN_MAX_LEVELS 32
#define OPEN_DIR (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

struct level {
    DIR *dir; /* owned; NULL while it is closed */
    dev_t dev;
    ino_t ino;
    size_t name;   /* where its name begins in tree.path */
    bool progress; /* something was removed since it was read from its beginning */
};

struct tree {
    int above; /* owned: the directory that the root is in */
    char *root;
    struct level *levels; /* owned */
    size_t depth;
    size_t cap;
    struct buf path; /* of the innermost directory, below `above` */
};

static void tree_free(void *state)
{
    struct tree *t = state;
    for (size_t i = 0; i < t->depth; i++) {
        if (t->levels[i].dir != NULL) {
            (void)closedir(t->levels[i].dir);
        }
    }
    if (t->above >= 0) {
        (void)close(t->above); // only looked into
    }
    free(t->levels);
    free(t->root);
    buf_release(&t->path);
    free(t);
}

static int is_root(const struct stat *st)
{
    struct stat root;
    return stat("/", &root) == 0 && root.st_dev == st->st_dev && root.st_ino == st->st_ino;
}

/* Splits the path into the directory, which is opened, and the last part. Returns 0 or errno. */
static int split(struct fs_request *req, struct tree *t, bool *slash)
{
    char *path = xstrdup(req->path);
    size_t len = strlen(path);
    *slash = len > 0 && path[len - 1] == '/';
    while (len > 0 && path[len - 1] == '/') {
        path[--len] = '\0';
    }
    char *last = strrchr(path, '/');
    t->root = xstrdup(last != NULL ? last + 1 : path);
    int err = 0;
    if (t->root[0] == '\0' || strcmp(t->root, ".") == 0 || strcmp(t->root, "..") == 0) {
        err = EINVAL;
    } else {
        const char *dir = last == NULL ? "." : last == path ? "/" : path;
        if (last != NULL && last != path) {
            *last = '\0';
        }
        t->above = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        err = t->above < 0 ? errno : 0;
    }
    free(path);
    return err;
}

/* The descriptor of the directory that holds the innermost one. */
static int outer_fd(const struct tree *t)
{
    if (t->depth < 2) {
        return t->above;
    }
    DIR *outer = t->levels[t->depth - 2].dir;
    ASSERT(outer != NULL); // leave() has opened it
    return dirfd(outer);
}

static int open_level(struct level *level, int at, const char *name)
{
    int fd = openat(at, name, OPEN_DIR);
    struct stat st;
    if (fd < 0) {
        return errno;
    }
    if (fstat(fd, &st) != 0 || (level->dir = fdopendir(fd)) == NULL) {
        int err = errno;
        (void)close(fd); // only looked into
        return err;
    }
    level->progress = false;
    if (level->ino != 0 && (level->ino != st.st_ino || level->dev != st.st_dev)) {
        return ESTALE;
    }
    level->ino = st.st_ino;
    level->dev = st.st_dev;
    return 0;
}

/* Goes into the directory `name` of the innermost one. */
static int enter(struct tree *t, const char *name)
{
    if (t->depth == t->cap) {
        t->cap = t->cap > 0 ? 2 * t->cap : 16;
        t->levels = xrealloc(t->levels, t->cap * sizeof *t->levels);
    }
    int at = t->depth > 0 ? dirfd(t->levels[t->depth - 1].dir) : t->above;
    struct level level = {.name = t->path.len};
    int err = open_level(&level, at, name);
    if (err != 0) {
        return err;
    }
    buf_appendf(&t->path, "%s%s", t->depth > 0 ? "/" : "", name);
    t->levels[t->depth++] = level;
    if (t->depth > OPEN_MAX_LEVELS) {
        struct level *outer = &t->levels[t->depth - 1 - OPEN_MAX_LEVELS];
        (void)closedir(outer->dir);
        outer->dir = NULL;
    }
    return 0;
}

/* The innermost directory is empty: back to the one around it, and there it is removed. */
static int leave(struct tree *t)
{
    struct level *inner = &t->levels[t->depth - 1];
    if (t->depth >= 2 && t->levels[t->depth - 2].dir == NULL) {
        int err = open_level(&t->levels[t->depth - 2], dirfd(inner->dir), "..");
        if (err != 0) {
            return err;
        }
    }
    const char *name = t->depth >= 2 ? t->path.data + inner->name + 1 : t->root;
    if (unlinkat(outer_fd(t), name, AT_REMOVEDIR) != 0 && errno != ENOENT) {
        if ((errno == ENOTEMPTY || errno == EEXIST) && inner->progress) {
            inner->progress = false; // names were passed over, or came meanwhile
            rewinddir(inner->dir);
            return 0;
        }
        return errno;
    }
    (void)closedir(inner->dir);
    t->path.len = inner->name;
    t->path.data[t->path.len] = '\0';
    t->depth--;
    if (t->depth > 0) {
        t->levels[t->depth - 1].progress = true;
    }
    return 0;
}

/* Removes one name, or goes into it. */
static int remove_one(struct tree *t, int at, const char *name, bool directory)
{
    if (!directory) {
        if (unlinkat(at, name, 0) == 0 || errno == ENOENT) {
            t->levels[t->depth - 1].progress = true;
            return 0;
        }
        if (errno != EISDIR && errno != EPERM) { // EPERM: what POSIX says of directories
            return errno;
        }
        int err = errno;
        struct stat st;
        if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(st.st_mode)) {
            return err;
        }
    }
    int err = enter(t, name);
    if (err == ENOTDIR || err == ELOOP) { // something else came in its place
        err = unlinkat(at, name, 0) == 0 ? 0 : errno;
        t->levels[t->depth - 1].progress = true;
    }
    return err == ENOENT ? 0 : err;
}

/* One step; the name that it was about goes to `name` when it fails. */
static int step(struct tree *t, struct buf *name)
{
    struct level *level = &t->levels[t->depth - 1];
    ASSERT(level->dir != NULL); // the innermost ones are open
    errno = 0;
    struct dirent *entry = readdir(level->dir);
    buf_clear(name);
    if (entry == NULL) {
        return errno != 0 ? errno : leave(t);
    }
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
        return 0;
    }
    buf_append_str(name, entry->d_name);
    return remove_one(t, dirfd(level->dir), name->data, entry->d_type == DT_DIR);
}

static int begin(struct fs_request *req, struct tree *t)
{
    bool slash;
    struct stat st;
    int err = split(req, t, &slash);
    if (err != 0) {
        return err;
    }
    if (fstatat(t->above, t->root, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno;
    }
    if (is_root(&st)) {
        return EINVAL;
    }
    if (!S_ISDIR(st.st_mode)) {
        return slash ? ENOTDIR : unlinkat(t->above, t->root, 0) == 0 ? 0 : errno;
    }
    if (!req->command.recursive) {
        return unlinkat(t->above, t->root, AT_REMOVEDIR) == 0 ? 0 : errno;
    }
    return enter(t, t->root);
}

/* Says in the message where in the tree it was. */
static void name_fault(struct fs_request *req, const struct tree *t, const struct buf *name)
{
    const char *below = t->depth > 1 ? t->path.data + t->levels[1].name : "";
    buf_appendf(&req->fault, "%s%s%s%s", req->path, below, name->len > 0 ? "/" : "",
                name->len > 0 ? name->data : "");
}

void fs_job_remove(struct fs_request *req)
{
    uint64_t began = uv_hrtime();
    struct tree *t = req->state;
    if (t == NULL) {
        t = req->state = xcalloc(1, sizeof *t);
        req->free_state = tree_free;
        t->above = -1;
        req->err = begin(req, t);
    }
    struct buf name = {0};
    while (req->err == 0 && t->depth > 0 && !fs_abandoned(req)) {
        if (fs_turn_is_over(began)) {
            req->again = true;
            break;
        }
        req->err = step(t, &name);
        if (req->err != 0) {
            name_fault(req, t, &name);
        }
    }
    buf_release(&name);
}
