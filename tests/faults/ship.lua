-- Functions and values on their way to a worker and back.
local engine = require "lash.core.engine"
local lash = require "lash"

local shared = { list = { 1, 2, 3 }, text = ("x"):rep(5000) }
shared.itself = shared
local n = 0
local function count() n = n + 1 return n end
local code = engine.ship("a test", function(...)
    count()
    return count(), shared.itself == shared and #shared.list, lash.json.encode(shared.list), ...
end)
for _ = 1, 2 do
    local results = table.pack(engine.offload(code, { { a = { 1.5, "b" } }, true }, "c"))
    if results[1] then
        assert(results[2] == 2 and results[3] == 3 and results[4] == "[1,2,3]" and results[5][1].a[2] == "b")
    else
        assert(tostring(results[2]):find("memory"), results[2])
    end
end
local ok, err = pcall(engine.ship, "a test", function() return io.stdout, coroutine.create(print) end, io.tmpfile())
assert(not ok and (tostring(err):find("cannot travel") or tostring(err):find("memory")), err)
print("done")
