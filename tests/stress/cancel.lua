-- Stress: hundreds of tasks that wait, offload, nest, fail and are cancelled at random moments.
--
--     lash tests/stress/cancel.lua [SECONDS [SEED]]      10 seconds, a seed from the clock
--
-- Meant to be run under the sanitizers: build-asan/lash, build-tsan/lash. At the end nothing may be left.
local engine = require "lash.core.engine"
local lash = require "lash"

local seconds = tonumber(arg[1] or 10)
local seed = math.tointeger(tonumber(arg[2] or os.time()))
print("seed " .. seed)
math.randomseed(seed)
engine.jobs(4)

local function some(n)
    return math.random(n)
end

local codes = {
    engine.ship("nap", function() require("lash").sleep(math.random() / 100) end),
    engine.ship("spin", function() for _ = 1, 300000 do end end),
    engine.ship("fails", function() error { 1, 2, { "x" } } end),
    engine.ship("alloc", function() local list = {} for i = 1, 20000 do list[i] = { i } end return #list end),
    engine.ship("tasks", function()
        local l = require "lash"
        l.gather { function() l.sleep(0.001) end, function() l.spawn(l.sleep, 5) error("x") end, function() l.sleep(0.004) end }
    end),
    engine.ship("callback", function() return (("abc"):gsub(".", function(c) require("lash").sleep(0.002) return c end)) end),
    engine.ship("coroutines", function()
        return coroutine.wrap(function() return coroutine.wrap(function() require("lash").sleep(0.003) end)() end)()
    end),
}

local endless = {
    engine.ship("pcall loop", function() while true do pcall(function() while true do end end) end end),
    engine.ship("coroutine", function() coroutine.wrap(function() coroutine.wrap(function() while true do end end)() end)() end),
    engine.ship("short waits", function() while true do pcall(require("lash").sleep, 0) end end),
    engine.ship("children", function()
        local l = require "lash"
        l.gather { function() while true do l.sleep(0) end end, function() l.sleep(100) end, function() while true do end end }
    end),
}

local limit = lash.limit(3)
local body

local function nested()
    return lash.gather({ body, body, function() lash.sleep(some(3) / 1000) end }, { limit = some(3), raise = some(3) == 1 })
end

local actions = {
    function() lash.sleep(some(20) / 1000) end,
    function() lash.sleep(0) end,
    function() return engine.offload(codes[some(#codes)], { some(9), "text", { deep = { true } } }) end,
    function() return engine.offload(codes[some(#codes)]) end,
    function() -- ends by its deadline alone
        local task = lash.spawn(engine.offload, endless[some(#endless)])
        task:deadline(some(10) / 1000)
        task:wait()
        task:result()
    end,
    nested,
    function() return limit:run(lash.sleep, some(3) / 1000) end,
    function() error("planned") end,
    function() coroutine.wrap(function() lash.sleep(some(5) / 1000) end)() end,
    function()
        local task = lash.spawn(body)
        if some(2) == 1 then
            task:cancel()
        end
        task:wait()
        task:result()
    end,
    function() local task = lash.spawn(lash.sleep, 5) task:deadline(some(5) / 1000) task:wait() task:result() end,
    function()
        local x <close> = setmetatable({}, { __close = function() pcall(lash.sleep, 0.001) end })
        lash.sleep(some(10) / 1000)
    end,
    function() return pcall(string.gsub, "x", "x", function() lash.sleep(0.001) end) end,
}

local busy = 0 -- bodies that run, in one another too: no more start than the machine can end

function body()
    if busy > 400 then
        return
    end
    busy = busy + 1
    local ok, err = pcall(actions[some(#actions)])
    busy = busy - 1
    if not ok and some(2) == 1 then
        error(err, 0)
    end
end

local stop = lash.now() + seconds
local started, cancelled, failed = 0, 0, 0

local function feeder()
    while lash.now() < stop do
        local task = lash.spawn(body)
        started = started + 1
        if some(3) == 1 then
            task:deadline(some(30) / 1000)
        end
        for _ = 1, some(3) do
            lash.sleep(some(4) / 1000)
        end
        if some(3) == 1 then
            task:cancel(({ "user", "deadline", "sibling" })[some(3)])
        end
        task:wait()
        local ok, err = task:result()
        if not ok then
            failed = failed + 1
            cancelled = cancelled + (engine.cancel_reason(err) and 1 or 0)
        end
    end
end

local feeders = {}
for i = 1, 200 do
    feeders[i] = feeder
end
lash.gather(feeders, { raise = true })
for _ = 1, 100 do
    if engine.live() == 1 then
        break
    end
    lash.sleep(0.02)
end
collectgarbage()
collectgarbage()
print(("%d tasks, %d failed, %d of them cancelled; %d workers"):format(started, failed, cancelled, engine.workers()))
assert(engine.live() == 1, "tasks are left: " .. engine.live())
for _, code in ipairs { codes[2], codes[4] } do
    assert(engine.offload(code), "the workers do not answer any more")
end
