-- JSON, schemas and declarations.
local lash = require "lash"

local value = { list = { 1, 2.5, "three", true }, deep = { { { { "x" } } } }, big = math.maxinteger, ["\u{e4}"] = "\u{1F600}" }
local text = assert(lash.json.encode(value, { indent = 2 }))
local back = assert(lash.json.decode(text))
assert(back.big == math.maxinteger and back.list[3] == "three" and back.deep[1][1][1][1] == "x")
local _, err = lash.json.decode('{"a": [1, 2, {"b": tru}]}')
assert(err and tostring(err) ~= "")
local checker = assert(lash.schema.compile { type = "object", properties = { a = { type = "integer", minimum = 3 },
    b = { anyOf = { { type = "string", pattern = "^x+$" }, { type = "null" } } } }, required = { "a" } })
assert(lash.schema.check(checker, { a = 3, b = "xx" }))
assert(not lash.schema.check(checker, { b = "y" }))
print("done")
