/*
 * lash.core.http, made of l_http.c (a request whose whole answer is wanted), l_http_stream.c (one
 * that is read in pieces) and l_http_file.c (files that go up or come down). For the state's
 * thread.
 */
#ifndef LASH_L_HTTP_H
#define LASH_L_HTTP_H

#include "base/base.h"
#include "io/http.h"

#include <lua.h>

/* The runtime's HTTP, made on first use; NULL when there is no libcurl. */
struct http *l_http_service(lua_State *L);

/* Reads headers, body (or nil) and options, which are arguments 3 to 5, into the request. The body
 * stays Lua's: the user value of the userdata on top, which owns the request, keeps it. Raises on
 * what the Lua side lets nobody pass. */
void l_http_read_request(lua_State *L, struct http_request *req);

uint64_t l_http_option_ms(lua_State *L, int arg, const char *name, uint64_t standard);
lua_Integer l_http_option_count(lua_State *L, int arg, const char *name, lua_Integer standard);

/* Pushes the headers of the answer as they came: { name, value, name, value ... } */
void l_http_push_headers(lua_State *L, struct http_request *req);

/* open(method, url, headers, body | nil, options) -> stream | nil, err */
int l_http_open(lua_State *L);
void l_http_open_streams(lua_State *L);

/* file(path) -> file */
int l_http_file(lua_State *L);
void l_http_open_files(lua_State *L);

#endif
