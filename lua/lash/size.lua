--- Numbers of bytes as people write them: 4096, "64K", "8M", "1G".
local M = {}

local UNITS = { [""] = 1, K = 1 << 10, M = 1 << 20, G = 1 << 30 }

--- @return the number of bytes, at least 1, or nil when `value` is no size
function M.bytes(value)
    if type(value) == "string" then
        local digits, unit = value:match("^(%d+)([KMG]?)$")
        value = digits and #digits < 10 and math.tointeger(tonumber(digits)) * UNITS[unit]
    end
    local bytes = math.type(value) and math.tointeger(value)
    return bytes and bytes >= 1 and bytes or nil
end

-- Bytes that the smallest memory limit of a call has: less would not do for its arguments.
local MEMORY_LEAST = 1 << 20

--- A memory limit of calls: a size of at least 1M, or `none` for no limit.
-- @return the number of bytes, 0 for no limit, or nil when `value` is no such limit
function M.memory(value, none)
    if value == none then
        return 0
    end
    local bytes = M.bytes(value)
    return bytes and bytes >= MEMORY_LEAST and bytes or nil
end

return M
