/*
 * lash.core.http, made of l_http.c (a request whose whole answer is wanted), l_http_stream.c (one
 * that is read in pieces), l_http_headers.c and l_http_file.c (files that go up or come down). For
 * the state's thread.
 */
#ifndef LASH_L_HTTP_H
#define LASH_L_HTTP_H

#include "base/base.h"
#include "io/http.h"

#include <lua.h>

/* The runtime's HTTP, made on first use; NULL when there is no libcurl. */
struct http *l_http_service(lua_State *L);

/* Reads headers, body (or nil) and options, which are arguments 3 to 5, into the request. A body
 * that is a string stays Lua's: the user value of the userdata on top, which owns the request,
 * keeps it. Raises on what the Lua side lets nobody pass. */
void l_http_read_request(lua_State *L, struct http_request *req);

uint64_t l_http_option_ms(lua_State *L, int arg, const char *name, uint64_t standard);
lua_Integer l_http_option_count(lua_State *L, int arg, const char *name, lua_Integer standard);

/* l_http_headers.c */
/* Adds the headers at `arg` to the request: a plain table, a list { name, value, ... }, what
 * lines() of the module gave, or nil. Raises on what the Lua side lets nobody pass. */
void l_http_read_headers(lua_State *L, int arg, struct http_request *req);
/* Pushes a table of the headers of the answer. */
void l_http_push_headers(lua_State *L, struct http_request *req);
/* Pushes them as one string, for l_http_header() and l_http_headers(). */
void l_http_push_head(lua_State *L, struct http_request *req);
int l_http_plain_headers(lua_State *L);
int l_http_header(lua_State *L);
int l_http_headers(lua_State *L);

/* open(method, url, headers, body | nil, options) -> stream | nil, err */
int l_http_open(lua_State *L);
void l_http_open_streams(lua_State *L);

/* file(path) -> file */
int l_http_file(lua_State *L);
void l_http_open_files(lua_State *L);

#endif
