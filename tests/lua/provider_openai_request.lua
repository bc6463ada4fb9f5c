-- OpenAI's Responses protocol: what is sent. Messages with images and files, settings, quirks of compatible
-- servers, headers, addresses, lists of models; and which answers count as one's own.
local json = require "lash.json"
local openai = require "lash.provider.openai"
local t = require "t"
local wire = require "support.wire"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok

local ANSWER = [[{"status":"completed","output":[
  {"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"SEALED"},
  {"type":"message","id":"msg_1","role":"assistant","phase":"commentary","content":[{"type":"output_text","text":"Looking.","annotations":[]}]},
  {"type":"function_call","id":"fc_1","call_id":"call_A","name":"f","arguments":"{\"n\":1}","caller":{"type":"program","caller_id":"p"}}]}]]

local function asked()
    return wire.conversation { { type = "user", text = "x" } }
end

local function refused(view, fields, entries)
    local target = wire.target("openai", fields)
    local request, err = openai.request(entries and wire.conversation(entries) or asked(), view or {}, target)
    equal(request, nil)
    equal(err.code, "bad_request")
    equal(err.exit, 64)
    return err.message
end

-- A conversation in which `fields` of a target gave ANSWER.
local function answered(fields)
    local conv = asked()
    local target = wire.target("openai", fields)
    local answer = assert(openai.read(wire.answer(ANSWER), conv, {}, target))
    conv:append(answer)
    conv:append(wire.outcomes(answer, { "1" }))
    return conv, answer
end

-- ---- messages ----

case("images and files stand in a message in their order", function()
    local body, request = wire.request("openai", wire.conversation { { type = "user", text = "Look: and this?", parts = {
        { type = "text", text = "Look:" }, { type = "image", mime = "image/png", data = "iVBORw0=" },
        { type = "image", url = "https://h/a.png?x=\"1\"", detail = "low" },
        { type = "file", name = "ä.pdf", mime = "application/pdf", data = "JVBERi0=" },
        { type = "text", text = " and this?" } } } })
    equal(body.input[1], { role = "user", content = {
        { type = "input_text", text = "Look:" },
        { type = "input_image", detail = "auto", image_url = "data:image/png;base64,iVBORw0=" },
        { type = "input_image", detail = "low", image_url = "https://h/a.png?x=\"1\"" },
        { type = "input_file", filename = "ä.pdf", file_data = "data:application/pdf;base64,JVBERi0=" },
        { type = "input_text", text = " and this?" } } })
    has(request.body, '"input":[{"content":[{"text":"Look:","type":"input_text"},')
    equal(wire.request("openai", wire.conversation { { type = "user", text = "plain", parts = {} } }).input[1],
        { role = "user", content = "plain" })
end)

case("a part that cannot be sent is named, with the provider", function()
    for _, part in ipairs { { type = "audio", data = "x" }, { type = "image" }, { type = "file", name = "a" }, { type = "text" }, {},
        { type = "image", url = 5, mime = "image/png" } } do
        local message = refused(nil, { provider_name = "there" }, { { type = "user", text = "a",
            parts = { { type = "text", text = "a" }, part } } })
        has(message, "there: part 2")
        has(message, tostring(part.type))
    end
    -- nothing of it is kept: what follows finds the same
    local conv = wire.conversation { { type = "user", text = "a", parts = { { type = "audio" } } } }
    local target = wire.target "openai"
    for _ = 1, 2 do
        equal(openai.request(conv, {}, target), nil)
    end
end)

-- ---- the body ----

case("J4 a stream is asked for by one field, and the same request has the same bytes", function()
    local conv = answered()
    local view = { system = "s", tools = wire.tools(), settings = { effort = "low", reasoning = true } }
    local _, plain = wire.request("openai", conv, view, nil, false)
    local target = wire.target "openai"
    local first = openai.request(conv, view, target, true).body
    equal(openai.request(conv, view, target).body, plain.body)
    equal(openai.request(conv, view, target, true).body, first)
    equal(openai.request(conv, view, target, false).body, plain.body)
    has(first, '"store":false,"stream":true,')
    equal(first:gsub('"stream":true,', ""), plain.body)
    conv.scratch = {}
    equal(openai.request(conv, { system = "s", tools = wire.tools(), settings = { reasoning = true, effort = "low" } },
        target, true).body, first)
    has(first, '"reasoning":{"effort":"low","summary":"auto"}')
end)

case("settings have their fields", function()
    local body = wire.request("openai", asked(), { settings = { max_tokens = 9, temperature = 0.5, top_p = 1, verbosity = "low",
        reasoning = true } })
    equal(body.max_output_tokens, 9)
    equal(body.temperature, 0.5)
    equal(body.top_p, 1)
    equal(body.text, { verbosity = "low" })
    equal(body.reasoning, { summary = "auto" })
    body = wire.request("openai", asked(), { settings = { reasoning = false } })
    equal(body.reasoning, nil)
    equal(body.temperature, nil)
end)

case("a server's own settings go over those of the protocol, and neither is changed", function()
    local settings = { openai = { reasoning = { summary = "auto", context = "auto" }, metadata = { a = "1" }, tools = { { type = "x" } } },
        there = { reasoning = { summary = "concise" }, service_tier = "flex" }, other = { user = "no" } }
    local before = wire.encode(settings)
    for _ = 1, 2 do
        local body = wire.request("openai", asked(), { settings = settings }, { provider_name = "there" })
        equal(body.reasoning, { summary = "concise", context = "auto" })
        equal(body.metadata, { a = "1" })
        equal(body.service_tier, "flex")
        equal(body.tools, { { type = "x" } })
        equal(body.user, nil)
        equal(wire.encode(settings), before)
    end
    equal(wire.request("openai", asked(), { settings = settings }).service_tier, nil)
    has(refused({ settings = { there = { stream = true } } }, { provider_name = "there" }), "settings.there.stream")
    has(refused({ settings = { openai = { tools = "x" } } }), "tools")
    has(refused({ settings = { openai = { f = print } } }), "f")
end)

case("options of a stream are sent with a stream only", function()
    local view = { settings = { openai = { stream_options = { include_obfuscation = false } } } }
    equal(wire.request("openai", asked(), view, nil, true).stream_options, { include_obfuscation = false })
    equal(wire.request("openai", asked(), view).stream_options, nil)
    equal(wire.request("openai", asked(), {}, nil, true).stream_options, nil)
end)

case("what a compatible server does not take is left out by its quirks", function()
    local view = { tools = wire.tools(), settings = { effort = "low", reasoning = true }, output = { schema = { type = "object",
        properties = {}, additionalProperties = false } } }
    local body = wire.request("openai", asked(), view, { quirks = { reasoning = false } })
    equal(body.reasoning, nil)
    equal(body.include, nil)
    equal(body.tools[1].strict, true)
    body = wire.request("openai", asked(), view, { quirks = { strict = false, parallel = false } })
    equal(body.tools[1].strict, false)
    equal(body.text.format.strict, false)
    equal(body.parallel_tool_calls, nil)
    equal(body.include, { "reasoning.encrypted_content" })
    equal(wire.request("openai", asked(), view, { quirks = {} }).parallel_tool_calls, true)
end)

case("a structured answer: natively for an object, in words for anything else", function()
    local strict = { type = "object", properties = { a = { type = "integer" } }, required = json.array { "a" },
        additionalProperties = false }
    local body = wire.request("openai", asked(), { system = "s", output = { name = "my answer!", schema = strict } })
    equal(body.text.format, { type = "json_schema", name = "my_answer_", schema = strict, strict = true })
    equal(body.instructions, "s")
    local loose = { type = "object", properties = { a = { type = "integer" } } }
    body = wire.request("openai", asked(), { output = { schema = loose }, settings = { verbosity = "low" } })
    equal(body.text, { verbosity = "low", format = { type = "json_schema", name = "answer", schema = loose, strict = false } })
    for _, row in ipairs { { { type = "array", items = { type = "integer" } } }, { { anyOf = { loose } } },
        { strict, { output = false } } } do
        body = wire.request("openai", asked(), { system = "s", output = { name = "o", schema = row[1] } }, { quirks = row[2] })
        equal(body.text, nil)
        has(body.instructions, "s\n\nYour final answer must be one JSON value")
        has(body.instructions, wire.encode(row[1]))
    end
    has(wire.request("openai", asked(), { output = { schema = true } }).instructions, "true")
end)

-- ---- headers and addresses ----

case("headers: the user's go over ours, a key may have another header", function()
    local _, request = wire.request("openai", asked(), {}, { organization = "org", project = "p",
        headers = { ["X-Title"] = "t", ["OpenAI-Project"] = "q" } })
    equal(request.headers, { accept = "application/json", ["content-type"] = "application/json", authorization = "Bearer test-key",
        ["openai-organization"] = "org", ["openai-project"] = "q", ["x-title"] = "t" })
    _, request = wire.request("openai", asked(), {}, { quirks = { api_key_header = "api-key" },
        base_url = "https://x.openai.azure.com/openai/v1/?api-version=preview" })
    equal(request.headers["api-key"], "test-key")
    equal(request.headers.authorization, nil)
    equal(request.url, "https://x.openai.azure.com/openai/v1/responses?api-version=preview")
end)

case("models are asked for at the same base, with the same headers", function()
    local target = wire.target("openai", { base_url = "https://h/v1/?a=b", headers = { X = "y" } })
    local request = openai.models_request(target)
    equal(request.url, "https://h/v1/models?a=b")
    equal(request.headers, { accept = "application/json", authorization = "Bearer test-key", x = "y" })
    equal(request.body, nil)
end)

case("lists of models: what servers tell of them, and nothing that is none", function()
    local target = wire.target "openai"
    local list, more = openai.read_models(json.decode [[{"object":"list","data":[
        {"id":"gpt-5","object":"model","created":0,"owned_by":"openai"},
        {"id":"a/b","name":"B","context_length":131072,"top_provider":{"max_completion_tokens":4096,"context_length":9}},
        {"id":"vllm","max_model_len":"8192","name":null},{"id":"llama","meta":{"n_ctx_train":4096}},
        {"id":"groq","context_window":1000,"max_completion_tokens":10},{"id":"x","context_length":-5,"top_provider":[1],"meta":"m"},
        {"id":7},{"id":""},{},[],"x",null]}]], target)
    equal(more, nil)
    equal(list, { { id = "gpt-5" }, { id = "a/b", name = "B", context = 131072, output = 4096 }, { id = "vllm", context = 8192 },
        { id = "llama", context = 4096 }, { id = "groq", context = 1000, output = 10 }, { id = "x" } })
    equal(openai.read_models({ data = json.array {} }, target), {})
    for _, text in ipairs { "null", "{}", "[]", "1", '"x"', '{"data":{}}', '{"data":null}', '{"models":[]}' } do
        local value, err = openai.read_models(json.decode(text), target)
        equal(value, nil)
        equal(err.code, "nonsense", text)
    end
end)

-- ---- whose answer it is ----

case("P4 P3 sealed parts and ids go back only to where they came from", function()
    local here, there = "https://here/v1", "https://there/v1"
    local conv, answer = answered { origin = here }
    equal(answer.origin, here)
    local body, request = wire.request("openai", conv, {}, { origin = here })
    equal(body.input[2].encrypted_content, "SEALED")
    equal(body.input[5].caller, { type = "program", caller_id = "p" })
    for _, origin in ipairs { there, false } do
        local other, sent = wire.request("openai", conv, {}, { origin = origin or nil })
        equal(other.input, json.array { { role = "user", content = "x" }, { role = "assistant", content = "Looking." },
            { type = "function_call", call_id = "call_x2_1", name = "f", arguments = '{"n":1}' },
            { type = "function_call_output", call_id = "call_x2_1", output = "1" } })
        ok(not sent.body:find("SEALED", 1, true))
    end
    local _, again = wire.request("openai", conv, {}, { origin = here })
    equal(again.body, request.body)
    conv.scratch = {}
    local _, anew = wire.request("openai", conv, {}, { origin = here })
    equal(anew.body, request.body)
end)

case("P3 P4 refused parts are forgotten for every server, and later answers are kept", function()
    local conv = answered { origin = "a" }
    wire.request("openai", conv, {}, { origin = "a" })
    wire.request("openai", conv, {}, { origin = "b" })
    equal(openai.forget(conv), true)
    equal(openai.forget(conv), false)
    local body, request = wire.request("openai", conv, {}, { origin = "a" })
    equal(#body.input, 4)
    equal(body.input[2], { role = "assistant", content = "Looking.", phase = "commentary" })
    ok(not request.body:find("SEALED", 1, true))
    local target = wire.target("openai", { origin = "a" })
    conv:append(assert(openai.read(wire.answer(ANSWER), conv, {}, target)))
    conv:append(wire.outcomes(conv.entries[4], { "2" }))
    body, request = wire.request("openai", conv, {}, { origin = "a" })
    equal(#body.input, 8)
    equal(body.input[5].encrypted_content, "SEALED")
    conv.scratch = { openai_forget = conv.scratch.openai_forget }
    local _, anew = wire.request("openai", conv, {}, { origin = "a" })
    equal(anew.body, request.body)
end)

case("P4 no call of a server gets an id that was invented for another's", function()
    local conv = answered { origin = "a" }
    wire.request("openai", conv, {}, { origin = "b" })
    local target = wire.target("openai", { origin = "b" })
    for _, read in ipairs { function(text)
        return openai.read(wire.answer(text), conv, {}, target)
    end, function(text)
        local reader = openai.reader(conv, {}, target, { status = 200, headers = {} })
        local function tell() end
        local data = '{"type":"response.completed","response":' .. text .. "}"
        equal(reader:event({ event = "message", data = (data:gsub("\n", "")) }, tell), "end")
        return reader:finish("", tell)
    end } do
        local answer = assert(read((ANSWER:gsub("call_A", "call_x2_1"))))
        equal(answer.items[3].id, "call_x2_1_2")
        equal(answer.origin, "b")
    end
end)

return t.main(...)
