-- OpenAI's Responses protocol: POST {base}/responses, stateless (store = false, the whole history each
-- time), buffered or as a stream. A pure translator: nothing here waits.
--
-- Its parts are in openai/: input (the history as it is sent), answer (a whole answer -> entry), stream (a
-- stream -> a whole answer), errors.
local answers = require "lash.provider.openai.answer"
local dialect = require "lash.provider.dialect"
local lazy = require "lash.lazy"
local errors = lazy "lash.provider.openai.errors"
local fault = require "lash.provider.fault"
local history = require "lash.provider.history"
local inputs = require "lash.provider.openai.input"
local json = require "lash.json"
local mend = lazy "lash.provider.mend"
local own = require "lash.provider.own"
local server = require "lash.provider.openai_chat.server"
local streams = require "lash.provider.openai.stream"

local M = { name = "openai" }

--- See lash.provider.registry.
M.defaults = {
    keys = { "OPENAI_API_KEY" },
    base_var = "OPENAI_BASE_URL",
    base = "https://api.openai.com/v1",
    example = "http://localhost:11434/v1",
    sample = "gpt-5-mini",
    more = { organization = "OPENAI_ORG_ID", project = "OPENAI_PROJECT_ID" },
    headers_var = "OPENAI_CUSTOM_HEADERS",
}

-- Settings that this protocol has no field for.
M.ignores = { top_k = true, seed = true, stop = true }

-- ---- the rest of the body ----

-- What a compatible server does not take, by target.quirks (see lash.provider.quirks):
--   reasoning = false   neither `reasoning` nor `include` is sent
--   strict = false      no tool and no output is strict
--   parallel = false    `parallel_tool_calls` is not sent
--   output = false      the schema of a structured answer stands in the instructions instead
--   api_key_header = "api-key"   the name of the header that has the key, without "Bearer"; without this quirk it
--                       is that one at the addresses of Azure

local function described(tool, strict)
    return {
        type = "function",
        name = tool.name,
        description = tool.description or "",
        parameters = dialect.plain(tool.schema),
        strict = strict,
    }
end

local tools_json = history.encoder(function(tool)
    return described(tool, dialect.is_strict(tool))
end)

local loose_tools_json = history.encoder(function(tool)
    return described(tool, false)
end)

local function tool_choice(choice)
    if type(choice) == "table" then
        return { type = "function", name = choice.name }
    end
    return choice or "auto"
end

local function settings_fields(settings, quirks)
    local fields = {
        max_output_tokens = settings.max_tokens,
        temperature = settings.temperature,
        top_p = settings.top_p,
        text = settings.verbosity and { verbosity = settings.verbosity } or nil,
    }
    if quirks.reasoning ~= false then
        fields.include = json.array { "reasoning.encrypted_content" }
        if settings.effort or settings.reasoning then
            fields.reasoning = { effort = settings.effort, summary = settings.reasoning and "auto" or nil }
        end
    end
    return fields
end

-- A schema whose root is no object, or a server that cannot: the model is told in words.
local function native_output(output, quirks)
    return quirks.output ~= false and type(output.schema) == "table"
        and (output.schema.type == "object" or output.schema.type == nil and output.schema.properties ~= nil)
end

local function output_format(output, quirks)
    return { type = "json_schema", name = answers.call_name(output.name or "answer"),
        schema = dialect.plain(output.schema), strict = quirks.strict ~= false and dialect.strict(output.schema) }
end

local function add_output(fields, output, quirks)
    if native_output(output, quirks) then
        history.merge(fields, { text = { format = output_format(output, quirks) } })
    else
        local hint = history.output_hint(output)
        fields.instructions = fields.instructions and fields.instructions .. "\n\n" .. hint or hint
    end
end

local OURS = { input = true, model = true, stream = true, background = true, conversation = true,
    previous_response_id = true }

local function tools_text(view, quirks, more)
    if view.tools and #view.tools > 0 then
        table.insert(more, 1, (quirks.strict == false and loose_tools_json or tools_json)(view.tools))
    end
    return more[1] and "[" .. table.concat(more, ",") .. "]" or ""
end

-- ---- the request ----

local function url(target, path)
    local base, query = target.base_url:match("^([^?]*)(%??.*)$")
    return base:gsub("/+$", "") .. path .. query
end

local function headers_of(target)
    local headers = { accept = "application/json" } -- for a stream too, as the official client does
    local key_header = (target.quirks or {}).api_key_header or server.is_azure(target) and "api-key"
    if target.key and type(key_header) == "string" then
        headers[key_header:lower()] = target.key
    elseif target.key then
        headers.authorization = "Bearer " .. target.key
    end
    headers["openai-organization"] = target.organization
    headers["openai-project"] = target.project
    for name, value in pairs(target.headers or {}) do
        headers[name:lower()] = value
    end
    return headers
end

-- All of a request but the history, which stands between two halves of the body.
local function frame(view, target, stream)
    local settings, quirks = view.settings or {}, target.quirks or {}
    local fields = settings_fields(settings, quirks)
    fields.model = target.model
    fields.store = false
    fields.stream = stream or nil
    fields.instructions = view.system ~= "" and view.system or nil
    if view.output then
        add_output(fields, view.output, quirks)
    end
    local extra, more = own.fields(settings, M.name, target, OURS)
    if not extra then
        return nil, more
    end
    if not stream then
        extra.stream_options = nil -- refused without a stream
    end
    local tools = tools_text(view, quirks, more)
    local raw = { input = "[\0]" } -- no JSON text has a NUL
    if tools ~= "" then
        raw.tools = tools
        fields.tool_choice = tool_choice(view.tool_choice)
        if quirks.parallel ~= false then
            fields.parallel_tool_calls = view.parallel ~= false
        end
    end
    history.merge(fields, extra)
    local text, err = history.object(fields, raw)
    if not text then
        return nil, err
    end
    local before, after = text:match("^(.-)%z(.*)$")
    local headers = headers_of(target)
    headers["content-type"] = "application/json"
    return { target = target, stream = stream, before = before, after = after, headers = headers,
        url = url(target, "/responses") }
end

-- view -> its frame: the same for all requests that are made of it
local frames = setmetatable({}, { __mode = "k" })

local function refused(target, why)
    return nil, fault.new { code = "bad_request", exit = 64,
        message = ("%s: %s"):format(target.provider_name or M.name, why) }
end

--- request(conv, view, target, stream) -> { url =, headers =, body = } | nil, err. `stream`: ask for events.
-- The padding of events against those who measure packets is left on: a server that does not know
-- `stream_options` might refuse it, and it is the user's to give up (settings.openai.stream_options).
function M.request(conv, view, target, stream)
    stream = stream and true or false
    local kept = frames[view]
    if not kept or kept.target ~= target or kept.stream ~= stream then
        local err
        kept, err = frame(view, target, stream)
        if not kept then
            return refused(target, err)
        end
        frames[view] = kept
    end
    local items, why = inputs.items(conv, target)
    if not items then
        return refused(target, why)
    end
    return { url = kept.url, headers = kept.headers, body = history.body(kept.before, items, kept.after) }
end

--- forget(conv): from now on the answers so far are sent as if another provider had given them, as
-- their encrypted parts were refused (another key or model family).
-- @return whether there was anything to forget
function M.forget(conv)
    return history.forget(conv, M.name)
end

-- ---- answers ----

local DONE = { completed = true, incomplete = true }

local ANSWER = history.shape { status = true, error = true, usage = true, incomplete_details = true,
    output = { answers.ITEM, raws = true } }

--- read(res, conv, view, target) -> answer | nil, err. `res` is { status =, headers =, body = }.
function M.read(res, conv, view, target)
    if res.status < 200 or res.status > 299 then
        return nil, errors.refused(target, res)
    end
    local taken = inputs.used(conv, target)
    local answer = answers.plain(target, conv, taken, res.body or "")
    if answer then
        return answer
    end
    local value, err, raws = mend.pick(res.body, ANSWER)
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
    local builder = answers.builder(conv, view, target, taken, value.status == "incomplete")
    return answers.entry(target, builder, value, value.output, raws)
end

--- reader(conv, view, target, res) -> reader of a streamed answer; `res` is { status =, headers = }
function M.reader(conv, view, target, res)
    return streams.new({ name = M.name, target = target, res = res }, conv, view, inputs.used(conv, target))
end

--- See streams.picker; settles(name, data, conv, view, target, res) -> the answer that an event with this name and data
-- gives by itself, whatever came before it | nil. Those with a mark in the picker tell nothing else then.
M.picker = streams.picker

function M.settles(name, data, conv, view, target, res)
    return streams.settled(name, data, { name = M.name, target = target, res = res }, conv, view,
        inputs.used(conv, target))
end

-- ---- models ----

--- models_request(target) -> { url =, headers = }: a GET whose body read_models() understands
function M.models_request(target)
    return { url = url(target, "/models"), headers = headers_of(target) }
end

-- What servers call the size of a model's context, and of its answer.
local CONTEXT = { "context_length", "context_window", "max_model_len", "max_context_length", "n_ctx_train" }
local OUTPUT = { "max_completion_tokens", "max_output_tokens" }

-- The first size that one of these tables tells.
local function size(names, ...)
    for _, about in ipairs { ... } do
        for _, name in ipairs(names) do
            local n = history.is_object(about) and history.count(about[name]) or 0
            if n > 0 then
                return n
            end
        end
    end
    return nil
end

--- read_models(value, target) -> list of { id =, name =, context =, output = } | nil, err. `value` is the
-- decoded body; there are no further pages.
function M.read_models(value, target)
    local data = history.is_object(value) and value.data
    if type(data) ~= "table" or getmetatable(data) ~= json.array_mt then
        return nil, fault.nonsense(target, { body = json.encode(value) }, "is no list of models")
    end
    local list = {}
    for _, model in ipairs(data) do
        if history.is_object(model) and type(model.id) == "string" and model.id ~= "" then
            list[#list + 1] = {
                id = model.id,
                name = type(model.name) == "string" and model.name or nil,
                context = size(CONTEXT, model, model.meta or false),
                output = size(OUTPUT, model, model.top_provider or false),
            }
        end
    end
    return list
end

return M
