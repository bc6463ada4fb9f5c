-- Follows the brackets and quotes of a JSON text that comes in pieces: when is its first value over?
-- Each byte is looked at once. The text need not be JSON: then the answer is "not yet".
local M = {}

local Scan = {}
Scan.__index = Scan

--- new() -> scan; scan.closed says whether the object, array or string that the text begins with is over.
function M.new()
    return setmetatable({ depth = 0, closed = false, quoted = false, escaped = false, begun = false }, Scan)
end

-- Inside a string, from `at`. @return where it goes on, nil at the end of the piece
local function string_end(self, piece, at)
    if self.escaped then
        self.escaped = false
        return at + 1
    end
    local found = piece:find('["\\]', at)
    if not found then
        return nil
    elseif piece:byte(found) == 92 then
        self.escaped = true
    else
        self.quoted = false
        self.closed = self.depth == 0
    end
    return found + 1
end

local function bracket(self, piece, at)
    local found = piece:find('["{}%[%]]', at)
    if not found then
        return nil
    end
    local char = piece:sub(found, found)
    if char == '"' then
        self.quoted = true
    elseif char == "{" or char == "[" then
        self.depth = self.depth + 1
    else
        self.depth = self.depth - 1
        self.closed = self.depth == 0
    end
    return found + 1
end

--- scan:add(piece)
function Scan:add(piece)
    local at = 1
    if not self.begun then
        at = piece:find("%S")
        if not at then
            return
        end
        self.begun = true
        self.other = not piece:find('^["{%[]', at)
    end
    while at and at <= #piece and not self.closed and not self.other do
        at = (self.quoted and string_end or bracket)(self, piece, at)
    end
end

--- is_closed(text) -> the same of a whole text
function M.is_closed(text)
    local self = M.new()
    self:add(text)
    return self.closed
end

return M
