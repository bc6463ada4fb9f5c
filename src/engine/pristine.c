#include "base/base.h"

#include "engine/pristine.h"
#include "engine/ship.h"

#include <lauxlib.h>
#include <string.h>
#include <uv.h>

/* registry: a list of what is kept: table, copy of its fields, struct snapshot of it; and so on */
static const char kept_key;
static const char loaded_key;  /* registry: list of the names and modules of package.loaded */
static const char string_key;  /* registry: metatable of strings */
static const char io_key;      /* registry: the default files of io, by name */
static const char globals_key; /* registry: list of the names and values of the globals */
static const char strict_key;  /* registry: metatable of fresh global tables */
static const char next_key;    /* registry: the global table of the next job */

enum { LOAD_ENV = 4, LOADFILE_ENV = 3 }; /* which argument is the environment */

/* Which value something is: a pointer, or the bits of a number. */
struct ident {
    int type;
    uint64_t bits;
};

/* The fields of a table in the order in which lua_next() finds them: as long as it finds the same,
 * nobody has written to the table. */
struct snapshot {
    size_t count;
    struct {
        struct ident key, value;
    } fields[];
};

/* Not the globals: what modules put there is the modules' own; jobs have fresh ones. */
static const char *const libraries[] = {"coroutine", "debug",  "io",    "math", "os",
                                        "package",   "string", "table", "utf8"};
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

static struct ident ident_of(lua_State *L, int index)
{
    struct ident id = {.type = lua_type(L, index)};
    if (id.type == LUA_TNUMBER && lua_isinteger(L, index)) {
        id.type = LUA_NUMTYPES;
        id.bits = (uint64_t)lua_tointeger(L, index);
    } else if (id.type == LUA_TNUMBER) {
        lua_Number n = lua_tonumber(L, index);
        memcpy(&id.bits, &n, sizeof(n));
    } else if (id.type == LUA_TBOOLEAN) {
        id.bits = (uint64_t)lua_toboolean(L, index);
    } else {
        id.bits = (uint64_t)(uintptr_t)lua_topointer(L, index);
    }
    return id;
}

static bool is_same(struct ident a, struct ident b)
{
    return a.type == b.type && a.bits == b.bits;
}

static size_t count_fields(lua_State *L, int table)
{
    size_t count = 0;
    lua_pushnil(L);
    while (lua_next(L, table)) {
        count++;
        lua_pop(L, 1);
    }
    return count;
}

/* The table has as many fields as the snapshot has room for. */
static void take_snapshot(lua_State *L, int table, struct snapshot *s)
{
    size_t i = 0;
    lua_pushnil(L);
    while (lua_next(L, table)) {
        ASSERT(i < s->count);
        s->fields[i].key = ident_of(L, -2);
        s->fields[i].value = ident_of(L, -1);
        i++;
        lua_pop(L, 1);
    }
    ASSERT(i == s->count);
}

static bool is_untouched(lua_State *L, int table, const struct snapshot *s)
{
    size_t i = 0;
    lua_pushnil(L);
    while (lua_next(L, table)) {
        if (i == s->count || !is_same(s->fields[i].key, ident_of(L, -2)) ||
            !is_same(s->fields[i].value, ident_of(L, -1))) {
            lua_pop(L, 2);
            return false;
        }
        i++;
        lua_pop(L, 1);
    }
    if (lua_getmetatable(L, table)) {
        lua_pop(L, 1);
        return false;
    }
    return i == s->count;
}

/* With the list at 1: keeps the table on top, and takes it off. */
static void keep(lua_State *L)
{
    int table = lua_gettop(L);
    lua_Integer n = (lua_Integer)lua_rawlen(L, 1);
    lua_pushvalue(L, table);
    lua_rawseti(L, 1, n + 1);
    push_copy(L, table);
    lua_rawseti(L, 1, n + 2);
    size_t count = count_fields(L, table);
    struct snapshot *s = lua_newuserdatauv(L, sizeof(*s) + count * sizeof(s->fields[0]), 0);
    s->count = count;
    take_snapshot(L, table, s);
    lua_rawseti(L, 1, n + 3);
    lua_pop(L, 1);
}

/* Pushes a list of the keys and values of the table on top, in its place. */
static void make_list(lua_State *L)
{
    int table = lua_gettop(L);
    lua_newtable(L);
    lua_Integer n = 0;
    lua_pushnil(L);
    while (lua_next(L, table)) {
        lua_pushvalue(L, -2);
        lua_rawseti(L, table + 1, ++n);
        lua_rawseti(L, table + 1, ++n);
    }
    lua_replace(L, table);
}

static void keep_libraries(lua_State *L)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE); // -- kept loaded
    for (size_t i = 0; i < ARRAY_LEN(libraries); i++) {
        lua_getfield(L, -1, libraries[i]);
        keep(L);
    }
    lua_getfield(L, -1, "package"); // -- kept loaded package
    lua_getfield(L, -1, "searchers");
    keep(L);
    lua_getfield(L, -1, "preload");
    keep(L);
    lua_pop(L, 1);
    make_list(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &loaded_key);
}

/* With the list of what is kept at 1. */
static void keep_types(lua_State *L)
{
    lua_pushliteral(L, "");
    (void)lua_getmetatable(L, -1); // -- kept "" mt
    lua_replace(L, -2);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &string_key);
    keep(L);
    luaL_getmetatable(L, LUA_FILEHANDLE);
    lua_getfield(L, -1, "__index"); // -- kept mt methods
    keep(L);
    keep(L);
}

void pristine_keep(lua_State *L)
{
    int top = lua_gettop(L);
    lua_newtable(L);
    lua_insert(L, 1); // -- kept ...
    keep_libraries(L);
    keep_types(L);
    lua_createtable(L, 0, ARRAY_LEN(io_defaults));
    for (size_t i = 0; i < ARRAY_LEN(io_defaults); i++) {
        lua_getfield(L, LUA_REGISTRYINDEX, io_defaults[i]);
        lua_setfield(L, -2, io_defaults[i]);
    }
    lua_rawsetp(L, LUA_REGISTRYINDEX, &io_key);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    make_list(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &globals_key);
    lua_pushvalue(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &kept_key);
    lua_remove(L, 1);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, strict_index);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "the globals of a worker");
    lua_setfield(L, -2, "__metatable");
    /* Not for the globals of modules: many ask for what another Lua has (`unpack or table.unpack`).
     */
    lua_rawsetp(L, LUA_REGISTRYINDEX, &strict_key);
    lua_settop(L, top);
}

void pristine_set_search_path(lua_State *L, const char *path, const char *cpath)
{
    int top = lua_gettop(L);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield(L, -1, "package");
    lua_rawgetp(L, LUA_REGISTRYINDEX, &kept_key); // -- loaded package kept
    lua_Integer i = 1;
    while (lua_rawgeti(L, top + 3, i), !lua_rawequal(L, -1, top + 2)) {
        lua_pop(L, 1);
        i += 3;
    }
    lua_rawgeti(L, top + 3, i + 1); // -- loaded package kept package copy
    for (int table = top + 4; table <= top + 5; table++) {
        lua_pushstring(L, path);
        lua_setfield(L, table, "path");
        lua_pushstring(L, cpath);
        lua_setfield(L, table, "cpath");
    }
    lua_rawgeti(L, top + 3, i + 2);
    take_snapshot(L, top + 2, lua_touserdata(L, -1));
    lua_settop(L, top);
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
    lua_pushnil(L);
    lua_setmetatable(L, table);
}

/* What was loaded before the first job is what `require` finds; what jobs have loaded stays loaded.
 */
static void restore_loaded(lua_State *L)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_pushnil(L);
    lua_setmetatable(L, -2);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &loaded_key); // -- loaded list
    lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
    for (lua_Integer i = 1; i <= n; i += 2) {
        lua_rawgeti(L, -1, i);
        lua_rawgeti(L, -2, i + 1); // -- loaded list name module
        lua_pushvalue(L, -2);
        lua_rawget(L, -5);
        bool same = lua_rawequal(L, -1, -2);
        lua_pop(L, 1);
        if (same) {
            lua_pop(L, 2);
        } else {
            lua_rawset(L, -4);
        }
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
    lua_Integer n = (lua_Integer)lua_rawlen(L, 1);
    for (lua_Integer i = 1; i <= n; i += 3) {
        lua_rawgeti(L, 1, i);
        lua_rawgeti(L, 1, i + 2); // -- kept table snapshot
        struct snapshot *s = lua_touserdata(L, 3);
        if (!is_untouched(L, 2, s)) {
            lua_rawgeti(L, 1, i + 1);
            restore(L, 2, 4);
            take_snapshot(L, 2, s); /* it may have another order now */
        }
        lua_settop(L, 1);
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &io_key);
    for (size_t i = 0; i < ARRAY_LEN(io_defaults); i++) {
        lua_getfield(L, 2, io_defaults[i]);
        lua_setfield(L, LUA_REGISTRYINDEX, io_defaults[i]);
    }
    restore_loaded(L);
    restore_basic_types(L);
    restore_random(L);
    pristine_push_globals(L); /* now, when nobody waits for it */
    lua_rawsetp(L, LUA_REGISTRYINDEX, &next_key);
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
    luaL_checkstack(L, 8, NULL);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &globals_key);
    lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
    lua_createtable(L, 0, (int)(n / 2)); // -- list globals
    for (lua_Integer i = 1; i <= n; i += 2) {
        lua_rawgeti(L, -2, i);
        lua_rawgeti(L, -3, i + 1);
        lua_rawset(L, -3);
    }
    lua_remove(L, -2);
    int globals = lua_gettop(L);
    lua_pushvalue(L, globals);
    lua_setfield(L, globals, LUA_GNAME);
    bind_loader(L, globals, "load", LOAD_ENV);
    bind_loader(L, globals, "loadfile", LOADFILE_ENV);
    lua_pushvalue(L, globals);
    lua_pushcclosure(L, l_dofile, 1);
    lua_setfield(L, globals, "dofile");
    lua_rawgetp(L, LUA_REGISTRYINDEX, &strict_key);
    lua_setmetatable(L, globals);
}

void pristine_take_globals(lua_State *L)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &next_key) == LUA_TTABLE) {
        lua_pushnil(L);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &next_key);
    } else {
        lua_pop(L, 1);
        pristine_push_globals(L);
    }
}

/* Whether the table at `index` was made by pristine_push_globals(). */
static bool is_fresh(lua_State *L, int index)
{
    if (!lua_getmetatable(L, index)) {
        return false;
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &strict_key);
    bool fresh = lua_istable(L, -1) && lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return fresh;
}

/* Whether upvalue `n` of the function at `index` was made by pristine_push_globals(). */
static bool is_bound(lua_State *L, int index, int n)
{
    bool bound = lua_getupvalue(L, index, n) != NULL;
    if (bound) {
        bound = lua_istable(L, -1) && is_fresh(L, lua_gettop(L));
        lua_pop(L, 1);
    }
    return bound;
}

const char *pristine_name(lua_State *L, int index)
{
    if (lua_istable(L, index)) {
        return is_fresh(L, index) ? "" : NULL;
    }
    lua_CFunction fn = lua_tocfunction(L, index);
    if (fn == l_dofile) {
        return is_bound(L, index, 1) ? "dofile" : NULL;
    } else if (fn != l_load || !is_bound(L, index, 2)) {
        return NULL;
    }
    (void)lua_getupvalue(L, index, 3);
    const char *name = lua_tointeger(L, -1) == LOAD_ENV ? "load" : "loadfile";
    lua_pop(L, 1);
    return name;
}
