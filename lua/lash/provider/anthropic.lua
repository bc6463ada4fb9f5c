-- Anthropic's Messages: POST {base}/v1/messages. A pure translator: request() makes bytes, read() and reader()
-- understand an answer; nothing here waits. Its parts are in anthropic/:
--
--   body       view and settings -> the body of a request
--   messages   the history as `messages`
--   answer     content blocks -> answer entry, of both kinds of answers
--   stream     events -> content blocks
--   errors     errors
--   schema     JSON Schema as it is taken there
--
-- Of target.quirks:
--   cache            false: no marks for the cache of prompts; true: all of them, see body.lua
--   version          the value of anthropic-version
--   output           false: structured answers are asked for in words only; true: by their schema only
--   think            how thinking is asked for: "adaptive", "budget", or false, never
--   effort           false: the effort is not sent; true: always, also where the model's name is an older one
--   parallel         false: disable_parallel_tool_use is not sent
--   api_key_header   where the key goes, instead of x-api-key
local answer = require "lash.provider.anthropic.answer"
local body = require "lash.provider.anthropic.body"
local fault = require "lash.provider.fault"
local faults = require "lash.provider.anthropic.errors"
local history = require "lash.provider.history"
local json = require "lash.json"
local mend = require "lash.provider.mend"
local messages = require "lash.provider.anthropic.messages"
local stream = require "lash.provider.anthropic.stream"

local M = { name = "anthropic" }

-- Where the key and the address come from, see lash.provider.registry.
M.defaults = {
    keys = { "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN" },
    base_var = "ANTHROPIC_BASE_URL",
    base = "https://api.anthropic.com",
    example = "http://localhost:11434",
    sample = "claude-sonnet-4-5",
    headers_var = "ANTHROPIC_CUSTOM_HEADERS",
}

-- Settings that this protocol has no field for.
M.ignores = { seed = true, verbosity = true }

--- forget(conv, err, target): what was refused is left out from now on: the sealed thinking of the answers so far
-- (of another key or model), which are then sent as if another provider had given them; or the wish that this
-- model must call a tool.
-- @return whether there was anything to leave out
function M.forget(conv, err, target)
    if err and err.strip == "tool_choice" then
        return body.unforce(conv, target)
    end
    return history.forget(conv, M.name)
end

-- ---- requests ----

local function url(target, path)
    local base, query = target.base_url:match("^([^?]*)(%??.*)$")
    base = base:gsub("/+$", ""):gsub("/v1$", "")
    return base .. "/v1/" .. path, query:sub(2)
end

local function samples(settings, own)
    for _, name in ipairs { "temperature", "top_p", "top_k" } do
        if settings[name] ~= nil or own[name] ~= nil then
            return true
        end
    end
    return false
end

-- The newer version refuses sampling parameters, and is not known to the servers of others.
local function version(target, settings, own)
    local quirk = (target.quirks or {}).version
    if quirk then
        return quirk
    end
    return (samples(settings, own) or not answer.is_own(target)) and "2023-06-01" or "2026-10-21"
end

-- The key in the header that its variable or a quirk says. Some gateways know only the other one.
local function add_key(headers, target)
    local name = (target.quirks or {}).api_key_header
    name = name and name:lower() or target.key_var == "ANTHROPIC_AUTH_TOKEN" and "authorization" or "x-api-key"
    if target.key then
        headers[name] = (name == "authorization" and "Bearer " or "") .. target.key
    end
end

local function headers_of(target, settings, own)
    local betas = type(own.betas) == "table" and table.concat(own.betas, ",") or own.betas
    local headers = { accept = "application/json", -- for a stream too, as the official client does
        ["anthropic-version"] = version(target, settings, own), ["anthropic-beta"] = betas }
    add_key(headers, target)
    for name, value in pairs(target.headers or {}) do
        name = name:lower()
        headers[name] = name == "anthropic-beta" and betas and betas .. "," .. value or value
    end
    return headers
end

local function refuse(why)
    return nil, fault.new { code = "bad_request", exit = 64,
        message = why:find("^anthropic") and why or "anthropic: " .. why }
end

-- view -> url and headers of its requests, which are always the same
local heads = setmetatable({}, { __mode = "k" })

-- @return { target =, url =, headers = } | nil, what cannot be set
local function head(view, target)
    local kept = heads[view]
    if kept and kept.target == target then
        return kept
    end
    local settings = view.settings or {}
    local own, err = body.own_settings(settings, target)
    if not own then
        return nil, err
    end
    local address, query = url(target, "messages")
    local headers = headers_of(target, settings, own)
    headers["content-type"] = "application/json"
    kept = { target = target, url = address .. (query ~= "" and "?" .. query or ""), headers = headers }
    heads[view] = kept
    return kept
end

--- request(conv, view, target, stream) -> { url =, headers =, body = } | nil, err
function M.request(conv, view, target, streamed)
    conv.scratch = conv.scratch or {}
    local kept, err = head(view, target)
    if not kept then
        return refuse(err)
    end
    local text
    text, err = body.text(conv, view, target, streamed)
    if not text then
        return refuse(err)
    end
    return { url = kept.url, headers = kept.headers, body = text }
end

-- ---- answers ----

local function context(conv, target)
    conv.scratch = conv.scratch or {}
    return answer.context(conv, target, messages.taken(conv, target))
end

-- The blocks of a whole answer | nil when it is none.
-- @param raws their texts
local function blocks_of(value, raws)
    local content = history.is_object(value) and value.content
    if type(content) == "string" then -- whatever its escapes were
        return { { value = { type = "text", text = content },
            raw = '{"type":"text","text":' .. raws .. "}" } }
    elseif getmetatable(content) ~= json.array_mt then
        return nil
    end
    local blocks = {}
    for i, block in ipairs(content) do
        if not history.is_object(block) then
            return nil
        end
        blocks[i] = { value = block, raw = raws[i], picked = true }
    end
    return blocks
end

local ANSWER = history.shape { type = true, error = true, message = true, request_id = true, stop_reason = true,
    stop_details = true, usage = true, content = { answer.BLOCK, raws = true } }

--- read(res, conv, view, target) -> answer | nil, err. `res` is { status =, headers =, body = }.
function M.read(res, conv, view, target)
    if res.status < 200 or res.status > 299 then
        return nil, faults.failed(target, res, body.is_forced(view))
    end
    local value, err, raws, text = mend.pick(res.body, ANSWER)
    if err then
        return nil, fault.nonsense(target, res, "is not JSON")
    end
    local e = faults.error_in(value)
    if e then
        return nil, faults.described(target, res, e, value.request_id)
    end
    local blocks = blocks_of(value, raws or json.raw(text, "content"))
    if not blocks then
        return nil, fault.nonsense(target, res, "is no answer of Anthropic's protocol")
    end
    return answer.answer(context(conv, target), blocks, value)
end

M.picker = stream.picker

--- reader(conv, view, target, res) -> reader of a streamed answer; `res` is { status =, headers = }.
function M.reader(conv, view, target, res) -- luacheck: ignore view
    return stream.new(context(conv, target), res)
end

-- ---- lists of models ----

--- models_request(target, page) -> { url =, headers = }; page as of read_models, or nil
function M.models_request(target, page)
    local address, query = url(target, "models")
    local after = page and "&after_id=" .. page:gsub("[^%w%-._~]", function(c)
        return ("%%%02X"):format(c:byte())
    end) or ""
    return { url = ("%s?limit=1000%s%s"):format(address, after, query ~= "" and "&" .. query or ""),
        headers = headers_of(target, {}, {}) }
end

--- read_models(value, target) -> list of { id =, name =, context =, output = }, next page or nil | nil
function M.read_models(value, target) -- luacheck: ignore target
    if not history.is_object(value) or type(value.data) ~= "table" then
        return nil
    end
    local list = {}
    local function tokens(count)
        return history.count(count) > 0 and history.count(count) or nil
    end
    for _, model in ipairs(value.data) do
        if history.is_object(model) and type(model.id) == "string" then
            list[#list + 1] = {
                id = model.id,
                name = type(model.display_name) == "string" and model.display_name or model.id,
                context = tokens(model.max_input_tokens),
                output = tokens(model.max_tokens),
            }
        end
    end
    local more = value.has_more == true and type(value.last_id) == "string" and value.last_id ~= ""
    return list, more and value.last_id or nil
end

return M
