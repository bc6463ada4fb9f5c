-- CPU of conversations with one call whose result or arguments are large.
--
--     lash large.lua RESULT_BYTES RUNS
--
-- against a server with one round of one call. Prints a line a conversation: ms of this process's CPU.
local lash = require "lash"

local result, runs = ("x"):rep(tonumber(arg[1])), tonumber(arg[2])

local agent = lash.agent {
    name = "bench", model = "openai/bench", instructions = "Look things up.",
    tools = { lash.tool {
        name = "noop", description = "Looks something up", params = { n = "integer?", data = "string?" },
        max_output = "64M", async = function() return result end,
    } },
    on_event = function(event)
        assert(event.type ~= "call.end" or event.status == "ok" and #event.output == #result, event.output)
    end,
}

for _ = 1, runs do
    local began = os.clock()
    agent:run("Look things up, then say what you found.")
    print((os.clock() - began) * 1e3)
end
