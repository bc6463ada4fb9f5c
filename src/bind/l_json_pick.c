/*
 * lash.core.json.picker: shapes of JSON texts (io/json_pick.h), made of Lua tables.
 */
#include "base/base.h"

#include "bind/l_json.h"
#include "bind/l_json_pick.h"
#include "bind/type.h"

#include <lauxlib.h>
#include <string.h>

#define PICKER_TYPE "lash.json.picker"

#define RULES_MAX 64
#define NAMES_MAX 2048

/* A shape that is made. The names lie behind its rules. */
struct maker {
    struct json_shape *shape;
    int nrules;
    int nvalues;
    char *names;
    size_t names_len;
};

static enum json_rule_kind word(lua_State *L, int index)
{
    static const char *const words[] = {"any", "null", "none", "object", NULL};
    static const enum json_rule_kind kinds[] = {RULE_ANY, RULE_NULL, RULE_REFUSE, RULE_OBJECT_TEXT};
    const char *given = lua_tostring(L, index);
    for (size_t i = 0; given != NULL && words[i] != NULL; i++) {
        if (strcmp(given, words[i]) == 0) {
            return kinds[i];
        }
    }
    luaL_error(L, "no rule of a shape: %s", luaL_tolstring(L, index, NULL));
    return RULE_REFUSE;
}

static int slot(lua_State *L, struct maker *m, lua_Integer n)
{
    if (n < 1 || n > JSON_PICK_VALUES) {
        luaL_error(L, "a shape picks values 1 to %d, not %I", JSON_PICK_VALUES, n);
    }
    if (m->nvalues < n) {
        m->nvalues = (int)n;
    }
    return (int)n - 1;
}

static struct json_rule *new_rules(lua_State *L, struct maker *m, int count, int *first)
{
    if (m->nrules + count > RULES_MAX || count > JSON_PICK_FIELDS) {
        luaL_error(L, "the shape has too many rules");
    }
    *first = m->nrules;
    m->nrules += count;
    return &m->shape->rules[*first];
}

/* The string at `index`, copied into the shape. */
static const char *copy_name(lua_State *L, struct maker *m, int index, size_t *len)
{
    const char *name = lua_tolstring(L, index, len);
    if (name == NULL || *len > NAMES_MAX - m->names_len) {
        luaL_error(L, "the shape has too many names");
        return NULL; /* not reached */
    }
    char *copy = memcpy(m->names + m->names_len, name, *len);
    m->names_len += *len;
    return copy;
}

static void read_rule(lua_State *L, struct maker *m, struct json_rule *rule, int depth);

static int count_fields(lua_State *L, int table)
{
    int count = 0;
    for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
        if (name == NULL) {
            return luaL_error(L, "a field of a shape has a name");
        }
        count += strcmp(name, "*") != 0;
    }
    return count;
}

/* The table on top: names of fields -> rules, "*" for all others. */
static void read_fields(lua_State *L, struct maker *m, struct json_rule *rule, int depth)
{
    int table = lua_gettop(L);
    rule->kind = RULE_FIELDS;
    rule->others = RULE_REFUSE;
    rule->count = count_fields(L, table);
    struct json_rule *field = new_rules(L, m, rule->count, &rule->first);
    for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) {
        if (strcmp(lua_tostring(L, -2), "*") == 0) {
            rule->others = word(L, -1);
            continue;
        }
        read_rule(L, m, field, depth + 1);
        field->name = copy_name(L, m, -2, &field->name_len);
        rule->lengths |= (uint64_t)1 << (field->name_len % 64);
        field++;
    }
}

/* The value on top. */
static void read_rule(lua_State *L, struct maker *m, struct json_rule *rule, int depth)
{
    *rule = (struct json_rule){.raw_slot = -1};
    luaL_checkstack(L, 8, NULL);
    if (depth > JSON_PICK_DEPTH) {
        luaL_error(L, "the shape is too deep");
    }
    if (lua_isinteger(L, -1)) {
        rule->kind = RULE_VALUE;
        rule->slot = slot(L, m, lua_tointeger(L, -1));
        return;
    }
    if (!lua_istable(L, -1)) {
        rule->kind = word(L, -1);
        return;
    }
    int first = lua_rawgeti(L, -1, 1); // -- rule first
    if (first == LUA_TNIL) {
        lua_pop(L, 1);
        read_fields(L, m, rule, depth);
        return;
    }
    if (first == LUA_TTABLE) { // { element }
        rule->kind = RULE_SINGLE;
        read_rule(L, m, new_rules(L, m, 1, &rule->first), depth + 1);
    } else if (first == LUA_TNUMBER) { // { value, raw }
        rule->kind = RULE_VALUE;
        rule->slot = slot(L, m, lua_tointeger(L, -1));
        (void)lua_rawgeti(L, -2, 2);
        rule->raw_slot = slot(L, m, lua_tointeger(L, -1));
        lua_pop(L, 1);
    } else { // { "object", value }
        rule->kind = word(L, -1);
        (void)lua_rawgeti(L, -2, 2);
        rule->slot = slot(L, m, lua_tointeger(L, -1));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* The table at `index`: texts -> letters. */
static void read_marks(lua_State *L, struct maker *m, int index)
{
    for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING ||
            m->shape->nmarks == JSON_PICK_MARKS) {
            luaL_error(L, "a shape has at most %d marks, letters for texts", JSON_PICK_MARKS);
        }
        struct json_mark *mark = &m->shape->marks[m->shape->nmarks++];
        mark->text = copy_name(L, m, -2, &mark->text_len);
        mark->mark = *lua_tostring(L, -1);
    }
}

static void push_picked(lua_State *L, const struct json_picked *value)
{
    switch (value->kind) {
    case PICKED_BOOL:
        lua_pushboolean(L, value->integer != 0);
        break;
    case PICKED_INTEGER:
        lua_pushinteger(L, value->integer);
        break;
    case PICKED_STRING:
        l_json_push_string(L, value->str);
        break;
    case PICKED_NULL:
        lua_pushlightuserdata(L, NULL);
        break;
    default:
        lua_pushnil(L);
        break;
    }
}

int l_json_push_picked(lua_State *L, const struct json_shape *shape,
                       const struct json_picked *values)
{
    luaL_checkstack(L, JSON_PICK_VALUES + 2, NULL);
    for (int i = 0; i < shape->nvalues; i++) {
        push_picked(L, &values[i]);
    }
    return shape->nvalues;
}

const struct json_shape *l_json_check_shape(lua_State *L, int index)
{
    return luaL_checkudata(L, index, PICKER_TYPE);
}

/* picker(text) -> true, values... | false */
static int l_pick(lua_State *L)
{
    const struct json_shape *shape = l_json_check_shape(L, 1);
    struct json_picked values[JSON_PICK_VALUES];
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    bool picked = json_pick(shape, text, len, values);
    lua_pushboolean(L, picked);
    return picked ? 1 + l_json_push_picked(L, shape, values) : 1;
}

int l_json_picker(lua_State *L)
{
    struct maker m = {0};
    luaL_checktype(L, 1, LUA_TTABLE);
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
    }
    lua_settop(L, 2);
    size_t rules = sizeof *m.shape + RULES_MAX * sizeof m.shape->rules[0];
    m.shape = lua_newuserdatauv(L, rules + NAMES_MAX, 0); // -- table marks picker
    m.shape->nmarks = 0;
    m.names = (char *)m.shape + rules;
    if (luaL_newmetatable(L, PICKER_TYPE)) {
        lua_pushcfunction(L, l_pick);
        lua_setfield(L, -2, "__call");
        bind_type_hide(L, PICKER_TYPE, NULL);
    }
    lua_pushvalue(L, 1); // -- table marks picker metatable table
    int first;
    struct json_rule *whole = new_rules(L, &m, 1, &first);
    read_rule(L, &m, whole, 1);
    lua_pop(L, 1);
    m.shape->nvalues = m.nvalues;
    m.shape->nrules = m.nrules;
    if (lua_istable(L, 2)) {
        read_marks(L, &m, 2);
    }
    lua_setmetatable(L, 3); // not before it is whole
    return 1;
}
