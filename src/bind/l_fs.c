/*
 * lash.core.fs: what is done with files and directories, each as one wait. lua/lash/fs.lua and
 * lua/lash/fs/ are the face that users see.
 */
#include "base/base.h"

#include "bind/bind.h"
#include "bind/fail.h"
#include "bind/type.h"
#include "engine/task.h"
#include "io/fs.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#define FILE_TYPE "lash.fs.request"

struct file_op {
    struct op op;
    struct fs_request *req; /* owned */
    enum fs_verb verb;
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

/* stat() -> { type, size, ... } */
static void push_stat(lua_State *L, const struct fs_result *res)
{
    const struct stat *st = &res->stat;
    const struct {
        const char *name;
        struct timespec time;
    } times[] = {{"mtime", st->st_mtim}, {"atime", st->st_atim}, {"ctime", st->st_ctim}};
    const struct {
        const char *name;
        lua_Integer value;
    } numbers[] = {{"size", (lua_Integer)st->st_size},   {"uid", (lua_Integer)st->st_uid},
                   {"gid", (lua_Integer)st->st_gid},     {"inode", (lua_Integer)st->st_ino},
                   {"links", (lua_Integer)st->st_nlink}, {"device", (lua_Integer)st->st_dev}};
    lua_createtable(L, 0, 12);
    lua_pushstring(L, fs_type_name(fs_type(st->st_mode)));
    lua_setfield(L, -2, "type");
    char mode[8];
    (void)snprintf(mode, sizeof mode, "%03o", (unsigned)st->st_mode & 07777);
    lua_pushstring(L, mode);
    lua_setfield(L, -2, "mode");
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        lua_pushinteger(L, numbers[i].value);
        lua_setfield(L, -2, numbers[i].name);
    }
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        lua_pushnumber(L,
                       (lua_Number)times[i].time.tv_sec + (lua_Number)times[i].time.tv_nsec * 1e-9);
        lua_setfield(L, -2, times[i].name);
    }
    if (S_ISLNK(st->st_mode)) {
        lua_pushlstring(L, res->data.data, res->data.len);
        lua_setfield(L, -2, "target");
    }
}

/* list() -> { { name, type }, ... } */
static void push_list(lua_State *L, const struct fs_result *res)
{
    const char *at = res->data.data;
    lua_createtable(L, (int)res->count, 0);
    for (size_t i = 1; i <= res->count; i++) {
        size_t len = strlen(at + 1);
        lua_createtable(L, 0, 2);
        lua_pushlstring(L, at + 1, len);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, fs_type_name(at[0]));
        lua_setfield(L, -2, "type");
        lua_rawseti(L, -2, (lua_Integer)i);
        at += len + 2;
    }
}

/* glob() -> { path, ... } */
static void push_paths(lua_State *L, const struct fs_result *res)
{
    const char *at = res->data.data;
    lua_createtable(L, (int)res->count, 0);
    for (size_t i = 1; i <= res->count; i++) {
        size_t len = strlen(at);
        lua_pushlstring(L, at, len);
        lua_rawseti(L, -2, (lua_Integer)i);
        at += len + 1;
    }
}

static void push_result(lua_State *L, struct file_op *file, const struct fs_result *res)
{
    switch (file->verb) {
    case FS_STAT:
        push_stat(L, res);
        break;
    case FS_LIST:
        push_list(L, res);
        break;
    case FS_GLOB:
        push_paths(L, res);
        break;
    case FS_READ:
    case FS_READLINK:
    case FS_REALPATH:
    case FS_TEMP:
        lua_pushlstring(L, res->data.data ? res->data.data : "", res->data.len);
        fs_keep(file->req);
        break;
    default:
        lua_pushboolean(L, 1);
        break;
    }
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
    } else {
        push_result(L, file, res);
    }
    file_release(file); // not left to the collector, which does not see this memory
    return pushed;
}

static struct file_op *push_op(lua_State *L, enum fs_verb verb)
{
    task_check(L);
    struct file_op *file = lua_newuserdatauv(L, sizeof(*file), 0);
    *file = (struct file_op){.op = {.cancel = file_cancel, .finish = file_finish}, .verb = verb};
    luaL_setmetatable(L, FILE_TYPE);
    return file;
}

/* read(path, max) -> text | nil, err */
static int l_read(lua_State *L)
{
    const char *path = bind_check_text(L, 1);
    lua_Integer max = luaL_checkinteger(L, 2);
    luaL_argcheck(L, max > 0 && max < INT64_MAX, 2, "expected a number of bytes");
    struct file_op *file = push_op(L, FS_READ);
    file->req = fs_read(runtime_loop(runtime_of(L)), path, (size_t)max, file_done, file);
    return task_wait(L, &file->op);
}

/* Permissions, -1 when there are none at `arg`. */
static int check_mode(lua_State *L, int arg)
{
    lua_Integer mode = luaL_optinteger(L, arg, -1);
    luaL_argcheck(L, mode >= -1 && mode <= 07777, arg, "expected permissions");
    return (int)mode;
}

/* write(path, data, append, sync, mode | nil, in_place) -> true | nil, err */
static int l_write(lua_State *L)
{
    const char *path = bind_check_text(L, 1);
    size_t len;
    const char *data = luaL_checklstring(L, 2, &len);
    struct fs_write_options options = {
        .append = lua_toboolean(L, 3),
        .sync = lua_toboolean(L, 4),
        .mode = check_mode(L, 5),
        .in_place = lua_toboolean(L, 6),
    };
    struct file_op *file = push_op(L, FS_WRITE);
    file->req = fs_write(runtime_loop(runtime_of(L)), path, data, len, &options, file_done, file);
    return task_wait(L, &file->op);
}

static int start(lua_State *L, const struct fs_command *command)
{
    struct file_op *file = push_op(L, command->verb);
    file->req = fs_start(runtime_loop(runtime_of(L)), command, file_done, file);
    return task_wait(L, &file->op);
}

static size_t check_max(lua_State *L, int arg)
{
    lua_Integer max = luaL_checkinteger(L, arg);
    luaL_argcheck(L, max > 0 && max <= INT32_MAX, arg, "expected a number of names");
    return (size_t)max;
}

/* stat(path, follow) -> { type, size, mode, mtime, ... } | nil, err */
static int l_stat(lua_State *L)
{
    struct fs_command command = {
        .verb = FS_STAT, .path = bind_check_text(L, 1), .follow = lua_toboolean(L, 2)};
    return start(L, &command);
}

/* list(path, all, max) -> { { name, type }, ... } | nil, err */
static int l_list(lua_State *L)
{
    struct fs_command command = {.verb = FS_LIST,
                                 .path = bind_check_text(L, 1),
                                 .all = lua_toboolean(L, 2),
                                 .max = check_max(L, 3)};
    return start(L, &command);
}

/* glob(pattern, max) -> { path, ... } | nil, err */
static int l_glob(lua_State *L)
{
    struct fs_command command = {
        .verb = FS_GLOB, .path = bind_check_text(L, 1), .max = check_max(L, 2)};
    return start(L, &command);
}

/* mkdir(path, parents, mode | nil) -> true | nil, err */
static int l_mkdir(lua_State *L)
{
    struct fs_command command = {.verb = FS_MKDIR,
                                 .path = bind_check_text(L, 1),
                                 .parents = lua_toboolean(L, 2),
                                 .mode = check_mode(L, 3)};
    return start(L, &command);
}

/* remove(path, recursive) -> true | nil, err */
static int l_remove(lua_State *L)
{
    struct fs_command command = {
        .verb = FS_REMOVE, .path = bind_check_text(L, 1), .recursive = lua_toboolean(L, 2)};
    return start(L, &command);
}

/* chmod(path, mode) -> true | nil, err */
static int l_chmod(lua_State *L)
{
    struct fs_command command = {.verb = FS_CHMOD, .path = bind_check_text(L, 1)};
    command.mode = check_mode(L, 2);
    luaL_argcheck(L, command.mode >= 0, 2, "expected permissions");
    return start(L, &command);
}

/* temp(dir, suffix, mode, directory) -> path | nil, err */
static int l_temp(lua_State *L)
{
    struct fs_command command = {.verb = FS_TEMP,
                                 .path = bind_check_text(L, 1),
                                 .other = bind_check_text(L, 2),
                                 .mode = check_mode(L, 3),
                                 .directory = lua_toboolean(L, 4)};
    luaL_argcheck(L, command.mode >= 0, 3, "expected permissions");
    luaL_argcheck(L, strchr(command.other, '/') == NULL, 2, "expected an ending without a slash");
    return start(L, &command);
}

static int start_on_two(lua_State *L, enum fs_verb verb)
{
    struct fs_command command = {
        .verb = verb, .path = bind_check_text(L, 1), .other = bind_check_text(L, 2)};
    return start(L, &command);
}

/* rename(from, to), copy(from, to), link(file, name), symlink(target, name) -> true | nil, err */
static int l_rename(lua_State *L)
{
    return start_on_two(L, FS_RENAME);
}

static int l_copy(lua_State *L)
{
    return start_on_two(L, FS_COPY);
}

static int l_link(lua_State *L)
{
    return start_on_two(L, FS_LINK);
}

static int l_symlink(lua_State *L)
{
    return start_on_two(L, FS_SYMLINK);
}

/* readlink(path), realpath(path) -> path | nil, err */
static int l_readlink(lua_State *L)
{
    struct fs_command command = {.verb = FS_READLINK, .path = bind_check_text(L, 1)};
    return start(L, &command);
}

static int l_realpath(lua_State *L)
{
    struct fs_command command = {.verb = FS_REALPATH, .path = bind_check_text(L, 1)};
    return start(L, &command);
}

/* discard(path, recursive): removes a file or a tree, behind the back of the caller, who does not
 * wait: for temporary files of tasks that may not wait any more */
static int l_discard(lua_State *L)
{
    const char *path = bind_check_text(L, 1);
    struct runtime *rt = runtime_of(L);
    fs_discard(runtime_loop(rt), path, lua_toboolean(L, 2), rt->closing);
    return 0;
}

int luaopen_lash_core_fs(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"chmod", l_chmod},       {"copy", l_copy},       {"discard", l_discard},
        {"glob", l_glob},         {"link", l_link},       {"list", l_list},
        {"mkdir", l_mkdir},       {"read", l_read},       {"readlink", l_readlink},
        {"realpath", l_realpath}, {"remove", l_remove},   {"rename", l_rename},
        {"stat", l_stat},         {"symlink", l_symlink}, {"temp", l_temp},
        {"write", l_write},       {NULL, NULL},
    };
    bind_type_gc(L, FILE_TYPE, file_gc);
    luaL_newlib(L, functions);
    return 1;
}
