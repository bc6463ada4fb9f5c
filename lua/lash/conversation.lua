--- Conversations: append-only lists of entries. An entry is what one side said at once:
--
--   { type = "user", text =, parts = }     `parts` when there are images or files, see lash.attach
--   { type = "answer", provider =, model =, items = {...}, usage =, stop =, wire = }  of a model
--   { type = "outcomes", items = {...} }   one per call of the answer before, in call order
--   { type = "note", text = }              of lash itself to the model
--
-- Items are { type = "text" | "reasoning" | "refusal", text = }, { type = "call", id =, name =,
-- args = "JSON text" }, { type = "opaque" } and { type = "outcome", id =, name =, status =, output = }.
-- Providers keep what they sent in `wire`, and the text they send of an entry in `_wire`.
local M = {}

--- What a conversation is, and what it consists of.
--
-- @class conversation  made by agent:conversation
--   agent  agent  who has it now; a handoff changes it
-- @class item.text { type: "text"|"reasoning"|"refusal", text: string }  of an answer
-- @class item.user { type: "user"|"note", text: string, parts?: table[] }  a message, its parts without data
-- @class item.call { type: "call", id: string, name: string, args: string }  args is JSON text
-- @class item.outcome { type: "outcome", id: string, name: string, status: status, output: string,
--   ms?: number }
-- @class item.opaque { type: "opaque" }  what only its provider understands
-- @alias item  item.text|item.user|item.call|item.outcome|item.opaque
local Conversation = {
    __name = "lash.conversation",
    open_calls = false, -- calls of the last answer that have no outcome yet
    answered = nil,   -- the last answer, and
    asked = nil,      -- its calls, nil without any
    ids = nil,        -- { [id of a call so far] = true }, see lash.provider.history; nil without any
    busy = false,
    run = nil,        -- the task of its present run
    stop = false,     -- somebody wants that run to end
}
Conversation.__index = Conversation
M.Conversation = Conversation

--- A conversation with `agent`, empty.
function M.new(agent)
    return setmetatable({
        agent = agent, -- who has it now; a handoff changes it
        entries = { nil, nil, nil, nil },
        scratch = { state = nil, warned = nil }, -- providers' own state of this conversation
        -- Room for these at once, as for the first entries: a table that grows is made again.
        busy = nil, open_calls = false, answered = nil, asked = nil, ids = nil,
    }, Conversation)
end

-- @return its calls in order, nil without any; all its text
local function parts_of(answer)
    local calls, n, text, more, items = nil, 0, nil, nil, answer.items
    for i = 1, #items do
        local item = items[i]
        local kind = item.type
        if kind == "call" then
            n = n + 1
            if n == 1 then
                calls = { item, nil, nil, nil } -- room for a few: a list that grows is made again
            else
                calls[n] = item
            end
        elseif kind == "text" and text then
            more = more or { text }
            more[#more + 1] = item.text
        elseif kind == "text" then
            text = item.text
        end
    end
    return calls, more and table.concat(more) or text or ""
end

--- The calls of an answer, in order.
function M.calls(answer)
    return parts_of(answer) or {}
end

--- asked(conv, answer) -> the calls of an answer among its entries, in order, nil without any: a list of the
-- conversation's own, not to be changed
function M.asked(conv, answer)
    if conv.answered == answer then
        return conv.asked
    end
    return (parts_of(answer))
end

--- All text of an answer.
function M.text(answer)
    local _, text = parts_of(answer)
    return text
end

--- The calls of the answers among the entries first..last, which are those of one run, that have outcomes:
-- list of { call = "TURN.N", name =, args =, status =, output =, ms = }.
function M.records(conv, first, last)
    local records, turn, asked = {}, 0, {}
    for i = first, last do
        local entry = conv.entries[i]
        if entry.type == "answer" then
            turn, asked = turn + 1, M.calls(entry)
        end
        for n, item in ipairs(entry.type == "outcomes" and entry.items or {}) do
            records[#records + 1] = {
                call = ("%d.%d"):format(turn, n), name = asked[n].name, args = asked[n].args,
                status = item.status, output = item.output, ms = item.ms or 0,
            }
        end
    end
    return records
end

local function check_outcomes(calls, items)
    if not calls then
        error "outcomes without calls"
    elseif #calls ~= #items then
        error "every call has exactly one outcome"
    end
    for i = 1, #calls do
        if items[i].id ~= calls[i].id then
            error "outcomes stand in call order"
        end
    end
end

--- Notes the ids of calls of an answer among the entries.
function M.note_ids(conv, calls)
    local ids = conv.ids or { a = nil, b = nil, c = nil, d = nil } -- room for a few at once
    conv.ids = ids
    for i = 1, #calls do
        local call = calls[i]
        ids[call.id] = true
        if call.wrapper then
            ids[call.wrapper] = true
        end
    end
end

-- Appends an entry. Every call has its outcome before anything else follows: asserted here, so that
-- no request can be made of a history that a provider would refuse.
-- @return of an answer all its text; its calls, nil without any
function Conversation:append(entry)
    local kind, open, text = entry.type, self.open_calls, nil
    if kind == "outcomes" then
        check_outcomes(open, entry.items)
        open = false
    elseif open then
        error "calls without outcomes"
    elseif kind == "answer" then
        open, text = parts_of(entry)
        self.answered, self.asked = entry, open
        if open then
            M.note_ids(self, open)
        end
    end
    local entries = self.entries
    entries[#entries + 1], self.open_calls = entry, open or false
    return text, open
end

--- items() -> item[]
-- All that was said, in order.
function Conversation:items()
    local all = {}
    for _, entry in ipairs(self.entries) do
        if entry.items then
            table.move(entry.items, 1, #entry.items, #all + 1, all)
        else
            all[#all + 1] = { type = entry.type, text = entry.text, parts = require("lash.attach").shown(entry.parts) }
        end
    end
    return all
end

--- send(text: message [, opts: run.options]) -> result
-- Sends a user's message and runs to the final answer; as agent:run.
function Conversation:send(text, opts)
    return require("lash.run").send(self, text, opts)
end

--- stream(text: message [, opts: run.options]) -> fun(): event?
-- The same, and gives its events while they happen, as agent:stream.
function Conversation:stream(text, opts)
    return require("lash.run").stream(self, text, opts)
end

--- cancel() -> boolean
-- Cancels its present run, if there is one: running calls end cancelled, queued ones are not run, send()
-- returns a result with the reason "cancelled", and the conversation can go on. Legal at any time, from any
-- task, and as often as one likes.
-- @return whether there was a run to cancel
function Conversation:cancel()
    if not self.busy then
        return false
    end
    self.stop = true -- for a run that has no task yet
    if self.run then
        self.run:cancel("user")
    end
    return true
end

--- send_sync(text: message [, opts: run.options]) -> result
-- The same as send for callers that are not tasks, as agent:run_sync.
function Conversation:send_sync(text, opts)
    return require("lash.run").sync("send", self.send, self, text, opts)
end

return M
