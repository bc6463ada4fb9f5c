--- Two streams on one terminal: text that comes in pieces on one of them, and lines on the other that must
-- not stand in the middle of it.
local system = require "lash.core.system"

local M = {}

local Screen = {}
Screen.__index = Screen

--- new(write) -> screen
-- @param write fn(text) for stdout
function M.new(write)
    return setmetatable({
        write_out = write,
        shared = system.isatty(1) and system.isatty(2), -- taken for the same terminal
        open = nil, -- the stream whose last line has not ended: 1 or 2
    }, Screen)
end

-- Who else has begun a line sees it ended. What ends it goes to stderr: stdout has the answer's bytes alone.
local function make_way(self, stream)
    if self.shared and self.open and self.open ~= stream then
        system.write(2, "\n")
        self.open = nil
    end
end

local function note(self, stream, text)
    local ended = text:sub(-1) == "\n"
    if not ended then
        self.open = stream
    elseif self.open == stream then
        self.open = nil
    end
end

--- Text of the answer on stdout.
function Screen:out(text)
    if text ~= "" then
        make_way(self, 1)
        self.write_out(text)
        note(self, 1, text)
    end
end

--- Text on stderr that comes in pieces.
-- @param painted the text with its colours, or nil
function Screen:err(text, painted)
    if text ~= "" then
        make_way(self, 2)
        system.write(2, painted or text)
        note(self, 2, text)
    end
end

--- A whole line on stderr.
function Screen:line(text)
    if self.open == 2 then
        self:end_line(2)
    end
    self:err(text .. "\n")
end

--- Ends the line of a stream if it has begun one.
function Screen:end_line(stream)
    if self.open == stream then
        if stream == 1 then
            self:out("\n")
        else
            self:err("\n")
        end
    end
end

return M
