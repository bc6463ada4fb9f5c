-- Stress: batches of calls with attempts, barriers, limits, fail_fast, deadlines and cancels at random moments.
--
--     lash tests/stress/calls.lua [SECONDS [SEED]]      10 seconds, a seed from the clock
--
-- The fake model checks before each request that every call has its outcome. Here is checked that each call has one
-- start and one end, that a run has one end, that limits hold, and that no permit and no task is left at the end.
local engine = require "lash.core.engine"
local fake = require "fake"
local lash = require "lash"

local seconds = tonumber(arg[1] or 10)
local seed = math.tointeger(tonumber(arg[2] or os.time()))
print("seed " .. seed)
math.randomseed(seed)
engine.jobs(3)
lash.log.warn = function() end

local function chance(percent)
    return math.random(100) <= percent
end

local running = {} -- tool -> how many of its async calls run

local bodies = {
    function() return "fine" end,
    function() require("lash").sleep(0.001) return "slept" end,
    function() require("lash").sleep(0) error("fell", 0) end,
    function(_, ctx) return ctx.attempt >= 2 or error("not yet", 0) end,
    function(_, ctx) ctx.progress(0.5, "half") require("lash").sleep(0.02) return nil, { message = "no", retry = false } end,
    function() require("lash").sleep(10) end,
    function() local x <close> = setmetatable({}, { __close = function() require("lash").sleep(0.005) end }) require("lash").sleep(10) end,
    function() while true do pcall(require("lash").sleep, 10) end end,
    function() local l = require "lash" l.gather { function() l.sleep(0.002) end, function() l.spawn(l.sleep, 10) l.sleep(0) end } error("x") end,
}
local STUBBORN = 8 -- no instruction is left to it, so it cannot be counted
local spins = { function() while true do end end, function() while true do pcall(function() while true do end end) end end }

local function counted(name, fn)
    return function(args, ctx)
        local state <close> = setmetatable({}, { __close = function() running[name] = running[name] - 1 end })
        running[name] = (running[name] or 0) + 1
        assert(name:sub(1, 3) ~= "one" or running[name] == 1, "two calls of a name at once")
        assert(name:sub(1, 3) ~= "two" or running[name] <= 2, "three calls of a tool with limit 2 at once")
        return fn(args, ctx)
    end
end

local tools = {}
for i, fn in ipairs(bodies) do
    for _, mark in ipairs { "async", "sync" } do
        for variant, more in pairs { one = { parallel = "name" .. i .. mark }, two = { limit = 2 }, wall = { parallel = false }, free = {} } do
            local name = ("%s_%s_%d"):format(variant, mark, i)
            local spec = { name = name, timeout = 0.03, parallel = more.parallel, limit = more.limit, idempotent = chance(40) }
            spec.retry = spec.idempotent and { attempts = 3, delay = 0.001, max_delay = 0.01 } or nil
            spec[mark] = mark == "async" and i ~= STUBBORN and counted(name, fn) or fn
            tools[#tools + 1] = lash.tool(spec)
        end
    end
end
for i, fn in ipairs(spins) do
    tools[#tools + 1] = lash.tool { name = "spin" .. i, timeout = 0.02, idempotent = i == 1, retry = i == 1 and { delay = 0 } or nil, sync = fn }
end

local function some_calls()
    local list = {}
    for i = 1, math.random(12) do
        list[i] = { chance(95) and tools[math.random(#tools)].name or "nosuch", chance(95) and "{}" or "{" }
    end
    return fake.calls(list)
end

local function check(events)
    local open, ended = {}, {}
    for _, event in ipairs(events) do
        if event.type == "call.start" then
            assert(not open[event.call] and not ended[event.call], "started twice: " .. event.call)
            open[event.call] = event.name
        elseif event.type == "call.end" then
            assert(open[event.call], "ended without a start: " .. event.call)
            open[event.call], ended[event.call] = nil, true
        elseif event.type == "call.progress" or (event.type == "retry" and event.call) then
            assert(open[event.call], event.type .. " outside of its call")
        end
    end
    assert(next(open) == nil, "a call without an end: " .. tostring(next(open)))
    assert(events[#events].type == "run.end", "no end of the run")
end

local counts = { runs = 0, calls = 0 }

local function one_run()
    local events = {}
    local agent = fake.agent({
        tools = tools, fail_fast = chance(30), retry = chance(20) and { attempts = 2, delay = 0.002 } or nil,
        limits = { concurrency = math.random(6), wait = chance(30) and math.random() / 20 or nil, time = chance(30) and math.random() / 5 or nil },
        on_event = function(event) events[#events + 1] = event end,
    }, { some_calls(), some_calls(), "done", "again", "again", "again" })
    local conv = agent:conversation()
    local task = lash.spawn(conv.send, conv, "go", { no_raise = true })
    local how = math.random(4)
    if how <= 2 then
        lash.sleep(math.random() / 10)
        if how == 1 then
            conv:cancel()
        else
            task:cancel()
        end
    end
    task:wait()
    check(events)
    local result = events[#events]
    counts.runs, counts[result.reason] = counts.runs + 1, (counts[result.reason] or 0) + 1
    for _, event in ipairs(events) do
        if event.type == "call.end" then
            counts.calls = counts.calls + 1
            counts[event.status] = (counts[event.status] or 0) + 1
        end
    end
    conv:send("again", { no_raise = true, limits = { time = 5 } })
end

local ends = lash.now() + seconds
local list = {}
for i = 1, 20 do
    list[i] = function()
        while lash.now() < ends do
            one_run()
            fake.requests = {}
        end
    end
end
lash.gather(list, { raise = true })

for name, n in pairs(running) do
    assert(n == 0, n .. " calls of " .. name .. " have not ended")
end
-- all permits are there: as many calls as the process allows run at once, and each tool's own as well
local most, now = 0, 0
local meet = lash.tool { name = "meet", async = function()
    now = now + 1
    most = math.max(most, now)
    lash.sleep(0.2)
    now = now - 1
end }
local calls = {}
for i = 1, 300 do
    calls[i] = { "meet" }
end
fake.batch({ meet }, calls, { limits = { concurrency = 300 } })
assert(most == 256, most .. " calls at once")
assert(engine.live() == 1, engine.live() .. " tasks are left")
local names = {}
for name, n in pairs(counts) do
    names[#names + 1] = name .. " " .. n
end
table.sort(names)
print(table.concat(names, ", "))
