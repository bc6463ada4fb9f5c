#include "base/base.h"
#include "io/pattern.h"
#include "io/pattern_program.h"

#include <stdlib.h>
#include <uv.h>

#include "io/json.h"

#define END_OF_TEXT UINT32_MAX

/* The threads of the automaton at one position of the text. */
struct machine {
    const struct pattern *p;
    uint32_t *stack;   // places to look at
    uint32_t *threads; // places that wait for a character
    uint32_t *next;    // where the threads are after it
    uint32_t *seen;    // per instruction: the last round that looked at it
    size_t nthreads, nnext;
    uint32_t round;
    uint64_t steps;
};

static uint32_t next_char(const char *s, size_t n, size_t *width)
{
    const unsigned char *u = (const unsigned char *)s;
    if (n == 0) {
        *width = 0;
        return END_OF_TEXT;
    }
    int len = json_utf8_length(s, n);
    *width = len < 0 ? 1 : (size_t)len;
    switch (len) {
    case 1:
        return u[0];
    case 2:
        return ((u[0] & 0x1FU) << 6) | (u[1] & 0x3FU);
    case 3:
        return ((u[0] & 0x0FU) << 12) | ((u[1] & 0x3FU) << 6) | (u[2] & 0x3FU);
    case 4:
        return ((u[0] & 0x07U) << 18) | ((u[1] & 0x3FU) << 12) | ((u[2] & 0x3FU) << 6) |
               (u[3] & 0x3FU);
    default:
        return 0xFFFD;
    }
}

static bool is_word(uint32_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}

static bool in_class(const struct pattern *p, uint32_t index, uint32_t c)
{
    const struct char_class *k = &p->classes[index];
    if (k->count == 0) { /* perhaps there are no ranges at all */
        return k->negated;
    }
    const struct range *r = p->ranges + k->first;
    size_t lo = 0;
    size_t hi = k->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (c > r[mid].hi) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return (lo < k->count && c >= r[lo].lo) != k->negated;
}

static bool consumes(const struct pattern *p, const struct instruction *i, uint32_t c)
{
    switch (i->op) {
    case OP_CHAR:
        return c == i->x;
    case OP_ANY:
        return c != '\n' && c != '\r' && c != 0x2028 && c != 0x2029;
    case OP_CLASS:
        return in_class(p, i->x, c);
    default:
        return false;
    }
}

/* Follows all that needs no character from `pc`, between the characters `before` and `after`. Adds
 * the threads that need one. True if that reaches the match. */
static bool follow(struct machine *m, uint32_t pc, uint32_t before, uint32_t after)
{
    size_t n = 0;
#define VISIT(place)                       \
    do {                                   \
        uint32_t place_ = (place);         \
        if (m->seen[place_] != m->round) { \
            m->seen[place_] = m->round;    \
            m->stack[n++] = place_;        \
        }                                  \
    } while (0)
    VISIT(pc);
    while (n > 0) {
        pc = m->stack[--n];
        const struct instruction *i = &m->p->program[pc];
        bool edge = is_word(before) != is_word(after);
        bool pass = false;
        m->steps++;
        switch (i->op) {
        case OP_MATCH:
            return true;
        case OP_JUMP:
            VISIT(i->x);
            break;
        case OP_SPLIT:
            VISIT(i->x);
            VISIT(i->y);
            break;
        case OP_BEGIN:
            pass = before == END_OF_TEXT;
            break;
        case OP_END:
            pass = after == END_OF_TEXT;
            break;
        case OP_WORD_EDGE:
            pass = edge;
            break;
        case OP_NO_WORD_EDGE:
            pass = !edge;
            break;
        default:
            m->threads[m->nthreads++] = pc;
            break;
        }
        if (pass) {
            VISIT(pc + 1);
        }
    }
#undef VISIT
    return false;
}

static int run(struct machine *m, const char *text, size_t len)
{
    const struct pattern *p = m->p;
    bool anchored = p->program[0].op == OP_BEGIN;
    uint32_t before = END_OF_TEXT;
    size_t at = 0;

    for (;;) {
        size_t width;
        uint32_t c = next_char(text + at, len - at, &width);
        m->round++; // once per byte of a string that Lua holds, at most: a wrap-around needs 4 GiB
        m->nthreads = 0;
        for (size_t i = 0; i < m->nnext; i++) {
            if (follow(m, m->next[i], before, c)) {
                return 1;
            }
        }
        if ((at == 0 || !anchored) && follow(m, 0, before, c)) {
            return 1;
        }
        if (c == END_OF_TEXT || (anchored && m->nthreads == 0)) {
            return 0;
        }
        m->nnext = 0;
        for (size_t i = 0; i < m->nthreads; i++) {
            uint32_t pc = m->threads[i];
            if (consumes(p, &p->program[pc], c)) {
                m->next[m->nnext++] = pc + 1;
            }
        }
        m->steps += m->nthreads + 1;
        if (m->steps > PATTERN_STEPS_MAX) {
            return UV_E2BIG;
        }
        before = c;
        at += width;
    }
}

int pattern_match(const struct pattern *p, const char *text, size_t len)
{
    struct machine m = {.p = p};
    if (len >= UINT32_MAX) {
        return UV_E2BIG;
    }
    uint32_t *memory = xcalloc(p->length * 4, sizeof(*memory));
    m.seen = memory;
    m.stack = memory + p->length;
    m.threads = memory + p->length * 2;
    m.next = memory + p->length * 3;
    int result = run(&m, text, len);
    free(memory);
    return result;
}
