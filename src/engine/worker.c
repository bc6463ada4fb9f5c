#include "base/base.h"
#include "base/trace.h"
#include "base/turn.h"

#include "engine/pristine.h"
#include "engine/ship.h"
#include "engine/worker.h"
#include "engine/worker_int.h"

#include <errno.h>
#include <lauxlib.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    STACK_BYTES = 8 << 20, /* Lua's limit of 200 nested C calls assumes room */
    IDLE_SECONDS = 10,
    QUEUE_LIMIT = 4096,
    WORKER_NICE = 5, /* spinners do not delay the main thread */
    GARBAGE_SLACK = 4 << 20,
    DEFAULT_MEMORY = 256 << 20,
    TRIM_BYTES = 1 << 20,
};

_Thread_local struct worker *worker_self;

static void buf_set(struct buf *b, const char *text, size_t len)
{
    buf_clear(b);
    buf_append(b, text, len);
}

/* ---- a job on its worker ---- */

static int job_results(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    return lua_gettop(L) - 1;
}

/* The body of the job's task: job -> results of the shipped function. */
static int job_body(lua_State *L)
{
    struct job *job = lua_touserdata(L, 1);
    pristine_take_globals(L); // -- job globals
    int n = ship_decode(L, job->code.data, job->code.len, 2);
    n += ship_decode(L, job->args.data, job->args.len, 2);
    lua_remove(L, 2); // -- job fn args...
    lua_callk(L, n - 1, LUA_MULTRET, 0, job_results);
    return job_results(L, LUA_OK, 0);
}

static int job_spawn(lua_State *L)
{
    struct worker *w = worker_self;
    if (w->path_new) {
        pristine_set_search_path(L, w->path.data, w->cpath.data);
        w->path_new = false;
    }
    lua_pushcfunction(L, job_body);
    lua_pushvalue(L, 1);
    w->task = task_spawn(L, 1, NULL, 0);
    return 1;
}

static int job_encode(lua_State *L)
{
    ship_encode(L, lua_gettop(L), "a result", true);
    return 1;
}

/* task -> message. An error that cannot travel is told by its text. */
static int job_collect(lua_State *L)
{
    int n = task_push_results(L, 1); // -- task ok ...
    if (lua_toboolean(L, 2)) {
        ship_encode(L, n, "a result", true);
        return 1;
    }
    if (memory_is_error(L, 3) && memory_met(&worker_self->rt.memory)) {
        memory_push_fault(L, &worker_self->rt.memory);
        lua_replace(L, 3);
    }
    task_push_traceback(L, 1); // -- task false error traceback
    lua_pushcfunction(L, job_encode);
    lua_insert(L, 2);
    lua_pushvalue(L, 4);
    lua_insert(L, 2); // -- task error fn false error traceback
    if (lua_pcall(L, 3, 1, 0) != LUA_OK) {
        lua_pushboolean(L, false);
        (void)luaL_tolstring(L, 2, NULL);
        task_push_traceback(L, 1);
        ship_encode(L, 3, "an error", true);
    }
    return 1;
}

/* error -> message with its text alone, when the results could not travel */
static int job_collect_error(lua_State *L)
{
    lua_pushboolean(L, false);
    if (memory_is_error(L, 1) && memory_met(&worker_self->rt.memory)) {
        memory_push_fault(L, &worker_self->rt.memory);
    } else {
        (void)luaL_tolstring(L, 1, NULL);
    }
    ship_encode(L, 2, "an error", true);
    return 1;
}

static void job_take_result(struct job *job, lua_State *L)
{
    size_t len;
    const char *data = lua_tolstring(L, -1, &len);
    buf_append(&job->result, data, len);
}

/* What the job adds is limited from here on; with a narrow limit what others have left behind must
 * not blur it. */
static void limit_memory(struct worker *w, const struct job *job)
{
    if (job->memory != 0 && w->rt.memory.used > w->base_memory + job->memory / 8) {
        lua_gc(w->rt.L, LUA_GCCOLLECT);
    }
    memory_begin(&w->rt.memory, job->memory);
}

/* Leaves L's stack as it was. */
static void worker_run(struct worker *w, struct job *job)
{
    lua_State *L = w->rt.L;
    lua_pushcfunction(L, job_spawn);
    lua_pushlightuserdata(L, job);
    if (lua_pcall(L, 1, 1, 0) == LUA_OK) { // -- task
        limit_memory(w, job);
        task_drive(w->task);
        memory_relax(&w->rt.memory);
        lua_pushcfunction(L, job_collect);
        lua_pushvalue(L, -2);
        if (lua_pcall(L, 1, 1, 0) == LUA_OK) {
            job_take_result(job, L);
            lua_settop(L, 0);
            return;
        }
    } // -- [task] error
    lua_pushcfunction(L, job_collect_error);
    lua_insert(L, -2);
    if (lua_pcall(L, 1, 1, 0) == LUA_OK) {
        job_take_result(job, L);
    } /* else: no memory even for that; an empty result says so */
    lua_settop(L, 0);
}

static void forget_task(struct worker *w)
{
    w->task = NULL;
    w->raises = 0;
    w->rt.giving_up = false;
    w->rt.interrupted = false;
    atomic_store(&w->rt.in_grace, false);
    lua_sethook(w->rt.L, NULL, 0, 0);
    memory_end(&w->rt.memory);
}

/* A call that was stopped leaves no child of io.popen behind; closing its file would wait for it.
 */
static void stop_children(struct worker *w)
{
    if (worker_cancelled(w) || memory_met(&w->rt.memory)) {
        child_set_kill(&w->rt.children, SIGKILL);
    }
}

/* So much that the collector takes it away before the result is told: a finalizer that hangs then
 * is a call that hangs. */
static bool left_much(const struct worker *w)
{
    return w->rt.memory.used > 2 * w->base_memory + GARBAGE_SLACK;
}

/* Nothing that the job did to the state is seen by the next one. False
 * when there is no memory for that. */
static bool worker_clean(struct worker *w)
{
    lua_State *L = w->rt.L;
    forget_task(w);
    lua_pushcfunction(L, pristine_restore);
    int status = lua_pcall(L, 0, 0, 0);
    lua_settop(L, 0);
    runtime_reset_gc(L);
    if (child_set_busy(&w->rt.children) || /* files of io.popen that nobody has closed */
        left_much(w)) {
        lua_gc(L, LUA_GCCOLLECT);
    }
    child_set_forget(&w->rt.children);
    return status == LUA_OK;
}

/* The job met its limit. Its memory goes back to the system before its result is told: whoever
 * starts the next call finds it free, and a finalizer that hangs is a call that hangs. */
static void discard_state(struct worker *w)
{
    forget_task(w);
    /* Or malloc keeps up to 64 MiB at the end of this thread's heap, as large blocks were freed. */
    (void)mallopt(M_TRIM_THRESHOLD, TRIM_BYTES);
    runtime_close_state(&w->rt);
    (void)malloc_trim(0); /* what lies between blocks that are still used */
}

/* With the lock held. */
static void take_search_path(struct worker *w)
{
    struct pool *pool = w->pool;
    if (w->path_version != pool->path_version) {
        buf_set(&w->path, pool->path.data, pool->path.len);
        buf_set(&w->cpath, pool->cpath.data, pool->cpath.len);
        w->path_version = pool->path_version;
        w->path_new = true;
    }
}

/* With the lock held. */
static void end_tidying(struct worker *w)
{
    w->pool->tidying -= w->tidies;
    w->tidies = false;
}

static struct job *worker_next_job(struct worker *w)
{
    struct pool *pool = w->pool;
    struct job *job = NULL;
    uv_mutex_lock(&pool->lock);
    end_tidying(w);
    pool->idle++;
    while (list_empty(&pool->jobs) && !pool->closing) {
        int status = uv_cond_timedwait(&pool->work, &pool->lock, IDLE_SECONDS * 1000000000ull);
        if (status == UV_ETIMEDOUT && list_empty(&pool->jobs)) {
            break;
        }
    }
    pool->idle--;
    struct list *node = pool->closing ? NULL : list_take(&pool->jobs);
    if (node != NULL) {
        job = container_of(node, struct job, node);
        pool->queued--;
        job->worker = w;
        w->job = job;
        TRACE(WORKER, "%p takes job %p", (void *)w, (void *)job);
        take_search_path(w);
        atomic_store(&w->interrupt, CANCEL_NONE);
    } else {
        TRACE(WORKER, "%p retires", (void *)w);
        pool->count--; /* retires: from here on nobody counts on it */
    }
    uv_mutex_unlock(&pool->lock);
    return job;
}

static int pool_grow(struct pool *pool);

/* With the lock held: takes no job any more. Those that are queued must not wait for it in vain. */
static void worker_leave(struct worker *w, bool replace)
{
    struct pool *pool = w->pool;
    const char *why = w->lost && !replace ? POOL_ALL_LOST : NULL;
    TRACE(WORKER, "%p leaves", (void *)w);
    pool->count--;
    if (pool->closing || pool->queued <= pool->idle || (replace && pool_grow(pool) == 0) ||
        pool->count > 0) {
        return;
    }
    struct list *node;
    while ((node = list_take(&pool->jobs)) != NULL) {
        struct job *job = container_of(node, struct job, node);
        pool->queued--;
        job->refusal = why;
        runtime_post(job->from, &job->mail);
    }
}

void worker_set_aside(struct worker *w)
{
    TRACE(WORKER, "%p is lost with job %p", (void *)w, (void *)w->job);
    w->lost = true;
    w->pool->lost++;
    worker_leave(w, w->pool->lost < w->pool->limit);
}

static void worker_finish_job(struct worker *w, struct job *job, bool leaves)
{
    uv_mutex_lock(&w->pool->lock);
    job->worker = NULL;
    w->job = NULL;
    TRACE(WORKER, "%p has done job %p", (void *)w, (void *)job);
    if (w->lost) { /* it came back after all */
        w->lost = false;
        w->pool->lost--;
        w->pool->count++;
    }
    if (leaves) {
        worker_leave(w, true);
    } else {
        w->tidies = true;
        w->pool->tidying++;
    }
    struct runtime *from = job->from; /* under the lock: offload_forget() may change it */
    bool wake = runtime_put(from, &job->mail);
    uv_mutex_unlock(&w->pool->lock);
    if (wake) {
        runtime_wake(from);
    }
}

/* Does one job. False when the worker is to end. */
static bool worker_serve(struct worker *w)
{
    struct job *job = worker_next_job(w);
    if (job == NULL) {
        return false;
    }
    worker_run(w, job);
    bool spent = memory_met(&w->rt.memory);
    stop_children(w);
    bool hurry = atomic_load(&w->interrupt) != CANCEL_NONE;
    bool much = left_much(w);
    bool clean = false;
    if (spent && !hurry) {
        discard_state(w);
    } else if (much && !hurry) {
        clean = worker_clean(w);
        spent = !clean;
    }
    spent = spent || (much && hurry);
    worker_finish_job(w, job, spent);
    if (spent && hurry) { /* whoever cancelled it would take it for one that does not obey */
        discard_state(w);
    } else if (!spent && !clean && !worker_clean(w)) {
        spent = true;
        uv_mutex_lock(&w->pool->lock);
        end_tidying(w);
        worker_leave(w, true);
        uv_mutex_unlock(&w->pool->lock);
    }
    return !spent;
}

static void worker_main(void *arg)
{
    struct worker *w = arg;
    struct pool *pool = w->pool;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    worker_self = w;
    turn_late(WORKER_NICE);
    if (pool->setup(&w->rt) == 0) {
        w->base_memory = w->rt.memory.used;
        (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
        while (worker_serve(w)) {
        }
        (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    } else { /* and so would another one: it is not replaced */
        uv_mutex_lock(&pool->lock);
        worker_leave(w, false);
        uv_mutex_unlock(&pool->lock);
    }
    runtime_release(&w->rt);
    buf_release(&w->path);
    buf_release(&w->cpath);
    uv_mutex_lock(&pool->lock);
    w->ended = true;
    uv_cond_broadcast(&pool->end);
    uv_mutex_unlock(&pool->lock);
}

/* ---- the pool ---- */

struct pool *pool_new(struct runtime *rt, size_t limit, int (*setup)(struct runtime *rt))
{
    struct pool *pool = xcalloc(1, sizeof(*pool));
    pool->rt = rt;
    if (rt->owns_state) { /* else the thread is somebody else's */
        turn_soon();
    }
    pool->setup = setup;
    pool->limit = limit;
    pool->memory = DEFAULT_MEMORY;
    ASSERT(uv_mutex_init(&pool->lock) == 0);
    ASSERT(uv_cond_init(&pool->work) == 0);
    ASSERT(uv_cond_init(&pool->end) == 0);
    list_init(&pool->jobs);
    list_init(&pool->workers);
    list_init(&pool->late);
    return pool;
}

void pool_set_limit(struct pool *pool, size_t limit)
{
    uv_mutex_lock(&pool->lock);
    pool->limit = limit;
    uv_mutex_unlock(&pool->lock);
}

void pool_set_memory(struct pool *pool, size_t bytes)
{
    uv_mutex_lock(&pool->lock);
    pool->memory = bytes;
    uv_mutex_unlock(&pool->lock);
}

size_t pool_memory(struct pool *pool)
{
    uv_mutex_lock(&pool->lock);
    size_t bytes = pool->memory;
    uv_mutex_unlock(&pool->lock);
    return bytes;
}

size_t pool_limit(struct pool *pool)
{
    uv_mutex_lock(&pool->lock);
    size_t limit = pool->limit;
    uv_mutex_unlock(&pool->lock);
    return limit;
}

void pool_set_search_path(struct pool *pool, const char *path, const char *cpath)
{
    size_t len = strlen(path);
    size_t clen = strlen(cpath);
    uv_mutex_lock(&pool->lock);
    if (pool->path_version == 0 || pool->path.len != len || pool->cpath.len != clen ||
        memcmp(pool->path.data, path, len) != 0 || memcmp(pool->cpath.data, cpath, clen) != 0) {
        buf_set(&pool->path, path, len);
        buf_set(&pool->cpath, cpath, clen);
        pool->path_version++;
    }
    uv_mutex_unlock(&pool->lock);
}

size_t pool_size(struct pool *pool)
{
    uv_mutex_lock(&pool->lock);
    size_t count = pool->count;
    uv_mutex_unlock(&pool->lock);
    return count;
}

/* Signals other than ours are for the main thread. */
static int start_thread(struct worker *w)
{
    static const uv_thread_options_t options = {UV_THREAD_HAS_STACK_SIZE, STACK_BYTES};
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int status = uv_thread_create_ex(&w->thread, &options, worker_main, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return status;
}

/* With the lock held. Joins workers that have retired. */
static void reap(struct pool *pool)
{
    for (struct list *n = pool->workers.next, *next; n != &pool->workers; n = next) {
        next = n->next;
        struct worker *w = container_of(n, struct worker, node);
        if (w->ended) {
            list_remove(n);
            uv_thread_join(&w->thread);
            free(w);
        }
    }
}

/* With the lock held. */
static int pool_grow(struct pool *pool)
{
    reap(pool);
    struct worker *w = xcalloc(1, sizeof(*w));
    w->pool = pool;
    int status = runtime_init(&w->rt, false);
    if (status != 0) {
        free(w);
        return status;
    }
    status = runtime_open_loop(&w->rt); /* here, where no more descriptors are an error to report */
    if (status != 0) {
        runtime_release(&w->rt);
        free(w);
        return status;
    }
    w->rt.worker = w;
    w->rt.children.own_groups = true; /* they end with the call */
    w->rt.pool = pool;
    worker_make_interruptible(w);
    list_append(&pool->workers, &w->node);
    pool->count++;
    TRACE(WORKER, "%p starts, %zu of %zu", (void *)w, pool->count, pool->limit);
    status = start_thread(w);
    if (status != 0) {
        pool->count--;
        list_remove(&w->node);
        runtime_release(&w->rt);
        free(w);
    }
    return status;
}

void pool_help(struct pool *pool)
{
    uv_mutex_lock(&pool->lock);
    if (!pool->closing && pool->queued > pool->idle && pool->count < pool->limit) {
        (void)pool_grow(pool); /* or those that there are have to do */
    }
    uv_mutex_unlock(&pool->lock);
}

int pool_submit(struct pool *pool, struct job *job)
{
    int status = 0;
    uv_mutex_lock(&pool->lock);
    if (pool->closing || pool->queued >= QUEUE_LIMIT) {
        status = UV_EBUSY;
    } else if (pool->lost >= pool->limit) {
        status = UV_EAGAIN;
    } else if (pool->idle <= pool->queued && job->from->worker == NULL &&
               pool->idle + pool->tidying > pool->queued) {
        job->hopes = true;
    } else if (pool->idle <= pool->queued) { /* nobody is free for it */
        status = pool->count < pool->limit ? pool_grow(pool) : POOL_NO_ROOM;
        if (status != 0 && job->from->worker != NULL) {
            status = POOL_NO_ROOM;
        } else if (status != 0 && pool->count > 0) {
            status = 0; /* those that there are will do */
        }
    }
    if (status == 0) {
        list_append(&pool->jobs, &job->node);
        pool->queued++;
    }
    uv_mutex_unlock(&pool->lock);
    if (status == 0) { /* only now: or who wakes up waits for the lock */
        uv_cond_signal(&pool->work);
    }
    return status;
}

/* With the lock held: a worker is left that was not set aside. */
static bool any_obeys(struct pool *pool)
{
    for (struct list *n = pool->workers.next; n != &pool->workers; n = n->next) {
        if (!container_of(n, struct worker, node)->lost) {
            return true;
        }
    }
    return false;
}

size_t pool_free(struct pool *pool, uint64_t grace_ms)
{
    uint64_t deadline = uv_hrtime() + grace_ms * 1000000;
    size_t lost = 0;
    uv_mutex_lock(&pool->lock);
    pool->closing = true;
    uv_cond_broadcast(&pool->work);
    for (struct list *n = pool->workers.next; n != &pool->workers; n = n->next) {
        struct worker *w = container_of(n, struct worker, node);
        if (w->job != NULL) {
            worker_interrupt(w, CANCEL_PARENT);
        }
    }
    for (;;) {
        reap(pool);
        uint64_t now = uv_hrtime();
        if (!any_obeys(pool) || now >= deadline) {
            break;
        }
        (void)uv_cond_timedwait(&pool->end, &pool->lock, deadline - now);
    }
    for (struct list *n = pool->workers.next; n != &pool->workers; n = n->next) {
        child_set_kill(&container_of(n, struct worker, node)->rt.children, SIGKILL);
        lost++;
    }
    uv_mutex_unlock(&pool->lock);
    if (lost == 0) {
        runtime_deliver_mail(pool->rt); /* or a late result would find a pool that is gone */
        offload_drop_queued(pool);
        pool_drop_late(pool);
        uv_cond_destroy(&pool->end);
        uv_cond_destroy(&pool->work);
        uv_mutex_destroy(&pool->lock);
        buf_release(&pool->path);
        buf_release(&pool->cpath);
        free(pool);
    }
    return lost;
}
