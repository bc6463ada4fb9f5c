#include "base/base.h"
#include "base/fault.h"

#include "engine/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM = 1 << 20 }; /* for handlers and closers, once the limit was met */

#define MEMORY_ERROR "not enough memory" /* as Lua and its libraries have it */

/* Lua asks for the same again when it has collected garbage; its libraries grow their buffers
 * without that. So a refusal counts when it is repeated, or when something else comes next. */
static void note_request(struct memory *m, const void *ptr, size_t nsize, bool granted)
{
    bool again = m->wanted_size == nsize && m->wanted == ptr;
    if (m->wanted_size != 0 && !(again && granted)) {
        m->met = true;
    }
    m->wanted = ptr;
    m->wanted_size = granted || again ? 0 : nsize;
}

static bool fits(const struct memory *m, size_t more)
{
    size_t limit = m->limit + (m->met ? ROOM : 0);
    return m->limit == 0 || (more <= limit && m->used <= limit - more);
}

#ifdef LASH_DEBUG
/* What Lua asks for once more, after a collection, has to fail once more. */
static bool fails(struct memory *m, const void *ptr, size_t nsize)
{
    bool again = m->failed_size == nsize && m->failed == ptr;
    m->failed_size = 0;
    if (!again && fault_alloc(FAULT_LUA)) {
        m->failed = ptr;
        m->failed_size = nsize;
        return true;
    }
    return again;
}
#else
static bool fails(struct memory *m, const void *ptr, size_t nsize)
{
    (void)m;
    (void)ptr;
    (void)nsize;
    return false;
}
#endif

/* Never under a sanitizer: it sees only what malloc() gives. */
static bool in_blocks(const struct memory *m, size_t size)
{
#ifdef LASH_DEBUG
    return false;
#endif
    return m->blocked && size > 0 && size <= BLOCK_MAX;
}

static void give_back(struct memory *m, void *ptr, size_t size)
{
    if (in_blocks(m, size)) {
        blocks_put(&m->blocks, ptr, size);
    } else {
        free(ptr);
    }
}

#ifdef LASH_DEBUG
static size_t room_for(size_t size)
{
    return size; // a sanitizer sees what is behind it
}
#else
/* Bytes to ask malloc() for. The request of a long conversation is a text that grows a little with
 * each turn, and malloc() maps, and the system clears, pages for each block that is larger than
 * all that were freed before: that took a fifth of a turn. Large ones are alike in steps. */
static size_t room_for(size_t size)
{
    size_t step = (size_t)16 << 10;
    if (size < 8 * step || size > (size_t)1 << 30) {
        return size;
    }
    while (size > 16 * step) {
        step *= 2;
    }
    return (size + step - 1) / step * step;
}
#endif

/* As realloc(), for memory that may be a small block, or become one. */
static void *resize(struct memory *m, void *ptr, size_t old, size_t size)
{
    bool was_block = in_blocks(m, old);
    bool is_block = in_blocks(m, size);
    if (!was_block && !is_block) {
        return realloc(ptr, room_for(size));
    }
    if (was_block && is_block && blocks_kind(old) == blocks_kind(size)) {
        return ptr;
    }
    void *moved = is_block ? blocks_get(&m->blocks, size) : malloc(room_for(size));
    if (moved != NULL && old > 0) {
        memcpy(moved, ptr, old < size ? old : size);
        give_back(m, ptr, old);
    }
    return moved;
}

/* All but the usual case. Shrinking never fails: a block that cannot be moved stays where it is,
 * and counts among the smaller ones from then on. */
static NOINLINE void *change(struct memory *m, void *ptr, size_t old, size_t nsize)
{
    if (nsize <= old) {
        void *shrunk = resize(m, ptr, old, nsize);
        m->used -= old - nsize;
        return shrunk != NULL ? shrunk : ptr;
    }
    bool granted = fits(m, nsize - old) && !fails(m, ptr, nsize);
    if (m->limit != 0) {
        note_request(m, ptr, nsize, granted);
    }
    void *grown = granted ? resize(m, ptr, old, nsize) : NULL;
    if (grown != NULL) {
        m->used += nsize - old;
    }
    return grown;
}

/* `osize` is a type tag when ptr is NULL. Nearly always Lua makes or drops a small block, in a
 * state without a limit: that takes as few steps as possible. */
void *memory_alloc(void *ud, void *ptr, size_t osize, size_t nsize)
{
    struct memory *m = ud;
    if (nsize == 0) {
        if (ptr != NULL) { // of empty tables too Lua frees all parts
            m->used -= osize;
            give_back(m, ptr, osize);
        }
        return NULL;
    }
    if (ptr == NULL && m->limit == 0 && in_blocks(m, nsize)) {
        void *block = blocks_get(&m->blocks, nsize);
        m->used += block != NULL ? nsize : 0;
        return block;
    }
    return change(m, ptr, ptr != NULL ? osize : 0, nsize);
}

void memory_release(struct memory *m)
{
    blocks_release(&m->blocks);
}

void memory_begin(struct memory *m, size_t bytes)
{
    memory_end(m);
    m->job_limit = bytes;
    if (bytes != 0) {
        m->limit = bytes < SIZE_MAX - m->used ? m->used + bytes : SIZE_MAX;
    }
}

void memory_relax(struct memory *m)
{
    if (m->limit != 0) {
        size_t more = m->job_limit + ROOM;
        m->limit = m->limit < SIZE_MAX - more ? m->limit + more : SIZE_MAX;
    }
}

void memory_end(struct memory *m)
{
    m->limit = 0;
    m->job_limit = 0;
    m->wanted_size = 0;
    m->met = false;
}

bool memory_met(const struct memory *m)
{
    return m->met || m->wanted_size != 0;
}

void memory_push_fault(lua_State *L, const struct memory *m)
{
    static const char *const units[] = {" bytes", "K", "M", "G"};
    if (!memory_met(m)) {
        lua_pushnil(L);
        return;
    }
    size_t size = m->job_limit;
    size_t unit = 0;
    while (unit + 1 < ARRAY_LEN(units) && size % 1024 == 0) {
        size /= 1024;
        unit++;
    }
    char text[40];
    (void)snprintf(text, sizeof(text), "%zu%s", size, units[unit]);
    lua_pushfstring(L,
                    "used more than its limit of %s of memory (raise it with the field `memory` of "
                    "the tool, or with --memory for all tools)",
                    text);
}

bool memory_is_error(lua_State *L, int index)
{
    return lua_type(L, index) == LUA_TSTRING &&
           strstr(lua_tostring(L, index), MEMORY_ERROR) != NULL;
}
