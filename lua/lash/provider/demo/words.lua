-- How the demo model reads what the user writes: words, values, and which tools they name. Plain rules,
-- no randomness: the same words and tools always give the same calls.
local json = require "lash.json"

local M = {}

local function set(words)
    local all = {}
    for word in words:gmatch "%S+" do
        all[word] = true
    end
    return all
end

-- Words that name nothing.
local STOP = set [[a an the of in on at for to and or is are was were be been what which who whom whose how me my mine
    your yours please give show tell get set make do does did with from by as it its this that these those i you we us
    can could would will shall should about all any some than then there their into need want use using call run ask
    tool tools if not no also each every same more most them they he she his her let when where while but so up out
    many much one have has had just now only very find using via per between under over below above after before
    both compare first last next again answer agent question user conversation text string number value result two
    given return list hello hi thanks thank ok yes new name take tell know]]

-- Other words for what tools are often called.
local MEANT = { plus = "add", sum = "add", minus = "subtract", times = "multiply", product = "multiply" }

-- "Primes" -> "prime", "cities" -> "city", "adding" -> "add"
local function stem(word)
    word = word:lower():gsub("'s$", "")
    if #word > 4 and word:find "ies$" then
        return word:sub(1, -4) .. "y"
    elseif #word > 3 and word:find "s$" and not word:find "ss$" then
        return word:sub(1, -2)
    elseif #word > 5 and word:find "ing$" then
        return word:sub(1, -4)
    end
    return word
end
M.stem = stem

local function capital(word)
    local ok, code = pcall(utf8.codepoint, word)
    return ok and (code >= 65 and code <= 90 or code >= 0xC0 and code <= 0xDE or code >= 0x391 and code <= 0x3A9
        or code >= 0x410 and code <= 0x42F)
end

-- ---- tokens ----

local QUOTES = { { '"', '"' }, { "`", "`" }, { "“", "”" }, { "«", "»" } }

local function quoted(text, at)
    for _, pair in ipairs(QUOTES) do
        if text:sub(at, at + #pair[1] - 1) == pair[1] then
            local from, to = text:find(pair[2], at + #pair[1], true)
            if from then
                return { kind = "quoted", value = text:sub(at + #pair[1], from - 1) }, to + 1
            end
        end
    end
    if text:sub(at, at) == "'" and not text:sub(at - 1, at - 1):find "%w" then
        local inner, after = text:match("^'([^'\n]+)'()", at)
        if inner then
            return { kind = "quoted", value = inner }, after
        end
    end
    return nil
end

local function object(text, at)
    local span = text:sub(at, at) == "{" and text:match("^%b{}", at)
    if span and json.decode(span) then
        return { kind = "json", value = span }, at + #span
    end
    return nil
end

local function number(text, at)
    if text:sub(at - 1, at - 1):find "[%w_]" then
        return nil
    end
    local span = text:match("^[+-]?%d%d?%d?,%d%d%d[,%d]*", at)
    if not (span and span:gsub("^[+-]?%d+", ""):gsub(",%d%d%d", "") == "") then
        span = text:match("^[+-]?%d+%.%d+", at) or text:match("^[+-]?%d+", at)
    end
    if not span or text:find("^[%a_/:-]", at + #span) and not text:find("^[:-]%s", at + #span) then
        return nil -- "3rd", "2024-05-01", "12:30" are words
    end
    local digits = span:gsub(",", ""):gsub("^%+", "")
    return { kind = "number", value = digits, lower = digits, stem = digits }, at + #span
end

local function word(text, at)
    local span = text:match("^[%w_/~.][%w_./:@'&=+?#%%~\x80-\xff-]*", at)
        or text:match("^[\x80-\xff%w][%w\x80-\xff'-]*", at)
    span = span and span:gsub("[.:'?&=+-]+$", "")
    if not span or span == "" then
        return nil
    end
    local name, value = span:match("^([%a_][%w_-]*)=(.+)$")
    if name then
        return { kind = "pair", name = name:lower(), value = value }, at + #span
    end
    return { kind = "word", value = span, lower = span:lower(), stem = stem(span), capital = capital(span),
        path = span:find "[%w_][./][%w_/]" ~= nil or span:find "^[./~]+%w" ~= nil }, at + #span
end

--- tokens(text) -> list of { kind = "word" | "number" | "quoted" | "json" | "pair" | "mark", value = ... }
function M.tokens(text)
    local list, at, start = {}, 1, true
    while at <= #text do
        local space = text:match("^%s+()", at)
        if space then
            start = start or text:sub(at, space - 1):find "\n" ~= nil
            at = space
        else
            local from = at
            local token, after = quoted(text, at)
            if not token then
                token, after = object(text, at)
            end
            if not token then
                token, after = number(text, at)
            end
            if not token then
                token, after = word(text, at)
            end
            if not token then
                after = at + 1
                token = { kind = "mark", value = text:sub(at, at) }
            end
            token.from, token.to, token.start = from, after - 1, start
            start = token.kind == "mark" and token.value:find "[.!?;:]" ~= nil
            list[#list + 1] = token
            at = after
        end
    end
    return list
end

-- ---- which tools are named ----

local function name_parts(name)
    local parts = {}
    for part in name:gsub("(%l)(%u)", "%1_%2"):gmatch "%w+" do
        parts[#parts + 1] = stem(part)
    end
    return parts
end

--- words_of(text) -> set of the stems in it that mean something
function M.words_of(text)
    local words = {}
    for span in text:gmatch "[%w\x80-\xff]+" do
        local s = stem(span)
        if #s >= 3 and not STOP[s] and not STOP[span:lower()] and not span:find "^%d+$" then
            words[s] = true
        end
    end
    return words
end

-- stem -> set of the tools that have it; a word of several tools names none of them
local function index(tools, words_for)
    local owners = {}
    for i, tool in ipairs(tools) do
        for s in pairs(words_for(tool)) do
            owners[s] = owners[s] == nil and i or false
        end
    end
    return owners
end

local function name_words(tool)
    local words, kept = {}, {}
    for _, part in ipairs(name_parts(tool.name)) do
        words[part] = true
        if not STOP[part] and #part >= 2 then
            kept[part] = true
        end
    end
    return next(kept) and kept or words
end

-- The whole name, in one word or in several ("count primes").
local function spelled(tokens, at, tool)
    local token = tokens[at]
    if token.kind == "word" and token.lower == tool.name:lower() then
        return 1
    end
    local parts = name_parts(tool.name)
    for i, part in ipairs(parts) do
        local t = tokens[at + i - 1]
        if not t or t.kind ~= "word" or t.stem ~= part then
            return nil
        end
    end
    return #parts
end

local function mark(tokens, mentions, at, count, tool)
    for i = at, at + count - 1 do
        tokens[i].used = true
    end
    mentions[#mentions + 1] = { at = at, tool = tool }
end

--- mentions(tokens, tools) -> list of { at = index of a token, tool = index of a tool } in text order.
-- A tool is named by its whole name, by a word of its name that no other tool has, or by such a word
-- of its description.
function M.mentions(tokens, tools)
    local by_name = index(tools, name_words)
    local by_description = index(tools, function(tool)
        return M.words_of(tool.description or "")
    end)
    local mentions, at = {}, 1
    while at <= #tokens do
        local token, count = tokens[at], 1
        local longest, named
        for i, tool in ipairs(tools) do
            local n = spelled(tokens, at, tool)
            if n and n > (longest or 0) then
                longest, named = n, i
            end
        end
        if named then
            count = longest
            mark(tokens, mentions, at, count, named)
        elseif token.kind == "word" and not token.path then
            local owner = by_name[token.stem] or by_name[MEANT[token.lower]]
            if not owner and by_name[token.stem] == nil and not STOP[token.stem] then
                owner = by_description[token.stem]
            end
            if owner then
                mark(tokens, mentions, at, 1, owner)
            end
        end
        at = at + count
    end
    return mentions
end

--- stretch(tokens, mentions, tool) -> the tokens that belong to a tool: from each of its mentions to the
-- next of another tool; all of them when it is the only one.
function M.stretch(tokens, mentions, tool)
    local owner_at, several = {}, false
    for _, mention in ipairs(mentions) do
        local at = mention.at
        while at > 1 and tokens[at - 1].kind == "word" and STOP[tokens[at - 1].lower] do
            at = at - 1
        end
        owner_at[at] = mention.tool
        several = several or mention.tool ~= mentions[1].tool
    end
    if not several then
        return tokens
    end
    local mine, owner = {}, mentions[1].tool
    for i, token in ipairs(tokens) do
        owner = owner_at[i] or owner
        if owner == tool then
            mine[#mine + 1] = token
        end
    end
    return mine
end

-- ---- values ----

-- Words with a capital that follow each other are one value: "New York". The first word of a sentence
-- is one only when nothing else is.
local function capitalised(tokens)
    local found, first, last = {}, nil, nil
    for i, token in ipairs(tokens) do
        local is = token.kind == "word" and token.capital and not token.used and not token.path
            and not (STOP[token.lower] and (token.start or token.lower == "i"))
        if is and last == i - 1 and found[#found] and found[#found].last == i - 1 then
            found[#found].value = found[#found].value .. " " .. token.value
            found[#found].last = i
        elseif is and token.start then
            first = { value = token.value, last = i }
            local next_token = tokens[i + 1]
            if next_token and next_token.kind == "word" and next_token.capital and not next_token.used then
                found[#found + 1] = first
            end
        elseif is then
            found[#found + 1] = { value = token.value, last = i }
        end
        last = is and i or nil
    end
    if #found == 0 and first then
        found[1] = first
    end
    return found
end

local function of(tokens, keep)
    local values = {}
    for _, token in ipairs(tokens) do
        if keep(token) then
            values[#values + 1] = token.value
        end
    end
    return values
end

--- values(tokens) -> { numbers = token list, quoted =, paths =, capitals =, words =, json =, pairs = }
function M.values(tokens)
    local capitals = {}
    for i, entry in ipairs(capitalised(tokens)) do
        capitals[i] = entry.value
    end
    local numbers, pairs_found = {}, {}
    for i, token in ipairs(tokens) do
        if token.kind == "number" then
            numbers[#numbers + 1] = { value = token.value, before = tokens[i - 1], after = tokens[i + 1] }
        elseif token.kind == "pair" then
            pairs_found[token.name] = pairs_found[token.name] or token.value
        end
    end
    return {
        numbers = numbers,
        pairs = pairs_found,
        capitals = capitals,
        quoted = of(tokens, function(t) return t.kind == "quoted" end),
        json = of(tokens, function(t) return t.kind == "json" end),
        paths = of(tokens, function(t) return t.kind == "word" and t.path end),
        words = of(tokens, function(t)
            return t.kind == "word" and not t.used and not t.path and not STOP[t.lower] and not STOP[t.stem]
        end),
        tokens = tokens,
    }
end

--- take_words(tokens, text) -> whether all words of `text` stand among the tokens; then they are no values.
function M.take_words(tokens, text)
    local wanted, found = name_parts(text), {}
    for _, part in ipairs(wanted) do
        for _, token in ipairs(tokens) do
            if token.stem == part then
                found[#found + 1] = token
                break
            end
        end
    end
    if #wanted == 0 or #found < #wanted then
        return false
    end
    for _, token in ipairs(found) do
        token.used = true
    end
    return true
end

return M
