--- Prompts: named Lua functions that make text for a model.
local declare = require "lash.declare"
local engine = require "lash.core.engine"
local outcome = require "lash.outcome"

local M = {}

--- The metatable of prompts.
--
-- @class prompt  made by lash.prompt
--   name         string
--   description  string
--   mark         mark
-- @class prompt.context { agent: string }  the name of the agent
-- @alias prompt.function  fun(ctx: prompt.context): (string?, any)
M.Prompt = { __name = "lash.prompt" }
M.Prompt.__index = M.Prompt

local FIELDS = {
    name = "!string",
    description = "string",
    sync = "function",
    async = "function",
}

--- prompt(spec) -> prompt
-- Declares a prompt: a function that makes text for a model. Raises when the declaration cannot work.
-- @param spec
--   name          string
--   description?  string
--   async?        prompt.function  a task; exactly one of async and sync
--   sync?         prompt.function  runs on a worker
function M.new(spec)
    local fault = declare.fault("lash.prompt", spec, FIELDS) or declare.name_fault("lash.prompt", spec.name)
    if fault then
        error(fault, 2)
    end
    local mark, fn = declare.mark("lash.prompt", spec)
    if not mark then
        error(fn, 2)
    end
    local prompt = setmetatable({
        name = spec.name,
        description = spec.description or "",
        mark = mark,
    }, M.Prompt)
    if mark == "sync" then
        local ok, code = pcall(engine.ship, ("lash.prompt '%s'"):format(spec.name), M.call, fn)
        if not ok then
            error(code, 2)
        end
        prompt.code = code
    else
        prompt.fn = fn
    end
    return prompt
end

--- @return true when the value is a prompt
function M.is(value)
    return getmetatable(value) == M.Prompt
end

--- Calls a prompt's function. Not for users; it is what a worker runs.
-- @return the text | nil, message
function M.call(fn, ctx)
    local ok, value, err = pcall(fn, ctx)
    engine.check()
    if not ok then
        return nil, outcome.error_text(value)
    elseif value == nil and err ~= nil then
        return nil, outcome.error_text(err)
    elseif value == nil then
        return ""
    elseif type(value) == "string" then
        if not utf8.len(value) then
            return nil, "its text is not valid UTF-8"
        end
        return value
    elseif type(value) == "number" then
        return tostring(value)
    end
    return nil, ("it returned a %s instead of text"):format(type(value))
end

-- Prompts wait for a worker as calls do: the pool's queue stays short, however many there are.
local function turn_on_worker()
    local batch = engine.batch(1, true)
    local slot = batch:add(false)
    if not engine.in_worker() then
        batch:limit(slot, "s", "sync", engine.jobs())
    end
    batch:start()
    return batch
end

--- Makes the text of a prompt, as a task or on a worker.
-- @param ctx what the function gets: { agent = name of the agent }
-- @return the text | nil, message naming the prompt
function M.text(prompt, ctx)
    local text, err
    if prompt.mark == "async" then
        text, err = M.call(prompt.fn, ctx)
    else
        local turn <close> = turn_on_worker()
        turn:next()
        local ok
        ok, text, err = engine.offload(prompt.code, ctx)
        if not ok then
            text, err = nil, outcome.error_text(text)
        end
    end
    if text then
        return text
    end
    return nil, ("prompt '%s': %s"):format(prompt.name, err)
end

function M.Prompt:__tostring()
    return ("prompt %s (%s)"):format(self.name, self.mark)
end

return M
