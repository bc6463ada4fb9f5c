#include "base/base.h"

#include "bind/stream.h"
#include "io/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static atomic_int answer_fd = STDOUT_FILENO;

/* The signal comes for sockets too: those are errors of the write that met them. */
static void on_sigpipe(int sig)
{
    (void)sig;
    int code = errno;
    struct pollfd p = {.fd = atomic_load(&answer_fd), .events = POLLOUT};
    if (poll(&p, 1, 0) == 1 && (p.revents & POLLERR) != 0) {
        proc_kill_all(SIGKILL);
        _exit(STREAM_EXIT_CLOSED);
    }
    errno = code;
}

void stream_open(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF) {
            /* the wrong way round: reading stdin, writing the others fails with EBADF */
            int got = open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
            ASSERT(got < 0 || got == fd);
        }
    }
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_sigpipe;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    ASSERT(sigaction(SIGPIPE, &action, NULL) == 0);
    action.sa_handler = SIG_IGN;
    ASSERT(sigaction(SIGXFSZ, &action, NULL) == 0);
}

void stream_reserve(void)
{
    if (atomic_load(&answer_fd) != STDOUT_FILENO) {
        return;
    }
    (void)fflush(stdout);
    int fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (fd < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
        return; /* no descriptor to be had: print still goes to stderr */
    }
    atomic_store(&answer_fd, fd);
}

bool stream_reserved(void)
{
    return atomic_load(&answer_fd) != STDOUT_FILENO;
}

int stream_fd(int fd)
{
    return fd == STDOUT_FILENO ? atomic_load(&answer_fd) : fd;
}

typedef bool (*above_fn)(int fd, const char *text, size_t len);

static _Atomic(above_fn) above_line; /* workers look while it is set */

void stream_set_above(bool (*above)(int fd, const char *text, size_t len))
{
    atomic_store(&above_line, above);
}

bool stream_has_above(void)
{
    return atomic_load(&above_line) != NULL;
}

bool stream_above(int fd, const char *text, size_t len)
{
    above_fn above = atomic_load(&above_line);
    return above != NULL && above(fd, text, len);
}

typedef unsigned (*lend_fn)(void);
typedef void (*give_back_fn)(unsigned loan);

static _Atomic(lend_fn) lend;
static _Atomic(give_back_fn) give_back;

void stream_set_lend(unsigned (*lend_it)(void), void (*take_it)(unsigned loan))
{
    atomic_store(&give_back, take_it);
    atomic_store(&lend, lend_it);
}

unsigned stream_lend(void)
{
    lend_fn fn = atomic_load(&lend);
    return fn != NULL ? fn() : 0;
}

void stream_give_back(unsigned loan)
{
    if (loan != 0) {
        atomic_load (&give_back)(loan);
    }
}

int stream_write(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EAGAIN) { /* somebody else made it non-blocking */
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            (void)poll(&p, 1, -1);
        } else if (n < 0 && errno != EINTR) {
            return -1;
        } else if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return 0;
}
