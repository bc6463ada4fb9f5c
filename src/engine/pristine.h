/*
 * What a worker's Lua state looks like to a shipped function: the same at every call, whatever ran
 * there before. The worker's own thread only.
 */
#ifndef LASH_PRISTINE_H
#define LASH_PRISTINE_H

#include "base/base.h"

#include <lua.h>

/* Remembers the globals and standard libraries as they are now: after all libraries are open. */
void pristine_keep(lua_State *L);

/* Sets package.path and package.cpath, and what pristine_restore() puts back. After
 * pristine_keep(). */
void pristine_set_search_path(lua_State *L, const char *path, const char *cpath);

/* A lua_CFunction: puts the standard libraries back as they were kept, and makes the globals of the
 * next job. */
int pristine_restore(lua_State *L);

/* Pushes a fresh global table: the kept globals, `load` and friends bound to it, and an error for
 * every name that it lacks. */
void pristine_push_globals(lua_State *L);

/* The same for a job of the worker, whose table was made when it tidied up. */
void pristine_take_globals(lua_State *L);

/* Of the globals table of a call the empty text, of `load` and friends bound to it their name; NULL
 * for everything else. */
const char *pristine_name(lua_State *L, int index);

#endif
