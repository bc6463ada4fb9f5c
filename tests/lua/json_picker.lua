-- Pickers of lash.core.json: few values of texts that are alike, in one pass. Whatever the text, what is picked is
-- what decode() finds there, and nothing is picked of what is no JSON.
local core = require "lash.core.json"
local json = require "lash.json"
local t = require "t"

local case, equal, ok = t.case, t.equal, t.ok

local EVENT = { type = 1, delta = { 2, 3 }, index = 4, error = "null", more = { "object", 5 }, ["*"] = "any" }

case("what a shape names is picked, in the order of its numbers", function()
    local pick = core.picker(EVENT)
    equal({ pick '{"type":"t","x":[1,{"y":[]}],"index":7,"delta":"d","more":{"a" : 1}}' }, { true, "t", "d", nil, 7, '{"a" : 1}' })
    equal({ pick ' { "index" : -1 , "delta" : "a\\nb" } ' }, { true, nil, "a\nb", "a\\nb", -1, nil })
    equal({ pick '{"type":null,"delta":"","index":12345678901234567,"more":{ }}' }, { true, json.null, "", nil, 12345678901234567, nil })
    equal({ pick '{"type":true}' }, { true, true })
    equal({ pick "{}" }, { true, nil, nil, nil, nil, nil })
    local deep = core.picker { list = { { inner = { text = 1, ["*"] = "null" }, ["*"] = "any" } }, kind = "none", ["*"] = "any" }
    equal({ deep '{"list":[{"inner":{"text":"x","y":null},"z":1}]}' }, { true, "x" })
    equal({ deep '{"list":[ { "inner" : { "text" : "x" } } ] }' }, { true, "x" })
    for _, text in ipairs { '{"list":[]}', '{"list":[{"inner":{"text":"x"}},{}]}', '{"list":[{"inner":{"text":"x","y":1}}]}',
        '{"list":{}}', '{"list":[{"inner":[]}]}', '{"kind":null}', '{"list":[{"inner":{"text":"x"}},]}' } do
        equal({ text, deep(text) }, { text, false })
    end
end)

case("a text that is not of the shape is refused, and what is no JSON", function()
    local pick = core.picker(EVENT)
    for _, text in ipairs { "", " ", "[]", '"x"', "1", "null", "{", '{"type"', '{"type":', '{"type":"t"', '{"type":"t",}', '{"type":"t"}x',
        '{"type":1.5}', '{"type":{}}', '{"type":[]}', '{"type":99999999999999999999}', '{"error":1}',
        '{"delta":null}', '{"delta":7}', '{"delta":true}', '{"error":false}', '{"error":{}}',
        '{"type":"a","type":"b"}', '{"t\\u0079pe":"a"}', '{"x":01}', '{"x":1.}', '{"x":1e999}', '{"x":tru}', '{"x":"\xff"}', '{"x":"\\ud800"}',
        '{"x":"\n"}', '{"x":[1,]}', '{"x":[1}', '{"x":{"a"}}', '{"x":{a:1}}', '{"x":[[[[}]]]]}', '{"more":1}', '{"more":[]}', "\xef\xbb\xbf{}" } do
        equal({ text, pick(text) }, { text, false })
    end
    for _, depth in ipairs { 62, 63, 64, 65, 66, 500, 511, 512, 600 } do
        local text = '{"x":' .. ("["):rep(depth) .. ("]"):rep(depth) .. "}"
        equal({ depth, (pick(text)) }, { depth, json.decode(text) ~= nil })
    end
    equal(pick('{"x":"' .. ("a"):rep(1 << 20) .. '"}'), false) -- too large
end)

case("a shape that is none is refused", function()
    for _, shape in ipairs { { a = 9 }, { a = 0 }, { a = "some" }, { a = { 1 } }, { a = { "object" } }, { a = { "object", 9 } }, { a = 1.5 },
        { [1] = true }, { [true] = 1 }, { ["*"] = 1 } } do
        ok(not pcall(core.picker, shape))
    end
    local ring = {}
    ring.a = ring
    t.raises("too deep", core.picker, ring)
    local many = {}
    for i = 1, 17 do
        many["f" .. i] = "any"
    end
    t.raises("too many rules", core.picker, many)
    t.raises("too many names", core.picker, { [("x"):rep(3000)] = 1 })
    t.raises("marks", core.picker, { a = 1 }, { 1 })
    ok(not pcall(core.picker(EVENT), {}))
end)

local function random_value(random, depth)
    local kind = random(depth > 0 and 10 or 7)
    if kind == 1 then
        return ('"%s"'):format(("ab\\n\\u00e9\\\\\u{20ac}"):sub(1, ({ 0, 2, 4, 10, 12 })[random(5)]))
    elseif kind <= 7 then
        return ({ "null", "true", "false", "0", "-12", "1.5e3", '"\u{1f600}"' })[random(7)]
    elseif kind == 8 then
        return random(2) == 1 and "{}" or "[ ]"
    end
    local parts = {}
    for i = 1, random(3) do
        local value = random_value(random, depth - 1)
        parts[i] = kind == 9 and value or ('"%s":%s'):format(({ "a", "type", "error", "bc" })[random(4)], value)
    end
    return (kind == 9 and "[%s]" or "{%s}"):format(table.concat(parts, random(2) == 1 and "," or " ,\n"))
end

case("whatever the text: picked or refused, never another value", function()
    local pick = core.picker(EVENT)
    local picked, refused = 0, 0
    for _ = 1, 4000 do
        local fields = {}
        for i = 1, math.random(6) do
            local name = ({ "type", "delta", "index", "error", "more", "x", "yy", "object" })[math.random(8)]
            fields[i] = ('"%s":%s'):format(name, name == "type" and '"t"' or random_value(math.random, 3))
        end
        local text = "{" .. table.concat(fields, ",") .. "}"
        if math.random(3) == 1 then -- any byte is another
            local at = math.random(#text)
            text = text:sub(1, at - 1) .. string.char(math.random(0, 255)) .. text:sub(at + 1)
        end
        local found, kind, delta, raw, index, more = pick(text)
        if found then
            picked = picked + 1
            local value = assert(json.decode(text))
            equal({ kind, delta, index }, { value.type, value.delta, value.index }, text)
            equal(raw, type(delta) == "string" and delta ~= json.raw(text, "delta"):sub(2, -2) and json.raw(text, "delta"):sub(2, -2) or nil, text)
            equal(more, next(value.more or {}) ~= nil and json.raw(text, "more") or nil, text)
            ok(value.error == nil or value.error == json.null, text)
        else
            refused = refused + 1
        end
    end
    ok(picked > 400 and refused > 400, picked)
end)

return t.main(...)
