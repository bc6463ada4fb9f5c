/*
 * lash.core.plain: ordinary whole answers of OpenAI's two protocols, read in one pass.
 *
 * Nearly all answers are of this kind; of all others nothing is said here, and the library reads
 * them (lua/lash/provider) in a way that would give the same for these. So whatever is not quite as
 * the server's makers write it ends the reading: what is left out here costs time, no answer. The
 * rules of memory and threads are those of l_json.c.
 */
#ifndef LASH_L_PLAIN_H
#define LASH_L_PLAIN_H

#include "base/base.h"

#include <lua.h>

#include "io/json.h"

/* A text that is no longer cannot have more values than decode() takes. */
#define PLAIN_TEXT_MAX ((size_t)2 << 20)

/* The name of a field. */
struct plain_name {
    const char *text;
    size_t len;
};

#define PLAIN_NAME(text)         \
    {                            \
        (text), sizeof(text) - 1 \
    }

enum plain_step { PLAIN_FIELD, PLAIN_OTHER, PLAIN_END, PLAIN_ODD };

/* The next field of an object: *field is its place among the `n` names. The token of its value is
 * the next one. A name that comes again (as *seen has a bit for each), or has an escape, is odd. */
enum plain_step plain_next(struct json_reader *r, const struct plain_name *names, int n,
                           unsigned *seen, int *field);

bool plain_skip(struct json_reader *r);
bool plain_is(struct json_str s, const char *text);

/* What an answer took, in the words of its protocol: the names are in this order; the last one may
 * be left out. */
enum {
    PLAIN_INPUT,
    PLAIN_OUTPUT,
    PLAIN_TOTAL,
    PLAIN_INPUT_DETAILS,
    PLAIN_OUTPUT_DETAILS,
    PLAIN_HIT,
    PLAIN_COUNTS
};
enum { PLAIN_CACHED, PLAIN_CACHE_WRITE, PLAIN_IN, PLAIN_REASONING = 0, PLAIN_OUT };

struct plain_usage {
    lua_Integer counts[PLAIN_COUNTS]; /* those of the details are not used */
    lua_Integer in[PLAIN_IN];
    lua_Integer out[PLAIN_OUT];
};

/* Reads the object that the next token begins: whole numbers, 0 for those below. What is missing
 * keeps its value. */
bool plain_usage(struct json_reader *r, const struct plain_name *names, int n,
                 struct plain_usage *usage);

/* -- ... => ... item: a table with its type and room for so many fields */
void plain_item(lua_State *L, const char *type, int fields);

/* -- ... item => the same; the text is its field */
void plain_text(lua_State *L, const char *name, struct json_str text);

/* The ids of an answer's calls, to see that none comes again. */
#define PLAIN_CALLS_MAX 32

struct plain_calls {
    lua_Integer count;
    struct json_str ids[PLAIN_CALLS_MAX];
};

/* Where the arguments of both functions below lie: the text; `seen`, whose fields that are true,
 * and `taken` or nil, whose fields are the ids that no call may have. */
enum { PLAIN_TEXT = 1, PLAIN_SEEN, PLAIN_TAKEN, PLAIN_ARGS };

/* Checks these arguments, removes all behind `args`, returns the text. */
const char *plain_check(lua_State *L, int args, size_t *len);

/* Pushes a call that needs no change to go back: with a name and a new id that may be sent, no
 * wrapper of others, and an object for arguments. Returns false for others. */
bool plain_call(lua_State *L, struct plain_calls *calls, struct json_str id, struct json_str name,
                struct json_str args);

/* responses(text, seen, taken, event) -> items, their texts with commas between them, usage, how
 * many of the items are calls | nil: the text is no ordinary answer of the Responses protocol.
 * event: it is the last event of a stream, in which reasoning must be sealed. */
int l_plain_responses(lua_State *L);

/* chat(text, seen, taken) -> list of calls, text or nil, then the numbers of usage (input, output,
 * total, cached, reasoning, cache_write or nil) | nil: the text is no ordinary answer of Chat
 * Completions, or its content may begin with <think>. */
int l_plain_chat(lua_State *L);

#endif
