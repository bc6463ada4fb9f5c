/*
 * Small blocks of memory, for a Lua state that makes and drops thousands of them a moment: taken
 * from large pieces, and kept in lists by size when they come back. That costs a few instructions
 * where malloc() needs a hundred, and no bytes in front of each block.
 *
 * Belongs to one thread. Pieces go back to the system all together, at the end.
 */
#ifndef LASH_BLOCKS_H
#define LASH_BLOCKS_H

#include "base/base.h"

#define BLOCK_STEP 16 /* sizes are rounded up to a multiple of it */
#define BLOCK_MAX 512 /* bytes of the largest block */

struct piece;

struct blocks {
    void *unused[BLOCK_MAX / BLOCK_STEP]; /* by size; the first word of a block is the next one */
    char *fresh;                          /* what was never used of the last piece */
    size_t fresh_len;
    struct piece *pieces;
};

/* Which kind of block has room for `size` bytes, 1 to BLOCK_MAX. */
static inline size_t blocks_kind(size_t size)
{
    return (size - 1) / BLOCK_STEP;
}

/* A block that was never used; `bytes` is a multiple of BLOCK_STEP. NULL when there is no memory.
 */
void *blocks_cut(struct blocks *b, size_t bytes);

/* A block of `size` bytes, 1 to BLOCK_MAX; NULL when there is no memory. */
static inline void *blocks_get(struct blocks *b, size_t size)
{
    size_t kind = blocks_kind(size);
    void **block = b->unused[kind];
    if (block == NULL) {
        return blocks_cut(b, (kind + 1) * BLOCK_STEP);
    }
    b->unused[kind] = *block;
    return block;
}

/* Takes a block back; `size` as it was asked for, or any of the same kind. */
static inline void blocks_put(struct blocks *b, void *block, size_t size)
{
    void **head = block;
    size_t kind = blocks_kind(size);
    *head = b->unused[kind];
    b->unused[kind] = head;
}

/* All blocks are gone. */
void blocks_release(struct blocks *b);

#endif
