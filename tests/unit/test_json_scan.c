/*
 * io/json_scan.h and io/json_pick.h: what is done many bytes at a time, or without looking where
 * the text ends. That picked values are the right ones is tested in tests/lua/json_picker.lua.
 */
#include "base/base.h"

#include "io/json_pick.h"
#include "io/json_scan.h"

#include "test.h"

#include <stdlib.h>
#include <string.h>

static size_t plain_ascii(const char *s, size_t len)
{
    size_t n = 0;
    while (n < len && s[n] >= ' ' && (unsigned char)s[n] < 0x80 && s[n] != '"' && s[n] != '\\') {
        n++;
    }
    return n;
}

TEST(json_scanning_finds_what_a_look_at_each_byte_finds)
{
    for (size_t len = 0; len < 50; len++) {
        char *text = xmalloc(len); // reading past it is seen by the sanitizers
        for (unsigned at = 0; at < len * 256; at++) {
            memset(text, 'a', len);
            text[at / 256] = (char)(at % 256);
            text[len - 1 - (at * 7) % len] ^= (char)(at % 3 == 0 ? 0xC0 : 0);
            ASSERT_INT(json_scan_ascii(text, text + len) - text, plain_ascii(text, len));
            size_t run = 0;
            while (run < len) {
                size_t more = plain_ascii(text + run, len - run);
                if (more == 0 && (text[run] & 0x80) != 0) {
                    int n = json_utf8_length(text + run, len - run);
                    more = n < 0 ? 0 : (size_t)n;
                }
                if (more == 0) {
                    break;
                }
                run += more;
            }
            ASSERT_INT(json_plain_run(text, len), run);
        }
        free(text);
    }
}

/* Picks of a text that has the byte behind it. */
static bool pick_before(const struct json_shape *shape, const char *text, size_t len, char behind,
                        struct json_picked *out)
{
    char *copy = xmalloc(len + 1);
    memcpy(copy, text, len);
    copy[len] = behind;
    bool picked = json_pick(shape, copy, len, out);
    for (int i = 0; i < shape->nvalues; i++) { // borrowed of the copy
        out[i].str.raw =
            picked && out[i].kind == PICKED_STRING ? text + (out[i].str.raw - copy) : NULL;
    }
    free(copy);
    return picked;
}

TEST(json_pick_stops_at_whatever_is_behind_the_text)
{
    static const char *const texts[] = {
        "{\"type\":\"a\\n\\u00e9\",\"index\" : 12 ,\"x\":[{},[1.5e3,-1,true , null],\"\\\\\"]}",
        " { \"x\" : { \"y\" : \"\xC3\xA9\\\"\" } , \"type\" : null , \"index\":false } ",
        "{\"index\":0,\"type\":\"plain text of more than sixteen bytes\"}\t",
        "[1]",
        "{}",
        "12",
        "\"a\"",
        "true",
        "{\"x\":12",
        "{\"x\":tru",
        "{\"x\":\"\\",
        "{\"x\":1e",
    };
    struct json_shape *shape = xcalloc(1, sizeof *shape + 3 * sizeof shape->rules[0]);
    shape->nvalues = 2;
    shape->nrules = 3;
    shape->rules[0] = (struct json_rule){
        .kind = RULE_FIELDS, .raw_slot = -1, .first = 1, .count = 2, .lengths = 1 << 4 | 1 << 5};
    shape->rules[1] = (struct json_rule){
        .kind = RULE_VALUE, .name = "type", .name_len = 4, .slot = 0, .raw_slot = -1};
    shape->rules[2] = (struct json_rule){
        .kind = RULE_VALUE, .name = "index", .name_len = 5, .slot = 1, .raw_slot = -1};
    int picked = 0;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        for (size_t len = 0; len <= strlen(texts[i]); len++) {
            struct json_picked first[JSON_PICK_VALUES] = {0}, other[JSON_PICK_VALUES] = {0};
            bool found = pick_before(shape, texts[i], len, '\0', first);
            picked += found;
            for (const char *behind = "\n\r\t\x1f"; *behind != '\0'; behind++) {
                ASSERT_INT(pick_before(shape, texts[i], len, *behind, other), found);
                for (int v = 0; found && v < 2; v++) {
                    ASSERT_INT(other[v].kind, first[v].kind);
                    ASSERT_TRUE(other[v].str.raw == first[v].str.raw);
                    ASSERT_TRUE(first[v].kind != PICKED_STRING ||
                                other[v].str.len == first[v].str.len);
                    ASSERT_TRUE(first[v].kind != PICKED_INTEGER ||
                                other[v].integer == first[v].integer);
                }
            }
        }
    }
    ASSERT_INT(picked, 6); // the whole ones, and those with blanks at their end without them
    free(shape);
}
