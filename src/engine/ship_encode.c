#include "base/base.h"

#include "engine/pristine.h"
#include "engine/ship.h"
#include "engine/ship_int.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

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
    int memo;    /* stack index: object -> number */
    int modules; /* stack index: object -> "module" or "module\0field"; nil until it is needed */
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
    luaL_setmetatable(L, SHIP_BUFFER_TYPE);
    put_place(b, p);
    lua_pushfstring(L, "%s: %s is %s, which cannot travel to a worker: %s", e->what,
                    b->len ? b->data : "the value", is, remedy);
    buf_release(b);
    lua_error(L);
    abort(); /* not reached */
}

static void put_value(struct encoder *e, int index, const struct place *p, int depth);

/* Lua's own libraries have nothing in Lua: such a field was added by the script, and a worker lacks
 * it. */
static bool added_by_script(lua_State *L, const char *module)
{
    static const char *const libraries[] = {"coroutine", "debug",  "io",    "math",
                                            "os",        "string", "table", "utf8"};
    if (!lua_istable(L, -1) && (!lua_isfunction(L, -1) || lua_iscfunction(L, -1))) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(libraries); i++) {
        if (strcmp(libraries[i], module) == 0) {
            return true;
        }
    }
    return false;
}

/* With map at `map` and on top: name module field value. First come, first named. */
static void index_field(lua_State *L, int map)
{
    bool object = lua_istable(L, -1) || lua_isfunction(L, -1) || lua_isuserdata(L, -1);
    if (lua_type(L, -2) != LUA_TSTRING || !object || added_by_script(L, lua_tostring(L, -4))) {
        return;
    }
    lua_pushvalue(L, -1);
    if (lua_rawget(L, map) == LUA_TNIL) {
        lua_pushvalue(L, -2); // -- name module field value nil value
        ship_push_field_name(L, lua_tostring(L, -6), lua_tostring(L, -4));
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
    lua_rawgetp(L, LUA_REGISTRYINDEX, &ship_known_key);
    lua_pushvalue(L, index);
    if (lua_rawget(L, -2) == LUA_TSTRING) {
        lua_remove(L, -2);
        return true;
    }
    lua_pop(L, 2);
    const char *own = pristine_name(L, index); /* a job may ship functions of its own */
    if (own != NULL) {
        if (own[0] == '\0') {
            lua_pushliteral(L, LUA_GNAME);
        } else {
            ship_push_field_name(L, LUA_GNAME, own);
        }
        return true;
    }
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

/* A table of plain data is not searched for in the modules; one with a metatable or functions is.
 */
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
    luaL_setmetatable(L, SHIP_BUFFER_TYPE);
    lua_pushvalue(L, index);
    if (lua_dump(L, dump_writer, b, 0) != 0) {
        luaL_error(L, "%s: a function could not be dumped", e->what);
    }
    put_bytes(e->out, b->data, b->len);
    buf_release(b);
    lua_pop(L, 2);
}

static void put_upvalue(struct encoder *e, int index, uint64_t number, int n, const struct place *p,
                        int depth)
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
    const char *is = lua_tostring(L, -1);
    const char *remedy = "make the object inside the function, or in a module that it requires";
    if (luaL_getmetafield(L, index, "__remedy") == LUA_TSTRING) { /* the type knows better */
        remedy = lua_tostring(L, -1);
    }
    refuse(e, p, is, remedy);
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
    luaL_setmetatable(L, SHIP_BUFFER_TYPE);
    buf_reserve(out, USUAL_BYTES);
    lua_createtable(L, 0, USUAL_OBJECTS);
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
