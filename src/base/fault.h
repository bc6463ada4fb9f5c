/*
 * Faults on purpose, for tests: in builds with LASH_DEBUG the environment variable LASH_FAIL_ALLOC
 * lets allocations fail. Any thread. Nothing of it is in other builds.
 *
 *   LASH_FAIL_ALLOC=N       the N-th allocation of a Lua state fails
 *   LASH_FAIL_ALLOC=N,on    ... and all that follow
 *   LASH_FAIL_ALLOC=N,all   allocations of C code, which end the program, count too
 *   LASH_FAIL_ALLOC=0       none fails; their number is told on stderr at the end
 */
#ifndef LASH_FAULT_H
#define LASH_FAULT_H

#include "base/base.h"

enum fault_door { FAULT_LUA, FAULT_C };

#ifdef LASH_DEBUG
/* Counts an allocation; true when it has to fail. */
bool fault_alloc(enum fault_door door);
#else
static inline bool fault_alloc(enum fault_door door)
{
    (void)door;
    return false;
}
#endif

#endif
