/*
 * The body of a request to a model, as lash.core.json makes it and lash.core.http sends it. That of
 * a long conversation is no Lua string: the collector would come for each, and walk through all
 * that the conversation keeps, to free a text whose end is known. For the state's thread.
 */
#ifndef LASH_L_BODY_H
#define LASH_L_BODY_H

#include "base/base.h"
#include "base/buf.h"

#include <lua.h>

/* body(before, list of texts, after) -> the texts with commas between them: as join() gives it, or
 * if it is long a userdata that tostring() makes a text of, and that can be sent once. Needs the
 * upvalues of lash.core.json's functions. */
int l_body_make(lua_State *L);

/* The type of such a userdata; before the first is made. */
void l_body_open(lua_State *L);

/* Moves the bytes of the body at `arg` into `to`; false when it is none. Raises when they have been
 * taken before. */
bool l_body_take(lua_State *L, int arg, struct buf *to);

#endif
