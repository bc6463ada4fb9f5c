--- A run: from a user's message to the final answer; it may span several agents. It is a loop:
--
--   request -> entry appended -> no calls? final text. Otherwise dispatch -> all outcomes appended
--   together, in call order -> next turn
--
-- Turn counter, budgets and cancel belong to the run: a handoff resets none.
local conversation = require "lash.conversation"
local dispatch = require "lash.dispatch"
local engine = require "lash.core.engine"
local events = require "lash.events"
local handoff = require "lash.handoff"
local lash = require "lash"
local log = require "lash.log"
local model = require "lash.model"
local prepare = require "lash.prepare"
local system = require "lash.core.system"

local M = {}

--- What commands and tests set for all runs: `model` replaces every agent's, `limits` likewise;
-- `dry_run(request)` gets what model.dry_run makes of the first request, and does not return.
M.overrides = { model = nil, limits = {}, dry_run = nil }

--- Every reason with which a run ends, and the exit status that it stands for.
M.REASONS = {
    done = 0,
    empty = 65,          -- the final answer has no text
    turns = 80,          -- limits.turns
    handoff_limit = 80,  -- limits.handoffs
    requests = 80,       -- limits.requests
    tool_calls = 80,     -- limits.tool_calls
    tokens = 80,         -- limits.tokens
    length = 80,         -- the provider cut the answer off
    filter = 69,         -- the provider's filter stopped the answer
    refused = 69,        -- the model refused
    time = 124,          -- limits.time
    cancelled = 130,
    error = 70,          -- of the model request or of lash; the error says more
}

local LAST_TURN = "The limit of turns is reached. Give your final answer now, with what you know; tools are not "
    .. "available any more."
local CUT_OFF = "Your last answer was cut off before its tool calls were complete. Answer more briefly, or issue "
    .. "fewer calls."

local CANCELLED = "not run: the run was cancelled before this call started"

local OUT_OF_TIME = {} -- raised by bounded(), nothing else

local failure_mt = {
    __name = "lash.error",
    __tostring = function(err)
        return err.message
    end,
}

local function failure(err)
    if type(err) ~= "table" then
        err = { code = "error", message = tostring(err) }
    end
    return setmetatable({
        code = err.code or "error", message = err.message or tostring(err), exit = err.exit or 1,
    }, failure_mt)
end

local function model_name(run, agent)
    return run.opts.model or M.overrides.model or agent.model
end

-- ---- results ----

local Result = { __name = "lash.result" }

function Result:__tostring()
    return self.text
end

function Result:__index(key)
    if key == "items" then -- made when somebody looks
        local items = self.conversation:items()
        rawset(self, "items", items)
        return items
    end
    return nil
end

local function finish(run, reason, text, err)
    local ok = reason == "done"
    local exit = err and err.exit or M.REASONS[reason]
    local result = setmetatable({
        ok = ok,
        text = text or "",
        reason = reason,
        exit = exit,
        agent = run.current.agent.name,
        model = run.label,
        turns = run.turn,
        usage = run.usage,
        calls = run.calls,
        conversation = run.conv,
        error = err,
    }, Result)
    run.emit("run.end", result.agent, {
        ok = ok, exit = exit, reason = reason, text = result.text, usage = run.usage, turns = run.turn,
        error = err and err.message or nil,
    })
    return result
end

-- ---- limits ----

local function limits_of(agent, opts)
    local limits = setmetatable({}, { __index = agent.limits })
    for name, value in pairs(opts.limits or {}) do
        limits[name] = value
    end
    for name, value in pairs(M.overrides.limits) do
        limits[name] = value
    end
    return limits
end

local function over(limit, value)
    return limit ~= nil and limit > 0 and value >= limit
end

-- The budget that forbids one more request, or nil.
local function spent(run)
    if over(run.limits.requests, run.requests) then
        return "requests"
    elseif over(run.limits.tokens, run.usage.total) then
        return "tokens"
    end
    return nil
end

-- ---- one turn ----

local function add_usage(sum, usage)
    for _, name in ipairs { "input", "output", "cached", "reasoning", "total" } do
        sum[name] = sum[name] + ((usage or {})[name] or 0)
    end
end

local function request(run, last)
    local at = run.current
    local view = prepare.view(at, run.turn == 1, last)
    local agent = at.agent.name
    if M.overrides.dry_run then
        local shown, err = model.dry_run(at.target, run.conv, view)
        if shown then
            M.overrides.dry_run(shown)
        end
        return nil, failure(err)
    end
    run.label = at.target.label
    run.requests = run.requests + 1
    run.emit("model.request", agent, {
        provider = at.target.provider_name, model = at.target.model, turn = run.turn, attempt = 1,
    })
    local started = engine.hrtime()
    local answer, err = model.ask(at.target, run.conv, view, {
        emit = function(event)
            local kind = event.type
            run.emit(kind, agent, event)
        end,
    })
    if not answer then
        return nil, failure(err)
    end
    add_usage(run.usage, answer.usage)
    run.emit("model.end", agent, {
        stop = answer.stop, usage = answer.usage, ms = (engine.hrtime() - started) // 1000000,
    })
    return answer
end

local function note_calls(run, calls, outcomes)
    for i, call in ipairs(calls) do
        run.calls[#run.calls + 1] = {
            call = ("%d.%d"):format(run.turn, i), name = call.name, args = call.args,
            status = outcomes[i].status, output = outcomes[i].output, ms = outcomes[i].ms or 0,
        }
    end
end

-- Outcomes always enter history, all together: then it is valid whatever comes.
local function settle(run, calls, outcomes)
    run.conv:append { type = "outcomes", items = outcomes }
    note_calls(run, calls, outcomes)
end

local function dispatch_calls(run, calls, skip)
    local at = run.current
    local turn = run.turn
    return dispatch.run(calls, {
        tools = at.agent.by_name,
        agent = at.agent.name,
        cap = run.limits.concurrency,
        skip = skip,
        key = run.key,
        label = function(i)
            return turn .. "." .. i
        end,
        emit = run.listened and function(kind, fields)
            run.emit(kind, at.agent.name, fields)
        end or nil,
        on_traceback = system.verbosity() >= 2 and function(name, text, traceback)
            log.debug(("tool '%s' failed: %s%s"):format(name, text, traceback))
        end or nil,
    })
end

local function emit_pair(run, calls, i, item)
    local agent, label = run.current.agent.name, ("%d.%d"):format(run.turn, i)
    run.emit("call.start", agent, { call = label, name = calls[i].name, args = calls[i].args })
    run.emit("call.end", agent, {
        call = label, name = calls[i].name, status = item.status, ms = 0, output = item.output,
    })
end

-- None of the calls runs: all are answered with `text`.
local function answer_all(run, calls, text)
    local items = {}
    for i, call in ipairs(calls) do
        items[i] = dispatch.outcome(call, "not_run", text)
        emit_pair(run, calls, i, items[i])
    end
    settle(run, calls, items)
end

-- Outcomes for the calls of a turn that hands over; the siblings run first only if the agent says so.
local function hand_over(run, calls, found, faults)
    local from = run.current.agent
    local passed = "control passed to " .. found.target.name
    local status, text = "ok", passed
    local outcomes, ok, cancel = {}, true, nil
    if from.handoff_after_tools then
        local skip = {}
        for i, call in ipairs(calls) do
            skip[i] = call.name == handoff.NAME or nil
        end
        outcomes, ok, cancel = dispatch_calls(run, calls, skip)
        if not ok then
            status, text, passed = "not_run", CANCELLED, "the run was cancelled"
        end
    end
    for i, call in ipairs(calls) do
        if not outcomes[i] then
            outcomes[i] = faults[i] or dispatch.outcome(call, i == found.at and status or "not_run",
                i == found.at and text or "not run: " .. passed)
            emit_pair(run, calls, i, outcomes[i])
        end
    end
    settle(run, calls, outcomes)
    if not ok then
        error(cancel, 0)
    end
    run.handoffs = run.handoffs + 1
    run.current = found.prepared
    run.conv.agent = found.target
    run.emit("handoff", from.name, { from = from.name, to = found.target.name })
end

-- @return reason to end the run with, or nil
local function refuse_handoff(run, calls, found, faults)
    if run.handoff_refused then
        answer_all(run, calls, "not run: the limit of handoffs is reached")
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
        local prepared, err = prepare.agent(agent, model_name(run, agent))
        return prepared, err and ("agent '%s' is not ready: %s"):format(agent.name, tostring(err.message or err))
    end)
    if not ok then
        answer_all(run, calls, CANCELLED)
        error(found, 0)
    end
    return found, faults
end

-- Runs the calls of an answer.
-- @return reason to end the run with, or nil to go on
local function run_calls(run, calls)
    if run.limits.tool_calls and run.limits.tool_calls > 0 and #run.calls + #calls > run.limits.tool_calls then
        answer_all(run, calls, "not run: the limit of tool calls is reached")
        return "tool_calls"
    end
    local found, faults = nil, {}
    if #run.current.targets > 0 then
        found, faults = inspect(run, calls)
    end
    if found and over(run.limits.handoffs, run.handoffs) then
        local reason = refuse_handoff(run, calls, found, faults)
        if reason then
            return reason
        end
        found = nil
    end
    if found then
        hand_over(run, calls, found, faults)
        return nil
    end
    local skip = {}
    for i, call in ipairs(calls) do -- with targets every handoff call is answered here, never by a tool
        if call.name == handoff.NAME and #run.current.targets > 0 then
            faults[i] = faults[i] or dispatch.outcome(call, "not_run", "not run: the limit of handoffs is reached")
            emit_pair(run, calls, i, faults[i])
            skip[i] = true
        end
    end
    local outcomes, ok, cancel = dispatch_calls(run, calls, skip)
    for i, item in pairs(faults) do
        outcomes[i] = item
    end
    settle(run, calls, outcomes)
    if not ok then
        error(cancel, 0)
    end
    return nil
end

local ENDS = { filter = "filter", refusal = "refused", error = "error" }

local function refusal_text(answer)
    local parts = {}
    for _, item in ipairs(answer.items) do
        if item.type == "refusal" or item.type == "text" then
            parts[#parts + 1] = item.text
        end
    end
    return table.concat(parts)
end

-- An answer that did not end normally: none of its calls runs.
-- @return reason to end with, or nil to ask once more
local function cut_off(run, answer, calls)
    if #calls > 0 then
        answer_all(run, calls, "not run: the answer was cut off (" .. answer.stop .. ")")
    end
    if ENDS[answer.stop] then
        return ENDS[answer.stop]
    end
    if #calls == 0 or run.cut then
        return "length"
    end
    run.cut = true
    run.conv:append { type = "note", text = CUT_OFF }
    return nil
end

-- @return reason, text when the run is over
local function turn(run)
    local budget = spent(run)
    if budget then
        return budget, run.last_text
    end
    run.turn = run.turn + 1
    local last = run.limits.turns > 0 and run.turn > run.limits.turns
    if last then
        run.conv:append { type = "note", text = LAST_TURN }
    end
    local answer, err = request(run, last)
    if not answer then
        return "error", run.last_text, err
    end
    run.conv:append(answer)
    local calls = conversation.calls(answer)
    local text = conversation.text(answer)
    if text ~= "" then
        run.last_text = text
    end
    if answer.stop ~= "end" and answer.stop ~= "calls" then
        local reason = cut_off(run, answer, calls)
        return reason, reason and (text ~= "" and text or refusal_text(answer))
    end
    run.cut = false
    if last then
        if #calls > 0 then
            answer_all(run, calls, "not run: the limit of turns is reached")
        end
        return "turns", run.last_text
    end
    if #calls == 0 then
        return text:find("%S") and "done" or "empty", text
    end
    local reason = run_calls(run, calls)
    return reason, reason and run.last_text
end

-- ---- the run ----

local run_count = 0

local function new_run(conv, opts)
    local listeners = {}
    if conv.agent.on_event then
        listeners[1] = conv.agent.on_event
    end
    listeners[#listeners + 1] = opts.on_event
    run_count = run_count + 1
    local run = {
        conv = conv, opts = opts, limits = limits_of(conv.agent, opts), calls = {},
        turn = 0, requests = 0, handoffs = 0, last_text = "",
        key = ("%d-%x-%d/"):format(system.getpid(), engine.hrtime(), run_count),
        usage = { input = 0, output = 0, cached = 0, reasoning = 0, total = 0 },
        current = { agent = conv.agent },
    }
    run.emit, run.listened = events.emitter(listeners)
    return run
end

local function run_to_end(run, text)
    local first, err = prepare.agent(run.conv.agent, model_name(run, run.conv.agent))
    if not first then
        return finish(run, "error", "", failure(err))
    end
    run.current = first
    run.conv:append { type = "user", text = text }
    local reason, final
    repeat
        reason, final, err = turn(run)
    until reason
    return finish(run, reason, final, err)
end

-- run_to_end, for at most `limit` seconds: nil or 0 for ever. Raises "time" when they are over.
local function bounded(limit, run, text)
    if not limit or limit <= 0 then
        return run_to_end(run, text)
    end
    local group <close> = engine.group()
    local task = group:spawn(run_to_end, run, text)
    task:deadline(limit)
    group:wait() -- raises when the caller itself is cancelled
    local ok, result = task:result()
    if not ok then
        error(engine.cancel_reason(result) == "deadline" and OUT_OF_TIME or result, 0)
    end
    return result
end

local function check_message(text, opts)
    if type(text) ~= "string" then
        error(("the message must be a string, got %s"):format(type(text)), 3)
    elseif not utf8.len(text) then
        error("the message is not valid UTF-8", 3)
    elseif opts ~= nil and type(opts) ~= "table" then
        error(("the options must be a table, got %s"):format(type(opts)), 3)
    end
    local fault = opts and require("lash.agent").limits_fault("the options of a run", opts.limits)
    if fault then
        error(fault, 3)
    end
end

--- Sends a user's message in a conversation and runs to the end. See agent:run.
function M.send(conv, text, opts)
    check_message(text, opts)
    if lash.loading then -- a command loads a file for what it declares
        error("an agent was run while the file was loaded for what it declares: put what is only for a script "
            .. "under `if lash.main then`", 2)
    end
    opts = opts or {}
    if conv.busy then
        error("the conversation has a run that has not ended; start another conversation", 2)
    end
    conv.busy = true
    local run = new_run(conv, opts)
    run.emit("run.start", conv.agent.name, {})
    local limit = run.limits.time
    local ok, result = pcall(bounded, limit, run, text)
    conv.busy = false
    if ok then
        if result.error and not opts.no_raise then
            result.error.result = result
            error(result.error, 0)
        end
        return result
    end
    if result == OUT_OF_TIME then
        return finish(run, "time", run.last_text)
    elseif engine.cancel_reason(result) then
        finish(run, "cancelled", run.last_text)
    else
        finish(run, "error", run.last_text, failure { message = tostring(result), exit = 70 })
    end
    error(result, 0)
end

--- Runs fn(...) to its end for a caller that is no task.
-- @param name what a task should call instead
function M.sync(name, fn, ...)
    if engine.current() then
        error(("%s_sync is for callers that are not tasks; this is one: call %s"):format(name, name), 3)
    end
    local ok, result = engine.drive(fn, ...)
    if not ok then
        error(result, 0)
    end
    return result
end

return M
