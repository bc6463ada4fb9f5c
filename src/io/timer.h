/*
 * One-shot timers on a uv loop. Loop thread only. A timer never fires early: it counts from the
 * call of timer_start(), not from the loop's cached clock.
 */
#ifndef LASH_TIMER_H
#define LASH_TIMER_H

#include "base/base.h"

#include <uv.h>

/* Those of a loop are found by its data pointer, which must be NULL before the first one is
 * started: uv_loop_init() leaves it as it was. */
struct timer;
typedef void (*timer_fn)(void *arg);

/* Calls fn(arg) once from the loop, `ms` milliseconds from now (0 = at its next turn, never before
 * this returns). The loop stays alive for it. The timer frees itself after it fired: the caller
 * must forget the pointer then. */
struct timer *timer_start(uv_loop_t *loop, uint64_t ms, timer_fn fn, void *arg);

/* The same in nanoseconds; on an idle loop it fires as soon as the system wakes the thread. */
struct timer *timer_start_ns(uv_loop_t *loop, uint64_t ns, timer_fn fn, void *arg);

/* Stops a timer that has not fired (or is firing right now: legal inside fn); NULL is ignored. fn
 * is not called afterwards. The pointer is gone for the caller. */
void timer_stop(struct timer *t);

/* Closes what the loop's timers have open, when all of them have fired or were stopped: before
 * uv_loop_close(), with a turn of the loop between. */
void timer_close(uv_loop_t *loop);

#endif
