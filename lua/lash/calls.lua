--- What becomes of the calls of one answer: the budget, handoffs, the dispatcher; and always one outcome per
-- call, all of them appended to the conversation together, in call order.
local dispatch = require "lash.dispatch"
local events = require "lash.events"
local lazy = require "lash.lazy"
local handoff = lazy "lash.handoff"
local limits = require "lash.limits"
local log = require "lash.log"
local outcome = require "lash.outcome"
local prepare = require "lash.prepare"
local system = require "lash.core.system"

local M = {}

local MESSAGE = 2000 -- bytes of a failed call's output in the message of the run's error

local NONE = {}

-- Outcomes always enter history, all together: then it is valid whatever comes.
local function settle(run, calls, outcomes)
    run.conv:append { type = "outcomes", items = outcomes }
    if run.limits.tool_calls then
        run.called = run.called + #calls
    end
end

-- Answers with what it would have told when the run was cancelled before.
local function not_started(run)
    return ("not run: %s before this call started"):format(run:cause())
end

local function tell_traceback(name, text, traceback)
    log.debug(("tool '%s' failed: %s%s"):format(name, text, traceback))
end

-- What the dispatcher needs to know of a run, as of dispatch.run: made once for all turns of an agent in it.
local function spec_of(run, agent)
    local most = run.limits
    local spec = {
        turn = nil, skip = nil, -- with each turn
        tools = agent.by_name,
        agent = agent.name,
        cap = most.concurrency,
        wait = most.wait,
        retry = agent.retry,
        fail_fast = agent.fail_fast,
        key = run.key,
        emit = run.heard and function(kind, fields)
            events.emit(run, kind, agent.name, fields)
        end or nil,
        on_traceback = system.verbosity() >= 2 and tell_traceback or nil,
        cause = function()
            return run:cause()
        end,
    }
    run.dispatched, run.dispatched_for = spec, agent
    return spec
end

local function dispatch_calls(run, calls, skip)
    local agent = run.current.agent
    local spec = run.dispatched_for == agent and run.dispatched or spec_of(run, agent)
    spec.turn, spec.skip = run.turn, skip
    return dispatch.run(calls, spec)
end

local function emit_pair(run, calls, i, item)
    if not run.heard then
        return
    end
    local label = ("%d.%d"):format(run.turn, i)
    run:emit("call.start", { call = label, name = calls[i].name, args = calls[i].args })
    run:emit("call.end", {
        call = label, name = calls[i].name, status = item.status, ms = 0, output = item.output,
    })
end

--- None of the calls runs: all are answered with `text`.
function M.answer_all(run, calls, text)
    local items = {}
    for i, call in ipairs(calls) do
        items[i] = dispatch.outcome(call, "not_run", text)
        emit_pair(run, calls, i, items[i])
    end
    settle(run, calls, items)
end

-- With fail_fast: the error of the first call that failed, with those that failed after it.
-- @return { code, exit, message, call, name, status, output, others = { { call, name, status, output }, ... } }
local function failure_of(run, outcomes, failures)
    local list = {}
    for n, i in ipairs(failures) do
        local item = outcomes[i]
        list[n] = {
            call = ("%d.%d"):format(run.turn, i), name = item.name, status = item.status, output = item.output,
        }
    end
    local err = table.remove(list, 1)
    err.code, err.exit, err.others = "call_failed", 1, list
    err.message = ("the call of '%s' failed%s: %s"):format(err.name, #list > 0
        and (", and %d more after it"):format(#list) or "", outcome.cap(err.output, MESSAGE))
    return err
end

-- After a batch has been settled: goes on, or raises, or gives the reason to end with.
local function proceed(run, outcomes, ok, cancel, failures)
    if not ok then
        error(cancel, 0)
    elseif run.current.agent.fail_fast and #failures > 0 then
        return "call_failed", failure_of(run, outcomes, failures)
    end
    return nil
end

-- ---- handoffs ----

-- Outcomes for the calls of a turn that hands over; the siblings run first only if the agent says so.
-- @return reason to end the run with, error, or nil
local function hand_over(run, calls, found, faults)
    local from = run.current.agent
    local status, text, passed = "ok", "control passed to " .. found.target.name, nil
    local outcomes, ok, cancel, failures = {}, true, nil, {}
    if from.handoff_after_tools then
        local skip = {}
        for i, call in ipairs(calls) do
            skip[i] = call.name == handoff.NAME or nil
        end
        outcomes, ok, cancel, failures = dispatch_calls(run, calls, skip)
    end
    if not ok then
        status, text = "not_run", not_started(run)
    elseif from.fail_fast and #failures > 0 then
        status, text = "not_run", "not run: another call failed before this call started"
    else
        passed = "not run: " .. text
    end
    for i, call in ipairs(calls) do
        if not outcomes[i] then
            outcomes[i] = faults[i] or dispatch.outcome(call, i == found.at and status or "not_run",
                i == found.at and text or passed or text)
            emit_pair(run, calls, i, outcomes[i])
        end
    end
    settle(run, calls, outcomes)
    local reason, err = proceed(run, outcomes, ok, cancel, failures)
    if reason then
        return reason, err
    end
    run.handoffs = run.handoffs + 1
    run.current = found.prepared
    run.conv.agent = found.target
    run:emit("handoff", { from = from.name, to = found.target.name }, from.name)
    return nil
end

-- @return reason to end the run with, or nil
local function refuse_handoff(run, calls, found, faults)
    if run.handoff_refused then
        M.answer_all(run, calls, "not run: the limit of handoffs is reached")
        return "handoff_limit"
    end
    run.handoff_refused = true
    faults[found.at] = dispatch.outcome(calls[found.at], "error",
        ("the limit of %d handoffs is reached: answer the user yourself"):format(run.limits.handoffs))
    return nil
end

-- The first handoff of the batch whose target is ready. Preparing it may wait, so it may be cancelled.
local function inspect(run, calls)
    local ok, found, faults = pcall(handoff.inspect, calls, run.current.targets, function(agent)
        local prepared, err = prepare.agent(agent, run:model_name(agent))
        return prepared, err and ("agent '%s' is not ready: %s"):format(agent.name, tostring(err.message or err))
    end)
    if not ok then
        M.answer_all(run, calls, not_started(run))
        error(found, 0)
    end
    return found, faults
end

-- All calls but those to skip, which have their outcomes in `faults`.
local function run_tools(run, calls, skip, faults)
    local outcomes, ok, cancel, failures = dispatch_calls(run, calls, skip)
    for i, item in pairs(faults or NONE) do
        outcomes[i] = item
    end
    settle(run, calls, outcomes)
    return proceed(run, outcomes, ok, cancel, failures)
end

-- The calls of an answer of an agent that may hand over.
local function run_with_targets(run, calls)
    local found, faults = inspect(run, calls)
    if found and limits.reached(run.limits.handoffs, run.handoffs) then
        local reason = refuse_handoff(run, calls, found, faults)
        if reason then
            return reason
        end
        found = nil
    end
    if found then
        return hand_over(run, calls, found, faults)
    end
    local skip = {}
    for i, call in ipairs(calls) do -- every handoff call is answered here, never by a tool
        if call.name == handoff.NAME then
            faults[i] = faults[i] or dispatch.outcome(call, "not_run", "not run: the limit of handoffs is reached")
            emit_pair(run, calls, i, faults[i])
            skip[i] = true
        end
    end
    return run_tools(run, calls, skip, faults)
end

-- ---- all of it ----

--- Runs the calls of an answer.
-- @return nil to go on | the reason to end the run with, and its error if it has one
function M.run(run, calls)
    local most = run.limits.tool_calls
    if most and limits.exceeded(most, run.called + #calls) then
        M.answer_all(run, calls, "not run: the limit of tool calls is reached")
        return "tool_calls"
    elseif #run.current.targets > 0 then
        return run_with_targets(run, calls)
    end
    return run_tools(run, calls)
end

return M
