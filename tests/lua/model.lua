-- lash.model: retries, gates, what is said when nothing helps. The network is played by a function.
local engine = require "lash.core.engine"
local json = require "lash.json"
local t = require "t"
local timer = require "lash.core.timer"
local wire = require "support.wire"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok

local vars = {}
local getenv = os.getenv
os.getenv = function(name) -- luacheck: ignore
    if name:find "^LASH_MODEL$" or name:find "^OPENAI_" or name:find "^GEMINI_" or name:find "^GOOGLE_"
        or name == "XDG_CONFIG_HOME" then
        return vars[name]
    end
    return getenv(name)
end

local model = require "lash.model"

local OK = '{"status":"completed","output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"hi"}]}]}'

-- Plays these answers one after the other; each { status, body, headers } or a failure of lash.http.
local function play(answers)
    local sent = {}
    package.loaded["lash.http.exchange"] = {
        post = function(url, headers, body, options)
            sent[#sent + 1] = { url = url, headers = headers, body = body, options = options }
            local answer = table.remove(answers, 1)
            assert(answer, "one request too many")
            if answer.code then
                return nil, answer
            end
            return { status = answer[1], body = answer[2] or "", headers = answer[3] or {} }
        end,
    }
    return sent
end

-- The clock goes on by what nobody really waits.
local hrtime, slept = engine.hrtime, 0
engine.hrtime = function()
    return hrtime() + slept
end

-- Runs ask() without really waiting. opts.meanwhile() is called when the first wait begins.
-- -> answer, err, waits in seconds, events
local function ask(target, view, opts)
    local waits, events = {}, {}
    local sleep = timer.sleep
    timer.sleep = function(seconds)
        waits[#waits + 1] = seconds
        if #waits == 1 and opts and opts.meanwhile then
            opts.meanwhile()
        end
        slept = slept + math.ceil(seconds * 1e9)
    end
    local conv = wire.conversation { { type = "user", text = "x" } }
    target.timeout = opts and opts.timeout
    local answer, err = model.ask(target, conv, view or {}, wire.listener(function(event)
        events[#events + 1] = event
    end, nil, false))
    timer.sleep = sleep
    return answer, err, waits, events
end

local port = 0

-- A target of its own, so that no gate of another case is in the way.
local function target(name)
    port = port + 1
    vars = { OPENAI_API_KEY = "the-key", OPENAI_BASE_URL = "http://localhost:" .. port,
        GEMINI_API_KEY = "the-key", GOOGLE_GEMINI_BASE_URL = "http://localhost:" .. port }
    return assert(model.resolve((name or "openai") .. "/m"))
end

case("an answer at once", function()
    local t1 = target()
    local sent = play { { 200, OK } }
    local answer, err, waits, events = ask(t1, nil, { timeout = 7 })
    equal(err, nil)
    equal(answer.items[1].text, "hi")
    equal({ #sent, #waits, #events }, { 1, 0, 0 })
    equal({ sent[1].options.timeout, sent[1].options.redirects }, { 7, 0 })
end)

case("P5 what passes is asked again, twice, with growing waits and jitter", function()
    for _, failure in ipairs { { 500 }, { 503 }, { 529 }, { 408 }, { 409 }, { 429 }, { code = "connect", message = "m" },
        { code = "closed", message = "m" }, { code = "timeout", message = "m" }, { code = "resolve", message = "m" } } do
        local t1 = target()
        local sent = play { failure, failure, { 200, OK } }
        local answer, _, waits, events = ask(t1)
        ok(answer, tostring(failure[1] or failure.code))
        equal(#sent, 3)
        equal(#waits, 2)
        ok(waits[1] > 0.37 and waits[1] <= 0.5, waits[1])
        ok(waits[2] > 0.74 and waits[2] <= 1, waits[2])
        equal({ events[1].type, events[1].what, events[1].attempt }, { "retry", "openai/m", 2 })
        ok(math.abs(events[2].wait_ms - waits[2] * 1000) <= 1)
        ok(#events[1].why > 0)
        equal(sent[3].body, sent[1].body)

        sent = play { failure, failure, failure }
        local none, err = ask(target())
        equal(none, nil)
        equal(#sent, 3)
        equal(err.exit, 75)
        has(err.message, "after 3 attempts")
    end
end)

case("P5 what does not pass is not asked again", function()
    local quota = '{"error":{"code":"insufficient_quota","message":"x"}}'
    for _, failure in ipairs { { 400 }, { 401 }, { 403 }, { 404, '{"error":{"code":"model_not_found"}}' }, { 422 },
        { 429, quota }, { 500, "", { ["x-should-retry"] = "false" } }, { 200, "<html>" }, { 302 },
        { code = "tls", message = "m" }, { code = "url", message = "m" }, { code = "too_large", message = "m" } } do
        local t1 = target()
        local sent = play { failure }
        local answer, err, waits = ask(t1)
        equal(answer, nil)
        equal({ #sent, #waits }, { 1, 0 })
        ok(err.exit ~= 75 or failure.code == "tls" or failure[1] == 500)
    end
    local sent = play { { 400, "", { ["x-should-retry"] = "true" } }, { 200, OK } }
    ok(ask(target()))
    equal(#sent, 2)
end)

case("P5 the server's own waits are kept", function()
    local function wait(headers, body, name)
        play { { 429, body or "", headers }, { 200, name and '{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}]}' or OK } }
        local answer, err, waits = ask(target(name))
        ok(answer, tostring(err))
        return waits[1]
    end
    local function about(seconds, value)
        ok(value >= seconds - 0.001 and value <= seconds + 0.2, ("%s is not about %s"):format(value, seconds))
    end
    about(0.08, wait { ["retry-after-ms"] = "80" })
    about(1, wait { ["retry-after"] = "1" })
    about(0.08, wait { ["Retry-After"] = "9", ["Retry-After-Ms"] = "80" })
    local date = wait { ["retry-after"] = os.date("!%a, %d %b %Y %H:%M:%S GMT", math.floor(timer.now()) + 20) }
    ok(date > 18.5 and date <= 20.2, date)
    about(34, wait({}, '{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"m","details":[{"retryDelay":"34s"}]}}',
        "gemini"))
end)

case("P5 a wait of more than a minute is not waited, and said", function()
    local sent = play { { 429, "", { ["retry-after"] = "61" } } }
    local answer, err, waits = ask(target())
    equal(answer, nil)
    equal({ #sent, #waits, err.exit }, { 1, 0, 75 })
    has(err.message, "61 s")
    play { { 429, "", { ["retry-after"] = "99999999999999999999999" } } }
    answer, err = ask(target())
    equal(answer, nil)
    has(err.message, "longer than lash waits")
end)

case("P5 a rate limit holds back the other conversations of that key", function()
    for _, body in ipairs { "", '{"error":{"code":"slow_down","message":"m"}}' } do -- whatever it is called
        local t1 = target()
        local none, waits, events
        play { { 429, body, { ["retry-after"] = "30" } }, { 200, OK }, { 200, OK }, { 200, OK } }
        ok(ask(t1, nil, { meanwhile = function()
            none = select(3, ask(target())) -- another address has another gate
            waits, events = select(3, ask(t1))
        end }))
        equal({ #none, #waits, events[1].type, events[1].why }, { 0, 1, "retry", "rate limit" })
        ok(waits[1] > 29 and waits[1] < 31, waits[1])
    end
end)

case("an answer that the provider gives in several requests is asked for to its end", function()
    local function share(text, reason, token)
        return { 200, wire.encode { candidates = { { content = { parts = { { text = text } } }, finishReason = reason,
            continuationToken = token } }, usageMetadata = { promptTokenCount = 5, candidatesTokenCount = 2 } } }
    end
    local sent = play { { 503 }, share("a", "CONTINUATION", "T1"), { 503 }, { 503 }, share("b", "CONTINUATION", "T2"),
        share("c", "STOP") }
    local answer, err, waits = ask(target "gemini")
    equal(err, nil)
    equal({ answer.items[1].text, answer.usage.total, #sent, #waits }, { "abc", 21, 6, 3 })
    local tokens = {}
    for i, request in ipairs(sent) do
        tokens[i] = json.decode(request.body).continuationToken or ""
    end
    equal(tokens, { "", "", "T1", "T1", "T1", "T2" })
    play { share("a", "CONTINUATION", "T1"), { 400 } }
    answer, err = ask(target "gemini")
    equal({ answer, err.exit }, { nil, 69 })
end)

case("Gemini: a malformed call and an empty answer are asked again", function()
    for _, reason in ipairs { "MALFORMED_FUNCTION_CALL", "STOP" } do
        local bad = { 200, '{"candidates":[{"finishReason":"' .. reason .. '"}]}' }
        local sent = play { bad, { 200, '{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}]}' } }
        ok(ask(target "gemini"))
        equal(#sent, 2)
        play { bad, bad, bad }
        local _, err = ask(target "gemini")
        equal(err.exit, 76)
        has(err.message, "after 3 attempts")
    end
end)

case("sealed reasoning that is refused is left out, once", function()
    local t1 = target()
    local conv = wire.conversation { { type = "user", text = "x" } }
    local first = '{"output":[{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"gAAA"},'
        .. '{"type":"message","role":"assistant","content":[{"type":"output_text","text":"hi"}]}]}'
    conv:append(assert(t1.provider.read(wire.answer(first), conv, {}, t1)))
    conv:append { type = "user", text = "y" }
    local bad = '{"error":{"code":"invalid_encrypted_content","message":"m"}}'
    local sent = play { { 400, bad }, { 200, OK } }
    local events = {}
    ok(model.ask(t1, conv, {}, wire.listener(function(e)
        events[#events + 1] = e
    end, nil, false)))
    equal(#sent, 2)
    has(sent[1].body, "gAAA")
    ok(not sent[2].body:find "gAAA" and sent[2].body:find "hi")
    equal(events[1].type, "warning")
    sent = play { { 400, bad } }
    local answer, err = model.ask(t1, conv, {}, wire.listener(function() end, nil, false))
    equal(answer, nil)
    equal({ #sent, err.exit }, { 1, 69 })
end)

case("settings that nobody knows are refused, those without a field are said", function()
    local t1 = target()
    play {}
    local _, err = ask(t1, { agent = "a", settings = { temprature = 1 } })
    equal(err.exit, 64)
    has(err.message, "'temperature'")
    _, err = ask(t1, { agent = "a", settings = { max_tokens = "many" } })
    equal(err.exit, 64)
    play { { 200, OK } }
    local _, _, _, events = ask(t1, { settings = { seed = 1 } })
    equal(events[1].type, "warning")
    has(events[1].text, "seed")
end)

case("dry_run shows the request and masks the key", function()
    local t1 = target()
    local conv = wire.conversation { { type = "user", text = "hello" } }
    local shown = assert(model.dry_run(t1, conv, { system = "s" }))
    equal(shown.method, "POST")
    equal(shown.headers.authorization, "Bearer ****")
    has(shown.body, "hello")
    ok(not json.encode(shown):find "the%-key")
    shown = assert(model.dry_run(target "gemini", conv, {}))
    equal(shown.headers["x-goog-api-key"], "****")
    ok(not json.encode(shown):find "the%-key")
    shown = assert(model.dry_run(assert(model.resolve "demo"), conv, { tools = wire.tools() }))
    equal(shown.method, "LOCAL")
    has(shown.body, "get_weather")
end)

return t.main(...)
