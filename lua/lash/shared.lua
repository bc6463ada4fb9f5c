--- lash.shared: tables that all tasks and all workers of the process see.
--
--   local hits = lash.shared("hits")
--   hits:incr("/index")                          -- atomic, from everywhere at once
--   hits:set("token", text, { ttl = 60 })        -- gone after a minute
--
-- `lash.shared(name)` is a plain table that names the shared one, so sync tools may capture it. Keys are
-- strings; values are strings, integers, floats and booleans, and come back as they went in: 1 is not 1.0.
-- Every call is atomic. All tables together hold at most 64 MiB: what finds no room is refused with
-- `nil, err`, err.code "ENOSPC"; nothing is thrown away to make room.
local core = require "lash.core.shared"
local checks = require "lash.misuse"
local size = require "lash.size"

local M = {}

--- The metatable of shared tables; functions that travel to workers find it here.
--
-- @class shared  made by lash.shared(name)
-- @alias shared.value  string|number|boolean
-- @class shared.options
--   ttl?  number  seconds after which it is gone (for ever)
M.Shared = { __name = "lash.shared" }
M.Shared.__index = M.Shared

local Shared = M.Shared

-- `level`: where the user called, as seen from the function that was called
local function misuse(self, level, text, ...)
    error(("lash.shared '%s': " .. text):format(self.name, ...), level + 1)
end

local function check_key(self, key, level)
    if type(key) ~= "string" then
        misuse(self, level + 1, "a key is a string, not a %s%s", type(key),
            type(key) == "number" and ": use tostring(key)" or "")
    end
end

local function check_value(self, value, level)
    local kind = type(value)
    if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
        misuse(self, level + 1, "a %s cannot be stored, only strings, numbers and booleans%s", kind,
            kind == "table" and ": use lash.json.encode" or kind == "nil" and ": use delete" or "")
    end
end

local function check_options(self, opts, known, level)
    if opts == nil then
        return nil
    elseif type(opts) ~= "table" then
        misuse(self, level + 1, "its options are a table, not a %s", type(opts))
    end
    local fault = checks.unknown(opts, known)
    if fault then
        misuse(self, level + 1, "%s; the options are %s", fault, table.concat(known, ", "))
    end
    local ttl = opts.ttl
    if ttl ~= nil and (type(ttl) ~= "number" or not (ttl > 0 and ttl <= 1e9)) then
        misuse(self, level + 1, "ttl is a number of seconds above 0, not %s", tostring(ttl))
    end
    return ttl
end

local TTL = { "ttl" }
local INCR = { "initial", "ttl" }

--- get(key: string) -> value: shared.value | nil
function Shared:get(key)
    check_key(self, key, 2)
    return core.get(self.name, key)
end

--- set(key: string, value: shared.value [, opts: shared.options]) -> true | nil, err
-- Stores a value in place of what is there; err.code is "ENOSPC".
function Shared:set(key, value, opts)
    check_key(self, key, 2)
    check_value(self, value, 2)
    local ttl = check_options(self, opts, TTL, 2)
    return core.set(self.name, key, value, ttl)
end

--- add(key: string, value: shared.value [, opts: shared.options]) -> true | false | nil, err
-- Stores a value if there is none; false when there is one.
function Shared:add(key, value, opts)
    check_key(self, key, 2)
    check_value(self, value, 2)
    local ttl = check_options(self, opts, TTL, 2)
    return core.add(self.name, key, value, ttl)
end

--- incr(key: string [, by: number [, opts]]) -> number | nil, err
-- Adds to a number, and gives the sum; err.code is "ERANGE" when two integers have none of 64 bits, "EINVAL" when
-- the entry is no number, "ENOSPC".
-- @param by  1 unless given; an integer or a float
-- @param opts
--   initial?  number  what an absent entry counts from (0)
--   ttl?      number  seconds that an entry lives which this call makes: one that is there keeps its time
function Shared:incr(key, by, opts)
    check_key(self, key, 2)
    local ttl = check_options(self, opts, INCR, 2)
    local initial = opts and opts.initial
    if by == nil then
        by = 1
    end
    if initial == nil then
        initial = 0
    end
    if type(by) ~= "number" or type(initial) ~= "number" then
        misuse(self, 2, "incr adds a number to a number, not a %s to a %s", type(by), type(initial))
    end
    return core.incr(self.name, key, by, initial, ttl)
end

--- swap(key: string, expected: shared.value?, value: shared.value? [, opts: shared.options])
--     -> true | false | nil, err
-- Replaces `expected` by `value`, if that is what is there; false when something else is. nil stands for absent in
-- both places. 1 and 1.0 are not the same here.
function Shared:swap(key, expected, value, opts)
    check_key(self, key, 2)
    if expected ~= nil then
        check_value(self, expected, 2)
    end
    if value ~= nil then
        check_value(self, value, 2)
    end
    local ttl = check_options(self, opts, TTL, 2)
    return core.swap(self.name, key, expected, value, ttl)
end

--- delete(key: string) -> boolean
-- @return true when it was there
function Shared:delete(key)
    check_key(self, key, 2)
    return core.delete(self.name, key)
end

--- clear()
-- Deletes everything in this table.
function Shared:clear()
    core.clear(self.name)
end

--- keys() -> string[]
-- The keys as they are at one moment, sorted.
function Shared:keys()
    return core.keys(self.name)
end

--- size() -> integer
-- How many entries there are.
function Shared:size()
    return core.size(self.name)
end

function Shared:__tostring()
    return ("lash.shared '%s'"):format(self.name)
end

--- limit([bytes: integer|string]) -> integer
-- What all tables together may hold.
-- @param bytes  a number of bytes or a text like "256M": the new limit
-- @return the limit in bytes: 64 MiB in the beginning
function M.limit(bytes)
    if bytes ~= nil then
        local n = size.bytes(bytes)
        if not n then
            error(("lash.shared.limit: expected a number of bytes or a text like \"64M\", not %s")
                :format(tostring(bytes)), 2)
        end
        bytes = n
    end
    return core.limit(bytes)
end

--- used() -> integer
-- The bytes that all tables together hold now.
function M.used()
    return core.used()
end

--- lash.shared(name: string) -> shared
-- The table of that name, the same everywhere in the process.
return setmetatable(M, {
    __call = function(_, name)
        local fault = checks.name_fault(name)
        if fault then
            error("lash.shared: " .. fault, 2)
        end
        return setmetatable({ name = name }, Shared)
    end,
})
