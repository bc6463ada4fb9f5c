-- Workers that grow, report, ask for other workers, meet their memory limit and are replaced.
local engine = require "lash.core.engine"
local lash = require "lash"

engine.jobs(2)
local function may_fail(ok, ...)
    if not ok then
        assert(tostring((...)):find("memory"), (...))
    end
    return ok, ...
end
local double = engine.ship("double", function(i) return 2 * i end)
for i, result in ipairs(lash.map({ 1, 2, 3 }, function(i) return { engine.offload(double, i) } end)) do
    if may_fail(result.ok, result.error) then
        local ok, value = table.unpack(result.value)
        assert(not ok or value == 2 * i)
    end
end
local nested = engine.ship("nested", function(code)
    local e = require "lash.core.engine"
    e.report("begins")
    return select(2, assert(e.offload(code, 4)))
end)
local told
local ok, value = engine.offload_watched(function(text) told = text end, nested, double)
assert(not ok or (value == 8 and told == "begins"))
ok, value = engine.offload_within(1 << 20, nil, engine.ship("a bomb", function()
    local list = {}
    while true do
        list[#list + 1] = {}
    end
end))
assert(not ok and tostring(value):find("memory"), value)
ok, value = engine.offload(double, 5)
may_fail(ok, value)
assert(not ok or value == 10)
print("done")
