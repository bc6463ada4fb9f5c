/*
 * io/json and lash.core.json: against cJSON, against random damage, against a failing allocator,
 * under a locale whose decimal point is a comma.
 */
#include "base/base.h"
#include "test.h"

#include <cJSON.h>
#include <lauxlib.h>
#include <locale.h>
#include <lua.h>
#include <lualib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "bind/bind.h"
#include "engine/ship.h"
#include "io/json.h"

/* The same sequence in every run: a failure can be looked at again. */
static uint64_t random_bits(uint64_t *seed)
{
    *seed += 0x9E3779B97F4A7C15U;
    uint64_t z = *seed;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}

static unsigned below(uint64_t *seed, unsigned n)
{
    return (unsigned)(random_bits(seed) % n);
}

static double random_double(uint64_t *seed)
{
    double d;
    uint64_t bits = random_bits(seed);
    memcpy(&d, &bits, sizeof(d));
    return d;
}

/* ---- random texts ---- */

static void random_string(struct buf *b, uint64_t *seed)
{
    static const char *const parts[] = {"a",        "\\n",     "\\\"",        "\\u00e9",
                                        "\xC3\xA9", "\\/",     "\\\\",        "\\ud83d\\ude00",
                                        "\\b",      " ",       "plain text",  "\xF0\x9F\x98\x80",
                                        "\x7F",     "\\u001f", "\xE2\x82\xAC"};
    buf_append_char(b, '"');
    for (unsigned n = below(seed, 12); n > 0; n--) {
        buf_append_str(b, parts[below(seed, ARRAY_LEN(parts))]);
    }
    buf_append_char(b, '"');
}

static void random_number(struct buf *b, uint64_t *seed)
{
    switch (below(seed, 4)) {
    case 0:
        buf_appendf(b, "%d", (int)below(seed, 2001) - 1000);
        break;
    case 1:
        buf_appendf(b, "%lld", (long long)random_bits(seed));
        break;
    case 2:
        buf_appendf(b, "%s%u.%uE%s%u", below(seed, 2) ? "-" : "", below(seed, 100),
                    below(seed, 100000), below(seed, 2) ? "+" : "-", below(seed, 40));
        break;
    default: {
        double d = random_double(seed);
        buf_appendf(b, "%.*g", 1 + (int)below(seed, 20), isfinite(d) ? d : 0.5);
        break;
    }
    }
}

static void random_space(struct buf *b, uint64_t *seed)
{
    if (below(seed, 4) == 0) {
        buf_append_char(b, " \n\t\r"[below(seed, 4)]);
    }
}

static void random_value(struct buf *b, uint64_t *seed, unsigned depth)
{
    static const char *const words[] = {"null", "true", "false", "[]", "{}", "[ ]"};
    unsigned kind = below(seed, depth > 5 ? 3 : 5);
    random_space(b, seed);
    if (kind == 0) {
        random_string(b, seed);
    } else if (kind == 1) {
        random_number(b, seed);
    } else if (kind == 2) {
        buf_append_str(b, words[below(seed, ARRAY_LEN(words))]);
    } else {
        unsigned n = 1 + below(seed, 5);
        buf_append_char(b, kind == 3 ? '[' : '{');
        for (unsigned i = 0; i < n; i++) {
            if (i > 0) {
                buf_append_char(b, ',');
            }
            if (kind == 4) {
                random_space(b, seed);
                random_string(b, seed);
                random_space(b, seed);
                buf_append_char(b, ':');
            }
            random_value(b, seed, depth + 1);
        }
        buf_append_char(b, kind == 3 ? ']' : '}');
    }
    random_space(b, seed);
}

/* ---- against cJSON ---- */

static bool same_string(struct json_str s, const char *expected)
{
    char *text = xmalloc(s.len + 1);
    size_t n = json_unescape(s, text);
    bool same = n <= s.len && n == strlen(expected) && memcmp(text, expected, n) == 0;
    free(text);
    return same;
}

static bool same_number(const struct json_reader *r, enum json_token t, double expected)
{
    if (t == JSON_INTEGER) {
        return (double)r->u.integer == expected;
    }
    if (t == JSON_FLOAT) {
        return r->u.number == expected;
    }
    char *digits = xmalloc(r->end - r->start + 1);
    memcpy(digits, r->text + r->start, r->end - r->start);
    digits[r->end - r->start] = '\0';
    bool same = strtod(digits, NULL) == expected;
    free(digits);
    return same;
}

/* Does the value that the token begins say what the tree says? */
static bool same_value(struct json_reader *r, enum json_token t, const cJSON *tree)
{
    switch (t) {
    case JSON_NULL:
        return cJSON_IsNull(tree);
    case JSON_TRUE:
        return cJSON_IsTrue(tree);
    case JSON_FALSE:
        return cJSON_IsFalse(tree);
    case JSON_INTEGER:
    case JSON_BIG:
    case JSON_FLOAT:
        return cJSON_IsNumber(tree) && same_number(r, t, tree->valuedouble);
    case JSON_STRING:
        return cJSON_IsString(tree) && same_string(r->u.str, tree->valuestring);
    default:
        break;
    }
    if (!(t == JSON_ARRAY_BEGIN ? cJSON_IsArray(tree) : cJSON_IsObject(tree))) {
        return false;
    }
    const cJSON *child = tree->child;
    for (;;) {
        enum json_token next = json_next(r);
        if (next == JSON_ARRAY_END || next == JSON_OBJECT_END) {
            return child == NULL;
        }
        if (child == NULL) {
            return false;
        }
        if (next == JSON_KEY) {
            if (!same_string(r->u.str, child->string)) {
                return false;
            }
            next = json_next(r);
        }
        if (next == JSON_ERROR || !same_value(r, next, child)) {
            return false;
        }
        child = child->next;
    }
}

static bool accepts(const char *text, size_t len)
{
    struct json_reader r;
    json_reader_init(&r, text, len, 0);
    for (;;) {
        enum json_token t = json_next(&r);
        if (t == JSON_END) {
            return true;
        }
        if (t == JSON_ERROR) {
            char error[160];
            json_error_text(&r, error, sizeof(error));
            ASSERT_TRUE(strncmp(error, "position ", 9) == 0);
            ASSERT_TRUE(r.error_pos <= len);
            ASSERT_TRUE(json_next(&r) == JSON_ERROR);
            return false;
        }
    }
}

static void compare_with_cjson(const char *text, size_t len)
{
    struct json_reader r;
    cJSON *tree = cJSON_ParseWithLengthOpts(text, len, NULL, false);
    ASSERT_TRUE(tree != NULL);
    json_reader_init(&r, text, len, 0);
    ASSERT_TRUE(same_value(&r, json_next(&r), tree));
    ASSERT_TRUE(json_next(&r) == JSON_END);
    cJSON_Delete(tree);
}

TEST(json_agrees_with_cjson)
{
    uint64_t seed = 1;
    struct buf b;
    buf_init(&b);
    for (int i = 0; i < 5000; i++) {
        buf_clear(&b);
        random_value(&b, &seed, 0);
        ASSERT_TRUE(accepts(b.data, b.len));
        compare_with_cjson(b.data, b.len);
    }
    buf_release(&b);
}

/* cJSON is more lenient: what we accept it must accept as well, and read alike. The text lies in
 * memory of just its size, so that a sanitizer sees a step too far. */
TEST(json_survives_damage)
{
    static const char junk[] = "\"\\[]{},:0-.eEu \n\x01\x80\xC3\xFFtn";
    uint64_t seed = 2;
    struct buf b;
    buf_init(&b);
    unsigned accepted = 0;
    for (int i = 0; i < 20000; i++) {
        buf_clear(&b);
        random_value(&b, &seed, 2);
        for (unsigned n = 1 + below(&seed, 3); n > 0 && b.len > 0; n--) {
            size_t at = below(&seed, (unsigned)b.len);
            if (below(&seed, 3) == 0) {
                b.len = at;
            } else {
                b.data[at] = junk[below(&seed, sizeof(junk) - 1)];
            }
        }
        char *text = xmemdup(b.data, b.len);
        bool nul = false; // cJSON's strings end there
        for (size_t j = 0; j + 5 < b.len; j++) {
            nul = nul || memcmp(text + j, "\\u0000", 6) == 0;
        }
        if (b.len > 0 && !nul && accepts(text, b.len)) {
            accepted++;
            compare_with_cjson(text, b.len);
        }
        free(text);
    }
    ASSERT_TRUE(accepted > 500);
    buf_release(&b);
}

TEST(json_tokens_and_offsets)
{
    const char text[] = " {\"a\" : [1, -2.5e1,\"x\\n\"] , \"b\":{}} ";
    static const enum json_token tokens[] = {JSON_OBJECT_BEGIN, JSON_KEY,        JSON_ARRAY_BEGIN,
                                             JSON_INTEGER,      JSON_FLOAT,      JSON_STRING,
                                             JSON_ARRAY_END,    JSON_KEY,        JSON_OBJECT_BEGIN,
                                             JSON_OBJECT_END,   JSON_OBJECT_END, JSON_END};
    struct json_reader r;
    json_reader_init(&r, text, strlen(text), 0);
    for (size_t i = 0; i < ARRAY_LEN(tokens); i++) {
        ASSERT_INT(json_next(&r), tokens[i]);
    }
    size_t start;
    json_reader_init(&r, text, strlen(text), 0);
    (void)json_next(&r);
    (void)json_next(&r);
    ASSERT_TRUE(json_skip(&r, json_next(&r), &start));
    ASSERT_INT(start, 8);
    ASSERT_INT(r.end, 25);
}

/* ---- numbers ---- */

static void check_double(double d)
{
    char text[JSON_NUMBER_MAX];
    struct json_reader r;
    size_t n = json_write_double(d, text);
    ASSERT_INT(n, strlen(text));
    json_reader_init(&r, text, n, 0);
    ASSERT_INT(json_next(&r), JSON_FLOAT);
    ASSERT_TRUE(memcmp(&r.u.number, &d, sizeof(d)) == 0);
}

TEST(json_doubles_survive)
{
    static const double special[] = {0.0,
                                     -0.0,
                                     0.1,
                                     1.0,
                                     1e15,
                                     1e16,
                                     123456.789,
                                     5e-324,
                                     1e-300,
                                     2.2250738585072014e-308,
                                     1e22,
                                     1e23,
                                     1.7976931348623157e308,
                                     9007199254740993.0,
                                     0.3,
                                     2e-3};
    uint64_t seed = 3;
    for (size_t i = 0; i < ARRAY_LEN(special); i++) {
        check_double(special[i]);
    }
    for (int i = 0; i < 50000; i++) {
        double d = random_double(&seed);
        if (isfinite(d)) {
            check_double(d);
        }
        check_double((double)(int64_t)random_bits(&seed) / 1000.0);
        check_double((double)below(&seed, 1000000) / 100.0);
    }
    char text[JSON_NUMBER_MAX];
    ASSERT_INT(json_write_double(INFINITY, text), 0);
    ASSERT_INT(json_write_double(NAN, text), 0);
}

/* Reading rounds as strtod does, on the fast path and off it. */
TEST(json_numbers_round_correctly)
{
    uint64_t seed = 4;
    struct buf b;
    buf_init(&b);
    for (int i = 0; i < 50000; i++) {
        struct json_reader r;
        buf_clear(&b);
        buf_appendf(
            &b, "%llu.%0*llue%d", (unsigned long long)random_bits(&seed) >> below(&seed, 64),
            1 + (int)below(&seed, 25), (unsigned long long)random_bits(&seed) >> below(&seed, 64),
            (int)below(&seed, 60) - 30);
        json_reader_init(&r, b.data, b.len, 0);
        ASSERT_INT(json_next(&r), JSON_FLOAT);
        ASSERT_TRUE(r.u.number == strtod(b.data, NULL));
    }
    buf_release(&b);
}

TEST(json_integers)
{
    static const struct {
        const char *text;
        enum json_token token;
        int64_t value;
    } cases[] = {
        {"0", JSON_INTEGER, 0},
        {"-0", JSON_INTEGER, 0},
        {"9223372036854775807", JSON_INTEGER, INT64_MAX},
        {"-9223372036854775808", JSON_INTEGER, INT64_MIN},
        {"9223372036854775808", JSON_BIG, 0},
        {"-9223372036854775809", JSON_BIG, 0},
        {"9999999999999999999", JSON_BIG, 0},
        {"18446744073709551616", JSON_BIG, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json_reader r;
        json_reader_init(&r, cases[i].text, strlen(cases[i].text), 0);
        ASSERT_INT(json_next(&r), cases[i].token);
        if (cases[i].token == JSON_INTEGER) {
            ASSERT_INT(r.u.integer, cases[i].value);
        }
    }
    char text[JSON_NUMBER_MAX];
    (void)json_write_integer(INT64_MIN, text);
    ASSERT_STR(text, "-9223372036854775808");
}

static int run_program(const char *const argv[])
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        (void)freopen("/dev/null", "w", stderr);
        execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    ASSERT_TRUE(pid > 0 && waitpid(pid, &status, 0) == pid);
    return status;
}

static void check_in_german(void)
{
    static const char texts[] = "[0.12345678901234567890,1.5e300,2.5]";
    char text[JSON_NUMBER_MAX];
    struct json_reader r;

    ASSERT_STR(localeconv()->decimal_point, ",");
    (void)json_write_double(0.5, text);
    ASSERT_STR(text, "0.5");
    (void)json_write_double(1.0 / 3.0, text);
    ASSERT_STR(text, "0.3333333333333333");
    (void)json_write_double(1.5e300, text);
    ASSERT_STR(text, "1.5e+300");
    json_reader_init(&r, texts, strlen(texts), 0);
    (void)json_next(&r);
    ASSERT_TRUE(json_next(&r) == JSON_FLOAT && r.u.number == 0.12345678901234567890);
    ASSERT_TRUE(json_next(&r) == JSON_FLOAT && r.u.number == 1.5e300);
    ASSERT_TRUE(json_next(&r) == JSON_FLOAT && r.u.number == 2.5);
    ASSERT_STR(localeconv()->decimal_point, ",");
}

/* J2. Makes a locale of its own: machines without a German one are common. */
TEST(json_ignores_the_locale)
{
    char dir[] = "/tmp/lash-locale-XXXXXX";
    char path[64];

    ASSERT_TRUE(mkdtemp(dir) != NULL);
    (void)snprintf(path, sizeof(path), "%s/de_DE", dir);
    const char *const make[] = {"localedef", "-i", "de_DE", "-f", "ISO-8859-1", path, NULL};
    const char *const clean[] = {"rm", "-r", dir, NULL};
    (void)run_program(make); // may be missing: then there is no locale to try
    ASSERT_TRUE(setenv("LOCPATH", dir, 1) == 0);
    bool have = setlocale(LC_ALL, "de_DE") != NULL;
    ASSERT_TRUE(run_program(clean) == 0);
    if (!have) {
        printf("skipped: no German locale here, and localedef cannot make one\n");
        exit(77);
    }
    check_in_german();
}

/* ---- memory that ends ---- */

struct limited {
    long left; /* allocations until one fails; negative: no limit */
    size_t bytes;
};

static void *limited_alloc(void *ud, void *ptr, size_t old, size_t size)
{
    struct limited *m = ud;
    old = ptr == NULL ? 0 : old;
    if (size == 0) {
        m->bytes -= old;
        free(ptr);
        return NULL;
    }
    if (size > old && m->left >= 0 && m->left-- == 0) {
        m->left = 0;
        return NULL;
    }
    void *p = realloc(ptr, size);
    ASSERT_TRUE(p != NULL);
    m->bytes += size - old;
    return p;
}

static const char oom_script[] =
    "local json, text = ...\n"
    "local value = json.decode(text)\n"
    "if json.encode(value) ~= text then error('changed') end\n"
    "if json.encode(value, { indent = true }) == text then error('not indented') end\n"
    "if #json.elements(json.raw(text, 'list')) ~= 3 then error('elements') end\n"
    "if json.encode(json.verbatim(text)) ~= text then error('verbatim') end\n"
    "if json.decode(text .. 'x') then error('accepted') end\n"
    "if json.encode({ a = { print } }) then error('encoded') end\n";

/* Each allocation in turn fails: the error is Lua's, and nothing is left behind. */
TEST(json_survives_the_end_of_memory)
{
    struct buf text;
    buf_init(&text);
    buf_append_str(&text, "{\"list\":[1.5,\"\\n");
    for (int i = 0; i < 1000; i++) {
        buf_append_str(&text, "0123456789");
    }
    buf_append_str(&text, "\",{\"a\":[],\"b\":{}}]}");
    int status = LUA_ERRMEM;
    long k = 0;
    for (; status != LUA_OK; k++) {
        struct limited m = {.left = -1};
        lua_State *L = lua_newstate(limited_alloc, &m);
        ASSERT_TRUE(L != NULL);
        luaL_openlibs(L);
        ship_open(L);
        ASSERT_TRUE(luaL_loadstring(L, oom_script) == LUA_OK);
        lua_pushcfunction(L, luaopen_lash_core_json);
        lua_call(L, 0, 1);
        lua_pushlstring(L, text.data, text.len);
        m.left = k;
        status = lua_pcall(L, 2, 0, 0);
        m.left = -1;
        if (status != LUA_OK) {
            ASSERT_INT(status, LUA_ERRMEM);
        }
        lua_close(L);
        ASSERT_INT(m.bytes, 0);
    }
    ASSERT_TRUE(k > 10);
    buf_release(&text);
}
