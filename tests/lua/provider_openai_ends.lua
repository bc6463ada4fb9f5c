-- OpenAI's Responses protocol as a stream: how it ends, what is no answer, errors inside; and that an event is
-- understood the same in every form that JSON allows.
local json = require "lash.json"
local responses = require "support.responses"
local t = require "t"
local wire = require "support.wire"

local case, equal, has = t.case, t.equal, t.has
local stream, asked, heard, same = responses.stream, responses.asked, responses.heard, responses.same
local refused, message, call, completed = responses.refused, responses.message, responses.call, responses.completed
local delta, added, done, bare = responses.delta, responses.added, responses.done, responses.bare

-- ---- how a stream ends ----

case("D13 a cut answer: its whole calls are told, its half call is not", function()
    local a, b = call("a", "f", '{"i":1}'), call("b", "f", '{"i":', { status = "incomplete" })
    for _, reason in ipairs { "max_output_tokens", "content_filter", "steered" } do
        local answer, said = same(stream { done(0, a), done(1, b),
            completed({ a, b }, { status = "incomplete", incomplete_details = { reason = reason } }) })
        equal(answer.stop, reason == "content_filter" and "filter" or "length")
        equal(#said.calls, 1)
        equal(answer.items[2].complete, false)
    end
end)

case("P6 a stream without its last event is broken, whatever came before", function()
    local a = call("a")
    for _, events in ipairs { {}, { added(0, bare(a)) }, { done(0, a) }, { done(0, a), "[DONE]" }, { "[DONE]" },
        { { type = "response.created", response = { status = "in_progress", output = json.array {} } } },
        { { type = "response.output_text.delta", delta = "half" } } } do
        local err = refused(stream(events))
        equal(err.code, "network")
        equal(err.retry, true)
        equal(err.exit, 75)
        has(err.message, "broke off")
    end
    equal(refused("<html>502 Bad Gateway</html>\n").code, "network")
end)

case("nothing is read after the end, and [DONE] is not needed", function()
    local a = call("a")
    local answer, _, _, count = wire.streamed("openai", stream { completed { a }, "[DONE]", "{broken" }, asked())
    equal(count, 1)
    equal(answer.stop, "calls")
end)

case("the type in the data counts, not the name of the event; unknown ones are passed over", function()
    local m = message("m", "Hi")
    local text = "event: response.failed\ndata: " .. wire.encode(delta("output_text", 0, "Hi")) .. "\n\n"
        .. 'event: x\ndata: {"type":"response.future","error":null}\n\n' .. "data: 1\n\n" .. "data: null\n\n" .. 'data: "x"\n\n'
        .. "data:\n\n" .. "data: ping\n\n" .. "data: []\n\n" .. "data: {}\n\n" .. 'data: {"type":"keepalive"}\n\n'
        .. "data: " .. wire.encode(completed { m }) .. "\n\n"
    local _, said = same(text)
    equal(said.text, "Hi")
    equal(said.count, 11)
end)

case("T8 what says nothing does not count as a sign of the answer", function()
    local target = wire.target "openai"
    local reader = target.provider.reader(asked(), {}, target, { status = 200, headers = {} })
    for data, want in pairs {
        ['{"type":"keepalive","sequence_number":3}'] = "idle", ['{"type":"response.in_progress","response":{}}'] = "idle",
        ['{"type":"response.queued"}'] = "idle", ['{"type":"response.output_text.delta","delta":""}'] = "idle", ["ping"] = "idle",
        ["{}"] = "idle", ['{"type":"response.created","response":{}}'] = "more",
        ['{"type":"response.content_part.added","output_index":0}'] = "more",
        ['{"type":"response.output_text.delta","output_index":0,"delta":"x"}'] = "more",
        ['{"type":"response.code_interpreter_call.in_progress"}'] = "more",
    } do
        equal(reader:event({ event = "message", data = data }, function() end), want, data)
    end
end)

case("P5 errors inside a stream, in every shape that servers give them", function()
    for _, row in ipairs {
        { '{"type":"error","code":"rate_limit_exceeded","message":"Msg","param":null}', "rate", true },
        { '{"type":"error","error":{"type":"invalid_request_error","code":"context_length_exceeded","message":"Msg"}}', "context", false },
        { '{"error":{"type":"server_error","message":"Msg"}}', "overloaded", true },
        { '{"error":{"code":"429","message":"Msg"}}', "rate", true },
        { '{"error":{"code":401,"message":"Msg"}}', "key", false },
        { '{"error":"Msg"}', "overloaded", true },
        { '{"type":"response.failed","response":{"status":"failed","error":{"code":"context_length_exceeded","message":"Msg"}}}',
            "context", false },
        { '{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"Msg"}}}', "overloaded", true },
        { '{"type":"response.failed","response":{"error":{"code":"insufficient_quota","message":"Msg"}}}', "quota", false },
        { '{"type":"response.failed","response":{"error":{"code":"invalid_prompt","message":"Msg"}}}', "refused", false },
        { '{"type":"response.failed","response":{"error":{"code":"invalid_base64_image","message":"Msg"}}}', "bad_request", false },
        { '{"type":"response.completed","response":{"status":"failed","error":{"code":"slow_down","message":"Msg"}}}', "overloaded", true },
        { '{"type":"response.output_text.delta","delta":"x","error":{"message":"Msg"}}', "overloaded", true },
        { '{"type":"error","code":"invalid_encrypted_content","message":"Msg"}', "bad_request", false },
    } do
        local err, told = refused(stream { row[1], completed { call("a") } })
        equal(err.code, row[2], row[1])
        equal(err.retry, row[3], row[1])
        has(err.message, "Msg")
        equal(told, {})
        equal(err.strip, row[1]:find "encrypted" and true or nil)
    end
    equal(refused(stream { '{"type":"response.failed"}' }).code, "overloaded")
    equal(refused(stream { '{"type":"error"}' }).code, "overloaded")
    has(refused("event: error\ndata: upstream died\n\n").message, "upstream died")
    has(refused('event: error\ndata: {"message":"upstream died","code":"rate_limit_exceeded"}\n\n').message, "upstream died")
    has(refused('{"error":{"message":"bare line"}}\n').message, "bare line")
    equal(refused(stream { "{broken" }).code, "nonsense")
    equal(refused(stream { '{"type":"response.completed"}' }).code, "nonsense")
    equal(refused(stream { '{"type":"response.completed","response":{"output":{}}}' }).code, "nonsense")
end)

-- ---- forms of an event ----

-- Deltas as OpenAI writes them, and the same in another order of fields, without the name of the event.
local function forms(deltas)
    local usual, other = {}, {}
    for i, d in ipairs(deltas) do
        local kind, index, id, text = d[1], d[2], d[3], d[5] or wire.encode(d[4])
        usual[i] = ('event: response.%s.delta\ndata: {"type":"response.%s.delta","sequence_number":%d,"item_id":"%s","output_index":%d,'
            .. '"content_index":0,"delta":%s,"logprobs":[],"obfuscation":"x"}\n\n'):format(kind, kind, i, id, index, text)
        other[i] = ('data: { "delta" : %s, "output_index":%d, "item_id":"%s", "type":"response.%s.delta" }\n\n'):format(text, index, id,
            kind)
    end
    return table.concat(usual), table.concat(other)
end

case("P1 deltas are understood the same in every form that JSON allows", function()
    local deltas, text = {}, {}
    for i, piece in ipairs { "plain", " ", "Grüße", "日本", '"quoted"', "back\\slash", "a\nb\t", "\127", "\0", ',"delta":"x"', '"error":1',
        '\\u00e4\\ud83d\\ude00\\/', "", "😀", '{"type":"response.completed"}', ("long "):rep(500), "%d %s", '"output_index":9' } do
        local raw = piece:find "\\u" and '"' .. piece .. '"' or nil
        text[i] = raw and "ä😀/" or piece
        deltas[#deltas + 1] = { "output_text", i % 2 * 2, i % 2 == 0 and "m" or "n", piece, raw }
        deltas[#deltas + 1] = { "reasoning_text", 1, "r", piece, raw }
    end
    local usual, other = forms(deltas)
    local last = "data: " .. wire.encode(completed {}) .. "\n\n"
    local first, said = heard(usual .. last)
    local second, also = heard(other .. last)
    equal(first, second)
    equal(said.text, also.text)
    equal(said.reasoning, also.reasoning)
    equal(said.text, table.concat(text))
    equal(#first.items, 3)
    local odd, even = {}, {}
    for i, piece in ipairs(text) do
        table.insert(i % 2 == 1 and odd or even, piece)
    end
    equal(first.items[1].text, table.concat(even))
    equal(first.items[3].text, table.concat(odd))
end)

case("P1 deltas of an item that is done say nothing, and those of the next one with its id do", function()
    for _, items in ipairs { { message("m", "One. "), message("m", "Two.") }, { message("m", "One. "), message("n", "Two.") } } do
        local function deltas(text)
            return (forms { { "output_text", 0, "m", text } })
        end
        local text = stream { added(0, bare(items[1])) } .. deltas "One. " .. stream { done(0, items[1]) } .. deltas "late"
            .. stream { added(1, bare(items[2])), delta("output_text", 1, "Two."), done(1, items[2]), completed(items) }
        equal(select(2, same(text)).text, "One. Two.")
    end
end)

case("P1 a delta that is broken is an error, in every form", function()
    local form = 'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":"m","output_index":0,"delta":"%s"%s\n\n'
    for _, row in ipairs { { "x", "" }, { "x", ",}" }, { "\1", "}" }, { "x\\", "}" } } do
        equal(refused(form:format(row[1], row[2])).code, "nonsense", row[1] .. row[2])
    end
    has(refused(form:format("x", ',"error":{"message":"inside"}}')).message, "inside")
end)

return t.main(...)
