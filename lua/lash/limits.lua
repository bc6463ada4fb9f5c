--- Limits of runs: what an agent, the options of a run and the command line may say, and which of them
-- holds.
local declare = require "lash.declare"

local M = {}

local KINDS = {
    concurrency = "integer", -- calls of one turn that run at once
    turns = "integer",
    tool_calls = "integer",
    requests = "integer",
    tokens = "integer",
    time = "number",         -- seconds, for everything
    wait = "number",         -- seconds that a call waits for its turn
    handoffs = "integer",
}

--- Limits unless somebody says otherwise.
M.DEFAULTS = { concurrency = 16, turns = 25, handoffs = 16, wait = 300 }

--- @return nil, or the sentence that says what is wrong with the limits of an agent or a run
function M.fault(what, limits)
    if limits ~= nil and type(limits) ~= "table" then
        return ("%s: limits must be a table, got %s"):format(what, type(limits))
    end
    local fault = limits and declare.fault(what .. " limits", limits, KINDS)
    if fault then
        return fault
    end
    for name, value in pairs(limits or {}) do
        local least = name == "concurrency" and 1 or 0
        if not (value >= least and value < math.huge) then
            return ("%s: limits.%s must be %s"):format(what, name,
                least == 1 and "at least 1" or "0 (no limit) or more")
        end
    end
    return nil
end

--- The limits of an agent: its own, and the defaults for the rest.
function M.complete(own)
    local limits = {}
    for _, from in ipairs { M.DEFAULTS, own or {} } do
        for name, value in pairs(from) do
            limits[name] = value
        end
    end
    return limits
end

--- The limits of a run: those of later lists go before those of earlier ones.
-- @param base as of M.complete
-- @param more or nil
function M.merged(base, more, most)
    if not more and next(most) == nil then
        return base
    end
    local limits = setmetatable({}, { __index = base })
    for name, value in pairs(more or most) do
        limits[name] = value
    end
    for name, value in pairs(most) do
        limits[name] = value
    end
    return limits
end

--- Whether a value has reached its limit; none and 0 are never reached.
function M.reached(limit, value)
    return limit ~= nil and limit > 0 and value >= limit
end

--- Whether a value is over its limit.
function M.exceeded(limit, value)
    return limit ~= nil and limit > 0 and value > limit
end

return M
