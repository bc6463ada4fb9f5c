--- What ends a command: a sentence for people and the exit status that goes with it.
local signals = require "lash.core.signals"

local M = {}

local mt = {
    __name = "lash.failure",
    __tostring = function(failure)
        return failure.message
    end,
}

--- Raises the end of the command.
-- @param exit exit status
-- @param text the sentence, without "lash:"; with further arguments a format
function M.raise(exit, text, ...)
    if select("#", ...) > 0 then
        text = text:format(...)
    end
    error(setmetatable({ code = "failure", exit = exit, message = text }, mt), 0)
end

--- @return true when the value was raised by M.raise
function M.is(value)
    return getmetatable(value) == mt
end

--- The exit status of what a user has cancelled: that of the signal, if one asked for the end.
function M.cancelled_exit()
    return 128 + (signals.asked() or 2)
end

return M
