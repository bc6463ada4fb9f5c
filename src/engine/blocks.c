#include "base/base.h"

#include "engine/blocks.h"

#include <stdlib.h>

enum { PIECE = 32 << 10 };

struct piece {
    struct piece *next;
    max_align_t data[];
};

static size_t kind_of(size_t size)
{
    return (size - 1) / BLOCK_STEP;
}

bool blocks_alike(size_t size, size_t other)
{
    return kind_of(size) == kind_of(other);
}

/* What is left of the piece before is less than a block of this size: smaller ones may use it. */
static void keep_rest(struct blocks *b)
{
    if (b->fresh_len > 0) {
        blocks_put(b, b->fresh, b->fresh_len);
        b->fresh_len = 0;
    }
}

static void *cut(struct blocks *b, size_t bytes)
{
    if (b->fresh_len < bytes) {
        struct piece *piece = malloc(sizeof(*piece) + PIECE);
        if (piece == NULL) {
            return NULL;
        }
        keep_rest(b);
        piece->next = b->pieces;
        b->pieces = piece;
        b->fresh = (char *)piece->data;
        b->fresh_len = PIECE;
    }
    void *block = b->fresh;
    b->fresh += bytes;
    b->fresh_len -= bytes;
    return block;
}

void *blocks_get(struct blocks *b, size_t size)
{
    size_t kind = kind_of(size);
    void **block = b->unused[kind];
    if (block == NULL) {
        return cut(b, (kind + 1) * BLOCK_STEP);
    }
    b->unused[kind] = *block;
    return block;
}

void blocks_put(struct blocks *b, void *block, size_t size)
{
    void **head = block;
    *head = b->unused[kind_of(size)];
    b->unused[kind_of(size)] = head;
}

void blocks_release(struct blocks *b)
{
    while (b->pieces != NULL) {
        struct piece *next = b->pieces->next;
        free(b->pieces);
        b->pieces = next;
    }
    *b = (struct blocks){0};
}
