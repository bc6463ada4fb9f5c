#include "base/base.h"

#include "engine/pristine.h"
#include "engine/ship.h"

#include <lauxlib.h>
#include <string.h>
#include <uv.h>

static const char kept_key;    /* registry: {library table -> copy of its fields} */
static const char loaded_key;  /* registry: copy of package.loaded */
static const char string_key;  /* registry: metatable of strings */
static const char globals_key; /* registry: copy of the globals */
static const char strict_key;  /* registry: metatable of fresh global tables */

static const char *const libraries[] = {LUA_GNAME, "coroutine", "debug",  "io",    "math",
                                        "os",      "package",   "string", "table", "utf8"};
static const char *const io_defaults[] = {"_IO_input", "_IO_output"}; /* names of liolib.c */

/* Pushes a shallow copy of the table at `index`. */
static void push_copy(lua_State *L, int index)
{
    index = lua_absindex(L, index);
    lua_createtable(L, 0, 32);
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2); // -- copy key key value
        lua_rawset(L, -4);
    }
}

static int strict_index(lua_State *L)
{
    const char *name = luaL_tolstring(L, 2, NULL);
    return luaL_error(L, "global '%s' does not exist in a worker: make it local or require it",
                      name);
}

/* With kept, package.loaded and package on top: keeps the table in a field of package. */
static void keep_field(lua_State *L, const char *name)
{
    lua_getfield(L, -1, name); // -- kept loaded package table
    push_copy(L, -1);
    lua_rawset(L, -5);
}

void pristine_keep(lua_State *L)
{
    lua_newtable(L); // -- kept
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    for (size_t i = 0; i < ARRAY_LEN(libraries); i++) {
        lua_getfield(L, -1, libraries[i]); // -- kept loaded library
        push_copy(L, -1);
        if (i == 0) {
            lua_pushvalue(L, -1);
            lua_rawsetp(L, LUA_REGISTRYINDEX, &globals_key);
        }
        lua_rawset(L, -4);
    }
    push_copy(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &loaded_key);
    lua_getfield(L, -1, "package"); // -- kept loaded package
    keep_field(L, "searchers");
    keep_field(L, "preload");
    lua_pop(L, 2);
    lua_pushliteral(L, "");
    (void)lua_getmetatable(L, -1); // -- kept "" mt
    lua_replace(L, -2);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &string_key);
    push_copy(L, -1);
    lua_rawset(L, -3); // -- kept
    luaL_getmetatable(L, LUA_FILEHANDLE);
    lua_getfield(L, -1, "__index"); // -- kept mt methods
    push_copy(L, -1);
    lua_rawset(L, -4);
    push_copy(L, -1);
    lua_rawset(L, -3); // -- kept
    for (size_t i = 0; i < ARRAY_LEN(io_defaults); i++) {
        lua_getfield(L, LUA_REGISTRYINDEX, io_defaults[i]);
        lua_setfield(L, -2, io_defaults[i]);
    }
    lua_rawsetp(L, LUA_REGISTRYINDEX, &kept_key);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, strict_index);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "the globals of a worker");
    lua_setfield(L, -2, "__metatable");
    /* Not for the globals of modules: many ask for what another Lua has (`unpack or table.unpack`).
     */
    lua_rawsetp(L, LUA_REGISTRYINDEX, &strict_key);
}

void pristine_set_search_path(lua_State *L, const char *path, const char *cpath)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &kept_key);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield(L, -1, "package"); // -- kept loaded package
    lua_pushvalue(L, -1);
    lua_rawget(L, -4); // -- kept loaded package copy
    for (int i = 1; i <= 2; i++) {
        lua_pushstring(L, path);
        lua_setfield(L, -1 - i, "path");
        lua_pushstring(L, cpath);
        lua_setfield(L, -1 - i, "cpath");
    }
    lua_pop(L, 4);
}

/* Makes the table at `table` equal to the copy at `copy`. */
static void restore(lua_State *L, int table, int copy)
{
    lua_pushnil(L);
    while (lua_next(L, table)) { // -- key value
        lua_pushvalue(L, -2);
        lua_rawget(L, copy); // -- key value kept
        if (!lua_rawequal(L, -1, -2)) {
            lua_pushvalue(L, -3);
            lua_insert(L, -2);    // -- key value key kept
            lua_rawset(L, table); /* changes or clears an existing field: legal during lua_next */
            lua_pop(L, 1);
        } else {
            lua_pop(L, 2);
        }
    }
    lua_pushnil(L);
    while (lua_next(L, copy)) { /* fields that were cleared */
        lua_pushvalue(L, -2);
        if (lua_rawget(L, table) == LUA_TNIL) {
            lua_pushvalue(L, -3);
            lua_pushvalue(L, -3);
            lua_rawset(L, table);
        }
        lua_pop(L, 2);
    }
    if (lua_getmetatable(L, table)) {
        lua_pop(L, 1);
        lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
        bool globals = lua_rawequal(L, -1, table);
        lua_pop(L, 1);
        if (!globals) {
            lua_pushnil(L);
            lua_setmetatable(L, table);
        }
    }
}

/* What was loaded before the first job is what `require` finds; what jobs have loaded stays loaded.
 */
static void restore_loaded(lua_State *L)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_pushnil(L);
    lua_setmetatable(L, -2);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &loaded_key);
    lua_pushnil(L);
    while (lua_next(L, -2)) { // -- loaded copy name module
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, -5);
    }
    lua_pop(L, 2);
}

/* Values of these types share one metatable each, which a job may have set. */
static void restore_basic_types(lua_State *L)
{
    lua_pushnil(L);
    lua_pushboolean(L, 0);
    lua_pushinteger(L, 0);
    lua_pushlightuserdata(L, NULL);
    lua_pushcfunction(L, strict_index);
    lua_pushthread(L);
    for (int i = 1; i <= 6; i++) {
        lua_pushnil(L);
        lua_setmetatable(L, -2);
        lua_pop(L, 1);
    }
    lua_pushliteral(L, "");
    lua_rawgetp(L, LUA_REGISTRYINDEX, &string_key);
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
}

/* A seed that a job has set would make the numbers of the next one predictable; Lua's own choice of
 * a seed is the same for all jobs of one second. */
static void restore_random(lua_State *L)
{
    lua_Integer seed[2] = {0, 0};
    (void)uv_random(NULL, NULL, seed, sizeof(seed), 0, NULL);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield(L, -1, "math");
    lua_getfield(L, -1, "randomseed");
    lua_pushinteger(L, seed[0]);
    lua_pushinteger(L, seed[1]);
    lua_call(L, 2, 0);
    lua_pop(L, 2);
}

int pristine_restore(lua_State *L)
{
    lua_settop(L, 0);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &kept_key); // 1
    lua_pushnil(L);
    while (lua_next(L, 1)) { // -- library copy
        if (lua_istable(L, -2)) {
            lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
            bool globals = lua_rawequal(L, -1, -3);
            lua_pop(L, 1);
            if (!globals) { /* what modules put among their globals is the modules' own */
                restore(L, lua_gettop(L) - 1, lua_gettop(L));
            }
        }
        lua_pop(L, 1);
    }
    for (size_t i = 0; i < ARRAY_LEN(io_defaults); i++) {
        lua_getfield(L, 1, io_defaults[i]);
        lua_setfield(L, LUA_REGISTRYINDEX, io_defaults[i]);
    }
    restore_loaded(L);
    restore_basic_types(L);
    restore_random(L);
    return 0;
}

/* load(chunk, name, mode, env): env is the caller's fresh globals unless it is given. */
static int l_load(lua_State *L)
{
    int n = lua_gettop(L);
    int env = (int)lua_tointeger(L, lua_upvalueindex(3)); /* position of env among the arguments */
    if (n < env) {
        lua_settop(L, env - 1);
        lua_pushvalue(L, lua_upvalueindex(2));
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

static int dofile_return(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    return lua_gettop(L) - 1;
}

static int l_dofile(lua_State *L)
{
    const char *name = luaL_optstring(L, 1, NULL);
    lua_settop(L, 1);
    if (luaL_loadfile(L, name) != LUA_OK) {
        return lua_error(L);
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    if (lua_setupvalue(L, -2, 1) == NULL) {
        lua_pop(L, 1);
    }
    lua_callk(L, 0, LUA_MULTRET, 0, dofile_return);
    return dofile_return(L, LUA_OK, 0);
}

static void bind_loader(lua_State *L, int globals, const char *name, int env_position)
{
    lua_getfield(L, globals, name);
    lua_pushvalue(L, globals);
    lua_pushinteger(L, env_position);
    lua_pushcclosure(L, l_load, 3);
    lua_setfield(L, globals, name);
}

void pristine_push_globals(lua_State *L)
{
    static const char *const bound[] = {"load", "loadfile", "dofile"};
    luaL_checkstack(L, 8, NULL);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &globals_key);
    push_copy(L, -1);
    lua_remove(L, -2);
    int globals = lua_gettop(L);
    lua_pushvalue(L, globals);
    lua_setfield(L, globals, LUA_GNAME);
    bind_loader(L, globals, "load", 4);
    bind_loader(L, globals, "loadfile", 3);
    lua_pushvalue(L, globals);
    lua_pushcclosure(L, l_dofile, 1);
    lua_setfield(L, globals, "dofile");
    lua_rawgetp(L, LUA_REGISTRYINDEX, &strict_key);
    lua_setmetatable(L, globals);
    ship_register(L, globals, LUA_GNAME, NULL); /* a job may ship functions of its own */
    for (size_t i = 0; i < ARRAY_LEN(bound); i++) {
        lua_getfield(L, globals, bound[i]);
        ship_register(L, -1, LUA_GNAME, bound[i]);
        lua_pop(L, 1);
    }
}
