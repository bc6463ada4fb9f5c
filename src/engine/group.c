/*
 * Groups: tasks that begin and end together; and the ops that wait for the end of a task or a
 * group.
 */
#include "base/base.h"

#include "engine/task.h"
#include "engine/task_int.h"

#include <lauxlib.h>

#define JOIN_TYPE "lash.join"

void group_init(struct group *g, struct runtime *rt, struct task *owner)
{
    *g = (struct group){.rt = rt, .owner = owner};
    list_init(&g->children);
    list_init(&g->waiters);
    list_init(&g->of_user);
}

void group_cancel(struct group *g, enum cancel_reason reason)
{
    if (g->cancel == CANCEL_NONE) {
        g->cancel = reason;
    }
    /* A child leaves the list when it is done, never inside task_cancel(). */
    for (struct list *n = g->children.next; n != &g->children; n = n->next) {
        task_cancel(container_of(n, struct task, sibling), reason);
    }
}

bool task_has_children(const struct task *t)
{
    return t->own.live > 0 || !list_empty(&t->groups);
}

void task_cancel_children(struct task *t)
{
    group_cancel(&t->own, CANCEL_PARENT);
    for (struct list *n = t->groups.next; n != &t->groups; n = n->next) {
        group_cancel(container_of(n, struct group, of_user), CANCEL_PARENT);
    }
}

struct join_op {
    struct op op;
    struct list node;    /* in task.waiters or group.waiters */
    struct group *group; /* borrowed: its userdata is on the waiter's stack; NULL for a task */
};

void group_finish_joins(struct list *waiters)
{
    struct list *node;
    while ((node = list_take(waiters)) != NULL) {
        op_done(&container_of(node, struct join_op, node)->op);
    }
}

struct task *group_child_done(struct group *g, struct task *t)
{
    list_remove(&t->sibling);
    g->live--;
    if (t->failed && g->fail_fast) {
        group_cancel(g, CANCEL_SIBLING);
    }
    if (g->live > 0) {
        return NULL;
    }
    struct task *parent = g->owner != NULL ? g->owner : g->user;
    g->user = NULL;
    list_remove(&g->of_user);
    group_finish_joins(&g->waiters);
    anchors_drop(&g->rt->anchors, g->rt->L, g->anchor);
    g->anchor = 0;
    bool over = parent != NULL && parent->state == TASK_ENDING && !task_has_children(parent);
    return over ? parent : NULL;
}

static void join_cancel(struct op *op)
{
    struct join_op *join = (struct join_op *)op;
    if (join->group != NULL) {
        group_cancel(join->group, CANCEL_PARENT);
    } else {
        list_remove(&join->node);
    }
}

static int join_finish(lua_State *L, struct op *op)
{
    (void)op;
    lua_pushboolean(L, true);
    return 1;
}

static int join_gc(lua_State *L)
{
    struct join_op *join = runtime_userdata(L, 1, runtime_of(L)->join_type, JOIN_TYPE);
    list_remove(&join->node);
    op_gone(&join->op);
    return 0;
}

static struct join_op *push_join(lua_State *L)
{
    struct join_op *join = lua_newuserdatauv(L, sizeof(*join), 0);
    *join = (struct join_op){.op = {.cancel = join_cancel, .finish = join_finish}};
    list_init(&join->node);
    lua_rawgeti(L, LUA_REGISTRYINDEX, runtime_of(L)->join_type);
    lua_setmetatable(L, -2);
    return join;
}

struct op *task_push_join(lua_State *L, struct task *t)
{
    struct join_op *join = push_join(L);
    if (t->state == TASK_DONE) {
        join->op.done = true;
    } else {
        list_append(&t->waiters, &join->node);
    }
    return &join->op;
}

struct op *group_push_join(lua_State *L, struct group *g)
{
    struct join_op *join = push_join(L);
    join->group = g;
    join->op.lingers = true;
    if (g->live == 0) {
        join->op.done = true;
    } else {
        list_append(&g->waiters, &join->node);
    }
    return &join->op;
}

struct group *group_joined(const struct op *op)
{
    return op != NULL && op->cancel == join_cancel ? ((const struct join_op *)op)->group : NULL;
}

void group_open(lua_State *L)
{
    luaL_newmetatable(L, JOIN_TYPE);
    lua_pushcfunction(L, join_gc);
    lua_setfield(L, -2, "__gc");
    runtime_of(L)->join_type = luaL_ref(L, LUA_REGISTRYINDEX);
}
