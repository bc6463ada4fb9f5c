-- Chat Completions: requests beside those that the official client sent, what becomes of a history.
local chat = require "support.chat"
local json = require "lash.json"
local provider = require "lash.provider.openai_chat"
local t = require "t"
local wire = require "support.wire"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok

local function view()
    return { agent = "a", system = wire.SYSTEM, tools = wire.tools(), parallel = true, settings = { max_tokens = 1024 } }
end

local GOLDEN = { model = "gpt-golden", quirks = { max_tokens = "max_completion_tokens" } }

-- What a client may leave out of the message that it sends back.
local LESS = { ["body.messages.3.refusal"] = true, ["body.messages.3.annotations"] = true }

local function covers_captures(dir, kind, stream)
    local conv = wire.conversation { { type = "user", text = wire.QUESTION } }
    local body = chat.request(conv, view(), GOLDEN, stream)
    wire.covers(body, wire.captured(dir .. "01.request.json"), "body", {})
    local answer = kind == "json" and chat.read(wire.read(dir .. "01.response.json"), view(), GOLDEN, conv)
        or chat.stream(wire.read(dir .. "01.response.sse"), view(), GOLDEN, conv)
    conv:append(answer)
    conv:append(wire.outcomes(answer, wire.RESULTS))
    body = chat.request(conv, view(), GOLDEN, stream)
    wire.covers(body, wire.captured(dir .. "02.request.json"), "body", LESS)
    local last = kind == "json" and chat.read(wire.read(dir .. "02.response.json"), view(), GOLDEN, conv)
        or chat.stream(wire.read(dir .. "02.response.sse"), view(), GOLDEN, conv)
    return answer, last
end

case("the requests of both turns are those of the official client", function()
    local first, last = covers_captures("openai-chat/openai-sdk.json/", "json")
    equal(first.stop, "calls")
    equal(first.usage, { input = 120, output = 96, cached = 0, reasoning = 32, total = 216 })
    equal(last.stop, "end")
    equal(last.items, { { type = "text", text = "Oslo is at -3 °C, São Paulo at 24 °C; notes.txt does not exist." } })
    equal(last.usage, { input = 260, output = 24, cached = 64, reasoning = 0, total = 284 })
end)

case("the requests for streams are those of the official client, and their answers those of whole ones", function()
    local first, last = covers_captures("openai-chat/openai-sdk.sse/", "sse", true)
    local whole, whole_last = covers_captures("openai-chat/openai-sdk.json/", "json")
    equal(first, whole)
    equal(last, whole_last)
end)

case("nothing is sent that nobody asked for", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local _, request = chat.request(conv, {})
    equal(request.body, '{"messages":[{"content":"x","role":"user"}],"model":"m"}')
    equal(request.url, "http://localhost:1/v1/chat/completions")
    equal(request.headers, { authorization = "Bearer test-key", ["content-type"] = "application/json",
        accept = "application/json" })
end)

case("J4 the same history gives the same bytes, with or without what was kept", function()
    local function history()
        local conv = wire.conversation { { type = "user", text = "x" } }
        local answer = chat.hear(conv, chat.message { content = "a", reasoning_content = "hm", zz = { 1 }, aa = "q",
            tool_calls = json.array { chat.call("a", "f", "{}"), chat.call("a", "f", "{}"), chat.call(nil, "g", "") } })
        conv:append(wire.outcomes(answer, { "1", "2", "3" }))
        local again = chat.hear(conv, chat.message { reasoning_content = "hm",
            tool_calls = json.array { chat.call("a", "f", "{}") } })
        conv:append(wire.outcomes(again, { "4" }))
        return conv
    end
    local conv = history()
    local _, first = chat.request(conv, view())
    local _, second = chat.request(conv, view())
    equal(second.body, first.body)
    conv.scratch = {}
    local _, third = chat.request(conv, view())
    equal(third.body, first.body)
    local _, fourth = chat.request(history(), view())
    equal(fourth.body, first.body)
    conv:append { type = "user", text = "y" }
    local _, fifth = chat.request(conv, view())
    conv.scratch = {}
    local _, sixth = chat.request(conv, view())
    equal(sixth.body, fifth.body)
end)

case("D1 a history with a call that has no outcome is never sent", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    chat.hear(conv, chat.message { tool_calls = json.array { chat.call("a", "f", "{}") } })
    t.raises("without outcomes", chat.request, conv)
end)

case("outcomes: errors are text, what did not run says so, nothing is called so", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local calls = json.array {}
    for i = 1, 5 do
        calls[i] = chat.call("c" .. i, "f", "{}")
    end
    local answer = chat.hear(conv, chat.message { tool_calls = calls })
    conv:append(wire.outcomes(answer, { { "timeout", "no end within 1 s" }, { "error", "Error: x" },
        { "not_run", "not run: control passed to B" }, { "error", "" }, "" }))
    local body = chat.request(conv)
    local outputs = {}
    for i = 1, 5 do
        local message = body.messages[2 + i]
        equal(message.role, "tool")
        equal(message.tool_call_id, "c" .. i)
        outputs[i] = message.content
    end
    equal(outputs, { "Error: no end within 1 s", "Error: x", "not run: control passed to B",
        "Error: the call ended as 'error'", "(no output)" })
end)

case("D11 J1 arguments go back as a string of valid JSON, whatever the model sent", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local answer = chat.hear(conv, chat.message { tool_calls = json.array {
        chat.call("a", "f", '{"city": Oslo}'), chat.call("b", "f", '{"n":[9223372036854775807,1.0],"e":[],"o":{}}'),
        chat.call("c", "f", ""), chat.call("d", "f", "[1]"), chat.call("e", "f", { n = 9007199254740993 }),
        chat.call("f", "f", json.encode('{"x":1}')) } })
    equal(answer.items[1].args, '{"city": Oslo}')
    equal(answer.items[4].args, "[1]")
    equal(answer.items[5].args, '{"n":9007199254740993}')
    equal(answer.items[6].args, '{"x":1}')
    conv:append(wire.outcomes(answer, { { "error", "the arguments are not valid JSON" }, '{"n":-9223372036854775808}',
        "3", "4", "5", "6" }))
    local body = chat.request(conv)
    local sent = {}
    for i, call in ipairs(body.messages[2].tool_calls) do
        sent[i] = call["function"].arguments
    end
    equal(sent, { "{}", '{"n":[9223372036854775807,1.0],"e":[],"o":{}}', "{}", "{}", '{"n":9007199254740993}', '{"x":1}' })
    equal(body.messages[4].content, '{"n":-9223372036854775808}')
end)

case("D9 duplicate, empty and missing ids are made unique, in the call and its output", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    for _ = 1, 2 do
        local answer = chat.hear(conv, chat.message { tool_calls = json.array { chat.call("a", "f", '{"i":1}'),
            chat.call("a", "f", '{"i":2}'), chat.call("", "f", ""), chat.call(nil, "f", ""), chat.call("a_2", "f", "") } })
        equal(chat.shown(answer), 'f({"i":1}) f({"i":2}) f() f() f()')
        conv:append(wire.outcomes(answer, { "1", "2", "3", "4", "5" }))
    end
    local body, seen = chat.request(conv), {}
    for at = 2, #body.messages, 6 do
        for i, call in ipairs(body.messages[at].tool_calls) do
            ok(not seen[call.id] and call.id ~= "", call.id)
            seen[call.id] = true
            equal(body.messages[at + i].tool_call_id, call.id)
        end
    end
end)

case("P3 fields that lash does not know go back to the server that sent them, as they came", function()
    local raw = '{"choices":[{"index":0,"message":{"role":"assistant","content":null,"annotations":[],"audio":null,'
        .. '"reasoning_details":[ {"type":"reasoning.encrypted","data":"g\\u00c4==","n":1.0,"e":[[],{},[{}]]} ],'
        .. '"odd \\"name\\"":12345678901234567890123,"tool_calls":[{"id":"a","type":"function",'
        .. '"extra_content":{"google": {"thought_signature":"c2ln"}},'
        .. '"function":{"name":"f","arguments":"{}","more":[ ]}}]}}]}'
    local here, there = { origin = "https://a/v1" }, { origin = "https://b/v1" }
    local conv = wire.conversation { { type = "user", text = "x" } }
    local answer = chat.hear(conv, raw, {}, here)
    conv:append(wire.outcomes(answer, { "1" }))
    local _, request = chat.request(conv, {}, here)
    has(request.body, '{"content":null,"odd \\"name\\"":12345678901234567890123,"reasoning_details":[{"type":"reasoning.encrypted",'
        .. '"data":"g\\u00c4==","n":1.0,"e":[[],{},[{}]]}],"role":"assistant","tool_calls":[{"extra_content":{"google": '
        .. '{"thought_signature":"c2ln"}},"function":{"arguments":"{}","more":[ ],"name":"f"},"id":"a","type":"function"}]}')
    local body = chat.request(conv, {}, there)
    equal(body.messages[2], { role = "assistant", content = json.null, tool_calls = json.array {
        { id = "call_x2_1", type = "function", ["function"] = { name = "f", arguments = "{}" } } } })
    equal(body.messages[3].tool_call_id, "call_x2_1")
end)

case("P4 answers of other protocols are made anew, without their ids, reasoning and unknown parts", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    conv:append { type = "answer", provider = "gemini", items = {
        { type = "reasoning", text = "secret" }, { type = "text", text = "One." }, { type = "opaque" },
        { type = "text", text = "Two." }, { type = "call", id = "gem_1", name = "f.g", args = '{"n":1.0}' },
        { type = "call", id = "gem_2", name = "h", args = "not json" }, { type = "refusal", text = "No." } } }
    conv:append(wire.outcomes(conv.entries[2], { "1", { "error", "bad" } }))
    local body, request = chat.request(conv)
    equal(body.messages[2], { role = "assistant", content = "One.\n\nTwo.\n\nNo.", tool_calls = json.array {
        { id = "call_x2_1", type = "function", ["function"] = { name = "f_g", arguments = '{"n":1.0}' } },
        { id = "call_x2_2", type = "function", ["function"] = { name = "h", arguments = "{}" } } } })
    equal(body.messages[4], { role = "tool", tool_call_id = "call_x2_2", content = "Error: bad" })
    ok(not request.body:find "gem_" and not request.body:find "secret")
    -- an id that the server then happens to use itself is another
    local answer = chat.hear(conv, chat.message { tool_calls = json.array { chat.call("call_x2_1", "f", "{}") } })
    ok(answer.items[1].id ~= "call_x2_1", answer.items[1].id)
end)

case("an answer without text and calls is not sent back", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    chat.hear(conv, chat.message { content = "", reasoning_content = "only thought" })
    conv:append { type = "user", text = "y" }
    equal(#chat.request(conv).messages, 2)
end)

return t.main(...)
