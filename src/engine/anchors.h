/*
 * Values of a Lua state that C keeps alive for a while, by number: what a running task lives on. An
 * array, because tasks come and go by the thousand: neither taking nor giving back searches for
 * anything. Not user values: the debug library reaches those.
 *
 * One per runtime, on its own thread.
 */
#ifndef LASH_ANCHORS_H
#define LASH_ANCHORS_H

#include "base/base.h"

#include <lua.h>

struct anchors {
    int table;   /* its place in the registry */
    int count;   /* places that exist; they stay, however few are used */
    int *unused; /* owned: a stack with room for all of them */
    int nunused;
    int capacity;
};

void anchors_open(struct anchors *a, lua_State *L);
void anchors_release(struct anchors *a);

/* Makes sure that so many values can be kept. May raise. */
void anchors_reserve(struct anchors *a, lua_State *L, int n);

/* Keeps the value on top of the stack, and takes it off: its number, above 0. There is a place for
 * it; allocates nothing. */
int anchors_keep(struct anchors *a, lua_State *L);

/* Pushes the value with this number. */
void anchors_push(const struct anchors *a, lua_State *L, int number);

/* Keeps it no longer; 0 is no number. Allocates nothing. */
void anchors_drop(struct anchors *a, lua_State *L, int number);

#endif
