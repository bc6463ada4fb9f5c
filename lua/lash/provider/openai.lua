-- OpenAI's Responses protocol: POST {base}/responses, stateless (store = false, the whole history each
-- time), buffered or as a stream. A pure translator: nothing here waits.
--
-- Beside this: openai_input (the history as it is sent), openai_answer (a whole answer -> entry),
-- openai_stream (a stream -> a whole answer), openai_errors.
local answers = require "lash.provider.openai_answer"
local dialect = require "lash.provider.dialect"
local errors = require "lash.provider.openai_errors"
local fault = require "lash.provider.fault"
local history = require "lash.provider.history"
local inputs = require "lash.provider.openai_input"
local json = require "lash.json"
local streams = require "lash.provider.openai_stream"

local M = { name = "openai" }

-- Settings that this protocol has no field for.
M.ignores = { top_k = true, seed = true, stop = true }

-- ---- the rest of the body ----

local tools_json = history.encoder(function(tool)
    local strict = tool.strict
    if strict == nil then
        strict = tool.schema == nil or dialect.strict(tool.schema)
    end
    return {
        type = "function",
        name = tool.name,
        description = tool.description or "",
        parameters = dialect.plain(tool.schema),
        strict = strict,
    }
end)

local function tool_choice(choice)
    if type(choice) == "table" then
        return { type = "function", name = choice.name }
    end
    return choice or "auto"
end

local function settings_fields(settings)
    local fields = {
        max_output_tokens = settings.max_tokens,
        temperature = settings.temperature,
        top_p = settings.top_p,
    }
    if settings.effort then
        fields.reasoning = { effort = settings.effort }
    end
    if settings.verbosity then
        fields.text = { verbosity = settings.verbosity }
    end
    return fields
end

local function output_format(output)
    return { type = "json_schema", name = output.name or "answer", schema = dialect.plain(output.schema),
        strict = dialect.strict(output.schema) }
end

local OURS = { input = true, stream = true, background = true, conversation = true, previous_response_id = true }

-- All of the body but the history, in two halves around it.
local function frame(view, target, stream)
    local settings = view.settings or {}
    local fields = settings_fields(settings)
    fields.model = target.model
    fields.store = false
    fields.stream = stream or nil
    fields.include = json.array { "reasoning.encrypted_content" }
    fields.instructions = view.system ~= "" and view.system or nil
    if view.output then
        history.merge(fields, { text = { format = output_format(view.output) } })
    end
    local extra = {}
    for name, value in pairs(settings[M.name] or {}) do
        if OURS[name] then
            return nil, ("settings.openai.%s is lash's own to send"):format(tostring(name))
        end
        extra[name] = value
    end
    local tools = view.tools and #view.tools > 0 and tools_json(view.tools) or ""
    for _, tool in ipairs(extra.tools or {}) do
        local text, err = json.encode(tool, { name = "settings.openai.tools" })
        if not text then
            return nil, err.message
        end
        tools = tools ~= "" and tools .. "," .. text or text
    end
    extra.tools = nil
    local raw = { input = "\0" } -- no JSON text has a NUL
    if tools ~= "" then
        raw.tools = "[" .. tools .. "]"
        fields.tool_choice = tool_choice(view.tool_choice)
        fields.parallel_tool_calls = view.parallel ~= false
    end
    history.merge(fields, extra)
    local text, err = history.object(fields, raw)
    if not text then
        return nil, err
    end
    local before, after = text:match("^(.-)%z(.*)$")
    return { target = target, stream = stream, before = before, after = after }
end

-- view -> its frame: the same for all requests that are made of it
local frames = setmetatable({}, { __mode = "k" })

local function body(conv, view, target, stream)
    local kept, err = frames[view], nil
    if not kept or kept.target ~= target or kept.stream ~= stream then
        kept, err = frame(view, target, stream)
        if not kept then
            return nil, err
        end
        frames[view] = kept
    end
    local input
    input, err = inputs.input(conv, target)
    if not input then
        return nil, err
    end
    return kept.before .. input .. kept.after
end

local function url(target)
    local base, query = target.base_url:match("^([^?]*)(%??.*)$")
    return base:gsub("/+$", "") .. "/responses" .. query
end

--- request(conv, view, target, stream) -> { url =, headers =, body = } | nil, err
function M.request(conv, view, target, stream)
    local text, why = body(conv, view, target, stream and true or false)
    if not text then
        return nil, fault.new { code = "bad_request", exit = 64, message = "openai: " .. why }
    end
    local headers = { ["content-type"] = "application/json", accept = "application/json" }
    if target.key then
        headers.authorization = "Bearer " .. target.key
    end
    headers["openai-organization"] = target.organization
    headers["openai-project"] = target.project
    return { url = url(target), headers = headers, body = text }
end

--- forget(conv): from now on the answers so far are sent as if another provider had given them, as
-- their encrypted parts were refused (another key or model family).
-- @return whether there was anything to forget
function M.forget(conv)
    return history.forget(conv, M.name)
end

-- ---- answers ----

local DONE = { completed = true, incomplete = true }

--- read(res, conv, view, target) -> answer | nil, err. `res` is { status =, headers =, body = }.
function M.read(res, conv, view, target)
    if res.status < 200 or res.status > 299 then
        return nil, errors.refused(target, res)
    end
    local value, err = history.decode(res.body)
    if err then
        return nil, fault.nonsense(target, res, "is not JSON")
    elseif not history.is_object(value) then
        return nil, fault.nonsense(target, res, "is no answer of the Responses protocol")
    end
    err = errors.verdict(target, res, value)
    if err then
        return nil, err
    elseif not answers.is_output(value.output) then
        return nil, fault.nonsense(target, res, "is no answer of the Responses protocol")
    elseif value.status ~= nil and not DONE[value.status] then
        return nil, fault.nonsense(target, res, ("has the status '%s'"):format(tostring(value.status)))
    end
    local builder = answers.builder(conv, view, inputs.used(conv, target), value.status == "incomplete")
    return answers.entry({ name = M.name, target = target, res = res }, builder, value, value.output,
        json.elements(json.raw(res.body, "output")))
end

--- reader(conv, view, target, res) -> reader of a streamed answer; `res` is { status =, headers = }
function M.reader(conv, view, target, res)
    return streams.new({ name = M.name, target = target, res = res }, conv, view, inputs.used(conv, target))
end

return M
