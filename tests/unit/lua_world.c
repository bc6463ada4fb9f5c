#include "test.h"

#include "lua_world.h"

#include <lauxlib.h>

static int spawn_chunk(lua_State *L)
{
    if (luaL_loadstring(L, lua_tostring(L, 1)) != LUA_OK) {
        return lua_error(L);
    }
    task_spawn(L, 0, NULL, 0);
    return 1;
}

struct task *world_spawn(struct runtime *rt, const char *chunk)
{
    lua_pushcfunction(rt->L, spawn_chunk);
    lua_pushstring(rt->L, chunk);
    if (lua_pcall(rt->L, 1, 1, 0) != LUA_OK) {
        test_fail(__FILE__, __LINE__, "%s", lua_tostring(rt->L, -1));
    }
    return lua_touserdata(rt->L, -1);
}
