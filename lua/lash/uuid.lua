--- lash.uuid: identifiers that nobody else has, RFC 9562.
--
--   lash.uuid()      version 4: 122 random bits
--   lash.uuid.v7()   version 7: begins with the time, so that texts sort by when they were made
--
-- Each v7 of a process is greater than the ones before, those of its workers included, even if the
-- clock is set back. Texts of 36 characters in lower case; random bytes from the kernel.
local core = require "lash.core.codec"

local M = {}

--- v4() -> string
-- 122 random bits.
M.v4 = core.uuid_v4

--- v7() -> string
-- Begins with the time.
M.v7 = core.uuid_v7

--- lash.uuid() -> string
return setmetatable(M, {
    __call = function(_, argument)
        if argument ~= nil then
            error("lash.uuid takes no argument; lash.uuid.v7() gives version 7", 2)
        end
        return core.uuid_v4()
    end,
})
