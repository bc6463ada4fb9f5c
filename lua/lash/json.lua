--- lash.json: Lua values from text and back, exactly.
--
--   JSON                     Lua
--   integer in 64 bits       integer
--   longer integer           string of its digits: exact text, never rounded
--   1.0, 1e0                 float (one too large is an error)
--   string                   string (any text, U+0000 too)
--   null                     json.null (the same value as lash.null)
--   array                    table with the metatable json.array_mt, so that `[]` stays `[]`
--   object                   table; of equal keys the last counts
--
-- Texts are UTF-8 and strictly RFC 8259. Nothing here waits, calls metamethods or depends on the
-- locale. Failures are `nil, err` with err.code == "json", err.message and, for a fault in a text,
-- err.position (in bytes, from 1). Of the wrong use of a function Lua errors are raised.

local core = require "lash.core.json"

--- @class error  what a function gives behind nil; tostring() gives its message
--   code       string
--   message    string
--   position?  integer  where a text is wrong, in bytes, from 1
--   line?      integer  of a template
--   errors?    any[]    where several things failed: all of them
local M = {}

--- null: lightuserdata
-- The value of JSON null.
M.null = core.null

--- array_mt: table
-- The metatable that marks a table as an array; compare with getmetatable().
M.array_mt = core.array_mt

--- verbatim_mt: table
-- The metatable of verbatim values.
M.verbatim_mt = core.verbatim_mt

--- error_mt: table
-- The metatable of error values { code =, message = }; tostring() gives the message.
M.error_mt = core.error_mt

--- decode(text: string [, options]) -> value: any | nil, err
-- @param options
--   depth?   integer  levels of nesting (512, at most 1024)
--   size?    integer  bytes of text (32 MiB)
--   values?  integer  values in all (2 000 000)
M.decode = core.decode

--- encode(value: any [, options]) -> text: string, replaced: integer? | nil, err
-- Keys are sorted bytewise, so equal values give equal bytes. A table is an array when it is marked
-- or has the keys 1..n; an empty unmarked one is `{}`; nil is null. Functions, cycles, holes, keys
-- that are no strings, inf and nan are refused, with the path to the value in front of the message:
-- `value.items[3].f: a function has no JSON form`.
-- @param options
--   indent?  integer  spaces a level
--   lossy?   boolean  bytes that are not UTF-8 become U+FFFD, and how many times is the second result (nil if never)
--   name?    string   what the path begins with ("value")
--   size?    integer  bytes of text (256 MiB)
--   depth?   integer  levels (512, at most 1024)
M.encode = core.encode

--- raw(text: string, ...: string|integer) -> string | nil | nil, err
-- The exact source text of the value at the path of these keys and indexes, which count from 1; nil where nothing
-- is. Of equal keys the last counts.
M.raw = core.raw

--- elements(text: string) -> string[] | nil, err
-- The exact source texts of an array's elements.
M.elements = core.elements

--- verbatim(text: string) -> value: table | nil, err
-- A value that encode() writes as these very bytes.
M.verbatim = core.verbatim

--- array([t: table]) -> table
-- t, marked as an array even if it is empty.
M.array = core.array

return M
