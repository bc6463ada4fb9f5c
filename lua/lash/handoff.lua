--- Handoff: one tool named `handoff` that gives the conversation to another agent and does not come
-- back. A batch is inspected before any of its calls starts; a handoff is prepared first (the target
-- exists, arguments are valid, its instructions and model are resolved), then committed.
local dispatch = require "lash.dispatch"
local json = require "lash.json"
local near = require "lash.near"

local M = {}

--- The name of the tool.
M.NAME = "handoff"

--- The agents that `agent` may hand over to, in declared order.
-- @return list of agents, possibly empty | nil, message
function M.targets(agent)
    local list = agent.handoffs
    if type(list) == "function" then
        local ok, made = pcall(list)
        if not ok or type(made) ~= "table" then
            return nil, ("agent '%s': its `handoffs` function %s"):format(agent.name,
                ok and "returned a " .. type(made) .. ", not a list of agents" or "failed: " .. tostring(made))
        end
        list = made
    end
    local is_agent = require("lash.agent").is
    for i, target in ipairs(list or {}) do
        if not is_agent(target) then
            return nil, ("agent '%s': handoffs[%d] is a %s, not an agent"):format(agent.name, i, type(target))
        end
    end
    return list or {}
end

--- The declaration that a model sees, with the targets as an enum.
function M.tool(targets)
    local names, lines = {}, {}
    for i, target in ipairs(targets) do
        names[i] = target.name
        lines[i] = target.description ~= "" and ("%s: %s"):format(target.name, target.description) or target.name
    end
    return {
        name = M.NAME,
        description = "Hands the whole conversation over to another agent, who answers the user from then on. "
            .. "Agents: " .. table.concat(lines, "; "),
        schema = {
            type = "object",
            properties = {
                agent = { type = "string", enum = json.array(names) },
                reason = { type = "string", description = "why, in a few words" },
            },
            required = json.array { "agent" },
            additionalProperties = false,
        },
    }
end

local function find(call, targets)
    local args, err = json.decode((call.args == nil or call.args == "") and "{}" or call.args)
    if err or type(args) ~= "table" then
        return nil, "the arguments of handoff are not a JSON object: " .. tostring(err or "got a " .. type(args))
    end
    for name in pairs(args) do
        if name ~= "agent" and name ~= "reason" then
            return nil, ("/%s: no such argument; they are agent and reason"):format(tostring(name):sub(1, 80))
        end
    end
    local names = {}
    for i, target in ipairs(targets) do
        if target.name == args.agent then
            if args.reason ~= nil and type(args.reason) ~= "string" then
                return nil, "/reason: expected a string"
            end
            return target
        end
        names[i] = target.name
    end
    if type(args.agent) ~= "string" then
        return nil, "/agent: expected one of " .. table.concat(names, ", ")
    end
    return nil, ("there is no agent '%s'%s; the agents are %s"):format(args.agent, near.hint(args.agent, names),
        table.concat(names, ", "))
end

--- Looks through a batch for handoffs.
-- @param calls items of type "call", in order
-- @param targets list of agents
-- @param prepare fn(agent) -> prepared | nil, message: resolves what the target needs
-- @return { at = position, target = agent, prepared = } of the first valid one or nil, and
--   { [position] = outcome } for handoff calls that cannot be done
function M.inspect(calls, targets, prepare)
    local faults = {}
    for i, call in ipairs(calls) do
        if call.name == M.NAME then
            local target, err = find(call, targets)
            local prepared
            if target then
                prepared, err = prepare(target)
            end
            if prepared then
                return { at = i, target = target, prepared = prepared }, faults
            end
            faults[i] = dispatch.outcome(call, "error", err)
        end
    end
    return nil, faults
end

return M
