-- Chat Completions: streams. What is told, how they end, errors in them, reasoning; and that a stream and a
-- whole answer give the same entry.
local chat = require "support.chat"
local fs = require "lash.fs"
local json = require "lash.json"
local t = require "t"
local wire = require "support.wire"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok
local QUIRKS = os.getenv "LASH_TESTS" .. "/fixtures/quirks/openai-chat/"

-- What was told of a kind, joined.
local function told_text(told, kind)
    local pieces = {}
    for _, one in ipairs(told) do
        if one[1] == kind then
            pieces[#pieces + 1] = one[2]
        end
    end
    return table.concat(pieces)
end

local function item_text(answer, kind)
    local pieces = {}
    for _, item in ipairs(answer.items) do
        if item.type == kind then
            pieces[#pieces + 1] = item.text
        end
    end
    return table.concat(pieces)
end

-- ---- fixtures ----

local STOPS = { ok = { calls = true, ["end"] = true }, truncated = { length = true }, refused = { refusal = true } }

local function check_call(item, want)
    equal(item.name, want.name)
    if want.id then
        equal(item.id, want.id)
    end
    local value, err = json.decode(item.args == "" and "{}" or item.args)
    if want.invalidArguments then
        ok(err, item.args)
    else
        equal(value, want.args)
    end
end

local function check_echo(answer, want)
    local conv = wire.conversation { { type = "user", text = "x" } }
    conv:append(answer)
    if want.calls[1] then
        local results = {}
        for i in ipairs(answer.items) do
            results[i] = "r"
        end
        conv:append(wire.outcomes(answer, results))
    end
    local body = chat.request(conv)
    for i, call in ipairs(want.calls) do
        local sent = body.messages[2].tool_calls[i]
        ok(json.decode(sent["function"].arguments), "arguments that go back are JSON")
        equal(body.messages[2 + i].tool_call_id, sent.id)
        for field, value in pairs(call.echo or {}) do
            equal(sent[field], value)
        end
    end
end

local function check_fixture(name)
    local want = assert(json.decode(assert(fs.read(QUIRKS .. name .. ".expected.json"))))
    local answer, err, told = chat.stream(assert(fs.read(QUIRKS .. name .. ".sse")), chat.VIEW)
    equal(told_text(told, "text"), want.text)
    equal(told_text(told, "reasoning"), want.reasoning or "")
    if want.outcome == "error" then
        equal(answer, nil)
        equal(err.retry, want.retryable)
        has(err.message, want.message)
        return
    end
    equal(err, nil)
    ok(STOPS[want.outcome][answer.stop], answer.stop)
    equal(item_text(answer, "text"), want.text)
    equal(item_text(answer, "reasoning"), want.reasoning or "")
    equal(item_text(answer, "refusal"), want.outcome == "refused" and want.message or "")
    local n, seen = 0, {}
    for _, item in ipairs(answer.items) do
        if item.type == "call" and item.complete ~= false then
            n = n + 1
            check_call(item, want.calls[n])
            ok(not seen[item.id])
            seen[item.id] = true
        end
    end
    equal(n, #want.calls)
    if want.outcome == "ok" then
        check_echo(answer, want)
    end
end

local count = 0
for _, entry in ipairs(fs.list(QUIRKS)) do
    local name = entry.name:match "^(.*)%.sse$"
    if name then
        count = count + 1
        case("P1 P3 P6 D9 D11 D13 a stream of the wild: " .. name, function()
            check_fixture(name)
        end)
    end
end
assert(count >= 16, "the fixtures are there")

-- ---- streamed and whole ----

-- Cuts a text into pieces of these lengths, over and over; inside of letters of several bytes never.
local function pieces(text, length)
    local list, at = {}, 1
    while at <= #text do
        local to = math.min(at + length - 1, #text)
        while to < #text and text:find("^[\x80-\xbf]", to + 1) do
            to = to + 1
        end
        list[#list + 1] = text:sub(at, to)
        at = to + 1
    end
    return list
end

-- A message as a stream, its texts in pieces.
local function streamed(message, length, reason, usage)
    local chunks = { chat.chunk { role = "assistant", content = "" } }
    for _, field in ipairs { "reasoning_content", "reasoning", "content", "refusal" } do
        for _, piece in ipairs(type(message[field]) == "string" and pieces(message[field], length) or {}) do
            chunks[#chunks + 1] = chat.chunk { [field] = piece }
        end
    end
    for name, value in pairs(message) do
        if type(value) == "table" and name ~= "tool_calls" then
            chunks[#chunks + 1] = chat.chunk { [name] = value }
        end
    end
    for i, call in ipairs(message.tool_calls or {}) do
        local f = call["function"]
        chunks[#chunks + 1] = chat.chunk { tool_calls = json.array { { index = i - 1, id = call.id, type = "function",
            extra_content = call.extra_content, ["function"] = { name = f.name, arguments = "" } } } }
        for _, piece in ipairs(pieces(f.arguments, length)) do
            chunks[#chunks + 1] = chat.chunk { tool_calls = json.array { chat.entry(i - 1, nil, nil, piece) } }
        end
    end
    chunks[#chunks + 1] = chat.chunk({}, reason)
    chunks[#chunks + 1] = wire.encode { choices = json.array {}, usage = usage }
    return chunks
end

case("P1 P2 a stream in pieces of any length gives the entry of the whole answer, and tells all of it", function()
    local usage = { prompt_tokens = 9, completion_tokens = 5, total_tokens = 14, prompt_tokens_details = { cached_tokens = 4 },
        completion_tokens_details = { reasoning_tokens = 2 } }
    local calls = json.array { chat.call("a", "f", '{"text":"\\"}{ \\\\ São"}'), chat.call("b", "g", ""),
        chat.call("c", "f", '{"n":9007199254740993}') }
    calls[1].extra_content = { google = { thought_signature = "c2ln" } }
    for _, message in ipairs {
        { content = "Hello, São Paulo." },
        { content = "<think>\n why? </th </think>\n\nHello" },
        { content = "\n <think> never ends, São  </thin" },
        { content = "<thin" }, { content = "a <think>no</think>" }, { content = "<think></think>x" },
        { content = "Hi", reasoning_content = "hm, hm", tool_calls = calls },
        { reasoning = "hm", reasoning_details = json.array { { type = "reasoning.encrypted", data = "x", index = 0 } },
            tool_calls = calls },
        { content = "", refusal = "I cannot." },
        { content = json.null, unknown_field = { a = json.array {}, b = 1.0 }, tool_calls = calls },
    } do
        local whole = assert(chat.read(chat.message(message, "stop", { usage = usage })))
        for _, length in ipairs { 1, 2, 3, 7, 1000 } do
            local answer, _, told = chat.stream(streamed(message, length, "stop", usage))
            equal(answer, whole)
            equal(told_text(told, "text"), item_text(whole, "text"))
            equal(told_text(told, "reasoning"), item_text(whole, "reasoning"))
        end
    end
end)

-- ---- reasoning ----

case("<think> at the beginning is reasoning, but not at api.openai.com and not by wish", function()
    local function read(content, fields)
        local answer = assert(chat.read(chat.message { content = content }, nil, fields))
        return item_text(answer, "reasoning"), item_text(answer, "text")
    end
    local text = "<think>\nhm\n</think>\n\nHi </think>"
    equal({ read(text) }, { "hm", "Hi </think>" })
    equal({ read(text, { base_url = "https://api.openai.com/v1" }) }, { "", text })
    equal({ read(text, { quirks = { think = false } }) }, { "", text })
    equal({ read(text, { base_url = "https://api.openai.com/v1", quirks = { think = true } }) }, { "hm", "Hi </think>" })
    equal({ read((" "):rep(300) .. text) }, { "", (" "):rep(300) .. text })
    equal({ read "  Hi" }, { "", "  Hi" })
end)

case("reasoning comes under several names, and is told once", function()
    local chunks = { chat.chunk { reasoning = "a", reasoning_content = "a", reasoning_details = json.array {
        { type = "reasoning.text", text = "a", index = 0 } } }, chat.chunk { reasoning = "b", reasoning_content = "b" },
        chat.chunk { content = "Hi" }, chat.chunk({}, "stop") }
    local answer, _, told = chat.stream(chunks)
    equal(answer.items, { { type = "reasoning", text = "ab" }, { type = "text", text = "Hi" } })
    equal(told_text(told, "reasoning"), "ab")
    answer = assert(chat.stream { chat.chunk { reasoning_details = json.array { { type = "reasoning.summary", summary = "s" },
        { type = "reasoning.encrypted", data = "x" }, 7 } }, chat.chunk({ content = "Hi" }, "stop") })
    equal(answer.items[1], { type = "reasoning", text = "s" })
    -- Mistral's parts, Google's marks
    answer = assert(chat.read(chat.message { content = json.array { { type = "thinking", thinking = json.array {
        { type = "text", text = "t" } } }, { type = "text", text = "Hi" }, { type = "refusal", refusal = "no" }, "!" } }))
    equal(answer.items, { { type = "reasoning", text = "t" }, { type = "text", text = "Hi!" },
        { type = "refusal", text = "no" } })
    answer = assert(chat.stream { chat.chunk { content = "<thought>t", extra_content = { google = { thought = true } } },
        chat.chunk { content = "Hi", extra_content = { google = { thought_signature = "s" } } }, chat.chunk({}, "stop") })
    equal(answer.items, { { type = "reasoning", text = "t" }, { type = "text", text = "Hi" } })
    equal(answer.wire.fields, { extra_content = '{"google":{"thought_signature":"s"}}' })
end)

case("P3 reasoning_content goes back for the calls that are being answered, and not later", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local function round(field)
        local answer = chat.hear(conv, chat.message { [field] = "hm", content = "c",
            tool_calls = json.array { chat.call(nil, "f", "{}") } })
        conv:append(wire.outcomes(answer, { "1" }))
    end
    round "reasoning_content"
    round "reasoning"
    local body = chat.request(conv)
    equal({ body.messages[2].reasoning_content, body.messages[2].reasoning }, { "hm" })
    equal({ body.messages[4].reasoning_content, body.messages[4].reasoning }, { nil, "hm" })
    equal(chat.request(conv, {}, { origin = "https://other/v1" }).messages[2].reasoning_content, nil)
    equal(chat.request(conv, {}, { base_url = "https://api.openai.com/v1" }).messages[2].reasoning_content, nil)
    chat.hear(conv, chat.message { content = "done", reasoning_content = "hm" })
    equal(chat.request(conv).messages[6], { role = "assistant", content = "done" })
    conv:append { type = "user", text = "y" }
    body = chat.request(conv)
    for i = 2, 6, 2 do
        equal({ body.messages[i].reasoning_content, body.messages[i].reasoning }, {})
    end
end)

case("P3 reasoning_details go back always, in order, as they came; pieces of one become one", function()
    local function detail(kind, index, fields)
        fields.type, fields.index = kind, index
        return json.array { fields }
    end
    local conv = wire.conversation { { type = "user", text = "x" } }
    local answer = assert(chat.stream {
        chat.chunk { reasoning = "a", reasoning_details = detail("reasoning.text", 0, { text = "a", format = "x" }) },
        chat.chunk { reasoning = "a", reasoning_details = detail("reasoning.text", 0, { text = "a" }) },
        chat.chunk { reasoning_details = detail("reasoning.text", 0, { signature = "S", text = json.null }) },
        '{"choices":[{"index":0,"delta":{"reasoning_details":[{"type":"reasoning.encrypted","index":1,"data":"E" ,"n":1.0}]}}]}',
        chat.chunk { reasoning_details = detail("reasoning.text", 2, { text = "b" }) },
        chat.chunk({ tool_calls = json.array { chat.entry(0, "a", "f", "{}") } }, "tool_calls") })
    conv:append(answer)
    conv:append(wire.outcomes(answer, { "1" }))
    conv:append { type = "user", text = "y" }
    local _, request = chat.request(conv)
    has(request.body, '"reasoning_details":[{"format":"x","index":0,"signature":"S","text":"aa","type":"reasoning.text"},'
        .. '{"type":"reasoning.encrypted","index":1,"data":"E" ,"n":1.0},{"index":2,"text":"b","type":"reasoning.text"}]')
    ok(not request.body:find '"reasoning":')
end)

case("P3 unknown fields that come in pieces are one field", function()
    local answer = assert(chat.stream {
        chat.chunk { s = "a", same = "v", list = json.array { 1 }, o = { x = "p", y = json.array {} }, mixed = 1 },
        chat.chunk { s = "b", same = "v", list = json.array { { z = 1.0 } }, o = { x = "q", w = 2 }, mixed = "x" },
        chat.chunk({ s = json.null }, "stop") })
    equal(answer.wire.fields, { s = '"ab"', same = '"v"', list = '[1,{"z":1.0}]', mixed = '"x"',
        o = '{"w":2,"x":"pq","y":[]}' })
end)

-- ---- ends ----

case("P6 a stream ends with [DONE], or where it broke off after a finish_reason; else nothing of it counts", function()
    local text, last = chat.chunk { content = "Hi" }, chat.chunk({}, "stop")
    equal(assert(chat.stream(chat.sse { text, last })).stop, "end")
    equal(assert(chat.stream(chat.sse({ text, last }, true))).stop, "end")
    equal(assert(chat.stream(chat.sse { text })).stop, "end")
    for _, open in ipairs { { text }, {}, { chat.chunk({ content = "Hi" }, "") },
        { chat.chunk { tool_calls = json.array { chat.entry(0, "a", "f", "{}") } } } } do
        local answer, err, told = chat.stream(chat.sse(open, true))
        equal(answer, nil)
        equal({ err.code, err.exit, err.retry }, { "network", 75, true })
        for _, one in ipairs(told) do
            ok(one[1] ~= "call.ready")
        end
    end
    for _, list in ipairs { {}, { chat.chunk { role = "assistant", content = "" } } } do
        local answer, err = chat.stream(chat.sse(list))
        equal(answer, nil)
        equal({ err.code, err.retry }, { "network", true })
    end
end)

case("finish_reason: calls are calls whatever it says", function()
    local function stop(reason, calls)
        local message = { content = calls and json.null or "Hi", tool_calls = calls and json.array { chat.call("a", "f", "{}") } }
        local whole = chat.read(chat.message(message, reason))
        local answer = chat.stream(chat.sse { chat.chunk(calls and { tool_calls = json.array { chat.entry(0, "a", "f", "{}") } }
            or { content = "Hi" }), chat.chunk({}, reason) })
        equal(answer and answer.stop, whole and whole.stop)
        return whole and whole.stop
    end
    for _, reason in ipairs { "stop", "tool_calls", "function_call", "eos", "", json.null, "odd" } do
        equal(stop(reason, true), "calls")
        equal(stop(reason, false), "end")
    end
    for reason, want in pairs { length = "length", max_tokens = "length", content_filter = "filter",
        ["content_filter: SAFETY"] = "filter", LENGTH = "length" } do
        equal(stop(reason, true), want)
        equal(stop(reason, false), want)
    end
    for _, reason in ipairs { "error", "insufficient_system_resource", "abort", "function_call_filter: MALFORMED" } do
        equal(stop(reason, true), nil)
        local _, err = chat.read(chat.message({ content = "Hi" }, reason))
        equal({ err.code, err.retry }, { "overloaded", true })
        has(err.message, reason)
    end
end)

case("usage is kept from any chunk: the last, at any place; odd counts are understood", function()
    local function usage(...)
        local chunks = { chat.chunk { content = "Hi" }, ... }
        chunks[#chunks + 1] = chat.chunk({}, "stop")
        return assert(chat.stream(chunks)).usage
    end
    local one = { prompt_tokens = 1, completion_tokens = 2, total_tokens = 3 }
    local want = { input = 1, output = 2, cached = 0, reasoning = 0, total = 3 }
    equal(usage(), { input = 0, output = 0, cached = 0, reasoning = 0, total = 0 })
    equal(usage(wire.encode { choices = json.array {}, usage = one }), want)
    equal(usage(wire.encode { usage = one }, wire.encode { usage = json.null }), want)
    equal(usage(wire.encode { usage = { prompt_tokens = 9 } }, wire.encode { usage = one }), want)
    equal(usage(wire.encode { choices = json.array { { index = 0, delta = {}, usage = one } } }), want)
    equal(usage(wire.encode { choices = json.array {}, x_groq = { usage = one } }), want)
    equal(usage(wire.encode { usage = { prompt_tokens = 1, completion_tokens = 2 } }), want)
    equal(usage(wire.encode { usage = { prompt_tokens = 10, completion_tokens = 2, total_tokens = 17,
        completion_tokens_details = { reasoning_tokens = 5 }, prompt_tokens_details = { cached_tokens = 3,
            cache_write_tokens = 4 } } }),
        { input = 10, output = 7, cached = 3, reasoning = 5, total = 17, cache_write = 4 })
    equal(usage(wire.encode { usage = { prompt_tokens = 10, completion_tokens = 2, prompt_cache_hit_tokens = 8 } }).cached, 8)
    equal(usage(wire.encode { usage = { prompt_tokens = -1, completion_tokens = "x", prompt_tokens_details = 7 } }),
        { input = 0, output = 0, cached = 0, reasoning = 0, total = 0 })
end)

case("T8 what says nothing of the answer is idle", function()
    local reader = chat.target().provider.reader(wire.conversation(), {}, chat.target(), { status = 200, headers = {} })
    local function what(data)
        return assert(reader:event({ event = "message", data = data }, function() end))
    end
    equal(what '{"id":"c","choices":[]}', "idle")
    equal(what '{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}', "idle")
    equal(what(chat.chunk { role = "assistant", content = "" }), "idle")
    equal(what(chat.chunk {}), "idle")
    equal(what "", "idle")
    equal(what(chat.chunk { content = "Hi" }), "more")
    equal(what(chat.chunk { reasoning = "Hi" }), "more")
    equal(what(chat.chunk { tool_calls = json.array { chat.entry(0, "a", "f", "") } }), "more")
    equal(what(chat.chunk({}, "stop")), "more")
    equal(what '{"usage":{"prompt_tokens":1}}', "more")
    equal(what "[DONE]", "end")
end)

case("letters that are broken become U+FFFD, the rest of the answer stays", function()
    local function text(data)
        local stream = assert(chat.stream { ('{"choices":[{"index":0,"delta":{"content":"%s"}}]}'):format(data),
            chat.chunk({}, "stop") })
        local whole = assert(chat.read(('{"choices":[{"index":0,"message":{"content":"%s"}}]}'):format(data)))
        equal(whole.items, stream.items)
        return stream.items[1].text
    end
    equal(text "S\xc3", "S\u{FFFD}")
    equal(text "\xff\xfeS\xe3\x81o", "\u{FFFD}\u{FFFD}S\u{FFFD}\u{FFFD}o")
    equal(text [[a\ud83d\ude00b]], "a\u{1F600}b")
    equal(text [[a\ud83d]], "a\u{FFFD}")
    equal(text [[\ude00b\uD83D\n]], "\u{FFFD}b\u{FFFD}\n")
    equal(text [[\ud83d\ud83d\ude00\\ud83d]], "\u{FFFD}\u{1F600}\\ud83d")
    local answer = assert(chat.stream { '{"choices":[{"index":0,"delta":{"odd":"\xff","tool_calls":[{"id":"a","function":'
        .. '{"name":"f","arguments":{"a":"\xff"}}}]}}]}', chat.chunk({}, "stop") })
    equal({ answer.items[1].args, answer.wire.fields.odd }, { '{"a":"\u{FFFD}"}', '"\u{FFFD}"' })
    local _, err = chat.stream { '{"choices":[{"index":0,"delta":{"tool\xffcalls":[]},"finish_reason":"stop"}]}' }
    equal(err.code, "nonsense")
end)

-- ---- errors in a stream ----

case("errors inside a stream: as an event, beside choices, as a bare line", function()
    local hi = chat.chunk { content = "Hi" }
    local function err_of(text, retry)
        local answer, err, told = chat.stream(text)
        equal(answer, nil)
        equal(told_text(told, "text"), "Hi")
        equal(err.retry, retry)
        return err
    end
    has(err_of(chat.sse { hi, '{"error":{"message":"upstream died","type":"server_error","code":502}}' }, true).message,
        "upstream died")
    local err = err_of(chat.sse { hi, '{"error":{"message":"This request exceeds the context window","code":400}}' }, false)
    equal(err.code, "context")
    equal(err_of(chat.sse({ hi, '{"error":"model runner has unexpectedly stopped"}' }, true), true).code, "overloaded")
    equal(err_of(chat.sse { hi, '{"object":"error","message":"m","type":"BadRequestError","code":400}' }, false).code, "bad_request")
    equal(err_of(chat.sse { hi, '{"error":{"message":"m","type":"invalid_request_error"}}' }, false).code, "bad_request")
    equal(err_of(chat.sse { hi, '{"choices":[{"index":0,"delta":{},"error":{"code":429,"message":"m"}}]}' }, true).code, "rate")
    equal(err_of(chat.sse { hi, '{"detail":"m"}' }, true).code, "overloaded")
    equal(err_of(chat.sse({ hi }, true) .. '{"error":"ran out of memory"}\n', true).code, "overloaded")
    has(err_of(chat.sse({ hi }, true) .. 'error: {"code":500,"message":"slot is gone","type":"server_error"}\n\n', true).message,
        "slot is gone")
    has(err_of(chat.sse({ hi, chat.chunk({}, "stop") }, true) .. '{"error":"late"}\n', true).message, "late")
    has(err_of(chat.sse({ hi }, true) .. "event: error\ndata: out of words\n\n", true).message, "out of words")
    has(err_of(chat.sse({ hi }, true) .. 'event: error\ndata: {"code":503,"message":"m"}\n\n', true).message, "m")
    equal(err_of(chat.sse({ hi }, true) .. "no event at all\n", true).code, "network")
    equal(err_of(chat.sse { hi, "{not json" }, false).code, "nonsense")
    equal(err_of(chat.sse { hi, "[1]" }, false).code, "nonsense")
    -- none of these is an error
    for _, text in ipairs { '{"error":null,"choices":[]}', '{"error":{},"choices":[]}', '{"error":"","choices":[]}',
        '{"error":false,"choices":[]}' } do
        ok(chat.stream { hi, text, chat.chunk({}, "stop") }, text)
    end
end)

case("only the first of several choices counts", function()
    local answer = assert(chat.stream { '{"choices":[{"index":1,"delta":{"content":"no"}},{"index":0,"delta":{"content":"yes"}}]}',
        chat.chunk({}, "stop") })
    equal(answer.items, { { type = "text", text = "yes" } })
end)

return t.main(...)
