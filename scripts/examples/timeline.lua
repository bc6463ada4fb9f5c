#!/usr/bin/env lash
-- What `make demo` runs: a turn with seven calls of four tools, and a timeline that shows them overlap.
-- The bars are made from the events call.start and call.end, as everything that shows a run is.
--
--   lash scripts/examples/timeline.lua
--   lash -m openai/gpt-5-mini scripts/examples/timeline.lua
local lash = require "lash"

local weather = lash.tool {
    name = "weather",
    description = "The weather of a city",
    params = { city = "string: its name" },
    async = function(args) -- a task: while it waits, the others go on
        lash.sleep(0.8 + #args.city / 10) -- stands for a slow server
        return ("%d degrees"):format(10 + #args.city)
    end,
}

local rate = lash.tool {
    name = "exchange_rate",
    description = "The exchange rate of a currency",
    params = { currency = "string: its code, such as CHF" },
    async = function(args)
        lash.sleep(0.6)
        error("no rate for " .. args.currency .. " today") -- its siblings do not notice
    end,
}

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
    sync = function(args) -- a worker: it burns CPU there, not here; is_prime travels with it
        local count = 0
        for n = 2, args.n - 1 do
            count = count + (is_prime(n) and 1 or 0)
        end
        return count
    end,
}

local stock = lash.tool {
    name = "stock",
    description = "How many of an article are in stock",
    params = { article = "string" },
    sync = function() -- blocking is fine on a worker: this waits for a program to end
        os.execute("sleep 1")
        return 12
    end,
}

local QUESTION = "Weather in Oslo, Rome and Montevideo? Count the primes below 600000 and 700000. "
    .. "Check the stock of \"teapots\", and the exchange rate of CHF."

local agent = lash.agent {
    name = "assistant",
    model = os.getenv("LASH_MODEL") or "demo",
    instructions = "Answer from what the tools say. Tell what could not be found out.",
    tools = { weather, rate, primes, stock },
}

-- ---- the timeline ----

local WIDTH = 40

local function collector()
    local calls, order = {}, {}
    return order, function(event)
        if event.type == "call.start" then
            local call = { name = event.name, args = event.args, mark = event.mark, from = event.t }
            calls[event.call] = call
            order[#order + 1] = call
        elseif event.type == "call.end" then
            calls[event.call].to, calls[event.call].status = event.t, event.status
        end
    end
end

-- "weather Montevideo": the values of the arguments, short
local function label(call)
    local values = {}
    for _, value in pairs(lash.json.decode(call.args) or {}) do
        values[#values + 1] = tostring(value)
    end
    table.sort(values)
    return ("%s %s"):format(call.name, table.concat(values, " ")):sub(1, 24)
end

local function draw(calls)
    local first, last, sum = math.huge, 0, 0
    for _, call in ipairs(calls) do
        first, last = math.min(first, call.from), math.max(last, call.to)
        sum = sum + call.to - call.from
    end
    local column = math.max(last - first, 1) / WIDTH
    for _, call in ipairs(calls) do
        local from = math.floor((call.from - first) / column)
        local length = math.max(1, math.floor((call.to - call.from) / column))
        local bar = (" "):rep(from) .. (call.mark == "sync" and "#" or "="):rep(length)
        print(("  %-24s |%-" .. WIDTH .. "s| %4.1f s%s"):format(label(call), bar, (call.to - call.from) / 1000,
            call.status == "ok" and "" or " " .. call.status))
    end
    print()
    print(("  = async, a task    # sync, a worker thread    %.1f s of calls in %.1f s"):format(sum / 1000,
        (last - first) / 1000))
end

if lash.main then
    local lash_program = "lash"
    for i = -1, -100, -1 do -- as it was called: before the script stand options, before them the program
        lash_program = arg[i] or lash_program
    end
    local folder = arg[0]:match("^(.*/)") or ""
    local calls, on_event = collector()
    print("> " .. QUESTION)
    print()
    local result = agent:run(QUESTION, { on_event = on_event })
    if #calls > 0 then
        draw(calls)
        print()
    end
    print(result)
    print()
    print("What to try next:")
    for _, words in ipairs {
        folder .. "lookups.lua sync",
        "ask -m demo -t " .. folder .. "textpack.lua 'Write 1994 in Roman numerals'",
        "-m openai/gpt-5-mini " .. folder .. "timeline.lua      # with OPENAI_API_KEY set",
    } do
        print(("  %s %s"):format(lash_program, words))
    end
end

return agent
