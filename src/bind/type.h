/*
 * Types of userdata as the modules made in C have them: their metatables. Any state, on its own
 * thread. They are made once, when the module is opened.
 */
#ifndef LASH_BIND_TYPE_H
#define LASH_BIND_TYPE_H

#include "base/base.h"

#include <lauxlib.h>

/* A type that only cleans up after itself, such as that of a wait. */
void bind_type_gc(lua_State *L, const char *name, lua_CFunction gc);

/* A type with methods, metamethods among them. Pushes its metatable. */
void bind_type_push(lua_State *L, const char *name, const luaL_Reg *methods);

/* Hides the metatable on top from scripts: getmetatable() gives the name. `remedy` (or NULL) is
 * what they read who let a value of this type travel to a worker. */
void bind_type_hide(lua_State *L, const char *name, const char *remedy);

#endif
