-- The history of a conversation -> the `input` of a request in OpenAI's Responses protocol.
--
-- What this server gave goes back as the exact texts that came, reasoning with its encrypted content and
-- `phase` of messages included. Answers of others are made anew: texts, and calls under ids of our own making
-- (`call_xENTRY_N`); reasoning and unknown items stay away.
local answers = require "lash.provider.openai.answer"
local history = require "lash.provider.history"

local M = {}

local NAME = "openai"
local quote = history.quote

local function ours(state, entry)
    return entry.provider == NAME and entry.origin == state.origin
end

local function native(state, index, entry)
    return ours(state, entry) and entry.wire ~= nil and index > state.forget
end

-- ---- answers and outcomes ----

local function call_item(call, id)
    return ('{"arguments":%s,"call_id":%s,"name":%s,"type":"function_call"}'):format(
        quote(history.object_text(call.args) or "{}"), quote(id), quote(answers.call_name(call.name)))
end

local function assistant_text(text, phase)
    return ('{"content":%s%s,"role":"assistant"}'):format(quote(text),
        phase and (',"phase":' .. quote(phase)) or "")
end

local function add_native(state, entry)
    local n = 0
    for _, raw in ipairs(entry.wire) do
        state.parts[#state.parts + 1] = raw
    end
    for _, item in ipairs(entry.items) do
        if item.type == "call" then
            n = n + 1
            state.ids[n] = item.wrapper or item.id
            state.used[state.ids[n]] = true
        end
    end
end

local function add_foreign(state, index, entry)
    local n = 0
    for _, item in ipairs(entry.items) do
        if item.type == "call" then
            n = n + 1
            state.ids[n] = history.invent(state.used, "call", index, n)
            state.used[state.ids[n]] = true
            state.parts[#state.parts + 1] = call_item(item, state.ids[n])
        elseif item.text and item.text ~= "" and (item.type == "text"
            or item.type == "refusal" and not item.by_provider) then
            state.parts[#state.parts + 1] = assistant_text(item.text, ours(state, entry) and item.phase)
        end
    end
end

local function add_answer(state, index, entry)
    state.ids = {}
    if native(state, index, entry) then
        add_native(state, entry)
    else
        add_foreign(state, index, entry)
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
            state.parts[#state.parts + 1] = output_item(id, output_text(outcome), not state.foreign and call.caller)
        end
    end
    flush()
end

-- ---- messages of the user ----

local PARTS = {
    text = function(part)
        return type(part.text) == "string" and ('{"text":%s,"type":"input_text"}'):format(quote(part.text))
    end,
    image = function(part)
        local url = type(part.url) == "string" and part.url or history.data_url(part)
        return url and ('{"detail":%s,"image_url":%s,"type":"input_image"}'):format(
            quote(type(part.detail) == "string" and part.detail or "auto"), quote(url))
    end,
    file = function(part)
        local data = history.data_url(part)
        return data and ('{"file_data":%s,"filename":%s,"type":"input_file"}'):format(quote(data),
            quote(type(part.name) == "string" and part.name or "file"))
    end,
}

-- @return JSON text | nil, why not
local function user_message(entry)
    if not entry.parts or #entry.parts == 0 then
        return ('{"content":%s,"role":"user"}'):format(quote(entry.text))
    end
    local parts, why = history.parts(entry, PARTS, "the Responses protocol")
    if not parts then
        return nil, why
    end
    return ('{"content":[%s],"role":"user"}'):format(parts)
end

-- ---- all of it ----

-- The memory of a conversation for one server: what is native depends on where an answer came from.
local function scratch_name(target)
    return NAME .. "@" .. (target.origin or "")
end

local function state_of(conv, target)
    local name, forget = scratch_name(target), history.forgotten(conv, NAME)
    local known = conv.scratch[name]
    if known and known.forget ~= forget then
        conv.scratch[name] = nil
    end
    return history.state(conv, name, function()
        return { parts = {}, used = {}, forget = forget, origin = target.origin }
    end)
end

local function add(state, index, entry)
    if entry.type == "answer" then
        state.foreign = not native(state, index, entry)
        add_answer(state, index, entry)
    elseif entry.type == "outcomes" then
        add_outcomes(state, entry)
    else
        local text, why = user_message(entry)
        if not text then
            return why
        end
        state.parts[#state.parts + 1] = text
    end
    return nil
end

--- input(conv, target) -> JSON array | nil, why a part cannot be sent. Made once for each entry.
function M.input(conv, target)
    conv.scratch = conv.scratch or {}
    local state = state_of(conv, target)
    local why = history.continue(state, conv, add)
    if why then
        return nil, why
    end
    return "[" .. table.concat(state.parts, ",") .. "]"
end

--- used(conv, target) -> the ids that were invented for foreign calls: no call of this server may have one.
function M.used(conv, target)
    conv.scratch = conv.scratch or {}
    local state = conv.scratch[scratch_name(target)]
    return state and state.used
end

return M
