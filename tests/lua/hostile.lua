-- What a script does that no script should: nothing of it may crash, hang or corrupt the program.
local t = require "t"
local engine = require "lash.core.engine"
local lash = require "lash"

t.case("a wait that a comparator refuses does not wake a later one", function()
    local code = engine.ship("spin", function() while true do end end)
    local function in_coroutine()
        coroutine.wrap(function() engine.offload(code) end)()
    end
    t.raises("cannot wait here", table.sort, { 1, 2, 3 }, in_coroutine)
    local begin = lash.now()
    lash.sleep(0.2)
    t.ok(lash.now() - begin >= 0.199, "slept too short")
end)

return t.main(...)
