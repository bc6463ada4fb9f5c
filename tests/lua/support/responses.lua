--- Streams of OpenAI's Responses protocol: their events, what is told of them, the answer that is left.
local json = require "lash.json"
local t = require "t"
local wire = require "support.wire"

local M = {}

local equal, ok = t.equal, t.ok

--- The text of a stream of these events: tables, or JSON texts as they are.
function M.stream(events)
    local parts = {}
    for i, event in ipairs(events) do
        parts[i] = "data: " .. (type(event) == "table" and wire.encode(event) or event) .. "\n\n"
    end
    return table.concat(parts)
end

function M.asked()
    return wire.conversation { { type = "user", text = "x" } }
end

--- The answer of the stream's last event, as it would have come without a stream.
function M.buffered(text, about)
    local last
    for data in text:gmatch "data: ?([^\n]*)" do
        if data:find '"type":"response%.completed"' or data:find '"type":"response%.incomplete"' then
            last = json.raw(data, "response")
        end
    end
    local target = wire.target "openai"
    return assert(target.provider.read(wire.answer(last), M.asked(), about or {}, target))
end

--- Reads a stream that must end well. Returns the answer, and what was told: text, reasoning, calls.
function M.heard(text, about, conv)
    local answer, err, told, count = wire.streamed("openai", text, conv or M.asked(), about)
    ok(answer, err and err.message)
    local said = { text = "", reasoning = "", calls = {}, count = count }
    for _, pair in ipairs(told) do
        local kind, fields = pair[1], pair[2]
        if kind == "call.ready" then
            said.calls[#said.calls + 1] = fields
            equal(fields.n, #said.calls, "calls are told in order")
        else
            ok(fields ~= "")
            said[kind] = said[kind] .. fields
        end
    end
    return answer, said
end

--- What was told is what the answer says.
function M.agrees(answer, said)
    local text, reasoning, calls = "", "", {}
    for _, item in ipairs(answer.items) do
        if item.type == "text" then
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

--- Reads a stream whose last event has the whole answer: as the buffered form, and as it was told.
function M.same(text, about)
    local answer, said = M.heard(text, about)
    M.agrees(answer, said)
    equal(answer, M.buffered(text, about))
    return answer, said
end

function M.refused(text)
    local answer, err, told = wire.streamed("openai", text, M.asked())
    equal(answer, nil)
    return err, told
end

-- ---- events ----

function M.message(id, text, more)
    local item = { type = "message", id = id, role = "assistant", status = "completed",
        content = json.array { { type = "output_text", text = text, annotations = json.array {} } } }
    for field, value in pairs(more or {}) do
        item[field] = value
    end
    return item
end

function M.call(id, name, args, more)
    local item = { type = "function_call", id = "fc_" .. tostring(id), call_id = id, name = name or "f",
        arguments = args or "{}", status = "completed" }
    for field, value in pairs(more or {}) do
        item[field] = value
    end
    return item
end

function M.reasoning(id, text, sealed)
    return { type = "reasoning", id = id, encrypted_content = sealed,
        summary = json.array(text and { { type = "summary_text", text = text } } or {}) }
end

function M.completed(output, more)
    local response = { id = "resp_1", status = "completed", output = output and json.array(output),
        usage = { input_tokens = 9, output_tokens = 4, total_tokens = 13,
            input_tokens_details = { cached_tokens = 5, cache_write_tokens = 3 },
            output_tokens_details = { reasoning_tokens = 2 } } }
    for field, value in pairs(more or {}) do
        response[field] = value
    end
    return { type = response.status == "incomplete" and "response.incomplete" or "response.completed", response = response }
end

function M.event(kind, index, fields)
    fields.type, fields.output_index = "response." .. kind, index
    return fields
end

function M.delta(kind, index, text, fields)
    fields = fields or {}
    fields.delta = text
    return M.event(kind .. ".delta", index, fields)
end

function M.args_delta(index, text, id)
    return M.delta("function_call_arguments", index, text, { item_id = id })
end

function M.added(index, item)
    return M.event("output_item.added", index, { item = item })
end

function M.done(index, item)
    return M.event("output_item.done", index, { item = item })
end

function M.bare(item) -- as it is when it is added
    local copy = { status = "in_progress" }
    for _, field in ipairs { "type", "id", "role", "call_id", "name", "phase" } do
        copy[field] = item[field]
    end
    return copy
end

return M
