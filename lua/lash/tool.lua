--- Tools: named Lua functions that a model may call.
local context = require "lash.context"
local declare = require "lash.declare"
local engine = require "lash.core.engine"
local outcome = require "lash.outcome"
local params = require "lash.params"
local retries = require "lash.retries"
local schema = require "lash.schema"
local size = require "lash.size"

local M = {}

--- The metatable of tools.
--
-- @class tool  made by lash.tool
--   name         string
--   description  string
--   schema       table  of its arguments
--   mark         mark
--   timeout      number|false
--   idempotent   boolean
-- @alias mark  "async"|"sync"
-- @alias tool.function  fun(args: table<string, any>, ctx: context): (any, any)
M.Tool = { __name = "lash.tool" }
M.Tool.__index = M.Tool

--- Seconds that a call may take unless the tool says otherwise.
M.TIMEOUT = 60

local FIELDS = {
    name = "!string",
    description = "string",
    params = "table",
    schema = "table|boolean",
    sync = "function",
    async = "function",
    timeout = "number|boolean",
    memory = "string|integer|boolean",
    idempotent = "boolean",
    retry = "table|boolean",
    parallel = "boolean|string",
    limit = "integer",
    max_output = "integer|string",
    strict = "boolean",
}

-- What is made of a tool once, see M.prepared. Not part of the tool, so that tools can travel to workers.
local made_of = setmetatable({}, { __mode = "k" })

--- Tool -> that, as far as it was made: for those who look often.
M.made_of = made_of

-- Whether a function has a second parameter. The context is not made for one that cannot see it.
local function has_second(fn)
    local info = debug.getinfo(fn, "u")
    return info.isvararg or info.nparams > 1
end

local function made(tool, checker, fn)
    return {
        checker = checker,
        plan = checker.plan,
        wants = not fn or has_second(fn),
        plain = tool.mark == "async" and tool.parallel ~= false and type(tool.parallel) ~= "string" and not tool.limit,
    }
end

-- A tool that has travelled brings no more than its fields.
local function of(tool)
    local its = made_of[tool]
    if not its then
        its = made(tool, assert(schema.compile(tool.schema)), tool.fn)
        made_of[tool] = its
    end
    return its
end

local function argument_schema(spec)
    if spec.params and spec.schema ~= nil then
        return nil, "it has both `params` (the shorthand) and `schema` (a JSON Schema): keep one"
    end
    if spec.schema ~= nil then
        local root = spec.schema
        if root == true or (root ~= false and root.type ~= "object") then
            return nil, "the root of `schema` must have type = \"object\": arguments are an object"
        end
        return root
    end
    local made, err = params.schema(spec.params or {})
    if not made then
        return nil, tostring(err)
    end
    return made
end

local function number_fault(spec)
    if type(spec.timeout) == "number" and not (spec.timeout > 0 and spec.timeout < 1e9) then
        return "`timeout` is a number of seconds above 0, or false for none"
    elseif spec.timeout == true then
        return "`timeout` is a number of seconds, or false for none"
    elseif spec.limit and spec.limit < 1 then
        return "`limit` (how many of its calls run at once) is at least 1"
    elseif spec.max_output and (size.bytes(spec.max_output) or 0) < 256 then
        return "`max_output` is a number of bytes or a size such as \"64K\", at least 256"
    elseif spec.retry and not spec.idempotent then
        return "`retry` is for tools with idempotent = true: only they may run twice for one call"
    end
    return nil
end

local function memory_fault(spec, mark)
    if spec.memory == nil then
        return nil
    elseif mark == "async" then
        return "`memory` is for sync tools: only a worker has a memory of its own, async functions share the "
            .. "script's; make it `sync = function(args)`, or leave `memory` out"
    elseif not size.memory(spec.memory, false) then
        return "`memory` is a size such as \"64M\" or \"1G\", at least \"1M\", or false for no limit"
    end
    return nil
end

local function build(spec)
    local fault = declare.fault("lash.tool", spec, FIELDS) or declare.name_fault("lash.tool", spec.name)
    if fault then
        return nil, fault
    end
    local mark, fn = declare.mark("lash.tool", spec)
    if not mark then
        return nil, fn
    end
    local function wrong(err)
        return nil, ("lash.tool '%s': %s"):format(spec.name, err)
    end
    local root, err = argument_schema(spec)
    if not root then
        return wrong(err)
    end
    local checker, why = schema.compile(root)
    if not checker then
        return wrong(tostring(why))
    end
    local bad = number_fault(spec) or memory_fault(spec, mark)
    if bad then
        return wrong(bad)
    end
    fault = retries.fault(("lash.tool '%s'"):format(spec.name), spec.retry)
    if fault then
        return nil, fault
    end
    local tool = setmetatable({
        name = spec.name,
        description = spec.description or "",
        schema = root,
        mark = mark,
        timeout = spec.timeout == nil and M.TIMEOUT or spec.timeout,
        idempotent = spec.idempotent or false,
        retry = spec.retry,
        parallel = spec.parallel,
        limit = spec.limit,
        strict = spec.strict,
        max_output = size.bytes(spec.max_output) or outcome.CAP,
        memory = spec.memory ~= nil and size.memory(spec.memory, false) or nil,
    }, M.Tool)
    if mark == "sync" then
        local ok, code = pcall(engine.ship, ("lash.tool '%s'"):format(spec.name), outcome.run, fn)
        if not ok then
            return nil, code
        end
        tool.code = code
    else
        tool.fn = fn
    end
    made_of[tool] = made(tool, checker, fn)
    return tool
end

--- tool(spec) -> tool
-- Declares a tool. Raises when the declaration cannot work, naming what and how to mend it.
-- @param spec
--   name          string   what the model calls it: letters, digits, _ and -
--   description?  string   when and how to use it, for the model
--   params?       table<string, any>  arguments in shorthand: { city = "string: its name", days = "integer?: 1 to 7" }
--   schema?       table    or as a complete JSON Schema of type object
--   async?        tool.function  a task that waits; exactly one of async and sync
--   sync?         tool.function  runs on a worker with a snapshot of what it captures
--   timeout?      number|false   seconds a call may take (60), false for no limit
--   memory?       string|integer|false  of a sync tool: what a call may use of the memory of its worker, "64M"
--                 (256M, or what --memory says), false for no limit
--   idempotent?   boolean  true when running it twice does no harm: a failed call is tried again, see `retry`
--   retry?        retries|false  of an idempotent tool, false for none; goes before the agent's
--   parallel?     false|string  false: runs alone in its batch; "name": never overlaps others with that name
--   limit?        integer  how many of its calls run at once
--   max_output?   integer|string  bytes of its output that the model gets (65536), or a size such as "64K"
--   strict?       boolean  whether the provider shall hold the model to the schema, where it can
function M.new(spec)
    local tool, err = build(spec)
    if not tool then
        error(err, 2)
    end
    return tool
end

--- @return true when the value is a tool
function M.is(value)
    return getmetatable(value) == M.Tool
end

--- What is made of a tool once, for its calls.
-- @return { checker = its compiled schema, plan = of it as of lash.core.accept, or nil, wants = whether its function
--   looks at its context, plain = whether its calls need no more than any permit: no worker, no limit, no name }
function M.prepared(tool)
    return made_of[tool] or of(tool)
end

--- Runs the tool's function in the running task (async) or on a worker (sync).
-- @param ctx the values of its context, or nil where it does not look at it
-- @param on_report fn({ fraction =, text = }) for what ctx.progress tells, or nil
-- @return status "ok" or "error", the text for the model, for an error its traceback or nil and whether it
--   forbids another attempt
function M.run(tool, args, ctx, on_report)
    if tool.mark == "async" then
        return outcome.of(tool.fn, tool.max_output, args, ctx and context.attach(ctx, on_report))
    end
    local ok, status, text, traceback, final = engine.offload_within(tool.memory, on_report, tool.code, tool.max_output,
        args, ctx)
    if ok then
        return status, text, traceback, final
    end
    return "error", outcome.cap(outcome.error_text(status), tool.max_output), text
end

function M.Tool:__tostring()
    return ("tool %s (%s)"):format(self.name, self.mark)
end

return M
