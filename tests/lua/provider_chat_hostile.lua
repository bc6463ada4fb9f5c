-- Chat Completions against servers that send anything: nothing raises, every answer is an answer and every
-- failure an error value, what was told is in order, and the answer can be sent back.
local chat = require "support.chat"
local damage = require "support.damage"
local json = require "lash.json"
local provider = require "lash.provider.openai_chat"
local t = require "t"
local wire = require "support.wire"

local case, equal, ok = t.case, t.equal, t.ok

local CHUNKS = {
    '{"id":"c","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}]}',
    '{"choices":[{"index":0,"delta":{"reasoning_content":"hm","reasoning":"hm","reasoning_details":[{"type":"reasoning.text",'
        .. '"index":0,"text":"hm"}]}}]}',
    '{"choices":[{"index":0,"delta":{"reasoning_details":[{"type":"reasoning.text","index":0,"text":"x","signature":"S"}]}}]}',
    '{"choices":[{"index":0,"delta":{"content":"Hi","extra_content":{"google":{"thought":true}},"odd":{"a":["b"]}}}]}',
    '{"choices":[{"index":0,"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"t"}]},'
        .. '{"type":"text","text":"Hi"}],"odd":{"a":["c"],"d":1}}}]}',
    '{"choices":[{"index":0,"delta":{"refusal":"no","tool_calls":[{"index":0,"id":"a","type":"function","extra_content":{"x":1},'
        .. '"function":{"name":"f","arguments":"{\\"i\\":","odd":1}}]}}]}',
    '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"extra_content":{"y":1},"function":{"arguments":"1}"}},'
        .. '{"index":1,"id":"b","function":{"name":"f","arguments":{"i":2}}}]}}]}',
    '{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi","tool_calls":[{"id":"a","function":{"name":"f",'
        .. '"arguments":"{}"}}]},"finish_reason":"tool_calls"}]}',
    '{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13,"prompt_tokens_details":{"cached_tokens":5,'
        .. '"cache_write_tokens":1},"completion_tokens_details":{"reasoning_tokens":2}},"x_groq":{"usage":{}}}',
}

local WHOLE = '{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"<think>t</think>Hi",'
    .. '"refusal":"no","reasoning":"hm","reasoning_details":[{"type":"reasoning.summary","summary":"s"}],"odd":[1],"tool_calls":['
    .. '{"id":"a","type":"function","extra_content":{"x":[]},"function":{"name":"f","arguments":"{\\"i\\":1}"}},'
    .. '{"id":"a","type":"function","function":{"name":"f","arguments":"{"}}]},"finish_reason":"length"}],'
    .. '"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13,"prompt_tokens_details":{"cached_tokens":5}}}'

local ERROR = '{"error":{"message":"m","type":"t","code":"c","param":"p","metadata":{"raw":"r","provider_name":"n"},'
    .. '"details":[{"retryDelay":"3s"}]},"message":"m","object":"error","detail":[{"loc":["body"],"msg":"m"}]}'

local MODELS = '{"data":[{"id":"m","name":"n","context_length":1,"meta":{"n_ctx":2},"top_provider":{"max_completion_tokens":3}}]}'

local TARGETS = { chat.target(), chat.target { origin = "elsewhere" }, chat.target { quirks = { ids = 9, content_null = "" } } }

-- No two calls of an answer have one id: results go to the server by ids alone.
local function check(conv, answer, err, what)
    local seen = {}
    for _, item in ipairs(answer and answer.items or {}) do
        ok(item.type ~= "opaque" and (item.name or item.text) ~= "" and not (item.id and seen[item.id]), what)
        seen[item.id or item] = true
    end
    for _, body in ipairs(damage.check(conv, answer, err, TARGETS, what) or {}) do
        for _, call in ipairs(body.messages[2] and body.messages[2].tool_calls or {}) do
            equal(type(json.decode(call["function"].arguments)), "table", what)
        end
    end
end

local function read_stream(list, what)
    local conv = wire.conversation { { type = "user", text = "x" } }
    local reader = provider.reader(conv, { tools = { { name = "f" } } }, chat.target(), { status = 200, headers = {} })
    local said, calls = "", {}
    local function tell(kind, fields)
        if kind == "call.ready" then
            ok(fields.n > #calls, what)
            calls[fields.n] = fields
        else
            ok((kind == "text" or kind == "reasoning") and type(fields) == "string" and fields ~= "", what)
            said = kind == "text" and said .. fields or said
        end
    end
    for _, data in ipairs(list) do
        local result, err = reader:event({ event = "message", data = data }, tell)
        if not result then
            return damage.check_error(err, what)
        end
    end
    local answer, err = reader:finish("", tell)
    check(conv, answer, err, what)
    for _, item in ipairs(answer and answer.items or {}) do
        if item.type == "text" then
            equal(said, item.text, what)
        end
    end
end

case("P1 no field of a chunk can be so wrong that the reader raises", function()
    local count = 0
    for i, chunk in ipairs(CHUNKS) do
        count = count + damage.each(chunk, function(text, what)
            local list = table.move(CHUNKS, 1, #CHUNKS, 1, {})
            list[i] = text
            list[#list + 1] = "[DONE]"
            read_stream(list, ("chunk %d, %s"):format(i, what))
        end)
    end
    ok(count > t.times(2000, 600), count)
end)

case("P1 chunks that are lost, come twice or in another order do no harm", function()
    for i = 1, #CHUNKS do
        for j = 1, #CHUNKS do
            local list = table.move(CHUNKS, 1, #CHUNKS, 1, {})
            list[i], list[j] = list[j], list[i]
            read_stream(list, ("%d and %d changed"):format(i, j))
            table.insert(list, j, list[i])
            read_stream(list, ("%d again at %d"):format(i, j))
            table.remove(list, i)
            read_stream(list, ("%d lost"):format(i))
        end
    end
end)

case("no field of a whole answer can be so wrong that it raises", function()
    damage.each(WHOLE, function(text, what)
        local conv = wire.conversation { { type = "user", text = "x" } }
        local answer, err = chat.read(text, {}, {}, conv)
        check(conv, answer, err, what)
    end)
end)

case("no field of an error can be so wrong that it raises", function()
    damage.each(ERROR, function(text, what)
        for _, status in ipairs { 200, 400, 404, 429, 503 } do
            local answer, err = chat.read(text, {}, {}, nil, { status = status })
            equal(answer, nil, what)
            damage.check_error(err, what)
        end
        local _, err = chat.stream { chat.chunk { content = "x" }, text }
        ok(err == nil or type(err.message) == "string", what)
    end)
end)

case("no field of a list of models can be so wrong that it raises", function()
    damage.each(MODELS, function(text, what)
        local value = json.decode(text)
        local list, err = provider.read_models(value, chat.target())
        for _, one in ipairs(list or {}) do
            equal(type(one.id), "string", what)
        end
        ok(list or type(err.message) == "string", what)
    end)
end)

case("J3 what is nested too deep or has too much in it is an error, or goes back as it came", function()
    local deep = ("["):rep(400) .. ("]"):rep(400)
    local conv = wire.conversation { { type = "user", text = "x" } }
    local answer, err = chat.read('{"choices":[{"index":0,"message":{"content":"x","odd":' .. deep .. "}}]}", {}, {}, conv)
    check(conv, answer, err, "deep")
    local _, failed = chat.read('{"choices":[{"index":0,"message":{"content":"x","odd":' .. ("["):rep(600) .. ("]"):rep(600) .. "}}]}")
    equal(failed.code, "nonsense")
    answer = assert(chat.stream { '{"choices":[{"index":0,"delta":{"odd":' .. deep .. "}}]}",
        '{"choices":[{"index":0,"delta":{"odd":' .. deep .. '},"finish_reason":"stop"}]}' })
    ok(json.decode(answer.wire.fields.odd))
    local args = ('{"a":'):rep(200) .. "1" .. ("}"):rep(200)
    conv = wire.conversation { { type = "user", text = "x" } }
    answer = chat.hear(conv, chat.message { tool_calls = json.array { chat.call("a", "f", args) } })
    equal(answer.items[1].args, args)
    conv:append(wire.outcomes(answer, { "1" }))
    equal(chat.request(conv).messages[2].tool_calls[1]["function"].arguments, "{}") -- too deep for servers
end)

return t.main(...)
