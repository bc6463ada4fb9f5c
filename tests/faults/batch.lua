-- Calls of all kinds in one turn.
local fake = require "fake"
local lash = require "lash"

local function tool(name, mark, fn)
    return lash.tool { name = name, params = { i = "integer" }, timeout = 10, [mark] = fn }
end
local outcomes = fake.batch({
    tool("async", "async", function(args) lash.sleep(0) return args.i end),
    tool("sync", "sync", function(args) return { args.i } end),
    tool("fails", "async", function() error({ code = "no" }) end),
    tool("dies", "sync", function() error("no") end),
}, {
    { "async", { i = 1 } }, { "sync", { i = 2 } }, { "fails", { i = 3 } }, { "dies", { i = 4 } }, { "nobody", {} },
    { "async", "not JSON" }, { "async", { i = "x" } }, { "sync", { i = 5 } },
})
assert(#outcomes == 8, "not one outcome for each call")
for i, want in ipairs { "1", '[2]', false, false, false, false, false, "[5]" } do
    local outcome = outcomes[i]
    assert(type(outcome.output) == "string" and outcome.output ~= "", "an empty outcome")
    assert(outcome.status ~= "ok" or outcome.output == want, "a wrong result: " .. outcome.output)
end
print("done")
