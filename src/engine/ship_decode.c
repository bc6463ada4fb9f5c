#include "base/base.h"

#include "engine/ship.h"
#include "engine/ship_int.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

struct decoder {
    lua_State *L;
    const char *at;
    const char *end;
    int memo; /* stack index: number -> object */
    int env;  /* stack index of the globals for functions */
    lua_Integer next;
    int depth;
};

NORETURN static void broken(struct decoder *d)
{
    luaL_error(d->L, "a shipped message is broken");
    abort(); /* not reached */
}

static uint64_t get_size(struct decoder *d)
{
    uint64_t n = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (d->at == d->end) {
            break;
        }
        unsigned char c = (unsigned char)*d->at++;
        n |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80) {
            return n;
        }
    }
    broken(d);
}

static const char *get_bytes(struct decoder *d, size_t *len)
{
    uint64_t n = get_size(d);
    if (n > (uint64_t)(d->end - d->at)) {
        broken(d);
    }
    const char *data = d->at;
    d->at += n;
    *len = (size_t)n;
    return data;
}

static char get_tag(struct decoder *d)
{
    if (d->at == d->end) {
        broken(d);
    }
    return *d->at++;
}

static void get_tagged(struct decoder *d, char tag);

static void get_value(struct decoder *d)
{
    get_tagged(d, get_tag(d));
}

/* Numbers the object on top, in the order in which the encoder met it. */
static void remember(struct decoder *d, lua_Integer number)
{
    lua_pushvalue(d->L, -1);
    lua_rawseti(d->L, d->memo, number);
}

static void get_table(struct decoder *d)
{
    lua_State *L = d->L;
    lua_Integer number = d->next++;
    uint64_t narray = get_size(d);
    lua_createtable(L, narray < 100000 ? (int)narray : 100000, 0);
    remember(d, number);
    for (char tag; (tag = get_tag(d)) != TAG_END;) {
        get_tagged(d, tag);
        get_value(d);
        if (lua_isnil(L, -2)) {
            broken(d);
        }
        lua_rawset(L, -3);
    }
    get_value(d);
    if (lua_istable(L, -1)) {
        lua_setmetatable(L, -2);
    } else {
        lua_pop(L, 1);
    }
}

/* Loads the module as `require` does and pushes it. */
static void get_module(struct decoder *d)
{
    lua_State *L = d->L;
    size_t len;
    const char *name = get_bytes(d, &len);
    if (len == strlen(LUA_GNAME) && memcmp(name, LUA_GNAME, len) == 0) {
        lua_pushvalue(L, d->env);
        return;
    }
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_pushlstring(L, name, len);
    lua_pushvalue(L, -1);
    if (lua_rawget(L, -3) == LUA_TNIL) { // -- loaded name nil
        lua_pop(L, 1);
        lua_rawgetp(L, LUA_REGISTRYINDEX, &ship_globals_key);
        lua_getfield(L, -1, "require");
        lua_replace(L, -2);
        lua_insert(L, -2); // -- loaded require name
        lua_call(L, 1, 1);
        lua_remove(L, -2);
        return;
    }
    lua_replace(L, -3);
    lua_pop(L, 1);
}

static void get_field(struct decoder *d)
{
    lua_State *L = d->L;
    lua_Integer number = d->next++;
    const char *at = d->at;
    size_t module_len;
    const char *module = get_bytes(d, &module_len);
    d->at = at;
    get_module(d);
    size_t len;
    const char *field = get_bytes(d, &len);
    if (!lua_istable(L, -1)) {
        lua_pushlstring(L, module, module_len);
        luaL_error(L, "module '%s' is no table in a worker", lua_tostring(L, -1));
    }
    lua_pushlstring(L, field, len);
    lua_gettable(L, -2);
    lua_remove(L, -2);
    if (lua_isnil(L, -1)) {
        lua_pushlstring(L, module, module_len);
        lua_pushlstring(L, field, len);
        luaL_error(L,
                   "module '%s' has no '%s' in a worker: it is loaded there anew, so what the "
                   "script added to it is missing",
                   lua_tostring(L, -2), lua_tostring(L, -1));
    }
    remember(d, number);
}

static void get_upvalue(struct decoder *d, int fn, int n)
{
    lua_State *L = d->L;
    if (get_tag(d) == TAG_UP_VALUE) {
        get_value(d);
        if (lua_setupvalue(L, fn, n) == NULL) {
            broken(d);
        }
        return;
    }
    uint64_t other = get_size(d);
    uint64_t m = get_size(d);
    if (lua_upvalueid(L, fn, n) == NULL) {
        broken(d);
    }
    if (lua_rawgeti(L, d->memo, (lua_Integer)other) != LUA_TFUNCTION || m > MAX_UPVALUES ||
        lua_upvalueid(L, -1, (int)m) == NULL) {
        broken(d);
    }
    lua_upvaluejoin(L, fn, n, -1, (int)m);
    lua_pop(L, 1);
}

static void get_function(struct decoder *d)
{
    lua_State *L = d->L;
    lua_Integer number = d->next++;
    size_t len;
    const char *dump = get_bytes(d, &len);
    if (luaL_loadbufferx(L, dump, len, "=shipped", "b") != LUA_OK) {
        lua_error(L);
    }
    remember(d, number);
    int fn = lua_gettop(L);
    int count = (int)get_size(d);
    /* All of them, the first above all: lua_load put the globals there, whatever it was. */
    for (int n = 1; n <= count; n++) {
        get_upvalue(d, fn, n);
    }
}

static void get_tagged(struct decoder *d, char tag)
{
    lua_State *L = d->L;
    if (++d->depth > MAX_DEPTH + 1) {
        broken(d);
    }
    luaL_checkstack(L, 12, "a shipped message is nested too deeply");
    switch (tag) {
    case TAG_NIL:
        lua_pushnil(L);
        break;
    case TAG_TRUE:
    case TAG_FALSE:
        lua_pushboolean(L, tag == TAG_TRUE);
        break;
    case TAG_INTEGER: {
        uint64_t z = get_size(d);
        lua_pushinteger(L, (lua_Integer)((z >> 1) ^ (0 - (z & 1))));
        break;
    }
    case TAG_FLOAT: {
        lua_Number n;
        if ((size_t)(d->end - d->at) < sizeof(n)) {
            broken(d);
        }
        memcpy(&n, d->at, sizeof(n));
        d->at += sizeof(n);
        lua_pushnumber(L, n);
        break;
    }
    case TAG_STRING: {
        size_t len;
        const char *s = get_bytes(d, &len);
        lua_pushlstring(L, s, len);
        break;
    }
    case TAG_NULL:
        lua_pushlightuserdata(L, NULL);
        break;
    case TAG_TABLE:
        get_table(d);
        break;
    case TAG_REF:
        lua_rawgeti(L, d->memo, (lua_Integer)get_size(d));
        break;
    case TAG_MODULE: {
        lua_Integer number = d->next++;
        get_module(d);
        remember(d, number);
        break;
    }
    case TAG_FIELD:
        get_field(d);
        break;
    case TAG_GLOBALS: {
        lua_Integer number = d->next++;
        lua_pushvalue(L, d->env);
        remember(d, number);
        break;
    }
    case TAG_FUNCTION:
        get_function(d);
        break;
    default:
        broken(d);
    }
    d->depth--;
}

int ship_decode(lua_State *L, const char *data, size_t len, int env)
{
    if (env != 0) {
        lua_pushvalue(L, env);
    } else {
        lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    }
    lua_createtable(L, USUAL_OBJECTS, 0);
    struct decoder d = {L, data, data + len, lua_gettop(L), lua_gettop(L) - 1, 1, 0};
    int base = lua_gettop(L) - 2;
    uint64_t count = get_size(&d);
    if (count > 1000000) {
        broken(&d);
    }
    luaL_checkstack(L, (int)count + 4, "too many values in a shipped message");
    for (uint64_t i = 0; i < count; i++) {
        get_value(&d);
    }
    lua_remove(L, base + 2);
    lua_remove(L, base + 1);
    return (int)count;
}
