--- Providers by name: which protocol speaks to which address, with which key. Nothing here is sent.
--
-- A provider is one of
--   a protocol    a file lua/lash/provider/NAME.lua with M.defaults: it is found by its name (openai-chat is
--                 openai_chat.lua), nothing lists it
--   an alias      an entry of lash.provider.aliases
--   the user's    an entry `providers.NAME` of config.lua, with a protocol of lash or a Lua module
-- and config.lua may say more about the first two. The environment goes before config.lua.
--
-- M.defaults of a protocol's file: { keys = variables of the key, base_var = variable of the address,
-- base = address, example = one of a server of one's own, sample = a model's name, more = { field of the
-- target = its variable }, headers_var = variable with header lines }.
local access = require "lash.provider.access"
local aliases = require "lash.provider.aliases"
local config = require "lash.config"
local engine = require "lash.core.engine"
local fault = require "lash.provider.fault"
local near = require "lash.near"
local system = require "lash.core.system"

local M = {}

local env = access.env

--- Set where requests are shown, not sent: called with what is wrong when a key is missing, and the target is
-- made nevertheless.
M.without_key = nil

local function refuse(code, exit, message, ...)
    return nil, fault.new { code = code, exit = exit, message = message:format(...) }
end

-- ---- protocols: the files beside this one ----

local function library()
    return env "LASH_LUA"
end

local function exists(file)
    local dir = library()
    if not dir then
        return system.embedded(file) ~= nil
    end
    local handle = io.open(dir .. "/" .. file)
    if handle then
        handle:close()
    end
    return handle ~= nil
end

local function listed(dir)
    local list = require("lash.fs").list
    if engine.current() then
        return list(dir)
    end
    local ok, found = engine.drive(list, dir)
    return ok and found
end

-- The files that may be protocols, as names of modules.
local function candidates()
    local names = {}
    for _, path in ipairs(system.embedded_names("lash/provider/")) do
        names[#names + 1] = path:match("^lash/provider/([%w_]+)%.lua$")
    end
    local dir = library()
    for _, entry in ipairs(dir and listed(dir .. "/lash/provider") or {}) do
        names[#names + 1] = entry.name:match("^([%w_]+)%.lua$")
    end
    return names
end

local function load_protocol(file)
    local ok, module = pcall(require, "lash.provider." .. file)
    if not ok then
        return nil, module
    end
    return type(module) == "table" and module.defaults and module or nil
end

local function protocol(name)
    if not name:find("^[%w-]+$") then
        return nil
    end
    local file = name:gsub("-", "_")
    if not exists("lash/provider/" .. file .. ".lua") then
        return nil
    end
    local module, err = load_protocol(file)
    return module and module.name == name and module or nil, err
end

--- protocols() -> the names of the protocols, sorted.
function M.protocols()
    local names, seen = {}, {}
    for _, file in ipairs(candidates()) do
        local module = not seen[file] and load_protocol(file)
        seen[file] = true
        if module then
            names[#names + 1] = module.name
        end
    end
    table.sort(names)
    return names
end

-- ---- what is known about a name ----

local function configured()
    local settings = config.get()
    return settings and settings.providers or {}
end

--- remote() -> the names of the providers that are asked over the network, sorted.
function M.remote()
    local names, seen = M.protocols(), {}
    for _, name in ipairs(names) do
        seen[name] = true
    end
    for _, more in ipairs { aliases, configured() } do
        for name in pairs(more) do
            if not seen[name] then
                seen[name] = true
                names[#names + 1] = name
            end
        end
    end
    table.sort(names)
    return names
end

--- names() -> the names of all providers, sorted.
function M.names()
    local names = M.remote()
    names[#names + 1] = "demo"
    names[#names + 1] = "script"
    table.sort(names)
    return names
end

--- is_provider(name) -> whether settings may have a part of that name.
function M.is_provider(name)
    return type(name) == "string" and (name == "demo" or name == "script" or aliases[name] ~= nil
        or configured()[name] ~= nil or protocol(name) ~= nil)
end

-- A user's own protocol: a module of LUA_PATH, or one beside config.lua.
local function users_module(name, where)
    local dir = (config.path() or ""):match("^(.*)/")
    local path = package.path
    package.path = path .. (dir and ";" .. dir .. "/?.lua" or "")
    local ok, module = pcall(require, name)
    package.path = path
    if not ok then
        local why = tostring(module):gsub("%s*\n.*$", "")
        return nil, ("%s: the module '%s' cannot be loaded: %s"):format(where, name, why:find("not found:$")
            and ("there is no %s.lua in %s, and none where LUA_PATH leads"):format(name:gsub("%.", "/"), dir or "?")
            or why)
    end
    for _, field in ipairs { "request", "read" } do
        if type(module) ~= "table" or type(module[field]) ~= "function" then
            return nil, ("%s: the module '%s' is no provider: it must return a table with the function %s"):format(
                where, name, field)
        end
    end
    return module
end

local function variable_of(name, ending)
    return name:upper():gsub("[^%w]", "_") .. ending
end

-- The protocol of an entry of config.lua, which may be one of lash or a module.
local function own_module(name, own)
    local where = config.at("providers", name)
    if own.module then
        local module, why = users_module(own.module, where .. ".module")
        if not module then
            return config.failure("has a fault: " .. why)
        end
        return module
    elseif not own.protocol then
        return config.failure(("has a fault: %s needs a protocol: one of %s"):format(where,
            table.concat(M.protocols(), ", ")))
    end
    local module = protocol(own.protocol)
    if not module then
        return config.failure(("has a fault: %s.protocol: there is no protocol '%s'%s; there are %s"):format(where,
            own.protocol, near.hint(own.protocol, M.protocols()), table.concat(M.protocols(), ", ")))
    end
    return module
end

-- The user's own: nothing of its protocol's own address or key counts, so that no key goes astray.
local function users(name, own)
    local module, err = own_module(name, own)
    if not module then
        return nil, err
    end
    local defaults = own.module and module.defaults or {}
    return {
        module = module,
        keys = defaults.keys or { variable_of(name, "_API_KEY") },
        keyless = defaults.keyless,
        base_var = defaults.base_var or variable_of(name, "_BASE_URL"),
        base = defaults.base,
        example = defaults.example or "http://localhost:8000/v1",
        more = defaults.more,
        quirks = defaults.quirks,
    }
end

local function alias(name, own)
    local known = aliases[name]
    local entry = {}
    for field, value in pairs(known) do
        entry[field] = value
    end
    local err
    if own.module or own.protocol and own.protocol ~= known.protocol then
        entry.quirks = nil
        entry.module, err = own_module(name, own)
    else
        entry.module, err = protocol(known.protocol)
    end
    if not entry.module then
        return nil, type(err) == "table" and err or fault.new { code = "model", exit = 69,
            message = ("%s needs the protocol %s, which this lash does not have"):format(name, known.protocol) }
    end
    return entry
end

-- What people take for the name of a provider.
local MEANT = { claude = "anthropic", google = "gemini", vertex = "gemini", gpt = "openai", chatgpt = "openai" }

local function no_provider(name)
    local known, meant = M.names(), MEANT[name:lower()]
    return refuse("model", 64, "there is no provider '%s'%s; there are: %s. config.lua may name others, see: "
        .. "lash help providers", name, meant and (" (did you mean '%s'?)"):format(meant) or near.hint(name, known),
        table.concat(known, ", "))
end

--- entry(name [, own]) -> what is known about a remote provider | nil, err
-- { name =, module =, keys =, keyless =, base_var =, from_var =, base =, example =, sample =, start =, more =,
-- quirks =, headers_var =, own = its part of config.lua }
-- @param own in place of the part of config.lua
function M.entry(name, own)
    local err
    if not own then
        own, err = config.provider(name)
        if not own then
            return nil, err
        end
    end
    local entry
    local module, broken = protocol(name)
    if broken then
        error(broken, 0)
    elseif module then
        if own.module or own.protocol and own.protocol ~= name then
            return config.failure(("has a fault: %s has a protocol of its own: take another name"):format(
                config.at("providers", name)))
        end
        entry = { module = module }
        for field, value in pairs(module.defaults) do
            entry[field] = value
        end
    elseif aliases[name] then
        entry, err = alias(name, own)
    elseif next(own) ~= nil or configured()[name] then
        entry, err = users(name, own)
    else
        return no_provider(name)
    end
    if not entry then
        return nil, err
    end
    entry.name, entry.own = name, own
    if own.key_env then
        entry.keys = { own.key_env }
    end
    return entry
end

-- ---- targets ----

-- Another provider whose key is there, for those who lack one.
local function another(name)
    for _, other in ipairs(M.remote()) do
        local entry = other ~= name and M.entry(other)
        for _, var in ipairs(entry and entry.keys or {}) do
            if env(var) and not (aliases[other] and aliases[other].keyless) then
                return (", use -m %s/NAME (%s is set)"):format(other, var)
            end
        end
    end
    return ""
end

--- target(entry, model) -> target | nil, err: what a request needs to know, see lash.model. model = nil for
-- requests about no model.
function M.target(entry, model)
    local base, base_var = access.base(entry)
    if not base then
        return nil, base_var
    end
    local key, key_var, err = access.key(entry, base, another)
    if err then
        if not M.without_key then
            return nil, err
        end
        M.without_key(err.message)
        key = "MISSING"
    end
    local headers
    headers, err = access.headers(entry)
    if not headers and err then
        return nil, err
    end
    local own = entry.own
    local target = {
        provider = entry.module,
        provider_name = entry.name,
        model = model,
        label = entry.name .. "/" .. (model or ""),
        key = key,
        key_var = key_var or entry.keys[1],
        base_url = base,
        base_var = base_var or entry.base_var,
        shown_url = access.shown(base),
        origin = base,
        start = entry.start,
        headers = headers,
        secrets = access.secrets(key, base, headers),
        quirks = access.merged(entry.quirks, own.quirks),
        stream = own.stream,
        timeout = own.timeout,
        idle_timeout = own.idle_timeout,
        event_timeout = own.event_timeout,
    }
    for field, variable in pairs(entry.more or {}) do
        target[field] = env(variable) or own[field]
    end
    if target.api_version == "beta" then
        target.api_version = "v1beta"
    end
    return target
end

-- ---- names of models ----

local FAMILIES = { { "^gpt", "openai" }, { "^o%d", "openai" }, { "^chatgpt", "openai" }, { "^gemini", "gemini" },
    { "^claude", "anthropic" }, { "^llama", "ollama" }, { "^qwen", "ollama" }, { "^gemma", "ollama" },
    { "^phi", "ollama" }, { "^mistral", "mistral" }, { "^deepseek", "deepseek" } }

-- A name without '/': most often the provider is missing, or the model.
local function bare(name)
    name = name:match("^[^/]*")
    if name == "demo" or name == "script" then
        return refuse("model", 64, "%s has no models: write %s", name, name == "demo" and "demo" or "script:FILE")
    elseif M.is_provider(name) then
        return refuse("model", 64, "'%s' is a provider, and the name of its model is missing: write %s/NAME; "
            .. "`lash models %s` lists them", name, name, name)
    end
    for _, family in ipairs(FAMILIES) do
        if name:lower():find(family[1]) then
            return refuse("model", 64, "the model '%s' needs its provider in front: %s/%s", name, family[2], name)
        end
    end
    local hint = near.hint(name, M.names())
    return refuse("model", 64, "'%s' is no model%s: write PROVIDER/NAME, such as openai/gpt-5 or "
        .. "gemini/gemini-2.5-flash; demo and script:FILE need no key", name, hint)
end

local function no_model()
    for _, name in ipairs(M.remote()) do
        local entry = M.entry(name)
        for _, var in ipairs(entry and not entry.keyless and entry.keys or {}) do
            if env(var) then
                return refuse("key", 78, "no model is chosen: give -m PROVIDER/NAME, set LASH_MODEL, or write "
                    .. "`model` in config.lua. %s is set: `lash models %s` lists what it can use%s", var, name,
                    entry.sample and (", such as %s/%s"):format(name, entry.sample) or "")
            end
        end
    end
    return refuse("key", 78, "no model is chosen: give -m PROVIDER/NAME or set LASH_MODEL. With a key in "
        .. "OPENAI_API_KEY try openai/gpt-5, with one in ANTHROPIC_API_KEY anthropic/claude-sonnet-4-5, with one in "
        .. "GEMINI_API_KEY gemini/gemini-2.5-flash, with a server of your own ollama/NAME or OPENAI_BASE_URL; "
        .. "-m demo needs neither. `lash doctor` shows what is there")
end

--- default() -> name, "LASH_MODEL" or "config.lua" | nil, err: the model where nothing else names one.
function M.default()
    if env "LASH_MODEL" then
        return env "LASH_MODEL", "LASH_MODEL"
    end
    local settings, err = config.get()
    if not settings then
        return nil, err
    elseif settings.model then
        return settings.model, "config.lua"
    end
    return no_model()
end

--- split(name) -> provider, model: "openrouter/a/b" is openrouter's a/b | nil when it has no such parts
function M.split(name)
    return name:match("^([^/]+)/(.+)$")
end

--- resolve(name) -> target | nil, err
-- name: "provider/model", "demo" or "script:FILE"; nil means LASH_MODEL or config.lua's `model`.
-- target: { provider = module, provider_name =, model =, label =, key =, key_var =, base_url =, base_var =,
-- shown_url =, origin =, headers =, quirks =, stream =, timeout =, idle_timeout =, event_timeout =, ... }; the
-- key is for the provider's headers only. err: { code =, message =, exit = 64 | 65 | 66 | 69 | 78 }.
function M.resolve(name)
    local err
    if not name then
        name, err = M.default()
        if not name then
            return nil, err
        end
    end
    if name == "demo" then
        return { provider = require "lash.provider.demo", provider_name = "demo", model = "demo", label = "demo" }
    end
    local file = name:match("^script:(.*)$")
    if file then
        local script = require "lash.provider.script"
        local loaded
        loaded, err = script.load(file)
        if not loaded then
            return nil, err
        end
        return { provider = script, provider_name = "script", model = file, label = name, script = loaded }
    end
    local provider, model = M.split(name)
    if not provider or provider == "demo" or provider == "script" then
        return bare(name)
    end
    local entry
    entry, err = M.entry(provider)
    if not entry then
        return nil, err
    end
    return M.target(entry, model)
end

return M
