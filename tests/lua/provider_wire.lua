-- What holds for all protocols alike.
local json = require "lash.json"
local t = require "t"
local wire = require "support.wire"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok

-- file of the provider -> its name, the field of the history, its status for an answer in tests
local ALL = { openai = "openai", openai_chat = "openai-chat", anthropic = "anthropic", gemini = "gemini" }
local HISTORY = { openai = "input", openai_chat = "messages", anthropic = "messages", gemini = "contents" }

-- For each: fn(its file, its name)
local function each(run)
    for _, file in ipairs { "openai", "openai_chat", "anthropic", "gemini" } do
        run(file, ALL[file])
    end
end

local function asked()
    return wire.conversation { { type = "user", text = "hi" } }
end

local function target_of(file, fields)
    local all = { provider_name = ALL[file], label = ALL[file] .. "/m" }
    for name, value in pairs(fields or {}) do
        all[name] = value
    end
    return wire.target(file, all)
end

local function request(file, view, fields, stream)
    local target = target_of(file, fields)
    return target.provider.request(asked(), view or {}, target, stream)
end

-- ---- the user's own fields ----

case("a field of the user's own stays a field, whatever its name is", function()
    each(function(file, name)
        for _, field in ipairs { 'a":1,"b', "a\0b", "a\\", "a\nb", "\xff" } do
            local made = assert(request(file, { system = "s", settings = { [name] = { [field] = 2 } } }))
            local body, err = json.decode(made.body)
            ok(body, name .. ": " .. tostring(err))
            equal(body[field:gsub("\xff", "\u{FFFD}")], 2)
            equal(#body[HISTORY[file]], file == "openai_chat" and 2 or 1)
            equal({ body.a, body.b }, {})
        end
    end)
end)

case("a field of the user's own that cannot be sent is named", function()
    local round = {}
    round.round = round
    each(function(file, name)
        for _, row in ipairs {
            { { tools = 5 }, "tools must be a list" }, { { tools = "x" }, "tools must be a list" },
            { { tools = { a = 1 } }, "tools must be a list" }, { { tools = { print } }, "tools" },
            { { "x" }, "name of a field" }, { { f = print }, "f" }, { { f = round }, "contains itself" },
            { { model = "other" }, "model is lash's own to send" },
        } do
            local made, err = request(file, { settings = { [name] = row[1] } })
            equal(made, nil)
            equal({ err.code, err.exit }, { "bad_request", 64 })
            has(err.message, name .. ": ")
            has(err.message, row[2])
        end
    end)
    local made, err = request("gemini", { settings = { gemini = { generationConfig = 5 } } })
    equal(made, nil)
    has(err.message, "settings.gemini.generationConfig")
    made, err = request("anthropic", { settings = { anthropic = { betas = "a\r\nx-other: 1" } } })
    equal(made, nil)
    has(err.message, "betas")
end)

case("the tables of the user's own fields stay as they are", function()
    each(function(file, name)
        local settings = { [name] = { a = { x = 1 }, tools = { { type = "x" } } },
            there = { a = { y = 2 }, tools = { { type = "y" } } } }
        local before = json.encode(settings)
        for _ = 1, 2 do
            local body = assert(json.decode(assert(request(file, { settings = settings }, { provider_name = "there" })).body))
            equal(body.a, { x = 1, y = 2 })
            equal({ body.tools[1].type, body.tools[2].type, #body.tools }, { "x", "y", 2 })
            equal(json.encode(settings), before)
        end
        equal(json.decode(assert(request(file, { settings = settings })).body).a, { x = 1 })
    end)
end)

case("Chat Completions: options of a stream are sent with a stream only", function()
    local view = { settings = { ["openai-chat"] = { stream_options = { x = 1 } } } }
    equal(json.decode(assert(request("openai_chat", view)).body).stream_options, nil)
    equal(json.decode(assert(request("openai_chat", view, nil, true)).body).stream_options, { include_usage = true, x = 1 })
end)

-- ---- errors ----

-- A body that says so in the words of the protocol.
local function error_body(file, message, code)
    if file == "gemini" then
        return wire.encode { error = { code = 429, message = message, status = code or "RESOURCE_EXHAUSTED" } }
    elseif file == "anthropic" then
        return wire.encode { type = "error", error = { type = "rate_limit_error", message = message,
            details = { error_code = code } } }
    end
    return wire.encode { error = { message = message, type = "requests", code = code } }
end

-- A code, or a text, that says that there is nothing left to spend.
local function spent(file)
    if file == "gemini" then
        return '{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"m","details":[{"violations":'
            .. '[{"quotaId":"GenerateRequestsPerDayPerProject"}]}]}}'
    end
    return error_body(file, "m", file == "anthropic" and "enforced_spend_limit_reached" or "credit_balance_exhausted")
end

local function refused(file, status, body, headers, fields)
    local target = target_of(file, fields)
    local answer, err = target.provider.read(wire.answer(body, status, headers), asked(), {}, target)
    equal(answer, nil)
    return err
end

case("P5 which statuses are worth another attempt, and what the server says of it", function()
    each(function(file)
        for _, status in ipairs { 408, 425, 429, 500, 502, 503, 504, 520, 529 } do
            local err = refused(file, status, "busy")
            equal(err.retry, true, file .. " " .. status)
            equal(err.exit, 75)
            equal(refused(file, status, "busy", { ["x-should-retry"] = "false" }).retry, false)
        end
        for _, status in ipairs { 300, 400, 401, 402, 403, 404, 405, 413, 422, 499 } do
            equal(refused(file, status, "no").retry, false, file .. " " .. status)
        end
        equal(refused(file, 400, "no", { ["x-should-retry"] = "true" }).retry, true)
    end)
end)

case("P5 a quota that is used up is not asked again, whatever a header says", function()
    each(function(file)
        local err = refused(file, 429, spent(file), { ["x-should-retry"] = "true", ["retry-after"] = "1" })
        equal({ err.code, err.retry, err.exit }, { "quota", false, 69 }, file)
    end)
    for _, code in ipairs { "usage_limit_reached", "spend_limit_reached", "credit_balance_exhausted" } do
        for _, file in ipairs { "openai", "openai_chat" } do
            equal(refused(file, 429, error_body(file, "m", code)).code, "quota", file .. " " .. code)
        end
    end
end)

case("keys and other secrets of an address or a header never stand in a message", function()
    local access = require "lash.provider.access"
    local base = "http://me:pass%20word@h/v1?api_key=in-the-query&x=plain"
    local headers = { ["X-Api-Key"] = "in-a-header", Authorization = "Bearer of-the-header", ["X-Title"] = "lash" }
    local fields = { key = "key-of-mine", base_url = base, headers = headers,
        secrets = access.secrets("key-of-mine", base, headers) }
    local words = { "key-of-mine", "in-the-query", "in-a-header", "of-the-header", "me:pass%20word", "pass%20word", "pass word" }
    local text = table.concat(words, " ; ") .. " ; plain lash"
    each(function(file)
        local bodies = { error_body(file, text), text, "<title>" .. text .. "</title>", "" }
        for _, status in ipairs { 200, 400, 401, 404, 429, 500 } do
            for _, body in ipairs(bodies) do
                local err = refused(file, status, body, {}, fields)
                for _, word in ipairs(words) do
                    ok(not err.message:find(word, 1, true), err.message)
                end
            end
        end
        has(refused(file, 500, error_body(file, text), {}, fields).message, "plain lash")
        -- also where the text is cut
        for n = 30, 300, 9 do
            local err = refused(file, 500, ("x"):rep(n) .. "key-of-mine", {}, fields)
            ok(not err.message:find("key-", 1, true) and not err.message:find("xke", 1, true), err.message)
        end
        local shown = assert(require("lash.model").dry_run(target_of(file, fields), asked(), {}))
        for _, word in ipairs(words) do
            ok(not wire.encode(shown):find(word, 1, true), wire.encode(shown))
        end
        has(shown.url, "x=plain")
        equal(shown.headers["x-title"], "lash")
        shown = assert(require("lash.model").dry_run(target_of(file, { key = "a-b.c", base_url = "http://h/a-b.c/v1" }),
            asked(), {}))
        has(shown.url, "http://h/****/v1")
    end)
end)

case("a conversation that is too long is known by its words where there is no code", function()
    for _, file in ipairs { "openai", "openai_chat", "anthropic" } do
        for _, message in ipairs { "This model's maximum context length is 8192 tokens", "the request exceeds the available context size" } do
            local err = refused(file, 400, wire.encode { error = { code = 400, message = message, type = "BadRequestError" } })
            equal({ err.code, err.retry, err.exit }, { "context", false, 69 }, file)
        end
        equal(refused(file, 500, wire.encode { error = { message = "context deadline exceeded" } }).code, "overloaded")
    end
end)

case("an error inside a 200 that says nothing else may pass; a page is known by its title", function()
    each(function(file)
        local err = refused(file, 200, '{"error":"boom"}')
        equal({ err.code, err.retry }, { "overloaded", true }, file)
        has(err.message, "boom")
        err = refused(file, 502, "<html><head><title> Bad gateway\n</title></head><body>...")
        has(err.message, "(502: Bad gateway)")
    end)
end)

-- ---- addresses and keys ----

case("a base URL may end in a slash, have a query, a user, an address in brackets", function()
    local paths = { openai = "/responses", openai_chat = "/chat/completions", anthropic = "/messages",
        gemini = "/models/m:generateContent" }
    each(function(file)
        local function url(base)
            return assert(request(file, {}, { base_url = base })).url
        end
        equal(url "http://h/v1", "http://h/v1" .. paths[file])
        equal(url "http://h/v1/", "http://h/v1" .. paths[file])
        equal(url "http://h/a/v1/?x=1&y", "http://h/a/v1" .. paths[file] .. "?x=1&y")
        equal(url "http://me:p%2Fw@[::1]:8080/v1", "http://me:p%2Fw@[::1]:8080/v1" .. paths[file])
    end)
    equal(request("anthropic", {}, { base_url = "http://h/" }).url, "http://h/v1/messages")
    equal(request("gemini", {}, { base_url = "http://h/?x=1", model = "a b?c#d%/e:\u{FC}" }, true).url,
        "http://h/v1beta/models/a%20b%3Fc%23d%25/e%3A%C3%BC:streamGenerateContent?alt=sse&x=1")
end)

case("a user in the address is not overruled by a key that is none", function()
    local function authorization(fields)
        return request("openai_chat", {}, fields).headers.authorization
    end
    equal(authorization { key = false, base_url = "http://h/v1" }, "Bearer none")
    equal(authorization { key = false, base_url = "http://me:pw@h/v1" }, nil)
    equal(authorization { key = "k", base_url = "http://me:pw@h/v1" }, "Bearer k")
    equal(request("openai", {}, { key = false, base_url = "http://me:pw@h/v1" }).headers.authorization, nil)
end)

case("at Azure keys have a header of their own, in both protocols of OpenAI", function()
    for _, file in ipairs { "openai", "openai_chat" } do
        local headers = request(file, {}, { base_url = "https://me.openai.azure.com/openai/v1?api-version=preview" }).headers
        equal({ headers["api-key"], headers.authorization }, { "test-key" })
        headers = request(file, {}, { base_url = "https://h/azure.com" }).headers
        equal({ headers["api-key"], headers.authorization }, { nil, "Bearer test-key" })
    end
end)

case("Chat Completions: no schema is strict, and no effort is sent, where quirks say so", function()
    local schema = { type = "object", properties = {}, required = json.array {}, additionalProperties = false }
    local view = { tools = { { name = "f", schema = schema }, { name = "g", strict = true } }, settings = { effort = "low" },
        output = { name = "o", schema = schema } }
    local function body(quirks)
        return json.decode(assert(request("openai_chat", view, { quirks = quirks })).body)
    end
    local usual, loose = body(), body { strict = false, reasoning = false }
    equal({ usual.tools[1]["function"].strict, usual.response_format.json_schema.strict, usual.reasoning_effort },
        { true, true, "low" })
    equal({ loose.tools[1]["function"].strict, loose.tools[2]["function"].strict,
        loose.response_format.json_schema.strict, loose.reasoning_effort }, { false, false, false })
end)

case("a message without a text is not sent to those that refuse it", function()
    for _, file in ipairs { "anthropic", "gemini" } do
        local conv = wire.conversation { { type = "user", text = "a" }, { type = "answer", items = { { type = "text",
            text = "b" } } }, { type = "user", text = "" } }
        local target = target_of(file)
        local made, err = target.provider.request(conv, {}, target)
        equal(made, nil)
        has(err.message, "no text to send")
    end
end)

-- ---- answers ----

-- A whole answer, and the same as a stream, with this text; `text` is the inside of a JSON string.
local WHOLE = {
    openai = '{"status":"completed","output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"%s"}]}]}',
    openai_chat = '{"choices":[{"index":0,"message":{"role":"assistant","content":"%s"},"finish_reason":"stop"}]}',
    anthropic = '{"type":"message","role":"assistant","content":[{"type":"text","text":"%s"}],"stop_reason":"end_turn"}',
    gemini = '{"candidates":[{"content":{"role":"model","parts":[{"text":"%s"}]},"finishReason":"STOP"}]}',
}
local STREAM = {
    openai = 'data: {"type":"response.output_text.delta","item_id":"m","output_index":0,"delta":"%s"}\n\n'
        .. 'data: {"type":"response.completed","response":' .. WHOLE.openai .. "}\n\n",
    openai_chat = 'data: {"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
    anthropic = 'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
        .. 'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%s"}}\n\n'
        .. 'data: {"type":"content_block_stop","index":0}\n\n'
        .. 'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\ndata: {"type":"message_stop"}\n\n',
    gemini = "data: " .. WHOLE.gemini .. "\n\n",
}

case("P1 letters that are broken become U+FFFD, and the conversation can go on", function()
    for _, row in ipairs { { "a\xffb", "a\u{FFFD}b" }, { "a\\ud83d", "a\u{FFFD}" }, { "\\ude00 b", "\u{FFFD} b" },
        { "\\ud83d\\ude00", "\u{1F600}" }, { "\\\\ud83d", "\\ud83d" } } do
        each(function(file)
            local conv, target = asked(), target_of(file)
            local answer = assert(target.provider.read(wire.answer((WHOLE[file]:gsub("%%s", function()
                return row[1]
            end))), conv, {}, target))
            equal(answer.items, { { type = "text", text = row[2] } })
            local streamed, err = wire.streamed(file, (STREAM[file]:gsub("%%s", function()
                return row[1]
            end)), conv)
            ok(streamed, tostring(err))
            equal(streamed.items, answer.items)
            equal(streamed.wire, answer.wire)
            conv:append(answer)
            conv:append { type = "user", text = "and?" }
            has(wire.encode(json.decode(target.provider.request(conv, {}, target).body)), json.encode(row[2]))
        end)
    end
end)

case("J3 a text of nothing but broken letters is no answer, and costs little", function()
    local mend = require "lash.provider.mend"
    for _, what in ipairs { "\xff", "\\ud83d", "\\\\\\ude00" } do
        for n, fine in pairs { [9000] = true, [1 << 20] = false } do
            local before = collectgarbage "count"
            local value, err = mend.decode('{"a":"' .. what:rep(n) .. '"}')
            equal(value ~= nil, fine)
            equal(err == nil, fine)
            ok(fine or collectgarbage "count" - before < 40 << 10, "memory")
        end
    end
    equal(mend.decode '"\\\\ud83d"', "\\ud83d")
    equal(mend.decode '"\xff\\\\ud83d\\ud83d\\ude00"', "\u{FFFD}\\ud83d\u{1F600}")
    equal(mend.decode '\u{FEFF}{"a":"x"}', { a = "x" })
    for _, bad in ipairs { '"\xff', '{"\xff":1}', '"\\x"', '"\xff" x', "", "\xff" } do
        local value, err = mend.decode(bad)
        equal(value, nil)
        equal(err.code, "json")
    end
end)

case("D11 arguments that are no object go back as the model wrote them to OpenAI only, as others refuse them", function()
    local view = { tools = { { name = "f" } } }
    for _, args in ipairs { "", "{", "[1]", '{"a":1}' } do
        local item = { type = "function_call", id = "i", call_id = "c", name = "f", arguments = args }
        local function sent(target)
            local conv = asked()
            local answer = assert(target.provider.read(wire.answer(wire.encode { output = json.array { item } }), conv, view,
                target))
            equal(answer.items[1].args, args)
            conv:append(answer)
            conv:append(wire.outcomes(answer, { "x" }))
            return json.decode(assert(target.provider.request(conv, view, target)).body).input[2].arguments
        end
        equal(sent(target_of("openai", { base_url = "https://api.openai.com/v1" })), args)
        equal(sent(target_of("openai")), args == '{"a":1}' and args or "{}")
    end
end)

case("Anthropic: a model that cannot be told to call a tool is asked without, once", function()
    local target = target_of("anthropic", { base_url = "https://api.anthropic.com", model = "claude-x" })
    local conv, provider = asked(), target.provider
    local view = { tools = { { name = "f" } }, tool_choice = "required", settings = { effort = "low" } }
    local function fields()
        return json.decode(assert(provider.request(conv, view, target)).body)
    end
    local function refusal(of)
        local _, err = provider.read(wire.answer('{"type":"error","error":{"type":"invalid_request_error",'
            .. '"message":"tool_choice: type any is not supported for this model"}}', 400), conv, of, target)
        return err
    end
    equal({ fields().tool_choice.type, fields().thinking }, { "any" })
    local err = refusal(view)
    equal({ err.code, err.strip }, { "bad_request", "tool_choice" })
    equal(provider.forget(conv, err, target), true)
    equal({ fields().tool_choice.type, fields().thinking.type }, { "auto", "adaptive" })
    equal(provider.forget(conv, err, target), false)
    equal(refusal { tools = view.tools }.strip, nil)
end)

return t.main(...)
