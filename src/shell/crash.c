#include "base/base.h"

#include "shell/crash.h"

#include <signal.h>
#include <string.h>

static void (*before_end)(void);

static void on_crash(int sig)
{
    before_end();
    (void)raise(sig); // the default by now
}

void crash_open(void (*restore)(void))
{
    static const int signals[] = {SIGQUIT, SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    before_end = restore;
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        struct sigaction action;
        if (sigaction(signals[i], NULL, &action) == 0 && action.sa_handler == SIG_DFL &&
            (action.sa_flags & SA_SIGINFO) == 0) {
            memset(&action, 0, sizeof(action));
            sigemptyset(&action.sa_mask);
            action.sa_handler = on_crash;
            action.sa_flags = (int)(SA_RESETHAND | SA_NODEFER);
            (void)sigaction(signals[i], &action, NULL);
        }
    }
}
