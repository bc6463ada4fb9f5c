#include "base/base.h"

#include "engine/runtime.h"
#include "engine/semaphore.h"
#include "engine/task.h"
#include "io/timer.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lualib.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { PROCESS_CAP = 256, CLOSE_GRACE_MS = 2000 };

static const char runtime_key; /* its address: where a registry keeps its runtime */

static int on_panic(lua_State *L)
{
    if (memory_is_error(L, -1)) {
        out_of_memory(0);
    }
    const char *msg = lua_tostring(L, -1);
    panic(__FILE__, __LINE__, "unprotected Lua error: %s", msg ? msg : "(no text)");
}

static void init_fields(struct runtime *rt)
{
    list_init(&rt->ready);
    list_init(&rt->tasks);
    list_init(&rt->mail);
    dispatcher_init(&rt->dispatcher, PROCESS_CAP);
    child_set_init(&rt->children, false);
    ASSERT(uv_mutex_init(&rt->mail_lock) == 0);
}

static void adopt_state(struct runtime *rt, lua_State *L)
{
    rt->L = L;
    *(struct runtime **)lua_getextraspace(L) = rt; /* threads made from now on inherit it */
    lua_pushlightuserdata(L, rt);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &runtime_key);
}

enum { GC_MAJOR = 70, GC_PAUSE = 140 };

/* Generational, as the lua program has it: an incremental collector falls behind when all garbage
 * has finalizers, as the operations of waits have: a loop of sleeps would grow for ever.
 *
 * But everything is collected when memory has grown by GC_MAJOR %, and, while it grows and stays as
 * with conversations that are kept, whenever there is GC_PAUSE % of what there was. Lua's own 100
 * and 200 leave as much garbage as there is live, and our blocks go back to the system only at the
 * end. The pause is not set with LUA_GCINC: each change of the mode collects everything, and a
 * worker does this after each job. Where it runs it is not started again: that would make the next
 * job begin with a collection. */
void runtime_reset_gc(lua_State *L)
{
    if (!lua_gc(L, LUA_GCISRUNNING)) {
        lua_gc(L, LUA_GCRESTART);
    }
    lua_gc(L, LUA_GCSETPAUSE, GC_PAUSE);
    lua_gc(L, LUA_GCGEN, 0, GC_MAJOR);
}

/* What starts makes hardly any garbage, but the collector, which goes by how much was added to what
 * there was, would look through it six times: an eighth of the time of `lash call`. So it waits for
 * this many KiB: a step of less than nothing is credit. */
enum { GC_CREDIT = 768 };

static int open_state(lua_State *L)
{
    struct runtime *rt = lua_touserdata(L, 1);
    luaL_openlibs(L);
    runtime_reset_gc(L);
    if (rt->memory.blocked) { // not one of many workers
        lua_gc(L, LUA_GCSTEP, -GC_CREDIT);
    }
    adopt_state(rt, L);
    return 0;
}

int runtime_init(struct runtime *rt, bool blocks)
{
    *rt = (struct runtime){.memory.blocked = blocks};
    lua_State *L = lua_newstate(memory_alloc, &rt->memory);
    if (L == NULL) {
        return UV_ENOMEM;
    }
    lua_atpanic(L, on_panic);
    lua_pushcfunction(L, open_state);
    lua_pushlightuserdata(L, rt);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
        lua_close(L);
        memory_release(&rt->memory);
        return UV_ENOMEM;
    }
    init_fields(rt);
    rt->owns_state = true;
    return 0;
}

void runtime_init_around(struct runtime *rt, lua_State *L)
{
    *rt = (struct runtime){0};
    init_fields(rt);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    lua_State *main_state = lua_tothread(L, -1);
    lua_pop(L, 1);
    adopt_state(rt, main_state);
}

struct runtime *runtime_of(lua_State *L)
{
    struct runtime *rt = *(struct runtime **)lua_getextraspace(L);
    if (rt != NULL) {
        return rt;
    }
    /* a coroutine that was made before the library was loaded into a foreign state */
    lua_rawgetp(L, LUA_REGISTRYINDEX, &runtime_key);
    rt = lua_touserdata(L, -1);
    lua_pop(L, 1);
    if (rt == NULL) {
        luaL_error(L, "lash is not loaded in this Lua state");
    }
    return rt;
}

void *runtime_userdata(lua_State *L, int index, int type, const char *name)
{
    void *data = lua_touserdata(L, index);
    bool fits = false;
    if (data != NULL && lua_getmetatable(L, index)) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, type);
        fits = lua_rawequal(L, -1, -2);
        lua_pop(L, 2);
    }
    if (!fits) {
        luaL_typeerror(L, index, name);
    }
    return data;
}

void runtime_deliver_mail(struct runtime *rt)
{
    struct list mail;
    list_init(&mail);
    uv_mutex_lock(&rt->mail_lock);
    list_splice(&mail, &rt->mail);
    uv_mutex_unlock(&rt->mail_lock);
    struct list *node;
    while ((node = list_take(&mail)) != NULL) {
        struct mail *m = container_of(node, struct mail, node);
        m->deliver(rt, m);
    }
}

static void on_mail(uv_poll_t *poll, int status, int events)
{
    struct runtime *rt = poll->data;
    uint64_t count;
    (void)status;
    (void)events;
    if (read(rt->mail_fd, &count, sizeof(count)) < 0) {
        /* nobody has written since: there may be letters all the same */
    }
    runtime_deliver_mail(rt);
}

/* Any thread, while the loop stays open. */
static void ring(struct runtime *rt)
{
    const uint64_t one = 1;
    while (write(rt->mail_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}

/* Not a uv_async_t: when the loop's thread is faster than the one that woke it, that spins until
 * the other one has returned from its write. */
static int open_mail(struct runtime *rt)
{
    rt->mail_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (rt->mail_fd < 0) {
        return uv_translate_sys_error(errno);
    }
    int status = uv_poll_init(&rt->loop, &rt->mail_poll, rt->mail_fd);
    if (status != 0) {
        (void)close(rt->mail_fd);
        return status;
    }
    rt->mail_poll.data = rt;
    ASSERT(uv_poll_start(&rt->mail_poll, UV_READABLE, on_mail) == 0);
    if (rt->expected == 0) {
        uv_unref((uv_handle_t *)&rt->mail_poll);
    }
    return 0;
}

static void close_mail(struct runtime *rt)
{
    while (atomic_load(&rt->wakers) > 0) {
        (void)sched_yield();
    }
    uv_close((uv_handle_t *)&rt->mail_poll, NULL);
    (void)close(rt->mail_fd);
}

/* libuv aborts the process when it cannot have the pipe that it makes with its first loop, after a
 * descriptor for that loop: 0 when it can. */
static int probe_pipe(void)
{
    static atomic_bool made;
    uv_file ends[2];
    if (atomic_load(&made)) {
        return 0;
    }
    int status = uv_pipe(ends, 0, 0);
    if (status == 0) {
        int loop = fcntl(ends[0], F_DUPFD_CLOEXEC, 0);
        status = loop < 0 ? uv_translate_sys_error(errno) : 0;
        if (loop >= 0) {
            (void)close(loop);
        }
        (void)close(ends[0]);
        (void)close(ends[1]);
        atomic_store(&made, status == 0);
    }
    return status;
}

int runtime_open_loop(struct runtime *rt)
{
    if (rt->loop_open) {
        return 0;
    }
    int status = probe_pipe();
    if (status == 0) {
        status = uv_loop_init(&rt->loop);
        uv_loop_set_data(&rt->loop, NULL); /* for io/timer.h */
    }
    if (status != 0) {
        return status;
    }
    status = open_mail(rt);
    if (status != 0) {
        (void)uv_loop_close(&rt->loop);
        return status;
    }
    uv_mutex_lock(&rt->mail_lock);
    rt->loop_open = true;
    if (!list_empty(&rt->mail)) {
        ring(rt);
    }
    uv_mutex_unlock(&rt->mail_lock);
    return 0;
}

uv_loop_t *runtime_loop(struct runtime *rt)
{
    ASSERT(runtime_open_loop(rt) == 0);
    return &rt->loop;
}

bool runtime_put(struct runtime *rt, struct mail *mail)
{
    uv_mutex_lock(&rt->mail_lock);
    bool wake = list_empty(&rt->mail) && rt->loop_open; /* else somebody wakes it already */
    list_append(&rt->mail, &mail->node);
    if (wake) {
        atomic_fetch_add(&rt->wakers, 1);
    }
    uv_mutex_unlock(&rt->mail_lock);
    return wake;
}

void runtime_wake(struct runtime *rt)
{
    ring(rt);
    atomic_fetch_sub(&rt->wakers, 1); /* from here on the runtime may be gone */
}

void runtime_post(struct runtime *rt, struct mail *mail)
{
    if (runtime_put(rt, mail)) {
        runtime_wake(rt);
    }
}

void runtime_take_back(struct runtime *rt, struct mail *mail)
{
    uv_mutex_lock(&rt->mail_lock);
    list_remove(&mail->node);
    uv_mutex_unlock(&rt->mail_lock);
}

void runtime_expect(struct runtime *rt)
{
    (void)runtime_loop(rt);
    if (rt->expected++ == 0) {
        uv_ref((uv_handle_t *)&rt->mail_poll);
    }
}

void runtime_received(struct runtime *rt)
{
    ASSERT(rt->expected > 0);
    if (--rt->expected == 0 && rt->loop_open) {
        uv_unref((uv_handle_t *)&rt->mail_poll);
    }
}

void *runtime_service(struct runtime *rt, const void *key)
{
    for (size_t i = 0; i < ARRAY_LEN(rt->services); i++) {
        if (rt->services[i].data != NULL && rt->services[i].key == key) {
            return rt->services[i].data;
        }
    }
    return NULL;
}

void runtime_set_service(struct runtime *rt, const void *key, void *data, void (*close)(void *data))
{
    for (size_t i = 0; i < ARRAY_LEN(rt->services); i++) {
        if (rt->services[i].data == NULL) {
            rt->services[i] = (struct service){key, data, close};
            return;
        }
    }
    panic(__FILE__, __LINE__, "no slot for one more service");
}

void runtime_carry_interrupt(struct runtime *rt, lua_State *from, lua_State *to)
{
    if (rt->interrupt == NULL || lua_gethook(from) != rt->interrupt) {
        return;
    }
    bool sooner =
        lua_gethook(to) == rt->interrupt && lua_gethookcount(to) <= lua_gethookcount(from);
    if (!sooner) {
        lua_sethook(to, rt->interrupt, lua_gethookmask(from), lua_gethookcount(from));
    }
}

int runtime_resume(struct runtime *rt, lua_State *co, lua_State *from, int nargs, int *nres)
{
    lua_State *outer = rt->innermost;
    rt->innermost =
        co; /* first: a signal before hits `from` and is carried over, one after hits `co` */
    runtime_carry_interrupt(rt, from, co);
    if (rt->interrupted && lua_gethook(co) != rt->interrupt) {
        lua_sethook(co, rt->interrupt, LUA_MASKCOUNT, RUNTIME_GENTLE_COUNT);
    }
    int status = lua_resume(co, from, nargs, nres);
    rt->innermost = outer;
    runtime_carry_interrupt(rt, co, from);
    return status;
}

/* Nothing but letters can make a task ready. Waits for one, if a permit may come. */
static bool await_permit(struct runtime *rt)
{
    if (!permit_may_come(rt)) {
        return false;
    }
    runtime_expect(rt);
    (void)uv_run(&rt->loop, UV_RUN_ONCE);
    runtime_received(rt);
    return true;
}

int runtime_run(struct runtime *rt, bool (*finished)(void *arg), void *arg)
{
    while (!finished(arg)) {
        task_run_ready(rt);
        if (finished(arg)) {
            break;
        }
        bool more = !list_empty(&rt->ready);
        if (!rt->loop_open) {
            if (!more && !await_permit(rt)) {
                return RUNTIME_STALLED;
            }
            continue;
        }
        int alive = uv_run(&rt->loop, more ? UV_RUN_NOWAIT : UV_RUN_ONCE);
        if (!alive && list_empty(&rt->ready) && !finished(arg) && !await_permit(rt)) {
            return RUNTIME_STALLED;
        }
    }
    return 0;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

static void close_services(struct runtime *rt)
{
    for (size_t i = ARRAY_LEN(rt->services); i > 0; i--) {
        struct service s = rt->services[i - 1];
        rt->services[i - 1] = (struct service){0};
        if (s.data != NULL) {
            s.close(s.data);
        }
    }
}

static void on_patience(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

/* Owners of handles have closed them by now; their close callbacks and what the thread pool still
 * does have to end. Something that never does (a read of a dead network file) must not keep us for
 * ever. */
static void run_until_quiet(struct runtime *rt)
{
    bool over = false;
    uv_timer_t patience;
    uv_timer_init(&rt->loop, &patience);
    patience.data = &over;
    uv_timer_start(&patience, on_patience, CLOSE_GRACE_MS, 0);
    uv_unref((uv_handle_t *)&patience);
    while (uv_run(&rt->loop, UV_RUN_ONCE) != 0 && !over) {
    }
    uv_close((uv_handle_t *)&patience, NULL);
    (void)uv_run(&rt->loop, UV_RUN_NOWAIT);
}

void runtime_close_loop(struct runtime *rt)
{
    close_services(rt);
    if (!rt->loop_open) {
        return;
    }
    uv_mutex_lock(&rt->mail_lock);
    rt->loop_open = false; /* from here on nobody begins to send into the loop */
    uv_mutex_unlock(&rt->mail_lock);
    close_mail(rt);
    run_until_quiet(rt);
    timer_close(&rt->loop);
    (void)uv_run(&rt->loop, UV_RUN_NOWAIT);
    int status = uv_loop_close(&rt->loop);
    if (status != 0) {
#ifdef LASH_DEBUG
        uv_print_all_handles(&rt->loop, stderr);
#endif
        DEBUG_ASSERT(status == 0);
        uv_walk(&rt->loop, close_handle, NULL);
        uv_run(&rt->loop, UV_RUN_DEFAULT);
        (void)uv_loop_close(&rt->loop);
    }
}

void runtime_close_state(struct runtime *rt)
{
    task_cancel_all(rt, CANCEL_PARENT, CLOSE_GRACE_MS);
    rt->closing = true;
    close_services(rt);
    if (rt->owns_state && rt->L != NULL) {
        lua_close(rt->L); /* its finalizers may still stop io, so the loop is open */
        rt->L = NULL;
        memory_release(&rt->memory);
    }
}

void runtime_release(struct runtime *rt)
{
    runtime_close_state(rt);
    runtime_close_loop(rt);
    runtime_deliver_mail(rt); /* late results: nobody waits, their memory is freed */
    dispatcher_release(&rt->dispatcher);
    child_set_release(&rt->children);
    anchors_release(&rt->anchors);
    uv_mutex_destroy(&rt->mail_lock);
}
