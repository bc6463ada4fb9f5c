--- Agents: instructions, a model, tools, and other agents to hand over to.
local declare = require "lash.declare"
local limits = require "lash.limits"
local prompt = require "lash.prompt"
local retries = require "lash.retries"
local structured = require "lash.structured"
local tool = require "lash.tool"

local M = {}

local Agent = { __name = "lash.agent" }
Agent.__index = Agent

--- The metatable of agents.
M.Agent = Agent

local FIELDS = {
    name = "!string",
    description = "string",
    model = "string",
    instructions = "string|table|function",
    tools = "table",
    handoffs = "table|function",
    handoff_after_tools = "boolean",
    output = "table|string",
    settings = "table",
    stream = "boolean",
    limits = "table",
    retry = "table|boolean",
    fail_fast = "boolean",
    parallel_hint = "boolean",
    tool_choice = "string|table",
    on_event = "function",
}

local function flatten(list, into, what)
    for i, entry in ipairs(list) do
        if tool.is(entry) then
            into[#into + 1] = entry
        elseif type(entry) == "table" and getmetatable(entry) == nil then
            local err = flatten(entry, into, what)
            if err then
                return err
            end
        else
            return ("%s: tools[%d] is %s, not a tool made by lash.tool"):format(what, i,
                getmetatable(entry) == Agent and "an agent (use agent:as_tool())" or "a " .. type(entry))
        end
    end
    return nil
end

local function tools_fault(what, tools, has_handoffs)
    local seen = {}
    for _, t in ipairs(tools) do
        if seen[t.name] then
            return ("%s: two tools are named '%s'; names must differ"):format(what, t.name)
        elseif t.name == "handoff" and has_handoffs then
            return ("%s: a tool named 'handoff' stands in the way of its handoffs; rename it"):format(what)
        end
        seen[t.name] = t
    end
    return nil
end

local function instructions_list(what, given)
    local list = type(given) == "table" and not prompt.is(given) and given or { given }
    for i, part in ipairs(list) do
        if type(part) == "string" and not utf8.len(part) then
            return nil, ("%s: instructions[%d] is not valid UTF-8"):format(what, i)
        elseif not (type(part) == "string" or type(part) == "function" or prompt.is(part)) then
            return nil, ("%s: instructions[%d] is a %s; expected a string, a prompt or a function"):format(what, i,
                type(part))
        end
    end
    return list
end

-- The schema of its answers, or nil when it has none.
local function output_of(what, spec)
    if spec.output == nil then
        return nil
    end
    local output, err = structured.new(spec.output)
    return output, err and ("%s: output: %s"):format(what, err)
end

local function build(spec)
    local fault = declare.fault("lash.agent", spec, FIELDS)
        or declare.name_fault("lash.agent", spec.name)
    if fault then
        return nil, fault
    end
    local what = ("lash.agent '%s'"):format(spec.name)
    local tools = {}
    fault = flatten(spec.tools or {}, tools, what) or tools_fault(what, tools, spec.handoffs ~= nil)
        or limits.fault(what, spec.limits) or retries.fault(what, spec.retry)
    if fault then
        return nil, fault
    end
    local instructions, err = instructions_list(what, spec.instructions)
    if not instructions then
        return nil, err
    end
    local output
    output, err = output_of(what, spec)
    if err then
        return nil, err
    end
    local by_name = {}
    for _, t in ipairs(tools) do
        by_name[t.name] = t
    end
    return setmetatable({
        name = spec.name,
        description = spec.description or "",
        model = spec.model,
        instructions = instructions,
        tools = tools,
        by_name = by_name,
        handoffs = spec.handoffs,
        handoff_after_tools = spec.handoff_after_tools or false,
        output = output,
        settings = spec.settings or {},
        limits = limits.complete(spec.limits),
        retry = spec.retry,
        fail_fast = spec.fail_fast or false,
        parallel_hint = spec.parallel_hint ~= false,
        tool_choice = spec.tool_choice,
        streaming = spec.stream, -- Agent:stream has the other name
        on_event = spec.on_event,
    }, Agent)
end

--- Declares an agent.
-- @param spec fields:
--   name          letters, digits, _ and -
--   description   for other agents that may hand over to it
--   model         "provider/model", "demo" or "script:FILE"; without it -m or LASH_MODEL decides
--   instructions  text, a prompt, a function(ctx) that returns text, or a list of these
--   tools         list of tools; lists in it are flattened
--   handoffs      list of agents, or a function that returns one (for agents that know each other)
--   handoff_after_tools  true: the other calls of a turn that hands over run first
--   output        what its answers are: a JSON Schema, or shorthand as of a tool's params; see lash.structured
--   settings      for the provider: max_tokens, temperature, effort, ...
--   limits        { concurrency = 16, turns = 25, handoffs = 16, tool_calls =, requests =, tokens =, time = s,
--                 wait = 300 (s for its turn, of a call) }; 0 = none
--   retry         of tools that are marked idempotent: { attempts = 3 (in all), delay = 0.2, max_delay = 2 }, or
--                 false for none
--   fail_fast     true: the first call that fails cancels the others of its turn, and the run fails with it
--   parallel_hint false: no sentence about independent calls in the system prompt
--   tool_choice   "auto", "required", "none" or { name = }: for its first request
--   stream        false: answers are asked for whole, for servers that cannot stream
--   on_event      fn(event), see lash.events
-- @return the agent. Raises when the declaration cannot work.
function M.new(spec)
    local agent, err = build(spec)
    if not agent then
        error(err, 2)
    end
    return agent
end

--- The declaration of an agent again, to change it and declare another one: its lists are copies.
function M.spec(agent)
    local spec = {}
    for name in pairs(FIELDS) do
        spec[name] = agent[name]
    end
    spec.stream = agent.streaming
    spec.instructions = table.move(agent.instructions, 1, #agent.instructions, 1, {})
    spec.tools = table.move(agent.tools, 1, #agent.tools, 1, {})
    return spec
end

--- @return true when the value is an agent
function M.is(value)
    return getmetatable(value) == Agent
end

--- Runs the agent on a user's message, in a conversation of its own.
-- @param text the message, or a list of texts and parts, see lash.attach
-- @param opts { on_event = fn(event), see lash.events; limits = {...} as of the agent, model = "provider/model",
--   stream = false for whole answers; deltas = false: no events of an answer before it is whole, so that one
--   that broke off is asked for again }
-- @return result: .text .agent (name of who answered) .turns .usage .calls .items .reason .ok, .value where the
--   agent has `output`; tostring(result) is the text. Raises { code, exit, message } when no answer can be had
--   (no key, the provider refuses, two answers that do not fit `output`).
function Agent:run(text, opts)
    return require("lash.run").send(self:conversation(), text, opts, true)
end

--- Runs the agent, and gives its events one after the other, while they happen:
--
--   for event in agent:stream("Hello") do
--     if event.type == "text" then io.write(event.delta) end
--   end
--
-- @param opts as of run
-- @return an iterator of events, see lash.events. The last one is run.end; it also has `result`, what run()
--   returns, unless the run fails: then the loop raises the error behind it. A loop that is left cancels the run.
function Agent:stream(text, opts)
    return require("lash.run").stream(self:conversation(), text, opts)
end

--- A conversation for many messages: conversation:send(text) is agent:run(text) that remembers.
function Agent:conversation()
    return require("lash.conversation").new(self)
end

--- The same as run for callers that are not tasks: a stock lua5.4, a C host. Drives the loop to the end.
function Agent:run_sync(text, opts)
    return require("lash.run").sync("run", self.run, self, text, opts)
end

--- This agent as a tool of others: delegation. It runs beside other calls, returns its text to the
-- caller, and its failure is an outcome for the caller.
-- @param opts { name =, description =, timeout = 600 }
function Agent:as_tool(opts)
    opts = opts or {}
    return tool.new {
        name = opts.name or self.name,
        description = opts.description or (self.description ~= "" and self.description)
            or ("Asks the agent %s, who answers with text"):format(self.name),
        params = { input = "string: what it shall do, with all it needs to know" },
        timeout = opts.timeout == nil and 600 or opts.timeout,
        async = function(args)
            local result = self:run(args.input)
            if not result.ok then
                return nil, ("%s stopped (%s) %s"):format(self.name, result.reason, result.text)
            end
            return result.text
        end,
    }
end

function Agent:__tostring()
    return "agent " .. self.name
end

return M
