--- What ends a command: a sentence for people and the exit status that goes with it.
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

return M
