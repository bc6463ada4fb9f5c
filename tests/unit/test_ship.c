/*
 * Shipping between two states, and of bytes that are cut or broken: an error, never a crash.
 */
#include "test.h"

#include "engine/ship.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static lua_State *new_state(void)
{
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    ship_open(L);
    return L;
}

/* chunk -> message of what it returns; the chunk's text is on the stack */
static int encode(lua_State *L)
{
    if (luaL_loadstring(L, lua_tostring(L, 1)) != LUA_OK) {
        return lua_error(L);
    }
    lua_call(L, 0, LUA_MULTRET);
    ship_encode(L, lua_gettop(L) - 1, "a test", false);
    return 1;
}

struct bytes {
    const char *data;
    size_t len;
};

static int decode(lua_State *L)
{
    struct bytes *b = lua_touserdata(L, 1);
    return ship_decode(L, b->data, b->len, 0);
}

/* The bytes of what the chunk returns; owned by the caller. */
static struct bytes message(const char *chunk)
{
    lua_State *L = new_state();
    lua_pushcfunction(L, encode);
    lua_pushstring(L, chunk);
    if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
        test_fail(__FILE__, __LINE__, "%s", lua_tostring(L, -1));
    }
    struct bytes b;
    const char *data = lua_tolstring(L, -1, &b.len);
    b.data = xmemdup(data, b.len);
    lua_close(L);
    return b;
}

/* Decodes a copy of exactly that size, so that a read past the end is seen. */
static int try_decode(lua_State *L, const char *data, size_t len)
{
    struct bytes b = {xmemdup(data, len), len};
    lua_settop(L, 0);
    lua_pushcfunction(L, decode);
    lua_pushlightuserdata(L, &b);
    int status = lua_pcall(L, 1, LUA_MULTRET, 0);
    free((char *)b.data);
    return status;
}

static const char *const data_chunk =
    "local shared = { 'x', [2.5] = true, n = 0/0 } shared.me = shared "
    "return nil, true, false, 1, -1, math.mininteger, math.maxinteger, 1.5, 'text\\0more', "
    "{ 1, 2, 3, a = { b = { c = shared } }, shared }, setmetatable({}, { __index = shared }), "
    "string, table.insert, print, _G, io.stdout";

static const char *const function_chunk =
    "local n, m = 1, { 2 } local function up() n = n + 1 return up end "
    "return function() n = n + m[1] return up, print, string.format end, up, { up, up }";

TEST(ship_values_of_one_state_arrive_in_another)
{
    struct bytes b = message(data_chunk);
    lua_State *L = new_state();
    ASSERT_INT(try_decode(L, b.data, b.len), LUA_OK);
    ASSERT_INT(lua_gettop(L), 16);
    ASSERT_INT(lua_type(L, 1), LUA_TNIL);
    ASSERT_INT(lua_toboolean(L, 2), 1);
    ASSERT_TRUE(lua_tointeger(L, 6) == LUA_MININTEGER && lua_tointeger(L, 7) == LUA_MAXINTEGER);
    size_t len;
    ASSERT_STR(lua_tolstring(L, 9, &len), "text");
    ASSERT_INT(len, 9);
    lua_getglobal(L, "string");
    ASSERT_TRUE(lua_rawequal(L, -1, 12));
    lua_getglobal(L, "print");
    ASSERT_TRUE(lua_rawequal(L, -1, 14));
    lua_pushglobaltable(L);
    ASSERT_TRUE(lua_rawequal(L, -1, 15));
    lua_close(L);
    free((char *)b.data);
}

TEST(ship_functions_of_one_state_run_in_another)
{
    struct bytes b = message("local n = 40 return function(m) n = n + m return n end");
    lua_State *L = new_state();
    for (int i = 0; i < 3; i++) { /* each time from the same snapshot */
        ASSERT_INT(try_decode(L, b.data, b.len), LUA_OK);
        ASSERT_INT(lua_gettop(L), 1);
        lua_pushinteger(L, 2);
        ASSERT_INT(lua_pcall(L, 1, 1, 0), LUA_OK);
        ASSERT_INT(lua_tointeger(L, -1), 42);
    }
    lua_close(L);
    free((char *)b.data);
}

static void truncate_everywhere(const char *chunk)
{
    struct bytes b = message(chunk);
    lua_State *L = new_state();
    for (size_t len = 0; len < b.len; len++) {
        ASSERT_INT(try_decode(L, b.data, len), LUA_ERRRUN);
    }
    ASSERT_INT(try_decode(L, b.data, b.len), LUA_OK);
    lua_close(L);
    free((char *)b.data);
}

TEST(ship_a_cut_message_is_an_error_at_every_length)
{
    truncate_everywhere(data_chunk);
}

TEST(ship_a_cut_function_is_an_error_at_every_length)
{
    lua_State *L = new_state();
    struct bytes b = message(function_chunk);
    for (size_t len = 0; len < b.len; len++) { /* cut dumps give LUA_ERRSYNTAX, raised again */
        ASSERT_TRUE(try_decode(L, b.data, len) != LUA_OK);
    }
    ASSERT_INT(try_decode(L, b.data, b.len), LUA_OK);
    lua_close(L);
    free((char *)b.data);
}

static unsigned seed = 12345;

static unsigned random_below(unsigned n)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 16) % n;
}

TEST(ship_broken_bytes_crash_nothing)
{
    struct bytes b = message(data_chunk);
    char *copy = xmalloc(b.len);
    for (int run = 0; run < 40; run++) {
        lua_State *L = new_state();
        for (int i = 0; i < 100; i++) {
            memcpy(copy, b.data, b.len);
            for (unsigned n = 1 + random_below(4); n > 0; n--) {
                copy[random_below((unsigned)b.len)] = (char)random_below(256);
            }
            if (memchr(copy, 'L', b.len) ==
                NULL) { /* bytecode is trusted: it never comes from outside */
                (void)try_decode(L, copy, b.len);
            }
        }
        lua_close(L);
    }
    free(copy);
    free((char *)b.data);
}

TEST(ship_random_bytes_crash_nothing)
{
    static const char tags[] = "NTFIDS0terGuj";
    char data[64];
    lua_State *L = new_state();
    for (int i = 0; i < 20000; i++) {
        size_t len = 1 + random_below(sizeof(data) - 1);
        for (size_t k = 0; k < len; k++) {
            data[k] =
                random_below(2) ? tags[random_below(sizeof(tags) - 1)] : (char)random_below(5);
        }
        (void)try_decode(L, data, len);
    }
    lua_close(L);
}

TEST(ship_endless_nesting_is_an_error)
{
    enum { DEEP = 1000000 };
    char *data = xmalloc(2 * DEEP + 1);
    data[0] = 1;
    for (size_t i = 0; i < DEEP; i++) {
        data[1 + 2 * i] = 't';
        data[2 + 2 * i] = 0;
    }
    lua_State *L = new_state();
    ASSERT_TRUE(try_decode(L, data, 2 * DEEP + 1) != LUA_OK);
    lua_close(L);
    free(data);
}

TEST(ship_refuses_with_the_path)
{
    lua_State *L = new_state();
    lua_pushcfunction(L, encode);
    lua_pushliteral(L, "return { a = { b = { coroutine.create(print) } } }");
    ASSERT_INT(lua_pcall(L, 1, 1, 0), LUA_ERRRUN);
    ASSERT_STR(lua_tostring(L, -1),
               "a test: field 'a', field 'b', an element of the table is a coroutine, which cannot "
               "travel to a worker: create it inside the function");
    lua_close(L);
}
