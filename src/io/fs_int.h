/* What the files of fs share: fs.c is the loop's side, all others run in threads of the pool, but
 * for fs_step(). Nobody else includes it. */
#ifndef LASH_FS_INT_H
#define LASH_FS_INT_H

#include "base/base.h"
#include "io/fs.h"

#include <stdatomic.h>

/* While a job runs its thread has it all, but for `abandoned`. Otherwise the loop has it. */
struct fs_request {
    uv_work_t work;
    uv_poll_t poll;
    uv_loop_t *loop; /* borrowed */
    fs_done_fn done;
    void *arg;
    enum fs_verb verb;
    void (*job)(struct fs_request *req); /* in a thread: all of it, or one turn */
    bool in_job;
    bool polling;          /* the poll handle is open, or closing */
    bool freed;            /* by the caller: goes away with its last job or handle */
    atomic_bool abandoned; /* for the thread: nobody wants the result */

    char *path;                /* owned */
    char *other;               /* owned; NULL = the command has none */
    struct fs_command command; /* its texts are NULL: see above */
    bool again;                /* the job wants another turn in the pool */
    void *state;               /* owned: what a job keeps from turn to turn */
    void (*free_state)(void *state);
    bool undo; /* FS_TEMP: what was made goes with the request */

    size_t max;
    struct fs_write_options options;
    int fd;           /* -1 = none */
    bool watch;       /* the job left an open fd that may wait for somebody */
    bool unwatchable; /* epoll does not take it: it never waits */
    int old_flags;    /* of a descriptor that we share with others; -1 = it is our own */
    size_t offset;    /* written so far */
    int err;          /* errno, 0 = none */
    struct fs_result result;
    struct buf fault;   /* owned: the path that err is about, when that is not `path` */
    struct buf message; /* owned: result.message */
};

/* fs_job.c: reads and writes it all, or opens `fd` and sets `watch`. */
void fs_job(struct fs_request *req);

/* One read or write of a watched descriptor. Returns true when the request is over. */
bool fs_step(struct fs_request *req);

/* Closes the descriptor, if there is one. */
void fs_close_fd(struct fs_request *req);

/* fs_beside.c: replacing a file by a new one. */

/* A new file beside `target`; its name goes to `name`. Returns the descriptor or -1 with errno. */
int fs_open_beside(const char *target, mode_t mode, struct buf *name);

/* A name in `dir` (which ends in a slash or is empty) that nobody has: before ++ 16 digits ++
 * after. Returns 0 or errno. */
int fs_random_name(struct buf *name, const char *dir, size_t dir_len, const char *before,
                   const char *after);

/* True for the names that fs_open_beside() gives. */
bool fs_is_beside(const char *name);

/* Gives the new file the owner of the old one (NULL: there was none) and the permissions `mode`, or
 * with -1 those of the old one. Returns 0 or errno. */
int fs_dress(int fd, const struct stat *old, int mode);

/* Errors of the way, not of the file: the file itself may still be written in place. */
bool fs_only_the_way(int err);

/* Whether `old` has to be written in place: it has several names, or another owner. */
bool fs_must_stay(const struct stat *old);

/* The other jobs, one each. */
void fs_job_path(struct fs_request *req);   /* fs_path.c: what is one system call, or few */
void fs_job_list(struct fs_request *req);   /* fs_list.c */
void fs_job_remove(struct fs_request *req); /* fs_tree.c */
void fs_job_copy(struct fs_request *req);   /* fs_copy.c */
void fs_job_glob(struct fs_request *req);   /* fs_glob.c */
void fs_job_undo(struct fs_request *req);   /* fs_path.c: FS_TEMP again, nobody wants it */

/* True when a job has had its turn: it sets `again` and goes on in the next one. `began` =
 * uv_hrtime() of its begin. */
bool fs_turn_is_over(uint64_t began);

/* Sorts `count` texts that each end in a NUL and begin with `skip` bytes that do not count. */
void fs_sort(struct buf *data, size_t count, size_t skip);

static inline bool fs_abandoned(struct fs_request *req)
{
    return atomic_load(&req->abandoned);
}

/* fs_error.c: code and message for req->err; "ENOENT" ... for an errno. */
void fs_describe(struct fs_request *req);
const char *fs_error_name(int err);

#endif
