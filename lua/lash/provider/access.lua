--- Access to a provider: its address, its key and further headers, from the environment and config.lua; and what
-- of them may be shown. An entry is that of lash.provider.registry.
local config = require "lash.config"
local engine = require "lash.core.engine"
local fault = require "lash.provider.fault"
local uri = require "lash.uri"

local M = {}

local function refuse(code, exit, message, ...)
    return nil, fault.new { code = code, exit = exit, message = message:format(...) }
end

--- env(name) -> the value of a variable | nil when it is not set, or empty
function M.env(name)
    local value = name and os.getenv(name)
    return value and value ~= "" and value or nil
end

local env = M.env

-- ---- addresses ----

-- Whether a base URL points to this machine, where servers often want no key.
local function on_loopback(url)
    local host = url:lower():match("^%a+://([^/?#]*)") or ""
    host = host:gsub("^.*@", "")
    host = host:match("^%[(.-)%]") or host:gsub(":%d*$", "")
    return host == "localhost" or host:find("%.localhost$") ~= nil or host:find("^127%.%d+%.%d+%.%d+$") ~= nil
        or host == "::1"
end

--- base(entry) -> base URL, where it was found (nil: built in) | nil, err
function M.base(entry)
    local from = env(entry.base_var)
    local base, where = from, entry.base_var
    if from and entry.from_var then
        base = entry.from_var(from)
    elseif not from and entry.own.base_url then
        base, where = entry.own.base_url, config.at("providers", entry.name) .. ".base_url in config.lua"
    elseif not from then
        base, where = entry.base, nil
    end
    if base == nil then
        return refuse("config", 78, "%s has no address: export %s, such as %s, or set %s.base_url in config.lua",
            entry.name, entry.base_var, entry.example, config.at("providers", entry.name))
    elseif not base:lower():find("^https?://[^/%s?#]") or base:find("[%s%c]") then
        return refuse("config", 78, "%s is no URL: it must begin with http:// or https:// and name a host, "
            .. "such as %s", where, entry.example or "http://localhost:8080")
    elseif base:find("#", 1, true) then
        return refuse("config", 78, "%s has a '#': what stands behind it is never sent, so leave it out", where)
    end
    return base, where
end

-- ---- keys ----

local function no_key(entry, another)
    local list = table.concat(entry.keys, " nor ")
    local several = #entry.keys > 1
    local address = entry.example and not entry.own.base_url and (", set %s to a local server (such as %s)"):format(
        entry.base_var, entry.example) or ""
    return ("%s needs a key: %s %s set, and config.lua has none. Export %s=KEY%s%s, or try -m demo, which needs "
        .. "no key"):format(entry.name, several and "neither " .. list or list, several and "is" or "is not",
        entry.keys[1], another and another(entry.name) or "", address)
end

local told = setmetatable({}, { __mode = "k" }) -- function of config.lua -> the key that it gave

local function key_of_config(entry)
    local key = entry.own.key
    local where = config.at("providers", entry.name) .. ".key in config.lua"
    if type(key) ~= "function" then
        return key or nil, where
    elseif told[key] == nil then
        local ok, value = pcall(key)
        if not ok and engine.cancel_reason(value) then
            error(value, 0) -- --timeout or Ctrl-C: no fault of the function
        elseif not ok or type(value) ~= "string" then
            return nil, where, ("%s is a function that %s"):format(where, ok and "returned a " .. type(value)
                .. ", not a text" or "failed: " .. fault.clean(tostring(value)))
        end
        told[key] = value
    end
    return told[key], where
end

-- -> key or nil, where it was found, what is wrong with it
local function find_key(entry)
    local key, where, why
    for _, var in ipairs(entry.keys) do
        if not key and env(var) then
            key, where = env(var), var
        end
    end
    if not key and entry.own.key ~= nil then
        key, where, why = key_of_config(entry)
    end
    if not key then
        return nil, why and where, why
    end
    key = key:match("^%s*(.-)%s*$")
    if key == "" or key:find("[%s%c\x80-\xff]") then
        return nil, where, ("the key in %s is no key: it has spaces, line breaks or other characters that no key "
            .. "has"):format(where)
    end
    return key, where
end

--- key(entry, base [, another]) -> key, where | nil, where or nil, err when it is missing or none
-- The key may be nil without an error: where none is wanted. another(name) -> what else those can do who lack it.
function M.key(entry, base, another)
    local key, where, why = find_key(entry)
    if why then
        return nil, where, fault.new { code = "key", exit = 78, message = why }
    elseif key or entry.keyless or entry.own.key == false or base and on_loopback(base) then
        return key, where
    end
    return nil, nil, fault.new { code = "key", exit = 78, message = no_key(entry, another) }
end

-- ---- headers ----

--- merged(first, second) -> the fields of both in one table; those of the second count
function M.merged(first, second)
    local all = {}
    for _, fields in ipairs { first or {}, second or {} } do
        for name, value in pairs(fields) do
            all[name] = value
        end
    end
    return all
end

-- Header lines of a variable, as the official clients of some services take them.
local function header_lines(var)
    local headers = {}
    for line in (env(var) or ""):gmatch("[^\r\n]+") do
        local name, value = line:match("^%s*([%w!#$%%&'*+.^_`|~-]+)%s*:%s*(.-)%s*$")
        if not name or value:find("%c") then
            return refuse("config", 78, "%s has a line that is no header: write NAME: VALUE on each line", var)
        end
        headers[name] = value
    end
    return headers
end

--- headers(entry) -> further headers of its requests, nil for none | nil, err
function M.headers(entry)
    local headers, err = header_lines(entry.headers_var)
    if not headers then
        return nil, err
    end
    headers = M.merged(entry.own.headers, headers)
    return next(headers) ~= nil and headers or nil
end

-- ---- what may be shown ----

--- shown(url) -> the URL without what may be secret in it: user, password, query.
function M.shown(url)
    return (url:gsub("^(%a+://)[^/?#]*@", "%1"):gsub("[?#].*$", ""))
end

-- Names of headers and of fields of a query whose values are nobody's business.
local SECRET = { "key", "token", "secret", "auth", "cookie", "password", "signature", "credential" }

local function is_secret(name)
    name = name:lower()
    for _, word in ipairs(SECRET) do
        if name:find(word, 1, true) then
            return true
        end
    end
    return name == "sig" or name == "code"
end

--- secrets(key, base, headers) -> list of all texts that must not be shown, the longest first: the key; user and
-- password of the URL and the secret values of its query, as they stand there and without escapes; the values of
-- secret headers
function M.secrets(key, base, headers)
    local list, seen = {}, {}
    local function add(text)
        if text and text ~= "" and not seen[text] then
            seen[text] = true
            list[#list + 1] = text
        end
    end
    local function add_escaped(text)
        add(text)
        add(text and uri.decode(text))
    end
    add(key)
    local user = base:match("^%a+://([^/?#]*)@")
    add_escaped(user)
    add_escaped(user and user:match(":(.*)$"))
    for name, value in base:gmatch("[?&]([^=&#]*)=([^&#]*)") do
        add_escaped(is_secret(name) and value or nil)
    end
    for name, value in pairs(headers or {}) do
        value = is_secret(name) and tostring(value) or nil
        add(value)
        add(value and value:match("^%a+ +(.+)$")) -- behind Bearer
    end
    table.sort(list, function(a, b)
        return #a > #b or #a == #b and a < b
    end)
    return list
end

--- masked_header(name, value, target) -> the value, or **** in place of what is secret in it
function M.masked_header(name, value, target)
    local secret = is_secret(name)
    for _, text in ipairs(target.secrets or { target.key }) do
        secret = secret or #text >= 4 and value:find(text, 1, true) ~= nil
    end
    return secret and (value:match("^Bearer ") or "") .. "****" or value
end

--- masked_url(url, target) -> the URL with **** in place of user, password, what is secret in its query, and the key
function M.masked_url(url, target)
    local key = target and target.key
    if key and #key >= 4 then
        url = url:gsub(key:gsub("%W", "%%%0"), "****")
    end
    return (url:gsub("^(%a+://)[^/?#]*@", "%1****@"):gsub("([?&])([^=&#]*)=([^&#]*)", function(mark, name)
        if is_secret(name) then
            return mark .. name .. "=****"
        end
        return nil
    end))
end

return M
