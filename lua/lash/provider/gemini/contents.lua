-- A conversation as Gemini's `contents`.
--
-- The parts of the server's own answers go back as the exact texts that came, each with its thought
-- signature. Answers of other providers, and of the same protocol at another address, are made anew:
-- texts, and calls without any id, of which the first of each content carries the documented dummy
-- signature; reasoning and unknown items stay away.
local history = require "lash.provider.history"
local json = require "lash.json"

local M = {}

local NAME = "gemini"
local DUMMY = ',"thoughtSignature":"skip_thought_signature_validator"'

local quote = history.quote

--- call_name(name) -> a name that Gemini takes for a function
function M.call_name(name)
    if name and #name <= 128 and name:find("^[%a_][%w_.:-]*$") then
        return name
    end
    name = (name or ""):gsub("[^%w_.:-]", "_"):sub(1, 128)
    return name:find("^[%a_]") and name or "_" .. name:sub(1, 127)
end

--- arguments(text) -> the text if it is a JSON object, else an object that shows what it is
function M.arguments(text)
    if text == nil or text == "" then
        return "{}"
    end
    return history.object_text(text) or ('{"invalid_arguments":%s}'):format(quote(text))
end

-- ---- answers ----

local function native(state, index, entry)
    return entry.provider == NAME and entry.origin == state.origin and entry.wire ~= nil and index > state.forget
end

-- The parts as they came. A first call that another model left unsigned would be missed by those that sign.
local function native_parts(state, entry)
    if entry.model == state.model then
        return entry.wire
    end
    local parts = table.move(entry.wire, 1, #entry.wire, 1, {})
    for i, raw in ipairs(parts) do
        if json.raw(raw, "functionCall") then
            if not json.raw(raw, "thoughtSignature") then
                parts[i] = raw:gsub("}%s*$", function()
                    return DUMMY .. "}"
                end)
            end
            break
        end
    end
    return parts
end

local function foreign_parts(entry)
    local parts, dummy = {}, DUMMY
    for _, item in ipairs(entry.items) do
        if item.type == "call" then
            parts[#parts + 1] = ('{"functionCall":{"args":%s,"name":%s}%s}'):format(M.arguments(item.args),
                quote(M.call_name(item.name)), dummy)
            dummy = ""
        elseif item.text and item.text ~= ""
            and (item.type == "text" or item.type == "refusal" and not item.by_provider) then
            parts[#parts + 1] = ('{"text":%s}'):format(quote(item.text))
        end
    end
    return parts
end

-- ---- outcomes ----

local function response(outcome)
    if outcome.status ~= "ok" then
        return '{"error":' .. quote(history.fault_text(outcome)) .. "}"
    end
    local text = outcome.output or ""
    return '{"output":' .. (history.container_text(text) or quote(text)) .. "}"
end

local function outcome_parts(state, entry)
    local parts = {}
    for n, outcome in ipairs(entry.items) do
        local call = state.calls[n]
        local id = state.native and call.wire_id
        parts[n] = (id and '{"functionResponse":{"id":' .. quote(id) .. ',"name":' or '{"functionResponse":{"name":')
            .. quote(M.call_name(call.name)) .. ',"response":' .. response(outcome) .. "}}"
    end
    return parts
end

-- ---- what the user said ----

local function text_part(text)
    return text ~= "" and ('{"text":%s}'):format(quote(text)) or nil
end

local function data_part(part)
    if type(part.data) == "string" and type(part.mime) == "string" then
        return ('{"inlineData":{"data":%s,"mimeType":%s}}'):format(quote(part.data), quote(part.mime))
    elseif type(part.url) == "string" then
        return ('{"fileData":{"fileUri":%s%s}}'):format(quote(part.url),
            part.mime and (',"mimeType":' .. quote(part.mime)) or "")
    end
    return nil
end

local function user_parts(entry)
    local parts = {}
    for _, part in ipairs(entry.parts or { { type = "text", text = entry.text or "" } }) do
        if part.type == "text" then
            parts[#parts + 1] = text_part(part.text)
        else
            local text = (part.type == "image" or part.type == "file") and data_part(part)
            if not text then
                return nil, ("Gemini takes no part of the type '%s' that has neither data with a mime nor a url")
                    :format(tostring(part.type))
            end
            parts[#parts + 1] = text
        end
    end
    return parts
end

-- ---- all of it ----

local function content_text(content)
    return history.join('{"parts":[', content.parts, content.role == "model" and '],"role":"model"}'
        or '],"role":"user"}')
end

-- The texts of all contents. All but the last are final: of those only the text is kept.
local function texts_of(state)
    local last = state.last
    last.text = last.text or content_text(last)
    state.texts[state.final + 1] = last.text
    return state.texts
end

-- Contents of one role that follow each other are one content, but outcomes always stand alone.
local function append(state, role, parts)
    local last = state.last
    if not parts[1] then
        return
    elseif not last or last.role ~= role then
        if last then
            texts_of(state)
            state.final = state.final + 1
        end
        last = { role = role, parts = {} }
        state.last = last
    end
    table.move(parts, 1, #parts, #last.parts + 1, last.parts)
    last.text = nil
end

local function add(state, index, entry)
    if entry.type == "answer" then
        state.native = native(state, index, entry)
        append(state, "model", state.native and native_parts(state, entry) or foreign_parts(entry))
    elseif entry.type == "outcomes" then
        append(state, "outcomes", outcome_parts(state, entry))
    else
        local parts, why = user_parts(entry)
        if not parts then
            return why
        end
        append(state, "user", parts)
    end
    return nil
end

local function made_key(target, forget)
    return table.concat({ NAME, target.origin or "", target.model or "", forget }, "\n")
end

local keys = setmetatable({}, { __mode = "k" }) -- target -> the name of its memory where nothing is forgotten

local function key_of(target, forget)
    if forget > 0 then
        return made_key(target, forget)
    end
    keys[target] = keys[target] or made_key(target, 0)
    return keys[target]
end

--- texts(conv, target) -> list of the JSON texts of all contents | nil, why
function M.texts(conv, target)
    local forget = history.forgotten(conv, NAME)
    local state = history.state(conv, key_of(target, forget), function()
        return { texts = {}, final = 0, forget = forget, origin = target.origin, model = target.model }
    end)
    local wrong = history.continue(state, conv, add)
    if wrong then
        return nil, wrong
    elseif not state.last or state.last.role == "model" then
        return nil, "there is no text to send: Gemini takes no empty message"
    end
    return texts_of(state)
end

return M
