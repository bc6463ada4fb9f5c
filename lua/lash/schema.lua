--- lash.schema: JSON Schema, draft 2020-12: compile once, check many values.
--
-- Every assertion of the draft is supported, with these exceptions, which are refused by name when
-- a schema is compiled, never ignored: references to other documents, `$vocabulary` and dialects
-- other than the usual drafts of json-schema.org (older ones are read by the rules of 2020-12),
-- and in `pattern` what lash.core.pattern cannot do: lookaround, backreferences, \p{...}. `format`
-- and the other annotations, and keywords that begin with `x-`, assert nothing.
--
-- Values are as lash.json.decode() makes them. An unmarked empty table is an object, as encode()
-- writes it. Integers beyond 64 bits are text there, so they are no `integer` here; the message
-- says so.

local accept = require "lash.schema.accept"
local compile = require "lash.schema.compile"
local evaluate = require("lash.schema.evaluate").evaluate
local json = require "lash.json"

local M = {}

--- @class schema.compiled
-- @class schema.options
--   steps?  integer  how many schemas may be tried in all (10 000 000)
-- @class schema.error: error
--   errors?  { path: string, message: string }[]  at most 5; the path is a JSON pointer ("/" is the whole value),
--            the message tells what was expected and what was found
local Compiled = {}
Compiled.__index = Compiled
Compiled.__name = "lash.schema"

local function failure(code, message, errors)
    return nil, setmetatable({ code = code, message = message, errors = errors }, json.error_mt)
end

--- compile(schema: table|boolean) -> schema.compiled | nil, err: schema.error
-- A table as decoded from JSON or written in Lua, or a boolean. Empty tables that stand
-- where the draft wants an array (`required = {}`) are marked with json.array(), so that they are
-- encoded as such. Otherwise the schema is only read, and must not be changed afterwards. err.code
-- is "schema"; err.message names the place and the keyword: `#/properties/a/type: ...`. A compiled
-- schema has the method check(value).
function M.compile(schema)
    local document, message = compile(schema)
    if not document then
        return failure("schema", message)
    end
    return setmetatable({ document = document, plan = accept.plan(schema) }, Compiled)
end

--- check(schema: table|boolean|schema.compiled, value: any [, options: schema.options])
--     -> true | nil, err: schema.error
-- err.code: "mismatch", or "schema" if that is none. err.message joins err.errors: `/city: expected string, found
-- integer 3`.
function M.check(schema, value, options)
    local compiled = schema
    if getmetatable(schema) ~= Compiled then
        local err
        compiled, err = M.compile(schema)
        if not compiled then
            return nil, err
        end
    end
    local plan = compiled.plan
    if plan and not options and accept.fits(plan, value) then
        return true
    end
    local errors, more = evaluate(compiled.document, value, options and options.steps)
    if not errors then
        return true
    end
    local parts = {}
    for i, e in ipairs(errors) do
        parts[i] = e.path .. ": " .. e.message
    end
    local message = table.concat(parts, "; ")
    if more > 0 then
        message = ("%s; and %d more"):format(message, more)
    end
    return failure("mismatch", message, errors)
end

--- check(value: any [, options: schema.options]) -> true | nil, err: schema.error
-- Like lash.schema.check.
function Compiled:check(value, options)
    return M.check(self, value, options)
end

return M
