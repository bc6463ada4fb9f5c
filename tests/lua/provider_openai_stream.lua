-- OpenAI's Responses protocol as a stream: what is told as it comes, and the answer that is left, which must be
-- that of the buffered form.
local json = require "lash.json"
local responses = require "support.responses"
local t = require "t"
local wire = require "support.wire"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok
local stream, asked, heard, agrees = responses.stream, responses.asked, responses.heard, responses.agrees
local same, refused, message, call = responses.same, responses.refused, responses.message, responses.call
local reasoning, completed, event, delta = responses.reasoning, responses.completed, responses.event, responses.delta
local args_delta, added, done, bare = responses.args_delta, responses.added, responses.done, responses.bare
local SSE = "openai-responses/openai-sdk.sse/"
local JSON = "openai-responses/openai-sdk.json/"
local QUIRKS = os.getenv "LASH_TESTS" .. "/fixtures/quirks/openai-responses/"

local function view()
    return { agent = "a", system = wire.SYSTEM, tools = wire.tools(), parallel = true,
        settings = { max_tokens = 1024, effort = "medium", openai = { reasoning = { summary = "auto" } } } }
end

local function items_back(answer)
    return json.decode("[" .. answer.wire .. "]")
end

local function file(name)
    local handle = assert(io.open(QUIRKS .. name, "rb"))
    local text = handle:read "a"
    handle:close()
    return text
end

case("the streams of both turns: requests of the official client, the answers of the buffered form", function()
    local conv = wire.conversation { { type = "user", text = wire.QUESTION } }
    local whole = wire.conversation { { type = "user", text = wire.QUESTION } }
    for round = 1, 2 do
        local body, request = wire.request("openai", conv, view(), { model = "gpt-golden" }, true)
        wire.covers(body, wire.captured(SSE .. ("0%d.request.json"):format(round)), "body", {})
        equal(request.headers.accept, "application/json")

        local text = wire.read(SSE .. ("0%d.response.sse"):format(round))
        local answer, said = heard(text, view(), conv)
        agrees(answer, said)
        local other = wire.hear("openai", whole, wire.read(JSON .. ("0%d.response.json"):format(round)), view())
        equal(items_back(answer), items_back(other))
        local wires = { answer.wire, other.wire }
        answer.wire, other.wire = nil, nil
        equal(answer, other)
        answer.wire, other.wire = wires[1], wires[2]
        conv:append(answer)
        if round == 1 then
            conv:append(wire.outcomes(answer, wire.RESULTS))
            whole:append(wire.outcomes(other, wire.RESULTS))
        end
    end
end)

case("P3 reasoning goes back as its done item, never as the one that was added", function()
    local conv = wire.conversation { { type = "user", text = wire.QUESTION } }
    local answer = heard(wire.read(SSE .. "01.response.sse"), view(), conv)
    conv:append(answer)
    conv:append(wire.outcomes(answer, wire.RESULTS))
    local _, request = wire.request("openai", conv, view(), nil, true)
    has(request.body, '{"id":"rs_0001","type":"reasoning","summary":[],"encrypted_content":"gAAAAABgolden-encrypted-reasoning-blob=="}')
    ok(not request.body:find("gAAAAABpartial", 1, true))
end)

-- The outcome of an answer in the words of the fixtures.
local function outcome(answer)
    local words = { length = "truncated", filter = "truncated", refusal = "refused" }
    return words[answer.stop] or "ok"
end

for _, name in ipairs { "done-items-only", "empty-arguments", "incomplete-in-call", "no-event-lines",
    "reasoning-added-then-done" } do
    case("P1 quirk: " .. name, function()
        local want = assert(json.decode(file(name .. ".expected.json")))
        local answer, said = same(file(name .. ".sse"), { tools = wire.tools() })
        equal(outcome(answer), want.outcome)
        equal(said.text, want.text)
        equal(said.reasoning, want.reasoning or "")
        local calls = json.array {}
        for i, call in ipairs(said.calls) do
            calls[i] = { id = call.id, name = call.name, args = json.decode(call.args ~= "" and call.args or "{}") }
        end
        equal(calls, want.calls)
        for _, raw in ipairs(want.mustEcho or {}) do
            local conv = asked()
            conv:append(answer)
            local results = {}
            for i in ipairs(calls) do
                results[i] = "ok"
            end
            conv:append(wire.outcomes(answer, results))
            local found = false
            for _, item in ipairs(wire.request("openai", conv).input) do
                found = found or wire.encode(item) == wire.encode(raw)
            end
            ok(found, "the next request has " .. wire.encode(raw))
        end
    end)
end

case("P5 quirk: failed", function()
    local want = assert(json.decode(file "failed.expected.json"))
    local err, told = refused(file "failed.sse")
    equal(err.code, "rate")
    equal(err.retry, want.retryable)
    has(err.message, want.message)
    equal(told, {})
end)

-- ---- P1: pieces ----

case("P1 deltas of several calls interleave", function()
    local a, b, c = call("a", "f", '{"x":"ä"}'), call("b", "g", '{"y":[1,2]}'), call("c", "f", "{}")
    local answer, said = same(stream { added(0, bare(a)), added(1, bare(b)), args_delta(1, '{"y":'), args_delta(0, '{"x"'),
        added(2, bare(c)), args_delta(2, "{"), args_delta(1, "[1,2"), args_delta(0, ':"ä"}'), args_delta(1, "]}"),
        args_delta(2, "}"), done(2, c), done(0, a), done(1, b), completed { a, b, c } })
    equal(said.calls[2], { n = 2, id = "b", name = "g", args = '{"y":[1,2]}' })
    equal(answer.usage, { input = 9, output = 4, total = 13, cached = 5, reasoning = 2, cache_write = 3 })
end)

case("P1 a call is told when it and all items before it are done, once", function()
    local a, b, text = call("a"), call("b"), message("m", "hm")
    local target = wire.target "openai"
    local reader = target.provider.reader(asked(), {}, target, { status = 200, headers = {} })
    local seen = {}
    local function tell(kind, fields)
        seen[#seen + 1] = kind == "call.ready" and fields.id or fields
    end
    local function feed(e, want)
        equal(reader:event({ event = e.type, data = wire.encode(e) }, tell), "more")
        equal(table.concat(seen, " "), want, e.type .. " " .. tostring(e.output_index))
    end
    feed(added(0, bare(text)), "")
    feed(added(1, bare(a)), "")
    feed(added(2, bare(b)), "")
    feed(done(2, b), "") -- the items 0 and 1 may still be calls, or become nothing
    feed(done(1, a), "")
    feed(done(0, text), "hm a b")
    feed(done(1, a), "hm a b")
    local last = completed { text, a, b }
    equal(reader:event({ event = last.type, data = wire.encode(last) }, tell), "end")
    equal(reader:finish("", tell).stop, "calls")
    equal(table.concat(seen, " "), "hm a b")
end)

case("P1 calls that only the final answer has", function()
    local a, b = call("a", "f", '{"i":1}'), call("b", "g")
    same(stream { completed { a, b } })
    same(stream { done(0, a), completed { a, b } })
    same(stream { added(0, bare(a)), added(1, bare(b)), completed { a, b } })
end)

case("P1 every item has the index 0, or no index at all", function()
    local a, b, c = call("a", "f", '{"i":1}'), call("b", "g", '{"i":2}'), call("c", "f", '{"i":3}')
    for _, index in ipairs { 0, false } do
        index = index or nil
        local events = { added(index, bare(a)), added(index, bare(b)), args_delta(index, '{"i"', "fc_a"),
            args_delta(index, '{"i":2', "fc_b"), added(index, bare(c)), args_delta(index, ":1}", "fc_a"), done(index, b),
            done(index, a), done(index, c) }
        events[#events + 1] = completed { a, b, c }
        local answer = same(stream(events))
        events[#events] = completed(nil)
        local other, said = heard(stream(events)) -- the same from the items alone
        agrees(other, said)
        equal(other.items, answer.items)
        equal(other.usage, answer.usage)
    end
end)

case("P1 an item that is done twice is told once; calls of one id are two", function()
    local m, a, b = message("m", "Hi"), call("a", "f", '{"i":1}', { id = "x" }), call("a", "f", '{"i":2}', { id = "y" })
    local events = { done(0, m), done(0, m), added(1, bare(a)), added(1, bare(b)), done(1, b), done(1, b), done(1, a), false }
    for _, output in ipairs { { m, a, b }, {} } do
        events[8] = completed(output)
        local answer, said = heard(stream(events))
        agrees(answer, said)
        equal(said.text, "Hi")
        equal({ said.calls[1].args, said.calls[2].args, #said.calls }, { '{"i":1}', '{"i":2}', 2 })
    end
end)

case("P1 ids that change from event to event, and ids that are all the same", function()
    for _, ids in ipairs { { "q", "r", "s", "t", "u", "v" }, { "z", "z", "z", "z", "z", "z" } } do
        local function named(item, n)
            local copy = {}
            for field, value in pairs(item) do
                copy[field] = value
            end
            copy.id = ids[n]
            return copy
        end
        local a, b, text = call("a", "f", '{"i":1}'), call("b", "g", '{"i":2}'), message("m", "Text")
        local events = { added(0, named(bare(text), 1)), delta("output_text", 0, "Te", { item_id = ids[2] }),
            done(0, named(text, 3)), added(1, named(bare(a), 4)), added(2, named(bare(b), 5)),
            args_delta(1, '{"i":1}', ids[6]), done(1, named(a, 6)), done(2, named(b, 1)), false }
        for _, output in ipairs { { text, a, b }, {} } do
            events[#events] = completed(output)
            local answer, said = heard(stream(events))
            agrees(answer, said)
            equal(#answer.items, 3)
            equal(said.text, "Text")
            equal(said.calls[2].args, '{"i":2}')
        end
    end
end)

case("P1 indexes that begin at one, have gaps or move", function()
    local a, b = call("a", "f", '{"i":1}'), call("b", "g", '{"i":2}')
    for _, at in ipairs { { 1, 2 }, { 3, 7 }, { 5, 1 << 40 }, { -1, 0.5 } } do
        local events = { added(at[1], bare(a)), args_delta(at[1], '{"i":1}'), done(at[1], a), added(at[2], bare(b)),
            done(at[2], b), completed { a, b } }
        local answer = same(stream(events))
        events[6] = completed {}
        equal(heard(stream(events)).items, answer.items)
    end
    local answer = heard(stream { added(0, bare(a)), done(1, a), completed {} })
    equal(answer.items, { { type = "call", id = "a", name = "f", args = '{"i":1}' } })
end)

case("P1 empty arguments, arguments that are no text, arguments that are no JSON", function()
    local answer = same(stream { done(0, call("a", "f", "")), done(1, call("b", "f", '{"x":')),
        '{"type":"response.output_item.done","output_index":2,"item":{"type":"function_call","call_id":"c","name":"f","arguments":{"n":1.0}}}',
        '{"type":"response.completed","response":{"output":[' .. wire.encode(call("a", "f", "")) .. "," .. wire.encode(call("b", "f", '{"x":'))
            .. ',{"type":"function_call","call_id":"c","name":"f","arguments":{"n":1.0}}]}}' })
    equal(answer.items[1].args, "")
    equal(answer.items[2].args, '{"x":')
    equal(answer.items[3].args, '{"n":1.0}')
end)

case("P1 a name that comes late counts", function()
    local a = call("a", "get_weather", '{"i":1}')
    local half = bare(a)
    half.name = "get_"
    same(stream { added(0, half), args_delta(0, '{"i":1}'), done(0, a), completed { a } })
end)

case("P1 the final answer counts where it differs from the items", function()
    local a, b = call("a", "f", '{"i":1}'), call("a", "f", '{"i":2}')
    local answer, said = heard(stream { done(0, a), completed { b } })
    equal(answer.items[1].args, '{"i":2}')
    equal(#said.calls, 1) -- what was told stays told
    equal(answer.wire, wire.encode(b))
end)

case("P1 without a list of items at the end those of the stream are the answer", function()
    local items = { reasoning("r", "plan", "SEALED"), message("m", "Hi", { phase = "commentary" }), call("a", "f", '{"i":1}') }
    local events = {}
    for i, item in ipairs(items) do
        events[i] = done(i - 1, item)
    end
    local want = same(stream { events[1], events[2], events[3], completed(items) })
    for _, response in ipairs { {}, { output = "x" }, { output = { a = 1 } }, { output = json.null },
        { output = json.array { 1 } } } do
        local last = completed(nil, response)
        if not response.output then
            last.response.output = json.array {}
        end
        local answer, said = heard(stream { events[1], events[2], events[3], last })
        agrees(answer, said)
        equal(answer, want)
    end
    equal(heard(stream { events[1], events[2], events[3], { type = "response.completed" } }).wire, want.wire)
end)

case("P1 items that are never done are made up of their pieces, and are not sent as verbatim", function()
    local a = call("a", "f")
    local answer, said = heard(stream { added(0, reasoning("r", nil, "HALF")),
        delta("reasoning_summary_text", 0, "pl", { summary_index = 0 }), delta("reasoning_summary_text", 0, "an", { summary_index = 0 }),
        added(1, bare(message("m", "", { phase = "commentary" }))), delta("output_text", 1, "Let ", { content_index = 0 }),
        delta("output_text", 1, "me.", { content_index = 0 }), added(2, bare(a)), args_delta(2, '{"i":'), args_delta(2, "1}"),
        added(3, bare(call("b", "g"))), event("function_call_arguments.done", 3, { arguments = '{"i":2}' }), completed {} })
    agrees(answer, said)
    equal(answer.items, { { type = "reasoning", text = "plan" }, { type = "text", text = "Let me.", phase = "commentary" },
        { type = "call", id = "a", name = "f", args = '{"i":1}' }, { type = "call", id = "b", name = "g", args = '{"i":2}' } })
    equal(answer.wire, nil)
    local conv = asked()
    conv:append(answer)
    conv:append(wire.outcomes(answer, { "1", "2" }))
    local body, request = wire.request("openai", conv)
    equal(#body.input, 6)
    equal(body.input[2], { role = "assistant", content = "Let me.", phase = "commentary" })
    ok(not request.body:find("HALF", 1, true))
    -- cut, its calls are not whole
    answer = heard(stream { added(0, bare(a)), args_delta(0, '{"i":'), completed({}, { status = "incomplete" }) })
    equal(answer.stop, "length")
    equal(answer.items[1].complete, false)
end)

-- ---- text and reasoning ----

case("text comes as it is, also when there are no deltas or only a part of them", function()
    local m = message("m", "Grüße, Welt")
    for _, deltas in ipairs { { "Grü", "ße", ", Welt" }, { "Grü" }, { "Grüße, Welt" }, {} } do
        local events = { added(0, bare(m)) }
        for _, text in ipairs(deltas) do
            events[#events + 1] = delta("output_text", 0, text)
        end
        local i = #events
        events[i + 1], events[i + 2] = done(0, m), completed { m }
        equal(select(2, same(stream(events))).text, "Grüße, Welt")
        table.remove(events, i + 1)
        equal(select(2, same(stream(events))).text, "Grüße, Welt")
    end
    local _, said = heard(stream { delta("output_text", 0, "other"), done(0, m), completed { m } })
    equal(said.text, "other") -- what is shown cannot be taken back
end)

case("a refusal is an item of its own, and no text that is told", function()
    local m = { type = "message", role = "assistant", status = "completed",
        content = json.array { { type = "refusal", refusal = "I will not." } } }
    local answer, said = same(stream { added(0, { type = "message", role = "assistant", content = json.array {} }),
        delta("refusal", 0, "I will"), delta("refusal", 0, " not."), done(0, m), completed { m } })
    equal(answer.stop, "refusal")
    equal(said.text, "")
    equal(answer.items, { { type = "refusal", text = "I will not." } })
    answer = heard(stream { delta("refusal", 0, "I will"), delta("refusal", 0, " not."), completed {} })
    equal(answer.items, { { type = "refusal", text = "I will not." } })
end)

case("summaries of reasoning have paragraphs, thoughts of open models are told as they are", function()
    local r = { type = "reasoning", id = "r", encrypted_content = "S",
        summary = json.array { { type = "summary_text", text = "One." }, { type = "summary_text", text = "Two." } } }
    local open = { type = "reasoning", id = "o", summary = json.array {},
        content = json.array { { type = "reasoning_text", text = "hm, " }, { type = "reasoning_text", text = "yes" } } }
    local answer, said = same(stream { added(0, { type = "reasoning", id = "r" }),
        delta("reasoning_summary_text", 0, "On", { summary_index = 0 }), delta("reasoning_summary_text", 0, "e.", { summary_index = 0 }),
        delta("reasoning_summary_text", 0, "Two.", { summary_index = 1 }), done(0, r), added(1, { type = "reasoning", id = "o" }),
        delta("reasoning_text", 1, "hm, "), delta("reasoning_text", 1, "yes"), done(1, open), completed { r, open } })
    equal(answer.items[1].text, "One.\n\nTwo.")
    equal(said.reasoning, "One.\n\nTwo.hm, yes")
end)

case("P3 a sealed part that the final answer has lost goes back from the done item", function()
    local sealed, lost = reasoning("r", "plan", "SEALED"), reasoning("r", "plan")
    local answer = heard(stream { done(0, sealed), done(1, call("a")), completed { lost, call("a") } })
    equal(items_back(answer)[1], sealed)
    answer = heard(stream { done(0, lost), done(1, call("a")), completed { lost, call("a") } })
    equal(items_back(answer)[1], lost)
end)

-- ---- J: numbers and bytes ----

case("J1 integers of 64 bits pass in arguments through a stream", function()
    local args = '{"n":[9007199254740993,-9223372036854775808,9223372036854775807],"big":123456789012345678901234567890,"f":1.0}'
    local a = call("a", "f", args)
    local events = { added(0, bare(a)) }
    for i = 1, #args do
        events[#events + 1] = args_delta(0, args:sub(i, i))
    end
    local i = #events
    events[i + 1], events[i + 2] = done(0, a), completed { a }
    equal(select(2, same(stream(events))).calls[1].args, args)
    table.remove(events, i + 1)
    events[#events] = completed {}
    local answer, said = heard(stream(events))
    equal(said.calls[1].args, args)
    local conv = asked()
    conv:append(answer)
    conv:append(wire.outcomes(answer, { '{"n":-9223372036854775808}' }))
    local body = wire.request("openai", conv)
    equal(body.input[2].arguments, args)
    equal(body.input[3].output, '{"n":-9223372036854775808}')
end)

case("J4 J5 P3 items of a stream go back as the bytes that came", function()
    local raws = {
        '{ "type":"reasoning", "id":"rs_1", "summary":[], "encrypted_content":"g\\u00c4/+==", "content":[] }',
        '{"type":"future_item","list":[[],{},[{}]],"n":1.0,"e":1e2,"big":12345678901234567890123,"s":"\\u00e4\\/"}',
        '{"type":"function_call","call_id":"a","name":"f","arguments":"{\\"a\\":[],\\"o\\":{}}","status":"completed"}',
    }
    for _, final in ipairs { "[" .. table.concat(raws, " , ") .. "]", "[]", "null" } do
        local events = {}
        for i, raw in ipairs(raws) do
            events[i] = ('{"item": %s ,"type":"response.output_item.done","output_index":%d}'):format(raw, i - 1)
        end
        events[4] = '{"response":{"status":"completed","output":' .. final .. '},"type":"response.completed"}'
        local conv = asked()
        local answer = heard(stream(events), nil, conv)
        equal(answer.wire, table.concat(raws, ","))
        equal(answer.items[3].args, '{"a":[],"o":{}}')
        conv:append(answer)
        conv:append(wire.outcomes(answer, { "ok" }))
        local _, request = wire.request("openai", conv, nil, nil, true)
        has(request.body, "," .. table.concat(raws, ",") .. ",")
    end
end)

case("J4 P3 an item that needs another id keeps all its other bytes", function()
    local raw = '{"type":"function_call","call_id":"a","name":"f","arguments":"{}","x":[1.0,1e2,{},[],12345678901234567890]}'
    local text = stream { '{"type":"response.completed","response":{"output":[' .. raw .. "," .. raw .. "]}}" }
    local answer = same(text)
    equal(answer.wire, raw .. ',{"arguments":"{}","call_id":"a_2","name":"f","type":"function_call","x":[1.0,1e2,{},[],12345678901234567890]}')
end)

case("D9 ids that come twice are the same in what is told and in the answer", function()
    local a = call("a", "f", '{"i":1}', { id = "x" })
    local b = call("a", "f", '{"i":2}', { id = "y" })
    local c = call(json.null, "f", "{}", { id = "z" })
    local _, said = same(stream { done(0, a), done(1, b), done(2, c), completed { a, b, c } })
    equal({ said.calls[1].id, said.calls[2].id, said.calls[3].id }, { "a", "a_2", "call_2_3" })
end)

case("P1 an undeclared parallel wrapper is told as its calls, at their places", function()
    local args = '{"tool_uses":[{"recipient_name":"functions.f","parameters":{"n":9007199254740993}},'
        .. '{"recipient_name":"g","parameters":{}}]}'
    local a, w, b = call("a"), call("w", "parallel", args), call("b")
    for _, output in ipairs { { a, w, b }, {} } do
        local events = { done(0, a), added(1, bare(w)), done(1, w), done(2, b), completed(output) }
        local answer, said = heard(stream(events), { tools = { { name = "f" } } })
        agrees(answer, said)
        local names = {}
        for i, told in ipairs(said.calls) do
            names[i] = told.name .. " " .. told.args
        end
        equal(names, { "f {}", 'f {"n":9007199254740993}', "g {}", "f {}" })
    end
    same(stream { completed { a, w, b } }, { tools = { { name = "f" } } })
    local _, said = same(stream { done(0, w), completed { w } }, { tools = { { name = "parallel" } } })
    equal(#said.calls, 1)
end)

return t.main(...)
