/*
 * embed ROOT FILE...: prints one C file that holds each FILE as a byte array, and a table of them
 * by name: ROOT/lash/cmd/ask.lua becomes "lash.cmd.ask", ROOT/lash/help/run.txt "lash.help.run".
 * Arrays, not string literals: C compilers need not take long literals.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *what, const char *name)
{
    fprintf(stderr, "embed: %s: %s\n", what, name);
    exit(1);
}

static void print_bytes(const char *path, int index)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        fail("cannot read", path);
    }
    printf("static const unsigned char file_%d[] = {", index);
    int c;
    for (long n = 0; (c = getc(f)) != EOF; n++) {
        printf("%s%d,", n % 24 == 0 ? "\n" : "", c);
    }
    printf("0};\n");
    if (ferror(f)) {
        fail("cannot read", path);
    }
    fclose(f);
}

static void print_entry(const char *root, const char *path, int index)
{
    size_t skip = strlen(root) + 1;
    const char *dot = strrchr(path, '.');
    if (strncmp(path, root, skip - 1) != 0 || dot == NULL) {
        fail("not below the root, or without an ending", path);
    }
    printf("    {\"");
    for (const char *p = path + skip; p < dot; p++) {
        putchar(*p == '/' ? '.' : *p);
    }
    printf("\", \"%s\", file_%d, sizeof(file_%d) - 1},\n", path + skip, index, index);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: embed ROOT FILE...\n");
        return 1;
    }
    printf("#include \"base/base.h\"\n\n#include \"bind/embedded.h\"\n\n");
    for (int i = 2; i < argc; i++) {
        print_bytes(argv[i], i);
    }
    printf("const struct embedded_file embedded_files[] = {\n");
    for (int i = 2; i < argc; i++) {
        print_entry(argv[1], argv[i], i);
    }
    printf("    {0},\n};\n");
    return fflush(stdout) == 0 ? 0 : 1;
}
