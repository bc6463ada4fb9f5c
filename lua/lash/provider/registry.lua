--- Providers by name: which protocol speaks to which address, with which key. Nothing here is sent.
local config = require "lash.config"
local fault = require "lash.provider.fault"
local near = require "lash.near"

local M = {}

-- Where a provider's key and address come from; the first variable that is set counts.
local REMOTE = {
    openai = {
        module = "lash.provider.openai",
        keys = { "OPENAI_API_KEY" },
        base_var = "OPENAI_BASE_URL",
        base = "https://api.openai.com/v1",
        example = "http://localhost:11434/v1",
        more = { organization = "OPENAI_ORG_ID", project = "OPENAI_PROJECT_ID" },
    },
    gemini = {
        module = "lash.provider.gemini",
        keys = { "GOOGLE_API_KEY", "GEMINI_API_KEY" },
        base_var = "GOOGLE_GEMINI_BASE_URL",
        base = "https://generativelanguage.googleapis.com",
        example = "http://localhost:8080",
        more = { api_version = "GOOGLE_GENAI_API_VERSION" },
    },
}

-- Known to the world, not to this version.
local LATER = { ["openai-chat"] = true, anthropic = true, ollama = true, openrouter = true, lmstudio = true,
    llamacpp = true, vllm = true }

-- ---- names ----

local function refuse(code, exit, message, ...)
    return nil, fault.new { code = code, exit = exit, message = message:format(...) }
end

local function env(name)
    local value = os.getenv(name)
    return value and value ~= "" and value or nil
end

--- names() -> the names of the providers, sorted.
function M.names()
    local names = { "demo", "script" }
    for name in pairs(REMOTE) do
        names[#names + 1] = name
    end
    table.sort(names)
    return names
end

--- Whether a base URL points to this machine, where servers often want no key.
local function on_loopback(url)
    local host = url:lower():match("^%a+://([^/?#]*)") or ""
    host = host:gsub("^.*@", "")
    host = host:match("^%[(.-)%]") or host:gsub(":%d*$", "")
    return host == "localhost" or host:find("%.localhost$") ~= nil or host:find("^127%.%d+%.%d+%.%d+$") ~= nil
        or host == "::1"
end

local function no_key(name, remote)
    local others = {}
    for other, known in pairs(REMOTE) do
        for _, var in ipairs(known.keys) do
            if other ~= name and env(var) then
                others[1] = (", use -m %s/NAME (%s is set)"):format(other, var)
            end
        end
    end
    local list = table.concat(remote.keys, " nor ")
    return refuse("key", 78, "%s needs a key: %s %s set, and config.lua has none. Export %s=KEY%s, set %s to a "
        .. "local server (such as %s), or try -m demo, which needs no key", name,
        #remote.keys > 1 and "neither " .. list or list, #remote.keys > 1 and "is" or "is not",
        remote.keys[#remote.keys], others[1] or "", remote.base_var, remote.example)
end

-- A key from the environment or from config.lua, and where it was found.
local function find_key(remote, settings)
    for _, var in ipairs(remote.keys) do
        if env(var) then
            return env(var), var
        end
    end
    if settings.key ~= nil then
        return settings.key, "config.lua"
    end
    return nil, remote.keys[#remote.keys]
end

local function check_base(base, var)
    if type(base) ~= "string" or not base:lower():find("^https?://[^/%s]") or base:find("[%s%c]") then
        return refuse("config", 78, "%s is no URL: it must begin with http:// or https:// and name a host, "
            .. "such as http://localhost:8080", var)
    end
    return base
end

local function shown(url)
    return (url:gsub("^(%a+://)[^/@]*@", "%1"):gsub("[?#].*$", ""))
end

local function resolve_remote(name, model)
    local remote = REMOTE[name]
    local settings, err = config.provider(name)
    if not settings then
        return nil, err
    end
    local base_var = env(remote.base_var) and remote.base_var or settings.base_url and "base_url in config.lua"
    local base
    base, err = check_base(env(remote.base_var) or settings.base_url or remote.base, base_var)
    if not base then
        return nil, err
    end
    local key, var = find_key(remote, settings)
    if key == nil and not on_loopback(base) then
        return no_key(name, remote)
    elseif key ~= nil then
        key = type(key) == "string" and key:match("^%s*(.-)%s*$")
        if not key or key == "" or key:find("[%s%c\x80-\xff]") then
            return refuse("key", 78, "the key in %s is no key: it has spaces, line breaks or other "
                .. "characters that no key has", var)
        end
    end
    local target = {
        provider = require(remote.module),
        provider_name = name,
        model = model,
        label = name .. "/" .. model,
        key = key,
        key_var = var,
        base_url = base,
        base_var = base_var or remote.base_var,
        shown_url = shown(base),
        timeout = settings.timeout,
    }
    for field, variable in pairs(remote.more) do
        target[field] = env(variable) or settings[field]
    end
    if target.api_version == "beta" then
        target.api_version = "v1beta"
    end
    return target
end

-- A name without '/': most often the provider is missing.
local function bare(name)
    local lower = name:lower()
    local guess = (lower:find("^gpt") or lower:find("^o%d")) and "openai" or lower:find("^gemini") and "gemini"
    if guess then
        return refuse("model", 64, "the model '%s' needs its provider in front: %s/%s", name, guess, name)
    end
    local hint = near.hint(name, M.names())
    return refuse("model", 64, "'%s' is no model%s: write PROVIDER/NAME, such as openai/gpt-5 or "
        .. "gemini/gemini-2.5-flash; demo and script:FILE need no key", name, hint)
end

local function chosen(name)
    if name then
        return name
    elseif env "LASH_MODEL" then
        return env "LASH_MODEL"
    end
    local settings, err = config.get()
    if not settings then
        return nil, err
    elseif settings.model then
        return settings.model
    end
    return refuse("key", 78, "no model is chosen: give -m PROVIDER/NAME or set LASH_MODEL. With a key in "
        .. "OPENAI_API_KEY try openai/gpt-5, with one in GEMINI_API_KEY gemini/gemini-2.5-flash, with a local "
        .. "server OPENAI_BASE_URL=http://localhost:11434/v1; -m demo needs neither")
end

--- resolve(name) -> target | nil, err
-- name: "provider/model", "demo" or "script:FILE"; nil means LASH_MODEL or config.lua's `model`.
-- target: { provider = module, provider_name =, model =, label =, key =, base_url = ... }; the key is
-- for the provider's headers only. err: { code =, message =, exit = 64 | 65 | 66 | 69 | 78 }.
function M.resolve(name)
    local err
    name, err = chosen(name)
    if not name then
        return nil, err
    elseif name == "demo" then
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
    local provider, model = name:match("^([^/]+)/(.+)$")
    if not provider then
        return bare(name)
    elseif REMOTE[provider] then
        return resolve_remote(provider, model)
    elseif LATER[provider] then
        return refuse("model", 69, "the provider '%s' is not in this version of lash; there are: %s", provider,
            table.concat(M.names(), ", "))
    end
    local known = M.names()
    for later in pairs(LATER) do
        known[#known + 1] = later
    end
    return refuse("model", 64, "there is no provider '%s'%s; there are: %s", provider, near.hint(provider, known),
        table.concat(M.names(), ", "))
end

--- is_provider(name) -> whether settings may have a part of that name.
function M.is_provider(name)
    return REMOTE[name] ~= nil or LATER[name] or name == "demo" or name == "script"
end

return M
