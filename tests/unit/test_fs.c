#include "base/base.h"

#include "io/fs.h"

#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LIMIT ((size_t)64 << 20)

/* Each case works in an empty directory of its own, removed by hand at the end. */
struct world {
    uv_loop_t loop;
    char dir[256];
    int done;
};

static void start(struct world *w)
{
    memset(w, 0, sizeof *w);
    signal(SIGPIPE, SIG_IGN);
    test_enter_dir(w->dir, sizeof w->dir);
    ASSERT_INT(uv_loop_init(&w->loop), 0);
}

/* Removes the `n` names that should be there, and no other. */
static void stop(struct world *w, int n)
{
    ASSERT_INT(uv_run(&w->loop, UV_RUN_DEFAULT), 0);
    ASSERT_INT(uv_loop_close(&w->loop), 0);
    ASSERT_INT(test_count_names("."), n);
    DIR *dir = opendir(".");
    struct dirent *e;
    while ((e = readdir(dir)) != NULL) {
        if (e->d_name[0] != '.' && remove(e->d_name) != 0) {
            test_fail(__FILE__, __LINE__, "cannot remove %s", e->d_name);
        }
    }
    closedir(dir);
    ASSERT_INT(chdir("/"), 0);
    ASSERT_INT(rmdir(w->dir), 0);
}

static void count_done(struct fs_request *req, void *arg)
{
    (void)req;
    ((struct world *)arg)->done++;
}

static struct fs_request *wait_for(struct world *w, struct fs_request *req)
{
    int before = w->done;
    while (w->done == before) {
        ASSERT_TRUE(uv_run(&w->loop, UV_RUN_ONCE) != 0 || w->done != before);
    }
    return req;
}

static void expect_text(struct world *w, const char *path, const char *text)
{
    struct fs_request *req = wait_for(w, fs_read(&w->loop, path, LIMIT, count_done, w));
    struct fs_result *res = fs_result(req);
    ASSERT_STR(res->code ? res->message : "", "");
    ASSERT_INT(res->data.len, strlen(text));
    ASSERT_STR(res->data.data ? res->data.data : "", text);
    fs_free(req);
}

static void expect_read_error(struct world *w, const char *path, size_t max, const char *code,
                              const char *message)
{
    struct fs_request *req = wait_for(w, fs_read(&w->loop, path, max, count_done, w));
    ASSERT_STR(fs_result(req)->code, code);
    ASSERT_STR(fs_result(req)->message, message);
    ASSERT_INT(fs_result(req)->data.len, 0);
    fs_free(req);
}

static const struct fs_write_options plain = {.mode = -1};

static void write_with(struct world *w, const char *path, const char *text,
                       const struct fs_write_options *options, const char *code)
{
    struct fs_request *req =
        wait_for(w, fs_write(&w->loop, path, text, strlen(text), options, count_done, w));
    ASSERT_STR(fs_result(req)->code ? fs_result(req)->code : "none", code);
    fs_free(req);
}

static mode_t mode_of(const char *path)
{
    struct stat st;
    ASSERT_INT(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

TEST(fs_write_and_read)
{
    struct world w;
    start(&w);
    umask(022);
    write_with(&w, "a", "first", &plain, "none");
    expect_text(&w, "a", "first");
    ASSERT_INT(mode_of("a"), 0644);
    ASSERT_INT(chmod("a", 0751), 0);
    struct fs_write_options options = {.mode = -1, .sync = true};
    write_with(&w, "a", "second", &options, "none");
    expect_text(&w, "a", "second");
    ASSERT_INT(mode_of("a"), 0751);
    options = (struct fs_write_options){.mode = 0600};
    write_with(&w, "a", "", &options, "none");
    expect_text(&w, "a", "");
    ASSERT_INT(mode_of("a"), 0600);
    write_with(&w, "secret", "x", &options, "none");
    ASSERT_INT(mode_of("secret"), 0600);
    options = (struct fs_write_options){.mode = -1, .append = true};
    write_with(&w, "log", "one\n", &options, "none");
    write_with(&w, "log", "two\n", &options, "none");
    expect_text(&w, "log", "one\ntwo\n");
    stop(&w, 3);
}

TEST(fs_big_files_and_limits)
{
    struct world w;
    start(&w);
    size_t len = 20000003;
    char *data = xmalloc(len);
    for (size_t i = 0; i < len; i++) {
        data[i] = (char)(i * 7 % 251);
    }
    fs_free(wait_for(&w, fs_write(&w.loop, "big", data, len, &plain, count_done, &w)));
    struct fs_request *req = wait_for(&w, fs_read(&w.loop, "big", len, count_done, &w));
    ASSERT_INT(fs_result(req)->data.len, len);
    ASSERT_INT(memcmp(fs_result(req)->data.data, data, len), 0);
    fs_free(req);
    free(data);
    expect_read_error(&w, "big", len - 1, "EFBIG",
                      "cannot read 'big': it is larger than 20000002 bytes: raise max");
    // no size is announced, and there is no end
    expect_read_error(&w, "/dev/zero", 100000, "EFBIG",
                      "cannot read '/dev/zero': it is larger than 100000 bytes: raise max");
    stop(&w, 1);
}

TEST(fs_names_the_trouble)
{
    struct world w;
    start(&w);
    expect_read_error(&w, "none", LIMIT, "ENOENT",
                      "cannot read 'none': there is no such file: check the path");
    expect_read_error(&w, ".", LIMIT, "EISDIR", "cannot read '.': it is a directory: name a file");
    expect_read_error(&w, "", LIMIT, "ENOENT",
                      "cannot read '': there is no such file: check the path");
    write_with(&w, "none/x", "x", &plain, "ENOENT");
    write_with(&w, ".", "x", &plain, "EISDIR");
    write_with(&w, "new/", "x", &plain, "EISDIR");
    write_with(&w, "", "x", &plain, "ENOENT");
    write_with(&w, "/dev/full", "x", &plain, "ENOSPC");
    write_with(&w, "file", "x", &plain, "none");
    write_with(&w, "file/x", "x", &plain, "ENOTDIR");
    expect_read_error(&w, "file/\x1b[31mx", LIMIT, "ENOTDIR",
                      "cannot read 'file/?[31mx': a part of the path before the last is not a "
                      "directory: check the path");
    char name[300];
    memset(name, 'n', sizeof name);
    name[299] = '\0';
    write_with(&w, name, "x", &plain, "ENAMETOOLONG");
    name[255] = '\0'; // just possible, and so is its temporary neighbour
    write_with(&w, name, "x", &plain, "none");
    write_with(&w, name, "y", &plain, "none");
    expect_text(&w, name, "y");
    stop(&w, 2);
}

TEST(fs_files_without_a_size)
{
    struct world w;
    start(&w);
    struct fs_request *req =
        wait_for(&w, fs_read(&w.loop, "/proc/self/status", LIMIT, count_done, &w));
    ASSERT_TRUE(strstr(fs_result(req)->data.data, "VmPeak:") != NULL);
    fs_free(req);
    expect_text(&w, "/dev/null", "");
    write_with(&w, "/dev/null", "gone", &plain, "none");
    struct stat st;
    ASSERT_TRUE(stat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode));
    stop(&w, 0);
}

TEST(fs_replaces_what_links_mean)
{
    struct world w;
    start(&w);
    write_with(&w, "real", "old", &plain, "none");
    ASSERT_INT(symlink("real", "link"), 0);
    ASSERT_INT(symlink("made", "dangling"), 0);
    ASSERT_INT(link("real", "twin"), 0);
    write_with(&w, "link", "new", &plain, "none");
    write_with(&w, "dangling", "made now", &plain, "none");
    struct stat st;
    ASSERT_TRUE(lstat("link", &st) == 0 && S_ISLNK(st.st_mode));
    ASSERT_TRUE(lstat("dangling", &st) == 0 && S_ISLNK(st.st_mode));
    expect_text(&w, "real", "new");
    expect_text(&w, "twin", "new"); // both names are still one file
    expect_text(&w, "made", "made now");
    stop(&w, 5);
}

/* A reader that opened the old file goes on with the old text. */
TEST(fs_replacing_is_atomic)
{
    struct world w;
    start(&w);
    write_with(&w, "a", "the old text", &plain, "none");
    int fd = open("a", O_RDONLY);
    write_with(&w, "a", "new", &plain, "none");
    char text[32] = "";
    ASSERT_INT(read(fd, text, sizeof text - 1), 12);
    ASSERT_STR(text, "the old text");
    close(fd);
    stop(&w, 1);
}

static void must_not_be_called(struct fs_request *req, void *arg)
{
    (void)req;
    (void)arg;
    test_fail(__FILE__, __LINE__, "called back after fs_free");
}

TEST(fs_fifo)
{
    struct world w;
    start(&w);
    ASSERT_INT(mkfifo("pipe", 0600), 0);
    // more readers than the pool has threads: none of them blocks one
    struct fs_request *idle[8];
    for (int i = 0; i < 8; i++) {
        idle[i] = fs_read(&w.loop, "pipe", LIMIT, must_not_be_called, NULL);
    }
    write_with(&w, "other", "text", &plain, "none");
    expect_text(&w, "other", "text");
    for (int i = 0; i < 20; i++) {
        uv_run(&w.loop, UV_RUN_NOWAIT);
        usleep(1000);
    }
    for (int i = 0; i < 8; i++) {
        fs_free(idle[i]);
    }
    uv_run(&w.loop, UV_RUN_DEFAULT);
    write_with(&w, "pipe", "x", &plain, "ENXIO"); // nobody reads

    // a writer of our own, larger than the pipe
    size_t len = 300000;
    char *data = xmalloc(len);
    memset(data, 'p', len);
    struct fs_request *reader = fs_read(&w.loop, "pipe", LIMIT, count_done, &w);
    int held; // until somebody reads it cannot be opened
    while ((held = open("pipe", O_WRONLY | O_NONBLOCK | O_CLOEXEC)) < 0) {
        ASSERT_INT(errno, ENXIO);
        uv_run(&w.loop, UV_RUN_NOWAIT);
        usleep(1000);
    }
    struct fs_request *writer = fs_write(&w.loop, "pipe", data, len, &plain, count_done, &w);
    for (int before = w.done; w.done == before;) {
        uv_run(&w.loop, UV_RUN_ONCE);
    }
    close(held);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    ASSERT_INT(w.done, 5);
    ASSERT_STR(fs_result(writer)->code ? fs_result(writer)->message : "", "");
    ASSERT_INT(fs_result(reader)->data.len, len);
    fs_free(reader);
    fs_free(writer);
    free(data);
    stop(&w, 2);
}

/* Standard input as programs get it: a pipe, a socket, a file. */
TEST(fs_dev_stdin)
{
    struct world w;
    start(&w);
    int fds[2];
    ASSERT_INT(pipe2(fds, O_CLOEXEC), 0);
    ASSERT_INT(write(fds[1], "by pipe", 7), 7);
    close(fds[1]);
    ASSERT_INT(dup2(fds[0], 0), 0);
    close(fds[0]);
    expect_text(&w, "/dev/stdin", "by pipe");

    ASSERT_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    ASSERT_INT(write(fds[1], "by socket", 9), 9);
    ASSERT_INT(shutdown(fds[1], SHUT_WR), 0);
    ASSERT_INT(dup2(fds[0], 0), 0);
    close(fds[0]);
    expect_text(&w, "/dev/stdin", "by socket");
    ASSERT_INT(fcntl(0, F_GETFL) & O_NONBLOCK, 0);
    write_with(&w, "/dev/fd/0", "answer", &plain, "none");
    char text[16] = "";
    ASSERT_INT(read(fds[1], text, sizeof text - 1), 6);
    ASSERT_STR(text, "answer");
    close(fds[1]);

    write_with(&w, "out", "before ", &plain, "none");
    int fd = open("out", O_WRONLY | O_APPEND);
    ASSERT_INT(dup2(fd, 0), 0);
    close(fd);
    write_with(&w, "/dev/stdin", "after", &plain, "none"); // neither cut nor replaced
    ASSERT_INT(write(0, "!", 1), 1);
    expect_text(&w, "out", "before after!");
    stop(&w, 1);
}

TEST(fs_given_up)
{
    struct world w;
    start(&w);
    write_with(&w, "a", "old", &plain, "none");
    char *data = xcalloc(1, 4 << 20);
    for (int i = 0; i < 50; i++) {
        struct fs_request *req =
            i % 2 ? fs_read(&w.loop, "a", LIMIT, must_not_be_called, NULL)
                  : fs_write(&w.loop, "b", data, 4 << 20, &plain, must_not_be_called, NULL);
        if (i % 3 == 0) {
            usleep(500);
        }
        fs_free(req);
    }
    free(data);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    expect_text(&w, "a", "old");
    stop(&w, test_count_names(".")); // no temporary file, perhaps a whole "b"
    fs_free(NULL);
}

TEST(fs_read_only_directory)
{
    struct world w;
    start(&w);
    if (geteuid() == 0) {
        ASSERT_INT(seteuid(65534), 0); // root may write anywhere
        ASSERT_INT(seteuid(0), 0);
        ASSERT_INT(chown(".", 65534, 65534), 0);
        ASSERT_INT(setegid(65534), 0);
        ASSERT_INT(seteuid(65534), 0);
    }
    write_with(&w, "a", "old", &plain, "none");
    ASSERT_INT(chmod(".", 0555), 0);
    write_with(&w, "a", "new", &plain, "none"); // in place
    write_with(&w, "b", "new", &plain, "EACCES");
    ASSERT_INT(chmod(".", 0755), 0);
    expect_text(&w, "a", "new");
    ASSERT_INT(chmod("a", 0444), 0);
    write_with(&w, "a", "newer", &plain, "EACCES");
    expect_text(&w, "a", "new");
    ASSERT_INT(chmod("a", 0000), 0);
    expect_read_error(&w, "a", LIMIT, "EACCES",
                      "cannot read 'a': permission denied: change its permissions or the user");
    if (getuid() == 0) {
        ASSERT_INT(seteuid(0), 0);
    }
    stop(&w, 1);
}
