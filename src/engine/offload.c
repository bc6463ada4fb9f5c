/*
 * The waiting side of a job: what a task does that has offloaded a function to a worker.
 */
#include "base/base.h"
#include "base/patience.h"
#include "base/trace.h"

#include "engine/ship.h"
#include "engine/worker.h"
#include "engine/worker_int.h"
#include "io/timer.h"

#include <lauxlib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define OFFLOAD_TYPE "lash.offload"
#define BYTES_TYPE "lash.offload.bytes"

enum {
    HOPE_MS = 20,     /* a job waits so long for a worker that tidies up */
    CHILDREN_MS = 10, /* from the cancel on, until its children are asked to end */
    KILL_MS = 30,     /* from there on, until they are killed */
    OBEY_MS = 100,    /* a cancelled worker that has not come back by then is lost */
    CLOSERS_MS = 250, /* ... that much later when closers of the job wait */
    MAX_REPORTS = 64, /* of one job that are on their way */
    MAX_LATE = 64,    /* late results that are kept to be told of */
};

static void job_free(struct job *job)
{
    buf_release(&job->code);
    buf_release(&job->args);
    buf_release(&job->result);
    free(job->tag);
    free(job);
}

void job_unref(struct job *job)
{
    if (atomic_fetch_sub(&job->refs, 1) == 1) {
        job_free(job);
    }
}

static void report_free(struct report *report)
{
    job_unref(report->job);
    buf_release(&report->value);
    free(report);
}

/* The answer was given long ago; somebody may want to know how it ended. */
static void keep_late(struct pool *pool, struct job *job)
{
    job->ended_ms = uv_hrtime() / 1000000;
    list_append(&pool->late, &job->node);
    if (++pool->nlate > MAX_LATE) {
        pool->nlate--;
        job_unref(container_of(list_take(&pool->late), struct job, node));
    }
}

static void end_hope(struct offload_op *off)
{
    timer_stop(off->hope);
    off->hope = NULL;
}

/* A finalizer holds the worker that was to take the job. */
static void on_hope_end(void *arg)
{
    struct offload_op *off = arg;
    off->hope = NULL;
    pool_help(off->pool);
}

static void deliver_result(struct runtime *rt, struct mail *mail)
{
    struct job *job = container_of(mail, struct job, mail);
    if (job->expected) {
        runtime_received(rt);
    }
    struct offload_op *off = job->op;
    if (off != NULL) {
        end_hope(off);
        timer_stop(off->grace);
        off->grace = NULL;
        buf_move(&off->result, &job->result);
        off->refusal = job->refusal;
        off->job = NULL;
        op_done(&off->op);
    } else if (job->lost && job->tag != NULL && rt->pool != NULL && rt->worker == NULL) {
        keep_late(rt->pool, job);
        return;
    }
    job_unref(job);
}

/* Nobody waits for the job any more. */
static void offload_forget(struct offload_op *off)
{
    struct job *job = off->job;
    end_hope(off);
    off->job = NULL;
    job->op = NULL;
    if (job->expected) { /* it may never come: the loop does not stay alive for it */
        job->expected = false;
        runtime_received(job->from);
    }
    uv_mutex_lock(&off->pool->lock); /* the runtime of a worker may be gone when it comes */
    job->from = off->pool->rt;
    uv_mutex_unlock(&off->pool->lock);
}

static void offload_lost(void *arg);

/* It may wait for a child, in os.execute or a read from io.popen. */
static void end_children(void *arg)
{
    const struct {
        int sig;
        uint64_t then_ms;
    } steps[] = {{SIGTERM, KILL_MS}, {SIGKILL, patience_ms(OBEY_MS) - CHILDREN_MS - KILL_MS}};
    struct offload_op *off = arg;
    struct job *job = off->job;
    uv_mutex_lock(&off->pool->lock);
    if (job->worker != NULL) {
        child_set_kill(&job->worker->rt.children, steps[off->step].sig);
    }
    uv_mutex_unlock(&off->pool->lock);
    uint64_t ms = steps[off->step].then_ms;
    off->step++;
    bool last = off->step == ARRAY_LEN(steps);
    off->grace = timer_start(runtime_loop(job->from), ms, last ? offload_lost : end_children, off);
}

/* The worker did not obey: it is stuck in C. It is set aside, and another one takes its place. */
static void offload_lost(void *arg)
{
    struct offload_op *off = arg;
    struct job *job = off->job;
    off->grace = NULL;
    uv_mutex_lock(&off->pool->lock);
    struct worker *w = job->worker;
    if (w != NULL && !off->extended && atomic_load(&w->rt.in_grace)) {
        off->extended = true;
        off->grace =
            timer_start(runtime_loop(job->from), patience_ms(CLOSERS_MS), offload_lost, off);
        uv_mutex_unlock(&off->pool->lock);
        return;
    }
    if (w != NULL) {
        worker_set_aside(w);
    }
    uv_mutex_unlock(&off->pool->lock);
    if (w == NULL) {
        return; /* its result is on the way */
    }
    if (off->op.task != NULL) {
        off->op.task->lost = true;
    }
    job->lost = true;
    offload_forget(off);
    op_done(&off->op);
}

/* A queued job is taken back at once; a running one is interrupted and will come back. */
static void offload_cancel(struct op *op)
{
    struct offload_op *off = (struct offload_op *)op;
    struct job *job = off->job;
    if (job == NULL) {
        return;
    }
    enum cancel_reason reason = op->task ? op->task->cancel : CANCEL_NONE;
    if (reason == CANCEL_NONE) { /* the wait is impossible where it was asked for */
        reason = CANCEL_PARENT;
    }
    uv_mutex_lock(&off->pool->lock);
    bool queued = !list_empty(&job->node);
    if (queued) {
        list_remove(&job->node);
        off->pool->queued--;
    } else if (job->worker != NULL) {
        worker_interrupt(job->worker, reason);
    }
    uv_mutex_unlock(&off->pool->lock);
    if (queued) {
        offload_forget(off);
        job_unref(job);
        op_done(op);
    } else if (off->grace == NULL && op->task != NULL) {
        off->grace = timer_start(runtime_loop(job->from), CHILDREN_MS, end_children, off);
    }
}

static int offload_go_on(lua_State *L, struct offload_op *off);

static int report_told(lua_State *L, int status, lua_KContext index)
{
    struct offload_op *off = lua_touserdata(L, (int)index);
    runtime_of(L)->current->unwinding = off->unwinding;
    if (status != LUA_OK && status != LUA_YIELD) { /* the job ends first, then the error goes on */
        lua_setiuservalue(L, (int)index, 1);
        off->failed = true;
        off->op.task = runtime_of(L)->current;
        offload_cancel(&off->op);
        off->op.task = NULL;
    }
    lua_settop(L, (int)index);
    return offload_go_on(L, off);
}

/* Calls the watcher with the next report; it may wait. */
static int tell_report(lua_State *L, struct offload_op *off)
{
    int index = off->op.index;
    lua_settop(L, index);
    lua_pushcfunction(L, task_on_error);
    lua_getiuservalue(L, index, 1);
    struct buf *value = lua_newuserdatauv(L, sizeof(*value), 0); /* or an error would lose it */
    *value = (struct buf){0};
    luaL_setmetatable(L, BYTES_TYPE);
    struct report *report = container_of(list_take(&off->reports), struct report, node);
    buf_move(value, &report->value);
    report_free(report);
    lua_insert(L, -2); // -- ... op handler bytes fn
    int n = ship_decode(L, value->data, value->len, 0);
    off->unwinding = runtime_of(L)->current->unwinding;
    return report_told(L, lua_pcallk(L, n, 0, index + 1, index, report_told), index);
}

/* The op is on the stack at off->op.index. Reports come before the result. */
static int offload_go_on(lua_State *L, struct offload_op *off)
{
    if (!off->failed && !list_empty(&off->reports)) {
        return tell_report(L, off);
    }
    if (off->job != NULL) {
        lua_settop(L, off->op.index);
        return task_wait(L, &off->op);
    }
    if (off->failed) {
        lua_getiuservalue(L, off->op.index, 1);
        return lua_error(L);
    }
    if (off->result.len == 0) {
        lua_pushboolean(L, false);
        lua_pushstring(L, off->refusal != NULL ? off->refusal : "not enough memory");
        return 2;
    }
    return ship_decode(L, off->result.data, off->result.len, 0);
}

static int offload_finish(lua_State *L, struct op *op)
{
    return offload_go_on(L, (struct offload_op *)op);
}

static int bytes_gc(lua_State *L)
{
    buf_release(luaL_checkudata(L, 1, BYTES_TYPE));
    return 0;
}

/* ---- reports ---- */

static void deliver_report(struct runtime *rt, struct mail *mail)
{
    struct report *report = container_of(mail, struct report, mail);
    struct offload_op *off = report->job->op;
    (void)rt;
    atomic_fetch_sub(&report->job->nreports, 1);
    if (off == NULL) {
        report_free(report);
        return;
    }
    list_append(&off->reports, &report->node);
    op_wake(&off->op);
}

bool worker_report(struct worker *w, const char *data, size_t len)
{
    uv_mutex_lock(&w->pool->lock);
    struct job *job = w->job;
    bool room = job != NULL && job->watched && atomic_load(&job->nreports) < MAX_REPORTS;
    struct runtime *wake = NULL;
    if (room) {
        struct report *report = xcalloc(1, sizeof(*report));
        report->mail.deliver = deliver_report;
        report->job = job;
        list_init(&report->node);
        buf_append(&report->value, data, len);
        atomic_fetch_add(&job->refs, 1);
        atomic_fetch_add(&job->nreports, 1);
        wake = runtime_put(job->from, &report->mail) ? job->from : NULL;
    }
    uv_mutex_unlock(&w->pool->lock);
    if (wake != NULL) {
        runtime_wake(wake);
    }
    return room;
}

/* ---- the op ---- */

/* On the thread of the pool, when its workers have ended: queued jobs will not be run. */
void offload_drop_queued(struct pool *pool)
{
    struct list *node;
    while ((node = list_take(&pool->jobs)) != NULL) {
        struct job *job = container_of(node, struct job, node);
        struct offload_op *off = job->op;
        off->refusal = "the program ends: no worker is left";
        offload_forget(off);
        job_unref(job);
        op_done(&off->op);
    }
}

static int offload_gc(lua_State *L)
{
    struct offload_op *off = luaL_checkudata(L, 1, OFFLOAD_TYPE);
    timer_stop(off->grace);
    off->grace = NULL;
    op_gone(&off->op);
    if (off->job != NULL) {
        offload_cancel(&off->op);
        if (off->job != NULL) {
            offload_forget(off);
        }
    }
    struct list *node;
    while ((node = list_take(&off->reports)) != NULL) {
        report_free(container_of(node, struct report, node));
    }
    buf_release(&off->result);
    return 0;
}

static struct offload_op *push_op(lua_State *L, struct pool *pool, int watcher)
{
    struct offload_op *off = lua_newuserdatauv(L, sizeof(*off), 1);
    *off = (struct offload_op){
        .op = {.cancel = offload_cancel, .finish = offload_finish, .lingers = true},
        .pool = pool,
    };
    list_init(&off->reports);
    luaL_setmetatable(L, OFFLOAD_TYPE);
    if (watcher != 0) {
        lua_pushvalue(L, watcher);
        lua_setiuservalue(L, -2, 1);
    }
    return off;
}

struct op *pool_push_offload(lua_State *L, struct pool *pool, const char *code, size_t code_len,
                             const char *args, size_t args_len, int watcher, const char *tag,
                             size_t memory)
{
    struct runtime *rt = runtime_of(L);
    struct offload_op *off = push_op(L, pool, watcher);
    struct job *job = xcalloc(1, sizeof(*job));
    job->refs = 1;
    job->tag = tag != NULL ? xstrdup(tag) : NULL;
    job->watched = watcher != 0;
    job->started_ms = uv_hrtime() / 1000000;
    list_init(&job->node);
    job->from = rt;
    job->memory = memory;
    job->op = off;
    job->mail.deliver = deliver_result;
    buf_append(&job->code, code, code_len);
    buf_append(&job->args, args, args_len);
    runtime_expect(rt);
    job->expected = true;
    int status = pool_submit(pool, job);
    if (status != 0) {
        runtime_received(rt);
        job_unref(job);
        if (status == POOL_NO_ROOM) {
            lua_pop(L, 1);
            return NULL;
        }
        /* lua_error: a place in the library would tell a model nothing */
        if (status == UV_EAGAIN) {
            lua_pushstring(L, POOL_ALL_LOST);
        } else {
            lua_pushfstring(L, "no worker can take this call: %s",
                            status == UV_EBUSY ? "too many calls wait already"
                                               : uv_strerror(status));
        }
        lua_error(L);
    }
    off->job = job;
    if (job->hopes) {
        off->hope = timer_start(runtime_loop(rt), HOPE_MS, on_hope_end, off);
    }
    return &off->op;
}

void worker_open(lua_State *L)
{
    luaL_newmetatable(L, OFFLOAD_TYPE);
    lua_pushcfunction(L, offload_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_newmetatable(L, BYTES_TYPE);
    lua_pushcfunction(L, bytes_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}

/* ---- late results ---- */

static struct job *late_job(struct pool *pool, const char *prefix)
{
    size_t len = strlen(prefix);
    for (struct list *n = pool->late.next; n != &pool->late; n = n->next) {
        struct job *job = container_of(n, struct job, node);
        if (strncmp(job->tag, prefix, len) == 0) {
            return job;
        }
    }
    return NULL;
}

bool pool_push_late(lua_State *L, struct pool *pool, const char *prefix)
{
    struct job *job = late_job(pool, prefix);
    if (job == NULL) {
        return false;
    }
    lua_createtable(L, 0, 2);
    lua_pushstring(L, job->tag);
    lua_setfield(L, -2, "tag");
    lua_pushinteger(L, (lua_Integer)(job->ended_ms - job->started_ms));
    lua_setfield(L, -2, "ms");
    list_remove(&job->node);
    pool->nlate--;
    job_unref(job);
    return true;
}

void pool_drop_late(struct pool *pool)
{
    struct list *node;
    while ((node = list_take(&pool->late)) != NULL) {
        job_unref(container_of(node, struct job, node));
    }
}
