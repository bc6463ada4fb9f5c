/*
 * json.decode and json.pick: Lua values from JSON text, all of it or the fields that one wants. The
 * rules of memory are those of l_json.c.
 */
#include "base/base.h"
#include "bind/l_json.h"

#include <lauxlib.h>
#include <string.h>

#include "io/json.h"

void l_json_push_string(lua_State *L, struct json_str s)
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

void l_json_push_container(lua_State *L, bool array, int size)
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
        l_json_push_container(L, array, (int)level->count);
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
    l_json_push_container(L, level->array, (int)level->count); // -- ... waiting... table
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
        l_json_push_string(L, r->u.str);
        break;
    }
}

/* A text that is being read. */
struct decoder {
    lua_State *L;
    struct json_reader r;
    lua_Integer values_left; // below 0: the text has more than it may have
    unsigned known_levels;   // so many of the levels are set
    struct level levels[JSON_DEPTH_CAP];
};

static void decoder_init(struct decoder *d, lua_State *L, const char *text, size_t len,
                         lua_Integer values, unsigned depth)
{
    d->L = L;
    d->values_left = values;
    d->known_levels = 0;
    json_reader_init(&d->r, text, len, depth);
}

static bool is_begin(enum json_token t)
{
    return t == JSON_ARRAY_BEGIN || t == JSON_OBJECT_BEGIN;
}

static void begin_level(struct decoder *d, enum json_token t)
{
    luaL_checkstack(d->L, 2 * WAITING_MAX + 8, "JSON");
    ASSERT(d->r.depth > 0);
    while (d->known_levels < d->r.depth) {
        d->levels[d->known_levels++] = (struct level){0};
    }
    open_level(d->L, &d->levels[d->r.depth - 1], t == JSON_ARRAY_BEGIN);
}

static bool count_value(struct decoder *d)
{
    return --d->values_left >= 0;
}

/* Pushes the value whose first token is `t`. Returns false on a fault, see fail(). */
static bool read_value(struct decoder *d, enum json_token t)
{
    unsigned outside = d->r.depth - (is_begin(t) ? 1 : 0);
    for (;; t = json_next(&d->r)) {
        switch (t) {
        case JSON_ERROR:
        case JSON_END:
            return false;
        case JSON_KEY:
            l_json_push_string(d->L, d->r.u.str);
            continue;
        case JSON_ARRAY_BEGIN:
        case JSON_OBJECT_BEGIN:
            begin_level(d, t);
            continue;
        case JSON_ARRAY_END:
        case JSON_OBJECT_END:
            if (!d->levels[d->r.depth].made) {
                make_table(d->L, &d->levels[d->r.depth]);
            }
            break;
        default:
            push_scalar(d->L, &d->r, t);
            break;
        }
        // -- ... container [key] value
        if (!count_value(d)) {
            return false;
        }
        if (d->r.depth == outside) {
            return true;
        }
        add_value(d->L, &d->levels[d->r.depth - 1]);
    }
}

/* The results of a text with a fault. */
static int fail(struct decoder *d)
{
    if (d->values_left < 0) {
        lua_pushfstring(d->L, "JSON: position %I: more values than the limit allows",
                        (lua_Integer)d->r.start + 1);
        return l_json_fail(d->L, d->r.start + 1);
    }
    return l_json_fail_at(d->L, &d->r);
}

static int fail_size(lua_State *L, size_t len, lua_Integer most)
{
    lua_pushfstring(L, "JSON: the text has %I bytes, more than the limit of %I", (lua_Integer)len,
                    most);
    return l_json_fail(L, 0);
}

/* decode(text [, { depth =, size =, values = }]) -> value | nil, err */
int l_json_decode(lua_State *L)
{
    struct decoder d;
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_Integer size = L_JSON_SIZE_MAX;
    lua_Integer values = L_JSON_VALUES_MAX;
    lua_Integer depth = JSON_DEPTH_DEFAULT;

    if (lua_istable(L, 2)) {
        size = l_json_option(L, 2, "size", size, LUA_MAXINTEGER);
        values = l_json_option(L, 2, "values", values, LUA_MAXINTEGER);
        depth = l_json_option(L, 2, "depth", depth, JSON_DEPTH_CAP);
    }
    if (len > (size_t)size) {
        return fail_size(L, len, size);
    }
    decoder_init(&d, L, text, len, values, (unsigned)depth);
    if (!read_value(&d, json_next(&d.r))) {
        return fail(&d);
    }
    return json_next(&d.r) == JSON_END ? 1 : fail(&d);
}

/* ---- pick ---- */

/* What json.pick() takes of a text, made once of a table such as
 *
 *     { status = true, usage = { total = true }, output = { { type = true, id = true }, raws = true
 * } }
 *
 * `true` is a value as decode() gives it, a table with names an object of which these fields are
 * taken, one with a first element a list of such ones. The names stand here to be compared, and as
 * strings in a list, the uservalue of the shape, to be keys. */
enum kind { WHOLE, OBJECT, LIST };

struct node {
    enum kind kind;
    int first, count; // OBJECT: its fields
    int element;      // LIST: the node of its elements
    bool raws;        // LIST: the texts of its elements are wanted, too
};

struct field {
    size_t at, len; // of its name in the names
    int node;
};

#define NODES_MAX 24
#define FIELDS_MAX 64
#define NAMES_MAX 1024

struct shape {
    int nodes, fields;
    size_t used; // of the names
    char names[NAMES_MAX];
    struct node node[NODES_MAX];
    struct field field[FIELDS_MAX];
};

static const char SHAPE[] = "lash.json.shape";

static int compile(lua_State *L, struct shape *s, int names);

static int new_node(lua_State *L, struct shape *s, enum kind kind)
{
    if (s->nodes == NODES_MAX) {
        return luaL_error(L, "the shape has too many parts, or contains itself");
    }
    s->node[s->nodes] = (struct node){.kind = kind};
    return s->nodes++;
}

/* -- ... name */
static void add_field(lua_State *L, struct shape *s, int names)
{
    size_t len = 0;
    const char *name = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
    if (name == NULL || s->fields == FIELDS_MAX || len > NAMES_MAX - s->used) {
        luaL_error(L, "a shape has names of fields only, and not so many");
        return;
    }
    memcpy(s->names + s->used, name, len);
    s->field[s->fields++] = (struct field){.at = s->used, .len = len};
    s->used += len;
    lua_pushvalue(L, -1);
    lua_rawseti(L, names, s->fields);
}

/* -- ... description. The fields of an object stand side by side, so their names come first. */
static int compile_object(lua_State *L, struct shape *s, int names)
{
    int n = new_node(L, s, OBJECT);
    s->node[n].first = s->fields;
    lua_pushnil(L);
    while (lua_next(L, -2)) { // -- description name part
        lua_pop(L, 1);
        add_field(L, s, names);
    }
    s->node[n].count = s->fields - s->node[n].first;
    for (int i = s->node[n].first, end = s->fields; i < end; i++) {
        lua_rawgeti(L, names, i + 1);
        lua_rawget(L, -2); // -- description part
        s->field[i].node = compile(L, s, names);
        lua_pop(L, 1);
    }
    return n;
}

/* -- ... description => the number of its node */
static int compile(lua_State *L, struct shape *s, int names)
{
    luaL_checkstack(L, 6, "shape");
    if (!lua_istable(L, -1)) {
        return 0;
    }
    if (lua_rawgeti(L, -1, 1) == LUA_TNIL) {
        lua_pop(L, 1);
        return compile_object(L, s, names);
    }
    int n = new_node(L, s, LIST); // -- description element
    s->node[n].element = compile(L, s, names);
    lua_pop(L, 1);
    lua_getfield(L, -1, "raws");
    s->node[n].raws = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return n;
}

/* shape(description) -> what pick() takes */
int l_json_shape(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    struct shape *s = lua_newuserdatauv(L, sizeof(*s), 1); // -- description shape
    memset(s, 0, sizeof(*s));
    s->nodes = 1; // the first is that of whole values
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 2, 1);
    lua_pushvalue(L, 1);    // -- description shape names description
    (void)compile(L, s, 3); // whose node is the second
    luaL_newmetatable(L, SHAPE);
    lua_setmetatable(L, 2);
    lua_settop(L, 2);
    return 1;
}

/* Those who pick know the text for an answer, of the size that lash.http gives at most. */
#define PICK_SIZE_MAX ((lua_Integer)64 << 20)

enum { AT_SHAPE = 2, AT_SIZE = 3, AT_NAMES = 4, AT_RAWS = 5 };

static bool skip_value(struct decoder *d, enum json_token t)
{
    unsigned outside = d->r.depth - (is_begin(t) ? 1 : 0);
    for (;; t = json_next(&d->r)) {
        if (t == JSON_ERROR || t == JSON_END) {
            return false;
        }
        if (t == JSON_KEY || is_begin(t)) {
            continue;
        }
        if (!count_value(d)) {
            return false;
        }
        if (d->r.depth == outside) {
            return true;
        }
    }
}

/* The field of this name among those of an object | -1 */
static int find_field(lua_State *L, const struct shape *s, const struct node *n,
                      struct json_str name)
{
    const char *text = name.raw;
    size_t len = name.len;
    int found = -1;
    if (name.escaped) {
        l_json_push_string(L, name);
        text = lua_tolstring(L, -1, &len);
    }
    for (int i = n->first; i < n->first + n->count && found < 0; i++) {
        const struct field *f = &s->field[i];
        if (f->len == len && memcmp(s->names + f->at, text, len) == 0) {
            found = i;
        }
    }
    if (name.escaped) {
        lua_pop(L, 1);
    }
    return found;
}

static bool pick_value(struct decoder *d, const struct shape *s, int node, enum json_token t);

static bool pick_object(struct decoder *d, const struct shape *s, const struct node *n)
{
    lua_State *L = d->L;
    lua_createtable(L, 0, n->count < 8 ? n->count : 8); // -- object: few have all of the fields
    for (;;) {
        enum json_token t = json_next(&d->r);
        if (t != JSON_KEY) {
            return t == JSON_OBJECT_END && count_value(d);
        }
        int i = find_field(L, s, n, d->r.u.str);
        t = json_next(&d->r);
        if (i < 0) {
            if (!skip_value(d, t)) {
                return false;
            }
            continue;
        }
        lua_rawgeti(L, AT_NAMES, i + 1);
        if (!pick_value(d, s, s->field[i].node, t)) {
            return false;
        }
        lua_rawset(L, -3);
    }
}

static void push_list(lua_State *L)
{
    lua_createtable(L, 4, 0);
    lua_pushvalue(L, UP_ARRAY);
    lua_setmetatable(L, -2);
}

static bool pick_list(struct decoder *d, const struct shape *s, const struct node *n)
{
    lua_State *L = d->L;
    if (n->raws) {
        push_list(L);
        lua_replace(L, AT_RAWS);
    }
    push_list(L); // -- list
    for (lua_Integer i = 1;; i++) {
        enum json_token t = json_next(&d->r);
        if (t == JSON_ARRAY_END) {
            return count_value(d);
        }
        size_t start = d->r.start;
        if (!pick_value(d, s, n->element, t)) {
            return false;
        }
        lua_rawseti(L, -2, i);
        if (n->raws) {
            lua_pushlstring(L, d->r.text + start, d->r.end - start);
            lua_rawseti(L, AT_RAWS, i);
        }
    }
}

/* Pushes what is taken of the value whose first token is `t`. A value that is not of the kind that
 * the shape has is taken whole. */
static bool pick_value(struct decoder *d, const struct shape *s, int node, enum json_token t)
{
    const struct node *n = &s->node[node];
    luaL_checkstack(d->L, 8, "JSON");
    if (n->kind == OBJECT && t == JSON_OBJECT_BEGIN) {
        return pick_object(d, s, n);
    }
    if (n->kind == LIST && t == JSON_ARRAY_BEGIN) {
        return pick_list(d, s, n);
    }
    if (n->raws) { // of an equal key that came before
        lua_pushnil(d->L);
        lua_replace(d->L, AT_RAWS);
    }
    return read_value(d, t);
}

/* pick(text, shape [, size]) -> value, raws | nil, err */
int l_json_pick(lua_State *L)
{
    struct decoder d;
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    const struct shape *s = luaL_checkudata(L, AT_SHAPE, SHAPE);
    lua_Integer size = luaL_optinteger(L, AT_SIZE, PICK_SIZE_MAX);

    lua_settop(L, AT_SIZE);
    luaL_argcheck(L, lua_getiuservalue(L, AT_SHAPE, 1) == LUA_TTABLE, AT_SHAPE, "was changed");
    lua_pushnil(L); // -- text shape size names raws
    if (size < 0 || len > (size_t)size) {
        return fail_size(L, len, size);
    }
    decoder_init(&d, L, text, len, L_JSON_VALUES_MAX, JSON_DEPTH_DEFAULT);
    if (!pick_value(&d, s, 1, json_next(&d.r)) || json_next(&d.r) != JSON_END) {
        return fail(&d);
    }
    lua_pushvalue(L, AT_RAWS);
    return 2;
}
