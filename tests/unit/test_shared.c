/*
 * Tables of the process from C: threads that count, swap and let entries end at the same time; no
 * byte stays counted when all is gone.
 */
#include "test.h"

#include "engine/shared.h"

#include <stdio.h>
#include <string.h>
#include <uv.h>

enum { THREADS = 8, ROUNDS = 2000 };

static struct shared_key key_of(const char *table, const char *key)
{
    return (struct shared_key){.table = table, .data = key, .len = strlen(key)};
}

static struct shared_value integer(int64_t i)
{
    return (struct shared_value){.type = SHARED_INTEGER, .integer = i};
}

static struct shared_value text(const char *s)
{
    return (struct shared_value){.type = SHARED_STRING, .text = {s, strlen(s)}};
}

static int64_t get_integer(const char *table, const char *key)
{
    struct shared_value v = shared_get(key_of(table, key), NULL, 0);
    ASSERT_INT(v.type, SHARED_INTEGER);
    return v.integer;
}

static void count_thread(void *arg)
{
    const char *own = arg;
    struct shared_value sum;
    for (int i = 0; i < ROUNDS; i++) {
        ASSERT_INT(shared_incr(key_of("t", "all"), integer(1), integer(0), 0, &sum), SHARED_OK);
        ASSERT_INT(shared_set(key_of("t", own), text(i % 2 ? "short" : "a longer text"), 1 + i % 3),
                   SHARED_OK);
        char name[32];
        snprintf(name, sizeof(name), "table %d", i % 5); /* made and dropped all the time */
        ASSERT_INT(shared_set(key_of(name, own), integer(i), 0), SHARED_OK);
        ASSERT_TRUE(shared_delete(key_of(name, own)));
        if (i % 64 == 0) {
            struct buf keys;
            buf_init(&keys);
            ASSERT_TRUE(shared_keys("t", &keys) >= 1);
            buf_release(&keys);
        }
    }
}

TEST(threads_count_together)
{
    static const char *const names[THREADS] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    uv_thread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        ASSERT_INT(uv_thread_create(&threads[i], count_thread, (void *)names[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        ASSERT_INT(uv_thread_join(&threads[i]), 0);
    }
    ASSERT_INT(get_integer("t", "all"), THREADS * ROUNDS);
    shared_clear("t");
    ASSERT_INT(shared_used(), 0);
}

static bool swap_in(int64_t from, int64_t to)
{
    struct shared_value expected =
        from ? integer(from) : (struct shared_value){.type = SHARED_NONE};
    return shared_swap(key_of("t", "n"), expected, integer(to), 0) == SHARED_OK;
}

static void swap_thread(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        struct shared_value now;
        do {
            now = shared_get(key_of("t", "n"), NULL, 0);
        } while (!swap_in(now.type == SHARED_NONE ? 0 : now.integer,
                          (now.type == SHARED_NONE ? 0 : now.integer) + 1));
    }
}

TEST(threads_swap)
{
    uv_thread_t threads[2];
    for (int i = 0; i < 2; i++) {
        ASSERT_INT(uv_thread_create(&threads[i], swap_thread, NULL), 0);
    }
    for (int i = 0; i < 2; i++) {
        ASSERT_INT(uv_thread_join(&threads[i]), 0);
    }
    ASSERT_INT(get_integer("t", "n"), 2 * ROUNDS);
    shared_clear("t");
}

/* Random lives, changed and ended in any order: the heap keeps them all. */
TEST(lives_in_any_order)
{
    enum { KEYS = 500 };
    static bool there[KEYS];
    const uint64_t hour = 3600ull * 1000000000;
    unsigned state = 1;
    for (int i = 0; i < 20000; i++) {
        state = state * 1103515245 + 12345;
        int k = (int)(state >> 16) % KEYS;
        state = state * 1103515245 + 12345;
        unsigned what = (state >> 16) % 4;
        char name[16];
        snprintf(name, sizeof(name), "%d", k);
        if (what == 0) {
            ASSERT_INT(shared_delete(key_of("t", name)), there[k]);
        } else {
            uint64_t life = what == 1 ? 0 : what == 2 ? hour + state : 1;
            ASSERT_INT(shared_set(key_of("t", name), text(name), life), SHARED_OK);
        }
        there[k] = what == 1 || what == 2;
    }
    size_t want = 0;
    for (int k = 0; k < KEYS; k++) {
        char name[16], got[16];
        snprintf(name, sizeof(name), "%d", k);
        struct shared_value v = shared_get(key_of("t", name), got, sizeof(got));
        ASSERT_INT(v.type, there[k] ? SHARED_STRING : SHARED_NONE);
        ASSERT_TRUE(!there[k] || (v.text.len == strlen(name) && !memcmp(got, name, v.text.len)));
        want += there[k];
    }
    ASSERT_INT(shared_size("t"), want);
    shared_clear("t");
    ASSERT_INT(shared_used(), 0);
}

TEST(text_that_does_not_fit_is_not_copied)
{
    char room[4] = "...";
    ASSERT_INT(shared_set(key_of("t", "k"), text("long"), 0), SHARED_OK);
    struct shared_value v = shared_get(key_of("t", "k"), room, 3);
    ASSERT_INT(v.text.len, 4);
    ASSERT_STR(room, "...");
    v = shared_get(key_of("t", "k"), room, 4);
    ASSERT_TRUE(memcmp(room, "long", 4) == 0);
    shared_clear("t");
}

TEST(limit_is_kept)
{
    shared_set_limit(1000);
    int stored = 0;
    enum shared_status status;
    do {
        char name[16];
        snprintf(name, sizeof(name), "%d", stored++);
        status = shared_set(key_of("t", name), text("0123456789"), 0);
        ASSERT_TRUE(shared_used() <= 1000);
    } while (status == SHARED_OK);
    ASSERT_INT(status, SHARED_FULL);
    ASSERT_INT(shared_size("t"), stored - 1);
    ASSERT_INT(shared_set(key_of("empty", "k"), text("0123456789"), 0), SHARED_FULL);
    ASSERT_INT(shared_size("empty"), 0);
    shared_clear("t");
    ASSERT_INT(shared_used(), 0);
}
