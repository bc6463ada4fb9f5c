/*
 * A growing byte buffer. Any thread, one at a time. `data` is owned by the buffer and is always
 * followed by a NUL that `len` does not count (once anything was appended).
 */
#ifndef LASH_BUF_H
#define LASH_BUF_H

#include "base/base.h"

struct buf {
    char *data; /* owned; NULL while nothing was appended */
    size_t len;
    size_t cap;
};

/* Makes an empty buffer; allocates nothing. */
void buf_init(struct buf *b);
/* Frees the contents and leaves an empty buffer. */
void buf_release(struct buf *b);
/* Forgets the contents, keeps the memory. */
void buf_clear(struct buf *b);
/* Makes room for `extra` more bytes. */
void buf_reserve(struct buf *b, size_t extra);
void buf_append(struct buf *b, const void *data, size_t len);
void buf_append_char(struct buf *b, char c);
void buf_append_str(struct buf *b, const char *s);
void buf_appendf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Moves the contents of `from` into `to`, whose old contents are freed. */
void buf_move(struct buf *to, struct buf *from);

#endif
