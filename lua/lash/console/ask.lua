--- Ask mode: a line goes to the current agent, its answer streams in, each call is a line that lives while it
-- runs.
local engine = require "lash.core.engine"
local lash = require "lash"
local live = require "lash.cmd.live"
local read = require "lash.console.read"
local script = require "lash.script"
local signals = require "lash.core.signals"
local system = require "lash.core.system"
local text = require "lash.text"

local M = {}

local REFRESH = 0.1 -- seconds between two looks of running calls
local SHOWN = 8     -- running calls that have a line of their own

local Display = {}
Display.__index = Display

local function new_display()
    return setmetatable({
        paint = text.painter(system.isatty(1)),
        marks = text.marks(),
        calls = {},      -- that run, in the order of their start
        column = 0,      -- bytes of the line of text that is not ended
        usage = nil,
        model = nil,
        started = engine.hrtime(),
    }, Display)
end

local function seconds_since(started)
    return (engine.hrtime() - started) / 1e9
end

local function call_line(display, call, width)
    local time = ("%.1f s"):format(seconds_since(call.started))
    local head = ("%s %s(%s)"):format("\u{00B7}", call.name, live.summary(call.args, width // 2))
    return text.line(("%s  %s %s"):format(head, call.note or call.mark, time), width - 1)
end

local function draw_area(display)
    if not read.is_edited() then
        return
    end
    local width = system.columns(1) or 80
    local lines = {}
    for i, call in ipairs(display.calls) do
        if i > SHOWN then
            lines[#lines + 1] = ("  ... and %d more"):format(#display.calls - SHOWN)
            break
        end
        lines[i] = call_line(display, call, width)
    end
    read.area(lines[1] and table.concat(lines, "\n") or nil)
end

local function end_line(display)
    if display.column > 0 then
        system.write(1, "\n")
        display.column = 0
    end
end

local function write_text(display, delta)
    if system.isatty(1) then
        delta = text.plain(delta)
    end
    system.write(1, delta)
    display.column = delta:sub(-1) == "\n" and 0 or 1
end

local function done_line(display, event, call)
    local ok = event.status == "ok"
    local width = system.columns(1) or 80
    local mark = display.paint(ok and "green" or "red", ok and display.marks.ok or display.marks.other)
    local head = ("%s(%s)"):format(text.line(event.name, 40), live.summary(call and call.args or "", width // 2))
    local tail = ("%s%s, %s %d ms"):format(ok and "" or event.status .. ", ", call and call.mark or "not run", "took",
        event.ms)
    local line = mark .. " " .. head .. "  " .. display.paint("dim", tail)
    if not ok then
        line = line .. "\n  " .. text.line(event.output or "", width - 3)
    end
    system.write(1, line .. "\n")
end

local function take_call(display, id)
    for i, call in ipairs(display.calls) do
        if call.id == id then
            return table.remove(display.calls, i)
        end
    end
    return nil
end

local HANDLERS = {
    ["model.request"] = function(display, event)
        display.model = event.provider == event.model and event.model or event.provider .. "/" .. event.model
    end,
    text = function(display, event)
        write_text(display, event.delta)
    end,
    ["model.end"] = end_line,
    ["call.start"] = function(display, event)
        display.calls[#display.calls + 1] = { id = event.call, name = event.name, mark = event.mark, args = event.args,
            started = engine.hrtime() }
        draw_area(display)
    end,
    ["call.progress"] = function(display, event)
        for _, call in ipairs(display.calls) do
            if call.id == event.call then
                call.note = event.text or ("%.0f %%"):format((event.fraction or 0) * 100)
            end
        end
    end,
    ["call.end"] = function(display, event)
        local call = take_call(display, event.call)
        done_line(display, event, call)
        draw_area(display)
    end,
    handoff = function(display, event)
        end_line(display)
        system.write(1, ("-> %s\n"):format(event.to))
    end,
    retry = function(display, event)
        end_line(display)
        script.say(("%s: waiting %d ms (%s)"):format(event.what, event.wait_ms, event.why))
    end,
    warning = function(display, event)
        end_line(display)
        script.say("warning: " .. event.text)
    end,
    ["run.end"] = function(display, event)
        display.usage = event.usage
    end,
}

local function closing_line(display, result)
    local usage = display.usage or {}
    local parts = { display.model or "no model", ("%.1f s"):format(seconds_since(display.started)) }
    if (usage.total or 0) > 0 then
        parts[#parts + 1] = ("%d tokens in, %d out"):format(usage.input, usage.output)
    end
    if result and not result.ok and not result.error then
        table.insert(parts, 1, result.reason)
    end
    system.write(1, display.paint("dim", table.concat(parts, ", ")) .. "\n")
end

local function refresh(display)
    while true do
        lash.sleep(REFRESH)
        if #display.calls > 0 then
            draw_area(display)
        end
    end
end

--- ask(workspace, line): asks, shows, and returns when the answer is complete or Ctrl-C has cancelled it.
function M.ask(workspace, line)
    local display = new_display()
    local conversation = workspace:talk()
    local group <close> = engine.group(false)
    local task = group:spawn(conversation.send, conversation, line, {
        no_raise = true,
        model = workspace.model,
        on_event = function(event)
            local handle = HANDLERS[event.type]
            if handle then
                handle(display, event)
            end
        end,
    })
    local clock = group:spawn(refresh, display)
    signals.console(task)
    pcall(task.wait, task)
    signals.console(nil)
    clock:cancel()
    display.calls = {}
    draw_area(display)
    end_line(display)
    local ok, result = task:result()
    if not ok then
        if engine.cancel_reason(result) then
            script.say "cancelled"
        else
            script.say(tostring(result))
        end
        return
    elseif result.error then
        script.say(result.error.message)
    end
    closing_line(display, result)
end

return M
