--- A run: from a user's message to the final answer; it may span several agents. It is a loop:
--
--   request -> entry appended -> no calls? final text. Otherwise dispatch -> all outcomes appended
--   together, in call order -> next turn
--
-- Turn counter, budgets and cancel belong to the run: a handoff resets none.
local attach = require "lash.attach"
local calls = require "lash.calls"
local conversation = require "lash.conversation"
local cancelled_exit = require("lash.failure").cancelled_exit
local declare = require "lash.declare"
local engine = require "lash.core.engine"
local events = require "lash.events"
local lash = require "lash"
local limits = require "lash.limits"
local model = require "lash.model"
local prepare = require "lash.prepare"
local structured = require "lash.structured"
local system = require "lash.core.system"

local M = {}

--- What commands and tests set for all runs: `model` replaces every agent's, `limits` likewise;
-- `stream = false` asks for whole answers only; `dry_run(request)` gets what model.dry_run makes of the first
-- request, and does not return. Workers have what lash.overrides tells them.
M.overrides = require("lash.overrides").inherited()

--- Every reason with which a run ends, and the exit status that it stands for.
M.REASONS = {
    done = 0,
    empty = 65,          -- the final answer has no text
    output = 65,         -- the final answer does not fit its schema, at the second try neither
    turns = 80,          -- limits.turns
    handoff_limit = 80,  -- limits.handoffs
    requests = 80,       -- limits.requests
    tool_calls = 80,     -- limits.tool_calls
    tokens = 80,         -- limits.tokens
    length = 80,         -- the provider cut the answer off
    filter = 69,         -- the provider's filter stopped the answer
    refused = 69,        -- the model refused
    time = 124,          -- limits.time, or a deadline of who asked for the run
    cancelled = 130,     -- conversation:cancel(), or cancel of the task that asked for the run
    call_failed = 1,     -- fail_fast: a call failed, see the error
    error = 70,          -- of the model request or of lash; the error says more
}

local LAST_TURN = "The limit of turns is reached. Give your final answer now, with what you know; tools are not "
    .. "available any more."
local CUT_OFF = "Your last answer was cut off before its tool calls were complete. Answer more briefly, or issue "
    .. "fewer calls."

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
        call = err.call, name = err.name, status = err.status, output = err.output, others = err.others,
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

-- Calls that were answered `lost` and came back nevertheless: that is told, and enters no history.
local function tell_late(run)
    for _, result in ipairs(engine.late(run.key)) do
        local call, name = result.tag:sub(#run.key + 1):match("^(%S+) (.*)$")
        run.emit("warning", run.current.agent.name, {
            text = ("the call %s of '%s', which was answered as lost, came back after %d ms; its result is not used")
                :format(call, name, result.ms),
        })
    end
end

local function finish(run, reason, text, err)
    tell_late(run)
    local ok = reason == "done"
    local exit = err and err.exit or reason == "cancelled" and cancelled_exit() or M.REASONS[reason]
    local result = setmetatable({
        ok = ok,
        text = text or "",
        value = run.value,
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
        ok = ok, exit = exit, reason = reason, text = result.text, value = run.value, usage = run.usage,
        turns = run.turn, error = err and err.message or nil,
    })
    return result
end

-- ---- limits ----

-- The budget that forbids one more request, or nil.
local function spent(run)
    if limits.reached(run.limits.requests, run.requests) then
        return "requests"
    elseif limits.reached(run.limits.tokens, run.usage.total) then
        return "tokens"
    end
    return nil
end

-- ---- why it stops ----

-- What cancelled the run: "deadline", "user", ... of the run itself, else of the task that asked for it.
local function stopped_by(run)
    local reason = run.task and run.task:cancelled()
    if run.task and reason ~= "parent" then
        return reason, true
    end
    return run.caller and run.caller:cancelled() or reason, false
end

-- The reason with which a cancelled run ends, nil when it is not cancelled.
local function stop_reason(run)
    local reason = stopped_by(run)
    return reason and (reason == "deadline" and "time" or "cancelled")
end

-- What --timeout leaves to a run is no round number.
local function short_number(seconds)
    return ("%g"):format(seconds >= 0.1 and tonumber(("%.1f"):format(seconds)) or seconds)
end

-- Why its calls end, for the model.
local function cause(run)
    local reason, own = stopped_by(run)
    if reason == "deadline" then
        return own and ("the run's time limit of %s s was over"):format(short_number(run.limits.time))
            or "the time limit of who asked for the run was over"
    elseif reason == "sibling" then
        return "the run was cancelled because something beside it failed"
    end
    return "the run was cancelled"
end

-- ---- one turn ----

local function add_usage(sum, usage)
    if usage then
        for name, count in pairs(sum) do
            sum[name] = count + (usage[name] or 0)
        end
    end
end

-- Whether a stream may be asked for: not when anybody says that it cannot be.
local function may_stream(run)
    return M.overrides.stream ~= false and run.opts.stream ~= false and run.current.agent.streaming ~= false
end

-- How one request is told: its attempts, and the answer while it comes. The text of it is kept: should the rest
-- never come, that much was said.
local function teller(run, agent)
    local at = run.current
    local deltas = run.delivers and run.opts.deltas ~= false
    return {
        stream = may_stream(run),
        emit = function(event)
            local kind = event.type
            run.emit(kind, agent, event)
        end,
        attempt = function(n, goes_on)
            run.pieces = goes_on and run.pieces or {}
            run.emit("model.request", agent, {
                provider = at.target.provider_name, model = at.target.model, turn = run.turn, attempt = n,
            })
        end,
        tell = function(kind, fields)
            if kind == "text" then
                run.pieces[#run.pieces + 1] = fields.delta
            end
            if not deltas then
                return false
            elseif kind == "call.ready" then
                fields = { call = ("%d.%d"):format(run.turn, fields.n), name = fields.name, args = fields.args }
            end
            run.emit(kind, agent, fields)
            return true
        end,
    }
end

-- The answer broke off: what was said of it stays in the conversation, as text only.
local function keep_pieces(run)
    local text = table.concat(run.pieces)
    run.pieces = {}
    if text:find("%S") then
        run.last_text = text
        run.conv:append { type = "answer", provider = "partial", items = { { type = "text", text = text } },
            stop = "cut" }
    end
end

local function request(run, last)
    local at = run.current
    local view = prepare.view(at, run.turn == 1, last)
    local agent = at.agent.name
    if M.overrides.dry_run then
        local shown, err = model.dry_run(at.target, run.conv, view, { stream = may_stream(run) })
        if shown then
            M.overrides.dry_run(shown)
        end
        return nil, failure(err)
    end
    run.label = at.target.label
    run.requests = run.requests + 1
    local started = engine.hrtime()
    local answer, err = model.ask(at.target, run.conv, view, teller(run, agent))
    if not answer then
        keep_pieces(run)
        return nil, failure(err)
    end
    run.pieces = {}
    add_usage(run.usage, answer.usage)
    run.emit("model.end", agent, {
        stop = answer.stop, usage = answer.usage, ms = (engine.hrtime() - started) // 1000000,
    })
    return answer
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
local function cut_off(run, answer, asked)
    if #asked > 0 then
        calls.answer_all(run, asked, "not run: the answer was cut off (" .. answer.stop .. ")")
    end
    if ENDS[answer.stop] then
        return ENDS[answer.stop]
    end
    if #asked == 0 or run.cut then
        return "length"
    end
    run.cut = true
    run.conv:append { type = "note", text = CUT_OFF }
    return nil
end

-- @return reason, text, error when the run is over
local function turn(run)
    tell_late(run)
    local budget = spent(run)
    if budget then
        return budget, run.last_text
    end
    run.turn = run.turn + 1
    local last = run.limits.turns > 0 and run.turn > run.limits.turns
    local repair = run.repair == run.turn -- this one request more is not counted
    if last and not repair then
        run.conv:append { type = "note", text = LAST_TURN }
    end
    local answer, err = request(run, last)
    if not answer then
        return "error", run.last_text, err
    end
    run.conv:append(answer)
    local asked = run.conv.open_calls or {}
    local text = run.before .. conversation.text(answer)
    run.before = ""
    if text ~= "" then
        run.last_text = text
    end
    if answer.stop == "pause" and #asked == 0 then
        run.before = text -- the model goes on when it is asked again
        return nil
    elseif answer.stop ~= "end" and answer.stop ~= "calls" and answer.stop ~= "pause" then
        local reason = cut_off(run, answer, asked)
        return reason, reason and (text ~= "" and text or refusal_text(answer))
    end
    run.cut = false
    if last and not (repair and #asked == 0) then
        if #asked > 0 then
            calls.answer_all(run, asked, "not run: the limit of turns is reached")
        end
        return "turns", structured.salvage(run, run.last_text)
    end
    if #asked == 0 then
        local reason, final, why = structured.judge(run, text)
        return reason, final, why and failure(why)
    end
    local reason, why = calls.run(run, asked)
    return reason, reason and run.last_text, why and failure(why)
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
        conv = conv, opts = opts, calls = {},
        limits = limits.merged(conv.agent.limits, opts.limits, M.overrides.limits),
        turn = 0, requests = 0, handoffs = 0, last_text = "",
        pieces = {}, -- of the answer that comes
        before = "", -- its text so far, if the model paused in the middle of it
        key = ("%d-%x-%d/"):format(system.getpid(), engine.hrtime(), run_count),
        usage = { input = 0, output = 0, cached = 0, reasoning = 0, total = 0 },
        current = { agent = conv.agent },
        caller = engine.current(), -- the task that asked for the run
        task = nil,                -- the run's own
    }
    run.cause = function()
        return cause(run)
    end
    run.model_name = function(agent)
        return model_name(run, agent)
    end
    run.emit, run.listened = events.emitter(listeners)
    run.delivers = #listeners > 0 -- an answer while it comes: then it cannot be asked for again
    return run
end

local function run_to_end(run, message)
    local first, err = prepare.agent(run.conv.agent, model_name(run, run.conv.agent))
    if not first then
        return finish(run, "error", "", failure(err))
    end
    run.current = first
    run.conv:append(message)
    local reason, final
    repeat
        reason, final, err = turn(run)
    until reason
    return finish(run, reason, final, err)
end

-- run_to_end in a task of its own: it can be cancelled alone, and has its own deadline. Where nobody could
-- do that the caller's task does it: thousands of waiting runs need less memory so.
-- @return true, result | false, error, whether the caller itself was cancelled
local function run_apart(run, message, alone)
    if alone and not (run.limits.time and run.limits.time > 0) then
        return true, run_to_end(run, message)
    end
    local group <close> = engine.group()
    run.task = group:spawn(run_to_end, run, message)
    run.conv.run = run.task
    if run.conv.stop then
        run.task:cancel("user")
    end
    if run.limits.time and run.limits.time > 0 then
        run.task:deadline(run.limits.time)
    end
    local waited, cancel = pcall(group.wait, group)
    if not waited then
        return false, cancel, true
    end
    return run.task:result()
end

-- no_raise: a run that fails gives a result, for the commands
-- deltas = false: nobody wants an answer while it comes, so one that broke off can be asked for again
local OPTIONS = { on_event = "function", limits = "table", model = "string", stream = "boolean",
    no_raise = "boolean", deltas = "boolean" }

-- What waits needs a task. A stock Lua has none at first.
local function check_task()
    if not engine.current() then
        error("an agent runs in a task, and this caller is none: outside of lash call agent:run_sync or "
            .. "conversation:send_sync, with on_event for what a stream would tell", 3)
    end
end

-- @return the entry of the message
local function check_message(message, opts)
    local entry, wrong = attach.entry(message)
    if not entry then
        error(wrong, 3)
    elseif opts ~= nil and type(opts) ~= "table" then
        error(("the options must be a table, got %s"):format(type(opts)), 3)
    end
    local fault = opts and (declare.fault("the options of a run", opts, OPTIONS)
        or limits.fault("the options of a run", opts.limits))
    if fault then
        error(fault, 3)
    end
    return entry
end

--- Sends a user's message in a conversation and runs to the end. See agent:run.
-- @param alone true: nobody else has the conversation, so nobody can cancel it
function M.send(conv, text, opts, alone)
    local message = check_message(text, opts)
    check_task()
    if lash.loading then -- a command loads a file for what it declares
        error("an agent was run while the file was loaded for what it declares: put what is only for a script "
            .. "under `if lash.main then`", 2)
    end
    opts = opts or {}
    if conv.busy then
        error("the conversation has a run that has not ended; start another conversation", 2)
    end
    conv.busy, conv.stop = true, false
    local run = new_run(conv, opts)
    run.emit("run.start", conv.agent.name, {})
    local called, ok, result, passed = pcall(run_apart, run, message, alone)
    if not called then -- only the caller can have been cancelled
        ok, result, passed = false, ok, true
    end
    conv.busy, conv.run = false, nil
    if not ok then
        keep_pieces(run)
    end
    if ok then
        if result.error and not opts.no_raise then
            result.error.result = result
            error(result.error, 0)
        end
        return result
    end
    local reason = engine.cancel_reason(result) and stop_reason(run)
    if not reason then -- no tool's fault: those are outcomes
        local text = tostring(result)
        local exit = text:find("not enough memory", 1, true) and 71 or 70
        local err = failure { code = "lash", message = "lash itself failed: " .. text, exit = exit }
        local ending = finish(run, "error", run.last_text, err)
        if opts.no_raise then
            return ending
        end
        result, err.result = err, ending
    elseif not passed then -- the run was stopped, not its caller
        return finish(run, reason, run.last_text)
    else
        local ending = finish(run, reason, run.last_text)
        if opts.no_raise then
            return ending
        end
    end
    error(result, 0)
end

-- ---- events as a loop ----

local WAITING = 64 -- events that may wait for a slow reader; then the run waits for it

-- What the reader of a run's events has to read. Nothing is lost: a cancelled run cannot wait for room, so
-- what it tells then is kept beside, behind all that waits already.
local function event_queue()
    local channel, beside = lash.channel(WAITING), {}
    local queue = {}
    function queue.put(event)
        local full = #beside > 0 or not (channel:try_send(event) or pcall(channel.send, channel, event))
        if full then
            beside[#beside + 1] = event
        end
    end
    function queue.over()
        channel:close()
    end
    function queue.take()
        return channel:receive() or table.remove(beside, 1)
    end
    return queue
end

-- The last event, with what else the reader wants to know.
local function with_result(event, result)
    local copy = { result = result }
    for name, value in pairs(event) do
        copy[name] = value
    end
    return copy
end

local leaving_mt = {
    __close = function(leaving)
        leaving.group:cancel("user")
        local group <close> = leaving.group -- waits, also where a cancelled task cannot
    end,
}

--- The events of a run as they happen. See agent:stream.
function M.stream(conv, text, opts)
    check_message(text, opts)
    check_task()
    local queue, group, last, failed = event_queue(), engine.group(), nil, nil
    local own = {}
    for name, value in pairs(opts or {}) do
        own[name] = value
    end
    own.on_event = function(event)
        if event.type == "run.end" then
            last = event -- its result is not known yet
        else
            queue.put(event)
        end
        if opts and opts.on_event then
            opts.on_event(event)
        end
    end
    group:spawn(function()
        local ok, result = pcall(M.send, conv, text, own)
        if not ok then
            failed = { result }
        end
        if last then
            queue.put(with_result(last, ok and result or nil))
        end
        queue.over()
    end)
    return function()
        local event = queue.take()
        if not event and failed then
            error(failed[1], 0)
        end
        return event
    end, nil, nil, setmetatable({ group = group }, leaving_mt)
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
