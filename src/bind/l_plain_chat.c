#include "base/base.h"
#include "bind/l_plain.h"

#include <lauxlib.h>
#include <string.h>

#include "bind/l_json.h"

enum { AT_CALLS = PLAIN_ARGS, AT_SAID };

struct chat {
    lua_State *L;
    struct json_reader r;
    struct plain_calls calls;
};

/* ---- usage ---- */

static const struct plain_name usage_names[PLAIN_COUNTS] = {
    [PLAIN_INPUT] = PLAIN_NAME("prompt_tokens"),
    [PLAIN_OUTPUT] = PLAIN_NAME("completion_tokens"),
    [PLAIN_TOTAL] = PLAIN_NAME("total_tokens"),
    [PLAIN_INPUT_DETAILS] = PLAIN_NAME("prompt_tokens_details"),
    [PLAIN_OUTPUT_DETAILS] = PLAIN_NAME("completion_tokens_details"),
    [PLAIN_HIT] = PLAIN_NAME("prompt_cache_hit_tokens"),
};

/* ---- the message ---- */

/* A field that lash does not know goes back: it is odd, unless it is null. */
static bool is_null(struct json_reader *r)
{
    return json_next(r) == JSON_NULL;
}

static bool next_string(struct json_reader *r, struct json_str *s)
{
    enum json_token t = json_next(r);
    *s = r->u.str;
    return t == JSON_STRING;
}

static bool read_function(struct json_reader *r, struct json_str *name, struct json_str *args)
{
    static const struct plain_name names[] = {PLAIN_NAME("name"), PLAIN_NAME("arguments")};
    unsigned seen = 0;
    int field;
    if (json_next(r) != JSON_OBJECT_BEGIN) {
        return false;
    }
    for (;;) {
        enum plain_step step = plain_next(r, names, 2, &seen, &field);
        if (step == PLAIN_END) {
            return seen == 3;
        }
        if (step == PLAIN_ODD || (step == PLAIN_OTHER && !is_null(r)) ||
            (step == PLAIN_FIELD && !next_string(r, field == 0 ? name : args))) {
            return false;
        }
    }
}

/* The call whose first token was read. */
static bool read_call(struct chat *c)
{
    enum { ID, FUNCTION, TYPE, INDEX, FIELDS };
    static const struct plain_name names[] = {[ID] = PLAIN_NAME("id"),
                                              [FUNCTION] = PLAIN_NAME("function"),
                                              [TYPE] = PLAIN_NAME("type"),
                                              [INDEX] = PLAIN_NAME("index")};
    struct json_str id = {.raw = NULL};
    struct json_str name = id;
    struct json_str args = id;
    unsigned seen = 0;
    int field;
    for (;;) {
        enum plain_step step = plain_next(&c->r, names, FIELDS, &seen, &field);
        if (step == PLAIN_END) {
            return (seen & 3) == 3 && plain_call(c->L, &c->calls, id, name, args);
        }
        bool ok = step == PLAIN_ODD     ? false
                  : step == PLAIN_OTHER ? is_null(&c->r)
                  : field == ID         ? next_string(&c->r, &id)
                  : field == FUNCTION   ? read_function(&c->r, &name, &args)
                                        : plain_skip(&c->r);
        if (!ok) {
            return false;
        }
    }
}

static bool read_calls(struct chat *c)
{
    enum json_token t = json_next(&c->r);
    if (t == JSON_NULL) {
        return true;
    }
    if (t != JSON_ARRAY_BEGIN) {
        return false;
    }
    for (;;) {
        t = json_next(&c->r);
        if (t == JSON_ARRAY_END) {
            return true;
        }
        if (t != JSON_OBJECT_BEGIN || !read_call(c)) {
            return false;
        }
        lua_rawseti(c->L, AT_CALLS, c->calls.count);
    }
}

/* A text that may begin with <think> is odd. */
static bool read_content(struct chat *c)
{
    enum json_token t = json_next(&c->r);
    if (t == JSON_NULL) {
        return true;
    }
    if (t != JSON_STRING) {
        return false;
    }
    l_json_push_string(c->L, c->r.u.str);
    lua_replace(c->L, AT_SAID);
    const char *s = lua_tostring(c->L, AT_SAID);
    return s[strspn(s, " \t\n\v\f\r")] != '<';
}

static bool read_message(struct chat *c)
{
    enum { ROLE, CONTENT, CALLS, ANNOTATIONS, AUDIO, PARSED, INDEX, REFUSAL, FIELDS };
    static const struct plain_name names[] = {
        [ROLE] = PLAIN_NAME("role"),        [CONTENT] = PLAIN_NAME("content"),
        [CALLS] = PLAIN_NAME("tool_calls"), [ANNOTATIONS] = PLAIN_NAME("annotations"),
        [AUDIO] = PLAIN_NAME("audio"),      [PARSED] = PLAIN_NAME("parsed"),
        [INDEX] = PLAIN_NAME("index"),      [REFUSAL] = PLAIN_NAME("refusal"),
    };
    unsigned seen = 0;
    int field;
    if (json_next(&c->r) != JSON_OBJECT_BEGIN) {
        return false;
    }
    for (;;) {
        enum plain_step step = plain_next(&c->r, names, FIELDS, &seen, &field);
        if (step == PLAIN_END) {
            return true;
        }
        bool ok = step == PLAIN_ODD                         ? false
                  : step == PLAIN_OTHER || field == REFUSAL ? is_null(&c->r)
                  : field == CONTENT                        ? read_content(c)
                  : field == CALLS                          ? read_calls(c)
                                                            : plain_skip(&c->r);
        if (!ok) {
            return false;
        }
    }
}

/* ---- the answer ---- */

static bool read_reason(struct json_reader *r)
{
    struct json_str reason;
    return next_string(r, &reason) && (plain_is(reason, "stop") || plain_is(reason, "tool_calls"));
}

static bool read_index(struct json_reader *r)
{
    return json_next(r) == JSON_INTEGER && r->u.integer == 0;
}

/* The choices: one, with the index 0 or none. */
static bool read_choices(struct chat *c)
{
    enum { MESSAGE, REASON, INDEX, ERROR, USAGE, DELTA, FIELDS };
    static const struct plain_name names[] = {
        [MESSAGE] = PLAIN_NAME("message"), [REASON] = PLAIN_NAME("finish_reason"),
        [INDEX] = PLAIN_NAME("index"),     [ERROR] = PLAIN_NAME("error"),
        [USAGE] = PLAIN_NAME("usage"),     [DELTA] = PLAIN_NAME("delta"),
    };
    unsigned seen = 0;
    int field;
    if (json_next(&c->r) != JSON_ARRAY_BEGIN) {
        return false;
    }
    if (json_next(&c->r) != JSON_OBJECT_BEGIN) {
        return false;
    }
    for (;;) {
        enum plain_step step = plain_next(&c->r, names, FIELDS, &seen, &field);
        if (step == PLAIN_END) {
            return (seen & 3) == 3 && json_next(&c->r) == JSON_ARRAY_END;
        }
        bool ok = step == PLAIN_ODD     ? false
                  : step == PLAIN_OTHER ? plain_skip(&c->r)
                  : field == MESSAGE    ? read_message(c)
                  : field == REASON     ? read_reason(&c->r)
                  : field == INDEX      ? read_index(&c->r)
                                        : is_null(&c->r);
        if (!ok) {
            return false;
        }
    }
}

static bool is_completion(struct json_reader *r)
{
    struct json_str object;
    return next_string(r, &object) && plain_is(object, "chat.completion");
}

static bool read_answer(struct chat *c, struct plain_usage *usage)
{
    enum { CHOICES, USAGE, OBJECT, ERROR, GROQ, FIELDS };
    static const struct plain_name names[] = {
        [CHOICES] = PLAIN_NAME("choices"), [USAGE] = PLAIN_NAME("usage"),
        [OBJECT] = PLAIN_NAME("object"),   [ERROR] = PLAIN_NAME("error"),
        [GROQ] = PLAIN_NAME("x_groq"),
    };
    unsigned seen = 0;
    int field;
    if (json_next(&c->r) != JSON_OBJECT_BEGIN) {
        return false;
    }
    for (;;) {
        enum plain_step step = plain_next(&c->r, names, FIELDS, &seen, &field);
        if (step == PLAIN_END) {
            return (seen & 3) == 3;
        }
        bool ok = step == PLAIN_ODD     ? false
                  : step == PLAIN_OTHER ? plain_skip(&c->r)
                  : field == CHOICES    ? read_choices(c)
                  : field == USAGE      ? plain_usage(&c->r, usage_names, PLAIN_COUNTS, usage)
                  : field == OBJECT     ? is_completion(&c->r)
                                        : is_null(&c->r);
        if (!ok) {
            return false;
        }
    }
}

int l_plain_chat(lua_State *L)
{
    struct chat c;
    struct plain_usage usage = {.in = {[PLAIN_CACHE_WRITE] = -1}}; // below 0: it is missing
    size_t len;
    const char *text = plain_check(L, PLAIN_TAKEN, &len);
    c.L = L;
    c.calls.count = 0;
    lua_createtable(L, 4, 0);
    lua_pushnil(L); // -- text seen taken calls said
    json_reader_init(&c.r, text, len, JSON_DEPTH_DEFAULT);
    if (len > PLAIN_TEXT_MAX || !read_answer(&c, &usage) || json_next(&c.r) != JSON_END) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, usage.counts[PLAIN_INPUT]);
    lua_pushinteger(L, usage.counts[PLAIN_OUTPUT]);
    lua_pushinteger(L, usage.counts[PLAIN_TOTAL]);
    lua_pushinteger(L,
                    usage.in[PLAIN_CACHED] > 0 ? usage.in[PLAIN_CACHED] : usage.counts[PLAIN_HIT]);
    lua_pushinteger(L, usage.out[PLAIN_REASONING]);
    if (usage.in[PLAIN_CACHE_WRITE] < 0) {
        lua_pushnil(L);
    } else {
        lua_pushinteger(L, usage.in[PLAIN_CACHE_WRITE]);
    }
    return 8;
}
