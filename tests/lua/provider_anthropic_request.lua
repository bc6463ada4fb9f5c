-- Anthropic's Messages: what settings, tools and schemas become, headers, errors, lists of models.
local anthropic = require "lash.provider.anthropic"
local json = require "lash.json"
local schema = require "lash.provider.anthropic.schema"
local t = require "t"
local wire = require "support.wire"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok

local OWN = "https://api.anthropic.com"

local function body(view, target, streamed)
    local value, request = wire.request("anthropic", wire.conversation { { type = "user", text = "x" } }, view, target, streamed)
    return value, request
end

local function settings(fields, target, more)
    local view = { settings = fields }
    for name, value in pairs(more or {}) do
        view[name] = value
    end
    return body(view, target)
end

local function refused(view)
    local request, err = anthropic.request(wire.conversation { { type = "user", text = "x" } }, view, wire.target "anthropic")
    equal(request, nil)
    equal(err.exit, 64)
    return err.message
end

case("nothing is sent that nobody asked for", function()
    local _, request = body({}, { quirks = { cache = false } })
    equal(request.body, '{"max_tokens":8192,"messages":[{"content":"x","role":"user"}],"model":"m"}')
    _, request = body({}, { base_url = OWN }, true)
    equal(request.body, '{"cache_control":{"type":"ephemeral"},"max_tokens":20000,"messages":[{"content":"x","role":"user"}],'
        .. '"model":"m","stream":true}')
end)

case("settings have their fields", function()
    local value = settings { max_tokens = 100.0, temperature = 0.5, top_p = 0.9, top_k = 40.0, stop = "END", seed = 1, verbosity = "low" }
    equal({ value.max_tokens, value.temperature, value.top_p, value.top_k }, { 100, 0.5, 0.9, 40 })
    equal(math.type(value.top_k), "integer")
    equal(value.stop_sequences, { "END" })
    equal(value.seed, nil)
    equal(settings({ stop = { "a", "b" } }).stop_sequences, { "a", "b" })
    ok(anthropic.ignores.seed and anthropic.ignores.verbosity)
end)

case("effort and readable reasoning", function()
    local value = settings { effort = "high" }
    equal(value.output_config, { effort = "high" })
    equal(value.thinking, { type = "adaptive" })
    equal(value.max_tokens, 20000)
    equal(settings({ effort = "minimal" }).output_config, { effort = "low" })
    equal(settings({ reasoning = true }).thinking, { type = "adaptive", display = "summarized" })
    value = settings { effort = "none", reasoning = true }
    equal(value.thinking, { type = "disabled" })
    equal(value.output_config, nil)
    equal(value.max_tokens, 8192)
    -- what the user says about thinking goes before
    value = settings { effort = "low", reasoning = true, anthropic = { thinking = { type = "enabled", budget_tokens = 4000 } } }
    equal(value.thinking, { type = "enabled", budget_tokens = 4000 })
    equal(value.max_tokens, 12192)
    value = settings { reasoning = true, anthropic = { thinking = { type = "adaptive" }, output_config = { effort = "max" } } }
    equal(value.thinking, { type = "adaptive", display = "summarized" })
    equal(value.output_config.effort, "max")
    equal(settings({ reasoning = true, anthropic = { thinking = { type = "disabled" } } }).thinking, { type = "disabled" })
end)

case("models from before 4.6 think with a budget", function()
    for _, model in ipairs { "claude-sonnet-4-5", "claude-haiku-4-5-20251001", "claude-opus-4-1-20250805", "claude-sonnet-4-20250514",
        "claude-3-7-sonnet-latest", "anthropic/claude-sonnet-4.5", "claude-opus-4-0" } do
        local value = settings({ effort = "medium" }, { model = model })
        equal(value.thinking, { type = "enabled", budget_tokens = 8192 }, model)
        equal(value.output_config, nil, model)
        equal(value.max_tokens, 16384)
    end
    for _, model in ipairs { "claude-opus-4-6", "claude-sonnet-5", "claude-opus-5-20261001", "claude-golden", "qwen3" } do
        equal(settings({ effort = "medium" }, { model = model }).thinking, { type = "adaptive" }, model)
    end
    local old = { model = "claude-sonnet-4-5" }
    equal(settings({ effort = "max", max_tokens = 5000 }, old).thinking.budget_tokens, 2500)
    equal(settings({ effort = "max", max_tokens = 1500 }, old).thinking, nil)
    equal(settings({ reasoning = true }, old).thinking.type, "enabled")
end)

case("how thinking and effort are asked for can be said in quirks", function()
    local function asked(quirks, model, fields)
        local value = settings(fields or { effort = "low" }, { quirks = quirks, model = model or "m" })
        return { value.thinking and value.thinking.type or false, value.output_config and value.output_config.effort or false }
    end
    equal(asked { think = false }, { false, "low" })
    equal(asked { think = "budget" }, { "enabled", "low" })
    equal(asked({ think = "adaptive" }, "claude-sonnet-4-5"), { "adaptive", false })
    equal(asked { effort = false }, { "adaptive", false })
    equal(asked({ effort = true }, "claude-opus-4-5"), { "enabled", "low" })
    equal(asked({ think = false }, "m", { anthropic = { thinking = { type = "adaptive" } } }), { "adaptive", false })
    equal(body({ tools = { { name = "f" } }, parallel = false }, { quirks = { parallel = false } }).tool_choice, { type = "auto" })
end)

case("tool_choice, and parallel calls", function()
    local function choice(view)
        view.tools = view.tools or { { name = "f" } }
        return body(view).tool_choice
    end
    equal(choice {}, { type = "auto" })
    equal(choice { tool_choice = "auto", parallel = true }, { type = "auto" })
    equal(choice { parallel = false }, { type = "auto", disable_parallel_tool_use = true })
    equal(choice { tool_choice = "required", parallel = false }, { type = "any", disable_parallel_tool_use = true })
    equal(choice { tool_choice = { name = "f" } }, { type = "tool", name = "f" })
    equal(choice { tool_choice = "none", parallel = false }, { type = "none" })
    equal(choice { tools = {}, tool_choice = "none" }, nil)
    -- who must call cannot think: what lash added stays away, what the user asked for goes before
    local value = body { tools = { { name = "f" } }, tool_choice = "required", settings = { effort = "high" } }
    equal({ value.tool_choice.type, value.thinking, value.output_config.effort }, { "any", nil, "high" })
    for _, kind in ipairs { "enabled", "adaptive" } do
        value = body { tools = { { name = "f" } }, tool_choice = { name = "f" }, parallel = false,
            settings = { anthropic = { thinking = { type = kind } } } }
        equal(value.tool_choice, { type = "auto", disable_parallel_tool_use = true })
    end
end)

case("tools stay declared while the history has calls", function()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local answer = { type = "answer", provider = "demo", stop = "calls", items = {
        { type = "call", id = "a", name = "g.h", args = "{}" }, { type = "call", id = "b", name = "f", args = "{}" },
        { type = "call", id = "c", name = "f", args = "{}" } } }
    conv:append(answer)
    conv:append(wire.outcomes(answer, { "1", "2", "3" }))
    local value = wire.request("anthropic", conv, { tools = {} })
    equal(#value.tools, 2)
    equal({ value.tools[1].name, value.tools[2].name }, { "g_h", "f" })
    equal(value.tools[1].input_schema.type, "object")
    equal(value.tool_choice, { type = "none" })
    value = wire.request("anthropic", conv, { tools = { { name = "other" } }, tool_choice = "none" })
    equal(#value.tools, 1)
    equal(value.tool_choice, { type = "none" })
end)

case("marks for the cache of prompts", function()
    local mark = { type = "ephemeral" }
    local view = { system = "Be brief.", tools = { { name = "f" }, { name = "g" } } }
    local value = body(view, { base_url = OWN })
    equal(value.system, { { type = "text", text = "Be brief.", cache_control = mark } })
    equal(value.cache_control, mark)
    equal(value.tools[2].cache_control, nil)
    value = body(view, { base_url = "https://gateway.example" })
    equal(value.system[1].cache_control, mark)
    equal(value.cache_control, nil)
    equal(body(view, { base_url = "https://gateway.example", quirks = { cache = true } }).cache_control, mark)
    value = body(view, { base_url = OWN, quirks = { cache = false } })
    equal(value.system, "Be brief.")
    equal(value.cache_control, nil)
    -- without a system prompt at the end of the tools, also those of the settings
    value = body({ tools = view.tools, settings = { anthropic = { tools = { { type = "web_search_20250305", name = "s" } } } } },
        { base_url = OWN })
    equal(#value.tools, 3)
    equal(value.tools[3], { type = "web_search_20250305", name = "s", cache_control = mark })
    equal(value.tools[2].cache_control, nil)
    -- how long it lasts is the same for both
    value = body({ system = "s", settings = { anthropic = { cache_control = { type = "ephemeral", ttl = "1h" } } } }, { base_url = OWN })
    equal({ value.cache_control.ttl, value.system[1].cache_control.ttl }, { "1h", "1h" })
    value = body({ system = "s", settings = { anthropic = { cache_control = false } } }, { base_url = OWN })
    equal({ value.cache_control, value.system }, { nil, "s" })
end)

case("the provider's own settings are merged, but not over what is lash's", function()
    local value, request = settings({ max_tokens = 10, anthropic = { metadata = { user_id = "u" }, max_tokens = 20, betas = { "a", "b" } } })
    equal(value.metadata, { user_id = "u" })
    equal(value.max_tokens, 20)
    equal(value.betas, nil)
    equal(request.headers["anthropic-beta"], "a,b")
    for _, name in ipairs { "messages", "stream", "model", "system" } do
        has(refused { settings = { anthropic = { [name] = true } } }, "settings.anthropic." .. name)
    end
    has(refused { settings = { anthropic = { betas = 1 } } }, "betas")
    -- under another name; the tables of the user stay as they are
    local own = { anthropic = { metadata = { a = 1 } }, mine = { metadata = { b = 2 } } }
    value = settings(own, { provider_name = "mine" })
    equal(value.metadata, { a = 1, b = 2 })
    equal(own.anthropic.metadata, { a = 1 })
end)

case("headers: key, version, betas, those of config.lua", function()
    local function headers(fields, target)
        local _, request = settings(fields, target)
        return request.headers
    end
    local h = headers({}, { base_url = OWN })
    equal({ h["x-api-key"], h.authorization, h["anthropic-version"], h.accept },
        { "test-key", nil, "2026-10-21", "application/json" })
    h = headers({}, { base_url = OWN, key_var = "ANTHROPIC_AUTH_TOKEN" })
    equal({ h["x-api-key"], h.authorization }, { nil, "Bearer test-key" })
    equal(headers({}, { quirks = { api_key_header = "Authorization" } }).authorization, "Bearer test-key")
    equal(headers({}, { quirks = { api_key_header = "Api-Key" } })["api-key"], "test-key")
    h = headers({}, { key = false })
    equal({ h["x-api-key"], h.authorization }, { nil, nil })
    for _, fields in ipairs { { temperature = 1 }, { top_p = 1 }, { top_k = 1 }, { anthropic = { top_k = 1 } } } do
        equal(headers(fields, { base_url = OWN })["anthropic-version"], "2023-06-01")
    end
    equal(headers({}, { base_url = "https://gateway.example/v1" })["anthropic-version"], "2023-06-01")
    equal(headers({}, { base_url = "https://api.anthropic.com.example" })["anthropic-version"], "2023-06-01")
    equal(headers({ top_p = 1 }, { quirks = { version = "2030-01-01" } })["anthropic-version"], "2030-01-01")
    h = headers({ anthropic = { betas = "a" } }, { headers = { ["Anthropic-Beta"] = "b", ["X-Team"] = "t" } })
    equal({ h["anthropic-beta"], h["x-team"] }, { "a,b", "t" })
end)

case("a base URL may end in /v1 or a slash, and have a query", function()
    for base, url in pairs { ["https://h"] = "https://h/v1/messages", ["https://h/"] = "https://h/v1/messages",
        ["https://h/v1"] = "https://h/v1/messages", ["https://h/a/v1//?k=1"] = "https://h/a/v1/messages?k=1" } do
        local _, request = body({}, { base_url = base })
        equal(request.url, url)
    end
end)

-- ---- schemas ----

case("arguments: always an object, without alternatives at the root", function()
    equal(schema.tool(nil).type, "object")
    equal(json.encode(schema.tool { properties = {} }), '{"properties":{},"type":"object"}')
    equal(schema.tool({ type = { "object", "null" } }).type, "object")
    local plain = { type = "object", properties = { a = { type = "string", pattern = "^x" } }, required = { "a" },
        additionalProperties = { type = "number" } }
    equal(json.encode(schema.tool(plain)), json.encode(plain))
    local joined = schema.tool { anyOf = {
        { type = "object", properties = { kind = { const = "a" }, n = { type = "integer" } }, required = { "kind", "n" } },
        { type = "object", properties = { kind = { const = "b" }, n = { type = "integer" }, s = { type = "string" } }, required = { "kind" } } } }
    equal(joined.anyOf, nil)
    equal(joined.properties.kind, { anyOf = { { const = "a" }, { const = "b" } } })
    equal(joined.properties.n, { type = "integer" })
    equal(joined.required, { "kind" })
    has(joined.description, "anyOf: [{")
    local all = schema.tool { ["$defs"] = { P = { properties = { x = { type = "number" } }, required = { "x" } } },
        properties = { y = { type = "number" } }, required = { "y" }, allOf = { { ["$ref"] = "#/$defs/P" } } }
    equal({ all.allOf, all.required, all.properties.x }, { nil, { "y", "x" }, { type = "number" } })
    local named = schema.tool { ["$ref"] = "#/definitions/P", definitions = { P = { type = "object", properties = { x = {} } } } }
    equal({ named["$ref"], named.type, named.properties.x }, { nil, "object", {} })
    equal(schema.tool({ oneOf = { true, 7, "x" } }).type, "object")
    local long = { type = "object", properties = { a = { type = "string", minLength = 2 } } }
    local value = body { tools = { { name = "f", strict = true, schema = long }, { name = "g", description = "d", schema = long } } }
    equal(value.tools[1].strict, true)
    equal(value.tools[1].input_schema.additionalProperties, false)
    equal(value.tools[1].input_schema.properties.a, { type = "string", description = "(minLength: 2)" })
    equal(value.tools[2].strict, nil)
    equal(value.tools[2].input_schema.properties.a.minLength, 2)
end)

case("structured answers: the subset, what it cannot say in words", function()
    local out = schema.output { ["$schema"] = "x", type = "object", title = "T", required = { "a" }, properties = {
        a = { type = "integer", minimum = 1, maximum = 9007199254740993, description = "A." },
        b = { type = "array", items = { type = "string", format = "date" }, minItems = 1, maxItems = 3 },
        c = { type = { "string", "null" }, format = "color", pattern = "^#" },
        d = { oneOf = { { type = "null" }, { ["$ref"] = "#/definitions/D" } } },
        e = { enum = { "x", 1, json.null }, default = "x" } },
        definitions = { D = { type = "object", properties = { n = { const = 1.5 } } } } }
    equal(json.encode(out), json.encode { type = "object", title = "T", required = { "a" }, additionalProperties = false, properties = {
        a = { type = "integer", description = "A.\n\n(maximum: 9007199254740993, minimum: 1)" },
        b = { type = "array", items = { type = "string", format = "date" }, minItems = 1, description = "(maxItems: 3)" },
        c = { type = { "string", "null" }, description = '(format: "color", pattern: "^#")' },
        d = { anyOf = { { type = "null" }, { ["$ref"] = "#/$defs/D" } } },
        e = { enum = { "x", 1, json.null }, description = '(default: "x")' } },
        ["$defs"] = { D = { type = "object", additionalProperties = false, properties = { n = { const = 1.5 } } } } })
    local object = function(property)
        return { type = "object", properties = { p = property } }
    end
    for i, no in ipairs { { type = "array", items = { type = "string" } }, { type = "object" }, object {}, object(true),
        object { type = "object", additionalProperties = { type = "number" } }, object { type = "array" },
        object { type = "object", patternProperties = { ["^a"] = { type = "number" } } },
        object { enum = { { 1 } } }, object { type = "any" }, object { ["$ref"] = "#" }, object { ["$ref"] = "#/$defs/None" },
        { type = "object", properties = { p = { ["$ref"] = "#/$defs/P" } },
            ["$defs"] = { P = { type = "object", properties = { next = { ["$ref"] = "#/$defs/P" } } } } } } do
        equal(schema.output(no), nil, i)
    end
    local round = object { type = "object", properties = {} }
    round.properties.p.properties.p = round
    equal(schema.output(round), nil)
end)

case("structured answers are asked for in their field, or in words", function()
    local view = { system = "Be brief.", output = { name = "o", schema = { type = "object", properties = { a = { type = "string" } } } } }
    local value = body(view, { base_url = OWN })
    equal(value.output_config.format, { type = "json_schema", schema = { type = "object", additionalProperties = false,
        properties = { a = { type = "string" } } } })
    equal(value.system[1].text, "Be brief.")
    value = body(view, { base_url = OWN, model = "claude-sonnet-4-20250514" })
    equal(value.output_config, nil)
    has(value.system[1].text, "Be brief.\n\nYour final answer")
    equal(body(view, { base_url = OWN, model = "claude-sonnet-4-5" }).output_config.format.type, "json_schema")
    -- servers of others may not know the field: both, unless it is known
    value = body(view, {})
    equal(value.output_config.format.type, "json_schema")
    has(value.system[1].text, "Your final answer")
    equal(body(view, { quirks = { output = true } }).system[1].text, "Be brief.")
    equal(body(view, { quirks = { output = false } }).output_config, nil)
    view = { output = { schema = { type = "array", items = { type = "string" } } }, settings = { effort = "low" } }
    value = body(view, { base_url = OWN })
    equal(value.output_config, { effort = "low" })
    has(value.system[1].text, '"type":"array"')
end)

-- ---- errors ----

case("P5 errors are told apart", function()
    local function e(status, kind, fields, headers)
        local value = { type = kind, message = "Msg." }
        for name, field in pairs(fields or {}) do
            value[name] = field
        end
        return wire.refused("anthropic", wire.answer(wire.encode { type = "error", error = value, request_id = "req_b" }, status, headers))
    end
    local spent = { details = { error_code = "enforced_spend_limit_reached" } }
    for _, row in ipairs {
        { 400, "invalid_request_error", "bad_request", 69, false }, { 401, "authentication_error", "key", 78, false },
        { 402, "billing_error", "quota", 69, false }, { 403, "permission_error", "refused", 69, false },
        { 404, "not_found_error", "model", 69, false, { message = "model: m" } },
        { 404, "not_found_error", "bad_request", 69, false }, { 408, "timeout_error", "overloaded", 75, true },
        { 409, "conflict_error", "overloaded", 75, true }, { 413, "request_too_large", "context", 69, false },
        { 429, "rate_limit_error", "rate", 75, true }, { 429, "rate_limit_error", "quota", 69, false, spent },
        { 400, "invalid_request_error", "quota", 69, false, { message = "You have reached your specified API usage limits." } },
        { 400, "invalid_request_error", "quota", 69, false, { message = "Your credit balance is too low to access the API." } },
        { 400, "invalid_request_error", "quota", 69, false, spent },
        { 400, "invalid_request_error", "context", 69, false, { message = "prompt is too long: 210000 tokens > 200000 maximum" } },
        { 400, "invalid_request_error", "context", 69, false,
            { message = "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000" } },
        { 500, "api_error", "overloaded", 75, true }, { 503, "api_error", "overloaded", 75, true },
        { 504, "timeout_error", "overloaded", 75, true }, { 529, "overloaded_error", "overloaded", 75, true },
    } do
        local err = e(row[1], row[2], row[6])
        local what = ("%d %s %s"):format(row[1], row[2], err.message)
        equal({ err.code, err.exit, err.retry, err.status }, { row[3], row[4], row[5], row[1] }, what)
        has(err.message, "anthropic: ")
        equal(err.request_id, "req_b")
    end
    equal(e(429, "rate_limit_error", nil, { ["retry-after"] = "7" }).after, 7)
    equal(e(400, "api_error", nil, { ["x-should-retry"] = "true" }).retry, true)
    equal(e(500, "api_error", nil, { ["request-id"] = "req_h" }).request_id, "req_h")
    has(e(400, "invalid_request_error", nil, { ["Request-Id"] = "req_h" }).message, "[request req_h]")
end)

case("P3 a seal that is refused is left out at the next attempt", function()
    for _, message in ipairs { "messages.1.content.0: Invalid `signature` in `thinking` block",
        "messages.1.content.0: `thinking` or `redacted_thinking` blocks in an assistant message cannot be modified.",
        "Expected `thinking` or `redacted_thinking`, but found `tool_use`" } do
        equal(wire.refused("anthropic", wire.answer(wire.encode { type = "error", error = { type = "invalid_request_error",
            message = message } }, 400)).strip, true)
    end
    equal(wire.refused("anthropic", wire.answer('{"error":{"message":"thinking is off"}}', 400)).strip, nil)
end)

case("errors of servers that speak otherwise, and pages", function()
    has(wire.refused("anthropic", wire.answer('{"detail":"no such route"}', 404)).message, "no such route")
    has(wire.refused("anthropic", wire.answer('{"error":"boom"}', 500)).message, "boom")
    equal(wire.refused("anthropic", wire.answer('{"error":"boom"}')).code, "overloaded") -- with status 200
    equal(wire.refused("anthropic", wire.answer('{"type":"error"}')).code, "overloaded")
    local err = wire.refused("anthropic", wire.answer("<html>Not found</html>", 404))
    equal(err.exit, 76)
    has(err.message, "does not speak Anthropic's protocol")
    equal(wire.refused("anthropic", wire.answer("", 302)).exit, 76)
    equal(wire.refused("anthropic", wire.answer("<html>", 502)).code, "overloaded")
    err = wire.refused("anthropic", wire.answer('{"error":{"message":"the key test-key is bad"}}', 401))
    ok(not err.message:find("test-key", 1, true), err.message)
end)

-- ---- models ----

case("lists of models, page by page", function()
    local target = wire.target("anthropic", { base_url = "https://h/v1?k=1" })
    local request = anthropic.models_request(target)
    equal(request.url, "https://h/v1/models?limit=1000&k=1")
    equal(request.headers["x-api-key"], "test-key")
    equal(request.headers["content-type"], nil)
    local list, page = anthropic.read_models(json.decode [[{"data":[
        {"id":"claude-a","type":"model","display_name":"Claude A","max_input_tokens":200000,"max_tokens":64000},
        {"id":"b"},{"name":"none"},7],"has_more":true,"last_id":"b&c"}]], target)
    equal(list, { { id = "claude-a", name = "Claude A", context = 200000, output = 64000 }, { id = "b", name = "b" } })
    equal(anthropic.models_request(target, page).url, "https://h/v1/models?limit=1000&after_id=b%26c&k=1")
    list, page = anthropic.read_models(json.decode '{"object":"list","data":[],"has_more":false,"last_id":null}', target)
    equal({ #list, page }, { 0, nil })
    for _, value in ipairs { json.null, 1, "x", json.array {}, {}, { data = 1 } } do
        equal(anthropic.read_models(value, target), nil)
    end
end)

return t.main(...)
