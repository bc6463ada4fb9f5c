/*
 * lash.core.fs: reading and writing a whole file as one wait. lua/lash/fs.lua is the face that
 * users see.
 */
#include "base/base.h"

#include "bind/bind.h"
#include "bind/fail.h"
#include "engine/task.h"
#include "io/fs.h"

#include <lauxlib.h>

#define FILE_TYPE "lash.fs.request"

struct file_op {
    struct op op;
    struct fs_request *req; /* owned */
    bool writes;
};

static void file_done(struct fs_request *req, void *arg)
{
    struct file_op *file = arg;
    (void)req;
    op_done(&file->op);
}

static void file_release(struct file_op *file)
{
    fs_free(file->req);
    file->req = NULL;
}

static void file_cancel(struct op *op)
{
    file_release((struct file_op *)op);
}

static int file_gc(lua_State *L)
{
    struct file_op *file = luaL_checkudata(L, 1, FILE_TYPE);
    file_release(file);
    op_gone(&file->op);
    return 0;
}

static int file_finish(lua_State *L, struct op *op)
{
    struct file_op *file = (struct file_op *)op;
    if (file->req == NULL) {
        return luaL_error(L, "the request was released");
    }
    struct fs_result *res = fs_result(file->req);
    int pushed = 1;
    luaL_checkstack(L, 6, NULL);
    if (res->code != NULL) {
        pushed = bind_fail(L, res->code, res->message);
    } else if (file->writes) {
        lua_pushboolean(L, 1);
    } else {
        lua_pushlstring(L, res->data.data ? res->data.data : "", res->data.len);
    }
    file_release(file); // not left to the collector, which does not see this memory
    return pushed;
}

static struct file_op *push_op(lua_State *L, bool writes)
{
    task_check(L);
    struct file_op *file = lua_newuserdatauv(L, sizeof(*file), 0);
    *file =
        (struct file_op){.op = {.cancel = file_cancel, .finish = file_finish}, .writes = writes};
    luaL_setmetatable(L, FILE_TYPE);
    return file;
}

/* read(path, max) -> text | nil, err */
static int l_read(lua_State *L)
{
    const char *path = bind_check_text(L, 1);
    lua_Integer max = luaL_checkinteger(L, 2);
    luaL_argcheck(L, max > 0 && max < INT64_MAX, 2, "expected a number of bytes");
    struct file_op *file = push_op(L, false);
    file->req = fs_read(runtime_loop(runtime_of(L)), path, (size_t)max, file_done, file);
    return task_wait(L, &file->op);
}

/* write(path, data, append, sync, mode | nil) -> true | nil, err */
static int l_write(lua_State *L)
{
    const char *path = bind_check_text(L, 1);
    size_t len;
    const char *data = luaL_checklstring(L, 2, &len);
    struct fs_write_options options = {
        .append = lua_toboolean(L, 3),
        .sync = lua_toboolean(L, 4),
        .mode = (int)luaL_optinteger(L, 5, -1),
    };
    luaL_argcheck(L, options.mode >= -1 && options.mode <= 07777, 5, "expected permissions");
    struct file_op *file = push_op(L, true);
    file->req = fs_write(runtime_loop(runtime_of(L)), path, data, len, &options, file_done, file);
    return task_wait(L, &file->op);
}

int luaopen_lash_core_fs(lua_State *L)
{
    static const luaL_Reg functions[] = {{"read", l_read}, {"write", l_write}, {NULL, NULL}};
    luaL_newmetatable(L, FILE_TYPE);
    lua_pushcfunction(L, file_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, functions);
    return 1;
}
