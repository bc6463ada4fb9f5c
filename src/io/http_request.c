#include "base/base.h"

#include "io/http.h"

#include "io/http_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct http_request *http_request_new(const char *method, const char *url)
{
    struct http_request *req = xcalloc(1, sizeof *req);
    req->method = xstrdup(method);
    req->url = xstrdup(url);
    list_init(&req->node);
    list_init(&req->event_node);
    list_init(&req->gate_node);
    list_init(&req->place_node);
    req->connect_timeout_ms = 10 * 1000;
    req->idle_timeout_ms = 300 * 1000;
    req->max_body = (size_t)64 << 20;
    req->max_redirects = 10;
    return req;
}

void http_request_free(struct http_request *req)
{
    if (req == NULL) {
        return;
    }
    http_abort(req);
    free(req->method);
    free(req->url);
    buf_release(&req->lines);
    buf_release(&req->own_body);
    upload_release(&req->upload);
    free(req->proxy);
    free(req->ca_file);
    buf_release(&req->head);
    free(req->refs);
    buf_release(&req->result.body);
    buf_release(&req->message);
    buf_release(&req->shown_url);
    free(req);
}

void http_fail(struct http_request *req, const char *code, const char *fmt, ...)
{
    if (req->result.code != NULL) {
        return;
    }
    char text[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    buf_clear(&req->message);
    buf_append_str(&req->message, text);
    req->result.code = code;
    req->result.message = req->message.data;
}

/* What most heads of requests and of answers fit in. */
#define LINES_USUAL 120
#define HEAD_USUAL 480

static bool is_token_char(char c)
{
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    return plain || c == '-' || (c != '\0' && strchr("!#$%&'*+.^_`|~", c) != NULL);
}

static bool is_token(const char *text)
{
    const char *p = text;
    while (is_token_char(*p)) {
        p++;
    }
    return p > text && *p == '\0';
}

/* Those by which two readers could take different pieces for the body. */
static bool is_framing(const char *name)
{
    return strcasecmp(name, "Content-Length") == 0 || strcasecmp(name, "Transfer-Encoding") == 0;
}

bool header_line_is(const char *line, const char *name, size_t len)
{
    return strncasecmp(line, name, len) == 0 && (line[len] == ':' || line[len] == ';');
}

int http_request_header(struct http_request *req, const char *name, const char *value)
{
    if (!is_token(name)) {
        http_fail(req, "request",
                  "a header name may hold letters, digits and -_ only: mend the name "
                  "of this request's header number %zu",
                  req->nlines + 1);
        return UV_EINVAL;
    }
    if (is_framing(name)) {
        http_fail(req, "request", "the header %s is made from the body: leave it out", name);
        return UV_EINVAL;
    }
    const char *end = value;
    while ((unsigned char)*end >= ' ' ? *end != 0x7f : *end == '\t') {
        end++;
    }
    if (*end != '\0') {
        http_fail(req, "request",
                  "the value of the header %s holds a line break or another "
                  "control character: remove it",
                  name);
        return UV_EINVAL;
    }
    value += strspn(value, " \t");
    size_t name_len = strlen(name);
    size_t len = (size_t)(end - value);
    buf_reserve(&req->lines, name_len + len + 3 + (req->nlines == 0 ? LINES_USUAL : 0));
    // libcurl's syntax: "Name:" would take the header away, "Name;" sends it empty
    buf_append(&req->lines, name, name_len);
    buf_append(&req->lines, len > 0 ? ": " : ";", len > 0 ? 2 : 1);
    buf_append(&req->lines, value, len + 1);
    req->nlines++;
    return 0;
}

const char *http_request_lines(const struct http_request *req, size_t *len)
{
    *len = req->lines.len;
    return req->lines.data != NULL ? req->lines.data : "";
}

void http_request_add_lines(struct http_request *req, const char *lines, size_t len)
{
    buf_append(&req->lines, lines, len);
    for (const char *at = lines; at < lines + len; at += strlen(at) + 1) {
        req->nlines++;
    }
}

bool http_request_has(const struct http_request *req, const char *name)
{
    const char *line = req->lines.data;
    for (size_t i = 0; i < req->nlines; i++, line += strlen(line) + 1) {
        if (header_line_is(line, name, strlen(name))) {
            return true;
        }
    }
    return false;
}

void http_request_body(struct http_request *req, const void *data, size_t len)
{
    req->body = data;
    req->body_len = len;
    req->has_body = true;
}

void http_request_own_body(struct http_request *req, struct buf *body)
{
    buf_move(&req->own_body, body);
    http_request_body(req, req->own_body.data, req->own_body.len);
}

void http_request_connect_timeout(struct http_request *req, uint64_t ms)
{
    req->connect_timeout_ms = ms;
}

void http_request_timeout(struct http_request *req, uint64_t ms)
{
    req->timeout_ms = ms;
}

void http_request_idle_timeout(struct http_request *req, uint64_t ms)
{
    req->idle_timeout_ms = ms;
}

void http_request_max_body(struct http_request *req, size_t bytes)
{
    req->max_body = bytes;
}

void http_request_max_redirects(struct http_request *req, unsigned n)
{
    req->max_redirects = n;
}

void http_request_proxy(struct http_request *req, const char *url)
{
    free(req->proxy);
    req->proxy = xstrdup(url);
}

void http_request_ca_file(struct http_request *req, const char *path)
{
    free(req->ca_file);
    req->ca_file = xstrdup(path);
}

void http_request_version_2(struct http_request *req)
{
    req->version_2 = true;
}

void http_request_stream(struct http_request *req, http_data_fn on_data, size_t high_mark)
{
    req->on_data = on_data;
    req->high_mark = high_mark < 16384 ? 16384 : high_mark;
}

/* libcurl takes nearly any text for a proxy, and finds out when it looks up its name. */
static bool is_proxy(const char *text)
{
    static const char *const schemes[] = {"http://",    "https://",  "socks4://",
                                          "socks4a://", "socks5://", "socks5h://"};
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        size_t len = strlen(schemes[i]);
        if (strncasecmp(text, schemes[i], len) == 0) {
            size_t rest = strcspn(text + len, "/?# \\");
            return rest > 0 && (text[len + rest] == '\0' || strcmp(text + len + rest, "/") == 0);
        }
    }
    return *text == '\0';
}

int http_request_check(struct http_request *req)
{
    if (req->result.code != NULL) {
        return UV_EINVAL;
    }
    if (!is_token(req->method) || strcasecmp(req->method, "CONNECT") == 0) {
        http_fail(req, "request",
                  "the HTTP method is not one that can be sent: use GET, POST, PUT, "
                  "PATCH, DELETE, HEAD or OPTIONS");
        return UV_EINVAL;
    }
    if (strcmp(req->method, "HEAD") == 0 && (req->body_len > 0 || req->upload.used)) {
        http_fail(req, "request", "a HEAD request cannot have a body: leave it out or use GET");
        return UV_EINVAL;
    }
    if (req->proxy != NULL && !is_proxy(req->proxy)) {
        http_fail(req, "request",
                  "the proxy is not a URL: begin it with http://, https:// or socks5://, and leave "
                  "its path out");
        return UV_EINVAL;
    }
    const char *wrong = url_parse(req->url, &req->at);
    if (wrong != NULL) {
        struct buf shown = {0};
        url_show(req->url, &shown);
        http_fail(req, "url", "the URL '%s' %s", shown.data ? shown.data : "", wrong);
        buf_release(&shown);
        return UV_EINVAL;
    }
    return 0;
}

void http_request_set_url(struct http_request *req, const char *url)
{
    char *copy = xstrdup(url);
    free(req->url);
    req->url = copy;
    ASSERT(url_parse(copy, &req->at) == NULL);
}

void http_request_set_method(struct http_request *req, const char *method)
{
    free(req->method);
    req->method = xstrdup(method);
}

static bool may_be_secret(const char *line)
{
    static const char *const words[] = {"auth", "cookie", "key", "token", "secret", "session"};
    char name[128];
    size_t len = strcspn(line, ":;");
    (void)snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name - 1),
                   line);
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcasestr(name, words[i]) != NULL) {
            return true;
        }
    }
    return false;
}

static void drop_lines(struct http_request *req, bool (*unwanted)(const char *line))
{
    struct buf kept = {0};
    size_t n = 0;
    const char *line = req->lines.data;
    for (size_t i = 0; i < req->nlines; i++, line += strlen(line) + 1) {
        if (!unwanted(line)) {
            buf_append(&kept, line, strlen(line) + 1);
            n++;
        }
    }
    buf_move(&req->lines, &kept);
    req->nlines = n;
}

void http_request_drop_secrets(struct http_request *req)
{
    drop_lines(req, may_be_secret);
}

static bool is_of_body(const char *line)
{
    return strncasecmp(line, "Content-", 8) == 0;
}

void http_request_drop_body(struct http_request *req)
{
    req->body = NULL;
    req->body_len = 0;
    req->has_body = false;
    upload_release(&req->upload);
    drop_lines(req, is_of_body);
}

void http_head_clear(struct http_request *req)
{
    buf_clear(&req->head);
    req->result.nheaders = 0;
}

void http_head_add(struct http_request *req, const char *name, size_t name_len, const char *value,
                   size_t value_len)
{
    size_t n = req->result.nheaders;
    if (n == req->refs_cap) {
        req->refs_cap = n ? n * 2 : 16;
        req->refs = xrealloc(req->refs, req->refs_cap * sizeof *req->refs);
    }
    // what stands behind a zero byte is not read: libcurl lets none pass
    name_len = strnlen(name, name_len);
    value_len = strnlen(value, value_len);
    buf_reserve(&req->head, name_len + value_len + 2 + (n == 0 ? HEAD_USUAL : 0));
    req->refs[n].name = req->head.len;
    buf_append(&req->head, name, name_len);
    buf_append(&req->head, "", 1);
    req->refs[n].value = req->head.len;
    buf_append(&req->head, value, value_len);
    buf_append(&req->head, "", 1);
    req->result.nheaders = n + 1;
}

void http_head_continue(struct http_request *req, const char *text, size_t len)
{
    if (req->result.nheaders == 0) {
        return;
    }
    req->head.data[req->head.len - 1] = ' ';
    buf_append(&req->head, text, strnlen(text, len));
    buf_append_char(&req->head, '\0');
}

bool http_has_head(const struct http_request *req)
{
    return req->head_done && !req->redirecting && req->result.status >= 200;
}

struct http_result *http_result(struct http_request *req)
{
    return &req->result;
}

void http_result_header(const struct http_request *req, size_t i, const char **name,
                        const char **value)
{
    ASSERT(i < req->result.nheaders);
    *name = req->head.data + req->refs[i].name;
    *value = req->head.data + req->refs[i].value;
}

const char *http_result_head(const struct http_request *req, size_t *len)
{
    *len = req->head.len;
    return req->head.data != NULL ? req->head.data : "";
}

const char *http_result_find(const struct http_request *req, const char *name)
{
    for (size_t i = 0; i < req->result.nheaders; i++) {
        if (strcasecmp(req->head.data + req->refs[i].name, name) == 0) {
            return req->head.data + req->refs[i].value;
        }
    }
    return NULL;
}
