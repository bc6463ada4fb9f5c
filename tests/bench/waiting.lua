-- N conversations that wait at once for a slow model (Q2); the memory is read from outside.
--
--     lash waiting.lua N
local lash = require "lash"

local list = {}
for i = 1, tonumber(arg[1]) do
    list[i] = i
end

local agent = lash.agent {
    name = "bench", model = "openai/bench", instructions = "Look things up.",
    tools = { lash.tool {
        name = "noop", description = "Looks something up", params = { n = "integer" },
        async = function(args) return args.n end,
    } },
}

local results = lash.map(list, function() return agent:run("Look things up.").text end, { limit = #list })
for _, result in ipairs(results) do
    assert(result.ok, result.error)
end
