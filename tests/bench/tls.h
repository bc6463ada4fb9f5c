/*
 * TLS for the server of the bench: OpenSSL between two buffers in memory, with a certificate made
 * at start. Built without OpenSSL (no -DBENCH_TLS), tls_start() says that there is none. One
 * thread.
 */
#ifndef BENCH_TLS_H
#define BENCH_TLS_H

#include <stddef.h>

struct tls; /* of one connection */

/* Makes a key and a certificate for 127.0.0.1 and writes that to `path`. 0, or -1: not built in, or
 * it failed. */
int tls_start(const char *path);

/* NULL without tls_start(). */
struct tls *tls_new(void);
void tls_free(struct tls *t);

/* Bytes from the socket. */
void tls_feed(struct tls *t, const char *data, size_t len);
/* Up to `cap` bytes of what they meant; 0: more has to come, -1: the connection is of no use any
 * more. */
long tls_read(struct tls *t, char *data, size_t cap);
/* Makes bytes for the socket; 0 or -1. */
int tls_write(struct tls *t, const char *data, size_t len);
/* What has to go to the socket now; valid until tls_sent(). */
size_t tls_out(struct tls *t, const char **data);
void tls_sent(struct tls *t);

#endif
