/*
 * lash.core.exec: child processes. lua/lash/exec.lua is the face that users see.
 */
#include "base/base.h"
#include "base/secret.h"

#include "bind/bind.h"
#include "bind/fail.h"
#include "bind/type.h"
#include "engine/task.h"
#include "io/proc.h"

#include <lauxlib.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROCESS_TYPE "lash.exec.process"
#define IO_TYPE "lash.exec.io"

enum io_kind { IO_LINE, IO_SOME, IO_BYTES, IO_WRITE };

/* A wait for its stdout or stdin. User value 1 is the process, 2 the data that is written. */
struct io_op {
    struct op op;
    struct process *process; /* borrowed from user value 1 */
    enum io_kind kind;
    size_t len; /* IO_BYTES: how many; IO_LINE: the longest one */
    int error;  /* IO_WRITE */
};

/* A process; its op waits for the end. User value 1 is what goes to its stdin. */
struct process {
    struct op op;
    struct proc *proc;    /* owned; NULL when it was stopped, or its result taken */
    struct io_op *reader; /* borrowed: a wait clears it when it goes */
    struct io_op *writer;
    size_t scanned; /* so many unread bytes hold no newline */
    bool alone;     /* nobody but the op knows it: the op takes the result */
    bool feeding;   /* what was given as its stdin is being written */
};

/* ---- the process ---- */

static void wake(struct io_op **io)
{
    struct io_op *waiting = *io;
    *io = NULL;
    if (waiting != NULL) {
        op_done(&waiting->op);
    }
}

static void process_release(struct process *process)
{
    proc_free(process->proc);
    process->proc = NULL;
    wake(&process->reader);
    wake(&process->writer);
}

static void process_cancel(struct op *op)
{
    process_release((struct process *)op);
}

static int process_gc(lua_State *L)
{
    struct process *process = luaL_checkudata(L, 1, PROCESS_TYPE);
    process_release(process);
    op_gone(&process->op);
    return 0;
}

static void push_signal(lua_State *L, int sig)
{
    const char *name = sigabbrev_np(sig);
    if (sig == 0) {
        lua_pushnil(L);
    } else if (name != NULL) {
        lua_pushfstring(L, "SIG%s", name);
    } else {
        lua_pushfstring(L, "signal %d", sig);
    }
}

/* -> timed out, status | nil, number of the signal, its name | nil, stdout, its size before it was
 * cut, stderr, its size */
static int push_result(lua_State *L, struct process *process)
{
    struct proc_result r;
    luaL_checkstack(L, 10, NULL);
    proc_result(process->proc, &r);
    lua_pushboolean(L, r.timed_out);
    if (r.code >= 0) {
        lua_pushinteger(L, r.code);
    } else {
        lua_pushnil(L);
    }
    lua_pushinteger(L, r.signal);
    push_signal(L, r.signal);
    lua_pushlstring(L, r.out.data, r.out.len);
    lua_pushinteger(L, (lua_Integer)r.out.total);
    lua_pushlstring(L, r.err.data, r.err.len);
    lua_pushinteger(L, (lua_Integer)r.err.total);
    proc_free(process->proc); // not left to the collector, which does not see this memory
    process->proc = NULL;
    return 8;
}

static int process_finish(lua_State *L, struct op *op)
{
    struct process *process = (struct process *)op;
    if (!process->alone) {
        return 0;
    }
    if (process->proc == NULL) {
        return luaL_error(L, "the process was released");
    }
    return push_result(L, process);
}

/* ---- events ---- */

static bool read_is_ready(struct process *process, const struct io_op *io);

static void on_stdout(void *arg)
{
    struct process *process = arg;
    if (process->reader != NULL && read_is_ready(process, process->reader)) {
        wake(&process->reader);
    }
}

static void on_written(void *arg, int error)
{
    struct process *process = arg;
    if (process->feeding) { // that it reads no more is no error
        process->feeding = false;
        proc_close_input(process->proc);
    } else if (process->writer != NULL) {
        process->writer->error = error;
        wake(&process->writer);
    }
}

static void on_over(void *arg)
{
    struct process *process = arg;
    op_done(&process->op);
}

/* ---- starting ---- */

/* The texts of the list in field `name` of the table at `arg`, ending in NULL, in a new userdata on
 * the stack. They live as long as the table. */
static const char **check_texts(lua_State *L, int arg, const char *name)
{
    (void)lua_getfield(L, arg, name);
    luaL_argcheck(L, lua_istable(L, -1), arg, "a list is missing");
    size_t n = lua_rawlen(L, -1);
    const char **texts = lua_newuserdatauv(L, (n + 1) * sizeof(char *), 0); // -- list texts
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, -2, (lua_Integer)(i + 1));
        luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, arg, "a list holds what is no text");
        size_t len;
        const char *text = lua_tolstring(L, -1, &len);
        luaL_argcheck(L, strlen(text) == len, arg, "a text contains a zero byte");
        texts[i] = text;
        lua_pop(L, 1);
    }
    texts[n] = NULL;
    lua_remove(L, -2);
    return texts;
}

static bool flag(lua_State *L, int arg, const char *name)
{
    (void)lua_getfield(L, arg, name);
    bool on = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return on;
}

static void check_options(lua_State *L, int arg, struct proc_options *o)
{
    luaL_checktype(L, arg, LUA_TTABLE);
    o->argv = check_texts(L, arg, "argv");
    luaL_argcheck(L, o->argv[0] != NULL, arg, "the command is missing");
    o->envp = (char *const *)check_texts(L, arg, "env");
    if (lua_getfield(L, arg, "cwd") != LUA_TNIL) {
        o->cwd = bind_check_text(L, lua_gettop(L)); // the table keeps it
    }
    (void)lua_getfield(L, arg, "max_output");
    lua_Integer max = luaL_checkinteger(L, -1);
    luaL_argcheck(L, max > 0 && max <= INT64_MAX / 4, arg, "max_output is out of range");
    o->max_output = (size_t)max;
    if (lua_getfield(L, arg, "timeout") != LUA_TNIL) {
        lua_Number seconds = luaL_checknumber(L, -1);
        luaL_argcheck(L, seconds >= 0 && seconds <= 1e9, arg, "timeout is out of range");
        o->timeout_ms = (uint64_t)(seconds * 1000 + 0.999);
    }
    o->input = flag(L, arg, "input");
    o->join = flag(L, arg, "join");
    o->detach = flag(L, arg, "detach");
}

static int push_fault(lua_State *L)
{
    struct proc_fault *fault = lua_touserdata(L, 1);
    return bind_fail(L, fault->code, fault->message.data);
}

/* nil, err; the text of the fault is freed, whatever happens. */
static int fail_start(lua_State *L, struct proc_fault *fault)
{
    lua_pushcfunction(L, push_fault);
    lua_pushlightuserdata(L, fault);
    int status = lua_pcall(L, 1, 2, 0);
    buf_release(&fault->message);
    return status == LUA_OK ? 2 : lua_error(L);
}

/* Pushes a new process, with the text at `input` (0 = none) on its way to its stdin. NULL: nil, err
 * are pushed. */
static struct process *push_process(lua_State *L, struct proc_options *o, int input)
{
    static const struct proc_events events = {on_stdout, on_written, on_over};
    struct process *process = lua_newuserdatauv(L, sizeof(*process), 1);
    *process = (struct process){.op = {.cancel = process_cancel, .finish = process_finish}};
    luaL_setmetatable(L, PROCESS_TYPE);
    if (input != 0) {
        lua_pushvalue(L, input);
        lua_setiuservalue(L, -2, 1);
    }
    struct proc_fault fault = {0};
    process->proc = proc_start(runtime_loop(runtime_of(L)), o, &events, process, &fault);
    if (process->proc == NULL) {
        (void)fail_start(L, &fault);
        return NULL;
    }
    if (input != 0) {
        size_t len;
        const char *data = lua_tolstring(L, input, &len);
        process->feeding = proc_write(process->proc, data, len) == 1;
        if (!process->feeding) {
            proc_close_input(process->proc);
        }
    }
    return process;
}

static int check_input(lua_State *L, int arg)
{
    if (lua_isnoneornil(L, arg)) {
        return 0;
    }
    (void)luaL_checkstring(L, arg);
    return arg;
}

/* run(options [, input]): waits for the end -> what push_result() tells | nil, err */
static int l_run(lua_State *L)
{
    struct proc_options o = {0};
    lua_settop(L, 2);
    int input = check_input(L, 2);
    check_options(L, 1, &o);
    task_check(L);
    if (!lua_isyieldable(L) && runtime_of(L)->worker == NULL) { // said before anything has run
        return luaL_error(L, "cannot run a command here: this code runs inside a comparator, a "
                             "gsub callback, a metamethod, or the top level of a required module; "
                             "run it before or after");
    }
    struct process *process = push_process(L, &o, input);
    if (process == NULL) {
        return 2;
    }
    process->alone = true;
    return task_wait(L, &process->op);
}

/* start(options [, input]) -> process | nil, err. Somebody has to call guard(process). */
static int l_start(lua_State *L)
{
    struct proc_options o = {.stream = true};
    lua_settop(L, 2);
    int input = check_input(L, 2);
    check_options(L, 1, &o);
    task_check(L);
    return push_process(L, &o, input) != NULL ? 1 : 2;
}

static struct process *check_process(lua_State *L)
{
    return luaL_checkudata(L, 1, PROCESS_TYPE);
}

/* guard(process): waits for its end; the cancel of this wait stops it. */
static int l_guard(lua_State *L)
{
    struct process *process = check_process(L);
    lua_settop(L, 1);
    task_check(L);
    luaL_argcheck(L, process->op.task == NULL, 1, "somebody guards this process already");
    if (process->proc == NULL) {
        return 0;
    }
    return task_wait(L, &process->op);
}

/* result(process) -> as of run, once it is over | nothing: it was stopped, or the result taken */
static int l_result(lua_State *L)
{
    struct process *process = check_process(L);
    if (process->proc == NULL || !proc_is_over(process->proc)) {
        return 0;
    }
    return push_result(L, process);
}

/* ---- its stdout ---- */

/* Bytes that can be taken, and how many of them are consumed with that (a newline); false when that
 * has to be waited for. */
static bool find_bytes(struct process *process, const struct io_op *io, size_t *take, size_t *gone)
{
    const char *data;
    bool ended;
    size_t len = proc_peek(process->proc, &data, &ended);
    *take = *gone = len;
    if (io->kind == IO_SOME) {
        return len > 0 || ended;
    }
    if (io->kind == IO_BYTES) {
        *take = *gone = len < io->len ? len : io->len;
        return len >= io->len || ended;
    }
    const char *newline = memchr(data + process->scanned, '\n', len - process->scanned);
    if (newline == NULL) {
        process->scanned = len;
        return ended || len > io->len;
    }
    *take = (size_t)(newline - data);
    *gone = *take + 1;
    return true;
}

/* Where it is not, the process is let write on. */
static bool read_is_ready(struct process *process, const struct io_op *io)
{
    size_t take, gone;
    if (find_bytes(process, io, &take, &gone)) {
        return true;
    }
    proc_want(process->proc, io->kind == IO_BYTES ? io->len : take + 1);
    return false;
}

/* -> text | nil at the end | nil, err */
static int take_bytes(lua_State *L, struct process *process, const struct io_op *io)
{
    const char *data;
    bool ended;
    size_t take, gone;
    (void)find_bytes(process, io, &take, &gone);
    (void)proc_peek(process->proc, &data, &ended);
    if (io->kind == IO_LINE && take > io->len) {
        char text[120];
        (void)snprintf(text, sizeof(text),
                       "a line is longer than %zu bytes: raise max_output, or use process:read",
                       io->len);
        return bind_fail(L, "too_long", text);
    }
    if (gone == 0) { // the end
        if (proc_timed_out(process->proc)) {
            return bind_fail(L, "timeout", "the process was stopped: its time was up");
        }
        lua_pushnil(L);
        return 1;
    }
    lua_pushlstring(L, data, take);
    proc_consume(process->proc, gone);
    process->scanned = 0;
    return 1;
}

static int io_released(lua_State *L)
{
    return bind_fail(L, "stopped", "the process was stopped");
}

static int io_finish(lua_State *L, struct op *op)
{
    struct io_op *io = (struct io_op *)op;
    luaL_checkstack(L, 8, NULL);
    if (io->process->proc == NULL) {
        return io_released(L);
    }
    if (io->kind != IO_WRITE) {
        return take_bytes(L, io->process, io);
    }
    if (io->error == UV_EPIPE) {
        return bind_fail(L, "EPIPE", "the process reads no more from its stdin");
    } else if (io->error != 0) {
        return bind_fail(L, uv_err_name(io->error), uv_strerror(io->error));
    }
    lua_pushboolean(L, true);
    return 1;
}

static void io_cancel(struct op *op)
{
    struct io_op *io = (struct io_op *)op;
    struct process *process = io->process;
    if (process->reader == io) {
        process->reader = NULL;
    }
    if (process->writer == io) {
        process->writer = NULL;
        if (process->proc != NULL) {
            proc_write_cancel(process->proc);
        }
    }
}

static int io_gc(lua_State *L)
{
    struct io_op *io = luaL_checkudata(L, 1, IO_TYPE);
    io_cancel(&io->op);
    op_gone(&io->op);
    return 0;
}

static struct io_op *push_io(lua_State *L, struct process *process, enum io_kind kind, size_t len)
{
    struct io_op *io = lua_newuserdatauv(L, sizeof(*io), 2);
    *io = (struct io_op){
        .op = {.cancel = io_cancel, .finish = io_finish},
        .process = process,
        .kind = kind,
        .len = len,
    };
    luaL_setmetatable(L, IO_TYPE);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    return io;
}

static int read_kind(lua_State *L, enum io_kind kind, size_t len)
{
    struct process *process = check_process(L);
    task_check(L);
    if (process->proc == NULL) {
        return io_released(L);
    }
    luaL_argcheck(L, process->reader == NULL, 1, "another task reads from this process already");
    struct io_op *io = push_io(L, process, kind, len);
    if (read_is_ready(process, io)) {
        op_done(&io->op);
    } else {
        process->reader = io;
    }
    return task_wait(L, &io->op);
}

/* read(process [, n]) -> n bytes, fewer only at the end; without n what has come | nil [, err] */
static int l_read(lua_State *L)
{
    lua_Integer n = luaL_optinteger(L, 2, 0);
    luaL_argcheck(L, n >= 0 && n <= INT32_MAX, 2, "expected a number of bytes");
    return read_kind(L, n > 0 ? IO_BYTES : IO_SOME, (size_t)n);
}

/* line(process, max) -> a line without its newline | nil [, err] */
static int l_line(lua_State *L)
{
    lua_Integer max = luaL_checkinteger(L, 2);
    luaL_argcheck(L, max > 0, 2, "expected a number of bytes");
    return read_kind(L, IO_LINE, (size_t)max);
}

/* capture(process): what nobody has read goes into the result. Raises while a task reads. */
static int l_capture(lua_State *L)
{
    struct process *process = check_process(L);
    luaL_argcheck(L, process->reader == NULL, 1, "another task reads from this process");
    if (process->proc != NULL) {
        proc_capture(process->proc);
    }
    return 0;
}

/* ---- its stdin, signals ---- */

/* write(process, text) -> true, when all of it has left | nil, err */
static int l_write(lua_State *L)
{
    struct process *process = check_process(L);
    size_t len;
    const char *data = luaL_checklstring(L, 2, &len);
    task_check(L);
    if (process->proc == NULL) {
        return io_released(L);
    }
    luaL_argcheck(L, process->writer == NULL && !process->feeding, 1,
                  "its stdin is being written already");
    struct io_op *io = push_io(L, process, IO_WRITE, 0);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, 2);
    io->error = proc_write(process->proc, data, len);
    if (io->error == 1) {
        process->writer = io;
    } else {
        op_done(&io->op);
    }
    return task_wait(L, &io->op);
}

/* close_input(process): its stdin is at its end, after what was given at the start. */
static int l_close_input(lua_State *L)
{
    struct process *process = check_process(L);
    luaL_argcheck(L, process->writer == NULL, 1, "another task writes to this process");
    if (process->proc != NULL && !process->feeding) {
        proc_close_input(process->proc);
    }
    return 0;
}

/* stop(process): SIGTERM, and SIGKILL a moment later; does not wait. */
static int l_stop(lua_State *L)
{
    struct process *process = check_process(L);
    if (process->proc != NULL) {
        proc_stop(process->proc);
    }
    return 0;
}

/* "TERM", "SIGTERM", 15 -> its number, or 0 */
static int signal_number(lua_State *L, int arg)
{
    if (lua_isinteger(L, arg)) {
        lua_Integer n = lua_tointeger(L, arg);
        return n > 0 && n < NSIG ? (int)n : 0;
    }
    const char *name = luaL_checkstring(L, arg);
    if (strncmp(name, "SIG", 3) == 0) {
        name += 3;
    }
    for (int sig = 1; sig < NSIG; sig++) {
        const char *known = sigabbrev_np(sig);
        if (known != NULL && strcmp(known, name) == 0) {
            return sig;
        }
    }
    return 0;
}

/* kill(process, signal) -> true | nil, err; false: no such signal */
static int l_kill(lua_State *L)
{
    struct process *process = check_process(L);
    int sig = signal_number(L, 2);
    if (sig == 0) {
        lua_pushboolean(L, false);
        return 1;
    }
    int rc = process->proc != NULL ? proc_kill(process->proc, sig) : UV_ESRCH;
    if (rc != 0) {
        return bind_fail(L, uv_err_name(rc),
                         rc == UV_ESRCH ? "the process has ended" : uv_strerror(rc));
    }
    lua_pushboolean(L, true);
    return 1;
}

/* pid(process) -> integer | nothing */
static int l_pid(lua_State *L)
{
    struct process *process = check_process(L);
    if (process->proc == NULL) {
        return 0;
    }
    lua_pushinteger(L, proc_pid(process->proc));
    return 1;
}

/* environ() -> { "NAME=value", ... }: that of this program */
static int l_environ(lua_State *L)
{
    lua_newtable(L);
    for (lua_Integer i = 0; environ != NULL && environ[i] != NULL; i++) {
        lua_pushstring(L, environ[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* is_secret(name) -> true for a variable that holds a key of a provider */
static int l_is_secret(lua_State *L)
{
    lua_pushboolean(L, secret_is_key(luaL_checkstring(L, 1)));
    return 1;
}

int luaopen_lash_core_exec(lua_State *L)
{
    static const luaL_Reg functions[] = {{"run", l_run},
                                         {"start", l_start},
                                         {"guard", l_guard},
                                         {"result", l_result},
                                         {"read", l_read},
                                         {"line", l_line},
                                         {"write", l_write},
                                         {"stop", l_stop},
                                         {"close_input", l_close_input},
                                         {"kill", l_kill},
                                         {"pid", l_pid},
                                         {"capture", l_capture},
                                         {"environ", l_environ},
                                         {"is_secret", l_is_secret},
                                         {NULL, NULL}};
    bind_type_gc(L, PROCESS_TYPE, process_gc);
    bind_type_gc(L, IO_TYPE, io_gc);
    luaL_newlib(L, functions);
    return 1;
}
