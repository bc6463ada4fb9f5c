/*
 * Runs a command again and again and tells how long each run took and its most memory.
 *
 *     run N SECONDS COMMAND [ARG...]
 *
 * A small program of its own because ru_maxrss of a child is at least its parent's size: measured
 * from Python each start would seem to need 10 MB. `own_kb` is what this program itself has, the
 * least that it can tell. stdin and stdout of the command are /dev/null. Start times are ns of the
 * monotonic clock.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

struct sample {
    uint64_t start_ns, wall_ns;
    long cpu_us, maxrss_kb;
    int status; /* exit status, or 128 + signal */
};

static volatile sig_atomic_t child; /* for the alarm */

static void on_alarm(int sig)
{
    (void)sig;
    if (child > 0) {
        kill(child, SIGKILL);
    }
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static long microseconds(struct timeval t)
{
    return (long)t.tv_sec * 1000000 + (long)t.tv_usec;
}

static void fail(const char *what, int code)
{
    fprintf(stderr, "run: %s: %s\n", what, strerror(code));
    exit(1);
}

static struct sample run_once(char **command, const posix_spawn_file_actions_t *actions,
                              unsigned seconds)
{
    struct sample s = {.start_ns = now_ns()};
    struct rusage use;
    pid_t pid;
    int status;
    int code = posix_spawnp(&pid, command[0], actions, NULL, command, environ);
    if (code) {
        fail(command[0], code);
    }
    child = pid;
    alarm(seconds);
    while (wait4(pid, &status, 0, &use) < 0) {
        if (errno != EINTR) {
            fail("wait4", errno);
        }
    }
    s.wall_ns = now_ns() - s.start_ns;
    alarm(0);
    child = 0;
    s.cpu_us = microseconds(use.ru_utime) + microseconds(use.ru_stime);
    s.maxrss_kb = use.ru_maxrss;
    s.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return s;
}

/* Not ru_maxrss: that of this process tells of the larger one which started it. */
static long own_peak_kb(void)
{
    char line[256];
    long kb = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, "VmHWM:", 6) == 0) {
            kb = strtol(line + 6, NULL, 10);
        }
    }
    if (file) {
        fclose(file);
    }
    return kb;
}

int main(int argc, char **argv)
{
    long n = argc > 1 ? strtol(argv[1], NULL, 10) : 0;
    long seconds = argc > 2 ? strtol(argv[2], NULL, 10) : 0;
    if (argc < 4 || n < 1 || n > 100000 || seconds < 1) {
        fputs("usage: run N SECONDS COMMAND [ARG...]\n", stderr);
        return 64;
    }
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    printf("{\"runs\":[");
    for (long i = 0; i < n; i++) {
        struct sample s = run_once(argv + 3, &actions, (unsigned)seconds);
        printf("%s{\"start_ns\":%llu,\"wall_ns\":%llu,", i ? "," : "",
               (unsigned long long)s.start_ns, (unsigned long long)s.wall_ns);
        printf("\"cpu_us\":%ld,\"maxrss_kb\":%ld,\"status\":%d}", s.cpu_us, s.maxrss_kb, s.status);
    }
    printf("],\"own_kb\":%ld}\n", own_peak_kb());
    posix_spawn_file_actions_destroy(&actions);
    return 0;
}
