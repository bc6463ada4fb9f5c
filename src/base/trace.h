/*
 * LASH_TRACE=task,http,worker,proc: one line on stderr per change of state, with ids and ms since
 * the start. Any thread. Costs one load and test where it is off.
 */
#ifndef LASH_TRACE_H
#define LASH_TRACE_H

#include "base/base.h"

enum trace_area { TRACE_TASK = 1, TRACE_HTTP = 2, TRACE_WORKER = 4, TRACE_PROC = 8 };

extern unsigned trace_mask; /* set once by trace_init(), before any thread starts */

/* Reads LASH_TRACE. Names that it does not know are told on stderr. */
void trace_init(void);

void trace_line(const char *area, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define TRACE(area, ...)                    \
    do {                                    \
        if (trace_mask & TRACE_##area) {    \
            trace_line(#area, __VA_ARGS__); \
        }                                   \
    } while (0)

#endif
