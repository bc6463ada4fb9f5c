/*
 * libcurl's handles. Telling one all that it must know costs as much as a tenth of a request, and
 * so does making it forget that: the handle of a plain request that ended well keeps it for the
 * next one of its kind.
 */
#include "base/base.h"

#include "io/http_int.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* libcurl keeps both for as long as a request waits for its answer; the second with TLS and with
 * big bodies only. 16 KiB is its least for that one. Each filling of it is a turn of the loop, so a
 * large body has a larger one: a small part of what it takes itself. */
#define RECEIVE_BUFFER 2048L
#define SEND_BUFFER 16384L
#define SEND_BUFFER_MOST 262144L

/* libcurl asks "Expect: 100-continue" for bodies over 1 MiB: far below that nothing need be said
 * against it. */
#define NO_EXPECT_FROM ((size_t)64 << 10)

#define AGENT "lash"

/* ---- telling ---- */

struct teller {
    const struct curl_api *curl;
    CURL *easy;
    CURLcode rc; /* the first failure */
};

static void set_long(struct teller *t, CURLoption option, long value)
{
    CURLcode rc = t->curl->easy_setopt(t->easy, option, value);
    t->rc = t->rc != CURLE_OK ? t->rc : rc;
}

static void set_ptr(struct teller *t, CURLoption option, const void *value)
{
    CURLcode rc = t->curl->easy_setopt(t->easy, option, value);
    t->rc = t->rc != CURLE_OK ? t->rc : rc;
}

/* POST, PUT and PATCH are expected to have a body: without, they send Content-Length: 0 */
static bool sends_body(const struct http_request *req)
{
    const char *method = req->method;
    return strcmp(method, "POST") == 0 || (req->has_body && strcmp(method, "HEAD") != 0) ||
           strcmp(method, "PUT") == 0 || strcmp(method, "PATCH") == 0;
}

static void tell_method(struct teller *t, struct http_request *req)
{
    const char *method = req->method;
    if (strcmp(method, "HEAD") == 0) {
        set_long(t, CURLOPT_NOBODY, 1L);
    } else if (req->upload.used) {
        CURLcode rc = upload_setup(req);
        t->rc = t->rc != CURLE_OK ? t->rc : rc;
    } else if (sends_body(req)) {
        set_long(t, CURLOPT_POST, 1L);
        if (strcmp(method, "POST") != 0) {
            set_ptr(t, CURLOPT_CUSTOMREQUEST, method);
        }
    } else if (strcmp(method, "GET") != 0) {
        set_ptr(t, CURLOPT_CUSTOMREQUEST, method);
    }
}

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

/* Of any kind that libcurl knows; it also looks whether the host is one without. */
static bool has_proxy_in_environment(void)
{
    return variable("http_proxy") != NULL || variable("https_proxy") != NULL ||
           variable("HTTPS_PROXY") != NULL || variable("all_proxy") != NULL ||
           variable("ALL_PROXY") != NULL;
}

static void tell_proxy(struct teller *t, const struct http_request *req)
{
    bool of_environment = req->proxy == NULL && has_proxy_in_environment();
    if (!of_environment) {
        // else libcurl looks through the environment at each request
        set_ptr(t, CURLOPT_PROXY, req->proxy != NULL ? req->proxy : "");
        set_ptr(t, CURLOPT_NOPROXY, ""); // or no_proxy of the environment would take it away
    }
    if (of_environment || (req->proxy != NULL && *req->proxy != '\0')) {
        set_ptr(t, CURLOPT_USERAGENT, AGENT); // for the proxy: servers get it in a line of ours
    }
}

static void tell_connection(struct teller *t, const struct http_request *req)
{
    set_long(t, CURLOPT_NOSIGNAL, 1L);
    set_long(t, CURLOPT_QUICK_EXIT, 1L); // or a cancel waits for getaddrinfo (curl#8515)
    // HTTP/2 uploads over 64 KiB spin in libcurl before 8.0 (curl#10449)
    set_long(t, CURLOPT_HTTP_VERSION,
             (long)(req->version_2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
    tell_proxy(t, req);
    set_ptr(t, CURLOPT_PROTOCOLS_STR, "http,https");
    set_long(t, CURLOPT_FOLLOWLOCATION, 0L);
    set_long(t, CURLOPT_TCP_KEEPALIVE, 1L);
    set_long(t, CURLOPT_TCP_KEEPIDLE, 30L);
    set_long(t, CURLOPT_TCP_KEEPINTVL, 15L);
    set_long(t, CURLOPT_MAXAGE_CONN, 110L);
    set_long(t, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    if (req->retried) {
        set_long(t, CURLOPT_FRESH_CONNECT, 1L);
    }
}

static void tell_trust(struct teller *t, const struct http_request *req)
{
    const char *file = variable("SSL_CERT_FILE");
    if (req->ca_file != NULL) {
        set_ptr(t, CURLOPT_CAINFO, req->ca_file);
        set_ptr(t, CURLOPT_CAPATH, NULL);
        return;
    }
    if (file != NULL) {
        set_ptr(t, CURLOPT_CAINFO, file);
    }
    // libcurl keeps the parsed bundle for later connections only where no directory is named, as
    // Debian's default does: reading it again costs some 10 ms of the loop each time
    set_ptr(t, CURLOPT_CAPATH, variable("SSL_CERT_DIR"));
}

/* Another one when a variable was set, changed or removed since: to look at those that matter takes
 * longer than to see that they all are where they were. */
static uint64_t environment_mark(void)
{
    uint64_t mark = 0;
    for (char **at = environ; at != NULL && *at != NULL; at++) {
        mark = mark * 31 + (uintptr_t)*at;
    }
    return mark;
}

/* Are handles of such requests kept as they are? Not where something rare was told to them. */
static bool is_plain(const struct handle *handle, const struct http_request *req)
{
    return !req->upload.used && req->proxy == NULL && req->ca_file == NULL && !req->version_2 &&
           !req->retried && req->at.userinfo == NULL && strlen(req->method) < sizeof handle->method;
}

/* All that holds for further requests of its kind, see fits(). */
static void tell_kind(struct teller *t, struct handle *handle, struct http_request *req,
                      uint64_t environment)
{
    set_ptr(t, CURLOPT_PRIVATE, handle);
    set_ptr(t, CURLOPT_ERRORBUFFER, handle->errbuf);
    set_ptr(t, CURLOPT_ACCEPT_ENCODING, ""); // unpacks what it can
    if (!http_easy_connect(t->curl, handle)) {
        t->rc = CURLE_UNKNOWN_OPTION;
    }
    tell_connection(t, req);
    tell_trust(t, req);
    tell_method(t, req);
    handle->fresh = false;
    if (is_plain(handle, req)) {
        memcpy(handle->method, req->method, strlen(req->method) + 1);
    }
    handle->sends_body = sends_body(req);
    handle->environment = environment;
}

/* ---- telling what each request has of its own ---- */

static void address_drop(const struct curl_api *curl, struct address *address)
{
    if (address != NULL && --address->users == 0) {
        curl->url_cleanup(address->parts);
        free(address->text);
        free(address);
    }
}

/* Of requests one after the other most go to the same URL. NULL: libcurl does not like it, and will
 * say so when it is asked to go there. */
static struct address *address_of(struct http *h, const char *url)
{
    if (h->address != NULL && strcmp(h->address->text, url) == 0) {
        return h->address;
    }
    CURLU *parts = h->curl->url();
    if (parts == NULL || h->curl->url_set(parts, CURLUPART_URL, url, 0) != CURLUE_OK) {
        h->curl->url_cleanup(parts);
        return NULL;
    }
    address_drop(h->curl, h->address);
    h->address = xcalloc(1, sizeof *h->address);
    *h->address = (struct address){.parts = parts, .text = xstrdup(url), .users = 1};
    return h->address;
}

/* Both as text and in parts: libcurl 7.88 looks for the text in the parts only once. */
static void tell_url(struct teller *t, struct handle *handle, const struct http_request *req)
{
    bool kept = handle->method[0] != '\0'; // or user and password would be
    struct address *address = kept ? address_of(req->http, req->url) : NULL;
    if (address != NULL && address == handle->address) {
        return;
    }
    set_ptr(t, CURLOPT_URL, req->url);
    set_ptr(t, CURLOPT_CURLU, address != NULL ? address->parts : NULL);
    address_drop(t->curl, handle->address);
    handle->address = address;
    if (address != NULL) {
        address->users++;
    }
}

static void add_line(struct handle *handle, size_t *n, char *line)
{
    if (*n == handle->lines_cap) {
        handle->lines_cap = *n ? *n * 2 : 8;
        handle->lines = xrealloc(handle->lines, handle->lines_cap * sizeof *handle->lines);
    }
    handle->lines[(*n)++].data = line;
}

/* libcurl only reads the list. */
static struct curl_slist *header_list(struct http *h, struct handle *handle,
                                      struct http_request *req)
{
    static char no_expect[] = "Expect:";        // no second round trip for bodies over 1 MiB
    static char agent[] = "User-Agent: " AGENT; // as an option libcurl would write it twice
    static char no_type[] = "Content-Type:";    // libcurl would call every body a web form
    bool expect = !req->upload.used && req->body_len < NO_EXPECT_FROM;
    bool type = !handle->sends_body;
    bool encoding = h->encodings[0] == '\0';
    bool named = false;
    size_t n = 0;
    char *line = req->lines.data;
    for (size_t i = 0; i < req->nlines; i++, line += strlen(line) + 1) {
        add_line(handle, &n, line);
        expect = expect || header_line_is(line, "Expect", 6);
        type = type || header_line_is(line, "Content-Type", 12);
        encoding = encoding || header_line_is(line, "Accept-Encoding", 15);
        named = named || header_line_is(line, "User-Agent", 10);
    }
    if (!expect) {
        add_line(handle, &n, no_expect);
    }
    if (!type) {
        add_line(handle, &n, no_type);
    }
    if (!encoding) {
        add_line(handle, &n, h->encodings);
    }
    if (!named) {
        add_line(handle, &n, agent);
    }
    for (size_t i = 0; i < n; i++) {
        handle->lines[i].next = i + 1 < n ? &handle->lines[i + 1] : NULL;
    }
    return n > 0 ? handle->lines : NULL;
}

static long as_long(uint64_t ms)
{
    return (long)(ms < INT32_MAX ? ms : INT32_MAX);
}

static void tell_times(struct teller *t, struct handle *handle, const struct http_request *req)
{
    long connect = as_long(req->connect_timeout_ms); // 0 = libcurl's own, 300 s
    uint64_t gone = (uv_hrtime() - req->started_ns) / 1000000;
    long all = 0;
    if (req->timeout_ms > 0) {
        all = as_long(req->timeout_ms > gone ? req->timeout_ms - gone : 1);
    }
    if (connect != handle->connect_timeout_ms) {
        set_long(t, CURLOPT_CONNECTTIMEOUT_MS, connect);
        handle->connect_timeout_ms = connect;
    }
    if (all != handle->timeout_ms) {
        set_long(t, CURLOPT_TIMEOUT_MS, all);
        handle->timeout_ms = all;
    }
}

static void tell_send_buffer(struct teller *t, struct handle *handle,
                             const struct http_request *req)
{
    long size = SEND_BUFFER;
    while (size < SEND_BUFFER_MOST && (size_t)size * 8 <= req->body_len) {
        size *= 2;
    }
    if (size != handle->send_buffer) {
        set_long(t, CURLOPT_UPLOAD_BUFFERSIZE, size);
        handle->send_buffer = size;
    }
}

static void tell_request(struct teller *t, struct handle *handle, struct http_request *req)
{
    tell_url(t, handle, req);
    tell_times(t, handle, req);
    tell_send_buffer(t, handle, req);
    if (handle->sends_body && !req->upload.used) {
        CURLcode rc =
            t->curl->easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)req->body_len);
        t->rc = t->rc != CURLE_OK ? t->rc : rc;
        set_ptr(t, CURLOPT_POSTFIELDS, req->body_len > 0 ? req->body : "");
    }
    set_ptr(t, CURLOPT_HTTPHEADER, header_list(req->http, handle, req));
    handle->errbuf[0] = '\0';
}

/* ---- keeping ---- */

/* A handle that ended before it had a connection keeps its buffer over a reset, of a size that does
 * not fit its options any more (7.88); it refuses this option then. */
static bool set_buffers(const struct curl_api *curl, struct handle *handle)
{
    handle->send_buffer = SEND_BUFFER;
    return curl->easy_setopt(handle->easy, CURLOPT_BUFFERSIZE, RECEIVE_BUFFER) == CURLE_OK &&
           curl->easy_setopt(handle->easy, CURLOPT_UPLOAD_BUFFERSIZE, SEND_BUFFER) == CURLE_OK;
}

static void forget(const struct curl_api *curl, struct handle *handle)
{
    if (handle->fresh) {
        return;
    }
    curl->easy_reset(handle->easy);
    address_drop(curl, handle->address);
    handle->address = NULL;
    handle->method[0] = '\0';
    handle->timeout_ms = handle->connect_timeout_ms = 0;
    handle->fresh = true;
}

static void handle_free(const struct curl_api *curl, struct handle *handle)
{
    curl->easy_cleanup(handle->easy);
    address_drop(curl, handle->address);
    free(handle->lines);
    free(handle);
}

static struct handle *handle_new(const struct curl_api *curl)
{
    CURL *easy = curl->easy_init();
    if (easy == NULL) {
        return NULL;
    }
    struct handle *handle = xcalloc(1, sizeof *handle);
    handle->easy = easy;
    (void)set_buffers(curl, handle); // a fresh one takes them; else it has larger ones
    handle->fresh = true;
    return handle;
}

static bool fits(const struct handle *handle, const struct http_request *req, uint64_t environment)
{
    return strcmp(handle->method, req->method) == 0 && handle->sends_body == sends_body(req) &&
           handle->environment == environment;
}

static struct handle *take_spare(struct http *h, const struct http_request *req,
                                 uint64_t environment)
{
    for (size_t i = h->nspare; i-- > 0;) {
        struct handle *handle = h->spare[i];
        if (is_plain(handle, req) && fits(handle, req, environment)) {
            h->spare[i] = h->spare[--h->nspare];
            return handle;
        }
    }
    while (h->nspare > 0) {
        struct handle *handle = h->spare[--h->nspare];
        forget(h->curl, handle);
        if (set_buffers(h->curl, handle)) {
            return handle;
        }
        handle_free(h->curl, handle);
    }
    return handle_new(h->curl);
}

int handle_take(struct http *h, struct http_request *req)
{
    uint64_t environment = environment_mark();
    struct handle *handle = take_spare(h, req, environment);
    if (handle == NULL) {
        http_fail(req, "request", "libcurl is out of memory");
        return UV_ENOMEM;
    }
    handle->req = req;
    req->handle = handle;
    req->easy = handle->easy;
    struct teller t = {h->curl, handle->easy, CURLE_OK};
    if (handle->fresh) {
        tell_kind(&t, handle, req, environment);
    }
    tell_request(&t, handle, req);
    if (t.rc != CURLE_OK) {
        http_fail(req, "request", "libcurl refuses the request: %s", h->curl->easy_strerror(t.rc));
        handle_give_back(req, false);
        return UV_EINVAL;
    }
    return 0;
}

void handle_give_back(struct http_request *req, bool clean)
{
    struct http *h = req->http;
    struct handle *handle = req->handle;
    req->handle = NULL;
    req->easy = NULL;
    handle->req = NULL;
    if (!clean || h->nspare == HTTP_SPARE_HANDLES) {
        handle_free(h->curl, handle);
        return;
    }
    if (handle->method[0] == '\0') {
        forget(h->curl, handle);
    }
    h->spare[h->nspare++] = handle;
}

void handles_free(struct http *h)
{
    while (h->nspare > 0) {
        handle_free(h->curl, h->spare[--h->nspare]);
    }
    address_drop(h->curl, h->address);
    h->address = NULL;
}

void handles_init(struct http *h)
{
    const curl_version_info_data *info = h->curl->version_info(CURLVERSION_NOW);
    static const struct {
        int feature;
        const char *names;
    } known[] = {{CURL_VERSION_LIBZ, "deflate, gzip"},
                 {CURL_VERSION_BROTLI, "br"},
                 {CURL_VERSION_ZSTD, "zstd"}};
    struct buf line = {0};
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (info->features & known[i].feature) {
            buf_append_str(&line, line.len == 0 ? "Accept-Encoding: " : ", ");
            buf_append_str(&line, known[i].names);
        }
    }
    ASSERT(line.len < sizeof h->encodings);
    memcpy(h->encodings, line.len > 0 ? line.data : "", line.len + 1);
    buf_release(&line);
}
