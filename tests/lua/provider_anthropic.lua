-- Anthropic's Messages: requests beside those that the official client sent, the history, whole answers.
local anthropic = require "lash.provider.anthropic"
local json = require "lash.json"
local t = require "t"
local wire = require "support.wire"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok

local OWN = "https://api.anthropic.com"

local function view()
    return { agent = "a", system = wire.SYSTEM, tools = wire.tools(), parallel = true,
        settings = { max_tokens = 4096, anthropic = { thinking = { type = "enabled", budget_tokens = 1024 } } } }
end

local function user(text)
    return { type = "user", text = text or "x" }
end

-- The body of a message with these blocks: texts of JSON.
local function message(blocks, fields)
    local parts = { ('"type":"message","role":"assistant","content":[%s]'):format(table.concat(blocks, ",")) }
    for name, value in pairs(fields or {}) do
        parts[#parts + 1] = ('"%s":%s'):format(name, wire.encode(value))
    end
    if not (fields and fields.stop_reason) then
        parts[#parts + 1] = '"stop_reason":"end_turn"'
    end
    return "{" .. table.concat(parts, ",") .. "}"
end

local function call(id, input, name)
    return ('{"type":"tool_use","id":%s,"name":%s,"input":%s}'):format(wire.encode(id), wire.encode(name or "f"),
        input or "{}")
end

local THOUGHT = '{"type":"thinking","thinking":"hm\\u00e9","signature":"Eq\\/Q=="}'
local SEALED = '{"type":"redacted_thinking","data":"Emw="}'

local function hear(conv, blocks, fields, target)
    local to = wire.target("anthropic", target)
    local answer = assert(anthropic.read(wire.answer(message(blocks, fields)), conv, {}, to))
    conv:append(answer)
    return answer
end

for _, mode in ipairs { "json", "sse" } do
    case("the requests of both turns are those of the official client: " .. mode, function()
        local dir, streamed = ("anthropic/anthropic-sdk.%s/"):format(mode), mode == "sse"
        local conv = wire.conversation { user(wire.QUESTION) }
        local target = { model = "claude-golden", base_url = OWN, quirks = { cache = false } }
        local body, request = wire.request("anthropic", conv, view(), target, streamed)
        wire.covers(body, wire.captured(dir .. "01.request.json"), "body", {})
        equal(request.url, "https://api.anthropic.com/v1/messages")
        equal(request.headers["x-api-key"], "test-key")
        equal(request.headers["anthropic-version"], "2026-10-21")
        equal(request.headers["content-type"], "application/json")

        local function heard(name)
            local answer = streamed and assert(wire.streamed("anthropic", wire.read(dir .. name .. ".sse"), conv))
                or assert(anthropic.read(wire.answer(wire.read(dir .. name .. ".json")), conv, {}, wire.target("anthropic")))
            answer.model = "claude-golden"
            conv:append(answer)
            return answer
        end
        local answer = heard "01.response"
        equal(answer.stop, "calls")
        equal(answer.items, {
            { type = "reasoning", text = "Three independent look-ups." },
            { type = "opaque", kind = "redacted_thinking" },
            { type = "text", text = "Checking all three." },
            { type = "call", id = "toolu_golden_a", name = "get_weather", args = answer.items[4].args },
            { type = "call", id = "toolu_golden_b", name = "get_weather", args = answer.items[5].args },
            { type = "call", id = "toolu_golden_c", name = "read_file", args = answer.items[6].args },
        })
        equal(json.decode(answer.items[5].args), { city = "São Paulo", unit = "celsius" })
        equal(answer.usage, { input = 120, output = 96, cached = 0, cache_write = 0, reasoning = 32, total = 216 })
        conv:append(wire.outcomes(answer, wire.RESULTS))
        body = wire.request("anthropic", conv, view(), target, streamed)
        wire.covers(body, wire.captured(dir .. "02.request.json"), "body", {})

        local last = heard "02.response"
        equal(last.stop, "end")
        equal(last.items, { { type = "text", text = "Oslo is at -3 °C, São Paulo at 24 °C; notes.txt does not exist." } })
        equal(last.usage, { input = 260, output = 24, cached = 64, cache_write = 0, reasoning = 0, total = 284 })
    end)
end

case("J4 the same conversation gives the same bytes, and its history only grows", function()
    local conv = wire.conversation { user() }
    local before
    for i = 1, 4 do
        local answer = hear(conv, { THOUGHT, call("toolu_" .. i, '{"n":' .. i .. "}") }, { stop_reason = "tool_use" })
        conv:append(wire.outcomes(answer, { "r" .. i }))
        local body, request = wire.request("anthropic", conv, view(), { base_url = OWN })
        local _, again = wire.request("anthropic", conv, view(), { base_url = OWN })
        equal(again.body, request.body)
        conv.scratch = {}
        _, again = wire.request("anthropic", conv, view(), { base_url = OWN })
        equal(again.body, request.body)
        ok(body.cache_control.type == "ephemeral" and not request.body:find '"messages":.-cache_control.-"model"')
        local messages = request.body:match '"messages":(.*)%],"model"'
        if before then
            equal(messages:sub(1, #before), before)
        end
        before = messages
    end
end)

case("P3 J4 blocks go back as the bytes that came", function()
    local blocks = {
        THOUGHT, SEALED,
        '{"type":"text", "text":"a\\/b", "citations":null}',
        '{"type":"future_block","list":[[],{},[{}]],"n":1.0,"big":12345678901234567890123}',
        '{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{"q":"x"}}',
        '{"type":"tool_use","id":"toolu_1","name":"f","input":{"n":1.0, "big":9223372036854775807,"list":[],"o":{}},'
            .. '"caller":{"type":"direct"}}',
    }
    local conv = wire.conversation { user() }
    local answer = hear(conv, blocks, { stop_reason = "tool_use" })
    conv:append(wire.outcomes(answer, { "done" }))
    local _, request = wire.request("anthropic", conv)
    has(request.body, '{"content":[' .. table.concat(blocks, ",") .. '],"role":"assistant"}')
end)

case("P3 P4 thinking goes back to the model that wrote it, and to nobody else", function()
    local function sent(answered, asked)
        local conv = wire.conversation { user() }
        local answer = hear(conv, { THOUGHT, SEALED, call "toolu_1" }, { stop_reason = "tool_use" }, answered)
        conv:append(wire.outcomes(answer, { "1" }))
        return wire.request("anthropic", conv, {}, asked).messages[2].content
    end
    local origin = { origin = "https://a.example", model = "m1" }
    equal(#sent(origin, origin), 3)
    local other_model = sent(origin, { origin = "https://a.example", model = "m2" })
    equal(#other_model, 1)
    equal(other_model[1].id, "toolu_1")
    local other_server = sent(origin, { origin = "https://b.example", model = "m1" })
    equal(#other_server, 1)
    equal(other_server[1].id, "toolu_x2_1")
    -- one conversation, back and forth
    local conv = wire.conversation { user() }
    local answer = hear(conv, { THOUGHT, call "toolu_1" }, { stop_reason = "tool_use" }, origin)
    conv:append(wire.outcomes(answer, { "1" }))
    equal(#wire.request("anthropic", conv, {}, { origin = "https://a.example", model = "m2" }).messages[2].content, 1)
    equal(#wire.request("anthropic", conv, {}, origin).messages[2].content, 2)
    equal(anthropic.forget(conv), true)
    equal(wire.request("anthropic", conv, {}, origin).messages[2].content,
        json.decode '[{"type":"tool_use","id":"toolu_x2_1","name":"f","input":{}}]')
    equal(anthropic.forget(conv), false)
end)

case("P3 reasoning that led to nothing, or that has no seal, is left out", function()
    local conv = wire.conversation { user() }
    local answer = hear(conv, { '{"type":"text","text":"a"}', THOUGHT, SEALED }, { stop_reason = "max_tokens" })
    equal(#answer.wire, 1)
    equal(answer.stop, "length")
    local unsealed = '{"type":"thinking","thinking":"hm","signature":""}'
    answer = hear(wire.conversation { user() }, { unsealed, call "a" }, {}, { base_url = OWN })
    equal(#answer.wire, 1)
    answer = hear(wire.conversation { user() }, { unsealed, call "a" })
    equal(#answer.wire, 2) -- others have no seals
    answer = hear(wire.conversation { user() }, { '{"type":"thinking","thinking":"","signature":"E"}', call "a" }, {},
        { base_url = OWN })
    equal(#answer.wire, 2)
    equal(answer.items[1], { type = "reasoning", text = "" })
end)

case("D1 all results are in one message, before any text", function()
    local conv = wire.conversation { user() }
    local answer = hear(conv, { call "a", '{"type":"text","text":"and"}', call "b", call "c", call "d" })
    equal(answer.stop, "calls")
    conv:append(wire.outcomes(answer, { "1", { "error", "no such city" }, "", { "not_run", "" } }))
    conv:append { type = "note", text = "be brief" }
    conv:append(user "y")
    local body = wire.request("anthropic", conv)
    equal(#body.messages, 3)
    equal(body.messages[3], json.decode [[{"role":"user","content":[
        {"type":"tool_result","tool_use_id":"a","content":"1"},
        {"type":"tool_result","tool_use_id":"b","content":"no such city","is_error":true},
        {"type":"tool_result","tool_use_id":"c","content":"(empty)"},
        {"type":"tool_result","tool_use_id":"d","content":"the call ended as 'not_run'","is_error":true},
        {"type":"text","text":"be brief"},{"type":"text","text":"y"}]}]])
    t.raises("without outcomes", function()
        local open = wire.conversation { user() }
        hear(open, { call "a" })
        wire.request("anthropic", open)
    end)
end)

case("empty texts are dropped; the first message is the user's, the last one too", function()
    local conv = wire.conversation { user "  \n" }
    local answer = hear(conv, { '{"type":"text","text":""}', '{"type":"text","text":"\\n\\n"}', call "a",
        '{"type":"text","text":""}' })
    conv:append(wire.outcomes(answer, { "1" }))
    local body = wire.request("anthropic", conv)
    equal(body.messages[1], { role = "user", content = "(empty)" })
    equal(#body.messages[2].content, 1)
    for _, entries in ipairs { {}, { user "" } } do
        local request, err = anthropic.request(wire.conversation(entries), {}, wire.target "anthropic")
        equal(request, nil)
        equal(err.exit, 64)
        has(err.message, "no text to send")
    end
    conv = wire.conversation { user() }
    hear(conv, { '{"type":"text","text":"y"}' })
    conv:append(user " ")
    local _, err = anthropic.request(conv, {}, wire.target "anthropic")
    has(err.message, "no text to send")
    conv:append(user "z")
    equal(wire.request("anthropic", conv).messages[3], { role = "user", content = "z" })
end)

case("an answer without anything to send leaves no message", function()
    local conv = wire.conversation { user() }
    local answer = hear(conv, {})
    equal(answer.items, {})
    equal(answer.stop, "end")
    conv:append(user "y")
    local body = wire.request("anthropic", conv)
    equal(#body.messages, 1)
    equal(#body.messages[1].content, 2)
end)

case("an answer that was refused is not sent again, nor are its calls", function()
    local conv = wire.conversation { user "one" }
    hear(conv, { '{"type":"text","text":"1"}' })
    conv:append(user "two")
    local answer = hear(conv, { '{"type":"text","text":"I"}' }, { stop_reason = "refusal",
        stop_details = { type = "refusal", category = "cyber", explanation = "No." } })
    equal(answer.stop, "refusal")
    equal(answer.items, { { type = "text", text = "I" },
        { type = "refusal", text = "Claude refused to answer (cyber): No.", by_provider = true } })
    conv:append(user "three")
    local body = wire.request("anthropic", conv)
    equal(body.messages, json.decode [[[{"role":"user","content":"one"},
        {"role":"assistant","content":[{"type":"text","text":"1"}]},
        {"role":"user","content":[{"type":"text","text":"two"},{"type":"text","text":"three"}]}]
    ]])
    -- with calls in it, and behind results of others
    conv = wire.conversation { user() }
    answer = hear(conv, { call "a" })
    conv:append(wire.outcomes(answer, { "1" }))
    conv:append { type = "note", text = "hint" }
    answer = hear(conv, { call "b" }, { stop_reason = "refusal" })
    equal(answer.items[2].text, "Claude refused to answer")
    conv:append(wire.outcomes(answer, { { "not_run", "no" } }))
    conv:append(user "y")
    body = wire.request("anthropic", conv)
    equal(#body.messages, 3)
    equal(body.messages[3].content, json.decode
        '[{"type":"tool_result","tool_use_id":"a","content":"1"},{"type":"text","text":"hint"},{"type":"text","text":"y"}]')
    -- a conversation that was sent before goes on as one that was not
    conv = wire.conversation { user "one" }
    wire.request("anthropic", conv)
    hear(conv, {}, { stop_reason = "refusal" })
    conv:append(user "two")
    local _, request = wire.request("anthropic", conv)
    conv.scratch = {}
    local _, again = wire.request("anthropic", conv)
    equal(again.body, request.body)
end)

case("a pause goes back as it came, and the model goes on", function()
    local search = '{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{"q":"x"}}'
    local conv = wire.conversation { user() }
    local answer = hear(conv, { search }, { stop_reason = "pause_turn" })
    equal(answer.stop, "pause")
    local body, request = wire.request("anthropic", conv)
    equal(#body.messages, 2)
    has(request.body, '{"content":[' .. search .. '],"role":"assistant"}')
    hear(conv, { '{"type":"text","text":"found"}' })
    conv:append(user "y")
    body = wire.request("anthropic", conv)
    equal(#body.messages, 3)
    equal(#body.messages[2].content, 2)
end)

case("D9 ids that are double, missing or strange become such as are taken, here and in the result", function()
    local conv = wire.conversation { user() }
    local answer = hear(conv, { call("a", '{"n":1.0,"m":9223372036854775807}'), call("a", '{"n":1.0,"m":9223372036854775807}'),
        '{"type":"tool_use","name":"f","input":{}}', call("f:1/x.y", "{}"), call(("x"):rep(100)) })
    local ids = {}
    for i, item in ipairs(answer.items) do
        ids[i] = item.id
        ok(item.id:find "^[%w_-]+$" and #item.id <= 64, item.id)
    end
    equal({ ids[1], ids[2], ids[3], ids[4] }, { "a", "a_2", "call_2_3", "f_1_x_y" })
    equal(answer.items[2].args, '{"n":1.0,"m":9223372036854775807}')
    conv:append(wire.outcomes(answer, { "1", "2", "3", "4", "5" }))
    local body, request = wire.request("anthropic", conv)
    for i = 1, 5 do
        equal(body.messages[2].content[i].id, ids[i])
        equal(body.messages[3].content[i].tool_use_id, ids[i])
    end
    has(request.body, '{"type":"tool_use","id":"a_2","name":"f","input":{"n":1.0,"m":9223372036854775807}}')
end)

case("D11 arguments that are no object stay what the model wrote; sent back is an empty object", function()
    local conv = wire.conversation { user() }
    local answer = hear(conv, { call("a", "[1]"), call("b", '"{\\"n\\":1.0}"'), call("c", "null"), call("d", '"no"'), call("e", "7"),
        '{"type":"tool_use","id":"g","name":"f"}', call("h", "[]") })
    local args = {}
    for i, item in ipairs(answer.items) do
        args[i] = item.args
    end
    equal(args, { "[1]", '{"n":1.0}', "{}", "no", "7", "{}", "[]" })
    conv:append(wire.outcomes(answer, { "", "", "", "", "", "", "" }))
    local body, request = wire.request("anthropic", conv)
    for i, block in ipairs(body.messages[2].content) do
        equal(getmetatable(block.input), nil)
        equal(next(block.input) ~= nil, i == 2)
    end
    has(request.body, '"input":{"n":1.0}')
end)

case("J1 J5 integers of 64 bits and longer, floats, empty lists and objects pass unchanged", function()
    local input = '{"a":9223372036854775807,"b":-9223372036854775808,"c":12345678901234567890123,"d":1.0,"e":[],"f":{},'
        .. '"g":null,"h":0.1}'
    local conv = wire.conversation { user() }
    local answer = hear(conv, { call("a", input) })
    equal(answer.items[1].args, input)
    conv:append(wire.outcomes(answer, { input }))
    local body, request = wire.request("anthropic", conv)
    has(request.body, '"input":' .. input)
    equal(body.messages[3].content[1].content, input)
end)

case("P4 an answer of others is made anew", function()
    local conv = wire.conversation { user() }
    local answer = { type = "answer", provider = "openai", model = "gpt", stop = "calls", wire = { '{"secret":1}' },
        items = { { type = "reasoning", text = "thought" }, { type = "opaque" }, { type = "text", text = "Looking." },
            { type = "call", id = "call:1.a/b", name = "f.g", args = '{"n":1.0}' },
            { type = "call", id = "b", name = "f", args = "not json" }, { type = "call", id = "c", name = "", args = "" } } }
    conv:append(answer)
    conv:append(wire.outcomes(answer, { "1", { "error", "arguments are not JSON" }, "3" }))
    local body, request = wire.request("anthropic", conv)
    equal(body.messages[2].content, json.decode [[[{"type":"text","text":"Looking."},
        {"type":"tool_use","id":"toolu_x2_1","name":"f_g","input":{"n":1.0}},
        {"type":"tool_use","id":"toolu_x2_2","name":"f","input":{}},
        {"type":"tool_use","id":"toolu_x2_3","name":"unknown","input":{}}]
    ]])
    equal(body.messages[3].content[2], { type = "tool_result", tool_use_id = "toolu_x2_2", is_error = true,
        content = "arguments are not JSON" })
    ok(not request.body:find "secret" and not request.body:find "thought" and not request.body:find "call:1")
    -- a call that comes later under such an id gets another
    local own = hear(conv, { call "toolu_x2_1" })
    equal(own.items[1].id, "toolu_x2_1_2")
end)

case("P4 a turn that began without thinking ends without, when thinking has a budget", function()
    local budget = { settings = { anthropic = { thinking = { type = "enabled", budget_tokens = 2000 } } } }
    local conv = wire.conversation { user() }
    local answer = { type = "answer", provider = "gemini", stop = "calls", items = {
        { type = "call", id = "a", name = "f", args = "{}" } } }
    conv:append(answer)
    conv:append(wire.outcomes(answer, { "1" }))
    equal(wire.request("anthropic", conv, budget).thinking, nil)
    hear(conv, { '{"type":"text","text":"y"}' })
    conv:append(user "z")
    equal(wire.request("anthropic", conv, budget).thinking.budget_tokens, 2000)
    answer = hear(conv, { THOUGHT, call "b" })
    conv:append(wire.outcomes(answer, { "1" }))
    answer = hear(conv, { call "c" })
    conv:append(wire.outcomes(answer, { "1" }))
    equal(wire.request("anthropic", conv, budget).thinking.type, "enabled")
end)

case("D13 a cut answer is marked, and its half call", function()
    local answer = hear(wire.conversation { user() }, { call("a", '{"x":1}'), call("b", "{}") },
        { stop_reason = "max_tokens" })
    equal(answer.stop, "length")
    equal(answer.items[1].complete, nil)
    equal(answer.items[2].complete, false)
    answer = hear(wire.conversation { user() }, { call("a", '{"x":1}') }, { stop_reason = "model_context_window_exceeded" })
    equal(answer.stop, "length")
    equal(answer.items[1].complete, nil)
end)

case("why it stopped", function()
    local words = { end_turn = "end", stop_sequence = "end", tool_use = "end", refusal = "refusal", pause_turn = "pause",
        max_tokens = "length", something_new = "end", stop = "end", content_filter = "filter" }
    for word, stop in pairs(words) do
        equal(hear(wire.conversation { user() }, {}, { stop_reason = word }).stop, stop, word)
    end
    for _, value in ipairs { json.null, 7, true, json.array {}, { a = 1 } } do
        equal(hear(wire.conversation { user() }, { call "a" }, { stop_reason = value }).stop, "calls")
    end
end)

case("usage: what was cached is a part of the input", function()
    local answer = hear(wire.conversation { user() }, {}, { usage = { input_tokens = 10, cache_creation_input_tokens = 20,
        cache_read_input_tokens = 30, output_tokens = 7, output_tokens_details = { thinking_tokens = 3 } } })
    equal(answer.usage, { input = 60, cached = 30, cache_write = 20, output = 7, reasoning = 3, total = 67 })
    answer = hear(wire.conversation { user() }, {}, { usage = json.null })
    equal(answer.usage, { input = 0, cached = 0, output = 0, reasoning = 0, total = 0 })
end)

case("images and files of the user", function()
    local function parts(...)
        return wire.conversation { { type = "user", text = "look", parts = { ... } } }
    end
    local body = wire.request("anthropic", parts({ type = "text", text = "look" },
        { type = "image", mime = "image/jpg", data = "AAAA" }, { type = "image", url = "https://x.example/a.png" },
        { type = "file", name = "a.pdf", mime = "application/pdf", data = "JVBE" }, { type = "text", text = "" },
        { type = "file", name = "a.txt", mime = "text/plain", data = "w6R4" },
        { type = "file", name = "b.png", mime = "image/png", data = "AAAA" }))
    equal(body.messages[1].content, json.decode [[[{"type":"text","text":"look"},
        {"type":"image","source":{"type":"base64","media_type":"image/jpeg","data":"AAAA"}},
        {"type":"image","source":{"type":"url","url":"https://x.example/a.png"}},
        {"type":"document","title":"a.pdf","source":{"type":"base64","media_type":"application/pdf","data":"JVBE"}},
        {"type":"text","text":"The file a.txt:\n\näx"},
        {"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}]
    ]])
    for _, part in ipairs { { type = "image", mime = "image/tiff", data = "AAAA" },
        { type = "file", name = "x.bin", mime = "application/zip", data = "AAAA" },
        { type = "file", name = "x.bin", mime = "text/plain", data = "/w==" }, { type = "sound" } } do
        local request, err = anthropic.request(parts(part), {}, wire.target "anthropic")
        equal(request, nil)
        equal(err.code, "bad_request")
        equal(err.exit, 64)
        has(err.message, "anthropic")
    end
end)

case("an answer that is none is nonsense", function()
    for _, body in ipairs { "<html>gateway</html>", "", "null", "[]", "{}", '{"content":{}}', '{"content":[1]}', '"x"',
        '{"choices":[{"message":{"content":"chat"}}]}', '{"content":[]' } do
        local err = wire.refused("anthropic", wire.answer(body))
        equal(err.code, "nonsense", body)
        equal(err.exit, 76, body)
    end
    local answer = wire.hear("anthropic", wire.conversation { user() }, '{"content":"plain"}')
    equal(answer.items, { { type = "text", text = "plain" } })
end)

return t.main(...)
