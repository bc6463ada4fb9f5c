/*
 * Pickers of lash.core.json for other modules. For the state's thread.
 */
#ifndef LASH_L_JSON_PICK_H
#define LASH_L_JSON_PICK_H

#include "io/json_pick.h"

#include <lua.h>

/* picker(shape [, marks]) -> picker; picker(text) -> true, values... | false where the text is not
 * like that. A shape is a table of fields and what may be there; "*" is for all others, which may
 * not be there without it:
 *
 * - 1, 2 ...: is picked, as the first, second value: a string, an integer, a boolean, null; nil
 *   where there is nothing
 * - { 1, 2 }: a string; where it has escapes the second value is its raw text
 * - { "object", 1 }: the text of an object is picked, if that is not empty
 * - "any": anything, "null": null, or nothing, "none": nothing
 * - { field = ... }: an object, { { ... } }: an array with one element, and that one
 *
 * marks: texts -> letters, for who gets the picker (see l_http_events.c).
 */
int l_json_picker(lua_State *L);

/* The shape of the picker at `index`; raises if it is none. Lives as long as the picker. */
const struct json_shape *l_json_check_shape(lua_State *L, int index);

/* Pushes all values of a shape, returns their count. */
int l_json_push_picked(lua_State *L, const struct json_shape *shape,
                       const struct json_picked *values);

#endif
