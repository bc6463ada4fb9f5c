--- What is told of tasks that hold the main loop. The engine calls collect() in the code that does so,
-- and tell() when the loop goes on, or when it does not go on for long.
local events = require "lash.events"
local script = require "lash.script"
local system = require "lash.core.system"

local M = {}

--- fn() -> whether nobody minds that the loop is held, so that nothing is told: the console's, or nil.
M.nobody = nil

local REPORTS = 5 -- in all

local ADVICE_CALL = "mark it `sync` to run it on a worker, or use lash.* instead of blocking io"
local ADVICE_TASK = "do such work in a tool marked `sync`, let others run with lash.sleep(0), or use lash.* instead of "
    .. "blocking io"

local told, count = {}, 0

local function place_of(info)
    if info.what == "main" then
        return info.short_src
    end
    return ("%s:%d"):format(info.short_src, info.linedefined)
end

-- The outermost function of the user's own. Its level is searched from the far end: there may be very
-- many, and each look walks over all that are above.
local function body(level)
    local deep = level
    while debug.getinfo(deep * 2, "l") do
        deep = deep * 2
    end
    local step = deep
    while step >= 1 do
        if debug.getinfo(deep + step, "l") then
            deep = deep + step
        end
        step = step // 2
    end
    for at = deep, math.max(deep - 50, level), -1 do
        local info = debug.getinfo(at, "S")
        if info and info.what ~= "C" and not script.is_own(info.source) then
            return info
        end
    end
    return nil
end

--- Called above the code that holds the loop.
-- @param job of lash.dispatch whose tool's function runs, or nil
-- @return a record for tell(), or nil when this place has been told of, or enough was told
function M.collect(job)
    if count >= REPORTS or (M.nobody and M.nobody()) then
        return nil
    end
    local tool = job and job.tool
    local info = tool and tool.fn and debug.getinfo(tool.fn, "S") or body(3)
    local place = info and place_of(info) or "?"
    if told[place] then
        return nil
    end
    told[place] = true
    count = count + 1
    local frames = script.user_frames(2)
    local emit = job and job.batch and job.batch.spec.emit
    return { place = place, tool = tool, emit = emit, frames = frames, last = count == REPORTS }
end

local function text_of(record, ms, still)
    local tool = record.tool
    local who = tool and ("the tool '%s' (async, %s)"):format(tool.name, record.place)
        or ("a task (%s)"):format(record.place)
    local lines = {
        ("%s %s the main loop for %d ms, and nothing else could run: %s"):format(who, still and "holds" or "held", ms,
            tool and ADVICE_CALL or ADVICE_TASK),
        "stack traceback:",
    }
    for _, frame in ipairs(record.frames) do
        lines[#lines + 1] = ("\t%s in %s"):format(frame.at, frame.name)
    end
    if record.last then
        lines[#lines + 1] = "(further ones are not told)"
    end
    return table.concat(lines, "\n")
end

--- Writes it on stderr.
-- @param record of collect()
-- @param ms how long the loop was held at least
-- @param still true while it is
-- @return a function that makes it an event of the run, or nil when nobody listens
function M.tell(record, ms, still)
    local text = text_of(record, ms, still)
    if system.verbosity() > 0 then
        script.say("warning: " .. text)
    end
    local emit = record.emit
    return emit and function()
        local event = { text = text }
        events.said[event] = true
        emit("warning", event)
    end
end

return M
