-- Workers: what runs there, how it is stopped, and that the same calls behave the same on both sides.
local t = require "t"
local fake = require "fake"
local engine = require "lash.core.engine"
local lash = require "lash"
local misbehave = require "support.misbehave"
local near = require "lash.near"

local function offload(fn, ...)
    return engine.offload(engine.ship("a test", fn), ...)
end

-- Runs fn on a worker with a deadline; returns its task and the seconds it took.
local function stopped(fn, deadline)
    local code = engine.ship("a test", fn)
    local task = lash.spawn(engine.offload, code)
    task:deadline(deadline or 0.03)
    local started = engine.hrtime()
    task:wait()
    return task, (engine.hrtime() - started) / 1e9
end

t.case("arguments and results, in number and kind", function()
    t.equal({ offload(function(...) return select("#", ...), ... end, 1, nil, "x", nil) }, { true, 4, 1, nil, "x", nil })
    t.equal({ offload(function(...) return ... end, math.mininteger, -0.0, { a = { 1, { b = true } } }, "\0\xff") },
        { true, math.mininteger, -0.0, { a = { 1, { b = true } } }, "\0\xff" })
    t.equal(select("#", offload(function() end)), 1)
    local shared = {}
    local ok, got = offload(function(value) return { value, value } end, shared)
    t.ok(ok and got[1] == got[2], "a shared part came back twice")
    local _, fn = offload(function() local n = 40 return function(m) return n + m end end)
    t.equal(fn(2), 42)
end)

t.case("errors come back as values, with a traceback", function()
    local ok, err, traceback = offload(function() error({ code = 5, list = { 1 } }) end)
    t.equal({ ok, err }, { false, { code = 5, list = { 1 } } })
    t.has(traceback, "worker.lua")
    t.equal({ (offload(function() error(nil) end)) }, { false })
    t.equal({ select(2, offload(function() error("text", 0) end)) == "text" }, { true })
end)

t.case("results and errors that cannot travel are errors that say so", function()
    for _, fn in ipairs {
        function() return coroutine.create(print) end,
        function() return { deep = { io.tmpfile() } } end,
    } do
        local ok, err = offload(fn)
        t.equal(ok, false)
        t.has(tostring(err), "cannot travel")
    end
    local ok, err, traceback = offload(function() error(coroutine.create(print)) end)
    t.equal({ ok, err:match("^thread") }, { false, "thread" })
    t.has(traceback, "worker.lua")
    t.has(select(2, offload(function() error(setmetatable({ io.tmpfile() }, { __tostring = function() return "told" end })) end)),
        "told")
    ok, err = offload(function() error(setmetatable({ io.tmpfile() }, { __tostring = function() error("worse") end })) end)
    t.equal(ok, false)
    t.has(err, "worse")
    t.raises("a coroutine", offload, print, coroutine.create(print))
end)

t.case("the same calls: sleep, spawn, gather, map, limit, json, fs, coroutines", function()
    local file = t.file("content")
    local function work(path)
        local l = require "lash"
        l.sleep(0.001)
        local results = l.gather({ function() l.sleep(0.002) return 1 end, function() return 2 end }, { raise = true })
        local squares = l.map({ 1, 2, 3, 4 }, function(n) l.sleep(0) return n * n end, { limit = 2, raise = true })
        local one = l.limit(1)
        local task = l.spawn(function() return one:run(function() return "limited" end) end)
        task:wait()
        local co = coroutine.wrap(function() l.sleep(0) coroutine.yield("yielded") end)
        local ok, err = pcall(l.gather, { function() error("failed", 0) end }, { raise = true })
        return results, squares, { task:result() }, co(), l.json.encode({ b = 1, a = 2 }), (l.fs.read(path)), ok, err
    end
    local here = { work(file) }
    t.equal({ offload(work, file) }, { true, table.unpack(here) })
    t.equal(here[8], "failed")
end)

t.case("where a task of main cannot wait, a worker can", function()
    t.equal({ offload(function()
        local l = require "lash"
        local seen = {}
        local text = ("abc"):gsub(".", function(c) l.sleep(0.001) seen[#seen + 1] = c return c:upper() end)
        local list = { 3, 1, 2 }
        table.sort(list, function(a, b) l.sleep(0) return a < b end)
        local inner = ("x"):gsub("x", function()
            return coroutine.wrap(function() l.sleep(0) return "waited" end)()
        end)
        local both = ("y"):gsub("y", function()
            return #l.gather { function() l.sleep(0.001) end, function() return ("z"):gsub("z", function() l.sleep(0) end) end }
        end)
        return text, table.concat(seen), table.concat(list), inner, both
    end) }, { true, "ABC", "abc", "123", "waited", "2" })
end)

t.case("a wait that never ends in a worker is told, not waited for", function()
    local ok, err = offload(function()
        local e = require "lash.core.engine"
        local batch = e.batch(1, true)
        batch:add(false)
        batch:add(false)
        batch:start()
        batch:next()
        batch:next()
    end)
    t.equal(ok, false)
    t.has(tostring(err), "nothing can happen any more")
    local seen
    ok, seen = offload(function()
        local e = require "lash.core.engine"
        return (("x"):gsub("x", function()
            local group = e.group()
            local task
            task = group:spawn(function() task:wait() end)
            local good, message = pcall(group.wait, group)
            return good and "over" or tostring(message)
        end))
    end)
    t.ok(ok, seen)
end)

t.case("workers grow on demand, up to the limit, and are used again", function()
    engine.jobs(3)
    t.equal(engine.workers(), 0)
    offload(function() end)
    offload(function() end)
    t.equal(engine.workers(), 1)
    local code = engine.ship("nap", function() require("lash").sleep(0.01) end)
    lash.map({ 1, 2, 3, 4, 5, 6, 7, 8 }, function() engine.offload(code) end, { raise = true })
    t.equal(engine.workers(), 3)
    t.raises("between 1 and 1024", engine.jobs, 0)
end)

t.case("T3 a call does not wait for a worker that a finalizer of the call before holds", function()
    engine.jobs(2)
    local told = lash.shared("a finalizer that holds a worker")
    t.equal(offload(function()
        collectgarbage("stop")
        local seen = require("lash").shared("a finalizer that holds a worker")
        setmetatable({}, { __gc = function()
            seen:set("holds", true)
            repeat until seen:get("over")
            seen:set("done", true)
        end })
        for i = 1, 10000 do -- so much that it is collected soon
            local _ = { i }
        end
    end), true)
    t.equal({ offload(function() return "next" end) }, { true, "next" })
    while not told:get("holds") do
        lash.sleep(0.001)
    end
    t.equal({ offload(function() return "another" end) }, { true, "another" })
    told:set("over", true)
    while not told:get("done") do
        lash.sleep(0.001)
    end
    told:clear()
end)

t.case("T4 a queued job is taken back at once, one that runs is cancelled", function()
    t.patience()
    engine.jobs(1)
    local mark = t.path()
    os.remove(mark)
    local nap = engine.ship("nap", function() require("lash").sleep(30) end)
    local touch = engine.ship("touch", function(path) io.open(path, "w"):close() end)
    local first = lash.spawn(engine.offload, nap)
    lash.sleep(0.02)
    local second = lash.spawn(engine.offload, touch, mark)
    lash.sleep(0.005)
    second:cancel()
    second:wait()
    t.equal(engine.cancel_reason(select(2, second:result())), "user")
    first:cancel()
    first:wait()
    t.equal(engine.cancel_reason(select(2, first:result())), "user")
    t.equal({ offload(function() return "again" end) }, { true, "again" })
    t.equal(io.open(mark), nil)
end)

t.case("T1 T2 T6 whatever spins ends at its deadline, and its worker is used again", function()
    t.needs_prompt_signals()
    t.patience()
    engine.jobs(1)
    offload(function() end)
    for _, name in ipairs(near.names(misbehave.spins)) do
        t.soon(0.5, function()
            local task, seconds = stopped(misbehave.spins[name][1])
            local ok, err = task:result()
            t.equal({ ok, engine.cancel_reason(err) }, { false, "deadline" }, name)
            t.equal(task:lost(), false, name .. ": its worker was given up")
            t.equal({ offload(function() return "used again" end) }, { true, "used again" }, name)
            t.equal(engine.workers(), 1, name)
            return seconds
        end)
    end
end)

t.case("T2 pcalls in pcalls to the end of the stack: answered in time, and the worker comes back", function()
    engine.jobs(1)
    local used = engine.ship("a test", function() return "used again" end)
    t.soon(0.5, function()
        local task, seconds = stopped(function()
            local function again() while true do pcall(again) end end
            again()
        end)
        t.equal(engine.cancel_reason(select(2, task:result())), "deadline")
        -- unwinding such a stack takes a while; until then there is no other worker
        t.wait_until(function() return (pcall(engine.offload, used)) end, "the worker's return")
        t.equal({ engine.offload(used) }, { true, "used again" })
        return seconds
    end)
end)

t.case("T1 the deadline of a sync tool counts from its start, not from its place in the queue", function()
    engine.jobs(1)
    local tool = lash.tool {
        name = "nap", timeout = 1, params = { i = "integer" },
        sync = function() require("lash").sleep(0.25) return "slept" end,
    }
    local agent = fake.agent({ tools = { tool } }, { fake.many(5, "nap"), "done" })
    for _, item in ipairs(fake.outcomes(agent:run("go").conversation)) do
        t.equal({ item.status, item.output }, { "ok", "slept" })
    end
end)

t.case("T1 a cancel that comes late hits nobody else", function()
    t.patience()
    engine.jobs(1)
    local code = engine.ship("race", function(n)
        local sum = 0
        for i = 1, n do
            sum = sum + i
        end
        return sum
    end)
    for i = 1, 300 do
        local task = lash.spawn(engine.offload, code, 20000)
        task:deadline(0)
        lash.sleep(0)
        if i % 3 == 0 then
            lash.sleep(0.0003)
        end
        task:cancel()
        local ok, good, sum = pcall(engine.offload, code, 1000)
        t.equal({ ok, good, sum }, { true, true, 500500 })
        task:wait()
        task:result()
    end
end)

t.case("T6 a tool that swallowed its deadline is a timeout all the same", function()
    t.patience()
    for _, mark in ipairs { "async", "sync" } do
        local tool = lash.tool {
            name = "stubborn", timeout = 0.02,
            [mark] = function()
                pcall(require("lash").sleep, 30)
                return "I am fine"
            end,
        }
        local outcomes = fake.batch({ tool }, { { "stubborn" } })
        t.equal({ outcomes[1].status, outcomes[1].output }, { "timeout", "timed out after 0.02 s" })
    end
end)

t.case("closers get time to do their work when a call is stopped", function()
    t.needs_prompt_signals()
    t.patience()
    engine.jobs(1)
    local path = t.path()
    local begun = lash.shared("closer")
    local task = lash.spawn(engine.offload, engine.ship("closer", function(file)
        local x <close> = setmetatable({}, { __close = function()
            local sum = 0
            for i = 1, 10000 do
                sum = sum + i
            end
            local f = io.open(file, "w")
            f:write("closed ", sum)
            f:close()
        end })
        require("lash").shared("closer"):set("begun", true)
        while true do end
    end), path)
    t.wait_until(function() return begun:get("begun") end, "the call")
    task:deadline(0)
    task:wait()
    local f = assert(io.open(path))
    t.equal(f:read("a"), "closed 50005000")
    f:close()
    begun:clear()
end)

t.case("T3 a finalizer that hangs in what a call has left is a call that hangs, and its worker is replaced", function()
    t.needs_prompt_signals()
    engine.jobs(2)
    local path = t.path()
    local code = engine.ship("leaves", function(file, spin)
        collectgarbage("stop")
        setmetatable({}, { __gc = function()
            repeat until io.open(file)
        end })
        local garbage = {}
        for i = 1, 200000 do -- so much that the worker collects it
            garbage[i] = { i }
        end
        while spin do end
    end)
    for _, spin in ipairs { false, true } do
        local task = lash.spawn(engine.offload, code, path, spin)
        task:deadline(2 * t.slower) -- by then it computes no more
        task:wait()
        t.equal({ engine.cancel_reason(select(2, task:result())), task:lost() }, { "deadline", not spin })
    end
    local next_one = lash.spawn(offload, function() return "next" end)
    next_one:deadline(10 * t.slower)
    next_one:wait()
    assert(lash.fs.write(path, "go"))
    t.equal({ next_one:result() }, { true, true, "next" })
end)

t.case("T3 calls that are queued behind lost workers get the next one, or are refused with the last", function()
    t.needs_prompt_signals()
    engine.jobs(2)
    local path = t.path()
    local stuck = engine.ship("stuck", function(file)
        local count = require("lash").shared("stuck")
        setmetatable({}, { __gc = function() -- no hook runs in there
            count:incr("n", 1)
            repeat until io.open(file)
        end })
        collectgarbage()
    end)
    local quick = engine.ship("quick", function() return "done" end)
    local count = lash.shared("stuck")
    local function are_stuck(n)
        t.wait_until(function() return count:get("n") == n end, "that they are stuck")
    end
    local function start(code)
        return lash.spawn(engine.offload, code, path)
    end
    local tasks = { start(stuck), start(stuck), start(quick) }
    are_stuck(2)
    tasks[1]:deadline(0)
    tasks[3]:wait()
    t.equal({ tasks[1]:lost(), tasks[2]:status(), tasks[3]:result() }, { true, "waiting", true, true, "done" })
    tasks[4] = start(stuck)
    tasks[5] = start(quick)
    are_stuck(3)
    tasks[4]:deadline(0)
    tasks[4]:wait()
    tasks[2]:deadline(0)
    tasks[2]:wait()
    tasks[5]:wait()
    count:clear()
    local text = "no worker can take this call: too many workers are stuck in calls that do not end"
    t.equal({ tasks[2]:lost(), tasks[4]:lost(), tasks[5]:result() }, { true, true, true, false, text })
    t.equal({ pcall(engine.offload, quick) }, { false, text })
    t.equal({ pcall(function() return (engine.offload(quick)) end) }, { false, text }) -- no place in front of it
    assert(lash.fs.write(path, "go"))
    repeat -- until they are back
        local ok = pcall(engine.offload, quick)
    until ok
end)

t.case("T3 a worker stuck in C or in __gc is answered at its deadline and replaced", function()
    t.needs_prompt_signals()
    engine.jobs(3)
    for _, fn in ipairs {
        function() return (("a"):rep(3000):find(".-.-.-.-b")) end,
        function() -- Lua runs no hook in there
            setmetatable({}, { __gc = function() while true do end end })
            collectgarbage()
        end,
    } do
        local stuck = lash.tool { name = "stuck", timeout = 1, sync = fn } -- it is stuck by then
        local outcomes = fake.batch({ stuck }, { { "stuck" } }) -- it would take hours
        t.equal(outcomes[1].status, "lost")
        t.equal({ offload(function() return "replaced" end) }, { true, "replaced" })
    end
end)

return t.main(...)
