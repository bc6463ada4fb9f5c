-- Google's generateContent (the Gemini API with a key): POST {base}/v1beta/models/NAME:generateContent.
-- A pure translator: request() makes bytes, read() understands an answer; nothing here waits.
--
-- The parts of its own answers go back as the exact texts that came, each with its thought signature.
-- Answers of other providers are made anew: texts, and calls without any id, of which the first of
-- each content carries the documented dummy signature; reasoning and unknown items stay away.
local dialect = require "lash.provider.dialect"
local fault = require "lash.provider.fault"
local history = require "lash.provider.history"
local json = require "lash.json"

local M = { name = "gemini" }

local quote = history.quote

local DUMMY = "skip_thought_signature_validator"

M.ignores = { verbosity = true }

-- ---- history -> contents ----

local function native(state, index, entry)
    return entry.provider == M.name and entry.wire ~= nil and index > state.forget
end

local function call_name(name)
    name = (name or ""):gsub("[^%w_.:-]", "_"):sub(1, 128)
    return name:find("^[%a_]") and name or "_" .. name:sub(1, 127)
end

-- A call that another provider's model made. Arguments that are no object are shown as what they are.
local function call_part(call, first)
    local args = call.args ~= "" and call.args or "{}"
    args = history.object_text(args) or ('{"invalid_arguments":%s}'):format(quote(args))
    return ('{"functionCall":{"args":%s,"name":%s}%s}'):format(args, quote(call_name(call.name)),
        first and (',"thoughtSignature":"%s"'):format(DUMMY) or "")
end

local function foreign_parts(entry)
    local parts, first = {}, true
    for _, item in ipairs(entry.items) do
        if item.type == "call" then
            parts[#parts + 1] = call_part(item, first)
            first = false
        elseif item.text and item.text ~= ""
            and (item.type == "text" or item.type == "refusal" and not item.by_provider) then
            parts[#parts + 1] = ('{"text":%s}'):format(quote(item.text))
        end
    end
    return parts
end

-- Contents of one role that follow each other are one content, but outcomes always stand alone.
local function append(state, role, parts)
    local last = state.contents[#state.contents]
    if #parts == 0 then
        return
    elseif not last or last.role ~= role then
        last = { role = role, parts = {} }
        state.contents[#state.contents + 1] = last
    end
    table.move(parts, 1, #parts, #last.parts + 1, last.parts)
    last.text = nil
end

local function response(outcome)
    if outcome.status ~= "ok" then
        return '{"error":' .. quote(history.fault_text(outcome)) .. "}"
    end
    local text = outcome.output or ""
    return '{"output":' .. (history.container_text(text) or quote(text)) .. "}"
end

local function add_outcomes(state, entry)
    local parts = {}
    for n, outcome in ipairs(entry.items) do
        local call = state.calls[n]
        local id = state.native and call.wire_id
        parts[n] = ('{"functionResponse":{%s"name":%s,"response":%s}}'):format(
            id and ('"id":%s,'):format(quote(id)) or "", quote(call_name(call.name)), response(outcome))
    end
    append(state, "outcomes", parts)
end

local function content_text(content)
    if not content.text then
        content.text = ('{"parts":[%s],"role":"%s"}'):format(table.concat(content.parts, ","),
            content.role == "model" and "model" or "user")
    end
    return content.text
end

-- All contents but the last are final: their parts are let go, their texts kept.
local function contents_json(state)
    local texts = {}
    for i, content in ipairs(state.contents) do
        texts[i] = content_text(content)
        if i < #state.contents then
            content.parts = nil
        end
    end
    return "[" .. table.concat(texts, ",") .. "]"
end

local function contents(conv)
    local state = history.state(conv, M.name, function()
        return { contents = {}, forget = history.forgotten(conv, M.name) }
    end)
    for i = state.upto + 1, #conv.entries do
        local entry = conv.entries[i]
        history.follow(state, i, entry)
        if entry.type == "answer" then
            state.native = native(state, i, entry)
            append(state, "model", state.native and entry.wire or foreign_parts(entry))
        elseif entry.type == "outcomes" then
            add_outcomes(state, entry)
        elseif entry.text ~= "" then
            append(state, "user", { ('{"text":%s}'):format(quote(entry.text)) })
        end
        state.upto = i
    end
    if state.open then
        error("history: the last answer has calls without outcomes")
    elseif #state.contents == 0 then
        return nil, "there is no text to send: Gemini takes no empty conversation"
    end
    return contents_json(state)
end

--- forget(conv): from now on the answers so far are sent as if another provider had given them, as
-- their signatures were refused (another key or model).
-- @return whether there was anything to forget
function M.forget(conv)
    return history.forget(conv, M.name)
end

-- ---- the rest of the body ----

local declarations = history.encoder(function(tool)
    return {
        name = tool.name,
        description = tool.description or "",
        parametersJsonSchema = dialect.gemini(tool.schema),
    }
end)

local function tools_json(tools)
    return '{"functionDeclarations":[' .. declarations(tools) .. "]}"
end

local function calling(choice)
    if choice == "none" then
        return { mode = "NONE" }
    elseif choice == "required" then
        return { mode = "ANY" }
    elseif type(choice) == "table" then
        return { mode = "ANY", allowedFunctionNames = json.array { choice.name } }
    end
    return { mode = "AUTO" }
end

local LEVELS = { none = "MINIMAL", minimal = "MINIMAL", low = "LOW", medium = "MEDIUM", high = "HIGH",
    xhigh = "HIGH", max = "HIGH" }
local BUDGETS = { none = 0, minimal = 512, low = 1024, medium = 8192, high = 24576, xhigh = 24576, max = 24576 }

-- The 2.5 family counts the tokens of thinking, later ones have levels. 2.5 pro cannot do without.
local function thinking(effort, model)
    if not model:find("gemini%-2") then
        return { thinkingLevel = LEVELS[effort] or effort:upper() }
    end
    local budget = BUDGETS[effort] or BUDGETS.medium
    return { thinkingBudget = model:find("pro") and math.max(budget, 128) or budget }
end

local function generation(view, settings, target)
    local config = {
        maxOutputTokens = settings.max_tokens,
        temperature = settings.temperature,
        topP = settings.top_p,
        topK = settings.top_k,
        seed = settings.seed,
        stopSequences = type(settings.stop) == "string" and json.array { settings.stop } or settings.stop,
        thinkingConfig = settings.effort and thinking(settings.effort, target.model) or nil,
    }
    if view.output then
        config.responseMimeType = "application/json"
        config.responseJsonSchema = dialect.gemini(view.output.schema) or { type = "object" }
    end
    return next(config) and config or nil
end

local OURS = { contents = true, model = true }

local function body(conv, view, target)
    local settings = view.settings or {}
    local fields = { generationConfig = generation(view, settings, target) }
    if view.system and view.system ~= "" then
        fields.systemInstruction = { parts = json.array { { text = view.system } }, role = "user" }
    end
    local extra = {}
    for name, value in pairs(settings[M.name] or {}) do
        if OURS[name] then
            return nil, ("settings.gemini.%s is lash's own to send"):format(tostring(name))
        end
        extra[name] = value
    end
    local raw, why = {}, nil
    raw.contents, why = contents(conv)
    if not raw.contents then
        return nil, why
    end
    local tools = {}
    if view.tools and #view.tools > 0 then
        tools[1] = tools_json(view.tools)
        fields.toolConfig = { functionCallingConfig = calling(view.tool_choice) }
    end
    for _, tool in ipairs(extra.tools or {}) do
        local text, err = json.encode(tool, { name = "settings.gemini.tools" })
        if not text then
            return nil, err.message
        end
        tools[#tools + 1] = text
    end
    extra.tools = nil
    if tools[1] then
        raw.tools = "[" .. table.concat(tools, ",") .. "]"
    end
    history.merge(fields, extra)
    return history.object(fields, raw)
end

local function url(target)
    local base = target.base_url:gsub("/+$", "")
    if not base:find("/v1%a*%d*$") then
        base = base .. "/" .. (target.api_version or "v1beta")
    end
    local model = target.model:gsub("[^%w%-._~/]", function(c)
        return ("%%%02X"):format(c:byte())
    end)
    if not model:find("^models/") and not model:find("^tunedModels/") then
        model = "models/" .. model
    end
    return ("%s/%s:generateContent"):format(base, model)
end

--- request(conv, view, target) -> { url =, headers =, body = } | nil, err
function M.request(conv, view, target)
    conv.scratch = conv.scratch or {}
    local text, why = body(conv, view, target)
    if not text then
        return nil, fault.new { code = "bad_request", exit = 64, message = "gemini: " .. why }
    end
    return {
        url = url(target),
        headers = { ["content-type"] = "application/json", accept = "application/json",
            ["x-goog-api-key"] = target.key },
        body = text,
    }
end

-- ---- errors ----

-- What the details of an error say: delay of RetryInfo in seconds, reasons, whether a daily quota.
local function read_details(details)
    local found = { reasons = {} }
    for _, detail in ipairs(type(details) == "table" and details or {}) do
        if type(detail) == "table" then
            local delay = type(detail.retryDelay) == "string" and detail.retryDelay or ""
            local number, unit = delay:match("^(%d+%.?%d*)(m?s)$")
            if number then
                found.after = tonumber(number) / (unit == "ms" and 1000 or 1)
            end
            if type(detail.reason) == "string" then
                found.reasons[detail.reason] = true
            end
            for _, violation in ipairs(type(detail.violations) == "table" and detail.violations or {}) do
                local id = type(violation) == "table" and violation.quotaId
                found.daily = found.daily or type(id) == "string" and id:find("PerDay") ~= nil
            end
        end
    end
    return found
end

local RETRY = { UNAVAILABLE = true, INTERNAL = true, UNKNOWN = true, DEADLINE_EXCEEDED = true }

local function kind_of(status, name, message, details)
    local text = (message or ""):lower()
    if details.reasons.API_KEY_INVALID or details.reasons.API_KEY_EXPIRED or text:find("api key not valid")
        or status == 401 or status == 403 then
        return "key", false
    elseif status == 404 then
        return "model", false
    elseif name == "FAILED_PRECONDITION" then
        return "refused", false
    elseif status == 429 then
        return details.daily and "quota" or "rate", not details.daily
    elseif text:find("token count") and text:find("exceed") then
        return "context", false
    elseif RETRY[name] then
        return "overloaded", true
    end
    return fault.status_kind(status)
end

local function described(target, res, e)
    local status = res.status
    if status < 400 and math.type(e.code) == "integer" then
        status = e.code
    end
    local name = type(e.status) == "string" and e.status or nil
    local message = type(e.message) == "string" and e.message or nil
    local details = read_details(e.details)
    local about = { name = name, message = message, after = details.after }
    about.code, about.retry = kind_of(status, name, message, details)
    if details.reasons.API_KEY_INVALID then
        about.name = "API_KEY_INVALID"
    end
    if message and message:lower():find("thought signature") and status == 400
        and (message:find("[Cc]orrupted") or message:find("[Ii]nvalid")) then
        about.strip = true
    end
    return fault.answer(target, res, about)
end

-- The error of a body: an object, or an array with one.
local function error_in(value)
    if type(value) == "table" and type(value[1]) == "table" then
        value = value[1]
    end
    local e = type(value) == "table" and value.error
    return type(e) == "table" and e or nil
end

local function failed(target, res)
    local e = error_in(history.decode(res.body) or nil)
    if e then
        return described(target, res, e)
    end
    local code, retry = fault.status_kind(res.status)
    if res.status == 404 or res.status < 400 then
        return fault.answer(target, res, {
            code = "nonsense",
            what = ("%s does not speak Gemini's protocol"):format(target.shown_url or "the server"),
        })
    end
    return fault.answer(target, res, { code = code, retry = retry, message = (res.body or ""):sub(1, 200) })
end

-- ---- answer -> items ----

-- Pieces of one text are one item, unless something stands between.
local function add_text(items, kind, text)
    local last = items[#items]
    if last and last.type == kind then
        last.text = last.text .. text
    elseif text ~= "" then
        items[#items + 1] = { type = kind, text = text }
    end
end

-- A call part; the id that goes back is the given one, made unique in this answer.
local function read_call(reader, part, raw)
    local call = part.functionCall
    local given = type(call.id) == "string" and call.id ~= "" and call.id or nil
    local item = {
        type = "call",
        name = type(call.name) == "string" and call.name or "",
        args = type(call.args) == "table" and json.raw(raw, "functionCall", "args") or "{}",
        wire_id = given,
    }
    reader.calls = reader.calls + 1
    item.id = reader.id_for(given, reader.calls)
    reader.items[#reader.items + 1] = item
    local try = 1
    while item.wire_id and reader.wire_ids[item.wire_id] do
        try = try + 1
        item.wire_id = ("%s_%d"):format(given, try)
    end
    if item.wire_id then
        reader.wire_ids[item.wire_id] = true
    end
    if item.wire_id ~= given or call_name(item.name) ~= call.name then
        call.id, call.name = item.wire_id, call_name(item.name)
        call.args = call.args and json.verbatim(item.args)
        return assert(json.encode(part))
    end
    return raw
end

local function read_part(reader, part, raw)
    if history.is_object(part.functionCall) then
        return read_call(reader, part, raw)
    elseif type(part.text) == "string" then
        add_text(reader.items, part.thought == true and "reasoning" or "text", part.text)
        return (part.text ~= "" or part.thoughtSignature ~= nil) and raw or nil
    elseif next(part) ~= nil then
        reader.items[#reader.items + 1] = { type = "opaque" }
        return raw
    end
    return nil -- an empty part would be refused
end

local function read_usage(usage)
    usage = type(usage) == "table" and usage or {}
    local count = history.count
    local counts = {
        input = count(usage.promptTokenCount) + count(usage.toolUsePromptTokenCount),
        output = count(usage.candidatesTokenCount) + count(usage.thoughtsTokenCount),
        cached = count(usage.cachedContentTokenCount),
        reasoning = count(usage.thoughtsTokenCount),
        total = count(usage.totalTokenCount),
    }
    if counts.total == 0 then
        counts.total = counts.input + counts.output
    end
    return counts
end

-- Ends that say no to what was asked.
local REFUSALS = { SAFETY = true, RECITATION = true, LANGUAGE = true, BLOCKLIST = true, PROHIBITED_CONTENT = true,
    SPII = true, IMAGE_SAFETY = true, IMAGE_PROHIBITED_CONTENT = true, IMAGE_RECITATION = true }
-- Ends that another attempt may avoid.
local MISSTEPS = { MALFORMED_FUNCTION_CALL = true, UNEXPECTED_TOOL_CALL = true, MALFORMED_RESPONSE = true,
    TOO_MANY_TOOL_CALLS = true }

local function refusal(reader, text)
    reader.items[#reader.items + 1] = { type = "refusal", text = text, by_provider = true }
    return "refusal"
end

-- How the answer ended: one of the words of an answer's `stop`, or nil, err.
local function stop_of(target, res, reader, reason, message)
    local empty = #reader.items == 0
    if REFUSALS[reason] then
        return refusal(reader, ("Gemini stopped the answer: %s%s"):format(reason,
            message and (" (" .. fault.clean(message) .. ")") or ""))
    elseif MISSTEPS[reason] then
        return nil, fault.answer(target, res, { code = "nonsense", retry = true, name = reason, message = message,
            what = "the model made a call that is none", remedy = "try again, or simplify the tools' parameters" })
    elseif reason == "MAX_TOKENS" or reason == "CONTINUATION" then
        return "length"
    elseif empty and (reason == nil or reason == "STOP") then
        return nil, fault.answer(target, res, { code = "nonsense", retry = true, what = "the answer is empty",
            name = reason or "no finishReason", remedy = "try again" })
    elseif reason == nil or reason == "STOP" then
        return reader.calls > 0 and "calls" or "end"
    elseif empty then
        return nil, fault.answer(target, res, { code = "overloaded", retry = true, name = reason, message = message,
            what = "the model gave no answer" })
    end
    return "error"
end

local function read_parts(reader, body_text, content)
    local wire = {}
    local parts = history.is_object(content) and content.parts
    if type(parts) ~= "table" or getmetatable(parts) ~= json.array_mt then
        return wire
    end
    local raws = json.elements(json.raw(body_text, "candidates", 1, "content", "parts"))
    for i, part in ipairs(parts) do
        if history.is_object(part) then
            wire[#wire + 1] = read_part(reader, part, raws[i])
        end
    end
    return wire
end

local function answer_of(target, value, reader, wire, stop)
    return {
        type = "answer",
        provider = M.name,
        model = target.model,
        items = reader.items,
        wire = wire,
        usage = read_usage(value.usageMetadata),
        stop = stop,
        request_id = type(value.responseId) == "string" and value.responseId or nil,
    }
end

-- Why there is no candidate: nil, or the reason for which the prompt was blocked.
local function blocked(value)
    local feedback = value.promptFeedback
    local reason = type(feedback) == "table" and feedback.blockReason
    return type(reason) == "string" and reason or nil
end

--- read(res, conv, view, target) -> answer | nil, err. `res` is { status =, headers =, body = }.
function M.read(res, conv, view, target) -- luacheck: ignore view
    if res.status < 200 or res.status > 299 then
        return nil, failed(target, res)
    end
    local value, err = history.decode(res.body)
    if err then
        return nil, fault.nonsense(target, res, "is not JSON")
    end
    local e = error_in(value)
    if e then
        return nil, described(target, res, e)
    elseif not history.is_object(value) or (value.candidates == nil and value.promptFeedback == nil
        and value.usageMetadata == nil) then
        return nil, fault.nonsense(target, res, "is no answer of Gemini's protocol")
    end
    conv.scratch = conv.scratch or {}
    local reader = { items = {}, calls = 0, wire_ids = {}, id_for = history.namer(conv) }
    local candidate = type(value.candidates) == "table" and value.candidates[1]
    if not history.is_object(candidate) then
        local reason = blocked(value)
        if not reason then
            return nil, fault.answer(target, res, { code = "nonsense", retry = true, what = "the answer is empty",
                name = "no candidates", remedy = "try again" })
        end
        refusal(reader, ("Gemini blocked the prompt: %s"):format(reason))
        return answer_of(target, value, reader, {}, "refusal")
    end
    local wire = read_parts(reader, res.body, candidate.content)
    local message = type(candidate.finishMessage) == "string" and candidate.finishMessage or nil
    local reason = type(candidate.finishReason) == "string" and candidate.finishReason or nil
    local stop, why = stop_of(target, res, reader, reason, message)
    if not stop then
        return nil, why
    end
    return answer_of(target, value, reader, wire, stop)
end

return M
