/*
 * Expected failures as Lua sees them: nil and an error value { code =, message = } whose tostring()
 * is the message. Any state, on its own thread.
 */
#ifndef LASH_FAIL_H
#define LASH_FAIL_H

#include "base/base.h"

#include <lua.h>

/* Pushes nil and the error value; returns 2, for `return bind_fail(...)`. */
int bind_fail(lua_State *L, const char *code, const char *message);

/* The string at `arg`, which must not hold a NUL: it goes to functions that would stop there. */
const char *bind_check_text(lua_State *L, int arg);

#endif
