/*
 * Tables that the whole process shares, found by name: strings as keys; strings, integers, floats
 * and booleans as values, each kept exactly. No Lua inside. Any thread; each function is atomic.
 *
 * A table exists while something is stored in it. All tables together hold at most so many bytes:
 * what does not fit is refused, nothing is thrown away to make room. Entries may have an end of
 * life; from then on nobody sees them, and their memory is given back bit by bit.
 */
#ifndef LASH_SHARED_H
#define LASH_SHARED_H

#include "base/base.h"
#include "base/buf.h"

enum shared_type { SHARED_NONE, SHARED_BOOLEAN, SHARED_INTEGER, SHARED_FLOAT, SHARED_STRING };

struct shared_value {
    enum shared_type type;
    union {
        bool boolean;
        int64_t integer;
        double number;
        struct {
            const char *data; /* borrowed for the call; of a result: see shared_get() */
            size_t len;
        } text;
    };
};

struct shared_key {
    const char *table; /* the name of the table */
    const char *data;
    size_t len;
};

enum shared_status {
    SHARED_OK,
    SHARED_DIFFERS, /* it was not as asked: nothing was changed */
    SHARED_FULL,
    SHARED_NO_NUMBER, /* what is there cannot be counted up */
    SHARED_OVERFLOW,  /* the sum is no 64-bit integer */
};

/* What it may cost in all, in bytes; 64 MiB in the beginning. Less than is used: what is there
 * stays. */
void shared_set_limit(size_t bytes);
size_t shared_limit(void);
size_t shared_used(void);

/* The value, of type SHARED_NONE if there is none. The text of a string is copied to `room`, if it
 * fits into its `size` bytes; value.text.len says how long it is. */
struct shared_value shared_get(struct shared_key key, char *room, size_t size);

/* Life of an entry: so many ns from now, 0 = for ever. */
enum shared_status shared_set(struct shared_key key, struct shared_value value, uint64_t life);

/* Only if it is absent: SHARED_OK or SHARED_DIFFERS. */
enum shared_status shared_add(struct shared_key key, struct shared_value value, uint64_t life);

/* Replaces what equals `expected`, in type and value; SHARED_NONE means that it is absent, as the
 * old or the new one. */
enum shared_status shared_swap(struct shared_key key, struct shared_value expected,
                               struct shared_value value, uint64_t life);

/* Adds `by`, an integer or a float; what is absent begins with `initial`, and lives for `life`.
 * `sum` becomes the new value. */
enum shared_status shared_incr(struct shared_key key, struct shared_value by,
                               struct shared_value initial, uint64_t life,
                               struct shared_value *sum);

/* True when it was there. */
bool shared_delete(struct shared_key key);
void shared_clear(const char *table);
size_t shared_size(const char *table);

/* Appends the keys as they are at one moment, each as its length (a size_t) and its bytes; returns
 * their count. */
size_t shared_keys(const char *table, struct buf *keys);

#endif
