-- Gemini's generateContent: requests beside those that the official client sent, answers, errors.
local dialect = require "lash.provider.dialect"
local json = require "lash.json"
local t = require "t"
local wire = require "support.wire"

local case, equal, has = t.case, t.equal, t.has
local DIR = "gemini/genai-jsonschema.json/"

local function view()
    return { agent = "a", system = wire.SYSTEM, tools = wire.tools(), parallel = true, settings = { max_tokens = 1024,
        gemini = { generationConfig = { thinkingConfig = { includeThoughts = true, thinkingLevel = "LOW" } } } } }
end

-- An answer with these parts (JSON texts).
local function response(parts, reason, more)
    return ('{"candidates":[{"content":{"role":"model","parts":[%s]},"finishReason":"%s"%s,"index":0}]}'):format(
        table.concat(parts, ","), reason or "STOP", more or "")
end

local function parts_of(conv)
    local body = wire.request("gemini", conv)
    return body.contents
end

case("the requests of both turns are those of the official client", function()
    -- A tool without arguments gets no schema: the safest of what is allowed.
    local less = { ["body.tools.1.functionDeclarations.3.parametersJsonSchema"] = true }
    local conv = wire.conversation { { type = "user", text = wire.QUESTION } }
    local fields = { model = "gemini-golden", base_url = "https://example.com/" }
    local body, request = wire.request("gemini", conv, view(), fields)
    wire.covers(body, wire.captured(DIR .. "01.request.json"), "body", less)
    equal(request.url, "https://example.com/v1beta/models/gemini-golden:generateContent")
    equal(request.headers["x-goog-api-key"], "test-key")

    local answer = wire.hear("gemini", conv, wire.read(DIR .. "01.response.json"), view())
    equal(answer.stop, "calls")
    equal(answer.usage, { input = 120, output = 96, cached = 0, reasoning = 32, total = 216 })
    conv:append(wire.outcomes(answer, wire.RESULTS))
    body = wire.request("gemini", conv, view(), fields)
    wire.covers(body, wire.captured(DIR .. "02.request.json"), "body", less)

    local last = wire.hear("gemini", conv, wire.read(DIR .. "02.response.json"), view())
    equal(last.stop, "end")
    equal(last.items, { { type = "text", text = "Oslo is at -3 °C, São Paulo at 24 °C; notes.txt does not exist." } })
    equal(last.usage, { input = 260, output = 24, cached = 64, reasoning = 0, total = 284 })
    conv:append { type = "user", text = "thanks" }
    body = wire.request("gemini", conv, view(), fields)
    equal(body.contents[4].parts[1].thoughtSignature, "Z29sZGVuLWZpbmFsLXRleHQtc2lnbmF0dXJl")
end)

case("P3 J4 parts go back as the bytes that came, signatures on their parts", function()
    local raws = {
        '{"text":"plan","thought":true}',
        '{"text":"Hi", "thoughtSignature":"S0"}',
        '{ "functionCall":{"name":"f","args":{"n":9007199254740993,"x":1.0,"e":[],"o":{}}},"thoughtSignature":"S1\\/=" }',
        '{"functionCall":{"name":"f","args":{"list":[[],[[]]]}}}',
        '{"executableCode":{"code":"x"}}',
        '{"text":"","thoughtSignature":"S9"}',
    }
    local conv = wire.conversation { { type = "user", text = "x" } }
    local answer = wire.hear("gemini", conv, response(raws))
    equal(answer.items[1], { type = "reasoning", text = "plan" })
    equal(answer.items[2], { type = "text", text = "Hi" })
    equal(answer.items[3].args, '{"n":9007199254740993,"x":1.0,"e":[],"o":{}}')
    conv:append(wire.outcomes(answer, { "1", "2" }))
    local _, request = wire.request("gemini", conv)
    has(request.body, '{"parts":[' .. table.concat(raws, ",") .. '],"role":"model"}')
    local _, again = wire.request("gemini", conv)
    equal(again.body, request.body)
    conv.scratch = {}
    local _, anew = wire.request("gemini", conv)
    equal(anew.body, request.body)
end)

case("P3 the texts of the parts are those of the candidate that counts, whatever comes twice", function()
    local function candidate(name, index)
        return ('{"content":{"parts":[{"functionCall":{"name":"%s" }}]},"finishReason":"STOP","index":%d}'):format(name, index)
    end
    local a, b = candidate("a", 0), candidate("b", 1)
    for _, pair in ipairs {
        { "a", '{"candidates":[' .. a .. "]}" }, { "a", '{"candidates":[' .. a .. "," .. b .. "]}" },
        { "b", '{"candidates":[' .. b .. "," .. a .. "]}" },
        { "b", '{"candidates":[' .. a .. '],"candidates":[' .. b .. "]}" },
        { "a", '{"candidates":[' .. b .. "," .. b .. '],"candidates":[' .. a .. "]}" },
    } do
        local conv = wire.conversation { { type = "user", text = "?" } }
        local answer = wire.hear("gemini", conv, pair[2])
        equal(answer.items[1].name, pair[1], pair[2])
        equal(answer.wire, { '{"functionCall":{"name":"' .. pair[1] .. '" }}' }, pair[2])
    end
    for _, second in ipairs { '"candidates":5', '"candidates":null', '"candidates":{}', '"candidates":[{"content":{"parts":7}}]' } do
        local err = wire.refused("gemini", wire.answer('{"candidates":[' .. a .. "]," .. second .. "}"))
        equal(err.code, "nonsense", second)
    end
end)

case("neighbouring texts are one part, empty ones that carry nothing are none", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    wire.hear("gemini", conv, response { '{"text":"a"}', '{"text":""}', "{}", '{"text":"b"}' })
    equal(conv.entries[2].items, { { type = "text", text = "ab" } })
    conv:append { type = "user", text = "y" }
    equal(parts_of(conv)[2].parts, { { text = "ab" } })
end)

case("D9 calls without id get one inside and none outside", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    for round = 1, 2 do
        local answer = wire.hear("gemini", conv, response { '{"functionCall":{"name":"f","args":{}}}',
            '{"functionCall":{"name":"g","id":""}}' })
        equal(answer.items[1].id, round == 1 and "call_2_1" or "call_4_1")
        equal(answer.items[2].args, "{}")
        conv:append(wire.outcomes(answer, { "1", "2" }))
    end
    local contents = parts_of(conv)
    equal(contents[3].parts, { { functionResponse = { name = "f", response = { output = "1" } } },
        { functionResponse = { name = "g", response = { output = "2" } } } })
end)

case("D9 duplicate ids are made unique, in the call and its response; signatures stay", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    for round = 1, 2 do
        local answer = wire.hear("gemini", conv, response {
            '{"functionCall":{"id":"a","name":"f","args":{"n":9007199254740993}},"thoughtSignature":"S"}',
            '{"functionCall":{"id":"a","name":"f","args":{"n":18446744073709551616}}}' })
        equal(answer.items[1].id, round == 1 and "a" or "a_3")
        equal(answer.items[2].id, round == 1 and "a_2" or "a_4")
        conv:append(wire.outcomes(answer, { "1", "2" }))
    end
    local _, request = wire.request("gemini", conv)
    for _, i in ipairs { 2, 4 } do
        local contents = json.decode(request.body).contents
        equal(contents[i].parts[1].functionCall.id, "a")
        equal(contents[i].parts[1].thoughtSignature, "S")
        equal(contents[i].parts[2].functionCall.id, "a_2")
        equal(contents[i + 1].parts[2].functionResponse.id, "a_2")
    end
    has(request.body, '"n":18446744073709551616')
end)

case("outcomes are one content; objects and lists go as JSON, all else as text", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local call = '{"functionCall":{"name":"f"}}'
    local answer = wire.hear("gemini", conv, response { call, call, call, call, call, call, call })
    conv:append(wire.outcomes(answer, { '{"n":9007199254740993,"l":[]}', "[1,2]", "42", "{not json", "",
        { "timeout", "late" }, { "error", "" } }))
    conv:append { type = "note", text = "last" }
    conv:append { type = "user", text = "one" }
    local body, request = wire.request("gemini", conv)
    equal(#body.contents, 4)
    local got = {}
    for i, part in ipairs(body.contents[3].parts) do
        got[i] = part.functionResponse.response
    end
    equal(got[1].output.n, 9007199254740993)
    equal(got[2].output, { 1, 2 })
    equal({ got[3].output, got[4].output, got[5].output }, { "42", "{not json", "" })
    equal({ got[6].error, got[7].error }, { "late", "the call ended as 'error'" })
    has(request.body, '{"output":{"n":9007199254740993,"l":[]}}')
    equal(body.contents[4], { role = "user", parts = { { text = "last" }, { text = "one" } } })
end)

case("nothing is sent that nobody asked for", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local _, request = wire.request("gemini", conv, {})
    equal(request.body, '{"contents":[{"parts":[{"text":"x"}],"role":"user"}]}')
end)

case("settings, tool_choice, base URL and model names", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local tools = { { name = "f" } }
    local function choice(value)
        return wire.request("gemini", conv, { tools = tools, tool_choice = value }).toolConfig.functionCallingConfig
    end
    equal(choice(nil), { mode = "AUTO" })
    equal(choice "none", { mode = "NONE" })
    equal(choice "required", { mode = "ANY" })
    equal(choice { name = "f" }, { mode = "ANY", allowedFunctionNames = { "f" } })
    local config = wire.request("gemini", conv, { settings = { temperature = 0, top_p = 0.5, top_k = 3, seed = 1,
        stop = "END", effort = "high" } }, { model = "gemini-3-pro" }).generationConfig
    equal(config, { temperature = 0, topP = 0.5, topK = 3, seed = 1, stopSequences = { "END" },
        thinkingConfig = { thinkingLevel = "HIGH" } })
    config = wire.request("gemini", conv, { settings = { effort = "none" } }, { model = "gemini-2.5-flash" }).generationConfig
    equal(config, { thinkingConfig = { thinkingBudget = 0 } })
    local body = wire.request("gemini", conv, { tools = tools, settings = { gemini = { tools = { { googleSearch = {} } },
        safetySettings = { { category = "X" } } } } })
    equal(#body.tools, 2)
    equal(body.safetySettings, { { category = "X" } })
    local _, request = wire.request("gemini", conv, {}, { base_url = "http://h/v1/", model = "tunedModels/a b" })
    equal(request.url, "http://h/v1/tunedModels/a%20b:generateContent")
end)

case("schemas in Gemini's dialect", function()
    local schema = { type = "object", ["$schema"] = "x", required = {}, properties = {
        kind = { const = "a" }, n = { type = "integer", exclusiveMinimum = 0, maximum = 9, multipleOf = 3 },
        r = { ["$ref"] = "#/definitions/x", description = "gone" }, one = { allOf = { { type = "string" } } },
        default = { type = "string", default = "v", pattern = "^a", minLength = 1 },
        list = { type = "array", items = { const = 1 } }, any = true },
        definitions = { x = { ["not"] = {}, type = "number" } }, additionalProperties = false }
    local got = dialect.gemini(schema)
    equal(json.decode(json.encode(got)), json.decode [[{"type":"object","required":[],"additionalProperties":false,
        "$defs":{"x":{"type":"number"}},"properties":{"kind":{"enum":["a"]},
        "n":{"type":"integer","minimum":1,"maximum":9},"r":{"$ref":"#/$defs/x"},"one":{"type":"string"},
        "default":{"type":"string"},"list":{"type":"array","items":{"enum":[1]}},"any":true}}]])
    equal(schema.properties.kind.const, "a") -- the tool's own is not touched
    equal(dialect.gemini { type = "object", properties = {}, additionalProperties = false }, nil)
    t.ok(dialect.gemini { type = "object", additionalProperties = true })
end)

case("ends: length, refusals, blocked prompts", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local cut = wire.hear("gemini", conv, '{"candidates":[{"finishReason":"MAX_TOKENS"}]}')
    equal(cut.stop, "length")
    equal(cut.items, {})
    conv:append { type = "user", text = "y" }
    equal(#parts_of(conv), 1) -- an empty answer leaves nothing behind
    local refused = wire.hear("gemini", conv, '{"candidates":[{"content":{},"finishReason":"SAFETY"}]}')
    equal(refused.stop, "refusal")
    has(refused.items[1].text, "SAFETY")
    local blocked = wire.hear("gemini", conv, '{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},'
        .. '"usageMetadata":{"promptTokenCount":"9"}}')
    equal(blocked.stop, "refusal")
    equal(blocked.items[1].type, "refusal")
    has(blocked.items[1].text, "PROHIBITED_CONTENT")
    equal(blocked.usage.input, 9)
    equal(#parts_of(conv), 1)
    equal(wire.hear("gemini", conv, response({ '{"text":"a"}' }, "OTHER")).stop, "error")
    equal(wire.hear("gemini", conv, response({ '{"functionCall":{"name":"f"}}' }, "MAX_TOKENS")).stop, "length")
end)

local function response_items(body)
    return wire.hear("gemini", wire.conversation { { type = "user", text = "x" } }, body).items
end

case("what another attempt may mend is said to be so", function()
    for reason, code in pairs { MALFORMED_FUNCTION_CALL = "nonsense", UNEXPECTED_TOOL_CALL = "nonsense",
        STOP = "nonsense", OTHER = "overloaded" } do
        local err = wire.refused("gemini", wire.answer(response({}, reason, ',"finishMessage":"print("')))
        equal(err.code, code, reason)
        equal(err.retry, true, reason)
        has(err.message, reason)
    end
    equal(wire.refused("gemini", wire.answer '{"candidates":[]}').retry, true)
    local thought = { '{"text":"hm","thought":true}', '{"text":"","thoughtSignature":"S"}' }
    equal(wire.refused("gemini", wire.answer(response(thought))).retry, true)
    equal(wire.refused("gemini", wire.answer(response(thought, "OTHER"))).code, "overloaded")
    equal(#response_items(response(thought, "MAX_TOKENS")), 1)
end)

case("errors are told apart", function()
    local function e(status, name, message, details)
        return wire.refused("gemini", wire.answer(wire.encode { error = { code = status, message = message or "Msg",
            status = name, details = details } }, status))
    end
    local invalid = { { ["@type"] = "type.googleapis.com/google.rpc.ErrorInfo", reason = "API_KEY_INVALID" } }
    local rows = {
        { 400, "INVALID_ARGUMENT", "bad", nil, "bad_request", 69, false },
        { 400, "INVALID_ARGUMENT", "API key not valid.", invalid, "key", 78, false },
        { 400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum", nil, "context", 69, false },
        { 400, "FAILED_PRECONDITION", nil, nil, "refused", 69, false },
        { 401, "UNAUTHENTICATED", nil, nil, "key", 78, false },
        { 403, "PERMISSION_DENIED", nil, nil, "key", 78, false },
        { 402, nil, nil, nil, "quota", 69, false },
        { 404, "NOT_FOUND", nil, nil, "model", 69, false },
        { 408, nil, nil, nil, "overloaded", 75, true },
        { 429, "RESOURCE_EXHAUSTED", nil, nil, "rate", 75, true },
        { 429, "RESOURCE_EXHAUSTED", nil, { { violations = { { quotaId = "RequestsPerDayPerModel" } } } }, "quota", 69,
            false },
        { 500, "INTERNAL", nil, nil, "overloaded", 75, true }, { 503, "UNAVAILABLE", nil, nil, "overloaded", 75, true },
        { 504, "DEADLINE_EXCEEDED", nil, nil, "overloaded", 75, true },
    }
    for _, row in ipairs(rows) do
        local err = e(row[1], row[2], row[3], row[4])
        local what = ("%d %s %s"):format(row[1], tostring(row[2]), tostring(row[3]))
        equal(err.code, row[5], what)
        equal(err.exit, row[6], what)
        equal(err.retry, row[7], what)
        has(err.message, "gemini: ")
    end
    equal(e(429, "X", "m", { { retryDelay = "34s" } }).after, 34.0)
    equal(e(429, "X", "m", { { retryDelay = "510ms" } }).after, 0.51)
    equal(wire.refused("gemini", wire.answer(
        '[{"error":{"code":429,"message":"Quota exceeded","status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"34s"}]}}]',
        429)).after, 34.0)
    equal(wire.refused("gemini", wire.answer '{"error":{"code":503,"message":"x","status":"UNAVAILABLE"}}').code,
        "overloaded")
end)

case("an answer that is none is nonsense", function()
    for _, body in ipairs { "<html>", "", "null", "[]", "{}", '"x"', '{"output":[]}', '{"candidates":[' } do
        local err = wire.refused("gemini", wire.answer(body))
        equal(err.code, "nonsense", body)
        equal(err.exit, 76, body)
    end
    for _, body in ipairs { '{"candidates":[1]}', '{"candidates":[{"content":1}]}', '{"candidates":{}}',
        '{"candidates":[{"content":{"parts":{}}}]}', '{"candidates":[{"content":{"parts":[1,null]}}]}' } do
        equal(wire.refused("gemini", wire.answer(body)).exit, 76, body)
    end
    has(wire.refused("gemini", wire.answer("<html>", 404)).message, "THE_BASE")
end)

case("an empty conversation is refused in words", function()
    local target = wire.target "gemini"
    local request, err = target.provider.request(wire.conversation { { type = "user", text = "" } }, {}, target)
    equal(request, nil)
    equal(err.exit, 64)
end)

return t.main(...)
