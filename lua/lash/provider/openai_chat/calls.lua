-- The tool calls of one answer in the Chat Completions protocol, put together from what servers send.
--
-- A slot is a call in the making. Servers differ in how a fragment says to which call it belongs: by
-- index, by id, by a name, or not at all; some give every call the index 0, count fragments instead of
-- calls, send all arguments so far each time, or the whole of them again at the end. Where two readings
-- are possible, the one that gives JSON is right. What no reading makes whole stays as it came: then the
-- model is told that its arguments are no JSON.
local history = require "lash.provider.history"
local json = require "lash.json"
local scan = require "lash.provider.openai_chat.scan"

local M = {}

local Calls = {}
Calls.__index = Calls

-- Names under which some models of OpenAI wrap several calls in one.
local WRAPPERS = { parallel = true, ["multi_tool_use.parallel"] = true }

-- A greater index is no index; a longer name is not put together.
local INDEX_MAX, NAME_MAX = 1 << 20, 1024

--- new(view) -> calls, none yet. The tools of the view help to put split names together.
function M.new(view)
    local tools = {}
    for _, tool in ipairs(view.tools or {}) do
        tools[tool.name] = true
    end
    return setmetatable({
        slots = {},      -- in the order of arrival
        by_index = {}, by_id = {},
        last = nil,      -- the slot of the last entry
        loose = false,   -- the indexes are no order: some are missing, or come twice
        counted = 0,     -- so many of the first slots have the indexes 0, 1, 2 ...
        told = 0,        -- so many of the first slots were given out by ready()
        chunk = 0,
        tools = tools,
    }, Calls)
end

-- ---- one slot ----

local function open(calls, index, id)
    local slot = { index = index, id = id, chunk = calls.chunk, before = calls.last, pieces = {},
        scan = scan.new(), growing = true, extra = {}, extra_function = {} }
    calls.slots[#calls.slots + 1] = slot
    calls.loose = calls.loose or not index or calls.by_index[index] ~= nil
    if index == #calls.slots - 1 and calls.counted == index then
        calls.counted = index + 1
    end
    if index then
        calls.by_index[index] = slot
    end
    if id then
        calls.by_id[id] = slot
    end
    return slot
end

-- The arguments so far, all fragments in a row.
local function joined(slot)
    if #slot.pieces > 1 then
        slot.last_piece = slot.last_piece or slot.pieces[#slot.pieces]
        slot.pieces = { table.concat(slot.pieces) }
    end
    return slot.pieces[1] or ""
end

-- Whether its arguments are whole: their last bracket is closed.
local function closed(slot)
    if slot.scan.closed then
        return true
    end
    return slot.growing and slot.count and slot.count > 1 and scan.is_closed(slot.last_piece) or false
end

local function put(slot, piece)
    -- Growing: each fragment begins with the one before.
    local before = slot.last_piece
    slot.growing = slot.growing and (not before or #piece >= #before and piece:sub(1, #before) == before)
    slot.last_piece, slot.count = piece, (slot.count or 0) + 1
    slot.pieces[#slot.pieces + 1] = piece
    slot.scan:add(piece)
end

local function is_empty_object(text)
    return text:find("^%s*{%s*}%s*$") ~= nil
end

local function is_same(text, other)
    if text == other then
        return true
    end
    local a, b = json.decode(text), json.decode(other)
    return type(a) == "table" and type(b) == "table" and json.encode(a) == json.encode(b)
end

local function start_anew(slot)
    slot.pieces, slot.scan, slot.last_piece, slot.count = {}, scan.new(), nil, nil
    slot.growing, slot.spoilt, slot.broken = true, nil, nil
end

-- One more fragment of the arguments.
local function add_arguments(slot, piece)
    if slot.scan.closed and not slot.spoilt then
        if not piece:find("%S") then
            return
        end
        local text = joined(slot)
        if is_same(piece, text) then
            return -- the whole again
        elseif is_empty_object(text) and piece:find("^%s*{") then
            start_anew(slot) -- it stood for "none yet"
        else
            slot.spoilt = true
        end
    end
    put(slot, piece)
end

-- ---- names ----

local function begins_a_tool(calls, text)
    if calls.tools[text] then
        return true
    end
    for name in pairs(calls.tools) do
        if name:sub(1, #text) == text then
            return true
        end
    end
    return false
end

-- What a slot's name becomes with one more piece: names come once, or again and again, or in pieces.
local function next_name(calls, name, piece)
    local both = name .. piece
    if piece == name or #both > NAME_MAX then
        return name
    elseif calls.tools[piece] and (calls.tools[name] or not begins_a_tool(calls, both)) then
        return piece
    elseif begins_a_tool(calls, both) then
        return both
    elseif piece:sub(1, #name) == name or calls.tools[name] then
        return calls.tools[name] and name or piece
    end
    return both
end

-- Whether a piece goes on with a name, rather than being another.
local function continues(calls, name, piece)
    return not calls.tools[name] and not calls.tools[piece] and begins_a_tool(calls, name .. piece)
        or not calls.tools[name] and calls.tools[name .. piece]
end

-- ---- which slot ----

-- Whether an entry with a name begins another call though its slot is taken: the slot is whole.
local function is_another(calls, slot, e)
    if not e.name or not slot.name then
        return false
    elseif calls.tools[e.name] and calls.tools[slot.name] and e.name ~= slot.name and (not e.id or e.id ~= slot.id)
        and (slot.pieces[1] or e.name:sub(1, #slot.name) ~= slot.name) then
        return true
    end
    local together, blank = slot.chunk == calls.chunk, not e.args or not e.args:find("%S")
    if blank or not slot.pieces[1] then
        return together and blank and not slot.pieces[1] and e.name == slot.name
    elseif not closed(slot) or not e.args:find("^%s*{") then
        return false
    end
    local text = slot.growing and slot.count > 1 and slot.last_piece or joined(slot)
    return together or not is_same(e.args, text) and not is_empty_object(text)
end

local function by_index(calls, e)
    local slot = calls.by_index[e.index]
    if not slot then
        return open(calls, e.index, e.id)
    elseif e.id and slot.id and e.id ~= slot.id then
        local known = calls.by_id[e.id]
        if known and known.index == e.index then
            return known -- all have this index
        elseif e.name and slot.name then
            return open(calls, e.index, e.id)
        end
    end
    if is_another(calls, slot, e) then
        return open(calls, e.index, e.id)
    end
    local last = calls.last
    if not e.id and not e.name and e.args and slot ~= last and slot.scan.closed and not closed(last)
        and e.args:find("%S") and not is_same(e.args, joined(slot)) then
        return last -- the index went astray: this slot is whole
    end
    return slot
end

local function without_index(calls, e)
    local last = calls.last
    if e.id then
        local slot = calls.by_id[e.id]
        if slot and not is_another(calls, slot, e) then
            return slot
        elseif not slot and last and not last.id and (not e.name or not last.name) then
            return last -- the id comes later than the rest
        end
        return open(calls, nil, e.id)
    elseif e.name then
        if last and (not last.name or not last.pieces[1] and continues(calls, last.name, e.name)) then
            return last
        end
        return open(calls, nil, nil)
    end
    return last or open(calls, nil, nil)
end

-- ---- entries ----

local function index_of(value)
    if type(value) == "string" then
        value = tonumber(value)
    end
    local index = type(value) == "number" and math.tointeger(value)
    return index and index >= 0 and index <= INDEX_MAX and index or nil
end

local function id_of(value)
    if math.type(value) == "integer" then
        value = tostring(value)
    end
    return type(value) == "string" and value ~= "" and value or nil
end

local KNOWN = { index = true, id = true, type = true, ["function"] = true }
local KNOWN_FUNCTION = { name = true, arguments = true }

-- Keeps what is not known, as the texts that came: field -> list of texts.
local function keep(extra, value, known, raw)
    for name, v in pairs(value) do
        if not known[name] and v ~= json.null then
            extra[name] = extra[name] or {}
            table.insert(extra[name], (raw(name)))
        end
    end
end

--- calls:begin(): what is added from now on came together.
function Calls:begin()
    self.chunk = self.chunk + 1
end

--- calls:open() -> slot for add(): a call of its own
function Calls:open()
    return open(self, nil, nil)
end

--- calls:add(value, raw [, slot]): one entry of `tool_calls`. raw(...) is the exact text of what is at that
-- path in it. @return whether it said anything
function Calls:add(value, raw, slot)
    if not history.is_object(value) then
        return false
    end
    local f = history.is_object(value["function"]) and value["function"] or {}
    local args = f.arguments
    if args ~= nil and args ~= json.null and type(args) ~= "string" then
        args = raw("function", "arguments")
    elseif type(args) ~= "string" then
        args = nil
    end
    local e = { index = index_of(value.index), id = id_of(value.id), args = args,
        name = type(f.name) == "string" and f.name ~= "" and f.name or nil }
    slot = slot or (e.index and by_index or without_index)(self, e)
    if e.id and not slot.id then
        slot.id = e.id
        self.by_id[e.id] = self.by_id[e.id] or slot
    end
    if e.name and not slot.place then
        slot.name = slot.name and next_name(self, slot.name, e.name) or e.name
    end
    if args and args ~= "" and not slot.place then -- what was given out stays as it is
        if type(f.arguments) ~= "string" then
            start_anew(slot) -- no fragment: a value is whole
        end
        add_arguments(slot, args)
    end
    keep(slot.extra, value, KNOWN, raw)
    keep(slot.extra_function, f, KNOWN_FUNCTION, function(name)
        return raw("function", name)
    end)
    self.last = slot
    return true
end

--- calls:whole(list, raw): `tool_calls` of a whole message that comes after its pieces: it fills what they left
-- out. raw as in add(), with the position in front.
function Calls:whole(list, raw)
    self:begin()
    for i, value in ipairs(list) do
        local slot = self.slots[i]
        local f = history.is_object(value) and history.is_object(value["function"]) and value["function"] or {}
        if not slot or not slot.pieces[1] and (not slot.name or slot.name == f.name) then
            self:add(value, function(...)
                return raw(i, ...)
            end, slot or open(self, nil, nil))
        end
    end
end

-- ---- the result ----

-- A text that was encoded twice, or more often, is what is in it.
local function unwrapped(text, value)
    for _ = 1, 3 do
        if type(value) ~= "string" or not text:find('^%s*"') then
            return text
        elseif not value:find("%S") then
            return ""
        end
        local inner = json.decode(value)
        if type(inner) ~= "table" and type(inner) ~= "string" then
            return text
        end
        text, value = value, inner
    end
    return text
end

-- JSON text, or what came in its place; "" for none
local function arguments(slot)
    local text = joined(slot)
    if not text:find("%S") then
        return ""
    end
    local value, err = json.decode(text)
    if err and slot.growing and slot.count > 1 then
        local last, worse = json.decode(slot.last_piece)
        if not worse then
            text, value, err = slot.last_piece, last, nil
        end
    end
    return err and text or unwrapped(text, value)
end

-- Fragments with an index of their own and nothing else belong to the call before them, if it needs them.
local function fold(calls)
    local kept, into = {}, {}
    for _, slot in ipairs(calls.slots) do
        if slot.name then
            kept[#kept + 1] = slot
            into[slot] = slot
        elseif slot.before and not (slot.id and closed(slot)) then
            local target = into[slot.before]
            into[slot] = target
            if target and slot.pieces[1] and not closed(target) then
                put(target, joined(slot))
            end
        end
    end
    return kept
end

local function sort(slots)
    local seen = {}
    for _, slot in ipairs(slots) do
        if not slot.index or seen[slot.index] then
            return
        end
        seen[slot.index] = true
    end
    table.sort(slots, function(a, b)
        if a.place or b.place then
            return (a.place or math.huge) < (b.place or math.huge)
        end
        return a.index < b.index
    end)
end

--- calls:ready() -> the next call | nil: given out when it is surely whole and surely the next. All others
-- come with finish().
function Calls:ready()
    local n = self.told + 1
    local slot, later = self.slots[n], self.slots[n + 1]
    if not later or not slot.name or not slot.id or WRAPPERS[slot.name] and not self.tools[slot.name]
        or not slot.scan.closed or slot.spoilt or slot.broken or not self.loose and self.counted < n then
        return nil
    end
    local text = joined(slot)
    slot.broken = not history.object_text(text)
    if slot.broken or is_empty_object(text) then
        return nil
    end
    self.told, slot.place = n, n
    slot.args = text
    return slot
end

--- calls:finish() -> the calls in order: { id = as given or nil, name =, args =, place = if ready() gave it out,
-- extra and extra_function = fields that are not known -> the texts of their values }
function Calls:finish()
    local slots = fold(self)
    sort(slots)
    for _, slot in ipairs(slots) do
        slot.args = arguments(slot)
    end
    return slots
end

--- is_whole(args) -> whether arguments are some JSON text
function M.is_whole(args)
    return args ~= "" and select(2, json.decode(args)) == nil
end

return M
