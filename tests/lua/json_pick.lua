-- What the providers use of lash.core.json besides lash.json: pick() takes of a text what decode() gives, and less.
local t = require "t"
local core = require "lash.core.json"
local json = require "lash.json"

local case, equal = t.case, t.equal

-- What a shape takes of a decoded value: pick() must give the same.
local function taken(value, shape)
    if type(shape) ~= "table" or type(value) ~= "table" then
        return value
    elseif shape[1] ~= nil then
        if getmetatable(value) ~= json.array_mt then
            return value
        end
        local list = json.array {}
        for i, part in ipairs(value) do
            list[i] = taken(part, shape[1])
        end
        return list
    elseif getmetatable(value) == json.array_mt then
        return value
    end
    local copy = {}
    for name, part in pairs(shape) do
        if value[name] ~= nil then
            copy[name] = taken(value[name], part)
        end
    end
    return copy
end

local SHAPE = { a = true, b = { a = true, c = { { a = true, b = true }, raws = true } }, ["\u{e9}\n"] = true }
local shape = core.shape(SHAPE)

-- JSON text of some value: small ones, with names that the shape has, equal and escaped ones too.
local function made(level)
    local kind = math.random(level < 4 and 5 or 1, level > 4 and 5 or 9)
    if kind <= 5 then
        return ({ "null", "true", "-1.50", '"x\\u00e9\\n"', "12345678901234567890" })[kind]
    end
    local parts = {}
    for i = 1, math.random(0, 4) do
        local part = made(level + 1)
        if kind > 6 then
            part = ({ '"a"', '"b"', '"c"', '"\\u0061"', '"\\u00e9\\n"', '"zz"' })[math.random(6)] .. " : " .. part
        end
        parts[i] = part
    end
    local text = table.concat(parts, ", ")
    return kind > 6 and "{" .. text .. "}" or "[" .. text .. " ]"
end

case("J4 pick() gives what decode() gives of the fields that are wanted", function()
    local lists = 0
    for _ = 1, 20000 do
        local text = made(1)
        local value, raws = core.pick(text, shape)
        local whole = assert(json.decode(text))
        equal(json.encode(value), json.encode(taken(whole, SHAPE)), text)
        local list = type(whole) == "table" and getmetatable(whole) == nil and whole.b
        list = type(list) == "table" and getmetatable(list) == nil and list.c
        if type(list) == "table" and getmetatable(list) == json.array_mt then
            lists = lists + 1
            equal(table.concat(raws, "\n"), table.concat(json.elements(json.raw(text, "b", "c")), "\n"), text)
        end
    end
    assert(lists > 30) -- some 110, by chance
end)

case("J3 pick() finds the faults that decode() finds", function()
    local good = '{"b":{"c":[{"a":1,"x":[{"y":"\\u00e9"}]}],"d":{"e":[1.5,true,null]}},"a":"z"}'
    for i = 1, #good do
        for _, bad in ipairs { good:sub(1, i - 1), good:sub(1, i - 1) .. "\1" .. good:sub(i),
            good:sub(1, i - 1) .. good:sub(i + 1), good:sub(1, i) .. "]" .. good:sub(i + 1) } do
            local value, err = json.decode(bad)
            local mine, why = core.pick(bad, shape)
            equal(mine == nil, value == nil, bad)
            if err then
                equal(why.message, err.message, bad)
                equal(why.position, err.position, bad)
            end
        end
    end
    equal(core.pick(("["):rep(513), shape), nil)
    equal(core.pick('{"zz":' .. ("["):rep(512) .. ("]"):rep(512) .. "}", shape), nil)
    assert(core.pick('{"zz":' .. ("["):rep(511) .. ("]"):rep(511) .. "}", shape))
    local _, err = core.pick('{"zz":[' .. ("1,"):rep(2000000) .. "1]}", shape)
    assert(err.message:find("more values than the limit", 1, true), err.message)
    _, err = core.pick("[1]", shape, 2)
    assert(err.message:find("more than the limit of 2", 1, true), err.message)
end)

case("shapes that are none are refused", function()
    local cycle = {}
    cycle.a = cycle
    t.raises("contains itself", core.shape, cycle)
    t.raises("names of fields only", core.shape, { [2] = true })
    t.raises("names of fields only", core.shape, { [("n"):rep(2000)] = true })
    local many = {}
    for i = 1, 100 do
        many["f" .. i] = true
    end
    t.raises("names of fields only", core.shape, many)
    t.raises("shape", core.pick, "{}", {})
    t.raises("shape", core.pick, "{}", io.stdout)
    debug.setuservalue(shape, nil, 1)
    t.raises("was changed", core.pick, "{}", shape)
end)

case("container() tells objects and arrays, as decode() takes them", function()
    for _, text in ipairs { "{}", " [1]\n", '{"a":{"b":[]}}', "[[]", "1", "", '"{}"', "null", "{}x", "\v{}", "[1,]" } do
        local value = json.decode(text)
        local kind = type(value) == "table" and (getmetatable(value) and "array" or "object") or nil
        equal(core.container(text), kind, text)
    end
    equal(core.container("[[1]]", 2), "array")
    equal(core.container("[[1]]", 1), nil)
    t.raises("no depth", core.container, "[[1]]", 0)
    t.raises("no depth", core.container, "[[1]]", 5000)
    equal(core.container("[" .. ("1,"):rep(2000000) .. "1]"), nil)
end)

case("compose() and join() put texts together", function()
    equal(core.compose('{"a":', 'x"\255\n', "}"), '{"a":"x\\"\u{FFFD}\\n"}')
    local long = ("\0y"):rep(50000)
    equal(core.compose("[", long, ",", "z", "]"), "[" .. json.encode(long) .. ',"z"]')
    equal(core.compose(), "")
    t.raises("string expected", core.compose, "[", nil, "]")
    for _, n in ipairs { 0, 1, 2, 4096, 4097, 9000 } do
        local list = {}
        for i = 1, n do
            list[i] = tostring(i)
        end
        equal(core.join("[", list, "]"), "[" .. table.concat(list, ",") .. "]", n)
    end
    t.raises("item 2 is no text", core.join, "[", { "1", {} }, "]")
    t.raises("string expected", core.join, "[", {}, nil)
end)

case("body() puts together what join() does, short or long", function()
    local long = ("\0\255é"):rep(20000)
    local list = {}
    for i = 1, 9000 do
        list[i] = tostring(i)
    end
    local bodies = { { "[", {}, "]" }, { "[", { "1" }, "]" }, { long, {}, "" }, { "", { long }, "" }, { "", {}, long },
        { "[", { "", long, "", long, "x" }, "]" }, { "{", list, long },
        { "[", { ("x"):rep(65533) }, "]" }, { "[", { ("x"):rep(65534) }, "]" }, { "[", { ("x"):rep(65535) }, "]" } }
    for i, parts in ipairs(bodies) do
        local body, joined = core.body(table.unpack(parts)), core.join(table.unpack(parts))
        equal(type(body), #joined < 65536 and "string" or "userdata", i)
        equal(tostring(body), joined, i)
        equal(tostring(body), joined, i)
    end
    t.raises("item 2 is no text", core.body, "[", { long, {} }, "]")
    t.raises("item 1 is no text", core.body, long, { 1 }, "]")
    t.raises("string expected", core.body, "[", {}, nil)
    t.raises("table expected", core.body, long, long, long)
end)

case("count() and is_object() of anything", function()
    for _, pair in ipairs { { 3, 3 }, { -3, 0 }, { 2.0, 2 }, { 2.5, 0 }, { "7", 7 }, { " 0x10 ", 16 }, { "x", 0 }, { true, 0 },
        { 1 / 0, 0 }, { "9223372036854775808", 0 }, { {}, 0 } } do
        equal(core.count(pair[1]), pair[2], tostring(pair[1]))
        equal(math.type(core.count(pair[1])), "integer")
    end
    equal(core.count(nil), 0)
    equal(core.is_object {}, true)
    for _, value in ipairs { json.array {}, json.null, 1, "x", false } do
        equal(core.is_object(value), false)
    end
    equal(core.is_object(nil), false)
end)

return t.main(...)
