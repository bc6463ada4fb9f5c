-- The shorthand for a tool's parameters, made into JSON Schema:
--
--   { city = "string: name of the city", days = "integer?: 1 to 7", unit = "C|F",
--     tags = "string[]?", place = { lat = "number", lon = "number" } }
--
-- A field is "TYPE", "TYPE?" (may be left out), either with ": text" behind it. TYPE is one of
-- string integer number boolean object array any, TYPE[] for an array of them, or "a|b|c" for one
-- of these words. A nested table is an object by the same rules, always: it is never read as JSON
-- Schema. A complete JSON Schema goes under `schema` of the tool instead.

local json = require "lash.json"
local near = require "lash.near"

local M = {}

local TYPES = { "string", "integer", "number", "boolean", "object", "array", "any" }
local DEPTH = 100

-- What other languages call them.
local MEANT = { float = "number", double = "number", long = "integer", text = "string",
    list = "array", table = "object", dict = "object", map = "object", null = "any" }

local is_type = {}
for _, name in ipairs(TYPES) do
    is_type[name] = true
end
local is_json_type = { null = true }
for _, name in ipairs(TYPES) do
    is_json_type[name] = name ~= "any" or nil
end

-- Faults are raised as tables and caught in M.schema.
local function refuse(field, message)
    error({ refusal = (field ~= "" and field .. ": " or "") .. message }, 0)
end

local function trim(text)
    return (text:match("^%s*(.-)%s*$"))
end

local function plain_type(name)
    local schema = {}
    if name ~= "any" then
        schema.type = name
    end
    if name == "array" then
        schema.items = {} -- some servers want it said that anything may be in there
    end
    return schema
end

local function enumeration(field, text)
    local words, seen, types = json.array {}, {}, 0
    for word in (text .. "|"):gmatch("([^|]*)|") do
        word = trim(word)
        if word == "" then
            refuse(field, ('an alternative of "%s" is empty'):format(text))
        elseif seen[word] then
            refuse(field, ('"%s" stands twice in "%s"'):format(word, text))
        end
        seen[word] = true
        words[#words + 1] = word
        types = types + (is_type[word] and 1 or 0)
    end
    if types == #words then
        refuse(field, ('"%s" would mean these words themselves; for one of several types write a '
            .. "complete JSON Schema under `schema`"):format(text))
    end
    return { type = "string", enum = words }
end

local function type_schema(field, text)
    if text:find("|", 1, true) then
        return enumeration(field, text)
    end
    local inner = text:match("^(.-)%s*%[%s*%]$")
    if inner then
        return { type = "array", items = type_schema(field, inner) }
    elseif is_type[text] then
        return plain_type(text)
    end
    local list = table.concat(TYPES, ", ")
    local meant = MEANT[text] and (" (did you mean '%s'?)"):format(MEANT[text])
    if text == "" then
        refuse(field, "the type is missing; the types are " .. list)
    end
    refuse(field, ('"%s" is no type%s; the types are %s, and "a|b" is a choice of words'):format(
        text, meant or near.hint(text, TYPES), list))
end

-- "integer?: 1 to 7" -> schema, optional
local function field_schema(field, text)
    local head, words = text:match("^([^:]*):(.*)$")
    head = trim(head or text)
    local required = head:match("^(.-)%s*%?$")
    local schema = type_schema(field, required or head)
    words = words and trim(words)
    if words and words ~= "" then
        schema.description = words
    end
    return schema, required ~= nil
end

local object_schema

local function any_schema(field, spec, depth)
    if type(spec) == "string" then
        return field_schema(field, spec)
    elseif type(spec) == "table" then
        return object_schema(field, spec, depth + 1), false
    end
    refuse(field, ('expected "TYPE: text" or a table of fields, found a %s'):format(type(spec)))
end

function object_schema(field, fields, depth)
    if depth > DEPTH then
        refuse("", "the table contains itself")
    elseif rawget(fields, 1) ~= nil or getmetatable(fields) == json.array_mt then
        refuse(field, "a list says nothing about fields; for an array of objects write a "
            .. "complete JSON Schema under `schema`")
    elseif type(fields.properties) == "table" and is_json_type[fields.type] then
        refuse(field, "this looks like JSON Schema, which goes under `schema` of the tool")
    end
    local names = {}
    for name in next, fields do
        if type(name) ~= "string" then
            refuse(field, ("the name of a field must be a string, found a %s"):format(type(name)))
        end
        names[#names + 1] = name
    end
    table.sort(names)
    local properties, required = {}, json.array {}
    for _, name in ipairs(names) do
        local path = field == "" and name or field .. "." .. name
        local schema, optional = any_schema(path, fields[name], depth)
        properties[name] = schema
        if not optional then
            required[#required + 1] = name
        end
    end
    return { type = "object", properties = properties, required = required,
        additionalProperties = false }
end

--- schema(shorthand) -> JSON Schema | nil, err
-- An object schema whose `required` lists the fields without `?`, sorted, and which allows no
-- others. Encoded with lash.json.encode() the same shorthand always gives the same bytes. err.code
-- is "params"; err.message names the field: `days: "intger" is no type; did you mean "integer"?
-- ...`.
function M.schema(shorthand)
    if type(shorthand) ~= "table" then
        return nil, setmetatable({ code = "params",
            message = "expected a table of fields, found a " .. type(shorthand) }, json.error_mt)
    end
    local ok, result = pcall(object_schema, "", shorthand, 1)
    if ok then
        return result
    elseif type(result) == "table" and result.refusal then
        return nil, setmetatable({ code = "params", message = result.refusal }, json.error_mt)
    end
    error(result, 0)
end

return M
