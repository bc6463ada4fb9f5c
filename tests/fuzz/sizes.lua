-- Large answers: the work for one grows as its size does, whatever it is large in. Work is what is allocated and
-- the instructions that are run; the time of what is done in C is measured only when there is more of it.
local checks = require "checks"
local conversation = require "lash.conversation"
local json = require "lash.json"

local M = {}

local array = json.array

local function event(value)
    return { event = value.type or "message", data = assert(json.encode(value)) }
end

-- n times, what make(i) gives, between two lists
local function between(before, n, make, after)
    local list = {}
    for _, value in ipairs(before) do
        list[#list + 1] = event(value)
    end
    for i = 1, n do
        list[#list + 1] = event(make(i))
    end
    for _, value in ipairs(after) do
        list[#list + 1] = event(value)
    end
    return list
end

-- ---- answers large in this and that: name of a protocol -> kind -> function(n) -> events ----

local openai = {}

local function response(output)
    return { type = "response.completed", response = { id = "r", status = "completed", output = array(output) } }
end

local function message(text)
    return { type = "message", id = "m", role = "assistant", content = array { { type = "output_text", text = text } } }
end

local function call_item(i, args, call_id)
    return { type = "function_call", id = "fc_" .. i, call_id = call_id or "call_" .. i, name = "f", arguments = args }
end

local function with_item(item, n, make)
    return between({ { type = "response.output_item.added", output_index = 0, item = item } }, n, make, {
        { type = "response.output_item.done", output_index = 0, item = item }, response { item },
    })
end

function openai.deltas(n)
    return with_item(message(("text "):rep(n)), n, function()
        return { type = "response.output_text.delta", item_id = "m", output_index = 0, content_index = 0, delta = "text " }
    end)
end

function openai.reasoning(n)
    local item = { type = "reasoning", id = "rs", summary = array { { type = "summary_text", text = ("text "):rep(n) } } }
    return with_item(item, n, function(i)
        return { type = "response.reasoning_summary_text.delta", item_id = "rs", output_index = 0, summary_index = i, delta = "text " }
    end)
end

function openai.arguments(n)
    return with_item(call_item(1, '{"a":"' .. ("text "):rep(n) .. '"}'), n, function()
        return { type = "response.function_call_arguments.delta", item_id = "fc_1", output_index = 0, delta = "text " }
    end)
end

local function openai_calls(n, id)
    local items = {}
    for i = 1, n do
        items[i] = call_item(i, "{}", id)
    end
    return between({}, n, function(i)
        return { type = "response.output_item.done", output_index = i - 1, item = items[i] }
    end, { response(items) })
end

function openai.calls(n)
    return openai_calls(n)
end

function openai.equal_calls(n)
    return openai_calls(n, "call")
end

function openai.backwards(n)
    local list = openai_calls(n)
    for i = 1, n // 2 do
        list[i], list[n + 1 - i] = list[n + 1 - i], list[i]
    end
    return list
end

function openai.idle(n)
    return between({}, n, function() return { type = "response.in_progress" } end, { response { message "x" } })
end

function openai.one(n)
    return with_item(message(("text\n"):rep(n)), 0)
end

local chat = {}

local function chunk(delta, finish)
    return { choices = array { { index = 0, delta = delta, finish_reason = finish or json.null } } }
end

local function tool_call(i, id, name, args)
    return chunk { tool_calls = array { { index = i, id = id, ["function"] = { name = name, arguments = args } } } }
end

function chat.deltas(n)
    return between({}, n, function() return chunk { content = "text " } end, { chunk({}, "stop") })
end

function chat.reasoning(n)
    return between({}, n, function() return chunk { reasoning_content = "text " } end, { chunk({ content = "x" }, "stop") })
end

function chat.arguments(n)
    return between({ tool_call(0, "c", "f", '{"a":"') }, n, function() return tool_call(0, nil, nil, "text ") end,
        { tool_call(0, nil, nil, '"}'), chunk({}, "tool_calls") })
end

-- Each of these pieces could be the last.
function chat.objects(n)
    return between({ tool_call(0, "c", "f", "[1") }, n, function() return tool_call(0, nil, nil, ",[{}]") end,
        { tool_call(0, nil, nil, "]"), chunk({}, "tool_calls") })
end

function chat.calls(n)
    return between({}, n, function(i) return tool_call(i - 1, "c" .. i, "f", "{}") end, { chunk({}, "tool_calls") })
end

function chat.equal_calls(n)
    return between({}, n, function(i) return tool_call(i - 1, "c", "f", "{}") end, { chunk({}, "tool_calls") })
end

function chat.one_index(n)
    return between({}, n, function(i) return tool_call(0, "c" .. i, "f", "{}") end, { chunk({}, "tool_calls") })
end

function chat.backwards(n)
    return between({}, n, function(i) return tool_call(n - i, "c" .. i, "f", "{}") end, { chunk({}, "tool_calls") })
end

function chat.interleaved(n)
    local slots = 50
    return between({}, n, function(i)
        local first = i <= slots
        return tool_call(i % slots, first and "c" .. i or nil, first and "f" or nil, first and "" or " ")
    end, { chunk({}, "tool_calls") })
end

function chat.idle(n)
    return between({}, n, function() return { choices = array {} } end, { chunk({ content = "x" }, "stop") })
end

function chat.one(n)
    return between({ chunk { content = ("text\n"):rep(n) } }, 0, nil, { chunk({}, "stop") })
end

local gemini = {}

local function content(part, finish)
    return { candidates = array { { content = { parts = array { part } }, finishReason = finish } } }
end

local LAST = { content({ text = "x" }, "STOP") }

function gemini.deltas(n)
    return between({}, n, function() return content { text = "text " } end, LAST)
end

function gemini.reasoning(n)
    return between({}, n, function(i) return content { text = "text ", thought = i % 2 == 0 } end, LAST)
end

function gemini.signed(n)
    return between({}, n, function() return content { text = "", thoughtSignature = "Zm9v" } end, LAST)
end

function gemini.calls(n)
    return between({}, n, function(i) return content { functionCall = { id = "c" .. i, name = "f", args = { i } } } end, LAST)
end

function gemini.equal_calls(n)
    return between({}, n, function() return content { functionCall = { id = "c", name = "f", args = {} } } end, LAST)
end

function gemini.nameless_calls(n)
    return between({}, n, function() return content { functionCall = { name = "f" } } end, LAST)
end

function gemini.idle(n)
    return between({}, n, function() return { usageMetadata = { promptTokenCount = 1 } } end, { content({ text = "x" }, "STOP") })
end

function gemini.one(n)
    return between({ content { text = ("text\n"):rep(n) } }, 0, nil, LAST)
end

local anthropic = {}

local START = { type = "message_start", message = { content = array {}, usage = { input_tokens = 1 } } }
local STOP = { type = "message_stop" }

local function stopped(why)
    return { type = "message_delta", delta = { stop_reason = why }, usage = { output_tokens = 1 } }
end

local function with_block(block, n, delta, why)
    return between({ START, { type = "content_block_start", index = 0, content_block = block } }, n, function()
        return { type = "content_block_delta", index = 0, delta = delta }
    end, { { type = "content_block_stop", index = 0 }, stopped(why or "end_turn"), STOP })
end

function anthropic.deltas(n)
    return with_block({ type = "text", text = "" }, n, { type = "text_delta", text = "text " })
end

function anthropic.reasoning(n)
    return with_block({ type = "thinking", thinking = "" }, n, { type = "thinking_delta", thinking = "text " })
end

function anthropic.arguments(n)
    local list = with_block({ type = "tool_use", id = "c", name = "f", input = {} }, n + 2,
        { type = "input_json_delta", partial_json = "text " }, "tool_use")
    list[3] = event { type = "content_block_delta", index = 0, delta = { type = "input_json_delta", partial_json = '{"a":"' } }
    list[n + 4] = event { type = "content_block_delta", index = 0, delta = { type = "input_json_delta", partial_json = '"}' } }
    return list
end

local function anthropic_calls(n, id)
    local list = { event(START) }
    for i = 0, n - 1 do
        list[#list + 1] = event { type = "content_block_start", index = i,
            content_block = { type = "tool_use", id = id or "c" .. i, name = "f", input = {} } }
        list[#list + 1] = event { type = "content_block_stop", index = i }
    end
    list[#list + 1] = event(stopped "tool_use")
    list[#list + 1] = event(STOP)
    return list
end

function anthropic.calls(n)
    return anthropic_calls(n)
end

function anthropic.equal_calls(n)
    return anthropic_calls(n, "c")
end

function anthropic.idle(n)
    return between({ START }, n, function() return { type = "ping" } end, { stopped "end_turn", STOP })
end

function anthropic.one(n)
    return with_block({ type = "text", text = ("text\n"):rep(n) }, 0)
end

local KINDS = { openai = openai, ["openai-chat"] = chat, gemini = gemini, anthropic = anthropic }

-- ---- work ----

-- -> bytes allocated, instructions in hundreds, seconds
local function work(name, events)
    local target = checks.target(name)
    local conv = conversation.new(nil)
    conv:append { type = "user", text = "go" }
    local instructions, told = 0, 0
    local function tell()
        told = told + 1
    end
    collectgarbage()
    collectgarbage()
    collectgarbage "stop"
    local began, before = os.clock(), collectgarbage "count"
    debug.sethook(function() instructions = instructions + 1 end, "", 100)
    local reader = target.provider.reader(conv, checks.VIEW, target, { status = 200, headers = {} })
    for _, one in ipairs(events) do
        local what, err = reader:event(one, tell)
        if not what then
            debug.sethook()
            error(name .. ": " .. err.message)
        elseif what == "end" then
            break
        end
    end
    local answer, err = reader:finish("", tell)
    debug.sethook()
    local bytes = (collectgarbage "count" - before) * 1024
    local seconds = os.clock() - began
    collectgarbage "restart"
    assert(answer, err and err.message)
    return bytes, instructions, seconds
end

local FACTOR = 8

local function expect_linear(what, few, many, least)
    local limit = 3 * FACTOR * math.max(few, least) -- FACTOR² if it were quadratic
    if many > limit then
        error(("%s: %.0f become %.0f where there is %d times as much"):format(what, few, many, FACTOR), 0)
    end
end

local function check_kind(name, kind, n, timed)
    local what, make = name .. ", " .. kind, KINDS[name][kind]
    local bytes, instructions, seconds = work(name, make(n))
    local more_bytes, more_instructions, more_seconds = work(name, make(n * FACTOR))
    expect_linear(what .. ": bytes", bytes, more_bytes, 1000)
    expect_linear(what .. ": instructions", instructions, more_instructions, 100)
    if timed then
        expect_linear(what .. ": milliseconds", seconds * 1e3, more_seconds * 1e3, 10)
    end
end

--- linear(_, runs): every kind of large answer of every protocol
-- @return how many
function M.linear(_, runs)
    local count, n, wrong = 0, runs < 10000 and 150 or 4000, {}
    for _, name in ipairs(checks.PROTOCOLS) do
        for kind in pairs(KINDS[name]) do
            local ok, why = pcall(check_kind, name, kind, n, runs >= 10000)
            wrong[#wrong + 1] = not ok and why or nil
            count = count + 1
        end
    end
    table.sort(wrong)
    assert(not wrong[1], table.concat(wrong, "\n"))
    return count
end

-- ---- memory ----

-- What is held while an answer comes, as multiples of its bytes: its text, a table of its pieces. Of one large event
-- all that is made, as if nothing of it were collected: when the collector runs would be chance.
local HELD = { deltas = 20, arguments = 20, one = 20 }
local SPARE = 1 << 20

local function most_held(name, kind, events)
    local target = checks.target(name)
    local conv = conversation.new(nil)
    conv:append { type = "user", text = "go" }
    local reader = target.provider.reader(conv, checks.VIEW, target, { status = 200, headers = {} })
    local told, most, step = 0, 0, math.max(1, #events // 10)
    collectgarbage()
    collectgarbage()
    local before = collectgarbage "count"
    if kind == "one" then
        collectgarbage "stop"
    end
    local function look()
        if kind ~= "one" then
            collectgarbage() -- what is live, not what is to be collected
        end
        most = math.max(most, collectgarbage "count")
    end
    local function tell(kind, what)
        told = told + #(kind == "call.ready" and what.args or what)
    end
    for i, one in ipairs(events) do
        assert(reader:event(one, tell))
        if i % step == 0 then
            look()
        end
    end
    local answer = assert(reader:finish("", tell))
    look()
    collectgarbage "restart"
    local item = answer.items[1]
    return (most - before) * 1024, #(item.text or item.args), told
end

--- large(_, runs): 100 000 deltas, arguments in as many pieces, one event of 16 MB: nothing is lost, and memory is
-- bounded by what came. (A twentieth of it when there are few runs.)
-- @return how many
function M.large(_, runs)
    local n, count = runs < 10000 and 5000 or 100000, 0
    for _, name in ipairs(checks.PROTOCOLS) do
        for kind, times in pairs(HELD) do
            local make = KINDS[name][kind]
            if make then
                local size = kind == "one" and n * 32 or n
                local what = name .. ", " .. kind
                local held, bytes, told = most_held(name, kind, make(size))
                assert(bytes >= size * 5 and bytes <= size * 5 + 20, ("%s: %d bytes came"):format(what, bytes))
                assert(told == bytes, ("%s: %d bytes were told"):format(what, told))
                assert(held <= times * bytes + SPARE, ("%s: %.0f bytes are held for %d"):format(what, held, bytes))
                count = count + 1
            end
        end
    end
    return count
end

return M
