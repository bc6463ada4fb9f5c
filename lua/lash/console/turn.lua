--- Whose turn it is for Ctrl-C: what runs at the console runs as a task, and Ctrl-C ends the innermost one.
local engine = require "lash.core.engine"
local signals = require "lash.core.signals"

local M = {}

local current -- the task that Ctrl-C ends, or nil: it takes back the line

--- now() -> the task that Ctrl-C ends, or nil
function M.now()
    return current
end

--- run(fn, ...) -> true, results... | false, error: runs fn as a task that Ctrl-C ends. What it has started has
-- ended, too.
function M.run(fn, ...)
    local before = current
    local group <close> = engine.group(false)
    current = group:spawn(fn, ...)
    local task = current
    signals.console(task)
    local ok, err = pcall(group.wait, group)
    current = before
    signals.console(before)
    if not ok then
        error(err, 0)
    end
    return task:result()
end

return M
