-- The keywords that apply other schemas to the same value. As in keywords.lua.

local arguments = require "lash.schema.arguments"
local evaluate = require "lash.schema.evaluate"
local value = require "lash.schema.value"

local fail, here = evaluate.fail, evaluate.here
local apart, quietly = evaluate.apart, evaluate.quietly
local nodes_of, object_of = arguments.nodes, arguments.object

local M = {}

M["allOf"] = function(c, _, schemas)
    local nodes = c:inplace(nodes_of(c, schemas))
    return function(ctx, v, kind, seen)
        local ok = true
        for i = 1, #nodes do
            ok = here(ctx, nodes[i], v, kind, seen) and ok
        end
        return ok
    end
end

-- What the alternatives had against the value.
local function reasons(path, failures)
    local parts = {}
    for i = 1, math.min(#failures, 4) do
        local e = failures[i][1]
        if e then
            parts[#parts + 1] = (e.path ~= path and e.path .. ": " or "") .. e.message
        end
    end
    return value.shorten(table.concat(parts, "; or "), 600)
end

local function alternatives(ctx, nodes, v, kind, seen)
    local good, failures = {}, {}
    for i = 1, #nodes do
        local ok, errors = apart(ctx, here, nodes[i], v, kind, seen)
        if ok then
            good[#good + 1] = i
        else
            failures[#failures + 1] = errors
        end
    end
    return good, failures
end

local function none_fits(ctx, v, failures)
    if ctx.quiet > 0 then
        return false
    end
    local why = reasons(evaluate.pointer(ctx), failures)
    if #failures == 1 then
        return fail(ctx, why)
    end
    return fail(ctx, ("fits none of %d alternatives: %s"):format(#failures, why))
end

M["anyOf"] = function(c, _, schemas)
    local nodes = c:inplace(nodes_of(c, schemas))
    return function(ctx, v, kind, seen)
        if not seen then -- the first that fits is enough; else all say what they looked at
            local failures = {}
            for i = 1, #nodes do
                local ok, errors = apart(ctx, here, nodes[i], v, kind, nil)
                if ok then
                    return true
                end
                failures[i] = errors
            end
            return none_fits(ctx, v, failures)
        end
        local good, failures = alternatives(ctx, nodes, v, kind, seen)
        return #good > 0 or none_fits(ctx, v, failures)
    end
end

M["oneOf"] = function(c, _, schemas)
    local nodes = c:inplace(nodes_of(c, schemas))
    return function(ctx, v, kind, seen)
        local good, failures = alternatives(ctx, nodes, v, kind, seen)
        if #good == 1 then
            return true
        elseif #good == 0 then
            return none_fits(ctx, v, failures)
        end
        return fail(ctx, ("fits the alternatives %s, of which only one may fit"):format(
            table.concat(good, " and ")))
    end
end

M["not"] = function(c, _, schema)
    local node = c:sub(schema)
    c:inplace { node }
    return function(ctx, v, kind)
        local seen = ctx.tracks and evaluate.new_seen() or nil
        return not quietly(ctx, here, node, v, kind, seen)
            or fail(ctx, "expected a value that does not fit the schema under `not`", v)
    end
end

M["if"] = function(c, _, schema, whole)
    local node = c:sub(schema)
    local yes = whole["then"] ~= nil and c:sibling("then", whole["then"]) or nil
    local no = whole["else"] ~= nil and c:sibling("else", whole["else"]) or nil
    c:inplace { node, yes or node, no or node }
    return function(ctx, v, kind, seen)
        local next_node = no
        if quietly(ctx, here, node, v, kind, seen) then
            next_node = yes
        end
        return not next_node or here(ctx, next_node, v, kind, seen)
    end
end

-- Run by `if`; without it they are read, because a reference may lead there.
M["then"] = function(c, _, schema) c:sub(schema) end
M["else"] = M["then"]

M["dependentSchemas"] = function(c, _, schemas)
    local names, nodes = object_of(c, schemas), {}
    for i, name in ipairs(names) do
        nodes[i] = c:sub(schemas[name], name)
    end
    c:inplace(nodes)
    return function(ctx, v, kind, seen)
        local ok = true
        if kind == "object" then
            for i = 1, #names do
                if rawget(v, names[i]) ~= nil then
                    ok = here(ctx, nodes[i], v, kind, seen) and ok
                end
            end
        end
        return ok
    end
end

return M
