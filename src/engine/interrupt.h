/*
 * The signals that ask the program to end: SIGINT (Ctrl-C), SIGTERM and SIGHUP. The first one
 * cancels the task of the running command, which then ends by itself: Lua that runs on the main
 * thread is interrupted wherever it is, waits end. A second one ends the program at once. Either
 * way it dies by the signal in the end, so that whoever waits for it knows.
 *
 * For the program only: in somebody else's process nothing here is ever opened, and interrupt_leave
 * is _exit(). All functions are for the main thread. A signal that was ignored at the start (nohup,
 * a job in the background) stays ignored.
 */
#ifndef LASH_INTERRUPT_H
#define LASH_INTERRUPT_H

#include "base/base.h"
#include "engine/runtime.h"
#include "engine/task.h"

#include <signal.h>
#include <sys/types.h>

/* Takes the signals, for the main runtime, whose loop is open. */
void interrupt_open(struct runtime *rt);

/* The loop is about to be closed: a first signal only counts from now on, a second one still ends
 * the program. */
void interrupt_close(void);

/* Whom the first signal cancels: the task of the command (borrowed until the next call with another
 * one or NULL). If a signal has come already, it is cancelled now. */
void interrupt_set_task(struct task *t);

/* A console: from now on SIGINT cancels only what is entered there and never ends the program. `t`
 * is the task of the entry, borrowed until the next call; NULL between two entries: then the signal
 * is for the next one. */
void interrupt_set_entry(struct task *t);

/* SIGINT asks the program to end again. */
void interrupt_end_console(void);

/* Raises the cancel error when a signal has cancelled the running task, perhaps just now: for code
 * that blocks the thread, after EINTR. */
void interrupt_check(lua_State *L);

/* Around the start of a child that shares our terminal, and so has to get the signals that come
 * from there: no one is lost between us and the child. interrupt_hold() raises when the running
 * task was cancelled and does not know it yet; from there to interrupt_release() such signals wait.
 * `child` is 0 when none was started. `waits`: the thread only waits for it until
 * interrupt_child_ended(); meanwhile SIGINT at a console is the child's first, and cancels the
 * entry when that has ended. On workers they only block and unblock. */
void interrupt_hold(lua_State *L, sigset_t *before);
void interrupt_release(lua_State *L, const sigset_t *before, pid_t child, bool waits);
void interrupt_child_ended(lua_State *L);

/* In a hook: the running task is cancelled, and computes. From now on the cancel error is raised in
 * it, as after a signal, wherever it is. */
void interrupt_running(lua_State *L);

/* The signal that asked for the end, or 0. Any thread. */
int interrupt_signal(void);

/* After a step of a task on the main thread, which was resumed from `from`: the hook was for that
 * task alone. */
void interrupt_end_step(struct runtime *rt, lua_State *from);

/* What a second signal and interrupt_leave() do before the program dies: `fn` must be
 * async-signal-safe. At most 4. */
void interrupt_at_end(void (*fn)(void));

/* Ends the process: by the signal that asked for it, or else by _exit(status). */
_Noreturn void interrupt_leave(int status);

#endif
