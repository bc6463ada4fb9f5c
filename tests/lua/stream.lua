-- A run while its answers come: events, agent:stream, what remains of an answer that broke off.
local fake = require "fake"
local lash = require "lash"
local t = require "t"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok

local echo = lash.tool {
    name = "echo", description = "echo", params = { text = "string" },
    async = function(args)
        return args.text
    end,
}

-- An answer that comes in these pieces of text; at `false` it stops for ever.
local function pieces(texts)
    local all, deltas = {}, {}
    for i, text in ipairs(texts) do
        all[i] = text or nil
        deltas[i] = text and { "text", text }
    end
    local answer = fake.text(table.concat(all))
    answer.deltas = deltas
    return answer
end

local function kinds(events)
    local list = {}
    for i, event in ipairs(events) do
        list[i] = event.type
    end
    return list
end

case("text, reasoning and calls are told while they come, with the position of their call", function()
    local answer = fake.calls { "Looking.", { "echo", { text = "a" } }, { "echo", { text = "b" } } }
    answer.deltas = {
        { "reasoning", "hm" }, { "text", "Look" }, { "text", "ing." },
        { "call.ready", { n = 1, id = "call_2", name = "echo", args = '{"text":"a"}' } },
        { "call.ready", { n = 2, id = "call_3", name = "echo", args = '{"text":"b"}' } },
    }
    local events = {}
    local result = fake.agent({ tools = { echo } }, { answer, "done" }):run("go", { on_event = function(event)
        events[#events + 1] = event
    end })
    equal(result.text, "done")
    equal(kinds(events), { "run.start", "model.request", "reasoning", "text", "text", "call.ready", "call.ready",
        "model.end", "call.start", "call.end", "call.start", "call.end", "model.request", "text", "model.end",
        "run.end" })
    equal({ events[4].delta, events[5].delta, events[14].delta }, { "Look", "ing.", "done" })
    equal({ events[6].call, events[6].name, events[6].args, events[7].call }, { "1.1", "echo", '{"text":"a"}', "1.2" })
    equal({ events[9].call, events[11].call }, { "1.1", "1.2" })
    equal(events[6].agent, "tester")
end)

case("deltas = false: an answer is told by nothing before its end", function()
    local events = {}
    fake.agent({}, { "done" }):run("go", { deltas = false, on_event = function(event)
        events[#events + 1] = event
    end })
    equal(kinds(events), { "run.start", "model.request", "model.end", "run.end" })
end)

case("agent:stream gives the events in order, the result with the last one", function()
    local events = {}
    for event in fake.agent({ tools = { echo } }, { fake.calls { { "echo", { text = "x" } } },
        pieces { "one ", "two" } }):stream("go") do
        events[#events + 1] = event
    end
    equal(kinds(events), { "run.start", "model.request", "call.ready", "model.end", "call.start", "call.end",
        "model.request", "text", "text", "model.end", "run.end" })
    equal(events[#events].result.text, "one two")
    equal(events[#events].text, "one two")
end)

case("a loop over a stream that is left cancels the run", function()
    local agent = fake.agent({}, { pieces { "one ", false } })
    local conv = agent:conversation()
    for event in conv:stream("go") do
        if event.type == "text" then
            break
        end
    end
    equal(conv.busy, false)
    equal(conv.entries[2].items[1].text, "one ")
end)

case("a run that fails raises behind its last event", function()
    local seen = {}
    local fine, err = pcall(function()
        for event in fake.agent({ model = "fake/none" }, {}):stream("go") do
            seen[#seen + 1] = event.type
        end
    end)
    equal(fine, false)
    has(tostring(err), "no model")
    equal(seen, { "run.start", "run.end" })
end)

case("a slow reader holds the run back, and loses nothing", function()
    local texts = {}
    for i = 1, 300 do
        texts[i] = i .. " "
    end
    local told, got, most = 0, {}, 0
    local agent = fake.agent({ on_event = function(event)
        told = told + (event.type == "text" and 1 or 0)
    end }, { pieces(texts) })
    for event in agent:stream("go") do
        if event.type == "text" then
            got[#got + 1] = event.delta
            most = math.max(most, told - #got)
            lash.sleep(0)
        end
    end
    equal(table.concat(got), table.concat(texts))
    ok(most < 100, most .. " events were waiting")
end)

case("T4 a run that is cancelled in mid-stream keeps what was said, and goes on", function()
    local agent = fake.agent({}, { pieces { "I was ", "about to", false }, function(conv)
        equal(#conv.entries, 3)
        return "again"
    end })
    local conv = agent:conversation()
    local result = conv:send("go", { on_event = function(event)
        if event.delta == "about to" then
            conv:cancel()
        end
    end })
    equal({ result.ok, result.reason, result.text }, { false, "cancelled", "I was about to" })
    equal(conv.entries[2].items, { { type = "text", text = "I was about to" } })
    equal(conv:send("and?").text, "again")
end)

case("P6 an answer that breaks off: the text stays, the error is told, none of its calls runs", function()
    local ran = 0
    local count = lash.tool { name = "count", description = "count", async = function()
        ran = ran + 1
        return "x"
    end }
    local broken = fake.calls { { "count" } }
    broken.deltas = { { "text", "Let me" }, { "call.ready", { n = 1, id = "c", name = "count", args = "{}" } } }
    broken.fails = { code = "network", exit = 75, message = "fake: it broke off" }
    local conv = fake.agent({ tools = { count } }, { broken, "fine" }):conversation()
    local result = conv:send("go", { no_raise = true })
    equal({ result.ok, result.reason, result.exit, result.text }, { false, "error", 75, "Let me" })
    equal(ran, 0)
    equal(conv:send("once more").text, "fine")
    equal(#conv.entries, 4)
end)

case("P6 an answer that broke off without a word leaves nothing", function()
    local broken = { type = "answer", items = {}, deltas = { { "text", " \n" } },
        fails = { code = "network", exit = 75, message = "fake: it broke off" } }
    local conv = fake.agent({}, { broken, "fine" }):conversation()
    conv:send("go", { no_raise = true })
    equal(#conv.entries, 1)
    equal(conv:send("once more").text, "fine")
end)

case("a pause of the model is no end: it is asked again, with nothing between", function()
    local agent = fake.agent({}, { fake.text("One ", "pause"), function(conv)
        equal(#conv.entries, 2)
        return "two."
    end })
    equal(agent:run("go").text, "One two.")
end)

case("P0 whole answers only, where somebody says so", function()
    local run = require "lash.run"
    local seen = {}
    local model = package.loaded["lash.model"]
    local ask = model.ask
    model.ask = function(target, conv, view, listener)
        seen[#seen + 1] = listener:streams()
        return ask(target, conv, view, listener)
    end
    fake.agent({}, { "a" }):run("go")
    fake.agent({ stream = false }, { "a" }):run("go")
    fake.agent({}, { "a" }):run("go", { stream = false })
    run.overrides.stream = false
    fake.agent({}, { "a" }):run("go")
    run.overrides.stream = nil
    model.ask = ask
    equal(seen, { true, false, false, false })
    equal(require("lash.agent").spec(fake.agent({ stream = false }, {})).stream, false)
end)

return t.main(...)
