-- Gemini's streamed answers: the same entry as of a whole answer, in whatever pieces it comes.
local damage = require "support.damage"
local json = require "lash.json"
local t = require "t"
local wire = require "support.wire"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok
local DIR = "gemini/genai-jsonschema.sse/"
local USAGE = ',"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":2}'

local function quirk(name)
    return wire.read("../quirks/gemini/" .. name)
end

-- A chunk with these parts (JSON texts); `more` are further fields of the candidate.
local function chunk(parts, more, rest)
    return ('data: {"candidates":[{"content":{"role":"model","parts":[%s]}%s,"index":0}]%s}\r\n\r\n'):format(
        table.concat(parts, ","), more or "", rest or "")
end

local STOP = ',"finishReason":"STOP"'

-- The same parts as a whole answer.
local function whole(parts, reason, rest)
    return ('{"candidates":[{"content":{"role":"model","parts":[%s]},"finishReason":"%s","index":0}]%s}'):format(
        table.concat(parts, ","), reason or "STOP", rest or "")
end

local function user()
    return wire.conversation { { type = "user", text = "x" } }
end

local function read(body, status)
    local target = wire.target "gemini"
    return target.provider.read(wire.answer(body, status), user(), {}, target)
end

local function heard(told, kind)
    local texts = {}
    for _, one in ipairs(told) do
        if one[1] == kind then
            texts[#texts + 1] = one[2]
        end
    end
    return table.concat(texts)
end

local function calls_told(told)
    local calls = {}
    for _, one in ipairs(told) do
        if one[1] == "call.ready" then
            calls[#calls + 1] = one[2]
        end
    end
    return calls
end

-- What was told is what the answer holds.
local function check_told(told, answer)
    local texts, calls = { text = "", reasoning = "" }, {}
    for _, item in ipairs(answer.items) do
        if item.type == "call" then
            calls[#calls + 1] = { n = #calls + 1, id = item.id, name = item.name, args = item.args }
        elseif texts[item.type] then
            texts[item.type] = texts[item.type] .. item.text
        end
    end
    equal(heard(told, "text"), texts.text)
    equal(heard(told, "reasoning"), texts.reasoning)
    equal(calls_told(told), calls)
end

case("P0 P3 both streamed turns are those of the official client, and the entries those of whole answers", function()
    local view = { agent = "a", system = wire.SYSTEM, tools = wire.tools(), parallel = true, settings = { max_tokens = 1024,
        effort = "low", reasoning = true } }
    local less = { ["body.tools.1.functionDeclarations.3.parametersJsonSchema"] = true }
    local fields = { model = "gemini-golden", base_url = "https://example.com" }
    local conv, plain = wire.conversation { { type = "user", text = wire.QUESTION } },
        wire.conversation { { type = "user", text = wire.QUESTION } }
    local body, request = wire.request("gemini", conv, view, fields, true)
    wire.covers(body, wire.captured(DIR .. "01.request.json"), "body", less)
    equal(request.url, "https://example.com/v1beta/models/gemini-golden:streamGenerateContent?alt=sse")
    equal(request.headers.accept, "text/event-stream")

    local answer, err, told, count = wire.streamed("gemini", wire.read(DIR .. "01.response.sse"), conv, view)
    equal(err, nil)
    equal(count, 5)
    check_told(told, answer)
    equal(#calls_told(told), 3)
    local buffered = wire.hear("gemini", plain, wire.read("gemini/genai-jsonschema.json/01.response.json"), view)
    -- only the parts that are kept as they came may be laid out differently
    for i, raw in ipairs(buffered.wire) do
        buffered.wire[i], answer.wire[i] = json.decode(raw), json.decode(answer.wire[i])
    end
    equal(answer.wire, buffered.wire)
    answer = wire.streamed("gemini", wire.read(DIR .. "01.response.sse"), conv, view)
    for i, item in ipairs(buffered.items) do
        equal(item.args and json.decode(item.args), answer.items[i].args and json.decode(answer.items[i].args))
        item.args = answer.items[i].args
    end
    buffered.wire = answer.wire
    equal(answer, buffered)

    conv:append(answer)
    conv:append(wire.outcomes(answer, wire.RESULTS))
    body = wire.request("gemini", conv, view, fields, true)
    local captured = wire.captured(DIR .. "02.request.json")
    -- The official client sends the pieces of a text as parts of their own, and empty parts.
    local parts = captured.contents[2].parts
    captured.contents[2].parts = json.array { { text = "Checking all three." }, parts[3], parts[4], parts[5] }
    wire.covers(body, captured, "body", less)
    conv:append((wire.streamed("gemini", wire.read(DIR .. "02.response.sse"), conv, view)))
    equal(conv.entries[4].items, { { type = "text", text = "Oslo is at -3 °C, São Paulo at 24 °C; notes.txt does not exist." } })
    equal(conv.entries[4].usage, { input = 260, output = 24, cached = 64, reasoning = 0, total = 284 })
    conv:append { type = "user", text = "thanks" }
    equal(wire.request("gemini", conv, view, fields, true).contents[4].parts[2],
        { text = "", thoughtSignature = "Z29sZGVuLWZpbmFsLXRleHQtc2lnbmF0dXJl" })
end)

local QUIRKS = { "blocked-prompt", "calls-without-id", "eof-early", "malformed-call", "signature-on-empty-text",
    "thought-parts" }

local function check_quirk(name)
    local want = json.decode(quirk(name .. ".expected.json"))
    local conv = user()
    local answer, err, told = wire.streamed("gemini", quirk(name .. ".sse"), conv)
    if want.outcome == "error" then
        equal(answer, nil, name)
        equal(err.retry, want.retryable, name)
        equal(heard(told, "text"), want.text or "", name)
        return
    end
    equal(err, nil, name)
    check_told(told, answer)
    local texts, calls = { text = "", reasoning = "", refusal = "" }, json.array {}
    for _, item in ipairs(answer.items) do
        if item.type == "call" then
            calls[#calls + 1] = { name = item.name, args = json.decode(item.args) }
        else
            texts[item.type] = texts[item.type] .. item.text
        end
    end
    equal(calls, want.calls, name)
    equal(texts.text, want.text or "", name)
    equal(texts.reasoning, want.reasoning or "", name)
    equal(answer.stop == "refusal", want.outcome == "refused", name)
    has(texts.refusal, want.message or "", name)
    for field, n in pairs(want.usage or {}) do
        equal(answer.usage[field], n, name)
    end
    conv:append(answer)
    if #calls > 0 then
        conv:append(wire.outcomes(answer, { "1", "2" }))
    end
    conv:append { type = "user", text = "y" }
    local body, request = wire.request("gemini", conv)
    for i, part in ipairs(want.mustEcho or {}) do
        local sent = body.contents[2].parts
        equal(sent[#sent - #want.mustEcho + i], part, name)
    end
    if want.responseIds == "none" then
        ok(not request.body:find('"id"', 1, true), request.body)
    end
end

for _, name in ipairs(QUIRKS) do
    case("P1 P3 P6 odd streams: " .. name, function()
        check_quirk(name)
    end)
end

case("P5 odd streams: error-array", function()
    local want = json.decode(quirk "error-array.expected.json")
    local answer, err = read(quirk "error-array.json", want.status)
    equal(answer, nil)
    equal({ err.retry, err.after, err.status }, { want.retryable, want.retryAfterSeconds + 0.0, want.status })
    has(err.message, want.message)
end)

case("P3 J4 pieces of a text are joined, everything else stays as it came", function()
    local signed = '{"functionCall" : {"id":"c1","name":"f","args":{"n":9007199254740993,"x":1.0,"e":[],"o":{}}},'
        .. '"thoughtSignature":"S1\\/="}'
    local text = chunk { '{"text":"pl","thought":true}' } .. chunk { '{"thought":true,"text":"an"}', '{"text":"Hel"}' }
        .. chunk { '{"text":"lo"}', '{"text":""}', "{}" } .. chunk { '{"text":" you","thoughtSignature":"S0"}' }
        .. chunk { '{"text":"!"}' } .. chunk { signed, '{"executableCode":{"code":"a\\u0041"}}' }
        .. chunk({ '{"text":"","thoughtSignature":"S9"}' }, STOP, USAGE)
    local answer, err, told = wire.streamed("gemini", text, user())
    equal(err, nil)
    equal(answer.wire, { '{"text":"plan","thought":true}', '{"text":"Hello"}', '{"text":" you","thoughtSignature":"S0"}',
        '{"text":"!"}', signed, '{"executableCode":{"code":"a\\u0041"}}', '{"text":"","thoughtSignature":"S9"}' })
    equal(answer.items[1], { type = "reasoning", text = "plan" })
    equal(answer.items[2], { type = "text", text = "Hello you!" })
    equal(answer.items[3].args, '{"n":9007199254740993,"x":1.0,"e":[],"o":{}}')
    equal(answer.items[4], { type = "opaque" })
    equal(answer.stop, "calls")
    check_told(told, answer)
    equal(answer, (read(whole({ '{"text":"plan","thought":true}', '{"text":"Hello"}',
        '{"text":" you","thoughtSignature":"S0"}', '{"text":"!"}', signed, '{"executableCode":{"code":"a\\u0041"}}',
        '{"text":"","thoughtSignature":"S9"}' }, "STOP", USAGE))))
end)

local function random_text()
    local bits = { "a", "ß", "漢", "😀", "\\n", '\\"', "\\u00e9", " " }
    local list = {}
    for i = 1, math.random(0, 6) do
        list[i] = bits[math.random(#bits)]
    end
    return list
end

local function random_value(depth)
    local kind = math.random(depth > 2 and 4 or 6)
    if kind == 1 then
        return ("%d"):format(math.random(0))
    elseif kind == 2 then
        return ("%d.0"):format(math.random(-9, 9))
    elseif kind == 3 then
        return '"' .. table.concat(random_text()) .. '"'
    elseif kind == 4 then
        return ({ "null", "true", "[]", "{}", "-9223372036854775808", "18446744073709551616", "1e5" })[math.random(7)]
    end
    local list = {}
    for i = 1, math.random(0, 3) do
        list[i] = (kind == 6 and ('"k%d":'):format(i) or "") .. random_value(depth + 1)
    end
    return (kind == 6 and "{%s}" or "[%s]"):format(table.concat(list, ","))
end

-- A part as a list of parts that a stream may make of it.
local function random_part(n)
    local kind = math.random(6)
    if kind <= 3 then
        local thought = kind == 3 and ',"thought":true' or ""
        local bits, pieces = random_text(), {}
        for i, bit in ipairs(bits) do
            pieces[i] = ('{"text":"%s"%s}'):format(bit, thought)
        end
        return ('{"text":"%s"%s}'):format(table.concat(bits), thought), pieces
    elseif kind == 4 then
        local part = ('{"text":"%s","thoughtSignature":"S%d"}'):format(table.concat(random_text()), n)
        return part, { part }
    end
    local id = math.random(3) > 1 and ('"id":"c%d",'):format(math.random(3)) or ""
    local part = ('{"functionCall":{%s"args":{"v":%s},"name":"f"}%s}'):format(id, random_value(0),
        math.random(2) == 1 and (',"thoughtSignature":"S%d"'):format(n) or "")
    return part, { part }
end

case("J1 J5 P1 P3 any answer streamed in any chunks is the whole answer", function()
    math.randomseed(11)
    for _ = 1, t.times(1500, 400) do
        local parts, text, waiting = {}, {}, {}
        for i = 1, math.random(8) do
            local pieces
            parts[i], pieces = random_part(i)
            for _, piece in ipairs(pieces) do
                waiting[#waiting + 1] = piece
                if math.random(2) == 1 then
                    text[#text + 1], waiting = chunk(waiting), {}
                end
            end
        end
        text[#text + 1] = chunk(waiting, STOP, USAGE)
        local want, why = read(whole(parts, "STOP", USAGE))
        local answer, err, told = wire.streamed("gemini", table.concat(text), user())
        equal(answer, want, table.concat(text))
        equal(err and err.message, why and why.message)
        if answer then
            check_told(told, answer)
        end
    end
end)

case("P1 calls over several chunks, without ids and with equal ones", function()
    local f = '{"functionCall":{"id":"a","name":"f"}}'
    local text = chunk { f } .. chunk { f, '{"functionCall":{"name":"g"}}' }
        .. 'data: {"usageMetadata":{"promptTokenCount":1}}\n\ndata: {"candidates":[]}\n\ndata: {"candidates":[{}]}\n\n'
        .. 'data: {"candidates":[{"content":{"role":"model"}}],"promptFeedback":{"safetyRatings":[]}}\n\n'
        .. chunk { '{"functionCall":{"id":"","name":"h h","args":null}}' } .. chunk({}, STOP)
    local answer, err, told = wire.streamed("gemini", text, user())
    equal(err, nil)
    equal(calls_told(told), { { n = 1, id = "a", name = "f", args = "{}" }, { n = 2, id = "a_2", name = "f", args = "{}" },
        { n = 3, id = "call_2_3", name = "g", args = "{}" }, { n = 4, id = "call_2_4", name = "h h", args = "{}" } })
    equal(answer.wire[1], f)
    equal(json.decode(answer.wire[2]).functionCall, { id = "a_2", name = "f", args = {} })
    equal(json.decode(answer.wire[4]).functionCall, { name = "h_h", args = {} })
    equal(answer.usage.input, 1)
end)

case("T8 chunks that say nothing are idle, those with something are more", function()
    local target = wire.target "gemini"
    local reader = target.provider.reader(user(), {}, target, { status = 200, headers = {} })
    local function feed(data)
        return reader:event({ event = "message", data = data }, function() end)
    end
    equal(feed "", "idle")
    equal(feed '{"usageMetadata":{"promptTokenCount":3}}', "idle")
    equal(feed '{"candidates":[{"content":{"parts":[{"text":""}]}}]}', "idle")
    equal(feed '{"candidates":[{"content":{"parts":[{"text":"","thoughtSignature":"S"}]}}]}', "more")
    equal(feed '{"candidates":[{"content":{"parts":[{"text":"t","thought":true}]}}]}', "more")
    equal(feed '{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f"}}]}}]}', "more")
    equal(feed('{"candidates":[{"finishReason":"STOP"}]' .. USAGE .. "}"), "end")
end)

case("P6 the end is the chunk with its reason: nothing is read after it, without it the answer is broken", function()
    local a, b = chunk { '{"text":"a"}' }, chunk { '{"text":"b"}' }
    local answer, err, _, count = wire.streamed("gemini", a .. chunk({ '{"text":"z"}' }, STOP, USAGE) .. b, user())
    equal(err, nil)
    equal(count, 2)
    equal(answer.items[1].text, "az")
    -- a reason without usage may come with every chunk, and the usage after it
    answer = wire.streamed("gemini", chunk({ '{"text":"a"}' }, STOP) .. chunk({ '{"text":"b"}' }, STOP)
        .. 'data: {"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":"2"}}\n\n', user())
    equal(answer.items, { { type = "text", text = "ab" } })
    equal(answer.usage, { input = 7, output = 2, cached = 0, reasoning = 0, total = 9 })
    for _, text in ipairs { "", a, a .. b, chunk { '{"functionCall":{"name":"f"}}' }, ": ping\n\n",
        chunk({ '{"text":"a"}' }, ',"finishReason":""'), chunk({ '{"text":"a"}' }, ',"finishReason":"FINISH_REASON_UNSPECIFIED"') } do
        answer, err = wire.streamed("gemini", text, user())
        equal(answer, nil, text)
        equal({ err.code, err.retry }, { "network", true }, text)
    end
end)

case("P5 errors inside a stream: as an event, as a bare object, in an array", function()
    local e = '{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}'
    local a = chunk { '{"text":"a"}' }
    for _, text in ipairs { "data: " .. e .. "\n\n", a .. "data: " .. e .. "\n\n", "data: [" .. e .. "]\n\n", a .. e,
        a .. "[" .. e .. "\n]", e, "[" .. e .. "]", 'data: {"error":{"status":"UNAVAILABLE","message":"The model is overloaded."}}\n\n' } do
        local answer, err = wire.streamed("gemini", text, user())
        equal(answer, nil, text)
        equal({ err.code, err.retry, err.status, err.exit }, { "overloaded", true, 503, 75 }, text)
        has(err.message, "503 UNAVAILABLE: The model is overloaded")
    end
    local _, err = wire.streamed("gemini", 'data: {"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED",'
        .. '"details":[{"retryDelay":"1.5s"}]}}\n\n', user())
    equal({ err.code, err.after }, { "rate", 1.5 })
    _, err = wire.streamed("gemini", 'data: {"error":"out of order"}\n\n', user())
    has(err.message, "out of order")
    -- an error after the end changes nothing
    equal(wire.streamed("gemini", chunk({ '{"text":"a"}' }, STOP) .. e, user()).stop, "end")
end)

case("P6 what is no stream of this protocol is nonsense, a whole answer under its name is one", function()
    for _, text in ipairs { "data: {\n\n", 'data: "x"\n\n', "data: null\n\n", 'data: {"choices":[]}\n\n', "<html>\n</html>\n",
        "Bad gateway" } do
        local answer, err = wire.streamed("gemini", text, user())
        equal(answer, nil, text)
        equal({ err.code, err.exit }, { "nonsense", 76 }, text)
    end
    local parts = { '{"text":"a"}', '{"functionCall":{"name":"f"}}' }
    local answer, err, told = wire.streamed("gemini", whole(parts), user())
    equal(err, nil)
    check_told(told, answer)
    -- it has to say how it ended: it may be the first piece of a stream
    for _, reason in ipairs { "", ',"finishReason":null', ',"finishReason":"FINISH_REASON_UNSPECIFIED"' } do
        local text = whole(parts):gsub(STOP, reason)
        answer, err = wire.streamed("gemini", text, user())
        equal({ answer, err.code, err.retry }, { nil, "network", true }, text)
        ok(read(text), text) -- no stream was asked for: it is all there
    end
    answer, err, told = wire.streamed("gemini", whole(parts), user())
    equal(err, nil)
    -- a proxy that dropped alt=sse: all chunks in one array
    local stream = chunk { '{"text":"a"}' } .. chunk({ '{"functionCall":{"name":"f"}}' }, STOP)
    local array = "[" .. stream:gsub("\r\n\r\ndata: ", ",\r\n"):gsub("^data: ", ""):gsub("%s+$", "") .. "]"
    equal(read(array), answer)
    answer, err, told = wire.streamed("gemini", array, user())
    equal(err, nil)
    check_told(told, answer)
    equal(select(2, read((array:gsub(STOP, "")))).code, "network")
end)

case("P3 parts without sense are dropped, unknown ones kept", function()
    local text = chunk({ '{"text":7}', '{"text":["a"],"thought":true}', '{"functionCall":[]}', '{"functionCall":"f"}', '{"thought":true}',
        '{"thought":true,"text":null}', '{"thoughtSignature":"S"}', '{"inlineData":{"mimeType":"image/png","data":"aa=="}}',
        '{"newThing":{"list":[[],{}]}}' }, STOP)
    local answer = wire.streamed("gemini", text, user())
    equal(answer.wire, { '{"thoughtSignature":"S"}', '{"inlineData":{"mimeType":"image/png","data":"aa=="}}',
        '{"newThing":{"list":[[],{}]}}' })
    equal(#answer.items, 3)
end)

case("P2 letters that are broken become U+FFFD, the parts around them stay", function()
    local signed = '{"functionCall":{"name":"f","args":{"t":"\\ud83d"}},"thoughtSignature":"S\\/"}'
    local text = chunk { '{"text":"a\\ud83d"}' } .. chunk { '{"text":"\xc3"}' } .. chunk({ '{"text":"\xa4b"}', signed }, STOP)
    local answer, err = wire.streamed("gemini", text, user())
    equal(err, nil)
    equal(answer.items[1].text, "a\u{FFFD}\u{FFFD}\u{FFFD}b")
    equal(answer.wire[2], (signed:gsub("\\ud83d", "\\ufffd")))
    equal(read(whole({ '{"text":"a\xff"}' })).items[1].text, "a\u{FFFD}")
end)

case("only one candidate counts", function()
    local text = 'data: {"candidates":[{"index":0,"content":{"parts":[{"text":"a"}]}},{"index":1,"content":{"parts":[{"text":"X"}]}}]}\n\n'
        .. 'data: {"candidates":[{"index":1,"content":{"parts":[{"text":"Y"}]},"finishReason":"STOP"}]}\n\n'
        .. 'data: {"candidates":[{"content":{"parts":[{"text":"b"}]},"finishReason":"STOP"}]}\n\n'
    equal(wire.streamed("gemini", text, user()).items, { { type = "text", text = "ab" } })
end)

case("D11 arguments that are no object stay what they are, and go back in an object", function()
    local conv = user()
    local answer = wire.streamed("gemini", chunk({ '{"functionCall":{"name":"f","args":[]},"thoughtSignature":"S"}',
        '{"functionCall":{"name":"f","args":"{}"}}', '{"functionCall":{"name":"f","args":7}}' }, STOP), conv)
    equal({ answer.items[1].args, answer.items[2].args, answer.items[3].args }, { "[]", '"{}"', "7" })
    conv:append(answer)
    conv:append(wire.outcomes(answer, { { "error", "e" }, { "error", "e" }, { "error", "e" } }))
    local body = wire.request("gemini", conv)
    for i, args in ipairs { "[]", '"{}"', "7" } do
        equal(body.contents[2].parts[i].functionCall.args, { invalid_arguments = args })
    end
    equal(body.contents[2].parts[1].thoughtSignature, "S")
    local _, err = wire.streamed("gemini", chunk { '{"functionCall":{"name":"f","willContinue":true}}' }, user())
    equal(err.code, "nonsense")
    has(err.message, "streamFunctionCallArguments")
end)

case("P1 an answer in several requests is one answer, its usage their sum", function()
    local target = wire.target("gemini", { model = "gemini-3-pro" })
    local conv, view = user(), { tools = wire.tools() }
    local f = '{"functionCall":{"id":"a","name":"f"}}'
    local function share(text, begun)
        local reader = target.provider.reader(conv, view, target, { status = 200, headers = {} }, begun)
        local told = {}
        for data in text:gmatch "data: (.-)\r\n\r\n" do
            reader:event({ event = "message", data = data }, function(kind, fields)
                told[#told + 1] = { kind, fields }
            end)
        end
        local answer, err, more = reader:finish("", function() end)
        return answer, err, more, told
    end
    local cut = ',"finishReason":"CONTINUATION","continuationToken":"T%d"'
    local first = chunk({ '{"text":"long "}', f, '{"text":"on"}' }, cut:format(1), USAGE)
    local answer, err, begun = share(first)
    equal({ answer, err }, {})
    local plain = target.provider.request(conv, view, target, true)
    local request = target.provider.request(conv, view, target, true, begun)
    equal(request.url, plain.url)
    local body = json.decode(request.body)
    equal(body.continuationToken, "T1")
    body.continuationToken = nil
    equal(body, (json.decode(plain.body)))
    -- an attempt that fails leaves no trace
    equal(select(2, share(chunk { '{"text":" LOST"}', f }, begun)).code, "network")
    local second = chunk({ '{"text":" and on"}', f }, cut:format(2), USAGE)
    local again, told
    answer, err, again = share(second, begun)
    equal({ answer, err }, {})
    local last = chunk({ '{"text":"."}', f }, STOP, USAGE)
    answer, err, _, told = share(last, again)
    equal(err, nil)
    equal(told[2][2], { n = 3, id = "a_3", name = "f", args = "{}" })
    equal(answer.items[1].text, "long ")
    equal({ answer.items[2].id, answer.items[4].id, answer.items[6].id }, { "a", "a_2", "a_3" })
    equal(answer.items[3].text, "on and on")
    equal(answer.wire[3], '{"text":"on and on"}')
    equal(answer.usage, { input = 27, output = 6, cached = 0, reasoning = 0, total = 33 })
    equal(answer.stop, "calls")
    -- whole answers go the same way
    local function whole_share(text, from)
        local value = text:match "data: (.-)\r\n"
        return target.provider.read(wire.answer(value), conv, view, target, from)
    end
    local _, _, one = whole_share(first)
    local _, _, two = whole_share(second, one)
    equal((whole_share(last, two)), answer)
    -- a server that goes on for ever, or forgets the token, is not followed
    local from
    for _ = 1, 100 do
        answer, _, from = share(first, from)
        if answer then
            break
        end
    end
    equal(answer.stop, "length")
    equal(share(chunk({ '{"text":"a"}' }, ',"finishReason":"CONTINUATION"')).stop, "length")
end)

local TARGETS = { wire.target "gemini", wire.target "openai" }

case("D15 P1 whatever stands in a chunk, it is an answer that can go on or an error in words", function()
    local rich = [[{"candidates":[{"content":{"role":"model","parts":[{"text":"a","thought":true},
        {"text":"b","thoughtSignature":"S"},{"functionCall":{"id":"i","name":"f","args":{"n":1}},"thoughtSignature":"S"}]},
        "finishReason":"STOP","finishMessage":"m","continuationToken":"T","index":0}],"promptFeedback":{"blockReason":"X"},
        "usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":2,"thoughtsTokenCount":3,"cachedContentTokenCount":1,
        "toolUsePromptTokenCount":1,"totalTokenCount":9},"modelVersion":"v","responseId":"r",
        "error":null}]]
    local count = damage.each(rich, function(text)
        local conv = user()
        local stream = chunk { '{"text":"before"}' } .. "data: " .. text .. "\n\n" .. chunk({ '{"text":"after"}' }, STOP)
        local answer, err = wire.streamed("gemini", stream, conv)
        damage.check(conv, answer, err, TARGETS, text)
        answer, err = read(text)
        damage.check(user(), answer, err, TARGETS, text)
        read(text, 400)
    end)
    ok(count > 200, count)
end)

case("D15 P5 whatever stands in an error, it is an error in words", function()
    local rich = [[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED","details":[
        {"@type":"t","retryDelay":"3s"},{"retryDelay":{"seconds":1,"nanos":2}},{"reason":"R","metadata":{}},
        {"violations":[{"quotaId":"PerDay","quotaValue":"0"}]}]}}]]
    damage.each(rich, function(text)
        for _, status in ipairs { 200, 400, 404, 429, 500 } do
            local answer, err = read(text, status)
            equal(answer, nil, text)
            damage.check_error(err, text)
        end
        damage.check_error(select(2, wire.streamed("gemini", "data: " .. text .. "\n\n", user())), text)
    end)
end)

return t.main(...)
