-- A whole answer of OpenAI's Responses protocol -> the answer's entry. Streams are put together to a whole
-- answer first, so both ways end here.
--
-- The items go back in the next request as the exact texts that came, with commas between them (entry.wire): only an
-- item whose id or name cannot be sent again gets these, and keeps the bytes of everything else.
local history = require "lash.provider.history"
local json = require "lash.json"
local plain = require "lash.core.plain"
local server = require "lash.provider.openai_chat.server"

local M = {}

--- Between two parts of a summary of reasoning.
M.PARAGRAPH = "\n\n"

local NOTHING = {}
local count, is_object, new_id = history.count, history.is_object, history.new_id

local function text_of(value)
    return type(value) == "string" and value ~= "" and value or nil
end

--- call_name(name) -> a name that may be sent
function M.call_name(name)
    if type(name) == "string" and #name <= 64 and name ~= "" and not name:find("[^%w_-]") then
        return name
    end
    name = (type(name) == "string" and name or ""):gsub("[^%w_-]", "_"):sub(1, 64)
    return name ~= "" and name or "unknown"
end

-- ---- messages and reasoning ----

local function joined(parts, kind, field, between)
    local first, texts
    for _, part in ipairs(type(parts) == "table" and parts or NOTHING) do
        local text = type(part) == "table" and part.type == kind and text_of(part[field])
        if text and not first then
            first = text
        elseif text then
            texts = texts or { first }
            texts[#texts + 1] = text
        end
    end
    return texts and table.concat(texts, between) or first or ""
end

--- message(item) -> its text, its refusal: "" without
function M.message(item)
    if type(item.content) == "string" then
        return item.content, ""
    end
    return joined(item.content, "output_text", "text"), joined(item.content, "refusal", "refusal")
end

--- reasoning(item) -> what can be read of it: the summary, or else the thoughts of an open model
function M.reasoning(item)
    local text = joined(item.summary, "summary_text", "text", M.PARAGRAPH)
    return text ~= "" and text or joined(item.content, "reasoning_text", "text")
end

local function read_message(items, item)
    local text, refusal = M.message(item)
    if text ~= "" then
        items[#items + 1] = { type = "text", text = text, phase = text_of(item.phase) }
    end
    if refusal ~= "" then
        items[#items + 1] = { type = "refusal", text = refusal }
    end
end

-- ---- calls ----

--- unwrap(view, item, args) -> the calls inside the undeclared wrapper that some models of OpenAI invent, or nil.
local function unwrap(view, item, args)
    if (item.name ~= "parallel" and item.name ~= "multi_tool_use.parallel") or history.tool_named(view, item.name) then
        return nil
    end
    local value = json.decode(args)
    local uses = is_object(value) and value.tool_uses
    if type(uses) ~= "table" or #uses == 0 then
        return nil
    end
    local calls = {}
    for i, use in ipairs(uses) do
        if type(use) ~= "table" or type(use.recipient_name) ~= "string" then
            return nil
        end
        calls[i] = { type = "call", name = use.recipient_name:gsub("^functions%.", ""),
            args = json.raw(args, "tool_uses", i, "parameters") or "{}" }
    end
    return calls
end
M.unwrap = unwrap

-- Fields that only come and must not go back.
local COMES = { created_by = true, parsed = true, parsed_arguments = true }

-- The item again with other values in some fields, and the bytes that came in all others.
local function patched(raw, changes)
    local copy = {}
    for name in pairs((history.decode(raw))) do
        copy[name] = not COMES[name] and json.verbatim(json.raw(raw, name)) or nil
    end
    for name, value in pairs(changes) do
        copy[name] = value
    end
    return (assert(json.encode(copy, { lossy = true })))
end

--- builder(conv, view, target, taken, cut) -> what calls are added to: { items =, calls = how many }.
-- taken: ids that no call may get, or nil; cut: the answer ended before its end.
function M.builder(conv, view, target, taken, cut)
    local traits = server.traits(target)
    return { items = {}, calls = 0, view = view, cut = cut, lenient = traits.openai or traits.azure,
        namer = history.namer(conv, taken) }
end

-- The arguments as they go back. OpenAI takes back whatever its models wrote; others read it, and refuse all of the
-- conversation when that fails.
local function sent_arguments(builder, args)
    return builder.lenient and args or history.object_text(args) or "{}"
end

--- call(builder, item, raw) -> the text to send again; the call (or those that it wraps) is added to the items
function M.call(builder, item, raw)
    local args = item.arguments
    if type(args) == "table" then
        args = json.raw(raw, "arguments")
    end
    args = type(args) == "string" and args or ""
    local items, name = builder.items, type(item.name) == "string" and item.name or ""
    local id = new_id(builder.namer, item.call_id, builder.calls + 1)
    local cut = item.status == "incomplete" or (builder.cut and args ~= "" and not json.decode(args))
    local wrapped = not cut and unwrap(builder.view, item, args)
    if wrapped then
        for i, call in ipairs(wrapped) do
            call.wrapper = id
            call.id = new_id(builder.namer, ("%s_%d"):format(id, i), builder.calls + i)
            items[#items + 1] = call
        end
        builder.calls = builder.calls + #wrapped
    else
        local call = { type = "call", id = id, name = name, args = args }
        if cut then
            call.complete = false
        end
        if item.caller and is_object(item.caller) and item.caller.type ~= "direct" then
            call.caller = json.raw(raw, "caller")
        end
        items[#items + 1] = call
        builder.calls = builder.calls + 1
    end
    local sent = sent_arguments(builder, args)
    if id ~= item.call_id or sent ~= item.arguments or M.call_name(name) ~= item.name then
        return patched(raw, { call_id = id, arguments = sent, name = M.call_name(name) })
    end
    return raw
end

-- ---- all items ----

-- @return what goes back, items of JSON with commas between them; `raws` is used up
local function read_items(builder, output, raws)
    local items = builder.items
    for i = 1, #output do
        local item, raw = output[i], raws[i]
        local kind = item.type
        if item.created_by ~= nil or item.parsed ~= nil or item.parsed_arguments ~= nil then
            raw = patched(raw, NOTHING)
        end
        if kind == "function_call" then
            raw = M.call(builder, item, raw)
        elseif kind == "message" then
            read_message(items, item)
        elseif kind == "reasoning" then
            items[#items + 1] = { type = "reasoning", text = M.reasoning(item) }
        else
            items[#items + 1] = { type = "opaque", kind = text_of(kind) }
        end
        raws[i] = raw
    end
    -- Reasoning that led to nothing (the answer was cut) would be refused when it comes back.
    local last = #raws
    while last > 0 and output[last].type == "reasoning" do
        raws[last] = nil
        last = last - 1
    end
    return table.concat(raws, ",")
end

local function object(value)
    return is_object(value) and value or NOTHING
end

local function read_usage(usage)
    usage = object(usage)
    local input, output = object(usage.input_tokens_details), object(usage.output_tokens_details)
    local counts = {
        input = count(usage.input_tokens),
        output = count(usage.output_tokens),
        cached = count(input.cached_tokens),
        reasoning = count(output.reasoning_tokens),
        total = count(usage.total_tokens),
    }
    if count(input.cache_write_tokens) > 0 then
        counts.cache_write = count(input.cache_write_tokens)
    end
    if counts.total == 0 then
        counts.total = counts.input + counts.output
    end
    return counts
end

local function stop_of(value, items)
    if value.status == "incomplete" then
        return object(value.incomplete_details).reason == "content_filter" and "filter" or "length"
    end
    local refused, said = false, false
    for i = 1, #items do
        local kind = items[i].type
        if kind == "call" then
            return "calls"
        end
        refused = refused or kind == "refusal"
        said = said or kind == "text"
    end
    return refused and not said and "refusal" or "end"
end

--- What M.call() and M.entry() read of an item.
M.ITEM = {
    type = true, status = true, phase = true, call_id = true, name = true, arguments = true, caller = true,
    content = { { type = true, text = true, refusal = true } },
    summary = { { type = true, text = true } },
    created_by = true, parsed = true, parsed_arguments = true,
}

--- is_output(output) -> whether this decoded value is a list of items
function M.is_output(output)
    if getmetatable(output) ~= json.array_mt then
        return false
    end
    for i = 1, #output do
        if not is_object(output[i]) then
            return false
        end
    end
    return true
end

local function made(target, items, wire, usage, stop)
    return {
        type = "answer",
        provider = "openai",
        origin = target.origin,
        model = target.model,
        items = items,
        wire = wire,
        usage = usage,
        stop = stop,
    }
end

--- entry(target, builder, value, output, raws) -> the answer's entry.
-- value: the response, decoded, for its status and usage; output: its items, decoded, with what M.ITEM has at least;
-- raws: list of their texts, used up.
function M.entry(target, builder, value, output, raws)
    local wire = read_items(builder, output, raws)
    return made(target, builder.items, wire, read_usage(value.usage), stop_of(value, builder.items))
end

--- plain(target, conv, taken, text, event) -> the same | nil: of the text of an ordinary answer, or of the event that
-- completes a stream, without errors and in every way as OpenAI writes them. Nothing is lost where this gives nil.
function M.plain(target, conv, taken, text, event)
    local items, wire, usage, calls = plain.responses(text, history.seen(conv), taken, event)
    if not items then
        return nil
    end
    return made(target, items, wire, usage, calls > 0 and "calls" or "end")
end

return M
