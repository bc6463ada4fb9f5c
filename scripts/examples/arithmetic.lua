#!/usr/bin/env lash
-- The first lesson: tools that compute. A model that needs several asks for them in one turn; lash runs
-- them at once and gives the results back in the order of the calls.
--
--   lash scripts/examples/arithmetic.lua
--   lash scripts/examples/arithmetic.lua "Multiply 12 by 12, and divide 1 by 0"
--   lash -m openai/gpt-5-mini scripts/examples/arithmetic.lua
--   lash call scripts/examples/arithmetic.lua multiply --a 6 --b 7        by hand, without a model
local lash = require "lash"

-- A tool is a function with a name, a description and its parameters. They come checked: `a` and `b` are
-- there and are numbers. What it returns, the model gets.
local add = lash.tool {
    name = "add",
    description = "The sum of two numbers",
    params = { a = "number", b = "number" },
    async = function(args)
        return args.a + args.b
    end,
}

local subtract = lash.tool {
    name = "subtract",
    description = "The first number minus the second",
    params = { a = "number", b = "number" },
    async = function(args)
        return args.a - args.b
    end,
}

local multiply = lash.tool {
    name = "multiply",
    description = "The product of two numbers",
    params = { a = "number", b = "number" },
    async = function(args)
        return args.a * args.b
    end,
}

local divide = lash.tool {
    name = "divide",
    description = "The first number divided by the second",
    params = { a = "number", b = "number: not 0" },
    async = function(args)
        if args.b == 0 then
            return nil, "nothing can be divided by 0" -- a failure that the model reads, and can explain
        end
        return args.a / args.b
    end,
}

local agent = lash.agent {
    name = "calculator",
    -- -m replaces it, as LASH_MODEL does; `demo` needs no key
    model = os.getenv("LASH_MODEL") or "demo",
    instructions = "Compute with the tools, never in your head. Answer in one sentence.",
    tools = { add, subtract, multiply, divide },
}

if lash.main then
    local result = agent:run(arg[1] or "Add 17 and 25, multiply 6 by 7, and divide 84 by 2.")
    for _, call in ipairs(result.calls) do
        print(("%s %s %s -> %s %s"):format(call.call, call.name, call.args, call.status, call.output))
    end
    print()
    print(result)
end

return agent
