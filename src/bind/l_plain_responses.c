#include "base/base.h"
#include "bind/l_plain.h"

#include <lauxlib.h>

struct plain {
    lua_State *L;
    struct json_reader r;
    bool event;        // the text is the last event of a stream, the answer its field `response`
    lua_Integer items; // so many were read
    size_t list;       // where their array begins,
    size_t from, to;   // the first and the last of them: offsets into the text
    bool tight;        // nothing but a comma stands between two
    struct plain_calls calls;
};

enum { AT_EVENT = PLAIN_ARGS, AT_ITEMS, AT_WIRE, AT_USAGE };

/* ---- usage ---- */

static const struct plain_name usage_names[PLAIN_HIT] = {
    [PLAIN_INPUT] = PLAIN_NAME("input_tokens"),
    [PLAIN_OUTPUT] = PLAIN_NAME("output_tokens"),
    [PLAIN_TOTAL] = PLAIN_NAME("total_tokens"),
    [PLAIN_INPUT_DETAILS] = PLAIN_NAME("input_tokens_details"),
    [PLAIN_OUTPUT_DETAILS] = PLAIN_NAME("output_tokens_details"),
};

static void set_count(lua_State *L, const char *name, lua_Integer count)
{
    lua_pushinteger(L, count);
    lua_setfield(L, AT_USAGE, name);
}

static void make_usage(lua_State *L, const struct plain_usage *usage)
{
    const lua_Integer *counts = usage->counts;
    lua_Unsigned sum = (lua_Unsigned)counts[PLAIN_INPUT] + (lua_Unsigned)counts[PLAIN_OUTPUT];
    lua_createtable(L, 0, 5);
    lua_replace(L, AT_USAGE);
    set_count(L, "input", counts[PLAIN_INPUT]);
    set_count(L, "output", counts[PLAIN_OUTPUT]);
    set_count(L, "cached", usage->in[PLAIN_CACHED]);
    set_count(L, "reasoning", usage->out[PLAIN_REASONING]);
    set_count(L, "total", counts[PLAIN_TOTAL] > 0 ? counts[PLAIN_TOTAL] : (lua_Integer)sum);
    if (usage->in[PLAIN_CACHE_WRITE] > 0) {
        set_count(L, "cache_write", usage->in[PLAIN_CACHE_WRITE]);
    }
}

static bool read_usage(struct plain *p)
{
    struct plain_usage usage = {.counts = {0}};
    if (!plain_usage(&p->r, usage_names, PLAIN_HIT, &usage)) {
        return false;
    }
    make_usage(p->L, &usage);
    return true;
}

/* ---- items ---- */

enum {
    TYPE,
    STATUS,
    PHASE,
    CALL_ID,
    CALL_NAME,
    ARGUMENTS,
    SEALED,
    CALLER,
    CREATED_BY,
    PARSED,
    PARSED_ARGUMENTS,
    CONTENT,
    SUMMARY,
    ITEM_FIELDS,
    ONE_VALUE = CONTENT, // the fields before have one value that counts
};

static const struct plain_name item_names[] = {
    [TYPE] = PLAIN_NAME("type"),
    [STATUS] = PLAIN_NAME("status"),
    [PHASE] = PLAIN_NAME("phase"),
    [CALL_ID] = PLAIN_NAME("call_id"),
    [CALL_NAME] = PLAIN_NAME("name"),
    [ARGUMENTS] = PLAIN_NAME("arguments"),
    [SEALED] = PLAIN_NAME("encrypted_content"),
    [CALLER] = PLAIN_NAME("caller"),
    [CREATED_BY] = PLAIN_NAME("created_by"),
    [PARSED] = PLAIN_NAME("parsed"),
    [PARSED_ARGUMENTS] = PLAIN_NAME("parsed_arguments"),
    [CONTENT] = PLAIN_NAME("content"),
    [SUMMARY] = PLAIN_NAME("summary"),
};

/* A list of parts: missing, null, empty, or one text. */
struct texts {
    bool one;
    struct json_str type, text;
};

struct item {
    enum json_token token[ONE_VALUE]; // JSON_ERROR: there is no such field
    struct json_str text[ONE_VALUE];  // of strings
    struct texts content, summary;
};

static bool read_part(struct json_reader *r, struct texts *texts)
{
    static const struct plain_name names[] = {PLAIN_NAME("type"), PLAIN_NAME("text")};
    unsigned seen = 0;
    int field;
    for (;;) {
        enum plain_step step = plain_next(r, names, 2, &seen, &field);
        if (step == PLAIN_END) {
            return seen == 3;
        }
        if (step == PLAIN_ODD || (step == PLAIN_OTHER && !plain_skip(r))) {
            return false;
        }
        if (step == PLAIN_FIELD) {
            if (json_next(r) != JSON_STRING) {
                return false;
            }
            *(field == 0 ? &texts->type : &texts->text) = r->u.str;
        }
    }
}

static bool read_texts(struct json_reader *r, struct texts *texts)
{
    enum json_token t = json_next(r);
    if (t == JSON_NULL) {
        return true;
    }
    if (t != JSON_ARRAY_BEGIN) {
        return false;
    }
    t = json_next(r);
    if (t == JSON_ARRAY_END) {
        return true;
    }
    texts->one = true;
    return t == JSON_OBJECT_BEGIN && read_part(r, texts) && json_next(r) == JSON_ARRAY_END;
}

/* The item whose first token was read. */
static bool read_fields(struct json_reader *r, struct item *item)
{
    unsigned seen = 0;
    int field;
    for (int i = 0; i < ONE_VALUE; i++) {
        item->token[i] = JSON_ERROR;
    }
    item->content = item->summary = (struct texts){.one = false};
    for (;;) {
        bool ok = false;
        switch (plain_next(r, item_names, ITEM_FIELDS, &seen, &field)) {
        case PLAIN_FIELD:
            if (field >= ONE_VALUE) {
                ok = read_texts(r, field == CONTENT ? &item->content : &item->summary);
                break;
            }
            item->token[field] = json_next(r);
            if (item->token[field] == JSON_STRING) {
                item->text[field] = r->u.str;
            }
            ok = json_skip(r, item->token[field], NULL);
            break;
        case PLAIN_OTHER:
            ok = plain_skip(r);
            break;
        case PLAIN_END:
            return true;
        default:
            break;
        }
        if (!ok) {
            return false;
        }
    }
}

static bool push_call(struct plain *p, const struct item *item)
{
    if (item->token[CALL_ID] != JSON_STRING || item->token[CALL_NAME] != JSON_STRING ||
        item->token[ARGUMENTS] != JSON_STRING || item->token[CALLER] != JSON_ERROR ||
        (item->token[STATUS] == JSON_STRING && !plain_is(item->text[STATUS], "completed"))) {
        return false;
    }
    return plain_call(p->L, &p->calls, item->text[CALL_ID], item->text[CALL_NAME],
                      item->text[ARGUMENTS]);
}

static bool push_message(lua_State *L, const struct item *item)
{
    const struct texts *said = &item->content;
    enum json_token phase = item->token[PHASE];
    if (!said->one || !plain_is(said->type, "output_text") || said->text.len == 0) {
        return false;
    }
    plain_item(L, "text", 3);
    plain_text(L, "text", said->text);
    if (phase == JSON_STRING && item->text[PHASE].len > 0) {
        plain_text(L, "phase", item->text[PHASE]);
    }
    return true;
}

static bool push_reasoning(struct plain *p, const struct item *item)
{
    lua_State *L = p->L;
    const struct texts *thought = item->summary.one ? &item->summary : &item->content;
    const char *kind = item->summary.one ? "summary_text" : "reasoning_text";
    if ((thought->one && (!plain_is(thought->type, kind) || thought->text.len == 0)) ||
        (p->event && item->token[SEALED] != JSON_STRING)) {
        return false;
    }
    plain_item(L, "reasoning", 2);
    plain_text(L, "text", thought->one ? thought->text : (struct json_str){.raw = "", .len = 0});
    return true;
}

/* Adds an item to the list. */
static bool read_item(struct plain *p, bool *reasoning)
{
    lua_State *L = p->L;
    struct item item;
    size_t start = p->r.start;
    if (!read_fields(&p->r, &item) || item.token[TYPE] != JSON_STRING ||
        item.token[CREATED_BY] != JSON_ERROR || item.token[PARSED] != JSON_ERROR ||
        item.token[PARSED_ARGUMENTS] != JSON_ERROR) {
        return false;
    }
    *reasoning = plain_is(item.text[TYPE], "reasoning");
    bool ok = *reasoning                                   ? push_reasoning(p, &item)
              : plain_is(item.text[TYPE], "function_call") ? push_call(p, &item)
              : plain_is(item.text[TYPE], "message")       ? push_message(L, &item)
                                                           : false;
    if (!ok) {
        return false;
    }
    p->items++;
    lua_rawseti(L, AT_ITEMS, p->items);
    p->from = p->items == 1 ? start : p->from;
    p->tight = p->tight && (p->items == 1 || start == p->to + 1);
    p->to = p->r.end;
    return true;
}

/* The texts of the items with commas between them, as they go back. */
static void make_wire(struct plain *p)
{
    lua_State *L = p->L;
    if (p->tight) {
        lua_pushlstring(L, p->r.text + p->from, p->to - p->from);
        lua_replace(L, AT_WIRE);
        return;
    }
    struct json_reader r;
    luaL_Buffer wire;
    luaL_buffinit(L, &wire);
    json_reader_init(&r, p->r.text + p->list, p->to - p->list, JSON_DEPTH_DEFAULT);
    (void)json_next(&r); // the array; what follows was read before
    for (lua_Integer i = 0; i < p->items; i++) {
        size_t start = 0;
        (void)json_skip(&r, json_next(&r), &start);
        if (i > 0) {
            luaL_addchar(&wire, ',');
        }
        luaL_addlstring(&wire, r.text + start, r.end - start);
    }
    luaL_pushresult(&wire);
    lua_replace(L, AT_WIRE);
}

static bool read_items(struct plain *p)
{
    bool reasoning = false;
    if (json_next(&p->r) != JSON_ARRAY_BEGIN) {
        return false;
    }
    p->list = p->r.start;
    for (;;) {
        enum json_token t = json_next(&p->r);
        if (t == JSON_ARRAY_END) {
            make_wire(p);
            return !reasoning; // such that led to nothing does not go back
        }
        if (t != JSON_OBJECT_BEGIN || !read_item(p, &reasoning)) {
            return false;
        }
    }
}

/* ---- the answer ---- */

enum { ANSWER_STATUS, ANSWER_ERROR, ANSWER_OUTPUT, ANSWER_USAGE, ANSWER_FIELDS };

static const struct plain_name answer_names[] = {
    [ANSWER_STATUS] = PLAIN_NAME("status"),
    [ANSWER_ERROR] = PLAIN_NAME("error"),
    [ANSWER_OUTPUT] = PLAIN_NAME("output"),
    [ANSWER_USAGE] = PLAIN_NAME("usage"),
};

static bool read_field(struct plain *p, int field)
{
    switch (field) {
    case ANSWER_STATUS:
        return json_next(&p->r) == JSON_STRING && plain_is(p->r.u.str, "completed");
    case ANSWER_ERROR:
        return json_next(&p->r) == JSON_NULL;
    case ANSWER_OUTPUT:
        return read_items(p);
    default:
        return read_usage(p);
    }
}

/* The answer that the next token begins. */
static bool read_answer(struct plain *p)
{
    const unsigned needed = 1U << ANSWER_STATUS | 1U << ANSWER_OUTPUT | 1U << ANSWER_USAGE;
    unsigned seen = 0;
    int field;
    if (json_next(&p->r) != JSON_OBJECT_BEGIN) {
        return false;
    }
    for (;;) {
        enum plain_step step = plain_next(&p->r, answer_names, ANSWER_FIELDS, &seen, &field);
        if (step == PLAIN_END) {
            return (seen & needed) == needed;
        }
        if (step == PLAIN_ODD || (step == PLAIN_OTHER && !plain_skip(&p->r)) ||
            (step == PLAIN_FIELD && !read_field(p, field))) {
            return false;
        }
    }
}

static bool read_event(struct plain *p)
{
    static const struct plain_name names[] = {PLAIN_NAME("type"), PLAIN_NAME("response"),
                                              PLAIN_NAME("error")};
    unsigned seen = 0;
    int field;
    if (json_next(&p->r) != JSON_OBJECT_BEGIN) {
        return false;
    }
    for (;;) {
        enum plain_step step = plain_next(&p->r, names, 3, &seen, &field);
        if (step == PLAIN_END) {
            return (seen & 3) == 3;
        }
        bool ok = step == PLAIN_OTHER               ? plain_skip(&p->r)
                  : step == PLAIN_ODD || field == 2 ? false
                  : field == 1                      ? read_answer(p)
                                                    : json_next(&p->r) == JSON_STRING &&
                                     plain_is(p->r.u.str, "response.completed");
        if (!ok) {
            return false;
        }
    }
}

int l_plain_responses(lua_State *L)
{
    struct plain p;
    size_t len;
    const char *text = plain_check(L, AT_EVENT, &len);
    p.L = L;
    p.event = lua_toboolean(L, AT_EVENT);
    p.items = p.calls.count = 0;
    p.from = p.to = 0;
    p.tight = true;
    lua_createtable(L, 4, 0);
    lua_pushnil(L);
    lua_pushnil(L); // -- text seen taken event items wire usage
    json_reader_init(&p.r, text, len, JSON_DEPTH_DEFAULT);
    if (len > PLAIN_TEXT_MAX || !(p.event ? read_event(&p) : read_answer(&p)) ||
        json_next(&p.r) != JSON_END) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, p.calls.count);
    return 4;
}
