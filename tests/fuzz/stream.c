/*
 * A libFuzzer target: streams of models through the parser of event streams and the readers of all
 * providers. What has to hold is written in checks.lua; cases.lua tells what an input is.
 *
 * libFuzzer sees which code of C an input reaches. For the readers, which are Lua, a hook on their
 * lines counts which line follows which.
 */
#include "base/base.h"

#include "stream_world.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNTERS = 1 << 14, COLLECT_EVERY = 1000 };

/* Looked at by libFuzzer after each input, beside its own. */
__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t counters[COUNTERS];

static struct runtime rt;
static uint64_t line_before;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

static void count_line(lua_State *L, lua_Debug *ar)
{
    lua_getinfo(L, "S", ar);
    if (strstr(ar->source, "lash/provider/") == NULL) {
        line_before = 0;
        return;
    }
    uint64_t line = (uint64_t)(uintptr_t)ar->source * 31 + (uint64_t)ar->currentline;
    line *= 0x9e3779b97f4a7c15u;
    counters[(line ^ (line_before >> 1)) >> 50]++;
    line_before = line;
}

NORETURN static void fail(void)
{
    fprintf(stderr, "==ERROR: %s\n", lua_tostring(rt.L, -1));
    abort();
}

/* With LASH_FUZZ_SEEDS=DIR it only writes the first inputs there. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    stream_world_open(&rt, "cases");
    const char *dir = getenv("LASH_FUZZ_SEEDS");
    if (dir != NULL) {
        lua_pushstring(rt.L, dir);
        if (!stream_world_call(&rt, "write_seeds", 1, 0)) {
            fail();
        }
        exit(0);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned runs;
    line_before = 0;
    lua_sethook(rt.L, count_line, LUA_MASKLINE, 0);
    lua_pushlstring(rt.L, (const char *)data, size);
    bool good = stream_world_call(&rt, "input", 1, 0);
    lua_sethook(rt.L, NULL, 0, 0);
    if (!good) {
        fail();
    }
    if (++runs % COLLECT_EVERY == 0) {
        lua_gc(rt.L, LUA_GCCOLLECT);
    }
    return 0;
}

/* Half of the changes know lines, events and JSON. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    if (size <= 3 || seed % 2 == 0) {
        return LLVMFuzzerMutate(data, size, max);
    }
    lua_pushlstring(rt.L, (const char *)data, size);
    lua_pushinteger(rt.L, seed);
    if (!stream_world_call(&rt, "change", 2, 1)) {
        fail();
    }
    size_t len;
    const char *other = lua_tolstring(rt.L, -1, &len);
    len = len < max ? len : max;
    memcpy(data, other, len);
    lua_pop(rt.L, 1);
    return len;
}
