/*
 * What is said of failures: what was tried, on which path, why it did not work, what helps.
 */
#include "base/base.h"

#include "io/fs_int.h"
#include "io/fs_watch_int.h"

#include <errno.h>
#include <string.h>

#define SHOW_MAX 200

static void show_path(const char *path, struct buf *out)
{
    size_t len = strlen(path);
    buf_append_char(out, '\'');
    for (size_t i = 0; i < len && i < SHOW_MAX; i++) {
        unsigned char c = (unsigned char)path[i];
        buf_append_char(out, c < ' ' || c == 0x7f ? '?' : (char)c);
    }
    if (len > SHOW_MAX) {
        buf_append_str(out, "...");
    }
    buf_append_char(out, '\'');
}

static const char *what(enum fs_verb verb)
{
    static const char *const texts[] = {
        [FS_STAT] = "look at",
        [FS_LIST] = "list",
        [FS_MKDIR] = "make the directory",
        [FS_REMOVE] = "remove",
        [FS_RENAME] = "rename",
        [FS_COPY] = "copy",
        [FS_LINK] = "link",
        [FS_SYMLINK] = "make the link",
        [FS_READLINK] = "read the link",
        [FS_REALPATH] = "resolve",
        [FS_CHMOD] = "change the permissions of",
        [FS_GLOB] = "search",
        [FS_TEMP] = "make a temporary file in",
        [FS_READ] = "read",
        [FS_WRITE] = "write",
    };
    return texts[verb];
}

static const char *not_found(enum fs_verb verb)
{
    switch (verb) {
    case FS_WRITE:
        return "its directory does not exist: create it first";
    case FS_MKDIR:
        return "the directory above it does not exist: use { parents = true }";
    case FS_TEMP:
        return "there is no such directory: check it, or TMPDIR";
    case FS_RENAME:
    case FS_COPY:
    case FS_LINK:
        return "one of the two, or its directory, does not exist: check both paths";
    case FS_SYMLINK:
        return "the directory of the link does not exist: create it first";
    default:
        return "there is no such file: check the path";
    }
}

static const char *invalid(enum fs_verb verb)
{
    switch (verb) {
    case FS_REMOVE:
        return "a path that is empty, or ends in '.' or '..', or means '/', is never removed: name "
               "what is to go";
    case FS_READLINK:
        return "it is no symbolic link";
    case FS_COPY:
        return "only a regular file can be copied, to another file: read and write the rest";
    case FS_RENAME:
        return "a directory cannot go into itself";
    case FS_GLOB:
        return "the pattern has more than 60 parts after its first wildcard";
    default:
        return "the system does not take this path";
    }
}

static const char *advice(enum fs_verb verb, int err, bool recursive)
{
    switch (err) {
    case ENOENT:
        return not_found(verb);
    case EINVAL:
        return invalid(verb);
    case EISDIR:
        return "it is a directory: name a file";
    case ENOTDIR:
        return verb == FS_LIST ? "it is no directory"
                               : "a part of the path before the last is not a directory: check the "
                                 "path";
    case ENOTEMPTY:
        if (verb == FS_REMOVE && recursive) {
            return "somebody fills it while it is emptied";
        }
        return verb == FS_REMOVE ? "the directory is not empty: use { recursive = true }"
                                 : "there is a directory that is not empty: remove it first";
    case EEXIST:
        return "there is something of that name already: remove it first, or take another name";
    case EACCES:
        return "permission denied: change its permissions or the user";
    case EPERM:
        return "the system does not permit it to this user, or not on this file";
    case EROFS:
        return "the file system is read-only";
    case ENOSPC:
        return "no space is left on the device: make room";
    case EXDEV:
        return "they are on different file systems: copy, then remove";
    case ELOOP:
        return "its symbolic links lead in a circle";
    case ENAMETOOLONG:
        return "the path, or a name in it, is too long";
    case ESTALE:
        return "the directory was moved meanwhile: look, and try again";
    case ENXIO:
        return verb == FS_WRITE ? "no program has it open for reading"
                                : "nothing is behind this device";
    case EMFILE:
    case ENFILE:
        return "too many open files: do less at once, or raise ulimit -n";
    default:
        break;
    }
    const char *text = strerrordesc_np(err);
    return text != NULL ? text : "unknown error";
}

const char *fs_error_name(int err)
{
    const char *name = strerrorname_np(err);
    return name != NULL ? name : "EUNKNOWN";
}

void fs_describe(struct fs_request *req)
{
    struct buf *m = &req->message;
    const char *path = req->fault.len > 0 ? req->fault.data : req->path;
    buf_appendf(m, "cannot %s ", what(req->verb));
    show_path(req->verb == FS_SYMLINK ? req->other : path, m);
    if (req->verb == FS_RENAME || req->verb == FS_COPY || req->verb == FS_LINK) {
        buf_append_str(m, req->verb == FS_LINK ? " as " : " to ");
        show_path(req->other, m);
    }
    buf_append_str(m, ": ");
    if (req->err == EFBIG && req->verb == FS_READ) {
        buf_appendf(m, "it is larger than %zu bytes: raise max", req->max);
    } else if (req->err == E2BIG && (req->verb == FS_LIST || req->verb == FS_GLOB)) {
        buf_appendf(m, "there are more than %zu names: raise max", req->max);
    } else {
        buf_append_str(m, advice(req->verb, req->err, req->command.recursive));
    }
    req->result.code = fs_error_name(req->err);
    req->result.message = m->data;
}

void fs_watch_describe(struct fs_watch *w)
{
    struct buf *m = &w->message;
    buf_appendf(m, "cannot watch ");
    show_path(w->path, m);
    buf_append_str(m, ": ");
    if (w->no_watches) {
        buf_append_str(
            m, "this user watches too many directories: close watchers, or raise the sysctl "
               "fs.inotify.max_user_watches");
    } else if (w->no_instances) {
        buf_append_str(m, "this user has too many watchers: close some, or raise the sysctl "
                          "fs.inotify.max_user_instances");
    } else {
        buf_append_str(m, advice(FS_STAT, w->err, false));
    }
}
