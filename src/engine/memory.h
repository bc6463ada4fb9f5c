/*
 * The memory of a Lua state: its allocator, which counts, and the limit of the job that runs in it.
 * Belongs to the thread of its runtime; nothing here calls Lua but memory_push_fault().
 *
 * A limit counts what the job adds to what the state had before. An allocation that would pass it
 * fails: Lua collects garbage and asks once more, and then raises "not enough memory". From the
 * first failure on the job has a little room more, for those who handle the error and close what is
 * open; such a state is not used again.
 */
#ifndef LASH_MEMORY_H
#define LASH_MEMORY_H

#include "base/base.h"

#include "engine/blocks.h"

#include <lua.h>

struct memory {
    size_t used;        /* bytes in the state */
    size_t limit;       /* of `used`; 0 = none */
    size_t job_limit;   /* bytes that the job may add, as it was declared */
    const void *wanted; /* of the allocation that was refused last: Lua may ask for it again */
    size_t wanted_size; /* 0: none was */
    const void *failed; /* the same for what failed on purpose: base/fault.h */
    size_t failed_size;
    bool met;     /* the job was refused memory, and garbage was not the reason */
    bool blocked; /* small objects live in `blocks`; set before the state is made */
    struct blocks blocks;
};

/* The lua_Alloc of a state; `ud` is its struct memory. */
void *memory_alloc(void *ud, void *ptr, size_t osize, size_t nsize);

/* The state is closed. */
void memory_release(struct memory *m);

/* A job begins, or ends: may add `bytes`, 0 = as many as it likes. */
void memory_begin(struct memory *m, size_t bytes);
void memory_end(struct memory *m);

/* The job's code has ended: its results may be copied. */
void memory_relax(struct memory *m);

/* True when the job has met its limit. */
bool memory_met(const struct memory *m);

/* Pushes the sentence about the limit that the running job has met, or nil. */
void memory_push_fault(lua_State *L, const struct memory *m);

/* True for the text of an error that Lua raises when an allocation fails. */
bool memory_is_error(lua_State *L, int index);

#endif
