--- Agents: instructions, a model, tools, and other agents to hand over to.
local declare = require "lash.declare"
local lazy = require "lash.lazy"
local limits = require "lash.limits"
local prompt = require "lash.prompt"
local retries = require "lash.retries"
local structured = lazy "lash.structured"
local tool = require "lash.tool"

local M = {}

--- What agents are, and what they take and give.
--
-- @class agent  made by lash.agent
--   name         string
--   description  string
--   model?       string
--   tools        tool[]
-- @alias instructions  string|prompt|(fun(ctx: prompt.context): (string?, any))
-- @alias tools  (tool|tool[])[]
-- @alias message  string|(string|part)[]
-- @class limits  of a run; 0 = none
--   concurrency?  integer  calls of one turn that run at once (16)
--   turns?        integer  answers of a model with calls (25)
--   handoffs?     integer  (16)
--   tool_calls?   integer  in all
--   requests?     integer  to models, in all
--   tokens?       integer  in all
--   time?         number   seconds for everything
--   wait?         number   seconds that a call waits for its turn (300)
-- @class retries  how often a call that fails is made again
--   attempts?   integer  in all (3)
--   delay?      number   seconds before the second one (0.2), doubled each time
--   max_delay?  number   seconds that no pause exceeds (2)
-- @class settings  of a model; what its protocol has no field for is not sent, and a warning says so
--   max_tokens?   integer
--   temperature?  number
--   top_p?        number
--   top_k?        integer
--   seed?         integer
--   stop?         string|string[]  texts at which the answer ends
--   effort?       string  "low", "medium", "high" ...: how much the model thinks
--   verbosity?    string  "low", "medium" or "high"
--   reasoning?    boolean  true asks for readable thoughts: the event `reasoning`
--   openai?       table  fields of the protocol's own, sent as they are, to that provider only
--   anthropic?    table  likewise
--   gemini?       table  likewise
--   ["openai-chat"]?  table  likewise; so any other name of a provider
-- @class run.options  of one run
--   on_event?  fun(event: event)
--   limits?    limits   go before the agent's
--   model?     string   "provider/model", before the agent's
--   stream?    boolean  false for whole answers
--   deltas?    boolean  false: no events of an answer before it is whole, so that one that broke off is asked
--              for again
-- @class result  of a run; tostring(result) is its text
--   ok            boolean  whether the reason is "done"
--   text          string   of the last answer
--   value?        any      of an answer that fits `output` of the agent
--   reason        reason   why it ended
--   exit          integer  the exit status that stands for the reason
--   agent         string   name of who answered
--   model?        string   that answered
--   turns         integer
--   usage         usage
--   calls         result.call[]  all calls, in order
--   items         item[]   of the conversation
--   conversation  conversation
--   error?        run.error
-- @alias reason  "done"|"empty"|"output"|"turns"|"handoff_limit"|"requests"|"tool_calls"|"tokens"|"length"|
--   "filter"|"refused"|"time"|"cancelled"|"call_failed"|"error"
-- @class usage { input: integer, output: integer, cached: integer, reasoning: integer, total: integer }
--   tokens; cached ones are a part of input, those of reasoning a part of output
-- @alias status  "ok"|"error"|"timeout"|"cancelled"|"not_run"|"lost"
-- @class result.call { call: string, name: string, args: string, status: status, output: string, ms: number }
--   args is JSON text, call is "turn.position"
-- @class run.error: error  raised by a run that fails
--   exit     integer  the exit status that stands for it
--   result?  result   what there was until then
--   call?    string   of reason "call_failed": the call, as in events
--   name?    string   its tool
--   status?  status
--   output?  string
--   others?  { call: string, name: string, status: status, output: string }[]  calls that failed after it
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

--- agent(spec) -> agent
-- Declares an agent. Raises when the declaration cannot work.
-- @param spec
--   name           string  letters, digits, _ and -
--   description?   string  for other agents that may hand over to it
--   model?         string  "provider/model", "demo" or "script:FILE"; without it -m or LASH_MODEL decides
--   instructions?  instructions|instructions[]  text, a prompt, a function(ctx) that returns text, or a list of these
--   tools?         tools  list of tools; lists in it are flattened
--   handoffs?      agent[]|(fun(): agent[])  or a function that returns the list (for agents that know each other)
--   handoff_after_tools?  boolean  true: the other calls of a turn that hands over run first
--   output?        table|string  what its answers are: a JSON Schema, or shorthand as of a tool's params
--   settings?      settings  for the provider
--   limits?        limits  0 = none
--   retry?         retries|false  of tools that are marked idempotent; false for none
--   fail_fast?     boolean  true: the first call that fails cancels the others of its turn, and the run fails with it
--   parallel_hint?  boolean  false: no sentence about independent calls in the system prompt
--   tool_choice?   "auto"|"required"|"none"|{ name: string }  for its first request
--   stream?        boolean  false: answers are asked for whole, for servers that cannot stream
--   on_event?      fun(event: event)  gets all that happens in its runs
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

--- run(text: message [, opts: run.options]) -> result
-- Runs the agent on a user's message, in a conversation of its own. Raises a run.error when no answer can be had
-- (no key, the provider refuses, two answers that do not fit `output`).
function Agent:run(text, opts)
    return require("lash.run").send(self:conversation(), text, opts, true)
end

--- stream(text: message [, opts: run.options]) -> fun(): event?
-- Runs the agent, and gives its events one after the other, while they happen:
--
--   for event in agent:stream("Hello") do
--     if event.type == "text" then io.write(event.delta) end
--   end
--
-- The last one is run.end; it also has `result`, what run() returns, unless the run fails: then the loop raises the
-- error behind it. A loop that is left cancels the run.
function Agent:stream(text, opts)
    return require("lash.run").stream(self:conversation(), text, opts)
end

--- conversation() -> conversation
-- A conversation for many messages: conversation:send(text) is agent:run(text) that remembers.
function Agent:conversation()
    return require("lash.conversation").new(self)
end

--- run_sync(text: message [, opts: run.options]) -> result
-- The same as run for callers that are not tasks: a stock lua5.4, a C host. Drives the loop to the end.
function Agent:run_sync(text, opts)
    return require("lash.run").sync("run", self.run, self, text, opts)
end

--- as_tool([opts]) -> tool
-- This agent as a tool of others: delegation. It runs beside other calls, returns its text to the
-- caller, and its failure is an outcome for the caller.
-- @param opts
--   name?         string        as the agent's unless given
--   description?  string        as the agent's unless given
--   timeout?      number|false  seconds (600), false for no limit
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
