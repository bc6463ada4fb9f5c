-- The history of a conversation as Anthropic's `messages`.
--
-- Its own answers go back as the exact texts that came, those of another model without the thinking, which is
-- sealed for the model that wrote it. Answers of other providers are made anew: texts, and calls under ids of
-- our own making (`toolu_xENTRY_N`). What follows each other from one side is one message, so all results of an
-- answer are in the message right behind it, before any text. An answer that was stopped as a refusal does not go
-- back, nor do its calls: with it all that follows would be refused, too.
local answer = require "lash.provider.anthropic.answer"
local base64 = require "lash.base64"
local history = require "lash.provider.history"
local json = require "lash.json"

local M = {}

local compose, quote = history.compose, history.quote

local EMPTY = "(empty)"

-- ---- parts of the user's messages ----

local function text_block(text)
    return '{"text":' .. quote(text) .. ',"type":"text"}'
end

local IMAGES = { ["image/jpeg"] = true, ["image/png"] = true, ["image/gif"] = true, ["image/webp"] = true }

local function image_block(part, mime)
    if part.url then
        return ('{"source":{"type":"url","url":%s},"type":"image"}'):format(quote(part.url))
    elseif not IMAGES[mime] then
        return nil, ("anthropic takes no image of the type %s: it takes jpeg, png, gif and webp"):format(mime)
    end
    return ('{"source":{"data":%s,"media_type":"%s","type":"base64"},"type":"image"}'):format(quote(part.data), mime)
end

local function file_block(part, mime)
    local name = part.name or "file"
    if mime == "application/pdf" then
        return ('{"source":{"data":%s,"media_type":"application/pdf","type":"base64"},"title":%s,"type":"document"}')
            :format(quote(part.data), quote(name))
    end
    local text = base64.decode(part.data or "")
    if not text or not utf8.len(text) or text:find("%z") then
        return nil, ("anthropic cannot take the file '%s' of the type %s: it takes PDF, text and images"):format(name,
            mime)
    end
    return text_block(("The file %s:\n\n%s"):format(name, text))
end

local function part_block(part)
    local mime = (part.mime or "application/octet-stream"):lower():gsub("^image/jpg$", "image/jpeg")
    if part.type == "text" then
        return part.text:find("%S") and text_block(part.text)
    elseif part.type == "image" or mime:find("^image/") then
        return image_block(part, mime)
    elseif part.type == "file" then
        return file_block(part, mime)
    end
    return nil, ("anthropic cannot take a part of the type '%s'"):format(tostring(part.type))
end

-- -> blocks, the one text as a JSON string when there is nothing else | nil, what cannot be sent
local function user_blocks(entry)
    if not entry.parts then
        if not entry.text:find("%S") then
            return {}
        end
        return { text_block(entry.text) }, quote(entry.text)
    end
    local blocks = {}
    for _, part in ipairs(entry.parts) do
        local block, why = part_block(part)
        if why then
            return nil, why
        end
        blocks[#blocks + 1] = block or nil
    end
    return blocks
end

-- ---- messages ----

local function message_text(message)
    if message.plain then
        return '{"content":' .. message.plain .. ',"role":"' .. message.role .. '"}'
    end
    return history.join('{"content":[', message.parts, '],"role":"' .. message.role .. '"}')
end

-- The texts of all messages. All but the last are final: of those only the text is kept.
local function texts_of(state)
    local last = state.last
    last.text = last.text or message_text(last)
    state.texts[state.final + 1] = last.text
    return state.texts
end

-- @param parts a list that is the message's from now on
local function append(state, role, parts, plain)
    local last = state.last
    if not parts[1] then
        return
    elseif not last and role == "assistant" then
        append(state, "user", { text_block(EMPTY) }, quote(EMPTY)) -- the first message is the user's
        last = state.last
    end
    if last and last.role == role then
        table.move(parts, 1, #parts, #last.parts + 1, last.parts)
        last.plain, last.text = nil, nil
    else
        if last then
            texts_of(state)
            state.final = state.final + 1
        end
        state.last = { role = role, parts = parts, plain = plain }
    end
end

-- ---- answers and outcomes ----

local function is_native(state, index, entry)
    return entry.provider == "anthropic" and entry.wire ~= nil and entry.origin == state.origin
        and index > state.forget
end

local function call_block(call, id)
    local args = answer.is_object_text(call.args) and call.args or "{}"
    return compose('{"id":', id, ',"input":' .. args .. ',"name":', answer.call_name(call.name), ',"type":"tool_use"}')
end

local THOUGHTS = { ['"thinking"'] = true, ['"redacted_thinking"'] = true }

local function is_thought(raw)
    return THOUGHTS[json.raw(raw, "type")] or false
end

local function native_parts(state, entry)
    local wire = entry.wire
    if entry.model == state.model then
        return table.move(wire, 1, #wire, 1, {}), wire[1] ~= nil and is_thought(wire[1])
    end
    local parts = {}
    for _, raw in ipairs(wire) do
        if not is_thought(raw) then
            parts[#parts + 1] = raw
        end
    end
    return parts, false
end

local function foreign_parts(state, entry)
    local parts, n = {}, 0
    for _, item in ipairs(entry.items) do
        if item.type == "call" then
            n = n + 1
            parts[#parts + 1] = call_block(item, state.ids[n])
        elseif item.text and item.text:find("%S")
            and (item.type == "text" or item.type == "refusal" and not item.by_provider) then
            parts[#parts + 1] = text_block(item.text)
        end
    end
    return parts, false
end

local function add_answer(state, index, entry)
    state.refused = entry.provider == "anthropic" and entry.stop == "refusal"
    state.paused = false
    if state.refused then
        return
    end
    local native = is_native(state, index, entry)
    state.ids = {}
    for n, call in ipairs(state.calls) do
        state.ids[n] = native and call.id or history.invent(state.used, "toolu", index, n)
        state.used[state.ids[n]] = true
        local name = answer.call_name(call.name)
        if not state.named[name] then
            state.named[name] = true
            state.names[#state.names + 1] = name
        end
    end
    local parts, thinks = (native and native_parts or foreign_parts)(state, entry)
    if not state.looped then
        state.thinks = thinks -- the further answers of a turn may do without
    end
    state.looped = #state.calls > 0
    append(state, "assistant", parts)
    state.paused = native and entry.stop == "pause" and #parts > 0
end

local function result_block(outcome, id)
    local failed = outcome.status ~= "ok"
    local text = failed and history.fault_text(outcome) or outcome.output or ""
    return compose('{"content":', text:find("%S") and text or EMPTY,
        failed and ',"is_error":true,"tool_use_id":' or ',"tool_use_id":', id, ',"type":"tool_result"}')
end

local function add_outcomes(state, entry)
    if state.refused then
        return
    end
    local parts = {}
    for n, outcome in ipairs(entry.items) do
        parts[n] = result_block(outcome, state.ids[n])
    end
    append(state, "user", parts)
end

-- ---- all of it ----

-- The memory of a conversation for one model: all that the texts depend on is in its name.
local function made_key(target, forget)
    return ("anthropic\n%d\n%s\n%s"):format(forget, target.origin or "", target.model)
end

local keys = setmetatable({}, { __mode = "k" }) -- target -> the name where nothing is forgotten

local function key_of(conv, target)
    local forget = history.forgotten(conv, "anthropic")
    if forget > 0 then
        return made_key(target, forget)
    end
    keys[target] = keys[target] or made_key(target, 0)
    return keys[target]
end

--- taken(conv, target) -> the ids of calls in what was sent so far, or nil
function M.taken(conv, target)
    local state = conv.scratch and conv.scratch[key_of(conv, target)]
    return state and state.used
end

local function add(state, index, entry)
    if entry.type == "answer" then
        add_answer(state, index, entry)
    elseif entry.type == "outcomes" then
        add_outcomes(state, entry)
    else
        local parts, plain = user_blocks(entry)
        if not parts then
            return plain
        end
        append(state, "user", parts, plain)
    end
    return nil
end

--- messages(conv, target) -> list of JSON texts, state | nil, what cannot be sent
-- state.names: the tools that were called; state.looped: the last answer made calls; state.thinks: the first
-- answer of that turn begins with its thinking.
function M.messages(conv, target)
    local state = history.state(conv, key_of(conv, target), function()
        return { texts = {}, final = 0, used = {}, named = {}, names = {}, origin = target.origin,
            model = target.model, forget = history.forgotten(conv, "anthropic") }
    end)
    local why = history.continue(state, conv, add)
    if why then
        return nil, why
    end
    local last = state.last
    if not last or last.role == "assistant" and not state.paused then
        return nil, "there is no text to send: Anthropic takes no empty message"
    end
    return texts_of(state), state
end

return M
