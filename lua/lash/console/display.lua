--- What is seen of a run, or of one call, while it goes on: the text as it comes, and a line for each running call
-- that stays at the bottom and becomes its outcome. On a terminal without a cursor only what is over is told.
local engine = require "lash.core.engine"
local lash = require "lash"
local live = require "lash.cmd.live"
local read = require "lash.console.read"
local script = require "lash.script"
local system = require "lash.core.system"
local text = require "lash.text"

local M = {}

local REFRESH = 0.1 -- seconds between two looks at running calls
local SHOWN = 8     -- running calls that have a line of their own
local NAME = 40     -- cells for the name of a tool, which is the model's word

local Display = {}
Display.__index = Display

--- new(paint) -> display. paint: as of lash.text.painter, for stdout
function M.new(paint)
    return setmetatable({
        paint = paint,
        marks = text.marks(),
        terminal = system.isatty(1),
        calls = {},   -- that run, in the order of their start
        whole = false, -- who asked shows the output of the call
        open = nil,   -- what the line that is not ended belongs to: "text" or "reasoning"
        usage = nil,
        model = nil,
        started = engine.hrtime(),
    }, Display)
end

local function width_of()
    return system.columns(1) or 80
end

local function seconds_since(started)
    return (engine.hrtime() - started) / 1e9
end

local function running_line(call, width)
    local tail = ("  %s %.1f s"):format(call.note and text.line(call.note, width // 3) or call.mark or "",
        seconds_since(call.started))
    local head = ("\u{00B7} %s(%s)"):format(text.line(call.name, NAME), live.summary(call.args, math.huge))
    local line = text.line(head, math.max(width - 1 - #tail, 8)) .. tail
    return #line < width and line or text.line(line, math.max(width - 1, 8)) -- bytes: at least as many as cells
end

--- Draws the running calls as they are now.
function Display:draw()
    if not read.is_edited() or self.open then -- a text that goes on stands at the bottom
        return
    end
    local columns, rows = system.columns(1)
    local shown = math.min(SHOWN, math.max((rows or 24) - 3, 1))
    local lines = {}
    for i, call in ipairs(self.calls) do
        if i > shown then
            lines[i] = ("  ... and %d more"):format(#self.calls - shown)
            break
        end
        lines[i] = running_line(call, columns or 80)
    end
    read.area(lines[1] and table.concat(lines, "\n") or nil)
end

--- Ends the line that a text has begun.
function Display:end_line()
    if self.open then
        read.tail "\n"
        self.open = nil
    end
end

-- A piece of a text of the model, which may bring no control characters to a terminal.
local function piece(self, kind, delta)
    if delta == "" then
        return
    elseif self.open ~= kind then
        self:end_line()
    end
    delta = self.terminal and text.plain(delta) or delta
    self.open = delta:sub(-1) ~= "\n" and kind or nil
    if kind == "reasoning" then
        delta = delta:gsub("[^\n]+", function(line)
            return self.paint("dim", line)
        end)
    end
    read.tail(delta)
end

local function duration(ms)
    return ms < 1000 and ("%d ms"):format(ms) or ("%.1f s"):format(ms / 1000)
end

local function done_line(self, event, call)
    local ok = event.status == "ok"
    local width = width_of()
    local how = call and call.mark and call.mark .. " " or (call or ok) and "" or "not run " -- a handoff has no mark
    local tail = ("  %s%s%s"):format(ok and "" or event.status .. ", ", how, duration(event.ms))
    local head = ("%s(%s)"):format(text.line(event.name, NAME), live.summary(call and call.args or "", math.huge))
    local mark = self.paint(ok and "green" or "red", ok and self.marks.ok or self.marks.other)
    local line = mark .. " " .. text.line(head, math.max(width - 3 - #tail, 8)) .. self.paint("dim", tail)
    if not ok and not self.whole then
        line = line .. "\n  " .. text.line(event.output or "", width - 3)
    end
    system.write(1, line .. "\n")
end

local function take_call(self, id)
    for i, call in ipairs(self.calls) do
        if call.id == id then
            return table.remove(self.calls, i)
        end
    end
    return nil
end

local function note_of(event)
    local parts = { event.fraction and ("%.0f %%"):format(event.fraction * 100), event.text }
    return table.concat({ parts[1] or parts[2], parts[1] and parts[2] }, ": ")
end

local HANDLERS = {
    ["model.request"] = function(self, event)
        local mark = event.provider == "script" and ":" or "/"
        self.model = event.provider == event.model and event.model or event.provider .. mark .. event.model
    end,
    text = function(self, event)
        piece(self, "text", event.delta)
    end,
    reasoning = function(self, event)
        piece(self, "reasoning", event.delta)
    end,
    ["model.end"] = Display.end_line,
    ["call.start"] = function(self, event)
        self:end_line()
        self.calls[#self.calls + 1] = { id = event.call, name = event.name, mark = event.mark, args = event.args,
            started = engine.hrtime() }
        self:draw()
    end,
    ["call.progress"] = function(self, event)
        for _, call in ipairs(self.calls) do
            if call.id == event.call then
                call.note = note_of(event)
            end
        end
    end,
    ["call.end"] = function(self, event)
        self:end_line()
        done_line(self, event, take_call(self, event.call))
        self:draw()
    end,
    handoff = function(self, event)
        self:end_line()
        system.write(1, self.paint("dim", ("-> %s"):format(text.line(event.to, NAME))) .. "\n")
    end,
    retry = function(self, event)
        self:end_line()
        script.say(("%s: waiting %d ms (%s)"):format(event.what, event.wait_ms, event.why))
    end,
    warning = function(self, event)
        self:end_line()
        script.say("warning: " .. event.text)
    end,
    ["run.end"] = function(self, event)
        self.usage = event.usage
    end,
}

--- Takes an event of lash.events.
function Display:take(event)
    local handle = HANDLERS[event.type]
    if handle then
        handle(self, event)
    end
end

--- Keeps the times of running calls right; for a task of its own.
function Display:refresh()
    while true do
        lash.sleep(REFRESH)
        if #self.calls > 0 then
            self:draw()
        end
    end
end

--- Takes away what is still at the bottom.
function Display:finish()
    self.calls = {}
    self:draw()
    self:end_line()
end

--- A dim line, cut where the terminal ends.
function Display:note(line)
    system.write(1, self.paint("dim", self.terminal and text.line(line, width_of() - 1) or line) .. "\n")
end

--- The line behind an answer: why it ended, if not well, the model, seconds, tokens.
function Display:closing_line(reason)
    local usage = self.usage or {}
    local parts = { reason }
    parts[#parts + 1] = self.model or "no model"
    parts[#parts + 1] = ("%.1f s"):format(seconds_since(self.started))
    if (usage.total or 0) > 0 then
        parts[#parts + 1] = ("%d tokens in, %d out"):format(usage.input, usage.output)
    end
    self:note(table.concat(parts, ", "))
end

return M
