-- Requests: arg[1] is the address of a server.
local lash = require "lash"

local function sound(answer, err)
    assert(answer or tostring(err) ~= "", "an error without words")
    return answer
end
local answer = sound(lash.http.get(arg[1] .. "/gzip", { timeout = 10 }))
assert(not answer or (answer.status == 200 and answer.body == "hello, packed world"), "a wrong answer")
for _, result in ipairs(lash.gather {
    function() return sound(lash.http.post(arg[1] .. "/echo", { body = ("x"):rep(100000), timeout = 10 })) end,
    function() return sound(lash.http.get(arg[1] .. "/status/404", { timeout = 10 })) end,
    function() return sound(lash.http.get("http://127.0.0.1:9/", { timeout = 10 })) end,
}) do
    assert(result.ok or tostring(result.error):find("memory"), tostring(result.error))
end
local task = lash.spawn(lash.http.get, arg[1] .. "/delay/5000", { timeout = 10 })
lash.sleep(0.01)
task:cancel()
task:wait()
print("done")
