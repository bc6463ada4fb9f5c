--- What the console works with: the files that were loaded, the tools, the agent that `>` asks, its conversation.
--
-- The global `tools` has the tools that the agent gets: those of loaded files, and every tool that an entry
-- leaves in a variable or as its result; `tools.NAME = nil` takes one away.
local lazy = require "lash.lazy"
local near = require "lash.near"
local script = require "lash.script"

local agents = lazy "lash.agent"
local declared = lazy "lash.declared"
local prompt = lazy "lash.prompt"
local tool = lazy "lash.tool"

local M = {}

local Workspace = {}
Workspace.__index = Workspace

-- The global `tools`, made anew when an entry has put something else there.
local function tool_table()
    local list = rawget(_G, "tools")
    if type(list) ~= "table" then
        list = {}
        rawset(_G, "tools", list)
    end
    return list
end

--- new(session) -> workspace. session: of lash.console.evaluate
function M.new(session)
    tool_table()
    return setmetatable({
        session = session,
        files = {},       -- { path =, found = as of lash.declared, modules = names }, in the order of loading
        chosen = nil,     -- an agent, else one is made of the tools
        model = nil,      -- of .model, for all agents
        conversation = nil,
        attached = {},    -- files that go with the next message, see lash.console.attach
        known = setmetatable({}, { __mode = "k" }), -- tools that were added once
        plain = nil,      -- the agent that was made of the tools, and of which
    }, Workspace)
end

local function add_tool(ws, value)
    if tool.is(value) and not ws.known[value] then
        ws.known[value] = true
        rawset(tool_table(), value.name, value)
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
    for _, value in next, tool_table() do
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
    for _, file in ipairs(self.files) do
        for _, entry in ipairs(file.found.agents) do
            add(entry.value)
        end
    end
    for _, name in ipairs(self.session.locals:names()) do
        add((self.session.locals:get(name)))
    end
    for _, value in next, _G do
        add(value)
    end
    return list
end

--- prompts() -> { { name =, value = }, ... }: those of the agent that is asked, and of loaded files
function Workspace:prompts()
    local list, seen = {}, {}
    local function add(value)
        if prompt.is(value) and not seen[value] then
            seen[value] = true
            list[#list + 1] = { name = value.name, value = value }
        end
    end
    for _, part in ipairs(self:agent().instructions) do
        add(part)
    end
    for _, file in ipairs(self.files) do
        for _, entry in ipairs(file.found.prompts) do
            add(entry.value)
        end
    end
    return list
end

local function file_of(ws, path)
    for i, file in ipairs(ws.files) do
        if file.path == path then
            return file, i
        end
    end
    return nil
end

-- What a file has brought in before goes, unless something else has taken its place.
local function forget(ws, path)
    local file, at = file_of(ws, path)
    for _, entry in ipairs(file and file.found.tools or {}) do
        if rawequal(rawget(tool_table(), entry.name), entry.value) then
            rawset(tool_table(), entry.name, nil)
        end
    end
    if file then
        table.remove(ws.files, at)
    end
end

local function loaded_names()
    local names = {}
    for name in next, package.loaded do
        names[name] = true
    end
    return names
end

--- load(path): brings in what the file declares; an agent of it becomes the current one. Raises a failure; then
-- all is as before. Modules that the file required are loaded again with it.
-- @return what it declares, as of lash.declared
function Workspace:load(path)
    local file = file_of(self, path)
    local kept = {}
    for _, name in ipairs(file and file.modules or {}) do
        kept[name], package.loaded[name] = package.loaded[name], nil
    end
    local before = loaded_names()
    local ok, found = pcall(declared.load, path, script.LOAD_LIMIT)
    if not ok then
        for name, module in next, kept do
            package.loaded[name] = module
        end
        error(found, 0)
    end
    local modules = {}
    for name in next, package.loaded do
        if not before[name] and type(name) == "string" and not name:find "^lash%f[.%z]" then
            modules[#modules + 1] = name
        end
    end
    return self:take(found, path, modules)
end

-- The agent with the same name as the one that is asked, if that came from the file.
local function successor(chosen, file, found)
    for _, old in ipairs(chosen and file and file.found.agents or {}) do
        if old.value == chosen then
            for _, new in ipairs(found.agents) do
                if new.name == old.name then
                    return new.value
                end
            end
            return found.agents[1] and found.agents[1].value -- it has another name now
        end
    end
    return nil
end

--- take(found, path, modules): the same, for what a file has declared already. When the file was loaded before
-- the conversation goes on, with the new agent.
function Workspace:take(found, path, modules)
    local file = file_of(self, path)
    local new = successor(self.chosen, file, found)
    forget(self, path)
    for _, entry in ipairs(found.tools) do
        self.known[entry.value] = true
        rawset(tool_table(), entry.name, entry.value)
    end
    self.files[#self.files + 1] = { path = path, found = found, modules = modules or {} }
    if new then
        self.chosen = new -- talk() gives it the conversation
    elseif found.agents[1] and not file then
        self:choose(found.agents[1].value)
    end
    return found
end

--- choose(agent): from now on `>` asks this one, in a new conversation
function Workspace:choose(agent)
    self.chosen, self.conversation = agent, nil
end

--- find_tool(name) -> tool | nil, message
function Workspace:find_tool(name)
    local names, seen = {}, {}
    for _, list in ipairs { self:tools(), self.chosen and self.chosen.tools or {} } do
        for _, one in ipairs(list) do
            if one.name == name then
                return one
            elseif not seen[one.name] then
                seen[one.name] = true
                names[#names + 1] = one.name
            end
        end
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
