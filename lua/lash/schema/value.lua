-- What lash.schema needs to know of JSON values as they are in Lua.

local json = require "lash.json"

local M = {}

local array_mt, null = json.array_mt, json.null
local DEPTH = 1024 -- deeper than decode() goes: only a table that contains itself gets there

--- kind(value) -> "null" "boolean" "number" "string" "array" "object" "other"
-- An unmarked empty table is an object, as json.encode() writes it.
function M.kind(v)
    local t = type(v)
    if t == "table" then
        if getmetatable(v) == array_mt or type((next(v))) == "number" then
            return "array"
        end
        return "object"
    elseif t == "string" or t == "number" or t == "boolean" then
        return t
    end
    return v == null and "null" or "other"
end

--- integral(number): is it a whole number? 1.0 is one.
function M.integral(v)
    return math.type(v) == "integer" or (v % 1 == 0 and v - v == 0)
end

-- Cut text to about n bytes, between characters.
local function shorten(text, n)
    if #text <= n then
        return text
    end
    while n > 0 and text:byte(n + 1) >= 0x80 and text:byte(n + 1) < 0xC0 do
        n = n - 1
    end
    return text:sub(1, n) .. "..."
end
M.shorten = shorten

--- show(value) -> short JSON text of it
function M.show(v)
    if type(v) == "string" then
        v = shorten(v, 60)
    end
    local text = json.encode(v, { lossy = true })
    return text and shorten(text, 80) or "a " .. type(v)
end

--- describe(value) -> `string "abc"`, `array of 3 items`, ...
function M.describe(v)
    local kind = M.kind(v)
    if kind == "array" then
        return ("array of %d item%s"):format(rawlen(v), rawlen(v) == 1 and "" or "s")
    elseif kind == "object" then
        return next(v) == nil and "empty object" or "object"
    elseif kind == "null" then
        return "null"
    elseif kind == "other" then
        return "a " .. type(v)
    elseif kind == "number" and math.type(v) == "integer" then
        return ("integer %d"):format(v)
    elseif kind == "number" and v - v ~= 0 then
        return "number " .. tostring(v)
    end
    return kind .. " " .. M.show(v)
end

--- equal(a, b): JSON equality; 1 equals 1.0, order of properties means nothing.
function M.equal(a, b, depth)
    if a == b then
        return true
    end
    depth = (depth or 0) + 1
    if type(a) ~= "table" or type(b) ~= "table" or M.kind(a) ~= M.kind(b) or depth > DEPTH then
        return false
    end
    for k, x in next, a do
        local y = rawget(b, k)
        if y == nil or not M.equal(x, y, depth) then
            return false
        end
    end
    for k in next, b do
        if rawget(a, k) == nil then
            return false
        end
    end
    return true
end

--- sorted_keys(object) -> list of its keys, bytewise
function M.sorted_keys(t)
    local keys = {}
    for k in next, t do
        keys[#keys + 1] = type(k) == "string" and k or tostring(k)
    end
    table.sort(keys)
    return keys
end

--- canon(value) -> a string that equal values share and others do not
function M.canon(v, depth)
    local kind = M.kind(v)
    depth = (depth or 0) + 1
    if kind == "number" then
        local i = math.tointeger(v)
        return i and ("%d"):format(i) or ("%.17g"):format(v)
    elseif kind == "string" then
        return ("s%d:%s"):format(#v, v)
    elseif kind ~= "array" and kind ~= "object" then
        return kind == "other" and tostring(v) or kind .. tostring(v == true)
    elseif depth > DEPTH then
        return "..."
    end
    local out = {}
    if kind == "array" then
        for i = 1, rawlen(v) do
            out[i] = M.canon(rawget(v, i), depth)
        end
        return "[" .. table.concat(out, ",") .. "]"
    end
    for _, k in ipairs(M.sorted_keys(v)) do
        out[#out + 1] = M.canon(k) .. "=" .. M.canon(rawget(v, k), depth)
    end
    return "{" .. table.concat(out, ",") .. "}"
end

-- The decimal number that people wrote: digits (an integer without zeros at its end, nil if that is
-- 2^63) and the power of ten.
local function decimal(v)
    local text = json.encode(v)
    local digits, fraction, exponent = text:match("^-?(%d+)%.?(%d*)e?([-+]?%d*)$")
    local power = (tonumber(exponent) or 0) - #fraction
    digits = (digits .. fraction):gsub("^0+", "")
    local zeros = #digits:match("0*$")
    return math.tointeger(tonumber(digits:sub(1, #digits - zeros))), power + zeros
end

--- multiple(value, of): is value / of a whole number? Exact, and as people write decimals: 0.3 is a
-- multiple of 0.1.
function M.multiple(v, of)
    if v == 0 then
        return true
    elseif math.type(v) == "integer" and math.type(of) == "integer" then
        return v % of == 0
    elseif v - v ~= 0 then
        return false
    end
    local a, p = decimal(v)
    local b, q = decimal(of)
    if not a or not b or b >= 2 ^ 59 then -- too long to be multiplied by ten
        return math.fmod(v, of) == 0
    elseif p < q then -- a has no factor of ten left to give
        return false
    end
    a = a % b
    for _ = 1, p - q do
        a = a * 10 % b
        if a == 0 then
            break
        end
    end
    return a == 0
end

return M
