--- Models: one answer from a provider. The providers translate; what they share is here: sending, retries,
-- the gate that a rate limit closes for all. Names, keys and addresses are in lash.provider.registry.
local access = require "lash.provider.access"
local engine = require "lash.core.engine"
local fault = require "lash.provider.fault"
local json = require "lash.json"
local near = require "lash.near"
local registry = require "lash.provider.registry"
local shared = require "lash.core.shared"
local stream = require "lash.provider.stream"
local timer = require "lash.core.timer"

local M = {}

--- Further attempts after one that failed in a way that may pass.
M.RETRIES = 2

--- Seconds for one attempt, unless the caller or config.lua says otherwise.
M.TIMEOUT = 600

-- Longer waits than this are the user's to decide.
local LONGEST_WAIT = 60

local function refuse(code, exit, message, ...)
    return nil, fault.new { code = code, exit = exit, message = message:format(...) }
end

--- resolve(name) -> target | nil, err: see lash.provider.registry.
M.resolve = registry.resolve

-- ---- settings ----

local SETTINGS = { max_tokens = "number", temperature = "number", top_p = "number", top_k = "number",
    seed = "number", effort = "string", verbosity = "string", stop = "string|table", reasoning = "boolean" }

local function setting_names()
    local names = registry.names()
    for name in pairs(SETTINGS) do
        names[#names + 1] = name
    end
    table.sort(names)
    return names
end

-- Settings are checked, not ignored: a misspelt one would never be noticed.
local function settings_fault(settings)
    for name, value in pairs(settings) do
        local kinds = SETTINGS[name] or registry.is_provider(name) and "table"
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
local function warn_ignored(target, conv, settings, listener)
    local ignores = target.provider.ignores
    conv.scratch = conv.scratch or {}
    if not ignores or conv.scratch.warned == target.label then
        return
    end
    conv.scratch.warned = target.label
    for name in pairs(settings) do
        if ignores[name] then
            listener:emit("warning", {
                text = ("%s has no setting '%s': it is not sent"):format(target.label, name),
            })
        end
    end
end

-- ---- sending ----

-- Whether one may be asked for: unless somebody says that the server cannot.
local function streams(target)
    return target.stream ~= false and target.provider.reader ~= nil
end

-- target -> its limits: the same table for all requests
local limits_of_targets = setmetatable({}, { __mode = "k" })

local function limits_of(target)
    local limits, all = limits_of_targets[target], target.timeout or M.TIMEOUT
    if not limits or limits.timeout ~= all then
        limits = {
            timeout = all,
            idle_timeout = target.idle_timeout or all,
            event_timeout = target.event_timeout or all,
            redirects = 0,
        }
        limits_of_targets[target] = limits
    end
    return limits
end

local loaded = package.loaded

-- One attempt. The listener is told what comes; of a whole answer at its end, as if it had come in pieces.
-- @return answer | nil, err | nil, nil, begun: the provider has more of the answer, for another request with `begun`
local function send(target, conv, view, listener, begun)
    local provider = target.provider
    local answer, err, more
    if provider.answer then
        answer, err = provider.answer(conv, view, target)
    else
        local streamed = streams(target) and listener:streams()
        local request, why = provider.request(conv, view, target, streamed, begun)
        if not request then
            return nil, why
        elseif streamed then
            return stream.answer(target, conv, view, request, limits_of(target), listener, begun, not listener:hears())
        end
        local exchange = loaded["lash.http.exchange"] or require "lash.http.exchange" -- with the first request
        local res, broken = exchange.post(request.url, request.headers, request.body, limits_of(target))
        if not res then
            return nil, fault.transport(target, broken)
        end
        fault.log_id(target, res)
        answer, err, more = provider.read(res, conv, view, target, begun)
    end
    if answer and listener:hears() then
        stream.tell(answer, listener)
    end
    return answer, err, more
end

-- Until when nobody shall ask, by address and key: a rate limit that one conversation met. In a table that all
-- threads see: agents of sync functions ask with the same key. Names are digests: a key stands in no table.
local GATES = "lash.model\0gates" -- no name of lash.shared has a zero byte

local function clock()
    return engine.hrtime() / 1e9
end

local function gate_name(target)
    if target.base_url and not target.gate then
        target.gate = require("lash.core.codec").sha256(target.base_url .. "\n" .. (target.key or ""))
    end
    return target.gate
end

-- Waits until it is open; meanwhile another conversation may be told to wait even longer.
local function wait_at_gate(target, listener)
    local name = target.gate or gate_name(target)
    local ends = name and shared.get(GATES, name)
    while ends do
        local rest = ends - clock()
        if rest < 0.001 then
            return
        end
        local wait = rest + math.random() * math.min(rest, 1) * 0.25 -- not all at the same moment
        listener:emit("retry", { what = target.label, wait_ms = math.floor(wait * 1000 + 0.5), why = "rate limit" })
        timer.sleep(wait)
        ends = shared.get(GATES, name)
    end
end

-- Also where the server did not say for how long: the others at this key would be refused, too.
local function close_gate(target, err, wait)
    local name = gate_name(target)
    if name and (err.code == "rate" or err.status == 429) then
        shared.set(GATES, name, math.max(shared.get(GATES, name) or 0, clock() + wait), wait + 1)
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

-- The provider refused what it had sealed itself, for another key or model, or a field of the request that it can
-- do without (err.strip is its name): once, without it.
local function forget(target, conv, err, listener)
    if not err.strip or not target.provider.forget or not target.provider.forget(conv, err, target) then
        return false
    end
    local what = type(err.strip) == "string" and ("'%s'"):format(err.strip) or "the reasoning of earlier answers"
    listener:emit("warning", { text = ("%s refused %s: it is left out from now on"):format(target.label, what) })
    return true
end

-- Waits before the next attempt, or says why there is none: nil, err.
local function pause(target, err, attempt, listener)
    if listener.delivered then
        return give_up(err, attempt, "; a part of the answer was delivered, so it is not asked for again")
    elseif not err.retry or attempt > (M.RETRIES > 0 and err.attempts or M.RETRIES) then
        return give_up(err, attempt)
    elseif err.after and err.after > LONGEST_WAIT then
        return give_up(err, attempt, ("; it asks to wait %.0f s, longer than lash waits by itself"):format(
            math.ceil(err.after)))
    end
    local wait = err.after and err.after + math.random() * 0.1 * math.min(err.after, 1) or backoff(attempt)
    close_gate(target, err, wait)
    listener:emit("retry", {
        what = target.label, wait_ms = math.floor(wait * 1000 + 0.5), why = err.message, attempt = attempt + 1,
    })
    timer.sleep(wait)
    return true
end

-- Who wants to know nothing.
local Deaf = { delivered = false }
Deaf.__index = Deaf

function Deaf:emit() end

function Deaf:attempt() end

function Deaf:streams()
    return true
end

function Deaf:hears()
    return false
end

function Deaf:__call()
    return false
end

local deaf = setmetatable({}, Deaf)

-- After an attempt without an answer: nil, err to give up, else how many attempts count from now on.
local function after(target, conv, err, attempt, listener)
    if not listener.delivered and forget(target, conv, err, listener) then
        return attempt - 1
    end
    local again, why = pause(target, err, attempt, listener)
    return again and attempt, why
end

local function try(target, conv, view, listener)
    local attempt, begun = 0, nil
    while true do
        wait_at_gate(target, listener)
        attempt = attempt + 1
        listener:attempt(attempt, begun ~= nil)
        if listener.delivered then
            listener.delivered = false
        end
        local answer, err, more = send(target, conv, view, listener, begun)
        if answer then
            return answer
        elseif more then
            begun, attempt = more, 0
        else
            attempt, err = after(target, conv, err, attempt, listener)
            if not attempt then
                return nil, err
            end
        end
    end
end

--- ask(target, conv, view, listener) -> answer entry | nil, err
-- view: { agent =, system =, tools = { { name =, description =, schema = } ... }, tool_choice = nil |
-- "auto" | "none" | "required" | { name = }, parallel =, settings =, output = nil | { name =, schema = } }.
-- listener, or nil:
--   listener:emit(kind, fields)      "retry" { what, wait_ms, why, attempt } and "warning" { text }
--   listener:attempt(n, goes_on)     the n-th attempt begins now; goes_on: at the rest of an answer that the
--                                    provider gives in several requests
--   listener(kind, what)             what comes of the answer, while it comes: a delta of "text" or "reasoning",
--                                    for "call.ready" { n, id, name, args }
--   listener:hears()                 false: nobody waits for that; a whole answer is not told in pieces then
--   listener:streams()               false: no stream
--   listener.delivered               it sets this when somebody got what came; ask() takes it back
-- A failure that may pass is tried again as long as nothing of the answer was delivered.
-- The entry is not appended here. A cancelled task raises through it.
function M.ask(target, conv, view, listener)
    local settings = view.settings
    listener = listener or deaf
    if settings and next(settings) ~= nil then
        local why = settings_fault(settings)
        if why then
            return refuse("bad_request", 64, "agent '%s': %s", view.agent or "?", why)
        end
        warn_ignored(target, conv, settings, listener)
    end
    return try(target, conv, view, listener)
end

-- ---- looking at a request ----

local function local_request(target, conv, view)
    local tools = json.array {}
    for i, tool in ipairs(view.tools or {}) do
        tools[i] = { name = tool.name, description = tool.description, schema = tool.schema }
    end
    local entries = json.array {}
    for i, entry in ipairs(conv.entries) do
        local parts = require("lash.attach").shown(entry.parts)
        entries[i] = { type = entry.type, text = entry.text, items = entry.items, parts = parts }
    end
    return json.encode({ system = view.system, tools = tools, entries = entries, tool_choice = view.tool_choice,
        output = view.output, settings = next(view.settings or {}) and view.settings or nil }, { lossy = true })
end

--- dry_run(target, conv, view, opts) -> { method =, url =, headers =, body = } | nil, err: the request that ask()
-- would send, with the key masked. A local provider has the method "LOCAL".
function M.dry_run(target, conv, view, opts)
    local why = settings_fault(view.settings or {})
    if why then
        return refuse("bad_request", 64, "agent '%s': %s", view.agent or "?", why)
    end
    if target.provider.answer then
        return { method = "LOCAL", url = target.label, headers = {}, body = local_request(target, conv, view) }
    end
    local streamed = (not opts or opts.stream ~= false) and streams(target)
    local request, err = target.provider.request(conv, view, target, streamed)
    if not request then
        return nil, err
    end
    local headers = {}
    for name, value in pairs(request.headers) do
        headers[name] = access.masked_header(name, tostring(value), target)
    end
    return { method = "POST", url = access.masked_url(request.url, target), headers = headers,
        body = tostring(request.body) }
end

return M
