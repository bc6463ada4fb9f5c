/*
 * What pattern_parse.c reads, pattern.c unfolds to a program and pattern_match.c runs. Private to
 * the three.
 */
#ifndef LASH_PATTERN_PROGRAM_H
#define LASH_PATTERN_PROGRAM_H

#include "base/base.h"

enum opcode {
    OP_CHAR,  /* x: the code point */
    OP_ANY,   /* all but line ends */
    OP_CLASS, /* x: index of the class */
    OP_JUMP,  /* x: where to */
    OP_SPLIT, /* x and y: where to */
    OP_BEGIN,
    OP_END,
    OP_WORD_EDGE,
    OP_NO_WORD_EDGE,
    OP_MATCH,
};

struct instruction {
    enum opcode op;
    uint32_t x, y;
};

struct range {
    uint32_t lo, hi;
};

/* Ranges first..first+count of the pattern, sorted, apart from each other. */
struct char_class {
    size_t first, count;
    bool negated;
};

struct pattern {
    struct instruction *program; /* owned; ends with OP_MATCH */
    size_t length;
    struct range *ranges; /* owned */
    size_t nranges;
    struct char_class *classes; /* owned */
    size_t nclasses;
};

#define NODES_MAX 65536 /* also bounds the work of unfolding repetitions */
#define NO_LIMIT UINT32_MAX

/* The expression as a tree. Children of NODE_LIST and NODE_CHOICE are linked by `next`, so that
 * only groups make it deep. Nodes are named by index, because the array moves when it grows. */
enum node_kind { NODE_LIST, NODE_CHOICE, NODE_REPEAT, NODE_SINGLE };

struct node {
    enum node_kind kind;
    struct instruction single; // NODE_SINGLE
    uint32_t child;            // the first one; 0 for none
    uint32_t next;             // sibling; 0 for none
    uint32_t min, max;         // NODE_REPEAT
};

struct pattern_compiler {
    const char *s;
    size_t len, pos;
    char *error;
    size_t error_size;
    bool failed;
    unsigned nesting;
    struct node *nodes; // owned; index 0 is not used
    size_t nnodes, nodes_cap;
    size_t ranges_cap, classes_cap, program_cap, work;
    struct pattern *p; // owned until success
};

/* Reads alternatives up to a `)` or the end; the index of their node. */
uint32_t pattern_parse(struct pattern_compiler *c);

/* Notes the first fault, at an offset from 0. */
void pattern_refuse(struct pattern_compiler *c, size_t pos, const char *what);

/* Gives an array with room for one more element than `count`. */
void *pattern_room(void *array, size_t count, size_t *cap, size_t size);

#endif
