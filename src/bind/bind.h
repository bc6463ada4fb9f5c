/*
 * What a Lua state of lash contains: the C modules as lash.core.NAME, the embedded Lua library as
 * lash.NAME, and print. One luaopen_ function per C-made module, each in its own l_NAME.c.
 */
#ifndef LASH_BIND_H
#define LASH_BIND_H

#include "base/base.h"
#include "engine/runtime.h"

/* Opens everything in the state of `rt`, before user code. Loads no Lua module yet. 0 or UV_ENOMEM.
 */
int bind_open(struct runtime *rt);

/* The pool of the runtime, made on first use (main), or the one that it belongs to (worker). */
struct pool *bind_pool(struct runtime *rt);

/* Stops the pool, if there is one. Returns the number of workers that did not stop. */
size_t bind_close_pool(struct runtime *rt);

/* Lets the library tell of tasks that hold the main loop, which is that of `rt`. */
void bind_watch(struct runtime *rt);

/* Messages of lash itself, and print, go to stderr from now on: stdout carries the answer alone. */
void bind_reserve_stdout(void);
bool bind_stdout_reserved(void);

/* Replaces os.execute and io.popen. */
void bind_replace_process(lua_State *L);

/* Replaces print; and where lines are edited all that writes to or reads from the terminal:
 * io.write and the method write of files, io.read, io.lines and the methods. */
void bind_replace_print(lua_State *L);
void bind_replace_write(lua_State *L);
void bind_replace_read(lua_State *L);

/* Calls the function below its `n` arguments, for which the running function stands in: its errors
 * are as if that had been called. Returns the number of results, on top. */
int bind_call_original(lua_State *L, int n);

/* Adds batch() to lash.core.engine, the table on top. */
void bind_add_batch(lua_State *L);

/* Raises between two calls of a worker. Only finalizers run then: what they start would live in the
 * next call. */
void bind_check_call(lua_State *L);

/* Adds the functions about workers to lash.core.engine, the table on top. */
void bind_add_offload(lua_State *L);

int luaopen_lash_core_accept(lua_State *L);
int luaopen_lash_core_channel(lua_State *L);
int luaopen_lash_core_codec(lua_State *L);
int luaopen_lash_core_engine(lua_State *L);
int luaopen_lash_core_exec(lua_State *L);
int luaopen_lash_core_fs(lua_State *L);
int luaopen_lash_core_fs_watch(lua_State *L);
int luaopen_lash_core_http(lua_State *L);
int luaopen_lash_core_json(lua_State *L);
int luaopen_lash_core_lock(lua_State *L);
int luaopen_lash_core_pattern(lua_State *L);
int luaopen_lash_core_plain(lua_State *L);
int luaopen_lash_core_shared(lua_State *L);
int luaopen_lash_core_signals(lua_State *L);
int luaopen_lash_core_system(lua_State *L);
int luaopen_lash_core_timer(lua_State *L);

#endif
