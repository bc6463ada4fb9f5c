/*
 * The event stream format of the HTML standard, "9.2.6 Interpreting an event stream".
 */
#include "base/base.h"

#include "io/sse.h"

#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

/* A buffer that held a large event is given back when the next ones are small. */
#define KEEP_CAP ((size_t)256 << 10)

static const char bom[] = "\xef\xbb\xbf";

/* A text that is in the bytes just given, or in a buffer of ours. */
struct piece {
    const char *at; /* borrowed; NULL = there is none */
    size_t len;
};

struct sse {
    size_t max;
    size_t bom_seen; /* bytes of a byte order mark at the start; 3 = no longer looked for */
    bool line_begun; /* a byte of the present line was seen */
    bool in_comment; /* the present line is one: nothing of it is kept */
    bool after_cr;   /* a line feed now belongs to the line end before */
    bool too_large;
    bool delivered;  /* the last call gave an event: its memory is for the next one */
    struct buf line; /* the present line, as far as it came in pieces */
    struct piece name, data;
    struct buf kept_name, kept_data; /* where the bytes they were in are gone */
    struct buf id;
    struct buf stray; /* lines that are no field */
    bool has_id;
    int64_t retry_ms;
    uint64_t comments;
};

struct sse *sse_new(size_t max)
{
    struct sse *s = xcalloc(1, sizeof *s);
    s->max = max;
    s->retry_ms = -1;
    return s;
}

void sse_free(struct sse *s)
{
    if (s == NULL) {
        return;
    }
    buf_release(&s->line);
    buf_release(&s->kept_name);
    buf_release(&s->kept_data);
    buf_release(&s->id);
    buf_release(&s->stray);
    free(s);
}

uint64_t sse_comments(const struct sse *s)
{
    return s->comments;
}

const char *sse_stray(const struct sse *s, size_t *len)
{
    *len = s->stray.len;
    return s->stray.len > 0 ? s->stray.data : "";
}

static void empty(struct buf *b)
{
    if (b->cap > KEEP_CAP) {
        buf_release(b);
    } else {
        b->len = 0;
    }
}

/* Forgets the event, but not the id, which is the stream's. */
static void begin_event(struct sse *s)
{
    s->name = s->data = (struct piece){0};
    empty(&s->kept_name);
    empty(&s->kept_data);
}

static void keep(struct piece *piece, struct buf *kept)
{
    if (piece->at != NULL && piece->at != kept->data) {
        buf_clear(kept);
        buf_append(kept, piece->at, piece->len);
        piece->at = kept->data;
    }
}

/* The bytes given go, the event is not complete. */
static void keep_pieces(struct sse *s)
{
    keep(&s->name, &s->kept_name);
    keep(&s->data, &s->kept_data);
}

static bool fits(struct sse *s, size_t more)
{
    size_t held = s->line.len + s->name.len + s->data.len + s->id.len;
    if (held > s->max || more > s->max - held) {
        s->too_large = true;
    }
    return !s->too_large;
}

static void add_data(struct sse *s, struct piece value)
{
    if (s->data.at == NULL) {
        s->data = value;
        return;
    }
    keep(&s->data, &s->kept_data);
    buf_append_char(&s->kept_data, '\n');
    buf_append(&s->kept_data, value.at, value.len);
    s->data = (struct piece){.at = s->kept_data.data, .len = s->kept_data.len};
}

static void set_id(struct sse *s, struct piece value)
{
    if (memchr(value.at, '\0', value.len) == NULL) {
        buf_clear(&s->id);
        buf_append(&s->id, value.at, value.len);
        s->has_id = true;
    }
}

static void set_retry(struct sse *s, struct piece value)
{
    int64_t ms = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.at[i] < '0' || value.at[i] > '9' || ms > INT64_MAX / 100) {
            return;
        }
        ms = ms * 10 + (value.at[i] - '0');
    }
    if (value.len > 0) {
        s->retry_ms = ms;
    }
}

static void take_stray(struct sse *s, const char *line, size_t len)
{
    if (s->stray.len > 0 && s->stray.len < SSE_STRAY_MAX) {
        buf_append_char(&s->stray, '\n');
    }
    size_t room = SSE_STRAY_MAX - s->stray.len;
    buf_append(&s->stray, line, len < room ? len : room);
}

/* Whether this is the line's field; then *value is what it says. */
static inline bool is_field(const char *line, size_t len, const char *name, struct piece *value)
{
    size_t at = strlen(name);
    if (len < at || memcmp(line, name, at) != 0 || (len > at && line[at] != ':')) {
        return false;
    }
    at += len > at; // the colon
    at += len > at && line[at] == ' ';
    *value = (struct piece){.at = line + at, .len = len - at};
    return true;
}

static void take_field(struct sse *s, const char *line, size_t len)
{
    struct piece value;
    if (is_field(line, len, "data", &value)) {
        add_data(s, value);
    } else if (is_field(line, len, "event", &value)) {
        s->name = value;
    } else if (is_field(line, len, "id", &value)) {
        set_id(s, value);
    } else if (is_field(line, len, "retry", &value)) {
        set_retry(s, value);
    } else {
        take_stray(s, line, len);
    }
}

/* A blank line. Returns true when there is an event. */
static bool dispatch(struct sse *s, struct sse_event *event)
{
    if (s->data.at == NULL) {
        begin_event(s);
        return false;
    }
    bool named = s->name.len > 0;
    *event = (struct sse_event){.name = named ? s->name.at : "message",
                                .name_len = named ? s->name.len : strlen("message"),
                                .data = s->data.at,
                                .data_len = s->data.len,
                                .id = s->has_id ? s->id.data : NULL,
                                .id_len = s->id.len,
                                .retry_ms = s->retry_ms};
    s->retry_ms = -1;
    s->delivered = true;
    return true;
}

/* The line is complete: `len` bytes at `data` after what came of it before. */
static bool end_line(struct sse *s, const char *data, size_t len, struct sse_event *event)
{
    bool is_event = false;
    if (s->in_comment) {
        s->comments++;
    } else if (s->line.len > 0) {
        buf_append(&s->line, data, len);
        take_field(s, s->line.data, s->line.len);
        keep_pieces(s);
        empty(&s->line);
    } else if (len > 0) {
        take_field(s, data, len);
    } else {
        is_event = dispatch(s, event);
    }
    s->in_comment = false;
    s->line_begun = false;
    return is_event;
}

/* So much is searched for a line feed, then what is before that for a carriage return: where all
 * lines end with the latter, little is searched in vain. */
#define BLOCK ((size_t)512)

static size_t find_line_end(const char *data, size_t len)
{
    for (size_t at = 0; at < len; at += BLOCK) {
        size_t block = len - at < BLOCK ? len - at : BLOCK;
        const char *feed = memchr(data + at, '\n', block);
        const char *ret =
            memchr(data + at, '\r', feed != NULL ? (size_t)(feed - (data + at)) : block);
        if (ret != NULL || feed != NULL) {
            return (size_t)((ret != NULL ? ret : feed) - data);
        }
    }
    return len;
}

/* Bytes of a byte order mark at the very start are passed over; those that only look like the
 * beginning of one are part of the first line. Returns how many bytes were used. */
static size_t skip_bom(struct sse *s, const char *data, size_t len)
{
    size_t used = 0;
    while (used < len && s->bom_seen < 3 && data[used] == bom[s->bom_seen]) {
        s->bom_seen++;
        used++;
    }
    if (used < len && s->bom_seen < 3) {
        buf_append(&s->line, bom, s->bom_seen);
        s->line_begun = s->bom_seen > 0;
        s->bom_seen = 3;
    }
    return used;
}

/* Part of a line, or all of it with its line end. Returns how many bytes were used. */
static size_t take_piece(struct sse *s, const char *data, size_t len, bool *is_event,
                         struct sse_event *event)
{
    if (s->after_cr) {
        s->after_cr = false;
        if (*data == '\n') {
            return 1;
        }
    }
    if (!s->line_begun) {
        s->line_begun = true;
        s->in_comment = *data == ':';
    }
    size_t end = *data == '\n' ? 0 : find_line_end(data, len);
    if (!s->in_comment && !fits(s, end)) {
        return 0;
    }
    if (end < len) {
        s->after_cr = data[end] == '\r';
        *is_event = end_line(s, data, end, event);
        return end + 1;
    }
    if (!s->in_comment) {
        buf_append(&s->line, data, len);
    }
    return len;
}

enum sse_what sse_feed(struct sse *s, const char *data, size_t len, size_t *used,
                       struct sse_event *event)
{
    bool is_event = false;
    *used = 0;
    if (s->delivered) {
        s->delivered = false;
        begin_event(s);
    }
    if (s->bom_seen < 3 && len > 0) {
        *used = skip_bom(s, data, len);
    }
    while (*used < len && !is_event && !s->too_large) {
        *used += take_piece(s, data + *used, len - *used, &is_event, event);
    }
    if (is_event) {
        return SSE_EVENT;
    }
    keep_pieces(s);
    return s->too_large ? SSE_TOO_LARGE : SSE_MORE;
}

enum sse_what sse_end(struct sse *s, struct sse_event *event)
{
    if (s->too_large) {
        return SSE_TOO_LARGE;
    }
    if (s->delivered) {
        s->delivered = false;
        begin_event(s);
        return SSE_MORE;
    }
    if (s->line_begun) {
        (void)end_line(s, "", 0, event); // not blank: no event yet
    }
    return dispatch(s, event) ? SSE_EVENT : SSE_MORE;
}
