-- Attempts of tools that are marked idempotent, and what other tools never get.
local t = require "t"
local fake = require "fake"
local engine = require "lash.core.engine"
local lash = require "lash"
local retries = require "lash.retries"
local support = require "support.calls"

local statuses, watched, of_type = support.statuses, support.watched, support.of_type

local QUICK = { attempts = 3, delay = 0.001, max_delay = 0.002 }

-- Runs one call of a tool; returns its outcome, the events, the result.
local function one(tool, spec, args)
    spec = spec or {}
    spec.tools = { tool }
    local result, events = watched(fake.agent(spec, { fake.calls { { tool.name, args } }, "done" }))
    return fake.outcomes(result.conversation)[1], events, result
end

-- A tool that fails `times` times, and notes the contexts that it gets.
local function flaky(times, spec, fail)
    local seen = {}
    spec = spec or {}
    spec.name, spec.retry = spec.name or "flaky", spec.retry == nil and QUICK or spec.retry
    spec.idempotent = true
    spec.async = function(args, ctx)
        seen[#seen + 1] = { attempt = ctx.attempt, key = ctx.key, call = ctx.call, args = args.n }
        args.n = "changed"
        if #seen <= times then
            return (fail or error)(("failure %d"):format(#seen), 0)
        end
        return "at last"
    end
    spec.params = { n = "integer?" }
    return lash.tool(spec), seen
end

t.case("T an idempotent tool is tried again; one start, one end, an event for each retry", function()
    local tool, seen = flaky(2)
    local outcome, events = one(tool, {}, { n = 7 })
    t.equal({ outcome.status, outcome.output, #seen }, { "ok", "at last", 3 })
    for i, ctx in ipairs(seen) do
        t.equal(ctx, { attempt = i, key = seen[1].key, call = "1.1", args = 7 }, "the same key and the same arguments")
    end
    t.equal({ #of_type(events, "call.start"), #of_type(events, "call.end") }, { 1, 1 })
    local again = of_type(events, "retry")
    t.equal(#again, 2)
    for i, event in ipairs(again) do
        t.equal({ event.what, event.why, event.call, event.attempt }, { "flaky", "failure " .. i, "1.1", i + 1 })
        t.ok(math.type(event.wait_ms) == "integer" and event.wait_ms <= 2)
    end
end)

t.case("T the output after the last attempt names how many there were", function()
    local tool, seen = flaky(99)
    local outcome = one(tool)
    t.equal({ outcome.status, outcome.output, #seen }, { "error", "failed 3 times; the last error: failure 3", 3 })
    tool = flaky(99, { max_output = 300 }, function() error(("x"):rep(1000), 0) end)
    t.ok(#one(tool).output <= 300)
    tool = flaky(99, nil, function(text) return nil, text end)
    t.equal(one(tool).output, "failed 3 times; the last error: failure 3")
end)

t.case("T7 a timeout counts for each attempt, and is tried again; the run's time covers all of them", function()
    local seen = 0
    local function nap(spec)
        spec.name, spec.idempotent, spec.timeout = "nap", true, 0.01
        spec.async = function()
            seen = seen + 1
            lash.sleep(60)
        end
        return lash.tool(spec)
    end
    local outcome = one(nap { retry = QUICK })
    t.equal({ outcome.status, outcome.output, seen },
        { "timeout", "failed 3 times; the last error: timed out after 0.01 s", 3 })
    seen = 0
    local result = watched(fake.agent({ tools = { nap { retry = { attempts = 1000, delay = 0.001, max_delay = 0.001 } } },
        limits = { time = 0.2 * t.slower } }, { fake.calls { { "nap" } } }))
    t.equal({ result.reason, fake.outcomes(result.conversation)[1].status }, { "time", "cancelled" })
    t.ok(seen >= 2, seen .. " attempts")
end)

t.case("T sync tools are tried again, each time from the same snapshot", function()
    local state = { n = 0 }
    local tool = lash.tool { name = "worker", idempotent = true, retry = QUICK, params = { n = "integer" },
        sync = function(args, ctx)
            state.n = state.n + 1
            args.n = args.n + 1
            if ctx.attempt < 3 then
                error(("attempt %d"):format(ctx.attempt), 0)
            end
            return ("%d %d %s"):format(state.n, args.n, ctx.key)
        end }
    local outcome, events = one(tool, {}, { n = 5 })
    t.equal(outcome.status, "ok")
    t.has(outcome.output, "1 6 ")
    t.equal(#of_type(events, "retry"), 2)
end)

t.case("T side effects of other tools happen once", function()
    for _, spec in ipairs { {}, { idempotent = false } } do
        local ran = 0
        spec.name, spec.async = "once", function()
            ran = ran + 1
            error("fell", 0)
        end
        local outcome = one(lash.tool(spec), { retry = QUICK })
        t.equal({ outcome.status, outcome.output, ran }, { "error", "fell", 1 })
    end
    local file = t.path()
    local tool = lash.tool { name = "append", sync = function()
        local f = assert(io.open(file, "a"))
        f:write("x")
        f:close()
        error("fell", 0)
    end }
    t.remove_later(file)
    t.equal(one(tool, { retry = QUICK }).output, "fell")
    local f = io.open(file)
    t.equal(f:read("a"), "x")
    f:close()
end)

t.case("T an error that says retry = false is the last one, through both marks", function()
    local ran = 0
    local tool = lash.tool { name = "final", idempotent = true, retry = QUICK, async = function()
        ran = ran + 1
        error { message = "never again", retry = false }
    end }
    t.equal({ one(tool).output, ran }, { "never again", 1 })
    tool = lash.tool { name = "final", idempotent = true, retry = QUICK, sync = function(_, ctx)
        if ctx.attempt == 2 then
            return nil, { message = "never again", retry = false }
        end
        error { message = "try", retry = true }
    end }
    t.equal(one(tool).output, "failed 2 times; the last error: never again")
end)

t.case("T wrong arguments, unknown tools and cancelled calls are not tried again", function()
    local tool, seen = flaky(99)
    local outcome, events = one(tool, {}, '{"n":"x"}')
    t.equal({ outcome.status, #seen, #of_type(events, "retry") }, { "error", 0, 0 })
    local ran, conv = 0, nil
    local self_cancel = lash.tool { name = "stop", idempotent = true, retry = QUICK, async = function()
        ran = ran + 1
        conv:cancel()
        error("fell", 0)
    end }
    conv = fake.agent({ tools = { self_cancel } }, { fake.calls { { "stop" } }, "after" }):conversation()
    t.equal(watched(nil, { conversation = conv }).reason, "cancelled")
    t.equal({ fake.outcomes(conv)[1].status, ran }, { "cancelled", 1 })
end)

t.case("T4 a run that is cancelled between two attempts ends at once", function()
    local conv
    local tool, seen = flaky(99, { retry = { attempts = 5, delay = 60, max_delay = 60 } })
    local agent = fake.agent({ tools = { tool }, on_event = function(event)
        if event.type == "retry" then
            conv:cancel()
        end
    end }, { fake.calls { { "flaky" } }, "after" })
    conv = agent:conversation()
    t.equal(watched(agent, { conversation = conv }).reason, "cancelled")
    t.equal({ fake.outcomes(conv)[1].status, #seen }, { "cancelled", 1 })
    t.equal(conv:send("again").text, "after")
end)

t.case("E2 with fail_fast a call fails when its attempts are over, and ends those of others", function()
    local tool, seen = flaky(2)
    local _, _, result = one(tool, { fail_fast = true })
    t.equal({ result.reason, #seen }, { "done", 3 })
    local bad = flaky(99)
    local patient, slept = flaky(99, { name = "patient", retry = { attempts = 5, delay = 60, max_delay = 60 } })
    result = watched(fake.agent({ tools = { bad, patient }, fail_fast = true },
        { fake.calls { { "patient" }, { "flaky" } } }))
    t.equal({ statuses(fake.outcomes(result.conversation)), #slept }, { "cancelled error", 1 })
    t.equal(result.error.output, "failed 3 times; the last error: failure 3")
end)

t.case("T the agent's and the tool's own `retry`", function()
    local function attempts_of(of_agent, of_tool)
        local ran = 0
        local tool = lash.tool { name = "x", idempotent = true, retry = of_tool, async = function()
            ran = ran + 1
            error("fell", 0)
        end }
        one(tool, { retry = of_agent })
        return ran
    end
    t.equal(attempts_of(false, nil), 1)
    t.equal(attempts_of({ attempts = 4, delay = 0 }, nil), 4)
    t.equal(attempts_of({ attempts = 4, delay = 0 }, { attempts = 2 }), 2)
    t.equal(attempts_of({ attempts = 4, delay = 0 }, false), 1)
    t.equal(attempts_of(false, { attempts = 2, delay = 0 }), 2)
    t.equal(attempts_of({ attempts = 1 }, nil), 1)
    local plain = lash.tool { name = "x", idempotent = true, async = print }
    t.equal(retries.policy(plain, nil), { attempts = 3, delay = 0.2, max_delay = 2 })
    t.equal(retries.policy(plain, { delay = 5 }), { attempts = 3, delay = 5, max_delay = 5 })
    t.equal(retries.policy(plain, { max_delay = 0.1 }), { attempts = 3, delay = 0.2, max_delay = 0.1 })
end)

t.case("T the pause doubles up to its limit, up to a quarter less", function()
    local policy = { attempts = 1000, delay = 0.2, max_delay = 2 }
    for n, most in ipairs { 0.2, 0.4, 0.8, 1.6, 2, 2 } do
        local low, high = math.huge, 0
        for _ = 1, 200 do
            local delay = retries.delay(policy, n)
            low, high = math.min(low, delay), math.max(high, delay)
        end
        t.ok(high <= most and low >= most * 0.75 and high - low > most * 0.1, ("%d: %g to %g"):format(n, low, high))
    end
    t.ok(retries.delay(policy, 999) <= 2)
    t.equal(retries.delay({ delay = 0, max_delay = 0 }, 999), 0.0)
end)

t.case("T `retry` that cannot work says why", function()
    local fn = function() end
    t.raises("idempotent", lash.tool, { name = "x", async = fn, retry = { attempts = 2 } })
    for _, retry in ipairs { true, { attempts = 0 }, { attempts = 1.5 }, { attempts = 1 << 40 }, { delay = -1 },
        { delay = 0 / 0 }, { max_delay = math.huge }, { atempts = 3 }, { 3 } } do
        t.raises("retry", lash.tool, { name = "x", async = fn, idempotent = true, retry = retry })
        t.raises("retry", lash.agent, { name = "x", retry = retry })
    end
    t.equal(lash.tool({ name = "x", async = fn, retry = false }).retry, false)
end)

-- ---- permits ----

t.case("D7 between two attempts others may have the worker, the tool's limit and its name", function()
    engine.jobs(1)
    local other_ran = support.door()
    local tools = {
        lash.tool { name = "retried", limit = 1, parallel = "db", idempotent = true,
            retry = { attempts = 2, delay = 60, max_delay = 60 }, sync = function() error("fell", 0) end },
        lash.tool { name = "other", parallel = "db", sync = function() return "ran" end },
    }
    local conv
    local agent = fake.agent({ tools = tools, on_event = function(event)
        if event.type == "call.end" and event.name == "other" then
            other_ran.open()
            conv:cancel() -- the pause is long
        end
    end }, { fake.calls { { "retried" }, { "other" } }, "after" })
    conv = agent:conversation()
    t.equal(watched(agent, { conversation = conv }).reason, "cancelled")
    other_ran.pass()
    t.equal(statuses(fake.outcomes(conv)), "cancelled ok")
end)

t.case("D6 a retried call queues again for what it gave back, and keeps its place in the batch", function()
    local m, all = support.meter(), support.meter()
    local tool = lash.tool { name = "scarce", limit = 2, idempotent = true, retry = QUICK, params = { i = "integer" },
        async = function(args, ctx)
            m.enter(args.i)
            lash.sleep(0)
            m.leave()
            if ctx.attempt < 3 then
                error("fell", 0)
            end
            return args.i
        end }
    local function run()
        return watched(fake.agent({ tools = { tool }, limits = { concurrency = 4 }, on_event = function(event)
            if event.type == "call.start" then
                all.enter()
            elseif event.type == "call.end" then
                all.leave()
            end
        end }, { fake.many(12, "scarce"), "done" }))
    end
    local results = lash.gather({ run, run }, { raise = true })
    for _, result in ipairs(results) do
        t.equal(support.outputs(fake.outcomes(result.conversation)),
            { "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12" })
    end
    t.equal({ m.most, #m.started }, { 2, 72 })
    t.ok(all.most <= 8, all.most .. " calls at once in two batches of 4")
end)

t.case("D8 a barrier stays one while it waits for its next attempt", function()
    local log = {}
    local wall = lash.tool { name = "wall", parallel = false, idempotent = true, retry = QUICK, async = function(_, ctx)
        log[#log + 1] = "w" .. ctx.attempt
        lash.sleep(0)
        return ctx.attempt == 3 or error("fell", 0)
    end }
    local free = lash.tool { name = "free", async = function() log[#log + 1] = "f" end }
    fake.batch({ wall, free }, { { "free" }, { "wall" }, { "free" } })
    t.equal(table.concat(log, " "), "f w1 w2 w3 f")
end)

t.case("T1 an attempt whose turn does not come is given up with the last error", function()
    local held = support.door()
    local conv
    local retried = lash.tool { name = "retried", parallel = "db", idempotent = true, retry = QUICK,
        async = function() error("fell", 0) end }
    local holder = lash.tool { name = "holder", parallel = "db", async = function() held.pass() end }
    local agent = fake.agent({ tools = { retried, holder }, limits = { wait = 0.05 }, on_event = function(event)
        if event.type == "call.end" and event.name == "retried" then
            held.open()
        end
    end }, { fake.calls { { "retried" }, { "holder" } }, "done" })
    conv = agent:conversation()
    watched(agent, { conversation = conv })
    local outcomes = fake.outcomes(conv)
    t.equal(statuses(outcomes), "error ok")
    t.equal(outcomes[1].output, "fell; its turn for another attempt did not come in time")
end)

t.case("thousands of retried calls leave no memory and no task behind", function()
    local tool = lash.tool { name = "x", idempotent = true, retry = { attempts = 2, delay = 0 },
        async = function(_, ctx) return ctx.attempt == 2 or error("fell", 0) end }
    local list = {}
    for i = 1, 500 do
        list[i] = { "x" }
    end
    local agent = fake.agent { name = "x", tools = { tool }, model = "fake/again" }
    fake.models["fake/again"] = function(conv) return #conv.entries > 1 and "done" or fake.calls(list) end
    local function round()
        for _, item in ipairs(fake.outcomes(agent:run("go").conversation)) do
            t.equal(item.status, "ok")
        end
        fake.requests = {}
        collectgarbage()
        collectgarbage()
        return engine.memory()
    end
    round()
    local before = round()
    for _ = 1, t.times(18, 4) do
        round()
    end
    local after = round()
    t.ok(after <= before * 1.01, ("memory grew from %d to %d bytes"):format(before, after))
    t.equal(engine.live(), 1)
end)

return t.main(...)
