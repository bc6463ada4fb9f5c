/*
 * Shell commands that a thread runs and waits for in the blocking way of os.execute and io.popen,
 * and that another thread can stop. One set a runtime; children are started and waited for on the
 * thread of the set, and killed from any.
 *
 * Unlike those of system(3) and popen(3) they get default signals and an empty signal mask (our
 * threads block signals), and a SIGINT that comes meanwhile is not ignored.
 */
#ifndef LASH_CHILD_H
#define LASH_CHILD_H

#include "base/base.h"
#include "base/list.h"

#include <pthread.h>
#include <sys/types.h>

struct child_set {
    pthread_mutex_t lock;
    struct list children; /* struct child.node: not reaped, or with others in its group; guarded */
    bool own_groups;      /* each child leads a session, and so a group, which is what is killed */
};

struct child; /* owned by who started it, until child_wait() */

void child_set_init(struct child_set *set, bool own_groups);

/* Its children are left alone: nobody waits for them any more. */
void child_set_release(struct child_set *set);

/* Starts `sh -c command` with these descriptors as stdin and stdout, -1 = ours, and our
 * environment, without keys of providers unless `with_keys`. Returns 0 or a negative errno.
 * One with a group of its own has no terminal: to read from there it would be stopped, in the
 * background as it is, and whoever waits for it would wait for ever. It gets /dev/null instead of
 * a stdin that is a terminal, and cannot open /dev/tty. */
int child_start(struct child_set *set, const char *command, int in, int out, bool with_keys,
                struct child **child);

pid_t child_pid(const struct child *child);

/* Waits for its end, blocking, and frees it. Returns the status as of waitpid(). */
int child_wait(struct child_set *set, struct child *child);

/* True while a child was started and not yet waited for. */
bool child_set_busy(struct child_set *set);

/* What ended children have left in the background is left alone from now on. */
void child_set_forget(struct child_set *set);

/* Sends `sig` to the groups of all children, and to what ended ones have left in theirs. Any
 * thread. Does nothing without own groups. */
void child_set_kill(struct child_set *set, int sig);

#endif
