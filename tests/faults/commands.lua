-- Other programs: their outputs, one that is cancelled, one that does not exist, one that is read by lines.
local lash = require "lash"

local function sound(res, err)
    assert(res or tostring(err) ~= "", "an error without words")
    return res
end
local res = sound(lash.exec { "sort", stdin = "pear\napple\n", timeout = 10 })
assert(not res or not res.ok or res.stdout == "apple\npear\n", "a wrong output")
for _, result in ipairs(lash.gather {
    function() return sound(lash.exec { shell = "echo out; echo err >&2; exit 3", timeout = 10 }) end,
    function() return sound(lash.exec { "no-such-program" }) end,
    function() return sound(lash.exec { "sleep", "100", timeout = 0.02 }) end,
    function()
        local process <close> = lash.exec.start { shell = "for n in 1 2 3; do echo line $n; done; exec sleep 100" }
        for line in process:lines() do
            assert(line:find("^line %d$"), "a wrong line")
            if line == "line 3" then
                break
            end
        end
    end,
}) do
    assert(result.ok or tostring(result.error) ~= "", "an error without words")
end
local task = lash.spawn(function() lash.exec { "sleep", "100" } end)
lash.sleep(0.01)
task:cancel()
task:wait()
print("done")
