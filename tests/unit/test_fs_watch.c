#include "base/base.h"

#include "io/fs.h"
#include "io/fs_watch.h"

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What the next calls of inotify fail with: limits of the system are not ours to reach. */
static int fail_add;
static int fail_init;

int inotify_add_watch(int fd, const char *path, uint32_t mask)
{
    if (fail_add != 0) {
        errno = fail_add;
        return -1;
    }
    return (int)syscall(SYS_inotify_add_watch, fd, path, mask);
}

int inotify_init1(int flags)
{
    if (fail_init != 0) {
        errno = fail_init;
        return -1;
    }
    return (int)syscall(SYS_inotify_init1, flags);
}

/* Each case works in an empty directory of its own. */
struct world {
    uv_loop_t loop;
    char dir[256];
    struct fs_watch *watch;
    int wakes;
};

static void count_wakes(struct fs_watch *watch, void *arg)
{
    struct world *w = arg;
    (void)watch;
    w->wakes++;
}

static void start(struct world *w)
{
    memset(w, 0, sizeof *w);
    test_enter_dir(w->dir, sizeof w->dir);
    ASSERT_INT(uv_loop_init(&w->loop), 0);
}

static void open_watch(struct world *w, const char *path, bool recursive)
{
    w->watch = fs_watch_start(&w->loop, path, recursive, count_wakes, w);
    while (!fs_watch_is_open(w->watch)) {
        ASSERT_TRUE(uv_run(&w->loop, UV_RUN_ONCE) != 0 || fs_watch_is_open(w->watch));
    }
    fs_watch_keep_alive(w->watch, true);
}

static void stop(struct world *w)
{
    fs_watch_free(w->watch);
    ASSERT_INT(chdir("/"), 0);
    fs_discard(&w->loop, w->dir, true, false);
    ASSERT_INT(uv_run(&w->loop, UV_RUN_DEFAULT), 0);
    ASSERT_INT(uv_loop_close(&w->loop), 0);
    ASSERT_TRUE(access(w->dir, F_OK) != 0);
}

/* Waits until this event comes; what comes before is passed over, and counted. */
static int until(struct world *w, enum fs_event_kind kind, const char *name)
{
    for (int before = 0;; before++) {
        struct fs_event event;
        while (!fs_watch_take(w->watch, &event)) {
            ASSERT_TRUE(!fs_watch_is_over(w->watch));
            uv_run(&w->loop, UV_RUN_ONCE);
        }
        bool same = event.kind == kind && (event.name == NULL) == (name == NULL) &&
                    (name == NULL || strcmp(event.name, name) == 0);
        free(event.name);
        if (same) {
            return before;
        }
    }
}

static void write_to(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    ASSERT_TRUE(fd >= 0);
    ASSERT_INT(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

TEST(fs_watch_directory)
{
    struct world w;
    start(&w);
    open_watch(&w, ".///", false);
    ASSERT_STR(fs_watch_path(w.watch), ".");
    ASSERT_TRUE(fs_watch_is_directory(w.watch));
    write_to("a", "x");
    ASSERT_INT(until(&w, FS_EVENT_RENAME, "a"), 0);
    ASSERT_INT(until(&w, FS_EVENT_CHANGE, "a"), 0);
    ASSERT_INT(rename("a", "b"), 0);
    ASSERT_INT(until(&w, FS_EVENT_RENAME, "a"), 0);
    ASSERT_INT(until(&w, FS_EVENT_RENAME, "b"), 0);
    ASSERT_INT(chmod("b", 0600), 0);
    ASSERT_INT(until(&w, FS_EVENT_CHANGE, "b"), 0);
    ASSERT_INT(mkdir("d", 0755), 0);
    write_to("d/deep", "x"); // not asked for
    ASSERT_INT(unlink("b"), 0);
    ASSERT_INT(until(&w, FS_EVENT_RENAME, "d"), 0);
    ASSERT_INT(until(&w, FS_EVENT_RENAME, "b"), 0);
    stop(&w);
}

/* The name counts, whichever file has it. */
TEST(fs_watch_file)
{
    struct world w;
    start(&w);
    write_to("conf", "x");
    ASSERT_INT(mkdir("other", 0755), 0);
    ASSERT_INT(symlink("../conf", "other/link"), 0);
    open_watch(&w, "other/link", true);
    ASSERT_TRUE(!fs_watch_is_directory(w.watch));
    write_to("unrelated", "x");
    for (int i = 0; i < 2; i++) {
        write_to("new", "y");
        ASSERT_INT(rename("new", "conf"), 0);
        ASSERT_INT(until(&w, FS_EVENT_RENAME, "conf"), 0);
        write_to("conf", "y");
        ASSERT_INT(until(&w, FS_EVENT_CHANGE, "conf"), 0);
    }
    ASSERT_INT(unlink("conf"), 0);
    until(&w, FS_EVENT_RENAME, "conf");
    write_to("conf", "z");
    until(&w, FS_EVENT_RENAME, "conf");
    stop(&w);
}

TEST(fs_watch_tree)
{
    struct world w;
    start(&w);
    ASSERT_INT(mkdir("t", 0755), 0);
    ASSERT_INT(mkdir("t/a", 0755), 0);
    ASSERT_INT(symlink(".", "t/a/loop"), 0);
    open_watch(&w, "t", true);
    write_to("t/a/f", "x");
    ASSERT_INT(until(&w, FS_EVENT_RENAME, "a/f"), 0);
    // a tree that comes at once: what was in it before it was watched is told too
    ASSERT_INT(mkdir("new", 0755), 0);
    ASSERT_INT(mkdir("new/b", 0755), 0);
    write_to("new/b/f", "x");
    ASSERT_INT(rename("new", "t/new"), 0);
    until(&w, FS_EVENT_RENAME, "new");
    until(&w, FS_EVENT_RENAME, "new/b/f");
    write_to("t/new/b/f", "y");
    until(&w, FS_EVENT_CHANGE, "new/b/f");
    // moved: known by its new name only
    ASSERT_INT(rename("t/new/b", "t/a/c"), 0);
    until(&w, FS_EVENT_RENAME, "a/c/f");
    write_to("t/a/c/f", "z");
    ASSERT_INT(until(&w, FS_EVENT_CHANGE, "a/c/f"), 0);
    // moved out: not ours any more
    ASSERT_INT(rename("t/a/c", "c"), 0);
    until(&w, FS_EVENT_RENAME, "a/c");
    write_to("c/f", "z");
    write_to("t/end", "z");
    ASSERT_INT(until(&w, FS_EVENT_RENAME, "end"), 0);
    ASSERT_INT(unlink("t/end"), 0);
    ASSERT_INT(unlink("t/a/f"), 0);
    ASSERT_INT(unlink("t/a/loop"), 0);
    ASSERT_INT(rmdir("t/a"), 0);
    ASSERT_INT(rmdir("t/new"), 0);
    ASSERT_INT(rmdir("t"), 0);
    until(&w, FS_EVENT_RENAME, NULL); // itself
    ASSERT_TRUE(fs_watch_is_over(w.watch) && fs_watch_code(w.watch) == NULL);
    stop(&w);
}

TEST(fs_watch_full_queue)
{
    struct world w;
    start(&w);
    open_watch(&w, w.dir, false);
    char old[16] = "0";
    ASSERT_INT(mkdir(old, 0755), 0);
    for (int i = 1; i < FS_WATCH_QUEUE + 100; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "%d", i);
        ASSERT_INT(rename(old, name), 0);
        memcpy(old, name, sizeof old);
    }
    int wakes = w.wakes;
    while (w.wakes == wakes) {
        uv_run(&w.loop, UV_RUN_ONCE);
    }
    for (int i = 0; i < 100; i++) { // all that the kernel has
        uv_run(&w.loop, UV_RUN_NOWAIT);
    }
    ASSERT_INT(until(&w, FS_EVENT_OVERFLOW, NULL), FS_WATCH_QUEUE - 1);
    struct fs_event event;
    ASSERT_TRUE(!fs_watch_take(w.watch, &event));
    ASSERT_INT(rmdir(old), 0);
    ASSERT_INT(until(&w, FS_EVENT_RENAME, old), 0);
    stop(&w);
}

static int kernel_queue(void)
{
    int size = 0;
    FILE *file = fopen("/proc/sys/fs/inotify/max_queued_events", "r");
    if (file == NULL || fscanf(file, "%d", &size) != 1) {
        size = 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    return size;
}

/* The kernel drops events: that is told, and directories of which nothing was told are found. */
TEST(fs_watch_full_kernel)
{
    struct world w;
    int size = kernel_queue();
    if (size < 1 || size > 100000) {
        printf("skipped: the queue of the kernel has no size that can be filled\n");
        exit(77);
    }
    start(&w);
    open_watch(&w, w.dir, true);
    write_to("a", "");
    write_to("b", "");
    int a = open("a", O_WRONLY | O_CLOEXEC);
    int b = open("b", O_WRONLY | O_CLOEXEC);
    for (int i = 0; i < size / 2 + 2; i++) { // by turns: equal neighbours are one event
        ASSERT_INT(write(a, "x", 1), 1);
        ASSERT_INT(write(b, "x", 1), 1);
    }
    close(a);
    close(b);
    ASSERT_INT(mkdir("unseen", 0755), 0);
    // of our own queue it would be more
    ASSERT_TRUE(until(&w, FS_EVENT_OVERFLOW, NULL) < FS_WATCH_QUEUE - 1);
    // it is looked for while nothing is read; a write that comes too early is not seen, so try
    // again
    struct fs_event event;
    bool seen = false;
    for (int i = 0; !seen && i < 10000; i++) {
        write_to("unseen/f", "x");
        uv_run(&w.loop, UV_RUN_NOWAIT);
        while (fs_watch_take(w.watch, &event)) {
            seen = seen || (event.name != NULL && strcmp(event.name, "unseen/f") == 0);
            free(event.name);
        }
        if (!seen) {
            usleep(1000);
        }
    }
    ASSERT_TRUE(seen);
    stop(&w);
}

static void expect_failure(struct world *w, const char *path, const char *code, const char *part)
{
    open_watch(w, path, false);
    ASSERT_TRUE(fs_watch_is_over(w->watch));
    ASSERT_STR(fs_watch_code(w->watch), code);
    if (strstr(fs_watch_message(w->watch), part) == NULL) {
        test_fail(__FILE__, __LINE__, "'%s' is not in: %s", part, fs_watch_message(w->watch));
    }
    fs_watch_free(w->watch);
    w->watch = NULL;
}

TEST(fs_watch_names_the_trouble)
{
    struct world w;
    start(&w);
    expect_failure(&w, "none", "ENOENT", "cannot watch 'none': there is no such file");
    expect_failure(&w, "", "ENOENT", "cannot watch ''");
    fail_add = ENOSPC;
    expect_failure(&w, ".", "ENOSPC", "raise the sysctl fs.inotify.max_user_watches");
    fail_add = 0;
    fail_init = EMFILE;
    expect_failure(&w, ".", "EMFILE", "raise the sysctl fs.inotify.max_user_instances");
    fail_init = 0;
    // the limit is reached later, by a directory that comes
    open_watch(&w, ".", true);
    fail_add = ENOSPC;
    ASSERT_INT(mkdir("d", 0755), 0);
    until(&w, FS_EVENT_RENAME, "d");
    while (!fs_watch_is_over(w.watch)) {
        uv_run(&w.loop, UV_RUN_ONCE);
    }
    ASSERT_STR(fs_watch_code(w.watch), "ENOSPC");
    fail_add = 0;
    stop(&w);
}

TEST(fs_watch_given_up)
{
    struct world w;
    start(&w);
    for (int i = 0; i < 40; i++) {
        w.watch = fs_watch_start(&w.loop, i % 2 ? "/usr" : w.dir, true, count_wakes, &w);
        for (int j = 0; j < i % 5; j++) {
            uv_run(&w.loop, UV_RUN_NOWAIT);
            usleep(300);
        }
        fs_watch_free(w.watch);
    }
    w.watch = NULL;
    stop(&w);
}
