-- Stress: thousands of misbehaving tools (tests/lua/support/misbehave.lua) in mixed batches beside good ones. Every
-- call ends as documented, the good ones answer, and nothing is left.
--
--     lash tests/stress/misbehave.lua [CALLS [SEED]]     3000 calls, a seed from the clock
--
-- Meant to be run under the sanitizers too: make B=build-asan SAN=address,undefined STRESS=misbehave stress
local fake = require "fake"
local engine = require "lash.core.engine"
local lash = require "lash"
local misbehave = require "support.misbehave"

local calls = math.tointeger(tonumber(arg[1] or 3000))
local seed = math.tointeger(tonumber(arg[2] or os.time()))
print("seed " .. seed)
math.randomseed(seed)

local slower = tonumber(os.getenv "TEST_SLOWER") or 1
local fifo = os.tmpname()
assert(os.remove(fifo) and os.execute("mkfifo " .. fifo))
local args = { fifo = fifo }

local tools, expected = {}, {}
for name, entry in pairs(misbehave.all()) do
    if not entry.burns and not entry.slow and not name:find("server", 1, true) then
        local id = ("t%d"):format(#tools + 1)
        tools[#tools + 1] = lash.tool {
            name = id, params = { fifo = "string?" }, memory = entry.memory,
            timeout = entry.status == "timeout" and 0.05 or 60, [entry.mark] = entry.fn,
        }
        expected[id] = { name = name, status = entry.status }
    end
end
local bad = #tools
tools[bad + 1] = lash.tool { name = "waits", async = function() lash.sleep(math.random() / 50) return "waits" end }
tools[bad + 2] = lash.tool { name = "works", sync = function() return "works" end }

local late = 0

local function judge(item)
    local want = expected[item.name]
    if not want then
        assert(item.status == "ok" and item.output == item.name, ("%s: %s: %s"):format(item.name, item.status, item.output))
    elseif item.status == "lost" and want.status == "timeout" then
        late = late + 1 -- a machine that is busy: it did not obey within 100 ms
    else
        assert(item.status == want.status, ("%s: %s, expected %s: %s"):format(want.name, item.status, want.status,
            item.output:sub(1, 300)))
    end
end

local done = 0

local function batch()
    local list = {}
    for i = 1, math.random(8) do
        list[i] = { tools[math.random(3) == 1 and bad + math.random(2) or math.random(bad)].name, args }
        if list[i][1] == "waits" or list[i][1] == "works" then
            list[i][2] = {}
        end
    end
    for _, item in ipairs(fake.batch(tools, list)) do
        judge(item)
        done = done + 1
    end
end

local function feeder()
    while done < calls do
        batch()
    end
end

local feeders = {}
for i = 1, 4 do
    feeders[i] = feeder
end
lash.gather(feeders, { raise = true })
os.remove(fifo)
for _ = 1, 200 do
    if engine.live() == 1 then
        break
    end
    lash.sleep(0.02)
end
print(("%d calls ended as documented, %d of them too late to be waited for; %d workers"):format(done, late,
    engine.workers()))
assert(late < done * 0.05 * slower, "too many did not obey")
assert(engine.live() == 1, "tasks are left: " .. engine.live())
