/*
 * lash.core.json: Lua values from JSON text and back, in one pass each.
 *
 * Runs in any state, on that state's thread; never yields and calls no metamethods. All memory is
 * Lua's own (tables, strings, and userdata as scratch space on the stack), so an error that Lua
 * raises here leaks nothing, and the memory limit of a worker holds for it.
 */
#include "base/base.h"
#include "bind/bind.h"
#include "bind/l_body.h"
#include "bind/l_json.h"
#include "bind/l_json_pick.h"

#include <lauxlib.h>
#include <string.h>

#include "engine/ship.h"
#include "io/json.h"

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

int l_json_fail_at(lua_State *L, const struct json_reader *r)
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
    l_json_push_string(L, found); // -- found
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
            return l_json_fail_at(L, &r);
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
            return l_json_fail_at(L, &r);
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
    l_json_push_container(L, true, 0); // -- list
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
    return l_json_fail_at(L, &r);
}

enum json_token l_json_container(const char *text, size_t len, unsigned depth)
{
    struct json_reader r;
    lua_Integer values = 0;
    json_reader_init(&r, text, len, depth);
    enum json_token first = len <= L_JSON_SIZE_MAX ? json_next(&r) : JSON_ERROR;
    if (first != JSON_OBJECT_BEGIN && first != JSON_ARRAY_BEGIN) {
        return JSON_ERROR;
    }
    while (values <= L_JSON_VALUES_MAX) {
        enum json_token t = json_next(&r);
        if (t == JSON_END) {
            return first;
        }
        if (t == JSON_ERROR) {
            break;
        }
        values += t != JSON_KEY && t != JSON_ARRAY_BEGIN && t != JSON_OBJECT_BEGIN;
    }
    return JSON_ERROR;
}

/* container(text [, depth]) -> "object" or "array", which this text is | nil. No value is made. */
static int l_json_container_of(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_Integer depth = luaL_optinteger(L, 2, JSON_DEPTH_DEFAULT);
    luaL_argcheck(L, depth > 0 && depth <= JSON_DEPTH_CAP, 2, "no depth");
    enum json_token first = l_json_container(text, len, (unsigned)depth);
    if (first == JSON_ERROR) {
        lua_pushnil(L);
    } else {
        lua_pushstring(L, first == JSON_OBJECT_BEGIN ? "object" : "array");
    }
    return 1;
}

/* is_object(value) -> whether a decoded value is a JSON object: a table without a metatable */
static int l_json_is_object(lua_State *L)
{
    lua_pushboolean(L, lua_istable(L, 1) && !lua_getmetatable(L, 1));
    return 1;
}

/* count(value) -> a whole number above 0, of a number or its text; else 0 */
static int l_json_count(lua_State *L)
{
    int ok;
    lua_Integer n = lua_tointegerx(L, 1, &ok);
    lua_pushinteger(L, ok && n > 0 ? n : 0);
    return 1;
}

/* So many texts are joined at once: each takes two places on the stack. */
#define JOIN_MOST 4096

/* join(before, list of texts, after) -> the texts with commas between them. The text is made at
 * once in its full length: that of a long history is not copied more often than it must. */
int l_json_join(lua_State *L)
{
    luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checkstring(L, 3);
    lua_settop(L, 3);
    lua_pushliteral(L, ","); // -- before list after comma
    lua_Integer n = (lua_Integer)lua_rawlen(L, 2);
    int pieces = 1; // that wait on the stack
    int parts = 1;  // further below: joined ones
    lua_pushvalue(L, 1);
    for (lua_Integer i = 1; i <= n; i++) {
        if (pieces >= 2 * JOIN_MOST) {
            luaL_checkstack(L, 8, "JSON");
            lua_concat(L, pieces);
            pieces = 0;
            parts++;
        }
        luaL_checkstack(L, 4, "JSON");
        if (i > 1) {
            lua_pushvalue(L, 4);
            pieces++;
        }
        if (lua_rawgeti(L, 2, i) != LUA_TSTRING) {
            return luaL_error(L, "join: item %I is no text", i);
        }
        pieces++;
    }
    lua_pushvalue(L, 3);
    lua_concat(L, pieces + parts);
    return 1;
}

/* verbatim(text) -> a value that encode() writes as `text` | nil, err if that is not JSON */
static int l_json_verbatim(lua_State *L)
{
    struct json_reader r;
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    json_reader_init(&r, text, len, JSON_DEPTH_CAP);
    if (!check_rest(&r)) {
        return l_json_fail_at(L, &r);
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
        l_json_push_container(L, true, 0);
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
        {"pick", l_json_pick},
        {"shape", l_json_shape},
        {"compose", l_json_compose},
        {"container", l_json_container_of},
        {"join", l_json_join},
        {"body", l_body_make},
        {"encode", l_json_encode},
        {"raw", l_json_raw},
        {"elements", l_json_elements},
        {"array", l_json_array},
        {"verbatim", l_json_verbatim},
        {"is_object", l_json_is_object},
        {"count", l_json_count},
        {"picker", l_json_picker},
        {NULL, NULL},
    };
    l_body_open(L);
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
