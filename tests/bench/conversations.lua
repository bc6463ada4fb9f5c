-- CPU and wall seconds of many conversations (Q5), as floor.c measures them.
--
--     lash conversations.lua CONVERSATIONS CONCURRENCY WARM [whole]
--
-- WARM conversations run first and are not counted; `whole` asks for no streams. Prints "CPU WALL" of the others.
local lash = require "lash"

local count, limit, warm = tonumber(arg[1]), tonumber(arg[2]), tonumber(arg[3])

local agent = lash.agent {
    name = "bench", model = "openai/bench", instructions = "Look things up.", stream = arg[4] ~= "whole",
    tools = { lash.tool {
        name = "noop", description = "Looks something up", params = { n = "integer" },
        async = function(args) return args.n end,
    } },
}

local function talk()
    assert(agent:run("Look things up, then say what you found.").text == "All looked up.")
end

local function phase(n)
    local list = {}
    for i = 1, n do
        list[i] = i
    end
    for _, result in ipairs(lash.map(list, talk, { limit = limit })) do
        assert(result.ok, result.error)
    end
end

phase(warm)
local cpu, start = os.clock(), lash.hrtime()
phase(count)
print(os.clock() - cpu, (lash.hrtime() - start) / 1e9)
