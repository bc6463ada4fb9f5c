--- What the console works with: the files that were loaded, the tools, the agent that `>` asks, its conversation.
--
-- The global `tools` has the tools that the agent gets: those of loaded files, and every tool that an entry
-- leaves in a variable or as its result; `tools.NAME = nil` takes one away.
local agents = require "lash.agent"
local declared = require "lash.declared"
local near = require "lash.near"
local script = require "lash.script"
local tool = require "lash.tool"

local M = {}

local Workspace = {}
Workspace.__index = Workspace

--- new(session) -> workspace. session: of lash.console.evaluate
function M.new(session)
    _G.tools = _G.tools or {}
    return setmetatable({
        session = session,
        files = {},       -- paths that were loaded, in order
        chosen = nil,     -- an agent, else one is made of the tools
        model = nil,      -- of .model, for all agents
        conversation = nil,
        known = setmetatable({}, { __mode = "k" }), -- tools that were added once
        plain = nil,      -- the agent that was made of the tools, and of which
    }, Workspace)
end

local function add_tool(ws, value)
    if tool.is(value) and not ws.known[value] then
        ws.known[value] = true
        _G.tools[value.name] = value
    end
end

--- After an entry: tools in its variables or results are the agent's from now on.
function Workspace:notice(result)
    for _, name in ipairs(self.session.locals:names()) do
        add_tool(self, (self.session.locals:get(name)))
    end
    for _, value in next, _G do
        add_tool(self, value)
    end
    add_tool(self, result)
end

--- tools() -> the tools of the global `tools`, sorted by name
function Workspace:tools()
    local list, seen = {}, {}
    for _, value in next, type(_G.tools) == "table" and _G.tools or {} do
        if tool.is(value) and not seen[value.name] then
            seen[value.name] = true
            list[#list + 1] = value
        end
    end
    table.sort(list, function(a, b)
        return a.name < b.name
    end)
    return list
end

--- agents() -> { { name =, value = }, ... }: those in variables, and the chosen one
function Workspace:agents()
    local list, seen = {}, {}
    local function add(value)
        if agents.is(value) and not seen[value] then
            seen[value] = true
            list[#list + 1] = { name = value.name, value = value }
        end
    end
    add(self.chosen)
    for _, name in ipairs(self.session.locals:names()) do
        add((self.session.locals:get(name)))
    end
    for _, value in next, _G do
        add(value)
    end
    return list
end

--- load(path): brings in what the file declares; an agent of it becomes the current one. Raises a failure.
-- @return what it declares, as of lash.declared
function Workspace:load(path)
    return self:take(declared.load(path, script.LOAD_LIMIT), path)
end

--- take(found, path): the same, for what a file has declared already
function Workspace:take(found, path)
    for _, entry in ipairs(found.tools) do
        self.known[entry.value] = true
        _G.tools[entry.name] = entry.value
    end
    if found.agents[1] then
        self:choose(found.agents[1].value)
    end
    for i, known in ipairs(self.files) do
        if known == path then
            table.remove(self.files, i)
            break
        end
    end
    self.files[#self.files + 1] = path
    return found
end

--- choose(agent): from now on `>` asks this one, in a new conversation
function Workspace:choose(agent)
    self.chosen, self.conversation = agent, nil
end

--- find_tool(name) -> tool | nil, message
function Workspace:find_tool(name)
    local names = {}
    for i, one in ipairs(self:tools()) do
        if one.name == name then
            return one
        end
        names[i] = one.name
    end
    for _, one in ipairs(self.chosen and self.chosen.tools or {}) do
        if one.name == name then
            return one
        end
        names[#names + 1] = one.name
    end
    if #names == 0 then
        return nil, "there are no tools: .load FILE, or declare one with lash.tool"
    end
    return nil, ("there is no tool '%s'%s; there are: %s"):format(name, near.hint(name, names),
        table.concat(names, ", "))
end

local function same(a, b)
    if not a or #a ~= #b then
        return false
    end
    for i, value in ipairs(a) do
        if b[i] ~= value then
            return false
        end
    end
    return true
end

--- agent() -> the agent that is asked: the chosen one with the further tools, or one made of the tools
function Workspace:agent()
    local list = {}
    for _, one in ipairs(self:tools()) do
        if not (self.chosen and self.chosen.by_name[one.name]) then
            list[#list + 1] = one
        end
    end
    if self.chosen and #list == 0 then
        return self.chosen
    elseif self.plain and self.plain.base == self.chosen and same(self.plain.tools, list) then
        return self.plain.agent
    end
    local spec = self.chosen and agents.spec(self.chosen) or { name = "lash" }
    spec.tools = table.move(list, 1, #list, #(spec.tools or {}) + 1, spec.tools or {})
    self.plain = { base = self.chosen, tools = list, agent = agents.new(spec) }
    return self.plain.agent
end

--- talk() -> the conversation that goes on, with the agent of the moment
function Workspace:talk()
    local agent = self:agent()
    if not self.conversation then
        self.conversation = agent:conversation()
    elseif not self.conversation.busy and self.conversation.agent ~= agent and self.asked ~= agent then
        self.conversation.agent = agent -- the tools have changed; what was said stays
    end
    self.asked = agent
    return self.conversation
end

return M
