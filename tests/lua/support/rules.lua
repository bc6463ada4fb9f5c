--- What the four protocols refuse, as far as the history of a conversation is concerned: a request that
-- breaks one of these rules would be answered with a 400. Each check raises an error that names the place.
local json = require "lash.json"

local M = {}

local function need(condition, where, what, ...)
    if not condition then
        error(("%s: %s"):format(where, what:format(...)), 0)
    end
end

local function is_object(value)
    return type(value) == "table" and getmetatable(value) == nil
end

local function is_array(value)
    return type(value) == "table" and getmetatable(value) == json.array_mt
end

local function is_text(value)
    return type(value) == "string" and value ~= ""
end

local function no_others(value, names, where)
    for name in pairs(value) do
        need((" " .. names .. " "):find(" " .. name .. " ", 1, true), where, "there is no field '%s'", name)
    end
end

local function each(list, where, visit)
    need(is_array(list), where, "is no list")
    for i, value in ipairs(list) do
        need(is_object(value), where, "element %d is no object", i)
        visit(value, ("%s[%d]"):format(where, i), i)
    end
end

-- ---- Gemini ----

local GEMINI_KINDS = { "text", "functionCall", "functionResponse", "inlineData", "fileData", "executableCode",
    "codeExecutionResult", "toolCall", "toolResponse" }

local function gemini_part(part, where)
    local kind
    for _, name in ipairs(GEMINI_KINDS) do
        if part[name] ~= nil then
            need(kind == nil, where, "is a %s and a %s", kind, name)
            kind = name
        end
    end
    need(kind, where, "has no kind")
    no_others(part, kind .. " thought thoughtSignature", where)
    if kind == "text" then
        need(is_text(part.text) or part.text == "" and part.thoughtSignature, where, "is an empty text")
    else
        need(is_object(part[kind]), where, "the %s is no object", kind)
    end
    if kind == "functionCall" then
        local call = part.functionCall
        no_others(call, "id name args", where)
        need(type(call.name) == "string" and call.name:find("^[%a_][%w_.:-]*$") and #call.name <= 128, where, "bad name")
        need(call.args == nil or call.args == json.null or is_object(call.args), where, "the arguments are no object")
        need(call.id == nil or is_text(call.id), where, "bad id")
    elseif kind == "inlineData" then
        need(is_text(part.inlineData.mimeType) and is_text(part.inlineData.data), where, "data without mime or data")
    elseif kind == "fileData" then
        need(is_text(part.fileData.fileUri), where, "no address")
    end
    return kind
end

local function gemini_response(part, call, where)
    local response = part.functionResponse
    no_others(response, "id name response parts", where)
    need(response.name == call.name, where, "answers '%s', the call is '%s'", tostring(response.name), call.name)
    need(response.id == call.id, where, "has the id %s, the call %s", tostring(response.id), tostring(call.id))
    need(is_object(response.response), where, "the response is no object")
end

local function gemini(body)
    no_others(body, "contents systemInstruction tools toolConfig generationConfig", "body")
    local open, before = nil, nil
    each(body.contents, "contents", function(content, where)
        no_others(content, "role parts", where)
        need(content.role == "user" or content.role == "model", where, "bad role")
        local calls, kinds, ids = {}, {}, {}
        each(content.parts, where, function(part, at)
            local kind = gemini_part(part, at)
            kinds[kind] = (kinds[kind] or 0) + 1
            if kind == "functionCall" then
                local id = part.functionCall.id
                need(calls[1] or part.thoughtSignature, at, "the first call has no signature")
                need(id == nil or not ids[id], at, "the id %s comes twice", tostring(id))
                ids[id or calls] = true
                calls[#calls + 1] = part.functionCall
            elseif kind == "functionResponse" then
                local n = kinds.functionResponse
                need(open and open[n], at, "answers no call")
                gemini_response(part, open[n], at)
            end
        end)
        need(#content.parts > 0, where, "has no parts")
        need(not open or kinds.functionResponse == #open, where, "%d calls have no responses right after them", open and #open)
        need(not kinds.functionResponse or kinds.functionResponse == #content.parts, where, "responses are mixed with others")
        need(content.role == "model" or not calls[1], where, "a call of the user")
        need(content.role == "user" or not kinds.functionResponse, where, "a response of the model")
        need(before or content.role == "user", where, "the first one is not the user's")
        need(content.role == "user" or before ~= "model", where, "pieces of one turn")
        need(not (before == "user" and content.role == "user"), where, "two contents of the user")
        before = kinds.functionResponse and "responses" or content.role
        open = calls[1] and calls or nil
    end)
    need(#body.contents > 0, "contents", "are empty")
    need(not open, "contents", "the last calls have no responses")
    if body.toolConfig then
        need(is_array(body.tools) and body.tools[1], "toolConfig", "without tools")
    end
end

-- ---- OpenAI Responses ----

local RESPONSES_PARTS = { user = { input_text = true, input_image = true, input_file = true },
    assistant = { output_text = true, refusal = true } }

local function responses_message(item, where)
    need(item.role == "user" or item.role == "assistant", where, "bad role")
    if type(item.content) == "string" then
        return
    end
    each(item.content, where .. ".content", function(part, at)
        need(RESPONSES_PARTS[item.role][part.type], at, "a %s cannot say %s", item.role, tostring(part.type))
        if part.type == "input_image" then
            need(is_text(part.image_url) or is_text(part.file_id), at, "an image without address")
        end
    end)
    need(#item.content > 0, where, "empty content")
end

local function good_name(name)
    return type(name) == "string" and name:find("^[%w_-]+$") ~= nil and #name <= 64
end

local function responses(body)
    local open, known, ids, reasoning = {}, {}, {}, nil
    local waiting = 0
    each(body.input, "input", function(item, where)
        local kind = item.type or "message"
        if item.id ~= nil then
            need(is_text(item.id) and not ids[item.id], where, "the item id %s is empty or comes twice", tostring(item.id))
            ids[item.id] = true
        end
        if reasoning then
            need(kind == "reasoning" or kind == "function_call" or kind == "message" and item.role == "assistant"
                or kind:find "_call$", where, "no reasoning's following item")
        end
        reasoning = kind == "reasoning" and where or nil
        if kind == "function_call" then
            need(is_text(item.call_id) and #item.call_id <= 64, where, "bad call_id")
            need(not known[item.call_id], where, "the call_id %s comes twice", item.call_id)
            need(good_name(item.name), where, "bad name")
            need(type(item.arguments) == "string", where, "the arguments are no text")
            known[item.call_id], open[item.call_id], waiting = true, true, waiting + 1
        elseif kind == "function_call_output" then
            need(open[item.call_id], where, "answers no call")
            need(type(item.output) == "string" or is_array(item.output), where, "no output")
            open[item.call_id], waiting = nil, waiting - 1
        elseif kind == "message" then
            need(waiting == 0 or item.role == "assistant", where, "%d calls have no output before it", waiting)
            responses_message(item, where)
        elseif kind == "reasoning" then
            need(is_array(item.summary) or is_array(item.content), where, "no summary")
        end
    end)
    need(waiting == 0, "input", "%d calls have no output", waiting)
    need(not reasoning, "input", "ends in reasoning")
    need(#body.input > 0, "input", "is empty")
end

-- ---- Chat Completions ----

local function chat_content(message, where)
    local content = message.content
    if message.role == "assistant" and message.tool_calls and (content == nil or content == json.null or content == "") then
        return
    elseif type(content) == "string" then
        need(content ~= "" or message.role == "user", where, "empty content")
        return
    end
    need(message.role == "user", where, "content that is no text")
    each(content, where .. ".content", function(part, at)
        need(part.type == "text" or part.type == "image_url" or part.type == "file", at, "a part of type %s", tostring(part.type))
        if part.type == "text" then
            need(is_text(part.text), at, "an empty text")
        elseif part.type == "image_url" then
            need(is_object(part.image_url) and is_text(part.image_url.url), at, "no address")
        end
    end)
    need(#content > 0, where, "empty content")
end

local function chat_calls(message, where)
    local open, count = {}, 0
    each(message.tool_calls, where .. ".tool_calls", function(call, at)
        need(is_text(call.id) and not open[call.id], at, "the id is empty or comes twice")
        need(call.type == "function" and is_object(call["function"]), at, "no function")
        need(good_name(call["function"].name), at, "bad name")
        local args = call["function"].arguments
        need(type(args) == "string" and is_object(json.decode(args)), at, "the arguments are no JSON object")
        open[call.id], count = true, count + 1
    end)
    need(count > 0, where, "empty tool_calls")
    return open, count
end

local function chat(body)
    local open, waiting = {}, 0
    each(body.messages, "messages", function(message, where, i)
        local role = message.role
        need(role == "user" or role == "assistant" or role == "tool" or (role == "system" or role == "developer") and i == 1,
            where, "the role %s stands here", tostring(role))
        if role == "tool" then
            need(open[message.tool_call_id], where, "answers no call")
            open[message.tool_call_id], waiting = nil, waiting - 1
        else
            need(waiting == 0, where, "%d calls have no answer before it", waiting)
            open = {}
        end
        chat_content(message, where)
        if message.tool_calls then
            need(role == "assistant", where, "calls of the %s", role)
            open, waiting = chat_calls(message, where)
        end
    end)
    need(waiting == 0, "messages", "%d calls have no answer", waiting)
    need(#body.messages > 0, "messages", "are empty")
    need(body.tools == nil or is_array(body.tools) and body.tools[1], "tools", "are empty")
    need(body.tools or body.tool_choice == nil and body.parallel_tool_calls == nil, "tool_choice", "without tools")
end

-- ---- Anthropic ----

local ANTHROPIC_BLOCKS = {
    user = { text = true, image = true, document = true, tool_result = true },
    assistant = { text = true, thinking = true, redacted_thinking = true, tool_use = true, server_tool_use = true,
        web_search_tool_result = true },
}

local function anthropic_result(block, open, first, where)
    need(open[block.tool_use_id], where, "answers no call of the message before")
    need(first, where, "stands behind other blocks")
    open[block.tool_use_id] = nil
    if is_array(block.content) then
        each(block.content, where, function(part, at)
            need(part.type ~= "text" or is_text(part.text) and part.text:find "%S", at, "an empty text")
        end)
    else
        need(block.content == nil or type(block.content) == "string", where, "bad content")
    end
end

local function anthropic_block(block, role, where)
    need(ANTHROPIC_BLOCKS[role][block.type], where, "a block %s of the %s", tostring(block.type), role)
    if block.type == "text" then
        need(is_text(block.text) and block.text:find "%S", where, "an empty text")
    elseif block.type == "thinking" then
        need(type(block.thinking) == "string" and is_text(block.signature), where, "thinking without signature")
    elseif block.type == "redacted_thinking" then
        need(is_text(block.data), where, "no data")
    elseif block.type == "tool_use" then
        need(is_text(block.id) and block.id:find "^[%w_-]+$", where, "bad id")
        need(good_name(block.name), where, "bad name")
        need(is_object(block.input), where, "the input is no object")
    elseif block.type == "image" then
        need(is_object(block.source) and is_text(block.source.type), where, "no source")
    end
end

local function count_marks(value)
    local count = 0
    if type(value) == "table" then
        for name, field in pairs(value) do
            count = count + (name == "cache_control" and 1 or count_marks(field))
        end
    end
    return count
end

local function anthropic(body)
    local open, ids, last, used = {}, {}, nil, false
    need(math.type(body.max_tokens) == "integer", "max_tokens", "missing")
    each(body.messages, "messages", function(message, where, i)
        local role, results = message.role, true
        need(role == "user" or role == "assistant", where, "bad role")
        need(i > 1 or role == "user", where, "the first one is not the user's")
        need(next(open) == nil or role == "user", where, "calls have no results")
        local calls = {}
        if type(message.content) == "string" then
            need(message.content:find "%S", where, "an empty text")
        else
            each(message.content, where .. ".content", function(block, at)
                anthropic_block(block, role, at)
                if block.type == "tool_result" then
                    anthropic_result(block, open, results, at)
                else
                    results = false
                end
                if block.type == "tool_use" then
                    need(not ids[block.id], at, "the id %s comes twice", block.id)
                    ids[block.id], calls[block.id], used = true, true, true
                end
            end)
            need(#message.content > 0, where, "empty content")
        end
        need(next(open) == nil, where, "calls have no results in the message after them")
        open, last = calls, role
    end)
    need(#body.messages > 0, "messages", "are empty")
    need(next(open) == nil and last == "user", "messages", "the last one is not the user's")
    need(not used or is_array(body.tools) and body.tools[1], "tools", "are not declared, but used in the messages")
    need(body.tools or body.tool_choice == nil, "tool_choice", "without tools")
    need(count_marks(body) <= 4, "cache_control", "more than four marks")
end

local CHECKS = { openai = responses, ["openai-chat"] = chat, gemini = gemini, anthropic = anthropic }

--- check(name, body): raises what the server of that protocol would refuse in the decoded body.
function M.check(name, body)
    CHECKS[name](body)
end

-- ---- calls in the request ----

local CALLS = {}

function CALLS.gemini(body, add)
    for _, content in ipairs(body.contents) do
        for _, part in ipairs(content.parts) do
            if part.functionCall then
                add(part.functionCall.name, part.functionCall.args or {})
            end
        end
    end
end

function CALLS.openai(body, add)
    for _, item in ipairs(body.input) do
        if item.type == "function_call" then
            add(item.name, item.arguments == "" and {} or json.decode(item.arguments))
        end
    end
end

CALLS["openai-chat"] = function(body, add)
    for _, message in ipairs(body.messages) do
        for _, call in ipairs(message.tool_calls or {}) do
            add(call["function"].name, json.decode(call["function"].arguments))
        end
    end
end

function CALLS.anthropic(body, add)
    for _, message in ipairs(body.messages) do
        for _, block in ipairs(type(message.content) == "table" and message.content or {}) do
            if block.type == "tool_use" then
                add(block.name, block.input)
            end
        end
    end
end

--- calls(name, body) -> list of { name =, args = decoded arguments }: all calls of the history, in order
function M.calls(name, body)
    local list = {}
    CALLS[name](body, function(call, args)
        list[#list + 1] = { name = call, args = args }
    end)
    return list
end

-- ---- the history in the request ----

local function unmarked(value)
    if type(value) ~= "table" then
        return value
    end
    local copy = setmetatable({}, getmetatable(value))
    for name, field in pairs(value) do
        if name ~= "cache_control" then
            copy[name] = unmarked(field)
        end
    end
    return copy
end

-- The elements of a list inside each message, each with the role of its message.
local function spread(texts, text, list, field)
    for _, message in ipairs(json.elements(json.raw(text, list))) do
        local role, inner = json.raw(message, "role"), json.raw(message, field)
        for _, part in ipairs(inner:find "^%[" and json.elements(inner) or { inner }) do
            texts[#texts + 1] = role .. part
        end
    end
end

-- The reasoning of compatible servers counts in the present turn only, and leaves the request after it.
local function messages(text)
    local texts = {}
    for _, message in ipairs(json.decode(text).messages) do
        message.reasoning_content = nil
        if message.role ~= "system" and message.role ~= "developer" then
            texts[#texts + 1] = json.encode(message)
        end
    end
    return texts
end

local function blocks(text)
    local texts = {}
    for _, message in ipairs(json.decode(text).messages) do
        local content = type(message.content) == "table" and message.content or { { type = "text", text = message.content } }
        for _, block in ipairs(content) do
            texts[#texts + 1] = message.role .. json.encode(unmarked(block))
        end
    end
    return texts
end

--- history(name, text) -> the pieces of the history in the body, in order: what a server may have cached
-- of it. Marks of caches are no part of them.
function M.history(name, text)
    local texts = {}
    if name == "openai" then
        return json.elements(json.raw(text, "input"))
    elseif name == "openai-chat" then
        return messages(text)
    elseif name == "anthropic" then
        return blocks(text)
    end
    spread(texts, text, "contents", "parts")
    return texts
end

return M
