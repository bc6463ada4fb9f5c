-- D15: a sync tool that needs more memory than it may is an outcome; nothing of it stays behind.
local t = require "t"
local fake = require "fake"
local engine = require "lash.core.engine"
local lash = require "lash"
local resident = require "support.resident"
local run_tool = require("lash.tool").run

local function run(fn, spec)
    spec = spec or {}
    spec.name, spec.sync, spec.memory = "subject", fn, spec.memory or "8M"
    return run_tool(lash.tool(spec), {}, {})
end

local function offload(bytes, fn, ...)
    return engine.offload_within(bytes, nil, engine.ship("a test", fn), ...)
end

local BOMBS = {
    ["one long string"] = function() return #("x"):rep(1000000000) end,
    ["a table"] = function() local list = {} while true do list[#list + 1] = #list end end,
    ["tables in a table"] = function() local list = {} while true do list[#list + 1] = {} end end,
    ["fields"] = function() local map = {} while true do map[{}] = true end end,
    ["concatenation"] = function() local s = "x" while true do s = s .. s end end,
    ["table.concat"] = function()
        local list, s = {}, ("x"):rep(1000000)
        for i = 1, 1000 do list[i] = s end
        return #table.concat(list)
    end,
    ["gsub that grows"] = function()
        local s = ("x"):rep(1000)
        while true do s = s:gsub(".", "%0%0%0%0%0%0%0%0%0%0") end
    end,
    ["string.format"] = function() local s = "x" while true do s = ("%s%s%s"):format(s, s, s) end end,
    closures = function() local list = {} while true do list[#list + 1] = function() return list end end end,
    coroutines = function()
        local list = {}
        while true do list[#list + 1] = coroutine.wrap(function() coroutine.yield() end) list[#list]() end
    end,
    ["a coroutine's own"] = function()
        coroutine.wrap(function() local list = {} while true do list[#list + 1] = {} end end)()
    end,
    userdata = function()
        local group, list = require("lash.core.engine").group, {}
        while true do list[#list + 1] = group() end
    end,
    ["compiled code"] = function()
        local code = {}
        for i = 1, 1000000 do code[i] = ("x%d = %d.5\n"):format(i, i) end
        return load(table.concat(code))
    end,
    ["read pieces"] = function()
        return load(function() return ("x = 1 "):rep(100000) end)
    end,
    ["a deep call"] = function() local function f() return 1 + f() end return f() end,
    unpacked = function() -- a hundred more each time: what there is is copied each time
        local box = {}
        box.f = load("local box = ... return function(...) return box.f(" .. ("1, "):rep(100) .. "...) end")(box)
        return box.f()
    end,
    tasks = function()
        local l = require "lash"
        while true do l.spawn(function() l.sleep(100) end) end
    end,
    ["a task of its own"] = function()
        local l = require "lash"
        return l.gather({ function() local list = {} while true do list[#list + 1] = {} end end }, { raise = true })
    end,
    ["in a metamethod"] = function()
        return tostring(setmetatable({}, { __tostring = function() local s = "x" while true do s = s .. s end end }))
    end,
    ["json"] = function()
        local s, list = ("x"):rep(100000), {}
        for i = 1, 1000 do list[i] = s end
        return require("lash").json.encode(list)
    end,
    ["a result that is large as text"] = function()
        local s, list = ("x"):rep(100000), {}
        for i = 1, 1000 do list[i] = s end
        return list
    end,
    ["an error that is large as text"] = function()
        local s, list = ("x"):rep(100000), {}
        for i = 1, 1000 do list[i] = s end
        error(list)
    end,
}

local names = {}
for name in pairs(BOMBS) do
    names[#names + 1] = name
end
table.sort(names)

t.case("D15 whatever needs too much memory is an error that names the limit and the remedy", function()
    engine.jobs(1)
    for _, name in ipairs(names) do
        local status, text = run(BOMBS[name])
        t.equal(status, "error", name)
        t.has(text, "used more than its limit of 8M of memory (raise it with the field `memory`", name)
        t.equal({ run(function() return "next" end) }, { "ok", "next" }, name)
    end
end)

t.case("D15 a raw job that needs too much memory", function()
    for _, fn in ipairs {
        BOMBS["tables in a table"],
        function() error(("x"):rep(50000000)) end,
        function() return ("x"):rep(6000000), ("y"):rep(50000000) end,
        function() -- made when the job is over, for the file cannot travel
            error(setmetatable({ io.tmpfile() }, { __tostring = function() return ("x"):rep(100000000) end }))
        end,
        function() return function() end, ("x"):rep(50000000) end,
    } do
        local ok, err = offload(8 << 20, fn)
        t.equal(ok, false)
        t.has(tostring(err), "its limit of 8M of memory")
        t.equal({ offload(8 << 20, function(...) return ... end, 1, "x") }, { true, 1, "x" })
    end
end)

t.case("D15 arguments that are larger than the limit", function()
    local ok, err = offload(1 << 20, function(text) return #text end, ("x"):rep(3 << 20))
    t.equal(ok, false)
    t.has(err, "its limit of 1M of memory")
    t.equal({ offload(8 << 20, function(text) return #text end, ("x"):rep(3 << 20)) }, { true, 3 << 20 })
end)

t.case("many at once: siblings are not affected", function()
    engine.jobs(4)
    local bomb = lash.tool { name = "bomb", params = { i = "integer" }, memory = "8M", sync = BOMBS.closures }
    local fine = lash.tool { name = "fine", params = { i = "integer" }, memory = "8M", sync = function(args)
        local list = {}
        for i = 1, 10000 do list[i] = { i } end
        return args.i + #list
    end }
    local calls = {}
    for i = 1, 40 do
        calls[i] = { i % 2 == 0 and "bomb" or "fine", { i = i } }
    end
    for i, outcome in ipairs(fake.batch({ bomb, fine }, calls)) do
        t.equal(outcome.status, i % 2 == 0 and "error" or "ok")
        t.has(outcome.output, i % 2 == 0 and "its limit of 8M" or tostring(10000 + i))
    end
    t.ok(engine.workers() <= 4)
end)

t.case("what waits for the only worker is not forgotten when that is replaced", function()
    engine.jobs(1)
    local bomb = engine.ship("a bomb", BOMBS["one long string"])
    local fine = engine.ship("fine", function(i) return i end)
    local results = lash.map({ 1, 2, 3, 4, 5, 6, 7, 8 }, function(i)
        return { engine.offload_within(4 << 20, nil, i % 2 == 0 and bomb or fine, i) }
    end, { raise = true })
    for i, result in ipairs(results) do
        t.equal({ result[1], i % 2 == 0 or result[2] }, { i % 2 == 1, i % 2 == 0 or i })
    end
    t.ok(engine.workers() <= 1)
end)

local function marked_worker()
    return { offload(0, function()
        local loaded = require "lash.size" -- a module of the worker's own
        local was = loaded.marked
        loaded.marked = true
        return was
    end) }
end

t.case("D15 a worker that met a limit is not used again, even when the tool caught the error", function()
    engine.jobs(1)
    t.equal(marked_worker(), { true })
    t.equal(marked_worker(), { true, true })
    for _, name in ipairs { "one long string", "tables in a table", "coroutines" } do
        t.equal({ offload(8 << 20, function(bomb) return pcall(bomb) end, BOMBS[name]) },
            { true, false, "not enough memory" }, name)
        t.equal(marked_worker(), { true }, name)
        t.equal(marked_worker(), { true, true }, name)
    end
end)

t.case("a job that makes much garbage does not meet its limit, and its worker stays", function()
    engine.jobs(1)
    marked_worker()
    t.equal({ offload(8 << 20, function()
        local n = 0
        for i = 1, 200000 do
            local list = { i, { i }, tostring(i) }
            n = n + #list
        end
        local kept = {} -- more than half of the limit is in use while garbage comes and goes
        for i = 1, 40000 do kept[i] = { i } end
        for i = 1, 200000 do kept[i % 40000 + 1] = { i } end
        return n + #kept
    end) }, { true, 640000 })
    t.equal(marked_worker(), { true, true })
end)

t.case("the limit counts what a job adds, not what its worker had", function()
    engine.jobs(1)
    t.equal({ offload(0, function()
        local loaded = require "lash.size"
        loaded.ballast = ("x"):rep(20 << 20)
    end) }, { true })
    t.equal({ offload(4 << 20, function()
        return #require("lash.size").ballast, #("y"):rep(1 << 20)
    end) }, { true, 20 << 20, 1 << 20 })
    for _ = 1, 20 do -- nor the garbage of others
        offload(0, function() local s = ("x"):rep(3 << 20) return #s end)
        t.equal({ (offload(1 << 20, function() return #("x"):rep(2 << 20) end)) }, { false })
    end
end)

t.case("T6 a tool that catches the memory error again and again ends at its deadline", function()
    t.needs_prompt_signals()
    t.patience()
    engine.jobs(5)
    for _, name in ipairs { "one long string", "a table", "closures", "a coroutine's own" } do
        local bomb = BOMBS[name]
        local stubborn = lash.tool { name = "stubborn", timeout = 0.1, memory = "4M", sync = function()
            while true do pcall(bomb) end
        end }
        local outcomes = fake.batch({ stubborn }, { { "stubborn" } })
        t.has(outcomes[1].output, "timed out after 0.1 s", name)
        t.equal(outcomes[1].status, "timeout", name)
        t.equal({ run(function() return "next" end) }, { "ok", "next" }, name)
    end
end)

t.case("T6 the same, when every step of it takes long: its worker comes back", function()
    t.needs_prompt_signals()
    engine.jobs(1)
    for _, fn in ipairs {
        function() -- a whole collection for each table that there is no room for
            local kept = {}
            while true do pcall(function() kept[#kept + 1] = {} end) end
        end,
        function() while true do pcall(string.rep, "x", 100000000) end end,
        function() while true do pcall(string.rep, "x", 10000000) end end,
    } do
        local task = lash.spawn(engine.offload_within, 64 << 20, nil, engine.ship("a test", fn))
        task:deadline(0.5)
        task:wait()
        t.equal(engine.cancel_reason(select(2, task:result())), "deadline")
        local next_one = engine.ship("next", function() return "next" end)
        -- perhaps later than others: until then there is no other worker
        t.wait_until(function() return (pcall(engine.offload, next_one)) end, "the worker's return")
        t.equal({ engine.offload(next_one) }, { true, "next" })
    end
end)

t.case("closers, handlers and finalizers have room when the limit is met", function()
    local path = t.path()
    local bomb = BOMBS["tables in a table"]
    local status, text = run(function()
        setmetatable({}, { __gc = function() error(("x"):rep(1000)) end })
        local _ <close> = setmetatable({}, { __close = function(_, err)
            local lines = {}
            for i = 1, 1000 do
                lines[i] = ("line %d"):format(i)
            end
            local l = require "lash"
            l.sleep(0.001)
            local file = assert(io.open(path, "w"))
            file:write(tostring(err), " ", #table.concat(lines, "\n"))
            file:close()
        end })
        bomb()
    end)
    t.equal(status, "error")
    t.has(text, "its limit of 8M")
    local file = assert(io.open(path))
    t.equal(file:read("a"), "not enough memory 8892")
    file:close()
    t.equal({ run(function()
        local ok, handled = xpcall(function() bomb() end, function(err) return { err } end)
        return ok, type(handled)
    end) }, { "ok", '[false,"string"]' }) -- Lua calls no handler for it
end)

t.case("an error that tells of the memory error tells of the limit", function()
    local bomb = BOMBS["a table"]
    local status, text = run(function()
        local _, err = pcall(bomb)
        error("while sorting: " .. err, 0)
    end)
    t.equal(status, "error")
    t.has(text, "while sorting: used more than its limit of 8M of memory")
    status, text = run(function()
        pcall(bomb)
        error("another reason", 0)
    end)
    t.equal({ status, text }, { "error", "another reason" })
    status, text = run(function() error("not enough memory in the shed", 0) end)
    t.equal({ status, text }, { "error", "not enough memory in the shed" })
    t.equal({ run(function() return nil, select(2, pcall(bomb)) end) }, { run(bomb) })
end)

t.case("a stack overflow within the limit is an error of its own", function()
    local status, text = run(BOMBS["a deep call"], { memory = "256M" })
    t.equal(status, "error")
    t.has(text, "stack overflow")
end)

t.case("S3 a tool that a worker runs in place stays under the limit of the call that it runs in", function()
    engine.jobs(1)
    local inner = lash.tool { name = "inner", memory = "1G", sync = BOMBS["tables in a table"] }
    local status, text = run(function()
        return require("lash.tool").run(inner, {}, {})
    end)
    t.equal(status, "ok")
    t.has(text, "its limit of 8M of memory")
    t.equal({ run(function() return "next" end) }, { "ok", "next" })
end)

t.case("S3 a tool that runs on another worker has its own limit", function()
    engine.jobs(2)
    local big = lash.tool { name = "big", memory = "64M", sync = function() return #("x"):rep(20 << 20) end }
    t.equal({ run(function()
        local _, text = require("lash.tool").run(big, {}, {})
        return text
    end) }, { "ok", tostring(20 << 20) })
end)

t.case("the limit of tools that have none, and none at all", function()
    t.equal(engine.memory_limit(), 256 << 20)
    t.equal(engine.memory_limit(4 << 20), 4 << 20)
    local function big() return #("x"):rep(20 << 20) end
    local _, text = run_tool(lash.tool { name = "big", sync = big }, {}, {})
    t.has(text, "its limit of 4M of memory")
    local prompt = lash.prompt { name = "big", sync = function() return ("x"):rep(20 << 20) end }
    local _, err = require("lash.prompt").text(prompt, {})
    t.has(err, "prompt 'big': used more than its limit of 4M")
    t.equal({ run_tool(lash.tool { name = "big", memory = false, sync = big }, {}, {}) }, { "ok", tostring(20 << 20) })
    t.equal({ run(function()
        local e = require "lash.core.engine"
        return e.memory_limit()
    end) }, { "ok", tostring(4 << 20) })
    engine.memory_limit(0)
    t.equal({ run_tool(lash.tool { name = "big", sync = big }, {}, {}) }, { "ok", tostring(20 << 20) })
    t.raises("at least 0", engine.memory_limit, -1)
end)

t.case("what `memory` may be", function()
    for _, good in ipairs { "1M", "64M", "2G", 1 << 20, false } do
        lash.tool { name = "good", memory = good, sync = function() end }
    end
    for _, bad in ipairs { "64", "64m", "1K", "-1M", "", 5, 0, true } do
        t.raises("`memory` is a size such as", lash.tool, { name = "bad", memory = bad, sync = function() end })
    end
    t.raises("memory", lash.tool, { name = "bad", memory = {}, sync = function() end })
    for _, value in ipairs { "64M", false } do
        t.raises("make it `sync = function(args)`", lash.tool, { name = "bad", memory = value, async = function() end })
    end
end)

t.case("D15 a limit that is met anywhere in a job: it ends with its result, or with the sentence", function()
    engine.jobs(2)
    local inner = engine.ship("inner", function(n) return { n, ("y"):rep(n) } end)
    local code = engine.ship("a job", function(again, ...)
        local l, e = require "lash", require "lash.core.engine"
        local _ <close> = setmetatable({}, { __close = function() l.sleep(0) return { {} } end })
        setmetatable({}, { __gc = function() return { {} } end })
        local results = l.gather { function() l.sleep(0) return l.json.encode { 1, { a = "b" } } end,
            coroutine.wrap(function() l.sleep(0) coroutine.yield(1) end) }
        local list = {}
        for i = 1, 50 do list[i] = { ("x"):rep(i), function() return list end } end
        table.sort(list, function(a, b) return #a[1] > #b[1] end)
        local spawned = l.spawn(l.sleep, 0.0001)
        local ok, got = e.offload(again, 100)
        spawned:wait()
        return #list, results[1].value, ok and #got[2], load("return " .. #list)(), ...
    end)
    local fine, bytes = 0, 1
    while fine < 3 do
        local results = table.pack(engine.offload_within(bytes, nil, code, inner, { 1, 2 }))
        if results[1] then
            t.equal({ results[2], results[5] }, { 50, 50 })
            fine = fine + (results[3] and results[4] and 1 or 0)
        else
            t.has(tostring(results[2]), "memory")
        end
        bytes = bytes + (fine > 0 and 4000 or 61 * t.slower + bytes // 50)
        t.ok(bytes < 10000000, "it never ends well")
    end
    t.equal({ engine.offload(inner, 1) }, { true, { 1, "y" } })
end)

t.case("a call that is cancelled while it fills its memory", function()
    t.needs_prompt_signals()
    t.patience()
    engine.jobs(2)
    local bomb = engine.ship("a bomb", BOMBS["tables in a table"])
    for i = 1, 30 do
        local task = lash.spawn(engine.offload_within, 32 << 20, nil, bomb)
        lash.sleep(i * 0.001)
        task:cancel()
        task:wait()
        local ok, err = task:result()
        t.ok(not ok and engine.cancel_reason(err) == "user" or err == false, tostring(err))
        t.equal({ run(function() return "next" end) }, { "ok", "next" })
    end
end)

t.case("D15 memory comes back to its level after many that met their limit", function()
    engine.jobs(2)
    local some = { BOMBS["one long string"], BOMBS["tables in a table"], BOMBS.concatenation, BOMBS.coroutines }
    local tools = {}
    for i, fn in ipairs(some) do
        tools[i] = lash.tool { name = "bomb" .. i, memory = "8M", sync = fn }
    end
    local function round(times)
        lash.map({ 1, 2 }, function()
            for i = 1, times do
                local status, text = run_tool(tools[i % #tools + 1], {}, {})
                t.equal(status, "error")
                t.has(text, "its limit of 8M")
            end
        end, { raise = true })
        collectgarbage()
        collectgarbage()
        return engine.memory(), resident()
    end
    local memory, level = round(10)
    local later, after = round(t.times(100, 20) // t.slower)
    t.ok(later <= memory * 1.01 + 2000, ("%d bytes, then %d"):format(memory, later))
    if t.slower == 1 then -- the sanitizers keep what was freed
        t.ok(after <= level + (4 << 20), ("%d bytes resident, then %d"):format(level, after))
    end
end)

return t.main(...)
