/*
 * fs_watch: what happens to a file, in a directory, or in a tree, as events. By inotify: one
 * descriptor a watch. Loop thread only; directories are looked through in libuv's thread pool.
 *
 * Events wait in a queue of FS_WATCH_QUEUE; the same event is there once. What does not fit, and
 * what the kernel had no room for, is told by one event FS_EVENT_OVERFLOW in its place. Of the
 * files that fs_write() and its like make on the way nothing is told, only of what they replace.
 */
#ifndef LASH_FS_WATCH_H
#define LASH_FS_WATCH_H

#include "base/base.h"
#include "base/buf.h"

#include <uv.h>

enum { FS_WATCH_QUEUE = 1024 };

struct fs_watch;

/* It has opened (or could not), there are events, or nothing comes any more. May call any function
 * here but fs_watch_start(). */
typedef void (*fs_watch_fn)(struct fs_watch *watch, void *arg);

enum fs_event_kind {
    FS_EVENT_CHANGE,   /* the contents, or permissions, times ... of something */
    FS_EVENT_RENAME,   /* something came, went, or has another name */
    FS_EVENT_OVERFLOW, /* events were lost here: look at everything again */
};

struct fs_event {
    enum fs_event_kind kind;
    char *name; /* below the watched directory; of a watched file its own; NULL = the watched
                   directory itself, or an overflow. Owned by the receiver */
};

/* Watches `path`, a directory or a file; with `recursive` all that is below too, links not
 * followed. A file is watched by its name, so that replacing it does not end the watch. */
struct fs_watch *fs_watch_start(uv_loop_t *loop, const char *path, bool recursive, fs_watch_fn wake,
                                void *arg);

/* True once it is open, or could not be. */
bool fs_watch_is_open(const struct fs_watch *watch);

/* The error that ended it, or NULL. */
const char *fs_watch_code(const struct fs_watch *watch);
const char *fs_watch_message(const struct fs_watch *watch);

/* The path of the start, without slashes at its end. */
const char *fs_watch_path(const struct fs_watch *watch);

/* True when `path` is a directory: names of events are below it. */
bool fs_watch_is_directory(const struct fs_watch *watch);

/* Takes the next event out. Returns false when there is none now. */
bool fs_watch_take(struct fs_watch *watch, struct fs_event *event);

/* True when no event will come any more: the watched directory is gone, or it failed. */
bool fs_watch_is_over(const struct fs_watch *watch);

/* Whether the loop stays alive for it: while somebody waits for an event. */
void fs_watch_keep_alive(struct fs_watch *watch, bool alive);

/* Ends it; `wake` is not called any more. NULL is ignored. */
void fs_watch_free(struct fs_watch *watch);

#endif
