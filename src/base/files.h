/*
 * How many files this process may open: raised when it is of use, and known as it was before, for
 * children are to have that. Any thread.
 */
#ifndef LASH_FILES_H
#define LASH_FILES_H

#include "base/base.h"

#include <sys/resource.h>

/* Raises the soft limit, once, to the hard one or to `most`. Where that fails, fewer files can be
 * open at once. */
void files_raise_limit(rlim_t most);

/* The limit as it was before. Returns 0, or -1 with errno. */
int files_old_limit(struct rlimit *limit);

#endif
