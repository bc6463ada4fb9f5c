-- lash.timeout, lash.group, lash.race, lash.retry, lash.every: on main and in a worker, and cancelled while
-- they wait.
local t = require "t"
local engine = require "lash.core.engine"
local lash = require "lash"
local sides = require "support.sides"

local both = sides.both

local function forever()
    while true do
        lash.sleep(1000)
    end
end

-- Cancels fn(...) when it has begun to wait; what it had started must be over by then.
local function cancelled_in(fn, ...)
    local task = lash.spawn(fn, ...)
    for _ = 1, 3 do
        lash.sleep(0)
    end
    t.ok(task:status() ~= "done", "it did not wait")
    task:cancel()
    task:wait()
    local ok, err = task:result()
    t.equal({ ok, engine.cancel_reason(err) }, { false, "user" })
    t.equal((engine.live()), 1)
end

local function count_ends(list)
    return setmetatable({}, { __close = function() list[#list + 1] = true end })
end

-- ---- timeout ----

both("T1 timeout: results, errors, and the time that is over", function()
    t.equal(table.pack(lash.timeout(60, function(...) lash.sleep(0) return select("#", ...), ... end, 1, nil, nil)),
        table.pack(3, 1, nil, nil))
    t.equal(table.pack(lash.timeout(60, function() return nil, "its own" end)), table.pack(nil, "its own"))
    t.equal(select("#", lash.timeout(60, function() end)), 0)
    local thrown = {}
    local ok, err = pcall(lash.timeout, 60, function() lash.sleep(0) error(thrown) end)
    t.ok(not ok and err == thrown, "another error")
    local ends = {}
    local none, over = lash.timeout(0.01, function()
        lash.spawn(function() local mark <close> = count_ends(ends) forever() end)
        local mark <close> = count_ends(ends)
        forever()
    end)
    t.equal({ none, over.code, #ends }, { nil, "timeout", 2 })
    t.has(tostring(over), "0.01 s")
    lash.sleep(0) -- the caller itself is not cancelled
end)

both("T5 timeout: of nested ones the first that expires answers", function()
    local inner
    local result = lash.timeout(60, function()
        inner = { lash.timeout(0.005, forever) }
        return "outer"
    end)
    t.equal({ result, inner[1], inner[2].code }, { "outer", nil, "timeout" })
    local reached = false
    local none, err = lash.timeout(0.005, function()
        lash.timeout(60, forever)
        reached = true
    end)
    t.equal({ none, err.code, reached }, { nil, "timeout", false })
end)

t.case("T6 timeout: pcall does not swallow it", function()
    local caught = 0
    local none, err = lash.timeout(0.005 * t.slower, function()
        while true do
            pcall(lash.sleep, 1000)
            caught = caught + 1
            lash.sleep(0)
        end
    end)
    t.equal({ none, err.code, caught }, { nil, "timeout", 1 })
    -- what was returned after all is not thrown away, and an error of its own is told
    t.equal(lash.timeout(0.005 * t.slower, function() pcall(forever) return "late" end), "late")
    t.raises("broke while ending", lash.timeout, 0.005 * t.slower, function() pcall(forever) error("broke while ending") end)
end)

t.case("T4 timeout: the cancel of its caller passes through", function()
    local ends = {}
    cancelled_in(lash.timeout, 60, function() local mark <close> = count_ends(ends) forever() end)
    t.equal(#ends, 1)
end)

-- ---- group ----

both("group: waits for all; results stay with their tasks", function()
    local g <close> = lash.group()
    local a = g:spawn(function(x) lash.sleep(0) return x, nil end, 1)
    local b = g:spawn(function() return "b" end)
    t.equal(g:wait(), true)
    t.equal(table.pack(a:result()), table.pack(true, 1, nil))
    t.equal(table.pack(b:result()), table.pack(true, "b"))
    t.equal(g:wait(), true)
    g:spawn(lash.sleep, 0)
    t.equal(g:wait(), true)
end)

both("E2 group: the first error cancels the siblings and is raised", function()
    local thrown = { code = "first" }
    local ends = {}
    local ok, err = pcall(function()
        local g <close> = lash.group()
        for _ = 1, 3 do
            g:spawn(function() local mark <close> = count_ends(ends) forever() end)
        end
        g:spawn(function() lash.sleep(0) error(thrown) end)
        g:wait()
    end)
    t.ok(not ok and err == thrown, "another error")
    t.equal(#ends, 3)
end)

both("E2 group: no error is dropped", function()
    local g <close> = lash.group({ fail_fast = false })
    local ended
    g:spawn(error, "one", 0)
    g:spawn(function() lash.sleep(0) error({ 2 }) end)
    g:spawn(function() lash.sleep(0.002) ended = true end)
    g:spawn(function() lash.sleep(0.004) error() end)
    local ok, err = pcall(g.wait, g)
    t.equal({ ok, ended, #err.errors }, { false, true, 2 })
    t.equal({ err.errors[1], err.errors[2] }, { "one", { 2 } })
    t.has(tostring(err), "one (and 2 more: table:")
    t.equal(g:wait(), true) -- they were told
end)

t.case("E2 group: errors of siblings that end because of the first one are told with it", function()
    local g <close> = lash.group()
    g:spawn(function()
        local mark <close> = setmetatable({}, { __close = function() error("the closer broke", 0) end })
        forever()
    end)
    g:spawn(function() lash.sleep(0) error("first", 0) end)
    local err = t.raises("first (and 1 more: the closer broke)", g.wait, g)
    t.equal(err.errors, { "first", "the closer broke" })
end)

both("group: leaving the scope cancels and waits", function()
    local ends = {}
    do
        local g <close> = lash.group()
        g:spawn(function() local mark <close> = count_ends(ends) forever() end)
        lash.sleep(0)
    end
    t.equal(#ends, 1)
    t.raises("told at the end", function()
        local g <close> = lash.group()
        g:spawn(error, "told at the end")
        lash.sleep(0)
    end)
    local task
    t.raises("the scope's own", function()
        local g <close> = lash.group()
        task = g:spawn(forever)
        error("the scope's own")
    end)
    t.equal(task:status(), "done")
end)

t.case("T4 group: one that nobody closed ends with the task that filled it", function()
    local child
    local maker = lash.spawn(function()
        child = lash.group():spawn(forever)
        lash.sleep(0)
        return "made"
    end)
    maker:wait()
    t.equal({ child:status(), select(2, maker:result()) }, { "done", "made" })
    t.equal(child:cancelled(), "parent")
end)

t.case("T5 group: cancel is idempotent and no error; also what comes later is cancelled", function()
    local g <close> = lash.group()
    local task = g:spawn(forever)
    lash.sleep(0)
    g:cancel()
    g:cancel()
    t.equal(g:wait(), true)
    t.equal(task:cancelled(), "user")
    local late = g:spawn(forever)
    g:wait()
    t.equal(late:cancelled(), "user")
end)

t.case("group: a child that is cancelled alone does not end its siblings", function()
    local g <close> = lash.group()
    local ended
    local victim = g:spawn(forever)
    g:spawn(function() lash.sleep(0.002) ended = true end)
    lash.sleep(0)
    victim:cancel()
    g:wait()
    t.equal(ended, true)
end)

t.case("T4 group: cancelled while it waits, and while the scope waits elsewhere", function()
    local ends = {}
    local function filled()
        local g = lash.group()
        g:spawn(function() local mark <close> = count_ends(ends) forever() end)
        return g
    end
    cancelled_in(function() local g <close> = filled() g:wait() end)
    cancelled_in(function() local g <close> = filled() forever() end)
    t.equal(#ends, 2)
end)

t.case("group: a child cannot wait for its own group", function()
    local g <close> = lash.group()
    g:spawn(function() g:wait() end)
    t.raises("its own group", g.wait, g)
end)

-- ---- race ----

both("race: the first to end wins, the others are cancelled and over", function()
    local ends = {}
    local function loser() local mark <close> = count_ends(ends) forever() end
    t.equal({ lash.race { loser, function() lash.sleep(0) return "won" end, loser } }, { "won", 2 })
    t.equal(#ends, 2)
    t.equal(table.pack(lash.race { loser, function() lash.sleep(0) end }), table.pack(nil, 2))
    t.equal(table.pack(lash.race { function() return 1, nil, nil end }), table.pack(1, nil, nil, 1))
    t.equal(table.pack(lash.race { function() return nil, "err" end, forever }), table.pack(nil, "err", 1))
    local ok, err = pcall(lash.race, { forever, function() lash.sleep(0) error("lost", 0) end })
    t.equal({ ok, err }, { false, "lost" })
end)

both("race with any: the first success wins; when all fail, all are told", function()
    t.equal({ lash.race({
        function() error("a") end,
        function() lash.sleep(0) return nil, "b" end,
        function() lash.sleep(0.002) return "c" end,
        forever,
    }, { any = true }) }, { "c", 3 })
    local ok, err = pcall(lash.race, {
        function() lash.sleep(0.002) error("a", 0) end,
        function() return nil, { code = "b" } end,
    }, { any = true })
    t.equal({ ok, err.errors }, { false, { "a", { code = "b" } } })
    ok, err = pcall(lash.race, { function() return nil, "alone" end }, { any = true })
    t.equal({ ok, err }, { false, "alone" })
    t.equal({ lash.race({ function() return nil end }, { any = true }) }, { nil, 1 })
end)

t.case("T4 race: cancelled while it waits", function()
    local ends = {}
    local function loser() local mark <close> = count_ends(ends) forever() end
    cancelled_in(lash.race, { loser, loser })
    t.equal(#ends, 2)
end)

-- ---- retry ----

both("retry: until it does not fail, in the form in which it came", function()
    local calls = {}
    t.equal(table.pack(lash.retry { function(n)
        calls[#calls + 1] = n
        if n == 1 then error("first") end
        if n == 2 then return nil, "second" end
        return n, nil
    end, delay = 0.001 }), table.pack(3, nil))
    t.equal(calls, { 1, 2, 3 })
    local thrown = {}
    local ok, err = pcall(lash.retry, { function() error(thrown) end, attempts = 2, delay = 0 })
    t.ok(not ok and err == thrown, "another error")
    t.equal({ lash.retry { function(n) return nil, n, "more" end, attempts = 2, delay = 0 } }, { nil, 2, "more" })
    t.equal({ pcall(lash.retry, { error, attempts = 2, delay = 0 }) }, { false, 2 })
    t.equal(table.pack(lash.retry { function() return nil end }), table.pack(nil))
    t.equal(select("#", lash.retry { function() end }), 0)
    t.equal({ pcall(lash.retry, { function() error() end, delay = 0 }) }, { false })
end)

both("retry: when and on_retry", function()
    local log = {}
    local function note(err, n, pause)
        log[#log + 1] = ("%s %d %g"):format(err, n, pause)
    end
    t.equal({ lash.retry { function(n) return nil, "e" .. n end, attempts = 5, delay = 0.001, factor = 3, max_delay = 0.002,
        jitter = false, on_retry = note } }, { nil, "e5" })
    t.equal(log, { "e1 1 0.001", "e2 2 0.002", "e3 3 0.002", "e4 4 0.002" })
    local function final(err)
        return err ~= "final"
    end
    local calls = 0
    t.equal({ lash.retry { function() calls = calls + 1 return nil, "final" end, when = final } }, { nil, "final" })
    t.equal({ pcall(lash.retry, { function() calls = calls + 1 error("final", 0) end, when = final }) }, { false, "final" })
    t.equal(calls, 2)
    for _ = 1, 20 do
        lash.retry { function() return nil, "x" end, attempts = 2, delay = 0.0001,
            on_retry = function(_, _, pause) t.ok(pause >= 0.00005 and pause <= 0.0001, "the pause is " .. pause) end }
    end
end)

t.case("T6 retry: a cancel is never tried again, and it ends the pause", function()
    local calls = 0
    cancelled_in(lash.retry, { function() calls = calls + 1 forever() end, delay = 0 })
    cancelled_in(lash.retry, { function() calls = calls + 1 return nil, "x" end, delay = 1000 })
    t.equal(calls, 2)
    -- a function that swallows its cancel does not get another try either
    cancelled_in(lash.retry, { function() calls = calls + 1 pcall(forever) return nil, "x" end, delay = 0 })
    t.equal(calls, 3)
end)

t.case("retry: with a timeout inside, the time that is over is a failure like others", function()
    local none, err = lash.retry { function() return lash.timeout(0.002, forever) end, attempts = 2, delay = 0 }
    t.equal({ none, err.code }, { nil, "timeout" })
end)

-- ---- every ----

both("every: keeps to the beat, never overlaps, leaves out what came due meanwhile", function()
    local every = lash.every
    local started = engine.hrtime()
    local times, running = {}, 0
    local task = every(0.02, function()
        running = running + 1
        t.equal(running, 1)
        times[#times + 1] = (engine.hrtime() - started) / 1e9
        if #times == 1 then
            lash.sleep(0.05) -- the second and third beat pass meanwhile
        end
        running = running - 1
        return #times < 10
    end)
    task:wait()
    t.equal({ #times, (task:result()) }, { 10, true })
    t.ok(times[1] >= 0.02, "the first came at " .. times[1])
    local off = 1 -- the least part of a beat that one came late: on a busy machine others may be later
    for i = 2, 10 do
        t.ok(times[i] > times[i - 1] and times[i] >= 0.02 * (i + 2), "no beat was left out: " .. times[i])
        off = math.min(off, times[i] / 0.02 % 1)
    end
    t.ok(off < 0.4, ("off the beat by %g of it"):format(off))
end)

t.case("every: an error ends it; its task has it", function()
    local calls = 0
    local task = lash.every(0.001, function() calls = calls + 1 error("tick", 0) end)
    task:wait()
    t.equal({ calls, task:result() }, { 1, false, "tick" })
end)

t.case("T4 every: cancel ends it while it pauses and while its function waits", function()
    cancelled_in(function() lash.every(1000, print):wait() end)
    cancelled_in(function() lash.every(1e-6, forever):wait() end)
    local task = lash.every(1e-6, function() end)
    lash.sleep(0.002)
    task:cancel()
    task:wait()
    t.equal(task:cancelled(), "user")
end)

-- ---- misuse ----

t.case("misuse raises at the line of the caller and names the remedy", function()
    local function at_caller(part, fn, ...)
        local err = t.raises(part, fn, ...)
        t.has(err, "tests/lua/combine.lua:", part)
    end
    at_caller("number of seconds", function() lash.timeout("1", print) end)
    at_caller("number of seconds", function() lash.timeout(0 / 0, print) end)
    at_caller("number of seconds", function() lash.timeout(-1, print) end)
    at_caller("expected a function, got a nil", function() lash.timeout(1) end)
    at_caller("unknown option 'failfast' (did you mean 'fail_fast'?)", function() lash.group { failfast = true } end)
    at_caller("true or false", function() lash.group { fail_fast = 1 } end)
    at_caller("expected a function", function() local g = lash.group() g:spawn(5) end)
    at_caller("got none", function() lash.race {} end)
    at_caller("list of functions", function() lash.race(print) end)
    at_caller("entry 2 is a number", function() lash.race { print, 5 } end)
    at_caller("unknown option 'all'; the options are any", function() lash.race({ print }, { all = true }) end)
    at_caller("expected a function", function() lash.retry {} end)
    at_caller("options are a table", function() lash.retry(print) end)
    at_caller("did you mean 'attempts'", function() lash.retry { print, attempt = 3 } end)
    at_caller("unknown option '2'", function() lash.retry { print, print } end)
    at_caller("attempts is", function() lash.retry { print, attempts = 0 } end)
    at_caller("delay is", function() lash.retry { print, delay = -1 } end)
    at_caller("factor is", function() lash.retry { print, factor = 0 / 0 } end)
    at_caller("when is a function", function() lash.retry { print, when = true } end)
    at_caller("jitter is", function() lash.retry { print, jitter = 1 } end)
    at_caller("number of seconds", function() lash.every(0, print) end)
    at_caller("expected a function", function() lash.every(1) end)
end)

t.case("combinators leave nothing behind", function()
    t.keeps_memory(function()
        for _ = 1, 50 do
            lash.timeout(0.0001, forever)
            pcall(lash.race, { forever, function() lash.sleep(0) error("x") end })
            lash.retry { function() return nil, "x" end, delay = 0 }
            pcall(function()
                local g <close> = lash.group()
                g:spawn(forever)
                g:spawn(error, "x")
                g:wait()
            end)
        end
    end)
    t.equal((engine.live()), 1)
end)

return t.main(...)
