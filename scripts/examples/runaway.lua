#!/usr/bin/env lash
-- A tool that loops for ever, catching every error, is stopped at its deadline; one that waits for a program
-- that ignores SIGTERM too. Their siblings answer as if nothing were, and the same threads serve the next turn.
--
--   lash scripts/examples/runaway.lua
local lash = require "lash"

local loop = lash.tool {
    name = "loop",
    description = "Never ends",
    timeout = 0.5,
    sync = function()
        while true do
            pcall(function() while true do end end)
        end
    end,
}

local program = lash.tool {
    name = "program",
    description = "Runs a program that does not want to end",
    timeout = 0.5,
    async = function()
        return lash.exec { shell = "trap '' TERM; sleep 100; sleep 100" }.stdout
    end,
}

local primes = lash.tool {
    name = "primes",
    description = "How many primes are below 200000",
    sync = function()
        local sieve, count = {}, 0
        for n = 2, 200000 do
            if not sieve[n] then
                count = count + 1
                for m = n * n, 200000, n do sieve[m] = true end
            end
        end
        return count
    end,
}

local clock = lash.tool {
    name = "clock",
    description = "The time of day",
    async = function() return lash.time.format(lash.now(), { digits = 0 }) end,
}

local agent = lash.agent {
    name = "desk",
    model = os.getenv("LASH_MODEL") or "demo",
    instructions = "Say what came back.",
    tools = { loop, program, primes, clock },
}

if lash.main then
    local started = lash.now()
    local result = agent:run("Use the loop, the program, the primes and the clock.", {
        on_event = function(event)
            if event.type == "call.end" then
                print(("%5d ms  %-8s %-8s %s"):format(event.t, event.name, event.status, event.output))
            end
        end,
    })
    print(("%.1f s in all, %d turns; the next call of the same tools:"):format(lash.now() - started, result.turns))
    for _, call in ipairs(agent:run("The primes, please.").calls) do
        print(call.name, call.status, call.output)
    end
end

return agent
