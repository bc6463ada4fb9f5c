-- Streams of models from servers that mean no good, through all four protocols: each ends, soon, as an error
-- value, and takes no memory to speak of. tests/program/httpd.py plays the servers.
local json = require "lash.json"
local lash = require "lash"
local resident = require "support.resident"
local start_server = require "support.serve"
local stream = require "lash.provider.stream"
local t = require "t"
local wire = require "support.wire"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok

local PROTOCOLS = { "openai", "openai_chat", "gemini", "anthropic" }

-- What each says when it says: a word, nothing of the answer, the end; and what has to come before.
local WORDS = {
    openai = {
        begin = "",
        word = 'data: {"type":"response.output_text.delta","item_id":"m","output_index":0,"content_index":0,"delta":"word "}\n\n',
        idle = 'data: {"type":"response.in_progress"}\n\n',
        last = 'data: {"type":"response.completed","response":{"status":"completed","output":[{"type":"message","role":"assistant",'
            .. '"content":[{"type":"output_text","text":"word "}]}]}}\n\n',
    },
    openai_chat = {
        begin = "",
        word = 'data: {"choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}\n\n',
        idle = 'data: {"choices":[]}\n\n',
        last = 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
    },
    gemini = {
        begin = "",
        word = 'data: {"candidates":[{"content":{"parts":[{"text":"word "}]}}]}\n\n',
        idle = 'data: {"usageMetadata":{"promptTokenCount":1}}\n\n',
        last = 'data: {"candidates":[{"content":{"parts":[{"text":""}]},"finishReason":"STOP"}]}\n\n',
    },
    anthropic = {
        begin = 'data: {"type":"message_start","message":{"content":[],"usage":{}}}\n\n'
            .. 'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n',
        word = 'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"word "}}\n\n',
        idle = 'data: {"type":"ping"}\n\n',
        last = 'data: {"type":"content_block_stop","index":0}\n\n'
            .. 'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{}}\n\ndata: {"type":"message_stop"}\n\n',
    },
}

local HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
local CHUNKED = HEAD .. "Transfer-Encoding: chunked\r\n\r\n"
local END = "0\r\n\r\n"

local function chunk(text)
    return text == "" and "" or ("%x\r\n%s\r\n"):format(#text, text)
end

-- For ever, in pieces that are worth a packet.
local function endless(text)
    return { ["repeat"] = { chunk(text:rep(math.max(1, 16384 // #text))) } }
end

local base
local asked = 0

-- One attempt at what the server plays.
-- @return answer | nil, err; how many deltas were told
local function ask(name, steps, limits, question)
    base = base or start_server()
    local url = base .. "/deaf"
    if steps then
        asked = asked + 1
        local id = asked
        assert(lash.http.post(base .. "/keep/" .. id, { json = json.array(steps) }))
        url = base .. "/kept/" .. id
    end
    local target = wire.target(name, { base_url = url, shown_url = url, quirks = {}, headers = {} })
    local conv = wire.conversation { { type = "user", text = question or "x" } }
    local view = { agent = "a", settings = {} }
    local request = assert(target.provider.request(conv, view, target, true))
    local told = 0
    local answer, err = stream.answer(target, conv, view, request, limits or {}, function()
        told = told + 1
    end)
    if not answer then
        equal(type(err.message), "string")
        ok(#err.message < 2000, #err.message)
    end
    return answer, err, told
end

-- Calls check(name, words) for each protocol at once, with the limits of bytes of a stream and of an event.
local function each(check, body, event)
    local before, before_event = stream.MAX_BODY, stream.MAX_EVENT
    stream.MAX_BODY, stream.MAX_EVENT = body or before, event or before_event
    base = base or start_server()
    lash.map(PROTOCOLS, function(name) check(name, WORDS[name]) end, { raise = true })
    stream.MAX_BODY, stream.MAX_EVENT = before, before_event
end

local function fails(name, code, part, steps, limits, question)
    local answer, err, told = ask(name, steps, limits, question)
    equal({ name, answer, err and err.code }, { name, nil, code }, err and err.message)
    has(err.message, part)
    return told, err
end

case("an answer in order", function()
    each(function(name, words)
        local answer, err, told = ask(name, { CHUNKED, chunk(words.begin .. words.word .. words.last), END })
        equal({ name, err, told }, { name, nil, 1 })
        equal(answer.items[1].text, "word ")
    end)
end)

case("an answer without end", function()
    each(function(name, words)
        local told = fails(name, "nonsense", "2 MiB", { CHUNKED, chunk(words.begin), endless(words.word) })
        ok(told > 1000, told)
    end, 2 << 20)
end)

case("T8 comments, signs of life and lines of no sense without end: no event, however many bytes", function()
    local all = { ": alive\n\n", "nonsense\n", "data\n\n", "\n", "event: x\n\n", "id: 1\n" }
    local turn = 0
    each(function(name, words)
        turn = turn + 1
        local texts = t.part(all, turn, 3)
        lash.map(texts, function(text)
            fails(name, "timeout", "no event came", { CHUNKED, chunk(words.begin), endless(text) }, { event_timeout = 0.05 })
        end, { raise = true })
        local slow = { ["repeat"] = { chunk(words.idle), 0.01 } }
        fails(name, "timeout", "no event came", { CHUNKED, chunk(words.begin), slow }, { event_timeout = 0.05 })
    end)
end)

case("silence in the middle of a line, of a character, of a chunk, of the head", function()
    each(function(name, words)
        local never = { wait = "never" }
        local all = {
            { CHUNKED, chunk(words.begin .. words.word .. 'data: {"a'), never },
            { CHUNKED, (chunk(words.begin .. "data: \xe2\x82"):gsub("[\x80-\xff]", function(c) return utf8.char(c:byte()) end)), never },
            { CHUNKED, "1000\r\ndata: {", never },
            { HEAD, never },
            { never },
        }
        lash.map(all, function(steps) fails(name, "timeout", "", steps, { idle_timeout = 0.2 }) end, { raise = true })
    end)
end)

case("an event that is too large: in one line, in many, in its name", function()
    each(function(name, words)
        for _, text in ipairs { "x", "\ndata: xxxxxxx" } do
            for _, field in ipairs { "data: x", "event: x", "id: x", "nonsense" } do
                local _, err = fails(name, "nonsense", "an event of more than 65536 bytes",
                    { CHUNKED, chunk(words.begin .. field), endless(text) })
                equal(err.retry, false)
            end
        end
    end, nil, 64 << 10)
end)

case("a large event that is none too large", function()
    each(function(name, words)
        local long = ("word "):rep(200000)
        local steps = { CHUNKED, chunk(words.begin .. words.word:gsub("word ", long)), chunk(words.last:gsub("word ", long)), END }
        local answer, err = ask(name, steps)
        equal({ name, err }, { name, nil })
        equal(#answer.items[1].text, #long)
    end)
end)

case("packed bodies that are bombs", function()
    local before = resident()
    each(function(name)
        local target = wire.target(name, { base_url = base, shown_url = base })
        for _, kind in ipairs { "text/event-stream", "application/json" } do
            local answer, err = stream.answer(target, wire.conversation(), {},
                { url = base .. "/bomb?type=" .. kind, headers = {}, body = "{}" }, {}, function() end)
            equal({ name, answer, err and err.code }, { name, nil, "nonsense" })
            has(err.message, "4 MiB")
        end
    end, 4 << 20)
    if t.slower == 1 then -- what was freed is kept by those that watch
        ok(resident() - before < 64 << 20, resident() - before)
    end
end)

case("a server that reads nothing of a large request", function()
    local question = ("word "):rep(3 << 20)
    each(function(name)
        fails(name, "timeout", "", nil, { idle_timeout = 0.5 }, question)
    end)
end)

case("P6 lengths that are lies", function()
    each(function(name, words)
        local whole = words.begin .. words.word .. words.last
        local function with_length(length, text)
            return { HEAD .. ("Content-Length: %d\r\n\r\n"):format(length) .. text, json.null }
        end
        -- more than comes: the end marker was there, and nothing behind it is missed
        local answer, err = ask(name, with_length(#whole + 1000, whole))
        if name == "openai" or name == "anthropic" or name == "openai_chat" then
            equal({ name, err }, { name, nil })
            equal(answer.items[1].text, "word ")
        end
        for _, cut in ipairs { words.begin, words.begin .. words.word, words.begin .. words.word:sub(1, -3) } do
            fails(name, "network", "", with_length(#whole, cut))
            fails(name, "network", "", with_length(#cut, whole))
        end
    end)
end)

case("behind the end marker there is no end", function()
    each(function(name, words)
        local answer, err = ask(name, { CHUNKED, chunk(words.begin .. words.word .. words.last), endless ": more\n" },
            { event_timeout = name == "gemini" and 0.3 or 20 })
        if name == "gemini" then -- its last chunk is none for sure
            equal({ answer == nil, err and err.code }, { true, "timeout" })
        else
            equal({ name, err }, { name, nil })
        end
    end)
end)

case("an error that is no event, longer than anybody wants to read", function()
    each(function(name, words)
        local text = '{"error":{"message":"out of memory","code":500,"type":"server_error"}}\n'
        local _, err = fails(name, "overloaded", "out of memory", { CHUNKED, chunk(words.begin .. words.word), chunk(text), END })
        ok(err.exit == 75, err.exit)
        for _, stray in ipairs { ("x"):rep(100000) .. "\n", ("<p>\n"):rep(10000), '{"error":' .. ("["):rep(5000) } do
            fails(name, "network", "", { CHUNKED, chunk(words.begin .. words.word), chunk(stray), END })
        end
    end)
end)

case("calls that are never finished, beyond any number", function()
    local many = {
        openai = 'data: {"type":"response.output_item.added","output_index":%d,"item":'
            .. '{"type":"function_call","id":"f%d","call_id":"c%d","name":"f"}}\n\n',
        openai_chat = 'data: {"choices":[{"index":0,"delta":{"tool_calls":['
            .. '{"index":%d,"id":"c%d","function":{"name":"f","arguments":"{%d"}}]}}]}\n\n',
        gemini = 'data: {"candidates":[{"content":{"parts":['
            .. '{"functionCall":{"id":"c%d","name":"f","args":{"a":[%d,%d]}}}]}}]}\n\n',
        anthropic = 'data: {"type":"content_block_start","index":%d,"content_block":'
            .. '{"type":"tool_use","id":"c%d","name":"f","input":{"a":%d}}}\n\n',
    }
    each(function(name, words)
        local list = { words.begin }
        for i = 0, t.times(9999, 2999) do
            list[#list + 1] = many[name]:format(i, i, i)
        end
        local answer, err = ask(name, { CHUNKED, chunk(table.concat(list)), END })
        equal({ name, answer, err and err.code }, { name, nil, "network" })
    end)
end)

return t.main(...)
