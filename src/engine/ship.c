#include "base/base.h"

#include "engine/ship.h"
#include "engine/ship_int.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

const char ship_known_key;
const char ship_globals_key;

static int buffer_gc(lua_State *L)
{
    buf_release(luaL_checkudata(L, 1, SHIP_BUFFER_TYPE));
    return 0;
}

void ship_push_field_name(lua_State *L, const char *module, const char *field)
{
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    luaL_addlstring(&b, module, strlen(module) + 1);
    luaL_addstring(&b, field);
    luaL_pushresult(&b);
}

void ship_register(lua_State *L, int index, const char *module, const char *field)
{
    index = lua_absindex(L, index);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &ship_known_key);
    lua_pushvalue(L, index);
    if (field != NULL) {
        ship_push_field_name(L, module, field);
    } else {
        lua_pushstring(L, module);
    }
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* The functions that every state has among its globals travel by name. */
static void register_globals(lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        if (lua_isfunction(L, -1) && lua_type(L, -2) == LUA_TSTRING) {
            ship_register(L, -1, LUA_GNAME, lua_tostring(L, -2));
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

void ship_open(lua_State *L)
{
    luaL_newmetatable(L, SHIP_BUFFER_TYPE);
    lua_pushcfunction(L, buffer_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_newtable(L);
    lua_newtable(L);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &ship_known_key);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &ship_globals_key);
    register_globals(L);
}
