#!/usr/bin/env lash
-- A tool pack: a file that returns a list of tools. Every command takes it; nothing is registered anywhere.
--
--   lash ask -m demo -t scripts/examples/textpack.lua 'Count the words of "to be or not to be"'
--   lash call scripts/examples/textpack.lua roman --number 1994
--   lash tools scripts/examples/textpack.lua
--   lash check scripts/examples/textpack.lua
--
-- Run as a script it asks itself something.
local lash = require "lash"

local words = lash.tool {
    name = "count_words",
    description = "How many words a text has",
    params = { text = "string" },
    sync = function(args)
        local _, count = args.text:gsub("%S+", "")
        return count
    end,
}

local ROMAN = { { 1000, "M" }, { 900, "CM" }, { 500, "D" }, { 400, "CD" }, { 100, "C" }, { 90, "XC" }, { 50, "L" },
    { 40, "XL" }, { 10, "X" }, { 9, "IX" }, { 5, "V" }, { 4, "IV" }, { 1, "I" } }

local roman = lash.tool {
    name = "roman",
    description = "A whole number in Roman numerals",
    -- a complete JSON Schema, where the shorthand of `params` is not enough
    schema = {
        type = "object",
        properties = { number = { type = "integer", minimum = 1, maximum = 3999 } },
        required = { "number" },
        additionalProperties = false,
    },
    sync = function(args)
        local rest, text = args.number, ""
        for _, entry in ipairs(ROMAN) do
            local value, letters = entry[1], entry[2]
            text = text .. letters:rep(rest // value)
            rest = rest % value
        end
        return text
    end,
}

local case = lash.tool {
    name = "change_case",
    description = "A text in upper or lower case",
    params = { text = "string", to = "upper|lower" },
    sync = function(args)
        return args.to == "upper" and args.text:upper() or args.text:lower()
    end,
}

local pack = { words, roman, case }

if lash.main then
    local agent = lash.agent { name = "writer", model = os.getenv("LASH_MODEL") or "demo", tools = pack }
    local result = agent:run('Count the words of "to be or not to be", and write 1994 in Roman numerals.')
    for _, call in ipairs(result.calls) do
        print(("%s %s -> %s"):format(call.name, call.args, call.output))
    end
    print()
    print(result)
end

return pack
