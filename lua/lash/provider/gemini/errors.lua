-- What went wrong, in Gemini's words: its error objects, and bodies that are none.
local fault = require "lash.provider.fault"
local history = require "lash.provider.history"

local M = {}

local function text_of(value)
    return type(value) == "string" and value ~= "" and value or nil
end

local A_SECOND = { ms = 1000, s = 1, m = 1 / 60 }

-- "34s", "510ms", "34.074824224s", 34, { seconds = "34", nanos = 5 } -> seconds | nil
local function duration(value)
    if type(value) == "table" then
        local whole, nanos = tonumber(value.seconds), tonumber(value.nanos)
        value = (whole or nanos) and (whole or 0) + (nanos or 0) / 1e9 or nil
    elseif type(value) == "string" then
        local number, unit = value:match("^%s*(%d+%.?%d*)(m?s?)%s*$")
        value = number and tonumber(number) / (A_SECOND[unit] or 1)
    end
    return type(value) == "number" and value >= 0 and value < math.huge and value + 0.0 or nil
end

local function list(value)
    return type(value) == "table" and value or {}
end

local function read_quota(found, violations)
    for _, violation in ipairs(list(violations)) do
        if type(violation) == "table" then
            local id = text_of(violation.quotaId)
            found.daily = found.daily or id and id:find("PerDay") ~= nil
            found.none = found.none or violation.quotaValue == "0" or violation.quotaValue == 0
        end
    end
end

-- What the details of an error say: the delay of RetryInfo, reasons, whether a quota is one of a day or
-- one of nothing.
local function read_details(details, message)
    local found = { reasons = {} }
    for _, detail in ipairs(list(details)) do
        if type(detail) == "table" then
            found.after = duration(detail.retryDelay) or found.after
            if text_of(detail.reason) then
                found.reasons[detail.reason] = true
            end
            read_quota(found, detail.violations)
        end
    end
    found.after = found.after or duration(message:match("[Rr]etry in (%d+%.?%d*m?s)"))
    return found
end

local KEY_REASONS = { API_KEY_INVALID = true, API_KEY_EXPIRED = true, API_KEY_SERVICE_BLOCKED = true,
    API_KEY_HTTP_REFERRER_BLOCKED = true, API_KEY_IP_ADDRESS_BLOCKED = true, CONSUMER_SUSPENDED = true,
    CONSUMER_INVALID = true }
local RETRY = { UNAVAILABLE = true, INTERNAL = true, UNKNOWN = true, DEADLINE_EXCEEDED = true }
-- Statuses by name, for errors that come without a number inside a stream.
local STATUS = { INVALID_ARGUMENT = 400, FAILED_PRECONDITION = 400, OUT_OF_RANGE = 400, UNAUTHENTICATED = 401,
    PERMISSION_DENIED = 403, NOT_FOUND = 404, ABORTED = 409, ALREADY_EXISTS = 409, RESOURCE_EXHAUSTED = 429,
    CANCELLED = 499, INTERNAL = 500, UNKNOWN = 500, UNIMPLEMENTED = 501, UNAVAILABLE = 503,
    DEADLINE_EXCEEDED = 504 }

-- A refusal that the request is not to blame for: about.what and about.remedy say what is.
local function precondition(about, text)
    about.code, about.retry = "refused", false
    if text:find("billing") then
        about.what = "the key's project has no billing, and needs it here"
        about.remedy = "enable billing in Google AI Studio, or use another provider"
    elseif text:find("location") or text:find("country") or text:find("region") then
        about.what = "the API is not offered at this place"
        about.remedy = "use another provider"
    end
end

local function too_much(about, found, text)
    if found.none then
        about.code, about.retry, about.remedy = "quota", false,
            "the key's plan does not include this model: choose another, or enable billing in Google AI Studio"
    elseif found.daily then
        about.code, about.retry, about.remedy = "quota", false,
            "it comes back tomorrow: use another model or key, or see the plan in Google AI Studio"
    elseif text:find("credit") or text:find("depleted") then
        about.code, about.retry = "quota", false
    else
        about.code, about.retry = "rate", true
    end
end

local function no_permission(about, reasons)
    about.code, about.retry = "key", false
    if reasons.SERVICE_DISABLED then
        about.what = "the Gemini API is not enabled for the key's project"
        about.remedy = "enable the 'Generative Language API' there, or use another key"
    end
end

local function classify(about, status, name, text, found)
    for reason in pairs(KEY_REASONS) do
        if found.reasons[reason] then
            about.code, about.retry, about.name = "key", false, reason
            return
        end
    end
    if text:find("api key not valid") or text:find("api key expired") or status == 401 then
        about.code, about.retry = "key", false
    elseif status == 403 then
        no_permission(about, found.reasons)
    elseif status == 404 then
        about.code, about.retry = "model", false
    elseif status == 429 then
        too_much(about, found, text)
    elseif name == "FAILED_PRECONDITION" then
        precondition(about, text)
    elseif status < 500 and text:find("token count") and text:find("exceed") then
        about.code, about.retry = "context", false
    elseif status == 409 or status == 499 then
        about.code, about.retry = "overloaded", false
    elseif RETRY[name] then
        about.code, about.retry = "overloaded", true
    else
        about.code, about.retry = fault.status_kind(status)
    end
end

-- Whether a thought signature was missed or did not fit: all of them are from another model or key.
local function unsigned(status, text)
    text = text:gsub("_", " ")
    return status == 400 and text:find("thought signature") ~= nil
        and (text:find("corrupted") or text:find("invalid") or text:find("missing") or text:find("not valid")) ~= nil
end

--- described(target, res, e) -> err for an error object of the server (or a mere text).
function M.described(target, res, e)
    if type(e) == "string" then
        e = { message = e }
    end
    local name, message = text_of(e.status), text_of(e.message)
    local status = res.status
    if status < 400 then
        local code = math.type(e.code) == "integer" and e.code or STATUS[name]
        status = code and code >= 400 and code < 600 and code or 500
    end
    local text = (message or ""):lower()
    local found = read_details(e.details, message or "")
    local about = { name = name, message = message, after = found.after }
    classify(about, status, name, text, found)
    about.strip = unsigned(status, text) or nil
    return fault.answer(target, { status = status, headers = res.headers, body = res.body }, about)
end

--- error_in(value) -> the error of a decoded body | nil: in an object, or in an array with one.
function M.error_in(value)
    if type(value) == "table" and type(value[1]) == "table" then
        value = value[1]
    end
    local e = history.is_object(value) and value.error
    return (history.is_object(e) or text_of(e)) and e or nil
end

--- failed(target, res) -> err for an answer with an error status, whatever its body is.
function M.failed(target, res)
    local e = M.error_in(history.decode(res.body) or nil)
    if e then
        return M.described(target, res, e)
    end
    local code, retry = fault.status_kind(res.status)
    if res.status == 404 or res.status < 400 then
        return fault.answer(target, res, {
            code = "nonsense",
            what = ("%s does not speak Gemini's protocol"):format(target.shown_url or "the server"),
        })
    end
    return fault.answer(target, res, { code = code, retry = retry, message = fault.title(res.body or "") })
end

return M
