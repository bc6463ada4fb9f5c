--- Arguments of a tool from words of a command line, typed by its JSON Schema:
--
--   --days 3   --days=3   --verbose   --no-verbose   --tag a --tag b   --box '{"w":1}'
--
-- A property is also found with - for _ in its name. A boolean needs no value; an array takes one word
-- after another, or JSON in one; objects are JSON. What fits no type goes on as it is, so that the
-- check against the schema names the fault.
local failure = require "lash.failure"
local json = require "lash.json"
local near = require "lash.near"

local M = {}

local DATA = 65
local DEPTH = 16 -- of references in a schema

local function resolve(root, schema, depth)
    local ref = type(schema) == "table" and schema["$ref"]
    if type(ref) ~= "string" or depth > DEPTH then
        return schema
    end
    local at = ref:sub(1, 1) == "#" and root or nil
    for part in ref:gmatch("/([^/]+)") do
        at = type(at) == "table" and at[(part:gsub("~1", "/"):gsub("~0", "~"))] or nil
    end
    return resolve(root, at, depth + 1)
end

local function json_type(value)
    if value == json.null then
        return "null"
    elseif type(value) == "table" then
        return getmetatable(value) == json.array_mt and "array" or "object"
    elseif type(value) == "number" then
        return math.type(value) == "integer" and "integer" or "number"
    end
    return type(value)
end

-- Adds what types a value may have to `types`, and the schema of array items.
local function types_of(root, schema, types, depth)
    schema = resolve(root, schema, depth)
    if type(schema) ~= "table" or depth > DEPTH then
        return types
    end
    if type(schema.type) == "string" then
        types[schema.type] = true
    elseif type(schema.type) == "table" then
        for _, name in ipairs(schema.type) do
            types[name] = true
        end
    elseif schema.const ~= nil then
        types[json_type(schema.const)] = true
    elseif type(schema.enum) == "table" then
        for _, value in ipairs(schema.enum) do
            types[json_type(value)] = true
        end
    end
    types.items = types.items or schema.items
    for _, key in ipairs { "anyOf", "oneOf", "allOf" } do
        for _, part in ipairs(type(schema[key]) == "table" and schema[key] or {}) do
            types_of(root, part, types, depth + 1)
        end
    end
    return types
end

local function is_any(types)
    for name in pairs(types) do
        if name ~= "items" then
            return false
        end
    end
    return true
end

local function as_number(text)
    local value = json.decode(text) -- exact; an integer of more than 64 bits becomes its text
    if type(value) == "number" then
        return value
    end
    return text:find("^[+-]?[%d.]") and not text:find("[xX]") and tonumber(text) or nil
end

-- One word as a value of one of the types, or nil.
local function convert(text, types)
    if types.null and text == "null" then
        return json.null
    elseif types.boolean and (text == "true" or text == "false") then
        return text == "true"
    elseif types.integer or types.number then
        local number = as_number(text)
        if number then
            return number
        end
    end
    if (types.object and text:find("^%s*{")) or (types.array and text:find("^%s*%[")) or is_any(types) then
        local value, err = json.decode(text)
        if not err then
            return value
        end
    end
    return nil
end

local function describe(types)
    local names = {}
    for name in pairs(types) do
        if name ~= "items" then
            names[#names + 1] = name
        end
    end
    table.sort(names)
    return table.concat(names, " or ")
end

local function value_of(root, flag, text, types)
    local value = convert(text, types)
    if value ~= nil then
        return value
    elseif types.string or is_any(types) then
        return text
    elseif types.array then
        return nil -- one element
    end
    local example = types.object and ", as JSON such as '{\"key\": 1}'" or ""
    failure.raise(DATA, "%s takes %s%s; got '%s'", flag, describe(types), example, text)
    return root
end

local function add_element(root, args, name, flag, text, types)
    local list = args[name] or json.array {}
    local item_types = types_of(root, types.items, {}, 1)
    list[#list + 1] = value_of(root, flag, text, item_types) or text
    args[name] = list
end

local function property(root, word)
    local properties = type(root.properties) == "table" and root.properties or {}
    for _, name in ipairs { word, (word:gsub("-", "_")) } do
        if properties[name] ~= nil then
            return name, properties[name]
        end
    end
    if root.additionalProperties ~= false and root.additionalProperties ~= nil then
        return word, root.additionalProperties
    end
    return nil
end

local function unknown(root, word, tool_name)
    local names = {}
    for name in pairs(type(root.properties) == "table" and root.properties or {}) do
        names[#names + 1] = name
    end
    table.sort(names)
    local there = #names > 0 and "its parameters are " .. table.concat(names, ", ") or "it takes none"
    local more = require("lash.options").known(word) and "; options of lash stand before the FILE" or ""
    failure.raise(DATA, "'%s' has no parameter '%s'%s; %s%s", tool_name, word, near.hint(word, names), there, more)
end

-- The value of a flag at words[i].
-- @return value or nil, the index of the last word that it took
local function word_value(words, i, inline, types)
    if inline then
        return inline, i
    end
    local after = words[i + 1]
    if types.boolean and not (after == "true" or after == "false") then
        local other = types.string or types.integer or types.number or types.array or types.object
        if not other or after == nil or after:find("^%-%-") then
            return "true", i
        end
    end
    return after, i + 1
end

local function take(root, args, words, i, tool_name)
    local word, inline = words[i]:match("^%-%-([^=]+)=(.*)$")
    word = word or words[i]:match("^%-%-(.+)$")
    if not word then
        failure.raise(DATA, "'%s' is no argument: write --NAME VALUE, or all arguments as JSON", words[i])
    end
    local name, schema = property(root, word)
    local negated = not name and word:match("^no%-(.+)$")
    if negated then
        name, schema = property(root, negated)
    end
    if not name then
        unknown(root, word, tool_name)
    end
    local types = types_of(root, schema, {}, 1)
    if negated then
        if not types.boolean then
            unknown(root, word, tool_name)
        end
        args[name] = false
        return i
    end
    local flag = "--" .. word
    local text, last = word_value(words, i, inline, types)
    if text == nil then
        failure.raise(DATA, "%s needs a value: %s", flag, describe(types))
    end
    local value = value_of(root, flag, text, types)
    if types.array and (value == nil or (args[name] ~= nil and type(value) ~= "table")) then
        add_element(root, args, name, flag, text, types)
    elseif args[name] ~= nil and not types.array then
        failure.raise(DATA, "%s is given twice", flag)
    else
        args[name] = value
    end
    return last
end

--- The JSON text of the arguments that the words stand for. Raises a failure with status 65 that names
-- the argument.
-- @param schema the tool's JSON Schema
function M.parse(schema, words, tool_name)
    local root = type(schema) == "table" and schema or {}
    local args = {}
    local i = 1
    while words[i] do
        i = take(root, args, words, i, tool_name) + 1
    end
    local text, err = json.encode(args)
    if not text then
        failure.raise(DATA, "the arguments cannot be sent to '%s': %s", tool_name, tostring(err))
    end
    return text
end

return M
