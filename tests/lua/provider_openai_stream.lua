-- OpenAI's Responses protocol as a stream: what is told as it comes, and the answer that is left, which must be
-- that of the buffered form.
local json = require "lash.json"
local t = require "t"
local wire = require "support.wire"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok
local SSE = "openai-responses/openai-sdk.sse/"
local JSON = "openai-responses/openai-sdk.json/"
local QUIRKS = os.getenv "LASH_TESTS" .. "/fixtures/quirks/openai-responses/"

local function view()
    return { agent = "a", system = wire.SYSTEM, tools = wire.tools(), parallel = true,
        settings = { max_tokens = 1024, effort = "medium", openai = { reasoning = { summary = "auto" } } } }
end

local function file(name)
    local handle = assert(io.open(QUIRKS .. name, "rb"))
    local text = handle:read "a"
    handle:close()
    return text
end

-- The text of a stream of these events: tables, or JSON texts as they are.
local function stream(events)
    local parts = {}
    for i, event in ipairs(events) do
        parts[i] = "data: " .. (type(event) == "table" and wire.encode(event) or event) .. "\n\n"
    end
    return table.concat(parts)
end

local function asked()
    return wire.conversation { { type = "user", text = "x" } }
end

-- The answer of the stream's last event, as it would have come without a stream.
local function buffered(text, about)
    local last
    for data in text:gmatch "data: ?([^\n]*)" do
        if data:find '"type":"response%.completed"' or data:find '"type":"response%.incomplete"' then
            last = json.raw(data, "response")
        end
    end
    local target = wire.target "openai"
    return assert(target.provider.read(wire.answer(last), asked(), about or {}, target))
end

-- Reads a stream that must end well. Returns the answer, and what was told: text, reasoning, calls.
local function heard(text, about, conv)
    local answer, err, told, count = wire.streamed("openai", text, conv or asked(), about)
    ok(answer, err and err.message)
    local said = { text = "", reasoning = "", calls = {}, count = count }
    for _, pair in ipairs(told) do
        local kind, fields = pair[1], pair[2]
        if kind == "call.ready" then
            said.calls[#said.calls + 1] = fields
            equal(fields.n, #said.calls, "calls are told in order")
        else
            ok(fields.delta ~= "")
            said[kind] = said[kind] .. fields.delta
        end
    end
    return answer, said
end

-- What was told is what the answer says.
local function agrees(answer, said)
    local text, reasoning, calls = "", "", {}
    for _, item in ipairs(answer.items) do
        if item.type == "text" or item.type == "refusal" then
            text = text .. item.text
        elseif item.type == "reasoning" then
            reasoning = reasoning .. item.text
        elseif item.type == "call" and item.complete ~= false then
            calls[#calls + 1] = { n = #calls + 1, id = item.id, name = item.name, args = item.args }
        end
    end
    equal(said.text, text)
    equal(said.reasoning, reasoning)
    equal(said.calls, calls)
end

-- Reads a stream whose last event has the whole answer: as the buffered form, and as it was told.
local function same(text, about)
    local answer, said = heard(text, about)
    agrees(answer, said)
    equal(answer, buffered(text, about))
    return answer, said
end

local function refused(text)
    local answer, err, told = wire.streamed("openai", text, asked())
    equal(answer, nil)
    return err, told
end

case("the streams of both turns: requests of the official client, the answers of the buffered form", function()
    local conv = wire.conversation { { type = "user", text = wire.QUESTION } }
    local whole = wire.conversation { { type = "user", text = wire.QUESTION } }
    for round = 1, 2 do
        local body, request = wire.request("openai", conv, view(), { model = "gpt-golden" }, true)
        wire.covers(body, wire.captured(SSE .. ("0%d.request.json"):format(round)), "body", {})
        equal(request.headers.accept, "application/json")

        local text = wire.read(SSE .. ("0%d.response.sse"):format(round))
        local answer, said = heard(text, view(), conv)
        agrees(answer, said)
        local other = wire.hear("openai", whole, wire.read(JSON .. ("0%d.response.json"):format(round)), view())
        for i, raw in ipairs(answer.wire) do
            equal(json.decode(raw), json.decode(other.wire[i]))
        end
        equal(#answer.wire, #other.wire)
        local wires = { answer.wire, other.wire }
        answer.wire, other.wire = nil, nil
        equal(answer, other)
        answer.wire, other.wire = wires[1], wires[2]
        conv:append(answer)
        if round == 1 then
            conv:append(wire.outcomes(answer, wire.RESULTS))
            whole:append(wire.outcomes(other, wire.RESULTS))
        end
    end
end)

case("P3 reasoning goes back as its done item, never as the one that was added", function()
    local conv = wire.conversation { { type = "user", text = wire.QUESTION } }
    local answer = heard(wire.read(SSE .. "01.response.sse"), view(), conv)
    conv:append(answer)
    conv:append(wire.outcomes(answer, wire.RESULTS))
    local _, request = wire.request("openai", conv, view(), nil, true)
    has(request.body, '{"id":"rs_0001","type":"reasoning","summary":[],"encrypted_content":"gAAAAABgolden-encrypted-reasoning-blob=="}')
    ok(not request.body:find("gAAAAABpartial", 1, true))
end)

-- The outcome of an answer in the words of the fixtures.
local function outcome(answer)
    local words = { length = "truncated", filter = "truncated", refusal = "refused" }
    return words[answer.stop] or "ok"
end

for _, name in ipairs { "done-items-only", "empty-arguments", "incomplete-in-call", "no-event-lines",
    "reasoning-added-then-done" } do
    case("P1 quirk: " .. name, function()
        local want = assert(json.decode(file(name .. ".expected.json")))
        local answer, said = same(file(name .. ".sse"), { tools = wire.tools() })
        equal(outcome(answer), want.outcome)
        equal(said.text, want.text)
        equal(said.reasoning, want.reasoning or "")
        local calls = json.array {}
        for i, call in ipairs(said.calls) do
            calls[i] = { id = call.id, name = call.name, args = json.decode(call.args ~= "" and call.args or "{}") }
        end
        equal(calls, want.calls)
        for _, raw in ipairs(want.mustEcho or {}) do
            local conv = asked()
            conv:append(answer)
            local results = {}
            for i in ipairs(calls) do
                results[i] = "ok"
            end
            conv:append(wire.outcomes(answer, results))
            local found = false
            for _, item in ipairs(wire.request("openai", conv).input) do
                found = found or wire.encode(item) == wire.encode(raw)
            end
            ok(found, "the next request has " .. wire.encode(raw))
        end
    end)
end

case("P5 quirk: failed", function()
    local want = assert(json.decode(file "failed.expected.json"))
    local err, told = refused(file "failed.sse")
    equal(err.code, "rate")
    equal(err.retry, want.retryable)
    has(err.message, want.message)
    equal(told, {})
end)

return t.main(...)
