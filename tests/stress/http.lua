-- Stress: streams, uploads and downloads that are cancelled at random moments, under changing limits.
--
--     lash tests/stress/http.lua [SECONDS [SEED]]      10 seconds, a seed from the clock
--
-- Meant to be run under the sanitizers: build-asan/lash, build-tsan/lash. At the end nothing may be left.
local engine = require "lash.core.engine"
local lash = require "lash"

local seconds = tonumber(arg[1] or 10)
local seed = math.tointeger(tonumber(arg[2] or os.time()))
print("seed " .. seed)
math.randomseed(seed)

local base = require "support.serve"()
local http = lash.http
local dir <close> = assert(lash.fs.tempdir())
local path = dir.path .. "/up"
assert(lash.fs.write(path, ("x"):rep(3000000)))

local ways = {
    function()
        local res <close> = assert(http.stream { url = base .. "/trickle/50?ms=1" })
        for _ in res:chunks() do
            lash.sleep(math.random() < 0.1 and 0.002 or 0)
        end
    end,
    function() -- nobody closes it
        local res = assert(http.stream { url = base .. "/big/3000000" })
        res:read(100000)
        lash.sleep(0.01)
        return res
    end,
    function()
        local res <close> = assert(http.stream { url = base .. "/hold/x?how=comments", event_timeout = 0.05 })
        pcall(res:events())
    end,
    function()
        local res <close> = assert(http.stream { url = base .. "/hold/x?how=flood" })
        for _ in res:lines() do end
    end,
    function() http.post(base .. "/count", { file = path }) end,
    function() http.post(base .. "/count", { multipart = { { name = "a", file = path }, { name = "b", value = "c" } } }) end,
    function()
        local n = 0
        http.put(base .. "/count", { body = function()
            n = n + 1
            lash.sleep(0.001)
            return n < 20 and "abc" or nil
        end })
    end,
    function() http.post(base .. "/refuse/1000?status=307&location=/count", { file = path }) end,
    function() http.post(base .. "/refuse/1000", { file = path }) end,
    function() http.download(base .. "/big/3000000", dir.path .. "/down") end,
    function() http.get(base .. "/bomb", { max_body = "1M" }) end,
    function() http.get(base .. "/redirect?to=/redirect?to=/status/200") end,
}

local count, went_well = 0, 0
local began = lash.now()
while lash.now() - began < seconds do
    if math.random() < 0.3 then
        http.configure { per_host = math.random() < 0.5 and math.random(20) or false }
    end
    local tasks = {}
    for i = 1, 30 do
        tasks[i] = lash.spawn(ways[math.random(#ways)])
    end
    for _ = 1, 30 do
        lash.sleep(math.random() * 0.004)
        tasks[math.random(30)]:cancel()
    end
    lash.sleep(math.random() * 0.1)
    for _, task in ipairs(tasks) do
        task:cancel()
        task:wait()
        count = count + 1
        went_well = went_well + ((task:result()) and 1 or 0)
    end
end

http.configure { per_host = false }
assert(http.get(base .. "/status/200", { timeout = 30 }), "the server answers no more")
collectgarbage()
collectgarbage()
local left
for _ = 1, 1000 do
    left = assert(lash.fs.glob(dir.path .. "/.lash-*"))
    if #left == 0 then
        break
    end
    lash.sleep(0.01)
end
print(("%d requests, %d ended well"):format(count, went_well))
assert(#left == 0, "temporary files are left")
assert(went_well > 0, "none ended well")
assert(engine.live() == 1, "tasks are left")
