/*
 * Files that go up or come down in pieces, so that memory holds one piece. Loop thread only; the
 * disk's work is done in libuv's thread pool.
 *
 * One job at a time: each is started by the caller, calls `done` once from the loop, and leaves
 * http_file_code() NULL or the name of the error.
 */
#ifndef LASH_HTTP_FILE_H
#define LASH_HTTP_FILE_H

#include "base/base.h"
#include "base/buf.h"

#include <uv.h>

struct http_file;
typedef void (*http_file_fn)(struct http_file *file, void *arg);

/* Nothing is opened yet. `path` is copied. */
struct http_file *http_file_new(uv_loop_t *loop, const char *path, http_file_fn done, void *arg);

/* Opens a regular file for reading; its size is http_file_size() then. */
void http_file_open(struct http_file *f);

/* Reads up to `n` of the bytes from `offset` on; http_file_data() has them, none at the end. */
void http_file_read(struct http_file *f, uint64_t offset, size_t n);

/* Makes a temporary file beside `path`, with the owner and permissions of what is there. */
void http_file_create(struct http_file *f);

/* Adds what is in http_file_data() to it. */
void http_file_write(struct http_file *f);

/* Gives it the name `path`: others see the old file or the whole new one. */
void http_file_commit(struct http_file *f);

/* Closes it; removes what was created and not committed. */
void http_file_discard(struct http_file *f);

/* Closes and frees it at any time, NULL is ignored; a job under way calls nobody. What was created
 * and not committed is removed. */
void http_file_free(struct http_file *f);

bool http_file_busy(const struct http_file *f);
struct buf *http_file_data(struct http_file *f); /* not while a job runs */
uint64_t http_file_size(const struct http_file *f);
const char *http_file_code(const struct http_file *f); /* "ENOENT" ...; NULL = it went well */
/* With a code: a sentence that names the file; borrowed until the next job. */
const char *http_file_message(const struct http_file *f);

#endif
