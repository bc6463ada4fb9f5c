/*
 * What the two halves of shipping share: the form of the bytes. Included by ship*.c only.
 *
 * A message is a count and that many values. A value is a tag and what the tag says. Objects
 * (tables, functions, what travels by name) are numbered from 1 in the order in which the encoder
 * meets them.
 */
#ifndef LASH_SHIP_INT_H
#define LASH_SHIP_INT_H

#include "base/base.h"

#include <lua.h>

enum {
    MAX_DEPTH = 190, /* below Lua's own limit of nested C calls, and shallow enough for the stack */
    MAX_UPVALUES = 255,
    USUAL_BYTES = 240, /* room for arguments and results as most are */
    USUAL_OBJECTS = 2,
};

enum tag {
    TAG_NIL = 'N',
    TAG_TRUE = 'T',
    TAG_FALSE = 'F',
    TAG_INTEGER = 'I',
    TAG_FLOAT = 'D',
    TAG_STRING = 'S',
    TAG_NULL = '0',  /* light userdata NULL */
    TAG_TABLE = 't', /* pairs, TAG_END, metatable or TAG_NIL */
    TAG_END = 'e',
    TAG_REF = 'r',    /* an object that this message had before */
    TAG_MODULE = 'm', /* name */
    TAG_FIELD = 'f',  /* module name, field name */
    TAG_GLOBALS = 'G',
    TAG_FUNCTION = 'L', /* dump, count, upvalues */
    TAG_UP_VALUE = 'u', /* a value */
    TAG_UP_JOIN = 'j',  /* index of a function of this message, number of its upvalue */
};

#define SHIP_BUFFER_TYPE "lash.buffer"

extern const char ship_known_key;   /* registry: object -> "module\0field", registered by hand */
extern const char ship_globals_key; /* registry: the standard globals table of this state */

/* Pushes "module\0field". */
void ship_push_field_name(lua_State *L, const char *module, const char *field);

#endif
