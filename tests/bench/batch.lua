-- How long a batch takes: from "the model's answer has been read" to the next request.
--
--     lash batch.lua async|sync noop|sleep|spin CALLS
--
-- against a server with CALLS calls a turn. Prints one number of ns per batch. `sleep` is 0.1 s,
-- `spin` is a fixed amount of computing. The agent's cap is CALLS: the process cap stays as it is.
local lash = require "lash"

local mark, kind, calls = arg[1], arg[2], tonumber(arg[3])
local ready
local times = {}

local bodies = {
    noop = function(args) return args.n end,
    sleep = function() lash.sleep(0.1) return "slept" end,
    spin = function()
        local x = 0
        for i = 1, 20000000 do
            x = x + i % 7
        end
        return x
    end,
}

local tool = lash.tool {
    name = "noop", description = "Works", params = { n = "integer" }, [mark] = bodies[kind],
}

local agent = lash.agent {
    name = "bench", model = "openai/bench", instructions = "Look things up.", tools = { tool },
    limits = { turns = 100, concurrency = calls },
    on_event = function(event)
        if event.type == "model.end" then
            ready = lash.hrtime()
        elseif event.type == "model.request" and ready then
            times[#times + 1] = lash.hrtime() - ready
        elseif event.type == "call.end" then
            assert(event.status == "ok", event.output)
        end
    end,
}

agent:run("Look things up, then say what you found.")
print(table.concat(times, "\n"))
