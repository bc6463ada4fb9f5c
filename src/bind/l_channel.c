/*
 * lash.core.channel: queues of Lua values between the tasks of one runtime.
 *
 * A receiver that is woken does not get a value then: it takes the first one when it runs, and
 * until then the value stays in the queue, promised to nobody in particular (`promised` counts). So
 * one that is cancelled meanwhile loses nothing, and values are taken in the order of sending.
 */
#include "base/base.h"

#include "bind/bind.h"
#include "bind/type.h"
#include "engine/task.h"

#include <lauxlib.h>

#define CHANNEL_TYPE "lash.channel"
#define WAIT_TYPE "lash.channel.wait"

enum { UV_VALUES = 1, UV_CHANNEL = 1, UV_VALUE = 2 };

/* User value 1: a table of what is stored (position -> value) and of what senders wait with
 * (address of their channel_op -> value). */
struct channel {
    lua_Integer capacity;
    lua_Integer first;     /* position of the first stored value */
    lua_Integer stored;    /* their count: above the capacity only by try_send() */
    struct list senders;   /* struct channel_op.node: values that have found no room yet */
    lua_Integer sending;   /* their count */
    struct list receivers; /* struct channel_op.node: those that were not woken */
    lua_Integer promised;  /* receivers that were woken and have taken nothing yet */
    struct list woken;     /* struct channel_op.node: both kinds */
    bool closed;
};

enum wait_state { WAIT_NONE, WAIT_QUEUED, WAIT_WOKEN, WAIT_CLOSED };

/* User value 1: the channel. */
struct channel_op {
    struct op op;
    struct channel *channel; /* borrowed; NULL when it went: the debug library may take away what
                                keeps it */
    struct list node;        /* in one of the channel's lists, unless it is WAIT_NONE */
    enum wait_state state;
    bool sends;
};

static lua_Integer count_values(const struct channel *c)
{
    return c->stored + c->sending;
}

/* ---- waking: no Lua here ---- */

static void finish_wait(struct channel_op *w, enum wait_state state)
{
    list_remove(&w->node);
    list_append(&w->channel->woken, &w->node);
    w->state = state;
    op_done(&w->op);
}

static void wake_receivers(struct channel *c)
{
    while (!list_empty(&c->receivers) && (c->promised < count_values(c) || c->closed)) {
        struct channel_op *w = container_of(c->receivers.next, struct channel_op, node);
        c->promised++;
        finish_wait(w, WAIT_WOKEN);
    }
}

/* The wait is over without a result: its task was cancelled, or the userdata goes. */
static void give_up(struct op *op)
{
    struct channel_op *w = (struct channel_op *)op;
    struct channel *c = w->channel;
    enum wait_state state = w->state;
    w->state = WAIT_NONE;
    list_remove(&w->node);
    if (c == NULL) {
        return;
    }
    if (state == WAIT_QUEUED) {
        c->sending -= w->sends;
    } else if (state == WAIT_WOKEN && !w->sends) {
        c->promised--;
        wake_receivers(c); /* what it was woken for is for the next one */
    }
}

/* ---- values ---- */

static struct channel *check_channel(lua_State *L)
{
    return luaL_checkudata(L, 1, CHANNEL_TYPE);
}

/* Pushes the table of values of the channel at stack index 1; returns its index. */
static int push_values(lua_State *L)
{
    luaL_checkstack(L, 5, NULL);
    if (lua_getiuservalue(L, 1, UV_VALUES) != LUA_TTABLE) {
        luaL_error(L, "the values of the channel were taken away");
    }
    return lua_gettop(L);
}

/* With the table of values at `values`: the value that the first sender waits with becomes a stored
 * one, and the sender goes on. */
static void store_first_sender(lua_State *L, struct channel *c, int values)
{
    struct channel_op *w = container_of(c->senders.next, struct channel_op, node);
    lua_rawgetp(L, values, w);
    lua_rawseti(L, values, c->first + c->stored);
    lua_pushnil(L);
    lua_rawsetp(L, values, w);
    c->stored++;
    c->sending--;
    finish_wait(w, WAIT_WOKEN);
}

/* Pushes the first value. There must be one. */
static void take(lua_State *L, struct channel *c)
{
    int values = push_values(L);
    if (c->stored == 0) {
        store_first_sender(L, c, values);
    }
    lua_rawgeti(L, values, c->first);
    lua_pushnil(L);
    lua_rawseti(L, values, c->first);
    c->first++;
    c->stored--;
    while (c->stored < c->capacity && c->sending > 0) {
        store_first_sender(L, c, values);
    }
    lua_remove(L, values);
}

/* Stores the value at stack index 2. */
static void store(lua_State *L, struct channel *c)
{
    int values = push_values(L);
    while (c->sending > 0) { /* they came before; receivers have been woken for them */
        store_first_sender(L, c, values);
    }
    lua_pushvalue(L, 2);
    lua_rawseti(L, values, c->first + c->stored);
    c->stored++;
    lua_pop(L, 1);
    wake_receivers(c);
}

static int push_closed(lua_State *L)
{
    lua_pushnil(L);
    lua_pushliteral(L, "closed");
    return 2;
}

/* ---- waits ---- */

static int receive_finish(lua_State *L, struct op *op);
static int send_finish(lua_State *L, struct op *op);

/* For the channel at stack index 1. */
static struct channel_op *push_wait(lua_State *L, struct channel *c, bool sends)
{
    struct channel_op *w = lua_newuserdatauv(L, sizeof(*w), 1);
    *w = (struct channel_op){
        .op = {.cancel = give_up, .finish = sends ? send_finish : receive_finish, .forgo = give_up},
        .channel = c,
        .sends = sends,
    };
    list_init(&w->node);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, UV_CHANNEL);
    luaL_setmetatable(L, WAIT_TYPE);
    return w;
}

static int l_wait_gc(lua_State *L)
{
    struct channel_op *w = luaL_checkudata(L, 1, WAIT_TYPE);
    give_up(&w->op);
    (void)lua_getiuservalue(L, 1, UV_CHANNEL);
    if (w->sends && luaL_testudata(L, -1, CHANNEL_TYPE) &&
        lua_getiuservalue(L, -1, UV_VALUES) == LUA_TTABLE) {
        lua_pushnil(L);
        lua_rawsetp(L, -2, w); /* no new key: nothing is allocated */
    }
    op_gone(&w->op);
    return 0;
}

/* Takes a value, or waits for one as `w`, which is on top of the stack. */
static int receive_finish(lua_State *L, struct op *op)
{
    struct channel_op *w = (struct channel_op *)op;
    struct channel *c = w->channel;
    list_remove(&w->node);
    w->state = WAIT_NONE;
    if (c != NULL) {
        c->promised--;
    }
    if (c == NULL || luaL_testudata(L, 1, CHANNEL_TYPE) != c) {
        return luaL_error(L, "the channel was taken away");
    }
    if (count_values(c) > 0) {
        take(L, c);
        wake_receivers(c);
        return 1;
    }
    if (c->closed) {
        return push_closed(L);
    }
    /* The sender that it was woken for was cancelled: it waits on, before all others. */
    lua_pushvalue(L, op->index);
    op->done = false;
    w->state = WAIT_QUEUED;
    list_append(c->receivers.next, &w->node);
    return task_wait(L, op);
}

static int send_finish(lua_State *L, struct op *op)
{
    struct channel_op *w = (struct channel_op *)op;
    bool closed = w->state == WAIT_CLOSED;
    list_remove(&w->node);
    w->state = WAIT_NONE;
    if (closed) {
        return push_closed(L);
    }
    lua_pushboolean(L, true);
    return 1;
}

/* channel:send(value) -> true | nil, "closed" */
static int l_send(lua_State *L)
{
    struct channel *c = check_channel(L);
    lua_settop(L, 2);
    luaL_argcheck(L, !lua_isnil(L, 2), 2, "nil cannot be sent: it would look like the end");
    task_check(L);
    if (c->closed) {
        return push_closed(L);
    }
    if (c->stored < c->capacity) {
        store(L, c);
        lua_pushboolean(L, true);
        return 1;
    }
    struct channel_op *w = push_wait(L, c, true);
    int values = push_values(L);
    lua_pushvalue(L, 2);
    lua_rawsetp(L, values, w);
    lua_pop(L, 1);
    w->state = WAIT_QUEUED;
    c->sending++;
    list_append(&c->senders, &w->node);
    wake_receivers(c);
    return task_wait(L, &w->op);
}

/* channel:receive() -> value | nil, "closed" */
static int l_receive(lua_State *L)
{
    struct channel *c = check_channel(L);
    lua_settop(L, 1);
    task_check(L);
    if (count_values(c) > c->promised) {
        take(L, c);
        return 1;
    }
    if (c->closed && count_values(c) == 0) {
        return push_closed(L);
    }
    struct channel_op *w = push_wait(L, c, false);
    w->state = WAIT_QUEUED;
    list_append(&c->receivers, &w->node);
    return task_wait(L, &w->op);
}

/* channel:try_send(value) -> true | nil, "full" | nil, "closed" */
static int l_try_send(lua_State *L)
{
    struct channel *c = check_channel(L);
    lua_settop(L, 2);
    luaL_argcheck(L, !lua_isnil(L, 2), 2, "nil cannot be sent: it would look like the end");
    if (c->closed) {
        return push_closed(L);
    }
    if (c->stored >= c->capacity && list_empty(&c->receivers)) {
        lua_pushnil(L);
        lua_pushliteral(L, "full");
        return 2;
    }
    store(L, c);
    lua_pushboolean(L, true);
    return 1;
}

/* channel:try_receive() -> value | nil, "empty" | nil, "closed" */
static int l_try_receive(lua_State *L)
{
    struct channel *c = check_channel(L);
    lua_settop(L, 1);
    if (count_values(c) > c->promised) {
        take(L, c);
        return 1;
    }
    if (c->closed && count_values(c) == 0) {
        return push_closed(L);
    }
    lua_pushnil(L);
    lua_pushliteral(L, "empty");
    return 2;
}

/* channel:close(): nothing more can be sent; what is stored can still be received. Senders that
 * wait are told that their values did not get in. */
static int l_close(lua_State *L)
{
    struct channel *c = check_channel(L);
    c->closed = true;
    while (!list_empty(&c->senders)) {
        c->sending--;
        finish_wait(container_of(c->senders.next, struct channel_op, node), WAIT_CLOSED);
    }
    wake_receivers(c);
    return 0;
}

static void forget_waits(struct list *waits)
{
    struct list *node;
    while ((node = list_take(waits)) != NULL) {
        container_of(node, struct channel_op, node)->channel = NULL;
    }
}

/* Who waits keeps the channel: only the debug library brings it here with somebody waiting. */
static int l_channel_gc(lua_State *L)
{
    struct channel *c = check_channel(L);
    forget_waits(&c->senders);
    forget_waits(&c->receivers);
    forget_waits(&c->woken);
    c->sending = c->promised = 0;
    c->closed = true;
    return 0;
}

/* for value in channel:values() do */
static int l_values(lua_State *L)
{
    check_channel(L);
    lua_pushcfunction(L, l_receive);
    lua_pushvalue(L, 1);
    return 2;
}

/* #channel: values that can be received at once */
static int l_len(lua_State *L)
{
    struct channel *c = check_channel(L);
    lua_pushinteger(L, count_values(c));
    return 1;
}

/* channel([capacity]) -> channel */
static int l_channel(lua_State *L)
{
    lua_Integer capacity = luaL_optinteger(L, 1, 0);
    luaL_argcheck(L, capacity >= 0, 1, "a capacity is 0 (senders wait for receivers) or more");
    struct channel *c = lua_newuserdatauv(L, sizeof(*c), 1);
    *c = (struct channel){.capacity = capacity, .first = 1};
    list_init(&c->senders);
    list_init(&c->receivers);
    list_init(&c->woken);
    lua_newtable(L);
    lua_setiuservalue(L, -2, UV_VALUES);
    luaL_setmetatable(L, CHANNEL_TYPE);
    return 1;
}

int luaopen_lash_core_channel(lua_State *L)
{
    static const luaL_Reg methods[] = {{"send", l_send},         {"receive", l_receive},
                                       {"try_send", l_try_send}, {"try_receive", l_try_receive},
                                       {"close", l_close},       {"values", l_values},
                                       {"__len", l_len},         {"__close", l_close},
                                       {"__gc", l_channel_gc},   {NULL, NULL}};
    static const luaL_Reg functions[] = {{"channel", l_channel}, {NULL, NULL}};
    bind_type_gc(L, WAIT_TYPE, l_wait_gc);
    bind_type_push(L, CHANNEL_TYPE, methods);
    bind_type_hide(L, CHANNEL_TYPE,
                   "a channel joins tasks, not threads: pass values as arguments and results, or "
                   "through lash.shared");
    luaL_newlib(L, functions);
    return 1;
}
