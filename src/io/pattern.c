#include "base/base.h"
#include "io/pattern.h"
#include "io/pattern_program.h"

#include <stdlib.h>
#include <uv.h>

static uint32_t emit(struct pattern_compiler *c, enum opcode op, uint32_t x)
{
    struct pattern *p = c->p;
    if (p->length >= PATTERN_PROGRAM_MAX) {
        pattern_refuse(c, 0, "the expression with its repetitions is too large");
        return 0;
    }
    p->program = pattern_room(p->program, p->length, &c->program_cap, sizeof(*p->program));
    p->program[p->length].op = op;
    p->program[p->length].x = x;
    p->program[p->length].y = 0;
    return (uint32_t)p->length++;
}

static uint32_t here(const struct pattern_compiler *c)
{
    return (uint32_t)c->p->length;
}

static void emit_node(struct pattern_compiler *c, uint32_t n);

/* Each alternative but the last: split (it, the next); it; jump to the end. The jumps are chained
 * through `x` until the end is known. */
static void emit_choice(struct pattern_compiler *c, uint32_t child)
{
    uint32_t jumps = UINT32_MAX;
    for (; child != 0 && !c->failed; child = c->nodes[child].next) {
        if (c->nodes[child].next == 0) {
            emit_node(c, child);
            break;
        }
        uint32_t split = emit(c, OP_SPLIT, here(c) + 1);
        emit_node(c, child);
        jumps = emit(c, OP_JUMP, jumps);
        c->p->program[split].y = here(c);
    }
    while (!c->failed && jumps != UINT32_MAX) {
        uint32_t before = c->p->program[jumps].x;
        c->p->program[jumps].x = here(c);
        jumps = before;
    }
}

static void emit_repeat(struct pattern_compiler *c, uint32_t child, uint32_t min, uint32_t max)
{
    uint32_t splits = UINT32_MAX;
    for (uint32_t i = 0; i < min && !c->failed; i++) {
        emit_node(c, child);
    }
    if (max == NO_LIMIT) {
        uint32_t split = emit(c, OP_SPLIT, here(c) + 1);
        emit_node(c, child);
        emit(c, OP_JUMP, split);
        if (!c->failed) {
            c->p->program[split].y = here(c);
        }
        return;
    }
    for (uint32_t i = min; i < max && !c->failed; i++) {
        uint32_t split = emit(c, OP_SPLIT, here(c) + 1);
        if (!c->failed) {
            c->p->program[split].y = splits; // chained until the end is known
            splits = split;
            emit_node(c, child);
        }
    }
    while (!c->failed && splits != UINT32_MAX) {
        uint32_t before = c->p->program[splits].y;
        c->p->program[splits].y = here(c);
        splits = before;
    }
}

static void emit_node(struct pattern_compiler *c, uint32_t n)
{
    struct node node = c->nodes[n];
    if (++c->work > NODES_MAX * 4) { // repetitions of nothing emit nothing, but take time
        pattern_refuse(c, 0, "the expression with its repetitions is too large");
    }
    if (c->failed) {
        return;
    }
    switch (node.kind) {
    case NODE_SINGLE:
        emit(c, node.single.op, node.single.x);
        break;
    case NODE_LIST:
        for (uint32_t i = node.child; i != 0; i = c->nodes[i].next) {
            emit_node(c, i);
        }
        break;
    case NODE_CHOICE:
        emit_choice(c, node.child);
        break;
    case NODE_REPEAT:
        emit_repeat(c, node.child, node.min, node.max);
        break;
    }
}

int pattern_compile(const char *source, size_t len, struct pattern **out, char *error,
                    size_t error_size)
{
    struct pattern_compiler c = {.s = source, .len = len, .error = error, .error_size = error_size};

    c.p = xcalloc(1, sizeof(*c.p));
    c.nodes = pattern_room(NULL, 0, &c.nodes_cap, sizeof(*c.nodes));
    c.nnodes = 1;
    uint32_t root = pattern_parse(&c);
    if (c.pos < c.len) {
        pattern_refuse(&c, c.pos, "there is no group to end here");
    }
    if (!c.failed) {
        emit_node(&c, root);
        emit(&c, OP_MATCH, 0);
    }
    free(c.nodes);
    if (c.failed) {
        pattern_free(c.p);
        return UV_EINVAL;
    }
    *out = c.p;
    return 0;
}

void pattern_free(struct pattern *p)
{
    if (p != NULL) {
        free(p->program);
        free(p->ranges);
        free(p->classes);
        free(p);
    }
}
