--- Answers of models in the words of each protocol, made by chance. Whatever only its maker may get back
-- (ids, signatures, sealed reasoning) carries a mark that names protocol and address.
local json = require "lash.json"

local M = {}

local LETTERS = { openai = "R", ["openai-chat"] = "C", gemini = "G", anthropic = "A" }

local count = 0

-- "mkRa12x": the twelfth mark, of the Responses protocol at the address a.
local function mark(target)
    count = count + 1
    return ("mk%s%s%dx"):format(LETTERS[target.provider.name], target.origin:match "(%l)$", count)
end

--- foreign(target, text) -> the first mark in the text that another protocol or address made | nil
function M.foreign(target, text)
    local letter, origin = LETTERS[target.provider.name], target.origin:match "(%l)$"
    for found, l, o in text:gmatch "(mk(%u)(%l)%d+x)" do
        if l ~= letter or o ~= origin then
            return found
        end
    end
    return nil
end

local function chance(n)
    return math.random(n) == 1
end

local ARGUMENTS = { "{}", '{"n":9007199254740993}', '{"text":"ä \\"q\\" 漢"}', '{"list":[[],{},null,1.0,-9223372036854775808]}',
    '{"big":18446744073709551616,"deep":{"a":{"b":[1,2,{"c":1.5e0}]}}}' }
local BROKEN = { "", "not json", '{"cut":', "[]", '"text"', "7", "{} {}" }
local NAMES = { "f", "g", "f", "bad name!", "dot.ted", "7up", ("x"):rep(80), "" }

-- An answer without words of any protocol.
local function plan(last)
    local calls = {}
    for i = 1, last and 0 or math.random(3) do
        calls[i] = { name = chance(3) and NAMES[math.random(#NAMES)] or "f", id = math.random(8),
            args = chance(4) and BROKEN[math.random(#BROKEN)] or ARGUMENTS[math.random(#ARGUMENTS)] }
    end
    return { calls = calls, reasoning = chance(2), opaque = chance(6),
        text = (chance(3) and not last) and "" or ("text %d ü"):format(math.random(99)),
        refusal = last and chance(6), cut = chance(9), spoken = chance(3) }
end

-- The id of a call: most often a good one, sometimes none, one that was there before, or one that is not the
-- server's to give.
local function id_of(call, before, target)
    if call.id == 1 then
        return nil
    elseif call.id == 2 then
        return ""
    elseif call.id == 3 and before[1] then
        return before[math.random(#before)]
    elseif call.id == 4 then -- as those that are made here for the calls of others
        return ("%s_x%d_%d"):format(chance(2) and "call" or "toolu", math.random(12), math.random(3))
    end
    before[#before + 1] = mark(target)
    return before[#before]
end

local function quoted(text)
    return assert(json.encode(text))
end

local function joined(list)
    return table.concat(list, ",")
end

local make = {}

function make.openai(planned, target, ids)
    local items = {}
    local function add(text, ...)
        items[#items + 1] = text:format(...)
    end
    if planned.reasoning then
        add('{"type":"reasoning","id":"rs_%s","summary":[{"type":"summary_text","text":"why %s"}],"encrypted_content":"sealed_%s"}',
            mark(target), mark(target), mark(target))
    end
    if planned.refusal then
        add('{"type":"message","id":"msg_%s","role":"assistant","status":"completed","content":[{"type":"refusal","refusal":"No."}]}',
            mark(target))
    elseif planned.text ~= "" or not planned.calls[1] then
        add('{"type":"message","id":"msg_%s","role":"assistant","phase":"commentary","content":[{"type":"output_text","text":%s}]}',
            mark(target), quoted(planned.text))
    end
    if planned.opaque then
        add('{"type":"web_search_call","id":"ws_%s","status":"completed"}', mark(target))
    end
    for _, call in ipairs(planned.calls) do
        local id = id_of(call, ids, target)
        add('{"type":"function_call","id":"fc_%s"%s,"name":%s,"arguments":%s,"status":"completed"}', mark(target),
            id and ',"call_id":' .. quoted(id) or "", quoted(call.name), quoted(call.args))
    end
    return ('{"status":%s,"output":[%s],"usage":{"input_tokens":1,"output_tokens":1}}'):format(
        planned.cut and '"incomplete","incomplete_details":{"reason":"max_output_tokens"}' or '"completed"', joined(items))
end

make["openai-chat"] = function(planned, target, ids)
    local calls = {}
    for i, call in ipairs(planned.calls) do
        local id = id_of(call, ids, target)
        calls[i] = ('{%s"type":"function","function":{"name":%s,"arguments":%s},"extra_content":{"google":{"thought_signature":"%s"}}}')
            :format(id and '"id":' .. quoted(id) .. "," or "", quoted(call.name), quoted(call.args), mark(target))
    end
    return ('{"id":"%s","choices":[{"index":0,"message":{"role":"assistant","content":%s,"refusal":%s%s%s},"finish_reason":"%s"}]}')
        :format(mark(target), planned.refusal and "null" or planned.text ~= "" and quoted(planned.text) or "null",
            planned.refusal and '"No."' or "null",
            planned.reasoning and (',"reasoning_content":"why %s"'):format(mark(target)) or "",
            calls[1] and ',"tool_calls":[' .. joined(calls) .. "]" or "",
            planned.cut and "length" or calls[1] and "tool_calls" or "stop")
end

-- Arguments that are an object already: texts that are no JSON cannot come.
local function object_args(args)
    return json.decode(args) and args or "{}"
end

function make.gemini(planned, target, ids)
    local parts = {}
    local function add(text, ...)
        parts[#parts + 1] = text:format(...)
    end
    if planned.reasoning then
        add('{"text":"why %s","thought":true}', mark(target))
    end
    if planned.text ~= "" and not planned.refusal then
        add('{"text":%s%s}', quoted(planned.text), planned.spoken and (',"thoughtSignature":"%s"'):format(mark(target)) or "")
    end
    if planned.opaque then
        add('{"executableCode":{"code":"%s"}}', mark(target))
    end
    for i, call in ipairs(planned.calls) do
        local id = id_of(call, ids, target)
        add('{"functionCall":{%s"name":%s,"args":%s}%s}', id and '"id":' .. quoted(id) .. "," or "", quoted(call.name),
            object_args(call.args), i == 1 and (',"thoughtSignature":"%s"'):format(mark(target)) or "")
    end
    if planned.spoken and not planned.calls[1] then
        add('{"text":"","thoughtSignature":"%s"}', mark(target))
    end
    return ('{"candidates":[{"content":{"role":"model","parts":[%s]},"finishReason":"%s"}],"responseId":"%s"}'):format(
        joined(parts), planned.refusal and "SAFETY" or planned.cut and "MAX_TOKENS" or "STOP", mark(target))
end

function make.anthropic(planned, target, ids)
    local blocks = {}
    local function add(text, ...)
        blocks[#blocks + 1] = text:format(...)
    end
    if planned.reasoning then
        add('{"type":"thinking","thinking":"why %s","signature":"%s"}', mark(target), mark(target))
    end
    if planned.opaque then
        add('{"type":"redacted_thinking","data":"%s"}', mark(target))
    end
    if not planned.refusal then
        add('{"type":"text","text":%s,"citations":null}', quoted(planned.text))
    end
    for i, call in ipairs(planned.calls) do
        if planned.spoken and i > 1 then
            add '{"type":"text","text":"between"}'
        end
        local id = id_of(call, ids, target)
        add('{"type":"tool_use"%s,"name":%s,"input":%s}', id and ',"id":' .. quoted(id) or "", quoted(call.name),
            object_args(call.args))
    end
    return ('{"id":"msg_%s","type":"message","role":"assistant","content":[%s],"stop_reason":"%s",%s'
        .. '"usage":{"input_tokens":1,"output_tokens":1}}'):format(mark(target), joined(blocks),
        planned.refusal and "refusal" or planned.cut and "max_tokens" or planned.calls[1] and "tool_use" or "end_turn",
        planned.refusal and '"stop_details":{"type":"refusal","category":"x","explanation":"No."},' or "")
end

--- answer(target, ids, last) -> the body of a whole answer, made by chance.
-- @param ids {}, where the ids that each server gave are noted: some come again
-- @param last no calls
function M.answer(target, ids, last)
    local server = target.provider.name .. target.origin
    ids[server] = ids[server] or {}
    return make[target.provider.name](plan(last), target, ids[server])
end

--- simple(target, calls) -> the body of an answer with reasoning, a text and calls: { { name, arguments }, ... }
function M.simple(target, calls)
    local planned = { calls = {}, reasoning = true, text = "Hm." }
    for i, call in ipairs(calls) do
        planned.calls[i] = { name = call[1], args = call[2], id = 8 }
    end
    return make[target.provider.name](planned, target, {})
end

return M
