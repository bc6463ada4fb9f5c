-- CPU of each turn of one long conversation, every turn with one call.
--
--     lash long.lua TURNS SIZE
--
-- against a server with so many rounds of one call; a call gives back SIZE bytes. Prints a line a turn: us of this
-- process's CPU from one request to the next.
local lash = require "lash"

local turns, size = tonumber(arg[1]), tonumber(arg[2])
local result = ("x"):rep(size)
local last
local times = {}

lash.agent {
    name = "bench", model = "openai/bench", instructions = "Look things up.",
    limits = { turns = turns + 2 },
    tools = { lash.tool {
        name = "noop", description = "Looks something up", params = { n = "integer" },
        async = function() return result end,
    } },
    on_event = function(event)
        if event.type == "model.request" then
            local now = os.clock()
            times[#times + 1] = last and ("%.1f"):format((now - last) * 1e6)
            last = now
        elseif event.type == "call.end" then
            assert(event.status == "ok", event.output)
        end
    end,
}:run("Look things up, then say what you found.")
print(table.concat(times, "\n"))
