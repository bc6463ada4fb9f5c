-- An ordinary answer of the Responses protocol is read in one pass by the core: the same entry as of the way that all
-- others take.
local answers = require "lash.provider.openai.answer"
local core = require "lash.core.plain"
local openai = require "lash.provider.openai"
local random = require "support.answers"
local t = require "t"
local wire = require "support.wire"

local case, equal = t.case, t.equal
local plain = answers.plain

local pick, some, object, broken = random.pick, random.some, random.object, random.broken
local shown = random.shown

local function part(kind, text)
    return some("[" .. object { { "type", '"' .. kind .. '"' }, { "annotations", "[]" }, { "text", text } } .. "]",
        "[]", "null", '"said"', "{}", '[{"type":"refusal","refusal":"no"}]', "[1]",
        '[{"type":"' .. kind .. '","text":"a"},{"type":"' .. kind .. '","text":"b"}]')
end

local function text()
    return some('"All looked \\u00fcp.\\n"', '""', "7", "null")
end

local function call(n)
    return object {
        { "id", '"fc"' },
        { "type", some('"function_call"', '"call"', '"function\\u005fcall"') },
        { "status", some('"completed"', '"incomplete"', "null", '"in_progress"') },
        { "arguments", some('"{\\"n\\":1}"', '"{}"', '"[1]"', '""', '"{\\"n\\":"', '{"n":1}', "null",
            ('"%s1%s"'):format(("{\\\"a\\\":"):rep(70), ("}"):rep(70))) },
        { "call_id", some(('"call_%d"'):format(n), '"call_1"', '"old"', '"call_x2_1"', '""', "null", '"a\\u0062"',
            '"' .. ("i"):rep(70) .. '"') },
        { "name", some('"noop"', '"parallel"', '"a b"', '""', "null", '"n\\u006f"', '"' .. ("n"):rep(70) .. '"') },
        { pick { "namespace", "namespace", "caller", "created_by", "parsed_arguments" },
            pick { "null", '{"type":"direct"}', '{"type":"program","id":"x"}' } },
    }
end

local function reasoning()
    return object { { "type", '"reasoning"' }, { "id", '"rs"' },
        { "summary", some("[]", part("summary_text", text())) },
        { "content", some("null", part("reasoning_text", text())) },
        { "encrypted_content", some('"gAAA=="', "null", '""') } }
end

local function message()
    return object { { "type", '"message"' }, { "role", '"assistant"' },
        { "phase", some('"final_answer"', "null", '""', "1") }, { "content", part("output_text", text()) },
        { pick { "x", "parsed" }, "null" } }
end

local function output()
    local items = {}
    if math.random(2) == 1 then
        items[1] = reasoning()
    end
    for i = 1, pick { 0, 1, 3 } do
        items[#items + 1] = call(i)
    end
    if math.random(2) == 1 then
        items[#items + 1] = some(message(), reasoning(), '{"type":"web_search_call"}', "3")
    end
    return some("[" .. table.concat(items, some(",", ",\n  ", " ,", " ,\t")) .. "]", "null", "[]", "[\n" ..
        table.concat(items, ", ") .. " ]")
end

local function number()
    return some("17", "0", "-1", "1.0", '"12"', "null", "9223372036854775807", "18446744073709551616")
end

local function usage()
    return some(object { { "input_tokens", number() }, { "output_tokens", number() }, { "total_tokens", number() },
        { "input_tokens_details", some(object { { "cached_tokens", number() },
            { "cache_write_tokens", number() } }, "null", "[]") },
        { "output_tokens_details", some(object { { "reasoning_tokens", number() } }, "null") } }, "null", "[]", "3")
end

local function response()
    return object {
        { "id", '"resp"' },
        { "status", some('"completed"', '"incomplete"', '"failed"', "null", '"x"') },
        { "error", some("null", '{"code":"server_error","message":"sorry"}', '"sorry"') },
        { "incomplete_details", some("null", '{"reason":"content_filter"}') },
        { "output", output() },
        { "usage", usage() },
    }
end

local VIEW = { tools = { { name = "noop" } } }

-- A conversation in which an id is taken, and another one was made for a call of another provider.
local function conversation(target)
    local conv = random.conversation()
    assert(openai.request(conv, VIEW, target, false))
    return conv
end

case("P1 an ordinary answer is read as all others are", function()
    local target = wire.target "openai"
    local count, read = 0, 0
    answers.plain = function(...)
        local answer = plain(...)
        count = count + (answer and 1 or 0)
        return answer
    end
    for _ = 1, 3000 do
        local res = wire.answer(broken(response()), 200, { ["x-request-id"] = "r1" })
        local fast = shown(openai.read(res, conversation(target), VIEW, target))
        answers.plain = function() end
        local slow = shown(openai.read(res, conversation(target), VIEW, target))
        answers.plain = function(...)
            local answer = plain(...)
            count = count + (answer and 1 or 0)
            return answer
        end
        equal(fast, slow, res.body)
        read = read + (slow:sub(1, 3) ~= "nil" and 1 or 0)
    end
    answers.plain = plain
    assert(count > 200 and read > count + 200, count .. " " .. read)
end)

case("P1 the event that completes a stream is read as a reader does", function()
    local target = wire.target "openai"
    local count = 0
    for _ = 1, 2000 do
        local data = broken(object { { "type", some('"response.completed"', '"response.incomplete"', '"x"') },
            { "sequence_number", "7" }, { "response", response() }, { pick { "x", "error" }, some("null", '"bad"') } })
        local res = { status = 200, headers = {} }
        local fast = plain(target, conversation(target), { call_x2_1 = true }, data, true)
        if fast then
            count = count + 1
            local reader = openai.reader(conversation(target), VIEW, target, res)
            equal(reader:event({ event = "response.completed", data = data }, function() end), "end", data)
            equal(shown(fast), shown(reader:finish("", function() end)), data)
        end
    end
    assert(count > 60, count)
end)

case("what is no text, or too long, is not read so", function()
    t.raises("string expected", core.responses, nil, {})
    t.raises("table expected", core.responses, "{}")
    t.raises("table expected", core.responses, "{}", {}, 7)
    equal(core.responses("", {}), nil)
    local long = '{"x":"' .. ("y"):rep(3 << 20) .. '","status":"completed","output":[],"usage":{}}'
    equal(core.responses(long, {}), nil)
    assert(core.responses('{"x":"y","status":"completed","output":[],"usage":{}}', {}))
    equal(core.responses('{"x":' .. ("["):rep(600) .. ("]"):rep(600) .. ',"status":"completed","output":[],"usage":{}}', {}), nil)
end)

return t.main(...)
