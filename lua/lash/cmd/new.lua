--- lash new NAME: writes NAME.lua, a script to begin with.
local failure = require "lash.failure"
local output = require "lash.cmd.output"
local system = require "lash.core.system"

local M = {}

local USAGE, CANNOT_CREATE = 64, 73

local TEMPLATE = [=[
#!/usr/bin/env lash
-- @FILE@: an agent with two tools.
--
--   lash -m demo @PATH@                       no key needed
--   lash -m openai/gpt-5-mini @PATH@ "..."    with OPENAI_API_KEY
--   lash call @PATH@ weather --city Oslo      one tool by hand
local lash = require "lash"

-- `async`: a task on the main loop. It may wait for sleep, http and files, and others go on meanwhile.
local weather = lash.tool {
    name = "weather",
    description = "The weather in a city",
    params = { city = "string: name of the city" },
    async = function(args)
        lash.sleep(0.1) -- as lash.http.get(...) would wait for an answer
        return { city = args.city, sky = "clear", degrees = 21 }
    end,
}

-- `sync`: runs on a worker thread, where it may block or compute for long. It takes along a copy of the
-- locals that it uses.
local count_primes = lash.tool {
    name = "count_primes",
    description = "How many primes are below n",
    params = { n = "integer: at least 2" },
    sync = function(args)
        local composite, count = {}, 0
        for i = 2, args.n - 1 do
            if not composite[i] then
                count = count + 1
                for j = i * i, args.n - 1, i do
                    composite[j] = true
                end
            end
        end
        return count
    end,
}

local agent = lash.agent {
    name = "@NAME@",
    instructions = "Use the tools where they help. Answer briefly.",
    tools = { weather, count_primes },
}

-- Run as a script it asks; `lash ask -t`, `call`, `tools` and `check` take what it returns.
if lash.main then
    local question = #arg > 0 and table.concat(arg, " ")
        or "What is the weather in Oslo, and how many primes (count_primes) are below 1000?"
    print(agent:run(question))
end

return agent
]=]

-- A name for the agent: letters, digits, _ and -.
local function agent_name(base)
    local name = base:gsub("[^%w_-]", "_"):sub(1, 40)
    return name:find("^[%a_]") and name or "_" .. name
end

--- @return exit status
function M.run(parsed)
    local name = parsed.words[1]
    if not name or name == "" then
        failure.raise(USAGE, "lash new needs a name: lash new NAME writes NAME.lua")
    elseif #parsed.words > 1 then
        failure.raise(USAGE, "lash new takes one name; what is '%s'?", parsed.words[2])
    elseif name:find("%c") or name:find("/$") then
        failure.raise(USAGE, "'%s' is no name for a file", (name:gsub("%c", "?")))
    end
    local file = name:sub(-4) == ".lua" and name or name .. ".lua"
    local base = file:match("([^/]+)%.lua$") or "script"
    local path = file:find("/", 1, true) and file or "./" .. file
    local values = { FILE = file:match("[^/]*$"), PATH = file, NAME = agent_name(base) }
    local ok, err = system.create_file(file, (TEMPLATE:gsub("@(%u+)@", values)), true)
    if not ok then
        local exists = system.file_kind(file) ~= nil
        failure.raise(CANNOT_CREATE, exists and "%s is there already: choose another name, or remove it"
            or "cannot write %s: %s", file, err)
    end
    output.write(([[
%s is written. Try:
  lash -m demo %s
      runs it, without a key
  lash call %s weather --city Oslo
      runs one tool by hand
  lash tools %s
      tells what it declares
  lash check %s
      finds what is wrong in it
]]):format(file, path, file, file, file))
    return 0
end

return M
