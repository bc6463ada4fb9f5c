/*
 * The waiting side of a job: what a task does that has offloaded a function to a worker.
 */
#include "base/base.h"
#include "base/trace.h"

#include "engine/ship.h"
#include "engine/worker.h"
#include "engine/worker_int.h"
#include "io/timer.h"

#include <lauxlib.h>
#include <stdlib.h>

#define OFFLOAD_TYPE "lash.offload"

enum { OBEY_MS = 100 }; /* a cancelled worker that has not come back by then is lost */

static void job_free(struct job *job)
{
    buf_release(&job->code);
    buf_release(&job->args);
    buf_release(&job->result);
    free(job);
}

static void deliver_result(struct runtime *rt, struct mail *mail)
{
    struct job *job = container_of(mail, struct job, mail);
    if (job->expected) {
        runtime_received(rt);
    }
    struct offload_op *off = job->op;
    if (off != NULL) {
        timer_stop(off->grace);
        off->grace = NULL;
        buf_move(&off->result, &job->result);
        off->job = NULL;
        op_done(&off->op);
    }
    job_free(job);
}

/* Nobody waits for the job any more. */
static void offload_forget(struct offload_op *off)
{
    struct job *job = off->job;
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

/* The worker did not obey: it is stuck in C. It is set aside, and another one takes its place. */
static void offload_lost(void *arg)
{
    struct offload_op *off = arg;
    struct job *job = off->job;
    off->grace = NULL;
    uv_mutex_lock(&off->pool->lock);
    struct worker *w = job->worker;
    if (w != NULL) {
        w->lost = true;
        TRACE(WORKER, "%p is lost with job %p", (void *)w, (void *)job);
        off->pool->lost++;
        off->pool->count--;
    }
    uv_mutex_unlock(&off->pool->lock);
    if (w == NULL) {
        return; /* its result is on the way */
    }
    if (off->op.task != NULL) {
        off->op.task->lost = true;
    }
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
        job_free(job);
        op_done(op);
    } else if (off->grace == NULL && op->task != NULL) {
        off->grace = timer_start(runtime_loop(job->from), OBEY_MS, offload_lost, off);
    }
}

static int offload_finish(lua_State *L, struct op *op)
{
    struct offload_op *off = (struct offload_op *)op;
    if (off->result.len == 0) {
        lua_pushboolean(L, false);
        lua_pushliteral(L, "not enough memory");
        return 2;
    }
    return ship_decode(L, off->result.data, off->result.len, 0);
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
    buf_release(&off->result);
    return 0;
}

struct op *pool_push_offload(lua_State *L, struct pool *pool, const char *code, size_t code_len,
                             const char *args, size_t args_len)
{
    struct runtime *rt = runtime_of(L);
    struct offload_op *off = lua_newuserdatauv(L, sizeof(*off), 0);
    *off = (struct offload_op){
        .op = {.cancel = offload_cancel, .finish = offload_finish, .lingers = true},
        .pool = pool,
    };
    luaL_setmetatable(L, OFFLOAD_TYPE);
    struct job *job = xcalloc(1, sizeof(*job));
    list_init(&job->node);
    job->from = rt;
    job->op = off;
    job->mail.deliver = deliver_result;
    buf_append(&job->code, code, code_len);
    buf_append(&job->args, args, args_len);
    runtime_expect(rt);
    job->expected = true;
    int status = pool_submit(pool, job);
    if (status != 0) {
        runtime_received(rt);
        job_free(job);
        if (status == POOL_NO_ROOM) {
            lua_pop(L, 1);
            return NULL;
        }
        luaL_error(L, "no worker can take this call: %s",
                   status == UV_EBUSY    ? "too many calls wait already"
                   : status == UV_EAGAIN ? "too many workers are stuck in calls that do not end"
                                         : uv_strerror(status));
    }
    off->job = job;
    return &off->op;
}

void worker_open(lua_State *L)
{
    luaL_newmetatable(L, OFFLOAD_TYPE);
    lua_pushcfunction(L, offload_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}
