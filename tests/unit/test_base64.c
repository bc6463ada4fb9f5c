#include "test.h"

#include "base/base64.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void encodes(const char *data, size_t len, bool url, bool pad, const char *want)
{
    size_t size = base64_encoded_len(len, pad);
    ASSERT_INT(size, strlen(want));
    char *out = xmalloc(size + 1); // exact, so that the sanitizer sees a byte too many
    base64_encode(data, len, url, pad, out);
    out[size] = '\0';
    ASSERT_STR(out, want);
    free(out);
}

static void decodes(const char *text, bool url, const char *want)
{
    size_t len = strlen(text), got = 0, bad = 0;
    char *out = xmalloc(base64_decoded_room(len));
    ASSERT_INT(base64_decode(text, len, url, out, &got, &bad), 0);
    ASSERT_INT(got, strlen(want));
    ASSERT_TRUE(memcmp(out, want, got) == 0);
    free(out);
}

static void refuses(const char *text, size_t len, bool url, size_t want)
{
    size_t got = 4711, bad = 4711;
    char *copy = xmemdup(text, len); // without a NUL behind it
    char *out = xmalloc(base64_decoded_room(len));
    ASSERT_INT(base64_decode(copy, len, url, out, &got, &bad), -EINVAL);
    ASSERT_INT(bad, want);
    ASSERT_INT(got, 4711);
    free(out);
    free(copy);
}

TEST(base64_vectors_of_rfc_4648)
{
    static const char *const vectors[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
        encodes(vectors[i][0], strlen(vectors[i][0]), false, true, vectors[i][1]);
        decodes(vectors[i][1], false, vectors[i][0]);
    }
}

TEST(base64_alphabets_and_padding)
{
    encodes("\xfb\xff\xfe", 3, false, true, "+//+");
    encodes("\xfb\xff\xfe", 3, true, true, "-__-");
    encodes("\xff", 1, true, false, "_w");
    encodes("\xff", 1, true, true, "_w==");
    encodes("\xff", 1, false, false, "/w");
    decodes("_w", true, "\xff");
    decodes("_w==", true, "\xff");
    decodes("-__-", true, "\xfb\xff\xfe");
    decodes("", true, "");
}

TEST(base64_refuses_with_the_place)
{
    refuses("Zm9v!mFy", 8, false, 4);
    refuses("Zm9vYmF\n", 8, false, 7);
    refuses("Zm9v\nYmFy", 9, false, 4);
    refuses(" Zm9v", 5, false, 0);
    refuses("-__-", 4, false, 0);
    refuses("+//+", 4, true, 0);
    refuses("Zm8", 3, false, 3); // unpadded
    refuses("Zg=", 3, false, 3); // half padded
    refuses("Zg=", 3, true, 3);  // nor for URLs
    refuses("Z", 1, false, 1);   // six bits are no byte
    refuses("Z", 1, true, 1);
    refuses("Z===", 4, false, 1);
    refuses("Zg==Zg==", 8, false, 2); // padding in the middle
    refuses("Zm9v=", 5, false, 4);    // padding after a whole group
    refuses("Zm9v====", 8, false, 4);
    refuses("=", 1, false, 0);
    refuses("Zh==", 4, false, 1); // bits that mean nothing
    refuses("Zm9=", 4, false, 2);
    refuses("Zm\0v", 4, false, 2);
    refuses("Zm9\xff", 4, false, 3);
}

TEST(base64_every_byte_comes_back)
{
    uint8_t data[600];
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 7);
    }
    for (size_t len = 0; len <= sizeof(data); len++) {
        for (int how = 0; how < 4; how++) {
            bool url = how & 1, pad = !url || how & 2;
            size_t size = base64_encoded_len(len, pad), got, bad;
            char *text = xmalloc(size);
            uint8_t *back = xmalloc(base64_decoded_room(size));
            base64_encode(data, len, url, pad, text);
            ASSERT_INT(base64_decode(text, size, url, back, &got, &bad), 0);
            ASSERT_INT(got, len);
            ASSERT_TRUE(memcmp(back, data, len) == 0);
            free(back);
            free(text);
        }
    }
}
