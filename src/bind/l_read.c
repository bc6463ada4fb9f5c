/*
 * What Lua reads from the terminal at a console: io.read, io.lines and the methods of files, which
 * borrow it, so that what is typed for them is seen.
 */
#include "base/base.h"

#include "bind/bind.h"
#include "bind/stream.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool is_terminal(lua_State *L, int index)
{
    luaL_Stream *file = luaL_testudata(L, index, LUA_FILEHANDLE);
    return file != NULL && file->closef != NULL && isatty(fileno(file->f));
}

/* The error on top is one of a function that we stand in for: it names that, and the place of who
 * called us. */
static int fail(lua_State *L)
{
    int arg, at = 0;
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    if (text != NULL && sscanf(text, "bad argument #%d to '?' (%n", &arg, &at) == 1 && at > 0) {
        lua_pushlstring(L, text + at, strlen(text + at) - 1); // without its last parenthesis
        return luaL_argerror(L, arg, lua_tostring(L, -1));
    } else if (text != NULL && strcmp(text, "not enough memory") != 0) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int call(lua_State *L, int n, bool borrows)
{
    unsigned loan = borrows ? stream_lend() : 0;
    int below = lua_gettop(L) - n - 1;
    int status = lua_pcall(L, n, LUA_MULTRET, 0);
    stream_give_back(loan);
    return status == LUA_OK ? lua_gettop(L) - below : fail(L);
}

int bind_call_original(lua_State *L, int n)
{
    return call(L, n, false);
}

/* file:read(...): upvalue 1 is the original */
static int l_file_read(lua_State *L)
{
    bool borrows = is_terminal(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    return call(L, lua_gettop(L) - 1, borrows);
}

/* Whether io.read() would read from a terminal. `input` is io.input. */
static bool input_is_terminal(lua_State *L, int input)
{
    lua_pushvalue(L, input);
    lua_call(L, 0, 1);
    bool is = is_terminal(L, -1);
    lua_pop(L, 1);
    return is;
}

/* io.read(...): upvalue 2 is io.input */
static int l_io_read(lua_State *L)
{
    bool borrows = input_is_terminal(L, lua_upvalueindex(2));
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    return call(L, lua_gettop(L) - 1, borrows);
}

/* The next lines; upvalue 1 is the original iterator. */
static int next_line(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    return call(L, lua_gettop(L) - 1, true);
}

/* The iterator at the bottom of the stack becomes one that borrows the terminal. */
static int borrowing(lua_State *L)
{
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, next_line, 1);
    lua_replace(L, 1);
    return lua_gettop(L);
}

/* file:lines(...) */
static int l_file_lines(lua_State *L)
{
    bool borrows = is_terminal(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    (void)call(L, lua_gettop(L) - 1, false);
    return borrows ? borrowing(L) : lua_gettop(L);
}

/* io.lines([path, ...]): with a path the file is the fourth result */
static int l_io_lines(lua_State *L)
{
    bool of_input = lua_isnoneornil(L, 1);
    bool borrows = of_input && input_is_terminal(L, lua_upvalueindex(2));
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    (void)call(L, lua_gettop(L) - 1, false);
    borrows = borrows || (!of_input && is_terminal(L, 4));
    return borrows ? borrowing(L) : lua_gettop(L);
}

/* Sets t[name], of the table on top, to `fn` with the present value and io.input as upvalues. */
static void replace(lua_State *L, int input, const char *name, lua_CFunction fn)
{
    lua_getfield(L, -1, name);
    lua_pushvalue(L, input);
    lua_pushcclosure(L, fn, 2);
    lua_setfield(L, -2, name);
}

void bind_replace_read(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield(L, -1, LUA_IOLIBNAME);
    lua_getfield(L, -1, "input"); // -- loaded io input
    int input = lua_gettop(L);
    lua_pushvalue(L, -2);
    replace(L, input, "read", l_io_read);
    replace(L, input, "lines", l_io_lines);
    luaL_getmetatable(L, LUA_FILEHANDLE);
    lua_getfield(L, -1, "__index");
    replace(L, input, "read", l_file_read);
    replace(L, input, "lines", l_file_lines);
    lua_settop(L, input - 3);
}
