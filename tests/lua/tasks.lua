-- Tasks, groups, waits and cancel; coroutines of users; gather, map, limit.
local t = require "t"
local engine = require "lash.core.engine"
local lash = require "lash"

local function reason_of(task)
    local ok, err = task:result()
    t.equal(ok, false)
    return engine.cancel_reason(err)
end

-- A lock that only cancel ends.
local function forever()
    local batch <close> = engine.batch(1, true)
    local slot = batch:add(false)
    batch:add(false)
    batch:start()
    batch:next()
    batch:next()
    error("the lock let " .. slot .. " pass")
end

t.case("a task gives its results, in number and kind", function()
    local task = lash.spawn(function(...) return select("#", ...), nil, ..., nil end, 1, nil, nil)
    task:wait()
    t.equal(table.pack(task:result()), table.pack(true, 3, nil, 1, nil))
    t.equal(task:status(), "done")
    local none = lash.spawn(function() end)
    none:wait()
    t.equal(select("#", none:result()), 1)
end)

t.case("errors come out as the values that they are", function()
    local err = setmetatable({}, { __tostring = function() error("never asked") end })
    for _, value in ipairs { err, "text", 7, true, lash.now } do
        local task = lash.spawn(error, value, 0)
        task:wait()
        local ok, got = task:result()
        t.equal(ok, false)
        t.ok(rawequal(got, value), "another value")
    end
    local task = lash.spawn(error)
    task:wait()
    t.equal(table.pack(task:result()), table.pack(false, nil))
end)

t.case("a task that ends takes its children with it", function()
    local log = {}
    local parent = lash.spawn(function()
        for i = 1, 3 do
            lash.spawn(function()
                local mark <close> = setmetatable({}, { __close = function() log[#log + 1] = i end })
                forever()
            end)
        end
        lash.sleep(0)
        return "over"
    end)
    parent:wait()
    t.equal(table.pack(parent:result()), table.pack(true, "over"))
    table.sort(log)
    t.equal(log, { 1, 2, 3 })
end)

t.case("a child that was never started is not started after the end", function()
    local ran = false
    local parent = lash.spawn(function()
        lash.spawn(function() ran = true end)
    end)
    parent:wait()
    t.equal(ran, false)
end)

t.case("the end of a long chain of parents", function()
    local code = engine.ship("find", function()
        return pcall(string.find, ("a"):rep(400), ".-.-.-b") -- deaf to the interrupt for a moment
    end)
    local last, offloads
    local function chain(n)
        if n > 0 then
            last = lash.spawn(chain, n - 1)
            lash.sleep(10)
        else
            offloads = true
            pcall(engine.offload, code) -- ends only when the worker does, after all its parents
        end
    end
    local first = lash.spawn(chain, 3000)
    while not offloads do
        lash.sleep(0.001)
    end
    lash.sleep(0.02)
    first:cancel()
    first:wait()
    t.equal(reason_of(first), "user")
    t.equal(last:status(), "done")
end)

t.case("cancel of a very deep chain", function()
    local depth, deepest = 0, t.times(50000, 15000)
    local function chain(n)
        depth = math.max(depth, n)
        if n < deepest then
            lash.spawn(chain, n + 1)
        end
        forever()
    end
    local first = lash.spawn(chain, 1)
    while depth < deepest do
        lash.sleep(0.005)
    end
    first:cancel()
    first:wait()
    t.equal(reason_of(first), "user")
end)

t.case("T5 cancel is idempotent, keeps the first reason, legal on the ended and on oneself", function()
    local task = lash.spawn(forever)
    lash.sleep(0)
    task:cancel("sibling")
    task:cancel("deadline")
    task:wait()
    t.equal(reason_of(task), "sibling")
    task:cancel()
    t.equal(reason_of(task), "sibling")
    local own = lash.spawn(function()
        engine.current():cancel("user")
        lash.sleep(0)
        error("went on")
    end)
    own:wait()
    t.equal(reason_of(own), "user")
    local before = lash.spawn(function() error("started") end)
    before:cancel("deadline")
    before:wait()
    t.equal(reason_of(before), "deadline")
end)

t.case("T6 pcall cannot swallow cancel: every later wait raises again", function()
    local caught = 0
    local task = lash.spawn(function()
        for _ = 1, 100 do
            if not pcall(lash.sleep, 10) then
                caught = caught + 1
            end
        end
        lash.sleep(0)
        error("went on")
    end)
    lash.sleep(0)
    task:cancel()
    task:wait()
    t.equal(caught, 100)
    t.equal(reason_of(task), "user")
end)

t.case("T1 a deadline ends a wait, also one in coroutines in coroutines", function()
    local function nested(n)
        if n == 0 then
            lash.sleep(30)
        end
        coroutine.wrap(nested)(n - 1)
    end
    for _, body in ipairs { function() lash.sleep(30) end, function() nested(20) end, forever } do
        local task = lash.spawn(body)
        task:deadline(0.01)
        local started = lash.now()
        task:wait()
        t.equal(reason_of(task), "deadline")
        t.ok(lash.now() - started < 2, "it took too long")
    end
end)

t.case("T1 of two deadlines the earlier one wins; extreme ones are legal", function()
    local task = lash.spawn(forever)
    task:deadline(0.01)
    task:deadline(30)
    task:wait()
    t.equal(reason_of(task), "deadline")
    local huge = lash.spawn(lash.sleep, 0.01)
    huge:deadline(math.huge)
    huge:deadline(1e300)
    huge:wait()
    t.equal(huge:result(), true)
    local soon = lash.spawn(forever)
    soon:deadline(-1)
    soon:wait()
    t.equal(reason_of(soon), "deadline")
    t.raises("NaN", huge.deadline, huge, 0 / 0)
end)

t.case("closers of a cancelled task run and see the error", function()
    local seen
    local task = lash.spawn(function()
        local x <close> = setmetatable({}, { __close = function(_, err) seen = engine.cancel_reason(err) end })
        forever()
    end)
    lash.sleep(0)
    task:cancel()
    task:wait()
    t.equal(seen, "user")
end)

t.case("tasks that wait for each other are ended, not left for ever", function()
    local a, b
    a = lash.spawn(function() lash.sleep(0) b:wait() end)
    b = lash.spawn(function() lash.sleep(0) a:wait() end)
    local ok = pcall(function() a:wait() end)
    t.ok(not ok or not a:result(), "they ended well")
end)

-- ---- groups ----

t.case("a group waits for all; the first error cancels the others when it shall", function()
    local ended = 0
    local group <close> = engine.group(true)
    local first = group:spawn(function() lash.sleep(0.001) error("first", 0) end)
    local others = {}
    for i = 1, 5 do
        others[i] = group:spawn(function()
            local x <close> = setmetatable({}, { __close = function() ended = ended + 1 end })
            forever()
        end)
    end
    group:wait()
    t.equal(ended, 5)
    t.equal(select(2, first:result()), "first")
    for i = 1, 5 do
        t.equal(reason_of(others[i]), "sibling")
    end
end)

t.case("an error that flies past a group leaves no child behind", function()
    local ended = 0
    local ok, err = pcall(function()
        local group <close> = engine.group()
        for _ = 1, 5 do
            group:spawn(function()
                local x <close> = setmetatable({}, { __close = function() ended = ended + 1 end })
                forever()
            end)
        end
        lash.sleep(0)
        error("past", 0)
    end)
    t.equal({ ok, err }, { false, "past" })
    t.equal(ended, 5)
end)

t.case("E1 gather: results in order, each failure in its place", function()
    local results = lash.gather {
        function() lash.sleep(0.004) return "a", "b" end,
        function() error("bad", 0) end,
        function() return nil end,
        function() lash.sleep(0.002) return 4 end,
    }
    t.equal(results[1].value, "a")
    t.equal({ results[1].values[1], results[1].values[2] }, { "a", "b" })
    t.equal({ results[2].ok, results[2].error }, { false, "bad" })
    t.equal({ results[3].ok, results[3].value }, { true })
    t.equal(results[4].value, 4)
    t.equal(lash.gather {}, {})
end)

t.case("E2 gather that raises: the original error, the others cancelled", function()
    local ended = 0
    local function hang()
        local x <close> = setmetatable({}, { __close = function() ended = ended + 1 end })
        forever()
    end
    local original = { code = "original" }
    local ok, err = pcall(lash.gather, { hang, hang, function() lash.sleep(0) error(original) end, hang }, { raise = true })
    t.equal(ok, false)
    t.ok(rawequal(err, original), "another error: " .. tostring(err))
    t.equal(ended, 3)
end)

t.case("map keeps order and its limit", function()
    local running, most = 0, 0
    local items = {}
    for i = 1, 200 do
        items[i] = i
    end
    local results = lash.map(items, function(item, i)
        t.equal(item, i)
        running = running + 1
        most = math.max(most, running)
        lash.sleep((i % 4) / 2000)
        running = running - 1
        if i % 50 == 0 then
            error("fifty", 0)
        end
        return i * i
    end, { limit = 7 })
    t.equal(most, 7)
    for i = 1, 200 do
        if i % 50 == 0 then
            t.equal(results[i], { ok = false, error = "fifty" })
        else
            t.equal(results[i], { ok = true, value = i * i })
        end
    end
end)

t.case("map with a limit that raises starts nothing more after the first error", function()
    local started = 0
    local ok, err = pcall(lash.map, { 1, 2, 3, 4, 5, 6, 7, 8, 9 }, function(i)
        started = started + 1
        lash.sleep(0)
        if i == 3 then
            error("third", 0)
        end
        lash.sleep(0.005)
    end, { limit = 3, raise = true })
    t.equal({ ok, err }, { false, "third" })
    t.equal(started, 3)
end)

t.case("misuse of gather, map, limit and sleep is refused", function()
    t.raises("list of functions", lash.gather, 5)
    t.raises("entry 2", lash.gather, { print, 5 })
    t.raises("function", lash.map, {}, 5)
    t.raises("limit", lash.map, {}, print, { limit = 0 })
    t.raises("did you mean 'limit'", lash.map, {}, print, { limitt = 2 })
    t.raises("lash.gather: unknown option 'rais' (did you mean 'raise'?)", lash.gather, {}, { rais = true })
    t.raises("lash.gather: limit", lash.gather, {}, { limit = "2" })
    t.raises("lash.gather: options must be a table", lash.gather, {}, 2)
    t.raises("lash.spawn: expected a function, got nil", lash.spawn)
    t.raises("limit", lash.map, {}, print, { limit = 1.5 })
    t.raises("whole number", lash.limit, 0)
    t.raises("seconds", lash.sleep, -1)
    t.raises("seconds", lash.sleep, 0 / 0)
    t.raises("seconds", lash.sleep, math.huge)
end)

t.case("a cancelled wait for a limit gives its turn to the next", function()
    local one = lash.limit(1)
    local holder = lash.spawn(function() one:run(lash.sleep, 0.01) end)
    local waiting = lash.spawn(function() one:run(error, "it ran") end)
    local last = lash.spawn(function() return one:run(function() return "turn" end) end)
    lash.sleep(0)
    waiting:cancel()
    last:wait()
    t.equal(table.pack(last:result()), table.pack(true, "turn"))
    t.equal(reason_of(waiting), "user")
    t.equal(holder:result(), true)
end)

-- ---- coroutines of users ----

t.case("a wait inside a coroutine reaches the scheduler, its yields do not", function()
    local ticks = 0
    local ticker = lash.spawn(function()
        while true do
            ticks = ticks + 1
            lash.sleep(0)
        end
    end)
    local co = coroutine.wrap(function(a)
        for i = 1, 5 do
            lash.sleep(0.001)
            a = coroutine.yield(a + i)
        end
        return "end"
    end)
    t.equal(co(1), 2)
    t.equal(co(10), 12)
    t.equal(co(100), 103)
    t.ok(ticks > 2, "nobody else ran")
    ticker:cancel()
    ticker:wait()
end)

t.case("iterators, pcall, metamethods and closers may wait", function()
    local function slow(n)
        return coroutine.wrap(function()
            for i = 1, n do
                lash.sleep(0)
                coroutine.yield(i)
            end
        end)
    end
    local sum = 0
    for i in slow(10) do
        sum = sum + i
    end
    t.equal(sum, 55)
    local lazy = setmetatable({}, { __index = function(_, k) lash.sleep(0) return k .. "!" end,
        __add = function() lash.sleep(0) return "sum" end, __call = function() lash.sleep(0) return "called" end })
    t.equal({ lazy.x, lazy + 1, lazy() }, { "x!", "sum", "called" })
    t.equal(select(2, pcall(function() lash.sleep(0) return pcall(function() lash.sleep(0) error("deep", 0) end) end)), false)
    local closed
    do
        local x <close> = setmetatable({}, { __close = function() lash.sleep(0) closed = true end })
    end
    t.equal(closed, true)
end)

t.case("where nothing can wait the error says so, and the task goes on", function()
    local function sleeper() lash.sleep(0) return "x" end
    local places = {
        gsub = function() return (("a"):gsub("a", sleeper)) end,
        sort = function() table.sort({ 3, 2, 1 }, function(a, b) lash.sleep(0) return a < b end) end,
        tostring = function() return tostring(setmetatable({}, { __tostring = sleeper })) end,
        load = function() return assert(load(function() return sleeper() and nil end)) end,
        ["coroutine in gsub"] = function() return (("a"):gsub("a", function() return coroutine.wrap(sleeper)() end)) end,
        ["two coroutines in gsub"] = function()
            return (("a"):gsub("a", function()
                return coroutine.wrap(function() return coroutine.wrap(sleeper)() end)()
            end))
        end,
        ["a batch"] = function() return (("a"):gsub("a", function() forever() end)) end,
        ["a group"] = function()
            return (("a"):gsub("a", function() lash.gather { function() lash.sleep(0.001) end } end))
        end,
        ["a worker"] = function()
            return (("a"):gsub("a", function() engine.offload(engine.ship("f", function() end)) end))
        end,
    }
    for name, place in pairs(places) do
        local ok, err = pcall(place)
        t.equal(ok, false, name)
        t.has(tostring(err), "cannot wait here", name)
        lash.sleep(0)
    end
    lash.sleep(0.01) -- what was started has ended, or ends with the task
end)

t.case("D15 a wrong yield: a task cannot yield to nobody", function()
    local task = lash.spawn(function() coroutine.yield("lost") end)
    task:wait()
    local ok, err = task:result()
    t.equal(ok, false)
    t.has(err, "yield from outside a coroutine")
end)

t.case("D15 coroutines that wait can be neither resumed nor closed by others", function()
    local co = coroutine.create(function() lash.sleep(0.005) return "slept" end)
    local first = lash.spawn(function() return coroutine.resume(co) end)
    lash.sleep(0)
    t.equal({ coroutine.resume(co) }, { false, "cannot resume a coroutine that waits" })
    t.raises("waits", coroutine.close, co)
    first:wait()
    t.equal(table.pack(first:result()), table.pack(true, true, "slept"))
    t.equal({ coroutine.close(co) }, { true })
end)

t.case("wrap and resume keep to the manual", function()
    t.equal({ coroutine.resume(coroutine.create(function(...) return ... end), 1, 2) }, { true, 1, 2 })
    local dead = coroutine.create(function() end)
    coroutine.resume(dead)
    t.equal({ coroutine.resume(dead) }, { false, "cannot resume dead coroutine" })
    local closed
    local bad = coroutine.wrap(function()
        local x <close> = setmetatable({}, { __close = function() closed = true end })
        error({ 1 })
    end)
    local ok, err = pcall(bad)
    t.equal({ ok, err, closed }, { false, { 1 }, true })
    t.has(select(2, pcall(coroutine.wrap(function() error("at") end))), "at")
    local co = coroutine.create(function()
        local x <close> = setmetatable({}, { __close = function() error("closer", 0) end })
        coroutine.yield(1)
    end)
    coroutine.resume(co)
    t.equal({ coroutine.close(co) }, { false, "closer" })
    t.equal(coroutine.status(co), "dead")
    local running, main = coroutine.running()
    t.equal({ type(running), main, coroutine.isyieldable() }, { "thread", false, true })
    t.raises("coroutine", coroutine.resume, 5)
    t.raises(nil, coroutine.wrap, 5)
end)

t.case("10 000 tasks wait at once and all of them end", function()
    local ended = 0
    local list = {}
    for i = 1, 10000 do
        list[i] = function() lash.sleep(0.001 + (i % 7) / 1000) ended = ended + 1 end
    end
    lash.gather(list, { raise = true })
    t.equal(ended, 10000)
end)

t.case("tasks leave nothing behind", function()
    t.keeps_memory(function()
        for _ = 1, 200 do
            local task = lash.spawn(function() lash.spawn(forever) lash.sleep(0) error("x") end)
            task:wait()
            task:result()
            pcall(lash.gather, { function() lash.sleep(0) end, error, forever }, { raise = true })
        end
    end)
end)

-- ---- batches that run tasks ----

-- Three slots, of which one at a time has its permit.
local function one_by_one(name)
    local batch = engine.batch(3)
    for slot = 1, 3 do
        batch:add(false)
        batch:limit(slot, "#", name, 1)
    end
    batch:start()
    return batch
end

local function wait_in(name)
    local batch = engine.batch(1)
    batch:add(false)
    batch:limit(1, "#", name, 1)
    t.equal(batch:start(), 1, "it has to wait")
    return batch
end

t.case("D6 a batch runs its tasks in order, and takes a permit back however its function ends", function()
    local seen, tasks = {}, {}
    local batch <close> = one_by_one("in order")
    batch:run(function(item, slot)
        seen[#seen + 1] = item .. slot
        if slot == 1 then
            error("fell", 0)
        elseif slot == 2 then
            engine.current():cancel()
            lash.sleep(60)
        end
        return "end"
    end, { "a", "b", "c" }, tasks)
    t.equal(seen, { "a1", "b2", "c3" })
    t.equal({ tasks[1]:result() }, { false, "fell" })
    t.equal(reason_of(tasks[2]), "user")
    t.equal({ tasks[3]:result() }, { true, "end" })
end)

t.case("D6 a permit is taken back when the function ends, not when what it spawned does", function()
    local over, tasks = {}, {}
    local batch <close> = one_by_one("children")
    batch:run(function(_, slot)
        lash.spawn(function()
            local closing <close> = setmetatable({}, { __close = function() over[#over + 1] = slot end })
            lash.sleep(60)
        end)
        lash.sleep(0)
        over[#over + 1] = -slot
    end, { 1, 2, 3 }, tasks)
    table.sort(over)
    t.equal(over, { -3, -2, -1, 1, 2, 3 })
end)

t.case("T4 a batch that is left cancels its tasks, and its permits go to others", function()
    local seen = {}
    local runner = lash.spawn(function()
        local batch <close> = one_by_one("left")
        batch:run(function(_, slot)
            seen[#seen + 1] = slot
            local closing <close> = setmetatable({}, { __close = function() lash.sleep(0.001) seen[#seen + 1] = "closed" end })
            lash.sleep(60)
        end, { 1, 2, 3 }, {})
    end)
    lash.sleep(0)
    local other <close> = wait_in("left")
    lash.sleep(0)
    runner:cancel()
    t.equal(other:next(), 1)
    runner:wait()
    t.equal(reason_of(runner), "user")
    t.equal(seen, { 1, "closed" })
end)

t.case("D6 tasks that were cancelled before their first step give their permits back", function()
    local runner = lash.spawn(function()
        local batch <close> = engine.batch(2)
        batch:start(2)
        local tasks = setmetatable({}, { __newindex = error }) -- never asked
        batch:run(function(_, slot)
            if slot == 1 then
                tasks[2]:cancel()
            end
        end, { 1, 2 }, tasks)
        return reason_of(tasks[2])
    end)
    runner:wait()
    t.equal({ runner:result() }, { true, "user" })
end)

t.case("a batch whose run() is used wrongly says so, and one that is taken away harms nobody", function()
    local batch <close> = engine.batch(2)
    t.raises("a number of slots", batch.start, batch, -1)
    t.raises("function expected", batch.run, batch, 1, {}, {})
    t.raises("table expected", batch.run, batch, print, {}, nil)
    batch:add(false)
    batch:start()
    t.raises("closed", batch.run, batch, function()
        local own = debug.getmetatable(batch)
        own.__gc(batch)
        own.__gc(batch)
        t.raises("closed", batch.run, batch, print, {}, {})
    end, { 1 }, {})
    t.raises("closed", batch.start, batch)
    local inner = engine.batch(1)
    inner:add(false)
    inner:start()
    local tasks = {}
    inner:run(function() inner:run(print, {}, {}) end, { 1 }, tasks)
    t.has(tostring(select(2, tasks[1]:result())), "its own batch")
end)

return t.main(...)
