/*
 * Jobs on paths that are one system call, or a few: none of them waits for somebody.
 */
#include "base/base.h"

#include "io/fs_int.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* 0 or errno of a call that returns 0 or -1. */
static int errno_of(int rc)
{
    return rc == 0 ? 0 : errno;
}

static int job_readlink(struct fs_request *req)
{
    char target[PATH_MAX];
    ssize_t n = readlink(req->path, target, sizeof target);
    if (n < 0) {
        return errno;
    }
    buf_clear(&req->result.data);
    buf_append(&req->result.data, target, (size_t)n);
    return 0;
}

static int job_stat(struct fs_request *req)
{
    struct stat *st = &req->result.stat;
    if (req->command.follow) {
        return errno_of(stat(req->path, st));
    }
    if (lstat(req->path, st) != 0) {
        return errno;
    }
    return S_ISLNK(st->st_mode) ? job_readlink(req) : 0;
}

static int job_realpath(struct fs_request *req)
{
    char *path = realpath(req->path, NULL);
    if (path == NULL) {
        return errno;
    }
    buf_append_str(&req->result.data, path);
    free(path);
    return 0;
}

static bool is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Makes what is missing above the last part of `path`, which it changes meanwhile. */
static int make_parents(char *path)
{
    for (char *at = path + strspn(path, "/"); (at = strchr(at, '/')) != NULL;) {
        size_t slashes = strspn(at, "/");
        if (at[slashes] == '\0') {
            break;
        }
        *at = '\0';
        int err = errno_of(mkdir(path, 0777));
        bool there = err == 0 || is_directory(path);
        *at = '/';
        if (!there) {
            return err == EEXIST ? ENOTDIR : err;
        }
        at += slashes;
    }
    return 0;
}

/* The permissions of a new directory whatever the umask says; not of one that came in its place. */
static int set_mode(const char *path, int mode)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return errno;
    }
    int err = errno_of(fchmod(fd, (mode_t)mode));
    (void)close(fd); // nothing was written
    return err;
}

static int make_directory(const char *path, int mode)
{
    // for others never wider than asked for, not even for a moment
    int err = errno_of(mkdir(path, mode >= 0 ? (mode_t)mode | 0700 : 0777));
    if (err == 0 && mode >= 0 && (err = set_mode(path, mode)) != 0) {
        (void)rmdir(path); // best effort: the error is the one to report
    }
    return err;
}

static int job_mkdir(struct fs_request *req)
{
    int err = make_directory(req->path, req->command.mode);
    if (err == ENOENT && req->command.parents && req->path[0] != '\0') {
        err = make_parents(req->path);
        if (err == 0 && !fs_abandoned(req)) {
            err = make_directory(req->path, req->command.mode);
        }
    }
    return err == EEXIST && req->command.parents && is_directory(req->path) ? 0 : err;
}

static int make_temp(struct fs_request *req, const char *path)
{
    mode_t mode = (mode_t)req->command.mode;
    if (req->command.directory) {
        return make_directory(path, req->command.mode);
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0) {
        return errno;
    }
    int err = errno_of(fchmod(fd, mode));
    (void)close(fd); // nothing was written
    if (err != 0) {
        (void)unlink(path); // best effort: the error is the one to report
    }
    return err;
}

static int job_temp(struct fs_request *req)
{
    size_t len = strlen(req->path);
    struct buf dir = {0};
    if (len == 0) {
        return ENOENT;
    }
    buf_appendf(&dir, "%s%s", req->path, req->path[len - 1] == '/' ? "" : "/");
    int err = EEXIST;
    for (int tries = 0; tries < 100 && err == EEXIST; tries++) {
        err = fs_random_name(&req->result.data, dir.data, dir.len, "lash-", req->other);
        err = err == 0 ? make_temp(req, req->result.data.data) : err;
    }
    buf_release(&dir);
    req->undo = err == 0;
    return err;
}

void fs_job_undo(struct fs_request *req)
{
    // best effort: nobody is there to be told
    if (req->command.directory) {
        (void)rmdir(req->result.data.data);
    } else {
        (void)unlink(req->result.data.data);
    }
}

void fs_job_path(struct fs_request *req)
{
    switch (req->verb) {
    case FS_STAT:
        req->err = job_stat(req);
        break;
    case FS_MKDIR:
        req->err = job_mkdir(req);
        break;
    case FS_RENAME:
        req->err = errno_of(rename(req->path, req->other));
        break;
    case FS_LINK:
        req->err = errno_of(link(req->path, req->other));
        break;
    case FS_SYMLINK:
        req->err = errno_of(symlink(req->path, req->other));
        break;
    case FS_READLINK:
        req->err = job_readlink(req);
        break;
    case FS_REALPATH:
        req->err = job_realpath(req);
        break;
    case FS_CHMOD:
        req->err = errno_of(chmod(req->path, (mode_t)req->command.mode));
        break;
    case FS_TEMP:
        req->err = job_temp(req);
        break;
    default:
        panic(__FILE__, __LINE__, "verb %d is no job on a path", (int)req->verb);
    }
}
