#include "base/base.h"

#include "engine/semaphore.h"
#include "engine/task.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 256 };

/* Exists while somebody holds it or waits for it. */
struct semaphore {
    struct semaphore *next; /* in its bucket */
    char *name;             /* owned */
    size_t held;
    struct list holders; /* struct permit.node: granted or held */
    struct list waiters; /* struct permit.node: first come, first served */
};

static uv_once_t once = UV_ONCE_INIT;
static uv_mutex_t lock; /* of all semaphores; runtime.mail_lock may be taken under it */
static struct semaphore *buckets[BUCKETS];

static void make_lock(void)
{
    ASSERT(uv_mutex_init(&lock) == 0);
}

static void enter(void)
{
    uv_once(&once, make_lock);
    uv_mutex_lock(&lock);
}

static void leave(void)
{
    uv_mutex_unlock(&lock);
}

/* ---- by name ---- */

static struct semaphore **slot_of(const char *name)
{
    uint32_t hash = 2166136261u;
    for (const char *c = name; *c != '\0'; c++) {
        hash = (hash ^ (unsigned char)*c) * 16777619u;
    }
    struct semaphore **slot = &buckets[hash % BUCKETS];
    while (*slot != NULL && strcmp((*slot)->name, name) != 0) {
        slot = &(*slot)->next;
    }
    return slot;
}

static struct semaphore *find_or_make(const char *name)
{
    struct semaphore **slot = slot_of(name);
    if (*slot == NULL) {
        struct semaphore *s = xcalloc(1, sizeof(*s));
        s->name = xstrdup(name);
        list_init(&s->holders);
        list_init(&s->waiters);
        *slot = s;
    }
    return *slot;
}

static void drop_if_unused(struct semaphore *s)
{
    if (s->held > 0 || !list_empty(&s->waiters)) {
        return;
    }
    struct semaphore **slot = slot_of(s->name);
    ASSERT(*slot == s);
    *slot = s->next;
    free(s->name);
    free(s);
}

/* ---- permits ---- */

static void take(struct semaphore *s, struct permit *p, enum permit_state state)
{
    s->held++;
    list_append(&s->holders, &p->node);
    p->state = state;
}

/* Serves the queue from its head on. The runtime of one that waits exists: it leaves the queue
 * before its runtime goes. */
static void serve(struct semaphore *s)
{
    while (!list_empty(&s->waiters)) {
        struct permit *p = container_of(s->waiters.next, struct permit, node);
        if (s->held >= p->limit) {
            return;
        }
        list_remove(&p->node);
        take(s, p, PERMIT_GRANTED);
        runtime_post(p->rt, &p->mail);
    }
}

static void deliver_permit(struct runtime *rt, struct mail *mail)
{
    (void)rt;
    struct permit *p = container_of(mail, struct permit, mail);
    enter();
    p->state = PERMIT_HELD;
    leave();
    p->granted(p);
}

void permit_init(struct permit *p, struct runtime *rt, void (*granted)(struct permit *p))
{
    *p = (struct permit){.mail = {.deliver = deliver_permit}, .rt = rt, .granted = granted};
    list_init(&p->mail.node);
    list_init(&p->of_owner);
    list_init(&p->node);
}

static size_t count_own(const struct semaphore *s, const struct task *t)
{
    size_t own = 0;
    for (const struct list *n = s->holders.next; n != &s->holders; n = n->next) {
        own += container_of(n, struct permit, node)->owner == t;
    }
    return own;
}

static enum permit_state ask(struct permit *p, const char *name, size_t limit, bool wait)
{
    struct task *t = p->rt->current;
    ASSERT(p->state == PERMIT_NONE && t != NULL && limit > 0);
    enter();
    struct semaphore *s = find_or_make(name);
    p->limit = limit;
    if (s->held < limit && list_empty(&s->waiters)) {
        take(s, p, PERMIT_HELD);
    } else if (wait && count_own(s, t) < limit) {
        list_append(&s->waiters, &p->node);
        p->state = PERMIT_WAITING;
    }
    enum permit_state state = p->state;
    if (state != PERMIT_NONE) {
        p->semaphore = s;
        p->owner = t;
        list_append(&t->permits, &p->of_owner);
    }
    leave();
    return state;
}

enum permit_state permit_ask(struct permit *p, const char *name, size_t limit)
{
    return ask(p, name, limit, true);
}

enum permit_state permit_try(struct permit *p, const char *name, size_t limit)
{
    return ask(p, name, limit, false);
}

void permit_release(struct permit *p)
{
    if (p->owner == NULL) { /* ours alone: no lock is needed to see it */
        return;
    }
    list_remove(&p->of_owner);
    enter();
    p->owner = NULL;
    struct semaphore *s = p->semaphore;
    ASSERT(s != NULL);
    if (p->state == PERMIT_GRANTED) { /* posted under our lock, so the letter is there */
        runtime_take_back(p->rt, &p->mail);
    }
    if (p->state != PERMIT_WAITING) {
        s->held--;
    }
    list_remove(&p->node);
    p->semaphore = NULL;
    p->state = PERMIT_NONE;
    serve(s); /* also when one left the queue: the next may wait for a higher limit */
    drop_if_unused(s);
    leave();
}

void permit_release_all(struct list *permits)
{
    while (!list_empty(permits)) {
        permit_release(container_of(permits->next, struct permit, of_owner));
    }
}

/* ---- whether waiting has an end ---- */

static bool held_elsewhere(const struct semaphore *s, const struct runtime *rt)
{
    for (const struct list *n = s->holders.next; n != &s->holders; n = n->next) {
        if (container_of(n, struct permit, node)->rt != rt) {
            return true;
        }
    }
    return false;
}

static bool may_come(const struct task *t)
{
    for (const struct list *n = t->permits.next; n != &t->permits; n = n->next) {
        const struct permit *p = container_of(n, struct permit, of_owner);
        if (p->state == PERMIT_GRANTED ||
            (p->state == PERMIT_WAITING && held_elsewhere(p->semaphore, p->rt))) {
            return true;
        }
    }
    return false;
}

bool permit_may_come(struct runtime *rt)
{
    bool may = false;
    enter();
    for (struct list *n = rt->tasks.next; n != &rt->tasks && !may; n = n->next) {
        may = may_come(container_of(n, struct task, all_node));
    }
    leave();
    return may;
}

size_t semaphore_count(void)
{
    size_t count = 0;
    enter();
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct semaphore *s = buckets[i]; s != NULL; s = s->next) {
            count++;
        }
    }
    leave();
    return count;
}

size_t semaphore_waiting(const char *name)
{
    size_t count = 0;
    enter();
    const struct semaphore *s = *slot_of(name);
    for (const struct list *n = s ? s->waiters.next : NULL; n && n != &s->waiters; n = n->next) {
        count++;
    }
    leave();
    return count;
}
