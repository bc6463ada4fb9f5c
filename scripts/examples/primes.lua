#!/usr/bin/env lash
-- Tools that burn CPU, on all processors: a sync tool runs on a worker thread with a Lua state of its
-- own, so nothing that computes stands in the way of another.
--
--   lash scripts/examples/primes.lua
--   lash scripts/examples/primes.lua "How many primes are below 1000?"
--   lash call scripts/examples/primes.lua --n 100
local lash = require "lash"

-- A local function that the tool captures: it travels to the workers, with all that it captures itself.
-- A global would not be there.
local function is_prime(n)
    for divisor = 2, math.floor(n ^ 0.5) do
        if n % divisor == 0 then
            return false
        end
    end
    return n > 1
end

local primes = lash.tool {
    name = "count_primes",
    description = "How many primes are below n",
    params = { n = "integer" },
    idempotent = true, -- to run it twice does no harm
    sync = function(args)
        local count = 0
        for n = 2, args.n - 1 do
            count = count + (is_prime(n) and 1 or 0)
        end
        return { below = args.n, primes = count } -- a table: the model gets JSON
    end,
}

local agent = lash.agent {
    name = "counter",
    model = os.getenv("LASH_MODEL") or "demo",
    instructions = "Count primes with the tool. Issue all counts in the same turn.",
    tools = { primes },
}

if lash.main then
    local started, cpu = lash.now(), os.clock()
    local result = agent:run(arg[1] or "Count the primes below 800000, 850000, 900000 and 950000.")
    local seconds, busy = lash.now() - started, os.clock() - cpu
    for _, call in ipairs(result.calls) do
        print(("%s %s %.1f s"):format(call.name, call.output, call.ms / 1000))
    end
    print(("%.1f s of computing in %.1f s: %.1f processors were busy"):format(busy, seconds, busy / seconds))
    print()
    print(result)
end

return agent
