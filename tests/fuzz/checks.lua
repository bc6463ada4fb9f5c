-- What holds for every stream, whatever a server sends: the readers of the providers never raise, give
-- an answer of the documented shape or an error value, and no answer without the end marker of their
-- protocol; and however the bytes are split, all of it is the same.
local conversation = require "lash.conversation"
local json = require "lash.json"
local mend = require "lash.provider.mend"
local sse = require "sse"

local M = {}

--- Names of the wire protocols, in an order that inputs of the fuzzer rely on.
M.PROTOCOLS = { "openai", "openai-chat", "gemini", "anthropic" }

local VIEW = {
    agent = "a",
    system = "s",
    tools = { {
        name = "get_weather", description = "Weather.",
        schema = { type = "object", properties = { city = { type = "string" } }, required = json.array { "city" } },
    } },
    settings = {},
}

local function target_of(name)
    return {
        provider = require("lash.provider." .. name:gsub("-", "_")), provider_name = name, model = "m", label = name .. "/m", key = "test-key",
        key_var = "THE_KEY", base_url = "http://localhost:1/v1", base_var = "THE_BASE", quirks = {},
        shown_url = "http://localhost:1/v1", headers = {},
    }
end

local targets = {}
for _, name in ipairs(M.PROTOCOLS) do
    targets[name] = target_of(name)
end

M.VIEW = VIEW

--- target(name) -> what a request to this provider is made for
function M.target(name)
    return targets[name]
end

local function fail(text, ...)
    error(text:format(...), 0)
end

local function expect(truth, text, ...)
    if not truth then
        fail(text, ...)
    end
end

local function show(value)
    return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

-- ---- shapes ----

local CODES = {}
for code in ("key model refused context quota rate overloaded timeout network nonsense bad_request"):gmatch "%S+" do
    CODES[code] = true
end

local STOPS = { ["end"] = true, calls = true, length = true, filter = true, refusal = true, error = true,
    pause = true }
local TEXTS = { text = true, reasoning = true, refusal = true }

local function check_text(value, what)
    expect(type(value) == "string", "%s is %s", what, show(value))
end

local function check_error(err)
    expect(type(err) == "table", "the error is %s", show(err))
    expect(CODES[err.code], "the code of the error is %s", show(err.code))
    check_text(err.message, "the message of the error")
    expect(utf8.len(err.message), "the message is no UTF-8: %s", show(err.message))
    expect(not err.message:find "[%c]", "the message has control bytes: %s", show(err.message))
    expect(#err.message < 2000, "the message has %d bytes", #err.message)
    expect(math.type(err.exit) == "integer", "the exit of the error is %s", show(err.exit))
    expect(err.after == nil or type(err.after) == "number" and err.after >= 0, "after is %s", show(err.after))
end

local function check_call(item, seen)
    check_text(item.id, "the id of a call")
    check_text(item.name, "the name of a call")
    check_text(item.args, "the arguments of a call")
    expect(item.id ~= "", "the id of a call is empty")
    expect(not seen[item.id], "two calls have the id %s", show(item.id))
    seen[item.id] = true
end

local function check_usage(usage)
    expect(type(usage) == "table", "usage is %s", show(usage))
    for _, name in ipairs { "input", "output", "cached", "reasoning", "total", "cache_write" } do
        local n = usage[name]
        expect(n == nil or math.type(n) == "integer" and n >= 0, "usage.%s is %s", name, show(n))
    end
end

local function check_answer(answer, name)
    expect(type(answer) == "table", "the answer is %s", show(answer))
    expect(answer.type == "answer" and answer.provider == name, "it is no answer of %s", name)
    expect(STOPS[answer.stop], "stop is %s", show(answer.stop))
    check_usage(answer.usage or {})
    local seen, count = {}, 0
    for key in pairs(answer.items) do
        expect(math.type(key) == "integer" and key >= 1 and key <= #answer.items, "items has the key %s", show(key))
    end
    for _, item in ipairs(answer.items) do
        if TEXTS[item.type] then
            check_text(item.text, item.type)
        elseif item.type == "call" then
            count = count + 1
            check_call(item, seen)
        else
            expect(item.type == "opaque", "an item is %s", show(item.type))
        end
    end
    expect(answer.stop ~= "calls" or count > 0, "stop is calls, but there are none")
    expect(answer.stop ~= "end" or count == 0, "stop is end, but there are calls")
end

-- ---- what was told ----

local function teller(odd)
    local told = { text = {}, reasoning = {}, calls = {}, ids = {}, last = 0 }
    return told, function(kind, fields)
        if kind == "text" or kind == "reasoning" then
            check_text(fields, "a delta")
            table.insert(told[kind], fields)
        else
            expect(kind == "call.ready", "told %s", show(kind))
            expect(type(fields) == "table", "told a call with %s", show(fields))
            expect(math.type(fields.n) == "integer" and fields.n > told.last, "call %s is told behind call %d",
                show(fields.n), told.last)
            told.last = fields.n
            check_call({ id = fields.id, name = fields.name, args = fields.args }, odd and {} or told.ids)
            told.calls[fields.n] = { id = fields.id, name = fields.name, args = fields.args }
        end
    end
end

-- Every call was told that is one to run.
local function check_told(told, answer)
    local calls = conversation.calls(answer)
    expect(told.last <= #calls, "call %d was told, the answer has %d", told.last, #calls)
    for i, call in ipairs(calls) do
        local said = told.calls[i]
        expect(said or call.complete == false, "call %d was not told", i)
        for _, field in ipairs(said and { "id", "name", "args" } or {}) do
            expect(said[field] == call[field], "call %d was told with the %s %s, but has %s", i, field,
                show(said[field]), show(call[field]))
        end
    end
end

-- ---- end markers ----

local function any_choice(value, list, field)
    local choices = type(value[list]) == "table" and value[list] or {}
    for _, choice in pairs(choices) do
        if type(choice) == "table" and choice[field] ~= nil and choice[field] ~= json.null then
            return true
        end
    end
    return false
end

-- What may be the end of an answer, generously: an answer without any such event is certainly wrong.
local marks = {
    openai = function(value, event)
        local kind = type(value.type) == "string" and value.type or event.event
        return kind == "response.completed" or kind == "response.incomplete" or kind == "response.failed"
    end,
    ["openai-chat"] = function(value)
        return any_choice(value, "choices", "finish_reason")
    end,
    gemini = function(value)
        return value.promptFeedback ~= nil or any_choice(value, "candidates", "finishReason")
    end,
    anthropic = function(value, event)
        return value.type == "message_stop" or event.event == "message_stop"
    end,
}

local function is_end(name, text, event)
    local value = mend.decode(text)
    if type(value) ~= "table" then
        return false
    end
    for _, one in ipairs(value) do -- a stream as one array
        if type(one) == "table" and marks[name](one, event) then
            return true
        end
    end
    return marks[name](value, event)
end

-- `stray`: a whole answer that only its head called a stream
local function has_end(name, events, stray)
    for _, event in ipairs(events) do
        if event.data:find("[DONE]", 1, true) or is_end(name, event.data, event) then
            return true
        end
    end
    return stray ~= "" and is_end(name, stray, {})
end

-- ---- running ----

-- An answer may come in parts, each asked for by a request: here all are the same.
local MOST_PARTS = 100

-- Ways to drive a reader, as lash.provider.stream has them: way(reader, event, tell, kept) -> what, err; kept: events
-- that wait, way 3 only. Whatever the way, the answer is the same.
local ways = {}

function ways.decoded(reader, event, tell)
    return reader:event(event, tell)
end

local function picked(provider, event)
    if event.event == "error" then
        return false
    end
    return provider.picker(event.data)
end

local function plain(reader, tell, event, is_picked, ...)
    local what = is_picked and reader:plain(tell, ...)
    if what then
        expect(what == "more" or what == "idle", "plain() says %s", show(what))
        return what
    end
    return reader:event(event, tell)
end

function ways.picked(reader, event, tell)
    return plain(reader, tell, event, picked(reader.provider, event))
end

local echoes = require("lash.provider.openai.stream").echoes

local function is_harmless(event)
    local data = event.data
    local at = data:find('"error":', 1, true)
    while at and data:sub(at + 8, at + 11) == "null" do
        at = data:find('"error":', at + 8, true)
    end
    return not at and data:find('{"type":"' .. event.event .. '",', 1, true) == 1 and data:sub(-1) == "}" and not data:find "%z"
end

local function is_echo(event, is_picked, kind)
    local mark = echoes[event.event]
    if (mark == "!" or mark == ".") and is_harmless(event) then
        return true
    end
    return is_picked and echoes[kind or 1] and (event.event == "message" or echoes[event.event])
end

local function replay(reader, tell, kept)
    for i, event in ipairs(kept) do
        kept[i] = nil
        local what = plain(reader, tell, event, picked(reader.provider, event))
        expect(what == "more" or what == "idle", "an echo says %s", show(what))
    end
end

function ways.quiet(reader, event, tell, kept)
    if is_echo(event, picked(reader.provider, event)) then
        kept[#kept + 1] = event
        return "more"
    end
    kept.answer = kept.first and reader.settles(event)
    kept.first = false
    if kept.answer then
        return "end"
    end
    replay(reader, tell, kept)
    return reader:event(event, tell)
end

local function feed(reader, events, tell, way)
    local kept = { first = true }
    for _, event in ipairs(events) do
        local what, err = ways[way](reader, event, tell, kept)
        if what == nil then
            check_error(err)
            return nil, err
        end
        expect(what == "more" or what == "idle" or what == "end", "event() says %s", show(what))
        if what == "end" then
            return true, true, kept.answer
        end
    end
    replay(reader, tell, kept)
    return true, false
end

-- @return { answer =, err =, told =, settled = its last event was enough }
local function read(name, events, stray, odd, way)
    local target = targets[name]
    local conv = conversation.new(nil)
    conv:append { type = "user", text = "go" }
    local told, tell = teller(odd)
    local begun
    for _ = 1, MOST_PARTS do
        local provider, res = target.provider, { status = 200, headers = {} }
        local reader = provider.reader(conv, VIEW, target, res, begun)
        if way == "quiet" and not provider.settles then
            return nil
        end
        reader.provider = provider
        reader.settles = function(event)
            return provider.settles(event.event, event.data, conv, VIEW, target, res)
        end
        local ok, ended, settled = feed(reader, events, tell, way)
        if not ok then
            return { err = ended, told = told }
        elseif settled then
            return { answer = settled, told = told, settled = true }
        end
        local answer, err, more = reader:finish(ended and "" or stray, tell)
        if answer then
            return { answer = answer, told = told }
        elseif err ~= nil or more == nil then
            check_error(err)
            return { err = err, told = told }
        end
        expect(has_end(name, events, stray), "a part of an answer without end marker")
        begun = more
    end
    fail("the answer has no end")
end

local function by_letters(told)
    return { text = table.concat(told.text), reasoning = table.concat(told.reasoning), calls = told.calls }
end

--- read(name, events, stray) -> { answer =, err =, told = }: as lash.provider.stream drives a reader, with
-- all that holds for it checked. `odd`: the stream may contradict itself, as no server does.
function M.read(name, events, stray, odd)
    local outcome = read(name, events, stray, odd, "decoded")
    for _, way in ipairs { "picked", "quiet" } do
        local other = read(name, events, stray, odd, way)
        if other then
            M.same(other.answer or false, outcome.answer or false, way .. ": answer")
            M.same(other.err or false, outcome.err or false, way .. ": err")
            if not other.settled then -- else nobody is told
                M.same(by_letters(other.told), by_letters(outcome.told), way .. ": told")
            end
        end
    end
    if outcome.answer then
        check_answer(outcome.answer, name)
        if not (odd and name == "openai") then -- its last event has all calls once more, and is right
            check_told(outcome.told, outcome.answer)
        end
        expect(has_end(name, events, stray), "an answer of a stream without end marker, with %d calls", outcome.told.last)
    end
    return outcome
end

--- read_whole(name, body, status) -> { answer =, err = }: an answer that is no stream
function M.read_whole(name, body, status)
    local target = targets[name]
    local conv = conversation.new(nil)
    conv:append { type = "user", text = "go" }
    local res, begun = { status = status, headers = {}, body = body }, nil
    local answer, err
    for _ = 1, MOST_PARTS do
        answer, err, begun = target.provider.read(res, conv, VIEW, target, begun)
        if answer ~= nil or err ~= nil or begun == nil then
            break
        end
    end
    if answer == nil then
        check_error(err)
        return { err = err }
    end
    expect(status >= 200 and status <= 299, "an answer of status %d", status)
    check_answer(answer, name)
    return { answer = answer }
end

--- follow(name, outcome): the history with this answer can be sent to the provider called `name`.
function M.follow(name, outcome)
    local answer, target = outcome.answer, targets[name]
    local conv = conversation.new(nil)
    conv:append { type = "user", text = "go" }
    conv:append(answer)
    local items = {}
    for i, call in ipairs(conversation.calls(answer)) do
        items[i] = { type = "outcome", id = call.id, name = call.name, status = "ok", output = "{}" }
    end
    if items[1] then
        conv:append { type = "outcomes", items = items }
    end
    conv:append { type = "user", text = "go on" }
    local request, err = target.provider.request(conv, VIEW, target, true)
    expect(request, "no request follows: %s", show(err and err.message))
    local value, why = json.decode(request.body, { size = 64 << 20 })
    expect(value, "the next request is no JSON: %s", show(why and why.message))
end

-- ---- the same ----

local function differ(a, b, path)
    if type(a) ~= type(b) then
        return ("%s: %s, %s"):format(path, show(a), show(b))
    elseif type(a) ~= "table" then
        return a ~= b and not (a ~= a and b ~= b) and ("%s: %s, %s"):format(path, show(a), show(b)) or nil
    end
    for key, value in pairs(a) do
        local why = differ(value, b[key], path .. "." .. tostring(key))
        if why then
            return why
        end
    end
    for key in pairs(b) do
        if a[key] == nil then
            return ("%s.%s: only in the second"):format(path, tostring(key))
        end
    end
    return nil
end

--- same(a, b, what): two values with all they contain
function M.same(a, b, what)
    local why = differ(a, b, what)
    expect(why == nil, "it differs at %s", why)
end

--- same_split(text, pieces): the events are those of the whole text; returns them and the stray lines.
function M.same_split(text, pieces)
    local events, stray, large = sse.parse(text)
    local events_2, stray_2, large_2 = sse.parse(text, pieces)
    M.same({ events, stray, large }, { events_2, stray_2, large_2 }, "events")
    return events_2, stray_2
end

--- stream(name, text, pieces, odd) -> outcome: the text whole and in pieces
function M.stream(name, text, pieces, odd)
    local events, stray = sse.parse(text)
    local outcome = M.read(name, events, stray, odd)
    local events_2, stray_2 = M.same_split(text, pieces)
    M.same(outcome, M.read(name, events_2, stray_2, odd), "outcome")
    return outcome
end

return M
