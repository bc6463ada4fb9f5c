/*
 * Streams of models through the parser and the readers of all providers: tests/fuzz/cases.lua. The
 * random ones print their seed; LASH_FUZZ_SEED tries others, LASH_FUZZ_RUNS more of them.
 */
#include "base/base.h"

#include "stream_world.h"
#include "test.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>

static long number(const char *variable, long otherwise)
{
    const char *text = getenv(variable);
    return text != NULL ? strtol(text, NULL, 10) : otherwise;
}

/* What of the tries fits between the other tests; `make fuzz` makes all. */
static long runs(void)
{
    return number("LASH_FUZZ_RUNS", (long)(test_times(2000, 700) / test_slower()));
}

/* Calls cases.FUNCTION(seed, runs), the results are on the stack. */
static void run(struct runtime *rt, const char *function, long times, int nres)
{
    long seed = number("LASH_FUZZ_SEED", 20240607);
    stream_world_open(rt, "cases");
    lua_pushinteger(rt->L, seed);
    lua_pushinteger(rt->L, times);
    printf("%s: seed %ld, %ld runs\n", function, seed, times);
    if (!stream_world_call(rt, function, 2, nres)) {
        test_fail(__FILE__, __LINE__, "%s", lua_tostring(rt->L, -1));
    }
}

static void run_all(const char *function)
{
    struct runtime rt;
    run(&rt, function, runs(), 1);
    ASSERT_TRUE(lua_tointeger(rt.L, -1) > 0);
    runtime_release(&rt);
}

TEST(streams_p2_every_split_gives_the_same_events)
{
    run_all("splits");
}

TEST(streams_p2_every_split_gives_the_same_answer)
{
    run_all("answers");
}

TEST(streams_p6_no_answer_of_a_stream_that_is_cut)
{
    run_all("truncations");
}

TEST(streams_large_answers_take_work_in_proportion)
{
    run_all("linear");
}

TEST(streams_large_answers_take_memory_in_proportion)
{
    run_all("large");
}

TEST(streams_p2_the_same_events_in_other_bytes)
{
    struct runtime rt;
    run(&rt, "disguises", runs() / 500 + 1, 0);
    runtime_release(&rt);
}

TEST(streams_p1_p6_random_changes_do_no_harm)
{
    struct runtime rt;
    run(&rt, "mutations", runs(), 2);
    // most changes hit something that does not matter, or break the stream: both have to happen
    ASSERT_TRUE(lua_tointeger(rt.L, -1) > 0 && lua_tointeger(rt.L, -2) > 0);
    runtime_release(&rt);
}
