#include "base/base.h"

#include "io/sse.h"

#include "base/buf.h"

#include "test.h"

#include <stdlib.h>
#include <string.h>

#define MAX ((size_t)1 << 20)

/* Events as text: "name|data|id|retry;" with line feeds as \n. */
static void show(struct buf *out, const struct sse_event *event)
{
    ASSERT_TRUE(strchr("\r\n", event->name[event->name_len]) != NULL); // or NUL
    ASSERT_TRUE(strchr("\r\n", event->data[event->data_len]) != NULL);
    buf_appendf(out, "%.*s|", (int)event->name_len, event->name);
    for (size_t i = 0; i < event->data_len; i++) {
        char c = event->data[i];
        if (c == '\n') {
            buf_append_str(out, "\\n");
        } else {
            buf_append_char(out, c ? c : '0');
        }
    }
    buf_appendf(out, "|%s|%lld;", event->id ? event->id : "-", (long long)event->retry_ms);
}

static void feed(struct sse *s, const char *data, size_t len, struct buf *out)
{
    struct sse_event event;
    // pieces of their own: reading past one is seen by the sanitizers
    char *copy = xmemdup(data, len);
    char *at = copy;
    while (len > 0) {
        size_t used;
        enum sse_what what = sse_feed(s, at, len, &used, &event);
        ASSERT_TRUE(what != SSE_TOO_LARGE && used > 0 && used <= len);
        ASSERT_TRUE(what == SSE_EVENT || used == len);
        at += used;
        len -= used;
        if (what == SSE_EVENT) {
            show(out, &event);
        }
    }
    free(copy);
}

static void end(struct sse *s, struct buf *out)
{
    struct sse_event event;
    while (sse_end(s, &event) == SSE_EVENT) {
        show(out, &event);
    }
}

/* The text in pieces that end at a and b. */
static void expect_split(const char *text, size_t len, size_t a, size_t b, const char *want)
{
    struct buf out = {0};
    struct sse *s = sse_new(MAX);
    buf_append_str(&out, "");
    feed(s, text, a, &out);
    feed(s, text + a, b - a, &out);
    feed(s, text + b, len - b, &out);
    end(s, &out);
    ASSERT_STR(out.data, want);
    sse_free(s);
    buf_release(&out);
}

static void expect(const char *text, size_t len, const char *want)
{
    expect_split(text, len, len, len, want);
    for (size_t a = 0; a <= len; a++) {
        for (size_t b = a; b <= len; b++) {
            expect_split(text, len, a, b, want);
        }
    }
    struct buf out = {0};
    struct sse *s = sse_new(MAX);
    buf_append_str(&out, "");
    for (size_t i = 0; i < len; i++) {
        feed(s, text + i, 1, &out);
    }
    end(s, &out);
    ASSERT_STR(out.data, want);
    sse_free(s);
    buf_release(&out);
}

#define EXPECT(text, want) expect(text, sizeof(text) - 1, want)

TEST(sse_p2_any_split_gives_the_same_events)
{
    EXPECT(
        "\xef\xbb\xbf"
        ": hello\r\nevent: a\xc3\xa4\r\ndata: \xe2\x82\xac \xf0\x9f\x98\x80\r\ndata:  two\r\n\r\n"
        "id: 7\ndata:x\n\nretry: 1500\rdata\r\rdata: last\n\n",
        "a\xc3\xa4|\xe2\x82\xac \xf0\x9f\x98\x80\\n two|-|-1;message|x|7|-1;message||7|1500;"
        "message|last|7|-1;");
}

TEST(sse_line_ends)
{
    EXPECT(
        "data: a\n\ndata: b\r\rdata: c\r\n\r\ndata: d\r\n\ndata: e\n\r\ndata: f\r\n\rdata: g\n\r",
        "message|a|-|-1;message|b|-|-1;message|c|-|-1;message|d|-|-1;message|e|-|-1;"
        "message|f|-|-1;message|g|-|-1;");
    EXPECT("data: a\r\ndata: b\rdata: c\ndata\n\n", "message|a\\nb\\nc\\n|-|-1;");
    EXPECT("\n\n\r\n\r\r", "");
}

TEST(sse_fields)
{
    EXPECT("data:a\ndata: b\ndata:  c\ndata :d\n data: e\ndatax: f\n\n",
           "message|a\\nb\\n c|-|-1;");
    EXPECT("event: gone\n\ndata: kept\n\n", "message|kept|-|-1;"); // no data, no event
    EXPECT("event: a\nevent: b\ndata:\n\nevent: c\nevent\ndata:1\n\n", "b||-|-1;message|1|-|-1;");
    EXPECT("id: 1\n\ndata: a\n\nid\ndata: b\n\nid: x\0y\ndata: c\n\n",
           "message|a|1|-1;message|b||-1;message|c||-1;");
    EXPECT("retry: 5\n\nretry: 1x\nretry:\nretry: -1\nretry: 99999999999999999999999\ndata: a\n\n"
           "data: b\n\n",
           "message|a|-|5;message|b|-|-1;");
    EXPECT("data: a\0b\n\n", "message|a0b|-|-1;");
    EXPECT("data: {\"a\": \"b: c\"}\n\n", "message|{\"a\": \"b: c\"}|-|-1;");
}

TEST(sse_byte_order_marks)
{
    EXPECT("\xef\xbb\xbf\xef\xbb\xbf"
           "data: a\ndata: b\n\n",
           "message|b|-|-1;");
    EXPECT("\xef\xbb"
           "data: a\n\ndata: b\n\n",
           "message|b|-|-1;");
    EXPECT("\xef\xbb", "");
    EXPECT("\xef\xbb\xbf", "");
    EXPECT("\xef\xbb\xbf\n\ndata: a\n\n", "message|a|-|-1;");
    EXPECT("\n\xef\xbb\xbf"
           "data: a\n\n",
           "");
    EXPECT("\xef\xbb\xbf: c\n\ndata: a\n\n", "message|a|-|-1;");
}

TEST(sse_last_event_without_a_blank_line)
{
    EXPECT("data: a\n\ndata: b\n", "message|a|-|-1;message|b|-|-1;");
    EXPECT("data: a\r", "message|a|-|-1;");
    EXPECT("event: x\ndata: a\ndata: b", "x|a\\nb|-|-1;");
    EXPECT("data: a\n\n: bye", "message|a|-|-1;");
    EXPECT("event: x", "");
    EXPECT("", "");
}

static void counts_comments(const char *text, size_t piece, uint64_t want)
{
    struct buf out = {0};
    struct sse *s = sse_new(MAX);
    for (size_t at = 0, len = strlen(text); at < len; at += piece) {
        feed(s, text + at, at + piece < len ? piece : len - at, &out);
    }
    ASSERT_INT(sse_comments(s), want);
    sse_free(s);
    buf_release(&out);
}

TEST(sse_t8_comments_are_told_apart)
{
    for (size_t piece = 1; piece < 8; piece++) {
        counts_comments(": a\n\n:\r\n\r\n:b\r:c", piece, 3);
        counts_comments("data: :\nx: \n\nevent: ping\n\n", piece, 0);
    }
}

static void expect_stray(const char *text, size_t piece, const char *want)
{
    struct buf out = {0};
    struct sse *s = sse_new(MAX);
    for (size_t at = 0, len = strlen(text); at < len; at += piece) {
        feed(s, text + at, at + piece < len ? piece : len - at, &out);
    }
    end(s, &out);
    size_t len;
    const char *stray = sse_stray(s, &len);
    ASSERT_STR(stray, want);
    ASSERT_INT(len, strlen(want));
    sse_free(s);
    buf_release(&out);
}

#define EXPECT_STRAY(text, want)                             \
    for (size_t piece = 1; piece <= sizeof(text); piece++) { \
        expect_stray(text, piece, want);                     \
    }

TEST(sse_lines_that_are_no_field_are_remembered)
{
    EXPECT_STRAY("data: a\n\n{\"error\":\"out of memory\"}\n", "{\"error\":\"out of memory\"}");
    EXPECT_STRAY("{\"error\":\"out of memory\"}", "{\"error\":\"out of memory\"}");
    EXPECT_STRAY("{\r\n  \"error\": {\r\n    \"data\": 1\r\n\r\n  }\r\n}\r\n",
                 "{\n  \"error\": {\n    \"data\": 1\n  }\n}");
    EXPECT_STRAY("data: a\nevent: b\nid: c\nretry: d\n: e\n\ndata\nid\nretry\nevent\n:\n", "");
    EXPECT_STRAY("datax: a\n data: b\ndata :c\nData: d\n\n<html>",
                 "datax: a\n data: b\ndata :c\nData: d\n<html>");
    EXPECT_STRAY("\xef\xbb\xbf{}\n\xef\xbb\xbf{}", "{}\n\xef\xbb\xbf{}");
    EXPECT_STRAY("", "");
}

TEST(sse_stray_lines_are_bounded)
{
    struct sse *s = sse_new(MAX);
    struct sse_event event;
    size_t used, len;
    for (int i = 0; i < 100000; i++) {
        ASSERT_INT(sse_feed(s, "stray\n", 6, &used, &event), SSE_MORE);
    }
    const char *stray = sse_stray(s, &len);
    ASSERT_INT(len, SSE_STRAY_MAX);
    ASSERT_TRUE(memcmp(stray, "stray\nstray\nstray", 17) == 0);
    ASSERT_INT(sse_feed(s, "data: x\n\n", 9, &used, &event), SSE_EVENT);
    sse_free(s);
    for (size_t size = SSE_STRAY_MAX - 2; size < SSE_STRAY_MAX + 3; size++) {
        s = sse_new(MAX);
        char *line = xmalloc(size);
        memset(line, 's', size);
        ASSERT_INT(sse_feed(s, line, size, &used, &event), SSE_MORE);
        ASSERT_INT(sse_feed(s, "\nab\ncd", 6, &used, &event), SSE_MORE);
        ASSERT_INT(sse_end(s, &event), SSE_MORE);
        stray = sse_stray(s, &len);
        ASSERT_INT(len, SSE_STRAY_MAX);
        ASSERT_TRUE(size < SSE_STRAY_MAX ? stray[size] == '\n' : stray[len - 1] == 's');
        free(line);
        sse_free(s);
    }
}

/* Bytes that the heap holds at most for a stream of comments: none are kept. */
TEST(sse_comments_take_no_memory)
{
    struct sse *s = sse_new(100);
    struct sse_event event;
    size_t used;
    char block[4096];
    memset(block, 'c', sizeof block);
    block[0] = ':';
    ASSERT_INT(sse_feed(s, block, sizeof block, &used, &event), SSE_MORE);
    for (int i = 0; i < 5000; i++) { // one line of 20 MB, though 100 bytes are the limit
        ASSERT_INT(sse_feed(s, block + 1, sizeof block - 1, &used, &event), SSE_MORE);
    }
    ASSERT_INT(sse_feed(s, "\n", 1, &used, &event), SSE_MORE);
    for (int i = 0; i < 100000; i++) {
        ASSERT_INT(sse_feed(s, ": keep-alive\n\n", 14, &used, &event), SSE_MORE);
        ASSERT_INT(used, 14);
    }
    ASSERT_INT(sse_comments(s), 100001);
    ASSERT_INT(sse_feed(s, "data: x\n\n", 9, &used, &event), SSE_EVENT);
    ASSERT_INT(event.data_len, 1);
    ASSERT_INT(event.data[0], 'x');
    sse_free(s);
}

TEST(sse_events_are_bounded)
{
    static const char *const fields[] = {"data: 12345678", "data", "event: 12345678", "id: 1234567",
                                         "nothing: 12345678901234567890"};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        struct sse *s = sse_new(20);
        struct sse_event event;
        size_t used;
        enum sse_what what = SSE_MORE;
        for (int n = 0; n < 40 && what == SSE_MORE; n++) {
            what = sse_feed(s, fields[i], strlen(fields[i]), &used, &event);
            if (what == SSE_MORE && i != 2 && i != 3) {
                what = sse_feed(s, "\n", 1, &used, &event);
            }
        }
        ASSERT_INT(what, SSE_TOO_LARGE);
        ASSERT_INT(sse_feed(s, "\n\n", 2, &used, &event), SSE_TOO_LARGE);
        ASSERT_INT(sse_end(s, &event), SSE_TOO_LARGE);
        sse_free(s);
    }
    // the limit is of one event, not of the stream
    struct sse *s = sse_new(20);
    struct sse_event event;
    size_t used;
    for (int n = 0; n < 1000; n++) {
        ASSERT_INT(sse_feed(s, "data: 12345678\n\n", 16, &used, &event), SSE_EVENT);
        ASSERT_INT(event.data_len, 8);
    }
    sse_free(s);
}

/* Quadratic buffers would take hours for it. */
TEST(sse_large_event_byte_by_byte)
{
    size_t size = ((size_t)test_times(64, 16) << 20) / test_slower();
    struct sse *s = sse_new(size + 100);
    struct sse_event event;
    size_t used;
    ASSERT_INT(sse_feed(s, "data:", 5, &used, &event), SSE_MORE);
    for (size_t i = 0; i < size; i++) {
        char c = (char)('a' + i % 26);
        enum sse_what what = sse_feed(s, &c, 1, &used, &event);
        if (what != SSE_MORE || used != 1) {
            ASSERT_INT(what, SSE_MORE);
        }
    }
    ASSERT_INT(sse_feed(s, "\n\n", 2, &used, &event), SSE_EVENT);
    ASSERT_INT(event.data_len, size);
    ASSERT_INT(event.data[size - 1], 'a' + (int)((size - 1) % 26));
    // many small lines of one event
    for (size_t i = 0; i < size / 64; i++) {
        ASSERT_INT(sse_feed(s, "data: x\n", 8, &used, &event), SSE_MORE);
    }
    ASSERT_INT(sse_feed(s, "\r", 1, &used, &event), SSE_EVENT);
    ASSERT_INT(event.data_len, size / 64 * 2 - 1);
    sse_free(s);
}
