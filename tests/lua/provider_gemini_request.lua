-- Gemini: what a request is made of beside texts and calls; the list of models; what errors say.
local dialect = require "lash.provider.dialect"
local json = require "lash.json"
local t = require "t"
local wire = require "support.wire"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok

local function user(text)
    return wire.conversation { { type = "user", text = text or "x" } }
end

local function refuses(view, fields, conv, ...)
    local target = wire.target("gemini", fields)
    local request, err = target.provider.request(conv or user(), view or {}, target)
    equal(request, nil)
    equal({ err.code, err.exit }, { "bad_request", 64 })
    for _, part in ipairs { ... } do
        has(err.message, part)
    end
end

local function config(settings, model, view)
    view = view or {}
    view.settings = settings
    return wire.request("gemini", user(), view, { model = model or "gemini-3-pro" }).generationConfig
end

case("images and files of the user stand in their order, as data or as an address", function()
    local conv = wire.conversation { { type = "user", text = "look\nand", parts = {
        { type = "text", text = "look" }, { type = "image", mime = "image/png", data = "iVBORw0=" },
        { type = "text", text = "" }, { type = "image", url = "https://h/a.jpg" }, { type = "text", text = "and" },
        { type = "file", name = "a.pdf", mime = "application/pdf", data = "JVBERg==" },
        { type = "file", url = "gs://b/c.pdf", mime = "application/pdf" } } } }
    local body = wire.request("gemini", conv)
    equal(body.contents, { { role = "user", parts = { { text = "look" },
        { inlineData = { mimeType = "image/png", data = "iVBORw0=" } }, { fileData = { fileUri = "https://h/a.jpg" } },
        { text = "and" }, { inlineData = { mimeType = "application/pdf", data = "JVBERg==" } },
        { fileData = { fileUri = "gs://b/c.pdf", mimeType = "application/pdf" } } } } })
    -- only pictures are something to send, too
    conv = wire.conversation { { type = "user", text = "", parts = { { type = "image", mime = "image/png", data = "aa==" } } } }
    equal(#wire.request("gemini", conv).contents[1].parts, 1)
    for _, part in ipairs { { type = "video", data = "x", mime = "video/mp4" }, { type = "image" }, { type = "file", data = "x" } } do
        local bad = wire.conversation { { type = "user", text = "a" }, { type = "user", text = "", parts = { part } } }
        refuses({}, nil, bad, "gemini: ", "'" .. part.type .. "'")
        refuses({}, nil, bad, "gemini: ") -- and it stays refused
    end
end)

case("effort and reasoning in the words of each family", function()
    equal(config({ reasoning = true }), { thinkingConfig = { includeThoughts = true } })
    equal(config({ reasoning = true, effort = "low" }), { thinkingConfig = { includeThoughts = true, thinkingLevel = "LOW" } })
    equal(config({ reasoning = true, effort = "low" }, "gemini-2.5-flash"),
        { thinkingConfig = { includeThoughts = true, thinkingBudget = 1024 } })
    equal(config({ reasoning = true, effort = "none" }, "gemini-2.5-flash"), { thinkingConfig = { thinkingBudget = 0 } })
    equal(config({ reasoning = true, effort = "none" }, "gemini-2.5-pro"),
        { thinkingConfig = { includeThoughts = true, thinkingBudget = 128 } })
    for _, model in ipairs { "gemini-2.0-flash", "gemini-1.5-pro", "gemma-3-27b-it", "models/gemini-2.0-flash-001" } do
        equal(config({ reasoning = true }, model), nil, model)
    end
    equal(config { reasoning = false }, nil)
    -- two measures would be refused: the provider's own field counts
    equal(config({ effort = "high", reasoning = true, gemini = { generationConfig = { thinkingConfig = { thinkingBudget = 7 } } } }),
        { thinkingConfig = { includeThoughts = true, thinkingBudget = 7 } })
end)

case("own fields: of the protocol, then of the name under which it is used; the agent's settings stay untouched", function()
    local settings = { max_tokens = 5, gemini = { labels = { a = "1" }, generationConfig = { topK = 3 } },
        mine = { labels = { b = "2" }, generationConfig = { topK = 4, candidateCount = 1 }, tools = { { googleSearch = {} } } } }
    local before = json.encode(settings)
    local fields = { provider_name = "mine" }
    for _ = 1, 2 do
        local body = wire.request("gemini", user(), { settings = settings }, fields)
        equal(body.labels, { a = "1", b = "2" })
        equal(body.generationConfig, { maxOutputTokens = 5, topK = 4, candidateCount = 1 })
        equal(body.tools, { { googleSearch = {} } })
        equal(json.encode(settings), before)
    end
    equal(wire.request("gemini", user(), { settings = settings }).labels, { a = "1" })
    refuses({ settings = { mine = { contents = {} } } }, fields, nil, "mine: settings.mine.contents")
    refuses({ settings = { gemini = { continuationToken = "x" } } }, nil, nil, "settings.gemini.continuationToken")
    refuses({ settings = { gemini = { tools = { print } } } }, nil, nil, "settings.gemini.tools")
end)

case("a structured answer: a schema where the model takes it, else words in the system prompt", function()
    local schema = { type = "object", properties = { n = { type = "integer" } }, required = { "n" } }
    local function ask(model, tools, output)
        return wire.request("gemini", user(), { system = "S", tools = tools, output = output or { name = "a", schema = schema } },
            { model = model })
    end
    local native = { responseMimeType = "application/json", responseJsonSchema = json.decode(json.encode(schema)) }
    local tools = { { name = "f" } }
    for _, model in ipairs { "gemini-3-pro", "gemini-3.1-flash", "gemini-2.5-flash", "gemini-flash-latest", "gemini-golden" } do
        local body = ask(model)
        equal(body.generationConfig, native, model)
        equal(body.systemInstruction.parts, { { text = "S" } })
    end
    for _, model in ipairs { "gemini-3-pro", "gemini-3.1-flash", "gemini-10-ultra" } do
        equal(ask(model, tools).generationConfig, native, model)
    end
    for model, list in pairs { ["gemini-2.5-flash"] = tools, ["gemini-golden"] = tools, ["gemma-3-27b-it"] = {} } do
        local body = ask(model, list)
        equal(body.generationConfig, nil, model)
        has(body.systemInstruction.parts[1].text, 'S\n\nYour final answer must be one JSON value')
        has(body.systemInstruction.parts[1].text, '"properties":{"n":{"type":"integer"}}')
    end
    -- at its root may stand anything
    local list = { type = "array", items = { const = 1 } }
    equal(ask("gemini-3-pro", nil, { schema = list }).generationConfig.responseJsonSchema,
        { type = "array", items = { enum = { 1 } } })
    equal(ask("gemini-3-pro", nil, { schema = { enum = { "a", "b" } } }).generationConfig.responseJsonSchema,
        { enum = { "a", "b" } })
    equal(dialect.gemini({ type = "object", properties = {} }, true), { type = "object", properties = {} })
end)

case("addresses: the base's version and query are kept, own headers are sent", function()
    local function sent(fields, stream)
        local _, request = wire.request("gemini", user(), {}, fields, stream)
        return request.url, request.headers
    end
    equal(sent({ base_url = "https://h" }, true), "https://h/v1beta/models/m:streamGenerateContent?alt=sse")
    equal(sent({ base_url = "https://h/v1/?a=b&c=d" }, true), "https://h/v1/models/m:streamGenerateContent?alt=sse&a=b&c=d")
    equal(sent({ base_url = "https://h/x?a=b" }), "https://h/x/v1beta/models/m:generateContent?a=b")
    equal(sent({ base_url = "https://h/v1alpha", model = "ü?" }), "https://h/v1alpha/models/%C3%BC%3F:generateContent")
    equal(sent { base_url = "https://h/x#y", api_version = "v1" }, "https://h/x/v1/models/m:generateContent")
    local _, headers = sent { headers = { ["X-Team"] = "t", Accept = "*/*" } }
    equal(headers, { ["x-goog-api-key"] = "test-key", ["x-team"] = "t", accept = "*/*", ["content-type"] = "application/json" })
    local target = wire.target("gemini", { base_url = "http://h" })
    target.key = nil
    equal(target.provider.request(user(), {}, target).headers["x-goog-api-key"], nil)
end)

case("quirks of servers that differ", function()
    local function sent(quirks, settings, view)
        view = view or {}
        view.settings = settings
        return wire.request("gemini", user(), view, { base_url = "http://h", model = "gemini-3-pro", quirks = quirks })
    end
    local settings = { effort = "low", reasoning = true }
    equal(sent({ think = false }, settings).generationConfig, nil)
    equal(sent({ effort = false }, settings).generationConfig, { thinkingConfig = { includeThoughts = true } })
    equal(sent({ think = "budget" }, settings).generationConfig,
        { thinkingConfig = { includeThoughts = true, thinkingBudget = 1024 } })
    equal(wire.request("gemini", user(), { settings = settings }, { model = "gemini-2.5-flash", quirks = { think = "level" } })
        .generationConfig, { thinkingConfig = { includeThoughts = true, thinkingLevel = "LOW" } })
    local view = { output = { schema = { type = "object" } }, tools = { { name = "f" } } }
    equal(sent({ output = false }, nil, view).generationConfig, nil)
    has(sent({ output = false }, nil, view).systemInstruction.parts[1].text, "JSON Schema")
    view = wire.request("gemini", user(), view, { model = "gemini-2.5-flash", quirks = { output = true } })
    equal(view.generationConfig.responseMimeType, "application/json")
    local _, request = sent { version = "v1" }
    equal(request.url, "http://h/v1/models/gemini-3-pro:generateContent")
end)

local SIGNED = '{"functionCall":{"id":"c1","name":"f","args":{}},"thoughtSignature":"S1"}'
local UNSIGNED = '{"functionCall":{"id":"c2","name":"f","args":{ }}}'

local function whole(...)
    return ('{"candidates":[{"content":{"role":"model","parts":[%s]},"finishReason":"STOP"}]}'):format(table.concat({ ... }, ","))
end

-- A conversation with one answer of that target, its calls answered.
local function told(fields, ...)
    local conv = user()
    local target = wire.target("gemini", fields)
    conv:append(assert(target.provider.read(wire.answer(whole(...)), conv, {}, target)))
    conv:append(wire.outcomes(conv.entries[2], { "1", "2" }))
    return conv
end

case("P3 P4 parts go back only to the address that sent them", function()
    local here, there = { origin = "http://a", model = "gemini-3-pro" }, { origin = "http://b", model = "gemini-3-pro" }
    local conv = told(here, SIGNED, UNSIGNED)
    equal(conv.entries[2].origin, "http://a")
    local _, first = wire.request("gemini", conv, {}, here)
    has(first.body, SIGNED .. "," .. UNSIGNED)
    local body, other = wire.request("gemini", conv, {}, there)
    for _, foreign in ipairs { "S1", "c1", "c2" } do
        ok(not other.body:find('"' .. foreign .. '"', 1, true), foreign .. " was sent to another address")
    end
    equal(body.contents[2].parts[1], { functionCall = { name = "f", args = {} },
        thoughtSignature = "skip_thought_signature_validator" })
    local _, nowhere = wire.request("gemini", conv, {}, { model = "gemini-3-pro" })
    equal(nowhere.body, other.body)
    -- each address goes on with what it had
    conv:append { type = "user", text = "y" }
    local _, again = wire.request("gemini", conv, {}, here)
    equal(again.body:sub(1, #first.body - 4), first.body:sub(1, -5))
    conv.scratch = {}
    equal(select(2, wire.request("gemini", conv, {}, here)).body, again.body)
end)

case("P3 calls that another model of the address left unsigned get the dummy, signed ones stay", function()
    local old = { model = "gemini-2.5-flash" }
    local conv = told(old, UNSIGNED, UNSIGNED)
    local body = wire.request("gemini", conv, {}, old)
    equal(body.contents[2].parts[1].thoughtSignature, nil)
    body = wire.request("gemini", conv, {}, { model = "gemini-3-pro" })
    equal(body.contents[2].parts[1], { functionCall = { id = "c2", name = "f", args = {} },
        thoughtSignature = "skip_thought_signature_validator" })
    equal(body.contents[2].parts[2].thoughtSignature, nil)
    equal(body.contents[3].parts[1].functionResponse.id, "c2")
    conv = told(old, SIGNED, UNSIGNED)
    body = wire.request("gemini", conv, {}, { model = "gemini-3-pro" })
    equal(body.contents[2].parts[1].thoughtSignature, "S1")
end)

case("P3 refused signatures are left out, whatever the words of the refusal", function()
    for _, message in ipairs { "Corrupted thought signature.", "Thought signature is not valid.", "Invalid thought_signature",
        "Function call is missing a thought_signature in functionCall parts. position 2." } do
        local err = wire.refused("gemini", wire.answer(wire.encode { error = { code = 400, status = "INVALID_ARGUMENT",
            message = message } }, 400))
        equal(err.strip, true, message)
    end
    equal(wire.refused("gemini", wire.answer('{"error":{"code":400,"message":"Invalid value"}}', 400)).strip, nil)
    local conv = told(nil, SIGNED, UNSIGNED)
    wire.request("gemini", conv)
    local gemini = require "lash.provider.gemini"
    equal({ gemini.forget(conv), gemini.forget(conv) }, { true, false })
    local _, request = wire.request("gemini", conv)
    ok(not request.body:find("S1", 1, true))
    has(request.body, "skip_thought_signature_validator")
end)

case("J4 the same conversation gives the same bytes, streamed or not", function()
    local conv = told(nil, SIGNED, UNSIGNED)
    local view = { system = "s", tools = wire.tools(), tool_choice = "required", output = { schema = { type = "object" } },
        settings = { effort = "low", reasoning = true, gemini = { labels = { z = "1", a = "2", m = "3" } } } }
    local _, one = wire.request("gemini", conv, view)
    local _, two = wire.request("gemini", conv, view, nil, true)
    equal(two.body, one.body)
    conv.scratch = nil
    local _, three = wire.request("gemini", conv, view)
    equal(three.body, one.body)
end)

case("the list of models: pages, names, only those that answer", function()
    local target = wire.target("gemini", { base_url = "https://h", headers = { ["x-a"] = "b" } })
    local gemini = target.provider
    equal(gemini.models_request(target), { url = "https://h/v1beta/models?pageSize=1000",
        headers = { accept = "application/json", ["x-goog-api-key"] = "test-key", ["x-a"] = "b" } })
    equal(gemini.models_request(target, "a/b=").url, "https://h/v1beta/models?pageSize=1000&pageToken=a%2Fb%3D")
    local list, page = gemini.read_models(json.decode [[{"models":[
        {"name":"models/gemini-3-pro","displayName":"Gemini 3 Pro","inputTokenLimit":1048576,"outputTokenLimit":65536,
         "supportedGenerationMethods":["countTokens","generateContent"]},
        {"name":"models/embedding-001","supportedGenerationMethods":["embedContent"]},
        {"name":"tunedModels/mine","displayName":null}, {"name":7}, null, {"name":""}],"nextPageToken":"n"}]], target)
    equal(page, "n")
    equal(list, { { id = "gemini-3-pro", name = "Gemini 3 Pro", context = 1048576, output = 65536 }, { id = "tunedModels/mine" } })
    equal({ gemini.read_models({}, target) }, { {} })
    for _, bad in ipairs { json.null, 1, "x", json.array {}, { models = 1 } } do
        local none, err = gemini.read_models(bad, target)
        equal({ none, err.code }, { nil, "nonsense" })
    end
end)

local function e(status, name, message, details)
    return wire.refused("gemini", wire.answer(wire.encode { error = { code = status, message = message or "Msg",
        status = name, details = details } }, status))
end

case("P5 errors say what is wrong and what to do", function()
    local function reason(word)
        return { { ["@type"] = "type.googleapis.com/google.rpc.ErrorInfo", reason = word } }
    end
    local function quota(id, value)
        return { { violations = { { quotaId = id, quotaValue = value } } } }
    end
    local rows = {
        { 400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", reason "API_KEY_INVALID", "key", false, "THE_KEY" },
        { 400, "INVALID_ARGUMENT", "API key expired. Please renew the API key.", nil, "key", false, "THE_KEY" },
        { 400, "FAILED_PRECONDITION", "User location is not supported for the API use.", nil, "refused", false, "use another provider" },
        { 400, "FAILED_PRECONDITION", "Please enable billing on project", nil, "refused", false, "enable billing" },
        { 400, "FAILED_PRECONDITION", "Precondition check failed.", nil, "refused", false, "change the request" },
        { 400, "INVALID_ARGUMENT", "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", nil,
            "context", false, "begin a new conversation" },
        { 402, nil, nil, nil, "quota", false, "billing page" },
        { 403, "PERMISSION_DENIED", "m", reason "SERVICE_DISABLED", "key", false, "Generative Language API" },
        { 403, "PERMISSION_DENIED", "m", reason "API_KEY_SERVICE_BLOCKED", "key", false, "THE_KEY" },
        { 404, "NOT_FOUND", "models/m is not found for API version v1beta", nil, "model", false, "'m'" },
        { 409, "ABORTED", nil, nil, "overloaded", false, "409 ABORTED" },
        { 499, "CANCELLED", nil, nil, "overloaded", false, "499 CANCELLED" },
        { 429, "RESOURCE_EXHAUSTED", "m", quota("GenerateRequestsPerMinutePerProjectPerModel", "15"), "rate", true, "wait" },
        { 429, "RESOURCE_EXHAUSTED", "m", quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "250"), "quota", false, "tomorrow" },
        { 429, "RESOURCE_EXHAUSTED", "m", quota("GenerateContentInputTokensPerModelPerMinute-FreeTier", "0"), "quota", false, "plan" },
        { 429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.", nil, "quota", false, "billing" },
        { 500, "INTERNAL", nil, nil, "overloaded", true, "try again" }, { 502, "UNKNOWN", nil, nil, "overloaded", true, "502" },
        { 503, "UNAVAILABLE", "The model is overloaded.", nil, "overloaded", true, "try again" },
        { 504, "DEADLINE_EXCEEDED", nil, nil, "overloaded", true, "504 DEADLINE_EXCEEDED" },
        { 501, "UNIMPLEMENTED", nil, nil, "overloaded", true, "501" },
        { 418, nil, nil, nil, "bad_request", false, "--dry-run" },
    }
    for _, row in ipairs(rows) do
        local err = e(row[1], row[2], row[3], row[4])
        local what = ("%d %s %s"):format(row[1], tostring(row[2]), tostring(row[3]))
        equal({ err.code, err.retry }, { row[5], row[6] }, what)
        has(err.message, row[7], what)
        has(err.message, "gemini: ", what)
    end
end)

case("P5 the server's waits, in all forms", function()
    local function after(details, message)
        return e(429, "RESOURCE_EXHAUSTED", message, details).after
    end
    for value, seconds in pairs { ["34s"] = 34.0, ["510ms"] = 0.51, ["34.074824224s"] = 34.074824224, ["2m"] = 120.0, ["0s"] = 0.0 } do
        equal(after { { retryDelay = value } }, seconds, value)
    end
    equal(after { { retryDelay = { seconds = "3", nanos = 500000000 } } }, 3.5)
    equal(after { { retryDelay = 4 } }, 4.0)
    equal(after(nil, "You exceeded your quota. Please retry in 17.5s."), 17.5)
    equal(after(nil, "Please retry in 850.25ms."), 0.85025)
    for _, none in ipairs { "", "s", "-3s", "1e9", "soon", true, { seconds = {} } } do
        equal(after { { retryDelay = none } }, nil, tostring(none))
    end
    equal(wire.refused("gemini", wire.answer("busy", 429, { ["retry-after"] = "7" })).after, 7)
end)

case("errors without the protocol's shape", function()
    local rows = { { 401, "", "key" }, { 403, "<html>blocked</html>", "refused" }, { 404, "not here", "nonsense" }, { 429, "slow", "rate" },
        { 500, "<html>", "overloaded" }, { 413, "large", "bad_request" }, { 302, "", "nonsense" },
        { 500, '{"error":"out of memory"}', "overloaded" }, { 400, '{"error":{}}', "bad_request" }, { 400, '{"error":[]}', "bad_request" },
        { 503, '[{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}]', "overloaded" }, { 400, "[[]]", "bad_request" } }
    for _, row in ipairs(rows) do
        local err = wire.refused("gemini", wire.answer(row[2], row[1]))
        equal(err.code, row[3], ("%d %s"):format(row[1], row[2]))
    end
    has(wire.refused("gemini", wire.answer('{"error":"out of memory"}', 500)).message, "out of memory")
    local err = wire.refused("gemini", wire.answer('{"error":{"code":400,"message":"key test-key AIzaSyabc is bad"}}', 400))
    ok(not err.message:find("test-key", 1, true) and not err.message:find("AIza", 1, true), err.message)
end)

return t.main(...)
