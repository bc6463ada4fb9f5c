--- Values as the console shows them: bounded in depth, in entries and in length, cycles marked, strings in
-- quotes with their control characters escaped, functions with their place. Nothing of the value is run but the
-- __tostring of values that have one.
local agents = require "lash.agent"
local json = require "lash.json"
local lash = require "lash"
local prompt = require "lash.prompt"
local text = require "lash.text"
local tool = require "lash.tool"

local M = {}

local DEPTH, ENTRIES, STRING = 4, 50, 1000 -- levels of tables, entries of each, bytes of a string
local WIDTH = 76                           -- of a table on one line
local NESTED = 200                         -- bytes of an object's text inside a table

local RESERVED = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
    until while]]):gmatch "%a+" do
    RESERVED[word] = true
end

-- Colours are marked with bytes that no shown text has, until it is known where lines end.
local COLOURS = { string = "green", number = "cyan", boolean = "yellow", ["nil"] = "yellow", object = "magenta",
    note = "dim" }
local MARKS, NAMES = {}, {}
for i, kind in ipairs { "string", "number", "boolean", "nil", "object", "note" } do
    MARKS[kind], NAMES[string.char(i)] = string.char(i), kind
end
local OVER = "\7"

local function marked(kind, shown)
    return MARKS[kind] .. shown .. OVER
end

local function without_marks(shown)
    return (shown:gsub("[\1-\7]", ""))
end

local ESCAPES = { ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r", ["\\"] = "\\\\", ['"'] = '\\"', ["\0"] = "\\0" }

local function escaped(char)
    return ESCAPES[char] or ("\\x%02X"):format(char:byte())
end

local function cut(value, limit)
    if #value <= limit then
        return value, ""
    end
    local at = limit + 1
    while at > limit - 3 and (value:byte(at) or 0) & 0xC0 == 0x80 do -- not inside a letter
        at = at - 1
    end
    return value:sub(1, at - 1), ("... (%d bytes)"):format(#value)
end

--- quote(value [, limit]) -> the text as a Lua string on one line; over the limit cut, with its length
function M.quote(value, limit)
    local shown, rest = cut(value, limit or math.huge)
    local pattern = utf8.len(shown) and '[%c"\\]' or '[%c"\\\x80-\xff]'
    shown = text.plain((shown:gsub(pattern, escaped)))
    return '"' .. shown .. '"' .. rest
end

local function function_text(fn)
    local info = debug.getinfo(fn, "S")
    if info.what == "C" then
        return (tostring(fn):gsub("^function: ", "function: C "))
    end
    return ("function <%s:%d>"):format(info.short_src, info.linedefined)
end

-- How keys are put in order: numbers, then texts, then all else as it comes.
local function before(a, b)
    local ta, tb = type(a), type(b)
    if ta == tb and (ta == "number" or ta == "string") then
        return a < b
    end
    local rank = { number = 1, string = 2 }
    return (rank[ta] or 3) < (rank[tb] or 3)
end

local function keys_of(value, count)
    local keys, more = {}, 0
    for key in next, value do
        if not (math.type(key) == "integer" and key >= 1 and key <= count) then
            if #keys < ENTRIES * 20 then
                keys[#keys + 1] = key
            else
                more = more + 1
            end
        end
    end
    table.sort(keys, before)
    return keys, more
end

local function plain_length(value)
    local n = 0
    while n < ENTRIES and rawget(value, n + 1) ~= nil do
        n = n + 1
    end
    return n
end

-- ---- objects ----

--- signature(tool) -> "name(a: integer, b: string?)"
function M.signature(one)
    local parts = {}
    for i, p in ipairs(require("lash.cmd.tools").parameters(one)) do
        parts[i] = ("%s: %s%s"):format(p.name, p.type, p.required and "" or "?")
    end
    return ("%s(%s)"):format(one.name, table.concat(parts, ", "))
end

-- What lash itself has made, in few words; nil for all else.
local function of_lash(value)
    local mt = debug.getmetatable(value)
    if rawequal(value, lash) then
        return ("lash %s (?lash.NAME helps, Tab completes names)"):format(lash.version)
    elseif rawequal(mt, tool.Tool) then
        return "tool " .. M.signature(value)
    elseif rawequal(mt, agents.Agent) then
        return ("agent %s%s"):format(value.name, value.model and (" [%s]"):format(value.model) or "")
    elseif rawequal(mt, prompt.Prompt) then
        return "prompt " .. value.name
    elseif type(mt) == "table" and rawget(mt, "__name") == "lash.conversation" and rawget(value, "entries") then
        return ("conversation with %s (%d entries)"):format(value.agent.name, #value.entries)
    end
    return nil
end

-- The text that an object says it has; nil when there is none.
local function own_text(value)
    local mt = debug.getmetatable(value)
    local fn = type(mt) == "table" and rawget(mt, "__tostring")
    if not fn then
        return nil
    end
    local ok, said = pcall(tostring, value)
    return ok and text.plain(said) or "<__tostring fails>"
end

local function head_of(value)
    local mt = debug.getmetatable(value)
    if type(mt) ~= "table" or rawequal(mt, json.array_mt) then
        return ""
    end
    local name = rawget(mt, "__name")
    return type(name) == "string" and text.plain(name):gsub("[\n\t]", " ") .. " " or "<metatable> "
end

-- ---- values ----

local show

local function key_text(out, key)
    if type(key) == "string" and key:find "^[%a_][%w_]*$" and not RESERVED[key] then
        return key
    end
    return "[" .. show(out, key, 0) .. "]"
end

local function entries_of(out, value, depth)
    local parts = {}
    local count = plain_length(value)
    for i = 1, count do
        parts[i] = show(out, rawget(value, i), depth - 1)
    end
    local keys, more = keys_of(value, count)
    for _, key in ipairs(keys) do
        if #parts >= ENTRIES then
            more = more + 1
        else
            parts[#parts + 1] = key_text(out, key) .. " = " .. show(out, rawget(value, key), depth - 1)
        end
    end
    if more > 0 then
        parts[#parts + 1] = marked("note", ("... (%d more)"):format(more))
    end
    return parts
end

local function table_text(out, value, depth)
    if out.open[value] then
        return marked("note", "<cycle>")
    elseif next(value) == nil then
        return rawequal(debug.getmetatable(value), json.array_mt) and "[]" or head_of(value) .. "{}"
    elseif depth <= 0 then
        return head_of(value) .. "{...}"
    end
    out.open[value] = true
    local parts = entries_of(out, value, depth)
    out.open[value] = nil
    local head = head_of(value)
    local line = head .. "{ " .. table.concat(parts, ", ") .. " }"
    if not line:find("\n", 1, true) and (utf8.len(without_marks(line)) or #line) <= out.width then
        return line
    end
    for i, part in ipairs(parts) do
        parts[i] = "  " .. part:gsub("\n", "\n  ") .. ","
    end
    return head .. "{\n" .. table.concat(parts, "\n") .. "\n}"
end

-- An object in a table is a line, one that is shown itself has all of its text.
local function object_text(out, value, depth)
    local said = of_lash(value)
    if said then
        return marked("object", text.plain(said))
    end
    said = own_text(value)
    if not said then
        return nil
    elseif depth == DEPTH then
        return said
    end
    local first, rest = cut(said, NESTED)
    return marked("object", (first:gsub("[%c]", escaped))) .. rest
end

function show(out, value, depth)
    local kind = type(value)
    if rawequal(value, json.null) then
        return marked("nil", "lash.null")
    elseif kind == "string" then
        return marked("string", M.quote(value, STRING))
    elseif kind == "function" then
        return marked("object", function_text(value))
    elseif kind == "table" then
        return object_text(out, value, depth) or table_text(out, value, depth)
    elseif kind == "userdata" or kind == "thread" then
        return object_text(out, value, depth) or marked("object", (text.plain(tostring(value)):gsub("%c", escaped)))
    end
    return marked(kind, tostring(value))
end

-- ---- as lines ----

local function painted(shown, paint)
    return (shown:gsub("([\1-\6])(.-)\7", function(mark, inner)
        return (inner:gsub("[^\n]+", function(line)
            return paint(COLOURS[NAMES[mark]], line)
        end))
    end))
end

-- As many lines as the terminal has room for; a line that is wider than it takes several.
local function bounded(shown, size)
    local used, at = 0, 1
    local room = size.rows - 3
    for line, stop in shown:gmatch "([^\n]*)()" do
        used = used + math.max(1, -((utf8.len(without_marks(line)) or #line) // -size.columns))
        if used > room and stop <= #shown then
            local _, more = shown:sub(at):gsub("\n", "\n")
            return shown:sub(1, math.max(at - 2, 0)), more + 1
        end
        at = stop + 1
    end
    return shown, 0
end

local function plain_paint(_, shown)
    return shown
end

--- values(size, paint, n, ...) -> what is shown of n results, without a line end; each has lines of its own when
-- one takes several.
-- @param size { rows =, columns = } of the terminal: what does not fit is counted; nil: all of it
-- @param paint as of lash.text.painter, or nil
function M.values(size, paint, n, ...)
    local list, texts, long, is_text = table.pack(...), {}, false, true
    local out = { open = {}, width = math.min(WIDTH, size and size.columns - 4 or WIDTH) }
    for i = 1, n do
        texts[i] = show(out, list[i], DEPTH)
        long = long or texts[i]:find("\n", 1, true) ~= nil
        is_text = is_text and (type(list[i]) == "string" or own_text(list[i]) ~= nil)
    end
    local shown = table.concat(texts, long and "\n" or "\t")
    local more = 0
    if size and size.rows > 4 then
        shown, more = bounded(shown, size)
    end
    shown = painted(shown, paint or plain_paint)
    if more > 0 then
        local note = ("... (%d more lines%s)"):format(more, is_text and "; print(_) shows all" or "")
        shown = shown .. "\n" .. (paint or plain_paint)("dim", note)
    end
    return shown
end

--- value(v) -> text, perhaps of several lines
function M.value(v)
    return M.values(nil, nil, 1, v)
end

return M
