/*
 * lash.core.editor: the line editor as Lua sees it. A task reads a line, all others go on.
 */
#include "base/base.h"

#include "shell/shell.h"

#include "bind/bind.h"
#include "bind/stream.h"
#include "bind/type.h"
#include "engine/interrupt.h"
#include "engine/task.h"
#include "shell/above.h"
#include "shell/editor.h"
#include "shell/readline_dl.h"
#include "shell/screen.h"
#include "shell/tty.h"

#include <dirent.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define READ_TYPE "lash.editor.read"
#define LISTING_TYPE "lash.editor.listing"

enum { FILES_MAX = 10000 };

static const char completer_key; /* registry: the function of completer() */

struct read_op {
    struct op op;
    bool active;
};

static struct read_op *reader; /* borrowed: the one that reads */
static lua_State *feeding;     /* borrowed: whose keys are being taken */

static void stop(struct read_op *read, const char *mark)
{
    if (read->active) {
        read->active = false;
        reader = NULL;
        editor_end(mark);
    }
}

static void read_cancel(struct op *op)
{
    stop((struct read_op *)op, interrupt_signal() == 0 ? "^C" : NULL);
}

static int read_gc(lua_State *L)
{
    struct read_op *read = luaL_checkudata(L, 1, READ_TYPE);
    stop(read, NULL);
    op_gone(&read->op);
    return 0;
}

static void on_key(void *arg)
{
    struct read_op *read = arg;
    op_done(&read->op);
}

static int push_line(lua_State *L)
{
    lua_pushstring(L, lua_touserdata(L, 1));
    return 1;
}

static int read_finish(lua_State *L, struct op *op)
{
    struct read_op *read = (struct read_op *)op;
    char *line;
    lua_settop(L, op->index);
    feeding = L;
    enum editor_result result = editor_feed(&line);
    feeding = NULL;
    if (result == EDITOR_MORE) {
        read->op.done = false;
        return task_wait(L, &read->op);
    }
    read->active = false;
    reader = NULL;
    if (result == EDITOR_END) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushcfunction(L, push_line);
    lua_pushlightuserdata(L, line);
    int status = lua_pcall(L, 1, 1, 0);
    free(line);
    return status == LUA_OK ? 1 : lua_error(L);
}

/* read(prompt) -> what was typed, without line end | nil at Ctrl-D or when the terminal has gone. A
 * cancel takes the line back. */
static int l_read(lua_State *L)
{
    const char *prompt = luaL_checkstring(L, 1);
    task_check(L);
    if (reader != NULL) {
        return luaL_error(L, "a line is being read already");
    }
    struct read_op *read = lua_newuserdatauv(L, sizeof(*read), 0);
    *read = (struct read_op){.op = {.cancel = read_cancel, .finish = read_finish}};
    luaL_setmetatable(L, READ_TYPE);
    editor_begin(prompt, on_key, read);
    read->active = true;
    reader = read;
    return task_wait(L, &read->op);
}

/* ---- completion ---- */

/* (list) -> its strings in C's memory: the first one is what all begin with. Light userdata or nil.
 */
static int push_matches(lua_State *L)
{
    const char *line = lua_touserdata(L, 1);
    int start = (int)lua_tointeger(L, 2);
    int end = (int)lua_tointeger(L, 3);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &completer_key);
    lua_pushstring(L, line);
    lua_pushinteger(L, start + 1);
    lua_pushinteger(L, end);
    lua_call(L, 3, 1);
    luaL_checktype(L, -1, LUA_TTABLE);
    return 1;
}

static size_t common(const char *a, const char *b)
{
    size_t n = 0;
    while (a[n] != '\0' && a[n] == b[n]) {
        n++;
    }
    return n;
}

/* The list on top, as readline wants it: it frees all of it. */
static char **matches_of(lua_State *L)
{
    size_t n = lua_rawlen(L, -1);
    char **list = xcalloc(n + 2, sizeof(*list));
    size_t count = 0, shared = SIZE_MAX;
    for (size_t i = 1; i <= n; i++) {
        if (lua_rawgeti(L, -1, (lua_Integer)i) == LUA_TSTRING) {
            list[++count] = xstrdup(lua_tostring(L, -1));
            size_t same = common(list[1], list[count]);
            shared = same < shared ? same : shared;
        }
        lua_pop(L, 1);
    }
    if (count == 0) {
        free(list);
        return NULL;
    }
    list[0] = xstrdup(list[1]);
    list[0][shared] = '\0';
    if (count == 1) { // readline's form of one match
        free(list[1]);
        list[1] = NULL;
    }
    return list;
}

static char **complete(const char *line, int start, int end, void *arg)
{
    lua_State *L = feeding;
    (void)arg;
    if (L == NULL || !lua_checkstack(L, 10)) {
        return NULL;
    }
    int top = lua_gettop(L);
    char **list = NULL;
    lua_pushcfunction(L, push_matches);
    lua_pushlightuserdata(L, (void *)(uintptr_t)line);
    lua_pushinteger(L, start);
    lua_pushinteger(L, end);
    if (lua_pcall(L, 3, 1, 0) == LUA_OK) { // a completer that fails completes nothing
        list = matches_of(L);
    }
    lua_settop(L, top);
    return list;
}

/* completer(fn): fn(line, from, to) -> list of texts that can stand in place of line:sub(from, to).
 * It must not wait. */
static int l_completer(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &completer_key);
    editor_set_completer(complete, NULL);
    return 0;
}

/* ---- the rest ---- */

struct listing {
    DIR *dir; /* owned; NULL = closed */
};

static int listing_gc(lua_State *L)
{
    struct listing *listing = luaL_checkudata(L, 1, LISTING_TYPE);
    if (listing->dir != NULL) {
        (void)closedir(listing->dir);
        listing->dir = NULL;
    }
    return 0;
}

static bool is_directory(DIR *dir, const struct dirent *entry)
{
    struct stat st;
    if (entry->d_type != DT_UNKNOWN && entry->d_type != DT_LNK) {
        return entry->d_type == DT_DIR;
    }
    return fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

/* files(directory) -> list of the names in it, those of directories with a slash; {} when it cannot
 * be read. It does not wait, as completers must not: a slow disk holds the loop. */
static int l_files(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    struct listing *listing = lua_newuserdatauv(L, sizeof(*listing), 0);
    listing->dir = NULL;
    luaL_setmetatable(L, LISTING_TYPE);
    lua_newtable(L);
    listing->dir = opendir(path);
    const struct dirent *entry;
    for (lua_Integer n = 1; n <= FILES_MAX && listing->dir != NULL;) {
        entry = readdir(listing->dir);
        if (entry == NULL) {
            break;
        } else if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            lua_pushfstring(L, "%s%s", entry->d_name, is_directory(listing->dir, entry) ? "/" : "");
            lua_rawseti(L, -2, n++);
        }
    }
    lua_pushcfunction(L, listing_gc);
    lua_pushvalue(L, -3);
    lua_call(L, 1, 0);
    return 1;
}

static void close_service(void *data)
{
    (void)data;
    editor_close();
}

/* open() -> true | nil, why no line can be edited here. Once for the program; from then on what
 * others write stands above the line. */
static int l_open(lua_State *L)
{
    struct runtime *rt = runtime_of(L);
    const char *why = editor_open(runtime_loop(rt));
    if (why != NULL) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    if (runtime_service(rt, &completer_key) == NULL) {
        runtime_set_service(rt, &completer_key, rt, close_service);
        interrupt_at_end(tty_restore);
        stream_set_above(above_write);
        stream_set_lend(editor_lend, editor_give_back);
        bind_replace_write(L);
        bind_replace_read(L);
    }
    lua_pushboolean(L, true);
    return 1;
}

/* area(text | nil): lines at the bottom of the terminal, above which others write; nil takes them
 * away. Not while a line is read. */
static int l_area(lua_State *L)
{
    const char *text = luaL_optstring(L, 1, NULL);
    if (reader != NULL) {
        return luaL_error(L, "a line is being read: there is no room for an area");
    }
    editor_area(text);
    return 0;
}

/* tail(text): a piece of a text that comes in pieces. Others write above its last line. Not while a
 * line is read. */
static int l_tail(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    if (reader != NULL) {
        return luaL_error(L, "a line is being read: there is no room for a text");
    }
    editor_tail(text, len);
    return 0;
}

/* quiet(): until the next line keys are not shown but kept for it; who reads from the terminal
 * meanwhile sees it as it was. Not while a line is read. */
static int l_quiet(lua_State *L)
{
    if (reader != NULL) {
        return luaL_error(L, "a line is being read");
    }
    editor_quiet();
    return 0;
}

/* recover(): the terminal as it was before the last line, for when a child has left it in disorder
 */
static int l_recover(lua_State *L)
{
    if (reader != NULL) {
        return luaL_error(L, "a line is being read");
    }
    editor_recover();
    return 0;
}

/* fresh_line(): to the first column, in the next row if something stands in this one. Not while a
 * line is read. */
static int l_fresh_line(lua_State *L)
{
    if (reader != NULL) {
        return luaL_error(L, "a line is being read");
    }
    screen_fresh_line();
    return 0;
}

/* add_history(entry), clear_history() */
static int l_add_history(lua_State *L)
{
    editor_add_history(luaL_checkstring(L, 1));
    return 0;
}

static int l_clear_history(lua_State *L)
{
    (void)L;
    editor_clear_history();
    return 0;
}

static int luaopen_lash_core_editor(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"open", l_open},
        {"read", l_read},
        {"area", l_area},
        {"quiet", l_quiet},
        {"recover", l_recover},
        {"fresh_line", l_fresh_line},
        {"tail", l_tail},
        {"files", l_files},
        {"completer", l_completer},
        {"add_history", l_add_history},
        {"clear_history", l_clear_history},
        {NULL, NULL},
    };
    bind_type_gc(L, READ_TYPE, read_gc);
    bind_type_gc(L, LISTING_TYPE, listing_gc);
    luaL_newlib(L, functions);
    return 1;
}

void shell_open(struct runtime *rt)
{
    lua_State *L = rt->L;
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, luaopen_lash_core_editor);
    lua_setfield(L, -2, "lash.core.editor");
    lua_pushcfunction(L, luaopen_lash_core_terminal);
    lua_setfield(L, -2, "lash.core.terminal");
    lua_pop(L, 1);
}
