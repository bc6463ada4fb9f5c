/*
 * lash.core.json, made of l_json.c (reading) and l_json_encode.c (writing). For the state's thread.
 */
#ifndef LASH_L_JSON_H
#define LASH_L_JSON_H

#include <lua.h>

/* The upvalues of every function of the module: the metatables of arrays and of verbatim texts. */
#define UP_ARRAY lua_upvalueindex(1)
#define UP_VERBATIM lua_upvalueindex(2)

/* encode(value [, options]) -> text [, replaced] | nil, err */
int l_json_encode(lua_State *L);

/* Turns the message at the top into `nil, err` and returns 2. A position of 0 means none. */
int l_json_fail(lua_State *L, size_t position);

/* The positive integer option `name` of the table at `index`, `standard` if there is none; at most
 * `max`. Raises if it is something else. */
lua_Integer l_json_option(lua_State *L, int index, const char *name, lua_Integer standard,
                          lua_Integer max);

#endif
