#include "base/base.h"

#include "io/fs.h"

#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* What somebody else does just before a name is removed: 'd' removes a directory too, 'l' puts a
 * link to "keep" in the place of the directory "swap" before it is entered. */
static int meanwhile;

int unlinkat(int fd, const char *name, int flags)
{
    if (meanwhile == 'd' && (flags & AT_REMOVEDIR) != 0) {
        (void)syscall(SYS_unlinkat, fd, name, flags);
    }
    return (int)syscall(SYS_unlinkat, fd, name, flags);
}

int openat(int fd, const char *name, int flags, ...)
{
    if (meanwhile == 'l' && strcmp(name, "swap") == 0) {
        meanwhile = 0;
        (void)syscall(SYS_renameat2, fd, name, fd, "moved", 0);
        (void)syscall(SYS_symlinkat, "../keep", fd, name);
    }
    return (int)syscall(SYS_openat, fd, name, flags, 0);
}

/* Each case works in an empty directory of its own. */
struct world {
    uv_loop_t loop;
    char dir[256];
    int done;
};

static void start(struct world *w)
{
    memset(w, 0, sizeof *w);
    test_enter_dir(w->dir, sizeof w->dir);
    ASSERT_INT(uv_loop_init(&w->loop), 0);
}

static void count_done(struct fs_request *req, void *arg)
{
    (void)req;
    ((struct world *)arg)->done++;
}

static void must_not_be_called(struct fs_request *req, void *arg)
{
    (void)req;
    (void)arg;
    test_fail(__FILE__, __LINE__, "called back after fs_free");
}

static struct fs_request *run(struct world *w, const struct fs_command *command)
{
    int before = w->done;
    struct fs_request *req = fs_start(&w->loop, command, count_done, w);
    while (w->done == before) {
        ASSERT_TRUE(uv_run(&w->loop, UV_RUN_ONCE) != 0 || w->done != before);
    }
    return req;
}

/* Runs the command; `code` = "none" when it should work. */
static void expect(struct world *w, const struct fs_command *command, const char *code)
{
    struct fs_request *req = run(w, command);
    struct fs_result *res = fs_result(req);
    ASSERT_STR(res->code ? res->code : "none", code);
    ASSERT_INT(res->code != NULL, res->message != NULL);
    fs_free(req);
}

/* The texts of FS_LIST and FS_GLOB, joined by blanks. */
static void expect_names(struct world *w, const struct fs_command *command, const char *names)
{
    struct fs_request *req = run(w, command);
    struct fs_result *res = fs_result(req);
    ASSERT_STR(res->code ? res->message : "none", "none");
    for (size_t i = 0; i + 1 < res->data.len; i++) {
        res->data.data[i] = res->data.data[i] != '\0' ? res->data.data[i] : ' ';
    }
    ASSERT_STR(res->data.len > 0 ? res->data.data : "", names);
    fs_free(req);
}

static void touch(const char *path, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, mode);
    ASSERT_TRUE(fd >= 0);
    close(fd);
}

static void remove_tree(struct world *w, const char *path, const char *code)
{
    expect(w, &(struct fs_command){.verb = FS_REMOVE, .path = path, .recursive = true}, code);
}

static bool there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static void stop(struct world *w)
{
    ASSERT_INT(chdir("/"), 0);
    remove_tree(w, w->dir, "none");
    ASSERT_TRUE(!there(w->dir));
    ASSERT_INT(uv_run(&w->loop, UV_RUN_DEFAULT), 0);
    ASSERT_INT(uv_loop_close(&w->loop), 0);
}

static int open_descriptors(void)
{
    int n = 0;
    for (int fd = 0; fd < 256; fd++) {
        n += fcntl(fd, F_GETFD) >= 0;
    }
    return n;
}

TEST(fs_tree_list)
{
    struct world w;
    start(&w);
    ASSERT_INT(mkdir("dir", 0755), 0);
    ASSERT_INT(mkfifo("fifo", 0600), 0);
    ASSERT_INT(symlink("nowhere", "link"), 0);
    touch("b", 0644);
    touch("B", 0644);
    touch(".hidden", 0644);
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "sock"};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_INT(bind(fd, (struct sockaddr *)&name, sizeof name), 0);
    close(fd);
    struct fs_command command = {.verb = FS_LIST, .path = ".", .max = 100};
    expect_names(&w, &command, "fB fb ddir pfifo llink ssock");
    command.all = true;
    expect_names(&w, &command, "f.hidden fB fb ddir pfifo llink ssock");
    command.path = "dir";
    expect_names(&w, &command, "");
    command.path = ".";
    command.max = 7;
    expect_names(&w, &command, "f.hidden fB fb ddir pfifo llink ssock");
    command.max = 6;
    expect(&w, &command, "E2BIG");
    command.path = "b";
    expect(&w, &command, "ENOTDIR");
    command.path = "";
    expect(&w, &command, "ENOENT");
    stop(&w);
}

TEST(fs_tree_remove)
{
    struct world w;
    start(&w);
    struct fs_command command = {.verb = FS_REMOVE, .path = "f"};
    touch("f", 0644);
    expect(&w, &command, "none");
    expect(&w, &command, "ENOENT");
    ASSERT_INT(mkdir("keep", 0755), 0);
    touch("keep/safe", 0644);
    ASSERT_INT(mkdir("d", 0755), 0);
    ASSERT_INT(mkdir("d/e", 0755), 0);
    ASSERT_INT(symlink("../keep", "d/link"), 0);
    ASSERT_INT(symlink(w.dir, "d/e/up"), 0);
    ASSERT_INT(symlink("d", "to-d"), 0);
    command.path = "d";
    expect(&w, &command, "ENOTEMPTY");
    remove_tree(&w, "to-d/", "ENOTDIR");
    ASSERT_TRUE(there("to-d"));
    remove_tree(&w, "to-d", "none"); // the link, not what it leads to
    ASSERT_TRUE(there("d/e/up") && !there("to-d"));
    remove_tree(&w, "d/", "none");
    ASSERT_TRUE(!there("d") && there("keep/safe"));
    remove_tree(&w, "keep/safe/", "ENOTDIR");
    static const char *const refused[] = {"",    "/",      "//",      ".",         "..",
                                          "./.", "keep/.", "/tmp/..", "keep/..//", "/."};
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        remove_tree(&w, refused[i], "EINVAL");
    }
    ASSERT_TRUE(there("keep/safe"));
    stop(&w);
}

/* Others remove, and put links, where we are about to go. */
TEST(fs_tree_remove_races)
{
    struct world w;
    start(&w);
    ASSERT_INT(mkdir("keep", 0755), 0);
    touch("keep/safe", 0644);
    ASSERT_INT(mkdir("d", 0755), 0);
    ASSERT_INT(mkdir("d/e", 0755), 0);
    meanwhile = 'd';
    struct fs_command command = {.verb = FS_REMOVE, .path = "d", .recursive = true};
    expect(&w, &command, "none");
    ASSERT_TRUE(!there("d"));
    ASSERT_INT(mkdir("d", 0755), 0);
    ASSERT_INT(mkdir("d/swap", 0755), 0);
    touch("d/swap/f", 0644);
    meanwhile = 'l';
    expect(&w, &command, "none");
    ASSERT_INT(meanwhile, 0);
    ASSERT_TRUE(!there("d") && there("keep/safe"));
    stop(&w);
}

/* Deeper than paths may be long, and than there are descriptors. */
TEST(fs_tree_remove_deep)
{
    struct world w;
    start(&w);
    char name[101];
    memset(name, 'n', 100);
    name[100] = '\0';
    for (int i = 0; i < 120; i++) {
        ASSERT_INT(mkdir(name, 0755), 0);
        touch(i % 2 == 0 ? "a" : "z", 0644);
        ASSERT_INT(chdir(name), 0);
    }
    ASSERT_INT(chdir(w.dir), 0);
    int before = open_descriptors();
    struct rlimit limit;
    ASSERT_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 64;
    ASSERT_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    remove_tree(&w, name, "none");
    ASSERT_TRUE(!there(name));
    ASSERT_INT(open_descriptors(), before);
    stop(&w);
}

/* A big directory: removing while reading passes nothing over; given up, it stops and closes all.
 */
TEST(fs_tree_remove_many)
{
    struct world w;
    start(&w);
    for (int round = 0; round < 2; round++) {
        ASSERT_INT(mkdir("d", 0755), 0);
        for (int i = 0; i < 200; i++) {
            char path[256]; // long: more than one read of the directory
            (void)snprintf(path, sizeof path, "d/%0240d", i);
            touch(path, 0644);
        }
        struct fs_command command = {.verb = FS_REMOVE, .path = "d", .recursive = true};
        if (round == 1) {
            struct fs_request *req = fs_start(&w.loop, &command, must_not_be_called, NULL);
            usleep(300);
            fs_free(req);
            ASSERT_INT(uv_run(&w.loop, UV_RUN_DEFAULT), 0);
            if (!there("d")) { // it was quicker
                continue;
            }
        }
        expect(&w, &command, "none");
        ASSERT_TRUE(!there("d"));
    }
    stop(&w);
}

TEST(fs_tree_permissions)
{
    struct world w;
    start(&w);
    ASSERT_INT(mkdir("d", 0755), 0);
    ASSERT_INT(mkdir("d/locked", 0755), 0);
    touch("d/locked/f", 0644);
    touch("d/c.c", 0644);
    ASSERT_INT(chmod("d/locked", 0), 0);
    bool root = geteuid() == 0;
    if (root) { // may do everything
        ASSERT_INT(chown("d", 65534, 65534), 0);
        ASSERT_INT(chown("d/locked", 65534, 65534), 0);
        ASSERT_INT(chmod(".", 0755), 0);
        ASSERT_INT(seteuid(65534), 0);
    }
    expect(&w, &(struct fs_command){.verb = FS_LIST, .path = "d/locked", .max = 9}, "EACCES");
    expect(&w, &(struct fs_command){.verb = FS_STAT, .path = "d/locked/f"}, "EACCES");
    expect_names(&w, &(struct fs_command){.verb = FS_GLOB, .path = "d/**", .max = 9},
                 "d/c.c d/locked");
    struct fs_request *req =
        run(&w, &(struct fs_command){.verb = FS_REMOVE, .path = "d", .recursive = true});
    ASSERT_STR(fs_result(req)->code, "EACCES");
    ASSERT_STR(fs_result(req)->message, "cannot remove 'd/locked': permission denied: change its "
                                        "permissions or the user");
    fs_free(req);
    if (root) {
        ASSERT_INT(seteuid(0), 0);
    }
    ASSERT_TRUE(there("d/locked/f"));
    ASSERT_INT(chmod("d/locked", 0755), 0);
    stop(&w);
}

TEST(fs_tree_glob)
{
    struct world w;
    start(&w);
    static const char *const dirs[] = {"src", "src/io", "src/io/x", ".git", "lib", "[odd]"};
    static const char *const files[] = {"src/a.c",   "src/a.h",  "src/io/b.c",  "src/io/x/c.c",
                                        ".git/c.c",  "lib/a.c",  "top.c",       ".dot.c",
                                        "[odd]/o.c", "lib/.x.c", "src/io/.y.c", "star*.c"};
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        ASSERT_INT(mkdir(dirs[i], 0755), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        touch(files[i], 0644);
    }
    ASSERT_INT(symlink("..", "src/loop"), 0);
    ASSERT_INT(symlink("self", "self"), 0);
    static const char *const cases[][2] = {
        {"*.c", "star*.c top.c"},
        {".*.c", ".dot.c"},
        {"src/*.[ch]", "src/a.c src/a.h"},
        {"**/*.c", "[odd]/o.c lib/a.c src/a.c src/io/b.c src/io/x/c.c star*.c top.c"},
        {"**/**/b.c", "src/io/b.c"},
        {"src/**/c.c", "src/io/x/c.c"},
        {"src/**/a.c", "src/a.c"},
        {"src/**", "src/a.c src/a.h src/io src/io/b.c src/io/x src/io/x/c.c src/loop"},
        {"src/**/", "src/io/ src/io/x/ src/loop/"},
        {"**/.*.c", ".dot.c lib/.x.c src/io/.y.c"},
        {"*/", "[odd]/ lib/ src/"},
        {"src/loop/t*", "src/loop/top.c"},
        {"src/*/top.c", "src/loop/top.c"},
        {"*/io/b.c", "src/io/b.c"},
        {"s*/io/../a.c", "src/io/../a.c"},
        {"./*.c", "./star*.c ./top.c"},
        {"src//*.c", "src/a.c"},
        {"star\\*.c", "star*.c"},
        {"\\[odd\\]/*", "[odd]/o.c"},
        {"[odd]/*", ""},
        {"top.c", "top.c"},
        {"top.c/", ""},
        {"top.c/*", ""},
        {"none", ""},
        {"none/*/x", ""},
        {"self/*", ""},
        {"sel?", "self"},
        {"", ""},
        {"/", "/"},
        {"**/io", "src/io"},
        {"**/i?/*.c", "src/io/b.c"},
        {".git/*", ".git/c.c"},
        {"lib/a.c", "lib/a.c"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        expect_names(&w, &(struct fs_command){.verb = FS_GLOB, .path = cases[i][0], .max = 100},
                     cases[i][1]);
    }
    expect(&w, &(struct fs_command){.verb = FS_GLOB, .path = "**", .max = 5}, "E2BIG");
    char many[400] = "n*";
    for (size_t i = 0; i < 60; i++) {
        memcpy(many + 2 + 2 * i, "/*", 3);
    }
    expect(&w, &(struct fs_command){.verb = FS_GLOB, .path = many, .max = 5}, "EINVAL");
    many[2 + 2 * 59] = '\0'; // 60 parts
    expect_names(&w, &(struct fs_command){.verb = FS_GLOB, .path = many, .max = 5}, "");
    stop(&w);
}

/* A walk without end, as good as: the loop goes on, and giving up ends it. */
TEST(fs_tree_glob_given_up)
{
    struct world w;
    start(&w);
    struct fs_request *walks[8];
    for (int i = 0; i < 8; i++) { // more than the pool has threads
        walks[i] =
            fs_start(&w.loop, &(struct fs_command){.verb = FS_GLOB, .path = "/**/none/x", .max = 9},
                     must_not_be_called, NULL);
    }
    expect(&w, &(struct fs_command){.verb = FS_MKDIR, .path = "gets-its-turn", .mode = -1}, "none");
    for (int i = 0; i < 8; i++) {
        fs_free(walks[i]);
    }
    int before = open_descriptors();
    ASSERT_INT(uv_run(&w.loop, UV_RUN_DEFAULT), 0);
    ASSERT_TRUE(open_descriptors() <= before);
    stop(&w);
}

static size_t size_of(const char *path)
{
    struct stat st;
    ASSERT_INT(stat(path, &st), 0);
    return (size_t)st.st_size;
}

TEST(fs_tree_copy)
{
    struct world w;
    start(&w);
    touch("a", 0640);
    ASSERT_INT(chmod("a", 0751), 0);
    ASSERT_INT(truncate("a", 5000000), 0);
    struct fs_command command = {.verb = FS_COPY, .path = "a", .other = "b"};
    umask(022);
    expect(&w, &command, "none");
    struct stat st;
    ASSERT_TRUE(stat("b", &st) == 0 && st.st_size == 5000000 && (st.st_mode & 0777) == 0751);
    touch("old", 0600);
    ASSERT_INT(link("old", "twin"), 0);
    ASSERT_INT(symlink("old", "link"), 0);
    command.other = "link";
    expect(&w, &command, "none"); // two names of one file stay that
    ASSERT_INT(size_of("twin"), 5000000);
    ASSERT_TRUE(stat("twin", &st) == 0 && (st.st_mode & 0777) == 0600 && st.st_nlink == 2);
    command.path = "twin"; // onto itself: nothing is lost
    expect(&w, &command, "EINVAL");
    ASSERT_INT(size_of("twin"), 5000000);
    command.other = ".";
    expect(&w, &command, "EISDIR");
    command.other = "none/x";
    expect(&w, &command, "ENOENT");
    command.other = "/dev/full";
    expect(&w, &command, "EINVAL");
    command.path = "/proc/self/status"; // looks empty
    command.other = "status";
    expect(&w, &command, "none");
    ASSERT_TRUE(size_of("status") > 100);
    ASSERT_INT(mkfifo("fifo", 0600), 0);
    command.path = "fifo"; // would wait for ever
    expect(&w, &command, "EINVAL");
    command.path = "";
    expect(&w, &command, "ENOENT");
    stop(&w);
}

TEST(fs_tree_copy_given_up)
{
    struct world w;
    start(&w);
    touch("a", 0644);
    int fd = open("a", O_WRONLY | O_CLOEXEC);
    char *data = xcalloc(1, 1 << 20);
    memset(data, 'x', 1 << 20);
    for (int i = 0; i < 32; i++) {
        ASSERT_INT(write(fd, data, 1 << 20), 1 << 20);
    }
    close(fd);
    free(data);
    touch("b", 0644);
    for (int i = 0; i < 10; i++) {
        struct fs_request *req =
            fs_start(&w.loop, &(struct fs_command){.verb = FS_COPY, .path = "a", .other = "b"},
                     must_not_be_called, NULL);
        usleep((unsigned)i * 300);
        fs_free(req);
    }
    ASSERT_INT(uv_run(&w.loop, UV_RUN_DEFAULT), 0);
    // the old file or the whole copy, and nothing beside it
    ASSERT_TRUE(size_of("b") == 0 || size_of("b") == (size_t)32 << 20);
    expect_names(&w, &(struct fs_command){.verb = FS_LIST, .path = ".", .all = true, .max = 9},
                 "fa fb");
    stop(&w);
}

TEST(fs_tree_temp)
{
    struct world w;
    start(&w);
    struct fs_command command = {.verb = FS_TEMP, .path = ".", .other = ".txt", .mode = 0640};
    struct stat st;
    umask(077);
    struct fs_request *req = run(&w, &command);
    char *path = xstrdup(fs_result(req)->data.data);
    ASSERT_TRUE(stat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0640);
    ASSERT_STR(path + strlen(path) - 4, ".txt");
    fs_keep(req);
    fs_free(req);
    ASSERT_TRUE(there(path));
    fs_discard(&w.loop, path, false, false);
    ASSERT_INT(uv_run(&w.loop, UV_RUN_DEFAULT), 0);
    ASSERT_TRUE(!there(path));
    free(path);
    command.directory = true;
    for (int i = 0; i < 40; i++) { // given up at some time, or not fetched: nothing stays
        command.directory = i % 2 == 0;
        req = fs_start(&w.loop, &command, i < 20 ? must_not_be_called : count_done, &w);
        if (i >= 20) {
            uv_run(&w.loop, UV_RUN_DEFAULT);
        } else if (i % 3 == 0) {
            usleep(200);
        }
        fs_free(req);
    }
    ASSERT_INT(uv_run(&w.loop, UV_RUN_DEFAULT), 0);
    expect_names(&w, &(struct fs_command){.verb = FS_LIST, .path = ".", .all = true, .max = 9}, "");
    command.path = "none";
    expect(&w, &command, "ENOENT");
    stop(&w);
}

TEST(fs_tree_out_of_descriptors)
{
    struct world w;
    start(&w);
    touch("f", 0644);
    ASSERT_INT(mkdir("d", 0755), 0);
    expect(&w, &(struct fs_command){.verb = FS_STAT, .path = "f"}, "none"); // the pool is there
    struct rlimit limit;
    ASSERT_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = 3;
    ASSERT_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    expect(&w, &(struct fs_command){.verb = FS_LIST, .path = ".", .max = 9}, "EMFILE");
    expect(&w, &(struct fs_command){.verb = FS_GLOB, .path = "*", .max = 9}, "EMFILE");
    expect(&w, &(struct fs_command){.verb = FS_COPY, .path = "f", .other = "g"}, "EMFILE");
    struct fs_command temp = {
        .verb = FS_TEMP, .path = ".", .other = "", .mode = 0700, .directory = true};
    expect(&w, &temp, "EMFILE"); // and it is not left behind
    remove_tree(&w, "d", "EMFILE");
    limit.rlim_cur = before;
    ASSERT_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    expect_names(&w, &(struct fs_command){.verb = FS_LIST, .path = ".", .all = true, .max = 9},
                 "dd ff");
    stop(&w);
}
