/*
 * lash.core.system: what the commands need of the process: streams, exit, files, embedded texts.
 */
#include "base/base.h"

#include "bind/bind.h"
#include "bind/embedded.h"
#include "bind/stream.h"
#include "engine/interrupt.h"
#include "engine/task.h"
#include "io/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
#include <uv.h>

/* isatty(fd) -> boolean */
static int l_isatty(lua_State *L)
{
    lua_pushboolean(L, isatty(stream_fd((int)luaL_checkinteger(L, 1))));
    return 1;
}

/* kind(fd) -> "file", "pipe", "socket", "tty", "null", "other" or "closed" */
static int l_kind(lua_State *L)
{
    int fd = stream_fd((int)luaL_checkinteger(L, 1));
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

/* Pushes nil, message, "EPIPE" or "EIO" for an errno. */
static int push_failure(lua_State *L, int code)
{
    lua_pushnil(L);
    lua_pushstring(L, strerror(code));
    lua_pushstring(L, code == EPIPE ? "EPIPE" : "EIO");
    return 3;
}

/* After a signal a call is made again, unless it was one that cancels the task: that raises. */
static bool was_interrupted(lua_State *L)
{
    if (errno != EINTR) {
        return false;
    }
    interrupt_check(L);
    return true;
}

static int wait_readable(lua_State *L, int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n;
    do {
        n = poll(&p, 1, ms);
    } while (n < 0 && was_interrupted(L));
    return n;
}

/* read(fd, ms) -> a piece, "" at the end | nil, message, "timeout" when nothing came within the
 * time or "EIO". ms below 0: for ever. Blocks this thread; stands beside the buffer of io.stdin. */
static int l_read(lua_State *L)
{
    char piece[16384];
    int fd = (int)luaL_checkinteger(L, 1);
    int ready = wait_readable(L, fd, (int)luaL_checkinteger(L, 2));
    if (ready < 0) {
        return push_failure(L, errno);
    }
    if (ready == 0) {
        lua_pushnil(L);
        lua_pushliteral(L, "nothing came in time");
        lua_pushliteral(L, "timeout");
        return 3;
    }
    ssize_t n;
    do {
        n = read(fd, piece, sizeof(piece));
    } while (n < 0 && was_interrupted(L));
    if (n < 0) {
        return push_failure(L, errno);
    }
    lua_pushlstring(L, piece, (size_t)n);
    return 1;
}

/* write(fd, text) -> true | nil, message, "EPIPE" or "EIO": all bytes, or an error. Blocks this
 * thread. 1 is the stream of the answer, reserved or not. */
static int l_write(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    if (stream_above(stream_fd(fd), text, len)) {
        lua_pushboolean(L, true);
        return 1;
    }
    if (fflush(fd == STDOUT_FILENO ? stdout : stderr) != 0 && !stream_reserved()) {
        return push_failure(L, errno);
    }
    if (stream_write(stream_fd(fd), text, len) != 0) {
        return push_failure(L, errno);
    }
    lua_pushboolean(L, true);
    return 1;
}

/* flush() -> true | nil, message, "EPIPE" or "EIO": what print and io.write still hold; an earlier
 * failure counts */
static int l_flush(lua_State *L)
{
    bool before = ferror(stdout) != 0;
    if (fflush(stdout) != 0) {
        return push_failure(L, errno);
    } else if (before) {
        return push_failure(L, EIO);
    }
    lua_pushboolean(L, true);
    return 1;
}

/* reserve_stdout(): what print, io and child processes write goes to stderr from now on; write(1)
 * still reaches the program's stdout */
static int l_reserve_stdout(lua_State *L)
{
    bind_reserve_stdout();
    stream_reserve();
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

/* columns(fd) -> width and height of the terminal, or nil */
static int l_columns(lua_State *L)
{
    struct winsize size;
    if (ioctl(stream_fd((int)luaL_checkinteger(L, 1)), TIOCGWINSZ, &size) != 0 ||
        size.ws_col == 0) {
        return 0;
    }
    lua_pushinteger(L, size.ws_col);
    lua_pushinteger(L, size.ws_row);
    return 2;
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

/* versions() -> { libuv = text }: of the library that runs, not of the headers */
static int l_versions(lua_State *L)
{
    lua_newtable(L);
    lua_pushstring(L, uv_version_string());
    lua_setfield(L, -2, "libuv");
    return 1;
}

/* getpid() -> integer */
static int l_getpid(lua_State *L)
{
    lua_pushinteger(L, getpid());
    return 1;
}

/* ---- files ---- */

/* file_kind(path) -> "file", "directory", "other" | nil, message */
static int l_file_kind(lua_State *L)
{
    struct stat st;
    if (stat(luaL_checkstring(L, 1), &st) != 0) {
        return push_failure(L, errno);
    }
    lua_pushstring(L, S_ISREG(st.st_mode) ? "file" : S_ISDIR(st.st_mode) ? "directory" : "other");
    return 1;
}

static int write_and_close(int fd, const char *text, size_t len)
{
    int code = 0;
    if (stream_write(fd, text, len) != 0) {
        code = errno;
    }
    if (code == 0 && fsync(fd) != 0 && errno != EINVAL && errno != EROFS) { /* a device has none */
        code = errno;
    }
    if (close(fd) != 0 && code == 0) {
        code = errno;
    }
    return code;
}

/* A new file beside `path`, renamed to it when all bytes are on the disk. */
static int replace_file(lua_State *L, const char *path, mode_t mode, const char *text, size_t len)
{
    const char *temporary = lua_pushfstring(L, "%s.%d.tmp", path, (int)getpid());
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0) {
        return errno;
    }
    int code = write_and_close(fd, text, len);
    if (code == 0 && rename(temporary, path) != 0) {
        code = errno;
    }
    if (code != 0) {
        (void)unlink(temporary);
    }
    return code;
}

static int write_resolved(lua_State *L, const char *path, const char *text, size_t len)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        return errno == ENOENT ? replace_file(L, path, 0666, text, len) : errno;
    } else if (S_ISREG(st.st_mode)) {
        return access(path, W_OK) != 0 ? errno
                                       : replace_file(L, path, st.st_mode & 0777, text, len);
    }
    int fd =
        open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY); /* a device or a pipe has no temporary twin */
    return fd < 0 ? errno : write_and_close(fd, text, len);
}

/* write_file(path, text) -> true | nil, message: the whole file or what was there before */
static int l_write_file(lua_State *L)
{
    size_t len;
    const char *path = luaL_checkstring(L, 1);
    const char *text = luaL_checklstring(L, 2, &len);
    char *resolved = realpath(path, NULL); /* a link stays one */
    if (resolved != NULL) {
        lua_pushstring(L, resolved);
        free(resolved);
        path = lua_tostring(L, -1);
    }
    int code = write_resolved(L, path, text, len);
    if (code != 0) {
        return push_failure(L, code);
    }
    lua_pushboolean(L, true);
    return 1;
}

/* create_file(path, text, executable) -> true | nil, message: never touches one that exists */
static int l_create_file(lua_State *L)
{
    size_t len;
    const char *path = luaL_checkstring(L, 1);
    const char *text = luaL_checklstring(L, 2, &len);
    int mode = lua_toboolean(L, 3) ? 0777 : 0666;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0) {
        return push_failure(L, errno);
    }
    int code = write_and_close(fd, text, len);
    if (code != 0) {
        (void)unlink(path);
        return push_failure(L, code);
    }
    lua_pushboolean(L, true);
    return 1;
}

/* ---- the end ---- */

static volatile sig_atomic_t alarm_status;
static char alarm_text[400];

static void on_alarm(int sig)
{
    (void)sig;
    size_t len = strlen(alarm_text);
    if (len > 0 && write(STDERR_FILENO, alarm_text, len) < 0) {
        /* nobody to tell */
    }
    proc_kill_all(SIGKILL);
    _exit(alarm_status);
}

static void set_alarm(double seconds, int status, const char *text)
{
    struct itimerval timer = {{0, 0}, {0, 0}};
    (void)setitimer(ITIMER_REAL, &timer, NULL); /* none comes while the text changes */
    if (seconds <= 0) {
        return;
    }
    alarm_status = status;
    snprintf(alarm_text, sizeof(alarm_text), "%s", text);
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_alarm;
    sigemptyset(&action.sa_mask);
    ASSERT(sigaction(SIGALRM, &action, NULL) == 0);
    timer.it_value.tv_sec = (time_t)seconds;
    timer.it_value.tv_usec = (suseconds_t)((seconds - (double)timer.it_value.tv_sec) * 1e6) + 1;
    timer.it_value.tv_usec = timer.it_value.tv_usec < 1000000 ? timer.it_value.tv_usec : 999999;
    (void)setitimer(ITIMER_REAL, &timer, NULL);
}

/* alarm(seconds, status, text): the program ends with this status, and the text on stderr, whatever
 * it does then; 0 seconds: not any more. The last resort behind a deadline, for code that holds the
 * main thread. Main thread only. */
static int l_alarm(lua_State *L)
{
    lua_Number seconds = luaL_checknumber(L, 1);
    int status = (int)luaL_optinteger(L, 2, 0);
    set_alarm(seconds < 1e8 ? seconds : 1e8, status, luaL_optstring(L, 3, ""));
    return 0;
}

/* exit(status): ends the program from where it stands, without waiting for what still runs; by the
 * signal, if one has asked for its end. All open files are flushed, but one that a worker holds in
 * a blocking read delays the end no further.
 */
static int l_exit(lua_State *L)
{
    int status = (int)luaL_checkinteger(L, 1);
    bool before = ferror(stdout) != 0;
    if ((fflush(stdout) != 0 || before) && status == 0 && !stream_reserved()) {
        status = STREAM_EXIT_IO;
    }
    fflush(stderr);
    set_alarm(0.5, status, "");
    (void)fflush(NULL);
    proc_kill_all(SIGKILL);
    interrupt_leave(status);
}

int luaopen_lash_core_system(lua_State *L)
{
    static const luaL_Reg functions[] = {{"isatty", l_isatty},
                                         {"kind", l_kind},
                                         {"read", l_read},
                                         {"write", l_write},
                                         {"flush", l_flush},
                                         {"file_kind", l_file_kind},
                                         {"write_file", l_write_file},
                                         {"create_file", l_create_file},
                                         {"alarm", l_alarm},
                                         {"reserve_stdout", l_reserve_stdout},
                                         {"stdout_reserved", l_stdout_reserved},
                                         {"verbosity", l_verbosity},
                                         {"columns", l_columns},
                                         {"embedded", l_embedded},
                                         {"embedded_names", l_embedded_names},
                                         {"versions", l_versions},
                                         {"getpid", l_getpid},
                                         {"exit", l_exit},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
