/*
 * lash.core.codec: Base64, SHA-256, UUIDs and the working directory, for lua/lash/base64.lua,
 * hash.lua, uuid.lua and path.lua, which check what users give them.
 */
#include "base/base.h"

#include "base/base64.h"
#include "base/sha256.h"
#include "base/uuid.h"
#include "bind/bind.h"
#include "bind/fail.h"

#include <lauxlib.h>
#include <string.h>
#include <uv.h>

#define SHA256_TYPE "lash.sha256"

/* base64_encode(text, url, pad) -> text */
static int l_base64_encode(lua_State *L)
{
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    bool pad = lua_toboolean(L, 3);
    size_t room = base64_encoded_len(len, pad);
    luaL_Buffer b;
    base64_encode(data, len, lua_toboolean(L, 2), pad, luaL_buffinitsize(L, &b, room));
    luaL_pushresultsize(&b, room);
    return 1;
}

/* base64_decode(text, url) -> text | nil, position of what is wrong, from 1 */
static int l_base64_decode(lua_State *L)
{
    size_t len, out_len = 0, bad = 0;
    const char *text = luaL_checklstring(L, 1, &len);
    luaL_Buffer b;
    char *out = luaL_buffinitsize(L, &b, base64_decoded_room(len));
    if (base64_decode(text, len, lua_toboolean(L, 2), out, &out_len, &bad) != 0) {
        lua_pushnil(L);
        lua_pushinteger(L, (lua_Integer)bad + 1);
        return 2;
    }
    luaL_pushresultsize(&b, out_len);
    return 1;
}

static int push_digest(lua_State *L, const uint8_t digest[SHA256_LEN], bool binary)
{
    static const char digits[] = "0123456789abcdef";
    char hex[2 * SHA256_LEN];
    for (int i = 0; i < SHA256_LEN; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    if (binary) {
        lua_pushlstring(L, (const char *)digest, SHA256_LEN);
    } else {
        lua_pushlstring(L, hex, sizeof(hex));
    }
    return 1;
}

/* sha256(text, binary) -> digest */
static int l_sha256(lua_State *L)
{
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    struct sha256 s;
    uint8_t digest[SHA256_LEN];
    sha256_init(&s);
    sha256_update(&s, data, len);
    sha256_digest(&s, digest);
    return push_digest(L, digest, lua_toboolean(L, 2));
}

/* hmac_sha256(key, text, binary) -> code */
static int l_hmac_sha256(lua_State *L)
{
    size_t key_len, len;
    const char *key = luaL_checklstring(L, 1, &key_len);
    const char *data = luaL_checklstring(L, 2, &len);
    uint8_t code[SHA256_LEN];
    sha256_hmac(key, key_len, data, len, code);
    return push_digest(L, code, lua_toboolean(L, 3));
}

/* sha256_new() -> state */
static int l_sha256_new(lua_State *L)
{
    sha256_init(lua_newuserdatauv(L, sizeof(struct sha256), 0));
    luaL_setmetatable(L, SHA256_TYPE);
    return 1;
}

/* state:update(text) -> state */
static int l_sha256_update(lua_State *L)
{
    size_t len;
    struct sha256 *s = luaL_checkudata(L, 1, SHA256_TYPE);
    luaL_checktype(L, 2, LUA_TSTRING);
    const char *data = luaL_checklstring(L, 2, &len);
    sha256_update(s, data, len);
    lua_settop(L, 1);
    return 1;
}

/* state:digest([{ binary = true }]) -> digest of all so far; the state can go on */
static int l_sha256_digest(lua_State *L)
{
    struct sha256 *s = luaL_checkudata(L, 1, SHA256_TYPE);
    bool binary = false;
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        lua_getfield(L, 2, "binary");
        binary = lua_toboolean(L, -1);
    }
    uint8_t digest[SHA256_LEN];
    sha256_digest(s, digest);
    return push_digest(L, digest, binary);
}

static int push_uuid(lua_State *L, int err, const uint8_t uuid[UUID_LEN])
{
    char text[UUID_TEXT_LEN];
    if (err != 0) {
        return luaL_error(L, "the system gives no random bytes: %s", uv_strerror(err));
    }
    uuid_text(uuid, text);
    lua_pushlstring(L, text, sizeof(text));
    return 1;
}

/* uuid_v4() -> text */
static int l_uuid_v4(lua_State *L)
{
    uint8_t uuid[UUID_LEN];
    return push_uuid(L, uuid_v4(uuid), uuid);
}

/* uuid_v7() -> text */
static int l_uuid_v7(lua_State *L)
{
    uint8_t uuid[UUID_LEN];
    return push_uuid(L, uuid_v7(uuid), uuid);
}

/* cwd() -> absolute path | nil, err */
static int l_cwd(lua_State *L)
{
    char path[4096];
    size_t len = sizeof(path);
    int err = uv_cwd(path, &len);
    if (err != 0) {
        lua_pushfstring(L, "the working directory has no path: %s", uv_strerror(err));
        return bind_fail(L, uv_err_name(err), lua_tostring(L, -1));
    }
    lua_pushlstring(L, path, len);
    return 1;
}

int luaopen_lash_core_codec(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"base64_encode", l_base64_encode},
        {"base64_decode", l_base64_decode},
        {"sha256", l_sha256},
        {"sha256_new", l_sha256_new},
        {"hmac_sha256", l_hmac_sha256},
        {"uuid_v4", l_uuid_v4},
        {"uuid_v7", l_uuid_v7},
        {"cwd", l_cwd},
        {NULL, NULL},
    };
    static const luaL_Reg methods[] = {
        {"update", l_sha256_update}, {"digest", l_sha256_digest}, {NULL, NULL}};
    if (luaL_newmetatable(L, SHA256_TYPE)) {
        luaL_newlib(L, methods); // -- metatable methods
        lua_setfield(L, -2, "__index");
    }
    luaL_newlib(L, functions);
    return 1;
}
