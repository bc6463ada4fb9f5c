-- What servers of the Chat Completions protocol say when they give no answer: error statuses, errors inside
-- a 200, errors inside a stream. Kinds are told apart by status, code and type where these say something;
-- many servers have only a sentence, so that some of their sentences have to be known.
local fault = require "lash.provider.fault"
local history = require "lash.provider.history"
local json = require "lash.json"
local shared = require "lash.provider.openai.codes"

local M = {}

-- code, type or status word -> kind, worth another attempt
local KNOWN = shared.with {
    AuthenticationError = { "key" },
    UNAUTHENTICATED = { "key" },
    invalid_model = { "model" },
    PermissionDeniedError = { "refused" },
    RateLimitError = { "rate", true },
    unavailable_error = { "overloaded", true },
}

-- Inside a stream or a 200 there is no status: types that say whose fault it is.
local INVALID = { invalid_request_error = true, BadRequestError = true, invalid_request = true,
    INVALID_ARGUMENT = true, not_found_error = true, NotFoundError = true, unsupported_value = true }

-- What servers with no code say, in lower case: all of the words -> what it is.
local SENTENCES = {
    { { "does not support tools" }, "refused", "the model '%M' cannot call tools",
        "choose a model that can, or run without tools" },
    { { "support tool use" }, "refused", "no server of the model '%M' can call tools",
        "choose a model that can, or run without tools" },
    { { "requires --jinja" }, "refused", "the server was started without tool calls",
        "start llama-server with --jinja" },
    { { "--enable-auto-tool-choice" }, "refused", "the server was started without tool calls",
        "start vLLM with --enable-auto-tool-choice and --tool-call-parser" },
    { { "try pulling it first" }, "model", "the server does not have the model '%M'",
        "ollama pull %M, or check the name behind the '/'" },
    { { "no models loaded" }, "model", "the server has no model loaded", "load one there, such as '%M'" },
    { { "model", "not found" }, "model" },
    { { "model", "does not exist" }, "model" },
    { { "model not exist" }, "model" },
    { { "not a valid model" }, "model" },
    { { "invalid model" }, "model" },
    { { "unknown model" }, "model" },
    { { "no endpoints found" }, "model" },
    { { "insufficient balance" }, "quota" },
    { { "insufficient credits" }, "quota" },
    { { "api key", "not valid" }, "key" },
    { { "api key", "invalid" }, "key" },
    { { "api key", "incorrect" }, "key" },
}

-- A server that still loads its model is asked again for about two minutes.
local LOADING = { wait = 2, attempts = 60 }

local function text_of(value)
    return type(value) == "string" and value ~= "" and value or nil
end

local function sentence_of(words)
    for _, row in ipairs(SENTENCES) do
        local all = true
        for _, word in ipairs(row[1]) do
            all = all and words:find(word, 1, true) ~= nil
        end
        if all then
            return row
        end
    end
    return nil
end

-- Fills in what kind of error it is: about.code, about.retry, perhaps about.what and about.remedy.
local function classify(about, status, codes, words)
    if fault.is_overflow(status, words) then
        about.code, about.retry = "context", false
        return
    end
    local row = status ~= 401 and status ~= 402 and status ~= 429 and sentence_of(words)
    for _, code in ipairs(row and row[3] and {} or codes) do -- a sentence with a remedy says more than a code
        local spent = code:find("usage_limit", 1, true) or code:find("%f[%a]spend")
        local known = KNOWN[code] or spent and KNOWN.insufficient_quota
        if known and not (status == 404 and known[1] == "overloaded") then
            about.code, about.retry = known[1], known[2] or false
            return
        end
    end
    if row then
        about.code, about.retry, about.what, about.remedy = row[2], false, row[3], row[4]
        return
    elseif status >= 400 then
        about.code, about.retry = fault.status_kind(status)
        return
    end
    about.code, about.retry = "overloaded", true
    for _, code in ipairs(codes) do
        if INVALID[code] then
            about.code, about.retry = "bad_request", false
        end
    end
end

-- The text of an error: its message, and what a server behind this one said.
local function message_of(e)
    local message = text_of(e.message) or text_of(e.msg) or text_of(e.error) or text_of(e.detail)
    local meta = history.is_object(e.metadata) and e.metadata or {}
    local behind = text_of(meta.raw)
    if behind and behind ~= message then
        local who = text_of(meta.provider_name)
        message = (message and message .. "; " or "") .. (who and who .. ": " or "") .. behind
    end
    return message
end

-- Google's way to say how long to wait.
local function retry_delay(details)
    for _, detail in ipairs(type(details) == "table" and details or {}) do
        local delay = history.is_object(detail) and text_of(detail.retryDelay)
        local seconds = delay and tonumber(delay:match("^(%d+%.?%d*)s$"))
        if seconds then
            return seconds
        end
    end
    return nil
end

-- The first of the fields that the error is about. A limit is only then one to be named otherwise when the
-- server says how.
local function named(fields, e, words)
    for _, name in ipairs(fields or {}) do
        local about = e.param == name or words:find(name, 1, true)
        if about and (name ~= "max_tokens" or words:find("max_completion_tokens", 1, true)) then
            return name
        end
    end
    return nil
end

--- described(target, res, e [, fields]) -> err for an error that the server described: `e` is its error object
-- or text. fields: names of fields that the request had and can do without; one that the server complains
-- about is in err.strip.
function M.described(target, res, e, fields)
    if type(e) ~= "table" then
        e = { message = text_of(e) }
    elseif getmetatable(e) == json.array_mt then -- what FastAPI finds wrong with a body
        e = history.is_object(e[1]) and e[1].message and e[1] or { message = json.encode(e) }
    end
    local codes = { text_of(e.code), text_of(e.type) ~= "error" and text_of(e.type) or nil }
    codes = { codes[1] or codes[2] or text_of(e.status), codes[1] and codes[2] or text_of(e.status) }
    local message, status = message_of(e), shared.status(res, e.code or e.status_code)
    local words = (message or ""):lower()
    local about = { name = codes[1], message = message, after = retry_delay(e.details) }
    if about.name and about.name:find("^%d+$") then
        about.name = nil
    end
    classify(about, status, codes, words)
    local refused = status >= 400 and status < 500 and about.code == "bad_request"
    about.strip = refused and (named(fields, e, words)
        or words:find("thought signature", 1, true) ~= nil and true or words:find("thought_signature", 1, true) ~= nil)
        or nil
    if (res.status == 404 or res.status == 405) and about.code == "bad_request" then
        about.what = ("%s was not found"):format(target.shown_url or "the URL")
        about.remedy = ("check %s and the model's name"):format(target.base_var or "the base URL")
    end
    local err = fault.answer(target, res, about)
    if status == 503 and words:find("loading", 1, true) then
        err.after, err.attempts = err.after or LOADING.wait, LOADING.attempts
    end
    return err
end

local function something(value)
    return type(value) == "table" and next(value) ~= nil or type(value) == "string" and value ~= "" or value == true
end

--- inside(value) -> the error object or text that a decoded body or event has in it | nil
function M.inside(value)
    if getmetatable(value) == json.array_mt then -- Google's errors come in an array
        value = value[1]
    end
    if not history.is_object(value) then
        return nil
    elseif something(value.error) then
        return value.error == true and value or value.error
    elseif value.object == "error" then
        return value
    end
    local choices = type(value.choices) == "table" and value.choices or nil
    local first = choices and choices[1]
    if history.is_object(first) and something(first.error) and first.error ~= true then
        return first.error
    elseif not choices and (something(value.detail) and value.detail ~= true) then
        return value.detail
    elseif not choices and text_of(value.message) then
        return value
    end
    return nil
end

--- refused(target, res, fields) -> err for an answer with an error status, whatever its body is.
function M.refused(target, res, fields)
    local body = res.body or ""
    local e = M.inside(history.decode(body) or nil)
    if e then
        return M.described(target, res, e, fields)
    end
    local code, retry = fault.status_kind(res.status)
    if res.status == 404 or res.status == 405 or res.status < 400 then
        return fault.no_protocol(target, res, "Chat Completions")
    end
    return fault.answer(target, res, { code = code, retry = retry, message = fault.title(body) })
end

--- failed(target, res, reason) -> err for an answer whose finish_reason says that the server gave up.
function M.failed(target, res, reason)
    return fault.answer(target, { headers = res.headers }, {
        code = "overloaded", retry = true, name = reason,
        what = ("the answer of %s ended in an error"):format(target.shown_url or "the server"),
    })
end

return M
