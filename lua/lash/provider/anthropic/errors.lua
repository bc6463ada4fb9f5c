-- What Anthropic's errors mean: those of an answer's status, and those that come inside a stream.
local fault = require "lash.provider.fault"
local history = require "lash.provider.history"

local M = {}

-- Types of errors by the status that goes with each: in a stream the status is not told.
local STATUS = { invalid_request_error = 400, authentication_error = 401, billing_error = 402,
    permission_error = 403, not_found_error = 404, conflict_error = 409, request_too_large = 413,
    rate_limit_error = 429, api_error = 500, timeout_error = 504, overloaded_error = 529 }

local function text_of(value)
    return type(value) == "string" and value ~= "" and value or nil
end

-- A limit of what may be spent: no wait helps.
local function is_spent(code, message)
    code = code or ""
    return code:find("%f[%a]spend") or code:find("billing") or code:find("credit") or code:find("usage_limit")
        or message:find("credit balance") or message:find("spend limit") or message:find("usage limits")
        or message:find("spending limit")
end

local function is_too_long(message)
    return message:find("prompt is too long") or message:find("exceed context limit")
        or message:find("context length") or message:find("context window")
        or message:find("context size")
end

-- Sealed reasoning that this key or model does not take back.
local function is_seal(message)
    return message:find("thinking") and (message:find("signature") or message:find("cannot be modified")
        or message:find("expected `thinking`")) ~= nil
end

local function kind_of(status, code, message)
    if (status == 400 or status == 402 or status == 403 or status == 429) and is_spent(code, message) then
        return "quota", false
    elseif status == 413 or status < 500 and is_too_long(message) then
        return "context", false
    elseif status == 404 and message:find("model") then
        return "model", false
    end
    return fault.status_kind(status)
end

-- The answer with the id that only the body tells.
local function with_id(res, id)
    local known = fault.header(res, "request-id") or fault.header(res, "x-request-id")
    local headers = { ["request-id"] = known == nil and text_of(id) or nil }
    for name, value in pairs(res.headers or {}) do
        headers[name] = value
    end
    return headers
end

-- What the request can do without: seals; that a tool must be called, which some models do not let themselves be told.
local function strip_of(message, forced)
    if is_seal(message) then
        return true
    end
    return forced and (message:find("tool_choice", 1, true) or message:find("tool choice", 1, true)) and "tool_choice"
        or nil
end

--- described(target, res, e, id, forced) -> err for an error that the server described.
-- @param e `error` of the body: an object or a text
-- @param id `request_id` of the body, or nil
-- @param forced whether the request said that a tool must be called
function M.described(target, res, e, id, forced)
    if type(e) ~= "table" then
        e = { message = e }
    end
    local details = type(e.details) == "table" and e.details or {}
    local kind, code = text_of(e.type), text_of(details.error_code) or text_of(e.code)
    local message = text_of(e.message)
    local status = res.status
    if status < 400 then
        status = STATUS[kind] or 500
    end
    local about = { name = code or kind, message = message }
    about.code, about.retry = kind_of(status, code, (message or ""):lower())
    about.strip = status == 400 and strip_of((message or ""):lower(), forced) or nil
    if status == 413 then
        about.what = "the request is larger than the server takes"
    elseif status == 404 and about.code == "bad_request" then
        about.what = ("%s was not found"):format(target.shown_url or "the URL")
        about.remedy = ("check %s and the model's name"):format(target.base_var or "the base URL")
    end
    return fault.answer(target, { status = status, headers = with_id(res, id), body = res.body }, about)
end

--- error_in(value) -> the error of a decoded body | nil
function M.error_in(value)
    if not history.is_object(value) then
        return nil
    end
    local e = value.error
    if type(e) == "table" or text_of(e) then
        return e
    elseif value.type == "error" then
        return { message = text_of(value.message) }
    end
    return nil
end

--- failed(target, res, forced) -> err for an answer with an error status; forced as above.
function M.failed(target, res, forced)
    local value = history.decode(res.body)
    local e = M.error_in(value) or history.is_object(value) and (text_of(value.detail) or text_of(value.message))
    if e then
        return M.described(target, res, e, value.request_id, forced)
    end
    local code, retry = fault.status_kind(res.status)
    if res.status == 404 or res.status < 400 then
        return fault.answer(target, res, {
            code = "nonsense",
            what = ("%s does not speak Anthropic's protocol"):format(target.shown_url or "the server"),
        })
    end
    return fault.answer(target, res, { code = code, retry = retry, message = fault.title(res.body or "") })
end

return M
