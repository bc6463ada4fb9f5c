/* What fs_watch.c (the loop's side) and fs_watch_scan.c (the threads' side) share; nobody else
 * includes it. */
#ifndef LASH_FS_WATCH_INT_H
#define LASH_FS_WATCH_INT_H

#include "base/base.h"
#include "io/fs_watch.h"

#include <stdatomic.h>

struct watched {
    int wd;
    char *below; /* owned: its path below the root, "" = the root */
};

/* Texts one after the other, each ends in a NUL. */
struct texts {
    struct buf data;
    size_t at; /* the first that was not taken */
};

/* While a job runs its thread has all the fields of the scan, `fd` to add to, and `directory`,
 * `root` and `only`; but for `abandoned` the loop has the rest, and everything otherwise. */
struct fs_watch {
    uv_poll_t poll;
    uv_work_t work;
    uv_loop_t *loop; /* borrowed */
    fs_watch_fn wake;
    void *arg;
    bool opened;
    bool handle; /* the poll handle is open, or closing */
    bool in_job;
    bool freed; /* by the caller: goes away with its last job or handle */
    bool over;
    bool keep_alive;
    bool recursive;
    atomic_bool abandoned; /* for the thread */

    char *path;           /* owned */
    char *root;           /* owned: the directory that is watched */
    char *only;           /* owned: the one name in it that counts; NULL = all */
    int fd;               /* the inotify descriptor; -1 = none yet */
    struct watched *dirs; /* owned; wd ascends */
    size_t ndirs;
    size_t dirs_cap;

    struct fs_event queue[FS_WATCH_QUEUE];
    size_t first;
    size_t count;

    struct {
        struct texts todo;     /* directories below the root to look through */
        struct texts names;    /* what was found in new ones */
        struct watched *found; /* owned; as the kernel numbered them */
        size_t nfound;
        size_t cap;
        bool silent; /* what is found is no news */
        bool again;  /* the job wants another turn */
    } scan;

    int err;         /* errno, 0 = none */
    bool no_watches; /* ENOSPC, EMFILE: limits of inotify */
    bool no_instances;
    struct buf message;
};

void texts_add(struct texts *t, const char *text);
/* The next text, valid until one is added; NULL when there is none. */
const char *texts_take(struct texts *t);

/* In a thread: opens the watch, adds what is below when that is wanted. */
void fs_watch_job_open(struct fs_watch *w);

/* In a thread: adds the directories of scan.todo, and all below. */
void fs_watch_job_scan(struct fs_watch *w);

/* fs_error.c: a sentence for w->err. */
void fs_watch_describe(struct fs_watch *w);

#endif
