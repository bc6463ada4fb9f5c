-- Q4, D15 and idling: tool calls, failures of all kinds, waits and workers by the hundred thousand leave
-- memory flat.
--
--     LUA_PATH='tests/lua/?.lua;;' lash tests/stress/memory.lua [THOUSANDS]      100
local fake = require "fake"
local engine = require "lash.core.engine"
local lash = require "lash"
local resident = require "support.resident"

local thousands = math.tointeger(tonumber(arg[1] or 100))
engine.jobs(2)

-- Runs `work` so many times; memory after each tenth, without and with a full collection.
local function flat(name, times, work)
    local levels, most = {}, 0
    for part = 1, 10 do
        for _ = 1, math.max(1, times // 10) do
            work()
        end
        fake.requests = {}
        most = math.max(most, engine.memory())
        collectgarbage()
        collectgarbage()
        levels[part] = engine.memory()
    end
    print(("%-28s %9d bytes, then %9d; up to %9d between; %5.1f MiB resident"):format(name, levels[1], levels[10],
        most, resident() / 1048576))
    assert(levels[10] <= levels[1] * 1.01 + 2000, name .. ": memory grows")
    return most
end

local async = lash.tool { name = "async", params = { i = "integer" }, async = function(args) return args.i end }
local sync = lash.tool { name = "sync", params = { i = "integer" }, sync = function(args) return args.i end }
local fails = lash.tool { name = "fails", params = { i = "integer" }, async = function() error { 1 } end }

local function calls_of(name)
    fake.models["fake/" .. name] = function(conv)
        return #conv.entries == 1 and fake.many(100, name) or fake.text("done")
    end
    local agent = lash.agent { name = "a", model = "fake/" .. name, tools = { async, sync, fails } }
    return function()
        agent:run("go")
    end
end

flat("async calls", thousands * 10, calls_of "async")
flat("sync calls", thousands * 10, calls_of "sync")
flat("failing calls", thousands * 10, calls_of "fails")
flat("spawned tasks", thousands * 1000, function()
    local task = lash.spawn(function() return 1 end)
    task:wait()
end)
local most = flat("short sleeps", thousands * 1000, function()
    lash.sleep(0)
end)
assert(most < 8 << 20, "sleeps pile up between collections")
flat("coroutines that wait", thousands * 300, function()
    coroutine.wrap(function() lash.sleep(0) end)()
end)
flat("limits and groups", thousands * 100, function()
    lash.gather({ function() lash.sleep(0) end, function() end }, { limit = 1 })
end)

-- D15: what may go wrong in a worker. Every one of these ends as an error, and nothing stays.
local function fails_with(name, fn)
    return lash.tool { name = name, memory = "2M", timeout = 30, sync = fn }
end
local failures = {
    fails_with("raises", function() error("x") end),
    fails_with("raises_nil", function() error(nil) end),
    fails_with("raises_table", function() error({ {} }) end),
    fails_with("cannot_tell", function() error(setmetatable({}, { __tostring = function() error("worse") end })) end),
    fails_with("returns_error", function() return nil, "no" end),
    fails_with("returns_thread", function() return coroutine.create(print) end),
    fails_with("yields", function() coroutine.yield() end),
    fails_with("dead", function() local co = coroutine.wrap(error) pcall(co) co() end),
    fails_with("exits", function() os.exit(1) end),
    fails_with("long_string", function() return ("x"):rep(100000000) end),
    fails_with("many_tables", function() local list = {} while true do list[#list + 1] = {} end end),
    fails_with("deep", function() local function f() return 1 + f() end return f() end),
    fails_with("leaves", function()
        local l = require "lash"
        l.spawn(function() l.sleep(100) end)
        stray = 1
        error({ code = "x" })
    end),
}
local run_tool = require("lash.tool").run

local function fail_in_all_ways()
    lash.map(failures, function(tool)
        local status = run_tool(tool, {}, {})
        assert(status == "error", tool.name)
    end, { raise = true, limit = 2 })
end

flat("mixed failures", math.ceil(thousands * 7.7), fail_in_all_ways)
