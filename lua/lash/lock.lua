--- Locks that all tasks and workers of the process share: lash.mutex and lash.limit.
--
-- Both are plain tables that name a semaphore of the process, so a sync tool that captures one waits
-- for the same lock. Who waits longest is served first. A lock belongs to the task that took it, and is
-- given back at the latest when that task ends.
local core = require "lash.core.lock"
local misuse = require "lash.misuse"

local M = {}

--- The metatables; functions that travel to workers find them here.
M.Mutex = { __name = "lash.mutex" }
M.Mutex.__index = M.Mutex
M.Limit = { __name = "lash.limit" }
M.Limit.__index = M.Limit

local Mutex, Limit = M.Mutex, M.Limit

-- `level`: where the user called, as seen from here
local function check_name(what, name, level)
    if name == nil then
        return ("#%d"):format(core.unique())
    end
    local fault = misuse.name_fault(name)
    if fault then
        error(what .. ": " .. fault, level + 1)
    end
    return "=" .. name
end

--- mutex([name: string]) -> mutex
-- A lock that one task at a time holds: `lash.mutex("ledger")` is the same lock wherever that name is
-- used, in tasks and in workers. Not re-entrant: who holds it and asks again gets an error.
-- @param name  nil: a lock that only this value, and what captures it, knows
function M.mutex(name)
    return setmetatable({ name = check_name("lash.mutex", name, 2) }, Mutex)
end

local function check_function(what, fn, level)
    if type(fn) ~= "function" then
        error(("%s: expected a function to run, got a %s"):format(what, type(fn)), level + 1)
    end
end

local function lock(self, level)
    local held = core.acquire("m" .. self.name, 1)
    if not held then
        error(("lash.mutex '%s': this task holds it already and would wait for itself: it is not re-entrant")
            :format(self.name:sub(2)), level + 1)
    end
    return held
end

--- lock() -> lock.held
-- Waits for its turn: `local held <close> = mutex:lock()` holds it to the end of the scope, or until held:close().
function Mutex:lock()
    local held = lock(self, 2)
    return held
end

--- try_lock() -> lock.held | nil
-- The same, or nil where lock() would have to wait.
function Mutex:try_lock()
    return core.try("m" .. self.name, 1)
end

--- run(fn: function, ...) -> ...
-- Runs fn(...) under the lock; an error of fn is raised, the lock given back.
-- @return the results of fn
function Mutex:run(fn, ...)
    check_function("lash.mutex", fn, 2)
    local held <close> = lock(self, 2)
    return fn(...)
end

function Mutex:__tostring()
    return ("lash.mutex '%s'"):format(self.name:sub(2))
end

--- limit(n: integer [, name: string]) -> limit
-- A limit of how much runs at once: `local two = lash.limit(2)`, then two:run(fn, ...) waits until
-- fewer than two others run, runs fn(...) and returns its results.
-- @param n  how many at once
-- @param name  nil: a limit that only this value, and what captures it, knows. The same name is the
--   same limit in all tasks and workers; where it is given with another n, all are counted and each
--   waits for its own n.
function M.limit(n, name)
    n = math.type(n) and math.tointeger(n)
    if not n or n < 1 then
        error("lash.limit: expected a whole number of at least 1", 2)
    end
    return setmetatable({ n = n, name = check_name("lash.limit", name, 2) }, Limit)
end

--- run(fn: function, ...) -> ...
-- Waits for its turn, then runs fn(...); an error of fn is raised, its turn given back.
-- @return the results of fn
function Limit:run(fn, ...)
    check_function("lash.limit", fn, 2)
    local held <close> = core.acquire("l" .. self.name, self.n)
    if not held then
        error(("lash.limit '%s': this task has all %d turns already and would wait for itself")
            :format(self.name:sub(2), self.n), 2)
    end
    return fn(...)
end

function Limit:__tostring()
    return ("lash.limit '%s' of %d"):format(self.name:sub(2), self.n)
end

return M
