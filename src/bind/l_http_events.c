/*
 * The events of a streamed answer.
 *
 * Where nobody wants an answer before it is whole, most events of it are of no use, as the last one
 * has everything once more: these echoes are kept back, as they came, without any Lua. They are
 * those whose type, the first picked value, has a mark, and whose name, if they have one, does. The
 * mark says what counts as a sign of the answer, as against one of mere life:
 *
 *     +    each event of this type
 *     -    none
 *     ?    those whose second picked value is a text that is not empty
 *
 *     !    as +, and the event is not read at all where its name is its type and it cannot be an
 * error .    as -, likewise
 *
 * One that is not of the shape is no echo. Should they be needed after all, as when the stream
 * breaks off, they are handed out in their order.
 */
#include "base/base.h"

#include "bind/bind.h"
#include "bind/fail.h"
#include "bind/l_http.h"
#include "bind/l_http_stream.h"
#include "bind/l_json.h"
#include "bind/l_json_pick.h"
#include "io/timer.h"

#include <lauxlib.h>
#include <string.h>
#include <strings.h>

/* With more than this kept back the next event is given, and with it all of them are taken. */
#define KEPT_MAX ((size_t)8 << 20)

/* What many answers need. */
#define KEPT_ROOM ((size_t)8 << 10)

/* ---- the limit of an event ---- */

/* No more bytes come, though the stream did not end: half an event is none, half a stray line is
 * worth showing. */
static void end_lines(struct stream *s)
{
    struct sse_event unfinished;
    if (s->sse != NULL) {
        (void)sse_end(s->sse, &unfinished);
    }
}

static void stall(struct stream *s)
{
    uint64_t comments = s->sse != NULL ? sse_comments(s->sse) : 0;
    if (s->code == NULL) {
        buf_appendf(&s->message,
                    "no event came from %s for %.3g s, though its connection is alive (%llu "
                    "keep-alive comments so far): try again, or raise event_timeout",
                    l_stream_shown(s), (double)s->event_timeout_ms / 1000,
                    (unsigned long long)comments);
    }
    end_lines(s);
    l_stream_give_up(s, "stalled");
}

static void on_event_timeout(void *arg)
{
    struct stream *s = arg;
    uint64_t gone = uv_hrtime() - s->timer_began_ns;
    s->timer = NULL;
    if (gone < s->event_left_ns) { // a sign of the answer came meanwhile
        s->timer = timer_start_ns(s->loop, s->event_left_ns - gone, on_event_timeout, s);
        return;
    }
    stall(s);
    l_stream_wake(s);
}

void l_stream_start_clock(struct stream *s)
{
    if (s->event_timeout_ms > 0 && s->timer == NULL) {
        s->timer_began_ns = uv_hrtime();
        s->timer = timer_start_ns(s->loop, s->event_left_ns, on_event_timeout, s);
    }
}

/* In nanoseconds, or a flood of events that do not count would never be waited for. */
void l_stream_stop_clock(struct stream *s)
{
    if (s->timer != NULL) {
        uint64_t gone = uv_hrtime() - s->timer_began_ns;
        s->event_left_ns = gone < s->event_left_ns ? s->event_left_ns - gone : 1;
        timer_stop(s->timer);
        s->timer = NULL;
    }
}

/* The limit begins anew. A timer that runs is not touched: when it fires it finds this. */
static void sign_of_answer(struct stream *s)
{
    s->event_left_ns = s->event_timeout_ms * 1000000;
    if (s->timer != NULL) {
        s->timer_began_ns = uv_hrtime();
    }
}

/* ---- echoes ---- */

static void keep(struct stream *s)
{
    size_t sizes[2] = {s->event.name_len, s->event.data_len};
    buf_reserve(&s->kept,
                (s->kept.data == NULL ? KEPT_ROOM : 0) + sizeof sizes + sizes[0] + sizes[1]);
    char *at = s->kept.data + s->kept.len;
    memcpy(at, sizes, sizeof sizes);
    memcpy(at + sizeof sizes, s->event.name, sizes[0]);
    memcpy(at + sizeof sizes + sizes[0], s->event.data, sizes[1]);
    s->kept.len += sizeof sizes + sizes[0] + sizes[1];
    s->kept.data[s->kept.len] = '\0';
}

static bool is_named(const struct sse_event *event, const char *name)
{
    return event->name_len == strlen(name) && memcmp(event->name, name, event->name_len) == 0;
}

static bool pick(const struct stream *s, struct json_picked *values)
{
    return s->shape != NULL && !is_named(&s->event, "error") &&
           json_pick(s->shape, s->event.data, s->event.data_len, values);
}

/* Whether the text of an event begins with its name as its type, and has no error in it. The reader
 * of the Responses protocol looks at it in the same way. */
static bool is_harmless(const struct sse_event *event)
{
    static const char head[] = "{\"type\":\"", error[] = "\"error\":";
    const size_t head_len = sizeof head - 1, error_len = sizeof error - 1, len = event->name_len;
    const char *data = event->data;
    if (event->data_len < head_len + len + 3 || memcmp(data, head, head_len) != 0 ||
        memcmp(data + head_len, event->name, len) != 0 ||
        memcmp(data + head_len + len, "\",", 2) != 0 || data[event->data_len - 1] != '}') {
        return false;
    }
    // searched by its colon: that is found fast
    const char *end = data + event->data_len;
    for (const char *at = data + head_len; (at = memchr(at, ':', (size_t)(end - at))) != NULL;) {
        at++;
        if (memcmp(at - error_len, error, error_len) == 0 &&
            (end - at < 4 || memcmp(at, "null", 4) != 0)) {
            return false;
        }
    }
    return true;
}

/* Whether the event that was found is an echo; then it is kept back. */
static bool keep_echo(struct stream *s)
{
    struct json_picked values[JSON_PICK_VALUES];
    const struct sse_event *event = &s->event;
    if (!s->quiet || s->kept.len > KEPT_MAX) {
        return false;
    }
    char counts = json_find_mark(s->shape, event->name, event->name_len);
    if ((counts == '!' || counts == '.') && is_harmless(event)) {
        if (counts == '!') {
            sign_of_answer(s);
        }
        keep(s);
        return true;
    }
    if ((counts == '\0' && !is_named(event, "message")) || !pick(s, values) ||
        values[0].kind != PICKED_STRING || values[0].str.escaped) {
        return false;
    }
    const struct json_str *type = &values[0].str;
    if (type->len != event->name_len || memcmp(type->raw, event->name, type->len) != 0) {
        counts = json_find_mark(s->shape, type->raw, type->len);
    }
    if (counts == '\0') {
        return false;
    }
    if (counts == '+' || counts == '!' ||
        (counts == '?' && values[1].kind == PICKED_STRING && values[1].str.len > 0)) {
        sign_of_answer(s);
    }
    keep(s);
    return true;
}

/* ---- events ---- */

bool l_stream_find_event(struct stream *s)
{
    if (s->sse == NULL) {
        s->sse = sse_new(s->max_event);
    }
    s->given = false;
    while (!s->found) {
        enum sse_what what = SSE_MORE;
        while (what == SSE_MORE && (l_stream_waiting(s) > 0 || l_stream_take(s))) {
            size_t used;
            what = sse_feed(s->sse, s->in.data + s->at, l_stream_waiting(s), &used, &s->event);
            s->at += used;
        }
        if (what == SSE_MORE && s->done) {
            if (l_stream_is_broken(s)) {
                end_lines(s);
            } else {
                what = sse_end(s->sse, &s->event);
            }
        }
        if (what != SSE_EVENT) {
            s->event_too_large = what == SSE_TOO_LARGE;
            return s->event_too_large || s->done;
        }
        s->found = !keep_echo(s);
    }
    return true;
}

/* Whether the head that came is that of an event stream. */
static bool is_events(const struct stream *s)
{
    static const char type[] = "text/event-stream";
    const size_t len = sizeof type - 1;
    const struct http_result *res = http_result(s->req);
    bool found = false;
    for (size_t i = 0; i < res->nheaders; i++) {
        const char *name, *value;
        http_result_header(s->req, i, &name, &value);
        if (strcasecmp(name, "content-type") == 0) {
            if (strncasecmp(value, type, len) != 0 || strchr("; ", value[len]) == NULL) { // or NUL
                return false;
            }
            found = true;
        }
    }
    return found && res->status >= 200 && res->status <= 299;
}

bool l_stream_has_begun(struct stream *s)
{
    if (s->req == NULL || !http_has_head(s->req)) {
        return s->done;
    }
    return !s->quiet || !is_events(s) || l_stream_find_event(s);
}

int l_stream_push_begin(lua_State *L, struct stream *s)
{
    if (s->req == NULL || !http_has_head(s->req)) {
        return l_stream_is_broken(s) ? l_stream_push_end(L, s) : -1;
    }
    bool events = is_events(s);
    s->quiet = s->quiet && events;
    if (s->quiet && s->code == NULL && !l_stream_find_event(s)) {
        return -1;
    }
    lua_pushinteger(L, http_result(s->req)->status);
    l_http_push_head(L, s->req);
    lua_pushboolean(L, events);
    return 3 + (s->quiet ? l_stream_push_event(L, s, WANT_TEXT) : 0);
}

static int push_table(lua_State *L, const struct sse_event *event)
{
    lua_createtable(L, 0, 4);
    lua_pushlstring(L, event->name, event->name_len);
    lua_setfield(L, -2, "event");
    lua_pushlstring(L, event->data, event->data_len);
    lua_setfield(L, -2, "data");
    if (event->id != NULL) {
        lua_pushlstring(L, event->id, event->id_len);
        lua_setfield(L, -2, "id");
    }
    if (event->retry_ms >= 0) {
        lua_pushnumber(L, (lua_Number)event->retry_ms / 1000);
        lua_setfield(L, -2, "retry");
    }
    return 1;
}

static int push_text(lua_State *L, const struct sse_event *event)
{
    lua_pushlstring(L, event->name, event->name_len);
    lua_pushlstring(L, event->data, event->data_len);
    return 2;
}

/* ---- events that are alike ---- */

/* Most events of a stream are like the one before, but for a text. What was picked of that one is
 * kept, as its bytes go; `text` is that of the strings, which are short as a rule. */
struct picks {
    int slot; /* of what may differ */
    bool known;
    struct json_picked values[JSON_PICK_VALUES];
    char text[160];
};

static void remember(struct picks *before, int nvalues, const struct json_picked *values)
{
    size_t used = 0;
    before->known = false;
    for (int i = 0; i < nvalues; i++) {
        struct json_picked *value = &before->values[i];
        *value = values[i];
        if (i == before->slot || value->kind != PICKED_STRING) {
            continue;
        }
        if (value->str.len > sizeof before->text - used) {
            return;
        }
        value->str.raw = memcpy(before->text + used, value->str.raw, value->str.len);
        used += value->str.len;
    }
    before->known = true;
}

static bool is_same(const struct json_picked *a, const struct json_picked *b)
{
    if (a->kind != b->kind) {
        return false;
    }
    if (a->kind == PICKED_STRING) {
        return a->str.len == b->str.len && a->str.escaped == b->str.escaped &&
               memcmp(a->str.raw, b->str.raw, a->str.len) == 0;
    }
    return a->kind == PICKED_NOTHING || a->kind == PICKED_NULL || a->integer == b->integer;
}

/* Whether only their texts differ, and there is one. */
static bool is_like(const struct picks *before, int nvalues, const struct json_picked *values)
{
    const struct json_picked *text = &values[before->slot];
    if (text->kind != PICKED_STRING || text->str.len == 0) {
        return false;
    }
    for (int i = 0; i < nvalues; i++) {
        if (i != before->slot && !is_same(&before->values[i], &values[i])) {
            return false;
        }
    }
    return true;
}

/* again() -> text: see repeats(). The stream is an upvalue, as this is called for each delta. */
static int l_again(lua_State *L)
{
    struct stream *s = lua_touserdata(L, lua_upvalueindex(1));
    struct json_picked values[JSON_PICK_VALUES];
    l_stream_check_free(L, s);
    s->given = false;
    if (s->code != NULL || s->before == NULL || !s->before->known || !l_stream_find_event(s) ||
        !s->found || !pick(s, values) || !is_like(s->before, s->shape->nvalues, values)) {
        return 0;
    }
    s->found = false;
    if (s->event_timeout_ms > 0) {
        s->event_given_ns = uv_hrtime();
    }
    luaL_checkstack(L, 2, NULL);
    l_json_push_string(L, values[s->before->slot].str);
    return 1;
}

/* stream:repeats(n) -> again: a function that gives the n-th value of the next event, a text that
 * is not empty, where all its others are those that plain() has picked last; nothing where they are
 * not, or no event is there yet: then plain() is asked. It does not wait, and the limit for an
 * event begins anew with the next plain(true). */
static int l_repeats(lua_State *L)
{
    struct stream *s = luaL_checkudata(L, 1, STREAM_TYPE);
    lua_Integer n = luaL_checkinteger(L, 2);
    luaL_argcheck(L, s->shape != NULL && n >= 1 && n <= s->shape->nvalues, 2, "no value is that");
    if (s->before == NULL) {
        s->before = xcalloc(1, sizeof *s->before);
    }
    s->before->slot = (int)n - 1;
    s->before->known = false;
    lua_settop(L, 1);
    lua_pushcclosure(L, l_again, 1);
    return 1;
}

/* Nothing, where they cannot be picked. */
static int push_plain(lua_State *L, const struct stream *s)
{
    struct json_picked values[JSON_PICK_VALUES];
    bool picked = !s->quiet && pick(s, values);
    if (s->before != NULL) {
        s->before->known = false;
        if (picked) {
            remember(s->before, s->shape->nvalues, values);
        }
    }
    return picked ? l_json_push_picked(L, s->shape, values) : 0;
}

int l_stream_push_event(lua_State *L, struct stream *s, enum what what)
{
    if (s->found) {
        s->found = false;
        s->given = true;
        if (s->event_timeout_ms > 0) {
            s->event_given_ns = uv_hrtime();
        }
        return what == WANT_EVENT   ? push_table(L, &s->event)
               : what == WANT_PLAIN ? push_plain(L, s)
                                    : push_text(L, &s->event);
    }
    if (what == WANT_PLAIN) {
        return 0;
    }
    if (s->event_too_large) {
        buf_appendf(&s->message, "%s sends an event of more than %zu bytes: raise max_event",
                    l_stream_shown(s), s->max_event);
        l_stream_give_up(s, "too_large");
    }
    return l_stream_push_end(L, s);
}

void l_stream_close_events(struct stream *s)
{
    l_stream_stop_clock(s);
    if (s->sse != NULL && s->stray.data == NULL) {
        size_t len;
        const char *stray = sse_stray(s->sse, &len);
        buf_append(&s->stray, stray, len);
    }
    sse_free(s->sse);
    s->sse = NULL;
    s->found = s->given = false;
}

/* ---- methods ---- */

static int get_event(lua_State *L, enum what what)
{
    struct stream *s = l_stream_check(L);
    if (lua_toboolean(L, 2) || s->event_left_ns == 0) {
        s->event_left_ns = s->event_timeout_ms * 1000000;
    } else if (s->event_given_ns != 0 && s->code == NULL) {
        // the one before was a mere sign of life: a flood of them leaves no time for waiting
        uint64_t gone = uv_hrtime() - s->event_given_ns;
        if (gone >= s->event_left_ns) {
            stall(s);
        } else {
            s->event_left_ns -= gone;
        }
    }
    return l_stream_get(L, s, what, 0);
}

/* stream:event(anew) -> event | nil | nil, err; `anew`: event_timeout begins anew */
static int l_event(lua_State *L)
{
    return get_event(L, WANT_EVENT);
}

/* stream:next(anew) -> name, data | nil | nil, err: the next event that is not kept back */
static int l_next(lua_State *L)
{
    return get_event(L, WANT_TEXT);
}

/* stream:plain(anew) -> picked values... of the next event; nothing where it is not of the shape,
 * then last() has it, and where there is none, then next() says why */
static int l_plain(lua_State *L)
{
    return get_event(L, WANT_PLAIN);
}

/* stream:last() -> name, data: of the event that was given last, as long as nothing more is asked
 * for; else nothing */
static int l_last(lua_State *L)
{
    const struct stream *s = luaL_checkudata(L, 1, STREAM_TYPE);
    return s->given ? push_text(L, &s->event) : 0;
}

/* stream:begin(picker | nil, quiet) -> status, head as of exchange(), is_events [, name, data | nil
 * | nil, err] | nil, err: the head of an answer to a request without upload. picker: what plain()
 * gives; quiet: next() keeps echoes back. is_events: its type is that of event streams, and it is
 * no refusal; if it is quiet too, then what the first next() returns comes at once, else quiet is
 * off. */
static int l_begin(lua_State *L)
{
    struct stream *s = l_stream_check(L);
    lua_settop(L, 3);
    if (!lua_isnil(L, 2)) {
        const struct json_shape *shape = l_json_check_shape(L, 2);
        bool quiet = lua_toboolean(L, 3);
        luaL_argcheck(L, !quiet || shape->nvalues >= 2, 2, "it picks less than two values");
        lua_pushvalue(L, 2);
        lua_setiuservalue(L, 1, 2);
        s->shape = shape;
        s->quiet = quiet;
    }
    s->event_left_ns = s->event_timeout_ms * 1000000;
    return l_stream_get(L, s, WANT_BEGIN, 0);
}

/* stream:kept() -> name, data: of the next event that was kept back; nothing when there is none.
 * Also when the stream is closed, but not when it was left. */
static int l_kept(lua_State *L)
{
    struct stream *s = luaL_checkudata(L, 1, STREAM_TYPE);
    size_t sizes[2];
    if (s->kept_at == s->kept.len) {
        buf_release(&s->kept);
        s->kept_at = 0;
        return 0;
    }
    memcpy(sizes, s->kept.data + s->kept_at, sizeof sizes);
    const char *name = s->kept.data + s->kept_at + sizeof sizes;
    lua_pushlstring(L, name, sizes[0]);
    lua_pushlstring(L, name + sizes[0], sizes[1]);
    s->kept_at += sizeof sizes + sizes[0] + sizes[1];
    return 2;
}

/* stream:stray() -> the lines that event() passed over: see sse_stray() */
static int l_stray(lua_State *L)
{
    struct stream *s = luaL_checkudata(L, 1, STREAM_TYPE);
    size_t len = s->stray.len;
    const char *stray = s->stray.data != NULL ? s->stray.data : "";
    if (s->sse != NULL) {
        stray = sse_stray(s->sse, &len);
    }
    lua_pushlstring(L, stray, len);
    return 1;
}

const luaL_Reg l_stream_event_methods[] = {
    {"event", l_event}, {"next", l_next},   {"plain", l_plain},
    {"last", l_last},   {"begin", l_begin}, {"repeats", l_repeats},
    {"kept", l_kept},   {"stray", l_stray}, {NULL, NULL}};
