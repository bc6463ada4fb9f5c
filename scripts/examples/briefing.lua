#!/usr/bin/env lash
-- A prompt that reads files. The parts of an agent's instructions are text and prompts; prompts are
-- functions that make text, all run at once before the first request, their texts in the order of the list.
--
--   lash scripts/examples/briefing.lua                    this example reads itself
--   lash scripts/examples/briefing.lua README.md Makefile
--   lash ask --dry-run -m demo -t scripts/examples/briefing.lua "Hello"    what would be sent
local lash = require "lash"

local files = lash.main and #arg > 0 and arg or { (debug.getinfo(1, "S").source:gsub("^@", "")) }

-- One prompt per file. `async`: reading waits, and all files are read at once.
local function file_prompt(path)
    return lash.prompt {
        name = "file_" .. path:gsub("%W", "_"),
        description = "the text of " .. path,
        async = function()
            local text, err = lash.fs.read(path)
            if not text then
                return nil, err -- the run does not start: instructions are never silently incomplete
            end
            lash.log(("%s: %d bytes"):format(path, #text)) -- on stderr
            return ("--- %s ---\n%s"):format(path, text)
        end,
    }
end

-- `sync` where the work blocks: here a program that is waited for.
local today = lash.prompt {
    name = "today",
    description = "the date",
    sync = function()
        local date <close> = assert(io.popen("date +%A"))
        return "Today is " .. date:read("l") .. "."
    end,
}

local instructions = { "You answer questions about these files. Be brief.", today }
for _, path in ipairs(files) do
    instructions[#instructions + 1] = file_prompt(path)
end

local agent = lash.agent {
    name = "reader",
    model = os.getenv("LASH_MODEL") or "demo",
    instructions = instructions,
}

if lash.main then
    print(agent:run("What do the files say? One sentence for each."))
end

return agent
