/*
 * lash.core.accept: whether a value surely fits a simple JSON Schema. For lash.schema only, which
 * makes the plans and judges closely what is not accepted here.
 *
 * A plan is a number, the sum of kinds of values, or a list: { PLAN_OBJECT, parts, how many of them
 * are required, required, open }, { PLAN_ARRAY, plan of its items }, { PLAN_ENUM, words }. `parts`
 * has the plans of properties by name, `required` and `words` have true. Plans are plain data: they
 * travel to workers.
 */
#include "base/base.h"

#include "bind/bind.h"

#include <lauxlib.h>
#include <math.h>

enum {
    KIND_STRING = 1,
    KIND_BOOLEAN = 2,
    KIND_INTEGER = 4,
    KIND_NUMBER = 8,
    KIND_NULL = 16,
    KIND_ANY = 32,
};

enum { PLAN_OBJECT = 1, PLAN_ARRAY, PLAN_ENUM };

enum { STEPS = 10000 }; /* in one value; what takes more is looked at closely, and counted there */

static bool is_kind(lua_State *L, int value, lua_Integer kinds)
{
    if (kinds & KIND_ANY) {
        return true;
    }
    switch (lua_type(L, value)) {
    case LUA_TSTRING:
        return kinds & KIND_STRING;
    case LUA_TBOOLEAN:
        return kinds & KIND_BOOLEAN;
    case LUA_TNUMBER:
        if (kinds & KIND_NUMBER) {
            return true;
        }
        return (kinds & KIND_INTEGER) &&
               (lua_isinteger(L, value) ||
                floor(lua_tonumber(L, value)) == lua_tonumber(L, value)) &&
               isfinite(lua_tonumber(L, value));
    case LUA_TLIGHTUSERDATA:
        return (kinds & KIND_NULL) && lua_touserdata(L, value) == NULL;
    default:
        return false;
    }
}

/* Whether the value at `value` fits the plan on top of the stack. Leaves the stack higher than it
 * was. */
static bool fits(lua_State *L, int value, int *left);

static bool object_fits(lua_State *L, int value, int plan, int *left)
{
    if (lua_getmetatable(L, value)) { /* an array, or nothing that JSON has */
        return false;
    }
    lua_rawgeti(L, plan, 2); // -- parts
    int parts = lua_gettop(L);
    lua_rawgeti(L, plan, 3);
    lua_rawgeti(L, plan, 4); // -- parts missing required
    lua_Integer missing = lua_tointeger(L, parts + 1);
    lua_rawgeti(L, plan, 5);
    bool open = lua_toboolean(L, -1);
    lua_pushnil(L);
    while (lua_next(L, value)) { // -- key value
        int part = lua_gettop(L);
        if (lua_type(L, part - 1) != LUA_TSTRING) {
            return false;
        }
        if (missing > 0) {
            lua_pushvalue(L, part - 1);
            missing -= lua_rawget(L, parts + 2) != LUA_TNIL;
        }
        lua_pushvalue(L, part - 1);
        if (lua_rawget(L, parts) == LUA_TNIL ? !open : !fits(L, part, left)) {
            return false;
        }
        lua_settop(L, part - 1);
    }
    return missing == 0;
}

static bool array_fits(lua_State *L, int value, int plan, int *left)
{
    if (!lua_getmetatable(L, value) || !lua_rawequal(L, -1, lua_upvalueindex(1))) {
        return false; /* perhaps an object */
    }
    size_t n = lua_rawlen(L, value);
    if (n > (size_t)*left) {
        return false;
    }
    *left -= (int)n;
    for (size_t i = 1; i <= n; i++) {
        lua_rawgeti(L, value, (lua_Integer)i);
        int item = lua_gettop(L);
        lua_rawgeti(L, plan, 2);
        if (!fits(L, item, left)) {
            return false;
        }
        lua_settop(L, item - 1);
    }
    return true;
}

static bool fits(lua_State *L, int value, int *left)
{
    int plan = lua_gettop(L);
    if (lua_type(L, plan) == LUA_TNUMBER) {
        return is_kind(L, value, lua_tointeger(L, plan));
    }
    luaL_checkstack(L, 12, "a schema is nested too deeply");
    lua_rawgeti(L, plan, 1);
    lua_Integer form = lua_tointeger(L, -1);
    if (form == PLAN_ENUM) {
        lua_rawgeti(L, plan, 2);
        lua_pushvalue(L, value);
        return lua_type(L, value) == LUA_TSTRING && lua_rawget(L, -2) != LUA_TNIL;
    }
    if (!lua_istable(L, value) || --*left < 0) {
        return false;
    }
    return form == PLAN_OBJECT ? object_fits(L, value, plan, left)
                               : array_fits(L, value, plan, left);
}

/* fits(plan, value) -> true when the value fits for sure */
static int l_fits(lua_State *L)
{
    int left = STEPS;
    luaL_checkany(L, 2);
    lua_settop(L, 2);
    lua_pushvalue(L, 1);
    lua_pushboolean(L, fits(L, 2, &left));
    return 1;
}

/* object(parts, required, open) -> plan */
static int l_object(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 3);
    lua_Integer count = 0;
    lua_pushnil(L);
    while (lua_next(L, 2)) {
        count++;
        lua_pop(L, 1);
    }
    lua_createtable(L, 5, 0); // -- parts required open plan
    lua_insert(L, 1);
    lua_rawseti(L, 1, 5);
    lua_pushinteger(L, count);
    lua_insert(L, 3); // -- plan parts count required
    lua_rawseti(L, 1, 4);
    lua_rawseti(L, 1, 3);
    lua_rawseti(L, 1, 2);
    lua_pushinteger(L, PLAN_OBJECT);
    lua_rawseti(L, 1, 1);
    return 1;
}

static int make_plan(lua_State *L, lua_Integer form)
{
    luaL_checkany(L, 1);
    lua_settop(L, 1);
    lua_createtable(L, 2, 0);
    lua_insert(L, 1);
    lua_rawseti(L, 1, 2);
    lua_pushinteger(L, form);
    lua_rawseti(L, 1, 1);
    return 1;
}

/* array(plan of its items) -> plan */
static int l_array(lua_State *L)
{
    return make_plan(L, PLAN_ARRAY);
}

/* enum(words) -> plan */
static int l_enum(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    return make_plan(L, PLAN_ENUM);
}

static void push_kinds(lua_State *L)
{
    static const struct {
        const char *name;
        lua_Integer kind;
    } kinds[] = {
        {"string", KIND_STRING}, {"boolean", KIND_BOOLEAN}, {"integer", KIND_INTEGER},
        {"number", KIND_NUMBER}, {"null", KIND_NULL},       {"any", KIND_ANY},
    };
    lua_createtable(L, 0, ARRAY_LEN(kinds));
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        lua_pushinteger(L, kinds[i].kind);
        lua_setfield(L, -2, kinds[i].name);
    }
}

int luaopen_lash_core_accept(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"fits", l_fits}, {"object", l_object}, {"array", l_array}, {"enum", l_enum}, {NULL, NULL}};
    luaL_newlibtable(L, functions);
    luaL_newmetatable(L, "lash.json.array");
    luaL_setfuncs(L, functions, 1);
    push_kinds(L);
    lua_setfield(L, -2, "kinds");
    return 1;
}
