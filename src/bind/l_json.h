/*
 * lash.core.json, made of l_json.c (the module, texts in texts), l_json_decode.c (values from
 * text), l_json_pick.c (few values from texts that are alike) and l_json_encode.c (text from
 * values). For the state's thread.
 */
#ifndef LASH_L_JSON_H
#define LASH_L_JSON_H

#include <lua.h>

#include "io/json.h"

#define L_JSON_SIZE_MAX ((lua_Integer)32 << 20)
#define L_JSON_VALUES_MAX 2000000

/* The upvalues of every function of the module: the metatables of arrays and of verbatim texts. */
#define UP_ARRAY lua_upvalueindex(1)
#define UP_VERBATIM lua_upvalueindex(2)

/* decode(text [, { depth =, size =, values = }]) -> value | nil, err */
int l_json_decode(lua_State *L);

/* shape(description) -> shape: what pick() takes of a text. */
int l_json_shape(lua_State *L);

/* pick(text, shape [, size]) -> value, raws | nil, err */
int l_json_pick(lua_State *L);

/* encode(value [, options]) -> text [, replaced] | nil, err */
int l_json_encode(lua_State *L);

/* compose(text, string, text, string ...) -> the texts, with the JSON forms of the strings between
 */
int l_json_compose(lua_State *L);

/* join(before, list of texts, after) -> the texts with commas between them */
int l_json_join(lua_State *L);

/* Pushes the string that a token is. */
void l_json_push_string(lua_State *L, struct json_str s);

/* Pushes an array or an object with room for `size`. */
void l_json_push_container(lua_State *L, bool array, int size);

/* JSON_OBJECT_BEGIN or JSON_ARRAY_BEGIN, which this text is; else JSON_ERROR. */
enum json_token l_json_container(const char *text, size_t len, unsigned depth);

/* Turns the fault of a reader into `nil, err` and returns 2. */
int l_json_fail_at(lua_State *L, const struct json_reader *r);

/* Turns the message at the top into `nil, err` and returns 2. A position of 0 means none. */
int l_json_fail(lua_State *L, size_t position);

/* The positive integer option `name` of the table at `index`, `standard` if there is none; at most
 * `max`. Raises if it is something else. */
lua_Integer l_json_option(lua_State *L, int index, const char *name, lua_Integer standard,
                          lua_Integer max);

#endif
