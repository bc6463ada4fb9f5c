/*
 * lash.core.json: Lua values from JSON text and back, in one pass each.
 *
 * Runs in any state, on that state's thread; never yields and calls no metamethods. All memory is
 * Lua's own (tables, strings, and userdata as scratch space on the stack), so an error that Lua
 * raises here leaks nothing, and the memory limit of a worker holds for it.
 */
#include "base/base.h"
#include "bind/bind.h"
#include "bind/l_json.h"

#include <lauxlib.h>
#include <string.h>

#include "engine/ship.h"
#include "io/json.h"

#define DECODE_SIZE_MAX ((lua_Integer)32 << 20)
#define DECODE_VALUES_MAX 2000000

static int error_tostring(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getfield(L, 1, "message");
    return 1;
}

static void push_error_metatable(lua_State *L)
{
    if (luaL_newmetatable(L, "lash.error")) {
        lua_pushcfunction(L, error_tostring);
        lua_setfield(L, -2, "__tostring");
    }
}

int l_json_fail(lua_State *L, size_t position)
{
    lua_createtable(L, 0, 3); // -- message err
    lua_insert(L, -2);
    lua_setfield(L, -2, "message");
    lua_pushliteral(L, "json");
    lua_setfield(L, -2, "code");
    if (position > 0) {
        lua_pushinteger(L, (lua_Integer)position);
        lua_setfield(L, -2, "position");
    }
    push_error_metatable(L);
    lua_setmetatable(L, -2);
    lua_pushnil(L);
    lua_insert(L, -2); // -- nil err
    return 2;
}

static int fail_at_reader(lua_State *L, const struct json_reader *r)
{
    char text[160];
    json_error_text(r, text, sizeof(text));
    lua_pushfstring(L, "JSON: %s", text);
    return l_json_fail(L, r->error_pos + 1);
}

lua_Integer l_json_option(lua_State *L, int index, const char *name, lua_Integer standard,
                          lua_Integer max)
{
    lua_Integer value = standard;
    if (lua_istable(L, index)) {
        lua_getfield(L, index, name);
        if (!lua_isnil(L, -1)) {
            int ok;
            value = lua_tointegerx(L, -1, &ok);
            if (!ok || value < 1) {
                luaL_error(L, "option '%s' must be a positive integer", name);
            }
        }
        lua_pop(L, 1);
    }
    return value < max ? value : max;
}

/* ---- decode ---- */

static void push_string(lua_State *L, struct json_str s)
{
    char small[512];
    if (!s.escaped) {
        lua_pushlstring(L, s.raw, s.len);
    } else if (s.len <= sizeof(small)) {
        lua_pushlstring(L, small, json_unescape(s, small));
    } else {
        char *out = lua_newuserdatauv(L, s.len, 0); // -- scratch
        lua_pushlstring(L, out, json_unescape(s, out));
        lua_remove(L, -2);
    }
}

static void push_container(lua_State *L, bool array, int size)
{
    lua_createtable(L, array ? size : 0, array ? 0 : size);
    if (array) {
        lua_pushvalue(L, UP_ARRAY);
        lua_setmetatable(L, -2);
    }
}

/* An array or object that is being read, or the last one that was read at this depth. */
struct level {
    lua_Integer count; // elements or members so far
    bool array;
    bool made; // its table is there; else what it has so far lies on the stack from `bottom` on
    int bottom;
};

/* So many members wait on the stack until their number is known: a table that grows is made anew
 * for 1, 2, 4, 8 of them. */
#define WAITING_MAX 8

/* Neighbours tend to be of one size, so a table gets room for as many as the one before had. Each
 * count is used only once: the room in all is at most the number of values. */
static void open_level(lua_State *L, struct level *level, bool array)
{
    bool alike = level->array == array && level->count > 0 && level->count < 1 << 20;
    if (alike) {
        push_container(L, array, (int)level->count);
    }
    level->count = 0;
    level->array = array;
    level->made = alike;
    level->bottom = lua_gettop(L) + 1;
}

/* Makes the table of what lies on the stack, in the order in which it came. */
static void make_table(lua_State *L, struct level *level)
{
    int top = lua_gettop(L);
    push_container(L, level->array, (int)level->count); // -- ... waiting... table
    lua_Integer n = 0;
    for (int i = level->bottom; i <= top; i++) {
        lua_pushvalue(L, i);
        if (level->array) {
            lua_rawseti(L, -2, ++n);
        } else {
            lua_pushvalue(L, ++i);
            lua_rawset(L, -3); // a key that comes again replaces the value before
        }
    }
    if (top >= level->bottom) {
        lua_replace(L, level->bottom);
        lua_settop(L, level->bottom);
    }
    level->made = true;
}

/* -- ... container [key] value; the value is the container's then. */
static void add_value(lua_State *L, struct level *level)
{
    level->count++;
    if (!level->made) {
        if (level->count == WAITING_MAX) {
            make_table(L, level);
        }
    } else if (level->array) {
        lua_rawseti(L, -2, level->count);
    } else {
        lua_rawset(L, -3);
    }
}

/* Pushes the value of a token that is one value by itself. */
static void push_scalar(lua_State *L, const struct json_reader *r, enum json_token t)
{
    switch (t) {
    case JSON_NULL:
        lua_pushlightuserdata(L, NULL);
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        lua_pushboolean(L, t == JSON_TRUE);
        break;
    case JSON_INTEGER:
        lua_pushinteger(L, r->u.integer);
        break;
    case JSON_FLOAT:
        lua_pushnumber(L, r->u.number);
        break;
    case JSON_BIG:
        lua_pushlstring(L, r->text + r->start, r->end - r->start);
        break;
    default:
        push_string(L, r->u.str);
        break;
    }
}

/* decode(text [, { depth =, size =, values = }]) -> value | nil, err */
static int l_json_decode(lua_State *L)
{
    struct json_reader r;
    struct level levels[JSON_DEPTH_CAP]; // the first known_levels are set
    unsigned known_levels = 0;
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_Integer size_max = l_json_option(L, 2, "size", DECODE_SIZE_MAX, LUA_MAXINTEGER);
    lua_Integer values_left = l_json_option(L, 2, "values", DECODE_VALUES_MAX, LUA_MAXINTEGER);

    if (len > (size_t)size_max) {
        lua_pushfstring(L, "JSON: the text has %I bytes, more than the limit of %I",
                        (lua_Integer)len, size_max);
        return l_json_fail(L, 0);
    }
    json_reader_init(&r, text, len,
                     (unsigned)l_json_option(L, 2, "depth", JSON_DEPTH_DEFAULT, JSON_DEPTH_CAP));
    for (;;) {
        enum json_token t = json_next(&r);
        switch (t) {
        case JSON_ERROR:
            return fail_at_reader(L, &r);
        case JSON_END:
            return 1;
        case JSON_KEY:
            push_string(L, r.u.str);
            continue;
        case JSON_ARRAY_BEGIN:
        case JSON_OBJECT_BEGIN:
            luaL_checkstack(L, 2 * WAITING_MAX + 8, "JSON");
            ASSERT(r.depth > 0);
            if (r.depth > known_levels) {
                levels[known_levels++] = (struct level){0};
            }
            open_level(L, &levels[r.depth - 1], t == JSON_ARRAY_BEGIN);
            continue;
        case JSON_ARRAY_END:
        case JSON_OBJECT_END:
            if (!levels[r.depth].made) {
                make_table(L, &levels[r.depth]);
            }
            break;
        default:
            push_scalar(L, &r, t);
            break;
        }
        // -- ... container [key] value
        if (--values_left < 0) {
            lua_pushfstring(L, "JSON: position %I: more values than the limit allows",
                            (lua_Integer)r.start + 1);
            return l_json_fail(L, r.start + 1);
        }
        if (r.depth > 0) {
            add_value(L, &levels[r.depth - 1]);
        }
    }
}

/* ---- raw text ---- */

/* Reads what is left of a text for its faults only. */
static bool check_rest(struct json_reader *r)
{
    for (;;) {
        enum json_token t = json_next(r);
        if (t == JSON_ERROR || t == JSON_END) {
            return t == JSON_END;
        }
    }
}

static bool is_key(lua_State *L, struct json_str found, const char *key, size_t len)
{
    if (!found.escaped) {
        return found.len == len && memcmp(found.raw, key, len) == 0;
    }
    size_t n;
    push_string(L, found); // -- found
    const char *s = lua_tolstring(L, -1, &n);
    bool same = n == len && memcmp(s, key, len) == 0;
    lua_pop(L, 1);
    return same;
}

/* Narrows text[*from..*to) to the value under `key`, or under `index` (from 1) when key is NULL. Of
 * equal keys the last counts, as in decode(). The reader is left where it stopped: at a fault, if
 * it met one. */
static bool narrow(lua_State *L, struct json_reader *r, const char *text, const char *key,
                   size_t key_len, lua_Integer index, size_t *from, size_t *to)
{
    bool found = false;
    size_t base = *from;

    json_reader_init(r, text + base, *to - base, JSON_DEPTH_CAP);
    if (json_next(r) != (key != NULL ? JSON_OBJECT_BEGIN : JSON_ARRAY_BEGIN)) {
        return false;
    }
    for (lua_Integer i = 1; r->depth > 0; i++) {
        bool match = i == index;
        enum json_token t = json_next(r);
        if (t == JSON_KEY) {
            match = key != NULL && is_key(L, r->u.str, key, key_len);
            t = json_next(r);
        }
        size_t start;
        if (r->depth == 0 || !json_skip(r, t, &start)) {
            break;
        }
        if (match) {
            found = true;
            *from = base + start;
            *to = base + r->end;
            if (key == NULL) {
                break;
            }
        }
    }
    return found;
}

/* raw(text, key_or_index...) -> the exact text there | nil (no such place) | nil, err (not JSON) */
static int l_json_raw(lua_State *L)
{
    struct json_reader r;
    size_t to;
    size_t from = 0;
    const char *text = luaL_checklstring(L, 1, &to);
    int n = lua_gettop(L);

    if (n == 1) {
        json_reader_init(&r, text, to, JSON_DEPTH_CAP);
        bool whole = json_skip(&r, json_next(&r), &from);
        to = r.end;
        if (!whole || !check_rest(&r)) {
            return fail_at_reader(L, &r);
        }
    }
    for (int i = 2; i <= n; i++) {
        const char *key = NULL;
        size_t key_len = 0;
        lua_Integer index = 0;
        if (lua_type(L, i) == LUA_TSTRING) {
            key = lua_tolstring(L, i, &key_len);
        } else {
            index = luaL_checkinteger(L, i);
        }
        bool found = narrow(L, &r, text, key, key_len, index, &from, &to);
        if (i == 2 && !check_rest(&r)) { // the first of them reads all of the text
            return fail_at_reader(L, &r);
        }
        if (!found) {
            lua_pushnil(L);
            return 1;
        }
    }
    lua_pushlstring(L, text + from, to - from);
    return 1;
}

/* elements(text) -> list of the exact texts of an array's elements | nil, err */
static int l_json_elements(lua_State *L)
{
    struct json_reader r;
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);

    json_reader_init(&r, text, len, JSON_DEPTH_CAP);
    enum json_token t = json_next(&r);
    if (t != JSON_ARRAY_BEGIN && t != JSON_ERROR) {
        lua_pushliteral(L, "JSON: position 1: expected an array");
        return l_json_fail(L, 1);
    }
    push_container(L, true, 0); // -- list
    for (lua_Integer i = 1; t != JSON_ERROR; i++) {
        size_t start;
        t = json_next(&r);
        if (r.depth == 0 && t == JSON_ARRAY_END) {
            t = json_next(&r);
            if (t == JSON_END) {
                return 1;
            }
            break;
        }
        if (!json_skip(&r, t, &start)) {
            break;
        }
        lua_pushlstring(L, text + start, r.end - start);
        lua_rawseti(L, -2, i);
    }
    return fail_at_reader(L, &r);
}

/* verbatim(text) -> a value that encode() writes as `text` | nil, err if that is not JSON */
static int l_json_verbatim(lua_State *L)
{
    struct json_reader r;
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    json_reader_init(&r, text, len, JSON_DEPTH_CAP);
    if (!check_rest(&r)) {
        return fail_at_reader(L, &r);
    }
    lua_createtable(L, 1, 0);
    lua_pushvalue(L, 1);
    lua_rawseti(L, -2, 1);
    lua_pushvalue(L, UP_VERBATIM);
    lua_setmetatable(L, -2);
    return 1;
}

static int verbatim_tostring(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_rawgeti(L, 1, 1);
    return 1;
}

/* array([t]) -> t, marked so that it is an array even when empty */
static int l_json_array(lua_State *L)
{
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        push_container(L, true, 0);
        return 1;
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    if (lua_getmetatable(L, 1)) {
        luaL_argcheck(L, lua_rawequal(L, -1, UP_ARRAY), 1, "the table has a metatable of its own");
        lua_pop(L, 1);
    }
    lua_pushvalue(L, UP_ARRAY);
    lua_setmetatable(L, 1);
    lua_settop(L, 1);
    return 1;
}

int luaopen_lash_core_json(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"decode", l_json_decode},
        {"encode", l_json_encode},
        {"raw", l_json_raw},
        {"elements", l_json_elements},
        {"array", l_json_array},
        {"verbatim", l_json_verbatim},
        {NULL, NULL},
    };
    luaL_newlibtable(L, functions);                   // -- M
    luaL_newmetatable(L, "lash.json.array");          // -- M array_mt
    if (luaL_newmetatable(L, "lash.json.verbatim")) { // -- M array_mt verbatim_mt
        lua_pushcfunction(L, verbatim_tostring);
        lua_setfield(L, -2, "__tostring");
    }
    lua_pushvalue(L, -2);
    lua_setfield(L, -4, "array_mt");
    ship_register(L, -2, "lash.core.json", "array_mt"); // arrays stay arrays in a worker
    ship_register(L, -1, "lash.core.json", "verbatim_mt");
    lua_pushvalue(L, -1);
    lua_setfield(L, -4, "verbatim_mt");
    luaL_setfuncs(L, functions, 2); // -- M
    push_error_metatable(L);
    ship_register(L, -1, "lash.core.json", "error_mt");
    lua_setfield(L, -2, "error_mt");
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    return 1;
}
