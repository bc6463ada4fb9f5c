/*
 * Shipping: Lua values as bytes, from one Lua state to another. What travels: nil, booleans,
 * numbers, strings, tables with cycles, shared parts and metatables, Lua functions with a snapshot
 * of their upvalues, modules and what stands in them by name, the null of JSON. What cannot
 * (userdata, coroutines, C functions that no module has) is refused with the path to the value and
 * the remedy.
 *
 * The bytes are private to this process and build: they are never read from outside.
 */
#ifndef LASH_SHIP_H
#define LASH_SHIP_H

#include "base/base.h"
#include "base/buf.h"

#include <lua.h>

/* Registers what this file needs in a state and remembers its globals. After all that puts
 * functions among the standard ones, before user code. */
void ship_open(lua_State *L);

/* Pushes a string that holds the `count` values on top of the stack; the values stay. Raises a Lua
 * error whose text begins with `what` when a value cannot travel. With `data_only` tables are taken
 * as data and not looked for among the loaded modules, which saves the search. */
void ship_encode(lua_State *L, int count, const char *what, bool data_only);

/* Pushes the values of a message; returns their count. Functions get the table at stack index `env`
 * as their globals (0: the state's own). Raises on a module that cannot be loaded. */
int ship_decode(lua_State *L, const char *data, size_t len, int env);

/* Lets the object at `index` travel as field `field` of module `module`, without a search; as the
 * module itself when `field` is NULL. Module "_G" stands for the globals. */
void ship_register(lua_State *L, int index, const char *module, const char *field);

#endif
