/*
 * lash.core.pattern: the regular expressions of JSON Schema (io/pattern.h) as userdata that own
 * their pattern. Any state, on its own thread.
 */
#include "base/base.h"
#include "bind/bind.h"

#include <lauxlib.h>

#include "io/pattern.h"

#define PATTERN_TYPE "lash.pattern"

/* compile(source) -> pattern | nil, message */
static int l_pattern_compile(lua_State *L)
{
    char error[120];
    size_t len;
    const char *source = luaL_checklstring(L, 1, &len);
    struct pattern **box = lua_newuserdatauv(L, sizeof(struct pattern *), 0); // -- pattern
    *box = NULL;
    luaL_setmetatable(L, PATTERN_TYPE);
    if (pattern_compile(source, len, box, error, sizeof(error)) != 0) {
        lua_pushnil(L);
        lua_pushstring(L, error);
        return 2;
    }
    return 1;
}

/* pattern:match(text) -> boolean | nil, message: found too much to do */
static int l_pattern_match(lua_State *L)
{
    struct pattern **box = luaL_checkudata(L, 1, PATTERN_TYPE);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    luaL_argcheck(L, *box != NULL, 1, "the pattern was released");
    int result = pattern_match(*box, text, len);
    if (result < 0) {
        lua_pushnil(L);
        lua_pushliteral(L, "the text is too long for this pattern");
        return 2;
    }
    lua_pushboolean(L, result);
    return 1;
}

static int l_pattern_gc(lua_State *L)
{
    struct pattern **box = luaL_checkudata(L, 1, PATTERN_TYPE);
    pattern_free(*box);
    *box = NULL;
    return 0;
}

int luaopen_lash_core_pattern(lua_State *L)
{
    static const luaL_Reg methods[] = {{"match", l_pattern_match}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"compile", l_pattern_compile}, {NULL, NULL}};
    if (luaL_newmetatable(L, PATTERN_TYPE)) {
        lua_pushcfunction(L, l_pattern_gc);
        lua_setfield(L, -2, "__gc");
        luaL_newlib(L, methods); // -- metatable methods
        lua_setfield(L, -2, "__index");
    }
    luaL_newlib(L, functions);
    return 1;
}
