-- A quick look at a value, for schemas as tools have them: objects of properties, arrays of items, types,
-- enums of strings. It answers "fits for sure", or "look closely": with evaluate.lua, which alone says what
-- is wrong. Whatever it does not know of a schema makes it stay away from that schema as a whole.

local json = require "lash.json"
local value = require "lash.schema.value"

local M = {}

local array_mt, null = json.array_mt, json.null
local kind_of, integral = value.kind, value.integral

local STEPS = 10000 -- in one value; what takes more is looked at closely

-- Keywords that assert nothing and name nothing.
local SILENT = {
    title = true, description = true, default = true, examples = true, example = true, deprecated = true,
    readOnly = true, writeOnly = true, format = true, ["$comment"] = true, ["$schema"] = true,
}

local left -- objects and items that the present look may still go through

-- By `type`; those of objects and arrays are made below.
local TYPES = {}

function TYPES.string(v) return type(v) == "string" end
function TYPES.boolean(v) return type(v) == "boolean" end
function TYPES.number(v) return type(v) == "number" end
function TYPES.null(v) return v == null end

function TYPES.integer(v)
    return math.type(v) == "integer" or type(v) == "number" and integral(v)
end

local function anything() return true end

local make -- make(schema, made): see below

-- Whether the schema has no other keywords than these.
local function has_only(schema, known)
    for name in next, schema do
        if not SILENT[name] and not known[name] then
            return false
        end
    end
    return true
end

local OBJECT = { type = true, properties = true, required = true, additionalProperties = true }

local function object(schema, made)
    local open = schema.additionalProperties
    if not has_only(schema, OBJECT) or (open ~= nil and type(open) ~= "boolean") then
        return nil
    end
    local checks, required, count = {}, {}, 0
    for name, sub in next, schema.properties or {} do
        checks[name] = make(sub, made)
        if not checks[name] then
            return nil
        end
    end
    for _, name in ipairs(schema.required or {}) do
        required[name], count = true, count + 1
    end
    return function(v)
        if type(v) ~= "table" or getmetatable(v) == array_mt then
            return false
        end
        left = left - 1
        if left < 0 then
            return false
        end
        local missing = count
        for name, x in next, v do
            local check = checks[name]
            if check then
                if not check(x) then
                    return false
                end
            elseif open == false or type(name) ~= "string" then
                return false
            end
            if required[name] then
                missing = missing - 1
            end
        end
        return missing == 0
    end
end

local ARRAY = { type = true, items = true }

local function array(schema, made)
    local check = schema.items == nil and anything or make(schema.items, made)
    if not check or not has_only(schema, ARRAY) then
        return nil
    end
    return function(v)
        if kind_of(v) ~= "array" then
            return false
        end
        local n = rawlen(v)
        left = left - n
        if left < 0 then
            return false
        end
        for i = 1, n do
            if not check(rawget(v, i)) then
                return false
            end
        end
        return true
    end
end

local TYPE = { type = true }

local function one_of(schema)
    local checks = {}
    for i, name in ipairs(schema.type) do
        checks[i] = TYPES[name]
        if not checks[i] then
            return nil
        end
    end
    return has_only(schema, TYPE) and function(v)
        for i = 1, #checks do
            if checks[i](v) then
                return true
            end
        end
        return false
    end or nil
end

local ENUM = { type = true, enum = true }

local function enum(schema)
    local set = {}
    for _, word in ipairs(schema.enum) do
        if type(word) ~= "string" then
            return nil
        end
        set[word] = true
    end
    return has_only(schema, ENUM) and (schema.type == nil or schema.type == "string") and function(v)
        return type(v) == "string" and set[v] == true
    end or nil
end

local function make_new(schema, made)
    if schema.enum then
        return enum(schema)
    elseif schema.type == "object" then
        return object(schema, made)
    elseif schema.type == "array" then
        return array(schema, made)
    elseif type(schema.type) == "table" then
        return one_of(schema)
    elseif schema.type == nil then
        return has_only(schema, {}) and anything or nil
    end
    return has_only(schema, TYPE) and TYPES[schema.type] or nil
end

-- @param made what was made of the schemas that were met before
function make(schema, made)
    if type(schema) ~= "table" then
        return schema == true and anything or nil
    elseif made[schema] == nil then
        made[schema] = make_new(schema, made) or false
    end
    return made[schema] or nil
end

--- make(schema) -> fn(value) -> true when it fits for sure | nil when the schema is not that simple
-- @param schema one that compiles
function M.make(schema)
    local check = make(schema, {})
    return check and function(v)
        left = STEPS
        return check(v)
    end
end

return M
