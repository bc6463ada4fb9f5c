-- OpenAI's Responses protocol: POST {base}/responses, stateless (store = false, the whole history each
-- time). A pure translator: request() makes bytes, read() understands an answer; nothing here waits.
--
-- Its own answers go back as the exact texts that came, reasoning with its encrypted content and
-- `phase` of messages included. Answers of other providers are made anew: texts, and calls under ids
-- of our own making (`call_xENTRY_N`); reasoning and unknown items stay away.
local dialect = require "lash.provider.dialect"
local fault = require "lash.provider.fault"
local history = require "lash.provider.history"
local json = require "lash.json"

local M = { name = "openai" }

local quote = history.quote

-- Settings that this protocol has no field for.
M.ignores = { top_k = true, seed = true, stop = true }

-- ---- history -> input items ----

local function native(state, index, entry)
    return entry.provider == M.name and entry.wire ~= nil and index > state.forget
end

local function call_name(name)
    name = (name or ""):gsub("[^%w_-]", "_"):sub(1, 64)
    return name ~= "" and name or "unknown"
end

local function call_item(call, id)
    return ('{"arguments":%s,"call_id":%s,"name":%s,"type":"function_call"}'):format(
        quote(call.args ~= "" and call.args or "{}"), quote(id), quote(call_name(call.name)))
end

local function assistant_text(text, phase)
    return ('{"content":%s%s,"role":"assistant"}'):format(quote(text),
        phase and (',"phase":' .. quote(phase)) or "")
end

-- An id of our own for a foreign call; it depends on what stands before it only.
local function invent(state, index, n)
    local id = ("call_x%d_%d"):format(index, n)
    while state.used[id] do
        id = id .. "x"
    end
    return id
end

local function add_answer(state, index, entry)
    local n = 0
    state.ids = {}
    if native(state, index, entry) then
        for _, raw in ipairs(entry.wire) do
            state.parts[#state.parts + 1] = raw
        end
    end
    for _, item in ipairs(entry.items) do
        if item.type == "call" then
            n = n + 1
            if native(state, index, entry) then
                state.ids[n] = item.wrapper or item.id
            else
                state.ids[n] = invent(state, index, n)
                state.parts[#state.parts + 1] = call_item(item, state.ids[n])
            end
            state.used[state.ids[n]] = true
        elseif not native(state, index, entry) and item.text and item.text ~= ""
            and (item.type == "text" or item.type == "refusal" and not item.by_provider) then
            state.parts[#state.parts + 1] = assistant_text(item.text, entry.provider == M.name and item.phase)
        end
    end
end

local function output_text(outcome)
    if outcome.status == "ok" then
        return outcome.output or ""
    end
    local text = history.fault_text(outcome)
    if outcome.status == "not_run" or text:find("^[Ee]rror") then
        return text
    end
    return "Error: " .. text
end

local function output_item(id, text, caller)
    return ('{"call_id":%s%s,"output":%s,"type":"function_call_output"}'):format(quote(id),
        caller and (',"caller":' .. caller) or "", quote(text))
end

-- One output per call; the calls that came wrapped in one share its output.
local function add_outcomes(state, entry)
    local wrapped, texts = nil, nil
    local function flush()
        if wrapped then
            state.parts[#state.parts + 1] = output_item(wrapped, table.concat(texts, "\n"))
            wrapped = nil
        end
    end
    for n, outcome in ipairs(entry.items) do
        local call, id = state.calls[n], state.ids[n]
        if call.wrapper and id == call.wrapper then
            if wrapped ~= id then
                flush()
                wrapped, texts = id, {}
            end
            texts[#texts + 1] = ("%d. %s: %s"):format(#texts + 1, call.name, output_text(outcome))
        else
            flush()
            state.parts[#state.parts + 1] = output_item(id, output_text(outcome), call.caller)
        end
    end
    flush()
end

local function input(conv)
    local state = history.state(conv, M.name, function()
        return { parts = {}, used = {}, forget = history.forgotten(conv, M.name) }
    end)
    for i = state.upto + 1, #conv.entries do
        local entry = conv.entries[i]
        history.follow(state, i, entry)
        if entry.type == "answer" then
            add_answer(state, i, entry)
        elseif entry.type == "outcomes" then
            add_outcomes(state, entry)
        else
            state.parts[#state.parts + 1] = ('{"content":%s,"role":"user"}'):format(quote(entry.text))
        end
        state.upto = i
    end
    if state.open then
        error("history: the last answer has calls without outcomes")
    end
    return "[" .. table.concat(state.parts, ",") .. "]"
end

--- forget(conv): from now on the answers so far are sent as if another provider had given them, as
-- their encrypted parts were refused (another key or model family).
-- @return whether there was anything to forget
function M.forget(conv)
    return history.forget(conv, M.name)
end

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
local function frame(view, target)
    local settings = view.settings or {}
    local fields = settings_fields(settings)
    fields.model = target.model
    fields.store = false
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
    return { target = target, before = before, after = after }
end

-- view -> its frame: the same for all requests that are made of it
local frames = setmetatable({}, { __mode = "k" })

local function body(conv, view, target)
    local kept, err = frames[view], nil
    if not kept or kept.target ~= target then
        kept, err = frame(view, target)
        if not kept then
            return nil, err
        end
        frames[view] = kept
    end
    return kept.before .. input(conv) .. kept.after
end

local function url(target)
    local base, query = target.base_url:match("^([^?]*)(%??.*)$")
    return base:gsub("/+$", "") .. "/responses" .. query
end

--- request(conv, view, target) -> { url =, headers =, body = } | nil, err
function M.request(conv, view, target)
    conv.scratch = conv.scratch or {}
    local text, why = body(conv, view, target)
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

-- ---- errors ----

local QUOTA = { insufficient_quota = true, credit_balance_exhausted = true, billing_hard_limit_reached = true,
    billing_not_active = true }
local CODES = {
    invalid_api_key = { "key" },
    model_not_found = { "model" },
    context_length_exceeded = { "context" },
    invalid_prompt = { "refused" },
    content_policy_violation = { "refused" },
    unsupported_country_region_territory = { "refused" },
    rate_limit_exceeded = { "rate", true },
    slow_down = { "overloaded", true },
    server_error = { "overloaded", true },
    overloaded = { "overloaded", true },
}

local function text_of(value)
    return type(value) == "string" and value ~= "" and value or nil
end

-- The kind of an error that the server described, by its code, its type, or the HTTP status.
local function kind_of(status, code, kind)
    local words = (code or "") .. " " .. (kind or "")
    if QUOTA[code] or QUOTA[kind] or words:find("usage_limit") or words:find("spend") then
        return "quota", false
    end
    local known = CODES[code] or (status < 400 and CODES[kind])
    if known then
        return known[1], known[2] or false
    end
    return fault.status_kind(status)
end

local function described(target, res, e)
    if type(e) == "string" then
        e = { message = e }
    end
    local code, kind = text_of(e.code), text_of(e.type)
    local status = res.status
    if status < 400 and math.type(e.code) == "integer" and e.code >= 400 and e.code < 600 then
        status = e.code -- gateways write the status so
    end
    local about = { name = code or kind, message = text_of(e.message) }
    about.code, about.retry = kind_of(status, code, kind)
    about.strip = code == "invalid_encrypted_content" or nil
    if status == 404 and about.code == "bad_request" then
        about.what = ("%s was not found"):format(target.shown_url or "the URL")
        about.remedy = ("check %s and the model's name"):format(target.base_var or "the base URL")
    end
    return fault.answer(target, res, about)
end

-- An answer with an error status.
local function failed(target, res)
    local value = history.decode(res.body)
    local e = type(value) == "table" and (value.error or value.detail or value.message) or nil
    if type(e) == "table" or type(e) == "string" then
        return described(target, res, e)
    end
    local code, retry = fault.status_kind(res.status)
    if res.status == 404 or res.status < 400 then
        return fault.answer(target, res, {
            code = "nonsense",
            what = ("%s does not speak the Responses protocol"):format(target.shown_url or "the server"),
        })
    end
    return fault.answer(target, res, { code = code, retry = retry, message = (res.body or ""):sub(1, 200) })
end

-- ---- answer -> items ----

local function joined(parts, kind, field)
    local texts = {}
    for _, part in ipairs(type(parts) == "table" and parts or {}) do
        if type(part) == "table" and part.type == kind and type(part[field]) == "string" then
            texts[#texts + 1] = part[field]
        end
    end
    return table.concat(texts)
end

local function read_message(items, item)
    local text = type(item.content) == "string" and item.content or joined(item.content, "output_text", "text")
    local refusal = joined(item.content, "refusal", "refusal")
    if text ~= "" then
        items[#items + 1] = { type = "text", text = text, phase = text_of(item.phase) }
    end
    if refusal ~= "" then
        items[#items + 1] = { type = "refusal", text = refusal }
    end
end

local function read_reasoning(items, item)
    local text = joined(item.summary, "summary_text", "text")
    if text == "" then
        text = joined(item.content, "reasoning_text", "text")
    end
    items[#items + 1] = { type = "reasoning", text = text }
end

-- The calls inside the undeclared wrapper that some models invent, or nil.
local function unwrap(view, item, args)
    if (item.name ~= "parallel" and item.name ~= "multi_tool_use.parallel") or history.tool_named(view, item.name) then
        return nil
    end
    local value = json.decode(args)
    local uses = type(value) == "table" and value.tool_uses
    if type(uses) ~= "table" or #uses == 0 then
        return nil
    end
    local calls = {}
    for i, use in ipairs(uses) do
        if type(use) ~= "table" or type(use.recipient_name) ~= "string" then
            return nil
        end
        calls[i] = { type = "call", name = use.recipient_name:gsub("^functions%.", ""),
            args = json.raw(args, "tool_uses", i, "parameters") or "{}" }
    end
    return calls
end

-- One call. Returns its wire text: the raw one, unless the id or name has to be another.
local function read_call(reader, item, raw)
    local args = item.arguments
    if type(args) == "table" then
        args = json.raw(raw, "arguments")
    end
    args = type(args) == "string" and args or ""
    local name = type(item.name) == "string" and item.name or ""
    local id = reader.id_for(item.call_id, reader.calls + 1)
    local cut = item.status == "incomplete" or (reader.cut and args ~= "" and not json.decode(args))
    local wrapped = not cut and unwrap(reader.view, item, args)
    if wrapped then
        for i, call in ipairs(wrapped) do
            call.wrapper = id
            call.id = reader.id_for(("%s_%d"):format(id, i), reader.calls + i)
            reader.items[#reader.items + 1] = call
        end
        reader.calls = reader.calls + #wrapped
    else
        local call = { type = "call", id = id, name = name, args = args }
        if cut then
            call.complete = false
        end
        if type(item.caller) == "table" and item.caller.type ~= "direct" then
            call.caller = json.raw(raw, "caller")
        end
        reader.items[#reader.items + 1] = call
        reader.calls = reader.calls + 1
    end
    if id ~= item.call_id or args ~= item.arguments or call_name(name) ~= item.name then
        item.call_id, item.arguments, item.name = id, args, call_name(name)
        return assert(json.encode(item))
    end
    return raw
end

-- What only comes and must not go back.
local function stripped(item, raw)
    if item.created_by == nil and item.parsed == nil and item.parsed_arguments == nil then
        return raw
    end
    item.created_by, item.parsed, item.parsed_arguments = nil, nil, nil
    return assert(json.encode(item))
end

local function read_items(reader, output, raws)
    local wire, kinds = {}, {}
    for i, item in ipairs(output) do
        local raw = stripped(item, raws[i])
        if item.type == "message" then
            read_message(reader.items, item)
        elseif item.type == "reasoning" then
            read_reasoning(reader.items, item)
        elseif item.type == "function_call" then
            raw = read_call(reader, item, raw)
        else
            reader.items[#reader.items + 1] = { type = "opaque", kind = text_of(item.type) }
        end
        wire[i], kinds[i] = raw, item.type
    end
    -- Reasoning that led to nothing (the answer was cut) would be refused when it comes back.
    while kinds[#wire] == "reasoning" do
        wire[#wire] = nil
    end
    return wire
end

local function read_usage(usage)
    usage = type(usage) == "table" and usage or {}
    local input_details = type(usage.input_tokens_details) == "table" and usage.input_tokens_details or {}
    local output_details = type(usage.output_tokens_details) == "table" and usage.output_tokens_details or {}
    local counts = {
        input = history.count(usage.input_tokens),
        output = history.count(usage.output_tokens),
        cached = history.count(input_details.cached_tokens),
        reasoning = history.count(output_details.reasoning_tokens),
        total = history.count(usage.total_tokens),
    }
    if counts.total == 0 then
        counts.total = counts.input + counts.output
    end
    return counts
end

local function stop_of(value, items)
    if value.status == "incomplete" then
        local details = value.incomplete_details
        local reason = type(details) == "table" and details.reason
        return reason == "content_filter" and "filter" or "length"
    end
    local refused, said = false, false
    for _, item in ipairs(items) do
        if item.type == "call" then
            return "calls"
        end
        refused = refused or item.type == "refusal"
        said = said or item.type == "text"
    end
    return refused and not said and "refusal" or "end"
end

local DONE = { completed = true, incomplete = true }

local function is_answer(value)
    if not history.is_object(value) or type(value.output) ~= "table" or getmetatable(value.output) ~= json.array_mt then
        return false
    end
    for _, item in ipairs(value.output) do
        if not history.is_object(item) then
            return false
        end
    end
    return true
end

--- read(res, conv, view, target) -> answer | nil, err. `res` is { status =, headers =, body = }.
function M.read(res, conv, view, target)
    if res.status < 200 or res.status > 299 then
        return nil, failed(target, res)
    end
    local value, err = history.decode(res.body)
    if err then
        return nil, fault.nonsense(target, res, "is not JSON")
    end
    local e = type(value) == "table" and value.error
    if e and e ~= json.null then
        return nil, described(target, res, e)
    elseif not is_answer(value) then
        return nil, fault.nonsense(target, res, "is no answer of the Responses protocol")
    elseif value.status == "failed" then
        return nil, fault.answer(target, res, { code = "overloaded", retry = true, name = "failed" })
    elseif value.status ~= nil and not DONE[value.status] then
        return nil, fault.nonsense(target, res, ("has the status '%s'"):format(tostring(value.status)))
    end
    conv.scratch = conv.scratch or {}
    local state = conv.scratch[M.name]
    local reader = { items = {}, calls = 0, view = view, cut = value.status == "incomplete",
        id_for = history.namer(conv, state and state.used) }
    local wire = read_items(reader, value.output, json.elements(json.raw(res.body, "output")))
    return {
        type = "answer",
        provider = M.name,
        model = target.model,
        items = reader.items,
        wire = wire,
        usage = read_usage(value.usage),
        stop = stop_of(value, reader.items),
        request_id = fault.header(res, "x-request-id"),
    }
end

return M
