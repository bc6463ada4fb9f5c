#include "test.h"

#include "base/sha256.h"

#include <stdlib.h>
#include <string.h>

static const char *hex(const uint8_t digest[SHA256_LEN])
{
    static char text[2 * SHA256_LEN + 1];
    for (int i = 0; i < SHA256_LEN; i++) {
        text[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        text[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    return text;
}

static const char *sha256_of(const char *data, size_t len)
{
    struct sha256 s;
    uint8_t digest[SHA256_LEN];
    sha256_init(&s);
    sha256_update(&s, data, len);
    sha256_digest(&s, digest);
    return hex(digest);
}

TEST(sha256_vectors_of_fips_180)
{
    static const char two[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    static const char four[] = "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmno"
                               "ijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu";
    ASSERT_STR(sha256_of("", 0),
               "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    ASSERT_STR(sha256_of("abc", 3),
               "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    ASSERT_STR(sha256_of(two, strlen(two)),
               "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    ASSERT_STR(sha256_of(four, strlen(four)),
               "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
}

TEST(sha256_of_a_million_letters)
{
    struct sha256 s;
    uint8_t digest[SHA256_LEN];
    char piece[1000];
    memset(piece, 'a', sizeof(piece));
    sha256_init(&s);
    for (int i = 0; i < 1000; i++) {
        sha256_update(&s, piece, sizeof(piece));
    }
    sha256_digest(&s, digest);
    ASSERT_STR(hex(digest), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(sha256_any_pieces_give_the_same)
{
    char data[300];
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (char)(i * 31);
    }
    for (size_t len = 0; len <= sizeof(data); len++) {
        char want[2 * SHA256_LEN + 1];
        memcpy(want, sha256_of(data, len), sizeof(want));
        for (size_t step = 1; step < 140; step += 3) {
            struct sha256 s;
            uint8_t digest[SHA256_LEN];
            sha256_init(&s);
            for (size_t at = 0; at < len; at += step) {
                sha256_update(&s, data + at, len - at < step ? len - at : step);
                sha256_digest(&s, digest); // looking does not change it
            }
            sha256_update(&s, NULL, 0);
            sha256_digest(&s, digest);
            ASSERT_STR(hex(digest), want);
        }
    }
}

static void hmac(const char *key, size_t key_len, const char *data, size_t len, const char *want)
{
    uint8_t code[SHA256_LEN];
    sha256_hmac(key, key_len, data, len, code);
    ASSERT_STR(hex(code), want);
}

TEST(sha256_hmac_vectors_of_rfc_4231)
{
    char key[131], data[50];
    memset(key, 0x0b, 20);
    hmac(key, 20, "Hi There", 8,
         "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    hmac("Jefe", 4, "what do ya want for nothing?", 28,
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, sizeof(key));
    memset(data, 0xdd, sizeof(data));
    hmac(key, 20, data, sizeof(data),
         "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    hmac(key, 131, "Test Using Larger Than Block-Size Key - Hash Key First", 54,
         "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    static const char long_data[] =
        "This is a test using a larger than block-size key and a larger than block-size data. The "
        "key needs to be hashed before being used by the HMAC algorithm.";
    hmac(key, 131, long_data, strlen(long_data),
         "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
    for (int i = 0; i < 25; i++) {
        key[i] = (char)(i + 1);
    }
    memset(data, 0xcd, sizeof(data));
    hmac(key, 25, data, sizeof(data),
         "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
}
