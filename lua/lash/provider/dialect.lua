-- JSON Schema in the dialects of the providers. Nothing here changes the tool's own schema, which
-- stays what lash checks arguments against; a provider's may allow more.
local json = require "lash.json"

local M = {}

-- Where the standard wants an array: an empty Lua table there must not become `{}`.
local ARRAYS = { required = true, enum = true, anyOf = true, oneOf = true, allOf = true, prefixItems = true,
    propertyOrdering = true, examples = true }
local SCHEMA = { items = true, additionalProperties = true, ["not"] = true, contains = true, propertyNames = true,
    unevaluatedItems = true, unevaluatedProperties = true, ["if"] = true, ["then"] = true, ["else"] = true }
local SCHEMAS = { anyOf = true, oneOf = true, allOf = true, prefixItems = true }
local NAMED = { properties = true, patternProperties = true, ["$defs"] = true, definitions = true,
    dependentSchemas = true }

local function array(value)
    local copy = json.array {}
    for i, v in ipairs(value) do
        copy[i] = v
    end
    return copy
end

-- Rebuilds a schema, bottom up, with visit(copy) for every object in it.
local function walk(schema, visit)
    if type(schema) ~= "table" then
        return schema
    end
    local copy = {}
    for key, value in pairs(schema) do
        if SCHEMA[key] then
            value = walk(value, visit)
        elseif SCHEMAS[key] and type(value) == "table" then
            local list = json.array {}
            for i, part in ipairs(value) do
                list[i] = walk(part, visit)
            end
            value = list
        elseif NAMED[key] and type(value) == "table" then
            local named = {}
            for name, part in pairs(value) do
                named[name] = walk(part, visit)
            end
            value = named
        elseif type(value) == "table" and (ARRAYS[key] or key == "type") then
            value = array(value)
        end
        copy[key] = value
    end
    return visit and visit(copy) or copy
end

--- plain(schema) -> the schema as OpenAI takes it: an object at its root.
function M.plain(schema)
    if type(schema) ~= "table" then
        return { type = "object", properties = {}, required = json.array {}, additionalProperties = false }
    end
    local copy = walk(schema)
    copy.type = copy.type or "object"
    if copy.properties == nil and copy.type == "object" then
        copy.properties = {}
    end
    return copy
end

-- What OpenAI certainly takes in a strict schema.
local STRICT = { type = true, properties = true, required = true, additionalProperties = true, items = true,
    enum = true, const = true, anyOf = true, description = true, title = true, minimum = true, maximum = true,
    exclusiveMinimum = true, exclusiveMaximum = true, multipleOf = true, minItems = true, maxItems = true }

local function all_required(schema)
    local required = {}
    for _, name in ipairs(schema.required or {}) do
        required[name] = true
    end
    for name in pairs(schema.properties or {}) do
        if not required[name] then
            return false
        end
    end
    return schema.additionalProperties == false
end

local function strict(schema, depth)
    if type(schema) ~= "table" or depth > 5 then
        return false
    end
    for key in pairs(schema) do
        if not STRICT[key] then
            return false
        end
    end
    local types = type(schema.type) == "table" and schema.type or { schema.type }
    for _, kind in ipairs(types) do
        if kind == "object" and not all_required(schema) or kind == "array" and not schema.items then
            return false
        end
    end
    if #types == 0 and not schema.anyOf and not schema.enum and schema.const == nil then
        return false -- "anything" is not for strict
    end
    for _, part in pairs(schema.properties or {}) do
        if not strict(part, depth + 1) then
            return false
        end
    end
    for _, part in ipairs(schema.anyOf or {}) do
        if not strict(part, depth + 1) then
            return false
        end
    end
    return schema.items == nil or strict(schema.items, depth + 1)
end

--- strict(schema) -> whether OpenAI's strict mode takes it as it is: every field required, none
-- besides, and only keywords that it surely knows. Then strictness costs nothing and the arguments
-- always fit.
function M.strict(schema)
    return type(schema) == "table" and schema.type == "object" and not schema.anyOf and strict(schema, 1)
end

--- is_strict(tool) -> whether it is declared strict: as it says itself, else where that costs nothing.
function M.is_strict(tool)
    if tool.strict ~= nil then
        return tool.strict
    end
    return tool.schema == nil or M.strict(tool.schema)
end

local GEMINI = { ["$id"] = true, ["$defs"] = true, ["$ref"] = true, ["$anchor"] = true, type = true, format = true,
    title = true, description = true, enum = true, items = true, prefixItems = true, minItems = true,
    maxItems = true, minimum = true, maximum = true, anyOf = true, oneOf = true, properties = true,
    additionalProperties = true, required = true, propertyOrdering = true }

-- A bound that excludes its value: exact for integers, a little wider for other numbers.
local function bounds(schema)
    local whole = schema.type == "integer" and 1 or 0
    local low, high = schema.exclusiveMinimum, schema.exclusiveMaximum
    if type(low) == "number" then
        low = (math.tointeger(low) or low) + whole
        schema.minimum = schema.minimum and math.max(schema.minimum, low) or low
    end
    if type(high) == "number" then
        high = (math.tointeger(high) or high) - whole
        schema.maximum = schema.maximum and math.min(schema.maximum, high) or high
    end
end

local function gemini(schema)
    if schema.const ~= nil and schema.enum == nil then
        schema.enum = json.array { schema.const }
    end
    if schema.definitions and not schema["$defs"] then
        schema["$defs"] = schema.definitions
    end
    if type(schema.allOf) == "table" and #schema.allOf == 1 and type(schema.allOf[1]) == "table" then
        for key, value in pairs(schema.allOf[1]) do
            if schema[key] == nil then
                schema[key] = value
            end
        end
    end
    bounds(schema)
    if schema.anyOf and schema.oneOf then
        schema.oneOf = nil
    end
    local ref = schema["$ref"]
    if type(ref) == "string" then
        schema["$ref"] = ref:gsub("^#/definitions/", "#/$defs/")
    end
    for key in pairs(schema) do
        if not GEMINI[key] or (ref and key:sub(1, 1) ~= "$") then
            schema[key] = nil
        end
    end
    return schema
end

local function no_arguments(schema)
    return next(schema.properties or {}) == nil and type(schema.additionalProperties) ~= "table"
        and schema.additionalProperties ~= true and schema["$ref"] == nil and schema.anyOf == nil
        and schema.oneOf == nil and schema.allOf == nil and schema.patternProperties == nil
end

--- gemini(schema) -> the schema for `parametersJsonSchema`, or nil for a tool without arguments. By
-- rule: `const` becomes an enum of one, `definitions` `$defs`, bounds that exclude their value ones
-- that include it, `allOf` of one its content; other keywords that Gemini does not know are left out
-- (lash still checks them); beside `$ref` stand only `$` keywords.
-- gemini(schema, true) -> the same for `responseJsonSchema`, which may be of any type.
function M.gemini(schema, any)
    if type(schema) ~= "table" or not any and no_arguments(schema) then
        return nil
    end
    local copy = walk(schema, gemini)
    if not any then
        copy.type = copy.type or "object"
    end
    return copy
end

return M
