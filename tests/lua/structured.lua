-- Structured answers: how `output` is read, what fits, the second try, and the ends of such runs.
local t = require "t"
local fake = require "fake"
local run = require "lash.run"
local lash = require "lash"
local structured = require "lash.structured"

local function output(spec)
    return (assert(structured.new(spec)))
end

local function sent(spec)
    return lash.json.encode(output(spec).view.schema)
end

local PERSON = { name = "string", born = "integer?" }

-- ---- declaring ----

t.case("output: shorthand and JSON Schema are told apart by one rule", function()
    local short = '{"additionalProperties":false,"properties":{"born":{"type":"integer"},"name":{"type":"string"}},'
        .. '"required":["name"],"type":"object"}'
    t.equal(sent(PERSON), short)
    t.equal(sent(lash.json.decode(short)), short)
    t.has(sent { type = "string: its kind", at = "string" }, '"required":["at","type"]')
    t.has(sent { type = { name = "string" } }, '"required":["type"]')
    t.equal(sent { type = "object" }, '{"type":"object"}')
    t.has(sent { properties = { a = { type = "string" } } }, '"value":{"properties":{"a":{"type":"string"}}}')
    t.has(sent { anyOf = { { type = "null" }, { type = "string" } } }, '"value":{"anyOf":')
    t.has(sent { enum = { 1, 2 } }, '"value":{"enum":[1,2]}')
    t.has(sent { enum = "string" }, '"enum":{"type":"string"}')
    t.has(sent { type = { "string", "null" } }, '"value":{"type":["string","null"]}')
    t.has(sent "string[]", '"value":{"items":{"type":"string"},"type":"array"}')
    t.has(sent "yes|no", '"value":{"enum":["yes","no"],"type":"string"}')
    local made = output(PERSON)
    t.equal(output(made) == made, true)
end)

t.case("output: what cannot be one says why, where the agent is declared", function()
    for _, case in ipairs {
        { {}, "names no field" },
        { { name = "strng" }, "did you mean 'string'" },
        { "string?", "drop the `?`" },
        { "strng", "\"strng\" is no type" },
        { { type = "string", name = "string" }, "#/name: the keyword is not supported" },
        { { type = "string", name = "string" }, "`type` makes it a JSON Schema" },
        { { ["$ref"] = "other.json" }, "other.json" },
        { { type = "object", properties = 5 }, "properties" },
        { { 5 }, "list" },
    } do
        local text = t.raises(case[2], lash.agent, { name = "a", output = case[1] })
        t.has(tostring(text), "lash.agent 'a': output: ")
    end
    t.raises("must be table or string", lash.agent, { name = "a", output = true })
    t.equal(select(2, structured.of_schema(false)), "no value fits the schema `false`")
    t.equal(select(2, structured.of_schema(lash.json.array {})), "a JSON Schema is an object")
    t.equal(select(2, structured.of_schema(lash.null)), "a JSON Schema is an object")
    t.equal(structured.of_schema(true):read("5"), true)
end)

t.case("output: references keep their meaning when the schema is put under `value`", function()
    local schema = {
        type = "array", items = { ["$ref"] = "#/$defs/node" },
        ["$defs"] = { node = { type = "object", properties = {
            kids = { ["$ref"] = "#" }, same = { ["$ref"] = "#/items" },
            ["$ref"] = { const = { ["$ref"] = "#" } },
        } } },
    }
    local made = output(schema)
    local whole = made.view.schema
    t.equal(whole["$defs"].node.properties.kids["$ref"], "#/properties/value")
    t.equal(whole["$defs"].node.properties.same["$ref"], "#/properties/value/items")
    t.equal(whole["$defs"].node.properties["$ref"].const["$ref"], "#")
    t.equal({ whole.properties.value.items["$ref"], whole.properties.value["$defs"] }, { "#/$defs/node", nil })
    t.equal(schema.items["$ref"], "#/$defs/node")
    t.equal(schema["$defs"].node.properties.kids["$ref"], "#") -- the user's own is only read
    for text, fits in pairs {
        ['[{"kids":[{"kids":[]}],"same":{}}]'] = true, ['[{"kids":[{"kids":5}]}]'] = false, ['[{"same":5}]'] = false,
        ['[{"$ref":{"$ref":"#"}}]'] = true, ['[{"$ref":{"$ref":"#/properties/value"}}]'] = false,
    } do
        t.equal((made:read(text)), fits, text)
        t.equal((lash.schema.check(whole, lash.json.decode('{"value":' .. text .. "}"))) or false, fits, text)
    end
end)

-- ---- reading ----

t.case("output: white space and one code fence may stand around the value, nothing else", function()
    local made = output(PERSON)
    for _, text in ipairs { '{"name":"A"}', ' \n{"name":"A"}\n', '```json\n{"name":"A"}\n```', '```\n{"name":"A"}\n```\n',
        '```JSON {"name":"A"} ```', '```{"name":"A"}```' } do
        local ok, value, clean = made:read(text)
        t.equal({ ok, value, clean }, { true, { name = "A" }, '{"name":"A"}' }, text)
    end
    for _, text in ipairs { 'Here: {"name":"A"}', '{"name":"A"} done', '```json\n{"name":"A"}\n``` ok', "name: A",
        '```json\n{"name":"A"}\n```\n```json\n{"name":"B"}\n```', "{'name':'A'}", '{"name":"A",}', "```", "" } do
        local ok, why = made:read(text)
        t.equal(ok, false, text)
        t.has(why, "it is no JSON value: position")
    end
    t.equal({ made:read '{"name":"A","born":"x"}' }, { false, '/born: expected integer, found string "x"' })
end)

t.case("output: endless white space, as some models give it, is passed over in time", function()
    local made, blanks, started = output(PERSON), (" \n"):rep(200000), os.clock()
    for _, text in ipairs { blanks .. "```json" .. blanks .. '{"name":' .. blanks .. '"A"}' .. blanks .. "```" .. blanks,
        '{"name":' .. blanks .. '"A"}' } do
        local ok, value = made:read(text)
        t.equal({ ok, value }, { true, { name = "A" } })
    end
    t.equal(made:read('{"name":' .. blanks), false)
    t.equal(made:read(blanks), false)
    t.equal(made:read("```" .. blanks .. "x"), false)
    t.ok(os.clock() - started < 2 * t.slower, os.clock() - started)
end)

t.case("J1 J2 J5 output: numbers, empty arrays, null and false come through exactly", function()
    local any = assert(structured.of_schema {})
    for _, text in ipairs { "9223372036854775807", "-9223372036854775808", "1.0", "1", "null", "false", "[]", "{}", '""',
        '{"more":2,"value":1}' } do
        local ok, value, clean = any:read(text)
        t.equal({ ok, lash.json.encode(value), clean }, { true, text, text })
        ok, value, clean = any:read('{ "value" : ' .. text .. " }")
        t.equal({ ok, lash.json.encode(value), clean }, { true, text, text })
    end
    t.equal(output("integer"):read("9223372036854775808"), false) -- no integer of 64 bits: never rounded
end)

t.case("output: the value may be bare where it was asked for under `value`; faults name the asked schema", function()
    local made = output "integer[]"
    t.equal({ made:read "[1,2]" }, { true, { 1, 2 }, "[1,2]" })
    t.equal({ made:read '{"value":[1,2]}' }, { true, { 1, 2 }, "[1,2]" })
    t.equal({ made:read '{"value":[1,"x"]}' }, { false, '/value/1: expected integer, found string "x"' })
    t.equal((made:read '{"value":[1],"more":1}'), false)
    local nested = output { anyOf = { { type = "object", properties = { value = { type = "integer" } },
        required = { "value" } } } }
    t.equal({ nested:read '{"value":5}' }, { true, { value = 5 }, '{"value":5}' })
    t.equal({ nested:read '{"value":{"value":5}}' }, { true, { value = 5 }, '{"value":5}' })
end)

-- ---- runs ----

local function watched(spec, steps)
    local last
    spec.model = nil -- a spec may serve several runs
    local agent = fake.agent(spec, steps)
    local result = agent:run("go", { no_raise = true, on_event = function(event)
        last = event
    end })
    t.equal({ last.type, last.reason, last.value, last.exit, last.text },
        { "run.end", result.reason, result.value, result.exit, result.text })
    return result
end

t.case("output: the value of an answer that fits, in result and run.end", function()
    local view
    local result = watched({ output = PERSON }, { function(_, v)
        view = v
        return '```json\n{"name": "Ada", "born": 1815}\n```'
    end })
    t.equal({ result.ok, result.value, result.text, result.turns }, { true, { name = "Ada", born = 1815 },
        '{"name": "Ada", "born": 1815}', 1 })
    t.equal(view.output.name, "answer")
    t.equal(lash.json.encode(view.output.schema), sent(PERSON))
    result = watched({ output = { type = "null" } }, { "null" })
    t.equal({ result.ok, result.value == lash.null }, { true, true })
    result = watched({ output = "boolean" }, { '{"value":false}' })
    t.equal({ result.ok, result.value, result.text }, { true, false, "false" })
    result = watched({}, { '{"name":"Ada"}' })
    t.equal({ result.ok, result.value }, { true, nil })
end)

t.case("output: one more try with the fault told, in the same conversation", function()
    local note
    local result = watched({ output = PERSON }, { '{"name":5}', function(conv)
        note = conv.entries[#conv.entries]
        return '{"name":"Ada"}'
    end })
    t.equal({ result.ok, result.value, result.turns }, { true, { name = "Ada" }, 2 })
    t.equal(note.type, "note")
    t.has(note.text, "/name: expected string, found integer 5")
    t.equal(#result.conversation.entries, 4)
end)

t.case("output: the second answer that does not fit ends the run with 65; run raises it", function()
    local spec = { output = PERSON }
    local result = watched(spec, { "Ada", '{"nom":"Ada"}' })
    t.equal({ result.reason, result.exit, result.ok, result.value, result.text },
        { "output", 65, false, nil, '{"nom":"Ada"}' })
    t.equal({ result.error.code, result.error.exit }, { "output", 65 })
    t.has(result.error.message, "the answer of 'tester' does not fit its schema: /")
    t.has(result.error.message, "name")
    local agent = fake.agent({ output = PERSON }, { "Ada", "Ada", '{"name":"Ada"}' })
    local conv = agent:conversation()
    local err = t.raises("does not fit its schema: it is no JSON value", conv.send, conv, "go")
    t.equal({ err.code, err.result.reason }, { "output", "output" })
    t.equal(conv:send("again").value, { name = "Ada" }) -- each run has its own second try
end)

t.case("output: tools may be called before the answer and between the tries", function()
    local tool = lash.tool { name = "look", async = function() return "seen" end }
    local result = watched({ output = PERSON, tools = { tool } }, { fake.calls { "no JSON here", { "look" } }, "Ada",
        fake.calls { { "look" } }, '{"name":"Ada"}' })
    t.equal({ result.value, result.turns, #result.calls }, { { name = "Ada" }, 4, 2 })
    result = watched({ output = PERSON, tools = { tool } }, { "Ada", fake.calls { { "look" } }, "Ada" })
    t.equal({ result.reason, result.turns }, { "output", 3 })
end)

t.case("output: commentary may stand in front of the answer as a text of its own", function()
    local function texts(...)
        local items = {}
        for i, text in ipairs { ... } do
            items[i] = { type = "text", text = text }
        end
        return { type = "answer", items = items, stop = "end" }
    end
    local result = watched({ output = PERSON }, { texts("I have it now. ", '{"name":"Ada"}') })
    t.equal({ result.value, result.text, result.turns }, { { name = "Ada" }, '{"name":"Ada"}', 1 })
    result = watched({ output = PERSON }, { texts('{"name":', '"Ada"}') }) -- one text in two pieces
    t.equal(result.value, { name = "Ada" })
    result = watched({ output = PERSON }, { texts("I have it. ", '{"nom":1}'), texts('{"name":"Ada"}', "There.") })
    t.equal({ result.reason, result.value }, { "output", nil })
end)

t.case("output: limits, refusals and cut answers keep their own reasons", function()
    local tool = lash.tool { name = "look", async = function() return "seen" end }
    for reason, text in pairs { length = '{"name":', filter = "", refusal = "no" } do
        local result = watched({ output = PERSON }, { fake.text(text, reason) })
        t.equal({ result.reason, result.value }, { reason == "refusal" and "refused" or reason, nil })
    end
    t.equal(watched({ output = PERSON }, { " " }).reason, "empty")
    t.equal(watched({ output = PERSON, limits = { requests = 1 } }, { "Ada" }).reason, "requests")
    local spec = { output = PERSON, tools = { tool }, limits = { turns = 1 } }
    local result = watched(spec, { fake.calls { { "look" } }, '{"name":"Ada"}' }) -- B4
    t.equal({ result.reason, result.value, result.ok }, { "turns", { name = "Ada" }, false })
    result = watched(spec, { fake.calls { { "look" } }, "Ada" })
    t.equal({ result.reason, result.value, result.text }, { "turns", nil, "Ada" })
end)

t.case("B4 output: the second try is not kept back by the limit of turns, but has no tools then", function()
    local tool = lash.tool { name = "look", async = function() return "seen" end }
    local seen
    local spec = { output = PERSON, tools = { tool }, limits = { turns = 1 } }
    local result = watched(spec, { "Ada", function(conv, view)
        seen = { view.tool_choice, conv.entries[#conv.entries].text:find("limit of turns", 1, true) }
        return '{"name":"Ada"}'
    end })
    t.equal({ result.reason, result.value, seen[1], seen[2] }, { "done", { name = "Ada" }, "none", nil })
    t.equal(watched(spec, { "Ada", "Ada" }).reason, "output")
    t.equal(watched(spec, { "Ada", fake.calls { { "look" } } }).reason, "turns")
end)

t.case("output: after a handoff the schema of the agent who answers counts", function()
    local counter = fake.agent({ name = "counter", output = "integer" }, { "5" })
    local result = watched({ name = "first", output = PERSON, handoffs = { counter } },
        { fake.calls { { "handoff", { agent = "counter" } } } })
    t.equal({ result.agent, result.value, result.text }, { "counter", 5, "5" })
    local plain = fake.agent({ name = "plain" }, { "just text" })
    result = watched({ name = "first", output = PERSON, handoffs = { plain } },
        { fake.calls { { "handoff", { agent = "plain" } } } })
    t.equal({ result.ok, result.value, result.text }, { true, nil, "just text" })
end)

t.case("H12 output: as_tool gives the JSON text, and a fault as an error output", function()
    local inner = fake.agent({ name = "inner", output = PERSON }, { '```\n{"name":"Ada"}\n```', "Ada", "Ada" })
    local outer = fake.agent({ tools = { inner:as_tool() } },
        { fake.calls { { "inner", { input = "who" } } }, fake.calls { { "inner", { input = "who" } } }, "done" })
    local result = outer:run("go")
    t.equal({ result.calls[1].status, result.calls[1].output }, { "ok", '{"name":"Ada"}' })
    t.equal(result.calls[2].status, "error")
    t.has(result.calls[2].output, "does not fit its schema")
end)

t.case("output: a changed copy of an agent keeps it", function()
    local agents = require "lash.agent"
    local one = lash.agent { name = "a", output = PERSON }
    t.equal(agents.new(agents.spec(one)).output == one.output, true)
    t.equal(run.REASONS.output, 65)
end)

t.case("S3 output: agents that answer so, and attachments, travel to a worker", function()
    local inner = lash.agent { name = "inner", model = "demo", output = { list = "string[]" } }
    local image = lash.image { data = "GIF89a..", name = "x.gif" }
    local tool = lash.tool { name = "ask", sync = function()
        local result = inner:run { "list 'a' and 'b'", image, lash.image { data = "GIF87a.." } }
        local parts = result.items[1].parts
        return result.text .. " " .. result.value.list[2] .. " " .. parts[2].name .. " " .. parts[3].bytes
    end }
    local outcomes = fake.batch({ tool }, { { "ask" } })
    t.equal(outcomes[1].output, '{"list":["a","b"]} b x.gif 8')
end)

return t.main(...)
