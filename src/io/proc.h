/*
 * Child processes. Each is the leader of a session and process group of its own, and what is in
 * that group ends with it: nothing that it started is left behind, unless asked for.
 *
 * Any thread that runs a loop may start processes on it; a process belongs to that thread. The two
 * functions for the way out are for every thread.
 */
#ifndef LASH_PROC_H
#define LASH_PROC_H

#include "base/base.h"

/* Sends `sig` to every group that lives. Async-signal-safe, any thread. SIGKILL is for the way out
 * of the program: from then on no process starts any more. */
void proc_kill_all(int sig);

/* The program ends: gives groups that are being stopped up to `grace_ms` to be gone, then kills all
 * that are left. Groups that nobody has stopped are killed at once. Any thread. */
void proc_end_all(unsigned grace_ms);

#endif
