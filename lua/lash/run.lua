--- A run: from a user's message to the final answer; it may span several agents. It is a loop:
--
--   request -> entry appended -> no calls? final text. Otherwise dispatch -> all outcomes appended
--   together, in call order -> next turn
--
-- Turn counter, budgets and cancel belong to the run: a handoff resets none.
local lazy = require "lash.lazy"
local attach = lazy "lash.attach"
local calls = require "lash.calls"
local conversation = require "lash.conversation"
local cancelled_exit = require("lash.failure").cancelled_exit
local declare = require "lash.declare"
local engine = require "lash.core.engine"
local lash = require "lash"
local limits = require "lash.limits"
local model = require "lash.model"
local prepare = require "lash.prepare"
local record = require "lash.record"
local structured = lazy "lash.structured"

local append, view_of = conversation.Conversation.append, prepare.view

local M = {}

--- What commands and tests set for all runs: `model` replaces every agent's, `limits` likewise;
-- `stream = false` asks for whole answers only; `dry_run(request)` gets what model.dry_run makes of the first
-- request, and does not return. Workers have what lash.overrides tells them.
local overrides = record.overrides
M.overrides = overrides

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

-- ---- results ----

local Result = { __name = "lash.result" }

function Result:__tostring()
    return self.text
end

local function usage_of(result)
    local sum, entries = { input = 0, output = 0, cached = 0, reasoning = 0, total = 0 }, result.conversation.entries
    for i = result._first, result._last do
        local usage = entries[i].usage
        if usage then
            for name, count in pairs(sum) do
                sum[name] = count + (usage[name] or 0)
            end
        end
    end
    return sum
end

-- These are made when somebody looks.
local LAZY = {
    usage = usage_of,
    items = function(result)
        return result.conversation:items()
    end,
    calls = function(result)
        return conversation.records(result.conversation, result._first, result._last)
    end,
}

function Result:__index(key)
    local make = LAZY[key]
    local value = make and make(self)
    if value then
        rawset(self, key, value)
    end
    return value
end

-- Calls that were answered `lost` and came back nevertheless: that is told, and enters no history.
local function tell_late(run)
    local list = run.key and engine.late(run.key)
    if not list then
        return
    end
    for _, result in ipairs(list) do
        local call, name = result.tag:sub(#run.key + 1):match("^(%S+) (.*)$")
        run:emit("warning", {
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
        agent = run.conv.agent.name,
        model = run.label,
        turns = run.turn,
        conversation = run.conv,
        error = err,
        _first = run.first,
        _last = #run.conv.entries,
    }, Result)
    if run.heard then
        run:emit("run.end", {
            ok = ok, exit = exit, reason = reason, text = result.text, value = run.value, usage = result.usage,
            turns = run.turn, error = err and err.message or nil,
        })
    end
    return result
end

-- ---- limits ----

-- The budget that forbids one more request, or nil.
local function spent(run)
    local most = run.limits
    if most.requests and limits.reached(most.requests, run.turn) then -- one request a turn
        return "requests"
    elseif most.tokens and limits.reached(most.tokens, run.tokens) then
        return "tokens"
    end
    return nil
end

-- ---- one turn ----

-- The answer broke off: what was said of it stays in the conversation, as text only.
local function keep_pieces(run)
    local text = table.concat(run.pieces or {})
    run.pieces = nil
    if text:find("%S") then
        run.last_text = text
        run.conv:append { type = "answer", provider = "partial", items = { { type = "text", text = text } },
            stop = "cut" }
    end
end

local function dry_request(run, target, view)
    local shown, err = model.dry_run(target, run.conv, view, { stream = run:streams() })
    if shown then
        overrides.dry_run(shown)
    end
    return nil, failure(err)
end

local function request(run, target, view)
    if overrides.dry_run then
        return dry_request(run, target, view)
    end
    local started = run.heard and engine.hrtime()
    run.label = target.label
    local answer, err = model.ask(target, run.conv, view, run)
    if not answer then
        keep_pieces(run)
        return nil, failure(err)
    end
    run.pieces = nil
    if run.limits.tokens and answer.usage then
        run.tokens = run.tokens + (answer.usage.total or 0)
    end
    if started then
        run:emit("model.end", {
            stop = answer.stop, usage = answer.usage, ms = (engine.hrtime() - started) // 1000000,
        })
    end
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
-- @param asked the calls, or nil without any
-- @return reason to end with, or nil to ask once more
local function cut_off(run, answer, asked)
    if asked then
        calls.answer_all(run, asked, "not run: the answer was cut off (" .. answer.stop .. ")")
    end
    if ENDS[answer.stop] then
        return ENDS[answer.stop]
    end
    if not asked or run.cut == run.turn - 1 then
        return "length"
    end
    run.cut = run.turn
    run.conv:append { type = "note", text = CUT_OFF }
    return nil
end

-- What becomes of an answer that ended normally.
-- @return the result when the run is over
local function go_on(run, text, asked, last)
    if last and not (run.repair == run.turn and not asked) then
        if asked then
            calls.answer_all(run, asked, "not run: the limit of turns is reached")
        end
        return finish(run, "turns", structured.salvage(run, text ~= "" and text or run.last_text))
    end
    local reason, final, why
    if asked then
        run:need_key()
        reason, why = calls.run(run, asked)
        final = run.last_text
    else
        if run.current.agent.output then
            reason, final, why = structured.judge(run, text)
        else
            reason, final = text:find("%S") and "done" or "empty", text
        end
        if not reason then
            run.last_text = text ~= "" and text or run.last_text
        end
    end
    return reason and finish(run, reason, final, why and failure(why))
end

-- @param before text so far of an answer in the middle of which the model paused
-- @return the result when the run is over | nil, `before` of the next turn
local function turn(run, before)
    tell_late(run)
    local budget = spent(run)
    if budget then
        return finish(run, budget, run.last_text)
    end
    local conv, count, most, current = run.conv, run.turn + 1, run.limits.turns, run.current
    run.turn = count
    local last = most > 0 and count > most
    if last and run.repair ~= count then -- one request more for a repair is not counted
        append(conv, { type = "note", text = LAST_TURN })
    end
    local answer, err = request(run, current.target, view_of(current, count == 1, last))
    if not answer then
        return finish(run, "error", run.last_text, err)
    end
    local text, asked = append(conv, answer)
    local stop = answer.stop
    if before then
        text = before .. text
    end
    if text ~= "" and (asked or stop ~= "end") then -- else it is the run's last word, as a rule
        run.last_text = text
    end
    if stop == "pause" and not asked then
        if run.cut == count - 1 then
            run.cut = count -- as what comes may be
        end
        return nil, text -- the model goes on when it is asked again
    elseif stop ~= "end" and stop ~= "calls" and stop ~= "pause" then
        local reason = cut_off(run, answer, asked)
        return reason and finish(run, reason, text ~= "" and text or refusal_text(answer))
    end
    return go_on(run, text, asked, last)
end

-- ---- the run ----

local function run_to_end(run, message)
    local conv = run.conv
    local current, err = prepare.agent(conv.agent, run:model_name(conv.agent))
    run.current = current
    if not current then
        return finish(run, "error", "", failure(err))
    end
    append(conv, message)
    local result, before
    repeat
        result, before = turn(run, before)
    until result
    return result
end

-- run_to_end in a task of its own: it can be cancelled alone, and has its own deadline.
-- @return result | nil, error, whether the run was stopped, and not who asked for it
local function run_apart(run, message)
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
        return nil, cancel, false
    end
    local ok, result = run.task:result()
    if ok then
        return result
    end
    return nil, result, true
end

-- no_raise: a run that fails gives a result, for the commands
-- deltas = false: nobody wants an answer while it comes, so one that broke off can be asked for again
local OPTIONS = { on_event = "function", limits = "table", model = "string", stream = "boolean",
    no_raise = "boolean", deltas = "boolean" }

-- What waits needs a task. A stock Lua has none at first.
local function check_task(level)
    if not engine.current() then
        error("an agent runs in a task, and this caller is none: outside of lash call agent:run_sync or "
            .. "conversation:send_sync, with on_event for what a stream would tell", level + 1)
    end
end

-- @return the entry of the message
local function check_message(message, opts, level)
    local entry, wrong
    if type(message) == "string" and utf8.len(message) then
        entry = { type = "user", text = message }
    else
        entry, wrong = attach.entry(message)
    end
    if not entry then
        error(wrong, level + 1)
    elseif opts ~= nil and type(opts) ~= "table" then
        error(("the options must be a table, got %s"):format(type(opts)), level + 1)
    end
    local fault = opts and (declare.fault("the options of a run", opts, OPTIONS)
        or limits.fault("the options of a run", opts.limits))
    if fault then
        error(fault, level + 1)
    end
    return entry
end

-- Of a run that did not come to its end: it was stopped, or lash failed.
-- @param own whether the run was stopped, and not who asked for it
local function broken(run, err, own)
    keep_pieces(run)
    local reason, failed = engine.cancel_reason(err) and run:stop_reason(), nil
    if not reason then -- no tool's fault: those are outcomes
        local text = tostring(err)
        local exit = text:find("not enough memory", 1, true) and 71 or 70
        failed = failure { code = "lash", message = "lash itself failed: " .. text, exit = exit }
    end
    local ending = finish(run, reason or "error", run.last_text, failed)
    if run.opts.no_raise or reason and own then
        return ending
    elseif failed then
        failed.result = ending
    end
    error(failed or err, 0)
end

-- What the deepest calls of a usual run take of its coroutine's stack. Lua doubles a stack that is too small: then
-- thousands that wait would have twice as much as they need, if this were a few less.
local SLOTS = 106

-- @return the run and its first entry
local function begin(conv, text, opts)
    local message = check_message(text, opts, 3)
    check_task(3)
    if lash.loading then -- a command loads a file for what it declares
        error("an agent was run while the file was loaded for what it declares: put what is only for a script "
            .. "under `if lash.main then`", 3)
    elseif conv.busy then
        error("the conversation has a run that has not ended; start another conversation", 3)
    end
    conv.busy = true
    if conv.stop then
        conv.stop = false
    end
    return record.new(conv, opts), message
end

--- Sends a user's message in a conversation and runs to the end. See agent:run.
-- @param alone true: nobody else has the conversation, so nobody can cancel it. Then the caller's task runs it,
-- but for a limit of time: thousands of waiting runs need less memory so.
function M.send(conv, text, opts, alone)
    engine.reserve(SLOTS)
    local run, message = begin(conv, text, opts)
    if run.heard then
        run:emit("run.start", {})
    end
    local called, result, err, own = pcall((not alone or (run.limits.time or 0) > 0) and run_apart or run_to_end,
        run, message)
    conv.busy, conv.run = false, nil
    if not called then -- the caller was cancelled, or lash failed
        return broken(run, result, false)
    elseif not result then
        return broken(run, err, own)
    elseif result.error and not run.opts.no_raise then
        result.error.result = result
        error(result.error, 0)
    end
    return result
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
    check_message(text, opts, 2)
    check_task(2)
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
