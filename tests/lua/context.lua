-- The second argument of a tool's function, through both marks; results that come too late.
local t = require "t"
local fake = require "fake"
local engine = require "lash.core.engine"
local lash = require "lash"
local support = require "support.calls"

local statuses, watched, of_type = support.statuses, support.watched, support.of_type

-- Runs fn as both an async and a sync tool: visit(outcome, events, mark).
local function both(fn, visit, spec)
    for _, mark in ipairs { "async", "sync" } do
        local tool = { name = "it", [mark] = fn }
        for name, value in pairs(spec or {}) do
            tool[name] = value
        end
        local result, events = watched(fake.agent({ tools = { lash.tool(tool) } }, { fake.calls { { "it" } }, "done" }))
        visit(fake.outcomes(result.conversation)[1], events, mark)
    end
end

t.case("T ctx: call, agent, key and attempt, the same through both marks", function()
    local keys = {}
    both(function(_, ctx)
        return ("%s %s %d %s"):format(ctx.call, ctx.agent, ctx.attempt, ctx.key)
    end, function(outcome)
        local call, agent, attempt, key = outcome.output:match("^(%S+) (%S+) (%S+) (%S+)$")
        t.equal({ call, agent, attempt }, { "1.1", "tester", "1" })
        t.ok(not keys[key], "a key of two calls: " .. key)
        keys[key] = true
    end)
end)

t.case("T ctx.key differs between calls, turns and runs", function()
    local keys, count = {}, 0
    local tool = lash.tool { name = "it", async = function(_, ctx)
        t.ok(not keys[ctx.key], "twice: " .. ctx.key)
        keys[ctx.key] = true
        count = count + 1
    end }
    for _ = 1, 3 do
        local twice = { { "it" }, { "it" } }
        fake.agent({ tools = { tool } }, { fake.calls(twice), fake.calls(twice), "done" }):run("go")
    end
    t.equal(count, 12)
end)

t.case("D18 ctx.progress: events between start and end, in order", function()
    both(function(_, ctx)
        ctx.progress("begin")
        ctx.progress(0)
        ctx.progress(0.5, "half")
        ctx.progress(1)
        return "done"
    end, function(outcome, events)
        t.equal(outcome.output, "done")
        local types = {}
        for i, event in ipairs(events) do
            types[i] = event.type
        end
        t.equal(table.concat(types, " "), "run.start model.request call.ready model.end call.start call.progress "
            .. "call.progress call.progress call.progress call.end model.request text model.end run.end")
        local told = {}
        for i, event in ipairs(of_type(events, "call.progress")) do
            told[i] = { event.call, event.name, event.fraction or "none", event.text or "none" }
        end
        t.equal(told, { { "1.1", "it", "none", "begin" }, { "1.1", "it", 0.0, "none" }, { "1.1", "it", 0.5, "half" },
            { "1.1", "it", 1.0, "none" } })
    end)
end)

t.case("ctx.progress refuses what is none, at the line of the tool", function()
    for _, case in ipairs {
        { "text or a fraction", "nil" }, { "text or a fraction", "{}" }, { "text or a fraction", "true, 'x'" },
        { "between 0 and 1", "50" }, { "between 0 and 1", "-1" }, { "between 0 and 1", "0/0" },
        { "must be a string", "0.5, 7" }, { "text or a fraction", "'x', 'y'" },
    } do
        local fn = load(("local _, ctx = ...\nctx.progress(%s)"):format(case[2]), "=tool")
        both(fn, function(outcome, events)
            t.equal(outcome.status, "error", case[2])
            t.has(outcome.output, "tool:2: ctx.progress: ")
            t.has(outcome.output, case[1])
            t.equal(#of_type(events, "call.progress"), 0)
        end)
    end
end)

t.case("ctx.progress: long and broken texts are cut and mended, rounding is forgiven", function()
    both(function(_, ctx)
        ctx.progress(("x"):rep(100000))
        ctx.progress("a\xffb")
        ctx.progress(0.1 + 0.2 + 0.7000000001, "")
    end, function(outcome, events)
        t.equal(outcome.status, "ok")
        local told = of_type(events, "call.progress")
        t.ok(#told[1].text <= 1000)
        t.has(told[1].text, "100000")
        t.has(told[2].text, "a\u{FFFD}b")
        t.equal({ told[3].fraction, told[3].text }, { 1.0, "" })
    end)
end)

t.case("ctx.progress without listeners, from spawned tasks, and after the call has ended", function()
    local kept
    local tool = lash.tool { name = "it", async = function(_, ctx)
        kept = ctx
        ctx.progress("heard by nobody")
        lash.gather { function() ctx.progress("from a child") end }
        return "done"
    end }
    local result = fake.agent({ tools = { tool } }, { fake.calls { { "it" } }, "done" }):run("go")
    t.equal(result.calls[1].status, "ok")
    local _, events = watched(fake.agent({ tools = { tool } }, { fake.calls { { "it" } }, "done" }))
    local count = #events
    t.equal(#of_type(events, "call.progress"), 2)
    kept.progress("too late")
    t.equal(#events, count)
end)

t.case("ctx.progress in a tight loop costs no memory and blocks nobody", function()
    both(function(_, ctx)
        for i = 1, 20000 do
            ctx.progress(i / 20000)
        end
        return "through"
    end, function(outcome, events)
        t.equal(outcome.output, "through")
        t.ok(#events > 0)
    end)
end)

t.case("a listener that fails or waits at call.progress disturbs nobody", function()
    lash.log.warn = function() end
    for _, mark in ipairs { "async", "sync" } do
        local tool = lash.tool { name = "it", [mark] = function(_, ctx)
            ctx.progress("x")
            return "done"
        end }
        local agent = fake.agent({ tools = { tool }, on_event = function(event)
            lash.sleep(0)
            if event.type == "call.progress" then
                error("listener")
            end
        end }, { fake.calls { { "it" } }, "done" })
        t.equal(watched(agent).calls[1].output, "done")
    end
end)

t.case("T1 ctx.cancelled is false while the call may run, and true in what tidies up", function()
    t.patience()
    local file = t.path()
    both(function(_, ctx)
        return tostring(ctx.cancelled())
    end, function(outcome)
        t.equal(outcome.output, "false")
    end)
    both(function(_, ctx)
        local lash = require "lash"
        ctx.progress("here")
        pcall(lash.sleep, 60)
        assert(io.open(ctx.agent, "w")):write(tostring(ctx.cancelled())):close()
    end, function(outcome)
        t.equal(outcome.status, "timeout")
    end, { timeout = 0.05 })
    t.equal(lash.fs.read("tester"), "true")
    os.remove("tester")
    t.ok(not io.open(file))
end)

-- ---- late results ----

t.case("T3 a result that comes after its call was answered as lost is a warning and enters no history", function()
    t.needs_prompt_signals()
    local path = t.path()
    local stuck = lash.tool { name = "stuck", timeout = 1, params = { file = "string" }, sync = function(args)
        setmetatable({}, { __gc = function() -- no hook runs in there
            repeat until io.open(args.file)
        end })
        collectgarbage()
        return "too late"
    end }
    local poke = lash.tool { name = "poke", async = function() lash.sleep(0.01) end }
    local warning
    local agent = fake.agent({ tools = { stuck, poke }, limits = { turns = 0 }, on_event = function(event)
        warning = event.type == "warning" and event or warning
    end, model = "fake/late" })
    local turns = 0
    fake.models["fake/late"] = function(conv)
        turns = turns + 1
        if turns == 1 then
            return fake.calls { { "stuck", { file = path } }, { "poke" } }
        elseif turns == 2 then
            t.equal(statuses(conv.entries[#conv.entries].items), "lost ok")
            t.has(conv.entries[#conv.entries].items[1].output, "may still be running")
            assert(lash.fs.write(path, "go"))
        end
        return warning and "done" or fake.calls { { "poke" } }
    end
    local result, events = watched(agent)
    t.equal(result.text, "done")
    t.has(warning.text, "the call 1.1 of 'stuck'")
    t.has(warning.text, "is not used")
    t.equal(#of_type(events, "warning"), 1)
    for _, item in ipairs(result.items) do
        t.ok(not tostring(item.output):find("too late"), "the late result is in history")
    end
    t.equal(engine.late(), nil)
end)

return t.main(...)
