/*
 * embed ROOT START... -- FILE...: prints one C file that holds each FILE as a byte array, and a
 * table of them by name: ROOT/lash/cmd/ask.lua becomes "lash.cmd.ask", ROOT/lash/help/run.txt
 * "lash.help.run". Of Lua files also what the compiler makes of them: parsing was most of the time
 * in which a command starts. Names of locals and upvalues are left out: to make them again was the
 * fourth part of the rest, and the collector would look at them ever after. Lines stay, for
 * tracebacks. The text stays: `lash help` reads it, and another release of Lua compiles it. Arrays,
 * not string literals: C compilers need not take long literals. Only the bytecode of the START
 * files is const: a system that maps a file in large pieces maps the rest of a segment along with
 * what is read of it, and every start reads these. All else lies beside the program's data.
 */
#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct file {
    const char *path; /* as it was given */
    const char *name; /* below ROOT */
    int index;
    bool starts; /* one of the first list */
};

static void fail(const char *what, const char *name)
{
    fprintf(stderr, "embed: %s: %s\n", what, name);
    exit(1);
}

/* @return the whole file, on the stack as well */
static const char *read_file(lua_State *L, const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        fail("cannot read", path);
    }
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    size_t n;
    do {
        n = fread(luaL_prepbuffer(&b), 1, LUAL_BUFFERSIZE, f);
        luaL_addsize(&b, n);
    } while (n > 0);
    if (ferror(f)) {
        fail("cannot read", path);
    }
    fclose(f);
    luaL_pushresult(&b);
    return lua_tolstring(L, -1, len);
}

/* `count`: bytes of the array so far. */
static void print_bytes(const unsigned char *data, size_t len, size_t *count)
{
    for (size_t i = 0; i < len; i++) {
        printf("%s%d,", (*count)++ % 24 == 0 ? "\n" : "", data[i]);
    }
}

static bool is_lua(const struct file *file)
{
    size_t len = strlen(file->path);
    return len > 4 && strcmp(file->path + len - 4, ".lua") == 0;
}

/* ---- bytecode ----
 * As ldump.c of Lua 5.4 writes it: a header, the number of upvalues, and the main function, which
 * holds the others. A number is in groups of 7 bits, the last one marked with 0x80; a string is its
 * length + 1 (0: none) and its bytes. */

struct bytes {
    unsigned char *data;
    size_t len;
};

struct copy {
    const unsigned char *from, *end;
    bool skips;
    size_t *count; /* bytes printed */
    const char *path;
};

static void copy_bytes(struct copy *c, size_t n)
{
    if (n > (size_t)(c->end - c->from)) {
        fail("its bytecode is not that of Lua 5.4", c->path);
    }
    if (!c->skips) {
        print_bytes(c->from, n, c->count);
    }
    c->from += n;
}

static size_t copy_number(struct copy *c)
{
    size_t number = 0;
    unsigned char byte = 0;
    while ((byte & 0x80) == 0) {
        copy_bytes(c, 1);
        byte = c->from[-1];
        number = number << 7 | (byte & 0x7f);
    }
    return number;
}

static void copy_string(struct copy *c)
{
    size_t size = copy_number(c);
    copy_bytes(c, size > 0 ? size - 1 : 0);
}

static void copy_constant(struct copy *c)
{
    copy_bytes(c, 1);
    switch (c->from[-1]) {
    case LUA_TSTRING:
    case LUA_TSTRING | 16: // a long one
        copy_string(c);
        break;
    case LUA_TNUMBER: // an integer
        copy_bytes(c, sizeof(lua_Integer));
        break;
    case LUA_TNUMBER | 16:
        copy_bytes(c, sizeof(lua_Number));
        break;
    default: // nil, false, true: nothing more
        break;
    }
}

/* A list of which each element is a string and so many numbers: prints an empty one. */
static void leave_out_names(struct copy *c, int numbers)
{
    c->skips = true;
    for (size_t n = copy_number(c); n > 0; n--) {
        copy_string(c);
        for (int i = 0; i < numbers; i++) {
            (void)copy_number(c);
        }
    }
    c->skips = false;
    print_bytes(&(unsigned char){0x80}, 1, c->count); // the number 0
}

static void copy_function(struct copy *c)
{
    copy_string(c); // its source
    (void)copy_number(c);
    (void)copy_number(c);              // first and last line
    copy_bytes(c, 3);                  // parameters, varargs, size of the stack
    copy_bytes(c, 4 * copy_number(c)); // instructions
    for (size_t n = copy_number(c); n > 0; n--) {
        copy_constant(c);
    }
    copy_bytes(c, 3 * copy_number(c)); // upvalues: where they are taken from
    for (size_t n = copy_number(c); n > 0; n--) {
        copy_function(c);
    }
    copy_bytes(c, copy_number(c)); // lines
    for (size_t n = 2 * copy_number(c); n > 0; n--) {
        (void)copy_number(c); // positions of some lines
    }
    leave_out_names(c, 2); // locals: where they begin and end
    leave_out_names(c, 0); // upvalues
}

enum { CODE_HEADER = 4 + 1 + 1 + 6 + 3 + sizeof(lua_Integer) + sizeof(lua_Number) };

static int add_bytes(lua_State *L, const void *data, size_t len, void *bytes)
{
    (void)L;
    struct bytes *b = bytes;
    b->data = realloc(b->data, b->len + len + 1); // as often as it likes: it runs when we are built
    if (b->data == NULL) {
        return 1;
    }
    memcpy(b->data + b->len, data, len);
    b->len += len;
    return 0;
}

static void print_code(lua_State *L, const struct file *file)
{
    size_t len;
    size_t count = 0;
    struct bytes dump = {0};
    const char *text = read_file(L, file->path, &len);
    lua_pushfstring(L, "@%s", file->name);
    if (luaL_loadbufferx(L, text, len, lua_tostring(L, -1), "t") != LUA_OK) {
        fail("it does not compile", lua_tostring(L, -1));
    }
    if (lua_dump(L, add_bytes, &dump, 0) != 0) {
        fail("it cannot be dumped", file->path);
    }
    struct copy c = {dump.data, dump.data + dump.len, false, &count, file->path};
    printf("static %sunsigned char code_%d[] = {", file->starts ? "const " : "", file->index);
    copy_bytes(&c, CODE_HEADER + 1);
    copy_function(&c);
    printf("0};\n");
    if (c.from != c.end) {
        fail("its bytecode is not that of Lua 5.4", file->path);
    }
    free(dump.data);
    lua_settop(L, 0);
}

static void print_text(lua_State *L, const struct file *file)
{
    size_t len;
    size_t count = 0;
    const char *text = read_file(L, file->path, &len);
    printf("static unsigned char text_%d[] = {", file->index);
    print_bytes((const unsigned char *)text, len, &count);
    printf("0};\n");
    lua_settop(L, 0);
}

static void print_entry(const struct file *file)
{
    const char *dot = strrchr(file->name, '.');
    if (dot == NULL) {
        fail("without an ending", file->path);
    }
    printf("    {\"");
    for (const char *p = file->name; p < dot; p++) {
        putchar(*p == '/' ? '.' : *p);
    }
    printf("\", \"%s\", text_%d, sizeof(text_%d) - 1, ", file->name, file->index, file->index);
    if (is_lua(file)) {
        printf("code_%d, sizeof(code_%d) - 1},\n", file->index, file->index);
    } else {
        printf("NULL, 0},\n");
    }
}

static struct file file_of(const char *root, const char *path, int index, bool starts)
{
    size_t len = strlen(root);
    if (strncmp(path, root, len) != 0 || path[len] != '/') {
        fail("not below the root", path);
    }
    return (struct file){path, path + len + 1, index, starts};
}

static void print_all(lua_State *L, const struct file *files, int n)
{
    printf("#include \"base/base.h\"\n\n#include \"bind/embedded.h\"\n\n");
    for (int i = 0; i < n; i++) {
        print_text(L, &files[i]);
    }
    for (int i = 0; i < n; i++) { /* apart from the texts: what nobody reads takes no memory */
        if (is_lua(&files[i])) {
            print_code(L, &files[i]);
        }
    }
    printf("const char *const embedded_release = \"%s\";\n", LUA_RELEASE);
    printf("const struct embedded_file embedded_files[] = {\n");
    for (int i = 0; i < n; i++) {
        print_entry(&files[i]);
    }
    printf("    {0},\n};\n");
}

int main(int argc, char **argv)
{
    lua_State *L = luaL_newstate();
    struct file *files = calloc((size_t)argc, sizeof(*files));
    if (argc < 2 || L == NULL || files == NULL) {
        fprintf(stderr, "usage: embed ROOT START... -- FILE...\n");
        return 1;
    }
    int n = 0;
    bool starts = true;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            starts = false;
        } else {
            files[n] = file_of(argv[1], argv[i], n, starts);
            n++;
        }
    }
    print_all(L, files, n);
    free(files);
    lua_close(L);
    return fflush(stdout) == 0 ? 0 : 1;
}
