/*
 * The steps by which a file is replaced: a new one beside it, with its owner and permissions, that
 * is renamed at the end. In threads of the pool.
 */
#include "base/base.h"

#include "io/fs_int.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

int fs_random_name(struct buf *name, const char *dir, size_t dir_len, const char *before,
                   const char *after)
{
    uint64_t random;
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random) {
        return errno;
    }
    buf_clear(name);
    buf_append(name, dir, dir_len);
    buf_appendf(name, "%s%016llx%s", before, (unsigned long long)random, after);
    return 0;
}

#define BEFORE ".lash-"
#define AFTER ".tmp"

bool fs_is_beside(const char *name)
{
    size_t len = strlen(name);
    return len == strlen(BEFORE) + 16 + strlen(AFTER) &&
           strncmp(name, BEFORE, strlen(BEFORE)) == 0 &&
           strcmp(name + len - strlen(AFTER), AFTER) == 0;
}

int fs_open_beside(const char *target, mode_t mode, struct buf *name)
{
    const char *slash = strrchr(target, '/');
    size_t dir = slash ? (size_t)(slash - target) + 1 : 0;
    for (int tries = 0; tries < 100; tries++) {
        int err = fs_random_name(name, target, dir, BEFORE, AFTER);
        if (err != 0) {
            errno = err;
            return -1;
        }
        int fd = open(name->data, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
        if (fd >= 0 || errno != EEXIST) {
            return fd;
        }
    }
    return -1;
}

int fs_dress(int fd, const struct stat *old, int mode)
{
    if (old != NULL && geteuid() == 0 && fchown(fd, old->st_uid, old->st_gid) != 0) {
        return errno;
    }
    if (old != NULL || mode >= 0) {
        return fchmod(fd, mode >= 0 ? (mode_t)mode : old->st_mode & 07777) != 0 ? errno : 0;
    }
    return 0;
}

bool fs_only_the_way(int err)
{
    return err == EACCES || err == EPERM || err == EROFS || err == EBUSY || err == EXDEV;
}

bool fs_must_stay(const struct stat *old)
{
    uid_t me = geteuid();
    return old->st_nlink > 1 || (me != 0 && me != old->st_uid);
}
