/*
 * How soon the system gives a thread its turn when others compute. Any thread, for itself.
 */
#ifndef LASH_TURN_H
#define LASH_TURN_H

#include "base/base.h"

/* The calling thread mostly waits: when it wakes up, it should run at once. It asks for short
 * turns, which begin sooner; a kernel before 6.12 takes no notice. */
void turn_soon(void);

/* The calling thread may compute for long: it gets turns of the usual length, whatever the one that
 * started it had, and less of the processor than others, by so many steps. */
void turn_late(int nice);

#endif
