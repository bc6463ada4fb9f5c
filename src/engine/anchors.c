#include "base/base.h"

#include "engine/anchors.h"

#include <lauxlib.h>
#include <stdlib.h>

void anchors_open(struct anchors *a, lua_State *L)
{
    lua_newtable(L);
    a->table = luaL_ref(L, LUA_REGISTRYINDEX);
}

void anchors_release(struct anchors *a)
{
    free(a->unused);
    *a = (struct anchors){0};
}

void anchors_reserve(struct anchors *a, lua_State *L, int n)
{
    if (a->nunused >= n) {
        return;
    }
    if (a->count + n > a->capacity) {
        a->capacity = a->capacity * 2 + n;
        a->unused = xrealloc(a->unused, (size_t)a->capacity * sizeof(*a->unused));
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, a->table);
    while (a->nunused < n) {
        lua_pushboolean(L, false); /* never nil: what is put there later needs no memory then */
        lua_rawseti(L, -2, a->count + 1);
        a->unused[a->nunused++] = ++a->count;
    }
    lua_pop(L, 1);
}

int anchors_keep(struct anchors *a, lua_State *L)
{
    ASSERT(a->nunused > 0);
    int number = a->unused[--a->nunused];
    lua_rawgeti(L, LUA_REGISTRYINDEX, a->table);
    lua_insert(L, -2); // -- table value
    lua_rawseti(L, -2, number);
    lua_pop(L, 1);
    return number;
}

void anchors_push(const struct anchors *a, lua_State *L, int number)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, a->table);
    lua_rawgeti(L, -1, number);
    lua_replace(L, -2);
}

void anchors_drop(struct anchors *a, lua_State *L, int number)
{
    if (number == 0) {
        return;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, a->table);
    lua_pushboolean(L, false);
    lua_rawseti(L, -2, number);
    lua_pop(L, 1);
    a->unused[a->nunused++] = number;
}
