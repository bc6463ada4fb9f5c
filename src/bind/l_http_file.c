/*
 * lash.core.http.file: a file that goes up or comes down in pieces; every method is one wait.
 */
#include "base/base.h"

#include "bind/fail.h"
#include "bind/l_http.h"
#include "bind/type.h"
#include "engine/task.h"
#include "io/http_file.h"

#include <lauxlib.h>

#define FILE_TYPE "lash.http.file"
#define WAIT_TYPE "lash.http.file.wait"

#define PIECE_MAX ((lua_Integer)1 << 20)

struct file {
    struct http_file *file; /* owned; NULL when closed */
    struct file_wait *waiter;
};

enum file_what { FILE_OPEN, FILE_READ, FILE_WRITE };

/* User value 1 is the file's userdata. */
struct file_wait {
    struct op op;
    struct file *file;
    enum file_what what;
};

static void file_close(struct file *f)
{
    http_file_free(f->file);
    f->file = NULL;
}

static void on_file(struct http_file *file, void *arg)
{
    struct file *f = arg;
    struct file_wait *wait = f->waiter;
    (void)file;
    f->waiter = NULL;
    if (wait != NULL) {
        op_done(&wait->op);
    }
}

/* Who is cancelled has no use for the file either: the job that runs ends unseen. */
static void wait_cancel(struct op *op)
{
    struct file_wait *wait = (struct file_wait *)op;
    wait->file->waiter = NULL;
    file_close(wait->file);
}

static int wait_gc(lua_State *L)
{
    struct file_wait *wait = luaL_checkudata(L, 1, WAIT_TYPE);
    if (wait->file->waiter == wait) {
        wait_cancel(&wait->op);
    }
    op_gone(&wait->op);
    return 0;
}

static int wait_finish(lua_State *L, struct op *op)
{
    struct file_wait *wait = (struct file_wait *)op;
    struct http_file *file = wait->file->file;
    if (file == NULL || http_file_busy(file)) {
        return luaL_error(L, "the file was closed meanwhile");
    }
    luaL_checkstack(L, 6, NULL);
    if (http_file_code(file) != NULL) {
        return bind_fail(L, http_file_code(file), http_file_message(file));
    }
    struct buf *data = http_file_data(file);
    if (wait->what == FILE_OPEN) {
        lua_pushinteger(L, (lua_Integer)http_file_size(file));
    } else if (wait->what == FILE_WRITE) {
        lua_pushboolean(L, 1);
    } else if (data->len > 0) {
        lua_pushlstring(L, data->data, data->len);
    } else {
        lua_pushnil(L);
    }
    return 1;
}

static struct file *check_file(lua_State *L)
{
    struct file *f = luaL_checkudata(L, 1, FILE_TYPE);
    luaL_argcheck(L, f->file != NULL, 1, "the file is closed");
    luaL_argcheck(L, !http_file_busy(f->file), 1, "the file is in use");
    task_check(L);
    return f;
}

static struct op *push_wait(lua_State *L, struct file *f, enum file_what what)
{
    struct file_wait *wait = lua_newuserdatauv(L, sizeof *wait, 1);
    *wait = (struct file_wait){
        .op = {.cancel = wait_cancel, .finish = wait_finish}, .file = f, .what = what};
    luaL_setmetatable(L, WAIT_TYPE);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    f->waiter = wait;
    return &wait->op;
}

/* file:open() -> size | nil, err */
static int l_file_open(lua_State *L)
{
    struct file *f = check_file(L);
    struct op *op = push_wait(L, f, FILE_OPEN);
    http_file_open(f->file);
    return task_wait(L, op);
}

/* file:read(offset, n) -> bytes, nil at the end | nil, err */
static int l_file_read(lua_State *L)
{
    lua_Integer offset = luaL_checkinteger(L, 2);
    lua_Integer n = luaL_checkinteger(L, 3);
    luaL_argcheck(L, offset >= 0, 2, "expected an offset");
    luaL_argcheck(L, n > 0 && n <= PIECE_MAX, 3, "expected a number of bytes");
    struct file *f = check_file(L);
    struct op *op = push_wait(L, f, FILE_READ);
    http_file_read(f->file, (uint64_t)offset, (size_t)n);
    return task_wait(L, op);
}

/* file:create() -> true | nil, err */
static int l_file_create(lua_State *L)
{
    struct file *f = check_file(L);
    struct op *op = push_wait(L, f, FILE_WRITE);
    http_file_create(f->file);
    return task_wait(L, op);
}

/* file:write(bytes) -> true | nil, err */
static int l_file_write(lua_State *L)
{
    size_t len;
    const char *data = luaL_checklstring(L, 2, &len);
    struct file *f = check_file(L);
    struct op *op = push_wait(L, f, FILE_WRITE);
    struct buf *to = http_file_data(f->file);
    buf_clear(to);
    buf_append(to, data, len);
    http_file_write(f->file);
    return task_wait(L, op);
}

/* file:commit() -> true | nil, err */
static int l_file_commit(lua_State *L)
{
    struct file *f = check_file(L);
    struct op *op = push_wait(L, f, FILE_WRITE);
    http_file_commit(f->file);
    return task_wait(L, op);
}

/* file:discard() -> true | nil, err: removes what was not committed */
static int l_file_discard(lua_State *L)
{
    struct file *f = check_file(L);
    struct op *op = push_wait(L, f, FILE_WRITE);
    http_file_discard(f->file);
    return task_wait(L, op);
}

/* file:close(): at once, and any number of times */
static int l_file_close(lua_State *L)
{
    struct file *f = luaL_checkudata(L, 1, FILE_TYPE);
    struct file_wait *wait = f->waiter;
    file_close(f);
    f->waiter = NULL;
    if (wait != NULL) {
        op_done(&wait->op);
    }
    return 0;
}

int l_http_file(lua_State *L)
{
    const char *path = bind_check_text(L, 1);
    struct file *f = lua_newuserdatauv(L, sizeof *f, 0);
    *f = (struct file){0};
    luaL_setmetatable(L, FILE_TYPE);
    f->file = http_file_new(runtime_loop(runtime_of(L)), path, on_file, f);
    return 1;
}

void l_http_open_files(lua_State *L)
{
    static const luaL_Reg methods[] = {{"open", l_file_open},     {"read", l_file_read},
                                       {"create", l_file_create}, {"write", l_file_write},
                                       {"commit", l_file_commit}, {"discard", l_file_discard},
                                       {"close", l_file_close},   {"__gc", l_file_close},
                                       {"__close", l_file_close}, {NULL, NULL}};
    bind_type_gc(L, WAIT_TYPE, wait_gc);
    bind_type_push(L, FILE_TYPE, methods);
    lua_pop(L, 1);
}
