/*
 * lash.core.fs.watch: watchers of files and directories. A watcher is a userdata; opening it and
 * each event are waits. lua/lash/fs/watch.lua is the face that users see.
 */
#include "base/base.h"
#include "base/list.h"

#include "bind/bind.h"
#include "bind/fail.h"
#include "bind/type.h"
#include "engine/task.h"
#include "io/fs_watch.h"

#include <lauxlib.h>
#include <stdlib.h>

#define WATCHER_TYPE "lash.fs.watcher"
#define WAIT_TYPE "lash.fs.watching"

struct watcher {
    struct fs_watch *watch; /* owned; NULL when it is closed */
    struct list waits;      /* struct wait_op.node */
    struct list node;       /* in service_watchers while it is open */
};

/* All open watchers of a runtime: they do not outlive its loop. */
struct service_watchers {
    struct list watchers;
};

static const char service_key;

/* User value 1 is the watcher, so it outlives this. */
struct wait_op {
    struct op op;
    struct watcher *watcher; /* borrowed */
    struct list node;
    bool opens;
};

static void update_alive(struct watcher *w)
{
    if (w->watch != NULL) {
        fs_watch_keep_alive(w->watch, !list_empty(&w->waits));
    }
}

/* All that wait look themselves: the first ones take what there is, the others wait again. */
static void wake_all(struct watcher *w)
{
    for (struct list *node; (node = list_take(&w->waits)) != NULL;) {
        op_done(&container_of(node, struct wait_op, node)->op);
    }
    update_alive(w);
}

static void on_wake(struct fs_watch *watch, void *arg)
{
    (void)watch;
    wake_all(arg);
}

static void watcher_close(struct watcher *w)
{
    list_remove(&w->node);
    fs_watch_free(w->watch);
    w->watch = NULL;
    wake_all(w);
}

static void close_service(void *data)
{
    struct service_watchers *s = data;
    for (struct list *node; (node = list_take(&s->watchers)) != NULL;) {
        watcher_close(container_of(node, struct watcher, node));
    }
    free(s);
}

static struct service_watchers *service(struct runtime *rt)
{
    struct service_watchers *s = runtime_service(rt, &service_key);
    if (s == NULL) {
        s = xcalloc(1, sizeof(*s));
        list_init(&s->watchers);
        runtime_set_service(rt, &service_key, s, close_service);
    }
    return s;
}

static int l_close(lua_State *L)
{
    watcher_close(luaL_checkudata(L, 1, WATCHER_TYPE));
    return 0;
}

/* -- waits ------------------------------------------------------------------------------------- */

static void wait_cancel(struct op *op)
{
    struct wait_op *wait = (struct wait_op *)op;
    list_remove(&wait->node);
    if (wait->opens) {
        watcher_close(wait->watcher);
    }
    update_alive(wait->watcher);
}

static int wait_gc(lua_State *L)
{
    struct wait_op *wait = luaL_checkudata(L, 1, WAIT_TYPE);
    list_remove(&wait->node); // at the end of the state the watcher may be gone: not looked at
    op_gone(&wait->op);
    return 0;
}

static int push_failure(lua_State *L, const struct fs_watch *watch)
{
    return bind_fail(L, fs_watch_code(watch), fs_watch_message(watch));
}

/* Pushes path, name (or nil), kind; the event's name is freed. */
static int push_event(lua_State *L, const struct fs_watch *watch, struct fs_event *event)
{
    static const char *const kinds[] = {[FS_EVENT_CHANGE] = "change",
                                        [FS_EVENT_RENAME] = "rename",
                                        [FS_EVENT_OVERFLOW] = "overflow"};
    const char *path = fs_watch_path(watch);
    const char *name = event->name;
    // nothing here is more than a few times PATH_MAX: out of memory loses an event, and the task
    if (name != NULL && fs_watch_is_directory(watch)) {
        lua_pushfstring(L, "%s%s%s", path, path[0] == '/' && path[1] == '\0' ? "" : "/", name);
    } else {
        lua_pushstring(L, path);
    }
    lua_pushstring(L, name);
    lua_pushstring(L, kinds[event->kind]);
    free(event->name);
    return 3;
}

static int wait_on(lua_State *L, struct wait_op *wait)
{
    struct watcher *w = wait->watcher;
    wait->op.done = false;
    list_append(&w->waits, &wait->node);
    update_alive(w);
    return task_wait(L, &wait->op);
}

static int wait_finish(lua_State *L, struct op *op)
{
    struct wait_op *wait = (struct wait_op *)op;
    struct watcher *w = wait->watcher;
    struct fs_event event;
    luaL_checkstack(L, 8, NULL);
    if (w->watch == NULL) {
        return 0; // closed meanwhile
    }
    if (wait->opens) {
        if (fs_watch_code(w->watch) != NULL) {
            int pushed = push_failure(L, w->watch);
            watcher_close(w);
            return pushed;
        }
        lua_getiuservalue(L, op->index, 1);
        return 1;
    }
    if (fs_watch_take(w->watch, &event)) {
        return push_event(L, w->watch, &event);
    }
    if (fs_watch_is_over(w->watch)) {
        return fs_watch_code(w->watch) != NULL ? push_failure(L, w->watch) : 0;
    }
    lua_settop(L, op->index);
    return wait_on(L, wait);
}

/* Pushes the op of a wait for the watcher at `index`. */
static struct wait_op *push_wait(lua_State *L, int index, bool opens)
{
    struct watcher *w = luaL_checkudata(L, index, WATCHER_TYPE);
    struct wait_op *wait = lua_newuserdatauv(L, sizeof(*wait), 1);
    *wait = (struct wait_op){
        .op = {.cancel = wait_cancel, .finish = wait_finish}, .watcher = w, .opens = opens};
    list_init(&wait->node);
    luaL_setmetatable(L, WAIT_TYPE);
    lua_pushvalue(L, index);
    lua_setiuservalue(L, -2, 1);
    return wait;
}

/* watch(path, recursive) -> watcher | nil, err */
static int l_watch(lua_State *L)
{
    const char *path = bind_check_text(L, 1);
    bool recursive = lua_toboolean(L, 2);
    task_check(L);
    lua_settop(L, 2);
    struct watcher *w = lua_newuserdatauv(L, sizeof(*w), 0);
    *w = (struct watcher){.watch = NULL};
    list_init(&w->waits);
    list_init(&w->node);
    luaL_setmetatable(L, WATCHER_TYPE);
    struct wait_op *wait = push_wait(L, 3, true);
    list_append(&service(runtime_of(L))->watchers, &w->node);
    w->watch = fs_watch_start(runtime_loop(runtime_of(L)), path, recursive, on_wake, w);
    return wait_on(L, wait);
}

/* next(watcher) -> path, name | nil, kind; nothing when it is closed, or nothing comes any more;
 * nil, err when it cannot go on */
static int l_next(lua_State *L)
{
    struct watcher *w = luaL_checkudata(L, 1, WATCHER_TYPE);
    task_check(L);
    lua_settop(L, 1);
    struct wait_op *wait = push_wait(L, 1, false);
    if (w->watch == NULL) {
        return 0;
    }
    wait->op.index = lua_gettop(L);
    return wait_finish(L, &wait->op);
}

int luaopen_lash_core_fs_watch(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"close", l_close}, {"next", l_next}, {"watch", l_watch}, {NULL, NULL}};
    bind_type_gc(L, WAIT_TYPE, wait_gc);
    bind_type_gc(L, WATCHER_TYPE, l_close);
    luaL_newlib(L, functions);
    return 1;
}
