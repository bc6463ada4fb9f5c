#include "test.h"

#include "base/uuid.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

TEST(uuid_text_is_the_usual_form)
{
    uint8_t uuid[UUID_LEN];
    char text[UUID_TEXT_LEN + 1] = {0};
    for (int i = 0; i < UUID_LEN; i++) {
        uuid[i] = (uint8_t)(i * 17);
    }
    uuid_text(uuid, text);
    ASSERT_STR(text, "00112233-4455-6677-8899-aabbccddeeff");
}

TEST(uuid_bits_of_version_and_variant)
{
    uint8_t a[UUID_LEN], set[2][UUID_LEN] = {{0}, {0}}, clear[2][UUID_LEN] = {{0}, {0}};
    for (int i = 0; i < 2000; i++) {
        for (int kind = 0; kind < 2; kind++) {
            ASSERT_INT(kind == 0 ? uuid_v4(a) : uuid_v7(a), 0);
            ASSERT_INT(a[6] >> 4, kind == 0 ? 4 : 7);
            ASSERT_INT(a[8] >> 6, 2);
            for (int k = 0; k < UUID_LEN; k++) {
                set[kind][k] |= a[k];
                clear[kind][k] |= (uint8_t)~a[k];
            }
        }
    }
    for (int k = 0; k < UUID_LEN; k++) { // each random bit was seen as 0 and as 1
        uint8_t fixed = k == 6 ? 0xf0 : k == 8 ? 0xc0 : 0;
        ASSERT_INT((set[0][k] & clear[0][k]) | fixed, 0xff);
        if (k >= 8) {
            ASSERT_INT((set[1][k] & clear[1][k]) | fixed, 0xff);
        }
    }
}

TEST(uuid_v7_time_goes_up_whatever_the_clock_does)
{
    uint64_t second = 1000000000;
    ASSERT_INT(uuid_v7_time(0x017F22E279B0 * UINT64_C(1000000), 0), 0x017F22E279B0 << 12);
    ASSERT_INT(uuid_v7_time(1999999, 0), 1 << 12 | 4095);
    uint64_t first = uuid_v7_time(second, 0);
    ASSERT_INT(uuid_v7_time(second, first), first + 1);     // it stands still
    ASSERT_INT(uuid_v7_time(second / 2, first), first + 1); // it was set back
    ASSERT_INT(uuid_v7_time(2 * second, first), 2000 << 12);
}

enum { THREADS = 4, EACH = 2000 };

static void *make_many(void *arg)
{
    uint8_t(*made)[UUID_LEN] = arg;
    for (int i = 0; i < EACH; i++) {
        if (uuid_v7(made[i]) != 0 || (i > 0 && memcmp(made[i - 1], made[i], 8) >= 0)) {
            return arg;
        }
    }
    return NULL;
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, 8);
}

TEST(uuid_v7_goes_up_across_threads)
{
    static uint8_t made[THREADS * EACH][UUID_LEN];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        ASSERT_INT(pthread_create(&threads[i], NULL, make_many, made[i * EACH]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        ASSERT_INT(pthread_join(threads[i], &wrong), 0);
        ASSERT_TRUE(wrong == NULL);
    }
    qsort(made, ARRAY_LEN(made), UUID_LEN, compare);
    for (size_t i = 1; i < ARRAY_LEN(made); i++) { // the times alone differ already
        ASSERT_TRUE(memcmp(made[i - 1], made[i], 8) < 0);
    }
}
