-- The demo model: which tools the words name, and what they are asked with.
local conversation = require "lash.conversation"
local json = require "lash.json"
local model = require "lash.model"
local params = require "lash.params"
local t = require "t"
local wire = require "support.wire"

local case, equal, has = t.case, t.equal, t.has

local DEMO = assert(model.resolve "demo")

local function tool(name, description, shorthand)
    return { name = name, description = description, schema = assert(params.schema(shorthand or {})) }
end

local TOOLS = {
    tool("forecast", "Weather of a city", { city = "string: name of the city", days = "integer?: 1 to 7",
        unit = "celsius|fahrenheit?" }),
    tool("count_primes", "How many primes are below n", { n = "integer" }),
    tool("add", "Adds two numbers", { a = "number", b = "number" }),
    tool("multiply", "Multiplies two numbers", { a = "number", b = "number" }),
    tool("mean", "Average of a list", { values = "number[]" }),
    tool("read_file", "Read a text file", { path = "string" }),
    tool("write_file", "Write a text file", { path = "string", content = "string" }),
    tool("search", "Looks something up", { query = "string" }),
    tool("wait", "Waits", { seconds = "number", loud = "boolean?" }),
    tool("clock", "What time it is"),
}

local function answer(text, view)
    local conv = wire.conversation { { type = "user", text = text } }
    return assert(model.ask(DEMO, conv, view or { agent = "a", tools = TOOLS })), conv
end

-- The calls for a text as { "name args", ... }
local function calls(text, view)
    local list = {}
    for i, call in ipairs(conversation.calls(answer(text, view))) do
        list[i] = call.name .. " " .. call.args
    end
    return list
end

case("the words name tools and give their arguments", function()
    local rows = {
        { "What is the weather in Oslo?", 'forecast {"city":"Oslo"}' },
        { "Weather of Oslo, São Paulo and New York for 3 days, in Fahrenheit.",
            'forecast {"city":"Oslo","days":3,"unit":"fahrenheit"}',
            'forecast {"city":"São Paulo","days":3,"unit":"fahrenheit"}',
            'forecast {"city":"New York","days":3,"unit":"fahrenheit"}' },
        { "Add 2 and 3, and multiply 4 by -5.5", 'add {"a":2,"b":3}', 'multiply {"a":4,"b":-5.5}' },
        { "what is 3 plus 4", 'add {"a":3,"b":4}' },
        { "add 1 2, add 3 4", 'add {"a":1,"b":2}', 'add {"a":3,"b":4}' },
        { "count the primes below 100,000 and 1000", 'count_primes {"n":100000}', 'count_primes {"n":1000}' },
        { "count_primes 9223372036854775807", 'count_primes {"n":9223372036854775807}' },
        { "count_primes 12345678901234567890123", 'count_primes {"n":12345678901234567890123}' },
        { "mean of 1, 2.5 and 3", 'mean {"values":[1,2.5,3]}' },
        { "Read notes.txt and docs/a.md", 'read_file {"path":"notes.txt"}', 'read_file {"path":"docs/a.md"}' },
        { 'write "a.txt" "some text"', 'write_file {"content":"a.txt","path":"some text"}' },
        { "write_file path=a.txt content=hello", 'write_file {"content":"hello","path":"a.txt"}' },
        { 'search "weather in Oslo"', 'search {"query":"weather in Oslo"}' },
        { 'forecast {"city":"X","days":2} and {"city":"Y"}', 'forecast {"city":"X","days":2}', 'forecast {"city":"Y"}' },
        { "wait 0.5 loud", 'wait {"loud":true,"seconds":0.5}' },
        { "the clock, please", "clock {}" },
        { "Forecast for Oslo; then primes below 50; then the clock", 'forecast {"city":"Oslo"}', 'count_primes {"n":50}',
            "clock {}" },
        { "multiply them", 'multiply {"a":1,"b":1}' },
        { "oslo forecast", 'forecast {"city":"oslo"}' },
    }
    for _, row in ipairs(rows) do
        local text = table.remove(row, 1)
        equal(calls(text), row, text)
    end
end)

case("the same words give the same calls", function()
    local text = "Weather of Oslo and Lima, primes below 10, add 1 2"
    local first = calls(text)
    equal(#first, 4)
    for _ = 1, 20 do
        equal(calls(text), first)
    end
end)

case("every call fits the schema of its tool, whatever the words are", function()
    local schema = require "lash.schema"
    local words = { "weather", "Oslo", "add", "3", "-4.5", "primes", "\"quoted", "'", "{", "}", "file", "a/b.c", "é", "São",
        "x=1", "n=abc", "seconds=2", "wait", "write", ",", ".", "99999999999999999999", "1,000", "\n", "%", "mean", "“q”" }
    math.randomseed(7)
    local by_name = {}
    for _, entry in ipairs(TOOLS) do
        by_name[entry.name] = entry
    end
    local seen = 0
    for _ = 1, t.times(2000, 500) do
        local parts = {}
        for i = 1, math.random(1, 12) do
            parts[i] = words[math.random(#words)]
        end
        local text = table.concat(parts, " ")
        for _, call in ipairs(conversation.calls(answer(text))) do
            local args = assert(json.decode(call.args), text)
            local given = text:find("n=abc", 1, true) or text:find("{", 1, true) -- as it is, also when it is wrong
            if not given and not text:find("99999999999999999999", 1, true) then
                local good, err = schema.check(by_name[call.name].schema, args)
                t.ok(good, ("%s: %s %s: %s"):format(text, call.name, call.args, tostring(err)))
            end
            seen = seen + 1
        end
    end
    t.ok(seen > 500, "few calls were made")
end)

case("what came back is told, a line for each call, good and bad", function()
    local first, conv = answer "Forecast for Oslo and Lima, and the clock"
    conv:append(first)
    conv:append(wire.outcomes(first, { "3 °C\nand rain", { "error", "no such city" }, { "timeout", "no end within 1 s" } }))
    local last = assert(model.ask(DEMO, conv, { agent = "a", tools = TOOLS }))
    equal(last.stop, "end")
    equal(last.items, { { type = "text", text = 'forecast(city = "Oslo"): 3 °C and rain\n'
        .. 'forecast(city = "Lima") failed: no such city\nclock() ended as \'timeout\': no end within 1 s' } })
    conv:append(last)
    conv:append { type = "user", text = "add 1 2" }
    local again = assert(model.ask(DEMO, conv, { agent = "a", tools = TOOLS }))
    equal(again.items[1].name, "add")
    equal(again.items[1].id, "call_6_1")
end)

case("when nothing is named it says what there is", function()
    local text = answer("hello there").items[1].text
    has(text, "forecast(city, days?, unit?): Weather of a city")
    has(text, "count_primes(n)")
    text = answer("hello there", { agent = "a" }).items[1].text
    has(text, "hello there")
    text = answer("add 1 2", { agent = "a", tools = TOOLS, tool_choice = "none" }).items[1].text
    has(text, "add(a, b)")
end)

case("a forced choice is kept", function()
    equal(calls("hello", { agent = "a", tools = TOOLS, tool_choice = { name = "add" } }), { 'add {"a":1,"b":1}' })
    equal(calls("add 1 2", { agent = "a", tools = TOOLS, tool_choice = "required" }), { 'add {"a":1,"b":2}' })
    equal(#calls("hello", { agent = "a", tools = TOOLS, tool_choice = "required" }), 1)
end)

case("H14 words that name an agent, or its description, hand over", function()
    local handoff = { name = "handoff", description = "Hands over. Agents: billing: Invoices and refunds; tech_support: "
        .. "Crashes and errors", schema = { type = "object", properties = { agent = { type = "string",
            enum = json.array { "billing", "tech_support" } } }, required = json.array { "agent" } } }
    local view = { agent = "triage", tools = { TOOLS[3], handoff } }
    local function to(text)
        local call = answer(text, view).items[1]
        return call.type == "call" and call.name == "handoff" and json.decode(call.args).agent or call.name or nil
    end
    equal(to "I want a refund", "billing")
    equal(to "My app crashes all the time", "tech_support")
    equal(to "Ask tech support to add 1 and 2", "tech_support")
    equal(to "add 1 and 2 for my invoice", "add")
    equal(to "good morning", nil)
    -- who had it does not get it back for the same words
    local first, conv = answer("billing or tech support?", view)
    local target = json.decode(first.items[1].args).agent
    conv:append(first)
    conv:append(wire.outcomes(first, { "control passed to " .. target }))
    local second = assert(model.ask(DEMO, conv, { agent = target, tools = { handoff } }))
    local other = json.decode(second.items[1].args).agent
    t.ok(other ~= target)
    conv:append(second)
    conv:append(wire.outcomes(second, { "control passed to " .. other }))
    local third = assert(model.ask(DEMO, conv, { agent = other, tools = { handoff } }))
    equal(third.stop, "end")
end)

case("attachments are named, as the demo model cannot look at them", function()
    local attach = require "lash.attach"
    local parts = { { type = "text", text = "add 1 and 2" }, assert(attach.of_bytes("GIF89a..", "cat.gif")) }
    local conv = wire.conversation { { type = "user", text = "add 1 and 2", parts = parts } }
    local view = { agent = "a", tools = TOOLS }
    local first = assert(model.ask(DEMO, conv, view))
    conv:append(first)
    conv:append(wire.outcomes(first, { "3" }))
    has(model.ask(DEMO, conv, view).items[1].text,
        "The demo model cannot look at the image cat.gif (image/gif, 8 bytes).\nadd(a = 1, b = 2): 3")
    conv = wire.conversation { { type = "user", text = "", parts = { parts[2] } } }
    has(model.ask(DEMO, conv, {}).items[1].text, "cannot look at the image cat.gif")
end)

case("where the answer has to fit a schema it is made of the words, after the calls", function()
    local function output(shorthand)
        return assert(require("lash.structured").new(shorthand)).view
    end
    local text = "The weather of Oslo for 3 days in celsius"
    local given = answer(text, { output = output { city = "string", days = "integer", unit = "celsius|kelvin" } })
    equal(given.items[1].text, '{"city":"Oslo","days":3,"unit":"celsius"}')
    equal(answer("list Oslo and Rome", { output = output "string[]" }).items[1].text, '{"value":["Oslo","Rome"]}')
    local view = { agent = "a", tools = TOOLS, output = output { sum = "number" } }
    local first, conv = answer("add 1 and 2", view)
    equal(first.stop, "calls")
    conv:append(first)
    conv:append(wire.outcomes(first, { "3" }))
    equal(model.ask(DEMO, conv, view).items[1].text, '{"sum":1}')
end)

return t.main(...)
