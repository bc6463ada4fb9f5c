--- The answer of ask on stdout, while it comes where that can be.
--
-- A terminal shows all text as it comes, that of turns which end in calls too, with an empty line between two
-- turns. Elsewhere stdout gets the answer and nothing else. A pipe gets it line by line while it comes, where
-- the first text can only be the answer; at the end, where it may still be commentary or has to fit a schema. A
-- file gets it at the end, too: so one that broke off can be asked for again.
local system = require "lash.core.system"
local text = require "lash.text"

local M = {}

local Answer = {}
Answer.__index = Answer

--- new(options) -> answer
-- options.screen as of lash.cmd.screen; options.raw: control characters are kept on a terminal;
-- options.agent fn() -> the agent that has the conversation
function M.new(options)
    return setmetatable({
        screen = options.screen,
        raw = options.raw,
        agent = options.agent,
        terminal = system.isatty(1),
        file = system.kind(1) == "file" or system.kind(1) == "null", -- nobody reads it while it grows
        turn = nil,     -- of the text that comes
        said = {},      -- the text of the last turn that had one, in pieces
        rest = {},      -- of it what is not written yet, in pieces
        printed = false, -- whether stdout has anything
    }, Answer)
end

-- Where the first text can only be the answer.
local function is_plain(agent)
    return #agent.tools == 0 and agent.handoffs == nil
end

--- Whether it wants text while it comes from the agent that has the conversation now.
function Answer:wants()
    local agent = self.agent()
    return agent.output == nil and (self.terminal or is_plain(agent) and not self.file)
end

-- How many bytes can be written: on a terminal whole characters, and no CR that an LF may follow; elsewhere
-- whole lines.
local function writable(self, whole)
    if not self.terminal then
        return #(whole:match("^.*\n") or "")
    end
    local tail = whole:match("[\xC2-\xF4][\x80-\xBF]*$") or ""
    local first = tail:byte() or 0
    local length = first >= 0xF0 and 4 or first >= 0xE0 and 3 or first >= 0xC2 and 2 or 0
    if #tail < length then
        return #whole - #tail
    end
    return whole:sub(-1) == "\r" and #whole - 1 or #whole
end

local function write(self, piece)
    if piece == "" then
        return
    elseif self.terminal and not self.raw then
        piece = text.plain(piece)
    end
    self.printed = true
    self.screen:out(piece)
end

local function add(self, delta)
    self.rest[#self.rest + 1] = delta
    if not self.terminal and not delta:find("\n", 1, true) then
        return
    end
    local whole = table.concat(self.rest)
    local n = writable(self, whole)
    write(self, whole:sub(1, n))
    self.rest = { n < #whole and whole:sub(n + 1) or nil }
end

-- The end of what a turn has to say, as whole lines.
local function end_text(self)
    local piece = table.concat(self.rest)
    self.rest = {}
    if piece == "" then
        self.screen:end_line(1)
    else
        write(self, piece:sub(-1) == "\n" and piece or piece .. "\n")
    end
end

local function begin_text(self)
    end_text(self)
    if self.printed then
        self.screen:out("\n")
    end
end

--- Whether it may want such text from anybody in the run: then an answer that broke off cannot be asked for
-- again, as a part of it was seen.
function Answer:may_want()
    return self:wants() or self.terminal and self.agent().handoffs ~= nil
end

--- What happens in the run: an event.
function Answer:event(event)
    local kind = event.type
    if kind == "model.request" then
        self.asked = event.turn
        if not self:wants() then
            self.turn, self.said = nil, {}
        end
    elseif kind == "text" and self:wants() then
        if self.turn ~= self.asked then
            self.turn, self.said = self.asked, {}
            begin_text(self)
        end
        self.said[#self.said + 1] = event.delta
        add(self, event.delta)
    elseif kind == "model.end" and self.terminal then
        end_text(self) -- calls may print
    end
end

--- The end: what of the answer is not written yet.
function Answer:finish(answer)
    local said = table.concat(self.said)
    if said ~= "" and answer:sub(1, #said) == said then
        answer = answer:sub(#said + 1)
    elseif answer ~= "" then
        begin_text(self)
    end
    self.rest[#self.rest + 1] = answer
    end_text(self)
end

return M
