-- Streamed answers that nobody wants before they are whole: the events that the last one repeats are kept back, and
-- the answer, the error and what was said of an answer that broke off are the same as for who listens.
local conversation = require "lash.conversation"
local json = require "lash.json"
local kept = require "support.kept"
local lash = require "lash"
local stream = require "lash.provider.stream"
local t = require "t"
local wire = require "support.wire"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok

local chunk, CHUNKED, END, NAMES = kept.chunk, kept.CHUNKED, kept.END, kept.NAMES

local function event(value)
    local data = type(value) == "string" and value or assert(json.encode(value))
    return "data: " .. data .. "\n\n"
end

-- @return { answer =, err =, text =, reasoning = what was told }, how many events the reader saw one by one
local function ask(name, steps, quiet, limits)
    local seen, told = 0, { text = {}, reasoning = {} }
    local function watch(reader)
        local read, plain = reader.event, reader.plain
        function reader.event(...)
            seen = seen + 1
            return read(...)
        end
        function reader.plain(...)
            local what = plain(...)
            seen = seen + (what and 1 or 0)
            return what
        end
    end
    local answer, err, words = kept.ask(name, steps, watch, function(kind, what)
        table.insert(told[kind] or {}, what)
        return not quiet
    end, limits, quiet)
    return { answer = answer, err = err and { err.code, words, err.retry, err.exit },
        text = table.concat(told.text), reasoning = table.concat(told.reasoning) }, seen
end

-- Asks both ways. @return what quiet gave, how many events its reader saw
local function same(name, steps, what, limits)
    local heard = ask(name, steps, false, limits)
    local kept, seen = ask(name, steps, true, limits)
    if kept.answer then
        kept.text, kept.reasoning = heard.text, heard.reasoning -- nobody has to be told
    end
    equal(kept, heard, what)
    return kept, seen
end

local function files()
    local list = {}
    local root = os.getenv "LASH_TESTS" .. "/fixtures/"
    for _, pattern in ipairs { "captures/*/*/*.sse", "quirks/*/*.sse" } do
        for _, path in ipairs(assert(lash.fs.glob(root .. pattern))) do
            local file <close> = assert(io.open(path, "rb"))
            list[#list + 1] = { path = path, text = file:read "a", name = NAMES[path:match "fixtures/%w+/([^/]+)"] }
        end
    end
    return list
end

case("P2 every stream of the fixtures gives the same answer or error", function()
    local count = 0
    lash.map(files(), function(file)
        same(file.name, { CHUNKED, chunk(file.text), END }, file.path)
        count = count + 1
    end, { raise = true, limit = 8 })
    ok(count > 20, count)
end)

case("P6 every stream that breaks off gives the same error, and has said the same", function()
    local cuts = {}
    for _, file in ipairs(files()) do
        for i = 1, 3 do
            cuts[#cuts + 1] = { file = file, text = file.text:sub(1, #file.text * i // 4) }
        end
    end
    lash.map(cuts, function(cut, i)
        same(cut.file.name, { CHUNKED, chunk(cut.text), i % 2 == 0 and END or json.null }, cut.file.path)
    end, { raise = true, limit = 8 })
end)

local PART = { type = "output_text", text = "one two", annotations = json.array {} }
local MESSAGE = { type = "message", id = "m", role = "assistant", status = "completed", content = json.array { PART } }

local function delta(text)
    return event { type = "response.output_text.delta", item_id = "m", output_index = 0, content_index = 0, delta = text }
end

local function last(output, more)
    local response = { status = "completed", output = json.array(output) }
    for name, value in pairs(more or {}) do
        response[name] = value
    end
    return event { type = "response.completed", response = response }
end

local BEGIN = event { type = "response.created", response = { status = "in_progress", output = json.array {}, error = json.null } }
    .. event { type = "response.output_item.added", output_index = 0, item = { type = "message", id = "m", content = json.array {} } }
    .. delta "one " .. delta "two"
local DONE = event { type = "response.output_item.done", output_index = 0, item = MESSAGE }

case("no event but the last one reaches the reader when that one has all", function()
    local kept, seen = same("openai", { CHUNKED, chunk(BEGIN), 0.01, chunk(DONE), chunk(last { MESSAGE }), END })
    equal(kept.answer.items[1].text, "one two")
    equal(seen, 0)
    local _, others = ask("openai", { CHUNKED, chunk(BEGIN .. DONE .. last { MESSAGE }), END }, false)
    equal(others, 6)
end)

case("whatever type the head says: the same answer or error", function()
    for _, types in ipairs { "", "Content-Type: TEXT/Event-Stream;charset=x\r\n", "content-type: text/event-stream \r\n",
        "Content-Type: text/event-streams\r\n", "Content-Type: text/plain\r\n", "Content-Type: application/json\r\n",
        "Content-Type: text/event-stream\r\nContent-Type: text/html\r\n" } do
        for _, status in ipairs { "200 OK", "201 Created", "400 Bad Request", "500 Oh" } do
            local head = ("HTTP/1.1 %s\r\n%sTransfer-Encoding: chunked\r\n\r\n"):format(status, types)
            local kept = same("openai", { head, 0.01, chunk(BEGIN .. DONE .. last { MESSAGE }), END }, types)
            local read = status:find "^2" and not types:find "json" and not types:find "html"
            equal(kept.answer and kept.answer.items[1].text, read and "one two" or nil, types .. status)
        end
    end
end)

case("P6 whatever comes in place of a good end: the same error, the same was said", function()
    local ends = {
        error = event { type = "error", code = "server_error", message = "oops" },
        ["named error"] = 'event: error\ndata: {"message":"oops"}\n\n',
        ["error inside a delta"] = event { type = "response.output_text.delta", delta = "x", error = { message = "oops" } },
        ["error inside"] = event { type = "response.in_progress", error = { message = "oops" } },
        failed = event { type = "response.failed", response = { status = "failed", error = { code = "rate_limit_exceeded" } } },
        ["failed after all"] = last({ MESSAGE }, { status = "failed" }),
        ["no JSON"] = event '{"type":"response.output_text.delta","delta":"x"',
        ["no JSON either"] = event '{"type":"response.output_text.delta","delta":"x",}',
        ["no UTF-8"] = event '{"type":"response.output_text.delta","item_id":"m","output_index":0,"delta":"x\xff"}',
        ["half a letter"] = event '{"type":"response.output_text.delta","item_id":"m","output_index":0,"delta":"x\\ud800"}',
        twice = event '{"type":"response.output_text.delta","delta":"x","delta":"y","item_id":"m","output_index":0}',
        hidden = event '{"type":"response.output_text.delta","d\\u0065lta":"x","item_id":"m","output_index":0}',
        ["another name"] = 'event: message\ndata: {"type":"response.output_text.delta","delta":"x"}\n\n',
        ["nobody reads it"] = 'event: response.created\ndata: {"type":"response.created",no JSON}\n\n',
        ["nobody reads it, but for errors"] = 'event: response.created\ndata: {"type":"response.created","error":{"message":"oops"}}\n\n',
        ["error inside of what nobody reads"] = 'event: response.created\ndata: {"type":"response.created","x":{"error":1}}\n\n',
        unknown = event { type = "response.new_thing", delta = "x" },
        nothing = "",
        done = event "[DONE]",
        stray = '{"error":{"message":"oops"}}\n',
        list = event "[1]",
        deep = event('{"type":"response.output_text.delta","delta":"x","more":' .. ("["):rep(600) .. ("]"):rep(600) .. "}"),
        ["empty output"] = last {},
        ["output that is none"] = event { type = "response.completed", response = { status = "completed", output = "x" } },
        ["no response"] = event { type = "response.completed" },
        incomplete = event { type = "response.incomplete", response = { output = json.array { MESSAGE } } },
        reasoning = last { { type = "reasoning", summary = json.array {} }, MESSAGE },
        ["other text"] = last { { type = "message", content = json.array { { type = "output_text", text = "three" } } } },
    }
    local list = {}
    for what, text in pairs(ends) do
        list[#list + 1] = { what, text }
    end
    lash.map(list, function(pair)
        for _, done in ipairs { "", DONE } do
            for _, tail in ipairs { "", last { MESSAGE } } do
                same("openai", { CHUNKED, chunk(BEGIN .. done .. pair[2] .. tail), END }, pair[1])
            end
        end
    end, { raise = true, limit = 8 })
    local kept = same("openai", { CHUNKED, chunk(BEGIN .. ends.error), END })
    equal({ kept.answer, kept.text, kept.err[1] }, { nil, "one two", "overloaded" })
    kept = same("openai", { CHUNKED, chunk(BEGIN .. last {}), END })
    equal(kept.answer.items[1].text, "one two") -- made of what was kept back
end)

case("reasoning that has lost its sealed part at the end has that of its done item", function()
    local function thought(sealed)
        return { type = "reasoning", id = "r", summary = json.array {}, encrypted_content = sealed }
    end
    local done = event { type = "response.output_item.done", output_index = 0, item = thought "sealed" }
    local kept, seen = same("openai", { CHUNKED, chunk(done .. last { thought(), MESSAGE }), END })
    has(kept.answer.wire, "sealed")
    equal(seen, 2)
end)

case("P5 a run without listener keeps what was said of an answer that broke off, once", function()
    local base = kept.base()
    assert(lash.http.post(base .. "/keep/run", { json = json.array { CHUNKED, chunk(BEGIN), json.null } }))
    local target = wire.target("openai", { base_url = base .. "/kept/run", shown_url = "URL", quirks = {}, headers = {} })
    local model = require "lash.model"
    local resolve, retries = model.resolve, model.RETRIES
    model.resolve, model.RETRIES = function() return target end, 0
    local agent = lash.agent { name = "a", model = "openai/m", instructions = "x" }
    local kept, raised = pcall(agent.run, agent, "x")
    model.resolve, model.RETRIES = resolve, retries
    equal(kept, false)
    has(raised.message, "before its answer was complete")
    local entries = raised.result.conversation.entries
    equal({ #entries, entries[2].provider, conversation.text(entries[2]) }, { 2, "partial", "one two" })
end)

case("a run that is cancelled in mid-stream keeps what was kept back", function()
    local base = kept.base()
    assert(lash.http.post(base .. "/keep/stop", { json = json.array { CHUNKED, chunk(BEGIN .. delta " three"), { wait = "never" } } }))
    local target = wire.target("openai", { base_url = base .. "/kept/stop", shown_url = "URL", quirks = {}, headers = {} })
    local model = require "lash.model"
    local resolve = model.resolve
    model.resolve = function() return target end
    local agent = lash.agent { name = "a", model = "openai/m", instructions = "x" }
    local kept, raised = pcall(agent.run, agent, "x", { limits = { time = 0.5 * t.slower } })
    model.resolve = resolve
    local result = kept and raised or raised.result
    equal(result.reason, "time")
    equal(conversation.text(result.conversation.entries[2]), "one two three")
end)

case("more than is kept back at most: the same answer", function()
    local text = ("word "):rep(1000)
    local many = {}
    for i = 1, 2000 do
        many[i] = delta(text)
    end
    local said = text:rep(2000)
    local whole = { type = "message", content = json.array { { type = "output_text", text = said } } }
    local steps = { CHUNKED, chunk(table.concat(many)), chunk(last { whole }), END }
    local kept, seen = same("openai", steps)
    ok(kept.answer.items[1].text == said, "another text")
    ok(seen > 2000, seen)
    steps[3] = json.null
    kept = same("openai", steps)
    ok(kept.text == said, "another text was said")
end)

case("T8 what is kept back counts as a sign of the answer, signs of mere life do not", function()
    local limit, long = 0.4 * t.slower, 2 * math.min(t.slower, 4)
    local function slowly(text, most)
        return { ["repeat"] = json.array { chunk(text), most / 8 }, times = 16 }
    end
    local kept = ask("openai", { CHUNKED, slowly(delta "x", long), chunk(last { MESSAGE }), END }, true,
        { event_timeout = long })
    equal({ kept.err, kept.answer and kept.answer.stop }, { nil, "end" })
    for _, idle in ipairs { event { type = "response.in_progress" }, delta "", event { type = "response.output_text.delta" }, ": x\n\n" } do
        kept = ask("openai", { CHUNKED, chunk(BEGIN), slowly(idle, limit), chunk(last { MESSAGE }), END }, true, { event_timeout = limit })
        equal({ kept.answer, kept.err and kept.err[1], kept.text }, { nil, "timeout", "one two" })
    end
    local flood = { ["repeat"] = json.array { chunk(delta(""):rep(200)) } }
    kept = ask("openai", { CHUNKED, chunk(BEGIN), flood }, true, { event_timeout = limit })
    equal({ kept.answer, kept.err[1] }, { nil, "timeout" })
end)

case("an endless answer ends at the limit of its bytes", function()
    local before = stream.MAX_BODY
    stream.MAX_BODY = 1 << 20
    local kept = ask("openai", { CHUNKED, { ["repeat"] = json.array { chunk(delta("word "):rep(100)) } } }, true)
    stream.MAX_BODY = before
    equal({ kept.answer, kept.err[1] }, { nil, "nonsense" })
    ok(#kept.text > 10000, #kept.text)
end)

return t.main(...)
