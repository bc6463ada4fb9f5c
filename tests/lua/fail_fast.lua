-- Agents with fail_fast: the first call that fails stops the others, and the run fails with it.
local t = require "t"
local fake = require "fake"
local engine = require "lash.core.engine"
local lash = require "lash"
local support = require "support.calls"

local statuses, watched = support.statuses, support.watched

-- A tool whose call 1 fails when calls 1 to `meet` have started; call 2 ends well before that.
local function failing(meet, log)
    local gate, ended = support.door(), support.door()
    local started = 0
    return lash.tool {
        name = "step", params = { i = "integer" },
        async = function(args)
            started = started + 1
            log[#log + 1] = args.i
            if started == meet then
                gate.open()
            end
            if args.i == 1 then
                gate.pass()
                ended.pass()
                error("the first one fell", 0)
            elseif args.i == 2 then
                ended.open()
                return "quick"
            end
            lash.sleep(60)
        end,
    }
end

t.case("E2 the first failure cancels running siblings and starts no queued call", function()
    local log = {}
    local tool = failing(4, log)
    local agent = fake.agent({ tools = { tool }, fail_fast = true, limits = { concurrency = 3 } },
        { fake.many(8, "step"), "after" })
    local conv = agent:conversation()
    local begin = lash.now()
    local result, events = watched(agent, { conversation = conv })
    t.ok(lash.now() - begin < 25) -- the others would sleep for a minute
    local outcomes = fake.outcomes(conv)
    t.equal(statuses(outcomes), "error ok cancelled cancelled not_run not_run not_run not_run")
    t.equal(log, { 1, 2, 3, 4 })
    t.equal(outcomes[1].output, "the first one fell")
    t.equal(outcomes[3].output, "cancelled because another call failed")
    t.equal(outcomes[5].output, "not run: another call failed before this call started")
    t.equal({ result.ok, result.reason, result.exit, #result.calls }, { false, "call_failed", 1, 8 })
    local err = result.error
    t.equal({ err.code, err.exit, err.call, err.name, err.status, err.output, #err.others },
        { "call_failed", 1, "1.1", "step", "error", "the first one fell", 0 })
    t.equal(tostring(err), "the call of 'step' failed: the first one fell")
    local last = events[#events]
    t.equal({ last.type, last.reason, last.exit, last.error }, { "run.end", "call_failed", 1, err.message })
    t.equal({ #support.of_type(events, "call.start"), #support.of_type(events, "call.end") }, { 8, 8 })
    t.equal(conv:send("again").text, "after", "the next request is valid")
end)

t.case("E2 the error is raised, with the result", function()
    local tool = lash.tool { name = "fall", async = function() return nil, "no luck" end }
    local agent = fake.agent({ tools = { tool }, fail_fast = true }, { fake.calls { { "fall" } } })
    local err = t.raises("the call of 'fall' failed: no luck", agent.run, agent, "go")
    t.equal({ err.code, err.exit, err.result.reason }, { "call_failed", 1, "call_failed" })
end)

t.case("E2 without it nothing changes: E1 is the default", function()
    local tool = lash.tool { name = "fall", params = { i = "integer" }, async = function(args)
        return args.i ~= 1 or nil, "fell"
    end }
    local agent = fake.agent({ tools = { tool } }, { fake.many(3, "fall"), "done" })
    local result = agent:run("go")
    t.equal(statuses(fake.outcomes(result.conversation)), "error ok ok")
    t.equal(result.text, "done")
end)

t.case("E2 siblings of both marks are gone within 250 ms, closers and spinners too", function()
    t.needs_prompt_signals()
    local begun
    local tools = {
        lash.tool { name = "spin", sync = function(_, ctx)
            ctx.progress("spinning")
            while true do pcall(function() while true do end end) end
        end },
        lash.tool { name = "nap", sync = function(_, ctx)
            ctx.progress("napping")
            require("lash").sleep(60)
        end },
        lash.tool { name = "stubborn", async = function(_, ctx)
            ctx.progress("here")
            while true do pcall(lash.sleep, 60) end
        end },
        lash.tool { name = "tidy", async = function(_, ctx)
            local mess <close> = setmetatable({}, { __close = function() lash.sleep(60) end })
            ctx.progress("here")
            lash.sleep(60)
        end },
    }
    local all, told
    tools[5] = lash.tool { name = "fall", async = function()
        all.pass()
        begun = lash.now()
        error("fell", 0)
    end }
    t.soon(0.35, function() -- 250 ms, and what the run needs around them
        all, told = support.door(), 0
        local agent = fake.agent({ tools = tools, fail_fast = true, on_event = function(event)
            if event.type == "call.progress" then
                told = told + 1
                if told == 4 then
                    all.open()
                end
            end
        end }, { fake.calls { { "spin" }, { "nap" }, { "stubborn" }, { "tidy" }, { "fall" } } })
        local result = watched(agent)
        local seconds = lash.now() - begun
        t.equal(engine.live(), 1)
        local got = statuses(fake.outcomes(result.conversation))
        if got == "cancelled cancelled cancelled cancelled error" then
            return seconds
        end
        print(got) -- on a busy machine a worker may be given up
        return math.huge
    end)
end)

t.case("E2 a timeout and wrong arguments are failures, calls that are not run are none", function()
    local tool = lash.tool { name = "nap", timeout = 0.01, async = function() lash.sleep(60) end }
    local ran = 0
    local typed = lash.tool { name = "typed", params = { n = "integer" }, async = function() ran = ran + 1 end }
    local function run(calls)
        return watched(fake.agent({ tools = { tool, typed }, fail_fast = true }, { fake.calls(calls), "done" }))
    end
    local result = run { { "nap" } }
    t.equal({ result.reason, result.error.status }, { "call_failed", "timeout" })
    result = run { { "typed", { n = 1 } }, { "typed", "{" }, { "nothing" }, { "typed", { n = 2 } } }
    t.equal(statuses(fake.outcomes(result.conversation)), "not_run error error not_run")
    t.equal({ result.reason, result.error.call, #result.error.others, result.error.others[1].call, ran },
        { "call_failed", "1.2", 1, "1.3", 0 })
    t.has(result.error.message, "and 1 more after it")
    t.equal(run({ { "typed", { n = 1 } } }).reason, "done")
end)

t.case("E2 H12 the failure of a delegated run is an outcome of its caller", function()
    local fall = lash.tool { name = "fall", async = function() error("deep down", 0) end }
    local inner = fake.agent({ name = "inner", tools = { fall }, fail_fast = true }, { fake.calls { { "fall" } } })
    local outcomes = fake.batch({ inner:as_tool() }, { { "inner", { input = "x" } } })
    t.equal(outcomes[1].status, "error")
    t.has(outcomes[1].output, "deep down")
end)

t.case("E2 a failure before a handoff that follows the other calls: control stays, history is whole", function()
    local fall = lash.tool { name = "fall", async = function() error("fell", 0) end }
    local target = fake.agent({ name = "target" }, { "never" })
    local agent = fake.agent({ tools = { fall }, handoffs = { target }, handoff_after_tools = true, fail_fast = true },
        { fake.calls { { "handoff", { agent = "target" } }, { "fall" } }, "still me" })
    local conv = agent:conversation()
    local result = watched(agent, { conversation = conv })
    t.equal({ result.reason, result.agent, statuses(fake.outcomes(conv)) },
        { "call_failed", "tester", "not_run error" })
    t.equal(conv:send("again").text, "still me")
end)

t.case("E2 a run that is cancelled while it drains is a cancelled run", function()
    local tool = lash.tool { name = "step", params = { i = "integer" }, async = function(args)
        if args.i == 1 then
            error("fell", 0)
        end
        local x <close> = setmetatable({}, { __close = function() lash.sleep(60) end })
        lash.sleep(60)
    end }
    local conv
    local agent = fake.agent({ tools = { tool }, fail_fast = true, on_event = function(event)
        if event.type == "call.end" and event.status == "error" then
            conv:cancel()
        end
    end }, { fake.many(3, "step"), "after" })
    conv = agent:conversation()
    t.equal(watched(agent, { conversation = conv }).reason, "cancelled")
    t.equal(conv:send("again").text, "after")
end)

return t.main(...)
