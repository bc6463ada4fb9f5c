--- Tools that a test controls, and short forms of what became of calls.
local engine = require "lash.core.engine"

local M = {}

function M.outputs(outcomes)
    local list = {}
    for i, item in ipairs(outcomes) do
        list[i] = item.output
    end
    return list
end

function M.statuses(outcomes)
    local list = {}
    for i, item in ipairs(outcomes) do
        list[i] = item.status
    end
    return table.concat(list, " ")
end

--- A door for one: pass() waits until somebody opens it.
function M.door()
    local batch = engine.batch(1, true)
    batch:add(false)
    batch:add(false)
    batch:start()
    local taken = batch:next()
    return {
        pass = function()
            batch:next()
        end,
        open = function()
            batch:settle(taken)
        end,
    }
end

--- Counts what runs at once; enter() in a tool, leave() at its end.
function M.meter()
    local m = { running = 0, most = 0, started = {} }
    function m.enter(i)
        m.running = m.running + 1
        m.most = math.max(m.most, m.running)
        m.started[#m.started + 1] = i
    end
    function m.leave()
        m.running = m.running - 1
    end
    return m
end

--- Runs the agent; never raises for a failed run.
-- @return its result, its events
function M.watched(agent, opts)
    local events = {}
    opts = opts or {}
    opts.no_raise = true
    opts.on_event = function(event)
        events[#events + 1] = event
    end
    local conv = opts.conversation or agent:conversation()
    opts.conversation = nil
    return conv:send("go", opts), events
end

--- The events of one type.
function M.of_type(events, kind)
    local list = {}
    for _, event in ipairs(events) do
        if event.type == kind then
            list[#list + 1] = event
        end
    end
    return list
end

return M
