/*
 * lash.core.shared: the tables that the whole process shares (engine/shared.h), by their names.
 * lua/lash/shared.lua checks arguments and makes lash.shared of it.
 */
#include "base/base.h"

#include "bind/bind.h"
#include "bind/fail.h"
#include "bind/type.h"
#include "engine/shared.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS_TYPE "lash.shared.keys"

static struct shared_key check_key(lua_State *L)
{
    struct shared_key key = {.table = luaL_checkstring(L, 1)};
    key.data = luaL_checklstring(L, 2, &key.len);
    return key;
}

static struct shared_value check_value(lua_State *L, int index)
{
    struct shared_value v = {.type = SHARED_NONE};
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        break;
    case LUA_TBOOLEAN:
        v.type = SHARED_BOOLEAN;
        v.boolean = lua_toboolean(L, index);
        break;
    case LUA_TNUMBER:
        if (lua_isinteger(L, index)) {
            v.type = SHARED_INTEGER;
            v.integer = lua_tointeger(L, index);
        } else {
            v.type = SHARED_FLOAT;
            v.number = lua_tonumber(L, index);
        }
        break;
    case LUA_TSTRING:
        v.type = SHARED_STRING;
        v.text.data = lua_tolstring(L, index, &v.text.len);
        break;
    default:
        luaL_argerror(L, index, "this cannot be stored");
    }
    return v;
}

/* Seconds, or nil for ever. */
static uint64_t check_life(lua_State *L, int index)
{
    if (lua_isnoneornil(L, index)) {
        return 0;
    }
    lua_Number seconds = luaL_checknumber(L, index);
    luaL_argcheck(L, seconds > 0 && seconds <= 1e9, index, "seconds above 0");
    uint64_t ns = (uint64_t)(seconds * 1e9);
    return ns > 0 ? ns : 1;
}

/* Of a string: its text is in the buffer that is on top. */
static void push_value(lua_State *L, const struct shared_value *v)
{
    switch (v->type) {
    case SHARED_BOOLEAN:
        lua_pushboolean(L, v->boolean);
        break;
    case SHARED_INTEGER:
        lua_pushinteger(L, v->integer);
        break;
    case SHARED_FLOAT:
        lua_pushnumber(L, v->number);
        break;
    case SHARED_STRING:
        lua_pushlstring(L, v->text.data, v->text.len);
        break;
    default:
        lua_pushnil(L);
    }
}

static int push_failure(lua_State *L, const struct shared_key *key, enum shared_status status)
{
    char text[512];
    if (status == SHARED_FULL) {
        snprintf(
            text, sizeof(text),
            "lash.shared '%.255s': no room: all tables together hold %zu of at most %zu bytes; "
            "delete entries, give them a ttl, or raise lash.shared.limit",
            key->table, shared_used(), shared_limit());
        return bind_fail(L, "ENOSPC", text);
    }
    if (status == SHARED_OVERFLOW) {
        snprintf(text, sizeof(text),
                 "lash.shared '%.255s': the sum is no 64-bit integer; the entry is unchanged",
                 key->table);
        return bind_fail(L, "ERANGE", text);
    }
    snprintf(text, sizeof(text),
             "lash.shared '%.255s': the entry is no number: only numbers can be counted up",
             key->table);
    return bind_fail(L, "EINVAL", text);
}

/* true | false | nil, err */
static int push_status(lua_State *L, const struct shared_key *key, enum shared_status status)
{
    if (status != SHARED_OK && status != SHARED_DIFFERS) {
        return push_failure(L, key, status);
    }
    lua_pushboolean(L, status == SHARED_OK);
    return 1;
}

/* get(table, key) -> value or nil */
static int l_get(lua_State *L)
{
    struct shared_key key = check_key(L);
    char few[256];
    char *room = few;
    size_t size = sizeof(few);
    struct shared_value value;
    while ((value = shared_get(key, room, size)).type == SHARED_STRING && value.text.len > size) {
        size = value.text.len; /* it may have changed when we come back */
        lua_settop(L, 2);
        room = lua_newuserdatauv(L, size, 0);
    }
    push_value(L, &value);
    return 1;
}

/* set(table, key, value, life) -> true | nil, err */
static int l_set(lua_State *L)
{
    struct shared_key key = check_key(L);
    struct shared_value value = check_value(L, 3);
    return push_status(L, &key, shared_set(key, value, check_life(L, 4)));
}

/* add(table, key, value, life) -> true | false when it is there | nil, err */
static int l_add(lua_State *L)
{
    struct shared_key key = check_key(L);
    struct shared_value value = check_value(L, 3);
    return push_status(L, &key, shared_add(key, value, check_life(L, 4)));
}

/* swap(table, key, expected, value, life) -> true | false | nil, err */
static int l_swap(lua_State *L)
{
    struct shared_key key = check_key(L);
    struct shared_value expected = check_value(L, 3);
    struct shared_value value = check_value(L, 4);
    return push_status(L, &key, shared_swap(key, expected, value, check_life(L, 5)));
}

/* incr(table, key, by, initial, life) -> sum | nil, err */
static int l_incr(lua_State *L)
{
    struct shared_key key = check_key(L);
    luaL_checktype(L, 3, LUA_TNUMBER);
    luaL_checktype(L, 4, LUA_TNUMBER);
    struct shared_value by = check_value(L, 3);
    struct shared_value initial = check_value(L, 4);
    struct shared_value sum;
    enum shared_status status = shared_incr(key, by, initial, check_life(L, 5), &sum);
    if (status != SHARED_OK) {
        return push_failure(L, &key, status);
    }
    push_value(L, &sum);
    return 1;
}

/* delete(table, key) -> whether it was there */
static int l_delete(lua_State *L)
{
    lua_pushboolean(L, shared_delete(check_key(L)));
    return 1;
}

static int l_clear(lua_State *L)
{
    shared_clear(luaL_checkstring(L, 1));
    return 0;
}

static int l_size(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)shared_size(luaL_checkstring(L, 1)));
    return 1;
}

/* ---- keys ---- */

struct key_ref {
    const char *data;
    size_t len;
};

/* Owns what the listing needs while Lua may raise. */
struct keys {
    struct buf bytes;
    struct key_ref *refs;
};

static int l_keys_gc(lua_State *L)
{
    struct keys *keys = luaL_checkudata(L, 1, KEYS_TYPE);
    buf_release(&keys->bytes);
    free(keys->refs);
    keys->refs = NULL;
    return 0;
}

static int compare_keys(const void *a, const void *b)
{
    const struct key_ref *x = a, *y = b;
    int order = memcmp(x->data, y->data, x->len < y->len ? x->len : y->len);
    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

/* keys(table) -> the keys at one moment, sorted by their bytes */
static int l_keys(lua_State *L)
{
    const char *table = luaL_checkstring(L, 1);
    struct keys *keys = lua_newuserdatauv(L, sizeof(*keys), 0);
    *keys = (struct keys){.refs = NULL};
    buf_init(&keys->bytes);
    luaL_setmetatable(L, KEYS_TYPE);
    size_t count = shared_keys(table, &keys->bytes);
    keys->refs = xcalloc(count, sizeof(*keys->refs));
    const char *at = keys->bytes.data;
    for (size_t i = 0; i < count; i++) {
        struct key_ref *ref = &keys->refs[i];
        memcpy(&ref->len, at, sizeof(ref->len));
        ref->data = at + sizeof(ref->len);
        at = ref->data + ref->len;
    }
    qsort(keys->refs, count, sizeof(*keys->refs), compare_keys);
    lua_createtable(L, count < 1000000 ? (int)count : 1000000, 0);
    for (size_t i = 0; i < count; i++) {
        lua_pushlstring(L, keys->refs[i].data, keys->refs[i].len);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    buf_release(&keys->bytes);
    free(keys->refs);
    keys->refs = NULL;
    return 1;
}

/* limit([bytes]) -> bytes that all tables together may hold */
static int l_limit(lua_State *L)
{
    if (!lua_isnoneornil(L, 1)) {
        lua_Integer bytes = luaL_checkinteger(L, 1);
        luaL_argcheck(L, bytes >= 1, 1, "at least one byte");
        shared_set_limit((size_t)bytes);
    }
    lua_pushinteger(L, (lua_Integer)shared_limit());
    return 1;
}

static int l_used(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)shared_used());
    return 1;
}

int luaopen_lash_core_shared(lua_State *L)
{
    static const luaL_Reg functions[] = {{"get", l_get},     {"set", l_set},   {"add", l_add},
                                         {"swap", l_swap},   {"incr", l_incr}, {"delete", l_delete},
                                         {"clear", l_clear}, {"size", l_size}, {"keys", l_keys},
                                         {"limit", l_limit}, {"used", l_used}, {NULL, NULL}};
    bind_type_gc(L, KEYS_TYPE, l_keys_gc);
    luaL_newlib(L, functions);
    return 1;
}
