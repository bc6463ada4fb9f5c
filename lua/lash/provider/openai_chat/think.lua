--- Splits a leading <think>...</think> off a content that comes in pieces. How the content is cut into
-- pieces changes nothing: the pieces of both sides, joined, are always the same.
local M = {}

local OPEN, CLOSE = "<think>", "</think>"

-- Blanks before <think>, and blanks before </think> that are left out; at most so many are looked at.
local BLANKS = 256

local Splitter = {}
Splitter.__index = Splitter

--- new(on) -> splitter. `on` = false: all is text.
function M.new(on)
    return setmetatable({ state = on and "start" or "text", held = "" }, Splitter)
end

-- How many bytes at the end of `text` may be the beginning of `tag`.
local function tag_begins(text, tag)
    for n = math.min(#tag - 1, #text), 1, -1 do
        if text:sub(-n) == tag:sub(1, n) then
            return n
        end
    end
    return 0
end

-- How many blanks, up to BLANKS, stand before position `last`, that included.
local function blanks_before(text, last)
    local n = 0
    while n < BLANKS and n < last and text:find("^%s", last - n) do
        n = n + 1
    end
    return n
end

-- Each state takes the text so far and returns text, reasoning, rest; rest goes to the next state.
local states = {}

function states.start(self, text)
    local blanks = #text:match("^%s*")
    local word = text:sub(blanks + 1)
    if blanks <= BLANKS and #word < #OPEN and OPEN:sub(1, #word) == word then
        self.held = text
        return "", "", nil
    elseif blanks <= BLANKS and word:sub(1, #OPEN) == OPEN then
        self.state = "inside_first"
        return "", "", word:sub(#OPEN + 1)
    end
    self.state = "text"
    return "", "", text
end

function states.inside_first(self, text)
    local word = text:match("^%s*(.*)$")
    if word == "" then
        return "", "", nil
    end
    self.state = "inside"
    return "", "", word
end

function states.inside(self, text)
    local at = text:find(CLOSE, 1, true)
    if at then
        self.state = "after"
        return "", text:sub(1, at - 1 - blanks_before(text, at - 1)), text:sub(at + #CLOSE)
    end
    local last = #text - tag_begins(text, CLOSE)
    last = last - blanks_before(text, last)
    self.held = text:sub(last + 1)
    return "", text:sub(1, last), nil
end

function states.after(self, text)
    local word = text:match("^%s*(.*)$")
    if word == "" then
        return "", "", nil
    end
    self.state = "text"
    return "", "", word
end

function states.text(_, text)
    return text, "", nil
end

--- splitter:add(piece) -> text, reasoning: what is certain now; either may be "".
function Splitter:add(piece)
    local rest, said, thought = self.held .. piece, "", ""
    self.held = ""
    while rest do
        local text, reasoning
        text, reasoning, rest = states[self.state](self, rest)
        said, thought = said .. text, thought .. reasoning
        if rest == "" then
            break
        end
    end
    return said, thought
end

--- splitter:finish() -> text, reasoning: what was held back, as nothing follows.
function Splitter:finish()
    local rest = self.held
    self.held = ""
    if self.state == "start" then
        return rest, ""
    end
    return "", rest:find("%S") and rest or ""
end

return M
