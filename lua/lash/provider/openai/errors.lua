-- What servers of OpenAI's Responses protocol say when they give no answer: error statuses, errors inside
-- a 200, errors inside a stream. Kinds are told apart by status, code and type, never by the message:
-- those texts change.
local fault = require "lash.provider.fault"
local history = require "lash.provider.history"
local json = require "lash.json"
local shared = require "lash.provider.openai.codes"

local M = {}

local NULL = json.null

-- code or type -> kind, worth another attempt
local KNOWN = shared.with {
    image_content_policy_violation = { "refused" },
    server_is_overloaded = { "overloaded", true },
}

local function text_of(value)
    return type(value) == "string" and value ~= "" and value or nil
end

local function kind_of(status, code, kind, param, message)
    local words = (code or "") .. " " .. (kind or "")
    if words:find("usage_limit", 1, true) or words:find("%f[%a]spend") then
        return "quota", false
    end
    local known = KNOWN[code] or KNOWN[kind]
    if known then
        return known[1], known[2] or false
    elseif status == 404 and param == "model" then
        return "model", false
    elseif fault.is_overflow(status, message) then -- of servers that have no code for it
        return "context", false
    elseif status >= 400 then
        return fault.status_kind(status)
    elseif words:find("invalid", 1, true) or words:find("image", 1, true) or words:find("unsupported", 1, true) then
        return "bad_request", false
    end
    return "overloaded", true
end

-- Whether it is about reasoning that the server does not take back: its sealed part is another's, or it has none, or it
-- stands without what it led to. But for the first these have no code.
local function is_sealed(code, words)
    return code == "invalid_encrypted_content" or (words:find("item with id 'rs_", 1, true)
        or words:find("required following item", 1, true) or words:find("required 'reasoning' item", 1, true)) ~= nil
end

--- described(target, res, e) -> err for an error that the server described: `e` is its error object or text.
function M.described(target, res, e)
    if type(e) ~= "table" then
        e = { message = text_of(e) }
    elseif getmetatable(e) == json.array_mt then -- what FastAPI finds wrong with a body
        e = { message = json.encode(e) }
    end
    local code, kind = text_of(e.code), text_of(e.type)
    if kind == "error" then -- that of the event, not of the error
        kind = nil
    end
    local about = { name = code or kind, message = text_of(e.message) }
    about.code, about.retry = kind_of(shared.status(res, e.code), code, kind, e.param, (about.message or ""):lower())
    about.strip = about.code == "bad_request" and is_sealed(code, (about.message or ""):lower()) or nil
    if (res.status == 404 or res.status == 405) and about.code == "bad_request" then
        about.what = ("%s was not found"):format(target.shown_url or "the URL")
        about.remedy = ("check %s and the model's name"):format(target.base_var or "the base URL")
    end
    return fault.answer(target, res, about)
end

--- inside(value) -> the error object or text that a decoded body or event has in it | nil
function M.inside(value)
    local e = history.is_object(value) and value.error
    if e and e ~= json.null then
        return e
    end
    return nil
end

--- refused(target, res) -> err for an answer with an error status, whatever its body is.
function M.refused(target, res)
    local body = res.body or ""
    local value = history.decode(body)
    local e = history.is_object(value) and (M.inside(value) or value.detail or value.message) or nil
    if type(e) == "table" or type(e) == "string" then
        return M.described(target, res, e)
    end
    local code, retry = fault.status_kind(res.status)
    if res.status == 404 or res.status == 405 or res.status < 400 then
        return fault.no_protocol(target, res, "the Responses protocol")
    end
    return fault.answer(target, res, { code = code, retry = retry, message = fault.title(body) })
end

--- verdict(target, res, value) -> err when a decoded response, an object, says that it failed | nil
function M.verdict(target, res, value)
    local e = value.error
    if e and e ~= NULL then
        return M.described(target, res, e)
    elseif value.status == "failed" then
        return fault.answer(target, res, { code = "overloaded", retry = true, name = "failed" })
    end
    return nil
end

return M
