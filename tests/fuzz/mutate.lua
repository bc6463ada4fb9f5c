-- Random changes of event streams, always the same for the same seed: M.harm makes something else of a stream,
-- M.disguise only writes the same in another way.
local M = {}

--- random(seed) -> function(n): 1..n
function M.random(seed)
    local x = (seed * 2862933555777941757 + 3037000493) ~ 0x5851F42D4C957F2D
    return function(n)
        x = x ~ (x << 13)
        x = x ~ (x >> 7)
        x = x ~ (x << 17)
        return (x >> 1) % n + 1
    end
end

--- pieces(random, len) -> number | list of lengths: how the bytes are split
function M.pieces(random, len)
    local kind = random(4)
    if kind == 1 then
        return 1
    elseif kind == 2 then
        return random(16)
    end
    local list = {}
    local most = kind == 3 and 40 or math.max(1, len)
    for i = 1, random(64) do
        list[i] = random(most)
    end
    return list
end

-- ---- JSON text ----

local function string_end(text, at)
    at = at + 1
    while true do
        local found = text:find('["\\]', at)
        if not found then
            return nil
        elseif text:byte(found) == 34 then
            return found + 1
        end
        at = found + 2
    end
end

-- Collects spans { from, to, key = begin of its name } of all values in the JSON text at `at`; returns what is
-- behind it, nil when it is none.
local function scan(text, at, spans, key)
    at = text:match("^[ \t\r\n]*()", at)
    local span = { at, key = key }
    spans[#spans + 1] = span
    local open = text:sub(at, at)
    local past
    if open == '"' then
        past = string_end(text, at)
    elseif open == "{" or open == "[" then
        local close = open == "{" and "}" or "]"
        past = text:match("^[ \t\r\n]*()", at + 1)
        while past and text:sub(past, past) ~= close do
            local name
            if open == "{" then
                name = past
                past = text:sub(past, past) == '"' and string_end(text, past)
                past = past and text:match("^[ \t\r\n]*:()", past)
            end
            past = past and scan(text, past, spans, name)
            past = past and text:match("^[ \t\r\n]*()", past)
            if past and text:sub(past, past) == "," then
                past = text:match("^,[ \t\r\n]*()", past)
            elseif past and text:sub(past, past) ~= close then
                return nil
            end
        end
        past = past and past + 1
    else
        past = text:match("^[%w%+%-%.]+()", at)
    end
    span[2] = past and past - 1
    return past
end

-- The values of all data lines: spans in the whole text.
local function values(text)
    local spans = {}
    for at in text:gmatch "data: ?()[{%[]" do
        local found = {}
        if scan(text, at, found) then
            table.move(found, 1, #found, #spans + 1, spans)
        end
    end
    return spans
end

local OTHERS = {
    "null", "true", "false", "0", "-1", "1", "7", "1.5", "1e400", "-0.0", "9007199254740993", "123456789012345678901234567890",
    '""', '"x"', '"\\u0000"', '"\\ud83d"', '"\u{20ac}"', '"stop"', '"call_a"', '"[DONE]"',
    '"pause_turn"', '"CONTINUATION"', '"max_tokens"', '"MAX_TOKENS"', '"length"',
    '"incomplete"', '"failed"', '"refusal"', '"SAFETY"', '"content_filter"', '"MALFORMED_FUNCTION_CALL"', '"error"',
    '"tool_use"', "[]", "{}", "[[]]", "[null]",
    '[{}]', '{"a":1}', '{"error":{"message":"m","code":500}}', '[1,"x",null]', ("["):rep(200) .. ("]"):rep(200),
    '"' .. ("long"):rep(500) .. '"', '"{\\"city\\":\\"Oslo\\"}"', '"{"', "bad", "",
}

local function cut(text, from, to, instead)
    return text:sub(1, from - 1) .. instead .. text:sub(to + 1)
end

local function replace_value(text, random)
    local spans = values(text)
    if #spans == 0 then
        return text
    end
    local span, other = spans[random(#spans)], OTHERS[random(#OTHERS)]
    if random(3) == 1 then
        local from = spans[random(#spans)]
        other = text:sub(from[1], from[2])
    end
    return cut(text, span[1], span[2], other)
end

local function keyed(text, random)
    local spans, named = values(text), {}
    for _, span in ipairs(spans) do
        named[#named + 1] = span.key and span or nil
    end
    return named[1] and named[random(#named)]
end

local function drop_value(text, random)
    local span = keyed(text, random)
    if not span then
        return text
    end
    local past = text:match("^[ \t]*,()", span[2] + 1)
    return cut(text, span.key, past and past - 1 or span[2], "")
end

local function repeat_value(text, random)
    local span = keyed(text, random)
    return span and cut(text, span.key, span.key - 1, text:sub(span.key, span[2]) .. ",") or text
end

local function rename(text, random)
    local span = keyed(text, random)
    return span and cut(text, span.key + 1, span.key, "x") or text
end

-- ---- lines and bytes ----

-- Pieces that `pattern` ends, each with its end.
local function split(text, pattern)
    local parts, at = {}, 1
    while at <= #text do
        local _, to = text:find(pattern, at)
        to = to or #text
        parts[#parts + 1] = text:sub(at, to)
        at = to + 1
    end
    return parts
end

local function shuffle(pattern)
    return function(text, random)
        local parts = split(text, pattern)
        if #parts == 0 then
            return text
        end
        local kind, i, j = random(4), random(#parts), random(#parts)
        if kind == 1 then
            table.remove(parts, i)
        elseif kind == 2 then
            table.insert(parts, j, parts[i])
        elseif kind == 3 then
            parts[i], parts[j] = parts[j], parts[i]
        else
            table.insert(parts, j, table.remove(parts, i))
        end
        return table.concat(parts)
    end
end

local function flip(text, random)
    for _ = 1, random(4) do
        local at = random(math.max(1, #text))
        text = cut(text, at, at, string.char(random(256) - 1))
    end
    return text
end

local function drop_bytes(text, random)
    local at = random(math.max(1, #text))
    return cut(text, at, at + random(20) - 1, "")
end

local function truncate(text, random)
    return text:sub(1, random(#text + 1) - 1)
end

local STRANGE = {
    'data: {"error":{"message":"m","type":"t","code":"c"}}\n\n', '{"error":"out of memory"}\n', "data: [DONE]\n\n", ": c\n",
    "\xef\xbb\xbf", "\0", "\xff\xfe", "\xed\xa0\x80", "data: null\n\n", "data: []\n\n", "data: 1\n\n", "data:\n\n", "data: \"x\"\n\n",
    "event: error\n", "event: ping\ndata: {}\n\n", "<html>\n", "\r", "\n", "\n\n", "data: {\"type\":\"ping\"}\n\n", "id: 1\n",
    'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"m"}}\n\n', "data: ", "{", "}", '"',
}

local function insert(text, random)
    local parts = split(text, random(2) == 1 and "\n" or "\r?\n\r?\n")
    local strange = STRANGE[random(#STRANGE)]
    if random(4) == 1 then
        local at = random(#text + 1)
        return cut(text, at, at - 1, strange)
    end
    table.insert(parts, random(#parts + 1), strange)
    return table.concat(parts)
end

local HARMS = {
    replace_value, replace_value, replace_value, drop_value, repeat_value, rename, shuffle "\n", shuffle "\r?\n\r?\n",
    shuffle "\r?\n\r?\n", flip, drop_bytes, truncate, insert,
}

--- harm(text, random) -> another text
function M.harm(text, random)
    for _ = 1, random(3) do
        text = HARMS[random(#HARMS)](text, random)
    end
    return text
end

-- ---- the same in other words ----

local function line_ends(text, random)
    local ends, one, last = { "\r", "\r\n", "\n" }, random(4), nil
    return (text:gsub("()\n", function(at)
        local this = ends[one] or ends[random(3)]
        if last and last[1] == at - 1 and last[2] == "\r" and this == "\n" then
            this = "\r" -- else both were one line end
        end
        last = { at, this }
        return this
    end))
end

-- Before random lines: what says nothing. A blank line would end an event.
local function between_lines(text, random)
    local words = { ": c\n", ":\n", "retry: 10\n", "id: 7\n", "id\n", ": data: {}\n" }
    return (text:gsub("[^\n]+\n", function(line)
        return random(6) == 1 and words[random(#words)] .. line or line
    end))
end

local function blank_lines(text, random)
    return (text:gsub("\n\r?\n", function(two)
        return random(4) == 1 and two .. "\n\n" or two
    end))
end

local function without_space(text)
    return (text:gsub("%f[^\n\0]data: ", "data:"))
end

-- A line feed where JSON allows space: two data lines of one event.
local function many_lines(text, random)
    local spans = values(text)
    for i = #spans, 1, -1 do
        if spans[i].key and random(20) == 1 then
            local at = spans[i][1]
            text = cut(text, at, at - 1, "\ndata: ")
        end
    end
    return text
end

-- Fields that nobody knows, at the top of events.
local function more_fields(text, random)
    return (text:gsub("%f[^\n\0](data: ?{)([^}])", function(begin, rest)
        return random(4) == 1 and begin .. '"x_new":{"type":"x","a":[1,null,"}"]},' .. rest or begin .. rest
    end))
end

local NEWS = {
    openai = 'event: response.new\ndata: {"type":"response.new","delta":"x","item":{"type":"x"}}\n\n',
    ["openai-chat"] = 'data: {"choices":[]}\n\n',
    gemini = "data:\n\n",
    anthropic = 'event: new\ndata: {"type":"new","delta":{"type":"text_delta","text":"x"}}\n\n',
}

-- Events that nobody knows.
local function more_events(text, random, name)
    return (text:gsub("\n\n", function(two)
        return random(8) == 1 and two .. NEWS[name] or two
    end))
end

local DISGUISES = { more_fields, more_events, between_lines, blank_lines, without_space, many_lines }

--- disguise(text, random, name) -> the same answer of the protocol `name` in other bytes
function M.disguise(text, random, name)
    text = text:gsub("\r\n", "\n")
    for _, change in ipairs(DISGUISES) do
        if random(2) == 1 then
            text = change(text, random, name)
        end
    end
    text = line_ends(text, random)
    return random(4) == 1 and "\xef\xbb\xbf" .. text or text
end

return M
