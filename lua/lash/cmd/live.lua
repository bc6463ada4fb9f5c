--- What people see on stderr while agents run: a line for each call when it ends, and with -v what else
-- happens.
local events = require "lash.events"
local json = require "lash.json"
local system = require "lash.core.system"
local text = require "lash.text"

local M = {}

local NAME = 40      -- cells for the name of a tool, which is the model's word
local WHY = 200      -- cells for the reason of another attempt
local ARGUMENTS = 60 -- cells for the summary of a call's arguments

local function short_value(value)
    if type(value) == "string" then
        return value:find("^[%w_./:-]+$") and value or ("%q"):format(value):gsub("\\\n", "\\n")
    end
    return json.encode(value, { lossy = true }) or "?"
end

--- A summary of a call's arguments, city=Oslo days=3; at most `width` cells.
function M.summary(args, width)
    local value = json.decode(args or "")
    if type(value) ~= "table" or getmetatable(value) == json.array_mt then
        return text.line(args or "", width)
    end
    local names = {}
    for name in pairs(value) do
        names[#names + 1] = name
    end
    table.sort(names)
    for i, name in ipairs(names) do
        names[i] = name .. "=" .. short_value(value[name])
    end
    return text.line(table.concat(names, " "), width)
end

local function call_line(view, event)
    local ok = event.status == "ok"
    local mark = view.paint(ok and "green" or "red", ok and view.marks.ok or view.marks.other)
    local width = system.columns(2) or 120
    local name = text.line(event.name, NAME)
    local head = name .. " " .. M.summary(view.args[event.call], math.min(ARGUMENTS, width // 2))
    local tail = ("%s %d ms"):format(event.status, event.ms)
    local line = ("%s %s  %s"):format(mark, head:gsub(" $", ""), view.paint("dim", tail))
    if not ok then
        line = line .. "  " .. text.line(event.output or "", math.max(width - #head - #tail - 6, 20))
    end
    return line
end

local EVERY_MS = 500 -- between two lines about the progress of one call

-- fetch 40 %: page 4 of 10
local function show_progress(view, event)
    local last = view.told[event.call]
    if not view.calls or view.shared or (last and event.t - last < EVERY_MS) then
        return
    end
    view.told[event.call] = event.t
    local line = event.name
    if event.fraction then
        line = ("%s %.0f %%"):format(line, event.fraction * 100)
    end
    if event.text then
        line = line .. ": " .. event.text
    end
    view.line(view.paint("dim", "  " .. text.line(line, (system.columns(2) or 120) - 2)))
end

local SHOWN = { -- with -v
    ["model.request"] = function(event)
        return ("turn %d: asking %s/%s%s"):format(event.turn, event.provider, event.model,
            (event.attempt or 1) > 1 and (", attempt %d"):format(event.attempt) or "")
    end,
    ["model.end"] = function(event)
        local usage = event.usage or {}
        return ("answer after %d ms (%s), %d tokens in, %d out"):format(event.ms, event.stop, usage.input or 0,
            usage.output or 0)
    end,
    handoff = function(event)
        return ("handoff from %s to %s"):format(event.from, event.to)
    end,
}

-- openai/m: attempt 2 in 512 ms (openai: the server could not answer (503) ... [request req_1])
local function retry_line(view, event)
    local what = event.attempt and ("attempt %d in"):format(event.attempt) or "waiting"
    local why = view.verbose and text.line(event.why, math.huge) or text.line(event.why, WHY)
    return ("lash: %s: %s %d ms (%s)"):format(event.what, what, event.wait_ms, why)
end

local function show(view, event)
    local kind = event.type
    if kind == "call.start" then
        view.args[event.call] = not view.shared and event.args or nil
    elseif kind == "call.end" then
        if view.calls then
            view.line(call_line(view, event))
        end
        view.args[event.call], view.told[event.call] = nil, nil
    elseif kind == "call.progress" then
        show_progress(view, event)
    elseif kind == "retry" then
        view.line(text.plain(retry_line(view, event)))
    elseif kind == "warning" and not events.said[event] then
        view.line(text.plain(("lash: warning: %s"):format(event.text)))
    elseif kind == "reasoning" and view.thoughts then
        local delta = text.plain(event.delta)
        view.screen:err(delta, view.paint("dim", delta))
    elseif view.verbose and SHOWN[kind] then
        view.line(text.plain(SHOWN[kind](event)))
    end
end

--- Whether the reasoning of a model is shown while it comes: with -v on a terminal.
function M.shows_reasoning()
    return system.verbosity() >= 2 and system.isatty(2)
end

--- A function for the events of a run, or nil when nothing is to be shown: calls on a terminal or with
-- -v, retries and warnings always, nothing with -q.
-- @param color of --color, or nil
-- @param shared true when the events of several runs come at once: their calls cannot be told apart
-- @param screen as of lash.cmd.screen: where an answer is printed while it comes, or nil
function M.listener(color, shared, screen)
    local verbosity = system.verbosity()
    if verbosity == 0 then
        return nil
    end
    local terminal = system.isatty(2)
    local view = {
        args = {},
        told = {}, -- call -> when its progress was last shown
        shared = shared,
        calls = terminal or verbosity >= 2,
        verbose = verbosity >= 2,
        paint = text.painter(terminal, color),
        marks = text.marks(),
        screen = screen,
        thoughts = screen and M.shows_reasoning(),
        line = function(line)
            if screen then
                screen:line(line)
            else
                system.write(2, line .. "\n")
            end
        end,
    }
    return function(event)
        show(view, event)
    end
end

--- Shows all runs of the process.
function M.listen(color)
    local listener = M.listener(color, true)
    if listener then
        events.listen(listener)
    end
end

return M
