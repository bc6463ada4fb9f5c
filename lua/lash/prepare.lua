--- What an agent's requests need, made before the first of them: its model, its instructions (all parts at
-- once, kept in order), its tools and the agents that it may hand over to.
local lazy = require "lash.lazy"
local handoff = lazy "lash.handoff"
local json = require "lash.json"
local model = require "lash.model"
local prompt = require "lash.prompt"
local tasks = lazy "lash.tasks"

local M = {}

local PARALLEL_HINT = "If you need several independent tool calls, issue all of them in the same turn: they run "
    .. "at the same time."

local function part_text(part, ctx)
    if type(part) == "string" then
        return part
    elseif type(part) == "function" then
        local text, err = prompt.call(part, ctx)
        return text, err and "instructions: " .. err
    end
    return prompt.text(part, ctx)
end

-- All parts at once, kept in order.
local function resolve_instructions(agent)
    local texts, waits = {}, false
    for i, part in ipairs(agent.instructions) do
        if type(part) == "string" then
            texts[i] = part
        else
            waits = true
        end
    end
    if waits then
        local ctx = { agent = agent.name }
        local results = tasks.map(agent.instructions, function(part)
            return table.pack(part_text(part, ctx))
        end)
        for i, result in ipairs(results) do
            if not result.ok then
                return nil, tostring(result.error)
            elseif not result.value[1] then
                return nil, result.value[2]
            end
            texts[i] = result.value[1]
        end
    end
    return texts
end

local function system_text(agent, texts, count)
    local parts = {}
    for _, text in ipairs(texts) do
        if text ~= "" then
            parts[#parts + 1] = text
        end
    end
    if agent.parallel_hint and count >= 2 then
        parts[#parts + 1] = PARALLEL_HINT
    end
    return #parts > 0 and table.concat(parts, "\n\n") or nil
end

local resolved = {} -- model name -> target: environment and configuration do not change while we run

local function target_of(name)
    local target, err = resolved[name or false], nil
    if not target then
        target, err = model.resolve(name)
        resolved[name or false] = target
    end
    return target, err
end

local function make_view(agent, texts, declared)
    return {
        agent = agent.name,
        system = system_text(agent, texts, #declared),
        tools = declared,
        tool_choice = agent.tool_choice,
        parallel = #declared > 0 or nil,
        settings = agent.settings,
        output = agent.output and agent.output.view,
    }
end

-- agent -> its view, while it is made of constants only: providers keep the text that they made of it
local constant_views = setmetatable({}, { __mode = "k" })

local function same_list(list, other)
    if #list ~= #other then
        return false
    end
    for i, value in ipairs(list) do
        if value ~= other[i] then
            return false
        end
    end
    return true
end

-- The settings as a text, as an agent's may be changed in place.
local function settings_text(agent)
    return next(agent.settings) == nil or json.encode(agent.settings, { lossy = true }) or false
end

local function constant_view(agent)
    local kept = constant_views[agent]
    if kept and same_list(kept.tools, agent.tools) and same_list(kept.instructions, agent.instructions)
        and kept.output == agent.output and kept.at.view.tool_choice == agent.tool_choice
        and kept.settings == agent.settings and kept.said == settings_text(agent) then
        return kept
    end
    if agent.handoffs ~= nil then
        return nil
    end
    for _, part in ipairs(agent.instructions) do
        if type(part) ~= "string" then
            return nil
        end
    end
    kept = {
        tools = table.move(agent.tools, 1, #agent.tools, 1, {}), output = agent.output,
        instructions = table.move(agent.instructions, 1, #agent.instructions, 1, {}),
        settings = agent.settings, said = settings_text(agent),
        at = { -- as M.agent gives it; its target comes with the first run
            agent = agent, target = nil, targets = {}, views = {},
            view = make_view(agent, agent.instructions, table.move(agent.tools, 1, #agent.tools, 1, {})),
        },
    }
    constant_views[agent] = kept
    return kept
end

--- Everything that a request of an agent needs. Fails before anything is committed.
-- @param name of the model, or nil for the default one
-- @return { agent =, target = as of model.resolve, targets = agents to hand over to, view = as of model.ask }
--   | nil, { code, exit, message }
function M.agent(agent, name)
    local target, err = target_of(name)
    if not target then
        return nil, err
    end
    local constant = constant_view(agent)
    if constant then
        local at = constant.at
        if at.target ~= target then
            at = { agent = agent, target = target, targets = {}, views = at.views, view = at.view }
            constant.at = at -- another one: runs with the model before may still have theirs
        end
        return at
    end
    local targets, texts
    targets, err = handoff.targets(agent)
    if not targets then
        return nil, { code = "handoffs", exit = 78, message = err }
    end
    texts, err = resolve_instructions(agent)
    if not texts then
        return nil, { code = "instructions", exit = 1, message = ("agent '%s': %s"):format(agent.name, err) }
    end
    local declared = table.move(agent.tools, 1, #agent.tools, 1, {})
    if #targets > 0 then
        declared[#declared + 1] = handoff.tool(targets)
    end
    return { agent = agent, target = target, targets = targets, view = make_view(agent, texts, declared), views = {} }
end

local FREE = "auto" -- a forced choice holds for the first request only

--- The view for a request: the agent's own for the first one, with a free choice of tools for later ones,
-- without tools for the last one. Each is made once: providers keep what they made of a view.
-- @param at as of M.agent
function M.view(at, first, last)
    local own = at.view.tool_choice
    local choice = last and "none" or not first and FREE or own
    if choice == own or (choice == FREE and (own == nil or own == "none")) then
        return at.view
    end
    if not at.views[choice] then
        local view = {}
        for name, value in pairs(at.view) do
            view[name] = value
        end
        view.tool_choice = choice
        at.views[choice] = view
    end
    return at.views[choice]
end

return M
