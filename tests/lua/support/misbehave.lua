--- Tools that misbehave, each with what has to become of its call. One list for the tests (tests/lua/misbehave.lua),
-- the random run (tests/stress/misbehave.lua) and the bench (tests/bench/stop.lua).
--
-- An entry: name = { fn, status = outcome, has = part of its output, [mark = "async" | "sync"], [memory =], ... }
--   status   "timeout" (the default), "error", "lost", "ok"
--   fn       gets { fifo = path that nobody writes to, trickle = URL that sends a byte a second,
--            nap = seconds that children sleep }
--   burns    true: the thread goes on in C for as long as the program lives
--   slow     true: not for the random run
local M = {}

--- What ends by its deadline: code that a hook can stop, and waits.
M.spins = {
    plain = { function() while true do end end },
    ["pcall in a loop"] = { function() while true do pcall(function() while true do end end) end end },
    ["xpcall with a spinning handler"] = {
        function() while true do xpcall(error, function() while true do end end) end end,
    },
    coroutine = { function() coroutine.wrap(function() while true do end end)() end },
    ["coroutine in a coroutine"] = {
        function() coroutine.wrap(function() coroutine.wrap(function() while true do end end)() end)() end,
    },
    ["pcall loop around coroutines"] = {
        function() while true do pcall(coroutine.wrap(function() while true do end end)) end end,
    },
    ["pcall loop in a coroutine in a pcall loop"] = {
        function()
            while true do
                pcall(function()
                    coroutine.wrap(function() while true do pcall(function() while true do end end) end end)()
                end)
            end
        end,
    },
    ["resumed again and again"] = {
        function()
            local co = coroutine.create(function() while true do coroutine.yield() end end)
            while true do coroutine.resume(co) end
        end,
    },
    ["new coroutines without end"] = {
        function()
            while true do
                coroutine.resume(coroutine.create(function() for _ = 1, 1e9 do end end))
            end
        end,
    },
    __index = { function() return setmetatable({}, { __index = function() while true do end end }).x end },
    ["__index in a pcall loop"] = {
        function()
            local x = setmetatable({}, { __index = function() while true do end end })
            while true do pcall(function() return x.y end) end
        end,
    },
    __close = { function() local x <close> = setmetatable({}, { __close = function() while true do end end }) end },
    ["__close in a coroutine that failed"] = {
        function()
            coroutine.wrap(function()
                local x <close> = setmetatable({}, { __close = function() while true do end end })
                error("x")
            end)()
        end,
    },
    ["__close by coroutine.close"] = {
        function()
            local co = coroutine.create(function()
                local x <close> = setmetatable({}, { __close = function() while true do end end })
                coroutine.yield()
            end)
            coroutine.resume(co)
            coroutine.close(co)
        end,
    },
    gsub = { function() return (("x"):rep(100):gsub("x", function() while true do end end)) end },
    ["gsub in a pcall loop"] = {
        function() while true do pcall(string.gsub, "x", "x", function() while true do end end) end end,
    },
    sort = { function() table.sort({ 3, 2, 1 }, function() while true do end end) end },
    load = { function() return load(function() while true do end end) end },
    tostring = { function() return tostring(setmetatable({}, { __tostring = function() while true do end end })) end },
    iterator = { function() for _ in function() return 1 end do end end },
    ["require"] = {
        function()
            package.preload.spinner = function() while true do end end
            require "spinner"
        end,
    },
    ["waits in a pcall loop"] = { function() while true do pcall(require("lash").sleep, 10) end end },
    ["short waits for ever"] = { function() while true do pcall(require("lash").sleep, 0) end end },
    ["a child that spins"] = {
        function()
            local l = require "lash"
            l.spawn(function() while true do pcall(function() while true do end end) end end)
            l.sleep(10)
        end,
    },
    ["allocating"] = { function() local list = {} while true do list[#list % 1000 + 1] = {} end end },
    ["waiting in a gsub callback"] = {
        function()
            while true do
                pcall(string.gsub, "x", "x", function() require("lash").sleep(10) end)
            end
        end,
    },
    ["a cleanup that spins"] = {
        function()
            while true do
                pcall(function()
                    local x <close> = setmetatable({}, { __close = function() while true do end end })
                    while true do end
                end)
            end
        end,
    },
}

-- A shell command whose "NAP" is that of the test: its processes can be told from others.
local function sh(args, command)
    return (command:gsub("NAP", args.nap or "100"))
end

--- What blocks in C, and ends with its children or its system call.
M.blocked = {
    ["os.execute"] = { function(args) os.execute(sh(args, "sleep NAP")) end },
    ["os.execute of a pipeline"] = { function(args) os.execute(sh(args, "sleep NAP | sleep NAP; sleep NAP")) end },
    ["os.execute of one that ignores SIGTERM"] = {
        function(args) os.execute(sh(args, "trap '' TERM; sleep NAP; sleep NAP")) end,
    },
    ["io.popen"] = { function(args) return io.popen(sh(args, "sleep NAP; echo late")):read("a") end },
    ["io.popen of one that keeps the pipe"] = {
        function(args) return io.popen(sh(args, "sleep NAP & echo x")):read("a") end,
    },
    ["io.read of a FIFO"] = { function(args) return io.open(args.fifo):read("a") end },
    ["lash.exec"] = { function(args) return require("lash").exec { "sleep", args.nap or "100" } end },
    ["lash.exec of one that ignores SIGTERM"] = {
        function(args) return require("lash").exec { shell = sh(args, "trap '' TERM; sleep NAP; sleep NAP") } end,
    },
    ["lash.exec of one that forks and keeps the pipe"] = {
        function(args)
            return require("lash").exec { shell = sh(args, "(trap '' TERM; sleep NAP) & sleep NAP") }
        end,
    },
    ["lash.fs of a FIFO"] = { function(args) return require("lash").fs.read(args.fifo) end },
    ["lash.exec, async"] = {
        mark = "async", function(args) return require("lash").exec { "sleep", args.nap or "100" } end,
    },
    ["lash.fs of a FIFO, async"] = { mark = "async", function(args) return require("lash").fs.read(args.fifo) end },
    ["lash.sleep, async"] = { mark = "async", function() require("lash").sleep(100) end },
    ["lash.sleep in a pcall loop, async"] = {
        mark = "async", function() while true do pcall(require("lash").sleep, 100) end end,
    },
    ["a server of a byte a second"] = { function(args) return require("lash").http.get(args.trickle).body end },
    ["a server of a byte a second, async"] = {
        mark = "async", function(args) return require("lash").http.get(args.trickle).body end,
    },
}

--- What nothing in this process can stop: the call is answered, the thread set aside.
M.stuck = {
    ["a pathological pattern"] = {
        status = "lost", burns = true, function() return (("a"):rep(3000):find(".-.-.-.-b")) end,
    },
    __gc = { -- Lua runs no hook in there
        status = "lost", burns = true, function()
            setmetatable({}, { __gc = function() while true do end end })
            collectgarbage()
        end,
    },
}

local function failing(text, fn, more)
    local entry = { fn, status = "error", has = text }
    for key, value in pairs(more or {}) do
        entry[key] = value
    end
    return entry
end

--- What fails by itself (D15).
M.fails = {
    ["error(nil)"] = failing("nil", function() error(nil) end),
    ["error({})"] = failing("error", function() error({}) end),
    ["error with a number"] = failing("42", function() error(42) end),
    ["error(table)"] = failing("told", function() error { message = "told" } end),
    ["__tostring that raises"] = failing("error", function()
        error(setmetatable({}, { __tostring = function() error("no") end }))
    end),
    ["error(coroutine)"] = failing("thread", function() error(coroutine.create(print)) end),
    ["error(function)"] = failing("function", function() error(print) end),
    ["nil, err"] = failing("no such city", function() return nil, "no such city" end),
    ["endless recursion"] = failing("stack overflow", function()
        local function f() return 1 + f() end
        return f()
    end),
    ["recursion through pcall"] = failing("C stack overflow", function()
        local function f() return (assert(select(2, pcall(f)))) end
        error(f())
    end, { slow = true }),
    ["recursion through metamethods"] = failing("stack overflow", function()
        local mt = {}
        mt.__index = function(x, key) return x[key .. "x"] end
        return setmetatable({}, mt).x
    end),
    ["recursion through gsub"] = failing("stack overflow", function()
        local function f() return (("x"):gsub("x", f)) end
        return f()
    end),
    ["coroutines in coroutines"] = failing("stack overflow", function()
        local function f() return coroutine.wrap(f)() end
        return f()
    end),
    ["a wrong yield"] = failing("yield", function() coroutine.yield(1) end),
    ["a killed coroutine"] = failing("dead coroutine", function()
        local co = coroutine.create(function() coroutine.yield() end)
        coroutine.resume(co)
        coroutine.close(co)
        error(select(2, coroutine.resume(co)))
    end),
    ["os.exit"] = failing("os.exit", function() os.exit(3) end),
    ["os.exit in a pcall, then a global"] = failing("global 'gone'", function()
        pcall(os.exit, 3)
        return gone.field -- luacheck: ignore
    end),
    ["an unreadable result"] = failing("function", function() return { f = print } end),
    ["a cyclic result"] = failing("contains itself", function()
        local x = {}
        x.x = x
        return x
    end),
    ["a string bomb"] = failing("memory", function() return #("x"):rep(1 << 30) end, { memory = "32M" }),
    ["a doubling string"] = failing("memory", function()
        local s = "x"
        while true do s = s .. s end
    end, { memory = "32M" }),
    ["a table bomb"] = failing("memory", function()
        local list = {}
        while true do list[#list + 1] = { list } end
    end, { memory = "32M" }),
    ["a concat bomb"] = failing("memory", function()
        local list = {}
        for i = 1, 1 << 12 do list[i] = ("x"):rep(1 << 16) end
        return #table.concat(list)
    end, { memory = "32M" }),
    ["a gsub bomb"] = failing("memory", function()
        local s = ("x"):rep(1 << 16)
        return #s:gsub("x", s)
    end, { memory = "32M" }),
    ["a coroutine bomb"] = failing("memory", function()
        local list = {}
        while true do
            local co = coroutine.create(function() coroutine.yield() end)
            coroutine.resume(co)
            list[#list + 1] = co
        end
    end, { memory = "32M" }),
    ["10 MB of output"] = {
        status = "ok", has = "10485760 bytes", function() return ("x"):rep(10 << 20) end,
    },
    ["10 MB of a child's output"] = {
        status = "ok", has = "10485760 bytes in all",
        function()
            local res = require("lash").exec { shell = "head -c 10485760 /dev/zero | tr '\\0' x" }
            assert(res.truncated and #res.stdout <= 1 << 20)
            return res.stdout:match("%d+ bytes in all")
        end,
    },
}

--- The same on the main loop, which they hold: the watchdog ends them.
M.held = {}
for name, entry in pairs(M.spins) do
    M.held[name .. ", async"] = { mark = "async", slow = true, entry[1] }
end

--- name -> entry, of all kinds.
function M.all()
    local all = {}
    for _, kind in ipairs { "spins", "held", "blocked", "stuck", "fails" } do
        for name, entry in pairs(M[kind]) do
            assert(not all[name], name)
            entry.name, entry.kind = name, kind
            entry.fn, entry.status, entry.mark = entry[1], entry.status or "timeout", entry.mark or "sync"
            all[name] = entry
        end
    end
    return all
end

return M
