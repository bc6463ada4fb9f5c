/*
 * The names in one directory, with their types. In a thread of the pool; a directory with very many
 * names takes several turns.
 */
#include "base/base.h"

#include "io/fs_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static void close_list(void *state)
{
    (void)closedir(state);
}

static char type_of(DIR *dir, const struct dirent *entry)
{
    struct stat st;
    if (entry->d_type != DT_UNKNOWN) {
        return fs_type(DTTOIF(entry->d_type));
    }
    return fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? fs_type(st.st_mode)
                                                                             : '?';
}

static bool wanted(const struct fs_request *req, const char *name)
{
    return name[0] != '.' ||
           (req->command.all && strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
}

void fs_job_list(struct fs_request *req)
{
    uint64_t began = uv_hrtime();
    if (req->state == NULL) {
        req->state = opendir(req->path);
        req->free_state = close_list;
    }
    if (req->state == NULL) {
        req->err = errno;
        return;
    }
    DIR *dir = req->state;
    struct fs_result *res = &req->result;
    for (size_t seen = 1; !fs_abandoned(req); seen++) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            req->err = errno;
            fs_sort(&res->data, res->count, 1);
            return;
        }
        if (!wanted(req, entry->d_name)) {
            continue;
        }
        if (res->count == req->max) {
            req->err = E2BIG;
            return;
        }
        buf_append_char(&res->data, type_of(dir, entry));
        buf_append(&res->data, entry->d_name, strlen(entry->d_name) + 1);
        res->count++;
        if (seen % 64 == 0 && fs_turn_is_over(began)) {
            req->again = true;
            return;
        }
    }
}
