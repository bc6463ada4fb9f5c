--- What a new worker loads before its first job: what every call of a tool needs there.
local system = require "lash.core.system"
_G.lash = require "lash"
require "lash.outcome"

--- The process belongs to everybody: a tool cannot end it.
function os.exit()
    error("os.exit is not for tools: return a value, or raise an error", 2)
end

local setlocale = os.setlocale

--- The locale is the process's; asking is fine.
function os.setlocale(locale, category)
    if locale == nil then
        return setlocale(nil, category)
    end
    return nil
end

if system.stdout_reserved() then
    io.output(io.stderr)
end
