-- What a running sync call tells the one who waits for it, and results that come when nobody waits.
local t = require "t"
local engine = require "lash.core.engine"
local lash = require "lash"

t.case("D18 reports of an offloaded function come in order, before its result", function()
    local code = engine.ship("steps", function(n)
        for i = 1, n do
            while not engine.report("step", i, { half = i / 2 }) do
                lash.sleep(0.001) -- too many are on their way
            end
        end
        return "done"
    end)
    local seen = {}
    local function watch(what, i, more)
        t.equal({ what, more.half }, { "step", i / 2 })
        seen[#seen + 1] = i
        lash.sleep(0) -- a watcher may wait
    end
    t.equal({ engine.offload_watched(watch, code, 500) }, { true, "done" })
    t.equal(#seen, 500)
    for i = 1, 500 do
        t.equal(seen[i], i)
    end
end)

t.case("D7 reports that nobody takes do not pile up", function()
    local code = engine.ship("burst", function()
        local sent = 0
        for i = 1, 10000 do
            sent = sent + (engine.report(i) and 1 or 0)
        end
        return sent
    end)
    local got = 0
    local ok, sent = engine.offload_watched(function()
        got = got + 1
        lash.sleep(0.001)
    end, code)
    t.ok(ok)
    t.ok(sent >= 64)
    t.equal(got, sent)
end)

t.case("reports that nobody wants are not sent", function()
    t.equal(engine.report(1), false)
    t.equal({ engine.offload(engine.ship("quiet", function() return engine.report(1) end)) }, { true, false })
end)

t.case("a watcher that fails ends the wait and the call", function()
    t.needs_prompt_signals()
    t.patience()
    engine.jobs(1)
    local code = engine.ship("loud", function()
        engine.report(1)
        while true do end
    end)
    t.raises("no more", engine.offload_watched, function() error("no more") end, code)
    t.equal({ engine.offload(engine.ship("next", function() return 1 end)) }, { true, 1 })
end)

t.case("a call that a worker runs itself reports to its own watcher", function()
    engine.jobs(1)
    local code = engine.ship("outer", function()
        local engine = require "lash.core.engine"
        local inner = engine.ship("inner", function() return engine.report("inner") end)
        local told = {}
        local ok, sent = engine.offload_watched(function(text) told[#told + 1] = text end, inner)
        engine.report("outer")
        return ok, sent, table.concat(told)
    end)
    local seen = {}
    local results = { engine.offload_watched(function(text) seen[#seen + 1] = text end, code) }
    t.equal(results, { true, true, true, "inner" })
    t.equal(seen, { "outer" })
end)

t.case("T1 a call knows that it is to end", function()
    t.needs_prompt_signals()
    t.patience()
    t.equal(engine.cancelled(), false)
    local path = t.path()
    local began = lash.shared("polite")
    local code = engine.ship("polite", function(file)
        local lash = require "lash"
        lash.shared("polite"):set("began", true)
        local ok = pcall(lash.sleep, 100)
        assert(io.open(file, "w")):write(tostring(ok), tostring(engine.cancelled())):close()
    end)
    local task = lash.spawn(engine.offload, code, path)
    t.wait_until(function() return began:get("began") end, "the call")
    began:clear()
    task:deadline(0)
    task:wait()
    t.equal(lash.fs.read(path), "falsetrue")
    local seen
    task = lash.spawn(function()
        pcall(lash.sleep, 100)
        seen = engine.cancelled()
    end)
    lash.sleep(0)
    task:cancel()
    task:wait()
    t.equal(seen, true)
end)

t.case("T2 a call whose task is cancelled between a report and its telling is stopped", function()
    t.needs_prompt_signals()
    t.patience()
    engine.jobs(1)
    local name = "spins"
    local mark = lash.shared(name)
    local code = engine.ship("spins", function(mark_name)
        engine.report(1)
        require("lash").shared(mark_name):set("reported", true)
        while true do end
    end)
    local told = 0
    local task = lash.spawn(engine.offload_watched, function() told = told + 1 end, code, name)
    lash.sleep(0)
    repeat until mark:get("reported")
    lash.sleep(0) -- the report arrives in the turn in which we go on, too
    t.equal({ task:status(), told }, { "ready", 0 })
    collectgarbage("stop") -- which would stop it in the end
    task:cancel()
    task:wait()
    local next_one = lash.spawn(engine.offload, engine.ship("next", function() return "free" end))
    next_one:deadline(20 * t.slower)
    next_one:wait()
    collectgarbage("restart")
    mark:clear()
    t.equal({ task:lost(), next_one:result() }, { false, true, true, "free" })
end)

t.case("T3 a call whose task is cancelled in its watcher is stopped as one that waits", function()
    t.needs_prompt_signals()
    local code = engine.ship("blocks", function()
        engine.report(1)
        os.execute("sleep 60")
    end)
    for reason, watcher in pairs {
        user = function() engine.current():cancel() end,
        deadline = function() pcall(lash.sleep, 60) end,
    } do
        local begin = engine.hrtime()
        local task = lash.spawn(engine.offload_watched, watcher, code)
        task:deadline(reason == "deadline" and 0.1 or 60)
        task:wait()
        t.equal(engine.cancel_reason(select(2, task:result())), reason)
        t.ok((engine.hrtime() - begin) / 1e9 < 40, reason)
    end
end)

t.case("T3 a result that comes too late is told once, to those who know its tag", function()
    t.needs_prompt_signals()
    local path = t.path()
    local code = engine.ship("stuck", function(file)
        setmetatable({}, { __gc = function() -- no hook runs in there
            repeat until io.open(file)
        end })
        collectgarbage()
    end)
    local task = lash.spawn(function()
        engine.current():tag("run-7/1.2")
        return engine.offload(code, path)
    end)
    task:deadline(1) -- it is stuck by then
    task:wait()
    t.equal(task:lost(), true)
    t.equal(engine.late("run-7/"), nil)
    assert(lash.fs.write(path, "go"))
    local late
    repeat
        lash.sleep(0.01)
        late = engine.late("run-7/")
    until late
    t.equal(late[1].tag, "run-7/1.2")
    t.ok(late[1].ms >= 1000, late[1].ms)
    t.equal(engine.late(), nil)
end)

return t.main(...)
