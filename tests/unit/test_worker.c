/*
 * The pool from C: growing, retiring at close, cancelling what waits and what runs, closing while
 * busy. T4: a cancelled job's task ends; nothing is left when the runtime is released.
 */
#include "test.h"

#include "lua_world.h"

#include "base/patience.h"
#include "bind/bind.h"
#include "engine/runtime.h"
#include "engine/task.h"
#include "engine/worker.h"

#include <lauxlib.h>
#include <string.h>

static struct runtime rt;

static void begin(size_t jobs)
{
    patience_set(20); /* none of these workers is stuck, however late it comes */
    ASSERT_INT(runtime_init(&rt, true), 0);
    ASSERT_INT(bind_open(&rt), 0);
    pool_set_limit(bind_pool(&rt), jobs);
}

static void end(void)
{
    task_cancel_all(&rt, CANCEL_PARENT, 20000);
    ASSERT_INT(bind_close_pool(&rt), 0);
    runtime_release(&rt);
}

static struct task *spawn(const char *chunk)
{
    return world_spawn(&rt, chunk);
}

static bool is_done(void *arg)
{
    struct task *t = arg;
    return t->state == TASK_DONE;
}

static void run_task(struct task *t)
{
    ASSERT_INT(runtime_run(&rt, is_done, t), 0);
}

/* Runs the chunk as a task to its end; its first result is text. */
static void run(const char *chunk, const char *want)
{
    struct task *t = spawn(chunk);
    run_task(t);
    int task = lua_gettop(rt.L);
    (void)task_push_results(rt.L, task); // -- task ok text | error
    if (t->failed) {
        test_fail(__FILE__, __LINE__, "%s", luaL_tolstring(rt.L, task + 2, NULL));
    }
    ASSERT_STR(lua_tostring(rt.L, task + 2), want);
    lua_settop(rt.L, task - 1);
}

#define PREPARE                             \
    "local e = require 'lash.core.engine' " \
    "local function go(fn, ...) return e.offload(e.ship('a test', fn), ...) end "

TEST(worker_grows_to_its_limit_and_no_further)
{
    begin(3);
    ASSERT_INT(pool_size(bind_pool(&rt)), 0);
    run(PREPARE "return select(2, go(function() return 'one' end))", "one");
    ASSERT_INT(pool_size(bind_pool(&rt)), 1);
    run(PREPARE "local l = require 'lash' local code = e.ship('nap', function() "
                "require('lash').sleep(0.01) end) "
                "local n = 0 l.map({1,2,3,4,5,6,7,8,9}, function() if e.offload(code) then n = n + "
                "1 end end) "
                "return tostring(n)",
        "9");
    ASSERT_INT(pool_size(bind_pool(&rt)), 3);
    end();
}

TEST(worker_pool_closes_while_idle_and_unused)
{
    begin(2);
    end();
    begin(2);
    run(PREPARE "go(function() end) return 'x'", "x");
    end();
}

TEST(worker_pool_closes_while_busy)
{
    test_needs_prompt_signals();
    begin(2);
    struct task *spin = spawn(PREPARE "go(function() while true do end end)");
    struct task *nap = spawn(PREPARE "go(function() require('lash').sleep(100) end)");
    struct task *queued = spawn(PREPARE "go(function() end)");
    for (int i = 0; i < 3; i++) {
        run("require('lash').sleep(0.005) return 'x'", "x");
    }
    task_cancel_all(&rt, CANCEL_PARENT, 20000);
    ASSERT_INT(spin->state, TASK_DONE);
    ASSERT_INT(nap->state, TASK_DONE);
    ASSERT_INT(queued->state, TASK_DONE);
    end();
}

TEST(worker_pool_closes_before_its_tasks)
{
    test_needs_prompt_signals();
    begin(2);
    (void)spawn(PREPARE "go(function() require('lash').sleep(100) end)");
    (void)spawn(PREPARE "go(function() while true do end end)");
    run("require('lash').sleep(0.02) return 'x'", "x");
    ASSERT_INT(bind_close_pool(&rt), 0); /* interrupts what runs; their results are on the way */
    runtime_release(&rt);
}

TEST(worker_cancel_of_queued_and_running_jobs)
{
    test_needs_prompt_signals();
    begin(1);
    struct task *running = spawn(PREPARE "go(function() while true do end end)");
    struct task *queued = spawn(PREPARE "go(function() end)");
    run("require('lash').sleep(0.02) return 'x'", "x");
    task_cancel(queued, CANCEL_USER);
    run_task(queued);
    ASSERT_INT(running->state, TASK_WAITING);
    ASSERT_INT(queued->failed, true);
    task_cancel(running, CANCEL_DEADLINE);
    task_cancel(running, CANCEL_USER);
    run_task(running);
    ASSERT_INT(running->cancel, CANCEL_DEADLINE);
    ASSERT_INT(running->lost, false);
    running->observed = queued->observed = true;
    run(PREPARE "return select(2, go(function() return 'again' end))", "again");
    ASSERT_INT(pool_size(bind_pool(&rt)), 1);
    end();
}

TEST(worker_runtime_closes_its_loop_and_opens_it_again)
{
    begin(2);
    for (int i = 0; i < 20; i++) {
        run(PREPARE "return select(2, go(function() return 'here' end))", "here");
        ASSERT_INT(bind_close_pool(&rt), 0);
        runtime_close_loop(&rt);
        ASSERT_INT(rt.loop_open, false);
        ASSERT_INT(rt.expected, 0);
    }
    end();
}

TEST(worker_release_with_everything_still_going_on)
{
    begin(2);
    (void)spawn("require('lash').sleep(100)");
    (void)spawn("local l = require 'lash' l.gather { function() l.sleep(100) end, function() "
                "l.sleep(100) end }");
    (void)spawn("local e = require 'lash.core.engine' local b <close> = e.batch(1) b:add(false) "
                "b:add(false) "
                "b:start() b:next() b:next()");
    (void)spawn(PREPARE "go(function() require('lash').sleep(100) end)");
    (void)spawn(
        "local t = require('lash').spawn(function() require('lash').sleep(100) end) t:wait()");
    (void)spawn("coroutine.wrap(function() require('lash').sleep(100) end)()");
    run("require('lash').sleep(0.01) return 'x'", "x");
    end();
}
