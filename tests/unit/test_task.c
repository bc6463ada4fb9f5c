/*
 * Tasks from C: what the runtime promises to its host. The rest is in tests/lua/tasks.lua.
 */
#include "test.h"

#include "lua_world.h"

#include "bind/bind.h"
#include "engine/runtime.h"
#include "engine/task.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

static struct runtime rt;

static void begin(void)
{
    ASSERT_INT(runtime_init(&rt, true), 0);
    ASSERT_INT(bind_open(&rt), 0);
}

static struct task *spawn(const char *chunk)
{
    struct task *t = world_spawn(&rt, chunk);
    t->observed = true;
    return t;
}

static bool is_done(void *arg)
{
    struct task *t = arg;
    return t->state == TASK_DONE;
}

TEST(task_stack_of_the_state_stays_as_it_was)
{
    begin();
    int top = lua_gettop(rt.L);
    for (int i = 0; i < 100; i++) {
        struct task *t = spawn(i % 2 ? "error 'x'" : "require('lash').sleep(0) return 1, 2, 3");
        ASSERT_INT(runtime_run(&rt, is_done, t), 0);
        ASSERT_INT(t->failed, i % 2);
        lua_pop(rt.L, 1);
        ASSERT_INT(lua_gettop(rt.L), top);
    }
    runtime_release(&rt);
}

TEST(task_a_loop_is_opened_only_when_something_waits)
{
    begin();
    struct task *t = spawn("local n = 0 for i = 1, 1000 do n = n + i end return n");
    ASSERT_INT(runtime_run(&rt, is_done, t), 0);
    ASSERT_INT(rt.loop_open, false);
    t = spawn("require('lash').sleep(0)");
    ASSERT_INT(runtime_run(&rt, is_done, t), 0);
    ASSERT_INT(rt.loop_open, true);
    runtime_release(&rt);
}

TEST(task_stalls_are_told)
{
    begin();
    struct task *t =
        spawn("local e = require 'lash.core.engine' local b <close> = e.batch(1) b:add(false) "
              "b:add(false) b:start() b:next() b:next()");
    ASSERT_INT(runtime_run(&rt, is_done, t), RUNTIME_STALLED);
    ASSERT_INT(t->state, TASK_WAITING);
    task_cancel(t, CANCEL_STALL);
    ASSERT_INT(runtime_run(&rt, is_done, t), 0);
    ASSERT_INT(t->failed, true);
    runtime_release(&rt);
}

struct late_mail {
    struct mail mail;
    int *count;
};

static void deliver(struct runtime *to, struct mail *mail)
{
    struct late_mail *late = container_of(mail, struct late_mail, mail);
    ASSERT_TRUE(to == &rt);
    (*late->count)++;
    free(late);
}

static void post(int *count)
{
    struct late_mail *late = xcalloc(1, sizeof(*late));
    late->mail.deliver = deliver;
    late->count = count;
    runtime_post(&rt, &late->mail);
}

static bool two_came(void *arg)
{
    return *(int *)arg >= 2;
}

TEST(task_mail_is_delivered_also_before_and_after_the_loop)
{
    int count = 0;
    begin();
    runtime_expect(&rt);
    post(&count);
    post(&count);
    ASSERT_INT(runtime_run(&rt, two_came, &count), 0);
    runtime_received(&rt);
    runtime_close_loop(&rt);
    post(&count);
    ASSERT_INT(count, 2);
    runtime_release(&rt);
    ASSERT_INT(count, 3);
}

TEST(task_memory_limit_fails_allocations_and_not_the_process)
{
    begin();
    memory_begin(&rt.memory, 1 << 20);
    struct task *t =
        spawn("local list = {} while true do list[#list + 1] = ('x'):rep(1000) .. #list end");
    ASSERT_INT(runtime_run(&rt, is_done, t), 0);
    ASSERT_INT(t->failed, true);
    (void)task_push_results(rt.L, lua_gettop(rt.L));
    ASSERT_STR(lua_tostring(rt.L, -1), "not enough memory");
    lua_settop(rt.L, 0);
    ASSERT_INT(memory_met(&rt.memory), true);
    memory_end(&rt.memory);
    lua_gc(rt.L, LUA_GCCOLLECT);
    t = spawn("return 1");
    ASSERT_INT(runtime_run(&rt, is_done, t), 0);
    ASSERT_INT(t->failed, false);
    runtime_release(&rt);
}
