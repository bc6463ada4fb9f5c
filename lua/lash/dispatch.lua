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
local schema = require "lash.schema"
local timer = require "lash.core.timer"
local tool = require "lash.tool"

local decode, fits, hrtime = json.decode, require("lash.core.accept").fits, engine.hrtime
local label, once, made_of, prepared = attempts.label, attempts.once, tool.made_of, tool.prepared

local M = {}

local NONE = {}

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

-- What is wrong with arguments that are no JSON object, or nil.
local function no_object(args, err)
    if err then
        return ("the arguments are not valid JSON: %s"):format(err.message or tostring(err))
    elseif type(args) ~= "table" or getmetatable(args) == json.array_mt then
        return ("the arguments must be a JSON object such as {\"name\": value}, got %s"):format(
            type(args) == "table" and "an array" or args == json.null and "null" or type(args))
    end
    return nil
end

--- Which tool a call means and with what arguments.
-- @param tools name -> tool
-- @return tool, arguments, as of tool.prepared | nil, the sentence for the model
function M.classify(call, tools)
    local found, text = tools[call.name], call.args
    if not found then
        return nil, unknown(call.name, tools)
    end
    local args, err
    if text == nil or text == "" then
        args = {}
    else
        args, err = decode(text)
    end
    local its, ok, fault = made_of[found] or prepared(found), nil, nil
    if its.plan and fits(its.plan, args) then
        return found, args, its
    end
    ok, fault = schema.check(its.checker, args)
    if ok then -- so it is an object: as the schemas of all tools have it
        return found, args, its
    end
    return nil, no_object(args, err)
        or ("the arguments of '%s' do not fit its schema: %s"):format(call.name, tostring(fault))
end

--- An outcome item for a call.
function M.outcome(call, status, text)
    return { type = "outcome", id = call.id, name = call.name, status = status, output = text }
end

local function elapsed(since)
    return (hrtime() - since) // 1000000
end

-- ---- starts and ends ----

-- A task that caught every cancel is left no instruction but those of lash: no listener could run in it.
local function is_given_up()
    return debug.gethook() == "external hook" and engine.current():cancelled() ~= nil
end

local FAILED = { error = true, timeout = true, lost = true }

-- When a call began: hrtime(), or nil when it has not.
local function begun(batch, slot)
    local task = batch.tasks[slot]
    return batch.jobs[slot].started or task and task:begun()
end

-- A call has failed. With fail_fast the first one stops the others.
local function note_failure(batch, i)
    batch.failures = batch.failures or {}
    batch.failures[#batch.failures + 1] = i
    if not batch.spec.fail_fast or batch.stopped then
        return
    end
    batch.stopped = true
    if batch.permits then
        batch.permits:abandon()
    end
    for slot, job in ipairs(batch.jobs) do
        if not batch.outcomes[job.at] and begun(batch, slot) then
            batch.tasks[slot]:cancel("sibling")
        end
    end
end

local function tell_end(batch, i)
    local spec, item = batch.spec, batch.outcomes[i]
    spec.emit("call.end", {
        call = label(batch, i), name = item.name, status = item.status, ms = item.ms, output = item.output,
    })
end

local function note_end(batch, i, status, text, ms)
    local call = batch.calls[i]
    batch.outcomes[i] = {
        type = "outcome", id = call.id, name = call.name, status = status, output = text, ms = ms,
    }
    if batch.spec.emit then
        if is_given_up() then
            batch.untold = batch.untold or {}
            batch.untold[#batch.untold + 1] = i
        else
            tell_end(batch, i)
        end
    end
    if FAILED[status] then
        note_failure(batch, i)
    end
end

local function note_start(batch, i, found)
    local spec, call = batch.spec, batch.calls[i]
    if spec.emit then
        spec.emit("call.start", {
            type = "call.start", -- as what it becomes anyway: the table is made large enough at once
            call = label(batch, i),
            name = call.name,
            mark = found and found.mark,
            args = call.args == "" and "{}" or call.args,
        })
    end
end

-- A call that never starts: its start and its end are told at once.
local function note_both(batch, i, status, text)
    note_start(batch, i, batch.spec.tools[batch.calls[i].name])
    note_end(batch, i, status, text, 0)
end

-- ---- permits ----

-- @param barrier whether no other call of the batch runs beside it
local function add_slot(batch, permits, found, barrier)
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
        batch.workers = batch.workers or engine.jobs()
        permits:limit(number, "s", "sync", batch.workers)
    end
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
local function pauses(job, number)
    local permits, wait = job.batch.permits, job.batch.spec.wait
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
        add_slot(job.batch, again, job.tool, false)
        again:start()
        return turn_comes(again, wait)
    end
    return pause, give_back
end

-- Answers the calls that did not get their turn within limits.wait.
local function watch_turns(batch)
    timer.sleep(batch.spec.wait)
    local late = {}
    for slot, job in ipairs(batch.jobs) do
        if batch.permits:waits(slot) then
            late[#late + 1] = job.at
        end
    end
    batch.permits:abandon()
    local text = ("not started: it waited %g s for its turn, which did not come (limits.wait)"):format(batch.spec.wait)
    for _, i in ipairs(late) do
        if not batch.stopped then -- the others get the reason for that
            note_both(batch, i, "timeout", text)
        end
    end
end

-- ---- calls ----

local function progress_teller(job)
    local batch, i = job.batch, job.at
    return function(report)
        if not batch.outcomes[i] and type(report) == "table" then
            local text = report.text
            batch.spec.emit("call.progress", {
                call = label(batch, i), name = batch.calls[i].name, fraction = tonumber(report.fraction),
                text = type(text) == "string" and outcome.cap(outcome.error_text(text), PROGRESS) or nil,
            })
        end
    end
end

-- A call that may be tried again.
local function run_again(job, slot, policy)
    local began, give_back = job.started or hrtime(), nil
    job.started = began
    job.pause, give_back = pauses(job, slot)
    job.fresh_args = function() -- a tool may change the table that it gets
        return select(2, M.classify(job.batch.calls[job.at], job.batch.spec.tools))
    end
    local status, text = attempts.run(job, policy)
    give_back()
    note_end(job.batch, job.at, status, text, elapsed(began))
end

-- The body of the task of one call. An error of it is one of lash, such as no memory for a tool's result; fill() tells
-- of it when the others have ended.
local function run_call(job, slot)
    local batch, found = job.batch, job.tool
    if batch.stopped then
        return
    end
    if batch.spec.emit then
        job.started = hrtime()
        job.on_report = job.its.wants and progress_teller(job) or nil
        note_start(batch, job.at, found)
    end
    if found.idempotent then
        local policy = retries.policy(found, batch.spec.retry)
        if policy then
            return run_again(job, slot, policy)
        end
    end
    return once(job, 1, note_end)
end

-- The same with fail_fast, where the others are to end at once.
local function run_guarded(job, slot)
    local batch = job.batch
    local ok, err = pcall(run_call, job, slot)
    if not ok and not batch.outcomes[job.at] then
        note_end(batch, job.at, "error", outcome.error_text(err), elapsed(begun(batch, slot) or hrtime()))
    end
end

-- Makes the jobs of all calls that can run.
-- @return how many, whether none of them needs more than any permit
local function classify_all(batch, skip)
    local calls, tools, jobs = batch.calls, batch.spec.tools, batch.jobs
    local n, plain = 0, true
    for i = 1, #calls do
        if not (skip and skip[i]) then
            local call = calls[i]
            local found, args, its = M.classify(call, tools)
            if found then
                n, plain = n + 1, plain and its.plain
                jobs[n] = { batch = batch, at = i, tool = found, args = args, its = its }
            else
                note_start(batch, i, tools[call.name])
                note_end(batch, i, "error", args, 0)
            end
        end
    end
    return n, plain
end

local function run_all(batch, n, plain)
    local permits <close> = engine.batch(batch.spec.cap or M.CONCURRENCY)
    local jobs, run, wait = batch.jobs, batch.spec.fail_fast and run_guarded or run_call, batch.spec.wait
    batch.permits = permits
    if not plain then
        for slot = 1, n do
            local found = jobs[slot].tool
            add_slot(batch, permits, found, found.parallel == false)
        end
        n = 0 -- more
    end
    if permits:start(n) == 0 or not wait or wait <= 0 then
        permits:run(run, jobs, batch.tasks)
    else
        local watch <close> = engine.group()
        watch:spawn(watch_turns, batch)
        permits:run(run, jobs, batch.tasks)
    end
end

-- Whether every call has its outcome, and all were told.
local function is_complete(batch)
    local outcomes = batch.outcomes
    for i = 1, #batch.calls do
        if not outcomes[i] then
            return false
        end
    end
    return not batch.untold
end

-- Answers what has no outcome: history stays complete.
local function fill(batch, skip)
    local outcomes, jobs, cause = batch.outcomes, batch.jobs, batch.spec.cause
    batch.permits = nil -- they are closed
    for _, i in ipairs(batch.untold or NONE) do
        tell_end(batch, i)
    end
    for slot = 1, #jobs do
        local job = jobs[slot]
        local began = not outcomes[job.at] and begun(batch, slot)
        if began then
            local status, text = attempts.killed(batch.tasks[slot], job.tool, cause)
            note_end(batch, job.at, status, text, elapsed(began))
        end
    end
    for i = 1, #batch.calls do
        if not outcomes[i] and not (skip and skip[i]) then
            local why = batch.fault or batch.stopped and "another call failed" or cause and cause()
                or "the run was cancelled"
            note_both(batch, i, "not_run", ("not run: %s before this call started"):format(why))
        end
    end
end

--- Runs a batch.
-- @param calls items of type "call", in the model's order
-- @param spec { tools = name -> tool, agent = name, cap = calls at once, emit = fn(type, fields) or nil,
--   turn = its number, for a call's label "TURN.INDEX", key = prefix of ctx.key, skip =
--   { [i] = true } for calls that somebody else answers, on_traceback = fn(name, text, traceback) or nil,
--   wait = seconds that a call waits for its turn, retry = of the agent, fail_fast = true: the first call
--   that fails stops the others, cause = fn() -> why the run is cancelled }
-- @return list of outcome items, holes where skipped; true | nil, what the run has to end with: the cancel error
--   when it was cancelled, another when lash itself failed (no memory for its own bookkeeping);
--   positions of the calls that failed, in the order in which they did
function M.run(calls, spec)
    local batch = {
        calls = calls,
        spec = spec,
        outcomes = { nil, nil, nil, nil }, -- room for a few at once, as in the next two: lists that grow are made again
        -- Of the calls that may run: { batch =, at = position, tool =, its = as of tool.prepared, args =, started =
        -- hrtime() where somebody is told of it, on_report = }
        jobs = { nil, nil, nil, nil },
        tasks = { nil, nil, nil, nil }, -- of those that have begun: as many
        permits = nil, -- their slots are the indices of jobs and tasks
    }
    -- Later perhaps: stopped = true: a call has failed, with fail_fast; failures =, as it is returned; fault = what
    -- lash failed with, for the model; untold = positions of those whose end was not told; workers = how many there
    -- may be; prefix = of the labels, see lash.attempts
    local skip = spec.skip
    local ok, err = true, nil
    local n, plain = classify_all(batch, skip)
    if n > 0 and not batch.stopped then
        ok, err = pcall(run_all, batch, n, plain)
        if not ok and not engine.cancel_reason(err) then -- a fault of lash, not of a tool: it ends the run
            batch.fault = "lash itself failed"
        end
    end
    if not is_complete(batch) then
        fill(batch, skip)
    end
    return batch.outcomes, ok or nil, not ok and err or nil, batch.failures or NONE
end

return M
