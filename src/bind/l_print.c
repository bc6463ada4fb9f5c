/*
 * What Lua writes to the standard streams: print, io.write and the method write of files. While a
 * line is edited on the terminal their texts stand above it.
 */
#include "base/base.h"

#include "bind/bind.h"
#include "bind/stream.h"

#include <errno.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* print, but a line is one write: lines of tools that run at once stay whole. */
static int l_print(lua_State *L)
{
    int n = lua_gettop(L);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (int i = 1; i <= n; i++) {
        if (i > 1) {
            luaL_addchar(&b, '\t');
        }
        luaL_tolstring(L, i, NULL);
        luaL_addvalue(&b);
    }
    luaL_addchar(&b, '\n');
    luaL_pushresult(&b);
    size_t len;
    const char *line = lua_tolstring(L, -1, &len);
    FILE *out = bind_stdout_reserved() ? stderr : stdout;
    if (stream_above(out == stderr ? STDERR_FILENO : STDOUT_FILENO, line, len)) {
        return 0;
    }
    if (fwrite(line, 1, len, out) != len) {
        return luaL_error(L, "print: cannot write to %s: %s", out == stderr ? "stderr" : "stdout",
                          strerror(errno));
    }
    return 0;
}

/* The texts from `first` on as one, on top of the stack; false when an argument is none. */
static bool concatenated(lua_State *L, int first)
{
    int top = lua_gettop(L);
    for (int i = first; i <= top; i++) {
        if (lua_type(L, i) != LUA_TSTRING && lua_type(L, i) != LUA_TNUMBER) {
            return false;
        }
    }
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (int i = first; i <= top; i++) {
        luaL_tolstring(L, i, NULL);
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    return true;
}

/* Whether the file at `index` is a standard stream, and the line's editor took the texts. */
static bool taken(lua_State *L, int index, int first)
{
    luaL_Stream *file = luaL_testudata(L, index, LUA_FILEHANDLE);
    if (file == NULL || file->closef == NULL || (file->f != stdout && file->f != stderr)) {
        return false;
    }
    int top = lua_gettop(L);
    size_t len;
    bool done = false;
    if (concatenated(L, first)) {
        const char *text = lua_tolstring(L, -1, &len);
        done = stream_above(fileno(file->f), text, len);
    }
    lua_settop(L, top);
    return done;
}

/* The original, with all arguments. Upvalue 1. */
static int call_original(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    return bind_call_original(L, lua_gettop(L) - 1);
}

/* file:write(...) */
static int l_file_write(lua_State *L)
{
    if (taken(L, 1, 2)) {
        lua_settop(L, 1);
        return 1;
    }
    return call_original(L);
}

/* io.write(...): upvalue 2 is io.output */
static int l_io_write(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_call(L, 0, 1);
    lua_insert(L, 1);
    if (taken(L, 1, 2)) {
        lua_settop(L, 1);
        return 1;
    }
    lua_remove(L, 1);
    return call_original(L);
}

void bind_replace_print(lua_State *L)
{
    lua_pushcfunction(L, l_print);
    lua_setglobal(L, "print");
    if (stream_has_above()) {
        bind_replace_write(L);
        bind_replace_read(L);
    }
}

void bind_replace_write(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield(L, -1, LUA_IOLIBNAME); // -- loaded io
    lua_getfield(L, -1, "write");
    lua_getfield(L, -2, "output");
    lua_pushcclosure(L, l_io_write, 2);
    lua_setfield(L, -2, "write");
    lua_pop(L, 2);
    luaL_getmetatable(L, LUA_FILEHANDLE);
    lua_getfield(L, -1, "__index");
    lua_getfield(L, -1, "write");
    lua_pushcclosure(L, l_file_write, 1);
    lua_setfield(L, -2, "write");
    lua_pop(L, 2);
}
