-- H8: a million handoffs in one run, in constant stack and in memory that grows with the history alone.
--
--     LUA_PATH='tests/lua/?.lua;;' lash tests/stress/handoff.lua [HOPS]
local fake = require "fake"
local engine = require "lash.core.engine"
local lash = require "lash"
local resident = require "support.resident"

local hops = math.tointeger(tonumber(arg[1] or 1000000))
local count, marks, levels, peak = 0, {}, {}, 0

local function mark(conv)
    collectgarbage()
    collectgarbage()
    marks[#marks + 1] = engine.memory()
    local n = 1
    while debug.getinfo(n, "l") do
        n = n + 1
    end
    levels[#levels + 1] = n
    peak = math.max(peak, resident())
    print(("%8d hops: %6.1f MiB, %d entries, %d levels of calls"):format(count, marks[#marks] / 1048576,
        #conv.entries, n))
end

local function step(to)
    return function(conv)
        fake.requests = {}
        if count % (hops // 5) == 0 then
            mark(conv)
        end
        if count == hops then
            return fake.text("after " .. count)
        end
        count = count + 1
        return fake.calls { { "handoff", { agent = to } } }
    end
end

local a, b
fake.models["fake/a"], fake.models["fake/b"] = step("b"), step("a")
a = lash.agent { name = "a", model = "fake/a", handoffs = function() return { b } end,
    limits = { handoffs = hops + 1, turns = 0 } }
b = lash.agent { name = "b", model = "fake/b", handoffs = function() return { a } end }

local result = a:run("go")
assert(result.text == "after " .. hops and result.turns == hops + 1)
for i = 2, #levels do
    assert(levels[i] == levels[1], "the stack grows")
end
local early = (marks[3] - marks[2]) / (hops // 5)
local late = (marks[6] - marks[5]) / (hops // 5)
print(("%.0f bytes a hop early, %.0f late; %.1f MiB resident"):format(early, late, peak / 1048576))
assert(late < early * 1.2, "memory grows faster than the history")
