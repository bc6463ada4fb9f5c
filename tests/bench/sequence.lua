-- Memory over many conversations, one after the other, and of those that are kept.
--
--     lash sequence.lua flat|kept CONVERSATIONS
--
-- `flat` prints kB resident before so many and after them: the most of five readings at either end, for malloc() may
-- keep some 100 kB or not. Half as many come first: until then the heap grows to what the largest garbage between two
-- collections needs. `kept`, where every conversation stays there after its answer: kB before the first and at the end.
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

-- The most of five readings, with a twentieth of the work before each.
local function most()
    local kilobytes = 0
    for _ = 1, 5 do
        talk(count // 20)
        kilobytes = math.max(kilobytes, resident())
    end
    return kilobytes
end

if kept then
    talk(1) -- what is loaded once
    keep = {}
    local before = resident()
    talk(count)
    print(before, resident())
else
    talk(count // 2)
    local before = most()
    talk(count * 3 // 4)
    print(before, most())
end
