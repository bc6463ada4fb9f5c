/* lash.core.pattern; see l_pattern.c. */
#ifndef LASH_L_PATTERN_H
#define LASH_L_PATTERN_H

#include <lua.h>

int luaopen_lash_core_pattern(lua_State *L);

#endif
