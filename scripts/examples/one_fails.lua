#!/usr/bin/env lash
-- One tool fails among good ones. A failure is an outcome like any other: the siblings do not notice,
-- the model reads what went wrong, and every call has its output, in order.
--
--   lash scripts/examples/one_fails.lua
local lash = require "lash"

local temperature = lash.tool {
    name = "temperature",
    description = "Temperature outside, in degrees Celsius",
    async = function()
        lash.sleep(0.3)
        return 21.5
    end,
}

-- A tool fails by error(...)
local wind = lash.tool {
    name = "wind",
    description = "Speed of the wind, in m/s",
    async = function()
        lash.sleep(0.1)
        error("the anemometer does not answer")
    end,
}

-- or, as Lua people write it, by returning nil and a message.
local rain = lash.tool {
    name = "rain",
    description = "Rain of the last hour, in mm",
    sync = function()
        local file, err = io.open("/no/such/gauge")
        if not file then
            return nil, err
        end
        return file:read("a")
    end,
}

local pressure = lash.tool {
    name = "pressure",
    description = "Pressure of the air, in hPa",
    async = function()
        lash.sleep(0.2)
        return 1013
    end,
}

local agent = lash.agent {
    name = "station",
    model = os.getenv("LASH_MODEL") or "demo",
    instructions = "Report what the instruments say, and which of them failed.",
    tools = { temperature, wind, rain, pressure },
}

if lash.main then
    local result = agent:run("Report the temperature, the wind, the rain and the pressure.")
    for _, call in ipairs(result.calls) do
        print(("%-12s %-6s %s"):format(call.name, call.status, call.output))
    end
    print()
    print(result)
end

return agent
