#include "base/base.h"
#include "base/secret.h"

#include "io/child.h"
#include "io/proc_int.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

struct child {
    struct list node;
    pid_t pid;
    bool reaped;             /* it has ended, and left others in its group */
    struct proc_group group; /* its place among those that end with the program; with own groups */
};

void child_set_init(struct child_set *set, bool own_groups)
{
    *set = (struct child_set){.own_groups = own_groups};
    ASSERT(pthread_mutex_init(&set->lock, NULL) == 0);
    list_init(&set->children);
}

void child_set_release(struct child_set *set)
{
    child_set_forget(set);
    while (list_take(&set->children) != NULL) {
        /* only the debug library can bring it about that its owner still has it: that one leaks */
    }
    pthread_mutex_destroy(&set->lock);
}

static void set_attributes(const struct child_set *set, posix_spawnattr_t *attr)
{
    sigset_t signals;
    short flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
    sigfillset(&signals);
    (void)posix_spawnattr_setsigdefault(attr, &signals);
    sigemptyset(&signals);
    (void)posix_spawnattr_setsigmask(attr, &signals);
    if (set->own_groups) {
        flags |= POSIX_SPAWN_SETSID; // a group of its own, too
    }
    (void)posix_spawnattr_setflags(attr, flags);
}

/* Our environment, but for keys of providers; to be freed. The texts stay where they are. */
static char **without_keys(void)
{
    size_t n = 0;
    while (environ != NULL && environ[n] != NULL) {
        n++;
    }
    char **envp = xcalloc(n + 1, sizeof(*envp));
    for (size_t i = 0, kept = 0; i < n; i++) {
        if (!secret_is_key(environ[i])) {
            envp[kept++] = environ[i];
        }
    }
    return envp;
}

static int spawn(const struct child_set *set, const char *command, int in, int out, char **envp,
                 pid_t *pid)
{
    char *argv[] = {(char *)"sh", (char *)"-c", (char *)command, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    int err = posix_spawn_file_actions_init(&actions);
    if (err != 0) {
        return -err;
    }
    err = posix_spawnattr_init(&attr);
    if (err != 0) {
        (void)posix_spawn_file_actions_destroy(&actions);
        return -err;
    }
    set_attributes(set, &attr);
    if (in >= 0) {
        err = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
    } else if (set->own_groups && isatty(STDIN_FILENO)) {
        err = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    }
    if (err == 0 && out >= 0) {
        err = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    }
    if (err == 0) {
        err = posix_spawn(pid, "/bin/sh", &actions, &attr, argv, envp);
    }
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&actions);
    return -err;
}

static void child_free(struct child *c)
{
    proc_group_forget(&c->group);
    free(c);
}

int child_start(struct child_set *set, const char *command, int in, int out, bool with_keys,
                struct child **child)
{
    struct child *c = xcalloc(1, sizeof(*c));
    if (set->own_groups && !proc_group_reserve(&c->group)) {
        free(c);
        return -ECANCELED;
    }
    pthread_mutex_lock(&set->lock); /* nobody kills it before it is in the list */
    char **envp = with_keys ? environ : without_keys();
    int status = spawn(set, command, in, out, envp, &c->pid);
    if (!with_keys) {
        free(envp);
    }
    if (status == 0) {
        if (set->own_groups) {
            proc_group_started(&c->group, c->pid);
        }
        list_append(&set->children, &c->node);
        *child = c;
    } else {
        child_free(c);
    }
    pthread_mutex_unlock(&set->lock);
    return status;
}

pid_t child_pid(const struct child *child)
{
    return child->pid;
}

int child_wait(struct child_set *set, struct child *child)
{
    siginfo_t info;
    while (waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
    }
    int status = 0;
    pthread_mutex_lock(&set->lock); /* reaped out of the list: its number may be another's then */
    list_remove(&child->node);
    while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR) {
    }
    child->reaped = set->own_groups && kill(-child->pid, 0) == 0;
    if (child->reaped) { /* what it left in the background may have to be killed */
        list_append(&set->children, &child->node);
    } else {
        child_free(child);
    }
    pthread_mutex_unlock(&set->lock);
    return status;
}

bool child_set_busy(struct child_set *set)
{
    pthread_mutex_lock(&set->lock);
    bool busy = false;
    for (struct list *n = set->children.next; !busy && n != &set->children; n = n->next) {
        busy = !container_of(n, struct child, node)->reaped;
    }
    pthread_mutex_unlock(&set->lock);
    return busy;
}

void child_set_forget(struct child_set *set)
{
    pthread_mutex_lock(&set->lock);
    for (struct list *n = set->children.next, *next; n != &set->children; n = next) {
        next = n->next;
        struct child *c = container_of(n, struct child, node);
        if (c->reaped) {
            list_remove(n);
            child_free(c);
        }
    }
    pthread_mutex_unlock(&set->lock);
}

void child_set_kill(struct child_set *set, int sig)
{
    pthread_mutex_lock(&set->lock);
    for (struct list *n = set->children.next; set->own_groups && n != &set->children; n = n->next) {
        (void)kill(-container_of(n, struct child, node)->pid, sig); // it may have ended: fine
    }
    pthread_mutex_unlock(&set->lock);
}
