-- What a script does that no script should: nothing of it may crash, hang or corrupt the program.
local t = require "t"
local engine = require "lash.core.engine"
local lash = require "lash"

t.case("a wait that a comparator refuses does not wake a later one", function()
    local code = engine.ship("spin", function() while true do end end)
    local function in_coroutine()
        coroutine.wrap(function() engine.offload(code) end)()
    end
    t.raises("cannot wait here", table.sort, { 1, 2, 3 }, in_coroutine)
    local begin = lash.now()
    lash.sleep(0.2)
    t.ok(lash.now() - begin >= 0.199, "slept too short")
end)

-- Runs a script below a limit of `ulimit`: as the program `lash` in a shell of its own.
local function run_limited(limit, script)
    local path = t.file(script, ".lua")
    local pipe = assert(io.popen(("ulimit %s; '%s' %s 2>&1"):format(limit, os.getenv("LASH"), path)))
    local text = pipe:read("a")
    t.ok(pipe:close(), text)
    return text
end

local function run_with_few_files(files, script)
    return run_limited("-n " .. files, script)
end

t.case("a file that grows past the limit of files is an error, not the end; children are as ever", function()
    t.equal(run_limited("-f 1", ([[
        local lash = require "lash"
        print(select(2, lash.fs.write(%q, ("x"):rep(1000000))).code)
        print(lash.exec { shell = "head -c 1000000 /dev/zero > " .. %q }.code)
    ]]):format(t.path(), t.path())), "EFBIG\n153\n")
end)

t.case("workers for which no files are left are an error of the call, not the end", function()
    t.has(run_with_few_files(40, [[
        local engine = require "lash.core.engine"
        engine.jobs(60)
        local code = engine.ship("work", function()
            local begin = os.clock()
            while os.clock() - begin < 0.02 do end
            return true
        end)
        local list = {}
        for i = 1, 60 do list[i] = function() return select(2, assert(engine.offload(code))) end end
        local ended = 0
        for _, result in ipairs(lash.gather(list)) do
            ended = ended + (result.value and 1 or 0)
        end
        print(ended, "ended")
    ]]), "60\tended")
end)

t.case("a script that has all files open can still wait", function()
    t.has(run_with_few_files(40, [[
        local files = {}
        repeat
            files[#files + 1] = io.open("/dev/null")
        until #files > 50 or not io.open("/dev/null")
        lash.sleep(0.01)
        print("slept")
    ]]), "slept")
end)

t.case("T6 a task that catches every cancel and waits again ends nevertheless", function()
    local function stubborn(wait)
        local task = lash.spawn(function()
            while true do pcall(wait) end
        end)
        lash.sleep(0)
        task:cancel()
        task:wait()
        t.equal(engine.cancel_reason(select(2, task:result())), "user")
    end
    local function nap() lash.sleep(1) end
    stubborn(nap)
    stubborn(coroutine.wrap(function() while true do pcall(nap) end end))
    stubborn(function() coroutine.wrap(nap)() end)
    stubborn(function() pcall(function() while true do pcall(nap) end end) end)
    -- nobody else is hit
    local n = 0
    for i = 1, 1000 do n = n + i end
    lash.sleep(0)
    t.equal(n, 500500)
    t.equal(debug.gethook(), nil)
end)

t.case("closers of a cancelled task may wait in vain many times", function()
    local tried = 0
    local task = lash.spawn(function()
        local _ <close> = setmetatable({}, { __close = function()
            for _ = 1, 5000 do
                pcall(lash.sleep, 0)
                tried = tried + 1
            end
        end })
        lash.sleep(100)
    end)
    lash.sleep(0)
    task:cancel()
    task:wait()
    t.equal(tried, 5000)
end)

t.case("a cancel reaches to the bottom of deeply nested groups", function()
    local depth, reached = t.times(100000, 25000) // t.slower, 0
    local function nest(n)
        reached = reached + 1
        if n == 0 then
            lash.sleep(1000)
        end
        return lash.gather { function() return nest(n - 1) end }
    end
    local task = lash.spawn(nest, depth)
    while reached <= depth do
        lash.sleep(0)
    end
    task:cancel()
    task:wait()
    t.equal(engine.cancel_reason(select(2, task:result())), "user")
end)

-- The userdata of the wait that suspends the task, its stack index there, and the metatable.
local function waited(co)
    for i = 1, 30 do
        local name, value = debug.getlocal(co, 0, i)
        local mt = type(value) == "userdata" and debug.getmetatable(value)
        if not name then
            break
        elseif mt and mt.__gc and tostring(value):find("^lash%.") and mt.__name ~= "lash.task" then
            return value, i, mt
        end
    end
    error("no wait found")
end

local fifo = t.path()

local function waits()
    local code = engine.ship("spin", function() while true do end end)
    os.remove(fifo)
    assert(os.execute("mkfifo " .. fifo))
    t.remove_later(fifo)
    return {
        sleep = function() lash.sleep(100) end,
        file = function() lash.fs.read(fifo) end,
        offload = function() engine.offload(code) end,
        join = function() lash.spawn(lash.sleep, 100):wait() end,
        group = function() lash.gather { function() lash.sleep(100) end } end,
    }
end

t.case("a wait whose object is released by hand raises", function()
    for _, wait in pairs(waits()) do
        local co
        local task = lash.spawn(function() co = coroutine.running() wait() end)
        lash.sleep(0.02)
        local object, _, mt = waited(co)
        mt.__gc(object)
        mt.__gc(object)
        t.equal(pcall(mt.__gc, io.stdout), false)
        task:wait()
        local ok, err = task:result()
        t.equal(ok, false)
        t.has(tostring(err), "released")
    end
end)

t.case("a wait whose object is taken from its stack raises", function()
    for _, wait in pairs(waits()) do
        local co
        local task = lash.spawn(function() co = coroutine.running() wait() end)
        lash.sleep(0.02)
        local _, i = waited(co)
        debug.setlocal(co, 0, i, nil)
        collectgarbage()
        collectgarbage()
        task:cancel()
        task:wait()
        t.equal(task:result(), false)
    end
end)

t.case("a task goes on when its finalizer is called by hand", function()
    for _, wait in ipairs { function() lash.sleep(0) end, function() lash.sleep(0.02) end } do
        local child
        local task = lash.spawn(function()
            child = lash.spawn(lash.sleep, 100)
            wait()
            return 1
        end)
        debug.getmetatable(task).__gc(task)
        lash.sleep(0.01)
        debug.getmetatable(task).__gc(task)
        debug.getmetatable(child).__gc(child)
        task:wait()
        t.equal(table.pack(task:result()), table.pack(true, 1))
        t.equal(child:status(), "done")
    end
end)

t.case("what a task lives on is out of reach of the debug library", function()
    for n = 0, 3 do
        local task = lash.spawn(function() lash.sleep(0.01) return table.unpack({ 1, 2, 3 }, 1, n) end)
        for i = 1, 8 do
            t.ok(type(debug.getuservalue(task, i)) ~= "thread", "its coroutine")
            debug.setuservalue(task, nil, i)
        end
        collectgarbage()
        collectgarbage()
        task:wait()
        t.equal(table.pack(task:result()), table.pack(true, table.unpack({ 1, 2, 3 }, 1, n)))
        for _, value in ipairs { {}, { n = 1 << 40 }, setmetatable({}, { __index = error }) } do
            debug.setuservalue(task, value, 1)
            t.equal(select("#", task:result()), 1 + n)
        end
        debug.setuservalue(task, nil, 1)
        if n > 1 then
            t.raises("results", task.result, task)
        end
    end
end)

t.case("a batch that is used wrongly says so", function()
    local batch = engine.batch(2)
    t.raises("no such slot", batch.limit, batch, 1, "#", "x", 1)
    for _ = 1, 3 do batch:add(false) end
    for _, slot in ipairs { 0, -1, 4, math.mininteger } do
        t.raises("no such slot", batch.limit, batch, slot, "#", "x", 1)
        t.raises("no such slot", batch.settle, batch, slot)
    end
    for i = 1, 3 do batch:limit(1, "#", "name " .. i, 1) end
    t.raises("limits enough", batch.limit, batch, 1, "#", "name 4", 1)
    t.raises("does not run", batch.settle, batch, 1)
    batch:start()
    t.raises("limits enough", batch.limit, batch, 2, "#", "x", 1)
    t.equal(batch:next(), 1)
    batch:settle(1)
    t.raises("does not run", batch.settle, batch, 1)
    local waiter = lash.spawn(function() batch:next() batch:next() batch:next() return batch:next() end)
    lash.sleep(0)
    batch:settle(2)
    batch:settle(3) -- wakes the waiter, which finds the batch closed
    debug.getmetatable(batch).__gc(batch)
    debug.getmetatable(batch).__gc(batch)
    waiter:wait()
    t.has(tostring(select(2, waiter:result())), "closed")
end)

t.case("a task that waits for its own group raises", function()
    local group = engine.group(false)
    local task = group:spawn(function() group:wait() end)
    group:wait()
    t.has(tostring(select(2, task:result())), "its own group")
end)

t.case("tens of thousands of calls that wait for one lock take no time", function()
    local n = 50000
    local batch <close> = engine.batch(16)
    for i = 1, n do
        batch:add(false)
        batch:limit(i, "#", i % 2 == 0 and "even" or "odd", 1)
    end
    batch:start()
    local begin = os.clock()
    for i = 1, n do
        local slot = batch:next()
        t.equal(slot, i)
        batch:settle(slot)
    end
    t.ok(os.clock() - begin < 2 * t.slower, "it took " .. os.clock() - begin)
end)

t.case("finalizers that run at the end start nothing", function()
    local text = run_with_few_files(1024, [[
        local engine = require "lash.core.engine"
        local code = engine.ship("spin", function() while true do end end)
        local function try(name, fn, ...)
            print(name, select(2, pcall(fn, ...)))
        end
        kept = setmetatable({}, { __gc = function()
            try("offload", engine.offload, code)
            try("jobs", engine.jobs)
            try("sleep", lash.sleep, 1)
            try("read", lash.fs.read, "/dev/null")
            try("get", lash.http.get, "http://127.0.0.1:9/")
            try("spawn", lash.spawn, print)
        end })
    ]])
    for _, name in ipairs { "offload", "jobs", "sleep", "read", "get", "spawn" } do
        t.has("\n" .. text, "\n" .. name .. "\t")
    end
    local _, count = ("\n" .. text):gsub("program ends", "")
    t.equal(count, 6)
end)

return t.main(...)
