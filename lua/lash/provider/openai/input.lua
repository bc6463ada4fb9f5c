-- The history of a conversation -> the `input` of a request in OpenAI's Responses protocol.
--
-- What this server gave goes back as the exact texts that came, reasoning with its encrypted content and
-- `phase` of messages included. Answers of others are made anew: texts, and calls under ids of our own making
-- (`call_xENTRY_N`); reasoning and unknown items stay away.
local answers = require "lash.provider.openai.answer"
local history = require "lash.provider.history"

local M = {}

local NAME = "openai"
local FORGET = history.forget_key(NAME)
local compose, quote = history.compose, history.quote

local function ours(state, entry)
    return entry.provider == NAME and entry.origin == state.origin
end

local function native(state, index, entry)
    return entry.provider == NAME and entry.origin == state.origin and entry.wire ~= nil and index > state.forget
end

-- ---- answers and outcomes ----

local function call_item(call, id)
    return compose('{"arguments":', history.object_text(call.args) or "{}", ',"call_id":', id, ',"name":',
        answers.call_name(call.name), ',"type":"function_call"}')
end

local function assistant_text(text, phase)
    return ('{"content":%s%s,"role":"assistant"}'):format(quote(text),
        phase and (',"phase":' .. quote(phase)) or "")
end

-- The id that a call of this server goes back under.
local function own_id(call)
    return call.wrapper or call.id
end

local function add_native(state, entry)
    if entry.wire ~= "" then
        state.parts[#state.parts + 1] = entry.wire
    end
    if state.used then
        for _, call in ipairs(state.calls) do
            state.used[own_id(call)] = true
        end
    end
end

-- The ids that no call of another provider may get: those of all answers before, as they went back.
local function used_before(state, index, conv)
    local used = {}
    for i = 1, index - 1 do
        local entry = conv.entries[i]
        for _, call in ipairs(entry.type == "answer" and native(state, i, entry) and entry.items or {}) do
            if call.type == "call" then
                used[own_id(call)] = true
            end
        end
    end
    return used
end

local function add_foreign(state, index, entry, conv)
    local n = 0
    state.used = state.used or used_before(state, index, conv)
    state.ids = {}
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

local function add_answer(state, index, entry, conv)
    local foreign = not native(state, index, entry)
    state.foreign = foreign
    if foreign then
        add_foreign(state, index, entry, conv)
    else
        add_native(state, entry)
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

local OUTPUT_END = ',"type":"function_call_output"}'

local function output_item(id, text, caller)
    if caller then
        return compose('{"call_id":', id, ',"caller":' .. caller .. ',"output":', text, OUTPUT_END)
    end
    return compose('{"call_id":', id, ',"output":', text, OUTPUT_END)
end

-- The calls that came wrapped in one share its output. @return how many these are, from the n-th on
local function add_wrapped(state, entry, n)
    local wrapper, texts = state.calls[n].wrapper, {}
    while state.calls[n] and state.calls[n].wrapper == wrapper do
        texts[#texts + 1] = ("%d. %s: %s"):format(#texts + 1, state.calls[n].name, output_text(entry.items[n]))
        n = n + 1
    end
    state.parts[#state.parts + 1] = output_item(wrapper, table.concat(texts, "\n"))
    return #texts
end

-- One output per call.
local function add_outcomes(state, entry)
    local items, calls, foreign, parts = entry.items, state.calls, state.foreign, state.parts
    local n, last = 1, #items
    while n <= last do
        local call, item = calls[n], items[n]
        if call.wrapper and not foreign then
            n = n + add_wrapped(state, entry, n)
        else
            local text = item.status == "ok" and item.output or output_text(item)
            if foreign then
                parts[#parts + 1] = output_item(state.ids[n], text)
            elseif call.caller then
                parts[#parts + 1] = output_item(call.id, text, call.caller)
            else -- as output_item makes it
                parts[#parts + 1] = compose('{"call_id":', call.id, ',"output":', text, OUTPUT_END)
            end
            n = n + 1
        end
    end
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
        return '{"content":' .. quote(entry.text) .. ',"role":"user"}'
    end
    local parts, why = history.parts(entry, PARTS, "the Responses protocol")
    if not parts then
        return nil, why
    end
    return ('{"content":[%s],"role":"user"}'):format(parts)
end

-- ---- all of it ----

-- target -> the name of the memory of a conversation for its server: what is native depends on where an answer came
-- from
local names = setmetatable({}, { __mode = "k", __index = function(names, target)
    names[target] = NAME .. "@" .. (target.origin or "")
    return names[target]
end })

local function state_of(conv, target)
    local scratch = conv.scratch
    if not scratch then
        scratch = {}
        conv.scratch = scratch
    end
    local name, forget = names[target], scratch[FORGET] or 0
    local state = scratch[name]
    if not state or state.forget ~= forget or state.upto > #conv.entries then
        state = {
            parts = { nil, nil, nil, nil }, -- room for a few at once
            forget = forget, origin = target.origin, upto = 0, open = false, calls = false, foreign = false,
        }
        scratch[name] = state
    end
    return state
end

local function add(state, index, entry, conv)
    if entry.type == "answer" then
        add_answer(state, index, entry, conv)
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

--- items(conv, target) -> list of JSON texts | nil, why a part cannot be sent. Each is made once.
function M.items(conv, target)
    local state = state_of(conv, target)
    local why = history.continue(state, conv, add)
    if why then
        return nil, why
    end
    return state.parts
end

--- used(conv, target) -> the ids that were made for calls of others, and more: no call of this server may have one;
-- nil when there are none
function M.used(conv, target)
    local state = conv.scratch and conv.scratch[names[target]]
    return state and state.used
end

return M
