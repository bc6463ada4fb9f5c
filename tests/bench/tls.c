#include "tls.h"

#ifdef BENCH_TLS

#include <limits.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

struct tls {
    SSL *ssl;      /* owned; owns both buffers */
    BIO *in, *out; /* from the socket, to the socket */
};

static SSL_CTX *context; /* lives as long as the program */

static int add_extension(X509 *cert, int kind, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, kind, value);
    int ok = extension && X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
    return ok;
}

static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);
    int ok = X509_set_version(cert, 2) && ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) &&
             X509_gmtime_adj(X509_getm_notBefore(cert), -3600) &&
             X509_gmtime_adj(X509_getm_notAfter(cert), 86400) && X509_set_pubkey(cert, key) &&
             X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"bench",
                                        -1, -1, 0) &&
             X509_set_issuer_name(cert, name) &&
             add_extension(cert, NID_basic_constraints, "critical,CA:TRUE") &&
             add_extension(cert, NID_subject_alt_name, "IP:127.0.0.1") &&
             X509_sign(cert, key, EVP_sha256());
    if (!ok) {
        X509_free(cert);
        return NULL;
    }
    return cert;
}

int tls_start(const char *path)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = key ? make_certificate(key) : NULL;
    FILE *file = cert ? fopen(path, "w") : NULL;
    context = SSL_CTX_new(TLS_server_method());
    int ok = file && context && PEM_write_X509(file, cert) &&
             SSL_CTX_use_certificate(context, cert) == 1 &&
             SSL_CTX_use_PrivateKey(context, key) == 1;
    if (file && fclose(file) != 0) {
        ok = 0;
    }
    X509_free(cert);
    EVP_PKEY_free(key);
    return ok ? 0 : -1;
}

struct tls *tls_new(void)
{
    if (!context) {
        return NULL;
    }
    struct tls *t = calloc(1, sizeof *t);
    if (t) {
        t->ssl = SSL_new(context);
        t->in = BIO_new(BIO_s_mem());
        t->out = BIO_new(BIO_s_mem());
    }
    if (!t || !t->ssl || !t->in || !t->out) {
        fputs("server: out of memory\n", stderr);
        abort();
    }
    SSL_set_bio(t->ssl, t->in, t->out);
    SSL_set_accept_state(t->ssl);
    return t;
}

void tls_free(struct tls *t)
{
    if (t) {
        SSL_free(t->ssl);
        free(t);
    }
}

void tls_feed(struct tls *t, const char *data, size_t len)
{
    if (BIO_write(t->in, data, (int)len) != (int)len) {
        fputs("server: out of memory\n", stderr);
        abort();
    }
}

long tls_read(struct tls *t, char *data, size_t cap)
{
    int n = SSL_read(t->ssl, data, cap > INT_MAX ? INT_MAX : (int)cap);
    if (n > 0) {
        return n;
    }
    return SSL_get_error(t->ssl, n) == SSL_ERROR_WANT_READ ? 0 : -1;
}

int tls_write(struct tls *t, const char *data, size_t len)
{
    size_t done;
    return SSL_write_ex(t->ssl, data, len, &done) == 1 && done == len ? 0 : -1;
}

size_t tls_out(struct tls *t, const char **data)
{
    char *start;
    long len = BIO_get_mem_data(t->out, &start);
    *data = start;
    return len > 0 ? (size_t)len : 0;
}

void tls_sent(struct tls *t)
{
    (void)BIO_reset(t->out);
}

#else

int tls_start(const char *path)
{
    (void)path;
    return -1;
}

struct tls *tls_new(void)
{
    return NULL;
}

void tls_free(struct tls *t)
{
    (void)t;
}

void tls_feed(struct tls *t, const char *data, size_t len)
{
    (void)t;
    (void)data;
    (void)len;
}

long tls_read(struct tls *t, char *data, size_t cap)
{
    (void)t;
    (void)data;
    (void)cap;
    return -1;
}

int tls_write(struct tls *t, const char *data, size_t len)
{
    (void)t;
    (void)data;
    (void)len;
    return -1;
}

size_t tls_out(struct tls *t, const char **data)
{
    (void)t;
    *data = NULL;
    return 0;
}

void tls_sent(struct tls *t)
{
    (void)t;
}

#endif
