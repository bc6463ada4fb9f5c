/*
 * D6, D7, D8: permits. The random test checks each start against the rules as they are written
 * down, and after each step that nobody who may start is left waiting.
 */
#include "test.h"

#include "engine/dispatch.h"

#include <stdio.h>
#include <string.h>

enum { MAX_BATCHES = 8, MAX_SLOTS = 40, LANES = 3, CAP = 12 };

struct slot_model {
    enum { WAITS, RUNS, RESTS, OVER } state;
    bool barrier;
    bool lanes[LANES];
};

struct batch_model {
    struct batch *batch; /* NULL: not there */
    bool started;
    bool counted;
    size_t cap;
    size_t count;
    struct slot_model slots[MAX_SLOTS];
};

static struct dispatcher dispatcher;
static struct batch_model models[MAX_BATCHES];
static size_t lane_limits[LANES];
static unsigned seed;

static unsigned random_below(unsigned n)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 16) % n;
}

static size_t count_state(const struct batch_model *m, int state)
{
    size_t count = 0;
    for (size_t i = 0; m->batch != NULL && i < m->count; i++) {
        count += (int)m->slots[i].state == state;
    }
    return count;
}

/* One that rests keeps its place in the batch. */
static size_t count_running(const struct batch_model *m)
{
    return count_state(m, RUNS) + count_state(m, RESTS);
}

static size_t process_running(void)
{
    size_t running = 0;
    for (size_t b = 0; b < MAX_BATCHES; b++) {
        running += models[b].counted ? count_state(&models[b], RUNS) : 0;
    }
    return running;
}

static size_t lane_running(int lane)
{
    size_t running = 0;
    for (size_t b = 0; b < MAX_BATCHES; b++) {
        for (size_t i = 0; models[b].batch != NULL && i < models[b].count; i++) {
            running += models[b].slots[i].state == RUNS && models[b].slots[i].lanes[lane];
        }
    }
    return running;
}

static bool lanes_free(const struct slot_model *s)
{
    for (int lane = 0; lane < LANES; lane++) {
        if (s->lanes[lane] && lane_running(lane) >= lane_limits[lane]) {
            return false;
        }
    }
    return true;
}

/* The slot that has to start next by the rules, or -1. */
static long expected(const struct batch_model *m)
{
    if (m->batch == NULL || !m->started || count_running(m) >= m->cap ||
        (m->counted && process_running() >= CAP)) {
        return -1;
    }
    bool earlier_over = true;
    for (size_t i = 0; i < m->count; i++) {
        const struct slot_model *s = &m->slots[i];
        if ((s->state == RUNS || s->state == RESTS) && s->barrier) {
            return -1;
        }
        if (s->state == WAITS) {
            if (s->barrier) {
                return earlier_over && lanes_free(s) ? (long)i : -1;
            }
            if (lanes_free(s)) {
                return (long)i;
            }
        }
        earlier_over = earlier_over && s->state == OVER;
    }
    return -1;
}

/* A permit was handed out: it is the one that the rules say. */
static void on_wake(void *arg)
{
    struct batch_model *m = arg;
    long want = expected(m);
    long slot = batch_take(m->batch);
    ASSERT_INT(slot, want);
    ASSERT_TRUE(slot >= 0);
    m->slots[slot].state = RUNS;
    ASSERT_INT(batch_take(m->batch), -1);
}

static void check_all(void)
{
    for (size_t b = 0; b < MAX_BATCHES; b++) {
        ASSERT_INT(expected(&models[b]), -1);
        if (models[b].batch != NULL) {
            bool over = true;
            for (size_t i = 0; i < models[b].count; i++) {
                over = over && models[b].slots[i].state == OVER;
            }
            ASSERT_INT(batch_done(models[b].batch), over);
        }
    }
    ASSERT_INT(dispatcher.running, process_running());
}

static void add_batch(struct batch_model *m, bool barriers, bool lanes)
{
    static const char *const names[LANES] = {"one", "two", "three"};
    memset(m, 0, sizeof(*m));
    m->cap = 1 + random_below(6);
    m->count = random_below(MAX_SLOTS);
    m->counted = random_below(4) != 0;
    m->batch = batch_new(&dispatcher, m->cap, m->counted, on_wake, m);
    for (size_t i = 0; i < m->count; i++) {
        struct slot_model *s = &m->slots[i];
        s->barrier = barriers && random_below(8) == 0;
        ASSERT_INT(batch_add(m->batch, s->barrier), i);
        for (int lane = 0; lane < LANES; lane++) {
            s->lanes[lane] = lanes && random_below(4) == 0;
            if (s->lanes[lane]) {
                batch_limit(m->batch, i, '=', names[lane], lane_limits[lane]);
            }
        }
    }
    m->started = true;
    batch_start(m->batch);
}

/* Settles one of those that have started, or lets it rest. */
static void change_one(struct batch_model *m, bool settle)
{
    size_t running = settle ? count_running(m) : count_state(m, RUNS);
    if (running == 0) {
        return;
    }
    size_t pick = random_below((unsigned)running);
    for (size_t i = 0; i < m->count; i++) {
        struct slot_model *s = &m->slots[i];
        if ((s->state == RUNS || (settle && s->state == RESTS)) && pick-- == 0) {
            s->state = settle ? OVER : RESTS;
            (settle ? batch_settle : batch_rest)(m->batch, i);
            return;
        }
    }
}

static void abandon(struct batch_model *m)
{
    for (size_t i = 0; i < m->count; i++) {
        m->slots[i].state = m->slots[i].state == WAITS ? OVER : m->slots[i].state;
    }
    batch_abandon(m->batch);
}

/* batch_free() settles what runs, one after the other: others start meanwhile, so the model cannot
 * follow in between and looks at the end alone. */
static void remove_batch(struct batch_model *m)
{
    abandon(m);
    while (count_running(m) > 0) {
        change_one(m, true);
    }
    batch_free(m->batch);
    m->batch = NULL;
    m->counted = false;
}

static void random_run(unsigned start, bool barriers, bool lanes)
{
    seed = start;
    dispatcher_init(&dispatcher, CAP);
    memset(models, 0, sizeof(models));
    for (int lane = 0; lane < LANES; lane++) {
        lane_limits[lane] = 1 + random_below(3);
    }
    for (int step = 0; step < 600; step++) {
        struct batch_model *m = &models[random_below(MAX_BATCHES)];
        unsigned what = random_below(100);
        if (m->batch == NULL) {
            add_batch(m, barriers, lanes);
        } else if (what < 85) {
            change_one(m, what < 65);
        } else if (what < 90) {
            abandon(m);
        } else if (what < 95 || batch_done(m->batch)) {
            remove_batch(m);
        }
        check_all();
    }
    for (size_t b = 0; b < MAX_BATCHES; b++) {
        if (models[b].batch != NULL) {
            remove_batch(&models[b]);
        }
    }
    dispatcher_release(&dispatcher);
}

TEST(dispatch_D6_caps_random_runs_against_the_rules)
{
    for (unsigned i = 0; i < 60; i++) {
        random_run(i, false, false);
    }
}

TEST(dispatch_D8_barriers_and_names_random_runs_against_the_rules)
{
    for (unsigned i = 0; i < 120; i++) {
        random_run(1000 + i, true, true);
    }
}

static void count_wake(void *arg)
{
    (*(int *)arg)++;
}

static struct batch *started(int *wakes, size_t count, size_t cap, const char *name, size_t limit)
{
    struct batch *b = batch_new(&dispatcher, cap, true, count_wake, wakes);
    for (size_t i = 0; i < count; i++) {
        batch_add(b, false);
        if (name != NULL) {
            batch_limit(b, i, '=', name, limit);
        }
    }
    batch_start(b);
    return b;
}

TEST(dispatch_D6_batches_take_turns)
{
    dispatcher_init(&dispatcher, 1);
    int wakes[3] = {0};
    struct batch *b[3];
    for (int i = 0; i < 3; i++) {
        b[i] = started(&wakes[i], 5, 5, NULL, 0);
    }
    int who = 0;
    for (int n = 0; n < 12; n++) { /* the first one was alone, then in turn */
        long slot = batch_take(b[who]);
        ASSERT_INT(slot, wakes[who] - 1);
        batch_settle(b[who], (size_t)slot);
        who = n % 3;
        ASSERT_INT(wakes[who], n / 3 + 1 + (who == 0));
    }
    for (int i = 0; i < 3; i++) {
        batch_free(b[i]);
    }
    dispatcher_release(&dispatcher);
}

TEST(dispatch_freeing_lets_others_go_at_any_moment)
{
    dispatcher_init(&dispatcher, 2);
    int wakes[2] = {0};
    struct batch *a = started(&wakes[0], 4, 4, "x", 1);
    struct batch *b = started(&wakes[1], 4, 4, "x", 1);
    ASSERT_INT(wakes[0], 1);
    ASSERT_INT(wakes[1], 0);
    batch_free(a); /* with one running, taken by nobody, and three waiting */
    ASSERT_INT(wakes[1], 1);
    ASSERT_INT(batch_take(b), 0);
    batch_abandon(b);
    ASSERT_TRUE(!batch_done(b));
    batch_settle(b, 0);
    ASSERT_TRUE(batch_done(b));
    ASSERT_INT(batch_take(b), -1);
    batch_free(b);
    batch_free(NULL);
    ASSERT_INT(dispatcher.running, 0);
    dispatcher_release(&dispatcher);
}

TEST(dispatch_an_empty_batch_is_done)
{
    dispatcher_init(&dispatcher, 2);
    int wakes = 0;
    struct batch *b = started(&wakes, 0, 1, NULL, 0);
    ASSERT_TRUE(batch_done(b));
    ASSERT_INT(batch_take(b), -1);
    batch_free(b);
    ASSERT_INT(wakes, 0);
    dispatcher_release(&dispatcher);
}

TEST(dispatch_a_raised_limit_is_used)
{
    dispatcher_init(&dispatcher, 100);
    int wakes[2] = {0};
    struct batch *a = started(&wakes[0], 9, 9, "x", 2);
    ASSERT_INT(wakes[0], 2);
    struct batch *b = started(&wakes[1], 1, 1, "x", 5);
    ASSERT_INT(wakes[1], 1);
    batch_settle(a, (size_t)batch_take(a));
    ASSERT_INT(wakes[0] + wakes[1] - 1,
               5); /* the new limit is used up at the latest with the next change */
    batch_settle(b, (size_t)batch_take(b));
    batch_free(b);
    for (int i = 1; i < 9; i++) {
        batch_settle(a, (size_t)batch_take(a));
    }
    ASSERT_TRUE(batch_done(a));
    batch_free(a);
    dispatcher_release(&dispatcher);
}

TEST(dispatch_D7_many_that_wait_cost_little)
{
    enum { MANY = 20000 };
    dispatcher_init(&dispatcher, 256);
    static struct batch *waiting[MANY];
    int wakes = 0, other = 0;
    for (int i = 0; i < MANY; i++) {
        waiting[i] = started(&wakes, 1, 1, "scarce", 2);
    }
    for (int i = 0; i < MANY; i++) { /* what does not need the name is not held up */
        struct batch *b = started(&other, 1, 1, NULL, 0);
        batch_settle(b, 0);
        batch_free(b);
    }
    ASSERT_INT(other, MANY);
    for (int i = 0; i < MANY; i++) { /* first come, first served */
        ASSERT_INT(batch_take(waiting[i]), 0);
        batch_free(waiting[i]);
    }
    ASSERT_INT(wakes, MANY);
    dispatcher_release(&dispatcher);
}
