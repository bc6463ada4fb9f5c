-- D19: what ran on a worker before cannot be seen. One worker, so that all calls meet on it.
local t = require "t"
local engine = require "lash.core.engine"
local lash = require "lash"

engine.jobs(1)

local function offload(fn, ...)
    return engine.offload(engine.ship("a test", fn), ...)
end

-- Runs `mess`, whose end may be an error, then `look` on the same worker.
local function after(mess, look, ...)
    offload(mess)
    local results = table.pack(offload(look, ...))
    t.ok(results[1], results[2])
    return table.unpack(results, 2, results.n)
end

t.case("D19 a global of one call is invisible to the next", function()
    t.equal(after(function() stray = 1 _G.other = 2 _ENV.third = 3 rawset(_G, "raw", 4) end,
        function() return rawget(_G, "stray"), rawget(_G, "other"), rawget(_G, "third"), rawget(_G, "raw") end), nil)
    local ok, err = offload(function() return stray end)
    t.equal(ok, false)
    t.has(err, "global 'stray' does not exist in a worker: make it local or require it")
end)

t.case("D19 removed and changed globals are back", function()
    t.equal({ after(function() print = nil _G.type = 5 string = {} _VERSION = "none" end,
        function() return type(print), type(type), string.upper("x"), _VERSION end) },
        { "function", "function", "X", _VERSION })
end)

t.case("D19 a global set through load and dofile", function()
    local file = t.file("from_file = 1 return from_file")
    t.equal({ after(function() load("from_load = 1")() assert(from_load == 1) end,
        function() return rawget(_G, "from_load"), rawget(_G, "from_file") end) }, {})
    local ok, value, seen = offload(function(path)
        return dofile(path), from_file
    end, file)
    t.equal({ ok, value, seen }, { true, 1, 1 })
end)

t.case("D19 a change to a captured local, or inside a captured table", function()
    local count, state = 0, { n = 0, list = { 1 } }
    local code = engine.ship("counter", function()
        count = count + 1
        state.n = state.n + 1
        state.list[#state.list + 1] = 2
        return count, state.n, #state.list
    end)
    for _ = 1, 3 do
        t.equal({ engine.offload(code) }, { true, 1, 1, 2 })
    end
    t.equal({ count, state.n, #state.list }, { 0, 0, 1 })
end)

t.case("D19 a snapshot is of the declaration, not of the call", function()
    local value = "then"
    local tool = lash.tool { name = "snap", sync = function() return value end }
    value = "now"
    t.equal({ require("lash.tool").run(tool, {}, {}) }, { "ok", "then" })
end)

t.case("D19 the standard libraries are as they were", function()
    t.equal({ after(function()
        string.upper = function() return "spoilt" end
        table.insert = nil
        math.pi = 3
        os.time = function() return 0 end
        string.extra, io.extra, utf8.extra = 1, 1, 1
        coroutine.wrap, debug.traceback, package.path = nil, nil, "nowhere"
        setmetatable(math, { __index = function() return "ghost" end })
        setmetatable(_G, nil)
    end, function()
        local list = {}
        table.insert(list, 1)
        return string.upper("x"), #list, math.pi > 3.1, os.time() > 1000, string.extra, io.extra, utf8.extra,
            type(coroutine.wrap), type(debug.traceback), package.path == "nowhere", math.ghost
    end) }, { "X", 1, true, true, nil, nil, nil, "function", "function", false, nil })
end)

t.case("D19 methods of strings", function()
    t.equal({ after(function()
        local mt = getmetatable("")
        mt.__index = function() return function() return "spoilt" end end
        mt.__add = function() return "added" end
        mt.__call = function() return "called" end
        mt.__metatable = "hidden"
    end, function()
        return ("x"):upper(), (pcall(function() return ("x")() end)), "10" + 1, type(getmetatable(""))
    end) }, { "X", false, 11, "table" })
end)

t.case("D19 methods of files", function()
    t.equal({ after(function()
        local mt = getmetatable(io.stdout)
        mt.__index.write = nil
        mt.__index.shout = print
        mt.__index = nil
        mt.__call = print
    end, function()
        return type(io.stdout.write), io.stdout.shout, pcall(io.stdout)
    end) }, { "function", nil, false, "attempt to call a FILE* value" })
end)

t.case("D19 metatables of the basic types", function()
    t.equal({ after(function()
        local mt = { __index = function() return "ghost" end, __call = function() return "called" end }
        for _, value in ipairs { 1, true, print, coroutine.running() } do
            debug.setmetatable(value, mt)
        end
        debug.setmetatable(nil, mt)
    end, function()
        local none
        return pcall(function() return none.x end), pcall(function() return (1).x end),
            pcall(function() return print.x end), (pcall(function() return (true)() end))
    end) }, { false, false, false, false })
end)

t.case("D19 modules: what a call puts into package cannot be seen", function()
    t.equal({ after(function()
        package.preload.ghost = function() return "ghost" end
        table.insert(package.searchers, 1, function() return function() return "ghost" end end)
        package.loaded.string = { upper = function() return "spoilt" end }
        package.loaded.phantom = "ghost"
    end, function()
        return pcall(require, "ghost"), pcall(require, "phantom_too"), require("string").upper("x")
    end) }, { false, false, "X" })
end)

t.case("D19 a module keeps its state on its worker, and sees no global of a call", function()
    local dir = t.path()
    os.remove(dir)
    local name = dir:match("[^/]+$")
    local path = t.file("local M = { n = 0 } function M.up() M.n = M.n + 1 return M.n, rawget(_G, 'mine') end return M", ".lua")
    local module = path:match("([^/]+)%.lua$")
    package.path = path:match("^(.*)/") .. "/?.lua;" .. package.path
    local code = engine.ship("uses a module", function(m)
        mine = "set"
        return require(m).up()
    end)
    t.equal({ engine.offload(code, module) }, { true, 1 })
    t.equal({ engine.offload(code, module) }, { true, 2 })
    t.ok(name)
end)

t.case("D19 the sequence of random numbers", function()
    local function draw()
        return math.random(1 << 40), math.random(1 << 40)
    end
    local seeded = { after(function() math.randomseed(42) end, draw) }
    local fresh = { after(function() math.randomseed(42) end, draw) }
    math.randomseed(42)
    t.ok(seeded[1] ~= draw(), "the seed of another call was seen")
    t.ok(seeded[1] ~= fresh[1], "two calls drew the same numbers")
    local seen = {}
    local code = engine.ship("draw", draw)
    for _ = 1, 50 do
        local _, a = engine.offload(code)
        t.ok(not seen[a], "two calls drew the same number")
        seen[a] = true
    end
end)

t.case("D19 default files, hooks, the collector", function()
    local out = t.file("")
    local ok, path = offload(function(file)
        io.output(file)
        io.input(file)
        io.write("into the file")
        debug.sethook(function() error("hook") end, "l")
        return file
    end, out)
    t.ok(ok or path)
    local results = { offload(function()
        collectgarbage("stop")
        collectgarbage("incremental")
    end) }
    t.equal(results, { true })
    t.equal({ offload(function()
        local mode = collectgarbage("generational")
        return io.output() == io.stdout or io.output() == io.stderr, io.input() == io.stdin,
            debug.gethook() == nil, collectgarbage("isrunning"), mode
    end) }, { true, true, true, true, true, "generational" })
end)

t.case("D19 what fails leaves no more behind than what succeeds", function()
    t.needs_prompt_signals()
    t.patience()
    for _, mess in ipairs {
        function() stray = 1 error("x") end,
        function() string.upper = nil error({}) end,
        function() local function f() return 1 + f() end string.lower = nil f() end,
        function() string.rep = nil while true do end end,
    } do
        local task = lash.spawn(offload, mess)
        task:deadline(0.05)
        task:wait()
        t.equal({ offload(function() return rawget(_G, "stray"), type(string.upper), type(string.lower), type(string.rep) end) },
            { true, nil, "function", "function", "function" })
    end
    t.equal(engine.workers(), 1)
end)

t.case("D19 modules may ask for globals that are not there, as on main", function()
    local path = t.file([[
        local unpack = unpack or table.unpack
        local M = { jit = jit ~= nil, old = setfenv == nil }
        function M.sum(...) local a, b = unpack({ ... }) return a + b end
        return M
    ]], ".lua")
    local name = path:match("([^/]+)%.lua$")
    package.path = path:match("^(.*)/") .. "/?.lua;" .. package.path
    t.equal(require(name).sum(1, 2), 3)
    t.equal({ offload(function(m) local M = require(m) return M.sum(1, 2), M.jit, M.old end, name) }, { true, 3, false, true })
end)

t.case("D19 a call leaves no task behind", function()
    t.equal({ after(function()
        local l = require "lash"
        l.spawn(function() l.sleep(60) end)
        l.spawn(function() while true do l.sleep(0) end end)
    end, function()
        return (require("lash.core.engine").live())
    end) }, { 1 })
end)

t.case("D19 what finalizers do between two calls starts nothing", function()
    local seen = lash.shared("between calls")
    local ok = offload(function()
        collectgarbage("stop")
        local engine = require "lash.core.engine"
        local told = require("lash").shared("between calls")
        local code = engine.ship("inner", function() return 1 end)
        local group = engine.group()
        setmetatable({}, { __gc = function()
            for name, fn in pairs {
                spawn = function() engine.spawn(print) end,
                group = function() group:spawn(print) end,
                drive = function() engine.drive(print) end,
                offload = function() engine.offload(code) end,
            } do
                told:set(name, (tostring(select(2, pcall(fn))):gsub("^.-%d: ", "")))
            end
            told:set("over", true)
        end })
        local garbage = {}
        for i = 1, 200000 do -- so much that the worker collects it
            garbage[i] = { i }
        end
    end)
    t.equal(ok, true)
    while not seen:get("over") do
        lash.sleep(0.001)
    end
    local text = "the call has ended: a finalizer cannot start a task any more"
    t.equal({ seen:get("spawn"), seen:get("group"), seen:get("drive") }, { text, text, text })
    t.equal(seen:get("offload"), "cannot wait outside of a task")
    seen:clear()
end)

t.case("D19 the locale and the process are out of reach", function()
    t.equal({ after(function() return os.setlocale("C") end, function()
        return os.setlocale("de_DE.UTF-8"), os.setlocale(), pcall(os.exit, 5)
    end) }, { nil, "C", false, "os.exit is not for tools: return a value, or raise an error" })
end)

return t.main(...)
