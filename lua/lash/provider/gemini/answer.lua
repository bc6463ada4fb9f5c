-- Gemini's answers, whole or in chunks: both are put together from the same pieces, in the same way, so
-- that the entry is the same.
--
-- A piece is plain text (`{ thought =, texts = }`: neighbours of one kind are one piece) or a part kept as
-- it came (`{ raw =, item = }`: calls, signed texts, everything unknown).
local contents = require "lash.provider.gemini.contents"
local core = require "lash.core.json"
local fault = require "lash.provider.fault"
local history = require "lash.provider.history"
local json = require "lash.json"
local mend = require "lash.provider.mend"
local trouble = require "lash.provider.gemini.errors"

local M = {}

local NAME = "gemini"
local quote = history.quote

--- How often an answer is asked for that the server gives in several requests.
M.CONTINUATIONS = 16

local function text_of(value)
    return type(value) == "string" and value ~= "" and value or nil
end

local function is_array(value)
    return type(value) == "table" and getmetatable(value) == json.array_mt
end

-- ---- pieces ----

local Answer = {}
Answer.__index = Answer

-- An answer in the making; `begun` is what earlier requests brought of it.
local function new(conv, target, res, begun)
    conv.scratch = conv.scratch or {}
    local self = setmetatable({
        target = target, res = res, pieces = {}, calls = 0, ids = {}, wire_ids = {}, tries = {}, before = {}, times = 0,
    }, Answer)
    if begun then
        table.move(begun.pieces, 1, #begun.pieces, 1, self.pieces)
        for id in pairs(begun.ids) do
            self.ids[id] = true
        end
        for id in pairs(begun.wire_ids) do
            self.wire_ids[id] = true
        end
        self.calls, self.before, self.times = begun.calls, begun.usage, begun.times
        local last = self.pieces[#self.pieces]
        if last and last.texts then -- it may grow, and what was begun stays as it is
            self.pieces[#self.pieces] = { thought = last.thought, texts = { table.concat(last.texts) } }
        end
    end
    self.namer = history.namer(conv, begun and begun.ids)
    return self
end

local function nothing() end

-- Whether a part is text and nothing else that would have to be kept.
local function is_plain(part)
    for name, value in pairs(part) do
        if name ~= "text" and value ~= json.null and (name ~= "thought" or type(value) ~= "boolean") then
            return false
        end
    end
    return true
end

local function tell_text(thought, text, tell)
    tell(thought and "reasoning" or "text", text)
end

-- A text that is not empty, and nothing else.
function Answer:add_plain(text, thought, tell)
    local last = self.pieces[#self.pieces]
    if not last or not last.texts or last.thought ~= thought then
        last = { thought = thought, texts = {} }
        self.pieces[#self.pieces + 1] = last
    end
    last.texts[#last.texts + 1] = text
    tell_text(thought, text, tell)
end

function Answer:add_text(part, raw, tell)
    local thought = part.thought == true
    if not is_plain(part) then
        self.pieces[#self.pieces + 1] = { raw = raw(), thought = thought, text = part.text }
        if part.text ~= "" then
            tell_text(thought, part.text, tell)
        end
    elseif part.text ~= "" then
        self:add_plain(part.text, thought, tell)
    end
end

-- The id that goes back with a call: the given one, made unique in this answer.
function Answer:wire_id(given)
    if not given then
        return nil
    end
    local id, try = given, self.tries[given] or 1
    while self.wire_ids[id] do
        try = try + 1
        id = ("%s_%d"):format(given, try)
    end
    self.wire_ids[id], self.tries[given] = true, try
    return id
end

function Answer:add_call(part, raw, tell)
    local call = part.functionCall
    if call.willContinue ~= nil or call.partialArgs ~= nil then
        return nil, fault.answer(self.target, self.res, { code = "nonsense",
            what = "the server sends the arguments of a call in pieces, which nobody asked for",
            remedy = "take streamFunctionCallArguments out of the settings" })
    end
    raw = raw()
    local given = text_of(call.id)
    local args = call.args ~= nil and call.args ~= json.null and json.raw(raw, "functionCall", "args") or "{}"
    local item = { type = "call", name = text_of(call.name) or "", args = args, wire_id = self:wire_id(given) }
    self.calls = self.calls + 1
    item.id = history.new_id(self.namer, given, self.calls)
    self.ids[item.id] = true
    local name, sent = contents.call_name(item.name), contents.arguments(args)
    if item.wire_id ~= call.id or name ~= call.name or sent ~= args then -- it could not go back as it is
        call.id, call.name = item.wire_id, name
        call.args = assert(json.verbatim(sent))
        raw = assert(json.encode(part))
    end
    self.pieces[#self.pieces + 1] = { raw = raw, item = item }
    tell("call.ready", { n = self.calls, id = item.id, name = item.name, args = item.args })
    return true
end

-- Whether a part is worth keeping: not one that is empty, or a text or call that is none. They would be refused.
local function is_sound(part)
    for name, value in pairs(part) do
        if (name == "text" or name == "functionCall") and value ~= json.null then
            return false
        end
    end
    for name, value in pairs(part) do
        if name ~= "thought" and value ~= json.null then
            return true
        end
    end
    return false
end

-- @param raw fn() -> the exact text of the part
-- @return true | nil, err
function Answer:add_part(part, raw, tell)
    if history.is_object(part.functionCall) then
        return self:add_call(part, raw, tell)
    elseif type(part.text) == "string" then
        self:add_text(part, raw, tell)
    elseif is_sound(part) then
        self.pieces[#self.pieces + 1] = { raw = raw(), item = { type = "opaque" } }
    end
    return true
end

-- ---- chunks ----

-- The candidate of a chunk, always the same one, and its place.
function Answer:candidate(value)
    for i, candidate in ipairs(is_array(value.candidates) and value.candidates or {}) do
        if history.is_object(candidate) then
            local index = math.type(candidate.index) == "integer" and candidate.index or 0
            self.index = self.index or index
            if index == self.index then
                return candidate, i
            end
        end
    end
    return nil
end

-- @param raws the texts of the parts, or nil
function Answer:add_parts(candidate, at, text, raws, tell)
    local parts, n = history.is_object(candidate.content) and candidate.content.parts, 0
    local function raw()
        raws = raws or json.elements(json.raw(text, "candidates", at, "content", "parts"))
        return raws[n]
    end
    for i, part in ipairs(is_array(parts) and parts or {}) do
        if history.is_object(part) then
            n = i
            local ok, err = self:add_part(part, raw, tell)
            if not ok then
                return nil, err
            end
        end
    end
    return true
end

-- What is said beside the parts. Some proxies give a reason with every chunk: the last one counts.
function Answer:note(value, candidate)
    if history.is_object(value.usageMetadata) and next(value.usageMetadata) then
        self.usage, self.usage_text = value.usageMetadata, nil
    end
    if candidate then
        local reason = text_of(candidate.finishReason)
        if reason and reason ~= "FINISH_REASON_UNSPECIFIED" then
            self.reason = reason
        end
        self.message = text_of(candidate.finishMessage) or self.message
        self.token = text_of(candidate.continuationToken) or self.token
    elseif history.is_object(value.promptFeedback) then
        self.blocked = text_of(value.promptFeedback.blockReason) or self.blocked
    end
end

-- A chunk may say nothing but whose it is.
local CHUNK = { "candidates", "promptFeedback", "usageMetadata", "responseId", "modelVersion" }

local function is_chunk(value)
    if history.is_object(value) then
        for _, field in ipairs(CHUNK) do
            if value[field] ~= nil then
                return true
            end
        end
    end
    return false
end

--- One chunk, or a whole answer. `value` is `text`, decoded.
-- @param raws the texts of the parts of its only candidate, or nil
-- @return "more" | "idle" | "end", or nil, err
function Answer:add(value, text, tell, raws)
    local e = trouble.error_in(value)
    if e then
        return nil, trouble.described(self.target, self.res, e)
    elseif not is_chunk(value) then
        return nil, fault.nonsense(self.target, { headers = self.res.headers, body = text },
            "is no answer of Gemini's protocol")
    end
    local count, calls = #self.pieces, self.calls
    local grown = false
    local candidate, at = self:candidate(value)
    if candidate then
        local ok, err = self:add_parts(candidate, at, text, raws, function(kind, fields)
            grown = true
            tell(kind, fields)
        end)
        if not ok then
            return nil, err
        end
    end
    self:note(value, candidate)
    -- A plain end without usage may be followed by more.
    if self.blocked or self.reason and (self.reason ~= "STOP" or history.is_object(value.usageMetadata)) then
        return "end"
    end
    return (grown or #self.pieces > count or self.calls > calls) and "more" or "idle"
end

-- ---- the answer ----

local function read_usage(usage, before)
    local count = history.count
    local counts = {
        input = count(usage.promptTokenCount) + count(usage.toolUsePromptTokenCount),
        output = count(usage.candidatesTokenCount) + count(usage.thoughtsTokenCount),
        cached = count(usage.cachedContentTokenCount),
        reasoning = count(usage.thoughtsTokenCount),
        total = count(usage.totalTokenCount),
    }
    if counts.total == 0 then
        counts.total = counts.input + counts.output
    end
    for name, n in pairs(before) do
        counts[name] = counts[name] + n
    end
    return counts
end

-- Pieces of one text are one item, unless something stands between.
local function add_text(items, kind, text)
    local last = items[#items]
    if last and last.type == kind then
        last.texts[#last.texts + 1] = text
    elseif text ~= "" then
        items[#items + 1] = { type = kind, texts = { text } }
    end
end

-- The items, and the parts as they go back.
function Answer:items()
    local items, wire = {}, {}
    for i, piece in ipairs(self.pieces) do
        local kind = piece.thought and "reasoning" or "text"
        if piece.texts then
            local text = table.concat(piece.texts)
            wire[i] = ('{"text":%s%s}'):format(quote(text), piece.thought and ',"thought":true' or "")
            add_text(items, kind, text)
        else
            wire[i] = piece.raw
            if piece.item then
                items[#items + 1] = piece.item
            else
                add_text(items, kind, piece.text)
            end
        end
    end
    for _, item in ipairs(items) do
        if item.texts then
            item.text, item.texts = table.concat(item.texts), nil
        end
    end
    return items, wire
end

-- Ends that say no to what was asked.
local REFUSALS = { SAFETY = true, RECITATION = true, LANGUAGE = true, BLOCKLIST = true, PROHIBITED_CONTENT = true,
    SPII = true, IMAGE_SAFETY = true, IMAGE_PROHIBITED_CONTENT = true, IMAGE_RECITATION = true }
-- Ends that another attempt may avoid.
local MISSTEPS = { MALFORMED_FUNCTION_CALL = true, UNEXPECTED_TOOL_CALL = true, MALFORMED_RESPONSE = true,
    TOO_MANY_TOOL_CALLS = true }

local function refusal(items, text)
    items[#items + 1] = { type = "refusal", text = text, by_provider = true }
    return "refusal"
end

-- How the answer ended: one of the words of an answer's `stop`, or nil, err.
function Answer:stop(items)
    local reason, message = self.reason, self.message
    local empty = true -- a summary of reasoning alone is no answer
    for _, item in ipairs(items) do
        empty = empty and item.type == "reasoning"
    end
    local function again(code, what, name, remedy)
        return nil, fault.answer(self.target, self.res, { code = code, retry = true, what = what, name = name,
            message = message, remedy = remedy })
    end
    if self.blocked and not reason then
        return refusal(items, ("Gemini blocked the prompt: %s"):format(fault.clean(self.blocked)))
    elseif REFUSALS[reason] then
        return refusal(items, ("Gemini stopped the answer: %s%s"):format(reason,
            message and (" (" .. fault.clean(message) .. ")") or ""))
    elseif MISSTEPS[reason] then
        return again("nonsense", "the model made a call that is none", reason,
            "try again, or simplify the tools' parameters")
    elseif reason == "MAX_TOKENS" or reason == "CONTINUATION" then
        return "length"
    elseif empty and (reason == nil or reason == "STOP") then
        return again("nonsense", "the answer is empty", reason or self.index and "no finishReason" or "no candidates",
            "try again")
    elseif reason == nil or reason == "STOP" then
        return self.calls > 0 and "calls" or "end"
    elseif empty then
        return again("overloaded", "the model gave no answer", reason)
    end
    return "error"
end

--- The end of the answer, or of this request's share of it.
-- @return answer | nil, err | nil, nil, begun
function Answer:finish()
    local usage = read_usage(self.usage_text and history.decode(self.usage_text) or self.usage or {}, self.before)
    if self.reason == "CONTINUATION" and self.token and self.times < M.CONTINUATIONS then
        return nil, nil, { token = self.token, pieces = self.pieces, calls = self.calls, ids = self.ids,
            wire_ids = self.wire_ids, usage = usage, times = self.times + 1 }
    end
    local items, wire = self:items()
    local stop, err = self:stop(items)
    if not stop then
        return nil, err
    end
    return {
        type = "answer",
        provider = NAME,
        origin = self.target.origin,
        model = self.target.model,
        items = items,
        wire = wire,
        usage = usage,
        stop = stop,
    }
end

-- ---- whole ----

-- A stream that came as one array, as from a proxy that dropped `alt=sse`.
local function read_array(answer, value, text, tell)
    local raws = json.elements(text)
    for i, chunk in ipairs(value) do
        local what, err = answer:add(chunk, raws[i], tell)
        if not what then
            return nil, err
        end
    end
    if not answer.reason and not answer.blocked then
        return nil, fault.broken(answer.target, answer.res)
    end
    return answer:finish()
end

-- What is read of a whole answer.
local WHOLE = history.shape { error = true, promptFeedback = true, usageMetadata = true, responseId = true,
    modelVersion = true,
    candidates = { { index = true, finishReason = true, finishMessage = true, continuationToken = true,
        content = { parts = { true, raws = true } } } } }

local function read_whole(answer, body, tell)
    local value, err, raws, text = mend.pick(body, WHOLE)
    if err then
        return nil, fault.nonsense(answer.target, { headers = answer.res.headers, body = body }, "is not JSON")
    elseif is_array(value) and value[1] ~= nil and not trouble.error_in(value) then
        return read_array(answer, value, text, tell)
    end
    local what
    local single = raws and is_array(value.candidates) and #value.candidates == 1
    what, err = answer:add(value, text, tell, single and raws or nil)
    if not what then
        return nil, err
    end
    return answer:finish()
end

--- read(res, conv, view, target, begun) -> answer | nil, err | nil, nil, begun
-- `res` is { status =, headers =, body = }. The last means that the server gives the answer in several
-- requests: the same request is to be made again with `begun`, and its answer to be read with it.
function M.read(res, conv, _, target, begun)
    if res.status < 200 or res.status > 299 then
        return nil, trouble.failed(target, res)
    end
    return read_whole(new(conv, target, res, begun), res.body or "", nothing)
end

-- ---- in chunks ----

local Reader = {}
Reader.__index = Reader

--- reader(conv, view, target, res, begun) -> reader; its finish() returns what read() does.
function M.reader(conv, _, target, res, begun)
    return setmetatable({ answer = new(conv, target, res, begun), target = target, res = res, seen = false }, Reader)
end

-- What is picked out of a chunk that has only one text: see reader:plain(). What is not here matters nowhere.
M.picker = core.picker {
    candidates = { { content = { parts = { { text = 1, thought = 2, ["*"] = "null" } }, ["*"] = "any" }, index = 3,
        finishReason = "null", finishMessage = "null", continuationToken = "null", ["*"] = "any" } },
    usageMetadata = { "object", 4 }, responseId = 5, error = "null", ["*"] = "any",
}

--- reader:plain(tell, ...) -> "more" | nil: see the interface of providers.
function Reader:plain(tell, text, thought, index, usage, id)
    local answer = self.answer
    if index == nil then
        index = 0
    end
    if type(text) ~= "string" or text == "" or thought ~= nil and type(thought) ~= "boolean" or answer.reason
        or answer.blocked or math.type(index) ~= "integer" or answer.index and answer.index ~= index then
        return nil
    end
    self.seen = true
    answer.index = index
    if usage then
        answer.usage_text = usage -- decoded when it is the last
    end
    answer.id = answer.id or text_of(id)
    answer:add_plain(text, thought == true, tell)
    return "more"
end

function Reader:event(event, tell)
    local data = event.data
    if not data:find("%S") or data == "[DONE]" then -- the end marker of another protocol, which proxies add
        return "idle"
    end
    self.seen = true
    local value, err, text = mend.decode(data)
    if err then
        return nil, fault.nonsense(self.target, { headers = self.res.headers, body = data },
            "has an event that is no JSON")
    end
    return self.answer:add(value, text, tell)
end

function Reader:finish(tail, tell)
    local answer = self.answer
    if answer.reason or answer.blocked then
        return answer:finish()
    end
    local e = trouble.error_in(history.decode(tail) or nil)
    if e then
        return nil, trouble.described(self.target, self.res, e)
    elseif self.seen or not tail:find("%S") then
        return nil, fault.broken(self.target, self.res)
    end
    -- Nothing was an event: a whole answer under a wrong name, or a page. A stream was asked for: what does not say
    -- how it ended may be its first piece.
    local whole, err, more = read_whole(answer, tail, tell)
    if whole and not answer.reason and not answer.blocked then
        return nil, fault.broken(self.target, self.res)
    end
    return whole, err, more
end

return M
