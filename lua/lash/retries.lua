--- How often a tool that is marked `idempotent` is tried: the field `retry` of agents and tools.
local declare = require "lash.declare"

local M = {}

--- How tools marked `idempotent` are tried, unless the agent or the tool says otherwise: attempts in all,
-- seconds before the second one, and the most that it grows to, doubled each time.
M.POLICY = { attempts = 3, delay = 0.2, max_delay = 2 }

local FIELDS = { attempts = "integer", delay = "number", max_delay = "number" }

--- @return nil, or the sentence that says what is wrong with the `retry` of an agent or a tool
function M.fault(what, retry)
    if retry == nil or retry == false then
        return nil
    elseif type(retry) ~= "table" then
        return ("%s: `retry` is { attempts =, delay =, max_delay = }, or false for none"):format(what)
    end
    local fault = declare.fault(what .. " retry", retry, FIELDS)
    if fault then
        return fault
    elseif retry.attempts and not (retry.attempts >= 1 and retry.attempts <= 1000) then
        return ("%s: retry.attempts (in all) is between 1 and 1000"):format(what)
    end
    for _, name in ipairs { "delay", "max_delay" } do
        if retry[name] and not (retry[name] >= 0 and retry[name] <= 86400) then
            return ("%s: retry.%s is a number of seconds between 0 and 86400"):format(what, name)
        end
    end
    return nil
end

--- How often and how fast a tool's calls are tried.
-- @param found the tool; its own `retry` goes before the agent's
-- @param of_agent the agent's `retry` or nil
-- @return { attempts =, delay =, max_delay = } | nil when there is one attempt only
function M.policy(found, of_agent)
    local own = found.retry
    if own == nil then
        own = of_agent
    end
    if not found.idempotent or own == false then
        return nil
    end
    local policy = {}
    for _, from in ipairs { M.POLICY, of_agent or {}, own or {} } do
        for name in pairs(FIELDS) do
            policy[name] = from[name] or policy[name]
        end
    end
    if policy.delay > policy.max_delay and not (own and own.max_delay) then
        policy.max_delay = policy.delay
    end
    return policy.attempts > 1 and policy or nil
end

--- Seconds before the attempt that follows the n-th; up to a quarter less, by chance.
function M.delay(policy, n)
    local delay = math.min(policy.delay * 2 ^ math.min(n - 1, 60), policy.max_delay)
    return delay * (1 - math.random() * 0.25)
end

return M
