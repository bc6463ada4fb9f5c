/*
 * Headers between Lua and requests. A table of headers to send is "plain" when it has no metatable
 * and holds under names only texts, numbers and lists of them.
 */
#include "base/base.h"

#include "bind/l_http.h"

#include <ctype.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define FEW 32

/* ---- to send ---- */

static bool is_text(lua_State *L, int index)
{
    int type = lua_type(L, index);
    return type == LUA_TSTRING || type == LUA_TNUMBER;
}

static bool is_plain_list(lua_State *L, int index)
{
    if (lua_getmetatable(L, index)) {
        lua_pop(L, 1);
        return false;
    }
    for (lua_Integer i = 1; lua_rawgeti(L, index, i) != LUA_TNIL; i++) {
        if (!is_text(L, -1)) {
            lua_pop(L, 1);
            return false;
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return true;
}

/* plain_headers(value) -> bool */
int l_http_plain_headers(lua_State *L)
{
    lua_settop(L, 1);
    bool plain = lua_istable(L, 1);
    if (plain && lua_getmetatable(L, 1)) {
        lua_pop(L, 1);
        plain = false;
    }
    if (plain) {
        lua_pushnil(L);
        while (plain && lua_next(L, 1)) { // -- name value
            int value = lua_gettop(L);
            plain = lua_type(L, -2) == LUA_TSTRING &&
                    (is_text(L, value) || (lua_istable(L, value) && is_plain_list(L, value)));
            lua_pop(L, 1);
        }
    }
    lua_pushboolean(L, plain);
    return 1;
}

/* The text at `index`, a number is made one; NULL when it holds a zero byte. */
static const char *text_at(lua_State *L, int index)
{
    size_t len;
    const char *text = lua_tolstring(L, index, &len);
    return text != NULL && strlen(text) == len ? text : NULL;
}

/* What is wrong with a header is kept in the request, and said when it is started; NULL stands for
 * a text with a zero byte, which is no name and no value. */
static void add_header(struct http_request *req, const char *name, const char *value)
{
    bool whole = name != NULL && value != NULL;
    (void)http_request_header(req, whole ? name : "", whole ? value : "");
}

/* The value is on top: taken. */
static void add_value(lua_State *L, struct http_request *req, const char *name)
{
    if (!is_text(L, -1)) {
        luaL_error(L, "header %s must be a string or a list of strings, not a %s",
                   name != NULL ? name : "?", luaL_typename(L, -1));
    }
    add_header(req, name, text_at(L, -1));
    lua_pop(L, 1);
}

struct entry {
    const char *name; /* the table keeps it */
    size_t len;
    const char *value; /* the table keeps it; NULL: not a text, or one with a zero byte */
};

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

/* As a rule they are so few that qsort() would cost more than it saves. */
static void sort(struct entry *entries, size_t n)
{
    if (n > FEW) {
        qsort(entries, n, sizeof *entries, compare);
        return;
    }
    for (size_t i = 1; i < n; i++) {
        struct entry entry = entries[i];
        size_t at = i;
        for (; at > 0 && compare(&entry, &entries[at - 1]) < 0; at--) {
            entries[at] = entries[at - 1];
        }
        entries[at] = entry;
    }
}

static void add_entry(lua_State *L, int map, struct http_request *req, const struct entry *entry)
{
    const char *name = strlen(entry->name) == entry->len ? entry->name : NULL;
    if (entry->value != NULL) {
        add_header(req, name, entry->value);
        return;
    }
    lua_pushlstring(L, entry->name, entry->len);
    lua_rawget(L, map);
    if (!lua_istable(L, -1)) {
        add_value(L, req, name);
        return;
    }
    for (lua_Integer i = 1; lua_rawgeti(L, -1, i) != LUA_TNIL; i++) {
        add_value(L, req, name);
    }
    lua_pop(L, 2);
}

/* { name = value }: in the order of their names, which is always the same. */
static void read_map(lua_State *L, int arg, struct http_request *req)
{
    struct entry few[FEW];
    struct entry *entries = few;
    size_t n = 0, cap = FEW;
    int top = lua_gettop(L);
    lua_pushnil(L); // the place of a longer list of entries
    lua_pushnil(L);
    while (lua_next(L, arg)) { // -- list name value
        if (lua_type(L, -2) != LUA_TSTRING) {
            luaL_error(L, "headers must be written as { name = value }");
        }
        if (n == cap) {
            struct entry *more = lua_newuserdatauv(L, 2 * cap * sizeof *more, 0);
            memcpy(more, entries, n * sizeof *entries);
            entries = more;
            cap *= 2;
            lua_replace(L, top + 1);
        }
        struct entry *entry = &entries[n++];
        entry->name = lua_tolstring(L, -2, &entry->len);
        entry->value = lua_type(L, -1) == LUA_TSTRING ? text_at(L, -1) : NULL;
        lua_pop(L, 1);
    }
    sort(entries, n);
    for (size_t i = 0; i < n; i++) {
        add_entry(L, arg, req, &entries[i]);
    }
    lua_settop(L, top);
}

/* { name, value, name, value, ... } */
static void read_list(lua_State *L, int arg, struct http_request *req)
{
    lua_Integer n = (lua_Integer)lua_rawlen(L, arg);
    for (lua_Integer i = 1; i + 1 <= n; i += 2) {
        lua_rawgeti(L, arg, i);
        lua_rawgeti(L, arg, i + 1);
        luaL_checktype(L, -2, LUA_TSTRING);
        add_value(L, req, text_at(L, -2));
        lua_pop(L, 1);
    }
}

void l_http_read_headers(lua_State *L, int arg, struct http_request *req)
{
    if (lua_isnoneornil(L, arg)) {
        return;
    }
    if (lua_type(L, arg) == LUA_TSTRING) {
        size_t len;
        const char *lines = lua_tolstring(L, arg, &len);
        http_request_add_lines(req, lines, len);
        return;
    }
    luaL_checktype(L, arg, LUA_TTABLE);
    luaL_checkstack(L, 8, NULL);
    if (lua_rawlen(L, arg) > 0) {
        read_list(L, arg, req);
    } else {
        read_map(L, arg, req);
    }
}

/* ---- of an answer ---- */

/* Pushes a name in lower case. */
static void push_lower(lua_State *L, const char *name)
{
    char lower[64];
    size_t len = strlen(name);
    luaL_Buffer whole;
    char *out = len <= sizeof lower ? lower : luaL_buffinitsize(L, &whole, len);
    for (size_t i = 0; i < len; i++) {
        out[i] = (char)tolower((unsigned char)name[i]);
    }
    if (out == lower) {
        lua_pushlstring(L, lower, len);
    } else {
        luaL_pushresultsize(&whole, len);
    }
}

/* The table that is built is at `headers`, on top the name: taken. Values of a name that comes
 * again, and of set-cookie, make a list. Returns whether it is one to be joined. */
static bool put_header(lua_State *L, int headers, const char *value)
{
    bool cookie = strcmp(lua_tostring(L, -1), "set-cookie") == 0;
    lua_pushvalue(L, -1);
    int before = lua_rawget(L, headers); // -- name before
    if (before == LUA_TTABLE) {
        lua_pushstring(L, value);
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
        lua_pop(L, 2);
        return false;
    }
    if (before == LUA_TNIL && !cookie) {
        lua_pop(L, 1);
        lua_pushstring(L, value);
        lua_rawset(L, headers);
        return false;
    }
    lua_createtable(L, 2, 0); // -- name before list
    if (before == LUA_TSTRING) {
        lua_insert(L, -2);
        lua_rawseti(L, -2, 1);
    } else {
        lua_remove(L, -2);
    } // -- name list
    lua_pushstring(L, value);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_rawset(L, headers);
    return !cookie;
}

/* Replaces the list on top by its values, joined. */
static void join(lua_State *L)
{
    int list = lua_gettop(L);
    lua_Integer n = (lua_Integer)lua_rawlen(L, list);
    luaL_Buffer all;
    luaL_buffinit(L, &all);
    for (lua_Integer i = 1; i <= n; i++) {
        if (i > 1) {
            luaL_addstring(&all, ", ");
        }
        lua_rawgeti(L, list, i);
        luaL_addvalue(&all);
    }
    luaL_pushresult(&all);
    lua_replace(L, list);
}

static void join_lists(lua_State *L, int headers)
{
    lua_pushnil(L);
    while (lua_next(L, headers)) { // -- name value
        if (lua_istable(L, -1) && strcmp(lua_tostring(L, -2), "set-cookie") != 0) {
            join(L);
            lua_pushvalue(L, -2);
            lua_insert(L, -2);
            lua_rawset(L, headers); // one that is there: lua_next() goes on
        } else {
            lua_pop(L, 1);
        }
    }
}

/* The next pair of "name\0value\0name\0..."; false at its end. */
static bool next_pair(const char **at, const char *end, const char **name, const char **value)
{
    if (*at >= end) {
        return false;
    }
    *name = *at;
    *value = *name + strlen(*name) + 1;
    if (*value >= end) {
        return false;
    }
    *at = *value + strlen(*value) + 1;
    return true;
}

static void push_headers(lua_State *L, const char *at, size_t len, size_t n)
{
    const char *end = at + len;
    const char *name, *value;
    bool lists = false;
    luaL_checkstack(L, 10, NULL);
    lua_createtable(L, 0, (int)n);
    int headers = lua_gettop(L);
    while (next_pair(&at, end, &name, &value)) {
        push_lower(L, name);
        lists = put_header(L, headers, value) || lists;
    }
    if (lists) {
        join_lists(L, headers);
    }
}

void l_http_push_headers(lua_State *L, struct http_request *req)
{
    size_t len;
    const char *head = http_result_head(req, &len);
    push_headers(L, head, len, http_result(req)->nheaders);
}

void l_http_push_head(lua_State *L, struct http_request *req)
{
    size_t len;
    const char *head = http_result_head(req, &len);
    lua_pushlstring(L, head, len);
}

/* headers(head) -> { name = value, ... }: names in lower case, values of equal names joined by
 * ", ", but for set-cookie, which is a list */
int l_http_headers(lua_State *L)
{
    size_t len;
    const char *head = luaL_checklstring(L, 1, &len);
    push_headers(L, head, len, 8);
    return 1;
}

/* header(head, name) -> what headers(head)[name] would be, of a list the first | nil; any case */
int l_http_header(lua_State *L)
{
    size_t len;
    const char *at = luaL_checklstring(L, 1, &len);
    const char *wanted = luaL_checkstring(L, 2);
    const char *end = at + len;
    const char *name, *value;
    luaL_Buffer all;
    const char *found = NULL;
    bool joined = false;
    while (next_pair(&at, end, &name, &value)) {
        if (strcasecmp(name, wanted) != 0) {
            continue;
        }
        if (found == NULL) {
            found = value;
        } else if (strcasecmp(wanted, "set-cookie") != 0) {
            if (!joined) {
                luaL_buffinit(L, &all);
                luaL_addstring(&all, found);
                joined = true;
            }
            luaL_addstring(&all, ", ");
            luaL_addstring(&all, value);
        }
    }
    if (joined) {
        luaL_pushresult(&all);
    } else {
        lua_pushstring(L, found); // nil for NULL
    }
    return 1;
}
