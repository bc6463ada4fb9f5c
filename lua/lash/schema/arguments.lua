-- The arguments that keywords take, checked when a schema is compiled. c is the compiler's door (see
-- keywords.lua).

local json = require "lash.json"
local pattern = require "lash.core.pattern"
local value = require "lash.schema.value"

local M = {}

function M.count(c, n)
    local i = type(n) == "number" and math.tointeger(n)
    if not i or i < 0 then
        c:refuse("must be a whole number, 0 or more")
    end
    return i
end

-- Is the text an integer beyond 64 bits, which json.decode() gives as text?
function M.too_long(text)
    return text:find("^-?%d+$") and math.type(tonumber(text)) == "float"
end

function M.number(c, n)
    if type(n) == "string" and M.too_long(n) then
        n = tonumber(n) -- rounded, which is good enough for a bound
    end
    if type(n) ~= "number" or n - n ~= 0 then
        c:refuse("must be a number")
    end
    return n
end

function M.list(c, t, what)
    if type(t) == "table" and next(t) == nil and getmetatable(t) == nil then
        json.array(t) -- so that it is encoded as the draft wants it
    end
    if value.kind(t) ~= "array" then
        c:refuse(("must be an array%s, found %s"):format(what or "", value.describe(t)))
    end
    return t
end

function M.names(c, t)
    local seen = {}
    for _, name in ipairs(M.list(c, t, " of strings")) do
        if type(name) ~= "string" or seen[name] then
            c:refuse("must be an array of different strings")
        end
        seen[name] = true
    end
    return t
end

function M.object(c, t)
    if value.kind(t) ~= "object" then
        c:refuse("must be an object, found " .. value.describe(t))
    end
    return value.sorted_keys(t)
end

function M.nodes(c, t)
    local nodes = {}
    for i, schema in ipairs(M.list(c, t, " of schemas")) do
        nodes[i] = c:sub(schema, tostring(i - 1))
    end
    if #nodes == 0 then
        c:refuse("must not be empty")
    end
    return nodes
end

function M.pattern(c, source)
    if type(source) ~= "string" then
        c:refuse("must be a regular expression in a string")
    end
    local p, message = pattern.compile(source)
    if not p then
        c:refuse(("%s in the regular expression %s"):format(message, value.show(source)))
    end
    return p
end

return M
