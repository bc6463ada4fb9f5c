#include "base/base.h"

#include "base/turn.h"

#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SHORT_NS = 300000, NORMAL_POLICY = 0 };

/* As the kernel has it; the C library has no name for it. */
struct attributes {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime; /* of a turn, ns; 0 = the usual one */
    uint64_t deadline;
    uint64_t period;
};

/* Who runs under another policy has a reason for that. */
static void set_length(uint64_t ns)
{
#if defined(SYS_sched_getattr) && defined(SYS_sched_setattr)
    struct attributes a;
    memset(&a, 0, sizeof(a));
    if (syscall(SYS_sched_getattr, 0, &a, (unsigned)sizeof(a), 0u) == 0 &&
        a.policy == NORMAL_POLICY) {
        a.size = sizeof(a);
        a.flags = 0;
        a.runtime = ns;
        (void)syscall(SYS_sched_setattr, 0, &a, 0u);
    }
#endif
}

void turn_soon(void)
{
    set_length(SHORT_NS);
}

void turn_late(int nice)
{
    set_length(0);
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), nice);
}
