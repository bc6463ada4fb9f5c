-- Anthropic's streams: reassembly, odd servers, errors in the middle. Nothing of it may raise.
local anthropic = require "lash.provider.anthropic"
local conversation = require "lash.conversation"
local damage = require "support.damage"
local json = require "lash.json"
local t = require "t"
local wire = require "support.wire"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok

local function fixture(path)
    local file = assert(io.open(os.getenv "LASH_TESTS" .. "/fixtures/" .. path, "rb"))
    local text = file:read "a"
    file:close()
    return text
end

local function user()
    return wire.conversation { { type = "user", text = "x" } }
end

-- A stream of these events: texts of JSON with their type; names as the server writes them.
local function sse(...)
    local parts = {}
    for _, data in ipairs { ... } do
        parts[#parts + 1] = ("event: %s\ndata: %s\n\n"):format(data:match '"type":"([%w_]+)"' or "message", data)
    end
    return table.concat(parts)
end

local START = '{"type":"message_start","message":{"id":"msg_1","content":[],"stop_reason":null,'
    .. '"usage":{"input_tokens":9,"cache_read_input_tokens":4,"cache_creation_input_tokens":2,"output_tokens":1}}}'
local STOP = '{"type":"message_stop"}'

local function start(index, block)
    return ('{"type":"content_block_start","index":%s,"content_block":%s}'):format(index, block)
end

local function delta(index, kind, field, raw)
    return ('{"type":"content_block_delta","index":%s,"delta":{"type":"%s","%s":%s}}'):format(index, kind, field, raw)
end

local function piece(index, text)
    return delta(index, "input_json_delta", "partial_json", wire.encode(text))
end

local function stop(index)
    return ('{"type":"content_block_stop","index":%s}'):format(index)
end

local function finish(reason, usage)
    return ('{"type":"message_delta","delta":{"stop_reason":%s,"stop_sequence":null},"usage":%s}'):format(
        wire.encode(reason), usage or '{"output_tokens":7}')
end

local function use(id, name, input)
    return ('{"type":"tool_use","id":"%s","name":"%s","input":%s}'):format(id, name or "f", input or "{}")
end

local function hear(...)
    local answer, err, told = wire.streamed("anthropic", sse(...), user())
    t.ok(answer, tostring(err))
    return answer, told
end

local function args_of(answer)
    local list = {}
    for i, call in ipairs(conversation.calls(answer)) do
        list[i] = call.args
    end
    return list
end

-- ---- the quirks of servers ----

local QUIRKS = { "cut-by-max-tokens", "eof-early", "error-event", "input-in-start", "pings-everywhere",
    "text-between-calls" }

for _, name in ipairs(QUIRKS) do
    case("P1 P6 D13 a stream of a real server: " .. name, function()
        local want = assert(json.decode(fixture("quirks/anthropic/" .. name .. ".expected.json")))
        local conv = user()
        local answer, err, told = wire.streamed("anthropic", fixture("quirks/anthropic/" .. name .. ".sse"), conv)
        local texts, ready = {}, 0
        for _, fact in ipairs(told) do
            texts[#texts + 1] = fact[1] == "text" and fact[2] or nil
            ready = ready + (fact[1] == "call.ready" and 1 or 0)
        end
        if want.outcome == "error" then
            equal(answer, nil)
            equal(err.retry, want.retryable)
            equal(table.concat(texts), want.text or "")
            has(err.message, want.message or "broke off")
            return
        end
        equal(conversation.text(answer), want.text)
        equal(table.concat(texts), want.text)
        equal(answer.stop, want.outcome == "truncated" and "length" or "calls")
        local calls = conversation.calls(answer)
        equal(ready, #calls)
        if want.outcome == "truncated" then
            equal(calls[1].complete, false)
        else
            equal(#calls, #want.calls)
            for i, call in ipairs(want.calls) do
                equal(calls[i].id, call.id)
                equal(calls[i].name, call.name)
                equal(json.decode(calls[i].args), call.args)
            end
        end
        equal(answer.usage, { input = 13, cached = 4, cache_write = 0, output = 7, reasoning = 0, total = 20 })
        -- what comes of it can go on
        conv:append(answer)
        conv:append(wire.outcomes(answer, { "1", "2" }))
        local body = wire.request("anthropic", conv)
        equal(#body.messages[2].content, #answer.items)
        equal(#body.messages[3].content, #calls)
    end)
end

-- ---- equal to a whole answer ----

-- JSON without the white space between its parts.
local function minified(text)
    local out, at = {}, 1
    while at <= #text do
        local from, to = text:find('"[^"\\]*"', at)
        local escaped = text:match('^"[^"]*\\', at)
        if from == at and not escaped then
            out[#out + 1] = text:sub(from, to)
            at = to + 1
        else
            local c = text:sub(at, at)
            out[#out + 1] = not c:find "%s" and c or nil
            at = at + 1
        end
    end
    return table.concat(out)
end

for _, turn in ipairs { "01", "02" } do
    case("the captured stream gives the entry of the whole answer: " .. turn, function()
        local whole = minified(wire.read("anthropic/anthropic-sdk.json/" .. turn .. ".response.json"))
        local read = assert(anthropic.read(wire.answer(whole), user(), {}, wire.target "anthropic"))
        local streamed = assert(wire.streamed("anthropic",
            wire.read("anthropic/anthropic-sdk.sse/" .. turn .. ".response.sse"), user()))
        equal(streamed, read)
        ok(#read.wire > 0)
    end)
end

case("P3 J1 J4 J5 a streamed answer is the bytes of a whole one, blocks of all kinds", function()
    local blocks = {
        '{"type":"thinking","thinking":"h\\u00e9 \\"q\\"\\n","signature":"Eq\\/Q=="}',
        '{"type":"redacted_thinking","data":"Em\\/w"}',
        '{"type":"text","text":"a\\/b \\ud83d\\ude00","citations":[{"cited_text":"c","n":1.0},{"n":12345678901234567890}]}',
        '{"type":"tool_use","id":"toolu_1","name":"f","input":{"n":1.0, "max":9223372036854775807,"list":[],"o":{}},"caller":{"type":"direct"}}',
        '{"type":"web_search_tool_result","tool_use_id":"s","content":[{"encrypted_content":"x","n":1.0,"list":[[],{}]}]}',
        '{"type":"text","text":"end","citations":null}',
    }
    local whole = ('{"type":"message","content":[%s],"stop_reason":"tool_use","stop_details":null,'
        .. '"usage":{"input_tokens":9,"cache_read_input_tokens":4,"cache_creation_input_tokens":2,"output_tokens":7}}')
        :format(table.concat(blocks, ","))
    local conv = user()
    local read = assert(anthropic.read(wire.answer(whole), conv, {}, wire.target "anthropic"))
    local streamed = hear(START, start(0, '{"type":"thinking","thinking":"","signature":""}'),
        delta(0, "thinking_delta", "thinking", '"h\\u00e9 "'), delta(0, "thinking_delta", "thinking", '"\\"q\\"\\n"'),
        delta(0, "signature_delta", "signature", '"Eq\\/Q=="'), stop(0),
        start(1, blocks[2]), stop(1),
        start(2, '{"type":"text","text":"","citations":[]}'), delta(2, "text_delta", "text", '"a\\/b "'),
        delta(2, "citations_delta", "citation", '{"cited_text":"c","n":1.0}'),
        delta(2, "text_delta", "text", '"\\ud83d\\ude00"'),
        delta(2, "citations_delta", "citation", '{"n":12345678901234567890}'), stop(2),
        start(3, '{"type":"tool_use","id":"toolu_1","name":"f","input":{},"caller":{"type":"direct"}}'),
        piece(3, ""), piece(3, '{"n":1.'), piece(3, '0, "max":9223372036854775807,"li'), piece(3, 'st":[],"o":{}}'), stop(3),
        start(4, blocks[5]), stop(4),
        start(5, '{"type":"text","text":"","citations":null}'), delta(5, "text_delta", "text", '"end"'), stop(5),
        finish "tool_use", STOP)
    equal(streamed, read)
    equal(streamed.wire, blocks)
    conv:append(streamed)
    conv:append(wire.outcomes(streamed, { "1" }))
    local _, request = wire.request("anthropic", conv)
    has(request.body, '{"content":[' .. table.concat(blocks, ",") .. '],"role":"assistant"}')
end)

-- ---- what is told ----

case("text, reasoning and calls are told as they come, calls when they are surely complete", function()
    local conv = user()
    local reader = anthropic.reader(conv, {}, wire.target "anthropic", { status = 200, headers = {} })
    local told = {}
    local function tell(kind, fields)
        told[#told + 1] = kind .. " " .. (kind ~= "call.ready" and fields or fields.n .. fields.id .. fields.args)
    end
    local function event(data)
        local what, err = reader:event({ event = "message", data = data }, tell)
        ok(what, tostring(err))
        local news = table.concat(told, "; ")
        told = {}
        return news, what
    end
    equal({ event(START) }, { "", "more" })
    equal({ event '{"type":"ping"}' }, { "", "idle" })
    equal({ event(start(0, '{"type":"thinking","thinking":""}')) }, { "", "more" })
    equal({ event(delta(0, "thinking_delta", "thinking", '"hm"')) }, { "reasoning hm", "more" })
    equal({ event(delta(0, "thinking_delta", "thinking", '""')) }, { "", "idle" })
    event(stop(0))
    equal({ event(start(1, '{"type":"text","text":"A"}')) }, { "text A", "more" })
    equal({ event(delta(1, "text_delta", "text", '"B"')) }, { "text B", "more" })
    event(stop(1))
    event(start(2, use "a"))
    equal({ event(piece(2, "")) }, { "", "idle" })
    equal({ event(piece(2, '{"n":1}')) }, { "", "more" })
    equal({ event(stop(2)) }, { 'call.ready 1a{"n":1}', "more" })
    event(start(3, use "b")) -- without arguments: perhaps it was cut
    equal(event(stop(3)), "")
    equal(event(start(4, use "c")), "call.ready 2b{}")
    event(piece(4, '{"n":'))
    equal(event(stop(4)), "")
    event(finish "max_tokens")
    equal({ event(STOP) }, { "", "end" })
    local answer = assert(reader:finish("", tell))
    equal(table.concat(told), 'call.ready 3c{"n":')
    equal(answer.items[4].complete, nil)
    equal(answer.items[5].complete, false)
    equal(answer.stop, "length")
end)

case("a delta is the same however it is written", function()
    for _, text in ipairs { '"a b ü"', '"a\\n\\"b\\u00e9"', '"\127"', '""' } do
        local function read(raw)
            local answer, told = hear(START, start(0, '{"type":"text","text":""}'), raw, stop(0), finish "end_turn", STOP)
            return { answer.items, told, answer.wire }
        end
        local usual = read(delta(0, "text_delta", "text", text))
        equal(read(delta(0, "text_delta", "text", text) .. "  "), usual)
        equal(read(('{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":%s}    }'):format(text)), usual)
        equal(read(('{ "delta" : { "text" : %s, "type":"text_delta"}, "index":0,"type":"content_block_delta"}'):format(text)), usual)
        equal(usual[3], { text ~= '""' and '{"type":"text","text":' .. text .. "}" or nil })
    end
    local answer, err = wire.streamed("anthropic", sse(START, delta(0, "text_delta", "text", '"\1"'), STOP), user())
    equal(answer, nil)
    equal(err.code, "nonsense")
end)

case("a ping is no sign of life, however it is written; unknown events and deltas are passed over", function()
    local reader = anthropic.reader(user(), {}, wire.target "anthropic", { status = 200, headers = {} })
    local function what(name, data)
        return (reader:event({ event = name, data = data }, function() end))
    end
    equal(what("message", '{"type":"ping"}'), "idle")
    equal(what("ping", ""), "idle")
    equal(what("ping", "{}"), "idle")
    equal(what("message", "[DONE]"), "idle")
    equal(what("future_event", '{"type":"future_event","x":[1]}'), "idle")
    equal(what("message_start", '{"message":{}}'), "more") -- the type by its event's name only
    local answer = hear(START, start(0, '{"type":"text","text":""}'), delta(0, "text_delta", "text", '"a"'),
        delta(0, "future_delta", "x", '"b"'), stop(0), start(1, '{"type":"future","x":1}'), stop(1),
        start(2, '{"type":"future","x":""}'), delta(2, "future_delta", "x", '"b"'), stop(2), finish "end_turn", STOP)
    equal(answer.items, { { type = "text", text = "a" }, { type = "opaque", kind = "future" },
        { type = "opaque", kind = "future" } })
    equal(answer.wire, { '{"type":"text","text":"a"}', '{"type":"future","x":1}' }) -- of the last one a part is missing
end)

-- ---- assembly ----

case("P1 calls are put together whatever a server does with indexes", function()
    local two = { '{"n":1}', '{"n":2}' }
    -- interleaved
    equal(args_of(hear(START, start(0, use "a"), start(1, use "b"), piece(1, '{"n"'), piece(0, '{"n"'), piece(1, ":2}"),
        piece(0, ":1}"), stop(1), stop(0), finish "tool_use", STOP)), two)
    -- all with the same index
    equal(args_of(hear(START, start(0, use "a"), piece(0, '{"n"'), piece(0, ":1}"), stop(0), start(0, use "b"),
        piece(0, '{"n":2}'), stop(0), finish "tool_use", STOP)), two)
    -- without any
    equal(args_of(hear(START, start("null", use "a"), piece("null", '{"n"'), piece("null", ":1}"), stop "null",
        start("null", use "b"), piece("null", '{"n":2}'), stop "null", finish "tool_use", STOP)), two)
    -- pieces that count otherwise than their blocks, blocks that never stop
    equal(args_of(hear(START, start(0, use "a"), piece(7, '{"n"'), piece(8, ":1}"), start(3, use "b"),
        piece(9, '{"n":2}'), finish "tool_use", STOP)), two)
    -- each piece is all so far
    equal(args_of(hear(START, start(0, use "a"), piece(0, '{"n'), piece(0, '{"n":1'), piece(0, '{"n":1}'), stop(0),
        start(1, use("b", "f", '{"n":2}')), stop(1), finish "tool_use", STOP)), two)
    -- the start has it all, and the pieces, too
    equal(args_of(hear(START, start(0, use("a", "f", '{"n":1}')), piece(0, '{"n":1}'), stop(0),
        start(1, use("b", "f", '{"n":2}')), piece(1, ""), stop(1), finish "tool_use", STOP)), two)
    -- double ids
    local answer = hear(START, start(0, use "a"), stop(0), start(1, use "a"), stop(1), finish "tool_use", STOP)
    equal({ answer.items[1].id, answer.items[2].id }, { "a", "a_2" })
    equal(answer.wire[2], '{"type":"tool_use","id":"a_2","name":"f","input":{}}')
    equal(args_of(answer), { "{}", "{}" })
end)

case("P1 texts come together without starts or stops", function()
    local answer, told = hear(START, delta(0, "thinking_delta", "thinking", '"h"'), delta(0, "thinking_delta", "thinking", '"m"'),
        delta(1, "text_delta", "text", '"a"'), delta(1, "text_delta", "text", '"b"'), finish "end_turn", STOP)
    equal(answer.items, { { type = "reasoning", text = "hm" }, { type = "text", text = "ab" } })
    equal(#told, 4)
    -- a text that comes under the index of a call is a text nevertheless
    answer = hear(START, start(0, use "a"), delta(0, "text_delta", "text", '"x"'), piece(0, "{}"), stop(0), finish "tool_use", STOP)
    equal(answer.items[2], { type = "text", text = "x" })
end)

case("D11 arguments that are no object stay what came, and never become another object", function()
    local answer = hear(START, start(0, use "a"), piece(0, '{"n":'), stop(0), start(1, use "b"), piece(1, "[1,"),
        piece(1, "2]"), stop(1), start(2, use "c"), piece(2, '{"n":1}'), piece(2, '{"n":2}'), stop(2),
        start(3, use "d"), piece(3, '{"n":1e999}'), stop(3), start(4, use "e"), piece(4, " "), stop(4), finish "tool_use", STOP)
    equal(args_of(answer), { '{"n":', "[1,2]", '{"n":1}{"n":2}', '{"n":1e999}', "{}" })
    for i = 1, 4 do
        has(answer.wire[i], '"input":{}')
    end
    equal(answer.stop, "calls")
end)

case("P1 pieces of a call that never began, or had ended, are an error", function()
    for _, events in ipairs { { START, piece(0, "{}"), finish "tool_use", STOP },
        { START, start(0, '{"type":"text","text":"a"}'), piece(0, "{}"), STOP },
        { START, start(0, use "a"), piece(0, '{"n":1}'), stop(0), piece(0, "x"), STOP },
        { START, start(0, "null"), STOP } } do
        local answer, err = wire.streamed("anthropic", sse(table.unpack(events)), user())
        equal(answer, nil)
        equal(err.code, "nonsense")
    end
end)

case("usage is cumulative, and what only the beginning tells is kept", function()
    local answer = hear(START, start(0, '{"type":"text","text":"a"}'), stop(0),
        finish(nil, '{"output_tokens":3,"input_tokens":null}'), finish("end_turn",
            '{"output_tokens":5,"cache_read_input_tokens":6,"output_tokens_details":{"thinking_tokens":2}}'),
        finish(nil, "null"), STOP)
    equal(answer.usage, { input = 17, cached = 6, cache_write = 2, output = 5, reasoning = 2, total = 22 })
    equal(answer.stop, "end")
end)

case("a refusal inside a stream", function()
    local answer = hear(START, start(0, '{"type":"text","text":""}'), delta(0, "text_delta", "text", '"I"'), stop(0),
        '{"type":"message_delta","delta":{"stop_reason":"refusal","stop_details":{"type":"refusal","category":"bio",'
        .. '"explanation":null}},"usage":{"output_tokens":1}}', STOP)
    equal(answer.stop, "refusal")
    equal(answer.items[2].text, "Claude refused to answer (bio)")
end)

-- ---- ends ----

case("P6 a stream without its end marker is broken, wherever it ends", function()
    local events = { START, start(0, use "a"), piece(0, '{"n":1}'), stop(0), finish "tool_use", STOP }
    for n = 0, #events - 1 do
        local answer, err = wire.streamed("anthropic", sse(table.unpack(events, 1, n)), user())
        equal(answer, nil)
        equal(err.code, "network")
        equal(err.retry, true)
        has(err.message, "broke off")
    end
    ok(hear(table.unpack(events)))
end)

case("P5 errors inside a stream are those of their status", function()
    local kinds = { overloaded_error = { "overloaded", true, 529 }, rate_limit_error = { "rate", true, 429 },
        api_error = { "overloaded", true, 500 }, timeout_error = { "overloaded", true, 504 },
        invalid_request_error = { "bad_request", false, 400 }, authentication_error = { "key", false, 401 },
        billing_error = { "quota", false, 402 }, permission_error = { "refused", false, 403 },
        request_too_large = { "context", false, 413 }, something_new = { "overloaded", true, 500 } }
    for kind, want in pairs(kinds) do
        local error_event = ('{"type":"error","error":{"type":"%s","message":"Why."},"request_id":"req_9"}'):format(kind)
        for _, text in ipairs { sse(START, error_event), "data: " .. error_event .. "\n\n",
            "event: error\ndata: " .. error_event:gsub('"type":"error",', "") .. "\n\n", sse(START) .. error_event } do
            local answer, err = wire.streamed("anthropic", text, user())
            equal(answer, nil)
            equal({ err.code, err.retry, err.status, err.request_id }, { want[1], want[2], want[3], "req_9" })
            has(err.message, "Why")
        end
    end
    local _, err = wire.streamed("anthropic", "event: error\ndata: upstream is gone\n\n", user())
    has(err.message, "upstream is gone")
    _, err = wire.streamed("anthropic", "data: <html>\n\n", user())
    equal(err.code, "nonsense")
end)

-- ---- hostile ----

local TARGETS = { wire.target "anthropic" }

case("D15 P1 an event with any field of any kind is read, or refused in words", function()
    local events = { START, start(0, '{"type":"thinking","thinking":"a","signature":""}'),
        delta(0, "thinking_delta", "thinking", '"b"'), delta(0, "signature_delta", "signature", '"s"'), stop(0),
        start(1, '{"type":"text","text":"","citations":[]}'), delta(1, "text_delta", "text", '"c"'),
        delta(1, "citations_delta", "citation", '{"x":1}'), stop(1), start(2, use("a", "f", '{"n":1}')),
        piece(2, '{"n":1}'), stop(2), start(3, '{"type":"redacted_thinking","data":"x"}'), stop(3), start(4, use "b"), stop(4),
        '{"type":"message_delta","delta":{"stop_reason":"refusal","stop_details":{"category":"c","explanation":"e"}},'
        .. '"usage":{"output_tokens":1,"output_tokens_details":{"thinking_tokens":1}}}', STOP }
    local good, bad = 0, 0
    for i, data in ipairs(events) do
        damage.each(data, function(changed)
            local parts = {}
            for n, text in ipairs(events) do
                parts[n] = "data: " .. (n == i and changed or text) .. "\n\n"
            end
            local conv = user()
            local answer, err = wire.streamed("anthropic", table.concat(parts), conv)
            if answer then
                good = good + 1
                answer.stop = "calls" -- so that it is sent again
            else
                bad = bad + 1
            end
            damage.check(conv, answer, err, TARGETS, changed)
        end)
    end
    ok(good > 500 and bad > 100, ("%d good, %d bad"):format(good, bad))
end)

case("D15 D9 a whole answer with any field of any kind is read, or refused in words", function()
    local whole = [[{"type":"message","id":"m","stop_reason":"tool_use","stop_details":{"category":"c","explanation":"e"},
        "content":[{"type":"thinking","thinking":"h","signature":"s"},{"type":"text","text":"t","citations":null},
            {"type":"tool_use","id":"a","name":"f","input":{"n":1},"caller":{"type":"direct"}},{"type":"new","x":[{}]}],
        "usage":{"input_tokens":1,"cache_read_input_tokens":2,"output_tokens":3,"output_tokens_details":{"thinking_tokens":1}}}]]
    local errors = '{"type":"error","error":{"type":"api_error","message":"m","details":{"error_code":"c"}},"request_id":"r"}'
    local good, bad = 0, 0
    for _, text in ipairs { whole, errors } do
        damage.each(text, function(changed)
            for _, status in ipairs { 200, 400, 429 } do
                local conv = user()
                local answer, err = anthropic.read(wire.answer(changed, status), conv, {}, wire.target "anthropic")
                if answer then
                    good = good + 1
                    equal(status, 200)
                else
                    bad = bad + 1
                end
                damage.check(conv, answer, err, TARGETS, changed)
            end
        end)
    end
    ok(good > 100 and bad > 100, ("%d good, %d bad"):format(good, bad))
end)

case("D15 events in any order and number", function()
    math.randomseed(11)
    local pool = { START, start(0, '{"type":"thinking","thinking":"a","signature":""}'), start(0, use "a"), start(1, use "b"),
        start(1, '{"type":"text","text":"t"}'), delta(0, "text_delta", "text", '"c"'), delta(1, "thinking_delta", "thinking", '"b"'),
        delta(0, "signature_delta", "signature", '"s"'), delta(1, "citations_delta", "citation", '{"x":1}'), piece(0, '{"n":'),
        piece(0, "1}"), piece(1, "{}"), piece(2, "x"), stop(0), stop(1), stop(5), finish "tool_use", finish "max_tokens",
        '{"type":"ping"}' }
    local good = 0
    for _ = 1, t.times(4000, 1000) do
        local list = {}
        for i = 1, math.random(12) do
            list[i] = pool[math.random(#pool)]
        end
        list[#list + 1] = STOP
        local conv = user()
        local answer, err, told = wire.streamed("anthropic", sse(table.unpack(list)), conv)
        if answer then
            good = good + 1
            local n = 0
            for _, fact in ipairs(told) do
                if fact[1] == "call.ready" then
                    n = n + 1
                    equal(fact[2].n, n)
                    local call = conversation.calls(answer)[n]
                    equal({ fact[2].id, fact[2].name, fact[2].args }, { call.id, call.name, call.args })
                end
            end
            equal(n, #conversation.calls(answer))
            conv:append(answer)
            if n > 0 then
                local results = {}
                for i = 1, n do
                    results[i] = "r"
                end
                conv:append(wire.outcomes(answer, results))
            end
            conv:append { type = "user", text = "y" }
            wire.request("anthropic", conv)
        else
            ok(err.code, "an error without a code")
        end
    end
    ok(good > t.times(1000, 250), good)
end)

return t.main(...)
