-- What streams cost: how this process spends its time on one, in seconds of its processor.
--
--     lash stream.lua bytes|events URL RUNS        the body of URL, as it comes or as events
--     lash stream.lua MODEL URL RUNS               an answer of the model, each delta told to on_event
--
-- Prints a line a run: pieces, events or deltas, and seconds; the first is for warming up.
local lash = require "lash"

local what, url, runs = arg[1], arg[2], tonumber(arg[3])

local function read_body()
    local count = 0
    local res <close> = assert(lash.http.stream { url = url })
    if what == "bytes" then
        for _ in res:chunks() do
            count = count + 1
        end
    else
        for _ in res:events() do
            count = count + 1
        end
    end
    return count
end

local function answer()
    local count = 0
    local agent = lash.agent {
        name = "bench", model = what, instructions = "Talk.",
        on_event = function(event)
            if event.type == "text" then
                count = count + 1
            end
        end,
    }
    local result = agent:run("Talk.")
    assert(result.ok, result.error)
    return count
end

local once = what:find("/", 1, true) and answer or read_body
for _ = 1, runs + 1 do
    local began = os.clock()
    local count = once()
    print(count, os.clock() - began)
end
