/*
 * The terminal: lines that are edited while all else goes on. For the program only.
 */
#ifndef LASH_SHELL_H
#define LASH_SHELL_H

#include "base/base.h"
#include "engine/runtime.h"

/* Makes lash.core.editor and lash.core.terminal known to the main state. */
void shell_open(struct runtime *rt);

int luaopen_lash_core_terminal(lua_State *L);

#endif
