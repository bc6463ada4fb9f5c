/*
 * Watches for tasks that hold the main loop: code that computes for long, or blocks, where it
 * should wait. One runtime of the process is watched, the program's main one; all functions are for
 * its thread, and do nothing for other runtimes.
 *
 * While tasks run, a timer of the kernel looks at most once per limit whether the step that it saw
 * last still runs; when nothing runs it is not set. Only then a hook that runs once is set on the
 * Lua state that holds the loop: it tells of it when that delays somebody, and ends the task when
 * its deadline, which has no other way to it, is over.
 */
#ifndef LASH_WATCHDOG_H
#define LASH_WATCHDOG_H

#include "base/base.h"
#include "engine/runtime.h"

enum { WATCHDOG_MS = 50 };

/* Watches rt. `collect` is called in the hook, above the code that holds the loop, with what
 * task_push_call() tells, and returns a record of it, or nil when nothing is to be told. `tell`
 * gets the record, for how many ms the loop was held at least, and whether it is still held; it
 * returns nil or a function that a task then runs. Neither may wait. */
void watchdog_open(struct runtime *rt, unsigned limit_ms, lua_CFunction collect,
                   lua_CFunction tell);

/* Changes the limit; 0 switches it off. */
void watchdog_set_limit(unsigned limit_ms);

/* Around each step of a task. */
void watchdog_begin(struct runtime *rt);
void watchdog_end(struct runtime *rt);

/* Tells now, in the running task, what else is told at the end of its present step: pushes the
 * function that makes the event; or false, with nothing pushed. */
bool watchdog_take(lua_State *L);

/* Stops watching. */
void watchdog_close(void);

#endif
