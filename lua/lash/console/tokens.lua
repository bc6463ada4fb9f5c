--- The words of a piece of Lua, as far as the console has to know them: which locals an entry declares at its
-- top level, which names it uses, where its last `return` stands. It is no parser: what it gets was compiled.
local M = {}

local KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
    until while]]):gmatch "%a+" do
    KEYWORDS[word] = true
end

-- Where a long bracket that begins at `at` ends, or nil when none begins there.
local function long_end(text, at)
    local equals = text:match("^%[(=*)%[", at)
    if not equals then
        return nil
    end
    local _, to = text:find("]" .. equals .. "]", at + #equals + 2, true)
    return to or #text
end

local function string_end(text, at)
    local quote = text:sub(at, at)
    local i = at + 1
    while i <= #text do
        local c = text:sub(i, i)
        if c == "\\" then
            i = i + 1
        elseif c == quote then
            return i
        end
        i = i + 1
    end
    return #text
end

local function comment_end(text, at)
    return long_end(text, at + 2) or (text:find("\n", at, true) or #text + 1) - 1
end

-- The token at `at`: its kind ("name", "keyword", "symbol", "other") and last byte.
local function token(text, at)
    local c = text:sub(at, at)
    if c:find "[%a_]" then
        local word = text:match("^[%w_]+", at)
        return KEYWORDS[word] and "keyword" or "name", at + #word - 1
    elseif c == '"' or c == "'" then
        return "other", string_end(text, at)
    elseif c == "[" and long_end(text, at) then
        return "other", long_end(text, at)
    elseif c:find "%d" then
        return "other", at + #text:match("^[%w.]+", at) - 1
    end
    return "symbol", at
end

--- list(text) -> { { kind =, text =, from =, to = }, ... } without comments and blanks
function M.list(text)
    local tokens, at = {}, 1
    while true do
        at = text:find("%S", at)
        if not at then
            return tokens
        elseif text:sub(at, at + 1) == "--" then
            at = comment_end(text, at) + 1
        else
            local kind, to = token(text, at)
            tokens[#tokens + 1] = { kind = kind, text = text:sub(at, to), from = at, to = to }
            at = to + 1
        end
    end
end

local OPENS = { ["function"] = true, ["do"] = true, ["repeat"] = true, ["if"] = true }
local CLOSES = { ["end"] = true, ["until"] = true }

-- The names behind `local`; position of the last token that belongs to them.
local function names_of(tokens, at, add)
    local following = tokens[at + 1]
    if following and following.text == "function" then
        add(tokens[at + 2].text)
        return
    end
    local i = at + 1
    while tokens[i] and tokens[i].kind == "name" do
        local name, attribute = tokens[i].text, nil
        i = i + 1
        if tokens[i] and tokens[i].text == "<" then
            attribute = tokens[i + 1].text
            i = i + 3
        end
        if attribute ~= "close" and name ~= "_ENV" then -- closed when the entry ends; nothing would be found
            add(name, attribute)
        end
        if not tokens[i] or tokens[i].text ~= "," then
            return
        end
        i = i + 1
    end
end

--- outline(text) -> { locals = list of the names that are declared at the top level, constant = { name = true },
-- used = { name = true }, last = position of the `return` at the top level or nil, ends_inside = whether one stands
-- in a block below it }; `text` must compile
function M.outline(text)
    local tokens = M.list(text)
    local found = { locals = {}, constant = {}, used = {}, last = nil, ends_inside = false }
    local seen, depth = {}, 0
    local functions = {} -- depths at which one was opened
    local function add(name, attribute)
        found.constant[name] = attribute == "const" or nil
        if not seen[name] then
            seen[name] = true
            found.locals[#found.locals + 1] = name
        end
    end
    for i, t in ipairs(tokens) do
        if t.kind == "name" then
            found.used[t.text] = true
        elseif t.kind == "keyword" then
            if OPENS[t.text] then
                depth = depth + 1
                functions[#functions + 1] = t.text == "function" and depth or nil
            elseif CLOSES[t.text] then
                if functions[#functions] == depth then
                    functions[#functions] = nil
                end
                depth = depth - 1
            elseif t.text == "return" and depth > 0 then
                found.ends_inside = found.ends_inside or #functions == 0
            elseif depth == 0 and t.text == "local" then
                names_of(tokens, i, add)
            elseif depth == 0 and t.text == "return" then
                found.last = t.from
            end
        end
    end
    return found
end

return M
