-- A streamed answer of OpenAI's Responses protocol, put together to the whole answer that it is made of.
--
-- Items have a place each, by `output_index`; an item is open from `output_item.added` to
-- `output_item.done`. The done item is what counts, as its exact text; the final event has the whole answer
-- once more, and where the two differ it is right. Deltas are told as they come and kept only until their
-- item is done: they make up an item when nothing else ever says what it was. Servers leave events out,
-- give every item the index 0, or change ids from event to event: an event finds its item by id, then by
-- index, then by being the last one.
local answers = require "lash.provider.openai.answer"
local core = require "lash.core.json"
local lazy = require "lash.lazy"
local errors = lazy "lash.provider.openai.errors"
local fault = require "lash.provider.fault"
local history = require "lash.provider.history"
local json = require "lash.json"
local mend = lazy "lash.provider.mend"

local M = {}

local Reader = {}
Reader.__index = Reader

-- A greater index is no index.
local INDEX_MAX = 1 << 20

--- new(from, conv, view, taken) -> reader. from: { target =, res = }; taken: ids that no call may get.
function M.new(from, conv, view, taken)
    return setmetatable({
        from = from, conv = conv, taken = taken,
        make = function(cut) -- one builder for the calls as they come, one for the answer: of the same ids
            return answers.builder(conv, view, from.target, taken, cut)
        end,
        slots = {},   -- place -> slot
        last = -1,    -- the highest place
        at = {},      -- output_index -> the slot that was opened there last
        ids = {},     -- id of an item -> the slot that had it first
        calls = {},   -- id of a call -> the slot that had it first
        head = nil,   -- the slot of the delta before, as long as nothing changed, and what that said of it
        pieces = nil, kind = nil, -- where the text of that went, and what it was told as
        next = 0,     -- the first place whose item is not done
        ready = nil,  -- builder of the calls before `next`
        looked_at = 0, found = 0, -- how many of its items were looked at, how many of them are calls
        told = 0,     -- how many of these were told
        said = { text = {}, reasoning = {} },
        answer = nil, -- what the last event alone gave: an ordinary one
        final = nil,  -- else the last event, decoded
        final_raw = nil,
    }, Reader)
end

-- ---- slots ----

local function index_of(index)
    index = type(index) == "number" and math.tointeger(index)
    return index and index >= 0 and index <= INDEX_MAX and index or nil
end

local function id_of(value)
    return type(value) == "string" and value ~= "" and value or nil
end

-- Remembers whose slot it is.
local function own(self, slot, id, call_id)
    id, call_id = id_of(id), id_of(call_id)
    self.head = nil
    slot.id, slot.call_id = slot.id or id, slot.call_id or call_id
    if id and not self.ids[id] then
        self.ids[id] = slot
    end
    if call_id and not self.calls[call_id] then
        self.calls[call_id] = slot
    end
end

-- A new slot: at its index, or behind all others when that is taken or missing.
local function open(self, index)
    local place = index
    if not place or self.slots[place] then
        place = self.last + 1
    end
    local slot = { place = place, index = index or place }
    self.slots[place] = slot
    self.last = math.max(self.last, place)
    self.at[slot.index] = slot
    self.current = slot
    self.head = nil
    return slot
end

local function agree(a, b)
    b = id_of(b)
    return not a or not b or a == b
end

local function fits(slot, item, index)
    return slot and (not index or slot.index == index) and agree(slot.id, item.id)
        and agree(slot.call_id, item.call_id)
end

-- The slot that an item has by its ids | nil
local function named(self, item, index)
    local slot = self.ids[id_of(item.id)]
    if fits(slot, item, index) then
        return slot
    end
    slot = self.calls[id_of(item.call_id)]
    return fits(slot, item, index) and slot or nil
end

-- The slot of a delta, by its `item_id` and `output_index`.
local function slot_of(self, id, index)
    index = index_of(index)
    local slot = self.ids[id_of(id)]
    if slot and (not index or slot.index == index) then
        return slot
    end
    slot = index and self.at[index] or not index and self.current
    if not slot then
        slot = open(self, index)
        own(self, slot, id)
    end
    return slot
end

-- ---- telling ----

local function tell_text(self, kind, text, tell)
    local said = self.said[kind]
    said[#said + 1] = text
    tell(kind, text)
end

-- What of `whole` was not told yet, when the rest of it was.
local function tell_rest(self, kind, pieces, whole, tell)
    local told = pieces and table.concat(pieces) or ""
    if #whole > #told and whole:sub(1, #told) == told then
        tell_text(self, kind, whole:sub(#told + 1), tell)
    end
end

-- Those behind the first `at` items, which have `n` calls. @return how many items, how many calls there are
local function tell_calls(self, items, at, n, tell)
    for i = at + 1, #items do
        local item = items[i]
        if item.type == "call" then
            n = n + 1
            if n > self.told and item.complete ~= false then
                tell("call.ready", { n = n, id = item.id, name = item.name, args = item.args })
            end
        end
    end
    self.told = math.max(self.told, n)
    return #items, n
end

-- Calls are told in their order: one has to wait for the items before it.
local function tell_ready(self, tell)
    local slot, found = self.slots[self.next], false
    while slot and slot.raw do
        if slot.item.type == "function_call" then
            self.ready = self.ready or self.make(false)
            answers.call(self.ready, slot.item, slot.raw)
            found = true
        end
        slot.item = nil
        self.next = self.next + 1
        slot = self.slots[self.next]
    end
    if found then
        self.looked_at, self.found = tell_calls(self, self.ready.items, self.looked_at, self.found, tell)
    end
end

-- ---- events ----

local function added(self, e)
    local item = e.item
    if not history.is_object(item) then
        return "more"
    end
    local index = index_of(e.output_index)
    local slot = named(self, item, index)
    if not slot then
        slot = index and self.at[index]
        if not slot or slot.added or slot.raw then
            slot = open(self, index)
        end
    end
    slot.added = item
    own(self, slot, item.id, item.call_id)
    return "more"
end

-- The slot of an item that is done: perhaps nothing of it came before.
local function closing(self, item, index)
    local slot = named(self, item, index)
    if not slot then
        slot = index and self.at[index] or not index and self.current
        if not slot or slot.raw then
            slot = self.ids[id_of(item.id)] -- at another index than when it was added
            slot = fits(slot, item) and not slot.raw and slot or open(self, index)
        end
    end
    own(self, slot, item.id, item.call_id)
    return slot
end

local function done(self, e, data, tell)
    local item = e.item
    if not history.is_object(item) then
        return "more"
    end
    local slot = closing(self, item, index_of(e.output_index))
    local again = slot.raw ~= nil
    slot.raw = json.raw(data, "item")
    if again then
        slot.item = slot.item and item -- while it waits to be told
        return "more"
    end
    slot.item = item
    if item.type == "message" then
        tell_rest(self, "text", slot.text, (answers.message(item)), tell)
    elseif item.type == "reasoning" then
        tell_rest(self, "reasoning", slot.summary or slot.thought, answers.reasoning(item), tell)
    end
    slot.text, slot.refusal, slot.summary, slot.thought, slot.args = nil, nil, nil, nil, nil
    tell_ready(self, tell)
    return "more"
end

-- type of a delta -> where its pieces are kept, what they are told as
local DELTAS = {
    ["response.output_text.delta"] = { "text", "text" },
    ["response.refusal.delta"] = { "refusal" }, -- of no kind that is told: a refusal is no text of the answer
    ["response.reasoning_summary_text.delta"] = { "summary", "reasoning" },
    ["response.reasoning_text.delta"] = { "thought", "reasoning" },
    ["response.function_call_arguments.delta"] = { "args" },
}

-- Events that say no more than that the server is at work, or again what deltas have said: what they count as.
-- Some have the whole request in them, so they are not decoded, unless they may tell of an error.
local UNREAD = {
    ["response.queued"] = "idle",
    ["response.in_progress"] = "idle",
    ["response.created"] = "more",
    ["response.content_part.added"] = "more",
    ["response.content_part.done"] = "more",
    ["response.output_text.done"] = "more",
    ["response.refusal.done"] = "more",
    ["response.reasoning_text.done"] = "more",
    ["response.reasoning_summary_text.done"] = "more",
    ["response.reasoning_summary_part.added"] = "more",
    ["response.reasoning_summary_part.done"] = "more",
}

local function may_fail(data)
    local at = data:find('"error":', 1, true)
    while at and data:sub(at + 8, at + 11) == "null" do
        at = data:find('"error":', at + 8, true)
    end
    return at ~= nil
end

local function is_unread(name, data)
    return data:find('{"type":"' .. name .. '",', 1, true) == 1 and data:byte(-1) == 125 and not may_fail(data)
end

-- Arguments that are whole before their item is.
local function arguments_done(self, e)
    if type(e.arguments) == "string" then
        local slot = slot_of(self, e.item_id, e.output_index)
        slot.args = { e.arguments }
    end
    return "more"
end

local ENDS = { ["response.completed"] = "completed", ["response.incomplete"] = "incomplete",
    ["response.failed"] = "failed" }

-- The last event. Its type says how the answer ended, unless its response says that it failed.
local function ended(self, e, data)
    local value = history.is_object(e.response) and e.response or {}
    if value.status ~= "failed" and value.status ~= "incomplete" or e.type == "response.failed" then
        value.status = ENDS[e.type]
    end
    local err = errors.verdict(self.from.target, self.from.res, value)
    if err then
        return nil, err
    end
    self.final, self.final_raw = value, data
    return "end"
end

--- Which events the last one makes needless, as it has all of them once more, or as they say no more than that the
-- server is at work; and what counts as a sign of the answer: see l_http_events.c.
M.echoes = {
    ["response.output_item.added"] = "+",
    ["response.output_item.done"] = "+",
    ["response.function_call_arguments.done"] = "+",
}
for name in pairs(DELTAS) do
    M.echoes[name] = "?"
end
for name, what in pairs(UNREAD) do
    M.echoes[name] = what == "idle" and "." or "!"
end

--- What is picked out of an event before it is decoded: see reader:plain().
M.picker = core.picker({ type = 1, delta = 2, item_id = 3, output_index = 4, summary_index = 5, error = "null",
    ["*"] = "any" }, M.echoes)

local HANDLERS = {
    ["response.output_item.added"] = added,
    ["response.output_item.done"] = done,
    ["response.function_call_arguments.done"] = arguments_done,
    ["response.completed"] = ended,
    ["response.incomplete"] = ended,
    ["response.failed"] = ended,
    ["response.queued"] = function() return "idle" end,
    ["response.in_progress"] = function() return "idle" end,
}

-- An event that is no JSON object.
local function odd(self, event)
    local data = event.data
    local target, res = self.from.target, self.from.res
    if event.event == "error" then
        return nil, errors.described(target, res, data)
    elseif data:find("^%s*%[DONE%]") then
        return "end"
    elseif data:find("^%s*{") then
        return nil, fault.nonsense(target, { headers = res.headers, body = data }, "has an event that is not JSON")
    end
    return "idle"
end

--- reader:plain(tell, ...) -> "more" | "idle" | nil, see the interface of providers: of an event without error,
-- its type, delta, item_id, output_index and summary_index. Most deltas belong where the one before did.
function Reader:plain(tell, event, text, id, index, part)
    local about = DELTAS[event]
    if not about then
        return UNREAD[event]
    elseif type(text) ~= "string" or text == "" then
        return "idle"
    end
    local slot, where, kind = self.head, about[1], about[2]
    if not slot or self.head_id ~= id or self.head_index ~= index then
        slot = slot_of(self, id, index)
        self.head, self.head_id, self.head_index = slot, id, index
    end
    if slot.raw then
        return "more"
    elseif where == "summary" and slot.part ~= part then
        slot.part = part
        if slot.summary then
            text = answers.PARAGRAPH .. text
        end
    end
    local pieces = slot[where]
    if not pieces then
        pieces = {}
        slot[where] = pieces
    end
    self.pieces, self.kind = pieces, kind
    self:again(tell, text)
    return "more", true
end

--- reader:again(tell, text): another delta of the same kind at the same place.
Reader.TEXT = 2

function Reader:again(tell, text)
    local pieces, kind = self.pieces, self.kind
    pieces[#pieces + 1] = text
    if kind then
        pieces = self.said[kind]
        pieces[#pieces + 1] = text
        tell(kind, text)
    end
end

-- The answer that an event gives which is the last one of an ordinary answer | nil
local function completed(name, data, from, conv, taken)
    if name == "response.completed"
        or name ~= "error" and data:find('{"type":"response.completed"', 1, true) == 1 then
        return answers.plain(from.target, conv, taken, data, true)
    end
    return nil
end

--- reader:event(event, tell) -> "more" | "idle" | "end" | nil, err: see the interface of providers.
function Reader:event(event, tell)
    local unread = UNREAD[event.event]
    if unread and is_unread(event.event, event.data) then
        return unread
    end
    self.answer = completed(event.event, event.data, self.from, self.conv, self.taken)
    if self.answer then
        return "end"
    end
    local e, _, data = mend.decode(event.data)
    if not history.is_object(e) then
        return odd(self, event)
    end
    local kind, inside = e.type, errors.inside(e)
    if inside or kind == "error" or event.event == "error" then
        return nil, errors.described(self.from.target, self.from.res, inside or e)
    end
    if DELTAS[kind] then
        return self:plain(tell, kind, e.delta, e.item_id, e.output_index, e.summary_index)
    end
    local handle = HANDLERS[kind]
    if handle then
        return handle(self, e, data, tell)
    end
    return type(kind) == "string" and kind:find("^response%.") and "more" or "idle"
end

-- ---- the end ----

-- Whether reasoning is there with its sealed part: else that has to be looked for in what came before.
local function is_sealed(output)
    for _, item in ipairs(output) do
        if item.type == "reasoning" and type(item.encrypted_content) ~= "string" then
            return false
        end
    end
    return true
end

local function sorted(self)
    local list = {}
    for _, slot in pairs(self.slots) do
        list[#list + 1] = slot
    end
    table.sort(list, function(a, b)
        return a.place < b.place
    end)
    return list
end

local function made_message(slot, item)
    local content = json.array {}
    if slot.text then
        content[#content + 1] = { type = "output_text", text = table.concat(slot.text) }
    end
    if slot.refusal then
        content[#content + 1] = { type = "refusal", refusal = table.concat(slot.refusal) }
    end
    return { type = "message", role = "assistant", phase = item.phase, content = content }
end

-- An item that was never done, made up from what came of it.
local function made_up(slot, cut)
    local item = slot.added or {}
    if item.type == "function_call" then
        return { type = "function_call", call_id = item.call_id, name = item.name, status = cut and "incomplete" or nil,
            arguments = slot.args and table.concat(slot.args) or item.arguments }
    elseif item.type == "reasoning" or slot.summary or slot.thought then
        local text = table.concat(slot.summary or slot.thought or {})
        return { type = "reasoning", summary = json.array { { type = "summary_text", text = text } } }
    elseif item.type == "message" or slot.text or slot.refusal then
        return made_message(slot, item)
    end
    return nil
end

-- The items that were put together. @return items, texts, whether all of them came as a whole
local function assembled(self, cut)
    local output, raws, whole = {}, {}, true
    for _, slot in ipairs(sorted(self)) do
        local item, raw = nil, slot.raw
        if raw then
            item = assert(history.decode(raw))
        else
            whole = false
            item = made_up(slot, cut)
            raw = item and assert(json.encode(item, { lossy = true }))
        end
        if item then
            output[#output + 1], raws[#raws + 1] = item, raw
        end
    end
    return output, raws, whole
end

-- The items of the final event. Reasoning that has lost its sealed part there goes back as its done item.
local function final_items(self)
    local output = self.final.output
    local raws = json.elements(json.raw(self.final_raw, "response", "output"))
    local slots = nil
    for i, item in ipairs(output) do
        if item.type == "reasoning" and type(item.encrypted_content) ~= "string" then
            slots = slots or sorted(self)
            local raw = slots[i] and slots[i].raw
            local mine = raw and json.raw(raw, "encrypted_content")
            if mine and mine:sub(1, 1) == '"' and json.raw(raw, "type") == '"reasoning"' then
                raws[i] = raw
            end
        end
    end
    return output, raws, true
end

local function whole_text(items, kind)
    local texts = {}
    for _, item in ipairs(items) do
        if item.type == kind then
            texts[#texts + 1] = item.text
        end
    end
    return table.concat(texts)
end

-- A body that ended without its last event: broken off, unless its last words are an error.
local function unfinished(self, tail)
    local target, res = self.from.target, self.from.res
    local e = tail and tail ~= "" and errors.inside(history.decode(tail))
    if e then
        return nil, errors.described(target, res, e)
    end
    return nil, fault.broken(target, res)
end

-- What of a whole answer was not told yet.
local function tell_all_else(self, answer, tell)
    tell_rest(self, "reasoning", self.said.reasoning, whole_text(answer.items, "reasoning"), tell)
    tell_rest(self, "text", self.said.text, whole_text(answer.items, "text"), tell)
    tell_calls(self, answer.items, 0, 0, tell)
end

-- @return answer | nil, err
local function put_together(self)
    local value = self.final
    local cut = value.status == "incomplete"
    local output, raws, whole
    if answers.is_output(value.output) and value.output[1] then
        output, raws, whole = final_items(self)
    elseif next(self.slots) or answers.is_output(value.output) then
        output, raws, whole = assembled(self, cut)
    else
        return nil, fault.nonsense(self.from.target, { headers = self.from.res.headers, body = self.final_raw },
            "is no answer of the Responses protocol")
    end
    local answer = answers.entry(self.from.target, self.make(cut), value, output, raws)
    if not whole then
        answer.wire = nil -- made up: nothing of it may count as verbatim
    end
    return answer
end

--- reader:finish(tail, tell) -> answer | nil, err: see the interface of providers.
function Reader:finish(tail, tell)
    if not self.answer and not self.final then
        return unfinished(self, tail)
    end
    local answer, err = self.answer, nil
    if not answer then
        answer, err = put_together(self)
    end
    if answer then
        tell_all_else(self, answer, tell)
    end
    return answer, err
end

--- settled(name, data, from, conv, view, taken) -> answer | nil: see the provider's settles().
function M.settled(name, data, from, conv, view, taken)
    local answer = completed(name, data, from, conv, taken)
    if answer then
        return answer
    end
    local e, _, text = mend.decode(data)
    if not history.is_object(e) or not ENDS[e.type] or name == "error" or errors.inside(e)
        or not history.is_object(e.response) then
        return nil
    end
    local output = e.response.output
    if not answers.is_output(output) or not output[1] or not is_sealed(output) then
        return nil
    end
    local reader = M.new(from, conv, view, taken)
    return ended(reader, e, text) and put_together(reader)
end

return M
