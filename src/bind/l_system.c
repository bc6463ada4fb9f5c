/*
 * lash.core.system: what the commands need of the process: streams, exit, embedded texts.
 */
#include "base/base.h"

#include "bind/bind.h"
#include "bind/embedded.h"
#include "engine/task.h"

#include <errno.h>
#include <lauxlib.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* isatty(fd) -> boolean */
static int l_isatty(lua_State *L)
{
    lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
    return 1;
}

/* kind(fd) -> "file", "pipe", "socket", "tty", "null", "other" or "closed" */
static int l_kind(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1);
    struct stat st, null;
    const char *kind = "other";
    if (fstat(fd, &st) != 0) {
        kind = "closed";
    } else if (S_ISREG(st.st_mode)) {
        kind = "file";
    } else if (S_ISFIFO(st.st_mode)) {
        kind = "pipe";
    } else if (S_ISSOCK(st.st_mode)) {
        kind = "socket";
    } else if (isatty(fd)) {
        kind = "tty";
    } else if (stat("/dev/null", &null) == 0 && st.st_rdev == null.st_rdev) {
        kind = "null";
    }
    lua_pushstring(L, kind);
    return 1;
}

/* readable(fd, ms) -> true when a byte or the end can be read within the time. Blocks this thread. */
static int l_readable(lua_State *L)
{
    struct pollfd p = {.fd = (int)luaL_checkinteger(L, 1), .events = POLLIN};
    int ms = (int)luaL_checkinteger(L, 2);
    int n;
    do {
        n = poll(&p, 1, ms);
    } while (n < 0 && errno == EINTR);
    lua_pushboolean(L, n != 0);
    return 1;
}

/* write(fd, text) -> true | nil, message, errno name: all bytes, or an error. Blocks this thread. */
static int l_write(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    if (fflush(fd == STDOUT_FILENO ? stdout : stderr) != 0) {
        goto fail;
    }
    while (len > 0) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EAGAIN) { /* somebody else made it non-blocking */
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            (void)poll(&p, 1, -1);
        } else if (n < 0 && errno != EINTR) {
            goto fail;
        } else if (n > 0) {
            text += n;
            len -= (size_t)n;
        }
    }
    lua_pushboolean(L, true);
    return 1;
fail:;
    int code = errno;
    lua_pushnil(L);
    lua_pushstring(L, strerror(code));
    lua_pushstring(L, code == EPIPE ? "EPIPE" : "EIO");
    return 3;
}

/* reserve_stdout(): print and io.write go to stderr from now on */
static int l_reserve_stdout(lua_State *L)
{
    bind_reserve_stdout();
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield(L, -1, "io");
    lua_getfield(L, -1, "output");
    lua_getfield(L, -2, "stderr");
    lua_call(L, 1, 0);
    return 0;
}

/* stdout_reserved() -> boolean */
static int l_stdout_reserved(lua_State *L)
{
    lua_pushboolean(L, bind_stdout_reserved());
    return 1;
}

/* verbosity([n]) -> 0 quiet, 1 normal, 2 verbose; for the whole process */
static int l_verbosity(lua_State *L)
{
    static atomic_int verbosity = 1;
    if (!lua_isnoneornil(L, 1)) {
        atomic_store(&verbosity, (int)luaL_checkinteger(L, 1));
    }
    lua_pushinteger(L, atomic_load(&verbosity));
    return 1;
}

/* columns(fd) -> width of the terminal, or nil */
static int l_columns(lua_State *L)
{
    struct winsize size;
    if (ioctl((int)luaL_checkinteger(L, 1), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
        return 0;
    }
    lua_pushinteger(L, size.ws_col);
    return 1;
}

/* embedded(name) -> text of an embedded file such as "lash/help/run.txt", or nil */
static int l_embedded(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    for (const struct embedded_file *f = embedded_files; f->name != NULL; f++) {
        if (strcmp(f->path, path) == 0) {
            lua_pushlstring(L, (const char *)f->data, f->len);
            return 1;
        }
    }
    return 0;
}

/* embedded_names(prefix) -> list of the paths that begin with it */
static int l_embedded_names(lua_State *L)
{
    size_t len;
    const char *prefix = luaL_optlstring(L, 1, "", &len);
    lua_newtable(L);
    lua_Integer n = 0;
    for (const struct embedded_file *f = embedded_files; f->name != NULL; f++) {
        if (strncmp(f->path, prefix, len) == 0) {
            lua_pushstring(L, f->path);
            lua_rawseti(L, -2, ++n);
        }
    }
    return 1;
}

/* getpid() -> integer */
static int l_getpid(lua_State *L)
{
    lua_pushinteger(L, getpid());
    return 1;
}

/* exit(status): ends the program from where it stands, without waiting for what still runs */
static int l_exit(lua_State *L)
{
    int status = (int)luaL_checkinteger(L, 1);
    bool failed = fflush(stdout) != 0;
    fflush(stderr);
    _exit(failed && status == 0 ? 74 : status);
}

int luaopen_lash_core_system(lua_State *L)
{
    static const luaL_Reg functions[] = {{"isatty", l_isatty},
                                         {"kind", l_kind},
                                         {"readable", l_readable},
                                         {"write", l_write},
                                         {"reserve_stdout", l_reserve_stdout},
                                         {"stdout_reserved", l_stdout_reserved},
                                         {"verbosity", l_verbosity},
                                         {"columns", l_columns},
                                         {"embedded", l_embedded},
                                         {"embedded_names", l_embedded_names},
                                         {"getpid", l_getpid},
                                         {"exit", l_exit},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
