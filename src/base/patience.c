#include "base/base.h"

#include "base/patience.h"

#include <stdatomic.h>

static atomic_uint patience = 1;

void patience_set(unsigned times)
{
    atomic_store(&patience, times);
}

uint64_t patience_ms(uint64_t usual_ms)
{
    return usual_ms * atomic_load(&patience);
}
