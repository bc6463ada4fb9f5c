-- Dispatch overhead (Q3): from "the model's answer has been read" to the first instruction of the tool.
--
--     lash dispatch.lua async|sync CONVERSATIONS
--
-- against a server with one call a turn. Prints one number of ns per call. Both ends read the same
-- monotonic clock: the main task when model.end is told, the tool in its body, here or on a worker.
local lash = require "lash"

local mark, conversations = arg[1], tonumber(arg[2])
local ready
local times = {}

local tool = lash.tool {
    name = "noop", description = "Does nothing", params = { n = "integer" },
    [mark] = function() return tostring(lash.hrtime()) end,
}

local agent = lash.agent {
    name = "bench", model = "openai/bench", instructions = "Look things up.", tools = { tool },
    limits = { turns = 100 },
    on_event = function(event)
        if event.type == "model.end" then
            ready = lash.hrtime()
        elseif event.type == "call.end" then
            assert(event.status == "ok", event.output)
            times[#times + 1] = math.tointeger(event.output) - ready
        end
    end,
}

for _ = 1, conversations do
    agent:run("Look things up, then say what you found.")
end
print(table.concat(times, "\n"))
