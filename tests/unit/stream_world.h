/*
 * What the checks of model streams share: a runtime with the library of the program, the parser of
 * event streams as a Lua module "sse", and the modules of tests/fuzz. One thread.
 */
#ifndef LASH_STREAM_WORLD_H
#define LASH_STREAM_WORLD_H

#include "engine/runtime.h"

/* Opens the world in `rt`, and leaves the module tests/fuzz/NAME.lua at index 1 of its stack. Ends
 * the process with a sentence when that cannot be. */
void stream_world_open(struct runtime *rt, const char *name);

/* Calls a function of the module with `nargs` arguments from the top of the stack. Returns true
 * with `nres` results, or false with a text that has a traceback. */
bool stream_world_call(struct runtime *rt, const char *function, int nargs, int nres);

#endif
