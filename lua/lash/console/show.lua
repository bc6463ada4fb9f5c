--- Values as the console shows them: bounded in depth, in entries and in length, cycles marked, strings in
-- quotes with their control characters escaped, functions with their place. Nothing of the value is run but
-- __tostring and __name of values that have them.
local json = require "lash.json"

local M = {}

local DEPTH, ENTRIES, STRING = 4, 50, 1000 -- levels of tables, entries of each, bytes of a string inside a table

local RESERVED = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
    until while]]):gmatch "%a+" do
    RESERVED[word] = true
end

local ESCAPES = { ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r", ["\\"] = "\\\\", ['"'] = '\\"', ["\0"] = "\\0" }

local function escaped(char)
    return ESCAPES[char] or ("\\x%02X"):format(char:byte())
end

--- quote(text [, limit]) -> the text as a Lua string on one line; over the limit cut, with its length
function M.quote(text, limit)
    local rest = ""
    if limit and #text > limit then
        local cut = utf8.len(text) and utf8.offset(text, 0, limit + 1) or limit + 1
        rest = ("... (%d bytes)"):format(#text)
        text = text:sub(1, cut - 1)
    end
    local pattern = utf8.len(text) and '[%c"\\]' or '[%c"\\\x80-\xff]'
    return '"' .. text:gsub(pattern, escaped) .. '"' .. rest
end

local function function_text(fn)
    local info = debug.getinfo(fn, "S")
    if info.what == "C" then
        return tostring(fn):gsub("^function: ", "function: C ")
    end
    return ("function <%s:%d>"):format(info.short_src, info.linedefined)
end

local function number_text(value)
    return ("%s"):format(value)
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
    while rawget(value, n + 1) ~= nil and n < ENTRIES do
        n = n + 1
    end
    return n
end

local show

local function key_text(out, key)
    if type(key) == "string" and key:find "^[%a_][%w_]*$" and not RESERVED[key] then
        return key
    end
    return "[" .. show(out, key, 0) .. "]"
end

local function head_of(value)
    local mt = debug.getmetatable(value)
    if type(mt) ~= "table" then
        return ""
    end
    local name = rawget(mt, "__name")
    return type(name) == "string" and name .. " " or "<metatable> "
end

-- The text that an object says it has; nil when there is none, or it fails.
local function own_text(value)
    local mt = debug.getmetatable(value)
    local fn = type(mt) == "table" and rawget(mt, "__tostring")
    if not fn then
        return nil
    end
    local ok, text = pcall(tostring, value)
    return ok and text or "<__tostring fails>"
end

local function entries_of(out, value, depth)
    local parts = {}
    local count = plain_length(value)
    for i = 1, count do
        parts[i] = show(out, rawget(value, i), depth - 1)
    end
    local keys, more = keys_of(value, rawlen(value) > count and count or math.max(count, 0))
    for _, key in ipairs(keys) do
        if #parts >= ENTRIES then
            more = more + 1
        else
            parts[#parts + 1] = key_text(out, key) .. " = " .. show(out, rawget(value, key), depth - 1)
        end
    end
    if more > 0 then
        parts[#parts + 1] = ("... (%d more)"):format(more)
    end
    return parts
end

local WIDTH = 76

local function table_text(out, value, depth)
    if out.open[value] then
        return "<cycle>"
    elseif next(value) == nil then
        return getmetatable(value) == json.array_mt and "[]" or head_of(value) .. "{}"
    elseif depth <= 0 then
        return head_of(value) .. "{...}"
    end
    out.open[value] = true
    local parts = entries_of(out, value, depth)
    out.open[value] = nil
    local head = debug.getmetatable(value) == json.array_mt and "" or head_of(value)
    local line = head .. "{ " .. table.concat(parts, ", ") .. " }"
    if #line <= WIDTH and not line:find "\n" then
        return line
    end
    for i, part in ipairs(parts) do
        parts[i] = "  " .. part:gsub("\n", "\n  ") .. ","
    end
    return head .. "{\n" .. table.concat(parts, "\n") .. "\n}"
end

function show(out, value, depth)
    local kind = type(value)
    if kind == "string" then
        return M.quote(value, STRING)
    elseif kind == "number" then
        return number_text(value)
    elseif kind == "function" then
        return function_text(value)
    elseif kind == "table" then
        local text = own_text(value)
        if text then
            return (text:gsub("[%z\1-\9\11-\31\127]", escaped))
        end
        return table_text(out, value, depth)
    elseif kind == "userdata" then
        return (own_text(value) or tostring(value)):gsub("[%z\1-\9\11-\31\127]", escaped), nil
    end
    return tostring(value)
end

--- value(v) -> text, perhaps of several lines
function M.value(v)
    if v == json.null then
        return "lash.null"
    end
    local text = show({ open = {} }, v, DEPTH)
    return text
end

--- values(n, ...) -> the texts of several results, each on lines of its own when one is long
function M.values(n, ...)
    local list = table.pack(...)
    local texts, long = {}, false
    for i = 1, n do
        texts[i] = M.value(list[i])
        long = long or texts[i]:find("\n", 1, true) ~= nil
    end
    return table.concat(texts, long and "\n" or "\t")
end

return M
