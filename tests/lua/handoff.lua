-- H: handing the conversation over to another agent.
local t = require "t"
local fake = require "fake"
local engine = require "lash.core.engine"
local lash = require "lash"

local function handoff(agent, reason)
    return { "handoff", { agent = agent, reason = reason } }
end

local function summary(outcomes)
    local list = {}
    for i, item in ipairs(outcomes) do
        list[i] = item.name .. ":" .. item.status
    end
    return table.concat(list, " ")
end

-- A tool that counts its runs.
local function counter(name, fn)
    local ran = { n = 0 }
    return lash.tool {
        name = name or "count", params = { i = "integer?" },
        async = function(args)
            ran.n = ran.n + 1
            return fn and fn(args) or "ran"
        end,
    }, ran
end

t.case("H1 a valid handoff is decided before a sibling starts", function()
    local tool, ran = counter()
    local b = fake.agent({ name = "b", tools = { tool } }, { "from b" })
    local a = fake.agent({ name = "a", tools = { tool }, handoffs = { b } },
        { fake.calls { { "count" }, handoff "b", { "count" }, { "unknown" }, { "count", "{" } } })
    local events = {}
    local result = a:run("go", { on_event = function(event)
        events[#events + 1] = event.type == "call.end" and event.type .. ":" .. event.status or event.type
    end })
    local outcomes = fake.outcomes(result.conversation)
    t.equal(summary(outcomes), "count:not_run handoff:ok count:not_run unknown:not_run count:not_run")
    for i = 1, 5 do
        t.has(outcomes[i].output, "control passed to b")
    end
    t.equal(ran.n, 0)
    t.equal({ result.text, result.agent, result.reason }, { "from b", "b", "done" })
    t.has(table.concat(events, " "), "call.end:ok") -- D18: each call has its events, also those that did not run
    local starts, ends = 0, 0
    for _, name in ipairs(events) do
        starts = starts + (name == "call.start" and 1 or 0)
        ends = ends + (name:find("^call.end") and 1 or 0)
    end
    t.equal({ starts, ends }, { 5, 5 })
end)

t.case("H1 with handoff_after_tools the siblings settle first, in call order", function()
    local tool, ran = counter("count", function(args)
        lash.sleep((4 - args.i) / 1000)
        return "out " .. args.i
    end)
    local seen
    local b = fake.agent({ name = "b" }, { function(conv)
        seen = conv.entries[#conv.entries]
        return "from b"
    end })
    local a = fake.agent({ name = "a", tools = { tool }, handoffs = { b }, handoff_after_tools = true },
        { fake.calls { { "count", { i = 1 } }, handoff "b", { "count", { i = 2 } }, { "count", { i = 3 } } } })
    local result = a:run("go")
    t.equal(ran.n, 3)
    t.equal(seen.type, "outcomes")
    t.equal(summary(seen.items), "count:ok handoff:ok count:ok count:ok")
    t.equal({ seen.items[1].output, seen.items[3].output, seen.items[4].output }, { "out 1", "out 2", "out 3" })
    t.equal(result.text, "from b")
end)

t.case("H2 no such agent: an error to the same agent, siblings run, the turn goes on", function()
    local tool, ran = counter()
    local b = fake.agent({ name = "billing" }, {})
    local a = fake.agent({ name = "a", tools = { tool }, handoffs = { b } },
        { fake.calls { handoff "biling", { "count" } }, "stayed" })
    local result = a:run("go")
    local outcomes = fake.outcomes(result.conversation)
    t.equal(summary(outcomes), "handoff:error count:ok")
    t.has(outcomes[1].output, "'biling'")
    t.has(outcomes[1].output, "billing")
    t.equal({ ran.n, result.text, result.agent }, { 1, "stayed", "a" })
end)

t.case("H2 bad arguments of a handoff", function()
    local b = fake.agent({ name = "b" }, {})
    local bad = {
        { "", "/agent" }, { "{", "JSON" }, { "[]", "/agent" }, { "null", "JSON object" }, { "{}", "/agent" },
        { '"b"', "JSON object" }, { '{"agent":1}', "/agent" }, { '{"agent":"b","reason":5}', "/reason" },
        { '{"agent":null}', "/agent" }, { '{"agent":["b"]}', "/agent" }, { '{"agent":"b"}}', "JSON" },
        { '{"agent":"b","to":"c"}', "to" },
    }
    local calls = {}
    for i, case in ipairs(bad) do
        calls[i] = { "handoff", case[1] }
    end
    local a = fake.agent({ name = "a", handoffs = { b } }, { fake.calls(calls), "stayed" })
    local result = a:run("go")
    local outcomes = fake.outcomes(result.conversation)
    for i, case in ipairs(bad) do
        t.equal(outcomes[i].status, "error", case[1])
        t.has(outcomes[i].output, case[2], case[1])
    end
    t.equal(result.agent, "a")
end)

t.case("H2 a target that is not ready: an error to the same agent, siblings run", function()
    local tool, ran = counter()
    local no_model = fake.agent({ name = "no_model", model = "fake/none" })
    local no_instructions = fake.agent({
        name = "no_instructions",
        instructions = { "ok", lash.prompt { name = "site", async = function() error("site is down", 0) end } },
    }, {})
    local bad_handoffs = fake.agent({ name = "bad_handoffs", handoffs = function() error("who knows", 0) end }, {})
    local a = fake.agent({ name = "a", tools = { tool }, handoffs = { no_model, no_instructions, bad_handoffs } },
        { fake.calls { handoff "no_model", { "count" }, handoff "no_instructions", handoff "bad_handoffs" }, "stayed" })
    local result = a:run("go")
    local outcomes = fake.outcomes(result.conversation)
    t.equal(summary(outcomes), "handoff:error count:ok handoff:error handoff:error")
    t.has(outcomes[1].output, "fake/none")
    t.has(outcomes[3].output, "site is down")
    t.has(outcomes[4].output, "who knows")
    t.equal({ ran.n, result.text, result.agent }, { 1, "stayed", "a" })
end)

t.case("H2 a failed handoff before a valid one", function()
    local b = fake.agent({ name = "b" }, { "from b" })
    local a = fake.agent({ name = "a", handoffs = { b } }, { fake.calls { handoff "x", handoff "b" } })
    local result = a:run("go")
    t.equal(summary(fake.outcomes(result.conversation)), "handoff:error handoff:ok")
    t.equal(result.agent, "b")
end)

t.case("H4 of several valid handoffs the first in call order wins", function()
    local function slow(name, seconds)
        return fake.agent({
            name = name,
            instructions = lash.prompt { name = "p", async = function() lash.sleep(seconds) return name end },
        }, { "from " .. name })
    end
    local b, c = slow("b", 0.01), slow("c", 0)
    local a = fake.agent({ name = "a", handoffs = { c, b } }, { fake.calls { handoff "b", handoff "c", handoff "b" } })
    local result = a:run("go")
    local outcomes = fake.outcomes(result.conversation)
    t.equal(summary(outcomes), "handoff:ok handoff:not_run handoff:not_run")
    t.has(outcomes[2].output, "control passed to b")
    t.equal(result.text, "from b")
end)

-- Two agents that hand over to each other: `hops` times, then an answer of text.
local function pair(hops, limits, measure)
    local count = 0
    local function step(to)
        return function()
            if measure then
                measure(count)
            end
            if count == hops then
                return fake.text("after " .. count)
            end
            count = count + 1
            return fake.calls { handoff(to) }
        end
    end
    local a, b
    fake.models["fake/a"], fake.models["fake/b"] = step("b"), step("a")
    a = lash.agent { name = "a", model = "fake/a", handoffs = function() return { b } end, limits = limits }
    b = lash.agent { name = "b", model = "fake/b", handoffs = function() return { a } end }
    return a
end

t.case("H8 thousands of hops in constant stack and flat memory", function()
    local levels, marks, hops = {}, {}, t.times(20000, 5000)
    local function measure(count)
        if count % (hops // 4) == 0 then
            fake.requests = {}
            collectgarbage()
            collectgarbage()
            marks[#marks + 1] = engine.memory()
            local n = 1
            while debug.getinfo(n, "l") do
                n = n + 1
            end
            levels[#levels + 1] = n
        end
        fake.requests = {}
    end
    local result = pair(hops, { handoffs = 1000000, turns = 0 }, measure):run("go")
    t.equal(result.text, "after " .. hops)
    t.equal(result.turns, hops + 1)
    t.equal(levels, { levels[1], levels[1], levels[1], levels[1], levels[1] })
    local first, last = marks[3] - marks[2], marks[5] - marks[4]
    t.ok(last < first * 1.2, ("%d bytes for a quarter of the hops, later %d"):format(first, last))
    t.equal(#result.conversation.entries, 2 * hops + 2)
end)

t.case("H9 the limit of handoffs: an error once, then the end, the transcript valid", function()
    local result = pair(100, { handoffs = 3 }):run("go", { no_raise = true })
    t.equal(result.reason, "handoff_limit")
    t.equal(result.exit, 80)
    local statuses = {}
    for n = 1, 5 do
        statuses[n] = fake.outcomes(result.conversation, n)[1].status
    end
    t.equal(statuses, { "ok", "ok", "ok", "error", "not_run" })
    t.has(fake.outcomes(result.conversation, 4)[1].output, "limit of 3 handoffs")
end)

t.case("H9 siblings of a refused handoff run; the limit counts per user message", function()
    local tool, ran = counter()
    local a, b
    fake.models["fake/x"] = function(conv, _, _)
        local last = conv.entries[#conv.entries]
        if last.type == "user" then
            return fake.calls { handoff "b" }
        elseif ran.n == 0 then
            return fake.calls { { "count" }, handoff "a", handoff "b" }
        end
        return fake.text("answered")
    end
    a = lash.agent { name = "a", model = "fake/x", tools = { tool }, handoffs = function() return { b, a } end,
        limits = { handoffs = 1 } }
    b = lash.agent { name = "b", model = "fake/x", tools = { tool }, handoffs = function() return { a, b } end,
        limits = { handoffs = 1 } }
    local conv = a:conversation()
    local result = conv:send("first")
    t.equal(summary(fake.outcomes(conv, 2)), "count:ok handoff:error handoff:not_run")
    t.equal({ result.reason, ran.n }, { "done", 1 })
    result = conv:send("second")
    t.equal({ result.reason, fake.outcomes(conv, 3)[1].status }, { "done", "ok" })
end)

t.case("H10 turns, budgets, usage and the deadline belong to the run", function()
    local result = pair(100, { handoffs = 1000, turns = 5 }):run("go", { no_raise = true })
    t.equal({ result.reason, result.turns }, { "turns", 6 })
    result = pair(100, { handoffs = 1000, requests = 7 }):run("go", { no_raise = true })
    t.equal({ result.reason, result.turns }, { "requests", 7 })
    result = pair(100, { handoffs = 1000, tokens = 9 }):run("go", { no_raise = true })
    t.equal({ result.reason, result.usage.total }, { "tokens", 10 })
    result = pair(100, { handoffs = 1000, tool_calls = 4 }):run("go", { no_raise = true })
    t.equal({ result.reason, #result.calls }, { "tool_calls", 5 })
    local started = lash.now()
    result = pair(1e9, { handoffs = 1000000000, turns = 0, time = 0.05 }):run("go", { no_raise = true })
    t.equal(result.reason, "time")
    t.ok(lash.now() - started < 20)
end)

t.case("H10 cancel and events belong to the run", function()
    local types = {}
    local agent = pair(1e9, { handoffs = 1000000000, turns = 0 })
    local conv = agent:conversation()
    local task = lash.spawn(conv.send, conv, "go", { on_event = function(event)
        types[#types + 1] = event.type
    end })
    lash.sleep(0.01)
    task:cancel()
    task:wait()
    t.equal(engine.cancel_reason(select(2, task:result())), "user")
    t.equal({ types[1], types[#types] }, { "run.start", "run.end" })
    local ends = 0
    for _, name in ipairs(types) do
        ends = ends + (name == "run.end" and 1 or 0)
    end
    t.equal(ends, 1)
    t.ok(not conv.open_calls)
end)

t.case("H2 T4 cancel while the target is prepared leaves a valid conversation", function()
    local waits = false
    local b = fake.agent({
        name = "b",
        instructions = lash.prompt { name = "slow", async = function()
            waits = true
            lash.sleep(60)
            return ""
        end },
    }, {})
    local tool = counter()
    local a = fake.agent({ name = "a", tools = { tool }, handoffs = { b } },
        { fake.calls { { "count" }, handoff "b" }, "second answer" })
    local conv = a:conversation()
    local task = lash.spawn(conv.send, conv, "go")
    while not waits do
        lash.sleep(0.001)
    end
    task:cancel()
    task:wait()
    t.equal(engine.cancel_reason(select(2, task:result())), "user")
    t.equal(summary(fake.outcomes(conv)), "count:not_run handoff:not_run")
    t.equal(conv:send("again").text, "second answer")
end)

t.case("T4 cancel while siblings of a handoff run: control has not passed", function()
    local waits = false
    local slow = lash.tool { name = "slow", async = function()
        waits = true
        lash.sleep(60)
    end }
    local b = fake.agent({ name = "b" }, {})
    local a = fake.agent({ name = "a", tools = { slow }, handoffs = { b }, handoff_after_tools = true },
        { fake.calls { { "slow" }, handoff "b" }, "second answer" })
    local conv = a:conversation()
    local task = lash.spawn(conv.send, conv, "go")
    while not waits do
        lash.sleep(0.001)
    end
    task:cancel()
    task:wait()
    local outcomes = fake.outcomes(conv)
    t.equal(summary(outcomes), "slow:cancelled handoff:not_run")
    t.equal(conv:send("again").agent, "a")
end)

t.case("H13 H14 parallel calls stay on, targets are an enum", function()
    local b = fake.agent({ name = "b", description = "knows bills" }, {})
    local c = fake.agent({ name = "c" }, {})
    local view
    local tool = counter()
    local a = fake.agent({ name = "a", tools = { tool }, handoffs = { b, c } }, { function(_, v)
        view = v
        return "ok"
    end })
    a:run("go")
    t.equal(view.parallel, true)
    t.has(view.system, "same turn")
    local declared = view.tools[2]
    t.equal(declared.name, "handoff")
    t.equal({ declared.schema.properties.agent.enum[1], declared.schema.properties.agent.enum[2] }, { "b", "c" })
    t.has(declared.description, "b: knows bills")
end)

t.case("H the new agent has its own instructions, tools and model; the first keeps the history", function()
    local only_b = lash.tool { name = "only_b", async = function() return "b's own" end }
    local views = {}
    local b = fake.agent({ name = "b", tools = { only_b }, instructions = "I am b" }, {
        function(conv, v)
            views.b = v
            t.equal(conv.entries[1], { type = "user", text = "go" })
            return fake.calls { { "only_b" } }
        end, "done",
    })
    local a = fake.agent({ name = "a", handoffs = { b }, instructions = "I am a" }, { function(_, v)
        views.a = v
        return fake.calls { handoff "b" }
    end })
    local result = a:run("go")
    t.equal({ views.a.system, views.b.system }, { "I am a", "I am b" })
    t.equal({ #views.a.tools, views.b.tools[1].name }, { 1, "only_b" })
    t.equal(fake.outcomes(result.conversation, 2)[1].output, "b's own")
    t.equal(result.conversation.agent.name, "b")
end)

t.case("H a tool named handoff without handoffs is an ordinary tool; with them it is refused", function()
    local tool, ran = counter("handoff")
    local a = fake.agent({ tools = { tool } }, { fake.calls { { "handoff" } }, "done" })
    a:run("go")
    t.equal(ran.n, 1)
    t.raises("handoff", fake.agent, { tools = { tool }, handoffs = { a } }, {})
end)

t.case("H12 as_tool runs beside siblings; its failure is an outcome for the caller", function()
    local gate, inside = false, 0
    local helper_tool = lash.tool { name = "wait", async = function()
        inside = inside + 1
        while not gate do
            lash.sleep(0.001)
        end
        return "waited"
    end }
    local good = fake.agent({ name = "good", tools = { helper_tool } }, { fake.calls { { "wait" } }, "good answer" })
    local bad = fake.agent({ name = "bad", model = "fake/none" })
    local broken = fake.agent({ name = "broken" }, { function() return nil, { message = "server is down", exit = 69 } end })
    local endless = fake.agent({ name = "endless", limits = { turns = 1 } }, { fake.calls { { "x" } }, fake.calls { { "x" } } })
    local sibling = lash.tool { name = "sibling", async = function()
        while inside == 0 do
            lash.sleep(0.001)
        end
        gate = true
        return "sibling"
    end }
    local outcomes, result = fake.batch(
        { good:as_tool(), bad:as_tool(), broken:as_tool { name = "renamed" }, endless:as_tool(), sibling },
        { { "good", { input = "x" } }, { "bad", { input = "x" } }, { "renamed", { input = "x" } },
            { "endless", { input = "x" } }, { "sibling" }, { "good", "{}" } })
    t.equal(summary(outcomes), "good:ok bad:error renamed:error endless:error sibling:ok good:error")
    t.equal(outcomes[1].output, "good answer")
    t.has(outcomes[2].output, "fake/none")
    t.has(outcomes[3].output, "server is down")
    t.has(outcomes[4].output, "turns")
    t.equal({ result.text, result.reason }, { "done", "done" })
end)

t.case("H12 cancel of the caller ends the delegated run; a timeout of it does not end the caller", function()
    local begun, ended = 0, 0
    local slow = lash.tool { name = "slow", async = function()
        begun = begun + 1
        local x <close> = setmetatable({}, { __close = function() ended = ended + 1 end })
        lash.sleep(60)
    end }
    local inner = fake.agent({ name = "inner", tools = { slow } }, { fake.calls { { "slow" }, { "slow" } } })
    local outcomes = fake.batch({ inner:as_tool { timeout = 1 } }, { { "inner", { input = "x" } } })
    t.equal({ outcomes[1].status, ended }, { "timeout", 2 })
    local inner2 = fake.agent({ name = "inner", tools = { slow } }, { fake.calls { { "slow" } } })
    local outer = fake.agent({ tools = { inner2:as_tool() } }, { fake.calls { { "inner", { input = "x" } } } })
    local task = lash.spawn(outer.run, outer, "go")
    t.wait_until(function() return begun == 3 end, "the call")
    task:cancel()
    task:wait()
    t.equal({ engine.cancel_reason(select(2, task:result())), ended }, { "user", 3 })
end)

t.case("H12 delegation has caps of its own", function()
    local running, most = 0, 0
    local tool = lash.tool { name = "part", params = { i = "integer" }, async = function()
        running = running + 1
        most = math.max(most, running)
        lash.sleep(0.001)
        running = running - 1
    end }
    fake.models["fake/inner"] = function(conv)
        return #conv.entries == 1 and fake.many(6, "part") or fake.text("done")
    end
    local inner = lash.agent { name = "inner", model = "fake/inner", tools = { tool }, limits = { concurrency = 2 } }
    fake.batch({ inner:as_tool() }, { { "inner", { input = "x" } }, { "inner", { input = "x" } }, { "inner", { input = "x" } } })
    t.equal(most, 6)
end)

return t.main(...)
