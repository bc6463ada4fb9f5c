-- What the wire protocols share: ids of calls, the pairing of calls and outcomes, texts of outcomes.
--
-- The history of a conversation only grows. What a provider made of it is kept in conv.scratch under
-- the provider's name and continued with the new entries, so a turn costs its new entries and one
-- copy. All of it can be lost and is then made again, byte by byte the same.
local conversation = require "lash.conversation"
local core = require "lash.core.json"
local json = require "lash.json"

local M = {}

local NOTHING = {}
local asked = conversation.asked

--- Ids longer than this are refused by OpenAI.
local ID_MAX = 64

--- calls(answer) -> list of its call items, in order
M.calls = conversation.calls

--- compose(text, string, text, string ...) -> the texts, with the JSON forms of the strings between them. Bytes that
-- are not UTF-8 become U+FFFD.
M.compose = core.compose

--- join(before, texts, after) -> the texts with commas between them. No byte is copied twice.
M.join = core.join

--- body(before, texts, after) -> as join() gives it, for a request: a string or, if it is long, what lash.core.http
-- sends once, and tostring() makes a string of.
M.body = core.body

--- state(conv, name, new) -> the provider's memory of this conversation; made by new() if there is
-- none, or if the history is shorter than what was seen.
function M.state(conv, name, new)
    conv.scratch = conv.scratch or {}
    local state = conv.scratch[name]
    if not state or state.upto > #conv.entries then
        state = new()
        state.upto = 0
        conv.scratch[name] = state
    end
    return state
end

--- continue(state, conv, add) -> nil | why an entry cannot be sent
-- Calls add(state, index, entry, conv) -> nil | why for each entry that came since the last time. state.calls are those
-- that outcomes belong to. Raises when a call has no outcome or an outcome no call: that is a fault of lash, and no
-- provider would take it.
function M.continue(state, conv, add)
    local entries, open = conv.entries, state.open
    for i = state.upto + 1, #entries do
        local entry = entries[i]
        local kind = entry.type
        if kind == "outcomes" then
            if not open or #entry.items ~= #state.calls then
                error(("history: entry %d has %d outcomes for %d calls"):format(i, #entry.items,
                    open and #state.calls or 0))
            end
            open = false
        elseif open then
            error(("history: the calls of entry %d have no outcomes before entry %d"):format(i - 1, i))
        elseif kind == "answer" then
            local calls = asked(conv, entry)
            state.calls, open = calls or NOTHING, calls ~= nil
        end
        local why = add(state, i, entry, conv)
        if why then
            return why
        end
        state.open, state.upto = open, i
    end
    if open then
        error("history: the last answer has calls without outcomes")
    end
    return nil
end

--- invent(used, prefix, index, n) -> an id of our own for the n-th call of the entry `index`, which another provider
-- gave: it depends on what stands before it only. `used` = { [id] = true } of those that must not come again.
function M.invent(used, prefix, index, n)
    local id = ("%s_x%d_%d"):format(prefix, index, n)
    while used[id] do
        id = id .. "x"
    end
    return id
end

--- data_url(part) -> the content of an image or a file as a data: URL | nil without content
function M.data_url(part)
    if type(part.mime) ~= "string" or type(part.data) ~= "string" then
        return nil
    end
    return ("data:%s;base64,%s"):format(part.mime, part.data)
end

--- parts(entry, makers, protocol) -> JSON texts of the parts of a user's message, joined by commas | nil, why not
-- makers: { [type of part] = fn(part) -> JSON text | nil when it lacks what it needs }
function M.parts(entry, makers, protocol)
    local parts = {}
    for i, part in ipairs(entry.parts) do
        local make = makers[part.type]
        parts[i] = make and make(part)
        if not parts[i] then
            return nil, ("part %d of a message ('%s') cannot be sent by %s: it takes text, images and files, each with "
                .. "its content"):format(i, tostring(part.type), protocol)
        end
    end
    return table.concat(parts, ",")
end

-- name of a provider -> where conv.scratch has how much of it is forgotten
local FORGET = setmetatable({}, { __index = function(names, name)
    names[name] = name .. "_forget"
    return names[name]
end })

--- forget_key(name) -> where conv.scratch has what forgotten() tells, nil for 0
function M.forget_key(name)
    return FORGET[name]
end

--- forget(conv, name) -> whether there was anything to forget: from now on the answers that the provider
-- gave so far are sent as if another one had given them; entries up to forgotten(conv, name) count.
function M.forget(conv, name)
    local key = FORGET[name]
    local before = conv.scratch[key] or 0
    conv.scratch[key] = #conv.entries
    conv.scratch[name] = nil
    return before < #conv.entries
end

--- forgotten(conv, name) -> the number of entries that M.forget() covered, 0 without
function M.forgotten(conv, name)
    return conv.scratch[FORGET[name]] or 0
end

--- encoder(describe) -> function(tools): the JSON of describe(tool) of each, joined by commas, made once a list
function M.encoder(describe)
    local made = setmetatable({}, { __mode = "k" })
    return function(tools)
        if not made[tools] then
            local parts = {}
            for i, tool in ipairs(tools) do
                parts[i] = assert(json.encode(describe(tool), { lossy = true }))
            end
            made[tools] = table.concat(parts, ",")
        end
        return made[tools]
    end
end

--- seen(conv) -> { [id of a call so far] = true; what else is there does not count }: none may come again. Those of an
-- answer that was not added (yet) are its namer.
function M.seen(conv)
    return conv.ids or NOTHING
end

local function ids_anew(conv)
    conv.ids = nil
    for _, entry in ipairs(conv.entries) do
        local calls = entry.type == "answer" and asked(conv, entry)
        if calls then
            conversation.note_ids(conv, calls)
        end
    end
end

-- Many ids of answers that failed are forgotten; a few may stay.
local FEW = 64

--- namer(conv, taken) -> what M.new_id() takes, for the answer that comes next. `taken`: further ids that must not
-- be used, or nil.
function M.namer(conv, taken)
    conv.scratch = conv.scratch or {}
    local entry, last = #conv.entries + 1, conv.scratch.namer
    if last and last.entry == entry and last.count > FEW then
        ids_anew(conv)
    end
    conv.ids = conv.ids or {}
    local namer = { seen = conv.ids, taken = taken or NOTHING, entry = entry, count = 0 }
    conv.scratch.namer = namer
    return namer
end

local function is_taken(namer, id)
    local found = namer.seen[id]
    return found == true or found == namer or namer.taken[id]
end

-- tries: id -> the suffix it was given last, so that a thousand equal ones are not tried again each time
local function with_suffix(namer, base)
    local tries, name = namer.tries or {}, base
    local try = tries[base] or 1
    while is_taken(namer, name) do
        try = try + 1
        local suffix = ("_%d"):format(try)
        name = base:sub(1, ID_MAX - #suffix) .. suffix
    end
    tries[base], namer.tries = try, tries
    return name
end

--- new_id(namer, id, n) -> an id for the n-th call of the answer: the given one if it is new, else with a suffix,
-- `call_ENTRY_N` if there is none. The same history gives the same ids.
function M.new_id(namer, id, n)
    if type(id) ~= "string" or id == "" then
        id = ("call_%d_%d"):format(namer.entry, n)
    elseif #id > ID_MAX then
        id = id:sub(1, ID_MAX)
    end
    if is_taken(namer, id) then
        id = with_suffix(namer, id)
    end
    namer.seen[id] = namer
    namer.count = namer.count + 1
    return id
end

--- output_hint(output) -> what the system prompt says about a structured answer where the protocol, or the
-- model, has no field for it. `output` is { name =, schema = }.
function M.output_hint(output)
    return "Your final answer must be one JSON value that fits the following JSON Schema, with no other text and no "
        .. "code fence:\n" .. assert(json.encode(output.schema, { lossy = true }))
end

local LOSSY = { lossy = true }

--- quote(text) -> JSON string; bytes that are not UTF-8 become U+FFFD.
function M.quote(text)
    return (json.encode(text, LOSSY))
end

--- The text of an outcome that went wrong, never empty.
function M.fault_text(outcome)
    if outcome.output and outcome.output ~= "" then
        return outcome.output
    end
    return ("the call ended as '%s'"):format(outcome.status)
end

-- Deeper ones are too deep for a server.
local LEVELS = 64

--- object_text(text) -> the text when it is a JSON object, not too deep for a server; else nil
function M.object_text(text)
    return core.container(text, LEVELS) == "object" and text or nil
end

--- is_object_text(text) -> whether it is a JSON object
function M.is_object_text(text)
    return core.container(text) == "object"
end

--- container_text(text) -> the text when it is a JSON object or array; else nil
function M.container_text(text)
    return core.container(text, LEVELS) and text or nil
end

--- tool_named(view, name) -> the tool of that name | nil
function M.tool_named(view, name)
    for _, tool in ipairs(view.tools or {}) do
        if tool.name == name then
            return tool
        end
    end
    return nil
end

--- count(value) -> a count as an integer; 0 when there is none. Some come as text.
M.count = core.count

--- merge(base, extra): extra's values into base; objects are merged, anything else replaced.
function M.merge(base, extra)
    for name, value in pairs(extra) do
        local old = base[name]
        if type(value) == "table" and type(old) == "table" and getmetatable(value) == nil
            and getmetatable(old) == nil and value[1] == nil and old[1] == nil then
            M.merge(old, value)
        else
            base[name] = value
        end
    end
end

--- is_object(value) -> whether a decoded value is a JSON object
M.is_object = core.is_object

local BODY = { size = 64 << 20 }

--- decode(text) -> value | nil, err: an answer's body, up to the size that lash.http gives.
function M.decode(text)
    return json.decode(text or "", BODY)
end

--- shape(description) -> what M.pick() takes of a text: `true` stands for a value as decode() gives it, a table with
-- names for an object of which only these fields are taken, a list with one element for a list of such ones; with
-- raws = true beside its element, their exact texts are the second result.
M.shape = core.shape

--- pick(text, shape) -> value, raws | nil, err: as M.decode, but only what the shape has. A value that is of another
-- kind than the shape says is there as a whole.
function M.pick(text, shape)
    return core.pick(text or "", shape)
end

--- object(fields, raw) -> JSON object text with sorted keys | nil, err. `fields` are values, `raw` are
-- JSON texts that go in as they are.
function M.object(fields, raw)
    local names = {}
    for name in pairs(fields) do
        if type(name) ~= "string" then
            return nil, "the name of a field must be a string, found a " .. type(name)
        end
        names[#names + 1] = name
    end
    for name in pairs(raw) do
        names[#names + 1] = name
    end
    table.sort(names)
    local parts = {}
    for _, name in ipairs(names) do
        local text = raw[name]
        if not text then
            local err
            text, err = json.encode(fields[name], { name = name, lossy = true })
            if not text then
                return nil, err.message
            end
        end
        parts[#parts + 1] = "," .. M.quote(name) .. ":" -- a name of the user's may be any text
        parts[#parts + 1] = text
    end
    if parts[1] then
        parts[1] = parts[1]:sub(2)
    end
    return "{" .. table.concat(parts) .. "}"
end

return M
