/*
 * embed ROOT FILE...: prints one C file that holds each FILE as a byte array, and a table of them
 * by name: ROOT/lash/cmd/ask.lua becomes "lash.cmd.ask", ROOT/lash/help/run.txt "lash.help.run".
 * Of Lua files also what the compiler makes of them: parsing was most of the time in which a
 * command starts. The text stays: `lash help` reads it, and another release of Lua compiles it.
 * Arrays, not string literals: C compilers need not take long literals. Those of the texts are not
 * const: then they lie beside the program's data and not between what every start maps.
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

/* A lua_Writer; `count`: bytes of the array so far. */
static int print_bytes(lua_State *L, const void *data, size_t len, void *count)
{
    (void)L;
    for (size_t i = 0; i < len; i++) {
        size_t n = (*(size_t *)count)++;
        printf("%s%d,", n % 24 == 0 ? "\n" : "", ((const unsigned char *)data)[i]);
    }
    return 0;
}

static bool is_lua(const struct file *file)
{
    size_t len = strlen(file->path);
    return len > 4 && strcmp(file->path + len - 4, ".lua") == 0;
}

/* With names and lines: tracebacks show them. */
static void print_code(lua_State *L, const struct file *file)
{
    size_t len;
    size_t count = 0;
    const char *text = read_file(L, file->path, &len);
    lua_pushfstring(L, "@%s", file->name);
    if (luaL_loadbufferx(L, text, len, lua_tostring(L, -1), "t") != LUA_OK) {
        fail("it does not compile", lua_tostring(L, -1));
    }
    printf("static const unsigned char code_%d[] = {", file->index);
    if (lua_dump(L, print_bytes, &count, 0) != 0) {
        fail("it cannot be dumped", file->path);
    }
    printf("0};\n");
    lua_settop(L, 0);
}

static void print_text(lua_State *L, const struct file *file)
{
    size_t len;
    size_t count = 0;
    const char *text = read_file(L, file->path, &len);
    printf("static unsigned char text_%d[] = {", file->index);
    print_bytes(L, text, len, &count);
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

static struct file file_at(const char *root, char **argv, int i)
{
    size_t len = strlen(root);
    if (strncmp(argv[i], root, len) != 0 || argv[i][len] != '/') {
        fail("not below the root", argv[i]);
    }
    return (struct file){argv[i], argv[i] + len + 1, i};
}

int main(int argc, char **argv)
{
    lua_State *L = luaL_newstate();
    if (argc < 2 || L == NULL) {
        fprintf(stderr, "usage: embed ROOT FILE...\n");
        return 1;
    }
    printf("#include \"base/base.h\"\n\n#include \"bind/embedded.h\"\n\n");
    for (int i = 2; i < argc; i++) {
        struct file file = file_at(argv[1], argv, i);
        print_text(L, &file);
    }
    for (int i = 2; i < argc; i++) { /* apart from the texts: what nobody reads takes no memory */
        struct file file = file_at(argv[1], argv, i);
        if (is_lua(&file)) {
            print_code(L, &file);
        }
    }
    printf("const char *const embedded_release = \"%s\";\n", LUA_RELEASE);
    printf("const struct embedded_file embedded_files[] = {\n");
    for (int i = 2; i < argc; i++) {
        struct file file = file_at(argv[1], argv, i);
        print_entry(&file);
    }
    printf("    {0},\n};\n");
    lua_close(L);
    return fflush(stdout) == 0 ? 0 : 1;
}
