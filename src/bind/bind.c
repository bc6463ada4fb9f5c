#include "base/base.h"
#include "base/patience.h"

#include "bind/bind.h"
#include "bind/embedded.h"
#include "engine/pristine.h"
#include "engine/ship.h"
#include "engine/task.h"
#include "engine/worker.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_JOBS = 16, EXIT_GRACE_MS = 500 };

static const luaL_Reg core_modules[] = {
    {"lash.core.accept", luaopen_lash_core_accept},
    {"lash.core.channel", luaopen_lash_core_channel},
    {"lash.core.codec", luaopen_lash_core_codec},
    {"lash.core.engine", luaopen_lash_core_engine},
    {"lash.core.exec", luaopen_lash_core_exec},
    {"lash.core.fs", luaopen_lash_core_fs},
    {"lash.core.fs.watch", luaopen_lash_core_fs_watch},
    {"lash.core.http", luaopen_lash_core_http},
    {"lash.core.json", luaopen_lash_core_json},
    {"lash.core.lock", luaopen_lash_core_lock},
    {"lash.core.pattern", luaopen_lash_core_pattern},
    {"lash.core.plain", luaopen_lash_core_plain},
    {"lash.core.shared", luaopen_lash_core_shared},
    {"lash.core.signals", luaopen_lash_core_signals},
    {"lash.core.system", luaopen_lash_core_system},
    {"lash.core.timer", luaopen_lash_core_timer},
    {NULL, NULL},
};

static atomic_bool stdout_reserved;

void bind_reserve_stdout(void)
{
    atomic_store(&stdout_reserved, true);
}

bool bind_stdout_reserved(void)
{
    return atomic_load(&stdout_reserved);
}

/* "lash" is the file lash.init, as with Lua's own search path. */
static bool name_matches(const char *file, const char *name)
{
    size_t len = strlen(name);
    return strncmp(file, name, len) == 0 && (file[len] == '\0' || strcmp(file + len, ".init") == 0);
}

static int load_from_directory(lua_State *L, const char *dir, const char *name)
{
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    luaL_addstring(&b, dir);
    luaL_addstring(&b, "/?.lua;");
    luaL_addstring(&b, dir);
    luaL_addstring(&b, "/?/init.lua");
    luaL_pushresult(&b);
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchpath");
    lua_pushstring(L, name);
    lua_pushvalue(L, -4);
    lua_call(L, 2, 2); // -- path | nil error
    if (lua_isnil(L, -2)) {
        return luaL_error(L, "LASH_LUA: module '%s' not found:%s", name, lua_tostring(L, -1));
    }
    lua_pop(L, 1);
    if (luaL_loadfilex(L, lua_tostring(L, -1), "t") != LUA_OK) {
        return lua_error(L);
    }
    lua_insert(L, -2);
    return 2;
}

/* Whether the Lua that runs is that of the build: no other one promises to take its bytecode. */
static bool has_own_release(void)
{
    size_t len = strlen(embedded_release);
    const char *at = strstr(lua_ident, embedded_release); /* "$LuaVersion: Lua 5.4.4  Copyright" */
    return at != NULL && at[len] == ' ';
}

/* Pushes the function of a file of the library, called `chunk` in messages. */
static void load_embedded(lua_State *L, const struct embedded_file *f, const char *chunk)
{
    if (has_own_release() &&
        luaL_loadbufferx(L, (const char *)f->code, f->code_len, chunk, "b") == LUA_OK) {
        return;
    }
    if (luaL_loadbufferx(L, (const char *)f->data, f->len, chunk, "t") != LUA_OK) {
        lua_error(L);
    }
}

/* package.searchers entry for lash.*: from the binary, or from $LASH_LUA while developing. */
static int l_search(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    if (strcmp(name, "lash") != 0 && strncmp(name, "lash.", 5) != 0) {
        return 0;
    }
    const char *dir = getenv("LASH_LUA");
    if (dir != NULL && dir[0] != '\0') {
        return load_from_directory(L, dir, name);
    }
    for (const struct embedded_file *f = embedded_files; f->name != NULL; f++) {
        if (f->code != NULL && name_matches(f->name, name)) {
            load_embedded(L, f, lua_pushfstring(L, "@%s", f->path));
            lua_pushstring(L, f->path);
            return 2;
        }
    }
    lua_pushfstring(L, "no module '%s' in lash", name);
    return 1;
}

/* "@lash/tool.lua" is a file of the library. */
static bool is_own(const char *source)
{
    const char *dir = getenv("LASH_LUA");
    size_t len = dir ? strlen(dir) : 0;
    if (len > 0) {
        return source[0] == '@' && strncmp(source + 1, dir, len) == 0 &&
               strncmp(source + 1 + len, "/lash/", 6) == 0;
    }
    for (const struct embedded_file *f = embedded_files; f->name != NULL; f++) {
        if (source[0] == '@' && strcmp(f->path, source + 1) == 0) {
            return true;
        }
    }
    return false;
}

static void open_modules(lua_State *L)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    luaL_setfuncs(L, core_modules, 0);
    lua_pop(L, 1);
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchers"); // -- package searchers
    for (lua_Integer i = (lua_Integer)lua_rawlen(L, -1); i >= 2; i--) {
        lua_rawgeti(L, -1, i);
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushcfunction(L, l_search);
    lua_rawseti(L, -2, 2);
    lua_pop(L, 2);
}

static int open_protected(lua_State *L)
{
    task_open(L);
    worker_open(L);
    open_modules(L);
    if (runtime_of(L)->owns_state) { /* a host's own functions stay as they are */
        bind_replace_print(L);
        bind_replace_process(L);
        lua_getglobal(L, "debug"); /* the registry holds what must not be broken by a script */
        lua_pushnil(L);
        lua_setfield(L, -2, "getregistry");
    }
    ship_open(L);
    return 0;
}

/* Runs our own code, which fails for lack of memory only. 0 or UV_ENOMEM. */
static int run_own(lua_State *L, lua_CFunction fn)
{
    lua_pushcfunction(L, fn);
    if (lua_pcall(L, 0, 0, 0) == LUA_OK) {
        return 0;
    }
    if (!memory_is_error(L, -1)) {
        panic(__FILE__, __LINE__, "cannot open the library: %s", lua_tostring(L, -1));
    }
    lua_pop(L, 1);
    return UV_ENOMEM;
}

int bind_open(struct runtime *rt)
{
    rt->is_library = is_own;
    return run_own(rt->L, open_protected);
}

static int prepare_worker(lua_State *L)
{
    static const char text[] = "require('lash.worker')";
    if (luaL_loadbufferx(L, text, sizeof(text) - 1, "=lash", "t") != LUA_OK) {
        return lua_error(L);
    }
    lua_call(L, 0, 0);
    pristine_keep(L);
    return 0;
}

static int setup_worker(struct runtime *rt)
{
    int status = bind_open(rt);
    return status == 0 ? run_own(rt->L, prepare_worker) : status;
}

struct pool *bind_pool(struct runtime *rt)
{
    if (rt->pool == NULL) {
        unsigned processors = uv_available_parallelism();
        size_t limit = processors > DEFAULT_JOBS ? processors : DEFAULT_JOBS;
        rt->pool = pool_new(rt, limit, setup_worker);
    }
    return rt->pool;
}

size_t bind_close_pool(struct runtime *rt)
{
    if (rt->pool == NULL || rt->worker != NULL) {
        return 0;
    }
    struct pool *pool = rt->pool;
    rt->pool = NULL;
    return pool_free(pool, patience_ms(EXIT_GRACE_MS));
}
