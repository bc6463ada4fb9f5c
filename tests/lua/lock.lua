-- lash.mutex and lash.limit: between tasks, between workers, cancelled, given back in every way.
local t = require "t"
local core = require "lash.core.lock"
local engine = require "lash.core.engine"
local lash = require "lash"
local sides = require "support.sides"

local offloaded, check = sides.offloaded, sides.check

local function forever()
    while true do
        lash.sleep(1000)
    end
end

local function reason_of(task)
    task:wait()
    local ok, err = task:result()
    t.equal(ok, false)
    return engine.cancel_reason(err)
end

local function both(name, fn)
    t.case(name .. ", on main", fn)
    t.case(name .. ", in a worker", function() check(offloaded(fn)) end)
end

local function locked(name)
    local held = lash.mutex(name):try_lock()
    if held then
        held:close()
    end
    return not held
end

both("mutex: one at a time, first come first served", function()
    local m = lash.mutex("order")
    local order, inside = {}, 0
    local tasks = {}
    for i = 1, 20 do
        tasks[i] = lash.spawn(function()
            m:run(function(n)
                inside = inside + 1
                t.equal(inside, 1)
                order[#order + 1] = n
                lash.sleep(i % 3 / 5000)
                inside = inside - 1
            end, i)
        end)
    end
    for i, task in ipairs(tasks) do
        task:wait()
        t.equal(task:result(), true)
        t.equal(order[i], i)
    end
    t.equal(core.count(), 0)
end)

both("mutex: given back by close, scope, error and run", function()
    local m, other = lash.mutex("back"), lash.mutex("back")
    t.equal(table.pack(m:run(function(...) return ..., nil end, 1, 2)), table.pack(1, nil))
    local held = m:lock()
    t.equal(other:try_lock(), nil)
    held:close()
    held:close()
    do
        local scope <close> = other:try_lock()
        t.ok(locked("back"))
    end
    t.raises("inside", m.run, m, error, "inside")
    t.equal(locked("back"), false)
    local first = m:lock()
    first:close()
    local second = m:lock()
    first:close() -- not its own any more
    t.ok(locked("back"))
    second:close()
    t.equal(core.count(), 0)
    t.ok(lash.mutex():try_lock() and lash.mutex():try_lock(), "two of no name are one")
end)

both("mutex: who holds it and asks again gets an error", function()
    local m = lash.mutex("self")
    local held <close> = m:lock()
    t.raises("mutex 'self': this task holds it already", m.lock, m)
    t.has(t.raises(nil, function() m:lock() end), "tests/lua/lock.lua:")
    t.has(t.raises(nil, function() m:run(print) end), "tests/lua/lock.lua:")
    t.equal(m:try_lock(), nil)
    local one = lash.limit(2)
    one:run(function()
        one:run(function() t.raises("has all 2 turns", one.run, one, print) end)
    end)
end)

both("mutex: a task that ends gives back what it still has", function()
    local m = lash.mutex("left")
    local task = lash.spawn(function() _ENV.kept = m:lock() end)
    local ok, err = pcall(m.run, m, function() return "mine" end)
    t.equal({ ok, err }, { true, "mine" })
    task:wait()
    local failed = lash.spawn(function() local held = m:lock() error("x") end)
    failed:wait()
    failed:result()
    t.equal(locked("left"), false)
end)

t.case("mutex: a sync call gives back what it took, before its result is seen", function()
    t.equal(check(offloaded(function()
        kept = lash.mutex("job"):lock() -- a global: no scope ends it
        return "done"
    end)), "done")
    t.equal(locked("job"), false)
    t.equal(core.count(), 0)
    local task = offloaded(function() kept = lash.mutex("job"):lock() error("broke") end)
    task:wait()
    t.equal({ select(2, task:result()), locked("job") }, { false, false })
end)

t.case("D8 mutex: workers and tasks never hold it together", function()
    local m = lash.mutex("counter")
    local path = t.file("0")
    local function add(n)
        for _ = 1, n do
            m:run(function()
                local f = assert(io.open(path, "r+"))
                local count = f:read("n")
                lash.sleep(0)
                f:seek("set")
                f:write(count + 1, "\n")
                f:close()
            end)
        end
    end
    local tasks = {}
    for i = 1, 4 do
        tasks[i] = offloaded(add, 50)
    end
    for _ = 1, 4 do
        local here = lash.spawn(add, 50)
        here:wait()
        t.equal(here:result(), true)
    end
    for _, task in ipairs(tasks) do
        check(task)
    end
    t.equal(tonumber(lash.fs.read(path)), 400)
    t.equal(core.count(), 0)
end)

t.case("mutex: a task of main waits for one that a running worker holds", function()
    local m = lash.mutex("busy")
    local path = t.path()
    local code = engine.ship("a case", function(file)
        local held <close> = m:lock()
        io.open(file, "w"):close()
        local till = lash.hrtime() + 100 * 1000000
        while lash.hrtime() < till do
        end
    end)
    local task = lash.spawn(engine.offload, code, path)
    while not io.open(path) do
        lash.sleep(0.001)
    end
    t.equal(m:run(function() return "after" end), "after")
    check(task)
end)

t.case("mutex: a standstill of tasks that wait for each other is still told", function()
    local a, b = lash.mutex("a"), lash.mutex("b")
    local ok, err = pcall(function()
        local g <close> = lash.group()
        g:spawn(function() a:run(function() lash.sleep(0) b:run(print) end) end)
        g:spawn(function() b:run(function() lash.sleep(0) a:run(print) end) end)
        g:wait()
    end)
    t.equal({ ok, engine.cancel_reason(err) }, { false, "stall" })
end)

t.case("T4 mutex: a cancelled waiter leaves the queue, a cancelled holder gives it back", function()
    local m = lash.mutex("queue")
    local holder = lash.spawn(function() m:run(forever) end)
    lash.sleep(0)
    local waiting = lash.spawn(function() m:run(error, "it ran") end)
    local last = lash.spawn(function() return m:run(function() return "turn" end) end)
    lash.sleep(0)
    waiting:cancel()
    t.equal(reason_of(waiting), "user")
    t.equal(last:status(), "waiting")
    holder:cancel()
    t.equal(reason_of(holder), "user")
    last:wait()
    t.equal(table.pack(last:result()), table.pack(true, "turn"))
    t.equal(core.count(), 0)
end)

t.case("T4 mutex: cancelled just when it was granted, it goes to the next", function()
    local m = lash.mutex("granted")
    local held = m:lock()
    local swallow = lash.spawn(function()
        pcall(m.lock, m)
        pcall(forever)
    end)
    local last = lash.spawn(function() return m:run(function() return "turn" end) end)
    lash.sleep(0)
    held:close() -- granted; its letter is on the way
    swallow:cancel()
    last:wait()
    t.equal(table.pack(last:result()), table.pack(true, "turn"))
    t.equal(core.count(), 0)
end)

t.case("T4 mutex: a worker that waits for it is cancelled", function()
    t.patience()
    local m = lash.mutex("far")
    local held = m:lock()
    local waiting = offloaded(function() m:run(error, "it ran") end)
    t.wait_until(function() return core.waiting("m=far") > 0 end, "the wait")
    waiting:cancel()
    t.equal(reason_of(waiting), "user")
    held:close()
    t.equal(core.count(), 0)
end)

t.case("T2 mutex: a worker that is stopped while it computes gives it back", function()
    t.needs_prompt_signals()
    t.patience()
    local m = lash.mutex("far")
    local holding = offloaded(function() m:run(function() while true do end end) end)
    t.wait_until(function() return locked("far") end, "the lock")
    holding:cancel()
    t.equal(reason_of(holding), "user")
    t.equal(locked("far"), false)
end)

t.case("limit: one that sync tools capture is the same limit in the workers", function()
    local two = lash.limit(2)
    local most = lash.limit(2, "most")
    local path = t.path()
    assert(lash.fs.write(path, ""))
    t.remove_later(path)
    local function work(limit)
        return limit:run(function()
            local function note(sign)
                local f = assert(io.open(path, "a"))
                f:setvbuf("no")
                f:write(sign)
                f:close()
            end
            note("+")
            lash.sleep(0.002)
            note("-")
        end)
    end
    local function job() work(two) work(most) work(lash.limit(2, "most")) end
    local tasks = {}
    for i = 1, 8 do
        tasks[i] = offloaded(job)
    end
    for _, task in ipairs(tasks) do
        check(task)
    end
    local running, highest, count = 0, 0, 0
    for sign in lash.fs.read(path):gmatch("[+-]") do
        running = running + (sign == "+" and 1 or -1)
        highest = math.max(highest, running)
        count = count + 1
    end
    t.equal({ count, running }, { 48, 0 })
    t.ok(highest <= 4, highest .. " ran at once") -- two of each limit
    t.equal(core.count(), 0)
end)

both("limit: exactly n run; the same name is the same limit", function()
    local running, most = 0, 0
    local list = {}
    for i = 1, 12 do
        list[i] = function()
            lash.limit(3, "named"):run(function()
                running = running + 1
                most = math.max(most, running)
                lash.sleep(0.001)
                running = running - 1
            end)
        end
    end
    lash.gather(list, { raise = true })
    t.equal({ running, most }, { 0, 3 })
    -- who asks with less waits for less
    local one, three = lash.limit(1, "named"), lash.limit(3, "named")
    local order = {}
    lash.gather({
        function() three:run(function() lash.sleep(0) order[#order + 1] = "a" end) end,
        function() one:run(function() order[#order + 1] = "b" end) end,
        function() three:run(function() order[#order + 1] = "c" end) end,
    }, { raise = true })
    t.equal(order, { "a", "b", "c" })
end)

t.case("where nothing can wait, a lock that is free can be had; one that is not is refused", function()
    local m = lash.mutex("gsub")
    t.equal((("a"):gsub("a", function() return m:run(function() return "b" end) end)), "b")
    local holder = lash.spawn(function() m:run(forever) end)
    lash.sleep(0)
    t.raises("cannot wait here", string.gsub, "a", "a", function() m:run(print) end)
    holder:cancel()
    holder:wait()
    t.equal(core.count(), 0)
end)

t.case("misuse is refused, naming the remedy", function()
    for _, name in ipairs { "", "a\0b", ("x"):rep(256), 5, {} } do
        t.has(t.raises("a name is a text", function() lash.mutex(name) end), "tests/lua/lock.lua:")
        t.raises("a name is a text", lash.limit, 1, name)
    end
    for _, n in ipairs { 0, -1, 1.5, "2x", {} } do
        t.raises("whole number", lash.limit, n)
    end
    t.raises("expected a function", lash.mutex("x").run, lash.mutex("x"))
    t.raises("expected a function", lash.limit(1).run, lash.limit(1), 5)
    local held <close> = lash.mutex("captured"):lock()
    t.raises("captured local 'held' is userdata of type 'lash.permit', which cannot travel to a worker: take the lock",
        lash.tool, { name = "x", sync = function() return held end })
    t.equal({ tostring(lash.mutex("a")), tostring(lash.limit(2, "b")) }, { "lash.mutex 'a'", "lash.limit 'b' of 2" })
end)

t.case("locks that are thrown away leave nothing behind", function()
    for i = 1, 500 do
        lash.spawn(function() lash.mutex("lost" .. i):lock() end)
        lash.mutex():lock()
    end
    lash.sleep(0)
    lash.sleep(0)
    collectgarbage()
    collectgarbage()
    t.equal(core.count(), 0)
end)

return t.main(...)
