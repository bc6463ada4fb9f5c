-- Memory over many conversations, one after the other, and of those that are kept.
--
--     lash sequence.lua flat|kept CONVERSATIONS
--
-- `flat` prints kB resident after the first tenth and at the end; `kept`, where every conversation stays there after
-- its answer, kB before the first and at the end.
local lash = require "lash"

local kept, count = arg[1] == "kept", tonumber(arg[2])
local keep = {}

local agent = lash.agent {
    name = "bench", model = "openai/bench", instructions = "Look things up.",
    tools = { lash.tool {
        name = "noop", description = "Looks something up", params = { n = "integer" },
        async = function(args) return args.n end,
    } },
}

local function resident()
    collectgarbage()
    collectgarbage()
    local file <close> = assert(io.open "/proc/self/status")
    return tonumber(file:read("a"):match("VmRSS:%s*(%d+)"))
end

local function talk(n)
    for _ = 1, n do
        local conversation = agent:conversation()
        assert(conversation:send("Look things up, then say what you found.").text == "All looked up.")
        keep[#keep + 1] = kept and conversation or nil
    end
end

if kept then
    local conversation = agent:conversation() -- what is loaded once
    conversation:send("Look things up, then say what you found.")
else
    talk(count // 10)
end
local before = resident()
talk(kept and count or count - count // 10)
print(before, resident())
