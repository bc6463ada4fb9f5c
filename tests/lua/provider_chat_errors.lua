-- Chat Completions: what servers say when they give no answer, and what becomes of it.
local chat = require "support.chat"
local json = require "lash.json"
local t = require "t"
local wire = require "support.wire"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok

local function refused(status, body, headers)
    body = type(body) == "table" and wire.encode(body) or body
    local answer, err = chat.read(body, {}, { model = "some-model" }, nil, { status = status, headers = headers })
    equal(answer, nil)
    equal(type(err.message), "string")
    equal(tostring(err), err.message)
    ok(err.message:find("^openai%-chat: "), err.message)
    return err
end

local function shaped(message, kind, code)
    return { error = { message = message, type = kind, code = code } }
end

-- status, body, kind, retry, words of the message ...
local function check(rows)
    for _, row in ipairs(rows) do
        local err = refused(row[1], row[2])
        equal({ err.code, err.retry }, { row[3], row[4] }, err.message)
        for i = 5, #row do
            has(err.message, row[i])
        end
    end
end

case("errors of OpenAI are told apart by status and code", function()
    check {
        { 400, shaped("Msg.", "invalid_request_error", json.null), "bad_request", false, "Msg", "400" },
        { 400, shaped("m", "invalid_request_error", "context_length_exceeded"), "context", false },
        { 400, shaped("m", "invalid_request_error", "content_policy_violation"), "refused", false },
        { 401, shaped("Incorrect API key provided: sk-abc***xyz", "invalid_request_error", "invalid_api_key"), "key", false, "[key]" },
        { 401, shaped "m", "key", false, "THE_KEY" }, { 403, shaped "m", "refused", false }, { 402, shaped "m", "quota", false },
        { 404, shaped("The model `x` does not exist", "invalid_request_error", "model_not_found"), "model", false, "some-model" },
        { 404, shaped "Unknown request URL", "bad_request", false, "THE_BASE" },
        { 408, shaped "m", "overloaded", true }, { 409, shaped "m", "overloaded", true },
        { 422, shaped "m", "bad_request", false },
        { 429, shaped("m", "requests", "rate_limit_exceeded"), "rate", true }, { 429, shaped "m", "rate", true },
        { 429, shaped("You exceeded your current quota", "insufficient_quota", "insufficient_quota"), "quota", false },
        { 500, shaped("m", "server_error"), "overloaded", true }, { 503, shaped("m", json.null, "slow_down"), "overloaded", true },
        { 529, shaped "m", "overloaded", true },
    }
    equal(refused(429, shaped "m", { ["x-should-retry"] = "false" }).retry, false)
    equal(refused(429, shaped "m", { ["retry-after"] = "7", ["retry-after-ms"] = "80" }).after, 0.08)
    has(refused(500, shaped "m", { ["x-request-id"] = "req_9" }).message, "req_9")
end)

case("errors of Ollama", function()
    check {
        { 404, shaped('model "some-model" not found, try pulling it first', "not_found_error"), "model", false,
            "ollama pull some-model" },
        { 404, { error = 'model "some-model" not found, try pulling it first' }, "model", false, "ollama pull some-model" },
        { 400, shaped("registry.ollama.ai/library/some-model does not support tools", "invalid_request_error"), "refused", false,
            "cannot call tools", "some-model" },
        { 400, { error = "invalid tool call arguments" }, "bad_request", false, "invalid tool call arguments" },
        { 500, shaped("llama runner process has terminated", "api_error"), "overloaded", true, "terminated" },
        { 500, { error = "context deadline exceeded" }, "overloaded", true },
        { 404, "404 page not found", "nonsense", false, "THE_BASE" },
    }
end)

case("errors of llama.cpp", function()
    local err = refused(400, { error = { code = 400, message = "the request exceeds the available context size",
        type = "exceed_context_size_error", n_prompt_tokens = 9000, n_ctx = 4096 } })
    equal({ err.code, err.retry, err.exit }, { "context", false, 69 })
    err = refused(503, { error = { code = 503, message = "Loading model", type = "unavailable_error" } })
    equal({ err.code, err.retry, err.after, err.attempts }, { "overloaded", true, 2, 60 })
    check {
        { 400, { error = { code = 400, message = "bad", type = "invalid_request_error" } }, "bad_request", false, "bad" },
        { 401, { error = { code = 401, message = "Invalid API Key", type = "authentication_error" } }, "key", false },
        { 500, { error = { code = 500, message = "tools param requires --jinja flag", type = "server_error" } }, "refused", false,
            "llama-server with --jinja" },
        { 500, { error = { code = 500, message = "m", type = "server_error" } }, "overloaded", true },
    }
end)

case("errors of vLLM, new and old", function()
    check {
        { 400, shaped('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set', "BadRequestError", 400),
            "refused", false, "start vLLM with --enable-auto-tool-choice" },
        { 404, shaped("The model `some-model` does not exist.", "NotFoundError", 404), "model", false },
        { 400, { object = "error", message = "This model's maximum context length is 4096 tokens.", type = "BadRequestError",
            code = 400 }, "context", false },
        { 404, { object = "error", message = "The model `x` does not exist.", type = "NotFoundError", code = 404 }, "model", false },
        { 400, { object = "error", message = "m", type = "BadRequestError", code = 400 }, "bad_request", false, "m" },
        { 422, { detail = json.array { { loc = json.array { "body", "messages" }, msg = "Field required" } } }, "bad_request", false,
            "Field required" },
        { 401, { error = "Unauthorized" }, "key", false },
    }
end)

case("errors of OpenRouter name who is behind it", function()
    check {
        { 402, { error = { code = 402, message = "Insufficient credits" } }, "quota", false },
        { 429, { error = { code = 429, message = "Provider returned error", metadata = { provider_name = "Up", raw = "slow down" } } },
            "rate", true, "Provider returned error; Up: slow down" },
        { 400, { error = { code = 400, message = "Provider returned error", metadata = { raw =
            '{"error":{"message":"maximum context length is 1"}}' } } }, "context", false },
        { 400, { error = { code = 400, message = "x is not a valid model ID" } }, "model", false },
        { 404, { error = { code = 404, message = "No endpoints found that support tool use." } }, "refused", false, "can call tools" },
        { 404, { error = { code = 404, message = "No endpoints found for x." } }, "model", false },
        { 502, { error = { code = 502, message = "m" } }, "overloaded", true },
        { 503, { error = { code = 503, message = "m" } }, "overloaded", true },
        { 200, { error = { code = 502, message = "m" } }, "overloaded", true },
        { 200, { error = { code = 401, message = "m" } }, "key", false },
        { 200, { choices = json.array { { error = { code = 502, message = "died" }, message = {}, finish_reason = "error" } } },
            "overloaded", true, "died" },
    }
end)

case("errors of others: LM Studio, Azure, Google's layer, DeepSeek, Mistral", function()
    check {
        { 404, { error = "No models loaded. Please load a model in the developer page" }, "model", false, "load one" },
        { 400, { error = "Trying to keep the first 9 tokens when context the overflows. The context length is 4096" }, "context", false },
        { 404, { error = { code = "DeploymentNotFound", message = "The API deployment does not exist." } }, "model", false },
        { 401, { statusCode = 401, message = "Unauthorized. Access token is missing" }, "key", false },
        { 400, { error = { code = "content_filter", message = "filtered" } }, "refused", false },
        { 400, '[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]',
            "key", false },
        { 400, shaped("Model Not Exist", "invalid_request_error"), "model", false },
        { 402, shaped("Insufficient Balance", "unknown_error"), "quota", false },
        { 400, { object = "error", message = "Invalid model: x", type = "invalid_model", code = "1500" }, "model", false },
    }
    local err = refused(429, '[{"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"34.5s"}]}}]')
    equal({ err.code, err.after }, { "rate", 34.5 })
end)

case("a page, nothing, or anything else in place of an error", function()
    check {
        { 502, "<html><head><title>502 Bad Gateway</title></head>", "overloaded", true, "502 Bad Gateway" },
        { 502, "", "overloaded", true }, { 500, "[]", "overloaded", true }, { 500, "null", "overloaded", true },
        { 401, "nope", "key", false, "nope" }, { 400, "1", "bad_request", false }, { 302, "", "nonsense", false },
        { 404, "<html>", "nonsense", false, "does not speak Chat Completions" }, { 405, "", "nonsense", false },
    }
    for _, body in ipairs { "<html>", "", "null", "[]", "{}", '{"choices":{}}', '{"choices":[]}', '{"choices":[1]}', '"x"', "7",
        '{"choices":[{"index":0}]}', '{"choices":[{"message":null}]}', '{"choices":[{"message":[]}]}', '{"output":[]}',
        '{"choices":[{"index":1,"message":{"content":"x"}}]}', '{"choices":[{"message":{"content":"x"}}' } do
        local err = refused(200, body)
        equal({ err.code, err.exit }, { "nonsense", 76 }, body)
    end
end)

case("keys never stand in a message", function()
    local err = refused(401, shaped "Incorrect API key provided: test-key, sk-proj-abc. \27[31mtest-key")
    ok(not err.message:find "test%-key" and not err.message:find "sk%-" and not err.message:find "\27", err.message)
    ok(not refused(500, "test-key test-key").message:find "test%-key")
    local _, failed = chat.stream { '{"error":"test-key"}' }
    ok(not failed.message:find "test%-key", failed.message)
end)

return t.main(...)
