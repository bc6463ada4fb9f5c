-- Streams: arg[1] is the address of a server. A streamed answer of each protocol, events with lines that are none,
-- and one that is cancelled in the middle. What comes is right, or an error with words.
local conversation = require "lash.conversation"
local json = require "lash.json"
local lash = require "lash"
local stream = require "lash.provider.stream"
local system = require "lash.core.system"

-- Others run at the same time.
local function path(name)
    return ("%s-%d"):format(name, system.getpid())
end

local HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

local function sound(found, err)
    assert(found or tostring(err) ~= "", "an error without words")
    return found
end

local function keep(name, ...)
    return sound(lash.http.post(arg[1] .. "/keep/" .. path(name), { json = json.array { HEAD, ... }, timeout = 10 }))
end

local STREAMS = {
    openai = 'data: {"type":"response.output_text.delta","output_index":0,"delta":"Hi"}\n\n'
        .. 'data: {"type":"response.output_item.done","output_index":1,"item":{"type":"function_call","call_id":"a",'
        .. '"name":"f","arguments":"{\\"n\\":1}"}}\n\ndata: {"type":"response.completed","response":{"status":"completed"}}\n\n',
    openai_chat = 'data: {"choices":[{"index":0,"delta":{"content":"Hi","tool_calls":[{"index":0,"id":"a","function":'
        .. '{"name":"f","arguments":"{\\"n\\":1}"}}]},"finish_reason":"tool_calls"}]}\n\ndata: [DONE]\n\n',
    gemini = 'data: {"candidates":[{"content":{"parts":[{"text":"Hi"},{"functionCall":{"id":"a","name":"f","args":{"n":1}}}]},'
        .. '"finishReason":"STOP"}]}\n\n',
    anthropic = 'data: {"type":"message_start","message":{"content":[]}}\n\n'
        .. 'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":"Hi"}}\n\n'
        .. 'data: {"type":"content_block_stop","index":0}\n\n'
        .. 'data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"a","name":"f","input":{}}}\n\n'
        .. 'data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\\"n\\":1}"}}\n\n'
        .. 'data: {"type":"content_block_stop","index":1}\n\n'
        .. 'data: {"type":"message_delta","delta":{"stop_reason":"tool_use"}}\n\ndata: {"type":"message_stop"}\n\n',
}

local function ask(name)
    local base = arg[1] .. "/kept/" .. path(name)
    if not keep(name, STREAMS[name], json.null) then
        return
    end
    local target = { provider = require("lash.provider." .. name), provider_name = name, model = "m", label = name,
        key = "test-key", base_url = base, shown_url = base, quirks = {}, headers = {} }
    local conv = conversation.new(nil)
    conv:append { type = "user", text = "go" }
    local request = sound(target.provider.request(conv, {}, target, true))
    if not request then
        return
    end
    local answer = sound(stream.answer(target, conv, {}, request, { idle_timeout = 10 }, function() end))
    if answer then
        local call = conversation.calls(answer)[1]
        assert(conversation.text(answer) == "Hi" and call.name == "f", "a wrong answer of " .. name)
        assert(json.decode(call.args).n == 1, "a wrong call of " .. name)
    end
end

for name in pairs(STREAMS) do
    local ok, err = pcall(ask, name)
    assert(ok or tostring(err):find("memory"), tostring(err))
end

local function read_events(wanted)
    local res <close> = sound(lash.http.stream { url = arg[1] .. "/kept/" .. path "events", timeout = 10 })
    local count = 0
    for event in res and res:events() or function() end do
        assert(event.data == "x", "a wrong event")
        count = count + 1
    end
    assert(not res or (count == wanted and res:stray() == "stray"), "events are missing")
end

if keep("events", "data: x\n\nstray\n\ndata: x\n\n", json.null) then
    local ok, err = pcall(read_events, 2)
    -- a stream that breaks raises its error, which is a value with words
    assert(ok or type(err) == "table" and tostring(err) ~= "" or tostring(err):find("memory"), tostring(err))
end
if keep("events", "data: x\n\n", { wait = "never" }) then
    local task = lash.spawn(read_events, 1)
    lash.sleep(0.01)
    task:cancel()
    task:wait()
end
print("done")
