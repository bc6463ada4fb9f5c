#include "base/base.h"
#include "bind/l_plain.h"

#include <lauxlib.h>
#include <string.h>

#include "bind/bind.h"
#include "bind/l_json.h"

#define ARGUMENTS_DEPTH 64 /* as history.object_text() */
#define ID_LEN_MAX 64
#define NAME_LEN_MAX 64

bool plain_is(struct json_str s, const char *text)
{
    return !s.escaped && s.len == strlen(text) && memcmp(s.raw, text, s.len) == 0;
}

enum plain_step plain_next(struct json_reader *r, const struct plain_name *names, int n,
                           unsigned *seen, int *field)
{
    enum json_token t = json_next(r);
    if (t != JSON_KEY || r->u.str.escaped) {
        return t == JSON_OBJECT_END ? PLAIN_END : PLAIN_ODD;
    }
    for (int i = 0; i < n; i++) {
        if (names[i].len == r->u.str.len &&
            memcmp(names[i].text, r->u.str.raw, r->u.str.len) == 0) {
            *field = i;
            bool again = (*seen >> i & 1) != 0;
            *seen |= 1U << i;
            return again ? PLAIN_ODD : PLAIN_FIELD;
        }
    }
    return PLAIN_OTHER;
}

bool plain_skip(struct json_reader *r)
{
    return json_skip(r, json_next(r), NULL);
}

static bool read_count(const struct json_reader *r, enum json_token t, lua_Integer *count)
{
    *count = t == JSON_INTEGER && r->u.integer > 0 ? r->u.integer : 0;
    return t == JSON_INTEGER;
}

static bool read_counts(struct json_reader *r, const struct plain_name *names, int n,
                        lua_Integer *counts)
{
    unsigned seen = 0;
    int field;
    if (json_next(r) != JSON_OBJECT_BEGIN) {
        return false;
    }
    for (;;) {
        enum plain_step step = plain_next(r, names, n, &seen, &field);
        if (step == PLAIN_END) {
            return true;
        }
        if (step == PLAIN_ODD || (step == PLAIN_OTHER && !plain_skip(r)) ||
            (step == PLAIN_FIELD && !read_count(r, json_next(r), &counts[field]))) {
            return false;
        }
    }
}

bool plain_usage(struct json_reader *r, const struct plain_name *names, int n,
                 struct plain_usage *usage)
{
    static const struct plain_name in[] = {[PLAIN_CACHED] = PLAIN_NAME("cached_tokens"),
                                           [PLAIN_CACHE_WRITE] = PLAIN_NAME("cache_write_tokens")};
    static const struct plain_name out[] = {[PLAIN_REASONING] = PLAIN_NAME("reasoning_tokens")};
    unsigned seen = 0;
    int field;
    if (json_next(r) != JSON_OBJECT_BEGIN) {
        return false;
    }
    for (;;) {
        enum plain_step step = plain_next(r, names, n, &seen, &field);
        if (step == PLAIN_END) {
            return true;
        }
        bool ok = step == PLAIN_ODD              ? false
                  : step == PLAIN_OTHER          ? plain_skip(r)
                  : field == PLAIN_INPUT_DETAILS ? read_counts(r, in, PLAIN_IN, usage->in)
                  : field == PLAIN_OUTPUT_DETAILS
                      ? read_counts(r, out, PLAIN_OUT, usage->out)
                      : read_count(r, json_next(r), &usage->counts[field]);
        if (!ok) {
            return false;
        }
    }
}

void plain_item(lua_State *L, const char *type, int fields)
{
    lua_createtable(L, 0, fields);
    lua_pushstring(L, type);
    lua_setfield(L, -2, "type");
}

void plain_text(lua_State *L, const char *name, struct json_str text)
{
    l_json_push_string(L, text);
    lua_setfield(L, -2, name);
}

static bool is_name(struct json_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.raw[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '-')) {
            return false;
        }
    }
    return s.len > 0 && s.len <= NAME_LEN_MAX && !s.escaped;
}

const char *plain_check(lua_State *L, int args, size_t *len)
{
    const char *text = luaL_checklstring(L, PLAIN_TEXT, len);
    luaL_checktype(L, PLAIN_SEEN, LUA_TTABLE);
    lua_settop(L, args);
    if (!lua_isnil(L, PLAIN_TAKEN)) {
        luaL_checktype(L, PLAIN_TAKEN, LUA_TTABLE);
    }
    return text;
}

/* -- ... id => the same; whether it is the id of an earlier call */
static bool is_taken(lua_State *L)
{
    lua_pushvalue(L, -1);
    lua_rawget(L, PLAIN_SEEN);
    bool taken = lua_isboolean(L, -1) && lua_toboolean(L, -1);
    lua_pop(L, 1);
    if (!taken && lua_istable(L, PLAIN_TAKEN)) {
        lua_pushvalue(L, -1);
        lua_rawget(L, PLAIN_TAKEN);
        taken = lua_toboolean(L, -1);
        lua_pop(L, 1);
    }
    return taken;
}

/* Adds an id, unless there are too many or it comes again. */
static bool add_id(struct plain_calls *calls, struct json_str id)
{
    if (calls->count == PLAIN_CALLS_MAX || id.escaped || id.len == 0 || id.len > ID_LEN_MAX) {
        return false;
    }
    for (lua_Integer i = 0; i < calls->count; i++) {
        if (calls->ids[i].len == id.len && memcmp(calls->ids[i].raw, id.raw, id.len) == 0) {
            return false;
        }
    }
    calls->ids[calls->count++] = id;
    return true;
}

bool plain_call(lua_State *L, struct plain_calls *calls, struct json_str id, struct json_str name,
                struct json_str args)
{
    size_t len;
    if (!add_id(calls, id) || !is_name(name) || plain_is(name, "parallel")) {
        return false;
    }
    plain_item(L, "call", 4);
    l_json_push_string(L, id);
    if (is_taken(L)) {
        return false;
    }
    lua_setfield(L, -2, "id");
    plain_text(L, "name", name);
    l_json_push_string(L, args); // -- call args
    const char *text = lua_tolstring(L, -1, &len);
    if (l_json_container(text, len, ARGUMENTS_DEPTH) != JSON_OBJECT_BEGIN) {
        return false;
    }
    lua_setfield(L, -2, "args");
    return true;
}

int luaopen_lash_core_plain(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"responses", l_plain_responses}, {"chat", l_plain_chat}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
