#include "base/base.h"

#include "shell/tty.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define PASTE_ON "\033[?2004h"
#define PASTE_OFF "\033[?2004l"

enum state {
    AS_BEFORE,
    OF_LINE, /* readline's */
    QUIET,
};

/* Handlers of signals look at it at any time, on the thread of the loop. */
static struct {
    struct termios before;
    struct termios quiet;
    pthread_t thread;
    pthread_mutex_t lock; /* of loans */
    atomic_int state;     /* enum state */
    atomic_uint loans;
    unsigned turn;           /* guarded: those of a turn that is over are not given back */
    atomic_bool wanted;      /* quiet, when it is not lent */
    atomic_bool was_stopped; /* see tty_was_stopped() */
    bool pastes;
} self;

static void say(const char *text)
{
    if (write(STDOUT_FILENO, text, strlen(text)) < 0) {
        /* it has gone */
    }
}

void tty_restore(void)
{
    if (atomic_exchange(&self.state, AS_BEFORE) != AS_BEFORE) {
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &self.before);
        say(PASTE_OFF "\r\n");
    }
}

void tty_recover(void)
{
    (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &self.before);
}

/* In the background it would stop us. */
static bool is_ours(void)
{
    return tcgetpgrp(STDIN_FILENO) == getpgrp();
}

/* Async-signal-safe, as all that handlers call. */
static void set_quiet(void)
{
    if (atomic_load(&self.wanted) && atomic_load(&self.loans) == 0 && is_ours()) {
        atomic_store(&self.state, QUIET);
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &self.quiet);
        if (self.pastes) {
            say(PASTE_ON);
        }
    }
}

static void unset_quiet(void)
{
    int quiet = QUIET;
    if (atomic_compare_exchange_strong(&self.state, &quiet, AS_BEFORE)) {
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &self.before);
        if (self.pastes) {
            say(PASTE_OFF);
        }
    }
}

/* ---- being stopped while it is quiet ---- */

static void take_signal(int sig, void (*handler)(int), void (*only_from)(int))
{
    struct sigaction action, present;
    memset(&action, 0, sizeof(action));
    sigemptyset(&action.sa_mask);
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    if (sigaction(sig, NULL, &present) == 0 && present.sa_handler == only_from) {
        (void)sigaction(sig, &action, NULL);
    }
}

/* Signals of the keyboard may reach any thread. */
static bool is_elsewhere(int sig)
{
    bool elsewhere = pthread_equal(pthread_self(), self.thread) == 0;
    if (elsewhere) {
        (void)pthread_kill(self.thread, sig);
    }
    return elsewhere;
}

/* Ctrl-Z: the shell finds its terminal as it was. */
static void on_stop(int sig)
{
    int code = errno;
    if (!is_elsewhere(sig)) {
        bool was_set = atomic_load(&self.state) == QUIET;
        unset_quiet();
        if (was_set) {
            say("\r\n");
        }
        sigset_t set, masked;
        sigemptyset(&set);
        sigaddset(&set, sig);
        take_signal(sig, SIG_DFL, on_stop);
        (void)raise(sig);
        (void)pthread_sigmask(SIG_UNBLOCK, &set, &masked);
        // continued: on_continue() has run
        (void)pthread_sigmask(SIG_SETMASK, &masked, NULL);
        take_signal(sig, on_stop, SIG_DFL);
    }
    errno = code;
}

static void on_continue(int sig)
{
    int code = errno;
    if (!is_elsewhere(sig)) {
        atomic_store(&self.was_stopped, true);
        set_quiet();
    }
    errno = code;
}

bool tty_was_stopped(void)
{
    return atomic_exchange(&self.was_stopped, false);
}

/* ---- the three settings ---- */

void tty_open(void)
{
    self.thread = pthread_self();
    ASSERT(pthread_mutex_init(&self.lock, NULL) == 0);
}

/* No loan of before counts any more. */
static void begin_turn(bool wanted)
{
    pthread_mutex_lock(&self.lock);
    self.turn = self.turn == UINT32_MAX ? 1 : self.turn + 1;
    atomic_store(&self.loans, 0);
    atomic_store(&self.wanted, wanted);
    pthread_mutex_unlock(&self.lock);
}

static void end_quiet(void)
{
    if (atomic_load(&self.wanted)) {
        begin_turn(false);
        take_signal(SIGTSTP, SIG_DFL, on_stop);
        take_signal(SIGCONT, SIG_DFL, on_continue);
    }
}

void tty_quiet(bool pastes)
{
    if (atomic_load(&self.wanted) || tcgetattr(STDIN_FILENO, &self.before) != 0) {
        return;
    }
    self.quiet = self.before;
    self.quiet.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    self.quiet.c_cc[VMIN] = 1;
    self.quiet.c_cc[VTIME] = 0;
    self.pastes = pastes;
    atomic_store(&self.was_stopped, false);
    begin_turn(true);
    take_signal(SIGTSTP, on_stop, SIG_DFL);
    take_signal(SIGCONT, on_continue, SIG_DFL);
    set_quiet();
}

void tty_loud(void)
{
    end_quiet();
    unset_quiet();
}

/* Readline draws nothing on a terminal that does not show keys: it has to find it as it was. */
void tty_begin_line(void)
{
    end_quiet();
    if (atomic_load(&self.state) == QUIET) {
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &self.before);
        atomic_store(&self.state, OF_LINE);
    } else if (atomic_load(&self.state) == AS_BEFORE &&
               tcgetattr(STDIN_FILENO, &self.before) == 0) {
        atomic_store(&self.state, OF_LINE);
    }
}

void tty_end_line(void)
{
    atomic_store(&self.state, AS_BEFORE);
}

/* ---- loans ---- */

unsigned tty_lend(void)
{
    if (!atomic_load(&self.wanted)) {
        return 0;
    }
    unsigned loan = 0;
    pthread_mutex_lock(&self.lock);
    if (atomic_load(&self.wanted)) {
        loan = self.turn;
        if (atomic_fetch_add(&self.loans, 1) == 0) {
            unset_quiet();
        }
    }
    pthread_mutex_unlock(&self.lock);
    return loan;
}

void tty_give_back(unsigned loan)
{
    pthread_mutex_lock(&self.lock);
    if (loan != 0 && loan == self.turn && atomic_load(&self.loans) > 0 &&
        atomic_fetch_sub(&self.loans, 1) == 1) {
        set_quiet();
    }
    pthread_mutex_unlock(&self.lock);
}

bool tty_is_lent(void)
{
    return atomic_load(&self.loans) > 0;
}
