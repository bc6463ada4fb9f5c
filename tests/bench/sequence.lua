-- Memory over many conversations, one after the other, and of those that are kept.
--
--     lash sequence.lua flat|kept CONVERSATIONS
--
-- `flat` prints kB resident before so many and after them: the least of five readings at either end, for malloc() may
-- keep some 100 kB or not, and what is in use is in all of them. As many come first, with readings: until then the heap
-- grows to what the largest garbage between two collections needs, and the collections of readings move that a little,
-- some ten times. `kept`, where every conversation stays after its answer:
-- kB before the first and at the end.
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

-- kB of program and libraries that are mapped, as they were first: how many of their pages are there is the system's
-- to decide, and changes by some 100 kB.
local of_files

local function resident()
    collectgarbage()
    collectgarbage()
    local file <close> = assert(io.open "/proc/self/status")
    local text = file:read("a")
    local own = tonumber(text:match("RssAnon:%s*(%d+)"))
    of_files = of_files or tonumber(text:match("VmRSS:%s*(%d+)")) - own
    return own + of_files
end

local function talk(n)
    for _ = 1, n do
        local conversation = agent:conversation()
        assert(conversation:send("Look things up, then say what you found.").text == "All looked up.")
        keep[#keep + 1] = kept and conversation or nil
    end
end

-- The least of five readings, with a twentieth of the work before each.
local function least()
    local kilobytes = math.huge
    for _ = 1, 5 do
        talk(count // 20)
        kilobytes = math.min(kilobytes, resident())
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
    for _ = 1, 4 do
        least()
    end
    local before = least()
    talk(count * 3 // 4)
    print(before, least())
end
