#include "base/base.h"

#include "engine/blocks.h"

#include <stdlib.h>

enum { PIECE = 32 << 10 };

struct piece {
    struct piece *next;
    max_align_t data[];
};

/* What is left of the piece before is less than a block of this size: smaller ones may use it. */
static void keep_rest(struct blocks *b)
{
    if (b->fresh_len > 0) {
        blocks_put(b, b->fresh, b->fresh_len);
        b->fresh_len = 0;
    }
}

void *blocks_cut(struct blocks *b, size_t bytes)
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

void blocks_release(struct blocks *b)
{
    while (b->pieces != NULL) {
        struct piece *next = b->pieces->next;
        free(b->pieces);
        b->pieces = next;
    }
    *b = (struct blocks){0};
}
