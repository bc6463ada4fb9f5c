/*
 * The pool of workers: threads of our own, each with a runtime, that run shipped functions. A
 * worker may block or burn a core without delaying anybody. Only bytes cross between threads.
 *
 * The pool belongs to the main runtime. It grows on demand up to its limit; idle workers retire.
 * Jobs are queued first in, first out; the dispatcher holds calls back until a worker is free, so
 * the queue stays short.
 */
#ifndef LASH_WORKER_H
#define LASH_WORKER_H

#include "base/base.h"
#include "engine/runtime.h"
#include "engine/task.h"

struct pool;

/* Makes the pool of `rt`; threads start with the first job. `setup(rt)` opens the library in the
 * state of a new worker, on its thread. */
struct pool *pool_new(struct runtime *rt, size_t limit, int (*setup)(struct runtime *rt));

/* Stops all workers: idle ones at once, busy ones are interrupted and get `grace_ms`. Returns the
 * number of those that did not stop: their memory stays, and the process must leave by _exit(). */
size_t pool_free(struct pool *pool, uint64_t grace_ms);

/* How many workers there may be. Workers that run already stay. */
void pool_set_limit(struct pool *pool, size_t limit);
size_t pool_limit(struct pool *pool);

/* Bytes that a job may add to the state of its worker when it does not say how many; 0 = no limit.
 */
void pool_set_memory(struct pool *pool, size_t bytes);
size_t pool_memory(struct pool *pool);

/* Where workers look for modules from their next job on: package.path and package.cpath of the main
 * state. The texts are copied. */
void pool_set_search_path(struct pool *pool, const char *path, const char *cpath);

/* Workers that exist at the moment: for tests and benchmarks. */
size_t pool_size(struct pool *pool);

/* Pushes an op userdata for task_wait(): runs the shipped message `code` (a function and perhaps
 * its first arguments) with the further arguments of the message `args`, on a worker. It finishes
 * with true, results... or false, error, message of a traceback or nil. The task's cancel
 * interrupts the worker and waits for its end; one that is stuck in C is set aside after a moment,
 * and task.lost says so. Raises when the queue is full, or as many workers are lost as there may
 * be. Returns NULL, with nothing pushed, when a worker asks and no other one is free: it must not
 * wait for itself.
 * `watcher`: stack index of a function that is called in the waiting task with the values of each
 * report of the job, or 0. `tag` (copied, or NULL) names the job for pool_push_late(). The job may
 * use `memory` bytes (0 = no limit); a worker whose job met its limit is replaced. */
struct op *pool_push_offload(lua_State *L, struct pool *pool, const char *code, size_t code_len,
                             const char *args, size_t args_len, int watcher, const char *tag,
                             size_t memory);

/* On the worker's thread: sends the shipped message to the one who waits for the running job.
 * False, and nothing is sent, when nobody watches it or too many reports are on their way. */
bool worker_report(struct worker *w, const char *data, size_t len);

/* On the worker's thread: true when the running job is to end. */
bool worker_cancelled(const struct worker *w);

/* Pushes { tag =, ms = time from its start } of a result that came after its wait was over because
 * the worker was lost, and forgets it; false when there is none whose tag begins with `prefix`. The
 * last 64 are kept. Main thread. */
bool pool_push_late(lua_State *L, struct pool *pool, const char *prefix);

/* Registers metatables. Every state. */
void worker_open(lua_State *L);

#endif
