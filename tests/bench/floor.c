/*
 * The floor of what lash could cost: bare libcurl (multi_socket) on libuv, sending the same bytes.
 *
 *     floor URL CONVERSATIONS CONCURRENCY WARM TURN1.json [TURN2.json ...]
 *
 * A conversation posts the turn files one after the other, each after the answer to the one before;
 * the answers, streams too, are read to their end and dropped. SSL_CERT_FILE names other
 * authorities. WARM conversations run first and are not counted. On stdout one JSON object: CPU and
 * wall seconds of the counted part, requests, failures, peak RSS, present PSS.
 *
 * One thread. curl and uv callbacks do bookkeeping only; the next request of a conversation is
 * started after curl_multi_socket_action() returned and its messages were read.
 */
#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <uv.h>

enum { MAX_TURNS = 16, SPARE_ANSWER = 4096 };

struct body {
    char *data; /* owned */
    size_t len;
};

/* One watched socket; freed in its close callback. */
struct watch {
    uv_poll_t poll;
    struct driver *driver;
    curl_socket_t fd;
};

/* One conversation at a time. */
struct slot {
    struct driver *driver;
    CURL *easy; /* owned */
    size_t turn;
    char *answer; /* owned */
    size_t len, cap;
};

struct driver {
    uv_loop_t loop;
    uv_timer_t timer, watchdog;
    CURLM *multi;
    struct curl_slist *headers;
    const char *url;
    struct body turns[MAX_TURNS];
    size_t nturns;
    struct slot *slots;
    size_t nslots;
    size_t to_start, active; /* conversations of this phase */
    uint64_t requests, failed;
    long last_status;
    const char *last_error;
    bool closing;
};

static void *must(void *p)
{
    if (!p) {
        fputs("floor: out of memory\n", stderr);
        abort();
    }
    return p;
}

static void check(int code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "floor: %s: %s\n", what, uv_strerror(code));
        exit(1);
    }
}

static void check_multi(CURLMcode code, const char *what)
{
    if (code != CURLM_OK) {
        fprintf(stderr, "floor: %s: %s\n", what, curl_multi_strerror(code));
        exit(1);
    }
}

/* -- curl on the loop -------------------------------------------------------------------------- */

static void read_messages(struct driver *d);

static void act(struct driver *d, curl_socket_t fd, int flags)
{
    int running;
    check_multi(curl_multi_socket_action(d->multi, fd, flags, &running), "socket_action");
    read_messages(d);
}

static void on_timer(uv_timer_t *timer)
{
    act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

/* Called by curl: -1 stops, all else is a one-shot timer; 0 fires in the next round of the loop. */
static int on_curl_timer(CURLM *multi, long timeout_ms, void *data)
{
    struct driver *d = data;
    (void)multi;
    if (d->closing || timeout_ms < 0) {
        uv_timer_stop(&d->timer);
        return 0;
    }
    return uv_timer_start(&d->timer, on_timer, (uint64_t)timeout_ms, 0) < 0 ? -1 : 0;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct watch *w = poll->data;
    int flags = status < 0 ? CURL_CSELECT_ERR : 0;
    flags |= events & UV_READABLE ? CURL_CSELECT_IN : 0;
    flags |= events & UV_WRITABLE ? CURL_CSELECT_OUT : 0;
    act(w->driver, w->fd, flags);
}

static void on_watch_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *watched)
{
    struct driver *d = data;
    struct watch *w = watched;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (w) {
            curl_multi_assign(d->multi, fd, NULL);
            uv_poll_stop(&w->poll);
            uv_close((uv_handle_t *)&w->poll, on_watch_closed);
        }
        return 0;
    }
    if (!w) {
        w = must(calloc(1, sizeof *w));
        w->driver = d;
        w->fd = fd;
        w->poll.data = w;
        check(uv_poll_init_socket(&d->loop, &w->poll, fd), "poll");
        check_multi(curl_multi_assign(d->multi, fd, w), "assign");
    }
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    check(uv_poll_start(&w->poll, events, on_poll), "poll");
    return 0;
}

static curl_socket_t on_open_socket(void *data, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)data;
    (void)purpose;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static size_t on_answer(char *data, size_t size, size_t n, void *user)
{
    struct slot *slot = user;
    size_t more = size * n;
    if (slot->len + more > slot->cap) {
        slot->cap = (slot->len + more) * 2 + SPARE_ANSWER;
        slot->answer = must(realloc(slot->answer, slot->cap));
    }
    memcpy(slot->answer + slot->len, data, more);
    slot->len += more;
    return more;
}

/* -- conversations ----------------------------------------------------------------------------- */

static void slot_prepare(struct slot *slot, struct driver *d)
{
    CURL *easy = slot->easy = must(curl_easy_init());
    slot->driver = d;
    curl_easy_setopt(easy, CURLOPT_URL, d->url);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, slot);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, d->headers);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_answer);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, slot);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, 30000L);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    if (getenv("SSL_CERT_FILE")) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, getenv("SSL_CERT_FILE"));
    }
}

static void slot_send(struct slot *slot)
{
    struct driver *d = slot->driver;
    const struct body *body = &d->turns[slot->turn];
    slot->len = 0;
    curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->len);
    curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDS, body->data);
    check_multi(curl_multi_add_handle(d->multi, slot->easy), "add_handle");
    d->requests++;
}

/* Begins the next conversation of the phase, or leaves the slot idle. */
static void slot_begin(struct slot *slot)
{
    struct driver *d = slot->driver;
    if (d->to_start == 0) {
        return;
    }
    d->to_start--;
    d->active++;
    slot->turn = 0;
    slot_send(slot);
}

static void slot_done(struct slot *slot, CURLcode result)
{
    struct driver *d = slot->driver;
    long status = 0;
    curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, &status);
    check_multi(curl_multi_remove_handle(d->multi, slot->easy), "remove_handle");
    if (result != CURLE_OK || status != 200) {
        d->failed++;
        d->last_status = status;
        d->last_error = curl_easy_strerror(result);
    } else if (++slot->turn < d->nturns) {
        slot_send(slot);
        return;
    }
    d->active--;
    slot_begin(slot);
}

static void read_messages(struct driver *d)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(d->multi, &left)) != NULL) {
        if (message->msg == CURLMSG_DONE) {
            CURLcode result = message->data.result; // gone after remove_handle
            struct slot *slot = NULL;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&slot);
            slot_done(slot, result);
        }
    }
    if (d->active == 0 && d->to_start == 0) {
        uv_stop(&d->loop);
    }
}

static void run_phase(struct driver *d, size_t conversations)
{
    d->to_start = conversations;
    d->requests = d->failed = 0;
    for (size_t i = 0; i < d->nslots; i++) {
        slot_begin(&d->slots[i]);
    }
    if (d->active > 0) {
        uv_run(&d->loop, UV_RUN_DEFAULT);
    }
}

/* -- the program ------------------------------------------------------------------------------- */

static void driver_init(struct driver *d, size_t concurrency)
{
    check(uv_loop_init(&d->loop), "loop");
    check(uv_timer_init(&d->loop, &d->timer), "timer");
    check(uv_timer_init(&d->loop, &d->watchdog), "timer");
    d->timer.data = d->watchdog.data = d;
    // Up to 8.11.0 curl may skip its timer callback (curl#15627): an early call is legal and cheap.
    check(uv_timer_start(&d->watchdog, on_timer, 1000, 1000), "timer");
    uv_unref((uv_handle_t *)&d->watchdog);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        fputs("floor: curl_global_init failed\n", stderr);
        exit(1);
    }
    d->multi = must(curl_multi_init());
    curl_multi_setopt(d->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
    curl_multi_setopt(d->multi, CURLMOPT_SOCKETDATA, d);
    curl_multi_setopt(d->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    curl_multi_setopt(d->multi, CURLMOPT_TIMERDATA, d);
    static const char *const headers[] = {"Content-Type: application/json",
                                          "Authorization: Bearer test-key", "Expect:"};
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        d->headers = must(curl_slist_append(d->headers, headers[i]));
    }
    d->nslots = concurrency;
    d->slots = must(calloc(concurrency, sizeof *d->slots));
    for (size_t i = 0; i < concurrency; i++) {
        slot_prepare(&d->slots[i], d);
    }
}

/* Easies, then the multi, then our handles; in the end nothing may be open. */
static void driver_release(struct driver *d)
{
    d->closing = true;
    for (size_t i = 0; i < d->nslots; i++) {
        curl_easy_cleanup(d->slots[i].easy);
        free(d->slots[i].answer);
    }
    check_multi(curl_multi_cleanup(d->multi), "multi_cleanup");
    uv_close((uv_handle_t *)&d->timer, NULL);
    uv_close((uv_handle_t *)&d->watchdog, NULL);
    uv_run(&d->loop, UV_RUN_DEFAULT);
    check(uv_loop_close(&d->loop), "loop");
    curl_slist_free_all(d->headers);
    for (size_t i = 0; i < d->nturns; i++) {
        free(d->turns[i].data);
    }
    free(d->slots);
    curl_global_cleanup();
}

static void read_body(struct body *body, const char *path)
{
    FILE *file = fopen(path, "rb");
    long size = -1;
    if (file && fseek(file, 0, SEEK_END) == 0) {
        size = ftell(file);
    }
    if (size < 0 || fseek(file, 0, SEEK_SET) != 0) {
        fprintf(stderr, "floor: cannot read %s: %s\n", path, strerror(errno));
        exit(66);
    }
    body->len = (size_t)size;
    body->data = must(malloc(body->len + 1));
    if (fread(body->data, 1, body->len, file) != body->len) {
        fprintf(stderr, "floor: cannot read %s\n", path);
        exit(66);
    }
    fclose(file);
}

static double cpu_seconds(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

static long pss_kb(void)
{
    char line[256];
    long kb = -1;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, "Pss:", 4) == 0) {
            kb = strtol(line + 4, NULL, 10);
        }
    }
    if (file) {
        fclose(file);
    }
    return kb;
}

/* The usual soft limit is 1024, the hard one far higher. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); // without it fewer connections fit: that will show
    }
}

static size_t number(const char *text)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (end == text || *end) {
        fprintf(stderr, "floor: not a number: %s\n", text);
        exit(64);
    }
    return n;
}

int main(int argc, char **argv)
{
    static struct driver d;
    if (argc < 6 || argc - 5 > MAX_TURNS) {
        fputs("usage: floor URL CONVERSATIONS CONCURRENCY WARM TURN1.json [TURN2.json ...]\n",
              stderr);
        return 64;
    }
    signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    d.url = argv[1];
    d.nturns = (size_t)argc - 5;
    for (size_t i = 0; i < d.nturns; i++) {
        read_body(&d.turns[i], argv[5 + i]);
    }
    driver_init(&d, number(argv[3]));
    run_phase(&d, number(argv[4]));
    uint64_t failed = d.failed;
    double cpu = cpu_seconds();
    uint64_t start = uv_hrtime();
    run_phase(&d, number(argv[2]));
    double wall = (double)(uv_hrtime() - start) / 1e9;
    cpu = cpu_seconds() - cpu;
    failed += d.failed;
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    printf("{\"cpu_s\":%.6f,\"wall_s\":%.6f,\"requests\":%llu,\"failed\":%llu,"
           "\"maxrss_kb\":%ld,\"pss_kb\":%ld}\n",
           cpu, wall, (unsigned long long)d.requests, (unsigned long long)failed, use.ru_maxrss,
           pss_kb());
    if (failed) {
        fprintf(stderr, "floor: %llu requests failed, the last with status %ld (%s)\n",
                (unsigned long long)failed, d.last_status, d.last_error);
    }
    driver_release(&d);
    return failed ? 1 : 0;
}
