#include "base/base.h"

#include "io/url.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#define URL_MAX (1024 * 1024)
#define SHOW_MAX 200
#define SHOW_BAD_MAX 60

static bool starts_with(const char *text, const char *prefix)
{
    return strncasecmp(text, prefix, strlen(prefix)) == 0;
}

static const char *parse_port(const char *at, const char *end, struct url *url)
{
    url->port = url->tls ? 443 : 80;
    url->port_given = false;
    if (at == end) {
        return NULL;
    }
    unsigned long port = 0;
    for (at++; at < end; at++) {
        if (*at < '0' || *at > '9' || port > 65535) {
            return "has a port that is not a number from 1 to 65535";
        }
        port = port * 10 + (unsigned long)(*at - '0');
        url->port_given = true;
    }
    if (url->port_given && (port == 0 || port > 65535)) {
        return "has a port that is not a number from 1 to 65535";
    }
    if (url->port_given) {
        url->port = (unsigned)port;
    }
    return NULL;
}

/* host[:port] between at and end. */
static const char *parse_host(const char *at, const char *end, struct url *url)
{
    const char *host_end;
    if (at < end && *at == '[') {
        host_end = memchr(at, ']', (size_t)(end - at));
        if (host_end == NULL || (host_end + 1 < end && host_end[1] != ':')) {
            return "has a broken IPv6 address";
        }
        host_end++;
    } else {
        host_end = memchr(at, ':', (size_t)(end - at));
        if (host_end == NULL) {
            host_end = end;
        }
    }
    if (host_end == at) {
        return "has no host";
    }
    url->host = at;
    url->host_len = (size_t)(host_end - at);
    return parse_port(host_end, end, url);
}

const char *url_parse(const char *text, struct url *url)
{
    struct url u = {0};
    if (starts_with(text, "https://")) {
        u.tls = true;
    } else if (!starts_with(text, "http://")) {
        return strstr(text, "://") ? "has a scheme other than http and https"
                                   : "has no scheme: begin it with http:// or https://";
    }
    size_t len = strlen(text);
    if (len > URL_MAX) {
        return "is longer than 1 MiB";
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c <= ' ' || c == 0x7f) {
            return "contains a space or a control character: percent-encode it";
        }
    }
    const char *at = text + (u.tls ? 8 : 7);
    const char *end = at + strcspn(at, "/?#");
    u.path = end;
    size_t authority = (size_t)(end - at);
    if (memchr(at, '\\', authority) != NULL) {
        return "contains a backslash";
    }
    const char *sign = memchr(at, '@', authority);
    if (sign != NULL) {
        u.userinfo = at;
        u.userinfo_len = (size_t)(sign - at);
        at = sign + 1;
        if (memchr(at, '@', (size_t)(end - at)) != NULL) {
            return "has more than one @ before its host: percent-encode those of the password";
        }
    }
    const char *wrong = parse_host(at, end, &u);
    if (wrong == NULL) {
        *url = u;
    }
    return wrong;
}

bool url_same_origin(const struct url *a, const struct url *b)
{
    return a->tls == b->tls && a->port == b->port && a->host_len == b->host_len &&
           strncasecmp(a->host, b->host, a->host_len) == 0;
}

bool url_is_local_name(const struct url *url)
{
    static const char local[] = "localhost";
    char host[64];
    if (url->host[0] == '[' || url->host_len >= sizeof host) {
        return url->host[0] == '[';
    }
    memcpy(host, url->host, url->host_len);
    host[url->host_len] = '\0';
    struct in_addr addr;
    return strcasecmp(host, local) == 0 || inet_pton(AF_INET, host, &addr) == 1;
}

static void show_part(struct buf *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        buf_append_char(out, c < ' ' || c == 0x7f ? '?' : (char)c);
    }
}

void url_show(const char *text, struct buf *out)
{
    struct url u;
    if (url_parse(text, &u) != NULL) {
        size_t len = strcspn(text, "?#");
        if (memchr(text, '@', len) != NULL) {
            len = strcspn(text, ":"); // a password may stand anywhere before the @
        }
        show_part(out, text, len < SHOW_BAD_MAX ? len : SHOW_BAD_MAX);
        return;
    }
    buf_append_str(out, u.tls ? "https://" : "http://");
    size_t host = u.host_len < SHOW_MAX ? u.host_len : SHOW_MAX;
    show_part(out, u.host, host);
    if (u.port_given) {
        buf_appendf(out, ":%u", u.port);
    }
    size_t path = strcspn(u.path, "?#");
    show_part(out, u.path, path < SHOW_MAX - host ? path : SHOW_MAX - host);
    if (path > SHOW_MAX - host) {
        buf_append_str(out, "...");
    }
}
