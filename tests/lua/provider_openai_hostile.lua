-- OpenAI's Responses protocol against servers that send anything: nothing raises, every answer is an answer and
-- every failure an error value, and what was told is in order.
local damage = require "support.damage"
local openai = require "lash.provider.openai"
local t = require "t"
local wire = require "support.wire"

local case, ok = t.case, t.ok

local ITEMS = {
    '{"type":"reasoning","id":"r","status":"completed","summary":[{"type":"summary_text","text":"plan"}],'
        .. '"content":[{"type":"reasoning_text","text":"t"}],"encrypted_content":"S"}',
    '{"type":"message","id":"m","role":"assistant","status":"completed","phase":"commentary","content":[{"type":"output_text",'
        .. '"text":"Hi","annotations":[]},{"type":"refusal","refusal":"no"}]}',
    '{"type":"function_call","id":"fc","call_id":"a","name":"f","arguments":"{\\"i\\":1}","status":"completed",'
        .. '"caller":{"type":"program","caller_id":"p"},"created_by":"x"}',
    '{"type":"function_call","id":"fw","call_id":"w","name":"parallel","arguments":"{\\"tool_uses\\":[{\\"recipient_name\\":'
        .. '\\"functions.f\\",\\"parameters\\":{}}]}","status":"completed"}',
}

local RESPONSE = '{"id":"resp","status":"completed","error":null,"incomplete_details":{"reason":"max_output_tokens"},"output":['
    .. table.concat(ITEMS, ",") .. '],"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":5,"cache_write_tokens":1},'
    .. '"output_tokens":4,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":13}}'

local EVENTS = {
    '{"type":"response.created","response":{"status":"in_progress","output":[]}}',
    '{"type":"response.output_item.added","output_index":0,"item":{"type":"reasoning","id":"r","summary":[]}}',
    '{"type":"response.reasoning_summary_text.delta","item_id":"r","output_index":0,"summary_index":0,"delta":"pl"}',
    '{"type":"response.reasoning_text.delta","item_id":"r","output_index":0,"content_index":0,"delta":"t"}',
    '{"type":"response.output_item.done","output_index":0,"item":' .. ITEMS[1] .. "}",
    '{"type":"response.output_item.added","output_index":1,"item":{"type":"message","id":"m","role":"assistant","content":[]}}',
    '{"type":"response.output_text.delta","item_id":"m","output_index":1,"content_index":0,"delta":"H"}',
    '{"type":"response.refusal.delta","item_id":"m","output_index":1,"content_index":1,"delta":"no"}',
    '{"type":"response.output_item.done","output_index":1,"item":' .. ITEMS[2] .. "}",
    '{"type":"response.output_item.added","output_index":2,"item":{"type":"function_call","id":"fc","call_id":"a","name":"f","arguments":""}}',
    '{"type":"response.function_call_arguments.delta","item_id":"fc","output_index":2,"delta":"{\\"i\\":1}"}',
    '{"type":"response.function_call_arguments.done","item_id":"fc","output_index":2,"name":"f","arguments":"{\\"i\\":1}"}',
    '{"type":"response.output_item.done","output_index":2,"item":' .. ITEMS[3] .. "}",
    '{"type":"response.output_item.done","output_index":3,"item":' .. ITEMS[4] .. "}",
    '{"type":"response.completed","response":' .. RESPONSE .. "}",
}

local TERMINAL = #EVENTS
local ERROR = '{"type":"error","code":"server_error","message":"m","param":"p","error":{"type":"t","code":"c","message":"m","param":null}}'
local FAILED = '{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"m"}}}'

local TARGETS = { wire.target "openai", wire.target("openai", { origin = "elsewhere" }) }

local function check(conv, answer, err, what)
    damage.check(conv, answer, err, TARGETS, what)
end

local function read_stream(events, what)
    local conv = wire.conversation { { type = "user", text = "x" } }
    local target = wire.target "openai"
    local reader = openai.reader(conv, { tools = { { name = "f" } } }, target, { status = 200, headers = {} })
    local calls, failed = 0, nil -- calls: the last place that was told
    local function tell(kind, fields)
        if kind == "call.ready" then
            ok(math.type(fields.n) == "integer" and fields.n > calls, what) -- a half call is not told
            calls = fields.n
            ok(type(fields.id) == "string" and type(fields.name) == "string" and type(fields.args) == "string", what)
        else
            ok((kind == "text" or kind == "reasoning") and type(fields) == "string" and fields ~= "", what)
        end
    end
    for _, data in ipairs(events) do
        local said, err = reader:event({ event = "message", data = data }, tell)
        if not said then
            failed = err
            break
        elseif said == "end" then
            break
        end
        ok(said == "more" or said == "idle", what)
    end
    if failed then
        check(conv, nil, failed, what)
    else
        local answer, err = reader:finish("", tell)
        check(conv, answer, err, what)
    end
end

for n, event in ipairs { table.unpack(EVENTS, 1, TERMINAL - 1) } do
    case(("P1 no value of any type in any field raises: %s %d"):format(event:match '"type":"response%.([%w_.]+)"', n), function()
        local rest = table.move(EVENTS, 1, TERMINAL, 1, {})
        local empty = '{"type":"response.completed","response":{"output":[]}}'
        damage.each(event, function(text)
            rest[n] = text
            for _, last in ipairs { EVENTS[TERMINAL], empty } do
                rest[TERMINAL] = last
                read_stream(rest, text)
            end
        end)
    end)
end

case("P1 no value of any type in any field raises: the last event, with and without what came before", function()
    for _, last in ipairs { EVENTS[TERMINAL], (EVENTS[TERMINAL]:gsub('"completed"', '"incomplete"')), ERROR, FAILED } do
        damage.each(last, function(text)
            read_stream({ text }, text)
            read_stream({ EVENTS[10], EVENTS[13], text }, text)
        end)
    end
end)

case("P1 no value of any type in any field raises: an answer without a stream", function()
    for _, status in ipairs { 200, 400 } do
        for _, body in ipairs { RESPONSE, ERROR } do
            damage.each(body, function(text)
                local conv = wire.conversation { { type = "user", text = "x" } }
                local answer, err = openai.read(wire.answer(text, status), conv, {}, wire.target "openai")
                ok(status == 200 or not answer)
                check(conv, answer, err, text)
            end, 1)
        end
    end
end)

case("P1 events in any order, left out, twice, cut or garbled: an answer or an error", function()
    math.randomseed(20)
    for round = 1, t.times(3000, 800) do
        local events = {}
        for i = 1, math.random(1, 20) do
            local text = EVENTS[math.random(#EVENTS - (math.random(4) > 1 and 1 or 0))]
            local dice = math.random(12)
            if dice == 1 then
                text = text:sub(1, math.random(#text))
            elseif dice == 2 then
                local at = math.random(#text)
                text = text:sub(1, at - 1) .. string.char(math.random(0, 255)) .. text:sub(at + 1)
            elseif dice < 6 then
                local all = damage.paths(text)
                text = damage.replaced(text, all[math.random(#all)], damage.VALUES[math.random(#damage.VALUES)])
            end
            events[i] = text
        end
        events[#events + 1] = math.random(3) > 1 and EVENTS[TERMINAL] or '{"type":"response.completed","response":{"output":[]}}'
        read_stream(events, ("round %d: %s"):format(round, table.concat(events, "\n")))
    end
end)

case("P1 an item that is done twice while the one before it is open", function()
    local function done(item)
        return '{"type":"response.output_item.done","output_index":1,"item":' .. item .. "}"
    end
    local call = '{"type":"function_call","id":"fc","call_id":"a","name":"no name","arguments":"{}"'
    read_stream({ EVENTS[2], done(call .. ',"status":"completed"}'), done(call .. "}"), EVENTS[5], EVENTS[TERMINAL] }, "twice")
end)

case("P1 a great index, many items and many deltas cost no more than they are", function()
    local events = {}
    for i = 1, 20000 do
        events[i] = ('{"type":"response.output_text.delta","output_index":0,"delta":"%d,"}'):format(i)
    end
    events[#events + 1] = '{"type":"response.output_item.done","output_index":9007199254740993,"item":' .. ITEMS[3] .. "}"
    events[#events + 1] = '{"type":"response.output_item.done","output_index":1000000,"item":' .. ITEMS[3] .. "}"
    events[#events + 1] = '{"type":"response.completed"}'
    local before = os.clock()
    read_stream(events, "many")
    ok(os.clock() - before < 5 * t.slower)
end)

return t.main(...)
