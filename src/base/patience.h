/*
 * How long we wait for what was told to end: the waits of closers, a worker, a child. Tests of what
 * is done in that time make it longer: on a busy machine nothing is sure to run within 100 ms. Any
 * thread.
 */
#ifndef LASH_PATIENCE_H
#define LASH_PATIENCE_H

#include "base/base.h"

/* From now on so many times longer than usual; 1 is the usual. */
void patience_set(unsigned times);

/* What the usual time has become. */
uint64_t patience_ms(uint64_t usual_ms);

#endif
