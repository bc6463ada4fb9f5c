-- Tasks that are cancelled in their waits, with closers, groups and a worker that spins.
local engine = require "lash.core.engine"
local lash = require "lash"

local closed = 0
local function closer()
    return setmetatable({}, { __close = function() pcall(lash.sleep, 0.001) closed = closed + 1 end })
end
local spin = engine.ship("spin", function() while true do end end)
local waits = {
    function() lash.sleep(100) end,
    function() local _ <close> = closer() lash.sleep(100) end,
    function() lash.gather { function() lash.sleep(100) end, function() lash.sleep(100) end } end,
    function() coroutine.wrap(function() lash.sleep(100) end)() end,
    function() return engine.offload(spin) end,
    function() pcall(lash.sleep, 100) lash.sleep(100) end,
    function() error("at once") end,
}
for _, wait in ipairs(waits) do
    local task = lash.spawn(wait)
    task:deadline(5)
    lash.sleep(0.002)
    task:cancel()
    task:wait()
    local ok, value = task:result()
    assert(not ok or value == false, value)
end
local task = lash.spawn(engine.offload, spin)
task:deadline(0.01)
task:wait()
local ok, value = task:result()
assert(not ok or value == false, value)
print("done")
