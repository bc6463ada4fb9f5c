-- lash.schema, lash.params, and the patterns under them: D11, J1, H14.
local t = require "t"
local json = require "lash.json"
local params = require "lash.params"
local pattern = require "lash.core.pattern"
local evaluate = require("lash.schema.evaluate").evaluate
local fits = require("lash.schema.accept").fits
local schema = require "lash.schema"

local case, equal = t.case, t.equal

-- Checks JSON text against a schema; `expected` is true or the message.
local function check(s, text, expected)
    local ok, err = schema.check(s, json.decode(text))
    equal(ok or err.message, expected, text)
    if err then
        equal(err.code, "mismatch")
        equal(tostring(err), err.message)
    end
end

-- Checks many texts: those that fit, those that do not.
local function sorts(s, good, bad)
    local compiled = assert(schema.compile(s))
    for _, text in ipairs(good) do
        local ok, err = compiled:check(assert(json.decode(text)))
        assert(ok, text .. ": " .. tostring(err))
    end
    for _, text in ipairs(bad) do
        equal(compiled:check(assert(json.decode(text))), nil, text)
    end
end

local function refused(s, words)
    local compiled, err = schema.compile(s)
    equal(compiled, nil, words)
    equal(err.code, "schema")
    assert(err.message:find(words, 1, true), err.message)
    equal(select(2, schema.check(s, 1)).message, err.message)
end

local weather = {
    type = "object",
    properties = { city = { type = "string" }, days = { type = "integer", minimum = 1 },
        unit = { enum = { "celsius", "fahrenheit" } } },
    required = { "city" },
    additionalProperties = false,
}

case("D11 a fault names path, expectation and what was found", function()
    check(weather, '{"city":"Bonn","days":3}', true)
    check(weather, '{"city":3}', "/city: expected string, found integer 3")
    check(weather, "{}", '/: missing required property "city"')
    check(weather, '{"city":"x","days":0}', "/days: expected a number of at least 1, found integer 0")
    check(weather, '{"city":"x","days":1.5}', "/days: expected integer, found number 1.5")
    check(weather, '{"city":"x","unit":"celcius"}', '/unit: expected one of "celsius", "fahrenheit", '
        .. [[found string "celcius" (did you mean 'celsius'?)]])
    check(weather, '{"city":"x","day":1}',
        [[/: unknown property "day" (did you mean 'days'?), known are city, days, unit]])
    check(weather, "[]", "/: expected object, found array of 0 items")
    check(weather, "null", "/: expected object, found null")
    check({ properties = { ["a/b~c"] = { items = { type = "null" } } } }, '{"a/b~c":[null,true]}',
        "/a~1b~0c/1: expected null, found boolean true")
    check(weather, '{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"city":"x"}',
        '/: unknown property "a", known are city, days, unit; '
        .. '/: unknown property "b"; /: unknown property "c"; /: unknown property "d"; '
        .. '/: unknown property "e"; and 3 more')
    local _, err = schema.check(weather, { city = 1, days = "x" })
    equal(#err.errors, 2)
    equal(err.errors[2].path, "/days")
    equal(err.errors[2].message, 'expected integer, found string "x"')
end)

case("J1 integers beyond 64 bits are text, and the fault says so", function()
    local s = { properties = { n = { type = "integer" }, id = { type = "string" } } }
    check(s, '{"n":9223372036854775807}', true)
    check(s, '{"n":9223372036854775808}',
        "/n: expected integer, found 9223372036854775808, which does not fit 64 bits")
    check(s, '{"n":-9223372036854775809}',
        "/n: expected integer, found -9223372036854775809, which does not fit 64 bits")
    check(s, '{"n":"12"}', '/n: expected integer, found string "12"')
    check(s, '{"id":9223372036854775808}', true)
    check({ maximum = 9223372036854775806 }, "9223372036854775807",
        "/: expected a number of at most 9223372036854775806, found integer 9223372036854775807")
    check({ const = 9007199254740993 }, "9007199254740992",
        "/: expected 9007199254740993, found integer 9007199254740992")
    sorts({ uniqueItems = true }, { "[9007199254740993,9007199254740992]" }, { "[1,1.0]" })
    sorts(json.decode '{"type":"integer","maximum":18446744073709551615}', { "9223372036854775807" },
        { "1.5" })
end)

case("types", function()
    local texts = { array = "[]", boolean = "false", integer = "1", null = "null", object = "{}",
        string = '"1"' }
    for name in pairs(texts) do
        for other, text in pairs(texts) do
            local ok = schema.check({ type = name }, json.decode(text))
            equal(ok == true, name == other, name .. " " .. text)
        end
    end
    sorts({ type = "integer" }, { "1.0", "1e3" }, { "1.5" })
    sorts({ type = "number" }, { "1", "1.5" }, { '"1"' })
    sorts({ type = { "string", "null" } }, { "null", '""' }, { "1" })
    sorts(true, { "1", "[]" }, {})
    sorts(false, {}, { "1", "[]" })
    equal(schema.check({ type = "string" }, print), nil)
end)

case("numbers are compared as people write them", function()
    sorts({ multipleOf = 0.1 }, { "0.3", "1", "0", "-0.7", "1e300" }, { "0.35", "1e-3" })
    sorts({ multipleOf = 0.01 }, { "19.99", "4.35" }, { "0.015" })
    sorts({ multipleOf = 3 }, { "9223372036854775806", "-3", "3.0" }, { "9223372036854775807", "1" })
    sorts({ multipleOf = 1e-8 }, { "12391239123" }, {})
    sorts({ multipleOf = 9223372036854775807 }, { "9223372036854775807" }, { "7" })
    sorts({ exclusiveMinimum = 1, exclusiveMaximum = 2 }, { "1.5" }, { "1", "2" })
end)

case("strings count characters", function()
    sorts({ minLength = 2, maxLength = 3 }, { '"\u{1F600}\u{e9}"', '"abc"' }, { '"\u{1F600}"', '"abcd"' })
    check({ maxLength = 2 }, '"abc"', "/: expected at most 2 characters, found 3")
    sorts({ pattern = "^[a-z]+@\\w+\\.de$" }, { '"ab@c.de"' }, { '"ab@c.com"', '"A@c.de"' })
    check({ pattern = "^a$" }, '"b"', '/: expected text that matches the pattern ^a$, found string "b"')
end)

case("arrays", function()
    sorts({ items = { type = "integer" }, minItems = 1, maxItems = 2 }, { "[1]", "[1,2]", "{}" },
        { "[]", "[1,2,3]", '["a"]' })
    sorts({ prefixItems = { { type = "string" } }, items = false }, { "[]", '["a"]' },
        { "[1]", '["a",1]' })
    sorts({ contains = { const = 1 }, minContains = 2, maxContains = 3 }, { "[1,1]", "[1,2,1,1]" },
        { "[1]", "[1,1,1,1]" })
    sorts({ uniqueItems = true }, { '[1,"1",true,[1],{"a":1},{"a":2},{},[],null]' },
        { '[{"a":1,"b":2},{"b":2,"a":1.0}]', "[[1],[1]]", "[null,null]" })
    sorts({ prefixItems = { true }, contains = { type = "string" }, unevaluatedItems = false },
        { '[1,"a"]' }, { '[1,2,"a"]' })
end)

case("objects", function()
    sorts({ patternProperties = { ["^x-"] = { type = "integer" } }, additionalProperties = false },
        { '{"x-a":1}' }, { '{"x-a":"1"}', '{"y":1}' })
    sorts({ propertyNames = { maxLength = 2 }, minProperties = 1, maxProperties = 2 },
        { '{"a":1}' }, { "{}", '{"abc":1}', '{"a":1,"b":1,"c":1}' })
    sorts({ dependentRequired = { a = { "b" } } }, { '{"a":1,"b":1}', '{"b":1}' }, { '{"a":1}' })
    sorts({ dependentSchemas = { a = { required = { "b" } } } }, { '{"a":1,"b":1}' }, { '{"a":1}' })
    sorts({ allOf = { { properties = { a = true } } }, unevaluatedProperties = false },
        { '{"a":1}' }, { '{"b":1}' })
    sorts({ ["if"] = { properties = { a = { const = 1 } }, required = { "a" } },
        ["then"] = { required = { "b" } }, ["else"] = { required = { "c" } } },
        { '{"a":1,"b":1}', '{"c":1}' }, { '{"a":1,"c":1}', "{}" })
end)

case("alternatives", function()
    local s = { anyOf = { { type = "string" }, { type = "integer" } } }
    check(s, "1", true)
    check(s, "null", "/: fits none of 2 alternatives: expected string, found null; "
        .. "or expected integer, found null")
    s = { oneOf = { { minimum = 1 }, { maximum = 5 } } }
    check(s, "7", true)
    check(s, "3", "/: fits the alternatives 1 and 2, of which only one may fit")
    sorts({ ["not"] = { type = "string" } }, { "1" }, { '"a"' })
    sorts({ allOf = { { minimum = 1 }, { maximum = 5 } } }, { "3" }, { "0", "6" })
    check({ anyOf = { { properties = { a = { type = "null" } } } } }, '{"a":1}',
        "/: /a: expected null, found integer 1")
end)

case("references", function()
    sorts({ ["$defs"] = { tree = { type = "object", additionalProperties = {
        ["$ref"] = "#/$defs/tree" } } }, ["$ref"] = "#/$defs/tree" },
        { '{"a":{"b":{}}}' }, { '{"a":{"b":1}}' })
    sorts({ ["$ref"] = "#name", ["$defs"] = { x = { ["$anchor"] = "name", type = "null" } } },
        { "null" }, { "1" })
    sorts({ ["$id"] = "http://x.test/a/b", ["$ref"] = "c#/$defs/y", ["$defs"] = {
        x = { ["$id"] = "/a/c", ["$defs"] = { y = { type = "null" } } } } }, { "null" }, { "1" })
    sorts({ definitions = { x = { type = "null" } }, ["$ref"] = "#/definitions/x" }, { "null" }, { "1" })
    refused({ ["$ref"] = "#/$defs/x" }, '#/$ref: there is nothing at "#/$defs/x"')
    refused({ properties = { a = { ["$ref"] = "other.json" } } },
        '#/properties/a/$ref: "other.json" is not part of this schema')
end)

case("schemas that lead back to themselves end", function()
    refused({ ["$ref"] = "#" }, "leads back to itself")
    refused({ ["$defs"] = { a = { ["$ref"] = "#/$defs/b" }, b = { anyOf = { { ["$ref"] = "#/$defs/a" } } } },
        properties = { x = { ["$ref"] = "#/$defs/a" } } }, "leads back to itself")
    local loop = { type = "object" }
    loop.properties = { a = loop }
    refused(loop, "the schema contains itself")
    -- 2^60 ways through, one value
    local defs = {}
    for i = 1, 60 do
        defs["d" .. i] = { allOf = { { ["$ref"] = "#/$defs/d" .. i + 1 },
            { ["$ref"] = "#/$defs/d" .. i + 1 } } }
    end
    defs.d61 = { type = "integer" }
    local _, err = schema.check({ ["$defs"] = defs, ["$ref"] = "#/$defs/d1" }, 1, { steps = 100000 })
    assert(err.message:find("too many steps", 1, true), err.message)
    -- a value that contains itself
    local value = {}
    value.a = value
    _, err = schema.check({ additionalProperties = { ["$ref"] = "#" } }, value)
    assert(err.message:find("nested too deeply", 1, true), err.message)
    equal(schema.check({ uniqueItems = true }, { value, value }), nil)
end)

case("what is no schema is refused by name", function()
    refused({ type = "strin" }, [[#/type: "strin" is no JSON type (did you mean 'string'?)]])
    refused({ properties = 3 }, "#/properties: must be an object, found integer 3")
    refused({ properties = { a = { type = "x" } } }, "#/properties/a/type:")
    refused({ properties = { a = 1 } }, "#/properties/a: expected a schema")
    refused({ minimum = "1" }, "#/minimum: must be a number")
    refused({ minLength = -1 }, "#/minLength: must be a whole number")
    refused({ minLength = 1.5 }, "#/minLength")
    refused({ multipleOf = 0 }, "#/multipleOf: must be above 0")
    refused({ required = "a" }, "#/required: must be an array of strings")
    refused({ required = { "a", "a" } }, "#/required: must be an array of different strings")
    refused({ required = true }, "#/required")
    refused({ enum = "a" }, "#/enum: must be an array")
    refused({ anyOf = {} }, "#/anyOf: must not be empty")
    refused({ items = { { type = "string" }, true } }, "#/items: an array of schemas is the older form")
    refused({ uniqueItems = 1 }, "#/uniqueItems: must be a boolean")
    refused({ description = 3 }, "#/description: must be a string")
    refused({ pattern = "(" }, "#/pattern: position 1: the group does not end")
    refused({ pattern = "(?=a)" }, "lookahead (?= is not supported")
    refused({ patternProperties = { ["["] = true } }, "the class does not end")
    refused({ propertis = {} }, [[#/propertis: the keyword is not supported (did you mean 'properties'?)]])
    refused({ nullable = true }, "#/nullable: the keyword is not supported; write type")
    refused({ dependencies = {} }, "#/dependencies: the keyword is not supported; write dependent")
    refused({ TYPES = {} }, "#/TYPES")
    refused({ ["$schema"] = "http://x.test/y" }, "#/$schema: the dialect")
    refused({ ["$vocabulary"] = {} }, "#/$vocabulary")
    refused({ "string" }, "expected a schema")
    refused("string", "expected a schema")
    refused({ ["$id"] = "#a" }, "$id must not have a fragment")
    assert(schema.compile { title = "a", description = "b", default = 1, examples = { 1 },
        format = "date", deprecated = true, readOnly = true, ["x-mine"] = { anything = 1 },
        ["$comment"] = "c", contentEncoding = "base64",
        ["$schema"] = "http://json-schema.org/draft-07/schema#" })
end)

case("empty lists of a schema are encoded as lists", function()
    local s = { type = "object", properties = {}, required = {} }
    assert(schema.compile(s))
    equal(json.encode(s), '{"properties":{},"required":[],"type":"object"}')
end)

case("patterns", function()
    local function test(source, good, bad)
        local p = assert(pattern.compile(source))
        for _, text in ipairs(good) do
            equal(p:match(text), true, source .. " " .. text)
        end
        for _, text in ipairs(bad) do
            equal(p:match(text), false, source .. " " .. text)
        end
    end
    test("^(a|bc)*d?$", { "", "abcabcd" }, { "abd", "acb" })
    test("[0-9]{2,}", { "12", "a123" }, { "1", "" })
    test("^x{2,3}$", { "xx", "xxx" }, { "x", "xxxx" })
    test("^\\d{3}-\\w+$", { "123-ab_9" }, { "12-a", "123-\u{e9}", "123-a\n" })
    test("\\bfoo\\b", { "a foo b", "foo" }, { "foobar", "_foo" })
    test("\\Boo", { "foo" }, { "oo" })
    test("^.$", { "\u{1F600}", "\0" }, { "ab", "\n", "\u{2028}" })
    test("^[\\u00e0-\\u00ff\\x41]$", { "\u{e9}", "A" }, { "B", "\u{100}" })
    test("^(?:\\u{1F600}|\\ud83d\\ude01)$", { "\u{1F600}", "\u{1F601}" }, { "\u{1F602}" })
    test("^[^\\s\\d]+$", { "ab\u{e9}" }, { "a b", "a\u{a0}", "1" })
    test("^[\\D]$", { "a" }, { "1" })
    test("^[a-c\\]\\-]+$", { "a]-" }, { "d", "\\" })
    test("[]", {}, { "", "a" })
    test("[^]", { "a", "\n" }, { "" })
    test("a||b", { "" }, {})
    test("^(?<year>\\d{4})$", { "2024" }, { "x" })
    test("a{,2}", { "a{,2}" }, { "aa" })
    test("^\\/\\-\\@\\{$", { "/-@{" }, {})
    test("^(a*)*$", { ("a"):rep(1000) }, { ("a"):rep(1000) .. "b" })
    test("a$|^b", { "ba", "b" }, { "ab" .. "c" })
    for source, words in pairs { ["a**"] = "nothing to repeat", ["*"] = "nothing to repeat",
        ["(a"] = "does not end", ["a)"] = "no group", ["[a"] = "does not end",
        ["[b-a]"] = "not in order", ["a{2,1}"] = "wrong way round", ["\\"] = "backslash",
        ["\\Z"] = "escape \\Z", ["(a)\\1"] = "backreference \\1", ["(?<!a)"] = "lookbehind (?<!",
        ["\\p{L}"] = "property \\p", ["(?i)a"] = "group (?i", ["\\u12"] = "hexadecimal",
        ["^*"] = "cannot be repeated", ["(a{1000}){1000}"] = "too large",
        ["((((){1000000}){1000000}){1000})"] = "too large", [("("):rep(300)] = "too deeply",
        ["\255"] = "not UTF-8", ["\\u{110000}"] = "10FFFF", ["\\ud83dx"] = false } do
        local p, message = pattern.compile(source)
        if words then
            equal(p, nil, source)
            assert(message:find(words, 1, true), message)
        else
            assert(p, message)
        end
    end
end)

case("no pattern takes long", function()
    local clock = os.clock()
    local n = t.times(100000, 30000)
    equal(pattern.compile("(x+x+)+y"):match(("x"):rep(n)), false)
    equal(pattern.compile("^(a?){500}a{500}$"):match(("a"):rep(500)), true)
    equal(pattern.compile("(a|b|ab)*c"):match(("ab"):rep(n)), false)
    local result, message = pattern.compile("(.{1,3000}){1,5}z"):match(("x"):rep(1000000))
    equal(result, nil)
    assert(message:find "too long", message)
    assert(os.clock() - clock < 10 * t.slower)
    local _, err = schema.check({ pattern = "(.{1,3000}){1,5}z" }, ("x"):rep(1000000))
    assert(err.message:find "too long", err.message)
end)

local function short(fields, expected)
    equal(json.encode((assert(params.schema(fields)))), expected)
end

local function bad(fields, words)
    local s, err = params.schema(fields)
    equal(s, nil, words)
    equal(err.code, "params")
    assert(err.message:find(words, 1, true), err.message)
end

case("the shorthand of parameters", function()
    short({}, '{"additionalProperties":false,"properties":{},"required":[],"type":"object"}')
    short({ city = "string: name: of the city", days = "integer?: 1 to 7" },
        '{"additionalProperties":false,"properties":{"city":{"description":"name: of the city",'
        .. '"type":"string"},"days":{"description":"1 to 7","type":"integer"}},"required":["city"],'
        .. '"type":"object"}')
    local s = params.schema { u = "C|F?: unit", tags = "string[]", m = "any", a = "array?",
        grid = "number[][]", b = " boolean ? ", o = "object", place = { lat = "number", lon = "number?" } }
    equal(json.encode(s.properties.u), '{"description":"unit","enum":["C","F"],"type":"string"}')
    equal(json.encode(s.properties.tags), '{"items":{"type":"string"},"type":"array"}')
    equal(json.encode(s.properties.m), "{}")
    equal(json.encode(s.properties.a), '{"items":{},"type":"array"}')
    equal(json.encode(s.properties.grid),
        '{"items":{"items":{"type":"number"},"type":"array"},"type":"array"}')
    equal(json.encode(s.properties.b), '{"type":"boolean"}')
    equal(json.encode(s.properties.place), '{"additionalProperties":false,"properties":{"lat":'
        .. '{"type":"number"},"lon":{"type":"number"}},"required":["lat"],"type":"object"}')
    equal(json.encode(s.required), '["grid","m","o","place","tags"]')
    assert(schema.compile(s))
    sorts(s, { '{"grid":[[1.5]],"m":null,"o":{},"place":{"lat":1},"tags":[]}' },
        { '{"grid":[1],"m":null,"o":{},"place":{"lat":1},"tags":[]}', "{}" })
end)

case("faults of the shorthand name the field", function()
    bad({ a = "strin" }, [[a: "strin" is no type (did you mean 'string'?); the types are string, integer]])
    bad({ a = { b = "int" } }, [[a.b: "int" is no type (did you mean 'integer'?)]])
    bad({ a = "float" }, [[a: "float" is no type (did you mean 'number'?)]])
    bad({ a = "" }, "a: the type is missing")
    bad({ a = "?" }, "a: the type is missing")
    bad({ a = "x[]" }, 'a: "x" is no type')
    bad({ a = "a||b" }, 'a: an alternative of "a||b" is empty')
    bad({ a = "a|a" }, 'a: "a" stands twice')
    bad({ a = "string|integer" }, "a complete JSON Schema under `schema`")
    bad({ a = 3 }, "a: expected")
    bad({ a = { "string" } }, "a: a list says nothing")
    bad({ "string" }, "a list says nothing")
    bad({ type = "object", properties = { a = "string" } }, "goes under `schema`")
    bad("string", "expected a table of fields")
    local loop = {}
    loop.a = loop
    bad(loop, "contains itself")
end)

-- ---- the quick look beside the evaluator ----

local function pick(list)
    return list[math.random(math.max(#list, 2))]
end

local function any_of(...)
    return pick { ... }()
end

local WORDS = { "a", "b", "c", "d" }

local function random_schema(depth)
    local function simple()
        return { type = pick { "string", "boolean", "number", "null", "integer" }, description = pick { "x", nil } }
    end
    local function enum()
        return { type = pick { "string", nil }, enum = { "a", pick { "b", "c" } } }
    end
    local function union()
        return { type = pick { { "string", "null" }, { "integer", "boolean" }, { "number" }, { "array", "null" } } }
    end
    local function free()
        return pick { true, {}, { title = "free" } }
    end
    local function array()
        return { type = "array", items = pick { true, false } and random_schema(depth + 1) or nil }
    end
    local function object()
        local s = { type = "object", properties = {}, required = {}, additionalProperties = pick { true, false, 0 } }
        if s.additionalProperties == 0 then
            s.additionalProperties = nil
        end
        for _, name in ipairs(WORDS) do
            if pick { true, false } then
                s.properties[name] = random_schema(depth + 1)
            end
            if pick { true, false, false } then
                s.required[#s.required + 1] = name
            end
        end
        return s
    end
    local function beyond() -- what only the evaluator knows
        return pick { { type = "integer", minimum = 1 }, { const = "a" }, { anyOf = { { type = "null" }, true } },
            { type = "object", minProperties = 1 }, { type = "array", prefixItems = { true } }, { enum = { 1, "a" } },
            { properties = { a = false } }, false, { type = "string", minLength = 1 } }
    end
    if depth > 2 then
        return any_of(simple, simple, enum, union, free)
    end
    return any_of(simple, enum, union, free, array, object, object, object, beyond)
end

-- One that often fits the schema; JSON text can have it.
local function random_value(s, depth)
    local kind = type(s) == "table" and pick { true, true, true, false } and s.type
    kind = type(kind) == "table" and kind[1] or kind or pick { "string", "boolean", "number", "null", "integer",
        depth < 3 and "array" or "null", depth < 3 and "object" or "null" }
    if kind == "string" then
        return pick(WORDS)
    elseif kind == "boolean" then
        return pick { true, false }
    elseif kind == "number" then
        return pick { 1, 1.5, -2.0, 1e300, math.mininteger }
    elseif kind == "integer" then
        return pick { 0, 3, 2.0 }
    elseif kind == "null" then
        return json.null
    end
    local value = kind == "array" and json.array {} or {}
    if kind == "array" then
        for i = 1, pick { 0, 1, 3 } do
            value[i] = random_value(type(s) == "table" and s.items, depth + 1)
        end
        return value
    end
    local properties = type(s) == "table" and s.properties or {}
    for _, name in ipairs(WORDS) do
        if pick { true, true, true, properties[name] ~= nil } then
            value[name] = random_value(properties[name], depth + 1)
        end
    end
    return value
end

case("D11 what the quick look accepts fits, and of what JSON can have it accepts all that fits", function()
    local seed = math.random(1 << 30)
    math.randomseed(seed)
    local schemas, accepted, refused_ = 0, 0, 0
    for _ = 1, 3000 do
        local s = random_schema(0)
        local compiled = assert(schema.compile(s))
        if compiled.plan then
            schemas = schemas + 1
            for _ = 1, 10 do
                local value = random_value(s, 0)
                local valid = evaluate(compiled.document, value) == nil
                if fits(compiled.plan, value) ~= valid then
                    error(("seed %d: %s with %s: the evaluator says %s"):format(seed, json.encode(s),
                        json.encode(value), valid))
                end
                accepted, refused_ = accepted + (valid and 1 or 0), refused_ + (valid and 0 or 1)
            end
        end
    end
    assert(schemas > 500 and accepted > 2000 and refused_ > 2000, ("%d %d %d"):format(schemas, accepted, refused_))
end)

case("D11 the quick look leaves alone what Lua alone can have", function()
    local s = { type = "object", properties = { a = { type = "array", items = { type = "integer" } } } }
    local compiled = assert(schema.compile(s))
    local shared = { a = { 1 } }
    local odd = setmetatable({ a = { 1 } }, { __index = error, __pairs = error, __eq = error })
    for _, value in ipairs { shared, odd, { [1] = 1 }, { a = { 1 }, [true] = 1 }, { a = { 1, x = "y" } }, { a = {} },
        { a = json.array {} }, json.array { 1 }, { a = { 1, nil, 3 } }, { a = print }, { a = 0 / 0 }, print } do
        local valid = evaluate(compiled.document, value) == nil
        assert(not fits(compiled.plan, value) or valid)
        equal(compiled:check(value) == true, valid)
    end
    local many = {} -- so many that their steps have to be counted
    for i = 1, 20000 do
        many[i] = i
    end
    equal(fits(compiled.plan, { a = json.array(many) }), false)
    equal(compiled:check { a = json.array(many) }, true)
    local deep, value = { type = "integer" }, 1 -- a table that stands in many places
    for _ = 1, 40 do
        deep, value = { type = "object", properties = { a = deep, b = deep } }, { a = value, b = value }
    end
    equal(fits(assert(schema.compile(deep)).plan, value), false)
end)

case("D11 the schema corpus", function()
    local corpora = os.getenv "LASH_CORPORA"
    if not corpora then
        return t.skip "LASH_CORPORA names no folder"
    end
    local dir = corpora .. "/json-schema/"
    local agreed, left, wrong = 0, {}, {}
    local cases_left, looked = 0, 0
    for path in io.popen("ls '" .. dir .. "'*.json"):lines() do
        local file = assert(io.open(path, "rb"))
        local groups = assert(json.decode(file:read "a"))
        file:close()
        for _, group in ipairs(groups) do
            local compiled, err = schema.compile(group.schema)
            if not compiled then
                left[#left + 1] = err.message
                cases_left = cases_left + #group.tests
                assert(err.message:find "not supported" or err.message:find "not part of this schema",
                    err.message)
            else
                for _, test in ipairs(group.tests) do
                    if compiled.plan then
                        looked = looked + 1
                        equal(fits(compiled.plan, test.data), test.valid, path .. ": " .. test.description)
                    end
                    if (compiled:check(test.data) == true) == test.valid then
                        agreed = agreed + 1
                    else
                        wrong[#wrong + 1] = ("%s: %s: %s"):format(path, group.description, test.description)
                    end
                end
            end
        end
    end
    equal(table.concat(wrong, "\n"), "")
    assert(agreed > 1000)
    assert(looked > 50, "the quick look knows no schema of the corpus")
    print(("%d cases agree, %d in %d schemas that are refused"):format(agreed, cases_left, #left))
end)

return t.main(...)
