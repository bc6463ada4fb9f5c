-- How late a timer of 1 ms is on the main loop while sync tools compute (D5).
--
--     lash spin.lua CALLS [idle]
--
-- against a server with one round of so many calls; `idle`: they only wait. Prints a line a tick: us too late.
local lash = require "lash"

local calls, idle = tonumber(arg[1]), arg[2] == "idle"
local running, late = true, {}

local function spin()
    local x = 0
    for i = 1, 3000000 do
        x = x + i % 7
    end
    return x
end

local agent = lash.agent {
    name = "bench", model = "openai/bench", instructions = "Look things up.",
    limits = { concurrency = calls },
    tools = { lash.tool {
        name = "noop", description = "Computes", params = { n = "integer" },
        [idle and "async" or "sync"] = idle and function() lash.sleep(0.5) return 1 end or spin,
    } },
    on_event = function(event)
        assert(event.type ~= "call.end" or event.status == "ok", event.output)
    end,
}

lash.gather {
    function()
        agent:run("Look things up, then say what you found.")
        running = false
    end,
    function()
        while running do
            local began = lash.hrtime()
            lash.sleep(0.001)
            late[#late + 1] = ("%.1f"):format((lash.hrtime() - began) / 1e3 - 1000)
        end
    end,
}
print(table.concat(late, "\n"))
