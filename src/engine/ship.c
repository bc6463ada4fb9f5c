#include "base/base.h"

#include "engine/ship.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_DEPTH = 190, /* below Lua's own limit of nested C calls, and shallow enough for the stack */
    MAX_UPVALUES = 255,
};

enum tag {
    TAG_NIL = 'N',
    TAG_TRUE = 'T',
    TAG_FALSE = 'F',
    TAG_INTEGER = 'I',
    TAG_FLOAT = 'D',
    TAG_STRING = 'S',
    TAG_NULL = '0',     /* light userdata NULL */
    TAG_TABLE = 't',    /* pairs, TAG_END, metatable or TAG_NIL */
    TAG_END = 'e',
    TAG_REF = 'r',      /* an object that this message had before */
    TAG_MODULE = 'm',   /* name */
    TAG_FIELD = 'f',    /* module name, field name */
    TAG_GLOBALS = 'G',
    TAG_FUNCTION = 'L', /* dump, count, upvalues */
    TAG_UP_VALUE = 'u', /* a value */
    TAG_UP_JOIN = 'j',  /* index of a function of this message, number of its upvalue */
};

#define BUFFER_TYPE "lash.buffer"

static const char known_key;  /* registry: object -> "module\0field", registered by hand */
static const char globals_key; /* registry: the standard globals table of this state */

/* ---- bytes ---- */

static void put_size(struct buf *b, uint64_t n)
{
    unsigned char bytes[10];
    size_t len = 0;
    do {
        bytes[len++] = (unsigned char)((n & 0x7f) | (n > 0x7f ? 0x80 : 0));
        n >>= 7;
    } while (n > 0);
    buf_append(b, bytes, len);
}

static void put_bytes(struct buf *b, const char *data, size_t len)
{
    put_size(b, len);
    buf_append(b, data, len);
}

static int buffer_gc(lua_State *L)
{
    buf_release(luaL_checkudata(L, 1, BUFFER_TYPE));
    return 0;
}

/* ---- encode ---- */

/* Where we are, for the message about a value that cannot travel. */
struct place {
    const struct place *up;
    const char *kind; /* "upvalue", "field", "key", ... */
    const char *name; /* borrowed */
};

struct encoder {
    lua_State *L;
    struct buf *out;
    const char *what;
    bool data_only;
    int memo;     /* stack index: object -> number */
    int modules;  /* stack index: object -> "module" or "module\0field"; nil until it is needed */
    uint64_t next;
};

static void put_place(struct buf *b, const struct place *p)
{
    if (p == NULL) {
        return;
    }
    put_place(b, p->up);
    if (b->len > 0) {
        buf_append_str(b, ", ");
    }
    buf_appendf(b, p->name[0] ? "%s '%.80s'" : "%s%s", p->kind, p->name);
}

NORETURN static void refuse(struct encoder *e, const struct place *p, const char *is,
                            const char *remedy)
{
    lua_State *L = e->L;
    struct buf *b = lua_newuserdatauv(L, sizeof(*b), 0);
    buf_init(b);
    luaL_setmetatable(L, BUFFER_TYPE);
    put_place(b, p);
    lua_pushfstring(L, "%s: %s is %s, which cannot travel to a worker: %s", e->what,
                    b->len ? b->data : "the value", is, remedy);
    buf_release(b);
    lua_error(L);
    abort(); /* not reached */
}

static void put_value(struct encoder *e, int index, const struct place *p, int depth);

/* Pushes "module\0field". */
static void push_field_name(lua_State *L, const char *module, const char *field)
{
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    luaL_addlstring(&b, module, strlen(module) + 1);
    luaL_addstring(&b, field);
    luaL_pushresult(&b);
}

/* With map at `map` and on top: name module field value. First come, first named. */
static void index_field(lua_State *L, int map)
{
    bool object = lua_istable(L, -1) || lua_isfunction(L, -1) || lua_isuserdata(L, -1);
    if (lua_type(L, -2) != LUA_TSTRING || !object) {
        return;
    }
    lua_pushvalue(L, -1);
    if (lua_rawget(L, map) == LUA_TNIL) {
        lua_pushvalue(L, -2); // -- name module field value nil value
        push_field_name(L, lua_tostring(L, -6), lua_tostring(L, -4));
        lua_rawset(L, map);
    }
    lua_pop(L, 1);
}

/* object -> name for package.loaded and one level of fields. */
static void index_modules(lua_State *L)
{
    lua_newtable(L); // -- map
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_pushnil(L); // -- map loaded nil
    while (lua_next(L, -2)) {
        bool named = lua_type(L, -2) == LUA_TSTRING;
        bool object = lua_istable(L, -1) || lua_isfunction(L, -1) || lua_isuserdata(L, -1);
        if (!named || !object || strcmp(lua_tostring(L, -2), LUA_GNAME) == 0) {
            lua_pop(L, 1); /* the script's own globals are not in a worker */
            continue;
        }
        lua_pushvalue(L, -1); // -- map loaded name module module
        lua_pushvalue(L, -3);
        lua_rawset(L, -6);
        if (lua_istable(L, -1)) {
            lua_pushnil(L);
            while (lua_next(L, -2)) { // -- map loaded name module field value
                index_field(L, lua_gettop(L) - 5);
                lua_pop(L, 1);
            }
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* Pushes the name of the object at `index` if a module has it, else nothing. */
static bool push_module_name(struct encoder *e, int index, bool search)
{
    lua_State *L = e->L;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &known_key);
    lua_pushvalue(L, index);
    if (lua_rawget(L, -2) == LUA_TSTRING) {
        lua_remove(L, -2);
        return true;
    }
    lua_pop(L, 2);
    if (!search) {
        return false;
    }
    if (lua_isnil(L, e->modules)) {
        index_modules(L);
        lua_replace(L, e->modules);
    }
    lua_pushvalue(L, index);
    if (lua_rawget(L, e->modules) == LUA_TSTRING) {
        return true;
    }
    lua_pop(L, 1);
    return false;
}

/* Writes a reference when the object was met before; otherwise numbers it. */
static bool put_known(struct encoder *e, int index)
{
    lua_State *L = e->L;
    lua_pushvalue(L, index);
    if (lua_rawget(L, e->memo) == LUA_TNUMBER) {
        buf_append_char(e->out, TAG_REF);
        put_size(e->out, (uint64_t)lua_tointeger(L, -1));
        lua_pop(L, 1);
        return true;
    }
    lua_pop(L, 1);
    lua_pushvalue(L, index);
    lua_pushinteger(L, (lua_Integer)e->next++);
    lua_rawset(L, e->memo);
    return false;
}

static bool put_by_name(struct encoder *e, int index, bool search)
{
    lua_State *L = e->L;
    if (!push_module_name(e, index, search)) {
        return false;
    }
    size_t len;
    const char *name = lua_tolstring(L, -1, &len);
    size_t module_len = strlen(name);
    buf_append_char(e->out, module_len < len ? TAG_FIELD : TAG_MODULE);
    put_bytes(e->out, name, module_len);
    if (module_len < len) {
        put_bytes(e->out, name + module_len + 1, len - module_len - 1);
    }
    lua_pop(L, 1);
    return true;
}

static const char *key_name(lua_State *L, int index)
{
    if (lua_type(L, index) == LUA_TSTRING) {
        return lua_tostring(L, index);
    }
    return "";
}

static const char *key_kind(lua_State *L, int index)
{
    return lua_type(L, index) == LUA_TSTRING ? "field" : "an element of the table";
}

/* A table of plain data is not searched for in the modules; one with a metatable or functions is. */
static void put_table(struct encoder *e, int index, const struct place *p, int depth)
{
    lua_State *L = e->L;
    struct buf *out = e->out;
    if (put_known(e, index)) {
        return;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    bool globals = lua_rawequal(L, -1, index);
    lua_pop(L, 1);
    if (globals) {
        buf_append_char(out, TAG_GLOBALS);
        return;
    }
    if (put_by_name(e, index, !e->data_only)) {
        return;
    }
    buf_append_char(out, TAG_TABLE);
    put_size(out, lua_rawlen(L, index));
    lua_pushnil(L);
    while (lua_next(L, index)) {
        struct place key = {p, "the key", key_name(L, -2)};
        struct place value = {p, key_kind(L, -2), key_name(L, -2)};
        int top = lua_gettop(L);
        put_value(e, top - 1, &key, depth + 1);
        put_value(e, top, &value, depth + 1);
        lua_pop(L, 1);
    }
    buf_append_char(out, TAG_END);
    if (lua_getmetatable(L, index)) {
        struct place meta = {p, "metatable", ""};
        put_value(e, lua_gettop(L), &meta, depth + 1);
        lua_pop(L, 1);
    } else {
        buf_append_char(out, TAG_NIL);
    }
}

static int dump_writer(lua_State *L, const void *data, size_t len, void *ud)
{
    (void)L;
    buf_append(ud, data, len);
    return 0;
}

static void put_dump(struct encoder *e, int index)
{
    lua_State *L = e->L;
    struct buf *b = lua_newuserdatauv(L, sizeof(*b), 0);
    buf_init(b);
    luaL_setmetatable(L, BUFFER_TYPE);
    lua_pushvalue(L, index);
    if (lua_dump(L, dump_writer, b, 0) != 0) {
        luaL_error(L, "%s: a function could not be dumped", e->what);
    }
    put_bytes(e->out, b->data, b->len);
    buf_release(b);
    lua_pop(L, 2);
}

static void put_upvalue(struct encoder *e, int index, uint64_t number, int n,
                        const struct place *p, int depth)
{
    lua_State *L = e->L;
    lua_pushlightuserdata(L, lua_upvalueid(L, index, n));
    lua_pushvalue(L, -1);
    if (lua_rawget(L, e->memo) == LUA_TNUMBER) { /* a variable that two closures share */
        uint64_t shared = (uint64_t)lua_tointeger(L, -1);
        buf_append_char(e->out, TAG_UP_JOIN);
        put_size(e->out, shared / (MAX_UPVALUES + 1));
        put_size(e->out, shared % (MAX_UPVALUES + 1));
        lua_pop(L, 2);
        return;
    }
    lua_pop(L, 1);
    lua_pushinteger(L, (lua_Integer)(number * (MAX_UPVALUES + 1) + (unsigned)n));
    lua_rawset(L, e->memo);
    const char *name = lua_getupvalue(L, index, n);
    struct place place = {p, "the captured local", name ? name : ""};
    buf_append_char(e->out, TAG_UP_VALUE);
    put_value(e, lua_gettop(L), &place, depth + 1);
    lua_pop(L, 1);
}

static void put_function(struct encoder *e, int index, const struct place *p, int depth)
{
    lua_State *L = e->L;
    uint64_t number = e->next;
    if (put_known(e, index) || put_by_name(e, index, true)) {
        return;
    }
    if (lua_iscfunction(L, index)) {
        refuse(e, p, "a C function that belongs to no loaded module",
               "require the module that has it, and capture that");
    }
    lua_Debug ar;
    lua_pushvalue(L, index);
    lua_getinfo(L, ">u", &ar);
    buf_append_char(e->out, TAG_FUNCTION);
    put_dump(e, index);
    put_size(e->out, ar.nups);
    for (int n = 1; n <= ar.nups; n++) {
        put_upvalue(e, index, number, n, p, depth);
    }
}

NORETURN static void refuse_userdata(struct encoder *e, int index, const struct place *p)
{
    lua_State *L = e->L;
    if (luaL_testudata(L, index, LUA_FILEHANDLE)) {
        refuse(e, p, "a file handle",
               "open the file inside the function, or pass its path and use lash.fs");
    }
    const char *type = NULL;
    if (luaL_getmetafield(L, index, "__name") == LUA_TSTRING) {
        type = lua_tostring(L, -1);
    }
    if (type == NULL) {
        refuse(e, p, "userdata", "make the object inside the function, or in a module it requires");
    }
    lua_pushfstring(L, "userdata of type '%s'", type);
    refuse(e, p, lua_tostring(L, -1),
           "make the object inside the function, or in a module that it requires");
}

static void put_number(struct encoder *e, int index)
{
    if (lua_isinteger(e->L, index)) {
        lua_Integer i = lua_tointeger(e->L, index);
        buf_append_char(e->out, TAG_INTEGER);
        put_size(e->out, ((uint64_t)i << 1) ^ (uint64_t)(i >> 63));
    } else {
        lua_Number n = lua_tonumber(e->L, index);
        buf_append_char(e->out, TAG_FLOAT);
        buf_append(e->out, &n, sizeof(n));
    }
}

static void put_value(struct encoder *e, int index, const struct place *p, int depth)
{
    lua_State *L = e->L;
    if (depth > MAX_DEPTH) {
        refuse(e, NULL, "nested too deeply", "keep it below 190 levels");
    }
    luaL_checkstack(L, 16, "too deeply nested to travel");
    size_t len;
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        buf_append_char(e->out, TAG_NIL);
        break;
    case LUA_TBOOLEAN:
        buf_append_char(e->out, lua_toboolean(L, index) ? TAG_TRUE : TAG_FALSE);
        break;
    case LUA_TNUMBER:
        put_number(e, index);
        break;
    case LUA_TSTRING: {
        const char *s = lua_tolstring(L, index, &len);
        buf_append_char(e->out, TAG_STRING);
        put_bytes(e->out, s, len);
        break;
    }
    case LUA_TTABLE:
        put_table(e, index, p, depth);
        break;
    case LUA_TFUNCTION:
        put_function(e, index, p, depth);
        break;
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, index) == NULL) {
            buf_append_char(e->out, TAG_NULL);
            break;
        }
        refuse(e, p, "a light userdata", "keep pointers of C modules inside their module");
    case LUA_TTHREAD:
        refuse(e, p, "a coroutine", "create it inside the function");
    default:
        if (!put_known(e, index) && !put_by_name(e, index, true)) {
            refuse_userdata(e, index, p);
        }
    }
}

void ship_encode(lua_State *L, int count, const char *what, bool data_only)
{
    int first = lua_gettop(L) - count + 1;
    luaL_checkstack(L, 8, NULL);
    struct buf *out = lua_newuserdatauv(L, sizeof(*out), 0);
    buf_init(out);
    luaL_setmetatable(L, BUFFER_TYPE);
    lua_newtable(L);
    lua_pushnil(L);
    struct encoder e = {L, out, what, data_only, lua_gettop(L) - 1, lua_gettop(L), 1};
    put_size(out, (uint64_t)count);
    for (int i = 0; i < count; i++) {
        put_value(&e, first + i, NULL, 0);
    }
    lua_pushlstring(L, out->data, out->len);
    buf_release(out);
    lua_replace(L, first + count);
    lua_settop(L, first + count);
}

/* ---- decode ---- */

struct decoder {
    lua_State *L;
    const char *at;
    const char *end;
    int memo; /* stack index: number -> object */
    int env;  /* stack index of the globals for functions */
    lua_Integer next;
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
        lua_rawgetp(L, LUA_REGISTRYINDEX, &globals_key);
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
        luaL_error(L, "module '%s' has no '%s' in a worker: it is loaded there anew, so what the "
                      "script added to it is missing", lua_tostring(L, -2), lua_tostring(L, -1));
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
}

int ship_decode(lua_State *L, const char *data, size_t len, int env)
{
    if (env != 0) {
        lua_pushvalue(L, env);
    } else {
        lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    }
    lua_newtable(L);
    struct decoder d = {L, data, data + len, lua_gettop(L), lua_gettop(L) - 1, 1};
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

void ship_register(lua_State *L, int index, const char *module, const char *field)
{
    index = lua_absindex(L, index);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &known_key);
    lua_pushvalue(L, index);
    push_field_name(L, module, field);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* The functions that every state has among its globals travel by name. */
static void register_globals(lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        if (lua_isfunction(L, -1) && lua_type(L, -2) == LUA_TSTRING) {
            ship_register(L, -1, LUA_GNAME, lua_tostring(L, -2));
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

void ship_open(lua_State *L)
{
    luaL_newmetatable(L, BUFFER_TYPE);
    lua_pushcfunction(L, buffer_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_newtable(L);
    lua_newtable(L);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &known_key);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &globals_key);
    register_globals(L);
}
