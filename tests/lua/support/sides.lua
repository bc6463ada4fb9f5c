--- Cases for both sides: a task on main, and a worker.
local t = require "t"
local engine = require "lash.core.engine"
local lash = require "lash"

local M = {}

--- Starts a task that runs fn(...) on a worker; fn travels as the functions of sync tools do.
function M.offloaded(fn, ...)
    return lash.spawn(engine.offload, engine.ship("a case", fn), ...)
end

--- Waits for such a task and raises what it raised.
-- @return its results
function M.check(task)
    task:wait()
    local results = table.pack(task:result())
    t.ok(results[1] and results[2], tostring(results[3]) .. "\n" .. tostring(results[4]))
    return table.unpack(results, 3, results.n)
end

--- Declares the case for main and for a worker; its asserts raise there.
function M.both(name, fn)
    t.case(name .. ", on main", fn)
    t.case(name .. ", in a worker", function() M.check(M.offloaded(fn)) end)
end

return M
