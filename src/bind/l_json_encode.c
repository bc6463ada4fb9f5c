/*
 * json.encode: JSON text from a Lua value. The rules of memory are those of l_json.c.
 *
 * A failure knows its place: where it happens an empty path is pushed on the Lua stack, and every
 * level on the way out prepends its key.
 */
#include "base/base.h"
#include "bind/l_json.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"

#define ENCODE_SIZE_MAX ((lua_Integer)256 << 20)

static bool flag(lua_State *L, int index, const char *name)
{
    bool value = false;
    if (lua_istable(L, index)) {
        lua_getfield(L, index, name);
        value = lua_toboolean(L, -1);
        lua_pop(L, 1);
    }
    return value;
}

struct key {
    const char *s; // borrowed from the table, which nothing changes meanwhile
    size_t len;
};

struct encoder {
    lua_State *L;
    int boxes;  // stack index of two userdata, where `data` and `keys` lie when they grow
    char *data; // begins in `small_data`
    size_t len, cap, limit;
    struct key *keys; // of all the open objects
    size_t nkeys, keys_cap;
    const void *array_mt, *verbatim_mt; // to compare only
    unsigned depth, max_depth;
    int indent; // spaces a level, 0: all in one line
    bool lossy;
    lua_Integer replaced; // ill-formed sequences
    const char *why;      // set by refuse()
    char why_text[128];
    char small_data[4096];
    struct key small_keys[64];
};

enum { BOX_DATA, BOX_KEYS, BOXES };

/* A table that is being written. */
struct level {
    const void *table;
    const struct level *up;
};

static bool encode_value(struct encoder *e, const struct level *up);

/* Begins a failure: leaves an empty path on the stack, to which the callers prepend their keys. */
static bool refuse(struct encoder *e, const char *why)
{
    e->why = why;
    lua_pushliteral(e->L, "");
    return false;
}

/* -- ... path  =>  -- ... (the key's text)path */
static bool prepend(struct encoder *e, const char *text, size_t len)
{
    lua_State *L = e->L;
    if (lua_rawlen(L, -1) > 200) {
        if (strncmp(lua_tostring(L, -1), "...", 3) != 0) {
            lua_pushliteral(L, "...");
            lua_insert(L, -2);
            lua_concat(L, 2);
        }
        return false;
    }
    lua_pushlstring(L, text, len);
    lua_insert(L, -2);
    lua_concat(L, 2);
    return false;
}

static bool is_name(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && (i == 0 || c < '0' || c > '9')) {
            return false;
        }
    }
    return len > 0;
}

static bool prepend_key(struct encoder *e, const char *s, size_t len)
{
    char text[80];
    size_t n = 0;
    bool name = is_name(s, len);
    for (const char *p = name ? "." : "[\""; *p != '\0'; p++) {
        text[n++] = *p;
    }
    for (size_t i = 0; i < len && n < 64; i++) {
        int width = json_utf8_length(s + i, len - i);
        if (width < 0 || (unsigned char)s[i] < 0x20) {
            text[n++] = '?';
            continue;
        }
        memcpy(text + n, s + i, (size_t)width);
        n += (size_t)width;
        i += (size_t)width - 1;
    }
    if (n >= 64) {
        memcpy(text + n, "...", 3);
        n += 3;
    }
    if (!name) {
        text[n++] = '"';
        text[n++] = ']';
    }
    return prepend(e, text, n);
}

static bool prepend_index(struct encoder *e, lua_Integer i)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "[" LUA_INTEGER_FMT "]", i);
    return prepend(e, text, (size_t)n);
}

/* Makes room for `extra` bytes in the box at stack index `box`, whose `used` of `*cap` bytes are
 * kept. */
static void *grow(lua_State *L, int box, void *old, size_t used, size_t *cap, size_t extra)
{
    size_t size = *cap * 2;
    while (size < used + extra) {
        size *= 2;
    }
    void *data = lua_newuserdatauv(L, size, 0);
    memcpy(data, old, used);
    lua_replace(L, box);
    *cap = size;
    return data;
}

static bool make_room(struct encoder *e, size_t n)
{
    if (e->len + n > e->limit) {
        return refuse(e, "the JSON text would pass the size limit");
    }
    e->data = grow(e->L, e->boxes + BOX_DATA, e->data, e->len, &e->cap, n);
    return true;
}

static inline bool put(struct encoder *e, const char *s, size_t n)
{
    if (e->cap - e->len < n && !make_room(e, n)) {
        return false;
    }
    memcpy(e->data + e->len, s, n);
    e->len += n;
    return true;
}

static bool put_newline(struct encoder *e)
{
    static const char blanks[] = "\n                                ";
    size_t n = (size_t)e->indent * e->depth;
    size_t first = n < 32 ? n : 32;
    bool ok = put(e, blanks, 1 + first);
    for (n -= first; ok && n > 0; n -= first) {
        first = n < 32 ? n : 32;
        ok = put(e, blanks + 1, first);
    }
    return ok;
}

static bool encode_string(struct encoder *e, const char *s, size_t len)
{
    size_t i = 0;
    if (!put(e, "\"", 1)) {
        return false;
    }
    for (;;) {
        size_t run = json_plain_run(s + i, len - i);
        if (run > 0 && !put(e, s + i, run)) {
            return false;
        }
        i += run;
        if (i >= len) {
            break;
        }
        unsigned char c = (unsigned char)s[i];
        if (c < 0x80) {
            char escape[6];
            if (!put(e, escape, json_write_escape(c, escape))) {
                return false;
            }
            i++;
        } else if (!e->lossy) {
            (void)snprintf(e->why_text, sizeof(e->why_text),
                           "the string is not UTF-8 (byte 0x%02X at position %zu)", c, i + 1);
            return refuse(e, e->why_text);
        } else {
            e->replaced++;
            i += (size_t)-json_utf8_length(s + i, len - i);
            if (!put(e, "\xEF\xBF\xBD", 3)) {
                return false;
            }
        }
    }
    return put(e, "\"", 1);
}

static bool encode_number(struct encoder *e)
{
    char text[JSON_NUMBER_MAX];
    lua_State *L = e->L;
    if (lua_isinteger(L, -1)) {
        return put(e, text, json_write_integer(lua_tointeger(L, -1), text));
    }
    double value = lua_tonumber(L, -1);
    size_t n = json_write_double(value, text);
    if (n == 0) {
        return refuse(e, isnan(value) ? "nan has no JSON form"
                         : value > 0  ? "inf has no JSON form"
                                      : "-inf has no JSON form");
    }
    return put(e, text, n);
}

static int compare_keys(const void *a, const void *b)
{
    const struct key *x = a;
    const struct key *y = b;
    int order = memcmp(x->s, y->s, x->len < y->len ? x->len : y->len);
    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

static void sort_keys(struct key *keys, size_t n)
{
    if (n > 16) {
        qsort(keys, n, sizeof(*keys), compare_keys);
        return;
    }
    for (size_t i = 1; i < n; i++) {
        struct key k = keys[i];
        size_t j = i;
        for (; j > 0 && compare_keys(&keys[j - 1], &k) > 0; j--) {
            keys[j] = keys[j - 1];
        }
        keys[j] = k;
    }
}

/* Refuses the key below the value at the top, which is neither a string nor a place in a list. */
static bool refuse_key(struct encoder *e)
{
    lua_State *L = e->L;
    (void)snprintf(e->why_text, sizeof(e->why_text), "a key of type %s has no JSON form",
                   luaL_typename(L, -2));
    return refuse(e, e->why_text);
}

/* Looks at the keys of the table at the top: string keys are added to e->keys; integers are
 * counted. Sets *n to the length of the list, or to 0 if the table is none. */
static bool scan_table(struct encoder *e, bool marked, lua_Integer *n)
{
    lua_State *L = e->L;
    lua_Integer count = 0;
    lua_Integer max = 0;
    size_t first_key = e->nkeys;

    lua_pushnil(L);
    while (lua_next(L, -2)) { // -- table key value
        if (lua_type(L, -2) == LUA_TSTRING) {
            if (e->nkeys == e->keys_cap) {
                size_t cap = e->keys_cap * sizeof(struct key);
                e->keys = grow(L, e->boxes + BOX_KEYS, e->keys, cap, &cap, sizeof(struct key));
                e->keys_cap = cap / sizeof(struct key);
            }
            struct key *k = &e->keys[e->nkeys++];
            k->s = lua_tolstring(L, -2, &k->len);
        } else if (lua_isinteger(L, -2)) {
            lua_Integer i = lua_tointeger(L, -2);
            if (i < 1) {
                refuse(e, "a list begins at 1");
                return prepend_index(e, i);
            }
            max = i > max ? i : max;
            count++;
        } else {
            return refuse_key(e);
        }
        lua_pop(L, 1);
    }
    if (e->nkeys > first_key && (count > 0 || marked)) {
        return refuse(e, count > 0 ? "the table has both list items and named fields"
                                   : "an array cannot have named fields");
    }
    if (max != count) {
        (void)snprintf(e->why_text, sizeof(e->why_text),
                       "the list has holes (" LUA_INTEGER_FMT " items, the last at " LUA_INTEGER_FMT
                       "); put lash.null there",
                       count, max);
        return refuse(e, e->why_text);
    }
    *n = count;
    return true;
}

static bool encode_list(struct encoder *e, lua_Integer n, const struct level *here)
{
    lua_State *L = e->L;
    if (!put(e, "[", 1)) {
        return false;
    }
    e->depth++;
    for (lua_Integer i = 1; i <= n; i++) {
        if ((i > 1 && !put(e, ",", 1)) || (e->indent > 0 && !put_newline(e))) {
            return false;
        }
        lua_rawgeti(L, -1, i); // -- list item
        if (!encode_value(e, here)) {
            return prepend_index(e, i);
        }
        lua_pop(L, 1);
    }
    e->depth--;
    if (n > 0 && e->indent > 0 && !put_newline(e)) {
        return false;
    }
    return put(e, "]", 1);
}

/* Writes the object at the top, whose keys are e->keys[first..nkeys). */
static bool encode_object(struct encoder *e, size_t first, const struct level *here)
{
    lua_State *L = e->L;
    size_t end = e->nkeys;
    if (!put(e, "{", 1)) {
        return false;
    }
    e->depth++;
    sort_keys(e->keys + first, end - first);
    for (size_t i = first; i < end; i++) {
        struct key k = e->keys[i]; // a copy: deeper levels may move the array
        if ((i > first && !put(e, ",", 1)) || (e->indent > 0 && !put_newline(e))) {
            return false;
        }
        if (!encode_string(e, k.s, k.len)) {
            return prepend_key(e, k.s, k.len);
        }
        if (!put(e, ": ", e->indent > 0 ? 2 : 1)) {
            return false;
        }
        lua_pushlstring(L, k.s, k.len);
        lua_rawget(L, -2); // -- object value
        if (!encode_value(e, here)) {
            return prepend_key(e, k.s, k.len);
        }
        lua_pop(L, 1);
    }
    e->depth--;
    e->nkeys = first;
    if (end > first && e->indent > 0 && !put_newline(e)) {
        return false;
    }
    return put(e, "}", 1);
}

static bool encode_verbatim(struct encoder *e)
{
    lua_State *L = e->L;
    size_t len;
    if (lua_rawgeti(L, -1, 1) != LUA_TSTRING) {
        return refuse(e, "a verbatim value was changed");
    }
    const char *text = lua_tolstring(L, -1, &len);
    if (!put(e, text, len)) {
        return false;
    }
    lua_pop(L, 1);
    return true;
}

static bool encode_table(struct encoder *e, const struct level *up)
{
    lua_State *L = e->L;
    struct level here = {lua_topointer(L, -1), up};
    bool marked = false;
    lua_Integer n;
    size_t first_key = e->nkeys;

    if (lua_getmetatable(L, -1)) {
        const void *mt = lua_topointer(L, -1);
        lua_pop(L, 1);
        if (mt == e->verbatim_mt) {
            return encode_verbatim(e);
        }
        marked = mt == e->array_mt;
    }
    if (e->depth >= e->max_depth) {
        (void)snprintf(e->why_text, sizeof(e->why_text), "nested deeper than %u levels",
                       e->max_depth);
        return refuse(e, e->why_text);
    }
    for (const struct level *l = up; l != NULL; l = l->up) {
        if (l->table == here.table) {
            return refuse(e, "the table contains itself");
        }
    }
    luaL_checkstack(L, 8, "JSON");
    if (!scan_table(e, marked, &n)) {
        return false;
    }
    return marked || n > 0 ? encode_list(e, n, &here) : encode_object(e, first_key, &here);
}

/* Writes the value at the top. On failure one path lies somewhere above it, at the very top. */
static bool encode_value(struct encoder *e, const struct level *up)
{
    lua_State *L = e->L;
    switch (lua_type(L, -1)) {
    case LUA_TNIL:
        return put(e, "null", 4);
    case LUA_TBOOLEAN:
        return lua_toboolean(L, -1) ? put(e, "true", 4) : put(e, "false", 5);
    case LUA_TNUMBER:
        return encode_number(e);
    case LUA_TSTRING: {
        size_t len;
        const char *s = lua_tolstring(L, -1, &len);
        return encode_string(e, s, len);
    }
    case LUA_TTABLE:
        return encode_table(e, up);
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, -1) == NULL) {
            return put(e, "null", 4);
        }
        break;
    default:
        break;
    }
    (void)snprintf(e->why_text, sizeof(e->why_text), "a %s has no JSON form", luaL_typename(L, -1));
    return refuse(e, e->why_text);
}

/* The `indent` option: a number of spaces, or true for 2. */
static int indent_option(lua_State *L)
{
    int indent = 0;
    if (lua_istable(L, 2)) {
        if (lua_getfield(L, 2, "indent") == LUA_TBOOLEAN) {
            indent = lua_toboolean(L, -1) ? 2 : 0;
        } else if (!lua_isnil(L, -1)) {
            indent = (int)l_json_option(L, 2, "indent", 0, 16);
        }
        lua_pop(L, 1);
    }
    return indent;
}

/* -- ... path => nil, err */
static int fail_at_path(struct encoder *e)
{
    lua_State *L = e->L;
    const char *root = "value";
    if (lua_istable(L, 2) && lua_getfield(L, 2, "name") == LUA_TSTRING) {
        root = lua_tostring(L, -1); // -- path name; stays on the stack
        lua_insert(L, -2);
    } else if (lua_istable(L, 2)) {
        lua_pop(L, 1);
    }
    lua_pushfstring(L, "%s%s: %s", root, lua_tostring(L, -1), e->why);
    return l_json_fail(L, 0);
}

/* Sets all but what an option may say. The two places at `boxes` are the encoder's. */
static void encoder_init(struct encoder *e, lua_State *L, int boxes)
{
    e->L = L;
    e->boxes = boxes;
    e->data = e->small_data;
    e->len = 0;
    e->cap = sizeof(e->small_data);
    e->limit = (size_t)ENCODE_SIZE_MAX;
    e->keys = e->small_keys;
    e->nkeys = 0;
    e->keys_cap = ARRAY_LEN(e->small_keys);
    e->array_mt = lua_topointer(L, UP_ARRAY);
    e->verbatim_mt = lua_topointer(L, UP_VERBATIM);
    e->depth = 0;
    e->max_depth = JSON_DEPTH_DEFAULT;
    e->indent = 0;
    e->lossy = false;
    e->replaced = 0;
}

/* encode(value [, { indent =, lossy =, name =, size =, depth = }]) -> text [, replaced] | nil, err
 */
int l_json_encode(lua_State *L)
{
    struct encoder e;
    luaL_checkany(L, 1);
    lua_settop(L, 2 + BOXES);
    encoder_init(&e, L, 3);
    if (lua_istable(L, 2)) {
        e.limit = (size_t)l_json_option(L, 2, "size", ENCODE_SIZE_MAX, LUA_MAXINTEGER);
        e.max_depth = (unsigned)l_json_option(L, 2, "depth", JSON_DEPTH_DEFAULT, JSON_DEPTH_CAP);
        e.indent = indent_option(L);
        e.lossy = flag(L, 2, "lossy");
    }
    lua_pushvalue(L, 1);
    if (!encode_value(&e, NULL)) {
        return fail_at_path(&e);
    }
    if (e.len > e.limit) { // what fits the first buffer did not ask
        refuse(&e, "the JSON text would pass the size limit");
        return fail_at_path(&e);
    }
    lua_pushlstring(L, e.data, e.len);
    if (e.replaced == 0) {
        return 1;
    }
    lua_pushinteger(L, e.replaced);
    return 2;
}

/* compose(text, string, text, string ...) -> the texts, which are JSON already, and between them
 * the JSON forms of the strings; bytes that are not UTF-8 become U+FFFD. */
int l_json_compose(lua_State *L)
{
    struct encoder e;
    int n = lua_gettop(L);
    lua_settop(L, n + BOXES);
    encoder_init(&e, L, n + 1);
    e.limit = SIZE_MAX; // what is quoted is in memory already, and six times as long at most
    e.lossy = true;
    for (int i = 1; i <= n; i++) {
        size_t len;
        const char *s = luaL_checklstring(L, i, &len);
        (void)(i % 2 == 1 ? put(&e, s, len) : encode_string(&e, s, len)); // neither can fail
    }
    lua_pushlstring(L, e.data, e.len);
    return 1;
}
