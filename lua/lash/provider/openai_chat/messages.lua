-- The history of a conversation -> the `messages` of a request in the Chat Completions protocol.
--
-- What this server gave goes back with the fields that lash does not know. Answers of others are made anew:
-- texts, and calls under ids of our own making. Reasoning goes back to the server that gave it, only where it
-- belongs to the calls that are being answered, as DeepSeek and Ollama want it; OpenRouter's
-- reasoning_details go back always.
local history = require "lash.provider.history"
local merge = require "lash.provider.openai_chat.merge"

local M = {}

local NAME = "openai-chat"
local NOTHING = {}
local compose, quote, object = history.compose, history.quote, merge.object

-- Google's layer wants a signature with the calls of others, too: the documented one for those without.
local UNSIGNED = '{"google":{"thought_signature":"skip_thought_signature_validator"}}'

--- call_name(name) -> the name as the protocol allows it
function M.call_name(name)
    if name and #name <= 64 and name ~= "" and not name:find("[^%w_-]") then
        return name
    end
    name = (name or ""):gsub("[^%w_-]", "_"):sub(1, 64)
    return name ~= "" and name or "unknown"
end

local function native(state, index, entry)
    return entry.provider == NAME and entry.origin == state.origin and entry.wire ~= nil and index > state.forget
end

-- ---- ids ----

local DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

-- A number as exactly `length` letters and digits.
local function digits(number, length)
    local text = ""
    for _ = 1, length do
        local at = number % 36 + 1
        text, number = DIGITS:sub(at, at) .. text, number // 36
    end
    return text
end

-- An id of our own; it depends on what stands before it only.
local function invent(state, index, n)
    local length = state.traits.ids
    if not length then
        return history.invent(state.used, "call", index, n)
    end
    local number = index * 1000 + n
    local id
    repeat
        id = digits(number, length)
        number = number + 1
    until not state.used[id]
    return id
end

local function fits(id, length)
    return not length or #id == length and not id:find("[^%w]")
end

local function id_for(state, index, n, item, wire)
    local id = wire and (wire.id or item.id)
    if not id or state.used[id] or not fits(id, state.traits.ids) then
        id = invent(state, index, n)
    end
    state.used[id] = true
    return id
end

-- ---- answers ----

local function call_text(item, id, wire)
    local args, call_name = history.object_text(item.args) or "{}", M.call_name(item.name)
    if not wire or next(wire.fields or NOTHING) == nil and next(wire.in_function or NOTHING) == nil then
        return compose('{"function":{"arguments":', args, ',"name":', call_name, '},"id":', id,
            ',"type":"function"}')
    end
    local fields, in_function = { id = quote(id), type = '"function"' }, {}
    for name, text in pairs(wire.fields or NOTHING) do
        fields[name] = text
    end
    for name, text in pairs(wire.in_function or NOTHING) do
        in_function[name] = text
    end
    in_function.arguments, in_function.name = quote(args), quote(call_name)
    fields["function"] = object(in_function)
    return object(fields)
end

-- Texts of an answer, joined; what stood apart stays apart.
local function content_of(entry)
    local texts = {}
    for _, item in ipairs(entry.items) do
        if item.text and item.text ~= "" and (item.type == "text"
            or item.type == "refusal" and not item.by_provider) then
            local before = texts[#texts]
            texts[#texts + 1] = before and not before:find("%s$") and "\n\n" .. item.text or item.text
        end
    end
    return table.concat(texts)
end

-- Calls that came wrapped in one go back as that one: they share its id.
local function call_texts(state, index, entry, own)
    local texts, n, wrapper = {}, 0, nil
    state.ids = {}
    for _, item in ipairs(entry.items) do
        if item.type == "call" then
            n = n + 1
            local wire = own and (entry.wire.calls[n] or {}) or nil
            if not own and n == 1 and state.traits.google then
                wire = { fields = { extra_content = UNSIGNED } }
            end
            if own and item.wrapper and item.wrapper == wrapper then
                state.ids[n] = state.ids[n - 1]
            else
                wrapper = own and wire.wrapper and item.wrapper
                local call = wrapper and { id = wrapper, name = wire.wrapper.name, args = wire.wrapper.args } or item
                state.ids[n] = id_for(state, index, n, call, own and wire)
                texts[#texts + 1] = call_text(call, state.ids[n], not state.traits.openai and wire)
            end
        end
    end
    return texts
end

-- The reasoning that the server wants back with its calls: field, text.
local function reasoning_of(entry)
    local field = entry.wire.reasoning
    if (field == "reasoning_content" or field == "reasoning") and not entry.wire.fields.reasoning_details then
        for _, item in ipairs(entry.items) do
            if item.type == "reasoning" then
                return field, item.text
            end
        end
    end
    return nil
end

local function add_answer(state, index, entry)
    local own = native(state, index, entry)
    local content, calls = content_of(entry), call_texts(state, index, entry, own)
    if content == "" and not calls[1] then
        return -- servers refuse an empty message
    end
    local said = content ~= "" and quote(content) or state.traits.content_null
    local back = own and not state.traits.openai
    local at = #state.parts + 1
    if not back or next(entry.wire.fields) == nil and not entry.wire.reasoning then
        state.parts[at] = '{"content":' .. said .. ',"role":"assistant"'
            .. (calls[1] and history.join(',"tool_calls":[', calls, "]}") or "}")
        return
    end
    local fields = { role = '"assistant"', content = said }
    if calls[1] then
        fields.tool_calls = "[" .. table.concat(calls, ",") .. "]"
    end
    for name, text in pairs(entry.wire.fields) do
        fields[name] = text
    end
    state.parts[at] = object(fields)
    local field, text
    if calls[1] then
        field, text = reasoning_of(entry)
    end
    if field then
        state.loop[at] = state.parts[at]
        fields[field] = quote(text)
        state.parts[at] = object(fields)
    end
end

local function output_text(outcome)
    if outcome.status == "ok" then
        return outcome.output and outcome.output ~= "" and outcome.output or "(no output)"
    end
    local text = history.fault_text(outcome)
    if outcome.status == "not_run" or text:find("^[Ee]rror") then
        return text
    end
    return "Error: " .. text
end

local function numbered(calls, items, first, last)
    local texts = {}
    for n = first, last do
        texts[#texts + 1] = ("%d. %s: %s"):format(#texts + 1, calls[n].name, output_text(items[n]))
    end
    return table.concat(texts, "\n")
end

-- One message per call; calls that came wrapped in one share it.
local function add_outcomes(state, entry)
    local n, ids = 1, state.ids
    while n <= #entry.items do
        local first, id = n, ids[n]
        while ids[n + 1] == id do
            n = n + 1
        end
        local text = first == n and output_text(entry.items[n]) or numbered(state.calls, entry.items, first, n)
        state.parts[#state.parts + 1] = compose('{"content":', text, ',"role":"tool","tool_call_id":', id, "}")
        n = n + 1
    end
end

-- ---- messages of the user ----

local PARTS = {
    text = function(part)
        return type(part.text) == "string" and ('{"text":%s,"type":"text"}'):format(quote(part.text))
    end,
    image = function(part)
        local url = type(part.url) == "string" and part.url or history.data_url(part)
        return url and ('{"image_url":{"url":%s},"type":"image_url"}'):format(quote(url))
    end,
    file = function(part)
        local data = history.data_url(part)
        return data and ('{"file":{"file_data":%s,"filename":%s},"type":"file"}'):format(quote(data),
            quote(type(part.name) == "string" and part.name or "file"))
    end,
}

-- Text alone goes as a string: some servers make several messages of several parts.
-- @return JSON text | nil, why not
local function user_content(entry)
    local only_text = true
    for _, part in ipairs(entry.parts or {}) do
        only_text = only_text and part.type == "text"
    end
    if only_text then
        return quote(entry.text or "")
    end
    local parts, why = history.parts(entry, PARTS, "Chat Completions")
    if not parts then
        return nil, why
    end
    return "[" .. parts .. "]"
end

-- @return why it cannot be sent | nil
local function add_user(state, entry)
    local content, why = user_content(entry)
    if not content then
        return why
    end
    for at, text in pairs(state.loop) do -- the calls before are answered: their reasoning has served
        state.parts[at] = text
    end
    state.loop = {}
    state.parts[#state.parts + 1] = ('{"content":%s,"role":"user"}'):format(content)
    return nil
end

-- ---- all of it ----

-- The memory of a conversation for one server: all that the texts depend on is in its name.
local function made_name(target, traits, forget)
    return table.concat({ NAME, target.origin or "", forget, traits.content_null, tostring(traits.ids),
        tostring(traits.openai), tostring(traits.google) }, "\n")
end

local names = setmetatable({}, { __mode = "k" }) -- target -> the name where nothing is forgotten

local function scratch_name(conv, target, traits)
    local forget = history.forgotten(conv, NAME)
    if forget > 0 then
        return made_name(target, traits, forget)
    end
    names[target] = names[target] or made_name(target, traits, 0)
    return names[target]
end

local function add(state, index, entry)
    if entry.type == "answer" then
        add_answer(state, index, entry)
    elseif entry.type == "outcomes" then
        add_outcomes(state, entry)
    else
        return add_user(state, entry)
    end
    return nil
end

--- messages(conv, target, traits) -> JSON texts of the messages, to be joined by commas | nil, why a part cannot
-- be sent. Each is made once, but for reasoning that leaves when its calls are answered.
function M.messages(conv, target, traits)
    conv.scratch = conv.scratch or {}
    local name, forget = scratch_name(conv, target, traits), history.forgotten(conv, NAME)
    local state = history.state(conv, name, function()
        return { parts = {}, loop = {}, used = {}, traits = traits, forget = forget, origin = target.origin }
    end)
    local why = history.continue(state, conv, add)
    if why then
        return nil, why
    end
    return state.parts
end

--- used(conv, target, traits) -> the ids that were sent so far: no new call of this server may have one.
function M.used(conv, target, traits)
    conv.scratch = conv.scratch or {}
    local state = conv.scratch[scratch_name(conv, target, traits)]
    return state and state.used
end

return M
