/*
 * Picks some values out of JSON texts that all look alike, as the events of a stream do: in one
 * pass that also checks that the text is JSON, without a table or a copy. Any thread; a shape is
 * only read.
 *
 * A shape says of every place in a text that matters what may stand there. A text that is not as
 * its shape says is refused, for whatever reason: then it has to be decoded. So a shape names what
 * the caller would look at, and what it leaves out it must not care about.
 */
#ifndef LASH_JSON_PICK_H
#define LASH_JSON_PICK_H

#include "base/base.h"
#include "io/json.h"

#define JSON_PICK_VALUES 8  /* that a shape can pick */
#define JSON_PICK_FIELDS 16 /* of an object that a shape can name */
#define JSON_PICK_DEPTH 8
#define JSON_PICK_MARKS 32

/* Larger texts are refused: of those a decoder may have limits that this has not. */
#define JSON_PICK_TEXT_MAX ((size_t)1 << 20)

enum json_rule_kind {
    RULE_ANY,         /* whatever stands there */
    RULE_NULL,        /* null, if anything */
    RULE_REFUSE,      /* nothing may stand there */
    RULE_VALUE,       /* picked: a string, an integer, true, false or null */
    RULE_OBJECT_TEXT, /* picked: the text of an object that is not empty; it has to be an object */
    RULE_FIELDS,      /* an object, and what its fields may be */
    RULE_SINGLE,      /* an array with one element, and what that may be */
};

struct json_rule {
    enum json_rule_kind kind;
    const char *name; /* of the field; borrowed */
    size_t name_len;
    int slot;     /* of what is picked, from 0 */
    int raw_slot; /* of what has to be a string, as it stands there if it has escapes; -1 = none */
    int first;    /* rules of the fields, or of the element, in the shape */
    int count;
    uint64_t lengths;           /* a bit for each length modulo 64 of the fields' names */
    enum json_rule_kind others; /* of fields without a rule: ANY, NULL or REFUSE */
};

struct json_mark {
    const char *text; /* borrowed */
    size_t text_len;
    char mark;
};

struct json_shape {
    int nvalues;
    int nrules;
    int nmarks; /* for certain texts: what they mean is the caller's choice */
    struct json_mark marks[JSON_PICK_MARKS];
    struct json_rule rules[]; /* the first is that of the whole text */
};

enum json_picked_kind { PICKED_NOTHING, PICKED_NULL, PICKED_BOOL, PICKED_INTEGER, PICKED_STRING };

/* Borrows from the text. */
struct json_picked {
    enum json_picked_kind kind;
    int64_t integer; /* or 0 and 1 for false and true */
    struct json_str str;
};

/* False: the text is not of this shape. text[len] can be read and is a control character, as the
 * NUL behind a string and the end of a line are; it is no part of the text. `out` has room for
 * JSON_PICK_VALUES; what the text does not have is PICKED_NOTHING. */
bool json_pick(const struct json_shape *shape, const char *text, size_t len,
               struct json_picked *out);

/* The mark of this text; 0 = it has none. */
char json_find_mark(const struct json_shape *shape, const char *text, size_t len);

#endif
