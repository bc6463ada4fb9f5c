-- What went wrong at a provider, as one kind of error value for all of them.
--
-- An error is { code =, exit =, message =, retry =, after =, status =, request_id = } and its text is
-- the message: one sentence that names the provider, the thing and the remedy. `exit` is the status
-- of the program when the error ends it; `retry` says that the same request may work in a while,
-- `after` (seconds) when, if the provider told. Keys never stand in a message.
local json = require "lash.json"
local lazy = require "lash.lazy"
local log = lazy "lash.log"
local system = require "lash.core.system"
local time = lazy "lash.time"
local timer = require "lash.core.timer"

local M = {}

-- code -> exit status, what happened, what to do
local KINDS = {
    key = { 78, "the key%K was refused", "%V a valid key, or try -m demo" },
    model = { 69, "there is no model '%M' for this key", "check the name behind the '/', `lash models %P` lists them" },
    refused = { 69, "the request was refused", "change the request, or ask for access" },
    context = { 69, "the conversation is too long for %M",
        "begin a new conversation, or let the tools return less" },
    quota = { 69, "the quota of this key is used up", "see the provider's billing page, or use another key" },
    rate = { 75, "too many requests for this key", "wait a moment, or run less at once" },
    overloaded = { 75, "the server could not answer", "try again in a while" },
    timeout = { 75, "no answer in time", "try again, or raise the timeout" },
    network = { 75, "no connection", "try again" },
    nonsense = { 76, "the answer makes no sense", "check %B" },
    bad_request = { 69, "the request was refused", "--dry-run shows what is sent" },
}

--- new(fields) -> err. fields.code is one of key model refused context quota rate overloaded timeout
-- network nonsense bad_request, or any other with its own `exit` and `message`.
function M.new(fields)
    local kind = KINDS[fields.code]
    fields.exit = fields.exit or kind and kind[1] or 70
    return setmetatable(fields, json.error_mt)
end

local function without(text, secret)
    local at, to = text:find(secret, 1, true)
    while at do
        text = text:sub(1, at - 1) .. "[key]" .. text:sub(to + 1)
        at, to = text:find(secret, at + 5, true)
    end
    return text
end

-- Takes secrets (a text or a list), and what looks like a key, out of a text from outside; one line, of at most
-- `most` bytes (300).
local function clean(text, secrets, most)
    if type(text) ~= "string" then
        return nil
    end
    for _, secret in ipairs(type(secrets) == "table" and secrets or { secrets }) do
        if #secret >= 4 then
            text = without(text, secret)
        end
    end
    text = text:gsub("%f[%w]sk%-[%w_*-]+", "[key]"):gsub("%f[%w]AIza[%w_*-]+", "[key]")
    text = text:gsub("[%c%s]+", " "):gsub("^ ", ""):gsub("[ .]+$", "")
    most = most or 300
    if #text > most then
        text = text:sub(1, utf8.offset(text:sub(1, most), -1) - 1) .. "..."
    end
    return utf8.len(text) and text or (text:gsub("[\x80-\xff]", "?"))
end
M.clean = clean

-- What of a target must not be shown.
local function secrets_of(target)
    return target.secrets or target.key
end

local loaded = package.loaded

--- header(res, name) -> string | nil, whatever the spelling; `name` in lower case.
function M.header(res, name)
    if res.head then -- as the core gave it
        return (loaded["lash.core.http"] or require "lash.core.http").header(res.head, name)
    end
    local headers = res.headers or {}
    local value = headers[name]
    if value == nil and getmetatable(headers) == nil then -- those of lash.http are in lower case
        for known, v in pairs(headers) do
            if type(known) == "string" and #known == #name and known:lower() == name then
                value = v
                break
            end
        end
    end
    if type(value) == "table" then
        value = value[1]
    end
    return value and tostring(value) or nil
end

local function request_id(res)
    local id = M.header(res, "x-request-id") or M.header(res, "request-id") or M.header(res, "x-goog-request-id")
    return id and clean(id:sub(1, 100))
end

--- log_id(target, res): with -v, under which id the server knows what it has answered. Errors have it in their text.
function M.log_id(target, res)
    local id = system.verbosity() >= 2 and res.status < 300 and request_id(res)
    if id then
        log.debug(("%s answers: request %s"):format(target.label, id))
    end
end

local function seconds(text)
    local n = text and tonumber((text:match("^%s*(%d+%.?%d*)%s*$")))
    return n and n == n and n < math.huge and n or nil
end

--- retry_after(res) -> seconds | nil: how long the server asks to wait, from `retry-after-ms` or
-- `retry-after` (seconds or a date).
function M.retry_after(res)
    local ms = seconds(M.header(res, "retry-after-ms"))
    if ms then
        return ms / 1000
    end
    local value = M.header(res, "retry-after")
    local date = value and time.parse_http(value)
    return seconds(value) or date and math.max(0, date - timer.now()) or nil
end

-- The sentence of an error: what happened (details): what to do [request id].
local function sentence(target, err, details)
    local kind = KINDS[err.code]
    local variable = target.key_var and target.key_var:find("^[%w_]+$")
    local function fill(text)
        return (text:gsub("%%(%u)", {
            M = target.model or "?",
            P = target.provider_name or "?",
            K = target.key_var and (" in " .. target.key_var) or "",
            V = (variable or not target.key_var) and "export" or "write",
            B = target.base_var or "the base URL",
        }))
    end
    if err.code == "key" and not target.key and not err.what then
        err.what, err.remedy = "a key is wanted", variable and "export " .. target.key_var .. "=KEY"
    end
    return ("%s: %s%s: %s%s"):format(target.provider_name, fill(err.what or kind[2]),
        details and details ~= "" and (" (%s)"):format(details) or "", fill(err.remedy or kind[3]),
        err.request_id and (" [request %s]"):format(err.request_id) or "")
end

--- answer(target, res, about) -> err for an answer that is none.
-- about: code; and optionally name (the provider's own code), message (its text), retry, after, what
-- and remedy (in place of the usual words).
function M.answer(target, res, about)
    local err = {
        code = about.code,
        retry = about.retry or false,
        after = about.after or M.retry_after(res),
        status = res.status,
        request_id = request_id(res),
        strip = about.strip,
        what = about.what,
        remedy = about.remedy,
    }
    local should = M.header(res, "x-should-retry")
    if should == "true" and err.code ~= "quota" then -- which nothing but money fills
        err.retry = true
    elseif should == "false" then
        err.retry = false
    end
    local details = {}
    if res.status and (res.status < 200 or res.status > 299) then
        details[1] = tostring(res.status)
    end
    details[#details + 1] = clean(about.name, secrets_of(target))
    local text = table.concat(details, " ")
    local message = clean(about.message, secrets_of(target))
    if message and message ~= "" then
        text = text ~= "" and (text .. ": " .. message) or message
    end
    err.message = sentence(target, err, text)
    err.what, err.remedy = nil, nil
    return M.new(err)
end

--- no_protocol(target, res, name) -> err for a server that does not know the address of the protocol `name`, one of
-- OpenAI's.
function M.no_protocol(target, res, name)
    local versioned = (target.base_url or ""):find("/v%d") ~= nil
    return M.answer(target, res, {
        code = "nonsense",
        what = ("%s does not speak %s"):format(target.shown_url or "the server", name),
        remedy = not versioned and "check %B: most such addresses end in /v1" or nil,
    })
end

--- nonsense(target, res, why) -> err for an answer that does not follow the protocol.
function M.nonsense(target, res, why)
    local head = clean((res.body or ""):sub(1, 4096), secrets_of(target), 60)
    return M.answer(target, res, {
        code = "nonsense",
        what = ("the answer of %s %s"):format(target.shown_url or "the server", why),
        name = head and head ~= "" and ("it begins with '%s'"):format(head) or "it is empty",
    })
end

--- broken(target, res) -> err for an answer in pieces whose end never came: none of it counts.
function M.broken(target, res)
    return M.answer(target, { headers = res.headers }, {
        code = "network",
        retry = true,
        what = ("the answer of %s broke off before its end"):format(target.shown_url or "the server"),
    })
end

-- What lash.http calls a failure -> code here, worth another attempt
local TRANSPORT = {
    timeout = { "timeout", true },
    stalled = { "timeout", true },
    connect = { "network", true },
    resolve = { "network", true },
    closed = { "network", true },
    protocol = { "network", true },
    tls = { "network", false },
    encoding = { "nonsense", false },
    too_large = { "nonsense", false },
    url = { "config", false, 78 },
    request = { "config", false, 78 },
    no_libcurl = { "config", false, 78 },
}

-- What lash.http advises, for those who do not call it themselves: its limits are fields of config.lua, and a
-- server of one's own can be started.
local function advice(target, err)
    local message = tostring(err.message or err)
    message = message:gsub(", or raise connect_timeout$", "")
    message = message:gsub("raise (%l*_?timeout)$", ("raise %%1 of providers.%s in config.lua"):format(
        target.provider_name or "NAME"))
    if err.code == "connect" and target.start then
        message = ("%s; start it with `%s`, or set %s"):format(message, target.start, target.base_var)
    end
    return message
end

--- transport(target, err [, res]) -> err for a request that got no complete answer; `err` is that of lash.http, `res`
-- the head of the answer if that came.
function M.transport(target, err, res)
    local kind = TRANSPORT[err.code] or { "network", false }
    local id = res and request_id(res)
    return M.new {
        code = kind[1],
        retry = kind[2],
        exit = kind[3],
        request_id = id,
        message = ("%s: %s%s"):format(target.provider_name, clean(advice(target, err), secrets_of(target)),
            id and (" [request %s]"):format(id) or ""),
    }
end

--- title(body) -> what a page says about itself, or its beginning: more than a message takes
function M.title(body)
    return body:match("<[tT][iI][tT][lL][eE][^>]*>%s*([^<]+)") or body:sub(1, 4096)
end

local OVERFLOW = { "length", "size", "window", "maximum", "exceed" }

--- is_overflow(status, words) -> whether this text of an error, in lower case, tells of a conversation that is too
-- long, as many servers have only words for that. A status below 400: one that came inside a stream.
function M.is_overflow(status, words)
    if status >= 400 and status ~= 400 and status ~= 413 and status ~= 422
        or not words:find("context", 1, true) or words:find("context deadline", 1, true) then
        return false
    end
    for _, word in ipairs(OVERFLOW) do
        if words:find(word, 1, true) then
            return true
        end
    end
    return false
end

--- status_kind(status) -> code, retry: what an HTTP status means when nothing more is known.
function M.status_kind(status)
    if status == 401 then
        return "key", false
    elseif status == 402 then
        return "quota", false
    elseif status == 403 then
        return "refused", false
    elseif status == 408 or status == 409 or status == 425 then
        return "overloaded", true
    elseif status == 429 then
        return "rate", true
    elseif status >= 500 then
        return "overloaded", true
    elseif status >= 400 then
        return "bad_request", false
    end
    return "nonsense", false
end

return M
