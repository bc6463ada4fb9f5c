--- Models: from a name to a provider, and one answer from it. The providers translate; what they share
-- is here: keys and addresses, sending, retries, the gate that a rate limit closes for all.
local config = require "lash.config"
local engine = require "lash.core.engine"
local fault = require "lash.provider.fault"
local json = require "lash.json"
local near = require "lash.near"
local timer = require "lash.core.timer"

local M = {}

--- Further attempts after one that failed in a way that may pass.
M.RETRIES = 2

--- Seconds for one attempt, unless the caller or config.lua says otherwise.
M.TIMEOUT = 600

-- Longer waits than this are the user's to decide.
local LONGEST_WAIT = 60

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

local function provider_names()
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
    local hint = near.hint(name, provider_names())
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
            table.concat(provider_names(), ", "))
    end
    local known = provider_names()
    for later in pairs(LATER) do
        known[#known + 1] = later
    end
    return refuse("model", 64, "there is no provider '%s'%s; there are: %s", provider, near.hint(provider, known),
        table.concat(provider_names(), ", "))
end

-- ---- settings ----

local SETTINGS = { max_tokens = "number", temperature = "number", top_p = "number", top_k = "number",
    seed = "number", effort = "string", verbosity = "string", stop = "string|table" }

local function setting_names()
    local names = provider_names()
    for name in pairs(SETTINGS) do
        names[#names + 1] = name
    end
    table.sort(names)
    return names
end

-- Settings are checked, not ignored: a misspelt one would never be noticed.
local function settings_fault(settings)
    for name, value in pairs(settings) do
        local kinds = SETTINGS[name] or (REMOTE[name] or LATER[name] or name == "demo" or name == "script") and "table"
        if not kinds then
            return ("there is no setting '%s'%s; a provider's own go under its name: settings.openai = {...}"):format(
                tostring(name), near.hint(tostring(name), setting_names()))
        elseif not ("|" .. kinds .. "|"):find("|" .. type(value) .. "|", 1, true) then
            return ("the setting '%s' must be a %s, not a %s"):format(name, kinds:gsub("|", " or "), type(value))
        end
    end
    return nil
end

-- What this provider has no field for is said, once in a conversation.
local function warn_ignored(target, conv, view, emit)
    local ignores = target.provider.ignores
    conv.scratch = conv.scratch or {}
    if not ignores or conv.scratch.warned == target.label then
        return
    end
    conv.scratch.warned = target.label
    for name in pairs(view.settings or {}) do
        if ignores[name] then
            emit { type = "warning", text = ("%s has no setting '%s': it is not sent"):format(target.label, name) }
        end
    end
end

-- ---- sending ----

local function send(target, conv, view, opts)
    local provider = target.provider
    if provider.answer then
        return provider.answer(conv, view, target)
    end
    local request, err = provider.request(conv, view, target)
    if not request then
        return nil, err
    end
    local timeout = opts.timeout or target.timeout or M.TIMEOUT
    local res, broken = require("lash.http").request {
        method = "POST",
        url = request.url,
        headers = request.headers,
        body = request.body,
        timeout = timeout,
        idle_timeout = timeout,
        follow = false,
    }
    if not res then
        return nil, fault.transport(target, broken)
    end
    return provider.read(res, conv, view, target)
end

-- Until when nobody shall ask, by provider and key: a rate limit that one conversation met.
local gates = {}

local function clock()
    return engine.hrtime() / 1e9
end

local function gate_name(target)
    return target.base_url and target.base_url .. "\n" .. (target.key or "") or nil
end

local function wait_at_gate(target, emit)
    local name = gate_name(target)
    local rest = name and gates[name] and gates[name] - clock() or 0
    if rest < 0.001 then
        if name then
            gates[name] = nil
        end
        return
    end
    local wait = rest + math.random() * math.min(rest, 1) * 0.25 -- not all at the same moment
    emit { type = "retry", what = target.label, wait_ms = math.floor(wait * 1000 + 0.5), why = "rate limit" }
    timer.sleep(wait)
end

local function close_gate(target, err, wait)
    local name = gate_name(target)
    if name and err.code == "rate" and err.after then
        gates[name] = math.max(gates[name] or 0, clock() + wait)
    end
end

-- Half a second, then twice as long each time, at most 8 s; up to a quarter less, by chance.
local function backoff(attempt)
    return math.min(0.5 * 2 ^ (attempt - 1), 8) * (1 - math.random() * 0.25)
end

local function give_up(err, attempts, note)
    local more = attempts > 1 and (" (after %d attempts)"):format(attempts) or ""
    err.message = err.message .. more .. (note or "")
    return nil, err
end

local function nothing() end

-- The provider refused what it had sealed itself, for another key or model: once, without it.
local function forget(target, conv, err, emit)
    if not err.strip or not target.provider.forget or not target.provider.forget(conv) then
        return false
    end
    emit { type = "warning", text = ("%s refused the reasoning of earlier answers: it is left out from now on"):format(
        target.label) }
    return true
end

--- ask(target, conv, view, opts) -> answer entry | nil, err
-- view: { agent =, system =, tools = { { name =, description =, schema = } ... }, tool_choice = nil |
-- "auto" | "none" | "required" | { name = }, parallel =, settings =, output = nil | { name =, schema = } }.
-- opts.emit(event): gets `retry` { what, wait_ms, why } and `warning` { text }; opts.timeout: seconds of
-- one attempt. Nothing of an answer is used before it is whole, so every attempt is a new start.
-- The entry is not appended here. A cancelled task raises through it.
function M.ask(target, conv, view, opts)
    opts = opts or {}
    local emit = opts.emit or nothing
    local why = settings_fault(view.settings or {})
    if why then
        return refuse("bad_request", 64, "agent '%s': %s", view.agent or "?", why)
    end
    warn_ignored(target, conv, view, emit)
    local attempt = 0
    while true do
        wait_at_gate(target, emit)
        attempt = attempt + 1
        local answer, err = send(target, conv, view, opts)
        if answer then
            return answer
        elseif forget(target, conv, err, emit) then
            attempt = attempt - 1
        elseif not err.retry then
            return give_up(err, attempt)
        elseif err.after and err.after > LONGEST_WAIT then
            return give_up(err, attempt, ("; it asks to wait %d s, longer than lash waits by itself"):format(
                math.ceil(err.after)))
        elseif attempt > M.RETRIES then
            return give_up(err, attempt)
        else
            local wait = err.after and err.after + math.random() * 0.1 * math.min(err.after, 1) or backoff(attempt)
            close_gate(target, err, wait)
            emit { type = "retry", what = target.label, wait_ms = math.floor(wait * 1000 + 0.5), why = err.message,
                attempt = attempt + 1 }
            timer.sleep(wait)
        end
    end
end

-- ---- looking at a request ----

local SECRET = { authorization = true, ["x-goog-api-key"] = true, ["x-api-key"] = true }

local function local_request(target, conv, view)
    local tools = json.array {}
    for i, tool in ipairs(view.tools or {}) do
        tools[i] = { name = tool.name, description = tool.description, schema = tool.schema }
    end
    local entries = json.array {}
    for i, entry in ipairs(conv.entries) do
        entries[i] = { type = entry.type, text = entry.text, items = entry.items }
    end
    return json.encode({ system = view.system, tools = tools, entries = entries, tool_choice = view.tool_choice,
        settings = next(view.settings or {}) and view.settings or nil }, { lossy = true })
end

--- dry_run(target, conv, view) -> { method =, url =, headers =, body = } | nil, err: the request that ask()
-- would send, with the key masked. A local provider has the method "LOCAL".
function M.dry_run(target, conv, view)
    local why = settings_fault(view.settings or {})
    if why then
        return refuse("bad_request", 64, "agent '%s': %s", view.agent or "?", why)
    end
    if target.provider.answer then
        return { method = "LOCAL", url = target.label, headers = {}, body = local_request(target, conv, view) }
    end
    local request, err = target.provider.request(conv, view, target)
    if not request then
        return nil, err
    end
    local headers = {}
    for name, value in pairs(request.headers) do
        headers[name] = SECRET[name] and (value:match("^Bearer ") or "") .. "****" or value
    end
    return { method = "POST", url = request.url, headers = headers, body = request.body }
end

return M
