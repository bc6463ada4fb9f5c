--- What a file declares: the tools, prompts and agents that it returns, and those inside its agents.
local failure = require "lash.failure"
local near = require "lash.near"
local script = require "lash.script"

local M = {}

local DEPTH = 8 -- of lists in lists

local KINDS = { ["lash.tool"] = "tool", ["lash.prompt"] = "prompt", ["lash.agent"] = "agent" }

-- Nothing is of a kind whose module nobody has loaded.
local function kind_of(value)
    for name, kind in pairs(KINDS) do
        local module = package.loaded[name]
        if module and module.is(value) then
            return kind
        end
    end
    return nil
end

local function add(found, kind, value, owner)
    local list = found[kind .. "s"]
    for _, entry in ipairs(list) do
        if entry.value == value then
            return false
        end
    end
    list[#list + 1] = { kind = kind, name = value.name, value = value, owner = owner }
    return true
end

-- A list, or a table of named things as modules return it: of those only what was declared counts.
local function collect(found, value, where, depth)
    local kind = kind_of(value)
    if kind then
        add(found, kind, value)
    elseif type(value) ~= "table" or getmetatable(value) ~= nil or depth > DEPTH then
        return ("%s is a %s, not a tool, prompt or agent"):format(where, type(value))
    elseif #value > 0 then
        for i, entry in ipairs(value) do
            local fault = collect(found, entry, ("%s[%d]"):format(where, i), depth + 1)
            if fault then
                return fault
            end
        end
    else
        local names = {}
        for name, entry in pairs(value) do
            if type(name) == "string" and kind_of(entry) then
                names[#names + 1] = name
            end
        end
        table.sort(names)
        for _, name in ipairs(names) do
            add(found, kind_of(value[name]), value[name])
        end
    end
    return nil
end

--- The declarations among the values that a file returned.
-- @return { tools = list, prompts = list, agents = list } of { kind, name, value } | nil, what is wrong
function M.of(values, n)
    local found = { tools = {}, prompts = {}, agents = {} }
    for i = 1, n do
        if values[i] ~= nil then
            local where = n == 1 and "what it returns" or ("value %d that it returns"):format(i)
            local fault = collect(found, values[i], where, 1)
            if fault then
                return nil, fault
            end
        end
    end
    return found
end

local function is_empty(found)
    return #found.tools + #found.prompts + #found.agents == 0
end

--- Loads a file for what it declares. Raises a failure when it cannot be had.
-- @param limit seconds for loading, or nil
-- @return as of M.of, with at least one declaration
function M.load(path, limit)
    local values = table.pack(script.declarations(path, limit))
    if not values[1] then
        failure.raise(script.exit_of(values[2].err), "%s", script.problem_text(values[2], path))
    end
    local found, fault = M.of({ table.unpack(values, 2, values.n) }, values.n - 1)
    if not found then
        failure.raise(script.EXIT.data, "%s: %s; a file returns a tool, a prompt, an agent or a list of them", path,
            fault)
    elseif is_empty(found) then
        failure.raise(script.EXIT.data, "%s returns no tool, prompt or agent: end it with `return NAME`, where NAME is "
            .. "one or a list of them", path)
    end
    return found
end

local function add_agent(found, one, seen)
    if seen[one] then
        return
    end
    seen[one] = true
    for _, t in ipairs(one.tools) do
        add(found, "tool", t, one.name)
    end
    for _, part in ipairs(one.instructions) do
        if kind_of(part) == "prompt" then
            add(found, "prompt", part, one.name)
        end
    end
    for _, other in ipairs(require("lash.handoff").targets(one) or {}) do
        add(found, "agent", other, one.name)
        add_agent(found, other, seen)
    end
end

--- The same, with the tools, prompts and agents that are inside the agents; these have an `owner`, the
-- name of the agent.
function M.all(direct)
    local found = {}
    for kind, list in pairs(direct) do
        found[kind] = table.move(list, 1, #list, 1, {})
    end
    local seen = {}
    for _, entry in ipairs(direct.agents) do
        add_agent(found, entry.value, seen)
    end
    return found
end

local function full_name(entry)
    return entry.owner and entry.owner .. "." .. entry.name or entry.name
end

--- Finds an entry of M.all by its name, or by "agent.name" where two have the same.
-- @return the entry | nil, the sentence that says why not
function M.find(found, name)
    local hits, names, full = {}, {}, {}
    for _, kind in ipairs { "tools", "prompts", "agents" } do
        for _, entry in ipairs(found[kind]) do
            names[#names + 1] = entry.name
            if full_name(entry) == name then
                return entry
            elseif entry.name == name then
                hits[#hits + 1] = entry
                full[#full + 1] = full_name(entry)
            end
        end
    end
    if #hits == 1 then
        return hits[1]
    elseif #hits > 1 then
        return nil, ("there are several '%s': say which, %s"):format(name, table.concat(full, " or "))
    end
    table.sort(names)
    local hint = near.hint(name, names)
    return nil, ("there is no '%s'%s"):format(name, hint ~= "" and hint
        or "; there are " .. table.concat(names, ", ", 1, math.min(#names, 20)))
end

return M
