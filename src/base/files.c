#include "base/base.h"

#include "base/files.h"

#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct rlimit old_limit; /* guarded by lock */
static bool raised;

void files_raise_limit(rlim_t most)
{
    pthread_mutex_lock(&lock);
    struct rlimit limit;
    if (!raised && getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        old_limit = limit;
        rlim_t want = limit.rlim_max < most ? limit.rlim_max : most;
        if (limit.rlim_cur < want) {
            limit.rlim_cur = want;
            raised = setrlimit(RLIMIT_NOFILE, &limit) == 0;
        }
    }
    pthread_mutex_unlock(&lock);
}

int files_old_limit(struct rlimit *limit)
{
    pthread_mutex_lock(&lock);
    int rc = 0;
    if (raised) {
        *limit = old_limit;
    } else {
        rc = getrlimit(RLIMIT_NOFILE, limit);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}
