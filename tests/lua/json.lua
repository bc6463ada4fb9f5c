-- lash.json: J1 to J5, and the values of D16. The locale of J2 is tried in tests/unit/test_json.c.
local t = require "t"
local json = require "lash.json"

local case, equal = t.case, t.equal

local function refused(text, position, words)
    local value, err = json.decode(text)
    equal(value, nil, text)
    equal(err.code, "json")
    equal(err.position, position, text)
    assert(err.message:find(words, 1, true), err.message)
    equal(tostring(err), err.message)
end

local function not_encoded(value, message)
    local text, err = json.encode(value)
    equal(text, nil)
    equal(err.message, message)
end

local function both_ways(text)
    equal(json.encode(assert(json.decode(text))), text)
end

case("J1 64-bit integers pass unchanged", function()
    for _, n in ipairs { 0, 1, -1, 2 ^ 53 | 0, (2 ^ 53 | 0) + 1, math.maxinteger, math.mininteger,
        math.maxinteger - 1, math.mininteger + 1, 999999999999999999, 1000000000000000000 } do
        local text = ("%d"):format(n)
        equal(json.encode(n), text)
        local back = json.decode(text)
        equal(math.type(back), "integer")
        equal(back, n)
    end
    for _ = 1, 20000 do
        local n = math.random(0) >> math.random(0, 63)
        n = math.random(2) == 1 and n or -n
        local value = { a = { n, { b = n } }, n = n }
        local text = assert(json.encode(value))
        equal(text, ('{"a":[%d,{"b":%d}],"n":%d}'):format(n, n, n))
        local back = json.decode(text)
        equal(back.n, n)
        equal(back.a[2].b, n)
        equal(math.type(back.a[1]), "integer")
    end
end)

case("J1 longer integers arrive as exact text", function()
    for _, text in ipairs { "9223372036854775808", "-9223372036854775809", "18446744073709551615",
        "18446744073709551616", "123456789012345678901234567890", ("9"):rep(1000) } do
        equal(json.decode(text), text)
        equal(json.decode("[" .. text .. "]")[1], text)
    end
    equal(json.decode "9223372036854775807", math.maxinteger)
    equal(json.decode "-9223372036854775808", math.mininteger)
end)

case("J2 1 and 1.0 stay different, integers have no exponent", function()
    both_ways '[1,1.0,-1,-1.0,0,0.0,-0.0,1000000000000000000,1000000.0]'
    equal(math.type(json.decode "1e0"), "float")
    equal(math.type(json.decode "-0"), "integer")
    equal(json.encode(1e14), "100000000000000.0")
    equal(json.encode(1e15), "1e+15")
    equal(json.encode(2 ^ 53), "9007199254740992.0")
    equal(json.encode(1e300), "1e+300")
    equal(json.encode(0.1), "0.1")
    equal(json.encode(0.1 + 0.2), "0.30000000000000004")
    equal(json.encode(1 / 3), "0.3333333333333333")
    equal(json.encode(5e-324), "5e-324")
    equal(json.encode(1e-7), "1e-07")
end)

case("J2 floats come back as they were", function()
    for i = 1, 20000 do
        local x = string.unpack("d", string.pack("i8", math.random(0)))
        if i % 2 == 0 then
            x = math.random(-10 ^ 9 // 1 | 0, 10 ^ 9 // 1 | 0) / 10 ^ math.random(0, 9)
        end
        if x - x == 0 then
            local text = json.encode(x)
            local back = json.decode(text)
            equal(math.type(back), "float", text)
            assert(back == x and 1 / back == 1 / x, text)
            assert(#text <= 24, text)
        end
    end
end)

case("J3 depth", function()
    both_ways(("["):rep(512) .. ("]"):rep(512))
    refused(("["):rep(513), 513, "nested deeper than 512 levels")
    refused(('{"a":'):rep(100000), 2561, "nested deeper")
    assert(json.decode(("["):rep(1024) .. ("]"):rep(1024), { depth = 1024 }))
    assert(not json.decode("[[1]]", { depth = 1 }))
    local deep = {}
    for _ = 1, 600 do
        deep = { deep }
    end
    local text, err = json.encode(deep)
    equal(text, nil)
    assert(err.message:find("nested deeper than 512 levels", 1, true), err.message)
    assert(#err.message < 400, err.message)
end)

case("J3 64 MiB of hostile text", function()
    local clock = os.clock()
    collectgarbage()
    local unit = ("[],"):rep(1 << 16)
    for _, text in ipairs {
        ("["):rep(64 << 20),
        "[" .. unit:rep((64 << 20) // #unit),
        '"' .. ("\\u0041"):rep((64 << 20) // 6),
        ("9"):rep(64 << 20),
    } do
        local before = collectgarbage "count"
        local value, err = json.decode(text)
        equal(value, nil)
        assert(err.message:find "limit", err.message)
        assert(collectgarbage "count" - before < 1024)
        text = nil
        collectgarbage()
    end
    assert(os.clock() - clock < 5 * t.slower)
end)

case("J3 the number of values is limited", function()
    local text = "[" .. ("[],"):rep(3000000) .. "0]"
    local value, err = json.decode(text)
    equal(value, nil)
    assert(err.message:find("more values than the limit", 1, true), err.message)
    equal(json.decode("[1,2,3]", { values = 3 }), nil)
    equal(#json.decode("[1,2,3]", { values = 4 }), 3)
    equal(json.decode("[1,2,3]", { size = 6 }), nil)
    equal(json.encode(("x"):rep(100), { size = 50 }), nil)
    equal(json.encode(("x"):rep(10000), { size = 5000 }), nil)
    local shared = {}
    for _ = 1, 40 do
        shared = { shared, shared }
    end
    value, err = json.encode(shared, { size = 1 << 20 })
    equal(value, nil)
    assert(err.message:find("size limit", 1, true), err.message)
    collectgarbage()
end)

case("J3 of equal keys the last counts", function()
    equal(json.encode(json.decode '{"a":1,"b":2,"a":3}'), '{"a":3,"b":2}')
    equal(json.raw('{"a":1,"b":2,"a":[ 3 ]}', "a"), "[ 3 ]")
end)

case("J4 source text and verbatim values", function()
    local text = ' {"b" : [ 1.50, {"x":"\\u0041"} ,[] ], "a\\n":-0, "c":"\226\130\172" }\n'
    equal(json.raw(text), text:match "^%s*(.-)%s*$")
    equal(json.raw(text, "b"), '[ 1.50, {"x":"\\u0041"} ,[] ]')
    equal(json.raw(text, "b", 1), "1.50")
    equal(json.raw(text, "b", 2, "x"), '"\\u0041"')
    equal(json.raw(text, "a\n"), "-0")
    equal(json.raw(text, "b", 4), nil)
    equal(json.raw(text, "b", 0), nil)
    equal(json.raw(text, "b", "x"), nil)
    equal(json.raw(text, 1), nil)
    equal(json.raw(text, "zz"), nil)
    equal(select(2, json.raw(text, "zz")), nil)
    local nothing, err = json.raw('{"a":1', "a")
    equal(nothing, nil)
    equal(err.position, 7)
    local list = json.elements(json.raw(text, "b"))
    equal(#list, 3)
    equal(list[1], "1.50")
    equal(list[2], '{"x":"\\u0041"}')
    equal(list[3], "[]")
    equal(#json.elements " [ ] ", 0)
    for _, bad in ipairs { "{}", "1", "[1", "[1,]", "[1] x", "" } do
        equal(json.elements(bad), nil, bad)
        assert(select(2, json.elements(bad)).message, bad)
    end
    local value = assert(json.verbatim '{"z":1, "a" : 1.50}')
    equal(json.encode { x = value, y = { value } },
        '{"x":{"z":1, "a" : 1.50},"y":[{"z":1, "a" : 1.50}]}')
    equal(tostring(value), '{"z":1, "a" : 1.50}')
    equal(json.verbatim '{"a":}', nil)
    value[1] = 7
    not_encoded(value, "value: a verbatim value was changed")
end)

case("J5 empty arrays and objects are told apart, null is a value", function()
    both_ways '{"a":[],"b":{},"c":null,"d":[null,[],{}]}'
    local value = json.decode '{"a":[],"b":{},"c":null}'
    equal(getmetatable(value.a), json.array_mt)
    equal(getmetatable(value.b), nil)
    equal(value.c, json.null)
    equal(json.encode {}, "{}")
    equal(json.encode(json.array {}), "[]")
    equal(json.encode(json.array()), "[]")
    equal(json.encode(json.null), "null")
    equal(json.encode(nil), "null")
    equal(pcall(json.array, setmetatable({}, {})), false)
end)

case("J1 J5 values cross to a worker and back unchanged", function()
    local tool = require "lash.tool"
    local echo = tool.new { name = "echo", params = { v = "any" }, sync = function(args)
        local codec = require "lash.json"
        return { v = args.v, empty = codec.array(), raw = codec.verbatim '{"b":1, "a":2}',
            array = getmetatable(args.v) == codec.array_mt, null = args.v[1] == codec.null }
    end }
    local text = '[null,[],{},"x",9007199254740993,-9223372036854775808,1.0,"123456789012345678901"]'
    local status, output = tool.run(echo, json.decode('{"v":' .. text .. "}"), {})
    equal(status, "ok")
    equal(output, '{"array":true,"empty":[],"null":true,"raw":{"b":1, "a":2},"v":' .. text .. "}")
end)

case("keys are sorted by bytes", function()
    local value = {}
    for i = 1, 300 do
        value[("k%d"):format(i * 7919 % 1000)] = i
    end
    value["\u{e9}"], value[""], value["A"], value["a"], value["a\0"], value["ab"] = 1, 2, 3, 4, 5, 6
    local keys = {}
    for key in json.encode(value, { indent = 1 }):gmatch '\n "(.-)":' do
        keys[#keys + 1] = json.decode('"' .. key .. '"')
    end
    equal(#keys, 306)
    for i = 2, #keys do
        assert(keys[i - 1] < keys[i], keys[i])
    end
    equal(json.encode(value), json.encode(json.decode(json.encode(value))))
end)

case("D16 what has no JSON form is refused with its place", function()
    local cycle = {}
    cycle.list = { 1, { cycle } }
    not_encoded(cycle, "value.list[2][1]: the table contains itself")
    not_encoded({ items = { 1, 2, { f = print } } },
        "value.items[3].f: a function has no JSON form")
    not_encoded({ ["a b"] = { io.stdout } }, 'value["a b"][1]: a userdata has no JSON form')
    not_encoded(coroutine.create(print), "value: a thread has no JSON form")
    not_encoded({ 1, nil, 3 },
        "value: the list has holes (2 items, the last at 3); put lash.null there")
    not_encoded({ 1, 2, x = 3 }, "value: the table has both list items and named fields")
    not_encoded(json.array { x = 3 }, "value: an array cannot have named fields")
    not_encoded({ a = { [0] = 1 } }, "value.a[0]: a list begins at 1")
    not_encoded({ [true] = 1 }, "value: a key of type boolean has no JSON form")
    not_encoded({ [1.5] = 1 }, "value: a key of type number has no JSON form")
    not_encoded({ x = 0 / 0 }, "value.x: nan has no JSON form")
    not_encoded({ 1 / 0 }, "value[1]: inf has no JSON form")
    not_encoded({ -1 / 0 }, "value[1]: -inf has no JSON form")
    not_encoded({ a = "x\255" }, "value.a: the string is not UTF-8 (byte 0xFF at position 2)")
    equal(select(2, json.encode({ print }, { name = "result" })).message,
        "result[1]: a function has no JSON form")
    local shared = { 1 }
    equal(json.encode { shared, shared }, "[[1],[1]]")
end)

case("D16 lossy encoding replaces bytes that are not UTF-8 and says so", function()
    local text, replaced = json.encode({ "a\255b", "\240\159\152", "ok" }, { lossy = true })
    equal(text, '["a\u{FFFD}b","\u{FFFD}","ok"]')
    equal(replaced, 2)
    text, replaced = json.encode("\237\160\128\192\128", { lossy = true })
    equal(text, '"' .. ("\u{FFFD}"):rep(5) .. '"')
    equal(replaced, 5)
    text, replaced = json.encode("fine", { lossy = true })
    equal(text, '"fine"')
    equal(replaced, nil)
end)

case("strings with anything in them", function()
    for _ = 1, 2000 do
        local parts = {}
        for i = 1, math.random(0, 40) do
            local c = math.random(0, 0x10FFFF)
            if i % 2 == 0 then
                c = math.random(0, 0x80)
            end
            if c >= 0xD800 and c <= 0xDFFF then
                c = 0x22
            end
            parts[i] = utf8.char(c)
        end
        local s = table.concat(parts)
        equal(json.decode(json.encode(s)), s)
        equal(next(json.decode(json.encode { [s] = 1 })), s)
    end
    equal(json.decode '"\\u00e9\\ud83d\\ude00\\u0000\\/\\b\\f\\n\\r\\t\\"\\\\"',
        "\u{e9}\u{1F600}\0/\b\f\n\r\t\"\\")
    equal(json.encode "\0\1\31\127\"\\/\n", '"\\u0000\\u0001\\u001f\127\\"\\\\/\\n"')
    local long = ("\n\u{20AC}x"):rep(100000)
    equal(json.decode(json.encode(long)), long)
end)

case("faults name their position", function()
    refused("", 1, "found the end of the text")
    refused('{"a":1,x}', 8, "expected a key in double quotes, found 'x'")
    refused('{"aaaaaaaaaaaa":x}', 17, "expected a value, found 'x'")
    refused('{"aaaaaaaaaa":1 x}', 17, "expected ',' or '}' in an object, found 'x'")
    refused("[1 2]", 4, "expected ',' or ']' in an array, found '2'")
    refused("[1,]", 4, "expected a value, found ']'")
    refused('{"a":1,}', 8, "expected a key in double quotes, found '}'")
    refused("1 2", 3, "expected the end of the text, found '2'")
    refused("[1]\0", 4, "found the byte 0x00")
    refused("\u{FEFF}1", 1, "byte order mark")
    refused('"\\ud800"', 2, "surrogate")
    refused('"\\ud800\\u0041"', 2, "surrogate")
    refused('"\\udc00"', 2, "surrogate")
    refused('"a\255"', 3, "not UTF-8")
    refused('"\237\160\128"', 2, "not UTF-8")
    refused('"a\nb"', 3, "control character")
    refused('"\\x"', 3, "after a backslash")
    refused('"abc', 5, "to end the string")
    refused("01", 1, "begin with 0")
    refused("1.", 3, "a digit after the decimal point")
    refused("1e+", 4, "a digit in the exponent")
    refused("-", 2, "a digit after '-'")
    refused("[1e400]", 2, "too large")
    refused("[-1e400]", 2, "too large")
    refused("nul", 1, "expected a value")
    refused("NaN", 1, "expected a value")
    equal(json.decode "1e-400", 0.0)
end)

case("indented text", function()
    equal(json.encode({ a = {}, b = { 1, { c = true } }, d = json.array() }, { indent = true }),
        '{\n  "a": {},\n  "b": [\n    1,\n    {\n      "c": true\n    }\n  ],\n  "d": []\n}')
end)

case("no metamethod is called", function()
    local trap = setmetatable({}, {
        __index = function() error "index" end,
        __len = function() error "len" end,
        __pairs = function() error "pairs" end,
        __tostring = function() error "tostring" end,
    })
    rawset(trap, "a", 1)
    equal(json.encode(trap), '{"a":1}')
end)

case("wrong use raises", function()
    equal(pcall(json.decode, {}), false)
    equal(pcall(json.decode, "1", { depth = 0 }), false)
    equal(pcall(json.decode, "1", { size = "x" }), false)
    equal(pcall(json.encode), false)
    equal(pcall(json.raw, "[1]", {}), false)
end)

case("J3 the parsing corpus", function()
    local corpora = os.getenv "LASH_CORPORA"
    if not corpora then
        return t.skip "LASH_CORPORA names no folder"
    end
    local dir = corpora .. "/json-parsing/"
    local count = { y = 0, n = 0, i = 0 }
    for name in io.popen("ls '" .. dir .. "'"):lines() do
        local file = assert(io.open(dir .. name, "rb"))
        local text = file:read "a"
        file:close()
        local kind = name:sub(1, 1)
        if count[kind] then
            local value, err = json.decode(text)
            assert(kind == "i" or (value ~= nil) == (kind == "y"), name .. ": " .. tostring(err))
            count[kind] = count[kind] + 1
        end
    end
    assert(count.y > 50 and count.n > 100 and count.i > 20)
    print(("accepted %d y_, refused %d n_, read %d i_"):format(count.y, count.n, count.i))
end)

return t.main(...)
