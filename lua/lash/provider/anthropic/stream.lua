-- Anthropic's streamed answers: puts the content blocks together from their pieces. What the pieces say is
-- joined as the JSON text that came, so that a block is the same bytes as in a whole answer, and no number
-- ever becomes a float.
--
-- Deltas go to the block of their index; where a server counts otherwise, to the last block of their kind.
local answer = require "lash.provider.anthropic.answer"
local core = require "lash.core.json"
local fault = require "lash.provider.fault"
local faults = require "lash.provider.anthropic.errors"
local history = require "lash.provider.history"
local json = require "lash.json"
local mend = require "lash.provider.mend"

local M = {}

-- What is picked out of an event: see reader:plain().
M.picker = core.picker { type = 1, index = 2, ["*"] = "any",
    delta = { type = 3, text = { 4, 5 }, thinking = { 6, 7 }, partial_json = 8, ["*"] = "any" } }

local Reader = {}
Reader.__index = Reader

local NAMES = { "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
    "message_stop", "ping", "error" }
local KNOWN = {}
for _, name in ipairs(NAMES) do
    KNOWN[name] = true
end

--- new(ctx, res) -> reader of one answer; ctx of anthropic/answer.lua: context().
function M.new(ctx, res)
    return setmetatable({
        ctx = ctx,
        res = res,
        blocks = {},   -- in the order in which they began
        by_index = {}, -- index of the server -> block
        ready = 0,     -- blocks whose calls were told
        usage = {},
        ended = false,
    }, Reader)
end

local function nonsense(self, data, why)
    return nil, fault.nonsense(self.ctx.target, { status = self.res.status, headers = self.res.headers,
        body = data }, why)
end

-- ---- blocks ----

-- The inside of a JSON string's text, with its escapes as they came.
local function inside(raw)
    return raw and raw:match('^%s*"(.*)"%s*$') or ""
end

local function begin(self, index, value, raw)
    local block = { start = value, raw = raw, kind = value.type, pieces = {} }
    for _, field in ipairs { "text", "thinking" } do
        if type(value[field]) == "string" and value[field] ~= "" then
            block.pieces[field] = { '"', inside(json.raw(raw, field)) } -- a JSON text without its end
        end
    end
    self.blocks[#self.blocks + 1] = block
    if index ~= nil then
        self.by_index[index] = block
    end
    return block
end

local function index_of(index)
    return (type(index) == "number" or type(index) == "string") and index == index and index or nil
end

-- The block that a piece belongs to: `fits` says whether it can take it.
local function block_for(self, index, fits)
    local block = self.by_index[index]
    if block and fits(block) then
        return block
    end
    block = self.blocks[#self.blocks]
    return block and not block.stopped and fits(block) and block or nil
end

-- Some servers send all of the arguments so far in each piece.
local function cumulative(pieces)
    for i = 2, #pieces do
        if pieces[i]:sub(1, #pieces[i - 1]) ~= pieces[i - 1] then
            return nil
        end
    end
    return #pieces > 1 and answer.is_object_text(pieces[#pieces]) and pieces[#pieces] or nil
end

local function input_text(pieces)
    local text = table.concat(pieces)
    if not answer.is_object_text(text) then
        text = cumulative(pieces) or text
    end
    return text
end

-- Makes of the pieces the block that a whole answer would have.
local function assemble(block)
    if block.value then
        return
    end
    local pieces, fields = block.pieces, {}
    for _, field in ipairs { "text", "thinking" } do
        local list = pieces[field]
        if list then
            list[#list + 1] = '"'
            fields[field] = table.concat(list)
        end
    end
    fields.signature = pieces.signature
    if pieces.citations then
        fields.citations = "[" .. table.concat(pieces.citations, ",") .. "]"
    end
    if pieces.input then
        local text = input_text(pieces.input)
        if answer.is_object_text(text) then
            fields.input = text
        elseif text:find("%S") then
            fields.input, block.args = "{}", text
        end
    end
    if next(fields) ~= nil then
        block.raw = answer.rebuild(block.start, block.raw, fields)
    end
    block.pieces = {}
    block.value = json.decode(block.raw, { depth = 1024 }) or block.start
end

-- A call is surely complete when its arguments are, or when the model went on to something else.
local function is_settled(self, at)
    local block = self.blocks[at]
    if not block.stopped then
        return false
    elseif block.kind ~= "tool_use" or at < #self.blocks or self.ended then
        return true
    end
    assemble(block)
    return block.args == nil and history.is_object(block.value.input) and next(block.value.input) ~= nil
end

local function tell_ready(self, tell)
    while self.blocks[self.ready + 1] and is_settled(self, self.ready + 1) do
        self.ready = self.ready + 1
        local block = self.blocks[self.ready]
        assemble(block)
        if block.kind == "tool_use" then
            local item = answer.call(self.ctx, block)
            tell("call.ready", { n = self.ctx.calls, id = item.id, name = item.name, args = item.args })
        end
    end
end

-- ---- deltas: kind -> function(self, index, delta, data, tell) -> what | nil, err ----

-- @return fn(self, index, text, raw, tell) -> what; raw: the text as it stands in JSON, if it has escapes
local function adder(field, event)
    local function fits(block)
        return block.kind == field and not block.value
    end
    return function(self, index, text, raw, tell)
        if type(text) ~= "string" or text == "" then
            return "idle"
        end
        local block = block_for(self, index, fits)
        if not block then
            block = begin(self, not self.by_index[index] and index or nil, { type = field, [field] = "" },
                ('{"type":"%s","%s":""}'):format(field, field))
        end
        local list = block.pieces[field]
        if not list then
            list = { '"' }
            block.pieces[field] = list
        end
        list[#list + 1] = raw or text
        tell(event, text)
        return "more"
    end
end

local add_text, add_thinking = adder("text", "text"), adder("thinking", "reasoning")

local function text_delta(field, add)
    return function(self, index, delta, data, tell)
        local escaped = type(delta[field]) == "string" and data:find("\\", 1, true)
        return add(self, index, delta[field], escaped and inside(json.raw(data, "delta", field)), tell)
    end
end

local function takes_input(block)
    return type(block.kind) == "string" and block.kind:find("tool_use$") ~= nil
end

local function add_input(block, text)
    local list = block.pieces.input
    if not list then
        list = {}
        block.pieces.input = list
    end
    list[#list + 1] = text
    return "more"
end

local DELTAS = {
    text_delta = text_delta("text", add_text),
    thinking_delta = text_delta("thinking", add_thinking),
    input_json_delta = function(self, index, delta, data)
        local text = delta.partial_json
        if type(text) ~= "string" or text == "" then
            return "idle"
        end
        local block = block_for(self, index, takes_input)
        if not block or block.stopped then
            return nonsense(self, data, "has arguments of a call that did not begin, or had ended")
        end
        return add_input(block, text)
    end,
    signature_delta = function(self, index, delta, data)
        local block = block_for(self, index, function(block)
            return block.kind == "thinking" and not block.value
        end)
        if block and type(delta.signature) == "string" then
            block.pieces.signature = json.raw(data, "delta", "signature")
        end
        return "more"
    end,
    citations_delta = function(self, index, delta, data)
        local block = block_for(self, index, function(block)
            return block.kind == "text" and not block.value
        end)
        if block and history.is_object(delta.citation) then
            local list = block.pieces.citations
            if not list then
                local known = block.start.citations
                list = type(known) == "table" and json.elements(json.raw(block.raw, "citations")) or {}
                block.pieces.citations = list
            end
            list[#list + 1] = json.raw(data, "delta", "citation")
        end
        return "more"
    end,
}

-- ---- events: type -> function(self, value, data, tell) -> what | nil, err ----

local function add_usage(self, usage)
    for name, count in pairs(history.is_object(usage) and usage or {}) do
        if count ~= json.null then -- cumulative: the last one counts
            self.usage[name] = count
        end
    end
end

local function add_stop(self, from)
    if type(from.stop_reason) == "string" then
        self.stop_reason = from.stop_reason
    end
    if history.is_object(from.stop_details) then
        self.stop_details = from.stop_details
    end
end

local EVENTS = {}

function EVENTS.message_start(self, value)
    local message = history.is_object(value.message) and value.message or {}
    add_usage(self, message.usage)
    add_stop(self, message)
    return "more"
end

function EVENTS.content_block_start(self, value, data, tell)
    if not history.is_object(value.content_block) then
        return nonsense(self, data, "has a block that is none")
    end
    local block = begin(self, index_of(value.index), value.content_block, json.raw(data, "content_block"))
    if block.kind == "text" and block.pieces.text then
        tell("text", value.content_block.text)
    elseif block.kind == "thinking" and block.pieces.thinking then
        tell("reasoning", value.content_block.thinking)
    end
    tell_ready(self, tell)
    return "more"
end

function EVENTS.content_block_delta(self, value, data, tell)
    local delta = history.is_object(value.delta) and value.delta or {}
    local read, index = DELTAS[delta.type], index_of(value.index)
    if read then
        return read(self, index, delta, data, tell)
    end
    local block = self.by_index[index]
    if block then
        block.damaged = true -- of an unknown kind it cannot be sent back: something of it is missing
    end
    return "more"
end

function EVENTS.content_block_stop(self, value, _, tell)
    local block = self.by_index[index_of(value.index)] or self.blocks[#self.blocks]
    if block then
        block.stopped = true
        tell_ready(self, tell)
    end
    return "more"
end

function EVENTS.message_delta(self, value)
    add_stop(self, history.is_object(value.delta) and value.delta or {})
    add_usage(self, value.usage)
    return "more"
end

function EVENTS.message_stop(self)
    self.ended = true
    return "end"
end

function EVENTS.ping()
    return "idle"
end

function EVENTS.error(self, value)
    return nil, faults.described(self.ctx.target, self.res, faults.error_in(value) or {}, value.request_id)
end

--- reader:plain(tell, ...) -> "more" | "idle" | nil, see the interface of providers: of an event its type, index, and
-- of its delta the type, text, thinking and partial_json; of the first two, strings,
-- also what stands in JSON, if they have escapes.
function Reader:plain(tell, kind, index, delta, text, raw_text, thinking, raw_thinking, input)
    if kind ~= "content_block_delta" then
        return nil
    elseif delta == "text_delta" then
        local block = self.by_index[index] -- as nearly always: that of the delta before
        local list = block and block.kind == "text" and not block.value and block.pieces.text
        if list and text and text ~= "" then
            list[#list + 1] = raw_text or text
            tell("text", text)
            self.list = list
            return "more", raw_text == nil
        end
        return add_text(self, index_of(index), text, raw_text, tell)
    elseif delta == "thinking_delta" then
        return add_thinking(self, index_of(index), thinking, raw_thinking, tell)
    end
    local block = delta == "input_json_delta" and type(input) == "string" and self.by_index[index_of(index)]
    if not block or block.stopped or input == "" or not takes_input(block) then
        return nil
    end
    return add_input(block, input)
end

--- reader:again(tell, text): another delta of text of the same block, without escapes.
Reader.TEXT = 4

function Reader:again(tell, text)
    local list = self.list
    list[#list + 1] = text
    tell("text", text)
end

--- reader:event(event, tell) -> "more" | "idle" | "end" | nil, err
function Reader:event(event, tell)
    local value, _, data = mend.decode(event.data)
    if not history.is_object(value) then
        if event.event == "error" then
            return nil, faults.described(self.ctx.target, self.res, event.data)
        elseif event.event == "ping" or event.data == "[DONE]" or not event.data:find("%S") then
            return "idle"
        end
        return nonsense(self, event.data, "has an event that is no JSON object")
    end
    local kind = type(value.type) == "string" and value.type or event.event
    if not KNOWN[kind] and faults.error_in(value) then
        kind = "error"
    end
    if KNOWN[kind] then
        return EVENTS[kind](self, value, data, tell)
    end
    return "idle"
end

--- reader:finish(tail, tell) -> answer | nil, err
function Reader:finish(tail, tell)
    local ctx = self.ctx
    if not self.ended then
        local value = tail ~= "" and json.decode(tail) or nil
        local e = faults.error_in(value)
        if e then
            return nil, faults.described(ctx.target, self.res, e, value.request_id)
        end
        return nil, fault.broken(ctx.target, self.res)
    end
    for _, block in ipairs(self.blocks) do
        block.stopped = true
    end
    tell_ready(self, tell)
    return answer.answer(ctx, self.blocks, {
        stop_reason = self.stop_reason, stop_details = self.stop_details, usage = self.usage })
end

return M
