#!/usr/bin/env lash
-- Ten conversations at once, each with two questions and a tool that takes half a second: all of them
-- together take about as long as one.
--
--   lash scripts/examples/ten.lua
--   lash -m openai/gpt-5-mini scripts/examples/ten.lua
local lash = require "lash"

local CITIES = { "Accra", "Bergen", "Cairo", "Dakar", "Essen", "Fargo", "Genoa", "Hanoi", "Izmir", "Jena" }

local weather = lash.tool {
    name = "weather",
    description = "The weather of a city today",
    params = { city = "string" },
    async = function(args)
        lash.sleep(0.5)
        return ("%d degrees in %s"):format(10 + #args.city, args.city)
    end,
}

local tomorrow = lash.tool {
    name = "forecast",
    description = "How it will be in a city tomorrow",
    params = { city = "string" },
    async = function(args)
        lash.sleep(0.5)
        return ("%d degrees in %s"):format(12 + #args.city, args.city)
    end,
}

local agent = lash.agent {
    name = "meteorologist",
    model = os.getenv("LASH_MODEL") or "demo",
    instructions = "Ask the tools, and answer in one sentence.",
    tools = { weather, tomorrow },
}

if lash.main then
    local started = lash.now()
    -- One task per city. Results come in the order of the list, whoever was ready first; an error would
    -- be in its result and disturb nobody else.
    local results = lash.map(CITIES, function(city)
        local conversation = agent:conversation() -- remembers: :send goes on where it stopped
        conversation:send(("What is the weather in %s?"):format(city))
        return conversation:send(("And the forecast for %s?"):format(city))
    end)
    for i, result in ipairs(results) do
        if result.ok then
            local call = result.value.calls[1]
            print(("%-7s %s"):format(CITIES[i], call and call.output or result.value))
        else
            print(("%-7s failed: %s"):format(CITIES[i], result.error))
        end
    end
    print(("%d conversations, %.1f s"):format(#results, lash.now() - started))
end

return agent
