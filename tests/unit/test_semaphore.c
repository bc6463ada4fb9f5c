/*
 * Semaphores of the process between runtimes of several threads: nothing is granted twice, the
 * queue is served in order, and a runtime that goes away leaves nothing behind.
 */
#include "test.h"

#include "lua_world.h"

#include "bind/bind.h"
#include "engine/runtime.h"
#include "engine/semaphore.h"
#include "engine/task.h"

#include <lauxlib.h>
#include <stdatomic.h>
#include <string.h>

enum { THREADS = 4, ROUNDS = 300 };

static bool is_waiting(void *arg)
{
    return semaphore_waiting("m=x") == *(const size_t *)arg;
}

static bool is_done(void *arg)
{
    return ((struct task *)arg)->state == TASK_DONE;
}

static void drive(struct task *t)
{
    task_drive(t);
    ASSERT_INT(t->failed, false);
}

static atomic_int inside;
static atomic_int entered;

static int l_enter(lua_State *L)
{
    (void)L;
    ASSERT_INT(atomic_fetch_add(&inside, 1), 0);
    atomic_fetch_add(&entered, 1);
    return 0;
}

static int l_leave(lua_State *L)
{
    (void)L;
    ASSERT_INT(atomic_fetch_sub(&inside, 1), 1);
    return 0;
}

static void open_runtime(struct runtime *rt)
{
    ASSERT_INT(runtime_init(rt, false), 0);
    bind_open(rt);
}

static void thread_main(void *arg)
{
    struct runtime *rt = arg;
    lua_register(rt->L, "enter", l_enter);
    lua_register(rt->L, "leave", l_leave);
    lua_pushinteger(rt->L, ROUNDS);
    lua_setglobal(rt->L, "rounds");
    drive(world_spawn(rt,
                      "local lash = require 'lash' local m = lash.mutex('x')\n"
                      "local function body() enter() leave() end\n"
                      "lash.gather({ function() for _ = 1, rounds do m:run(body) end end,\n"
                      "  function() for _ = 1, rounds do m:run(body) lash.sleep(0) end end,\n"
                      "  function() for _ = 1, rounds do\n"
                      "    local t = lash.spawn(m.run, m, body) lash.sleep(0) t:cancel() t:wait()\n"
                      "  end end }, { raise = true })"));
    lua_settop(rt->L, 0);
}

/* As with workers, the descriptors of a loop are opened and closed by another thread than runs it:
 * so the thread sanitizer sees no race for their numbers. */
TEST(one_holder_among_threads)
{
    static struct runtime runtimes[THREADS];
    uv_thread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        open_runtime(&runtimes[i]);
        ASSERT_INT(runtime_open_loop(&runtimes[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        ASSERT_INT(uv_thread_create(&threads[i], thread_main, &runtimes[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        ASSERT_INT(uv_thread_join(&threads[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        runtime_release(&runtimes[i]);
    }
    ASSERT_TRUE(atomic_load(&entered) >= 2 * THREADS * ROUNDS);
    ASSERT_INT(semaphore_count(), 0);
}

/* One thread drives two runtimes: what one does between the turns of the other is chosen. */
TEST(runtime_that_waits_goes_away)
{
    struct runtime a, b;
    open_runtime(&a);
    open_runtime(&b);
    drive(world_spawn(&a, "held = require('lash').mutex('x'):try_lock() and nil"));
    ASSERT_INT(semaphore_count(), 0); /* its task has ended */
    (void)world_spawn(&a, "local l = require 'lash' local h = l.mutex('x'):lock() l.sleep(1000)");
    size_t want = 0;
    task_run_ready(&a);
    ASSERT_INT(semaphore_count(), 1);
    (void)world_spawn(&b, "require('lash').mutex('x'):run(error, 'it ran')");
    want = 1;
    ASSERT_INT(runtime_run(&b, is_waiting, &want), 0);
    lua_settop(b.L, 0);
    runtime_release(&b);
    ASSERT_INT(semaphore_waiting("m=x"), 0);
    lua_settop(a.L, 0);
    runtime_release(&a);
    ASSERT_INT(semaphore_count(), 0);
}

TEST(runtime_goes_away_with_a_letter_under_way)
{
    struct runtime a, b, c;
    open_runtime(&a);
    open_runtime(&b);
    open_runtime(&c);
    struct task *holder =
        world_spawn(&a, "local l = require 'lash' l.mutex('x'):run(l.sleep, 0.001)");
    task_run_ready(&a);
    (void)world_spawn(&b, "require('lash').mutex('x'):run(error, 'it ran')");
    struct task *last = world_spawn(&c, "require('lash').mutex('x'):run(function() end)");
    size_t want = 1;
    ASSERT_INT(runtime_run(&b, is_waiting, &want), 0);
    want = 2;
    ASSERT_INT(runtime_run(&c, is_waiting, &want), 0);
    ASSERT_INT(runtime_run(&a, is_done, holder), 0); /* b's turn: its letter is posted */
    lua_settop(b.L, 0);
    runtime_release(&b); /* takes it back; c is next */
    ASSERT_INT(runtime_run(&c, is_done, last), 0);
    ASSERT_INT(last->failed, false);
    ASSERT_INT(semaphore_count(), 0);
    lua_settop(a.L, 0);
    lua_settop(c.L, 0);
    runtime_release(&a);
    runtime_release(&c);
}

/* T4: its letter has come, but the task did not run yet. */
TEST(cancelled_when_it_was_granted)
{
    struct runtime a, b;
    open_runtime(&a);
    open_runtime(&b);
    struct task *holder =
        world_spawn(&a, "local l = require 'lash' l.mutex('x'):run(l.sleep, 0.001)");
    task_run_ready(&a);
    struct task *t = world_spawn(&b, "local core = require 'lash.core.lock'\n"
                                     "got = pcall(core.acquire, 'm=x', 1)\n"
                                     "left = core.count()");
    size_t want = 1;
    ASSERT_INT(runtime_run(&b, is_waiting, &want), 0);
    ASSERT_INT(runtime_run(&a, is_done, holder), 0);
    runtime_deliver_mail(&b);
    ASSERT_INT(t->state, TASK_READY);
    task_cancel(t, CANCEL_USER);
    ASSERT_INT(runtime_run(&b, is_done, t), 0);
    lua_getglobal(b.L, "got");
    ASSERT_INT(lua_toboolean(b.L, -1), false);
    lua_getglobal(b.L, "left");
    ASSERT_INT(lua_isinteger(b.L, -1), true);
    ASSERT_INT(lua_tointeger(b.L, -1), 0); /* while the task ran on */
    lua_settop(a.L, 0);
    lua_settop(b.L, 0);
    runtime_release(&a);
    runtime_release(&b);
}

static uv_sem_t is_held, may_end;

static int l_hold(lua_State *L)
{
    (void)L;
    uv_sem_post(&is_held);
    uv_sem_wait(&may_end); /* as a sync tool that computes */
    return 0;
}

static void holder_thread(void *arg)
{
    struct runtime rt;
    (void)arg;
    open_runtime(&rt);
    lua_register(rt.L, "hold", l_hold);
    drive(world_spawn(&rt, "require('lash').mutex('x'):run(hold)"));
    lua_settop(rt.L, 0);
    runtime_release(&rt);
}

static void end_it(uv_timer_t *timer)
{
    (void)timer;
    uv_sem_post(&may_end);
}

/* Nothing is alive in the loop of one that waits for what another thread has. */
TEST(somebody_elsewhere_will_give_it_back)
{
    struct runtime a;
    uv_thread_t thread;
    open_runtime(&a);
    ASSERT_INT(uv_sem_init(&is_held, 0), 0);
    ASSERT_INT(uv_sem_init(&may_end, 0), 0);
    ASSERT_INT(uv_thread_create(&thread, holder_thread, NULL), 0);
    uv_sem_wait(&is_held);
    struct task *t = world_spawn(&a, "require('lash').mutex('x'):run(function() end)");
    uv_timer_t later; /* not counted as alive, but it shows that the loop runs meanwhile */
    ASSERT_INT(uv_timer_init(runtime_loop(&a), &later), 0);
    ASSERT_INT(uv_timer_start(&later, end_it, 20, 0), 0);
    uv_unref((uv_handle_t *)&later);
    ASSERT_INT(runtime_run(&a, is_done, t), 0);
    ASSERT_INT(t->failed, false);
    uv_close((uv_handle_t *)&later, NULL);
    ASSERT_INT(uv_thread_join(&thread), 0);
    lua_settop(a.L, 0);
    runtime_release(&a);
    uv_sem_destroy(&is_held);
    uv_sem_destroy(&may_end);
}

TEST(nobody_can_give_it_back)
{
    struct runtime a;
    open_runtime(&a);
    struct task *t =
        world_spawn(&a, "local l = require 'lash' local m = l.mutex('x')\n"
                        "m:run(function() local t = l.spawn(m.run, m, print) t:wait() end)");
    ASSERT_INT(runtime_run(&a, is_done, t), RUNTIME_STALLED);
    task_cancel(t, CANCEL_STALL);
    ASSERT_INT(runtime_run(&a, is_done, t), 0);
    ASSERT_INT(semaphore_count(), 0);
    lua_settop(a.L, 0);
    runtime_release(&a);
}
