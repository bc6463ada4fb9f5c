--- Doing several things at once: lash.spawn, lash.gather, lash.map.
local engine = require "lash.core.engine"
local misuse = require "lash.misuse"

local M = {}

--- @class gather.options
--   limit?  integer  how many run at once (all)
--   raise?  boolean  true: the first error cancels the others and is raised, and the results are the bare values
-- @class gather.result  of a function
--   ok       boolean
--   value?   any  its first result
--   values?  { n: integer, [integer]: any }  all of them
--   error?   any  when it is not ok
local OPTIONS = { "limit", "raise" }

-- What is wrong with the `limit` of the options, or nil.
local function limit_fault(limit)
    if limit ~= nil and (math.type(limit) ~= "integer" or limit < 1) then
        return "limit must be a whole number of at least 1"
    end
    return nil
end

--- spawn(fn: function, ...) -> task
-- Starts a task that runs fn(...) beside the caller. It belongs to the task that started it: when that ends, what
-- still runs is cancelled.
-- @return task:wait() waits for its end, task:result() then gives true, values... or false, error;
--   task:cancel() cancels it
function M.spawn(fn, ...)
    if type(fn) ~= "function" then
        misuse.raise("lash.spawn", "expected a function, got %s", type(fn))
    end
    return engine.spawn(fn, ...)
end

local function outcome(ok, first, ...)
    if not ok then
        return { ok = false, error = first }
    end
    if select("#", ...) > 0 then
        return { ok = true, value = first, values = table.pack(first, ...) }
    end
    return { ok = true, value = first }
end

local function collect(tasks, raise)
    local results = {}
    for i, task in ipairs(tasks) do
        results[i] = outcome(task:result())
    end
    if raise then
        for i, result in ipairs(results) do
            local reason = not result.ok and engine.cancel_reason(result.error)
            if not result.ok and reason ~= "sibling" then
                error(result.error, 0)
            end
            results[i] = result.value
        end
    end
    return results
end

--- gather(list: function[] [, opts: gather.options]) -> gather.result[]
-- Runs all functions of `list` at once and waits for all of them. With opts.raise the results are the bare values.
-- @param list  functions without arguments
-- @return in the order of the list
function M.gather(list, opts)
    if type(list) ~= "table" then
        error("lash.gather: expected a list of functions, got " .. type(list), 2)
    end
    for i, fn in ipairs(list) do
        if type(fn) ~= "function" then
            error(("lash.gather: entry %d is a %s, not a function"):format(i, type(fn)), 2)
        end
    end
    opts = misuse.options("lash.gather", opts, OPTIONS)
    local fault = limit_fault(opts.limit)
    if fault then
        misuse.raise("lash.gather", "%s", fault)
    end
    return M.map(list, function(fn) return fn() end, opts)
end

local function worker_body(state, list, fn, results)
    while true do
        local i = state.next
        if i > state.count or state.failed then
            return
        end
        state.next = i + 1
        local packed = table.pack(pcall(fn, list[i], i))
        engine.check()
        if packed[1] then
            results[i] = outcome(table.unpack(packed, 1, packed.n))
        else
            results[i] = { ok = false, error = packed[2] }
            if state.raise then
                state.failed = true
                error(packed[2], 0)
            end
        end
    end
end

-- Few tasks walk a long list: a million entries need no million tasks.
local function map_limited(list, fn, limit, raise)
    local results = {}
    local state = { next = 1, count = #list, raise = raise }
    local group <close> = engine.group(raise)
    local tasks = {}
    for i = 1, math.min(limit, #list) do
        tasks[i] = group:spawn(worker_body, state, list, fn, results)
    end
    group:wait()
    collect(tasks, true)
    if raise then
        for i = 1, #list do
            results[i] = results[i].value
        end
    end
    return results
end

--- map(list: T[], fn: fun(item: T, index: integer): any [, opts: gather.options]) -> gather.result[]
-- Runs fn(item, index) for every item of `list`, many at once, and waits for all of them. With opts.raise the results
-- are the bare values.
-- @return in the order of the list
function M.map(list, fn, opts)
    if type(list) ~= "table" then
        error("lash.map: expected a list, got " .. type(list), 2)
    elseif type(fn) ~= "function" then
        error("lash.map: expected a function as second argument, got " .. type(fn), 2)
    end
    opts = misuse.options("lash.map", opts, OPTIONS)
    local limit = opts.limit
    local fault = limit_fault(limit)
    if fault then
        misuse.raise("lash.map", "%s", fault)
    end
    if limit and limit < #list then
        return map_limited(list, fn, limit, opts.raise)
    end
    local group <close> = engine.group(opts.raise)
    local tasks = {}
    for i, item in ipairs(list) do
        tasks[i] = group:spawn(fn, item, i)
    end
    group:wait()
    return collect(tasks, opts.raise)
end

return M
