-- An ordinary answer of Chat Completions is read in one pass by the core: the same entry as of the draft, which all
-- others take.
local answers = require "lash.provider.openai_chat.answer"
local chat = require "lash.provider.openai_chat"
local core = require "lash.core.plain"
local random = require "support.answers"
local t = require "t"
local wire = require "support.wire"

local case, equal = t.case, t.equal
local plain = answers.plain
local pick, some, object, broken = random.pick, random.some, random.object, random.broken
local shown = random.shown

local function call(n)
    return object {
        { "id", some(('"call_%d"'):format(n), '"call_1"', '"old"', '"call_x2_1"', '""', "null", "7", '"a\\u0062"',
            '"' .. ("i"):rep(70) .. '"') },
        { "type", some('"function"', "null", '"custom"') },
        { "function", some(object {
            { "name", some('"noop"', '"parallel"', '"a b"', '""', "null", '"n\\u006f"', '"' .. ("n"):rep(70) .. '"') },
            { "arguments", some('"{\\"n\\":1}"', '"{}"', '"[1]"', '""', '" "', '"{\\"n\\":"', '{"n":1}', "null",
                '"\\"{}\\""') },
            { "x", some("null", '"y"') },
        }, "null", "[]") },
        { pick { "index", "index", "extra_content" }, pick { "0", "null", '{"google":{"thought_signature":"s"}}' } },
    }
end

local function calls()
    local list = {}
    for i = 1, pick { 0, 1, 3 } do
        list[i] = call(i)
    end
    return some("[" .. table.concat(list, ",") .. "]", "null", call(1), "[1]")
end

local function message()
    return some(object {
        { "role", '"assistant"' },
        { "content", pick { "null", some('"All looked \\u00fcp.\\n"', '""', '" \\n"', '"<think>a</think>b"',
            '" \\u003cthi"', '"\\f<b>"', "7", "[]", '[{"type":"text","text":"a"}]') } },
        { "refusal", some("null", '"no"', '""') },
        { "tool_calls", calls() },
        { pick { "annotations", "annotations", "audio", "reasoning", "reasoning_content", "reasoning_details", "x" },
            pick { "null", "[]", '"hm"' } },
    }, "null", "[]")
end

local function number()
    return some("17", "0", "-1", "1.0", '"12"', "null", "9223372036854775807", "18446744073709551616")
end

local function usage()
    return some(object { { "prompt_tokens", number() }, { "completion_tokens", number() },
        { "total_tokens", some("34", "51", "0") },
        { "prompt_tokens_details", some(object { { "cached_tokens", number() },
            { pick { "x", "cache_write_tokens" }, number() } }, "null", "[]") },
        { "completion_tokens_details", some(object { { "reasoning_tokens", number() } }, "null") },
        { pick { "x", "prompt_cache_hit_tokens" }, number() } }, "null", "[]", "3")
end

local function choice()
    return object {
        { "index", some("0", "1", "null") },
        { "message", message() },
        { "logprobs", "null" },
        { "finish_reason", pick { '"stop"', '"tool_calls"', some('"stop"', "null", '"length"', '"error"', '""',
            '"content_filter"') } },
        { pick { "x", "error", "usage", "delta" }, some("null", '"bad"', "{}", '{"content":"x"}') },
    }
end

local function response()
    return object {
        { "id", '"chatcmpl"' },
        { "object", some('"chat.completion"', '"error"', "null") },
        { "choices", some("[" .. choice() .. "]", "[]", "null", "[" .. choice() .. "," .. choice() .. "]", "[1]") },
        { "usage", usage() },
        { pick { "x", "error", "x_groq", "detail", "message" }, some("null", '{"message":"sorry"}', '"sorry"') },
    }
end

local VIEW = { tools = { { name = "noop" } } }

-- A conversation in which an id is taken, and another one was made for a call of another provider.
local function conversation(target)
    local conv = random.conversation()
    assert(chat.request(conv, VIEW, target, false))
    return conv
end

case("P1 an ordinary answer is read as all others are", function()
    local count, read = 0, 0
    local function counting(...)
        local answer = plain(...)
        count = count + (answer and 1 or 0)
        return answer
    end
    local targets = { wire.target "openai_chat", wire.target("openai_chat", { quirks = { think = false } }) }
    for _ = 1, 3000 do
        local target = pick(targets)
        local res = wire.answer(broken(response()), 200, { ["x-request-id"] = "r1" })
        answers.plain = counting
        local fast = shown(chat.read(res, conversation(target), VIEW, target))
        answers.plain = function() end
        local slow = shown(chat.read(res, conversation(target), VIEW, target))
        equal(fast, slow, res.body)
        read = read + (slow:sub(1, 3) ~= "nil" and 1 or 0)
    end
    answers.plain = plain
    assert(count > 200 and read > count + 200, count .. " " .. read)
end)

case("what is no text, or too long, is not read so", function()
    t.raises("string expected", core.chat, nil, {})
    t.raises("table expected", core.chat, "{}")
    t.raises("table expected", core.chat, "{}", {}, 7)
    equal(core.chat("", {}), nil)
    local rest = '"choices":[{"message":{"content":"a"},"finish_reason":"stop"}],"usage":{}}'
    assert(core.chat('{"x":"y",' .. rest, {}))
    equal(core.chat('{"x":"' .. ("y"):rep(3 << 20) .. '",' .. rest, {}), nil)
    equal(core.chat('{"x":' .. ("["):rep(600) .. ("]"):rep(600) .. "," .. rest, {}), nil)
end)

return t.main(...)
