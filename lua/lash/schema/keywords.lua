-- The keywords that assert something by themselves or about the parts of a value.
--
-- Each is a function (c, node, argument, schema) that checks its argument when a schema is
-- compiled and returns the check to run, if there is one (see evaluate.lua). c is the compiler's
-- door: c:refuse(message) names the place and does not return; c:sub(argument, step...) compiles a
-- subschema that stands at these steps below the present one.

local arguments = require "lash.schema.arguments"
local evaluate = require "lash.schema.evaluate"
local near = require "lash.near"
local value = require "lash.schema.value"

local fail, here, below = evaluate.fail, evaluate.here, evaluate.below
local apart, quietly = evaluate.apart, evaluate.quietly
local kind_of = value.kind
local count_of, number_of, list_of = arguments.count, arguments.number, arguments.list
local names_of, object_of, nodes_of = arguments.names, arguments.object, arguments.nodes
local pattern_of, too_long = arguments.pattern, arguments.too_long

local M = {}

-- Does the pattern match? Also a message if that is unknown.
local function matches(ctx, p, text)
    local yes, message = p:match(text)
    if yes == nil then
        fail(ctx, message)
    end
    return yes
end

-- ---- any value ----

local TYPES = { "array", "boolean", "integer", "null", "number", "object", "string" }
M.TYPES = TYPES

M["type"] = function(c, node, types)
    if type(types) == "string" then
        types = { types }
    end
    local set = {}
    for _, name in ipairs(names_of(c, types)) do
        local known = false
        for _, t in ipairs(TYPES) do
            known = known or t == name
        end
        if not known then
            c:refuse(('"%s" is no JSON type%s; the types are %s'):format(
                name, near.hint(name, TYPES), table.concat(TYPES, ", ")))
        end
        set[name] = true
    end
    if #types == 0 then
        c:refuse("must name a type")
    end
    node.typed = true
    local expected = "expected " .. table.concat(types, " or ")
    return function(ctx, v, kind)
        if set[kind] then
            return true
        elseif kind == "number" and set.integer and value.integral(v) then
            return true
        elseif kind == "string" and (set.integer or set.number) and too_long(v) then
            return fail(ctx, ("%s, found %s, which does not fit 64 bits"):format(expected,
                value.shorten(v, 60)))
        end
        return fail(ctx, expected, v)
    end
end

M["enum"] = function(c, _, list)
    local set, deep, shown, words = {}, {}, {}, {}
    for i, v in ipairs(list_of(c, list)) do
        shown[i] = value.show(v)
        if type(v) == "table" then
            deep[#deep + 1] = v
        else
            set[v] = true
        end
        if type(v) == "string" then
            words[#words + 1] = v
        end
    end
    local expected = value.shorten(table.concat(shown, ", "), 500)
    if #list == 0 then
        expected = "no value is allowed here (enum is empty)"
    else
        expected = (#list > 1 and "expected one of " or "expected ") .. expected
    end
    return function(ctx, v, kind)
        if type(v) ~= "table" then
            if kind ~= "other" and v == v and set[v] then
                return true
            end
        else
            for i = 1, #deep do
                if value.equal(deep[i], v) then
                    return true
                end
            end
        end
        if ctx.quiet == 0 and kind == "string" then
            local hint = near.hint(v, words)
            return fail(ctx, ("%s, found %s%s"):format(expected, value.describe(v), hint))
        end
        return fail(ctx, expected, v)
    end
end

M["const"] = function(_, _, constant)
    local expected = "expected " .. value.show(constant)
    return function(ctx, v)
        return value.equal(constant, v) or fail(ctx, expected, v)
    end
end

-- ---- numbers ----

local function bound(compare, text)
    return function(c, _, limit)
        limit = number_of(c, limit)
        local expected = ("expected a number %s %s"):format(text, value.show(limit))
        return function(ctx, v, kind)
            return kind ~= "number" or compare(v, limit) or fail(ctx, expected, v)
        end
    end
end

M["minimum"] = bound(function(v, n) return v >= n end, "of at least")
M["maximum"] = bound(function(v, n) return v <= n end, "of at most")
M["exclusiveMinimum"] = bound(function(v, n) return v > n end, "above")
M["exclusiveMaximum"] = bound(function(v, n) return v < n end, "below")

M["multipleOf"] = function(c, _, of)
    if number_of(c, of) <= 0 then
        c:refuse("must be above 0")
    end
    local expected = "expected a multiple of " .. value.show(of)
    return function(ctx, v, kind)
        return kind ~= "number" or value.multiple(v, of) or fail(ctx, expected, v)
    end
end

-- ---- strings ----

local function plural(n, thing)
    return ("%d %s%s"):format(n, thing, n == 1 and "" or "s")
end

M["minLength"] = function(c, _, n)
    n = count_of(c, n)
    return function(ctx, v, kind)
        if kind ~= "string" or (utf8.len(v) or #v) >= n then
            return true
        end
        return fail(ctx, "expected at least " .. plural(n, "character"), v)
    end
end

M["maxLength"] = function(c, _, n)
    n = count_of(c, n)
    return function(ctx, v, kind)
        if kind ~= "string" or #v <= n then
            return true
        end
        local length = utf8.len(v) or #v
        return length <= n
            or fail(ctx, ("expected at most %s, found %d"):format(plural(n, "character"), length))
    end
end

M["pattern"] = function(c, _, source)
    local p = pattern_of(c, source)
    local expected = "expected text that matches the pattern " .. source
    return function(ctx, v, kind)
        if kind ~= "string" then
            return true
        end
        local yes = matches(ctx, p, v)
        return yes or (yes == false and fail(ctx, expected, v)) or false
    end
end

-- ---- arrays ----

M["prefixItems"] = function(c, _, schemas)
    local nodes = nodes_of(c, schemas)
    return function(ctx, v, kind, seen)
        if kind ~= "array" then
            return true
        end
        local ok = true
        local n = math.min(rawlen(v), #nodes)
        for i = 1, n do
            ok = below(ctx, nodes[i], rawget(v, i), i - 1) and ok
        end
        if seen then
            seen.items = math.max(seen.items, n)
        end
        return ok
    end
end

M["items"] = function(c, _, schema, whole)
    if kind_of(schema) == "array" then
        c:refuse("an array of schemas is the older form of prefixItems; write prefixItems")
    end
    local node = c:sub(schema)
    local first = type(whole.prefixItems) == "table" and rawlen(whole.prefixItems) + 1 or 1
    return function(ctx, v, kind, seen)
        if kind ~= "array" then
            return true
        end
        local ok = true
        for i = first, rawlen(v) do
            ok = below(ctx, node, rawget(v, i), i - 1) and ok
            if not ok and ctx.quiet > 0 then
                return false
            end
        end
        if seen then
            seen.all_items = true
        end
        return ok
    end
end

M["contains"] = function(c, _, schema, whole)
    local node = c:sub(schema)
    local min = whole.minContains == nil and 1 or math.tointeger(whole.minContains) or 1
    local max = math.tointeger(whole.maxContains)
    return function(ctx, v, kind, seen)
        if kind ~= "array" then
            return true
        end
        local n = 0
        for i = 1, rawlen(v) do
            if quietly(ctx, below, node, rawget(v, i), i - 1) then
                n = n + 1
                if seen then
                    seen.places[i] = true
                end
            end
        end
        if n < min then
            return fail(ctx, ("expected at least %s to fit `contains`, found %d"):format(
                plural(min, "item"), n))
        end
        return not max or n <= max
            or fail(ctx, ("expected at most %s to fit `contains`, found %d"):format(
                plural(max, "item"), n))
    end
end

-- Looked at by `contains`.
M["minContains"] = function(c, _, n) count_of(c, n) end
M["maxContains"] = M["minContains"]

M["minItems"] = function(c, _, n)
    n = count_of(c, n)
    return function(ctx, v, kind)
        return kind ~= "array" or rawlen(v) >= n
            or fail(ctx, "expected at least " .. plural(n, "item"), v)
    end
end

M["maxItems"] = function(c, _, n)
    n = count_of(c, n)
    return function(ctx, v, kind)
        return kind ~= "array" or rawlen(v) <= n
            or fail(ctx, "expected at most " .. plural(n, "item"), v)
    end
end

M["uniqueItems"] = function(c, _, on)
    if type(on) ~= "boolean" then
        c:refuse("must be a boolean")
    end
    return on and function(ctx, v, kind)
        if kind ~= "array" then
            return true
        end
        local places = {}
        for i = 1, rawlen(v) do
            local key = value.canon(rawget(v, i))
            if places[key] then
                return fail(ctx, ("expected unique items, but items %d and %d are equal"):format(
                    places[key] - 1, i - 1))
            end
            places[key] = i
        end
        return true
    end or nil
end

M["unevaluatedItems"] = function(c, _, schema)
    local node = c:sub(schema)
    c.document.tracks = true
    return function(ctx, v, kind, seen)
        if kind ~= "array" or seen.all_items then
            return true
        end
        local ok = true
        for i = seen.items + 1, rawlen(v) do
            if not seen.places[i] then
                ok = below(ctx, node, rawget(v, i), i - 1) and ok
            end
        end
        seen.all_items = true
        return ok
    end
end

-- ---- objects ----

M["properties"] = function(c, _, schemas)
    local names, nodes = object_of(c, schemas), {}
    for i, name in ipairs(names) do
        nodes[i] = c:sub(schemas[name], name)
    end
    return function(ctx, v, kind, seen)
        if kind ~= "object" then
            return true
        end
        local ok = true
        for i = 1, #names do
            local x = rawget(v, names[i])
            if x ~= nil then
                ok = below(ctx, nodes[i], x, names[i]) and ok
                if seen then
                    seen.props[names[i]] = true
                end
            end
        end
        return ok
    end
end

M["patternProperties"] = function(c, _, schemas)
    local list = {}
    for i, source in ipairs(object_of(c, schemas)) do
        list[i] = { pattern = pattern_of(c, source), node = c:sub(schemas[source], source) }
    end
    return function(ctx, v, kind, seen)
        if kind ~= "object" then
            return true
        end
        local ok = true
        for _, name in ipairs(value.sorted_keys(v)) do
            for i = 1, #list do
                local yes = matches(ctx, list[i].pattern, name)
                if yes then
                    ok = below(ctx, list[i].node, rawget(v, name), name) and ok
                    if seen then
                        seen.props[name] = true
                    end
                end
                ok = ok and yes ~= nil
            end
        end
        return ok
    end
end

local NONE = {}

-- The sorted names in v for which `known` has no answer.
local function other_names(v, known)
    local names
    for name in next, v do
        if not known(name) then
            names = names or {}
            names[#names + 1] = tostring(name)
        end
    end
    if names then
        table.sort(names)
    end
    return names or NONE
end

-- Says so of the first few; which names are known, once.
local function refuse_names(ctx, names, allowed)
    if #names == 0 or ctx.quiet > 0 then
        return #names == 0
    end
    local known = ", none is known"
    if #allowed > 0 then
        known = ", known are " .. value.shorten(table.concat(allowed, ", "), 300)
    end
    for i = 1, math.min(#names, 6) do
        fail(ctx, ("unknown property %s%s%s"):format(value.show(names[i]),
            near.hint(names[i], allowed), i == 1 and known or ""))
    end
    ctx.more = ctx.more + math.max(#names - 6, 0)
    return false
end

M["additionalProperties"] = function(c, _, schema, whole)
    local node = c:sub(schema)
    local declared = kind_of(whole.properties) == "object" and whole.properties or {}
    local names = value.sorted_keys(declared)
    local patterns = {}
    if kind_of(whole.patternProperties) == "object" then
        for i, source in ipairs(value.sorted_keys(whole.patternProperties)) do
            patterns[i] = pattern_of(c, source)
        end
    end
    local function known(name)
        if declared[name] ~= nil then
            return true
        end
        for i = 1, #patterns do
            if patterns[i]:match(name) then
                return true
            end
        end
        return false
    end
    return function(ctx, v, kind, seen)
        if kind ~= "object" or (node.always and not seen) then
            return true
        end
        local others = other_names(v, known)
        if node.always == false and #patterns == 0 then
            return refuse_names(ctx, others, names)
        end
        local ok = true
        for _, name in ipairs(others) do
            ok = below(ctx, node, rawget(v, name), name) and ok
            if seen then
                seen.props[name] = true
            end
        end
        return ok
    end
end

M["propertyNames"] = function(c, _, schema)
    local node = c:sub(schema)
    return function(ctx, v, kind)
        if kind ~= "object" then
            return true
        end
        local ok = true
        for _, name in ipairs(value.sorted_keys(v)) do
            local good, errors = apart(ctx, here, node, name, "string")
            if not good then
                local why = errors[1] and ": " .. errors[1].message or ""
                ok = fail(ctx, ("the property name %s is not allowed%s"):format(
                    value.show(name), why))
            end
        end
        return ok
    end
end

local function missing(ctx, name, why)
    return fail(ctx, ("missing required property %s%s"):format(value.show(name), why or ""))
end

M["required"] = function(c, _, names)
    names = names_of(c, names)
    return function(ctx, v, kind)
        local ok = true
        if kind == "object" then
            for i = 1, #names do
                if rawget(v, names[i]) == nil then
                    ok = missing(ctx, names[i])
                end
            end
        end
        return ok
    end
end

M["dependentRequired"] = function(c, _, lists)
    local triggers = object_of(c, lists)
    for _, name in ipairs(triggers) do
        names_of(c, lists[name])
    end
    return function(ctx, v, kind)
        local ok = true
        for _, trigger in ipairs(kind == "object" and triggers or {}) do
            if rawget(v, trigger) ~= nil then
                for _, name in ipairs(lists[trigger]) do
                    if rawget(v, name) == nil then
                        ok = missing(ctx, name, (" (needed with %s)"):format(value.show(trigger)))
                    end
                end
            end
        end
        return ok
    end
end

local function count(v)
    local n = 0
    for _ in next, v do
        n = n + 1
    end
    return n
end

local function properties(n)
    return n == 1 and "1 property" or ("%d properties"):format(n)
end

M["minProperties"] = function(c, _, n)
    n = count_of(c, n)
    return function(ctx, v, kind)
        return kind ~= "object" or count(v) >= n
            or fail(ctx, ("expected at least %s, found %d"):format(properties(n), count(v)))
    end
end

M["maxProperties"] = function(c, _, n)
    n = count_of(c, n)
    return function(ctx, v, kind)
        return kind ~= "object" or count(v) <= n
            or fail(ctx, ("expected at most %s, found %d"):format(properties(n), count(v)))
    end
end

M["unevaluatedProperties"] = function(c, _, schema)
    local node = c:sub(schema)
    c.document.tracks = true
    return function(ctx, v, kind, seen)
        if kind ~= "object" or seen.all_props then
            return true
        end
        local ok = true
        for _, name in ipairs(other_names(v, function(name) return seen.props[name] end)) do
            if node.always == false then
                ok = fail(ctx, "unknown property " .. value.show(name))
            else
                ok = below(ctx, node, rawget(v, name), name) and ok
            end
        end
        seen.all_props = true
        return ok
    end
end

-- Those that apply other schemas to the same value.
for name, keyword in pairs(require "lash.schema.combine") do
    M[name] = keyword
end

return M
