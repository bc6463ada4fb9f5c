--- What stands behind a command, in words as a shell cuts them: quotes, or a backslash before a blank or a quote, keep
-- together what belongs together. A quote without its second one is a character.
local M = {}

local ESCAPED = "^[%s\"'\\]"

-- The word at `at`. open: a quote needs no second one. @return word, where it ends, the quote that is still open
local function word_at(text, at, open)
    local word, quote = "", nil
    while at <= #text and (quote or not text:find("^%s", at)) do
        local c = text:sub(at, at)
        if c == quote then
            quote, c = nil, ""
        elseif not quote and (c == '"' or c == "'") and (open or text:find(c, at + 1, true)) then
            quote, c = c, ""
        elseif not quote and c == "\\" and text:find(ESCAPED, at + 1) then
            at = at + 1
            c = text:sub(at, at)
        end
        word, at = word .. c, at + 1
    end
    return word, at, quote
end

--- cut(text) -> list of words
function M.cut(text)
    local words, at = {}, text:find "%S"
    while at do
        words[#words + 1], at = word_at(text, at, false)
        at = text:find("%S", at)
    end
    return words
end

--- last(text) -> where the word begins that the end of the text belongs to, that word, the quote that it is in or nil
function M.last(text)
    local at = text:find "%S"
    while at do
        local word, stop, quote = word_at(text, at, true)
        if stop > #text then
            return at, word, quote
        end
        at = text:find("%S", stop)
    end
    return #text + 1, "", nil
end

--- escaped(word) -> a text that is cut into this one word
function M.escaped(word)
    return (word:gsub("[%s\"'\\]", "\\%0"))
end

return M
