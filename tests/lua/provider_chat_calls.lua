-- Chat Completions: tool calls put together from what servers send of them.
local chat = require "support.chat"
local json = require "lash.json"
local t = require "t"
local wire = require "support.wire"

local case, equal, ok = t.case, t.equal, t.ok
local e, calls = chat.entry, chat.calls

local OSLO, LIMA = '{"city":"Oslo"}', '{"city":"Lima"}'
local BOTH = "get_weather(" .. OSLO .. ") get_weather(" .. LIMA .. ")"

-- The calls of these chunks are these, all ids differ, and each call was told once, in order, as it is.
local function expect(lists, shown, view)
    local answer, err, told = calls(lists, view)
    equal(err, nil)
    equal(chat.shown(answer), shown)
    equal(answer.stop, shown ~= "" and "calls" or "end")
    local seen, ready = {}, {}
    for _, item in ipairs(answer.items) do
        ok(item.id ~= "" and not seen[item.id], item.id)
        seen[item.id] = true
        ready[#ready + 1] = { "call.ready", { n = #ready + 1, id = item.id, name = item.name, args = item.args } }
    end
    equal(told, ready)
    return answer
end

case("P1 calls one after the other, in fragments", function()
    local answer = expect({ { e(0, "a", "get_weather", "") }, { e(0, nil, nil, '{"city":') }, { e(0, nil, nil, '"Oslo"}') },
        { e(1, "b", "get_weather", "") }, { e(1, nil, nil, LIMA) } }, BOTH)
    equal({ answer.items[1].id, answer.items[2].id }, { "a", "b" })
end)

case("P1 an index that comes twice in one chunk: two ids, or two whole calls, are two calls", function()
    expect({ { e(0, "a", "get_weather", OSLO), e(0, "b", "get_weather", LIMA) } }, BOTH)
    expect({ { e(0, nil, "get_weather", OSLO), e(0, nil, "get_weather", LIMA) } }, BOTH)
    expect({ { e(0, "a", "get_weather", OSLO), e(0, "a", "get_weather", LIMA) } }, BOTH)
    expect({ { e(0, nil, "get_time"), e(0, nil, "read_file", "{}") } }, "get_time() read_file({})")
    expect({ { e(0, "a", "get_weather", '{"ci'), e(0, nil, nil, 'ty":"Oslo"}') } }, "get_weather(" .. OSLO .. ")")
end)

case("P1 no index: known by id, by name, or the last one", function()
    expect({ { e(nil, "a", "get_weather", OSLO) }, { e(nil, "b", "get_weather", LIMA) } }, BOTH)
    expect({ { e(nil, nil, "get_weather", OSLO) }, { e(nil, nil, "get_weather", LIMA) } }, BOTH)
    expect({ { e(nil, "a", "get_weather", '{"city":') }, { e(nil, nil, nil, '"Oslo"}') }, { e(nil, "b", "get_weather", "") },
        { e(nil, nil, nil, LIMA) } }, BOTH)
    expect({ { e(nil, "a", "get_weather", '{"ci'), e(nil, "b", "get_weather", '{"ci') }, { e(nil, "b", nil, 'ty":"Lima"}') },
        { e(nil, "a", nil, 'ty":"Oslo"}') } }, BOTH)
    expect({ { e(nil, "a", "get_weather", OSLO) }, { e(nil, "a", "get_weather", LIMA) } }, BOTH)
    expect({ { e(nil, "a", "get_weather", OSLO), e(nil, "b", "get_weather", OSLO) } },
        "get_weather(" .. OSLO .. ") get_weather(" .. OSLO .. ")")
end)

case("P1 all index 0 with different ids", function()
    expect({ { e(0, "a", "get_weather", '{"city":') }, { e(0, nil, nil, '"Oslo"}') }, { e(0, "b", "get_weather", "") },
        { e(0, nil, nil, LIMA) } }, BOTH)
    expect({ { e(0, "a", "get_weather", '{"city":') }, { e(0, "b", "get_weather", '{"city":') }, { e(0, "a", nil, '"Oslo"}') },
        { e(0, "b", nil, '"Lima"}') } }, BOTH)
    -- a new id on every fragment, but no name: still the same call
    expect({ { e(0, "a", "get_weather", '{"city":') }, { e(0, "z1", nil, '"Os') }, { e(0, "z2", nil, 'lo"}') } },
        "get_weather(" .. OSLO .. ")")
end)

case("P1 calls that interleave stay apart, in the order of their index", function()
    expect({ { e(0, "a", "get_weather", ""), e(1, "b", "get_weather", "") }, { e(1, nil, nil, '{"city":'), e(0, nil, nil, '{"ci') },
        { e(0, nil, nil, 'ty":"Oslo"}') }, { e(1, nil, nil, '"Lima"}') } }, BOTH)
    expect({ { e(1, "b", "get_weather", LIMA) }, { e(0, "a", "get_weather", OSLO) } }, BOTH)
    expect({ { e(2, "b", "get_weather", LIMA) }, { e(1, "a", "get_weather", OSLO) } }, BOTH)
    -- only some have an index: in the order of arrival
    expect({ { e(5, "a", "get_weather", OSLO) }, { e(nil, "b", "get_weather", LIMA) } }, BOTH)
end)

case("P1 an index that counts fragments: those without id and name belong to the call before", function()
    expect({ { e(0, "a", "get_weather", "") }, { e(1, nil, nil, '{"city":') }, { e(2, nil, nil, '"Oslo"}') },
        { e(3, "b", "get_weather") }, { e(4, nil, nil, LIMA) } }, BOTH)
    -- the index goes back to a call that is whole: it is for the last one
    expect({ { e(0, "a", "get_weather", OSLO) }, { e(1, "b", "get_weather", "") }, { e(0, nil, nil, '{"city":') },
        { e(0, nil, nil, '"Lima"}') } }, BOTH)
end)

case("P1 a name: once, again and again, late, or in pieces", function()
    expect({ { e(0, "a", "get_weather", '{"city":') }, { e(0, "a", "get_weather", '"Oslo"}') } }, "get_weather(" .. OSLO .. ")")
    expect({ { e(0, "a", "", '{"city":') }, { e(0, nil, "", '"Oslo"}') }, { e(0, nil, "get_weather") } },
        "get_weather(" .. OSLO .. ")")
    expect({ { e(0, "a", nil, OSLO) }, { e(0, nil, "get_weather") } }, "get_weather(" .. OSLO .. ")")
    expect({ { e(0, "a", "get_") }, { e(0, nil, "wea") }, { e(0, nil, "ther") }, { e(0, nil, nil, OSLO) } },
        "get_weather(" .. OSLO .. ")")
    expect({ { e(0, "a", "get_") }, { e(0, nil, "get_wea") }, { e(0, nil, "get_weather", OSLO) } }, "get_weather(" .. OSLO .. ")")
    expect({ { e(nil, nil, "get_") }, { e(nil, nil, "weather") }, { e(nil, nil, nil, OSLO) } }, "get_weather(" .. OSLO .. ")")
    expect({ { e(0, "a", "tool") }, { e(0, nil, "get_weather", OSLO) } }, "get_weather(" .. OSLO .. ")")
    -- a name that is whole and goes on to another one
    local tools = { tools = { { name = "read" }, { name = "read_file" } } }
    expect({ { e(0, "a", "read") }, { e(0, nil, "_file", "{}") } }, "read_file({})", tools)
    expect({ { e(0, "a", "read", "{}") }, { e(0, nil, "read") } }, "read({})", tools)
    -- of tools that nobody has
    expect({ { e(0, "a", "odd") }, { e(0, nil, "_one", "{}") } }, "odd_one({})", tools)
end)

case("P1 arguments that are sent anew as a whole each time, or once more at the end", function()
    expect({ { e(0, "a", "get_weather", "{") }, { e(0, nil, nil, '{"city":') }, { e(0, nil, nil, '{"city":"Os') },
        { e(0, nil, nil, OSLO) } }, "get_weather(" .. OSLO .. ")")
    expect({ { e(0, "a", "get_weather", '{"city":') }, { e(0, nil, nil, '{"city":"Oslo"}') }, { e(0, nil, nil, OSLO) } },
        "get_weather(" .. OSLO .. ")")
    expect({ { e(0, "a", "get_weather", OSLO) }, { e(0, nil, nil, OSLO) } }, "get_weather(" .. OSLO .. ")")
    expect({ { e(0, "a", "get_weather", '{"city":') }, { e(0, nil, nil, '"Oslo"}') }, { e(0, "a", "get_weather", OSLO) } },
        "get_weather(" .. OSLO .. ")")
    expect({ { e(0, "a", "get_weather", '{"city":') }, { e(0, nil, nil, '"Oslo"}') },
        { e(0, "a", "get_weather", '{ "city" : "Oslo" }') } }, "get_weather(" .. OSLO .. ")")
    expect({ { e(0, "a", "get_weather", "{}") }, { e(0, nil, nil, '{"city":') }, { e(0, nil, nil, '"Oslo"}') } },
        "get_weather(" .. OSLO .. ")")
    expect({ { e(0, "a", "get_weather", {}) }, { e(0, nil, nil, { city = "Oslo" }) } }, "get_weather(" .. OSLO .. ")")
    -- what only looks so: an object in an object
    expect({ { e(0, "a", "get_weather", '{"a":') }, { e(0, nil, nil, '{"a":1}') }, { e(0, nil, nil, "}") } },
        'get_weather({"a":{"a":1}})')
end)

case("D11 P1 empty arguments are none; what is no JSON stays as it came", function()
    expect({ { e(0, "a", "get_time", "") }, { e(1, "b", "get_time") }, { e(2, "c", "get_time", json.null) },
        { e(3, "d", "get_time", " \n") } }, "get_time() get_time() get_time() get_time()")
    expect({ { e(0, "a", "f", '{"a": x}') }, { e(1, "b", "f", '{"a":1} x') }, { e(2, "c", "f", '{"a":1}{"a":2}') },
        { e(3, "d", "f", "[1]") }, { e(4, "e", "f", "nonsense") }, { e(5, "g", "f", json.array { 1 }) }, { e(6, "h", "f", true) } },
        'f({"a": x}) f({"a":1} x) f({"a":1}{"a":2}) f([1]) f(nonsense) f([1]) f(true)')
end)

case("J1 J5 P1 arguments as objects, and encoded twice, keep their numbers and empty lists", function()
    local args = '{"n":[9223372036854775807,-9223372036854775808,1.0,1],"e":[],"o":{},"big":123456789012345678901}'
    local function chunk(text)
        return ('{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":%s}}]},'
            .. '"finish_reason":"tool_calls"}]}'):format(text)
    end
    for _, text in ipairs { args, json.encode(args), json.encode(json.encode(args)) } do
        local answer = assert(chat.stream { chunk(text) })
        equal(answer.items[1].args, args)
    end
    equal(assert(chat.stream { chunk [["\"\""]] }).items[1].args, "")
    equal(assert(chat.stream { chunk [["\"text\""]] }).items[1].args, '"text"')
end)

case("P1 arguments only in a whole message at the end", function()
    local chunks = {
        chat.chunk { role = "assistant", content = "Hi" },
        chat.chunk { tool_calls = json.array { e(0, "a", "get_weather", "") } },
        chat.chunk { tool_calls = json.array { e(1, "b", "get_weather", "") } },
        wire.encode { choices = json.array { { index = 0, finish_reason = "tool_calls", message = { role = "assistant",
            content = "Hi", tool_calls = json.array { chat.call("a", "get_weather", OSLO),
            chat.call("b", "get_weather", LIMA) } } } } },
    }
    local answer = assert(chat.stream(chunks, chat.VIEW))
    equal(chat.shown(answer), BOTH)
    equal(answer.items[1].text, "Hi")
    table.remove(chunks, 1)
    equal(assert(chat.stream(chunks, chat.VIEW)), answer)
    local whole = assert(chat.stream({ chunks[#chunks] }, chat.VIEW))
    equal(whole.items, answer.items)
end)

case("P1 slots without a name are dropped, entries that are none too", function()
    expect({ { e(0, "a", "get_weather", OSLO) }, { e(1, "b", nil, LIMA) }, { e(2, "c", "") } }, "get_weather(" .. OSLO .. ")")
    expect({ { 1, "x", json.null, json.array {}, {}, e(0, "a", "get_weather", OSLO) } }, "get_weather(" .. OSLO .. ")")
    expect({ { e(0, nil, nil, "{}") } }, "")
end)

case("D9 P1 ids: missing, equal, too long, numbers", function()
    local long = ("x"):rep(100)
    local answer = expect({ { e(0, nil, "f", "{}"), e(1, "", "f", "{}"), e(2, "x", "f", "{}"), e(3, "x", "f", "{}"),
        e(4, long, "f", "{}"), e(5, 7, "f", "{}") } }, "f({}) f({}) f({}) f({}) f({}) f({})")
    local ids = {}
    for i, item in ipairs(answer.items) do
        ids[i] = item.id
    end
    equal(ids, { "call_2_1", "call_2_2", "x", "x_2", ("x"):rep(64), "7" })
    local conv = wire.conversation { { type = "user", text = "x" } }
    conv:append(answer)
    conv:append(wire.outcomes(answer, { "1", "2", "3", "4", "5", "6" }))
    local body = chat.request(conv)
    for i, call in ipairs(body.messages[2].tool_calls) do
        equal(call.id, i == 5 and long or ids[i]) -- some servers keep signatures in their ids
        equal(body.messages[2 + i].tool_call_id, call.id)
    end
end)

case("D9 D10 the same call twice, even under one id, is two calls", function()
    for _, args in ipairs { OSLO, "{}", "" } do
        local call = chat.call("x", "get_weather", args)
        local answer = assert(chat.read(chat.message { tool_calls = json.array { call, call } }))
        equal(chat.shown(answer), ("get_weather(%s) get_weather(%s)"):format(args, args))
        equal({ answer.items[1].id, answer.items[2].id }, { "x", "x_2" })
        local index = e(0, "x", "get_weather", args)
        expect({ { call, call } }, chat.shown(answer))
        expect({ { index, index } }, chat.shown(answer))
        expect({ { e(0, "x", "get_weather", args), e(1, "x", "get_weather", args) } }, chat.shown(answer))
        expect({ { e(0, "x", "get_weather", args) }, { e(1, "x", "get_weather", args) } }, chat.shown(answer))
    end
end)

case("D1 an undeclared parallel wrapper becomes its calls, with one output", function()
    local args = '{"tool_uses":[{"recipient_name":"functions.get_weather","parameters":{"n":9007199254740993}},'
        .. '{"recipient_name":"get_time","parameters":{}}]}'
    local shown = 'get_time({"x":1}) get_weather({"n":9007199254740993}) get_time({}) get_time()'
    for _, name in ipairs { "parallel", "multi_tool_use.parallel" } do
        local answer = expect({ { e(0, "a", "get_time", '{"x":1}') }, { e(1, "w", name, args) }, { e(2, "b", "get_time") } }, shown)
        equal({ answer.items[2].id, answer.items[3].id, answer.items[2].wrapper }, { "w_1", "w_2", "w" })
        local conv = wire.conversation { { type = "user", text = "x" } }
        conv:append(answer)
        conv:append(wire.outcomes(answer, { "1", "2", { "error", "bad" }, "4" }))
        local body = chat.request(conv)
        local sent = body.messages[2].tool_calls
        equal({ #sent, sent[2].id, sent[2]["function"].name, sent[2]["function"].arguments },
            { 3, "w", (name:gsub("%.", "_")), args })
        equal({ #body.messages, body.messages[4] }, { 5, { role = "tool", tool_call_id = "w",
            content = "1. get_weather: 2\n2. get_time: Error: bad" } })
        body = chat.request(conv, {}, { origin = "elsewhere" })
        equal({ #body.messages[2].tool_calls, #body.messages }, { 4, 6 })
    end
    -- declared, it is a tool like others; with other arguments it is a call like others
    expect({ { e(0, "w", "parallel", args) } }, "parallel(" .. args .. ")", { tools = { { name = "parallel" } } })
    expect({ { e(0, "w", "parallel", "{}") } }, "parallel({})")
end)

case("D13 a cut answer: its half call is marked, and not told as ready", function()
    local answer, _, told = calls({ { e(0, "a", "f", "{}") }, { e(1, "b", "f", '{"x":') } }, nil, "length")
    equal(answer.stop, "length")
    equal(answer.items[1].complete, nil)
    equal(answer.items[2].complete, false)
    equal(#told, 1)
    answer = calls({ { e(0, "a", "f", "") } }, nil, "max_tokens")
    equal({ answer.stop, answer.items[1].complete }, { "length", false })
    answer = calls({ { e(0, "a", "f", "{}") } }, nil, "content_filter")
    equal(answer.stop, "filter")
end)

case("P1 a call is told as soon as the next one begins, if its place is certain", function()
    local function told_after(entries)
        local reader = chat.target().provider.reader(wire.conversation(), chat.VIEW, chat.target(), { status = 200, headers = {} })
        local names = {}
        for _, entry in ipairs(entries) do
            assert(reader:event({ event = "message", data = chat.chunk { tool_calls = json.array { entry } } }, function(_, about)
                names[#names + 1] = about.id
            end))
        end
        return table.concat(names, " ")
    end
    equal(told_after { e(0, "a", "f", "{}"), e(1, "b", "f", "") }, "") -- {} may stand for "none yet"
    equal(told_after { e(0, "a", "f", '{"x":1}') }, "")
    equal(told_after { e(0, "a", "f", '{"x":1}'), e(1, "b", "f", '{"x":1}'), e(2, "c", "f", "") }, "a b")
    equal(told_after { e(1, "a", "f", '{"x":1}'), e(2, "b", "f", '{"x":1}') }, "") -- 0 may still come
    equal(told_after { e(nil, "a", "f", '{"x":1}'), e(nil, "b", "f", "") }, "a")
    equal(told_after { e(0, "a", "f", '{"x":'), e(1, "b", "f", '{"x":1}'), e(2, "c", "f", "") }, "")
    equal(told_after { e(0, nil, "f", '{"x":1}'), e(1, "b", "f", "") }, "") -- its id may still come
end)

case("P1 a thousand calls, and arguments in thousands of fragments", function()
    local lists = {}
    for i = 1, 1000 do
        lists[i] = { e(i - 1, "c" .. i, "f", '{"i":' .. i .. "}") }
    end
    equal(#assert(calls(lists)).items, 1000)
    lists = { { e(0, "a", "f", '{"s":"') } }
    for i = 2, t.times(20000, 5000) do
        lists[i] = { e(0, nil, nil, "}]x") }
    end
    lists[#lists + 1] = { e(0, nil, nil, '"}') }
    equal(#assert(calls(lists)).items[1].args, 6 + (#lists - 2) * 3 + 2)
end)

return t.main(...)
