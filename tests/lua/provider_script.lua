-- The provider script:FILE.
local model = require "lash.model"
local script = require "lash.provider.script"
local t = require "t"
local wire = require "support.wire"

local case, equal, has = t.case, t.equal, t.has

local function target(text, ending)
    return assert(model.resolve("script:" .. t.file(text, ending or ".json")))
end

local function wrong(text, exit, ending, ...)
    local path = t.file(text, ending)
    local found, err = model.resolve("script:" .. path)
    equal(found, nil, text)
    equal(err.exit, exit)
    has(err.message, path)
    for _, part in ipairs { ... } do
        has(err.message, part)
    end
end

local function user(text)
    return wire.conversation { { type = "user", text = text or "x" } }
end

case("turns are walked by every conversation from the first on", function()
    local found = target [[ [{"text":"a","calls":[{"name":"f","args":{"n":9007199254740993}}, {"name":"f","args_text":"{"},
        {"name":"g","id":"own"}]}, {"expect":{"outputs":3},"text":"b","usage":{"input":3,"output":4}}] ]]
    for _ = 1, 2 do
        local conv = user()
        local answer = assert(model.ask(found, conv, {}))
        equal(answer.stop, "calls")
        equal(answer.items, { { type = "text", text = "a" },
            { type = "call", id = "call_2_1", name = "f", args = '{"n":9007199254740993}' },
            { type = "call", id = "call_2_2", name = "f", args = "{" },
            { type = "call", id = "own", name = "g", args = "{}" } })
        conv:append(answer)
        conv:append(wire.outcomes(answer, { "1", "2", "3" }))
        answer = assert(model.ask(found, conv, {}))
        equal(answer.stop, "end")
        equal(answer.usage, { input = 3, output = 4, cached = 0, reasoning = 0, total = 7 })
        conv:append(answer)
        local none, err = model.ask(found, conv, { agent = "a" })
        equal(none, nil)
        equal(err.exit, 65)
        has(err.message, "2 turns")
        has(err.message, "request 3")
        has(err.message, '"x"')
    end
end)

case("turns that nobody used are told", function()
    local found = target '[{"text":"a"},{"text":"b"},{"text":"c"}]'
    local unread = target '[{"text":"a"}]'
    equal(#script.unused(), 2)
    local conv = user()
    conv:append(assert(model.ask(found, conv, {})))
    assert(model.ask(found, conv, {}))
    assert(model.ask(unread, user(), {}))
    equal(script.unused(), { { file = found.model, used = 2, total = 3 } })
    assert(model.ask(found, conv, {}))
    equal(script.unused(), {})
end)

case("expectations that fail say which turn and what was expected", function()
    local view = { agent = "me", system = "the system", tools = { { name = "f" }, { name = "g" } }, tool_choice = "none" }
    local function expect(what, ...)
        local answer, err = model.ask(target('[{"expect":' .. what .. ',"text":"a"}]'), user "hello", view)
        if select("#", ...) == 0 then
            assert(answer, tostring(err))
            return
        end
        equal(answer, nil, what)
        equal(err.exit, 65)
        has(err.message, "turn 1")
        for _, part in ipairs { ... } do
            has(err.message, part)
        end
    end
    expect '{"contains":["hello","the system"],"lacks":"bye","tools":["g","f"],"agent":"me","outputs":0,"tool_choice":"none"}'
    expect('{"contains":"bye"}', '"bye"', '"hello"')
    expect('{"lacks":["x","hell"]}', '"hell"')
    expect('{"tools":["f"]}', '["f"]', '["f","g"]')
    expect('{"agent":"you"}', "'you'", "'me'")
    expect('{"outputs":2}', "2 outputs", "found 0")
    expect('{"outputs_contain":["a"]}', "1 outputs")
    expect('{"tool_choice":"required"}', "required")
end)

case("errors, delays and ends as written", function()
    local found = target [[ [{"error":{"code":"rate","retry":true,"after":0.001}}, {"text":"No","stop":"refusal","delay":0.001},
        {"error":{"message":"gone","exit":69}}, {"calls":[{"name":"f","args_text":"{\"a"}],"stop":"length"}] ]]
    local conv, retries = user(), 0
    local answer = assert(model.ask(found, conv, {}, wire.listener(function()
        retries = retries + 1
    end)))
    equal(retries, 1)
    equal({ answer.stop, answer.items[1].type }, { "refusal", "refusal" })
    local none, err = model.ask(found, conv, {})
    equal({ none, err.exit }, { nil, 69 })
    has(err.message, "gone")
    answer = assert(model.ask(found, conv, {}))
    equal({ answer.stop, answer.items[1].complete }, { "length", false })
end)

case("a script may be Lua: a list, or a function for as many turns as are wanted", function()
    local found = target('return { { text = "a" }, { calls = { { name = "f", args = { x = 1.0 } } } } }', ".lua")
    local conv = user()
    assert(model.ask(found, conv, {}))
    equal(model.ask(found, conv, {}).items[1].args, '{"x":1.0}')
    found = target([[return function(n, request)
        return { text = n .. request.text .. request.agent .. #request.outputs .. table.concat(request.tools) } end]], ".lua")
    conv = user "t"
    equal(model.ask(found, conv, { agent = "a", tools = { { name = "f" } } }).items[1].text, "1ta0f")
    equal(model.ask(found, conv, { agent = "a" }).items[1].text, "2ta0")
    equal(#script.unused(), 0)
    found = target("return function(n) if n == 2 then error 'oops' end return n == 1 and { text = 1 } or nil end", ".lua")
    local _, err = model.ask(found, conv, {})
    has(err.message, "'text' must be a string")
    conv.scratch = {}
    _, err = model.ask(found, conv, {})
    equal(err.exit, 65)
end)

case("expect.parts: what came with the user's last words", function()
    local image = { type = "image", mime = "image/png", data = "" }
    local web = { type = "image", url = "http://x/a.gif" }
    local conv = wire.conversation { { type = "user", text = "x", parts = { { type = "text", text = "x" }, image, web } } }
    local turns = '[{"expect":{"parts":["image/png","http://x/a.gif"]},"text":"a"},{"expect":{"parts":[]},"text":"b"}]'
    local found = target(turns)
    equal(model.ask(found, conv, {}).items[1].text, "a")
    local _, err = model.ask(found, conv, {})
    has(err.message, 'expected the parts [], found ["image/png","http://x/a.gif"]')
    _, err = model.ask(target '[{"expect":{"parts":["image/png"]}}]', user(), {})
    has(err.message, 'expected the parts ["image/png"], found []')
end)

case("a bad script is refused, naming the place", function()
    wrong('[{"text":"a"},\n {"text":}]', 65, ".json", "line 2")
    wrong('{"text":"a"}', 65, ".json", "list of turns")
    wrong('[1]', 65, ".json", "turn 1")
    wrong('[{"text":"a"},{"txt":"b"}]', 65, ".json", "turn 2", "'txt'", "'text'")
    wrong('[{"calls":[{"name":"f"},{"args":{}}]}]', 65, ".json", "turn 1, call 2", "'name'")
    wrong('[{"calls":[{"name":"f","args":{},"args_text":""}]}]', 65, ".json", "both")
    wrong('[{"stop":"now"}]', 65, ".json", "'now'")
    wrong('[{"expect":{"output":1}}]', 65, ".json", "'outputs'")
    wrong("return {\n {text = = 1}}", 65, ".lua", ":2:")
    wrong("return 7", 65, ".lua", "list of turns")
    wrong("error 'why'", 65, ".lua", "why")
    local found, err = model.resolve "script:/no/such/file"
    equal({ found, err.exit }, { nil, 66 })
    found, err = model.resolve "script:/tmp"
    equal({ found, err.exit }, { nil, 66 })
end)

return t.main(...)
