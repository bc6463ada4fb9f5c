-- OpenAI's Responses protocol: requests beside those that the official client sent, answers, errors.
local json = require "lash.json"
local openai = require "lash.provider.openai"
local t = require "t"
local wire = require "support.wire"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok
local DIR = "openai-responses/openai-sdk.json/"

local function view()
    return { agent = "a", system = wire.SYSTEM, tools = wire.tools(), parallel = true,
        settings = { max_tokens = 1024, effort = "medium", openai = { reasoning = { summary = "auto" } } } }
end

local function response(output, fields)
    local body = { id = "resp_1", status = "completed", output = json.array(output) }
    for name, value in pairs(fields or {}) do
        body[name] = value
    end
    return wire.encode(body)
end

local function call(id, name, args, more)
    local item = { type = "function_call", id = "fc_" .. tostring(id), call_id = id, name = name or "f",
        arguments = args or "{}", status = "completed" }
    for field, value in pairs(more or {}) do
        item[field] = value
    end
    return item
end

case("the requests of both turns are those of the official client", function()
    local conv = wire.conversation { { type = "user", text = wire.QUESTION } }
    local body, request = wire.request("openai", conv, view(), { model = "gpt-golden" })
    wire.covers(body, wire.captured(DIR .. "01.request.json"), "body", {})
    equal(request.url, "http://localhost:1/v1/responses")
    equal(request.headers.authorization, "Bearer test-key")
    equal(request.headers["content-type"], "application/json")

    local answer = wire.hear("openai", conv, wire.read(DIR .. "01.response.json"), view())
    conv:append(wire.outcomes(answer, wire.RESULTS))
    body = wire.request("openai", conv, view(), { model = "gpt-golden" })
    wire.covers(body, wire.captured(DIR .. "02.request.json"), "body", {})

    local last = wire.hear("openai", conv, wire.read(DIR .. "02.response.json"), view())
    equal(last.stop, "end")
    equal(last.items, { { type = "text", phase = "final_answer",
        text = "Oslo is at -3 °C, São Paulo at 24 °C; notes.txt does not exist." } })
    equal(last.usage, { input = 260, output = 24, cached = 64, reasoning = 0, total = 284 })
end)

case("an answer becomes neutral items in order", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local answer = wire.hear("openai", conv, wire.read(DIR .. "01.response.json"), view())
    equal(answer.stop, "calls")
    equal(answer.provider, "openai")
    equal(answer.items, {
        { type = "reasoning", text = "" },
        { type = "text", text = "Checking all three.", phase = "commentary" },
        { type = "call", id = "call_000a", name = "get_weather", args = '{"city":"Oslo","unit":"celsius"}' },
        { type = "call", id = "call_000b", name = "get_weather", args = '{"city":"São Paulo","unit":"celsius"}' },
        { type = "call", id = "call_000c", name = "read_file", args = '{"path":"notes.txt"}' },
    })
    equal(answer.usage, { input = 120, output = 96, cached = 0, reasoning = 32, total = 216 })
end)

case("P3 J4 items go back as the bytes that came", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local raws = {
        '{ "type":"reasoning", "id":"rs_1", "summary":[], "encrypted_content":"g\\u00c4/+==", "content":[] }',
        '{"type":"future_item","list":[[],{},[{}]],"n":1.0,"big":12345678901234567890123}',
        '{"type":"message","role":"assistant","id":"msg_1","content":[{"type":"output_text","text":"a\\/b","annotations":[],"logprobs":[]}]}',
        '{"arguments":"{\\"n\\":9223372036854775807}","call_id":"c1","id":"fc_1","name":"f","type":"function_call","status":"completed"}',
    }
    local text = '{"output":[' .. table.concat(raws, " ,\n") .. '],"status":"completed"}'
    local answer = wire.hear("openai", conv, text)
    equal(answer.items[2].type, "opaque")
    equal(answer.items[4].args, '{"n":9223372036854775807}')
    conv:append(wire.outcomes(answer, { "ok" }))
    local _, request = wire.request("openai", conv)
    has(request.body, "," .. table.concat(raws, ",") .. ",")
end)

case("J4 the same history gives the same bytes, with or without what was kept", function()
    local function history()
        local conv = wire.conversation { { type = "user", text = "x" } }
        local answer = wire.hear("openai", conv, response { call("a"), call("a"), call(nil) })
        conv:append(wire.outcomes(answer, { "1", "2", "3" }))
        conv:append { type = "user", text = "y" }
        return conv
    end
    local conv = history()
    local _, first = wire.request("openai", conv, view())
    local _, second = wire.request("openai", conv, view())
    equal(second.body, first.body)
    conv.scratch = {}
    local _, third = wire.request("openai", conv, view())
    equal(third.body, first.body)
    local _, fourth = wire.request("openai", history(), view())
    equal(fourth.body, first.body)
end)

case("D9 duplicate, empty and missing ids are made unique, in the call and its output", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    for round = 1, 2 do
        local answer = wire.hear("openai", conv, response { call("a", "f", '{"i":1}'), call("a", "f", '{"i":2}'),
            call(""), call(nil), call("a_2") })
        conv:append(wire.outcomes(answer, { "1", "2", "3", "4", "5" }))
        local ids = {}
        for i, item in ipairs(answer.items) do
            ids[i] = item.id
        end
        equal(ids, round == 1 and { "a", "a_2", "call_2_3", "call_2_4", "a_2_2" }
            or { "a_3", "a_4", "call_4_3", "call_4_4", "a_2_3" })
    end
    local body = wire.request("openai", conv)
    local calls, outputs = {}, {}
    for _, item in ipairs(body.input) do
        if item.type == "function_call" then
            calls[#calls + 1] = item.call_id
        elseif item.type == "function_call_output" then
            outputs[#outputs + 1] = item.call_id
        end
    end
    equal(outputs, calls)
    equal(#calls, 10)
    equal(body.input[3].arguments, '{"i":2}')
end)

case("D9 an id that is too long is cut", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local answer = wire.hear("openai", conv, response { call(("x"):rep(100)), call(("x"):rep(100)) })
    equal(#answer.items[1].id, 64)
    equal(#answer.items[2].id, 64)
    ok(answer.items[1].id ~= answer.items[2].id)
end)

case("J1 integers of 64 bits pass in arguments and outputs", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local answer = wire.hear("openai", conv, response { call("a", "f", '{"n":[9007199254740993,-9223372036854775808]}') })
    equal(json.decode(answer.items[1].args).n[1], 9007199254740993)
    conv:append(wire.outcomes(answer, { '{"n":9007199254740993}' }))
    local body = wire.request("openai", conv)
    equal(body.input[3].output, '{"n":9007199254740993}')
    equal(body.input[2].arguments, '{"n":[9007199254740993,-9223372036854775808]}')
end)

case("D1 a history with a call that has no outcome is never sent", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    wire.hear("openai", conv, response { call("a") })
    t.raises("without outcomes", wire.request, "openai", conv)
end)

case("D13 a cut answer is marked, and its half call", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local answer = wire.hear("openai", conv, response({ { type = "reasoning", id = "rs", summary = json.array {} },
        call("a", "f", '{"x":1}'), call("b", "f", '{"x":', { status = "incomplete" }) },
        { status = "incomplete", incomplete_details = { reason = "max_output_tokens" } }))
    equal(answer.stop, "length")
    equal(answer.items[2].complete, nil)
    equal(answer.items[3].complete, false)
    conv = wire.conversation { { type = "user", text = "x" } }
    answer = wire.hear("openai", conv, response({ { type = "reasoning", id = "rs", summary = json.array {} } },
        { status = "incomplete", incomplete_details = { reason = "content_filter" } }))
    equal(answer.stop, "filter")
    equal(answer.wire, "") -- reasoning without what it led to is not taken back
end)

case("a refusal is told from text", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local answer = wire.hear("openai", conv, response { { type = "message", role = "assistant",
        content = json.array { { type = "refusal", refusal = "No." } } } })
    equal(answer.stop, "refusal")
    equal(answer.items, { { type = "refusal", text = "No." } })
end)

case("an undeclared parallel wrapper becomes its calls, with one output", function()
    local args = '{"tool_uses":[{"recipient_name":"functions.f","parameters":{"n":9007199254740993}},'
        .. '{"recipient_name":"g","parameters":{}}]}'
    for _, name in ipairs { "parallel", "multi_tool_use.parallel" } do
        local conv = wire.conversation { { type = "user", text = "x" } }
        local answer = wire.hear("openai", conv, response { call("a"), call("w", name, args), call("b") },
            { tools = { { name = "f" } } })
        local names = {}
        for i, item in ipairs(answer.items) do
            names[i] = item.name
        end
        equal(names, { "f", "f", "g", "f" })
        equal(answer.items[2].args, '{"n":9007199254740993}')
        conv:append(wire.outcomes(answer, { "1", "2", { "error", "bad" }, "4" }))
        local body = wire.request("openai", conv)
        equal(#body.input, 7)
        equal(body.input[3].name, (name:gsub("%.", "_")))
        equal(body.input[6], { type = "function_call_output", call_id = "w", output = "1. f: 2\n2. g: Error: bad" })
    end
    -- declared, it is a tool like others; with other arguments it is an unknown tool
    local conv = wire.conversation { { type = "user", text = "x" } }
    local answer = wire.hear("openai", conv, response { call("w", "parallel", args), call("v", "parallel", "{}") },
        { tools = { { name = "parallel" } } })
    equal(#answer.items, 2)
    equal(answer.items[1].name, "parallel")
end)

case("odd answers of compatible servers are understood", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local answer = wire.hear("openai", conv, '{"output":[{"type":"message","content":"plain"},'
        .. '{"type":"reasoning","id":"r","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]},'
        .. '{"type":"function_call","call_id":"a","name":"f","arguments":{"n":1.0}},'
        .. '{"type":"function_call","call_id":"b","name":"f"},'
        .. '{"type":"function_call","call_id":"c","name":"f.g","arguments":"","created_by":"x"}]}')
    equal(answer.items[1].text, "plain")
    equal(answer.items[2].text, "hm")
    equal(answer.items[3].args, '{"n":1.0}')
    equal(answer.items[4].args, "")
    equal(answer.items[5].name, "f.g")
    equal(answer.usage, { input = 0, output = 0, cached = 0, reasoning = 0, total = 0 })
    conv:append(wire.outcomes(answer, { "", "", "" }))
    local body = wire.request("openai", conv)
    equal(body.input[4].arguments, '{"n":1.0}')
    equal(body.input[5].arguments, "{}")
    equal(body.input[6].name, "f_g")
    equal(body.input[6].created_by, nil)
end)

case("outcomes: errors are text, what did not run says so", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local answer = wire.hear("openai", conv, response { call("a"), call("b"), call("c"), call("d") })
    conv:append(wire.outcomes(answer, { { "timeout", "no end within 1 s" }, { "error", "Error: x" },
        { "not_run", "not run: control passed to B" }, { "error", "" } }))
    local body = wire.request("openai", conv)
    local outputs = {}
    for i = 1, 4 do
        outputs[i] = body.input[5 + i].output
    end
    equal(outputs, { "Error: no end within 1 s", "Error: x", "not run: control passed to B",
        "Error: the call ended as 'error'" })
end)

case("nothing is sent that nobody asked for", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local _, request = wire.request("openai", conv, {})
    equal(request.body, '{"include":["reasoning.encrypted_content"],"input":[{"content":"x","role":"user"}],'
        .. '"model":"m","store":false}')
end)

case("tool_choice, parallel and the strict subset", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local tools = { { name = "f", schema = { type = "object", properties = { a = { type = "string" } } } },
        { name = "g" }, { name = "h", strict = false, schema = { type = "object", properties = {},
            additionalProperties = false } },
        { name = "i", schema = { type = "object", additionalProperties = false, required = { "x" },
            properties = { x = { type = "string", pattern = "^a" } } } } }
    local body = wire.request("openai", conv, { tools = tools, tool_choice = { name = "g" }, parallel = false })
    equal(body.tool_choice, { type = "function", name = "g" })
    equal(body.parallel_tool_calls, false)
    equal(body.tools[1].strict, false)
    equal(body.tools[2].strict, true)
    equal(body.tools[3].strict, false)
    equal(body.tools[4].strict, false)
    equal(getmetatable(body.tools[2].parameters.required), json.array_mt)
    equal(wire.request("openai", conv, { tools = tools, tool_choice = "none" }).tool_choice, "none")
    equal(wire.request("openai", conv, { tools = {}, tool_choice = "none" }).tool_choice, nil)
end)

case("the provider's own settings are merged, but not over what is lash's", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local body = wire.request("openai", conv, { tools = { { name = "f" } }, settings = { effort = "low",
        verbosity = "low", openai = { reasoning = { summary = "auto" }, tools = { { type = "web_search" } },
        service_tier = "flex" } }, output = { name = "o", schema = { type = "object", properties = {} } } })
    equal(body.reasoning, { effort = "low", summary = "auto" })
    equal(body.text.verbosity, "low")
    equal(body.text.format.type, "json_schema")
    equal(body.service_tier, "flex")
    equal(body.tools[2], { type = "web_search" })
    local target = wire.target "openai"
    local request, err = openai.request(conv, { settings = { openai = { stream = true } } }, target)
    equal(request, nil)
    equal(err.exit, 64)
end)

case("a base URL may end in a slash and have a query", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local _, request = wire.request("openai", conv, {}, { base_url = "https://h/x/?api-version=1", key = false })
    equal(request.url, "https://h/x/responses?api-version=1")
    equal(request.headers.authorization, nil)
end)

case("errors are told apart", function()
    local function e(status, code, kind, headers)
        return wire.refused("openai", wire.answer(wire.encode { error = { message = "Msg.", type = kind or "t",
            code = code or json.null, param = json.null } }, status, headers))
    end
    local table_of = {
        { 400, nil, "bad_request", 69, false }, { 400, "context_length_exceeded", "context", 69, false },
        { 400, "invalid_prompt", "refused", 69, false }, { 401, "invalid_api_key", "key", 78, false },
        { 401, nil, "key", 78, false }, { 403, nil, "refused", 69, false }, { 402, nil, "quota", 69, false },
        { 404, "model_not_found", "model", 69, false }, { 408, nil, "overloaded", 75, true },
        { 409, nil, "overloaded", 75, true }, { 422, nil, "bad_request", 69, false },
        { 429, "rate_limit_exceeded", "rate", 75, true }, { 429, nil, "rate", 75, true },
        { 429, "insufficient_quota", "quota", 69, false }, { 429, "slow_down", "overloaded", 75, true },
        { 500, nil, "overloaded", 75, true }, { 503, "server_error", "overloaded", 75, true },
        { 529, nil, "overloaded", 75, true },
    }
    for _, row in ipairs(table_of) do
        local err = e(row[1], row[2])
        local what = ("%d %s"):format(row[1], tostring(row[2]))
        equal(err.code, row[3], what)
        equal(err.exit, row[4], what)
        equal(err.retry, row[5], what)
        has(err.message, "openai: ")
        has(err.message, "Msg")
        equal(tostring(err), err.message)
    end
    equal(e(429, "insufficient_quota", nil, { ["x-should-retry"] = "true" }).retry, false)
    equal(e(500, nil, nil, { ["x-should-retry"] = "false" }).retry, false)
    equal(e(429, nil, nil, { ["retry-after"] = "7" }).after, 7)
    equal(e(429, nil, nil, { ["retry-after"] = "7", ["Retry-After-Ms"] = "80" }).after, 0.08)
    has(e(400, nil, nil, { ["x-request-id"] = "req_9" }).message, "req_9")
    has(e(404, "model_not_found").message, "'m'")
end)

case("errors of compatible servers and gateways are told apart", function()
    for _, row in ipairs {
        { 404, '{"error":{"message":"The model `x` does not exist.","type":"NotFoundError","param":"model","code":404}}', "model", "x" },
        { 404, '{"error":{"code":"DeploymentNotFound","message":"no"}}', "model", "DeploymentNotFound" },
        { 404, '{"error":{"message":"Invalid URL (POST /v1/v1/responses)","type":"invalid_request_error","param":null,"code":null}}',
            "bad_request", "check THE_BASE and the model's name" },
        { 404, '{"detail":"Not Found"}', "bad_request", "http://localhost:1/v1 was not found" },
        { 404, "404 page not found", "nonsense", "does not speak the Responses protocol" },
        { 405, '{"detail":"Method Not Allowed"}', "bad_request", "check THE_BASE" },
        { 405, "", "nonsense", "THE_BASE" },
        { 400, '{"error":{"code":400,"message":"too long","type":"exceed_context_size_error"}}', "context", "too long" },
        { 400, '{"error":{"code":"content_filter","message":"no"}}', "refused", "content_filter" },
        { 400, '{"error":{"code":"invalid_function_parameters","message":"bad schema"}}', "bad_request", "bad schema" },
        { 422, '{"detail":[{"loc":["body","input"],"msg":"field required"}]}', "bad_request", "field required" },
        { 429, '{"error":{"code":"429","message":"slow"}}', "rate", "slow" },
        { 429, '{"error":{"code":"monthly_spend_limit_reached","message":"enough"}}', "quota", "enough" },
        { 429, '{"error":{"type":"usage_limit_reached","message":"enough"}}', "quota", "enough" },
        { 401, '{"error":"no key"}', "key", "no key" },
        { 401, "", "key", "THE_KEY" },
        { 403, "<html><head><title>Forbidden by Proxy</title></head><body>" .. ("x"):rep(999), "refused", "(403: Forbidden by Proxy)" },
        { 502, "<html>", "overloaded", "502" },
        { 503, '{"message":"loading"}', "overloaded", "loading" },
        { 500, "[]", "overloaded", "500" },
        { 500, "\0\255\27[31m", "overloaded", "500" },
    } do
        local err = wire.refused("openai", wire.answer(row[2], row[1]))
        equal(err.code, row[3], row[2])
        has(err.message, row[4])
        equal(err.status, row[1])
    end
    equal(wire.refused("openai", wire.answer('{"error":{"code":"invalid_encrypted_content","message":"x"}}', 400)).strip, true)
    for message, status in pairs { ["Item with id 'rs_1' not found."] = 404, ["the URL is not known"] = false,
        ["Item 'rs_1' of type 'reasoning' was provided without its required following item."] = 400,
        ["Item 'fc_1' of type 'function_call' was provided without its required 'reasoning' item: 'rs_1'."] = 400 } do
        local body = wire.encode { error = { message = message, type = "invalid_request_error", code = json.null } }
        equal(wire.refused("openai", wire.answer(body, status or 404)).strip, status and true or nil)
    end
    local suspended = wire.refused("openai", wire.answer('{"error":{"code":"account_suspended","message":"x"}}', 403))
    equal(suspended.code, "refused")
end)

case("errors inside a 200 are errors", function()
    local failed = wire.refused("openai", wire.answer('{"status":"failed","output":[],"error":{"code":"server_error","message":"x"}}'))
    equal(failed.code, "overloaded")
    equal(failed.retry, true)
    equal(wire.refused("openai", wire.answer('{"error":{"code":"rate_limit_exceeded","message":"slow"}}')).code, "rate")
    equal(wire.refused("openai", wire.answer('{"error":{"code":"context_length_exceeded","message":"x"}}')).code, "context")
    equal(wire.refused("openai", wire.answer('{"error":{"code":502,"message":"x"}}')).code, "overloaded")
end)

case("an answer that is none is nonsense", function()
    for _, body in ipairs { "<html>gateway</html>", "", "null", "[]", "{}", '{"output":{}}', '{"output":[1]}', '"x"',
        '{"choices":[{"message":{"content":"chat"}}]}', '{"output":[]', '{"output":[],"status":"queued"}' } do
        local err = wire.refused("openai", wire.answer(body))
        equal(err.code, "nonsense", body)
        equal(err.exit, 76, body)
    end
    local err = wire.refused("openai", wire.answer("<html>Not found</html>", 404))
    equal(err.exit, 76)
    has(err.message, "THE_BASE")
    equal(wire.refused("openai", wire.answer("", 302)).exit, 76)
    equal(wire.refused("openai", wire.answer("<html>", 502)).code, "overloaded")
end)

case("keys never stand in a message", function()
    local err = wire.refused("openai", wire.answer(wire.encode { error = { code = "invalid_api_key",
        message = "Incorrect API key provided: test-key, sk-proj-abc***xyz. \27[31mtest-key" } }, 401))
    ok(not err.message:find "test%-key" and not err.message:find "sk%-" and not err.message:find "\27", err.message)
    err = wire.refused("openai", wire.answer("test-key test-key", 500))
    ok(not err.message:find "test%-key", err.message)
end)

return t.main(...)
