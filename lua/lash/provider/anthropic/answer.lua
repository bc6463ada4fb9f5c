-- From Anthropic's content blocks to an answer entry: the same for a whole answer and for a streamed one, of
-- which lash.provider.anthropic.stream has put the blocks together.
--
-- A block is { value = decoded, raw = its JSON text, args = text of a call's arguments when that is no JSON
-- object, picked = whether its value has only what M.BLOCK has }. What goes into `wire` is the raw text, unless
-- the id, the name or the input cannot be sent so.
local history = require "lash.provider.history"
local json = require "lash.json"

local M = {}

-- The order in which the server writes them: a block put together from pieces is the bytes of a whole one.
local ORDER = { "type", "id", "name", "thinking", "signature", "data", "text", "citations", "input", "caller" }
local RANK = {}
for i, name in ipairs(ORDER) do
    RANK[name] = i
end

--- What is read of a block. An input is as large as the model likes, and stays a text.
M.BLOCK = { type = true, text = true, thinking = true, signature = true, id = true, name = true, input = {} }

--- rebuild(value, raw, fields) -> the JSON text of an object with some fields replaced by other JSON texts.
function M.rebuild(value, raw, fields)
    local names, parts = {}, {}
    for name in pairs(value) do
        names[#names + 1] = name
    end
    for name in pairs(fields) do
        if value[name] == nil then
            names[#names + 1] = name
        end
    end
    table.sort(names, function(a, b)
        local first, second = RANK[a] or 99, RANK[b] or 99
        return first < second or first == second and a < b
    end)
    for i, name in ipairs(names) do
        parts[i] = history.quote(name) .. ":" .. (fields[name] or json.raw(raw, name))
    end
    return "{" .. table.concat(parts, ",") .. "}"
end

--- is_object_text(text) -> whether it is a JSON object
M.is_object_text = history.is_object_text

local own = setmetatable({}, { __mode = "k" }) -- target -> whether its address is Anthropic's own

--- is_own(target) -> whether the base URL is Anthropic's own.
function M.is_own(target)
    if own[target] == nil then
        local host = (target.base_url or ""):lower():match("^https?://([^/?#:]+)") or ""
        own[target] = host == "api.anthropic.com" or host:find("%.anthropic%.com$") ~= nil
    end
    return own[target]
end

--- call_name(name) -> one that the server takes
function M.call_name(name)
    if name and #name <= 64 and name ~= "" and not name:find("[^%w_-]") then
        return name
    end
    name = (name or ""):gsub("[^%w_-]", "_"):sub(1, 64)
    return name ~= "" and name or "unknown"
end

--- context(conv, target, taken) -> what the blocks of one answer share: the ids of its calls.
-- @param taken ids that were made for calls of others, or nil
function M.context(conv, target, taken)
    return { namer = history.namer(conv, taken), target = target, calls = 0 }
end

-- ---- calls ----

-- The arguments as the model wrote them, and as an object that can be sent: never another one that it made up.
local function arguments(block)
    local input = block.value.input
    if block.args then
        return block.args, "{}"
    elseif history.is_object(input) then
        local text = json.raw(block.raw, "input")
        return text, text
    elseif input == nil or input == json.null or input == "" then
        return "{}", "{}"
    end
    local text = type(input) == "string" and input or json.raw(block.raw, "input")
    return text, M.is_object_text(text) and text or "{}"
end

--- call(ctx, block) -> its item; in call order, each block once. The block's raw text is then what can be sent.
function M.call(ctx, block)
    local value = block.value
    local name = type(value.name) == "string" and value.name or ""
    local given = type(value.id) == "string" and value.id or nil
    if given and given:find("[^%w_-]") then
        given = given:gsub("[^%w_-]", "_")
    end
    ctx.calls = ctx.calls + 1
    local args, input = arguments(block)
    local item = { type = "call", id = history.new_id(ctx.namer, given, ctx.calls), name = name, args = args }
    if item.id ~= value.id or M.call_name(name) ~= value.name or not history.is_object(value.input) then
        block.raw = M.rebuild(block.picked and history.decode(block.raw) or value, block.raw, {
            id = history.quote(item.id), name = history.quote(M.call_name(name)), input = input })
    end
    block.item = item
    return item
end

-- ---- blocks -> items ----

local THOUGHTS = { thinking = true, redacted_thinking = true }

local function text_of(value)
    return type(value) == "string" and value or ""
end

-- kind of block -> function(ctx, block) -> its item or nil, whether it can be sent back
local READ = {
    text = function(_, block)
        local text = text_of(block.value.text)
        return text ~= "" and { type = "text", text = text } or nil, text:find("%S") ~= nil
    end,
    thinking = function(ctx, block)
        local sealed = text_of(block.value.signature) ~= ""
        return { type = "reasoning", text = text_of(block.value.thinking) }, sealed or not M.is_own(ctx.target)
    end,
    tool_use = function(ctx, block)
        return block.item or M.call(ctx, block), true
    end,
}

local function read_blocks(ctx, blocks)
    local items, wire, kinds = {}, {}, {}
    for _, block in ipairs(blocks) do
        local kind = block.value.type
        local item, sent
        if READ[kind] then
            item, sent = READ[kind](ctx, block)
        else
            item = { type = "opaque", kind = type(kind) == "string" and kind or nil }
            sent = type(kind) == "string" and not block.damaged
        end
        items[#items + 1] = item
        if sent then
            wire[#wire + 1], kinds[#kinds + 1] = block.raw, kind
        end
    end
    -- Reasoning that led to nothing (the answer was cut) would be refused when it comes back.
    while THOUGHTS[kinds[#wire]] do
        wire[#wire] = nil
    end
    return items, wire
end

-- ---- why it stopped ----

-- The words of compatible servers, too.
local STOPS = { end_turn = "end", stop_sequence = "end", stop = "end", tool_use = "end", max_tokens = "length",
    model_context_window_exceeded = "length", length = "length", pause_turn = "pause", refusal = "refusal",
    content_filter = "filter" }

-- Of a cut answer the last call may be half of one.
local function mark_cut(blocks)
    local last = blocks[#blocks]
    local item = last and last.item
    if item and (item.args:find("^%s*{%s*}%s*$") or not M.is_object_text(item.args)) then
        item.complete = false
    end
end

local function refusal(details)
    details = history.is_object(details) and details or {}
    local category = text_of(details.category)
    local text = "Claude refused to answer" .. (category ~= "" and (" (%s)"):format(category) or "")
    local why = text_of(details.explanation)
    return { type = "refusal", text = why ~= "" and text .. ": " .. why or text, by_provider = true }
end

local function stop_of(ctx, blocks, items, about)
    local stop = STOPS[about.stop_reason] or "end"
    if stop == "length" then
        mark_cut(blocks)
    elseif stop == "refusal" then
        items[#items + 1] = refusal(about.stop_details)
    elseif (stop == "end" or stop == "pause") and ctx.calls > 0 then
        stop = "calls"
    end
    return stop
end

-- ---- usage ----

local function sum(a, b)
    return b <= math.maxinteger - a and a + b or math.maxinteger
end

-- Input is told in three parts here that do not overlap.
local function read_usage(usage)
    usage = history.is_object(usage) and usage or {}
    local count = history.count
    local details = history.is_object(usage.output_tokens_details) and usage.output_tokens_details or {}
    local written, cached = count(usage.cache_creation_input_tokens), count(usage.cache_read_input_tokens)
    local input, output = sum(sum(count(usage.input_tokens), written), cached), count(usage.output_tokens)
    return {
        input = input,
        output = output,
        cached = cached,
        cache_write = usage.cache_creation_input_tokens ~= nil and written or nil,
        reasoning = count(details.thinking_tokens),
        total = sum(input, output),
    }
end

--- answer(ctx, blocks, about) -> the answer entry.
-- @param about { stop_reason =, stop_details =, usage = } as the server tells them
function M.answer(ctx, blocks, about)
    local items, wire = read_blocks(ctx, blocks)
    local stop = stop_of(ctx, blocks, items, about)
    return {
        type = "answer",
        provider = "anthropic",
        origin = ctx.target.origin,
        model = ctx.target.model,
        items = items,
        wire = wire,
        usage = read_usage(about.usage),
        stop = stop,
    }
end

return M
