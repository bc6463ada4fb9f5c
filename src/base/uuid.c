#include "base/base.h"

#include "base/uuid.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/random.h>
#include <time.h>

/* The time in the last UUID of version 7: one for the process, so that they go up across threads.
 */
static _Atomic uint64_t last_time;

static int random_bytes(uint8_t *out, size_t len)
{
    while (len > 0) {
        ssize_t n = getrandom(out, len, 0);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        out += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static void mark(uint8_t uuid[UUID_LEN], uint8_t version)
{
    uuid[6] = (uint8_t)((uuid[6] & 0x0f) | version << 4);
    uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
}

int uuid_v4(uint8_t out[UUID_LEN])
{
    int err = random_bytes(out, UUID_LEN);
    if (err == 0) {
        mark(out, 4);
    }
    return err;
}

uint64_t uuid_v7_time(uint64_t ns, uint64_t last)
{
    uint64_t ms = ns / 1000000;
    uint64_t time = ms << 12 | (ns % 1000000 * 4096 / 1000000);
    return time > last ? time : last + 1;
}

int uuid_v7(uint8_t out[UUID_LEN])
{
    struct timespec now;
    int err = random_bytes(out, UUID_LEN);
    if (err != 0) {
        return err;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    uint64_t last = atomic_load(&last_time);
    uint64_t time;
    do {
        time = uuid_v7_time(ns, last);
    } while (!atomic_compare_exchange_weak(&last_time, &last, time));
    for (int i = 0; i < 6; i++) {
        out[i] = (uint8_t)(time >> (52 - 8 * i));
    }
    out[6] = (uint8_t)(time >> 8 & 0x0f);
    out[7] = (uint8_t)time;
    mark(out, 7);
    return 0;
}

void uuid_text(const uint8_t uuid[UUID_LEN], char out[UUID_TEXT_LEN])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < UUID_LEN; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *out++ = '-';
        }
        *out++ = digits[uuid[i] >> 4];
        *out++ = digits[uuid[i] & 15];
    }
}
