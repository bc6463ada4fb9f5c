#include "base/base.h"

#include "io/http_int.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* "10 s", "64 MiB": as people write them. */
static const char *show_ms(uint64_t ms, char *out, size_t cap)
{
    if (ms % 1000 == 0) {
        (void)snprintf(out, cap, "%llu s", (unsigned long long)(ms / 1000));
    } else {
        (void)snprintf(out, cap, "%llu ms", (unsigned long long)ms);
    }
    return out;
}

static const char *show_bytes(size_t n, char *out, size_t cap)
{
    if (n >= ((size_t)1 << 20) && n % ((size_t)1 << 20) == 0) {
        (void)snprintf(out, cap, "%zu MiB", n >> 20);
    } else if (n >= 1024 && n % 1024 == 0) {
        (void)snprintf(out, cap, "%zu KiB", n >> 10);
    } else {
        (void)snprintf(out, cap, "%zu bytes", n);
    }
    return out;
}

static void timed_out(struct http_request *req, const char *where)
{
    const struct curl_api *curl = req->http->curl;
    char span[32];
    curl_off_t connected = 0;
    uint64_t gone = (uv_hrtime() - req->started_ns) / 1000000;
    if (req->easy != NULL) {
        (void)curl->easy_getinfo(req->easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
    }
    if (connected == 0 && (req->timeout_ms == 0 || gone < req->timeout_ms)) {
        http_fail(
            req, "timeout",
            "no connection to %s within %s: check that the server is up and the address right, "
            "or raise connect_timeout",
            where, show_ms(req->connect_timeout_ms, span, sizeof span));
    } else {
        http_fail(req, "timeout", "no complete answer from %s within %s: raise timeout", where,
                  show_ms(req->timeout_ms, span, sizeof span));
    }
}

static void not_connected(struct http_request *req, const char *where, const char *why)
{
    long number = 0;
    if (req->easy != NULL) {
        (void)req->http->curl->easy_getinfo(req->easy, CURLINFO_OS_ERRNO, &number);
    }
    if (number != 0 && strerrordesc_np((int)number) != NULL) {
        why = strerrordesc_np((int)number); // "Connection refused"; strerror() is not for threads
    }
    if (req->socket_errno == EMFILE || req->socket_errno == ENFILE) {
        http_fail(req, "connect",
                  "no connection to %s: too many open files: make fewer requests at "
                  "once, or raise ulimit -n",
                  where);
    } else {
        http_fail(req, "connect",
                  "no connection to %s: %s: check that the server is running and the "
                  "address right",
                  where, why);
    }
}

static void refused(struct http_request *req, const char *where)
{
    char size[32];
    if (strncmp(req->refusal, "body_", 5) == 0) {
        http_fail(req, "request",
                  "the body for %s is %s than its length says, which is %lld bytes: mend the "
                  "length, or leave it out",
                  where, strcmp(req->refusal, "body_too_long") == 0 ? "longer" : "shorter",
                  (long long)req->upload.length);
    } else if (strcmp(req->refusal, "interim") == 0) {
        http_fail(req, "protocol",
                  "%s sends interim answers (status 1xx) without end instead of its answer: look "
                  "into the server's log",
                  where);
    } else if (strcmp(req->refusal, "unpacked") == 0) {
        http_fail(req, "too_large",
                  "the answer of %s unpacks to far more than it is long, faster than it is read",
                  where);
    } else if (strcmp(req->refusal, "too_large") == 0) {
        http_fail(req, "too_large", "the answer of %s is larger than %s: raise max_body", where,
                  show_bytes(req->max_body, size, sizeof size));
    } else {
        http_fail(req, "too_large", "the headers of the answer of %s are larger than 256 KiB",
                  where);
    }
}

/* TLS, and what else has a sentence of its own. */
static void other(struct http_request *req, CURLcode rc, const char *where, const char *why)
{
    switch ((int)rc) {
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_INVALIDCERTSTATUS:
        http_fail(req, "tls",
                  "no safe connection to %s: %s: check the address, the clock and the "
                  "server's certificate, or name its CA in SSL_CERT_FILE",
                  where, why);
        break;
    case CURLE_SSL_CACERT_BADFILE:
        http_fail(req, "tls", "no safe connection to %s: the CA file cannot be read: %s", where,
                  req->ca_file != NULL ? "mend ca_file"
                                       : "install ca-certificates, or mend SSL_CERT_FILE");
        break;
    case CURLE_BAD_CONTENT_ENCODING:
        http_fail(req, "encoding", "the answer of %s cannot be unpacked: %s", where, why);
        break;
    case CURLE_URL_MALFORMAT:
        http_fail(req, "url", "the URL '%s' is not valid: check its host and port", where);
        break;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
        http_fail(req, "protocol",
                  "the answer of %s is not HTTP: check the port and http against https", where);
        break;
    default:
        http_fail(req, "protocol", "the request to %s failed: %s", where, why);
    }
}

void http_error_of_curl(struct http_request *req, CURLcode rc)
{
    const char *said = req->handle != NULL ? req->handle->errbuf : "";
    const char *why = *said != '\0' ? said : req->http->curl->easy_strerror(rc);
    struct buf shown = {0};
    url_show(req->url, &shown);
    const char *where = shown.data;
    switch ((int)rc) {
    case CURLE_OPERATION_TIMEDOUT:
        timed_out(req, where);
        break;
    case CURLE_COULDNT_RESOLVE_HOST:
        http_fail(req, "resolve", "the host of %s has no address: check its name and the network",
                  where);
        break;
    case CURLE_COULDNT_RESOLVE_PROXY:
        http_fail(req, "resolve",
                  "the proxy on the way to %s has no address: check http_proxy and "
                  "https_proxy in the environment",
                  where);
        break;
    case CURLE_COULDNT_CONNECT:
    case CURLE_PROXY:
    case CURLE_INTERFACE_FAILED:
        not_connected(req, where, why);
        break;
    case CURLE_OUT_OF_MEMORY:
        // its answer to a header line of more than 100 KiB, and to a body that unpacks to more than
        // 64 MiB while it is not read
        req->refusal = req->head_done ? "unpacked" : "head_too_large";
        refused(req, where);
        break;
    case CURLE_WRITE_ERROR:
    case CURLE_ABORTED_BY_CALLBACK:
        if (req->refusal != NULL) {
            refused(req, where);
        } else {
            other(req, rc, where, why);
        }
        break;
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
        if (strstr(said, "CONNECT") != NULL) {
            http_fail(req, "connect",
                      "the proxy on the way to %s refuses: %s: check the proxy's address, and "
                      "the user and password in it",
                      where, why);
            break;
        }
        /* fall through */
    case CURLE_SEND_ERROR:
    case CURLE_PARTIAL_FILE:
        http_fail(req, "closed",
                  "the server of %s closed the connection before its answer was "
                  "complete (%s): try again, or look into the server's log",
                  where, why);
        break;
    default:
        other(req, rc, where, why);
    }
    buf_release(&shown);
}
