-- A quick look at a value, for schemas as tools have them: objects of properties, arrays of items, types,
-- enums of strings. It answers "fits for sure", or "look closely": with evaluate.lua, which alone says what
-- is wrong. Whatever it does not know of a schema makes it stay away from that schema as a whole.
--
-- The plan that is made of a schema here is what lash.core.accept goes by: see there.

local core = require "lash.core.accept"

local M = {}

local KINDS = core.kinds -- "string" -> a number, ...

-- Keywords that assert nothing and name nothing.
local SILENT = {
    title = true, description = true, default = true, examples = true, example = true, deprecated = true,
    readOnly = true, writeOnly = true, format = true, ["$comment"] = true, ["$schema"] = true,
}

-- Whether the schema has no other keywords than these.
local function has_only(schema, known)
    for name in next, schema do
        if not SILENT[name] and not known[name] then
            return false
        end
    end
    return true
end

local make -- make(schema, made): see below

local OBJECT = { type = true, properties = true, required = true, additionalProperties = true }

local function object(schema, made)
    local open = schema.additionalProperties
    if not has_only(schema, OBJECT) or (open ~= nil and type(open) ~= "boolean") then
        return nil
    end
    local parts, required = {}, {}
    for name, sub in next, schema.properties or {} do
        parts[name] = make(sub, made)
        if not parts[name] then
            return nil
        end
    end
    for _, name in ipairs(schema.required or {}) do
        required[name] = true
    end
    return core.object(parts, required, open ~= false)
end

local ARRAY = { type = true, items = true }

local function array(schema, made)
    local items = schema.items == nil and KINDS.any or make(schema.items, made)
    return items and has_only(schema, ARRAY) and core.array(items) or nil
end

local TYPE = { type = true }

local function types(schema, names)
    local kinds = 0
    for _, name in ipairs(names) do
        kinds = kinds | (KINDS[name] or 0)
        if not KINDS[name] then
            return nil
        end
    end
    return has_only(schema, TYPE) and kinds or nil
end

local ENUM = { type = true, enum = true }

local function enum(schema)
    local words = {}
    for _, word in ipairs(schema.enum) do
        if type(word) ~= "string" then
            return nil
        end
        words[word] = true
    end
    return has_only(schema, ENUM) and (schema.type == nil or schema.type == "string") and core.enum(words) or nil
end

local function make_new(schema, made)
    if schema.enum then
        return enum(schema)
    elseif schema.type == "object" then
        return object(schema, made)
    elseif schema.type == "array" then
        return array(schema, made)
    elseif schema.type == nil then
        return has_only(schema, {}) and KINDS.any or nil
    end
    return types(schema, type(schema.type) == "table" and schema.type or { schema.type })
end

-- @param made what was made of the schemas that were met before
function make(schema, made)
    if type(schema) ~= "table" then
        return schema == true and KINDS.any or nil
    elseif made[schema] == nil then
        made[schema] = make_new(schema, made) or false
    end
    return made[schema] or nil
end

--- plan(schema) -> a plan for fits() | nil when the schema is not that simple
-- @param schema one that compiles
function M.plan(schema)
    return make(schema, {})
end

--- fits(plan, value) -> true when the value fits for sure
M.fits = core.fits

return M
