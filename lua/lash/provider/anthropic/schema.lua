-- JSON Schema as Anthropic takes it: that of a tool's arguments, and the narrower one of a structured answer.
-- Nothing here changes the schema that lash checks against, which may ask for more.
local dialect = require "lash.provider.dialect"
local json = require "lash.json"

local M = {}

-- What has no field of its own is said in words, behind the description.
local function say(schema, rest)
    local names, parts = {}, {}
    for name in pairs(rest) do
        names[#names + 1] = name
    end
    table.sort(names)
    for i, name in ipairs(names) do
        parts[i] = ("%s: %s"):format(name, json.encode(rest[name], { lossy = true }) or "?")
    end
    if #parts > 0 then
        local before = type(schema.description) == "string" and schema.description .. "\n\n" or ""
        schema.description = ("%s(%s)"):format(before, table.concat(parts, ", "))
    end
end

local DEFS = { ["$defs"] = true, definitions = true }

-- The schema that a reference of this document names, or nil.
local function resolve(root, schema)
    for _ = 1, 16 do
        local ref = type(schema) == "table" and schema["$ref"]
        if type(ref) ~= "string" then
            break
        end
        local where, name = ref:match("^#/([$%w]+)/([^/]+)$")
        local defs = DEFS[where] and root[where]
        schema = type(defs) == "table" and defs[name] or nil
    end
    return type(schema) == "table" and schema["$ref"] == nil and schema or nil
end

-- ---- arguments of a tool ----

-- The properties of alternatives as properties of one object: where they differ any of them will do.
local function join_properties(root, parts, all)
    local names, found = {}, {}
    for _, part in ipairs(parts) do
        for name, schema in pairs(type(part.properties) == "table" and part.properties or {}) do
            local text = json.encode(schema, { lossy = true })
            local list = found[name] or { texts = {} }
            found[name] = list
            if text and not list.texts[text] then
                list.texts[text] = true
                list[#list + 1] = schema
            end
            names[name] = true
        end
    end
    for name in pairs(names) do
        if root.properties[name] == nil and found[name][1] ~= nil then
            local list = json.array(table.move(found[name], 1, #found[name], 1, {}))
            root.properties[name] = #list == 1 and list[1] or { [all and "allOf" or "anyOf"] = list }
        end
    end
end

-- What every alternative requires, or any part of `allOf`.
local function join_required(root, parts, all)
    local counts, listed = {}, {}
    for _, part in ipairs(parts) do
        for _, name in ipairs(type(part.required) == "table" and part.required or {}) do
            counts[name] = (counts[name] or 0) + 1
        end
    end
    for _, name in ipairs(root.required or {}) do
        listed[name] = true
    end
    local more = {}
    for name, count in pairs(counts) do
        if not listed[name] and (all or count == #parts) then
            more[#more + 1] = name
        end
    end
    table.sort(more)
    if #more > 0 then
        root.required = json.array(table.move(more, 1, #more, #(root.required or {}) + 1, root.required or {}))
    end
end

-- Anthropic refuses alternatives at the root: they become one object with the fields of all.
local function flatten(root)
    local rest = {}
    for _, word in ipairs { "allOf", "anyOf", "oneOf" } do
        local parts = {}
        for i, part in ipairs(type(root[word]) == "table" and root[word] or {}) do
            parts[i] = resolve(root, part) or {}
        end
        if #parts > 0 then
            join_properties(root, parts, word == "allOf")
            join_required(root, parts, word == "allOf")
            rest[word] = word ~= "allOf" and root[word] or nil
        end
        root[word] = nil
    end
    say(root, rest)
end

--- tool(schema) -> the schema for `input_schema`: always of an object, without alternatives at its root.
function M.tool(schema)
    if type(schema) == "table" and schema["$ref"] ~= nil then
        local named, copy = resolve(schema, schema) or {}, {}
        for _, from in ipairs { named, schema } do
            for key, value in pairs(from) do
                copy[key] = value
            end
        end
        copy["$ref"] = nil
        schema = copy
    end
    local copy = dialect.plain(schema)
    copy.type = "object"
    copy.properties = type(copy.properties) == "table" and copy.properties or {}
    flatten(copy)
    return copy
end

-- ---- structured answers ----

local FORMATS = { ["date-time"] = true, time = true, date = true, duration = true, email = true, hostname = true,
    uri = true, ipv4 = true, ipv6 = true, uuid = true }
local TYPES = { object = true, array = true, string = true, number = true, integer = true, boolean = true,
    null = true }
-- They say nothing about the value.
local SILENT = { ["$schema"] = true, ["$id"] = true, ["$anchor"] = true, ["$comment"] = true }
-- With these the subset would say something else than the schema.
local FOREIGN = { patternProperties = true, unevaluatedProperties = true, prefixItems = true,
    ["$dynamicRef"] = true, ["$recursiveRef"] = true }

local convert

local function list_of(ctx, parts)
    if type(parts) ~= "table" or #parts == 0 then
        return nil
    end
    local list = json.array {}
    for i, part in ipairs(parts) do
        list[i] = convert(ctx, part)
        if not list[i] then
            return nil
        end
    end
    return list
end

local function named_of(ctx, parts, definitions)
    local named = {}
    for name, part in pairs(type(parts) == "table" and parts or {}) do
        local outer = ctx.inside
        ctx.inside = definitions and name or outer
        named[name] = convert(ctx, part)
        ctx.inside = outer
        if not named[name] then
            return nil
        end
    end
    return named
end

local function values_of(values)
    if type(values) ~= "table" or #values == 0 then
        return nil
    end
    local list = json.array {}
    for i, value in ipairs(values) do
        if type(value) == "table" then
            return nil
        end
        list[i] = value
    end
    return list
end

local function reference(ctx, ref)
    local where, name = tostring(ref):match("^#/([$%w]+)/([^/~%%]+)$")
    if not DEFS[where] then
        return nil
    end
    ctx.refs[#ctx.refs + 1] = { ctx.inside, name }
    return { ["$ref"] = "#/$defs/" .. name }
end

-- keyword -> function(ctx, value) -> field, converted value; nil: it cannot be said
local CONVERT = {
    type = function(_, value)
        local kinds = type(value) == "table" and value or { value }
        for _, kind in ipairs(kinds) do
            if not TYPES[kind] then
                return nil
            end
        end
        return "type", type(value) == "table" and values_of(value) or value
    end,
    enum = function(_, value)
        return "enum", values_of(value)
    end,
    const = function(_, value)
        if type(value) == "table" then
            return nil
        end
        return "const", value
    end,
    anyOf = function(ctx, value)
        return "anyOf", list_of(ctx, value)
    end,
    oneOf = function(ctx, value)
        return "anyOf", list_of(ctx, value)
    end,
    allOf = function(ctx, value)
        return "allOf", list_of(ctx, value)
    end,
    properties = function(ctx, value)
        return "properties", named_of(ctx, value)
    end,
    items = function(ctx, value)
        return "items", convert(ctx, value)
    end,
    ["$defs"] = function(ctx, value)
        return "$defs", named_of(ctx, value, true)
    end,
    definitions = function(ctx, value)
        return "$defs", named_of(ctx, value, true)
    end,
    required = function(_, value)
        return "required", type(value) == "table" and json.array(table.move(value, 1, #value, 1, {})) or nil
    end,
    additionalProperties = function(_, value)
        return "additionalProperties", value == false and value or nil
    end,
}

-- Objects are closed, arrays have items, and something is said of every value.
local function complete(out)
    local kinds = {}
    for _, kind in ipairs(type(out.type) == "table" and out.type or { out.type }) do
        kinds[kind] = true
    end
    if kinds.object or out.properties then
        out.type = out.type or "object"
        if next(out.properties or {}) == nil and out.additionalProperties == nil then
            return nil -- an object with any fields
        end
        out.properties = out.properties or {}
        out.additionalProperties = false
    end
    if kinds.array and not out.items then
        return nil
    end
    local said = out.type ~= nil or out.enum or out.const ~= nil or out.anyOf or out.allOf
    return said and out or nil
end

local function stays(key, value)
    return (key == "title" or key == "description") and type(value) == "string"
        or key == "format" and FORMATS[value] or key == "minItems" and (value == 0 or value == 1)
end

function convert(ctx, schema)
    ctx.depth = ctx.depth + 1
    if type(schema) ~= "table" or ctx.depth > 64 then
        return nil
    elseif schema["$ref"] ~= nil then
        ctx.depth = ctx.depth - 1
        return reference(ctx, schema["$ref"])
    end
    local out, rest = {}, {}
    for key, value in pairs(schema) do
        if FOREIGN[key] then
            return nil
        elseif CONVERT[key] then
            local field, converted = CONVERT[key](ctx, value)
            if field == nil or converted == nil or out[field] ~= nil then
                return nil
            end
            out[field] = converted
        elseif stays(key, value) then
            out[key] = value
        elseif not SILENT[key] then
            rest[key] = value
        end
    end
    say(out, rest)
    ctx.depth = ctx.depth - 1
    return complete(out)
end

-- Whether a definition leads back to itself, or to one that is not there.
local function goes_round(refs, defs)
    local uses = {}
    for _, ref in ipairs(refs) do
        local from, to = ref[1] or "", ref[2]
        if type(defs) ~= "table" or defs[to] == nil then
            return true
        end
        uses[from] = uses[from] or {}
        uses[from][to] = true
    end
    local state = {}
    local function visit(name)
        if state[name] then
            return state[name] == "open"
        end
        state[name] = "open"
        for to in pairs(uses[name] or {}) do
            if visit(to) then
                return true
            end
        end
        state[name] = "done"
        return false
    end
    for name in pairs(uses) do
        if visit(name) then
            return true
        end
    end
    return false
end

--- output(schema) -> the schema of `output_config.format` | nil when it cannot be said there without another
-- meaning: an object whose fields have any name, a value of any kind, references in a circle, no object at the
-- root. By rule: objects get `additionalProperties: false`, `oneOf` becomes `anyOf`, `definitions` `$defs`;
-- keywords that are not known there go into the description.
function M.output(schema)
    local ctx = { depth = 0, refs = {}, inside = nil }
    local out = convert(ctx, schema)
    if not out or out.type ~= "object" or goes_round(ctx.refs, out["$defs"]) then
        return nil
    end
    return out
end

return M
