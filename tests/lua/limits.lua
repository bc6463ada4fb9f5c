-- Limits and cancel of runs: each has its own ending, what was done is given back, history stays valid.
local t = require "t"
local fake = require "fake"
local engine = require "lash.core.engine"
local lash = require "lash"
local near = require "lash.near"
local support = require "support.calls"

local outputs, statuses, watched, of_type = support.outputs, support.statuses, support.watched, support.of_type

local function step(more)
    local spec = { name = "step", params = { i = "integer" }, async = function(args) return "did " .. args.i end }
    for name, value in pairs(more or {}) do
        spec[name] = value
    end
    return lash.tool(spec)
end

-- A tool whose calls wait until it is opened; ready() waits until `n` of them have started.
local function waiting(n, more)
    local gate, there, count = support.door(), support.door(), 0
    local tool = step(more or { async = function(args)
        count = count + 1
        if count == n then
            there.open()
        end
        if args.i > 1 then
            gate.pass()
        end
        return "did " .. args.i
    end })
    return tool, there.pass
end

-- ---- T1: waiting for a turn ----

t.case("T1 a call that waits for its turn too long is answered, and never starts", function()
    local ran, there, gone = {}, support.door(), support.door()
    local tool = step { async = function(args)
        ran[#ran + 1] = args.i
        if #ran == 2 then
            there.open()
        end
        gone.pass()
        return "did " .. args.i
    end, limit = 1 }
    local timeouts = 0
    local result, events = watched(fake.agent({ tools = { tool }, limits = { wait = 0.05 }, on_event = function(event)
        if event.type == "call.end" and event.status == "timeout" then
            timeouts = timeouts + 1
            if timeouts == 2 then
                gone.open()
            end
        end
    end }, { fake.many(3, "step"), "done" }))
    local outcomes = fake.outcomes(result.conversation)
    t.equal(statuses(outcomes), "ok timeout timeout")
    t.equal(outcomes[2].output, "not started: it waited 0.05 s for its turn, which did not come (limits.wait)")
    t.equal({ ran, result.text }, { { 1 }, "done" })
    t.equal({ #of_type(events, "call.start"), #of_type(events, "call.end") }, { 3, 3 })
end)

t.case("T1 the time of a call counts from its start, not from when it began to wait", function()
    local tool = step { timeout = 2 * t.slower, parallel = "one", async = function(args)
        lash.sleep(0.05)
        return args.i
    end }
    local limits = { wait = 60 * t.slower }
    local agent = fake.agent({ tools = { tool }, limits = limits }, { fake.many(50, "step"), "done" })
    for _, item in ipairs(fake.outcomes(agent:run("go").conversation)) do
        t.equal(item.status, "ok")
    end
end)

t.case("T1 0 is no limit; 300 s is the default; with E2 a turn that does not come is a failure", function()
    t.equal(fake.agent({}, {}).limits.wait, 300)
    local function held(limits, fail_fast)
        local gate, begun = support.door(), 0
        local tool = step { limit = 1, async = function(args)
            begun = begun + 1
            if args.i == 1 then
                gate.pass()
            end
        end }
        local agent = fake.agent({ tools = { tool }, limits = limits, fail_fast = fail_fast },
            { fake.many(3, "step"), "done" })
        local conv = agent:conversation()
        local task = lash.spawn(watched, agent, { conversation = conv })
        if fail_fast then
            task:wait() -- the first one is cancelled
        else
            lash.sleep(0.06)
        end
        gate.open()
        task:wait()
        return statuses(fake.outcomes(conv)), begun, select(2, task:result()).reason
    end
    t.equal({ held { wait = 0 } }, { "ok ok ok", 3, "done" })
    t.equal({ held { wait = 60 } }, { "ok ok ok", 3, "done" })
    t.equal({ held({ wait = 0.02 }, true) }, { "cancelled timeout not_run", 1, "call_failed" })
end)

t.case("T1 a barrier counts as waiting as well, calls of other conversations too", function()
    local gate = support.door()
    local first = step { async = function() gate.pass() end }
    local wall = lash.tool { name = "wall", parallel = false, async = print }
    local result = watched(fake.agent({ tools = { first, wall }, limits = { wait = 0.02 }, on_event = function(event)
        if event.status == "timeout" then
            gate.open()
        end
    end }, { fake.calls { { "step", { i = 1 } }, { "wall" } }, "done" }))
    t.equal(statuses(fake.outcomes(result.conversation)), "ok timeout")
    local held = support.door()
    local scarce = step { limit = 1, async = function(args)
        if args.i == 1 then
            held.pass()
        end
    end }
    local begin = lash.spawn(fake.batch, { scarce }, { { "step", { i = 1 } } })
    lash.sleep(0.001)
    local outcomes = fake.batch({ scarce }, { { "step", { i = 2 } } }, { limits = { wait = 0.02 } })
    t.equal(statuses(outcomes), "timeout")
    held.open()
    begin:wait()
    t.equal(statuses((select(2, begin:result()))), "ok")
end)

-- ---- B1, B4: each limit has its reason, what was done comes back ----

t.case("B1 B4 each limit has its own reason and exit status, and what was done comes back", function()
    local function again()
        return fake.calls { "so far. ", { "step", { i = 1 } } }
    end
    local here
    local cases = {
        { "turns", 80, { turns = 2 }, { again, again, "what I have" }, "what I have", 2 },
        { "requests", 80, { requests = 2 }, { again, again }, "so far. ", 2 },
        { "tokens", 80, { tokens = 3 }, { again, again }, "so far. ", 2 },
        { "tool_calls", 80, { tool_calls = 2 }, { again, again, again }, "so far. ", 3 },
        { "time", 124, { time = 0.1 * t.slower }, { again, function() lash.sleep(60) end }, "so far. ", 1 },
        { "handoff_limit", 80, { handoffs = 0 + 1 }, nil, "so far. ", 3 },
    }
    for _, case in ipairs(cases) do
        local reason, exit, limits, steps, text, calls = table.unpack(case, 1, 6)
        local spec = { tools = { step() }, limits = limits }
        if not steps then
            spec.handoffs = function() return { here } end
            steps = {}
            for i = 1, 3 do
                steps[i] = fake.calls { "so far. ", { "handoff", { agent = "tester" } } }
            end
        end
        local agent = fake.agent(spec, steps)
        here = agent
        local result, events = watched(agent)
        t.equal({ result.reason, result.exit, result.ok, result.text, #result.calls },
            { reason, exit, false, text, calls }, reason)
        t.equal({ events[#events].type, events[#events].reason, events[#events].exit }, { "run.end", reason, exit })
        t.ok(#result.items > calls, reason)
        t.equal(result.items[1], { type = "user", text = "go" })
    end
end)

t.case("B2 a batch that would pass the call limit is refused before any of it starts", function()
    local ran = 0
    local tool = step { async = function() ran = ran + 1 end }
    local agent = fake.agent({ tools = { tool }, limits = { tool_calls = 5 } },
        { fake.many(3, "step"), fake.many(3, "step"), "after" })
    local conv = agent:conversation()
    local result, events = watched(agent, { conversation = conv })
    t.equal({ result.reason, ran, #result.calls }, { "tool_calls", 3, 6 })
    t.equal(statuses(fake.outcomes(conv, 2)), "not_run not_run not_run")
    t.equal(outputs(fake.outcomes(conv, 2))[1], "not run: the limit of tool calls is reached")
    t.equal({ #of_type(events, "call.start"), #of_type(events, "call.end") }, { 6, 6 })
    t.equal(conv:send("again").text, "after")
    t.equal(ran, 3)
end)

t.case("B4 the last request is told so, and has no tools to choose from", function()
    local view
    local agent = fake.agent({ tools = { step() }, limits = { turns = 1 } }, { fake.many(1, "step"), function(conv, seen)
        view = seen
        t.has(conv.entries[#conv.entries].text, "limit of turns")
        return "an answer"
    end })
    local result = watched(agent)
    t.equal({ view.tool_choice, result.reason, result.text }, { "none", "turns", "an answer" })
end)

t.case("T7 the time of a run covers the model, tools, waits for a turn and pauses between attempts", function()
    t.patience()
    local time = 1 -- by then all have begun
    local nap = step { async = function() lash.sleep(60) end }
    local one = step { parallel = "one", async = function() lash.sleep(60) end }
    local work = lash.tool { name = "step", params = { i = "integer" }, sync = function() require("lash").sleep(60) end }
    local again = lash.tool { name = "step", params = { i = "integer" }, idempotent = true,
        retry = { attempts = 9, delay = 60, max_delay = 60 }, async = function() error("fell", 0) end }
    local inner = fake.agent({ name = "step" }, { function() lash.sleep(60) end }):as_tool()
    local cases = {
        model = { {}, { function() lash.sleep(60) end }, nil },
        async = { { nap }, { fake.many(2, "step") }, "cancelled cancelled" },
        sync = { { work }, { fake.many(2, "step") }, "cancelled cancelled" },
        turn = { { one }, { fake.many(2, "step") }, "cancelled not_run" },
        pause = { { again }, { fake.many(1, "step") }, "cancelled" },
        delegated = { { inner }, { fake.calls { { "step", { input = "x" } } } }, "cancelled" },
    }
    local names = near.names(cases)
    lash.map(names, function(name)
        local case, begin = cases[name], lash.now()
        local result = watched(fake.agent({ tools = case[1], limits = { time = time } }, case[2]))
        t.equal({ result.reason, result.exit }, { "time", 124 }, name)
        t.ok(lash.now() - begin < 25, name) -- each of them would sleep for a minute
        if case[3] then
            local outcomes = fake.outcomes(result.conversation)
            t.equal(statuses(outcomes), case[3], name)
            t.equal(outcomes[1].output, "cancelled: the run's time limit of 1 s was over", name)
            t.equal(outcomes[2] and outcomes[2].status == "not_run" and outcomes[2].output, outcomes[2] and
                outcomes[2].status == "not_run" and "not run: the run's time limit of 1 s was over before this call "
                .. "started", name)
        end
    end, { raise = true })
    t.equal(engine.live(), 1)
end)

-- ---- T4, T5: cancel ----

t.case("T4 conversation:cancel() ends the run alone: settled stay, running are cancelled, queued not run", function()
    local tool, ready = waiting(4)
    local agent = fake.agent({ tools = { tool }, limits = { concurrency = 3 } },
        { fake.many(6, "step"), "after", "and again" })
    local conv = agent:conversation()
    lash.spawn(function()
        ready()
        t.equal(conv:cancel(), true)
    end)
    local result, events = watched(agent, { conversation = conv }) -- this task goes on
    local outcomes = fake.outcomes(conv)
    t.equal(statuses(outcomes), "ok cancelled cancelled cancelled not_run not_run")
    t.equal({ outcomes[1].output, outcomes[2].output, outcomes[5].output }, { "did 1", "cancelled: the run was cancelled",
        "not run: the run was cancelled before this call started" })
    t.equal({ result.reason, result.exit, result.ok, #result.calls, events[#events].reason },
        { "cancelled", 130, false, 6, "cancelled" })
    t.equal(conv:send("again").text, "after")
    t.equal(conv:send("again").text, "and again")
end)

t.case("T5 conversation:cancel() is legal at any time and idempotent", function()
    local conv, is_asked
    local agent = fake.agent({ tools = { step { async = function()
        t.equal({ conv:cancel(), conv:cancel() }, { true, true }) -- from a tool of its own run
        lash.sleep(60)
    end } } }, { "one", fake.many(1, "step"), function() conv:cancel() lash.sleep(60) end,
        function() is_asked = true lash.sleep(60) end, "last" })
    conv = agent:conversation()
    t.equal(conv:cancel(), false)
    t.equal(conv:send("go").reason, "done")
    t.equal(conv:cancel(), false)
    local result = conv:send("go")
    t.equal({ result.reason, statuses(fake.outcomes(conv)) }, { "cancelled", "cancelled" })
    t.equal(conv:send("go").reason, "cancelled") -- while the model answers
    local result_of = {}
    local task = lash.spawn(function() result_of[1] = conv:send("go") end)
    repeat lash.sleep(0) until is_asked -- else it would be the next one that is
    t.equal({ conv:cancel(), conv:cancel() }, { true, true })
    task:wait()
    t.equal({ task:result(), result_of[1].reason }, { true, "cancelled" })
    t.equal({ conv:send("go").text, conv:cancel() }, { "last", false })
end)

t.case("T5 a cancel from a listener, at every event of a run", function()
    local function run(at)
        local conv, n, types = nil, 0, {}
        local agent = fake.agent({ tools = { step() }, on_event = function(event)
            n = n + 1
            types[n] = event.type
            if n == at then
                conv:cancel()
            end
        end }, { fake.many(2, "step"), "done", "after", "after that" })
        conv = agent:conversation()
        local result = conv:send("go")
        local ends, count = 0, n
        for i = 1, n do
            ends = ends + (types[i] == "run.end" and 1 or 0)
        end
        t.equal({ ends, types[n] }, { 1, "run.end" }, "at event " .. at)
        t.ok(not conv.open_calls)
        -- once the final answer is there, nothing is left that could be cancelled
        t.equal(result.reason, at <= 10 and "cancelled" or "done", "at event " .. at .. ", " .. tostring(types[at]))
        at = -1
        t.equal(conv:send("again").reason, "done", "the next request is valid")
        return count
    end
    local events = run(1000)
    for at = 1, events do
        run(at)
    end
end)

t.case("T5 outcomes tell a user's cancel, a call's deadline, the run's, a caller's and a sibling's failure apart", function()
    local begun
    local function nap(timeout)
        return step { timeout = timeout, async = function()
            begun.open()
            lash.sleep(60)
        end }
    end
    local function text_of(spec, stop)
        begun = support.door()
        local agent = fake.agent(spec, { fake.many(1, "step"), "done" })
        local conv = agent:conversation()
        stop(function() return conv:send("go", { no_raise = true }) end, conv)
        local outcome = fake.outcomes(conv)[1]
        return outcome.status .. ": " .. outcome.output
    end
    local function plain(send)
        send()
    end
    t.equal(text_of({ tools = { nap(0.01) } }, plain), "timeout: timed out after 0.01 s")
    t.equal(text_of({ tools = { nap() }, limits = { time = 1 } }, plain),
        "cancelled: cancelled: the run's time limit of 1 s was over")
    t.equal(text_of({ tools = { nap() } }, function(send, conv)
        local task = lash.spawn(send)
        begun.pass()
        conv:cancel()
        task:wait()
    end), "cancelled: cancelled: the run was cancelled")
    t.equal(text_of({ tools = { nap() } }, function(send)
        local task = lash.spawn(send)
        begun.pass()
        task:cancel()
        task:wait()
    end), "cancelled: cancelled: the run was cancelled")
    t.equal(text_of({ tools = { nap() } }, function(send)
        local task = lash.spawn(send)
        begun.pass()
        task:deadline(0)
        task:wait()
    end), "cancelled: cancelled: the time limit of who asked for the run was over")
    t.equal(text_of({ tools = { nap() } }, function(send)
        pcall(lash.gather, { send, function() begun.pass() error("beside it") end }, { raise = true })
    end), "cancelled: cancelled: the run was cancelled because something beside it failed")
end)

t.case("T5 the run of a task whose time is over ends with the reason time; a cancelled one with cancelled", function()
    for how, reason in pairs { deadline = "time", cancel = "cancelled" } do
        local seen
        local begun = support.door()
        local agent = fake.agent({ on_event = function(event) seen = event end }, { function()
            begun.open()
            lash.sleep(60)
        end })
        local task = lash.spawn(agent.run, agent, "go")
        begun.pass()
        if how == "deadline" then
            task:deadline(0)
        else
            task:cancel()
            task:cancel("deadline") -- the first reason stays
        end
        task:wait()
        t.equal({ seen.type, seen.reason }, { "run.end", reason })
        t.ok(engine.cancel_reason(select(2, task:result())), "the caller sees that it was cancelled")
    end
end)

t.case("T6 T1 an async tool that catches every cancel is answered at its deadline, with one start and one end", function()
    for _, idempotent in ipairs { false, true } do
        local tool = step { timeout = 0.02, idempotent = idempotent, retry = idempotent and { attempts = 2, delay = 0 } or nil,
            async = function() while true do pcall(lash.sleep, 60) end end }
        local result, events = watched(fake.agent({ tools = { tool } }, { fake.many(2, "step"), "done" }))
        t.equal({ result.text, statuses(fake.outcomes(result.conversation)) }, { "done", "timeout timeout" })
        t.equal({ #of_type(events, "call.start"), #of_type(events, "call.end") }, { 2, 2 })
    end
end)

return t.main(...)
