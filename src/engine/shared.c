#include "base/base.h"

#include "engine/shared.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum {
    TABLE_BUCKETS = 64, /* of the tables by name */
    FIRST_BUCKETS = 16,
    SWEEP = 32,            /* entries at the end of their lives that one call takes away */
    ENTRY_OVERHEAD = 2 * 8 /* its places in the buckets and among those that end */
};

struct entry {
    struct entry *next; /* in its bucket */
    uint64_t hash;
    uint64_t ends;             /* ns of uv_hrtime(); 0 = never */
    size_t heap_at;            /* its place in table.heap, if it ends */
    struct shared_value value; /* a text is owned */
    size_t key_len;
    char key[];
};

struct table {
    struct table *next; /* in its bucket; this, name and users are guarded by the lock of all */
    char *name;         /* owned */
    size_t users;       /* calls that are inside */
    uv_mutex_t lock;    /* of what follows */
    struct entry **buckets;
    size_t bucket_count; /* a power of two, or 0 */
    size_t count;
    struct entry **heap; /* entries that end; the first to end is heap[0] */
    size_t heap_count;
    size_t heap_room;
};

static uv_once_t once = UV_ONCE_INIT;
static uv_mutex_t all_lock; /* before the lock of a table */
static struct table *tables[TABLE_BUCKETS];
static uint64_t seed;
static atomic_size_t used;
static atomic_size_t limit = (size_t)64 << 20;

static void start(void)
{
    ASSERT(uv_mutex_init(&all_lock) == 0);
    if (uv_random(NULL, NULL, &seed, sizeof(seed), 0, NULL) != 0) {
        seed = uv_hrtime();
    }
}

/* ---- bytes ---- */

void shared_set_limit(size_t bytes)
{
    atomic_store(&limit, bytes);
}

size_t shared_limit(void)
{
    return atomic_load(&limit);
}

size_t shared_used(void)
{
    return atomic_load(&used);
}

static bool reserve(size_t bytes)
{
    size_t now = atomic_load(&used);
    do {
        size_t most = atomic_load(&limit);
        if (now > most || bytes > most - now) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&used, &now, now + bytes));
    return true;
}

static void give_back(size_t bytes)
{
    atomic_fetch_sub(&used, bytes);
}

static size_t text_cost(const struct shared_value *v)
{
    return v->type == SHARED_STRING ? v->text.len : 0;
}

static size_t entry_cost(const struct entry *e)
{
    return sizeof(*e) + ENTRY_OVERHEAD + e->key_len + text_cost(&e->value);
}

/* ---- entries by the end of their lives: a heap ---- */

static void heap_put(struct table *t, size_t at, struct entry *e)
{
    t->heap[at] = e;
    e->heap_at = at;
}

static void heap_rise(struct table *t, size_t at, struct entry *e)
{
    while (at > 0 && t->heap[(at - 1) / 2]->ends > e->ends) {
        heap_put(t, at, t->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(t, at, e);
}

static void heap_sink(struct table *t, size_t at, struct entry *e)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < t->heap_count && t->heap[child + 1]->ends < t->heap[child]->ends) {
            child++;
        }
        if (child >= t->heap_count || t->heap[child]->ends >= e->ends) {
            break;
        }
        heap_put(t, at, t->heap[child]);
        at = child;
    }
    heap_put(t, at, e);
}

static void heap_remove(struct table *t, struct entry *e)
{
    struct entry *last = t->heap[--t->heap_count];
    if (last == e) {
        return;
    }
    size_t at = e->heap_at;
    heap_rise(t, at, last);
    heap_sink(t, last->heap_at, last);
}

static void set_end(struct table *t, struct entry *e, uint64_t ends)
{
    if (e->ends != 0) {
        heap_remove(t, e);
    }
    e->ends = ends;
    if (ends != 0) {
        if (t->heap_count == t->heap_room) {
            t->heap_room = t->heap_room ? 2 * t->heap_room : FIRST_BUCKETS;
            t->heap = xrealloc(t->heap, t->heap_room * sizeof(struct entry *));
        }
        heap_rise(t, t->heap_count++, e);
    }
}

/* ---- a table ---- */

static uint64_t hash_of(const char *data, size_t len)
{
    uint64_t hash = 14695981039346656037u ^ seed;
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ (unsigned char)data[i]) * 1099511628211u;
    }
    hash ^= hash >> 32;
    hash *= 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 29;
}

/* Where the pointer to the entry stands, or would: *slot is NULL then. */
static struct entry **find(struct table *t, uint64_t hash, const char *data, size_t len)
{
    struct entry **slot = &t->buckets[hash & (t->bucket_count - 1)];
    while (*slot != NULL && ((*slot)->hash != hash || (*slot)->key_len != len ||
                             memcmp((*slot)->key, data, len) != 0)) {
        slot = &(*slot)->next;
    }
    return slot;
}

static void free_text(struct shared_value *v)
{
    if (v->type == SHARED_STRING) {
        free((char *)v->text.data);
    }
}

static void remove_at(struct table *t, struct entry **slot)
{
    struct entry *e = *slot;
    ASSERT(e != NULL);
    if (e->ends != 0) {
        heap_remove(t, e);
    }
    *slot = e->next;
    t->count--;
    give_back(entry_cost(e));
    free_text(&e->value);
    free(e);
}

static void remove_ended(struct table *t, uint64_t now, size_t most)
{
    for (; most > 0 && t->heap_count > 0 && t->heap[0]->ends <= now; most--) {
        struct entry *e = t->heap[0];
        remove_at(t, find(t, e->hash, e->key, e->key_len));
    }
}

static void grow(struct table *t)
{
    size_t old_count = t->bucket_count;
    struct entry **old = t->buckets;
    t->bucket_count = old_count ? 2 * old_count : FIRST_BUCKETS;
    t->buckets = xcalloc(t->bucket_count, sizeof(struct entry *));
    for (size_t i = 0; i < old_count; i++) {
        for (struct entry *e = old[i], *next; e != NULL; e = next) {
            next = e->next;
            struct entry **slot = &t->buckets[e->hash & (t->bucket_count - 1)];
            e->next = *slot;
            *slot = e;
        }
    }
    free(old);
}

/* ---- tables by name ---- */

static struct table **table_slot(const char *name)
{
    struct table **slot = &tables[hash_of(name, strlen(name)) % TABLE_BUCKETS];
    while (*slot != NULL && strcmp((*slot)->name, name) != 0) {
        slot = &(*slot)->next;
    }
    return slot;
}

/* Returns the table, locked, or NULL if there is none and it is not to be made. */
static struct table *enter(const char *name, bool make)
{
    uv_once(&once, start);
    uv_mutex_lock(&all_lock);
    struct table **slot = table_slot(name);
    if (*slot == NULL && make) {
        struct table *made = xcalloc(1, sizeof(*made));
        made->name = xstrdup(name);
        ASSERT(uv_mutex_init(&made->lock) == 0);
        grow(made);
        *slot = made;
    }
    struct table *t = *slot;
    if (t != NULL) {
        t->users++;
    }
    uv_mutex_unlock(&all_lock);
    if (t != NULL) {
        uv_mutex_lock(&t->lock);
    }
    return t;
}

static void free_table(struct table *t)
{
    uv_mutex_destroy(&t->lock);
    free(t->buckets);
    free(t->heap);
    free(t->name);
    free(t);
}

static void leave(struct table *t)
{
    uv_mutex_unlock(&t->lock);
    uv_mutex_lock(&all_lock);
    if (--t->users == 0 && t->count == 0) { /* nobody is inside: its count cannot change */
        *table_slot(t->name) = t->next;
        free_table(t);
    }
    uv_mutex_unlock(&all_lock);
}

/* There is no room: entries of all tables that have come to their ends give theirs back. */
static void sweep_all(void)
{
    uint64_t now = uv_hrtime();
    uv_mutex_lock(&all_lock);
    for (size_t i = 0; i < TABLE_BUCKETS; i++) {
        for (struct table **slot = &tables[i], *t; (t = *slot) != NULL;) {
            uv_mutex_lock(&t->lock);
            remove_ended(t, now, SIZE_MAX);
            bool unused = t->users == 0 && t->count == 0;
            uv_mutex_unlock(&t->lock);
            if (unused) {
                *slot = t->next;
                free_table(t);
            } else {
                slot = &t->next;
            }
        }
    }
    uv_mutex_unlock(&all_lock);
}

/* ---- reading ---- */

/* What is there and has not ended; ended ones that it meets, and some others, are removed. */
static struct entry **lookup(struct table *t, struct shared_key key, uint64_t now)
{
    remove_ended(t, now, SWEEP);
    struct entry **slot = find(t, hash_of(key.data, key.len), key.data, key.len);
    if (*slot != NULL && (*slot)->ends != 0 && (*slot)->ends <= now) {
        remove_at(t, slot);
        slot = find(t, hash_of(key.data, key.len), key.data, key.len);
    }
    return slot;
}

struct shared_value shared_get(struct shared_key key, char *room, size_t size)
{
    struct shared_value value = {.type = SHARED_NONE};
    struct table *t = enter(key.table, false);
    if (t == NULL) {
        return value;
    }
    struct entry *e = *lookup(t, key, uv_hrtime());
    if (e != NULL) {
        value = e->value;
        if (value.type == SHARED_STRING) {
            if (value.text.len <= size && value.text.len > 0) {
                memcpy(room, value.text.data, value.text.len);
            }
            value.text.data = room;
        }
    }
    leave(t);
    return value;
}

size_t shared_size(const char *table)
{
    struct table *t = enter(table, false);
    if (t == NULL) {
        return 0;
    }
    remove_ended(t, uv_hrtime(), SIZE_MAX);
    size_t count = t->count;
    leave(t);
    return count;
}

size_t shared_keys(const char *table, struct buf *keys)
{
    struct table *t = enter(table, false);
    if (t == NULL) {
        return 0;
    }
    remove_ended(t, uv_hrtime(), SIZE_MAX);
    size_t count = t->count;
    for (size_t i = 0; i < t->bucket_count; i++) {
        for (const struct entry *e = t->buckets[i]; e != NULL; e = e->next) {
            buf_append(keys, &e->key_len, sizeof(e->key_len));
            buf_append(keys, e->key, e->key_len);
        }
    }
    leave(t);
    return count;
}

/* ---- writing ---- */

/* Keeps a copy of the value in the entry, whose room is reserved. */
static void keep(struct entry *e, struct shared_value value)
{
    free_text(&e->value);
    e->value = value;
    if (value.type == SHARED_STRING) {
        e->value.text.data = xmemdup(value.text.data, value.text.len);
    }
}

static bool replace(struct entry *e, struct shared_value value)
{
    size_t before = text_cost(&e->value);
    size_t after = text_cost(&value);
    if (after > before && !reserve(after - before)) {
        return false;
    }
    if (before > after) {
        give_back(before - after);
    }
    keep(e, value);
    return true;
}

static struct entry *insert(struct table *t, struct shared_key key, struct shared_value value)
{
    size_t cost = sizeof(struct entry) + ENTRY_OVERHEAD + text_cost(&value);
    if (key.len > SIZE_MAX - cost || !reserve(cost + key.len)) {
        return NULL;
    }
    struct entry *e = xcalloc(1, sizeof(*e) + key.len);
    e->hash = hash_of(key.data, key.len);
    e->key_len = key.len;
    memcpy(e->key, key.data, key.len);
    keep(e, value);
    if (++t->count > t->bucket_count) {
        grow(t);
    }
    struct entry **slot = find(t, e->hash, key.data, key.len);
    e->next = NULL;
    *slot = e;
    return e;
}

/* Puts the value at *slot, where the key belongs. */
static enum shared_status put(struct table *t, struct entry **slot, struct shared_key key,
                              struct shared_value value, uint64_t ends)
{
    struct entry *e = *slot;
    if (e == NULL) {
        e = insert(t, key, value);
    } else if (!replace(e, value)) {
        e = NULL;
    }
    if (e == NULL) {
        return SHARED_FULL;
    }
    set_end(t, e, ends);
    return SHARED_OK;
}

/* Compared by these, NaN can be replaced, too. */
static uint64_t bits_of(double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof(bits));
    return bits;
}

static bool equals(const struct shared_value *a, const struct shared_value *b)
{
    if (a->type != b->type) {
        return false;
    }
    switch (a->type) {
    case SHARED_BOOLEAN:
        return a->boolean == b->boolean;
    case SHARED_INTEGER:
        return a->integer == b->integer;
    case SHARED_FLOAT:
        return bits_of(a->number) == bits_of(b->number);
    case SHARED_STRING:
        return a->text.len == b->text.len && memcmp(a->text.data, b->text.data, a->text.len) == 0;
    default:
        return true;
    }
}

enum kind { SET, SWAP, INCR };

struct change {
    enum kind kind;
    struct shared_key key;
    struct shared_value expected; /* SWAP */
    struct shared_value value;    /* the new one; INCR: the initial one, in the end the sum */
    struct shared_value by;       /* INCR */
    uint64_t life;
};

static double as_float(const struct shared_value *v)
{
    return v->type == SHARED_INTEGER ? (double)v->integer : v->number;
}

static enum shared_status add_to(struct shared_value *sum, const struct shared_value *by)
{
    if (sum->type == SHARED_INTEGER && by->type == SHARED_INTEGER) {
        bool over = __builtin_add_overflow(sum->integer, by->integer, &sum->integer);
        return over ? SHARED_OVERFLOW : SHARED_OK;
    }
    if (sum->type != SHARED_INTEGER && sum->type != SHARED_FLOAT) {
        return SHARED_NO_NUMBER;
    }
    *sum = (struct shared_value){.type = SHARED_FLOAT, .number = as_float(sum) + as_float(by)};
    return SHARED_OK;
}

static enum shared_status change_locked(struct table *t, struct change *c)
{
    static const struct shared_value nothing = {.type = SHARED_NONE};
    uint64_t now = uv_hrtime();
    struct entry **slot = lookup(t, c->key, now);
    struct entry *e = *slot;
    uint64_t ends = c->life ? now + c->life : 0;
    struct shared_value value = c->value;
    if (c->kind == SWAP) {
        if (!equals(e ? &e->value : &nothing, &c->expected)) {
            return SHARED_DIFFERS;
        }
        if (value.type == SHARED_NONE) {
            if (e != NULL) {
                remove_at(t, slot);
            }
            return SHARED_OK;
        }
    } else if (c->kind == INCR) {
        if (e != NULL) {
            value = e->value;
            ends = e->ends;
        }
        enum shared_status status = add_to(&value, &c->by);
        if (status != SHARED_OK) {
            return status;
        }
    }
    enum shared_status status = put(t, slot, c->key, value, ends);
    if (status == SHARED_OK && c->kind == INCR) {
        c->value = value;
    }
    return status;
}

static enum shared_status change(struct change *c)
{
    enum shared_status status = SHARED_FULL;
    for (int round = 0; status == SHARED_FULL && round < 2; round++) {
        if (round > 0) {
            sweep_all();
        }
        struct table *t = enter(c->key.table, true);
        status = change_locked(t, c);
        leave(t);
    }
    return status;
}

enum shared_status shared_set(struct shared_key key, struct shared_value value, uint64_t life)
{
    struct change c = {.kind = SET, .key = key, .value = value, .life = life};
    return change(&c);
}

enum shared_status shared_swap(struct shared_key key, struct shared_value expected,
                               struct shared_value value, uint64_t life)
{
    struct change c = {
        .kind = SWAP, .key = key, .expected = expected, .value = value, .life = life};
    return change(&c);
}

enum shared_status shared_add(struct shared_key key, struct shared_value value, uint64_t life)
{
    return shared_swap(key, (struct shared_value){.type = SHARED_NONE}, value, life);
}

enum shared_status shared_incr(struct shared_key key, struct shared_value by,
                               struct shared_value initial, uint64_t life, struct shared_value *sum)
{
    struct change c = {.kind = INCR, .key = key, .value = initial, .by = by, .life = life};
    enum shared_status status = change(&c);
    *sum = c.value;
    return status;
}

bool shared_delete(struct shared_key key)
{
    struct table *t = enter(key.table, false);
    if (t == NULL) {
        return false;
    }
    struct entry **slot = lookup(t, key, uv_hrtime());
    bool there = *slot != NULL;
    if (there) {
        remove_at(t, slot);
    }
    leave(t);
    return there;
}

void shared_clear(const char *table)
{
    struct table *t = enter(table, false);
    if (t == NULL) {
        return;
    }
    for (size_t i = 0; i < t->bucket_count; i++) {
        while (t->buckets[i] != NULL) {
            remove_at(t, &t->buckets[i]);
        }
    }
    leave(t);
}
