#include "base/base.h"
#include "base/patience.h"

#include "io/proc.h"
#include "io/proc_int.h"

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* A process and what was told of it. */
struct child {
    struct proc *proc;
    int readable;
    int written;
    int write_error;
    int over;
};

static void on_readable(void *arg)
{
    ((struct child *)arg)->readable++;
}

static void on_written(void *arg, int error)
{
    struct child *c = arg;
    c->written++;
    c->write_error = error;
}

static void on_over(void *arg)
{
    ((struct child *)arg)->over++;
}

static const struct proc_events events = {on_readable, on_written, on_over};

static struct proc *start_with(uv_loop_t *loop, struct child *c, struct proc_options o,
                               struct proc_fault *fault)
{
    *c = (struct child){0};
    o.envp = environ;
    o.max_output = o.max_output ? o.max_output : 4096;
    c->proc = proc_start(loop, &o, &events, c, fault);
    return c->proc;
}

/* A line of shell. */
static void start(uv_loop_t *loop, struct child *c, const char *script, struct proc_options o)
{
    const char *argv[] = {"/bin/sh", "-c", script, NULL};
    struct proc_fault fault = {0};
    o.argv = argv;
    if (start_with(loop, c, o, &fault) == NULL) {
        test_fail(__FILE__, __LINE__, "%s", fault.message.data);
    }
}

static void wait_over(uv_loop_t *loop, struct child *c)
{
    while (c->over == 0) {
        ASSERT_TRUE(uv_run(loop, UV_RUN_ONCE) != 0 || c->over);
    }
    ASSERT_INT(c->over, 1);
}

/* Its stdout must be `out`; frees it. */
static void expect(uv_loop_t *loop, struct child *c, int code, const char *out)
{
    struct proc_result r;
    wait_over(loop, c);
    proc_result(c->proc, &r);
    ASSERT_INT(r.code, code);
    ASSERT_INT(r.out.total, strlen(out));
    ASSERT_TRUE(memcmp(r.out.data, out, r.out.len) == 0);
    proc_free(c->proc);
}

static void expect_no_children(void)
{
    ASSERT_INT(waitpid(-1, NULL, WNOHANG), -1);
    ASSERT_INT(errno, ECHILD);
}

static void finish(uv_loop_t *loop)
{
    ASSERT_INT(uv_run(loop, UV_RUN_DEFAULT), 0);
    ASSERT_INT(uv_loop_close(loop), 0);
    expect_no_children();
}

/* Waits until the other thread has seen to the end of all that nobody waits for. */
static void wait_orphans(void)
{
    for (unsigned i = 0; i < 10000 * test_slower(); i++) {
        siginfo_t info;
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD) {
            return;
        }
        usleep(2000);
    }
    test_fail(__FILE__, __LINE__, "children are left");
}

/* ---- what is kept ---- */

static void keep_case(size_t max, size_t total, size_t step)
{
    struct proc_keep k;
    struct proc_output out;
    char *all = xmalloc(total + 1);
    for (size_t i = 0; i < total; i++) {
        all[i] = (char)(i * 31 % 251);
    }
    proc_keep_init(&k, max, true);
    for (size_t at = 0; at < total; at += step) {
        proc_keep_add(&k, all + at, total - at < step ? total - at : step);
    }
    proc_keep_finish(&k, &out);
    ASSERT_INT(out.total, total);
    ASSERT_INT(out.len, total < max ? total : max);
    size_t head = total <= max ? total : max - max / 3;
    ASSERT_TRUE(memcmp(out.data, all, head) == 0);
    ASSERT_TRUE(memcmp(out.data + head, all + total - (out.len - head), out.len - head) == 0);
    ASSERT_TRUE(k.buf.cap <= 2 * max + 64);
    proc_keep_release(&k);
    free(all);
}

TEST(proc_keeps_head_and_tail)
{
    for (size_t max = 1; max < 14; max++) {
        for (size_t total = 0; total < 40; total++) {
            for (size_t step = 1; step < 24; step++) {
                keep_case(max, total, step);
            }
        }
    }
    keep_case(1000, 1000000, 65536);
    keep_case(1 << 20, 3000000, 65536);
}

TEST(proc_keeps_what_was_not_consumed)
{
    struct proc_keep k;
    struct proc_output out;
    proc_keep_init(&k, 6, false);
    proc_keep_add(&k, "0123456789", 10);
    proc_keep_consume(&k, 3);
    ASSERT_INT(proc_keep_unread(&k), 7);
    proc_keep_add(&k, "ab", 2);
    proc_keep_consume(&k, 6);
    proc_keep_capture(&k);
    proc_keep_capture(&k);
    proc_keep_add(&k, "cdefg", 5); // 9abcdefg: 9abc and fg stay
    proc_keep_finish(&k, &out);
    ASSERT_INT(out.total, 8);
    ASSERT_STR(out.data, "9abcfg");
    proc_keep_release(&k);
}

/* ---- life ---- */

TEST(proc_runs_and_leaves_nothing)
{
    uv_loop_t loop;
    struct child c;
    ASSERT_INT(uv_loop_init(&loop), 0);
    int before = test_count_names("/proc/self/fd");
    start(&loop, &c, "echo out; echo err >&2; exit 3", (struct proc_options){0});
    expect(&loop, &c, 3, "out\n");
    start(&loop, &c, "cat", (struct proc_options){.input = true});
    ASSERT_INT(proc_write(c.proc, "text", 4), 0);
    proc_close_input(c.proc);
    ASSERT_INT(proc_write(c.proc, "more", 4), UV_EPIPE);
    expect(&loop, &c, 0, "text");
    ASSERT_INT(test_count_names("/proc/self/fd"), before);
    finish(&loop);
}

TEST(proc_faults_leave_nothing)
{
    uv_loop_t loop;
    struct child c;
    const char *missing[] = {"no-such-command", NULL};
    const char *here[] = {"true", NULL};
    struct proc_fault fault = {0};
    ASSERT_INT(uv_loop_init(&loop), 0);
    int before = test_count_names("/proc/self/fd");
    ASSERT_TRUE(start_with(&loop, &c, (struct proc_options){.argv = missing, .input = true},
                           &fault) == NULL);
    ASSERT_STR(fault.code, "ENOENT");
    ASSERT_TRUE(
        start_with(&loop, &c, (struct proc_options){.argv = here, .cwd = "/none"}, &fault) == NULL);
    ASSERT_STR(fault.code, "cwd");
    ASSERT_STR(fault.message.data, "cannot run 'true': cwd '/none': there is no such directory");
    buf_release(&fault.message);
    ASSERT_INT(c.over, 0);
    ASSERT_INT(test_count_names("/proc/self/fd"), before);
    finish(&loop);
}

TEST(proc_freed_while_it_runs)
{
    uv_loop_t loop;
    struct child c[3];
    ASSERT_INT(uv_loop_init(&loop), 0);
    start(&loop, &c[0], "sleep 1000", (struct proc_options){.input = true});
    start(&loop, &c[1], "trap '' TERM; sleep 1000 & echo; wait; sleep 1000",
          (struct proc_options){.stream = true});
    start(&loop, &c[2], "echo", (struct proc_options){0});
    while (c[1].readable == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    char text[200000] = {0};
    ASSERT_INT(proc_write(c[0].proc, text, sizeof text), 1);
    int before = c[2].over; // it may have ended meanwhile
    for (int i = 0; i < 3; i++) {
        proc_free(c[i].proc);
    }
    ASSERT_INT(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ASSERT_INT(uv_loop_close(&loop), 0);
    ASSERT_INT(c[0].over + c[1].over + c[2].over + c[0].written, before);
    wait_orphans();
}

TEST(proc_stop_and_kill)
{
    uv_loop_t loop;
    struct child c;
    struct proc_result r;
    ASSERT_INT(uv_loop_init(&loop), 0);
    start(&loop, &c, "trap '' TERM; sleep 1000 & echo; wait; sleep 1000",
          (struct proc_options){.stream = true});
    while (c.readable == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    uint64_t from = uv_hrtime();
    proc_stop(c.proc);
    proc_stop(c.proc);
    wait_over(&loop, &c);
    ASSERT_TRUE(uv_hrtime() - from >= PROC_GRACE_MS * 1000000ull - 1000000);
    ASSERT_TRUE(uv_hrtime() - from < 20000000000ull * test_slower());
    proc_result(c.proc, &r);
    ASSERT_INT(r.signal, SIGKILL);
    ASSERT_INT(proc_kill(c.proc, SIGTERM), UV_ESRCH);
    proc_stop(c.proc);
    proc_free(c.proc);
    start(&loop, &c, "sleep 1000", (struct proc_options){0});
    ASSERT_INT(proc_kill(c.proc, 4711), UV_EINVAL);
    ASSERT_INT(proc_kill(c.proc, SIGUSR1), 0);
    wait_over(&loop, &c);
    proc_result(c.proc, &r);
    ASSERT_INT(r.signal, SIGUSR1);
    proc_free(c.proc);
    finish(&loop);
}

/* More than one part of the table; a signal handler may do this. */
TEST(proc_kill_all_finds_all)
{
    enum { COUNT = 150 };
    uv_loop_t loop;
    static struct child c[COUNT];
    struct proc_result r;
    struct proc_fault fault = {0};
    const char *argv[] = {"sleep", "1000", NULL};
    ASSERT_INT(uv_loop_init(&loop), 0);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < COUNT; i++) {
            ASSERT_TRUE(start_with(&loop, &c[i], (struct proc_options){.argv = argv}, &fault));
        }
        proc_kill_all(round == 0 ? SIGTERM : SIGKILL);
        for (int i = 0; i < COUNT; i++) {
            wait_over(&loop, &c[i]);
            proc_result(c[i].proc, &r);
            ASSERT_INT(r.signal, round == 0 ? SIGTERM : SIGKILL);
            proc_free(c[i].proc);
        }
    }
    ASSERT_TRUE(start_with(&loop, &c[0], (struct proc_options){.argv = argv}, &fault) == NULL);
    ASSERT_STR(fault.code, "ECANCELED");
    buf_release(&fault.message);
    finish(&loop);
}

TEST(proc_end_all_gives_time_to_those_that_end)
{
    uv_loop_t loop;
    struct child c;
    int fds[2];
    char byte = 0;
    ASSERT_INT(pipe(fds), 0);
    patience_set(20 * test_slower()); // for a shell on a busy machine
    char script[200];
    (void)snprintf(script, sizeof script,
                   "trap 'sleep 0.02; echo x > /proc/%d/fd/%d; exit' TERM; echo; "
                   "while :; do sleep 0.01; done",
                   (int)getpid(), fds[1]);
    ASSERT_INT(uv_loop_init(&loop), 0);
    start(&loop, &c, script, (struct proc_options){.stream = true});
    while (c.readable == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    proc_free(c.proc);
    proc_end_all(20000 * test_slower());
    ASSERT_INT(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    ASSERT_INT(read(fds[0], &byte, 1), 1);
    wait_orphans();
    finish(&loop);
}

/* ---- odd surroundings ---- */

/* SIGCHLD ignored, as some parents leave it; our own standard streams closed. */
/* The thread sanitizer has signal 32 ignored, which belongs to the C library. */
TEST(proc_in_a_host_with_odd_habits)
{
    uv_loop_t loop;
    struct child c;
    signal(SIGCHLD, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    ASSERT_INT(uv_loop_init(&loop), 0);
    int err = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    for (int fd = 0; fd < 3; fd++) {
        close(fd);
    }
    start(&loop, &c,
          "cat; grep -c 'SigIgn:.00000000[08]0000000' /proc/self/status; ls /proc/self/fd | wc -l",
          (struct proc_options){.input = true});
    ASSERT_INT(proc_write(c.proc, "in\n", 3), 0);
    proc_close_input(c.proc);
    wait_over(&loop, &c);
    dup2(err, STDERR_FILENO);
    expect(&loop, &c, 0, "in\n1\n4\n");
    finish(&loop);
}

/* Makes two system calls unknown, as old systems and sandboxes have it. */
static bool forbid(int first, int second)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), // the number of the call
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)first, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)second, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {ARRAY_LEN(code), code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST(proc_on_an_old_system)
{
    uv_loop_t loop;
    struct child c;
    ASSERT_INT(uv_loop_init(&loop), 0);
    if (!forbid(SYS_pidfd_open, SYS_close_range)) {
        puts("skipped: no filters of system calls here");
        exit(77);
    }
    ASSERT_INT(syscall(SYS_pidfd_open, getpid(), 0), -1);
    ASSERT_INT(errno, ENOSYS);
    int left_open = open("/dev/null", O_RDONLY);
    ASSERT_TRUE(left_open > 2);
    start(&loop, &c, "ls /proc/self/fd | wc -l; exit 5", (struct proc_options){0});
    expect(&loop, &c, 5, "4\n");
    start(&loop, &c, "sleep 1000", (struct proc_options){.timeout_ms = 50});
    wait_over(&loop, &c);
    ASSERT_TRUE(proc_timed_out(c.proc));
    proc_free(c.proc);
    close(left_open);
    finish(&loop);
}

/* Somebody in this process waits for all children, and takes what is ours. */
TEST(proc_whose_status_was_taken)
{
    uv_loop_t loop;
    struct child c;
    struct proc_result r;
    ASSERT_INT(uv_loop_init(&loop), 0);
    start(&loop, &c, "exit 3", (struct proc_options){0});
    int pid = proc_pid(c.proc);
    ASSERT_INT(waitpid(-1, NULL, 0), pid);
    wait_over(&loop, &c);
    proc_result(c.proc, &r);
    ASSERT_TRUE(r.unknown);
    ASSERT_INT(r.code, -1);
    ASSERT_INT(r.signal, 0);
    proc_free(c.proc);
    finish(&loop);
}
