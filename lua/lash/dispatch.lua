--- The dispatcher: a batch of calls in, exactly one outcome per call out, in the same order. Never
-- raises.
--
-- classify (known tool? arguments parse? schema holds?) -> wait for a permit -> start -> deadline -> another
-- attempt if allowed -> outcome. Bookkeeping is by position, never by call id.
local attempts = require "lash.attempts"
local engine = require "lash.core.engine"
local json = require "lash.json"
local near = require "lash.near"
local outcome = require "lash.outcome"
local retries = require "lash.retries"
local timer = require "lash.core.timer"
local tool = require "lash.tool"

local M = {}

--- Calls of one batch that run at once, unless limits.concurrency says otherwise.
M.CONCURRENCY = 16

local SHOWN = 80      -- bytes of an unknown tool's name that are told
local PROGRESS = 1000 -- bytes of a text of ctx.progress

local function unknown(name, tools)
    local names = near.names(tools)
    name = tostring(name)
    if #name > SHOWN then
        name = name:sub(1, (utf8.offset(name, 0, SHOWN + 1) or SHOWN + 1) - 1) .. "..."
    end
    if #names == 0 then
        return ("there is no tool '%s': there are no tools"):format(name)
    end
    local close = near.list(name, names)
    local list = table.concat(#close > 0 and close or { table.unpack(names, 1, 20) }, ", ")
    return ("there is no tool '%s'; %s: %s"):format(name, #close > 0 and "near names" or "the tools are", list)
end

local function parse(text)
    if text == nil or text == "" then
        return {}
    end
    local args, err = json.decode(text)
    if err then
        return nil, ("the arguments are not valid JSON: %s"):format(err.message or tostring(err))
    elseif type(args) ~= "table" or getmetatable(args) == json.array_mt then
        return nil, ("the arguments must be a JSON object such as {\"name\": value}, got %s"):format(
            type(args) == "table" and "an array" or args == json.null and "null" or type(args))
    end
    return args
end

--- Which tool a call means and with what arguments.
-- @param tools name -> tool
-- @return tool, arguments | nil, the sentence for the model
function M.classify(call, tools)
    local found = tools[call.name]
    if not found then
        return nil, unknown(call.name, tools)
    end
    local args, err = parse(call.args)
    if not args then
        return nil, err
    end
    local ok, fault = tool.check_arguments(found, args)
    if not ok then
        return nil, ("the arguments of '%s' do not fit its schema: %s"):format(call.name, tostring(fault))
    end
    return found, args
end

--- An outcome item for a call.
function M.outcome(call, status, text)
    return { type = "outcome", id = call.id, name = call.name, status = status, output = text }
end

local function elapsed(since)
    return (engine.hrtime() - since) // 1000000
end

-- ---- starts and ends ----

-- A task that caught every cancel is left no instruction but those of lash: no listener could run in it.
local function is_given_up()
    return debug.gethook() == "external hook" and engine.current():cancelled() ~= nil
end

local function tell_end(batch, i)
    local item = batch.outcomes[i]
    batch.emit("call.end", {
        call = batch.label(i), name = item.name, status = item.status, ms = item.ms, output = item.output,
    })
end

local function note_end(batch, i, status, text, ms)
    local item = M.outcome(batch.calls[i], status, text)
    item.ms = ms
    batch.outcomes[i] = item
    if not batch.emit then
        return
    elseif is_given_up() then
        batch.untold[#batch.untold + 1] = i
    else
        tell_end(batch, i)
    end
end

local function note_start(batch, i, found)
    if batch.emit then
        local call = batch.calls[i]
        batch.emit("call.start", {
            call = batch.label(i),
            name = call.name,
            mark = found and found.mark,
            args = call.args == "" and "{}" or call.args,
        })
    end
end

-- A call that never starts: its start and its end are told at once.
local function note_both(batch, i, status, text)
    note_start(batch, i, batch.found[i])
    note_end(batch, i, status, text, 0)
end

local FAILED = { error = true, timeout = true, lost = true }

-- Remembers a call that failed. With fail_fast the first one stops the others.
local function note_failure(batch, i)
    if not FAILED[batch.outcomes[i].status] then
        return
    end
    batch.failures[#batch.failures + 1] = i
    if not batch.fail_fast or batch.stopped then
        return
    end
    batch.stopped = true
    if batch.permits then
        batch.permits:abandon()
    end
    for _, task in pairs(batch.running) do
        task:cancel("sibling")
    end
end

-- ---- permits ----

local function add_slot(permits, found, barrier)
    local number = permits:add(barrier)
    if type(found.parallel) == "string" then
        permits:limit(number, "=", found.parallel, 1)
    end
    if found.limit then
        permits:limit(number, "#", found.name, found.limit)
    end
    -- A sync call starts when a worker is free for it, so its deadline counts from there. On a worker it
    -- never waits: the worker itself is such a call, and does the work when nobody else is free.
    if found.mark == "sync" and not engine.in_worker() then
        permits:limit(number, "s", "sync", engine.jobs())
    end
    return number
end

-- Waits until the one slot gets its permit, for at most `seconds` (nil or 0: for ever).
-- @return whether it did
local function turn_comes(permits, seconds)
    if permits:pending() == 0 or not seconds or seconds <= 0 then
        return permits:next() ~= nil
    end
    local group <close> = engine.group()
    local task = group:spawn(function()
        return permits:next()
    end)
    task:deadline(seconds)
    group:wait()
    return (task:result())
end

-- For the time between two attempts. The call keeps its place in the batch, as a barrier too; others may
-- have its worker and its permit of the process meanwhile, and it queues for them again.
local function pauses(batch, i, permits, number)
    local again
    local function give_back()
        if again then
            again:__close()
        end
    end
    local function pause(seconds)
        give_back()
        permits:rest(number)
        timer.sleep(seconds)
        again = engine.batch(1)
        add_slot(again, batch.found[i], false)
        again:start()
        return turn_comes(again, batch.wait)
    end
    return pause, give_back
end

-- Answers the calls that did not get their turn within limits.wait.
local function watch_turns(batch, permits, at)
    timer.sleep(batch.wait)
    local late = {}
    for number, i in ipairs(at) do
        if not batch.begun[i] and not permits:runs(number) then
            late[#late + 1] = i
        end
    end
    permits:abandon()
    local text = ("not started: it waited %g s for its turn, which did not come (limits.wait)"):format(batch.wait)
    for _, i in ipairs(late) do
        if not batch.stopped then -- the others get the reason for that
            note_both(batch, i, "timeout", text)
            note_failure(batch, i)
        end
    end
end

-- ---- calls ----

local function nothing() end

local function progress_teller(batch, i)
    return function(report)
        if not batch.outcomes[i] and type(report) == "table" then
            local text = report.text
            batch.emit("call.progress", {
                call = batch.label(i), name = batch.calls[i].name, fraction = tonumber(report.fraction),
                text = type(text) == "string" and outcome.cap(outcome.error_text(text), PROGRESS) or nil,
            })
        end
    end
end

local function make_job(batch, i)
    local found, label = batch.found[i], batch.label(i)
    return {
        tool = found,
        args = batch.args[i],
        label = label,
        agent = batch.agent,
        key = batch.key .. label,
        policy = retries.policy(found, batch.retry),
        emit = batch.emit or nothing,
        on_report = batch.emit and progress_teller(batch, i),
        on_traceback = batch.on_traceback,
        cause = batch.cause,
    }
end

local function run_found(batch, i, permits, number)
    batch.started[i] = engine.hrtime()
    note_start(batch, i, batch.found[i])
    local job = make_job(batch, i)
    local give_back
    if job.policy then
        job.pause, give_back = pauses(batch, i, permits, number)
        job.fresh_args = function() -- a tool may change the table that it gets
            return select(2, M.classify(batch.calls[i], batch.tools))
        end
    end
    local status, text = attempts.run(job)
    if give_back then
        give_back()
    end
    note_end(batch, i, status, text, elapsed(batch.started[i]))
end

-- The body of the task of one call. Its permit is given back whatever happens.
local function run_call(batch, i, permits, number)
    local permit <close> = permits:hold(number)
    if batch.stopped then
        return
    end
    batch.running[i] = engine.current()
    local ok, err = pcall(run_found, batch, i, permits, number)
    batch.running[i] = nil
    if not ok and not batch.outcomes[i] then
        note_end(batch, i, "error", outcome.error_text(err), elapsed(batch.started[i]))
    end
    note_failure(batch, i)
end

local function classify_all(batch, skip)
    local any = false
    for i, call in ipairs(batch.calls) do
        if not skip[i] then
            local found, args = M.classify(call, batch.tools)
            if found then
                batch.found[i], batch.args[i] = found, args
                any = true
            else
                note_start(batch, i, batch.tools[call.name])
                note_end(batch, i, "error", args, 0)
                note_failure(batch, i)
            end
        end
    end
    return any and not batch.stopped
end

local function run_all(batch, cap)
    local permits <close> = engine.batch(cap)
    local at = {} -- slot number -> position in the batch
    for i = 1, #batch.calls do
        if batch.found[i] then
            local found = batch.found[i]
            at[add_slot(permits, found, found.parallel == false)] = i
        end
    end
    batch.permits = permits
    permits:start()
    local waits = batch.wait and batch.wait > 0 and permits:pending() > 0
    local watch <close> = waits and engine.group() or nil
    if watch then
        watch:spawn(watch_turns, batch, permits, at)
    end
    local group <close> = engine.group()
    local number = permits:next()
    while number do
        batch.begun[at[number]] = true
        group:spawn(run_call, batch, at[number], permits, number)
        number = permits:next()
    end
    group:wait()
end

-- Answers what has no outcome: history stays complete.
local function fill(batch, skip)
    for _, i in ipairs(batch.untold) do
        tell_end(batch, i)
    end
    for i, task in pairs(batch.running) do
        if batch.started[i] and not batch.outcomes[i] then
            local status, text = attempts.killed(task, batch.found[i], batch.cause)
            note_end(batch, i, status, text, elapsed(batch.started[i]))
            note_failure(batch, i)
        end
    end
    local why = batch.fault or batch.stopped and "another call failed" or batch.cause and batch.cause()
        or "the run was cancelled"
    for i in ipairs(batch.calls) do
        if not batch.outcomes[i] and not skip[i] then
            note_both(batch, i, "not_run", ("not run: %s before this call started"):format(why))
        end
    end
end

--- Runs a batch.
-- @param calls items of type "call", in the model's order
-- @param spec { tools = name -> tool, agent = name, cap = calls at once, emit = fn(type, fields) or nil,
--   label = fn(i) -> "turn.index", key = prefix of ctx.key, skip = { [i] = true } for calls that somebody
--   else answers, on_traceback = fn(name, text, traceback) or nil, wait = seconds that a call waits for its
--   turn, retry = of the agent, fail_fast = true: the first call that fails stops the others, cause = fn() ->
--   why the run is cancelled }
-- @return list of outcome items, holes where skipped; true | nil, what the run has to end with: the cancel error
--   when it was cancelled, another when lash itself failed (no memory for its own bookkeeping);
--   positions of the calls that failed, in the order in which they did
function M.run(calls, spec)
    local batch = {
        calls = calls, tools = spec.tools, outcomes = {}, found = {}, args = {}, begun = {}, started = {},
        running = {}, untold = {}, failures = {},
        emit = spec.emit, label = spec.label, agent = spec.agent, key = spec.key, wait = spec.wait,
        retry = spec.retry, fail_fast = spec.fail_fast, cause = spec.cause,
        on_traceback = spec.on_traceback,
    }
    local skip = spec.skip or {}
    local ok, err = true, nil
    if classify_all(batch, skip) then
        ok, err = pcall(run_all, batch, spec.cap or M.CONCURRENCY)
        if not ok and not engine.cancel_reason(err) then -- a fault of lash, not of a tool: it ends the run
            batch.fault = "lash itself failed"
        end
    end
    fill(batch, skip)
    return batch.outcomes, ok or nil, not ok and err or nil, batch.failures
end

return M
