--- lash.log: messages for people, on stderr, one line each.
local system = require "lash.core.system"

local M = {}

-- name -> the verbosity that shows it: -q is 0, the default 1, -v 2
local LEVELS = { error = 0, warn = 0, info = 1, debug = 2 }

local function text_of(...)
    local parts = table.pack(...)
    for i = 1, parts.n do
        parts[i] = tostring(parts[i])
    end
    return table.concat(parts, " ")
end

local function write(level, ...)
    if system.verbosity() >= LEVELS[level] then
        local prefix = level == "info" and "" or level .. ": "
        system.write(2, prefix .. text_of(...):gsub("[\r\n]+$", "") .. "\n")
    end
end

--- lash.log.error(...), .warn(...), .info(...), .debug(...): the values, separated by spaces.
-- `-q` hides info, `-v` shows debug.
for level in pairs(LEVELS) do
    M[level] = function(...)
        write(level, ...)
    end
end

--- lash.log(...)
-- The same as lash.log.info(...).
return setmetatable(M, {
    __call = function(_, ...)
        write("info", ...)
    end,
})
