-- One conversation over several providers: what is converted, what is dropped, whose ids are sent.
local conversation = require "lash.conversation"
local json = require "lash.json"
local rules = require "support.rules"
local t = require "t"
local wire = require "support.wire"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok

local OPENAI = [[{"status":"completed","output":[
  {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"secret thought"}],"encrypted_content":"gAAA"},
  {"type":"message","id":"msg_1","role":"assistant","phase":"commentary","content":[{"type":"output_text","text":"Looking.","annotations":[]}]},
  {"type":"web_search_call","id":"ws_1","status":"completed"},
  {"type":"function_call","id":"fc_1","call_id":"call_A","name":"f","arguments":"{\"n\":9007199254740993}","status":"completed"},
  {"type":"function_call","id":"fc_2","call_id":"call_B","name":"f","arguments":"not json","status":"completed"},
  {"type":"function_call","id":"fc_3","call_id":"call_C","name":"g","arguments":"","status":"completed"}]}]]

local GEMINI = [[{"candidates":[{"content":{"role":"model","parts":[
  {"text":"thinking","thought":true},{"text":"I look too."},
  {"functionCall":{"id":"gem_1","name":"f","args":{"n":1.0}},"thoughtSignature":"SIG1"},
  {"functionCall":{"name":"g"}}]},"finishReason":"STOP"}]}]]

local CHAT = [[{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"I see.","refusal":null,
  "reasoning_content":"hm","tool_calls":[
  {"id":"call_A","type":"function","function":{"name":"f","arguments":"{\"n\":9007199254740993}"},"extra_content":{"a":1}},
  {"id":"call_A","type":"function","function":{"name":"f","arguments":"not json"}},
  {"type":"function","function":{"name":"g","arguments":""}}]},"finish_reason":"tool_calls"}],
  "usage":{"prompt_tokens":9,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":2}}}]]

local ANTHROPIC = [[{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[
  {"type":"thinking","thinking":"hm","signature":"SIGA"},{"type":"redacted_thinking","data":"EmA"},
  {"type":"text","text":"I see.","citations":null},
  {"type":"tool_use","id":"toolu_A","name":"f","input":{"n":9007199254740993},"caller":{"type":"direct"}},
  {"type":"tool_use","id":"toolu_B","name":"g","input":{}}],
  "stop_reason":"tool_use","stop_sequence":null,"stop_details":null,
  "usage":{"input_tokens":9,"cache_creation_input_tokens":1,"cache_read_input_tokens":2,"output_tokens":3}}]]

local ALL = { openai = OPENAI, openai_chat = CHAT, gemini = GEMINI, anthropic = ANTHROPIC }

local GEMINI_END = [[{"candidates":[{"content":{"role":"model","parts":[
  {"text":"Done.","thoughtSignature":"SIG2"}]},"finishReason":"STOP"}]}]]

-- user, OpenAI calls, Gemini calls, Gemini's end, user
local function both()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local first = wire.hear("openai", conv, OPENAI)
    conv:append(wire.outcomes(first, { "1", { "error", "arguments are not JSON" }, "3" }))
    local second = wire.hear("gemini", conv, GEMINI)
    conv:append(wire.outcomes(second, { "4", "5" }))
    wire.hear("gemini", conv, GEMINI_END)
    conv:append { type = "user", text = "y" }
    return conv
end

case("P3 P4 the history of OpenAI as Gemini gets it", function()
    local body, request = wire.request("gemini", both())
    local contents = body.contents
    equal(#contents, 7)
    equal(contents[2], json.decode [[{"role":"model","parts":[{"text":"Looking."},
        {"functionCall":{"name":"f","args":{"n":9007199254740993}},"thoughtSignature":"skip_thought_signature_validator"},
        {"functionCall":{"name":"f","args":{"invalid_arguments":"not json"}}},
        {"functionCall":{"name":"g","args":{}}}]}]])
    equal(contents[3], json.decode [[{"role":"user","parts":[
        {"functionResponse":{"name":"f","response":{"output":"1"}}},
        {"functionResponse":{"name":"f","response":{"error":"arguments are not JSON"}}},
        {"functionResponse":{"name":"g","response":{"output":"3"}}}]}]])
    equal(contents[4].parts[3].thoughtSignature, "SIG1")
    equal(contents[4].parts[1].thought, true)
    equal(contents[5].parts[1].functionResponse.id, "gem_1")
    equal(contents[5].parts[2].functionResponse.id, nil)
    for _, foreign in ipairs { "call_A", "fc_1", "rs_1", "msg_1", "ws_1", "gAAA", "secret thought", "phase" } do
        ok(not request.body:find(foreign, 1, true), foreign .. " was sent to Gemini")
    end
end)

case("P3 P4 the history of Gemini as OpenAI gets it", function()
    local body, request = wire.request("openai", both())
    local input = body.input
    equal(input[2].encrypted_content, "gAAA")
    equal(input[4], { type = "web_search_call", id = "ws_1", status = "completed" })
    equal(input[8].call_id, "call_A")
    equal(input[9].output, "Error: arguments are not JSON")
    equal(input[11], { role = "assistant", content = "I look too." })
    equal(input[12], { type = "function_call", call_id = "call_x4_1", name = "f", arguments = '{"n":1.0}' })
    equal(input[13], { type = "function_call", call_id = "call_x4_2", name = "g", arguments = "{}" })
    equal(input[14], { type = "function_call_output", call_id = "call_x4_1", output = "4" })
    equal(input[15], { type = "function_call_output", call_id = "call_x4_2", output = "5" })
    equal(input[16], { role = "assistant", content = "Done." })
    equal(input[17], { role = "user", content = "y" })
    for _, foreign in ipairs { "gem_1", "call_4_2", "SIG1", "SIG2", "thinking", "thoughtSignature" } do
        ok(not request.body:find(foreign, 1, true), foreign .. " was sent to OpenAI")
    end
end)

case("P4 invented ids are unlike all others, also those that come later", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local first = wire.hear("openai", conv, (OPENAI:gsub("call_A", "call_x4_1")))
    conv:append(wire.outcomes(first, { "1", "2", "3" }))
    local second = wire.hear("gemini", conv, GEMINI)
    conv:append(wire.outcomes(second, { "4", "5" }))
    wire.request("openai", conv)
    local third = wire.hear("openai", conv, (OPENAI:gsub("call_A", "call_x4_1x"):gsub("call_B", "call_x4_2")))
    conv:append(wire.outcomes(third, { "1", "2", "3" }))
    local function ids(body)
        local seen, list = {}, {}
        for _, item in ipairs(body.input) do
            if item.type == "function_call" then
                ok(not seen[item.call_id], item.call_id .. " comes twice")
                seen[item.call_id] = true
                list[#list + 1] = item.call_id
            elseif item.type == "function_call_output" then
                equal(seen[item.call_id], true)
                seen[item.call_id] = false
            end
        end
        return list
    end
    local body, request = wire.request("openai", conv)
    equal(#ids(body), 8)
    conv.scratch = {}
    local _, again = wire.request("openai", conv)
    equal(again.body, request.body)
end)

case("P3 an answer of demo or of a script is foreign to all", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local answer = { type = "answer", provider = "demo", model = "demo", stop = "calls",
        items = { { type = "reasoning", text = "r" }, { type = "text", text = "t" },
            { type = "call", id = "call_2_1", name = "f", args = "{}" } } }
    conv:append(answer)
    conv:append(wire.outcomes(answer, { "o" }))
    equal(#wire.request("openai", conv).input, 4)
    equal(#wire.request("gemini", conv).contents, 3)
end)

case("P3 sealed parts that are refused are left out, and all stays paired", function()
    local conv = both()
    local openai, gemini = require "lash.provider.openai", require "lash.provider.gemini"
    equal(openai.forget(conv), true)
    equal(openai.forget(conv), false)
    local body, request = wire.request("openai", conv)
    ok(not request.body:find("gAAA", 1, true) and not request.body:find("rs_1", 1, true))
    equal(body.input[2], { role = "assistant", content = "Looking.", phase = "commentary" })
    equal(body.input[3].call_id, "call_x2_1")
    equal(gemini.forget(conv), true)
    body, request = wire.request("gemini", conv)
    ok(not request.body:find("SIG", 1, true))
    equal(body.contents[4].parts[2].thoughtSignature, "skip_thought_signature_validator")
    -- what comes afterwards goes back whole
    local answer = wire.hear("gemini", conv, GEMINI)
    conv:append(wire.outcomes(answer, { "6", "7" }))
    body = wire.request("gemini", conv)
    equal(body.contents[#body.contents - 1].parts[3].thoughtSignature, "SIG1")
end)

case("J4 the bytes of a conversation over both are the same in another process", function()
    local program = [[
        package.path = os.getenv "LASH_TESTS" .. "/lua/?.lua;" .. package.path
        local wire = require "support.wire"
        local conv = wire.conversation { { type = "user", text = "x" } }
        for _, turn in ipairs { { "openai", %q }, { "gemini", %q }, { "openai", %q } } do
            local answer = wire.hear(turn[1], conv, turn[2])
            conv:append(wire.outcomes(answer, { "1", "2", #wire.outcomes(answer, { "", "", "" }).items > 2 and "3" or nil }))
        end
        local view = { system = "s", tools = wire.tools(), settings = { max_tokens = 9, temperature = 0.5,
            openai = { metadata = { a = "1", b = "2", c = "3" } }, gemini = { labels = { a = "1", b = "2" } } } }
        local _, a = wire.request("openai", conv, view)
        local _, b = wire.request("gemini", conv, view)
        io.write(a.body, "\n", b.body, "\n")
    ]]
    local path = t.file(program:format(OPENAI, GEMINI, OPENAI), ".lua")
    local function run()
        local pipe = assert(io.popen(("'%s' '%s'"):format(os.getenv "LASH", path)))
        local text = pipe:read "a"
        assert(pipe:close())
        return text
    end
    local first = run()
    has(first, '"call_id":"call_x4_1"')
    has(first, '"skip_thought_signature_validator"')
    for _ = 1, 3 do
        equal(run(), first)
    end
end)

-- A copy of a value in which one or a few places are something else.
local function damaged(value)
    local others = { json.null, true, 0, -1.5, "", "x", {}, json.array {}, { a = 1 }, json.array { json.null } }
    if math.random(12) == 1 then
        return others[math.random(#others)]
    elseif type(value) ~= "table" then
        return value
    end
    local copy = getmetatable(value) and json.array {} or {}
    for key, field in pairs(value) do
        if math.random(25) > 1 or getmetatable(value) then
            copy[key] = damaged(field)
        end
    end
    return copy
end

case("D15 P4 whatever a server answers, it is an answer that can go on, or an error in words", function()
    math.randomseed(3)
    local good = {}
    for _, name in ipairs { "openai", "openai_chat", "gemini", "anthropic" } do
        local value = json.decode(ALL[name])
        good[name] = 0
        for _ = 1, t.times(1500, 300) do
            local text = json.encode(damaged(value))
            local conv = wire.conversation { { type = "user", text = "x" } }
            local target = wire.target(name)
            local status = math.random(10) == 1 and 400 + math.random(200) or 200
            local answer, err = target.provider.read(wire.answer(text, status), conv, { tools = {} }, target)
            if not answer then
                ok(math.type(err.exit) == "integer" and #err.message > 0 and err.code, text)
            else
                good[name] = good[name] + 1
                conv:append(answer)
                if #conversation.calls(answer) > 0 then
                    conv:append(wire.outcomes(answer, { "1", "2", "3" }))
                end
                conv:append { type = "user", text = "y" }
                for other in pairs(ALL) do
                    local body = wire.request(other, conv)
                    local fine, why = pcall(rules.check, wire.target(other).provider.name, body)
                    ok(fine or other == name, ("%s of %s: %s"):format(tostring(why), name, text))
                end
            end
        end
    end
    for name, count in pairs(good) do
        ok(count > t.times(200, 40), ("of %s few answers could be read: %d"):format(name, count))
    end
end)

case("J4 a turn costs its new entries and a copy", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    for _ = 1, 200 do
        local answer = wire.hear("openai", conv, OPENAI)
        conv:append(wire.outcomes(answer, { "1", "2", "3" }))
    end
    for name in pairs(ALL) do
        wire.request(name, conv)
    end
    -- Old entries are not looked at again: they could not be understood any more.
    for i = 1, #conv.entries do
        conv.entries[i] = { type = "user", text = false }
    end
    conversation.Conversation.append(conv, { type = "user", text = "z" })
    local _, request = wire.request("openai", conv)
    has(request.body, '{"content":"z","role":"user"}')
    _, request = wire.request("gemini", conv)
    has(request.body, '{"text":"z"}')
    _, request = wire.request("openai_chat", conv)
    has(request.body, '{"content":"z","role":"user"}')
    _, request = wire.request("anthropic", conv)
    has(request.body, '"text":"z"')
end)

return t.main(...)
