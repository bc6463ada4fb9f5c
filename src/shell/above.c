#include "base/base.h"

#include "shell/above.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum {
    PART_MAX = 64 * 1024,     /* of a line that is not complete */
    WAITING_MAX = 512 * 1024, /* then who writes waits for the terminal */
    PATIENCE_MS = 1000,       /* ... at most this long */
};

static struct {
    uv_async_t come; /* another thread has written */
    uv_mutex_t lock;
    uv_cond_t taken; /* texts went to the terminal, or nothing stands at the bottom any more */
    struct buf waiting;
    pthread_t thread;
    void (*print)(void);
    atomic_bool active; /* changed under the lock */
    bool open;          /* guarded: `come` may be used */
    bool held;
} self;

void above_take(struct buf *out, bool all)
{
    uv_mutex_lock(&self.lock);
    struct buf *b = &self.waiting;
    const char *last = b->len > 0 ? memrchr(b->data, '\n', b->len) : NULL;
    size_t len = last != NULL ? (size_t)(last - b->data) + 1 : 0;
    bool broken = !all && b->len - len > PART_MAX;
    if (all || broken) {
        len = b->len;
    }
    if (len > 0) {
        buf_append(out, b->data, len);
        memmove(b->data, b->data + len, b->len - len);
        b->len -= len;
        uv_cond_broadcast(&self.taken);
    }
    uv_mutex_unlock(&self.lock);
    if (broken) {
        buf_append_char(out, '\n');
    }
}

void above_set_active(bool active)
{
    uv_mutex_lock(&self.lock);
    atomic_store(&self.active, active);
    uv_cond_broadcast(&self.taken);
    uv_mutex_unlock(&self.lock);
}

void above_hold(bool held)
{
    self.held = held;
}

static void on_come(uv_async_t *async)
{
    (void)async;
    self.print();
}

void above_wake(void)
{
    uv_mutex_lock(&self.lock);
    if (self.open) {
        (void)uv_async_send(&self.come);
    }
    uv_mutex_unlock(&self.lock);
}

/* Who writes faster than the terminal takes waits for it: the thread of the loop prints, others
 * sleep. Under the lock. */
static void wait_for_terminal(void)
{
    uint64_t end = uv_hrtime() + (uint64_t)PATIENCE_MS * 1000000, now;
    while (atomic_load(&self.active) && self.waiting.len > WAITING_MAX &&
           (now = uv_hrtime()) < end) {
        (void)uv_cond_timedwait(&self.taken, &self.lock, end - now);
    }
}

bool above_write(int fd, const char *text, size_t len)
{
    if (!atomic_load(&self.active) || !isatty(fd)) {
        return false;
    }
    bool own = pthread_equal(pthread_self(), self.thread) != 0;
    uv_mutex_lock(&self.lock);
    if (!own) {
        wait_for_terminal();
    }
    bool taken = atomic_load(&self.active);
    bool full = false;
    if (taken) {
        buf_append(&self.waiting, text, len);
        full = self.waiting.len > WAITING_MAX;
        (void)uv_async_send(&self.come); // open: it is closed only when nothing is shown
    }
    uv_mutex_unlock(&self.lock);
    if (own && full && !self.held) {
        self.print();
    }
    return taken;
}

void above_open(uv_loop_t *loop, void (*print)(void))
{
    ASSERT(uv_async_init(loop, &self.come, on_come) == 0);
    ASSERT(uv_mutex_init(&self.lock) == 0);
    ASSERT(uv_cond_init(&self.taken) == 0);
    uv_unref((uv_handle_t *)&self.come);
    self.thread = pthread_self();
    self.print = print;
    self.open = true;
}

void above_close(void)
{
    uv_mutex_lock(&self.lock);
    self.open = false;
    uv_mutex_unlock(&self.lock);
    uv_close((uv_handle_t *)&self.come, NULL);
}
