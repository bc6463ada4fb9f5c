#!/usr/bin/env lash
-- Three lookups of two seconds each, in two seconds: the calls of one turn run at once.
--
--   lash scripts/examples/lookups.lua            async tools: tasks on the main loop, each waits
--   lash scripts/examples/lookups.lua sync       sync tools: worker threads, each blocks its own
--   lash -m gemini/gemini-2.5-flash scripts/examples/lookups.lua
local lash = require "lash"

local PEOPLE = { Ada = "mathematics, room 12", Grace = "compilers, room 7", Linus = "kernels, room 1" }

-- The mark is the key under which the function stands. `async`: the function is a task; whatever of lash
-- waits in it (here sleep, elsewhere lash.http) lets everything else go on.
local waiting = lash.tool {
    name = "lookup",
    description = "What a person does, and in which room. One person a call",
    params = { person = "string: the first name" },
    async = function(args)
        lash.sleep(2)
        return PEOPLE[args.person] or "nobody of that name"
    end,
}

-- `sync`: the function runs on a worker thread and may block as it likes, here in a program that takes its
-- time. What it captures (PEOPLE) goes with it, as a copy.
local blocking = lash.tool {
    name = "lookup",
    description = "What a person does, and in which room. One person a call",
    params = { person = "string: the first name" },
    sync = function(args)
        os.execute("sleep 2")
        return PEOPLE[args.person] or "nobody of that name"
    end,
}

local agent = lash.agent {
    name = "directory",
    model = os.getenv("LASH_MODEL") or "demo",
    instructions = "Look people up with the tool, all of them in the same turn.",
    tools = { lash.main and arg[1] == "sync" and blocking or waiting },
}

if lash.main then
    local result = agent:run("Please lookup Ada, Grace and Linus.", {
        on_event = function(event)
            if event.type == "call.start" then
                print(("%5.1f s  start  %s %s"):format(event.t / 1000, event.name, event.args))
            elseif event.type == "call.end" then
                print(("%5.1f s  end    %s: %s"):format(event.t / 1000, event.call, event.output))
            elseif event.type == "run.end" then
                print(("%5.1f s  the run is over"):format(event.t / 1000))
            end
        end,
    })
    print()
    print(result)
end

return agent
