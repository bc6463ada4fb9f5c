-- What the `<close>` handlers of a cancelled task may do: wait for a while, and no longer.
local t = require "t"
local engine = require "lash.core.engine"
local lash = require "lash"

local function closing(fn)
    return setmetatable({}, { __close = fn })
end

-- Runs fn as a task, cancels it when it waits, and waits for its end. Returns the task and the seconds.
local function cancelled(fn, ...)
    local task = lash.spawn(fn, ...)
    while task:status() ~= "waiting" do
        lash.sleep(0)
    end
    local begin = engine.hrtime()
    task:cancel()
    task:wait()
    return task, (engine.hrtime() - begin) / 1e9
end

t.case("T4 closers of a cancelled task may wait", function()
    t.patience()
    local log = {}
    local function note(text)
        log[#log + 1] = text
    end
    local task = cancelled(function()
        local _ <close> = closing(function(_, err)
            lash.sleep(0.01)
            note("outer: " .. tostring(err))
        end)
        local ok, err = pcall(function()
            local _ <close> = closing(function()
                lash.sleep(0.01)
                note "inner"
                local _, mine = pcall(function()
                    lash.sleep(0.01)
                    error("of the closer", 0)
                end)
                note(mine)
                lash.sleep(0.01) -- it is still a closer
                note "inner again"
            end)
            lash.sleep(100)
        end)
        t.equal(ok, false)
        note(tostring(err))
        note(tostring(select(2, pcall(lash.sleep, 0)))) -- no closer any more
        error("wrapped", 0)
    end)
    t.equal(log, { "inner", "of the closer", "inner again", "cancelled", "cancelled", "outer: wrapped" })
    t.equal({ task:result() }, { false, "wrapped" })
end)

t.case("T6 the waits of closers end with the grace, however they are caught", function()
    t.soon(2, function()
        local waits = 0
        local _, seconds = cancelled(function()
            local _ <close> = closing(function()
                while true do
                    pcall(lash.sleep, 100)
                    waits = waits + 1
                end
            end)
            lash.sleep(100)
        end)
        t.ok(waits > 1)
        t.ok(seconds > 0.15, seconds)
        return seconds
    end)
end)

t.case("T4 a closer may use tasks of its own, which end with the grace", function()
    t.patience(5)
    local results
    local _, seconds = cancelled(function()
        local _ <close> = closing(function()
            results = lash.map({ 1, 2, 3 }, function(i)
                lash.sleep(0.01)
                return i * 2
            end, { raise = true })
            lash.gather { function() lash.sleep(100) end }
        end)
        lash.sleep(100)
    end)
    t.equal(results, { 2, 4, 6 })
    t.ok(seconds < 50, seconds)
end)

t.case("T4 closers of the tasks that a closer made get no grace of their own", function()
    t.patience(5)
    local depth = 0
    local function nest()
        depth = depth + 1
        local _ <close> = closing(function()
            if depth < 50 then
                lash.gather { nest }
            end
        end)
        lash.sleep(100)
    end
    local _, seconds = cancelled(nest)
    t.equal(depth, 2)
    t.ok(seconds < 50, seconds)
end)

t.case("T4 closers in coroutines wait in the grace too", function()
    t.patience()
    local seen = {}
    cancelled(function()
        local _ <close> = closing(function()
            coroutine.wrap(function()
                lash.sleep(0.01)
                seen[#seen + 1] = "in a coroutine of the closer"
            end)()
        end)
        coroutine.wrap(function()
            pcall(function()
                local _ <close> = closing(function()
                    lash.sleep(0.01)
                    seen[#seen + 1] = "in a closer of the coroutine"
                end)
                lash.sleep(100)
            end)
        end)()
        lash.sleep(100)
    end)
    t.equal(seen, { "in a closer of the coroutine", "in a coroutine of the closer" })
end)

t.case("T4 a coroutine that began before the cancel does not take a closer's grace away", function()
    t.patience()
    local slept
    cancelled(function()
        local next_value = coroutine.wrap(function()
            pcall(coroutine.yield, 1)
            coroutine.yield(2)
        end)
        t.equal(next_value(), 1)
        local _ <close> = closing(function()
            t.equal(next_value(), 2)
            slept = pcall(lash.sleep, 0.01)
        end)
        lash.sleep(100)
    end)
    t.equal(slept, true)
end)

t.case("T4 closers in a watcher, and in a call that a worker runs itself, may wait", function()
    t.patience()
    engine.jobs(1)
    local function wait_to_close(name)
        local l = require "lash"
        local _ <close> = setmetatable({}, { __close = function()
            l.shared("closed"):set(name, (pcall(l.sleep, 0.01)))
        end })
        l.shared("begun"):set(name, true)
        l.sleep(100)
    end
    local here = engine.ship("here", wait_to_close)
    local outer = engine.ship("outer", function(code)
        require("lash.core.engine").offload(code, "here")
    end)
    local reports = engine.ship("reports", function()
        require("lash.core.engine").report("watcher")
        require("lash").sleep(100)
    end)
    local begun = lash.shared("begun")
    for name, fn in pairs {
        here = function() engine.offload(outer, here) end,
        watcher = function() engine.offload_watched(wait_to_close, reports) end,
    } do
        local task = lash.spawn(fn)
        t.wait_until(function() return begun:get(name) end, name)
        task:deadline(0)
        task:wait()
        t.equal(engine.cancel_reason(select(2, task:result())), "deadline")
    end
    local closed = lash.shared("closed")
    t.equal({ closed:get("here"), closed:get("watcher") }, { true, true })
    closed:clear()
    begun:clear()
end)

t.case("T4 an error that was raised before the cancel gives no grace", function()
    local inside
    local task = lash.spawn(function()
        local _ <close> = closing(function()
            lash.sleep(100) -- ended by the cancel
        end)
        inside = true
        error("early", 0)
    end)
    while not inside do
        lash.sleep(0)
    end
    task:cancel()
    task:wait()
    t.equal(engine.cancel_reason(select(2, task:result())), "user")
end)

-- In a worker: the closer of a job leaves a line in a file.
local function job(path, spin, seconds)
    local lash = require "lash"
    local _ <close> = setmetatable({}, { __close = function()
        lash.sleep(seconds)
        assert(lash.fs.write(path, "closed"))
    end })
    lash.shared("job"):set(path, true)
    while spin do
    end
    lash.sleep(100)
end

t.case("T2 T4 closers of a sync call may wait, whether it span or waited", function()
    t.needs_prompt_signals()
    t.patience(10)
    local code = engine.ship("job", job)
    local runs = lash.shared("job")
    for _, spin in ipairs { true, false } do
        local path = t.path()
        local task = lash.spawn(engine.offload, code, path, spin, 1.1) -- longer than a silent worker is waited for
        t.wait_until(function() return runs:get(path) end, "the job")
        task:deadline(0)
        task:wait()
        t.equal(engine.cancel_reason(select(2, task:result())), "deadline")
        t.equal(task:lost(), false)
        t.equal(lash.fs.read(path), "closed")
    end
end)

-- Closers that spin, more than are unwound one by one.
local function spin_in_closers(depth)
    local _ <close> = setmetatable({}, { __close = function() while true do end end })
    if depth > 0 then
        spin_in_closers(depth - 1)
    end
    while true do end
end

t.case("T2 many closers that spin end with the deadline, on the main thread and in a worker", function()
    t.needs_prompt_signals()
    t.patience()
    local code = engine.ship("spin", spin_in_closers)
    for name, fn in pairs {
        main = function() spin_in_closers(30) end,
        worker = function() return assert(engine.offload(code, 30)) end,
    } do
        local task = lash.spawn(fn)
        task:deadline(0.1)
        task:wait()
        t.equal({ name, engine.cancel_reason(select(2, task:result())) }, { name, "deadline" })
        t.equal(task:lost(), false)
    end
end)

t.case("T3 closers of a sync call that wait too long are not waited for", function()
    t.needs_prompt_signals()
    local path = t.path()
    local code = engine.ship("job", job)
    local begin = engine.hrtime()
    local task = lash.spawn(engine.offload, code, path, true, 100)
    task:deadline(0.05)
    task:wait()
    t.equal(engine.cancel_reason(select(2, task:result())), "deadline")
    t.ok((engine.hrtime() - begin) / 1e9 < 50)
    t.equal(lash.fs.read(path), nil)
end)

t.case("pcall and xpcall are Lua's own in everything else", function()
    t.equal({ pcall(function(...) return ... end, 1, nil, 3, nil) }, { true, 1, nil, 3, nil })
    t.equal(select("#", pcall(function() return nil, nil end)), 3)
    t.equal({ pcall(error, nil) }, { false, nil })
    t.equal({ pcall(error) }, { false, nil })
    t.has(select(2, pcall(pcall)), "bad argument #1 to 'pcall' (value expected)")
    t.equal({ pcall(pcall, error, "e") }, { true, false, "e" })
    t.equal({ pcall(42) }, { false, "attempt to call a number value" })
    t.equal({ xpcall(error, function(e) return e .. "!" end, "e") }, { false, "e!" })
    local function deep() return 1 + deep() end
    t.has(select(2, pcall(deep)), "stack overflow")
    local function nest(n) return n == 0 and "bottom" or select(2, pcall(nest, n - 1)) end
    t.equal(nest(100), "bottom")
    t.has(tostring(select(2, pcall(string.rep, "x", -1 >> 1))), "too large")
    local co = coroutine.wrap(function() return pcall(function() return coroutine.yield(1) end) end)
    t.equal({ co(), co(2) }, { 1, true, 2 })
end)

return t.main(...)
