/*
 * What the unit tests of runtimes share: tasks of a piece of Lua code.
 */
#ifndef LASH_LUA_WORLD_H
#define LASH_LUA_WORLD_H

#include "engine/runtime.h"
#include "engine/task.h"

/* Starts a task of the chunk; its userdata stays on the stack of the state. Fails the case when the
 * chunk cannot be compiled. */
struct task *world_spawn(struct runtime *rt, const char *chunk);

#endif
