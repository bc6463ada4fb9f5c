#include "test.h"

#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

TEST(buf_grows_and_stays_terminated)
{
    struct buf b;
    buf_init(&b);
    for (int i = 0; i < 10000; i++) {
        buf_append_char(&b, (char)('a' + i % 26));
        ASSERT_INT(b.len, i + 1);
        ASSERT_TRUE(b.cap > b.len);
        ASSERT_INT(b.data[b.len], 0);
    }
    for (int i = 0; i < 10000; i++) {
        ASSERT_INT(b.data[i], 'a' + i % 26);
    }
    buf_release(&b);
    ASSERT_TRUE(b.data == NULL && b.len == 0 && b.cap == 0);
    buf_release(&b);
}

TEST(buf_takes_zero_bytes_and_nothing)
{
    struct buf b;
    buf_init(&b);
    buf_append(&b, NULL, 0);
    ASSERT_STR(b.data, "");
    buf_append(&b, "a\0b", 3);
    ASSERT_INT(b.len, 3);
    ASSERT_TRUE(memcmp(b.data, "a\0b", 4) == 0);
    buf_append_str(&b, "");
    ASSERT_INT(b.len, 3);
    buf_release(&b);
}

TEST(buf_clear_keeps_the_memory)
{
    struct buf b;
    buf_init(&b);
    buf_clear(&b);
    buf_append_str(&b, "some text");
    char *data = b.data;
    buf_clear(&b);
    ASSERT_INT(b.len, 0);
    ASSERT_STR(b.data, "");
    buf_append_str(&b, "other");
    ASSERT_TRUE(b.data == data);
    ASSERT_STR(b.data, "other");
    buf_release(&b);
}

TEST(buf_formats_of_any_length)
{
    struct buf b;
    buf_init(&b);
    char *text = xmalloc(5001);
    memset(text, 'x', 5000);
    text[5000] = '\0';
    buf_appendf(&b, "%d-%s-%c", 42, text, '!');
    ASSERT_INT(b.len, 5005);
    ASSERT_TRUE(memcmp(b.data, "42-xxx", 6) == 0);
    ASSERT_STR(b.data + 5003, "-!");
    buf_appendf(&b, "%s", "");
    ASSERT_INT(b.len, 5005);
    free(text);
    buf_release(&b);
}

TEST(buf_moves_its_contents)
{
    struct buf a, b;
    buf_init(&a);
    buf_init(&b);
    buf_append_str(&a, "old");
    buf_append_str(&b, "new");
    buf_move(&a, &b);
    ASSERT_STR(a.data, "new");
    ASSERT_TRUE(b.data == NULL && b.len == 0);
    buf_move(&a, &b);
    ASSERT_TRUE(a.data == NULL);
    buf_release(&a);
}

TEST(buf_reserve_makes_room_once)
{
    struct buf b;
    buf_init(&b);
    buf_reserve(&b, 100000);
    char *data = b.data;
    for (int i = 0; i < 100000; i++) {
        buf_append_char(&b, 'y');
    }
    ASSERT_TRUE(b.data == data);
    buf_release(&b);
}
