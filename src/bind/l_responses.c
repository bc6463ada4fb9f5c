/*
 * lash.core.responses: an ordinary whole answer of OpenAI's Responses protocol, read in one pass.
 *
 * Nearly all answers are of this kind; of all others nothing is said here, and the library reads
 * them (lua/lash/provider/openai/answer.lua) in a way that would give the same for these. So
 * whatever is not quite as OpenAI writes it ends the reading: what is left out here costs time, no
 * answer. The rules of memory and threads are those of l_json.c.
 */
#include "base/base.h"
#include "bind/bind.h"
#include "bind/l_json.h"

#include <lauxlib.h>
#include <string.h>

#include "io/json.h"

/* A shorter text cannot have more values than decode() takes. */
#define TEXT_MAX ((size_t)2 << 20)
#define ARGUMENTS_DEPTH 64 /* as history.object_text() */
#define ID_MAX 64
#define NAME_LEN_MAX 64

struct plain {
    lua_State *L;
    struct json_reader r;
    bool event;        // the text is the last event of a stream, the answer its field `response`
    lua_Integer items; // so many are in the lists
    lua_Integer calls;
};

enum { AT_TEXT = 1, AT_ITEMS, AT_WIRE, AT_USAGE };

/* ---- objects ---- */

struct name {
    const char *text;
    size_t len;
};

#define NAME(text)               \
    {                            \
        (text), sizeof(text) - 1 \
    }

static bool is(struct json_str s, const char *text)
{
    return !s.escaped && s.len == strlen(text) && memcmp(s.raw, text, s.len) == 0;
}

enum step { FIELD, OTHER, END, ODD };

/* The next field of an object: *field is its place among the names. The token of its value is the
 * next one. A name that comes again, or has an escape, is odd. */
static enum step next_field(struct json_reader *r, const struct name *names, int n, unsigned *seen,
                            int *field)
{
    enum json_token t = json_next(r);
    if (t != JSON_KEY || r->u.str.escaped) {
        return t == JSON_OBJECT_END ? END : ODD;
    }
    for (int i = 0; i < n; i++) {
        if (names[i].len == r->u.str.len &&
            memcmp(names[i].text, r->u.str.raw, r->u.str.len) == 0) {
            *field = i;
            bool again = (*seen >> i & 1) != 0;
            *seen |= 1U << i;
            return again ? ODD : FIELD;
        }
    }
    return OTHER;
}

static bool skip_next(struct json_reader *r)
{
    return json_skip(r, json_next(r), NULL);
}

/* ---- usage ---- */

enum { INPUT, OUTPUT, TOTAL, INPUT_DETAILS, OUTPUT_DETAILS, USAGE_FIELDS };
enum { CACHED, CACHE_WRITE, DETAILS_IN, REASONING = 0, DETAILS_OUT };

static const struct name usage_names[] = {
    [INPUT] = NAME("input_tokens"),
    [OUTPUT] = NAME("output_tokens"),
    [TOTAL] = NAME("total_tokens"),
    [INPUT_DETAILS] = NAME("input_tokens_details"),
    [OUTPUT_DETAILS] = NAME("output_tokens_details"),
};
static const struct name input_names[] = {
    [CACHED] = NAME("cached_tokens"), [CACHE_WRITE] = NAME("cache_write_tokens")};
static const struct name output_names[] = {[REASONING] = NAME("reasoning_tokens")};

static bool read_count(const struct json_reader *r, enum json_token t, lua_Integer *count)
{
    *count = t == JSON_INTEGER && r->u.integer > 0 ? r->u.integer : 0;
    return t == JSON_INTEGER;
}

/* The counts with these names, of the object that the next token begins. */
static bool read_counts(struct json_reader *r, const struct name *names, int n, lua_Integer *counts)
{
    unsigned seen = 0;
    int field;
    if (json_next(r) != JSON_OBJECT_BEGIN) {
        return false;
    }
    for (;;) {
        switch (next_field(r, names, n, &seen, &field)) {
        case FIELD:
            if (!read_count(r, json_next(r), &counts[field])) {
                return false;
            }
            break;
        case OTHER:
            if (!skip_next(r)) {
                return false;
            }
            break;
        case END:
            return true;
        default:
            return false;
        }
    }
}

static void set_count(lua_State *L, const char *name, lua_Integer count)
{
    lua_pushinteger(L, count);
    lua_setfield(L, AT_USAGE, name);
}

static void make_usage(lua_State *L, const lua_Integer *counts, lua_Integer cached,
                       lua_Integer written, lua_Integer reasoning)
{
    lua_Unsigned sum = (lua_Unsigned)counts[INPUT] + (lua_Unsigned)counts[OUTPUT];
    lua_createtable(L, 0, 5);
    lua_replace(L, AT_USAGE);
    set_count(L, "input", counts[INPUT]);
    set_count(L, "output", counts[OUTPUT]);
    set_count(L, "cached", cached);
    set_count(L, "reasoning", reasoning);
    set_count(L, "total", counts[TOTAL] > 0 ? counts[TOTAL] : (lua_Integer)sum);
    if (written > 0) {
        set_count(L, "cache_write", written);
    }
}

static bool read_usage(struct plain *p)
{
    struct json_reader *r = &p->r;
    lua_Integer counts[USAGE_FIELDS] = {0};
    lua_Integer in[DETAILS_IN] = {0};
    lua_Integer out[DETAILS_OUT] = {0};
    unsigned seen = 0;
    int field;
    if (json_next(r) != JSON_OBJECT_BEGIN) {
        return false;
    }
    for (;;) {
        bool ok = false;
        switch (next_field(r, usage_names, USAGE_FIELDS, &seen, &field)) {
        case FIELD:
            ok = field == INPUT_DETAILS    ? read_counts(r, input_names, DETAILS_IN, in)
                 : field == OUTPUT_DETAILS ? read_counts(r, output_names, DETAILS_OUT, out)
                                           : read_count(r, json_next(r), &counts[field]);
            break;
        case OTHER:
            ok = skip_next(r);
            break;
        case END:
            make_usage(p->L, counts, in[CACHED], in[CACHE_WRITE], out[REASONING]);
            return true;
        default:
            break;
        }
        if (!ok) {
            return false;
        }
    }
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

static const struct name item_names[] = {
    [TYPE] = NAME("type"),
    [STATUS] = NAME("status"),
    [PHASE] = NAME("phase"),
    [CALL_ID] = NAME("call_id"),
    [CALL_NAME] = NAME("name"),
    [ARGUMENTS] = NAME("arguments"),
    [SEALED] = NAME("encrypted_content"),
    [CALLER] = NAME("caller"),
    [CREATED_BY] = NAME("created_by"),
    [PARSED] = NAME("parsed"),
    [PARSED_ARGUMENTS] = NAME("parsed_arguments"),
    [CONTENT] = NAME("content"),
    [SUMMARY] = NAME("summary"),
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
    static const struct name names[] = {NAME("type"), NAME("text")};
    unsigned seen = 0;
    int field;
    for (;;) {
        enum step step = next_field(r, names, 2, &seen, &field);
        if (step == END) {
            return seen == 3;
        }
        if (step == ODD || (step == OTHER && !skip_next(r))) {
            return false;
        }
        if (step == FIELD) {
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
        switch (next_field(r, item_names, ITEM_FIELDS, &seen, &field)) {
        case FIELD:
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
        case OTHER:
            ok = skip_next(r);
            break;
        case END:
            return true;
        default:
            break;
        }
        if (!ok) {
            return false;
        }
    }
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

/* -- ... table => the same; the text is its field */
static void set_text(lua_State *L, const char *name, struct json_str text)
{
    l_json_push_string(L, text);
    lua_setfield(L, -2, name);
}

static void new_item(lua_State *L, const char *type, int fields)
{
    lua_createtable(L, 0, fields);
    lua_pushstring(L, type);
    lua_setfield(L, -2, "type");
}

/* A call that goes back as it came, and is no wrapper of others. */
static bool push_call(struct plain *p, const struct item *item)
{
    lua_State *L = p->L;
    struct json_str id = item->text[CALL_ID];
    struct json_str name = item->text[CALL_NAME];
    size_t len;

    if (item->token[CALL_ID] != JSON_STRING || item->token[CALL_NAME] != JSON_STRING ||
        item->token[ARGUMENTS] != JSON_STRING || item->token[CALLER] != JSON_ERROR || id.escaped ||
        id.len == 0 || id.len > ID_MAX || !is_name(name) || is(name, "parallel") ||
        (item->token[STATUS] == JSON_STRING && !is(item->text[STATUS], "completed"))) {
        return false;
    }
    new_item(L, "call", 4);
    set_text(L, "id", id);
    set_text(L, "name", name);
    l_json_push_string(L, item->text[ARGUMENTS]); // -- call args
    const char *args = lua_tolstring(L, -1, &len);
    if (l_json_container(args, len, ARGUMENTS_DEPTH) != JSON_OBJECT_BEGIN) {
        return false;
    }
    lua_setfield(L, -2, "args");
    p->calls++;
    return true;
}

static bool push_message(lua_State *L, const struct item *item)
{
    const struct texts *said = &item->content;
    enum json_token phase = item->token[PHASE];
    if (!said->one || !is(said->type, "output_text") || said->text.len == 0) {
        return false;
    }
    new_item(L, "text", 3);
    set_text(L, "text", said->text);
    if (phase == JSON_STRING && item->text[PHASE].len > 0) {
        set_text(L, "phase", item->text[PHASE]);
    }
    return true;
}

static bool push_reasoning(struct plain *p, const struct item *item)
{
    lua_State *L = p->L;
    const struct texts *thought = item->summary.one ? &item->summary : &item->content;
    const char *kind = item->summary.one ? "summary_text" : "reasoning_text";
    if ((thought->one && (!is(thought->type, kind) || thought->text.len == 0)) ||
        (p->event && item->token[SEALED] != JSON_STRING)) {
        return false;
    }
    new_item(L, "reasoning", 2);
    set_text(L, "text", thought->one ? thought->text : (struct json_str){.raw = "", .len = 0});
    return true;
}

/* Adds an item to both lists. */
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
    *reasoning = is(item.text[TYPE], "reasoning");
    bool ok = *reasoning                             ? push_reasoning(p, &item)
              : is(item.text[TYPE], "function_call") ? push_call(p, &item)
              : is(item.text[TYPE], "message")       ? push_message(L, &item)
                                                     : false;
    if (!ok) {
        return false;
    }
    p->items++;
    lua_rawseti(L, AT_ITEMS, p->items);
    lua_pushlstring(L, p->r.text + start, p->r.end - start);
    lua_rawseti(L, AT_WIRE, p->items);
    return true;
}

static bool read_items(struct plain *p)
{
    bool reasoning = false;
    if (json_next(&p->r) != JSON_ARRAY_BEGIN) {
        return false;
    }
    for (;;) {
        enum json_token t = json_next(&p->r);
        if (t == JSON_ARRAY_END) {
            return !reasoning; // such that led to nothing does not go back
        }
        if (t != JSON_OBJECT_BEGIN || !read_item(p, &reasoning)) {
            return false;
        }
    }
}

/* ---- the answer ---- */

enum { ANSWER_STATUS, ANSWER_ERROR, ANSWER_OUTPUT, ANSWER_USAGE, ANSWER_FIELDS };

static const struct name answer_names[] = {
    [ANSWER_STATUS] = NAME("status"),
    [ANSWER_ERROR] = NAME("error"),
    [ANSWER_OUTPUT] = NAME("output"),
    [ANSWER_USAGE] = NAME("usage"),
};

static bool read_field(struct plain *p, int field)
{
    switch (field) {
    case ANSWER_STATUS:
        return json_next(&p->r) == JSON_STRING && is(p->r.u.str, "completed");
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
        enum step step = next_field(&p->r, answer_names, ANSWER_FIELDS, &seen, &field);
        if (step == END) {
            return (seen & needed) == needed;
        }
        if (step == ODD || (step == OTHER && !skip_next(&p->r)) ||
            (step == FIELD && !read_field(p, field))) {
            return false;
        }
    }
}

static bool read_event(struct plain *p)
{
    static const struct name names[] = {NAME("type"), NAME("response"), NAME("error")};
    unsigned seen = 0;
    int field;
    if (json_next(&p->r) != JSON_OBJECT_BEGIN) {
        return false;
    }
    for (;;) {
        enum step step = next_field(&p->r, names, 3, &seen, &field);
        if (step == END) {
            return (seen & 3) == 3;
        }
        bool ok = step == OTHER               ? skip_next(&p->r)
                  : step == ODD || field == 2 ? false
                  : field == 1
                      ? read_answer(p)
                      : json_next(&p->r) == JSON_STRING && is(p->r.u.str, "response.completed");
        if (!ok) {
            return false;
        }
    }
}

/* plain(text, event) -> items, wire, usage, how many of the items are calls | nil: the text is not
 * an ordinary answer. event: it is the last event of a stream, in which reasoning must be sealed.
 * Whether the ids of calls are new is for the caller to see. */
static int l_responses_plain(lua_State *L)
{
    struct plain p = {.L = L};
    size_t len;
    const char *text = luaL_checklstring(L, AT_TEXT, &len);
    p.event = lua_toboolean(L, 2);
    lua_settop(L, AT_TEXT);
    lua_createtable(L, 4, 0);
    lua_createtable(L, 4, 0);
    lua_pushnil(L); // -- text items wire usage
    json_reader_init(&p.r, text, len, JSON_DEPTH_DEFAULT);
    if (len > TEXT_MAX || !(p.event ? read_event(&p) : read_answer(&p)) ||
        json_next(&p.r) != JSON_END) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, p.calls);
    return 4;
}

int luaopen_lash_core_responses(lua_State *L)
{
    static const luaL_Reg functions[] = {{"plain", l_responses_plain}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
