--- Helpers for the tests of Chat Completions: a server of it, chunks of its streams, whole answers.
local chat = require "lash.provider.openai_chat"
local json = require "lash.json"
local wire = require "support.wire"

local M = {}

--- A target; fields as of wire.target.
function M.target(fields)
    local target = wire.target("openai_chat", { provider_name = "openai-chat", label = "openai-chat/m" })
    for name, value in pairs(fields or {}) do
        target[name] = value
    end
    return target
end

--- The request for a conversation: decoded body, and the whole of it.
function M.request(conv, view, fields, stream)
    local request = assert(chat.request(conv, view or {}, M.target(fields), stream))
    request.body = tostring(request.body) -- a long one is none
    return assert(json.decode(request.body)), request
end

--- Reads a whole answer, or a table that is encoded to one. @return answer | nil, err
function M.read(body, view, fields, conv, res)
    body = type(body) == "table" and wire.encode(body) or body
    res = res or {}
    return chat.read({ status = res.status or 200, headers = res.headers or {}, body = body },
        conv or wire.conversation { { type = "user", text = "x" } }, view or {}, M.target(fields))
end

--- Reads a whole answer and appends it to the conversation.
function M.hear(conv, body, view, fields)
    local answer = assert(M.read(body, view, fields, conv))
    conv:append(answer)
    return answer
end

--- A whole answer with this message.
function M.message(message, reason, fields)
    message.role = message.role or "assistant"
    local body = { id = "c1", object = "chat.completion", choices = json.array {
        { index = 0, message = message, finish_reason = reason or json.null } } }
    for name, value in pairs(fields or {}) do
        body[name] = value
    end
    return body
end

--- One call of a message.
function M.call(id, name, args)
    return { id = id, type = "function", ["function"] = { name = name, arguments = args } }
end

--- A chunk with this delta, as the text of its data.
function M.chunk(delta, reason)
    return wire.encode { id = "c1", choices = json.array { { index = 0, delta = delta,
        finish_reason = reason or json.null } } }
end

--- The text of a stream with these data texts, and `[DONE]` at its end unless `open`.
function M.sse(list, open)
    local lines = {}
    for i, data in ipairs(list) do
        lines[i] = "data: " .. data .. "\n\n"
    end
    return table.concat(lines) .. (open and "" or "data: [DONE]\n\n")
end

--- Reads a stream, its text or a list of data texts. @return answer | nil, err; told, count
function M.stream(text, view, fields, conv)
    local target = { provider_name = "openai-chat", label = "openai-chat/m" }
    for name, value in pairs(fields or {}) do
        target[name] = value
    end
    return wire.streamed("openai_chat", type(text) == "table" and M.sse(text) or text,
        conv or wire.conversation { { type = "user", text = "x" } }, view, target)
end

--- The answer of a stream whose chunks have these lists of entries of `tool_calls`.
function M.calls(lists, view, reason)
    local chunks = {}
    for i, list in ipairs(lists) do
        chunks[i] = M.chunk { tool_calls = json.array(list) }
    end
    chunks[#chunks + 1] = M.chunk({}, reason or "tool_calls")
    local answer, err, told = M.stream(chunks, view or M.VIEW)
    return answer, err, told
end

--- One entry of `tool_calls` in a delta; what is nil is not there.
function M.entry(index, id, name, args)
    return { index = index, id = id, ["function"] = { name = name, arguments = args } }
end

--- A view with the tools that the fixtures call.
M.VIEW = { tools = wire.tools() }

--- "name(args) ..." of the calls of an answer.
function M.shown(answer)
    local list = {}
    for _, item in ipairs(answer.items) do
        if item.type == "call" then
            list[#list + 1] = ("%s(%s)"):format(item.name, item.args)
        end
    end
    return table.concat(list, " ")
end

return M
