-- OpenAI's Chat Completions protocol, and all the servers that speak it too: POST {base}/chat/completions,
-- the whole history each time. A pure translator: request() makes bytes, read() and reader() understand an
-- answer; nothing here waits.
--
-- Its parts are in openai_chat/: server (in what servers differ), messages (history -> messages), answer (deltas
-- or a message -> the entry), calls (its tool calls), errors.
local answers = require "lash.provider.openai_chat.answer"
local core = require "lash.core.json"
local dialect = require "lash.provider.dialect"
local errors = require "lash.provider.openai_chat.errors"
local fault = require "lash.provider.fault"
local history = require "lash.provider.history"
local json = require "lash.json"
local mend = require "lash.provider.mend"
local messages = require "lash.provider.openai_chat.messages"
local own = require "lash.provider.own"
local server = require "lash.provider.openai_chat.server"

local M = { name = "openai-chat" }

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
M.ignores = { top_k = true, reasoning = true }

-- ---- the body ----

local function described(tool, strict)
    return {
        type = "function",
        ["function"] = {
            name = tool.name,
            description = tool.description or "",
            parameters = dialect.plain(tool.schema),
            strict = strict,
        },
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
        return { type = "function", ["function"] = { name = choice.name } }
    end
    return choice or "auto"
end

local function response_format(output, traits)
    if not output or not traits.output then
        return nil
    elseif traits.output == "json_object" then
        return { type = "json_object" }
    end
    return { type = "json_schema", json_schema = { name = messages.call_name(output.name or "answer"),
        schema = dialect.plain(output.schema), strict = traits.strict and dialect.strict(output.schema) } }
end

local DROPPED, NOTHING = M.name .. "_dropped", {}

-- Fields that a server may refuse and that can be left out, or be named otherwise, after that.
local function dropped(conv, target)
    local all = conv.scratch and conv.scratch[DROPPED]
    return all and all[target.origin or ""] or NOTHING
end

local function limit_field(traits, drop)
    if drop.max_tokens and traits.max_tokens == "max_tokens" then
        return "max_completion_tokens"
    end
    return traits.max_tokens
end

local function settings_fields(settings, traits, drop)
    local fields = {
        temperature = settings.temperature,
        top_p = settings.top_p,
        seed = settings.seed,
        stop = settings.stop,
        reasoning_effort = traits.effort and settings.effort or nil,
        verbosity = settings.verbosity,
    }
    fields[limit_field(traits, drop)] = settings.max_tokens
    return fields
end

local OURS = { messages = true, model = true, stream = true, n = true, functions = true, function_call = true }

local function system_message(view, traits)
    local text = view.system or ""
    if view.output and traits.output ~= true and traits.output ~= "json_schema" then
        text = (text ~= "" and text .. "\n\n" or "") .. history.output_hint(view.output)
    end
    return text ~= "" and ('{"content":%s,"role":%s},'):format(history.quote(text), history.quote(traits.role)) or ""
end

-- @return JSON array of the tools, "" without
local function all_tools(view, traits, more)
    if view.tools and #view.tools > 0 then
        table.insert(more, 1, (traits.strict and tools_json or loose_tools_json)(view.tools))
    end
    return more[1] and "[" .. table.concat(more, ",") .. "]" or ""
end

local function url(target, path)
    local base, query = target.base_url:match("^([^?]*)(%??.*)$")
    return base:gsub("/+$", "") .. path .. query
end

local function headers_of(target, traits)
    local headers = {
        ["openai-organization"] = target.organization,
        ["openai-project"] = target.project,
    }
    if traits.api_key_header then
        headers[traits.api_key_header:lower()] = target.key
    elseif target.key or traits.anonymous then
        headers.authorization = "Bearer " .. (target.key or "none") -- some insist on a key, whatever it is
    end
    for name, value in pairs(target.headers or {}) do
        headers[name:lower()] = value
    end
    return headers
end

-- All of a request but the history, which stands between two halves of the body.
local function frame(view, target, traits, stream, drop)
    local settings = view.settings or {}
    local fields = settings_fields(settings, traits, drop)
    fields.model = target.model
    fields.response_format = response_format(view.output, traits)
    if stream then
        fields.stream = true
        fields.stream_options = traits.stream_usage and not drop.stream_options and { include_usage = true } or nil
    end
    local extra, more = own.fields(settings, M.name, target, OURS)
    if not extra then
        return nil, more
    end
    if not stream then
        extra.stream_options = nil -- refused without a stream
    end
    local tools = all_tools(view, traits, more)
    local raw = { messages = "[" .. system_message(view, traits) .. "\0" } -- no JSON text has a NUL
    if tools ~= "" then
        raw.tools = tools
        fields.tool_choice = tool_choice(view.tool_choice)
        if traits.parallel and not drop.parallel_tool_calls then
            fields.parallel_tool_calls = view.parallel ~= false
        end
    end
    history.merge(fields, extra)
    local text, err = history.object(fields, raw)
    if not text then
        return nil, err
    end
    local before, after = text:match("^(.-)%z(.*)$")
    local headers = headers_of(target, traits)
    headers["content-type"] = "application/json"
    headers.accept = stream and "text/event-stream" or "application/json"
    return { before = before, after = "]" .. after, has_system = before:sub(-1) == ",", headers = headers,
        url = url(target, "/chat/completions") }
end

-- view -> its frames: the same for all requests that are made of it
local frames = setmetatable({}, { __mode = "k" })

local function frame_of(conv, view, target, traits, stream)
    local drop, key = dropped(conv, target), stream and "stream" or "whole"
    if next(drop) then
        local names = {}
        for name in pairs(drop) do
            names[#names + 1] = name
        end
        table.sort(names)
        key = key .. " " .. table.concat(names, ",")
    end
    local kept = frames[view]
    if not kept or kept.target ~= target then
        kept = { target = target }
        frames[view] = kept
    end
    if not kept[key] then
        local made, err = frame(view, target, traits, stream, drop)
        if not made then
            return nil, err
        end
        kept[key] = made
    end
    return kept[key]
end

--- request(conv, view, target, stream) -> { url =, headers =, body = } | nil, err
function M.request(conv, view, target, stream)
    local traits = server.traits(target)
    local kept, why = frame_of(conv, view, target, traits, stream and true or false)
    local parts
    if kept then
        parts, why = messages.messages(conv, target, traits)
    end
    if not parts then
        return nil, fault.new { code = "bad_request", exit = 64,
            message = ("%s: %s"):format(target.provider_name, why) }
    end
    local before = #parts == 0 and kept.has_system and kept.before:sub(1, -2) or kept.before
    return { url = kept.url, headers = kept.headers, body = history.body(before, parts, kept.after) }
end

--- forget(conv, err, target): what the server refused is left out from now on: a field of the request, or the
-- signatures of its own earlier answers.
-- @return whether there was anything to leave out
function M.forget(conv, err, target)
    local name = err and err.strip
    if type(name) ~= "string" then
        return history.forget(conv, M.name)
    end
    conv.scratch = conv.scratch or {}
    local all = conv.scratch[DROPPED] or {}
    conv.scratch[DROPPED] = all
    local origin = target and target.origin or ""
    all[origin] = all[origin] or {}
    local new = not all[origin][name]
    all[origin][name] = true
    return new
end

-- The fields that a request to this server had and can do without.
local function droppable(conv, view, target, traits)
    local drop, names = dropped(conv, target), {}
    if traits.stream_usage and not drop.stream_options then
        names[#names + 1] = "stream_options"
    end
    if traits.parallel and view.parallel ~= false and not drop.parallel_tool_calls then
        names[#names + 1] = "parallel_tool_calls"
    end
    if (view.settings or {}).max_tokens and traits.max_tokens == "max_tokens" and not drop.max_tokens then
        names[#names + 1] = "max_tokens"
    end
    return names
end

-- ---- answers ----

-- What is at a path below `...` in a JSON text, as the text itself.
local function raw_in(text, ...)
    local base, n = { ... }, select("#", ...)
    return function(...)
        local path = table.move({ ... }, 1, select("#", ...), n + 1, { table.unpack(base, 1, n) })
        return (json.raw(text, table.unpack(path, 1, n + select("#", ...))))
    end
end

local function start(conv, view, target, res)
    local traits = server.traits(target)
    conv.scratch = conv.scratch or {}
    return answers.new({ name = M.name, target = target, res = res }, conv, view, traits,
        messages.used(conv, target, traits)), traits
end

-- Usage stands at several places.
local function note_usage(draft, value, choice)
    local groq = history.is_object(value.x_groq) and value.x_groq.usage
    for _, usage in ipairs { value.usage or false, groq or false, choice and choice.usage or false } do
        if history.is_object(usage) then
            draft.usage = usage
            return true
        end
    end
    return false
end

local function note_reason(draft, choice)
    local reason = choice.finish_reason
    if type(reason) == "string" and reason ~= "" then
        draft.reason = reason
        return true
    end
    return false
end

-- The choice with index 0 of an answer or a chunk, and its place.
local function first_choice(value)
    for i, choice in ipairs(type(value.choices) == "table" and value.choices or {}) do
        if history.is_object(choice) and (choice.index == 0 or math.type(choice.index) ~= "integer") then
            return choice, i
        end
    end
    return nil
end

--- read(res, conv, view, target) -> answer | nil, err. `res` is { status =, headers =, body = }.
function M.read(res, conv, view, target)
    local traits = server.traits(target)
    if res.status < 200 or res.status > 299 then
        return nil, errors.refused(target, res, droppable(conv, view, target, traits))
    end
    local answer = answers.plain({ name = M.name, target = target, res = res }, conv,
        messages.used(conv, target, traits), res.body or "")
    if answer then
        return answer
    end
    local value, err, body = mend.decode(res.body)
    if err then
        return nil, fault.nonsense(target, res, "is not JSON")
    end
    local e = errors.inside(value)
    if e then
        return nil, errors.described(target, res, e, droppable(conv, view, target, traits))
    end
    local choice, at
    if history.is_object(value) then
        choice, at = first_choice(value)
    end
    local field = choice and (history.is_object(choice.message) and "message" or "delta")
    if not choice or not history.is_object(choice[field]) then
        return nil, fault.nonsense(target, res, "is no answer of Chat Completions")
    end
    local draft = start(conv, view, target, res)
    draft:add(choice[field], raw_in(body, "choices", at, field), nil, true)
    note_usage(draft, value, choice)
    note_reason(draft, choice)
    return draft:finish()
end

-- ---- streams ----

local Reader = {}
Reader.__index = Reader

-- What is picked out of a chunk that has only text: see reader:plain(). What is not here matters nowhere, or not in a
-- chunk with choices.
M.picker = core.picker {
    choices = { {
        index = 2, message = "null", usage = "null", finish_reason = "null", error = "null", ["*"] = "any",
        delta = {
            content = 1, reasoning_content = 3, reasoning = 4, role = "any", refusal = "null", tool_calls = "null",
            function_call = "any", annotations = "any", audio = "any", parsed = "any", index = "any", ["*"] = "null",
        },
    } },
    object = 5, usage = "null", x_groq = "null", error = "null", ["*"] = "any",
}

--- reader(conv, view, target, res) -> reader of a streamed answer; `res` is { status =, headers = }
function M.reader(conv, view, target, res)
    local draft = start(conv, view, target, res)
    return setmetatable({ draft = draft, target = target, res = res, done = false, said = false },
        Reader)
end

--- reader:plain(tell, ...) -> "more" | nil: see the interface of providers.
function Reader:plain(tell, content, index, first, second, object)
    if index ~= 0 and index ~= nil or object == "error" then
        return nil
    end
    local added = self.draft:plain(content, first, second, tell)
    if not added then
        return nil
    end
    self.said = true
    return "more", added == "text"
end

--- reader:again(tell, text): another chunk of which only the content is another.
Reader.TEXT = 1

function Reader:again(tell, text)
    self.draft:add_text(text, tell)
end

-- What an event has that is no JSON object.
local function odd(reader, event)
    if event.event == "error" then
        return nil, errors.described(reader.target, reader.res, event.data)
    elseif not event.data:find("%S") then
        return "idle"
    end
    return nil, fault.nonsense(reader.target, { headers = reader.res.headers, body = event.data },
        "has an event that is not JSON")
end

local function read_chunk(reader, value, data, tell)
    local draft = reader.draft
    local choice, at = first_choice(value)
    local said = note_usage(draft, value, choice)
    if choice and history.is_object(choice.delta) then
        said = draft:add(choice.delta, raw_in(data, "choices", at, "delta"), tell) or said
    end
    if choice and history.is_object(choice.message) then
        said = draft:whole(choice.message, raw_in(data, "choices", at, "message"), tell) or said
    end
    said = choice and note_reason(draft, choice) or said
    reader.said = reader.said or said
    return said and "more" or "idle"
end

--- reader:event(event, tell) -> "more" | "idle" | "end" | nil, err: see the interface of providers.
function Reader:event(event, tell)
    local data = event.data
    if data:find("^%s*%[DONE%]%s*$") then
        if not self.said then
            return nil, fault.broken(self.target, self.res)
        end
        self.done = true
        return "end"
    end
    local value, _, text = mend.decode(data)
    local e = errors.inside(value or nil)
    if not e and not history.is_object(value) then
        return odd(self, event)
    elseif e or event.event == "error" then
        return nil, errors.described(self.target, self.res, e or value)
    end
    return read_chunk(self, value, text, tell)
end

-- The error in lines that were no events: Ollama's bare {"error":...}, older llama.cpp's error: {...}.
local function stray_error(tail)
    for line in tail:gmatch("[^\r\n]+") do
        local named = line:match("^error:%s*({.*)$")
        local value = history.decode(named or line)
        local e = errors.inside(value or nil) or named and history.is_object(value) and value
        if e then
            return e
        end
    end
    return errors.inside(history.decode(tail) or nil)
end

--- reader:finish(tail, tell) -> answer | nil, err: see the interface of providers.
function Reader:finish(tail, tell)
    local e = tail ~= nil and tail ~= "" and stray_error(tail)
    if e then
        return nil, errors.described(self.target, self.res, e)
    elseif not self.done and not self.draft:ended() then
        return nil, fault.broken(self.target, self.res)
    end
    return self.draft:finish(tell)
end

-- ---- models ----

--- models_request(target, page) -> { url =, headers = }: asks for the list of models. There is one page.
function M.models_request(target)
    local headers = headers_of(target, server.traits(target))
    headers.accept = "application/json"
    return { url = url(target, "/models"), headers = headers }
end

local function number_of(...)
    for _, value in ipairs { ... } do
        local count = history.count(value)
        if count > 0 then
            return count
        end
    end
    return nil
end

local function described_model(v)
    local meta = history.is_object(v.meta) and v.meta or {}
    local top = history.is_object(v.top_provider) and v.top_provider or {}
    return {
        id = v.id,
        name = type(v.name) == "string" and v.name ~= v.id and v.name or nil,
        context = number_of(v.context_length or false, v.context_window or false, v.max_model_len or false,
            v.max_context_length or false, meta.n_ctx or false, meta.n_ctx_train or false),
        output = number_of(top.max_completion_tokens or false, v.max_completion_tokens or false),
    }
end

--- read_models(value, target) -> list of { id =, name =, context =, output = } | nil, err
-- @param value the decoded body
function M.read_models(value, target)
    local data = history.is_object(value) and value.data or value
    if type(data) ~= "table" or getmetatable(data) ~= json.array_mt then
        return nil, fault.answer(target, {}, {
            code = "nonsense",
            what = ("the answer of %s is no list of models"):format(target.shown_url or "the server"),
        })
    end
    local list = {}
    for _, v in ipairs(data) do
        if history.is_object(v) and type(v.id) == "string" and v.id ~= "" then
            list[#list + 1] = described_model(v)
        end
    end
    return list
end

return M
