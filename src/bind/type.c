#include "base/base.h"

#include "bind/type.h"

void bind_type_gc(lua_State *L, const char *name, lua_CFunction gc)
{
    luaL_newmetatable(L, name);
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}

void bind_type_push(lua_State *L, const char *name, const luaL_Reg *methods)
{
    luaL_newmetatable(L, name);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
}

void bind_type_hide(lua_State *L, const char *name, const char *remedy)
{
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__metatable");
    if (remedy != NULL) {
        lua_pushstring(L, remedy);
        lua_setfield(L, -2, "__remedy");
    }
}
