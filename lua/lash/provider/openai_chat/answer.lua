-- One answer of the Chat Completions protocol in the making. A stream adds its deltas, a whole answer its
-- message as the only one: so both give the same entry.
--
-- The entry keeps in `wire` what is not in the items and has to go back to the same server: fields of the
-- message and of its calls that are not known here, as the texts of their values.
local assembly = require "lash.provider.openai_chat.calls"
local errors = require "lash.provider.openai_chat.errors"
local history = require "lash.provider.history"
local json = require "lash.json"
local merge = require "lash.provider.openai_chat.merge"
local plain = require "lash.core.plain"
local responses = require "lash.provider.openai.answer"
local think = require "lash.provider.openai_chat.think"

local M = {}

local Draft = {}
Draft.__index = Draft

--- new(from, conv, view, traits, taken) -> draft
-- @param from { name = of the protocol, target =, res = }
-- @param taken ids that no call may get
function M.new(from, conv, view, traits, taken)
    return setmetatable({
        from = from,
        view = view,
        namer = history.namer(conv, taken),
        calls = assembly.new(view),
        splitter = think.new(traits.think),
        text = {}, refusal = {}, thought = {}, -- pieces
        reasoning = {},  -- field -> pieces
        field = nil,     -- the field whose reasoning is told
        details = merge.details(),
        extra = {},      -- unknown field -> texts of its values
        usage = nil,     -- the last one that came
        reason = nil,    -- finish_reason
        touched = false, -- something of a message came, if only its role
        told = 0,        -- calls
        ids = {},        -- of calls
    }, Draft)
end

-- ---- pieces ----

local function say(list, piece, kind, tell)
    if piece == "" then
        return false
    end
    list[#list + 1] = piece
    if tell then
        tell(kind, piece)
    end
    return true
end

local function add_text(draft, piece, tell)
    if draft.splitter.state == "text" then -- nothing is split off any more
        return say(draft.text, piece, "text", tell)
    end
    local text, thought = draft.splitter:add(piece)
    say(draft.thought, thought, "reasoning", tell)
    say(draft.text, text, "text", tell)
    return piece ~= ""
end

-- Reasoning under one of the names that servers have for it. When it comes under several, it is told once.
local function add_reasoning(draft, field, piece, tell)
    draft.field = draft.field or field
    draft.reasoning[field] = draft.reasoning[field] or {}
    return say(draft.reasoning[field], piece, "reasoning", draft.field == field and tell or nil)
end

-- Mistral's thinking: a text, or a list of parts.
local function thinking_text(value)
    if type(value) == "string" then
        return value
    end
    local texts = {}
    for _, part in ipairs(type(value) == "table" and value or {}) do
        texts[#texts + 1] = history.is_object(part) and type(part.text) == "string" and part.text or nil
    end
    return table.concat(texts)
end

local function add_part(draft, part, tell)
    if type(part) == "string" then
        return add_text(draft, part, tell)
    elseif not history.is_object(part) then
        return false
    elseif type(part.text) == "string" then
        return add_text(draft, part.text, tell)
    elseif type(part.refusal) == "string" then
        return say(draft.refusal, part.refusal)
    elseif part.thinking ~= nil then
        return say(draft.thought, thinking_text(part.thinking), "reasoning", tell)
    end
    return false
end

local function is_array(value)
    return type(value) == "table" and getmetatable(value) == json.array_mt
end

-- Google's layer marks what is thought, and puts it in the content.
local function is_google_thought(delta)
    local extra = delta.extra_content
    local google = history.is_object(extra) and extra.google
    return history.is_object(google) and google.thought == true
end

local function add_content(draft, delta, tell)
    local content = delta.content
    if type(content) == "string" then
        if is_google_thought(delta) then
            content = content:gsub("^<thought>", ""):gsub("</thought>$", "")
            return add_reasoning(draft, "content", content, tell)
        end
        return add_text(draft, content, tell)
    end
    local said = false
    for _, part in ipairs(is_array(content) and content or {}) do
        said = add_part(draft, part, tell) or said
    end
    return said
end

local function add_details(draft, delta, raw, tell)
    local said, source = false, "reasoning_details"
    for i, detail in ipairs(delta.reasoning_details) do
        local text = draft.details:add(detail, raw(source, i))
        if text ~= "" and (draft.field == nil or draft.field == source) then
            add_reasoning(draft, source, text, tell)
        end
        said = true
    end
    return said
end

-- Fields of a message that lash reads, or that only come and must not go back.
local KNOWN = { role = true, content = true, refusal = true, tool_calls = true, function_call = true,
    annotations = true, audio = true, parsed = true, index = true }

local REASONING = { "reasoning_content", "reasoning" }

-- @return whether there was some reasoning
local function add_thoughts(draft, delta, raw, tell)
    local said, read = false, {}
    for _, field in ipairs(REASONING) do
        if type(delta[field]) == "string" then
            read[field] = true
            if delta[field] ~= "" then
                said = add_reasoning(draft, field, delta[field], tell) or said
            end
        end
    end
    if is_array(delta.reasoning_details) then
        read.reasoning_details = true
        draft.details:begin()
        said = add_details(draft, delta, raw, tell) or said
    end
    return said, read
end

local function keep_unknown(draft, delta, read, raw)
    for name, value in pairs(delta) do
        if not KNOWN[name] and not read[name] and value ~= json.null
            and not (name == "extra_content" and is_google_thought(delta)) then
            draft.extra[name] = draft.extra[name] or {}
            table.insert(draft.extra[name], (raw(name)))
        end
    end
end

local function add_calls(draft, list, raw, whole)
    if history.is_object(list) then -- one that is not in an array
        return next(list) ~= nil and draft.calls:add(list, raw)
    end
    local said = false
    draft.calls:begin()
    for i, value in ipairs(list) do
        said = draft.calls:add(value, function(...)
            return raw(i, ...)
        end, whole and draft.calls:open() or nil) or said
    end
    return said
end

local function id_of(draft, n, slot)
    draft.ids[n] = draft.ids[n] or history.new_id(draft.namer, slot.id, n)
    return draft.ids[n]
end

local function tell_ready(draft, tell)
    local slot = draft.calls:ready()
    while slot do
        draft.told = draft.told + 1
        local id = id_of(draft, draft.told, slot)
        if tell then
            tell("call.ready", { n = draft.told, id = id, name = slot.name, args = slot.args })
        end
        slot = draft.calls:ready()
    end
end

--- draft:add(delta, raw, tell, whole) -> whether it had something of the answer in it. raw(...) is the exact text
-- of what is at that path in the delta. whole: it is a message, whose calls are not in pieces.
function Draft:add(delta, raw, tell, whole)
    self.touched = true
    local said, read = add_thoughts(self, delta, raw, tell)
    said = add_content(self, delta, tell) or said
    if type(delta.refusal) == "string" then
        said = say(self.refusal, delta.refusal) or said
    end
    if type(delta.tool_calls) == "table" then
        said = add_calls(self, delta.tool_calls, function(...)
            return raw("tool_calls", ...)
        end, whole) or said
        tell_ready(self, tell)
    end
    keep_unknown(self, delta, read, raw)
    return said
end

local null = json.null

--- draft:add_text(piece, tell): a piece of its text that is not empty.
Draft.add_text = add_text

--- draft:plain(content, reasoning_content, reasoning, tell) -> whether it could be added ("text": by draft:add_text()):
-- a delta in which nothing else counts than these, of which one says something.
function Draft:plain(content, first, second, tell)
    if first == null or first == "" then
        first = nil
    end
    if second == null or second == "" then
        second = nil
    end
    local thought = first or second
    if type(thought or content) ~= "string" or content == "" and not thought
        or thought and (first and second or content and content ~= null and content ~= "") then
        return false -- none, or several at once, as few servers send them
    end
    self.touched = true
    if thought then
        return add_reasoning(self, first and REASONING[1] or REASONING[2], thought, tell)
    end
    return add_text(self, content, tell) and "text"
end

--- draft:whole(message, raw, tell): a whole message in a stream. After pieces of it: what they left out.
function Draft:whole(message, raw, tell)
    if not self.touched then
        return self:add(message, raw, tell, true)
    end
    local said = false
    if not self.text[1] and not self.thought[1] and self.splitter.held == "" then
        said = add_content(self, message, tell)
    end
    if is_array(message.tool_calls) and message.tool_calls[1] then
        self.calls:whole(message.tool_calls, function(...)
            return raw("tool_calls", ...)
        end)
        said = true
    end
    return said
end

-- ---- the entry ----

-- finish_reason -> what it means; all others are an end like any.
local REASONS = { length = "length", max_tokens = "length", model_length = "length", content_filter = "filter",
    sensitive = "filter", safety = "filter", error = "error", abort = "error", network_error = "error",
    insufficient_system_resource = "error", malformed_function_call = "error" }

local function meaning(reason)
    reason = reason and reason:lower() or ""
    return REASONS[reason] or reason:find("^content_filter") and "filter"
        or reason:find("^function_call_filter") and "error" or nil
end

local function details_of(usage, name)
    return history.is_object(usage[name]) and usage[name] or {}
end

-- Some count reasoning beside the output.
-- @param cache_write nil when nothing is said of it
local function counted(input, output, total, cached, reasoning, cache_write)
    if reasoning > 0 and total == input + output + reasoning then
        output = output + reasoning
    end
    return {
        input = input,
        output = output,
        cached = cached,
        reasoning = reasoning,
        total = total == 0 and input + output or total,
        cache_write = cache_write,
    }
end

-- Some name cached tokens otherwise.
local function read_usage(usage)
    usage = usage or {}
    local count = history.count
    local input, output = details_of(usage, "prompt_tokens_details"), details_of(usage, "completion_tokens_details")
    local cached = count(input.cached_tokens)
    return counted(count(usage.prompt_tokens), count(usage.completion_tokens), count(usage.total_tokens),
        cached > 0 and cached or count(usage.prompt_cache_hit_tokens), count(output.reasoning_tokens),
        input.cache_write_tokens ~= nil and count(input.cache_write_tokens) or nil)
end

local function add_item(items, kind, pieces)
    local text = table.concat(pieces or {})
    if text ~= "" then
        items[#items + 1] = { type = kind, text = text }
        return true
    end
    return false
end

local function merged(fields)
    local texts = {}
    for name, list in pairs(fields) do
        texts[name] = merge.texts(list)
    end
    return texts
end

-- What has to go back with a call, and its id when it was too long to be used here.
local function call_wire(slot, id)
    local long = slot.id and #slot.id > #id and slot.id:sub(1, #id) == id
    return { id = long and slot.id or nil, fields = merged(slot.extra), in_function = merged(slot.extra_function) }
end

-- The calls that a slot is: one, or those that are wrapped in it.
local function calls_of(draft, slot, id, count)
    local one = { type = "call", id = id, name = slot.name, args = slot.args }
    local wrapped = responses.unwrap(draft.view, one, slot.args)
    for i, call in ipairs(wrapped or {}) do
        call.wrapper = id
        call.id = history.new_id(draft.namer, ("%s_%d"):format(id, i), count + i)
    end
    return wrapped or { one }, wrapped ~= nil
end

-- Adds the calls, tells those that were not yet told. @return how many there are
local function add_call_items(draft, items, wire, cut, tell)
    local slots, count = draft.calls:finish(), 0
    for n, slot in ipairs(slots) do
        local id = id_of(draft, n, slot)
        local half = cut and not assembly.is_whole(slot.args) and (slot.args ~= "" or n == #slots)
        local calls, wrapped = calls_of(draft, slot, id, count)
        for i, call in ipairs(calls) do
            count = count + 1
            if half then
                call.complete = false
            elseif count > draft.told and tell then
                tell("call.ready", { n = count, id = call.id, name = call.name, args = call.args })
            end
            items[#items + 1] = call
            wire.calls[count] = i == 1 and call_wire(slot, id) or {}
        end
        if wrapped then
            wire.calls[count - #calls + 1].wrapper = { name = slot.name, args = slot.args }
        end
    end
    draft.told = math.max(draft.told, count)
    return count
end

local function stop_of(draft, what, count)
    if what then
        return what
    elseif count > 0 then
        return "calls"
    end
    return draft.refusal[1] and not draft.text[1] and "refusal" or "end"
end

--- draft:ended() -> whether something said that the answer is over, if only in the eyes of the server
function Draft:ended()
    return self.reason ~= nil
end

local function made(from, items, wire, usage, stop)
    return {
        type = "answer",
        provider = from.name,
        origin = from.target.origin,
        model = from.target.model,
        items = items,
        wire = wire,
        usage = usage,
        stop = stop,
    }
end

--- draft:finish(tell) -> answer | nil, err
function Draft:finish(tell)
    local target, res = self.from.target, self.from.res
    local what = meaning(self.reason)
    if what == "error" then
        return nil, errors.failed(target, res, self.reason)
    end
    local text, thought = self.splitter:finish()
    say(self.thought, thought, "reasoning", tell)
    say(self.text, text, "text", tell)
    local items, wire = {}, { fields = merged(self.extra), calls = {} }
    wire.fields.reasoning_details = self.details:text()
    if add_item(items, "reasoning", self.reasoning[self.field]) then
        wire.reasoning = self.field
    end
    add_item(items, "reasoning", self.thought)
    add_item(items, "text", self.text)
    add_item(items, "refusal", self.refusal)
    local count = add_call_items(self, items, wire, what == "length", tell)
    return made(self.from, items, wire, read_usage(self.usage), stop_of(self, what, count))
end

-- What goes back of an ordinary call besides its item: nothing.
local NOTHING = {}
local BARE = { fields = NOTHING, in_function = NOTHING }

--- plain(from, conv, taken, text) -> the entry | nil: of the text of an ordinary whole answer. The draft would give the
-- same, so nothing is lost where this gives nil.
function M.plain(from, conv, taken, text)
    local items, said, input, output, total, cached, reasoning, cache_write = plain.chat(text,
        history.seen(conv), taken)
    if not items then
        return nil
    end
    local count, wire = #items, { fields = NOTHING, calls = NOTHING }
    if count > 0 then
        local calls = {}
        for n = 1, count do
            calls[n] = BARE
        end
        wire.calls = calls
    end
    if said and said ~= "" then
        table.insert(items, 1, { type = "text", text = said })
    end
    return made(from, items, wire, counted(input, output, total, cached, reasoning, cache_write),
        count > 0 and "calls" or "end")
end

return M
