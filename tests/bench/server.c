/*
 * A fast model server for measurements: HTTP/1.1 with keep-alive on 127.0.0.1, OpenAI Responses, as
 * a stream where the request asks for one. The turn is read off the request itself, by counting
 * function_call_output: `rounds` answers with `calls` calls each, then the final text. Answers are
 * made once at start (answers.c).
 *
 *     server [--calls 3] [--rounds 2] [--tool noop] [--args '{"n":1}'] [--args-size BYTES]
 *            [--delay-ms 0] [--hold] [--record DIR] [--tls CERTIFICATE] [--seconds 120]
 *
 * --tls speaks TLS and writes the certificate, made for this run, to a file for the clients.
 * --hold keeps every answer until POST /release; --record writes the first body of each turn to
 * DIR/turnN.json. GET /stats tells counts, the CPU time of the server and, in ns of the monotonic
 * clock, when the first byte of the latest POST came in. The first line on stdout is `PORT n`; the
 * server ends when stdin ends, if that is a pipe.
 *
 * One thread, one loop. A connection is freed in the close callback of its last handle.
 */
#include "answers.h"
#include "tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <uv.h>

enum {
    MAX_ROUNDS = 4096,
    MAX_REQUEST = 256 << 20,
    MAX_HEAD = 64 << 10,
    READ_STEP = 4 << 10,
    TLS_STEP = 64 << 10
};

static const char MARKER[] = "\"function_call_output\"", STREAMED[] = "\"stream\":true";

struct server {
    uv_loop_t loop;
    uv_tcp_t listener;
    uv_pipe_t input;
    uv_timer_t limit;
    struct shape shape;
    uint64_t delay_ms;
    bool hold;
    const char *record, *tls;               /* borrowed from argv */
    struct text answers[2][MAX_ROUNDS + 1]; /* whole and streamed, by turn; the last is the text */
    struct conn *held; /* linked by conn.next: answers that wait for /release */
    uint64_t connections, requests, odd, waiting, most_waiting, last_post_ns;
    bool recorded[MAX_ROUNDS + 1];
};

struct conn {
    uv_tcp_t tcp;
    uv_timer_t timer; /* the delay of the present answer */
    struct server *server;
    struct conn *next;
    struct tls *tls; /* owned; NULL: none */
    struct text in;
    size_t head_len, body_len; /* of the present request; head_len 0 = not complete */
    size_t turn;
    uint64_t first_byte_ns;
    bool streamed, waiting, held, closing;
    int handles;
};

struct reply {
    uv_write_t write;
    char data[];
};

static void check(int code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "server: %s: %s\n", what, uv_strerror(code));
        exit(1);
    }
}

/* -- connections ------------------------------------------------------------------------------- */

static void serve_input(struct conn *c);

static void on_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    if (--c->handles == 0) {
        tls_free(c->tls);
        free(c->in.data);
        free(c);
    }
}

static void conn_leave_wait(struct conn *c)
{
    struct server *s = c->server;
    if (c->held) {
        struct conn **at = &s->held;
        while (*at != c) {
            at = &(*at)->next;
        }
        *at = c->next;
    }
    s->waiting -= c->waiting;
    c->held = c->waiting = false;
}

static void conn_close(struct conn *c)
{
    if (c->closing) {
        return;
    }
    c->closing = true;
    conn_leave_wait(c);
    uv_close((uv_handle_t *)&c->timer, on_closed);
    uv_close((uv_handle_t *)&c->tcp, on_closed);
}

static void on_written(uv_write_t *write, int status)
{
    struct conn *c = write->data;
    if (status < 0) {
        conn_close(c);
    }
    free((char *)write - offsetof(struct reply, write));
}

static void conn_write_raw(struct conn *c, const char *data, size_t len)
{
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)data, (unsigned)len);
    int sent = uv_try_write((uv_stream_t *)&c->tcp, &buf, 1);
    if (sent == UV_EAGAIN) {
        sent = 0;
    }
    if (sent < 0) {
        conn_close(c);
        return;
    }
    if ((size_t)sent == len) {
        return;
    }
    struct reply *rest = must(malloc(sizeof *rest + len - (size_t)sent));
    memcpy(rest->data, data + sent, len - (size_t)sent);
    rest->write.data = c;
    buf = uv_buf_init(rest->data, (unsigned)(len - (size_t)sent));
    if (uv_write(&rest->write, (uv_stream_t *)&c->tcp, &buf, 1, on_written) < 0) {
        free(rest);
        conn_close(c);
    }
}

static void conn_flush_tls(struct conn *c)
{
    const char *data;
    size_t len = tls_out(c->tls, &data);
    if (len > 0 && !c->closing) {
        conn_write_raw(c, data, len);
    }
    tls_sent(c->tls);
}

static void conn_write(struct conn *c, const char *data, size_t len)
{
    if (!c->tls) {
        conn_write_raw(c, data, len);
    } else if (tls_write(c->tls, data, len) == 0) {
        conn_flush_tls(c);
    } else {
        conn_close(c);
    }
}

/* Forgets the request at the head of the input; a following one may already be there. */
static void conn_next_request(struct conn *c)
{
    size_t used = c->head_len + c->body_len;
    memmove(c->in.data, c->in.data + used, c->in.len - used);
    c->in.len -= used;
    c->head_len = c->body_len = 0;
    c->first_byte_ns = uv_hrtime();
}

static void conn_answer(struct conn *c)
{
    const struct text *answer = &c->server->answers[c->streamed][c->turn];
    conn_leave_wait(c);
    conn_next_request(c);
    conn_write(c, answer->data, answer->len);
}

static void on_delay_over(uv_timer_t *timer)
{
    struct conn *c = timer->data;
    conn_answer(c);
    serve_input(c);
}

static void release_all(struct server *s)
{
    s->hold = false;
    while (s->held) {
        struct conn *c = s->held;
        conn_answer(c);
        serve_input(c);
    }
}

/* -- requests ---------------------------------------------------------------------------------- */

static size_t count_marker(const char *data, size_t len)
{
    size_t n = 0;
    const char *end = data + len;
    while ((data = memmem(data, (size_t)(end - data), MARKER, sizeof MARKER - 1)) != NULL) {
        data += sizeof MARKER - 1;
        n++;
    }
    return n;
}

static void record_body(struct server *s, size_t turn, const char *body, size_t len)
{
    char path[4096];
    if (!s->record || s->recorded[turn]) {
        return;
    }
    s->recorded[turn] = true;
    snprintf(path, sizeof path, "%s/turn%zu.json", s->record, turn + 1);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(body, 1, len, file) != len || fclose(file) != 0) {
        fprintf(stderr, "server: cannot write %s: %s\n", path, strerror(errno));
        exit(1);
    }
}

static void answer_small(struct conn *c, int status, const struct text *body)
{
    struct text out = {0};
    text_add_http(&out, status, body);
    conn_next_request(c);
    conn_write(c, out.data, out.len);
    free(out.data);
}

static void answer_control(struct conn *c, bool release)
{
    struct server *s = c->server;
    struct text body = {0};
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    text_addf(&body,
              "{\"connections\":%llu,\"requests\":%llu,\"odd\":%llu,\"waiting\":%llu,"
              "\"most_waiting\":%llu,\"last_post_ns\":%llu,\"cpu_us\":%lld}",
              (unsigned long long)s->connections, (unsigned long long)s->requests,
              (unsigned long long)s->odd, (unsigned long long)s->waiting,
              (unsigned long long)s->most_waiting, (unsigned long long)s->last_post_ns,
              (long long)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000 +
                  (long long)(use.ru_utime.tv_usec + use.ru_stime.tv_usec));
    if (release) {
        release_all(s);
    }
    answer_small(c, 200, &body);
    free(body.data);
}

/* A number of outputs that is no multiple of the calls means that a client lost or doubled some. */
static void answer_odd(struct conn *c, size_t outputs)
{
    struct text body = {0};
    c->server->odd++;
    text_addf(&body,
              "{\"error\":{\"message\":\"%zu outputs for turns of %zu calls\",\"type\":"
              "\"invalid_request_error\",\"param\":\"input\",\"code\":null}}",
              outputs, c->server->shape.calls);
    answer_small(c, 400, &body);
    free(body.data);
}

static void answer_model(struct conn *c)
{
    struct server *s = c->server;
    size_t outputs = count_marker(c->in.data + c->head_len, c->body_len);
    s->requests++;
    s->last_post_ns = c->first_byte_ns;
    if (outputs % s->shape.calls != 0 || outputs / s->shape.calls > s->shape.rounds) {
        answer_odd(c, outputs);
        return;
    }
    c->turn = outputs / s->shape.calls;
    c->streamed =
        memmem(c->in.data + c->head_len, c->body_len, STREAMED, sizeof STREAMED - 1) != NULL;
    record_body(s, c->turn, c->in.data + c->head_len, c->body_len);
    if (!s->hold && s->delay_ms == 0) {
        conn_answer(c);
        return;
    }
    c->waiting = true;
    s->waiting++;
    s->most_waiting = s->waiting > s->most_waiting ? s->waiting : s->most_waiting;
    if (s->hold) {
        c->held = true;
        c->next = s->held;
        s->held = c;
    } else {
        check(uv_timer_start(&c->timer, on_delay_over, s->delay_ms, 0), "timer");
    }
}

/* Value of a header in the head of the present request, or NULL; `name` with its colon. */
static const char *find_header(const struct conn *c, const char *name)
{
    const char *line = c->in.data, *end = c->in.data + c->head_len;
    while ((line = memchr(line, '\n', (size_t)(end - line))) != NULL && ++line < end) {
        if ((size_t)(end - line) > strlen(name) && strncasecmp(line, name, strlen(name)) == 0) {
            return line + strlen(name);
        }
    }
    return NULL;
}

/* Reads the head if it is complete; false when the connection is of no use any more. */
static bool parse_head(struct conn *c)
{
    const char *end = memmem(c->in.data, c->in.len, "\r\n\r\n", 4);
    if (!end) {
        return c->in.len < MAX_HEAD;
    }
    c->head_len = (size_t)(end - c->in.data) + 4;
    const char *value = find_header(c, "content-length:");
    c->body_len = value ? strtoul(value, NULL, 10) : 0;
    if (c->body_len > MAX_REQUEST || find_header(c, "transfer-encoding:")) {
        return false;
    }
    if (find_header(c, "expect:")) {
        conn_write(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    }
    return !c->closing;
}

/* Serves every complete request in the input, but none while one still waits for its answer. */
static void serve_input(struct conn *c)
{
    while (!c->closing && !c->waiting && c->in.len > 0) {
        if (c->head_len == 0 && !parse_head(c)) {
            conn_close(c);
            return;
        }
        if (c->head_len == 0 || c->in.len < c->head_len + c->body_len) {
            return;
        }
        if (strncmp(c->in.data, "GET /stats", 10) == 0) {
            answer_control(c, false);
        } else if (strncmp(c->in.data, "POST /release", 13) == 0) {
            answer_control(c, true);
        } else {
            answer_model(c);
        }
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    static char cipher[TLS_STEP]; // used up before the next read
    (void)suggested;
    struct conn *c = handle->data;
    if (c->tls) {
        *buf = uv_buf_init(cipher, sizeof cipher);
        return;
    }
    text_reserve(&c->in, c->in.cap - c->in.len > 0 ? c->in.cap - c->in.len : READ_STEP);
    *buf = uv_buf_init(c->in.data + c->in.len, (unsigned)(c->in.cap - c->in.len));
}

/* Also after the bytes that only belong to the handshake there may be something to send. */
static void read_tls(struct conn *c, const char *data, size_t len)
{
    long n;
    tls_feed(c->tls, data, len);
    do {
        text_reserve(&c->in, TLS_STEP);
        n = tls_read(c->tls, c->in.data + c->in.len, c->in.cap - c->in.len);
        c->in.len += n > 0 ? (size_t)n : 0;
    } while (n > 0);
    conn_flush_tls(c);
    if (n < 0) {
        conn_close(c);
    }
}

static void on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    struct conn *c = stream->data;
    if (nread < 0) {
        conn_close(c);
        return;
    }
    if (c->in.len == 0 && nread > 0) {
        c->first_byte_ns = uv_hrtime();
    }
    if (c->tls) {
        read_tls(c, buf->base, (size_t)nread);
    } else {
        c->in.len += (size_t)nread;
    }
    serve_input(c);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct server *s = listener->data;
    if (status < 0) {
        return; // out of descriptors, say: the client sees that it gets no answer
    }
    struct conn *c = must(calloc(1, sizeof *c));
    c->server = s;
    c->tls = tls_new();
    c->handles = 2;
    c->tcp.data = c->timer.data = c;
    check(uv_tcp_init(&s->loop, &c->tcp), "tcp");
    check(uv_timer_init(&s->loop, &c->timer), "timer");
    s->connections++;
    if (uv_accept(listener, (uv_stream_t *)&c->tcp) < 0 || uv_tcp_nodelay(&c->tcp, 1) < 0 ||
        uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) < 0) {
        conn_close(c);
    }
}

/* -- the program ------------------------------------------------------------------------------- */

static void on_limit(uv_timer_t *timer)
{
    fputs("server: ended by its time limit\n", stderr);
    uv_stop(timer->loop);
}

static void on_input_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    static char waste[256];
    (void)handle;
    (void)suggested;
    *buf = uv_buf_init(waste, sizeof waste);
}

static void on_input(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    (void)buf;
    if (nread < 0) {
        uv_stop(stream->loop);
    }
}

static void server_listen(struct server *s, uint64_t limit_s)
{
    struct sockaddr_in address;
    int len = sizeof address;
    check(uv_loop_init(&s->loop), "loop");
    check(uv_tcp_init(&s->loop, &s->listener), "tcp");
    s->listener.data = s;
    check(uv_ip4_addr("127.0.0.1", 0, &address), "address");
    check(uv_tcp_bind(&s->listener, (const struct sockaddr *)&address, 0), "bind");
    check(uv_listen((uv_stream_t *)&s->listener, 4096, on_connection), "listen");
    check(uv_timer_init(&s->loop, &s->limit), "timer");
    check(uv_timer_start(&s->limit, on_limit, limit_s * 1000, 0), "timer");
    if (uv_guess_handle(0) == UV_NAMED_PIPE) {
        check(uv_pipe_init(&s->loop, &s->input, 0), "stdin");
        check(uv_pipe_open(&s->input, 0), "stdin");
        check(uv_read_start((uv_stream_t *)&s->input, on_input_alloc, on_input), "stdin");
    }
    check(uv_tcp_getsockname(&s->listener, (struct sockaddr *)&address, &len), "socket");
    printf("PORT %u\n", (unsigned)ntohs(address.sin_port));
    fflush(stdout);
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

static uint64_t number(const char *name, const char *text)
{
    char *end;
    errno = 0;
    unsigned long long n = text ? strtoull(text, &end, 10) : 0;
    if (!text || end == text || *end || errno) {
        fprintf(stderr, "server: %s needs a number\n", name);
        exit(64);
    }
    return n;
}

/* JSON text of an object with about `size` bytes. */
static const char *large_args(size_t size)
{
    struct text t = {0};
    text_addf(&t, "{\"data\":\"");
    text_reserve(&t, size + 3);
    memset(t.data + t.len, 'x', size);
    t.len += size;
    text_addf(&t, "\"}");
    return t.data;
}

static void parse_option(struct server *s, const char *name, const char *value, uint64_t *seconds)
{
    if (strcmp(name, "--calls") == 0) {
        s->shape.calls = number(name, value);
    } else if (strcmp(name, "--rounds") == 0) {
        s->shape.rounds = number(name, value);
    } else if (strcmp(name, "--delay-ms") == 0) {
        s->delay_ms = number(name, value);
    } else if (strcmp(name, "--seconds") == 0) {
        *seconds = number(name, value);
    } else if (strcmp(name, "--tool") == 0) {
        s->shape.tool = value;
    } else if (strcmp(name, "--args") == 0) {
        s->shape.args = value;
    } else if (strcmp(name, "--args-size") == 0) {
        s->shape.args = large_args(number(name, value));
    } else if (strcmp(name, "--record") == 0) {
        s->record = value;
    } else if (strcmp(name, "--tls") == 0) {
        s->tls = value;
    } else {
        fprintf(stderr, "server: unknown option %s\n", name);
        exit(64);
    }
}

static uint64_t parse_options(struct server *s, char **argv)
{
    uint64_t seconds = 120;
    for (char **a = argv + 1; *a; a++) {
        if (strcmp(*a, "--hold") == 0) {
            s->hold = true;
            continue;
        }
        if (!a[1]) {
            fprintf(stderr, "server: unknown option or no value: %s\n", *a);
            exit(64);
        }
        parse_option(s, a[0], a[1], &seconds);
        a++;
    }
    if (s->shape.calls == 0 || s->shape.rounds > MAX_ROUNDS) {
        fprintf(stderr, "server: at least 1 call, at most %d rounds\n", MAX_ROUNDS);
        exit(64);
    }
    return seconds;
}

int main(int argc, char **argv)
{
    (void)argc;
    static struct server s = {.shape = {3, 2, "noop", "{\"n\":1}"}};
    uint64_t seconds = parse_options(&s, argv);
    signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    for (size_t turn = 0; turn <= s.shape.rounds; turn++) {
        answer_make(&s.answers[0][turn], &s.shape, turn, 0);
        answer_make(&s.answers[1][turn], &s.shape, turn, 1);
    }
    if (s.tls && tls_start(s.tls) < 0) {
        fputs("server: no TLS: built without OpenSSL, or the certificate cannot be made\n", stderr);
        return 69;
    }
    server_listen(&s, seconds);
    uv_run(&s.loop, UV_RUN_DEFAULT);
    // Nothing is saved by closing thousands of connections one by one: the kernel does it.
    return 0;
}
