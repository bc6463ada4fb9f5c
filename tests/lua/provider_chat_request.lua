-- Chat Completions: what a request is made of, for whom; images and files; lists of models.
local chat = require "support.chat"
local json = require "lash.json"
local model = require "lash.model"
local provider = require "lash.provider.openai_chat"
local t = require "t"
local timer = require "lash.core.timer"
local wire = require "support.wire"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok

local function asked(...)
    return wire.conversation { { type = "user", text = "x" }, ... }
end

local OPENAI, AZURE = { base_url = "https://api.openai.com/v1" },
    { base_url = "https://me.openai.azure.com/openai/v1/?api-version=preview" }

case("settings have their fields; the limit has the name that the server knows", function()
    local settings = { max_tokens = 7, temperature = 0.5, top_p = 1, seed = 3, stop = "x", effort = "low", verbosity = "high" }
    local body = chat.request(asked(), { settings = settings })
    equal({ body.max_tokens, body.temperature, body.top_p, body.seed, body.stop, body.reasoning_effort, body.verbosity },
        { 7, 0.5, 1, 3, "x", "low", "high" })
    equal(body.max_completion_tokens, nil)
    for _, fields in ipairs { OPENAI, AZURE, { quirks = { max_tokens = "max_completion_tokens" } } } do
        body = chat.request(asked(), { settings = settings }, fields)
        equal({ body.max_tokens, body.max_completion_tokens }, { nil, 7 })
    end
    body = chat.request(asked(), { settings = settings }, { base_url = "https://api.openai.com/v1",
        quirks = { max_tokens = "max_tokens", effort = false } })
    equal({ body.max_tokens, body.max_completion_tokens, body.reasoning_effort }, { 7 })
    equal(chat.request(asked(), { settings = { stop = { "a", "b" } } }).stop, json.array { "a", "b" })
    ok(provider.ignores.top_k and not provider.ignores.seed)
end)

case("the system prompt has the role that the server knows", function()
    local view = { system = "Be brief." }
    equal(chat.request(asked(), view).messages[1], { role = "system", content = "Be brief." })
    equal(chat.request(asked(), view, OPENAI).messages[1].role, "system")
    equal(chat.request(asked(), view, { quirks = { role = "developer" } }).messages[1].role, "developer")
    equal(#chat.request(asked(), { system = "" }).messages, 1)
    equal(#chat.request(wire.conversation(), view).messages, 1)
end)

case("without tools nothing about tools is sent; with tools their parameters always are", function()
    local body = chat.request(asked(), { tools = {}, tool_choice = "required", parallel = true })
    equal({ body.tools, body.tool_choice, body.parallel_tool_calls }, {})
    local tools = { { name = "f", schema = { type = "object", properties = { a = { type = "string" } } } },
        { name = "g" }, { name = "h", strict = false, schema = { type = "object", properties = {},
            additionalProperties = false } } }
    body = chat.request(asked(), { tools = tools })
    equal({ body.tool_choice, body.parallel_tool_calls }, { "auto", true })
    equal(body.tools[1]["function"].strict, false)
    equal(body.tools[2]["function"], { name = "g", description = "", strict = true, parameters = {
        type = "object", properties = {}, required = json.array {}, additionalProperties = false } })
    equal(body.tools[3]["function"].strict, false)
    body = chat.request(asked(), { tools = tools, tool_choice = { name = "g" }, parallel = false })
    equal(body.tool_choice, { type = "function", ["function"] = { name = "g" } })
    equal(body.parallel_tool_calls, false)
    equal(chat.request(asked(), { tools = tools, tool_choice = "none" }).tool_choice, "none")
    equal(chat.request(asked(), { tools = tools }, { quirks = { parallel = false } }).parallel_tool_calls, nil)
end)

case("a stream is asked for with its usage, unless the server refuses to", function()
    local body, request = chat.request(asked(), {}, nil, true)
    equal({ body.stream, body.stream_options }, { true, { include_usage = true } })
    equal(request.headers.accept, "text/event-stream")
    body = chat.request(asked(), {}, { quirks = { stream_usage = false } }, true)
    equal({ body.stream, body.stream_options }, { true })
    body = chat.request(asked(), {})
    equal({ body.stream, body.stream_options }, {})
end)

case("structured answers: natively, as any object, or in words", function()
    local view = { system = "s", output = { name = "the answer!", schema = { type = "object", properties = {
        a = { type = "string" } }, required = { "a" }, additionalProperties = false } } }
    local body = chat.request(asked(), view)
    equal(body.response_format.type, "json_schema")
    equal(body.response_format.json_schema.name, "the_answer_")
    equal(body.response_format.json_schema.strict, true)
    equal(body.response_format.json_schema.schema.required, json.array { "a" })
    equal(body.messages[1].content, "s")
    body = chat.request(asked(), view, { quirks = { output = "json_object" } })
    equal(body.response_format, { type = "json_object" })
    has(body.messages[1].content, '"additionalProperties":false')
    body = chat.request(asked(), view, { quirks = { output = false } })
    equal(body.response_format, nil)
    has(body.messages[1].content, "s\n\n")
    has(body.messages[1].content, '"additionalProperties":false')
    view.output.schema.additionalProperties = nil
    equal(chat.request(asked(), { output = view.output }).response_format.json_schema.strict, false)
end)

case("the user's own fields: of the protocol, then of the provider's name; never over what is lash's", function()
    local settings = { temperature = 1, ["openai-chat"] = { top_k = 5, temperature = 0, stream_options = { x = 1 },
        tools = { { type = "x" } } }, ollama = { top_k = 6, tools = { { type = "y" } } }, gemini = { z = 1 } }
    local body = chat.request(asked(), { settings = settings, tools = { { name = "f" } } }, { provider_name = "ollama" }, true)
    equal({ body.top_k, body.temperature, body.z }, { 6, 0 })
    equal(body.stream_options, { include_usage = true, x = 1 })
    equal({ body.tools[2], body.tools[3], #body.tools }, { { type = "x" }, { type = "y" }, 3 })
    equal(chat.request(asked(), { settings = settings }).top_k, 5)
    equal(chat.request(asked(), { settings = settings }).tools, json.array { { type = "x" } })
    for _, bad in ipairs { { messages = {} }, { stream = true }, { model = "m" }, { f = print }, { tools = { print } } } do
        local request, err = provider.request(asked(), { settings = { ["openai-chat"] = bad } }, chat.target())
        equal(request, nil)
        equal({ err.code, err.exit }, { "bad_request", 64 })
    end
end)

case("addresses, keys and headers", function()
    local _, request = chat.request(asked(), {}, AZURE)
    equal(request.url, "https://me.openai.azure.com/openai/v1/chat/completions?api-version=preview")
    equal({ request.headers["api-key"], request.headers.authorization }, { "test-key" })
    _, request = chat.request(asked(), {}, { base_url = "http://h/x/", key = false, headers = { ["X-Title"] = "lash" },
        organization = "o", project = "p" })
    equal(request.url, "http://h/x/chat/completions")
    equal(request.headers.authorization, "Bearer none")
    equal({ request.headers["x-title"], request.headers["openai-organization"], request.headers["openai-project"] },
        { "lash", "o", "p" })
    _, request = chat.request(asked(), {}, { quirks = { api_key_header = "X-Key" } })
    equal({ request.headers["x-key"], request.headers.authorization }, { "test-key" })
    local shown = assert(model.dry_run(chat.target { quirks = { api_key_header = "X-Key" } }, asked(), {}))
    equal(shown.headers["x-key"], "****")
end)

case("images and files go as parts, text alone as a string", function()
    local function user(parts)
        return wire.conversation { { type = "user", text = "ab", parts = parts } }
    end
    equal(chat.request(user { { type = "text", text = "a" }, { type = "text", text = "b" } }).messages[1].content, "ab")
    local body = chat.request(user { { type = "text", text = "a" }, { type = "image", mime = "image/png", data = "QUJD" },
        { type = "image", url = "https://h/i.png" },
        { type = "file", name = "a.pdf", mime = "application/pdf", data = "REVG" } })
    equal(body.messages[1].content, json.array { { type = "text", text = "a" },
        { type = "image_url", image_url = { url = "data:image/png;base64,QUJD" } },
        { type = "image_url", image_url = { url = "https://h/i.png" } },
        { type = "file", file = { filename = "a.pdf", file_data = "data:application/pdf;base64,REVG" } } })
    for _, part in ipairs { { type = "audio" }, { type = "image" }, { type = "file", name = "x" }, { type = 7 } } do
        local request, err = provider.request(user { { type = "text", text = "a" }, part }, {}, chat.target())
        equal(request, nil)
        equal({ err.code, err.exit }, { "bad_request", 64 })
        has(err.message, "part 2")
        has(err.message, "openai-chat")
    end
end)

case("content beside calls is null, or a text where the server insists", function()
    local conv = asked()
    local answer = chat.hear(conv, chat.message { content = "", tool_calls = json.array { chat.call("a", "f", "{}") } })
    conv:append(wire.outcomes(answer, { "1" }))
    equal(chat.request(conv).messages[2].content, json.null)
    equal(chat.request(conv, {}, { quirks = { content_null = "" } }).messages[2].content, "")
    equal(chat.request(conv, {}, { quirks = { content_null = false } }).messages[2].content, "")
end)

case("D9 P4 where ids have nine letters and digits all have, own ones stay, and all differ", function()
    local mistral = { origin = "https://mistral/v1", quirks = { ids = 9 } }
    local conv = asked { type = "answer", provider = "gemini", items = { { type = "call", id = "g", name = "f", args = "{}" },
        { type = "call", id = "h", name = "f", args = "{}" } } }
    conv:append(wire.outcomes(conv.entries[2], { "1", "2" }))
    local answer = chat.hear(conv, chat.message { tool_calls = json.array { chat.call("D681PevKs", "f", "{}"),
        chat.call("D681PevKs", "f", "{}"), chat.call("too-long-for-this", "f", "{}") } }, {}, mistral)
    conv:append(wire.outcomes(answer, { "3", "4", "5" }))
    local function ids()
        local list, seen = {}, {}
        local body = chat.request(conv, {}, mistral)
        for at, message in ipairs(body.messages) do
            for i, call in ipairs(message.tool_calls or {}) do
                ok(call.id:find "^%w%w%w%w%w%w%w%w%w$" and not seen[call.id], call.id)
                seen[call.id] = true
                equal(body.messages[at + i].tool_call_id, call.id)
                list[#list + 1] = call.id
            end
        end
        return list
    end
    local first = ids()
    equal(#first, 5)
    equal(first[3], "D681PevKs")
    conv.scratch = {}
    equal(ids(), first)
end)

case("P3 Google's layer gets a signature with the calls of others, too", function()
    local google = { base_url = "https://generativelanguage.googleapis.com/v1beta/openai", origin = "g" }
    local conv = asked { type = "answer", provider = "openai", items = { { type = "call", id = "g", name = "f", args = "{}" },
        { type = "call", id = "h", name = "f", args = "{}" } } }
    conv:append(wire.outcomes(conv.entries[2], { "1", "2" }))
    local sent = chat.request(conv, {}, google).messages[2].tool_calls
    equal(sent[1].extra_content, { google = { thought_signature = "skip_thought_signature_validator" } })
    equal(sent[2].extra_content, nil)
    equal(chat.request(conv).messages[2].tool_calls[1].extra_content, nil)
    -- signatures of its own that it refuses are left out
    conv = asked()
    local call = chat.call("a", "f", "{}")
    call.extra_content = { google = { thought_signature = "c2ln" } }
    local answer = chat.hear(conv, chat.message { tool_calls = json.array { call } }, {}, google)
    conv:append(wire.outcomes(answer, { "1" }))
    local _, err = chat.read('[{"error":{"code":400,"message":"Thought signature is not valid","status":"INVALID_ARGUMENT"}}]',
        {}, google, conv, { status = 400 })
    equal(err.strip, true)
    ok(provider.forget(conv, err, chat.target(google)))
    has(json.encode(chat.request(conv, {}, google)), "skip_thought_signature_validator")
    ok(not provider.forget(conv, err, chat.target(google)))
end)

-- ---- fields that a server refuses ----

-- Asks a model that gives these answers; -> answer, err, bodies that were sent, events
local function play(answers, view, fields)
    local sent, events, real, sleep = {}, {}, package.loaded["lash.http.exchange"], timer.sleep
    package.loaded["lash.http.exchange"] = { post = function(_, _, body)
        sent[#sent + 1] = assert(json.decode(body))
        local answer = assert(table.remove(answers, 1), "one request too many")
        return { status = answer[1], body = answer[2], headers = {} }
    end }
    timer.sleep = function(seconds)
        events[#events + 1] = { type = "sleep", seconds = seconds }
    end
    local answer, err = model.ask(chat.target(fields), asked(), view or {}, wire.listener(function(event)
        events[#events + 1] = event
    end, nil, false))
    package.loaded["lash.http.exchange"], timer.sleep = real, sleep
    return answer, err, sent, events
end

local OK = wire.encode(chat.message({ content = "hi" }, "stop"))

local function bad(text)
    return { 400, wire.encode { error = { message = text, type = "invalid_request_error" } } }
end

case("a field that the server refuses and lash can do without is left out, once, and that is said", function()
    local view = { tools = { { name = "f" } }, settings = { max_tokens = 5 } }
    local answer, _, sent, events = play({ bad "unknown field: parallel_tool_calls",
        bad "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", { 200, OK } }, view)
    equal(answer.items[1].text, "hi")
    equal({ sent[1].parallel_tool_calls, sent[1].max_tokens }, { true, 5 })
    equal({ sent[2].parallel_tool_calls, sent[2].max_tokens }, { nil, 5 })
    equal({ sent[3].parallel_tool_calls, sent[3].max_tokens, sent[3].max_completion_tokens }, { nil, nil, 5 })
    equal({ #events, events[1].type }, { 2, "warning" })
    has(events[1].text, "parallel_tool_calls")
    -- a limit that is too high is not another field's matter
    answer, _, sent = play({ bad "max_tokens is too large: 5" }, view)
    equal({ answer, #sent }, { nil, 1 })
    -- what the user asked for is not dropped
    view.parallel = false
    local _, err
    answer, err, sent = play({ bad "unknown field: parallel_tool_calls" }, view)
    equal({ answer, #sent, err.exit }, { nil, 1, 69 })
    answer, err, sent = play({ bad "no parallel_tool_calls", bad "no parallel_tool_calls" }, { tools = { { name = "f" } } })
    equal({ answer, #sent, err.exit }, { nil, 2, 69 })
end)

case("stream_options that are refused are left out in this conversation, on this server", function()
    local conv, target = asked(), chat.target { origin = "a" }
    local _, err = provider.read({ status = 422, headers = {}, body = '{"detail":[{"loc":["body","stream_options"],'
        .. '"msg":"Extra inputs are not permitted","type":"extra_forbidden"}]}' }, conv, {}, target)
    equal(err.strip, "stream_options")
    ok(provider.forget(conv, err, target))
    ok(not provider.forget(conv, err, target))
    equal(chat.request(conv, {}, { origin = "a" }, true).stream_options, nil)
    equal(chat.request(conv, {}, { origin = "b" }, true).stream_options, { include_usage = true })
end)

case("P5 a server that loads its model is asked with patience", function()
    local loading = { 503, '{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}' }
    local answers = {}
    for i = 1, 40 do
        answers[i] = loading
    end
    answers[41] = { 200, OK }
    local answer, _, sent, events = play(answers)
    equal({ answer.items[1].text, #sent }, { "hi", 41 })
    for _, event in ipairs(events) do
        ok(event.type ~= "sleep" or event.seconds >= 2 and event.seconds < 2.2, "two seconds each time")
    end
    for i = 1, 61 do
        answers[i] = loading
    end
    local none, err
    none, err, sent = play(answers)
    equal({ none, #sent, err.exit }, { nil, 61, 75 })
end)

-- ---- models ----

case("lists of models of several servers", function()
    local request = provider.models_request(chat.target(AZURE))
    equal(request.url, "https://me.openai.azure.com/openai/v1/models?api-version=preview")
    equal(request.headers["api-key"], "test-key")
    local function read(text)
        return provider.read_models(assert(json.decode(text)), chat.target())
    end
    equal(read [[{"object":"list","data":[{"id":"gpt-5"},{"id":"o/r:free","name":"OR","context_length":8192,
        "top_provider":{"max_completion_tokens":4096}},{"id":"v","max_model_len":32768},{"id":"l","meta":{"n_ctx_train":131072}},
        {"id":"g","context_window":131072,"max_completion_tokens":8000,"name":"g"}, {"id":7}, 1, {"id":""}]}]],
        { { id = "gpt-5" }, { id = "o/r:free", name = "OR", context = 8192, output = 4096 }, { id = "v", context = 32768 },
            { id = "l", context = 131072 }, { id = "g", context = 131072, output = 8000 } })
    equal(read '[{"id":"bare"}]', { { id = "bare" } })
    equal(read '{"data":[]}', {})
    for _, text in ipairs { "{}", "1", '{"data":{}}', "null", '"x"' } do
        local list, err = read(text)
        equal(list, nil)
        equal({ err.code, err.exit }, { "nonsense", 76 })
    end
end)

return t.main(...)
