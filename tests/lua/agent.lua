-- Runs of agents: their events, limits and ends; declarations that cannot work.
local t = require "t"
local fake = require "fake"
local engine = require "lash.core.engine"
local run = require "lash.run"
local lash = require "lash"

local ok_tool = lash.tool { name = "fine", async = function() return "fine" end }
local slow_tool = lash.tool { name = "slow", async = function() lash.sleep(60) end }

-- Checks what holds for the events of every run; returns their types.
local function check_events(events)
    local types, open, seen, ends = {}, {}, {}, 0
    local last = 0
    for i, event in ipairs(events) do
        types[i] = event.type
        t.ok(math.type(event.t) == "integer" and event.t >= last, "time goes back")
        last = event.t
        t.ok(type(event.agent) == "string", "an event without agent")
        if event.type == "call.start" then
            t.ok(not open[event.call] and not seen[event.call], "started twice: " .. event.call)
            open[event.call] = true
        elseif event.type == "call.end" then
            t.ok(open[event.call], "ended without a start: " .. event.call)
            open[event.call], seen[event.call] = nil, true
            t.ok(type(event.output) == "string" and type(event.status) == "string" and event.ms >= 0)
        elseif event.type == "run.end" then
            ends = ends + 1
            t.ok(run.REASONS[event.reason] ~= nil, "an unknown reason: " .. tostring(event.reason))
            t.equal(event.ok, event.reason == "done")
            t.equal(type(event.exit), "number")
        end
    end
    t.equal(next(open), nil, "a call without an end")
    t.equal({ types[1], types[#types], ends }, { "run.start", "run.end", 1 })
    return types
end

-- The calls of a result are made from the conversation when somebody looks: they are those that the events told of.
local function check_calls(result, events)
    local told = {}
    for _, event in ipairs(events) do
        if event.type == "call.end" then
            told[event.call] = { event.name, event.status, event.output }
        end
    end
    for _, call in ipairs(result.calls) do
        t.equal({ call.name, call.status, call.output }, told[call.call])
        t.equal({ type(call.args), math.type(call.ms) }, { "string", "integer" })
        told[call.call] = nil
    end
    t.equal(next(told), nil)
end

-- Runs the agent and checks its events. Returns the result (of an error: err.result) and the events.
local function watched(agent, opts)
    local events = {}
    opts = opts or {}
    opts.on_event = function(event)
        events[#events + 1] = event
    end
    opts.no_raise = true
    local result = agent:run("go", opts)
    check_events(events)
    t.equal({ events[#events].reason, events[#events].text, events[#events].turns },
        { result.reason, result.text, result.turns })
    check_calls(result, events)
    return result, events
end

t.case("D18 a plain run and its events", function()
    local agent = fake.agent({ tools = { ok_tool } }, { fake.calls { "Let me see. ", { "fine" }, { "fine", "{" } }, "done" })
    local result, events = watched(agent)
    t.equal(table.concat(check_events(events), " "), "run.start model.request text call.ready call.ready model.end call.start "
        .. "call.end call.start call.end model.request text model.end run.end")
    t.equal({ result.text, tostring(result), result.ok, result.reason, result.agent, result.turns, result.exit },
        { "done", "done", true, "done", "tester", 2, 0 })
    t.equal(result.usage, { input = 2, output = 2, cached = 0, reasoning = 0, total = 4 })
    t.equal({ result.calls[1].call, result.calls[1].status, result.calls[2].call, result.calls[2].status },
        { "1.1", "ok", "1.2", "error" })
    t.equal(#result.items, 7)
end)

t.case("D18 every end of a run has a reason of the list and one run.end", function()
    local calls = fake.calls { { "fine" } }
    local function again()
        return fake.calls { { "fine" } }
    end
    local cases = {
        done = fake.agent({}, { "text" }),
        empty = fake.agent({}, { "" }),
        turns = fake.agent({ tools = { ok_tool }, limits = { turns = 1 } }, { calls, "what I have" }),
        requests = fake.agent({ tools = { ok_tool }, limits = { requests = 2 } }, { again, again }),
        tokens = fake.agent({ tools = { ok_tool }, limits = { tokens = 3 } }, { again, again }),
        tool_calls = fake.agent({ tools = { ok_tool }, limits = { tool_calls = 1 } }, { again, again }),
        output = fake.agent({ output = "integer" }, { "five", "5.5" }),
        length = fake.agent({}, { fake.text("cut", "length") }),
        filter = fake.agent({ tools = { ok_tool } }, { fake.calls({ { "fine" } }, "filter") }),
        refused = fake.agent({}, { fake.text("no", "refusal") }),
        time = fake.agent({ tools = { slow_tool }, limits = { time = 0.02 } }, { fake.calls { { "slow" }, { "slow" } } }),
        error = fake.agent({ tools = { ok_tool } }, { again, function() return nil, { message = "down", exit = 69 } end }),
        call_failed = fake.agent({ tools = { slow_tool }, fail_fast = true }, { fake.calls { { "none" } } }),
        handoff_limit = fake.agent({ limits = { handoffs = 1 }, handoffs = function() return { fake.here } end, model = "fake/hop" }),
    }
    fake.here = cases.handoff_limit
    fake.models["fake/hop"] = function() return fake.calls { { "handoff", { agent = "tester" } } } end
    for reason, agent in pairs(cases) do
        local result = watched(agent)
        t.equal(result.reason, reason)
        t.ok(not result.conversation.open_calls, reason)
    end
    for reason in pairs(run.REASONS) do
        t.ok(cases[reason] or reason == "cancelled", "no test ends with " .. reason)
    end
end)

t.case("D18 a cancelled run ends with one run.end, and raises", function()
    local events = {}
    local agent = fake.agent({ tools = { slow_tool } }, { fake.calls { { "slow" } } })
    local task = lash.spawn(agent.run, agent, "go", { on_event = function(event) events[#events + 1] = event end })
    lash.sleep(0.01)
    task:cancel()
    task:cancel("deadline")
    task:wait()
    t.equal(engine.cancel_reason(select(2, task:result())), "user")
    check_events(events)
    t.equal(events[#events].reason, "cancelled")
end)

t.case("D18 a listener that fails or waits disturbs nobody", function()
    local agent = fake.agent({ tools = { ok_tool }, on_event = function() lash.sleep(0) error("listener") end },
        { fake.calls { { "fine" } }, "done" })
    lash.log.warn = function() end
    t.equal(watched(agent).text, "done")
end)

t.case("T4 cancel in a batch: settled results stay, running calls are cancelled, queued ones not run", function()
    local started = 0
    local tool = lash.tool { name = "step", params = { i = "integer" }, async = function(args)
        started = started + 1
        if args.i == 1 then
            return "quick"
        end
        lash.sleep(60)
    end }
    local agent = fake.agent({ tools = { tool }, limits = { concurrency = 3 } }, { fake.many(6, "step"), "after" })
    local conv = agent:conversation()
    local task = lash.spawn(conv.send, conv, "go")
    while started < 4 do
        lash.sleep(0.001)
    end
    task:cancel()
    task:wait()
    local list = {}
    for i, item in ipairs(fake.outcomes(conv)) do
        list[i] = item.status
    end
    t.equal(table.concat(list, " "), "ok cancelled cancelled cancelled not_run not_run")
    t.equal(conv:send("again").text, "after")
end)

t.case("T7 the time of a run covers model, tools and instructions", function()
    local started = lash.now()
    for _, agent in ipairs {
        fake.agent({ limits = { time = 0.02 } }, { function() lash.sleep(60) return "late" end }),
        fake.agent({ limits = { time = 0.02 }, tools = { slow_tool } }, { fake.calls { { "slow" } } }),
        fake.agent({ limits = { time = 0.02 }, instructions = function() lash.sleep(60) return "" end }, { "late" }),
    } do
        t.equal(watched(agent).reason, "time")
    end
    t.ok(lash.now() - started < 50)
end)

t.case("B1 B2 a batch over the call budget is refused whole, every call answered", function()
    local ran = 0
    local tool = lash.tool { name = "count", async = function() ran = ran + 1 end }
    local agent = fake.agent({ tools = { tool }, limits = { tool_calls = 3 } },
        { fake.calls { { "count" }, { "count" } }, fake.calls { { "count" }, { "count" } } })
    local result = watched(agent)
    t.equal({ result.reason, ran, result.exit }, { "tool_calls", 2, 80 })
    t.equal(fake.outcomes(result.conversation, 2)[2].status, "not_run")
end)

t.case("B4 on the turn limit a last request without tools asks for the answer", function()
    local seen
    local agent = fake.agent({ tools = { ok_tool }, limits = { turns = 2 } }, {
        fake.calls { { "fine" } }, fake.calls { { "fine" } },
        function(conv, view)
            seen = { view.tool_choice, conv.entries[#conv.entries].type, #view.tools }
            return "what I know"
        end,
    })
    local result = watched(agent)
    t.equal(seen, { "none", "note", 1 })
    t.equal({ result.reason, result.text }, { "turns", "what I know" })
    local stubborn = fake.agent({ tools = { ok_tool }, limits = { turns = 1 } },
        { fake.calls { "so far", { "fine" } }, fake.calls { { "fine" } } })
    result = watched(stubborn)
    t.equal({ result.reason, result.text }, { "turns", "so far" })
    t.equal(fake.outcomes(result.conversation, 2)[1].status, "not_run")
end)

t.case("limits of a run are checked before it starts", function()
    local agent = fake.agent({ tools = { ok_tool } }, { fake.calls { { "fine" } }, "done" })
    for _, limits in ipairs { { concurrency = 0 }, { turns = "many" }, { turns = -1 }, { sky = 1 }, { time = "soon" }, 5 } do
        local conv = agent:conversation()
        t.raises("limit", conv.send, conv, "go", { limits = limits })
        t.equal({ #conv.entries, conv.busy }, { 0, false })
    end
    t.equal(agent:run("go", { limits = { concurrency = 1, turns = 0, time = 5 } }).text, "done")
end)

t.case("instructions are resolved at once and kept in order", function()
    local running, most = 0, 0
    local function part(text, seconds)
        return lash.prompt { name = "p", async = function()
            running = running + 1
            most = math.max(most, running)
            lash.sleep(seconds)
            running = running - 1
            return text
        end }
    end
    local view
    local agent = fake.agent({ instructions = {
        "first", part("second", 0.006), part("", 0), function(ctx) lash.sleep(0.002) return "for " .. ctx.agent end,
        lash.prompt { name = "s", sync = function(ctx) return "sync " .. ctx.agent end }, part("last", 0),
    } }, { function(_, v) view = v return "done" end })
    agent:run("go")
    t.equal(view.system, "first\n\nsecond\n\nfor tester\n\nsync tester\n\nlast")
    t.ok(most >= 3, "not at the same time")
end)

t.case("instructions that fail end the run before a request, naming the prompt", function()
    for _, part in ipairs {
        lash.prompt { name = "site", async = function() error("no file", 0) end },
        lash.prompt { name = "site", sync = function() return nil, "no file" end },
        lash.prompt { name = "site", async = function() return {} end },
        lash.prompt { name = "site", sync = function() return "\xff" end },
    } do
        local agent = fake.agent({ instructions = { "ok", part } }, {})
        local err = t.raises("prompt 'site'", agent.run, agent, "go")
        t.has(err.message, "tester")
        t.equal({ err.code, err.exit, err.result.reason }, { "instructions", 1, "error" })
    end
end)

t.case("the parallel hint comes with two tools, and can be left out", function()
    local two = lash.tool { name = "two", async = print }
    local function system_of(spec)
        local seen
        fake.agent(spec, { function(_, view) seen = view.system or "" return "x" end }):run("go")
        return seen
    end
    t.has(system_of { tools = { ok_tool, two } }, "same turn")
    t.equal(system_of { tools = { ok_tool } }, "")
    t.equal(system_of { tools = { ok_tool, two }, parallel_hint = false }, "")
end)

t.case("conversations remember; one run at a time", function()
    local agent = fake.agent({ tools = { slow_tool } }, { "one", function(conv)
        t.equal({ conv.entries[1].text, conv.entries[3].text }, { "first", "second" })
        return "two"
    end, function() lash.sleep(0.01) return "three" end })
    local conv = agent:conversation()
    t.equal(conv:send("first").text, "one")
    t.equal(conv:send("second").text, "two")
    local task = lash.spawn(conv.send, conv, "third")
    lash.sleep(0.001)
    t.raises("has not ended", conv.send, conv, "fourth")
    task:wait()
    t.equal(task:result(), true)
    t.raises("must be a string", conv.send, conv, 5)
    t.raises("UTF-8", conv.send, conv, "\xff")
    t.raises("options", conv.send, conv, "x", 5)
end)

t.case("the calls of a result are those of its run, also when the conversation goes on", function()
    local calls = { { "fine" }, { "fine", "{" }, { "none" } }
    local agent = fake.agent({ tools = { ok_tool } }, { fake.calls { calls[1] }, fake.text("and", "pause"),
        fake.calls { calls[2], calls[3] }, "one", "two", fake.calls { calls[1] }, "three" })
    local conv, results, events = agent:conversation(), {}, {}
    for i = 1, 3 do
        events[i] = {}
        results[i] = conv:send("go", { on_event = function(event)
            events[i][#events[i] + 1] = event
        end })
    end
    local labels = {}
    for i, result in ipairs(results) do
        check_calls(result, events[i])
        labels[i] = {}
        for n, call in ipairs(result.calls) do
            labels[i][n] = call.call
        end
        t.ok(rawequal(result.calls, result.calls), "made once")
    end
    t.equal(labels, { { "1.1", "3.1", "3.2" }, {}, { "1.1" } })
end)

t.case("an error of the model: what raises says what, and the conversation goes on", function()
    local agent = fake.agent({}, { function() return nil, { code = "down", message = "the server is down", exit = 69 } end, "better" })
    local conv = agent:conversation()
    local err = t.raises("the server is down", conv.send, conv, "go")
    t.equal({ err.code, err.exit, err.result.reason, tostring(err) }, { "down", 69, "error", "the server is down" })
    t.equal(conv:send("again").text, "better")
end)

t.case("a hundred conversations at once", function()
    local tool = lash.tool { name = "who", params = { n = "integer" }, async = function(args) lash.sleep(0) return args.n end }
    local list = {}
    for i = 1, 100 do
        list[i] = function()
            local agent = fake.agent({ tools = { tool } }, { fake.calls { { "who", { n = i } }, { "who", { n = -i } } }, "done " .. i })
            local result = agent:run("go")
            return { result.text, result.calls[1].output, result.calls[2].output }
        end
    end
    for i, got in ipairs(lash.gather(list, { raise = true })) do
        t.equal(got, { "done " .. i, tostring(i), tostring(-i) })
    end
end)

-- ---- declarations ----

t.case("tools that cannot be declared say why", function()
    local function bad(part, spec)
        t.has(t.raises(part, lash.tool, spec), "lash.tool")
    end
    local fn = function() end
    bad("both marks", { name = "x", sync = fn, async = fn })
    bad("no function", { name = "x" })
    bad("'name' is missing", { async = fn })
    bad("expected a table", "x")
    bad("letters, digits", { name = "two words", async = fn })
    bad("letters, digits", { name = "", async = fn })
    bad("letters, digits", { name = ("x"):rep(64), async = fn })
    bad("did you mean 'timeout'", { name = "x", async = fn, timout = 5 })
    bad("must be function", { name = "x", async = "fn" })
    bad("timeout", { name = "x", async = fn, timeout = -1 })
    bad("timeout", { name = "x", async = fn, timeout = 0 / 0 })
    bad("limit", { name = "x", async = fn, limit = 0 })
    bad("max_output", { name = "x", async = fn, max_output = 1 })
    bad("max_output", { name = "x", async = fn, max_output = "64Q" })
    t.equal(lash.tool { name = "x", async = fn, max_output = "64K" }.max_output, 65536)
    bad("keep one", { name = "x", async = fn, params = {}, schema = { type = "object" } })
    bad("object", { name = "x", async = fn, schema = { type = "array" } })
    bad("x", { name = "x", async = fn, schema = { type = "objekt" } })
    bad("x", { name = "x", async = fn, params = { a = "no such type" } })
end)

t.case("agents that cannot be declared say why", function()
    local function bad(part, spec)
        t.raises(part, lash.agent, spec)
    end
    bad("'name' is missing", {})
    bad("unknown field", { name = "a", tool = {} })
    bad("not a tool", { name = "a", tools = { 5 } })
    bad("as_tool", { name = "a", tools = { lash.agent { name = "b" } } })
    bad("two tools are named 'fine'", { name = "a", tools = { ok_tool, ok_tool } })
    bad("limits", { name = "a", limits = { turn = 5 } })
    bad("at least 1", { name = "a", limits = { concurrency = 0 } })
    bad("instructions[2]", { name = "a", instructions = { "ok", 5 } })
    bad("UTF-8", { name = "a", instructions = "\xff" })
    t.equal(#lash.agent({ name = "a", tools = { { ok_tool }, { { slow_tool } } } }).tools, 2)
end)

t.case("the options of a run are checked before it starts", function()
    local agent = fake.agent({}, { "done" })
    t.raises("the options of a run: unknown field 'limit' (did you mean 'limits'?)", agent.run, agent, "go",
        { limit = 3 })
    t.raises("field 'on_event' must be function, got number", agent.run, agent, "go", { on_event = 3 })
    t.raises("unknown field 'turnss'", agent.run, agent, "go", { limits = { turnss = 3 } })
    t.raises("the options must be a table", agent.run, agent, "go", 3)
    t.equal(agent:run("go").text, "done")
end)

t.case("handoffs that are no agents end the run with a sentence", function()
    local agent = fake.agent({ handoffs = { "b" } }, {})
    local err = t.raises("handoffs[1] is a string", agent.run, agent, "go")
    t.equal(err.exit, 78)
end)

t.case("E4 a fault of lash itself is no outcome of a tool: it ends the run, and the conversation can go on", function()
    local events = {}
    local agent = fake.agent({ tools = { ok_tool }, on_event = function(event) events[#events + 1] = event end },
        { fake.calls { { "fine" }, { "fine" } }, "after all" })
    local conv = agent:conversation()
    local real = engine.batch
    engine.batch = function() error("not enough memory", 0) end -- the core's own bookkeeping
    local err = t.raises("lash itself failed: not enough memory", conv.send, conv, "go")
    engine.batch = real
    t.equal({ err.code, err.exit, err.result.reason, err.result.ok }, { "lash", 71, "error", false })
    for _, item in ipairs(fake.outcomes(conv)) do
        t.equal({ item.status, item.output }, { "not_run", "not run: lash itself failed before this call started" })
    end
    check_events(events)
    t.equal(conv:send("again").text, "after all")
    engine.batch = function() error("a fault", 0) end
    local result = fake.agent({ tools = { ok_tool } }, { fake.calls { { "fine" } } }):run("go", { no_raise = true })
    engine.batch = real
    t.equal({ result.exit, result.error.code }, { 70, "lash" })
end)

return t.main(...)
