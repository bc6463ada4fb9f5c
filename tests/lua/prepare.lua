-- lash.prepare: what the requests of an agent are made of.
local lash = require "lash"
local prepare = require "lash.prepare"
local t = require "t"

local function tool_of(name)
    return lash.tool { name = name, async = function() return name end }
end

t.case("what is changed in an agent counts from its next run on", function()
    local agent = lash.agent { name = "a", model = "demo", instructions = "i", tools = { tool_of "one" }, settings = { seed = 1,
        openai = { user = "u" } } }
    local function view()
        return assert(prepare.agent(agent, "demo")).view
    end
    local before = view()
    t.ok(rawequal(view(), before), "kept")
    for _, change in ipairs { function() agent.settings.seed = 2 end, function() agent.settings.openai.user = "v" end,
        function() agent.tools[1] = tool_of "other" end, function() agent.instructions[1] = "j" end } do
        change()
        local after = view()
        t.ok(after ~= before, "the view is made anew")
        t.ok(rawequal(view(), after), "and kept")
        before = after
    end
    t.equal({ before.system, before.tools[1].name, before.settings.seed }, { "j", "other", 2 })
end)

return t.main(...)
