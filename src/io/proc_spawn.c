/*
 * The start of a program. Not uv_spawn(): here nobody else's descriptor can slip through, the limit
 * of open files is the old one from the first instruction on, and the leader's number stays taken
 * until its group is gone, so that no signal can hit a stranger.
 */
#include "base/base.h"
#include "base/files.h"

#include "io/proc_int.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"
#define SHOW_MAX 200

enum { STATUS_NOT_RUN = 127, FIRST_FREE = 3 };

enum step { STEP_SETUP, STEP_CWD, STEP_EXEC };

/* What the child sends when it could not become the program. */
struct report {
    enum step step;
    int error;
};

struct launch {
    const struct proc_options *options;
    char **paths; /* owned: where the program may be, in this order; ends in NULL */
    atomic_int *slot;
    bool has_limit;
    struct rlimit limit;
    int in; /* its ends of the pipes; -1 = /dev/null */
    int out;
    int err;
    int report;
};

/* ---- in the child: only what is async-signal-safe, and no variable of the parent changes ---- */

static NORETURN void child_fail(const struct launch *l, enum step step)
{
    struct report r = {step, errno};
    if (write(l->report, &r, sizeof(r)) < 0) {
        /* the parent has gone */
    }
    _exit(STATUS_NOT_RUN);
}

static void child_signals(void)
{
    for (int sig = 1; sig < NSIG; sig++) {
        (void)signal(sig, SIG_DFL); // of some numbers it is refused
    }
}

static void child_streams(const struct launch *l)
{
    int in = l->in >= 0 ? l->in : open("/dev/null", O_RDONLY);
    if (in < 0 || (in != STDIN_FILENO && dup2(in, STDIN_FILENO) < 0) ||
        dup2(l->out, STDOUT_FILENO) < 0 || dup2(l->err, STDERR_FILENO) < 0) {
        child_fail(l, STEP_SETUP);
    }
}

/* All others are closed when the program starts. */
static void child_descriptors(void)
{
    if (close_range(FIRST_FREE, ~0U, CLOSE_RANGE_CLOEXEC) == 0) {
        return;
    }
    struct rlimit limit; // Linux before 5.11, or a filter of system calls
    int end = getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 65536 ? (int)limit.rlim_cur
                                                                              : 65536;
    for (int fd = FIRST_FREE; fd < end; fd++) {
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
}

static NORETURN void child_exec(const struct launch *l)
{
    bool denied = false;
    errno = ENOENT;
    for (char **path = l->paths; *path != NULL; path++) {
        (void)execve(*path, (char *const *)l->options->argv, l->options->envp); // changes nothing
        if (errno == EACCES) {
            denied = true;
        } else if (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG) {
            child_fail(l, STEP_EXEC);
        }
    }
    if (denied) {
        errno = EACCES;
    }
    child_fail(l, STEP_EXEC);
}

static NORETURN void child_main(const struct launch *l)
{
    sigset_t none;
    child_signals();
    if (setsid() < 0) {
        child_fail(l, STEP_SETUP);
    }
    if (!proc_group_enter(l->slot, getpid())) {
        _exit(STATUS_NOT_RUN);
    }
    child_streams(l);
    if (l->options->cwd != NULL && chdir(l->options->cwd) != 0) {
        child_fail(l, STEP_CWD);
    }
    child_descriptors();
    if (l->has_limit && setrlimit(RLIMIT_NOFILE, &l->limit) != 0) {
        child_fail(l, STEP_SETUP);
    }
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    child_exec(l);
}

/* ---- in the parent ---- */

static void show(const char *text, struct buf *out)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < len && i < SHOW_MAX; i++) {
        unsigned char c = (unsigned char)text[i];
        buf_append_char(out, c < ' ' || c == 0x7f ? '?' : (char)c);
    }
    if (len > SHOW_MAX) {
        buf_append_str(out, "...");
    }
}

static const char *search_path(char *const *envp)
{
    for (; *envp != NULL; envp++) {
        if (strncmp(*envp, "PATH=", 5) == 0) {
            return *envp + 5;
        }
    }
    return DEFAULT_PATH;
}

/* The paths to try, in one block of memory. An empty part of PATH is the current directory. */
static char **find_paths(const char *name, const char *path)
{
    bool direct = strchr(name, '/') != NULL || name[0] == '\0';
    size_t parts = 1;
    for (const char *p = path; *p != '\0'; p++) {
        parts += *p == ':';
    }
    size_t name_len = strlen(name) + 1;
    size_t list = (parts + 1) * sizeof(char *);
    char **paths = xmalloc(list + strlen(path) + parts * (name_len + 1));
    char *at = (char *)paths + list;
    size_t n = 0;
    while (!direct) {
        size_t len = strcspn(path, ":");
        paths[n++] = at;
        memcpy(at, path, len);
        at += len;
        if (len > 0) {
            *at++ = '/';
        }
        memcpy(at, name, name_len);
        at += name_len;
        if (path[len] == '\0') {
            break;
        }
        path += len + 1;
    }
    if (direct) {
        paths[n++] = at;
        memcpy(at, name, name_len);
    }
    paths[n] = NULL;
    return paths;
}

static const char *describe_file(const struct proc_options *o, const char *file)
{
    bool here = file[0] == '/' || o->cwd == NULL;
    if (here && access(file, F_OK) == 0) {
        return "the interpreter that its first line names does not exist";
    }
    return "there is no such file: check the path";
}

static void describe_exec(const struct proc_options *o, int error, struct buf *m)
{
    const char *file = o->argv[0];
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        if (strchr(file, '/') == NULL && file[0] != '\0') {
            buf_append_str(m, "there is no such command in PATH (");
            show(search_path(o->envp), m);
            buf_append_char(m, ')');
            if (o->argv[1] == NULL && strchr(file, ' ') != NULL) {
                buf_append_str(m, ": each argument is an element of its own");
            }
        } else {
            buf_append_str(m, describe_file(o, file));
        }
        return;
    case EACCES:
        buf_append_str(m, "permission denied: is it a file that may be executed?");
        return;
    case ENOEXEC:
        buf_append_str(m, "it is no program: a script needs a first line such as #!/bin/sh");
        return;
    case E2BIG:
        buf_append_str(m, "arguments and environment are too long: pass the text on stdin or in a "
                          "file");
        return;
    case ETXTBSY:
        buf_append_str(m, "somebody has it open for writing");
        return;
    default:
        buf_append_str(m, strerrordesc_np(error) != NULL ? strerrordesc_np(error) : "it failed");
    }
}

static void describe_cwd(const char *cwd, int error, struct buf *m)
{
    buf_append_str(m, "cwd '");
    show(cwd, m);
    buf_append_str(m, error == ENOENT    ? "': there is no such directory"
                      : error == ENOTDIR ? "' is not a directory"
                      : error == EACCES  ? "': permission denied"
                                         : "' cannot be entered");
}

static void describe_setup(int error, struct buf *m)
{
    switch (error) {
    case EMFILE:
    case ENFILE:
        buf_append_str(m, "too many open files: do less at once, or raise ulimit -n");
        return;
    case EAGAIN:
        buf_append_str(m, "too many processes: do less at once, or raise ulimit -u");
        return;
    case ENOMEM:
        buf_append_str(m, "not enough memory");
        return;
    case ECANCELED:
        buf_append_str(m, "the program ends");
        return;
    default:
        buf_append_str(m, strerrordesc_np(error) != NULL ? strerrordesc_np(error) : "it failed");
    }
}

static int describe(const struct proc_options *o, enum step step, int error,
                    struct proc_fault *fault)
{
    struct buf *m = &fault->message;
    buf_clear(m);
    buf_append_str(m, "cannot run '");
    show(o->argv[0], m);
    buf_append_str(m, "': ");
    const char *name = strerrorname_np(error); // uv_err_name() does not know all of them
    fault->code = step == STEP_CWD ? "cwd" : name != NULL ? name : "error";
    if (step == STEP_CWD) {
        describe_cwd(o->cwd, error, m);
    } else if (step == STEP_EXEC) {
        describe_exec(o, error, m);
    } else {
        describe_setup(error, m);
    }
    return -1;
}

int proc_spawn_fault(const struct proc_options *options, int error, struct proc_fault *fault)
{
    return describe(options, STEP_SETUP, error, fault);
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

/* Both ends are closed in programs that anybody starts, and none is a standard stream. */
static int open_pipe(int *read_end, int *write_end)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return -1;
    }
    for (int i = 0; i < 2; i++) {
        if (fds[i] < FIRST_FREE) { // a host may have closed its own
            int low = fds[i];
            fds[i] = fcntl(low, F_DUPFD_CLOEXEC, FIRST_FREE);
            int error = errno;
            (void)close(low);
            errno = error;
        }
    }
    *read_end = fds[0];
    *write_end = fds[1];
    return fds[0] < 0 || fds[1] < 0 ? -1 : 0;
}

/* Were SIGCHLD ignored, the system would throw away how children end. */
static void keep_children(void)
{
    struct sigaction action;
    if (sigaction(SIGCHLD, NULL, &action) == 0 &&
        (action.sa_handler == SIG_IGN || (action.sa_flags & SA_NOCLDWAIT) != 0)) {
        (void)signal(SIGCHLD, SIG_DFL);
    }
}

/* No signal handler of ours may run in the child, whose memory is ours until it has become the
 * program. Returns 0 or an errno of vfork(). */
static int start_child(const struct launch *l, struct proc_group *group)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    sigset_t all, old;
    (void)pthread_once(&once, keep_children);
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    pid_t pid = vfork(); // NOLINT: copies no page tables
    if (pid == 0) {
        child_main(l); // NOLINT: keeps the rules of vfork()
    }
    int error = errno;
    if (pid > 0) {
        proc_group_started(group, pid);
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return pid > 0 ? 0 : error;
}

/* Waits until the child has become the program, or could not. */
static bool read_report(int fd, struct report *r)
{
    ssize_t n;
    do {
        n = read(fd, r, sizeof(*r));
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof(*r);
}

static int launch(struct launch *l, struct proc_group *group, struct proc_fault *fault)
{
    int from_child = -1;
    struct report r = {STEP_SETUP, 0};
    if (open_pipe(&from_child, &l->report) != 0) {
        (void)describe(l->options, STEP_SETUP, errno, fault);
        close_fd(&from_child);
        close_fd(&l->report);
        return -1;
    }
    l->slot = group->slot;
    r.error = start_child(l, group);
    close_fd(&l->report);
    bool started = r.error == 0;
    if (started && read_report(from_child, &r)) {
        while (waitpid(group->pid, NULL, 0) < 0 && errno == EINTR) {
        }
    } else if (started) {
        r.error = 0;
    }
    close_fd(&from_child);
    return r.error == 0 ? 0 : describe(l->options, r.step, r.error, fault);
}

static int open_pipes(struct launch *l, struct proc_pipes *p)
{
    const struct proc_options *o = l->options;
    if ((o->input && open_pipe(&l->in, &p->in) != 0) || open_pipe(&p->out, &l->out) != 0) {
        return -1;
    }
    if (o->join) {
        l->err = l->out;
        return 0;
    }
    return open_pipe(&p->err, &l->err);
}

int proc_spawn(const struct proc_options *options, struct proc_group *group,
               struct proc_pipes *pipes, struct proc_fault *fault)
{
    struct launch l = {.options = options, .in = -1, .out = -1, .err = -1, .report = -1};
    *pipes = (struct proc_pipes){-1, -1, -1};
    if (!proc_group_reserve(group)) {
        return describe(options, STEP_SETUP, ECANCELED, fault);
    }
    int rc = open_pipes(&l, pipes);
    if (rc != 0) {
        (void)describe(options, STEP_SETUP, errno, fault);
    } else {
        l.has_limit = files_old_limit(&l.limit) == 0;
        l.paths = find_paths(options->argv[0], search_path(options->envp));
        rc = launch(&l, group, fault);
        free(l.paths);
    }
    if (l.err != l.out) {
        close_fd(&l.err);
    }
    close_fd(&l.out);
    close_fd(&l.in);
    if (rc != 0) {
        proc_group_forget(group);
        close_fd(&pipes->in);
        close_fd(&pipes->out);
        close_fd(&pipes->err);
    }
    return rc;
}
