-- Whole streams to begin with: small ones of each protocol with what they say, and those of tests/fixtures.
local json = require "lash.json"
local sse = require "sse"

local M = {}

local function events(list)
    local parts = {}
    for i, event in ipairs(list) do
        local data = type(event) == "string" and event or assert(json.encode(event))
        local name = type(event) == "table" and event.type
        parts[i] = (name and "event: " .. name .. "\n" or "") .. "data: " .. data .. "\n\n"
    end
    return table.concat(parts)
end

local array = json.array

local CALLS = { { name = "get_weather", args = '{"city":"S\u{e3}o Paulo \u{1f327}"}' }, { name = "get_time", args = "{}" } }
local TEXT = "Gr\u{fc}\u{df}e \u{20ac} \u{1f600}"

-- ---- OpenAI Responses ----

local function response_item(i, call)
    return { type = "function_call", id = "fc_" .. i, call_id = "call_" .. i, name = call.name, arguments = call.args, status = "completed" }
end

local function responses()
    local text = { type = "message", id = "msg_1", role = "assistant", status = "completed",
        content = array { { type = "output_text", text = TEXT, annotations = array {} } } }
    local output = array { text, response_item(1, CALLS[1]), response_item(2, CALLS[2]) }
    local list = {
        { type = "response.created", response = { id = "resp_1", status = "in_progress", output = array {} } },
        { type = "response.output_item.added", output_index = 0, item = { type = "message", id = "msg_1", role = "assistant", content = array {} } },
        { type = "response.content_part.added", item_id = "msg_1", output_index = 0, content_index = 0,
            part = { type = "output_text", text = "", annotations = array {} } },
        { type = "response.output_text.delta", item_id = "msg_1", output_index = 0, content_index = 0, delta = TEXT:sub(1, 6) },
        { type = "response.output_text.delta", item_id = "msg_1", output_index = 0, content_index = 0, delta = TEXT:sub(7) },
        { type = "response.output_item.done", output_index = 0, item = text },
    }
    for i, call in ipairs(CALLS) do
        local begun = response_item(i, { name = call.name, args = "" })
        table.move({
            { type = "response.output_item.added", output_index = i, item = begun },
            { type = "response.function_call_arguments.delta", item_id = "fc_" .. i, output_index = i, delta = call.args },
            { type = "response.output_item.done", output_index = i, item = response_item(i, call) },
        }, 1, 3, #list + 1, list)
    end
    list[#list + 1] = { type = "response.completed", response = { id = "resp_1", status = "completed", output = output,
        usage = { input_tokens = 10, output_tokens = 20, total_tokens = 30 } } }
    return events(list)
end

-- ---- OpenAI Chat Completions ----

local function chunk(delta, finish)
    return { id = "c", object = "chat.completion.chunk", model = "m",
        choices = array { { index = 0, delta = delta, finish_reason = finish or json.null } } }
end

local function part_of(i, call, name)
    return chunk { tool_calls = array { { index = i - 1, id = name and "call_" .. i or nil, type = name and "function" or nil,
        ["function"] = { name = name, arguments = call } } } }
end

local function chat()
    return events {
        chunk { role = "assistant", content = "" }, chunk { content = TEXT:sub(1, 6) }, chunk { content = TEXT:sub(7) },
        part_of(1, "", CALLS[1].name), part_of(1, CALLS[1].args:sub(1, 8)), part_of(2, CALLS[2].args, CALLS[2].name),
        part_of(1, CALLS[1].args:sub(9)), chunk({}, "tool_calls"),
        { id = "c", choices = array {}, usage = { prompt_tokens = 10, completion_tokens = 20, total_tokens = 30 } }, "[DONE]",
    }
end

-- ---- Gemini ----

local function content(parts, finish)
    return { candidates = array { { content = { role = "model", parts = array(parts) }, finishReason = finish, index = 0 } },
        usageMetadata = { promptTokenCount = 10, candidatesTokenCount = 20, totalTokenCount = 30 } }
end

local function gemini()
    return (events {
        content { { text = TEXT:sub(1, 6) } }, content { { text = TEXT:sub(7) } },
        content { { functionCall = { id = "c1", name = CALLS[1].name, args = json.decode(CALLS[1].args) }, thoughtSignature = "Zm9v" } },
        content({ { functionCall = { id = "c2", name = CALLS[2].name, args = {} } } }, "STOP"),
    }:gsub("\n", "\r\n"))
end

-- ---- Anthropic ----

local function block(index, begin, deltas)
    local list = { { type = "content_block_start", index = index, content_block = begin } }
    for _, delta in ipairs(deltas) do
        list[#list + 1] = { type = "content_block_delta", index = index, delta = delta }
    end
    list[#list + 1] = { type = "content_block_stop", index = index }
    return events(list)
end

local function anthropic()
    local list = {
        events { { type = "message_start", message = { id = "msg_1", type = "message", role = "assistant", model = "m",
            content = array {}, usage = { input_tokens = 10, output_tokens = 1 } } } },
        block(0, { type = "text", text = "" }, { { type = "text_delta", text = TEXT:sub(1, 6) }, { type = "text_delta", text = TEXT:sub(7) } }),
    }
    for i, call in ipairs(CALLS) do
        list[#list + 1] = block(i, { type = "tool_use", id = "toolu_" .. i, name = call.name, input = {} }, {
            { type = "input_json_delta", partial_json = call.args:sub(1, 8) },
            { type = "input_json_delta", partial_json = call.args:sub(9) },
        })
    end
    list[#list + 1] = events {
        { type = "message_delta", delta = { stop_reason = "tool_use" }, usage = { output_tokens = 20 } }, { type = "message_stop" },
    }
    return table.concat(list)
end

M.CALLS, M.TEXT = CALLS, TEXT
--- name of a protocol -> a stream that says TEXT and makes the CALLS
M.SMALL = { openai = responses(), ["openai-chat"] = chat(), gemini = gemini(), anthropic = anthropic() }

local DIRS = { openai = "openai-responses", ["openai-chat"] = "openai-chat", gemini = "gemini", anthropic = "anthropic" }

local function read(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read "a"
    file:close()
    return text
end

--- fixtures(name) -> list of { path =, text = }: the streams of tests/fixtures in this protocol
function M.fixtures(name)
    local list = {}
    local tests = os.getenv "LASH_TESTS" or "tests"
    for _, pattern in ipairs { "%s/fixtures/captures/%s/*/*.sse", "%s/fixtures/quirks/%s/*.sse" } do
        for _, path in ipairs(sse.files(pattern:format(tests, DIRS[name]))) do
            list[#list + 1] = { path = path, text = read(path) }
        end
    end
    return list
end

return M
