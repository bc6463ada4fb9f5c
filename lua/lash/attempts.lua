--- The attempts of one call: one, or for tools marked `idempotent` some more while they fail.
--
-- A timeout counts for each attempt, so every attempt that others may follow is a task of its own. The
-- deadline and the cancel of the run end them all.
local context = require "lash.context"
local engine = require "lash.core.engine"
local outcome = require "lash.outcome"
local retries = require "lash.retries"
local tool = require "lash.tool"

local begin_call, end_call = engine.begin_call, engine.end_call
local attempt, mapped = outcome.attempt, outcome.mapped

local M = {}

local WHY = 300 -- bytes of an error in the event of a retry

local MAY_RUN = "; it could not be stopped and may still be running"

--- What to tell of a call that was cancelled for `reason`.
-- @param found its tool
-- @param cause fn() -> why the run is cancelled, or nil
-- @return status, text
function M.cancelled(found, reason, cause)
    if reason == "deadline" and found.timeout then
        return "timeout", ("timed out after %g s"):format(found.timeout)
    elseif reason == "sibling" then
        return "cancelled", "cancelled because another call failed"
    end
    return "cancelled", "cancelled" .. (cause and ": " .. cause() or "")
end

--- What to tell of a call whose task has ended without a word: it caught every cancel, until no instruction
-- was left to it.
-- @return status, text
function M.killed(task, found, cause)
    local _, err = false, "its task was given up"
    if task:status() == "done" then
        _, err = task:result()
    end
    local reason = engine.cancel_reason(err)
    if reason then
        return M.cancelled(found, reason, cause)
    end
    return "error", outcome.error_text(err)
end

local function cancelled(job, reason)
    return M.cancelled(job.tool, reason, job.batch.spec.cause)
end

--- The name of a call in its run, "TURN.INDEX".
-- @param batch of lash.dispatch
function M.label(batch, at)
    local prefix = batch.prefix
    if not prefix then
        prefix = batch.spec.turn .. "."
        batch.prefix = prefix
    end
    return prefix .. at
end

local function label_of(job)
    return M.label(job.batch, job.at)
end

local function context_of(job, n)
    local spec, label = job.batch.spec, label_of(job)
    return { -- with room for the functions
        call = label, agent = spec.agent, key = spec.key .. label, attempt = n, progress = nil, cancelled = nil,
    }
end

-- What it comes to when the task was cancelled, the loop was held, or the tool failed.
-- @return status, text, whether it forbids another attempt
local function judged(job, status, text, reason, held, traceback, final)
    if held then -- before the end of the call that it tells of
        held()
    end
    local spec, found = job.batch.spec, job.tool
    if reason then
        status, text = cancelled(job, reason)
        traceback, final = nil, nil
        if found.mark == "sync" and engine.current():lost() then
            status, text = "lost", text .. MAY_RUN
        end
    end
    if traceback and spec.on_traceback then
        spec.on_traceback(found.name, text, traceback)
    end
    return status, text, final
end

-- On a worker. Raises nothing: what the engine raises is told as what it is.
-- @return status, text, ms, whether it forbids another attempt
local function run_there(job, args, ctx)
    local found = job.tool
    begin_call(job, found.timeout, job.batch.spec.key .. label_of(job) .. " " .. found.name)
    local done, status, text, traceback, final = pcall(tool.run, found, args, ctx, job.on_report)
    if not done then -- cancelled; or it failed itself: a message that is too large to travel, no memory
        status, text, traceback, final = "error", outcome.error_text(status), nil, nil
    end
    local ms, reason, held = end_call()
    if reason or held or traceback then
        status, text, final = judged(job, status, text, reason, held, traceback, final)
    end
    return status, text, ms, final
end

--- One attempt of a call, in the running task.
-- @param job { tool =, its = as of tool.prepared, args =, at = its index, batch = { spec = of dispatch.run },
--   on_report = as of tool.run }
-- @param n which attempt; from the second on job.fresh_args() gives the arguments once more
-- @param settle fn(batch, at, status, text, ms since the beginning, whether it forbids another attempt): gets what
--   came of it, and gives what this returns. While the tool runs no caller waits for that: a stack that holds one
--   frame less need not grow
function M.once(job, n, settle)
    local found, args, ctx = job.tool, n == 1 and job.args or job.fresh_args(), nil
    if job.its.wants then
        ctx = context_of(job, n)
    end
    if found.mark == "sync" then
        return settle(job.batch, job.at, run_there(job, args, ctx))
    end
    local text, ms, reason, held, count, value = attempt(job, found.timeout, found.fn, args,
        ctx and context.attach(ctx, job.on_report))
    local status, traceback, final = "ok", nil, nil
    if not text or #text > found.max_output then
        status, text, traceback, final = mapped(found.max_output, text, count, value)
    end
    if reason or held or traceback then
        status, text, final = judged(job, status, text, reason, held, traceback, final)
    end
    return settle(job.batch, job.at, status, text, ms, final)
end

local function as_it_is(_, _, ...)
    return ...
end

-- One attempt in a task of its own.
local function apart(job, n)
    local group <close> = engine.group()
    local task = group:spawn(M.once, job, n, as_it_is)
    local waited, cancel = pcall(group.wait, group)
    local done, status, text, _, final = task:result()
    if not waited then -- the call itself is cancelled: nobody but it knows for what
        local lost = status == "lost"
        status, text = cancelled(job, engine.cancel_reason(cancel))
        return lost and "lost" or status, lost and text .. MAY_RUN or text
    elseif done then
        return status, text, final
    end
    return M.killed(task, job.tool, job.batch.spec.cause)
end

local function summary(job, n, status, text)
    if n == 1 or (status ~= "error" and status ~= "timeout") then
        return text
    end
    return outcome.cap(("failed %d times; the last error: %s"):format(n, text), job.tool.max_output)
end

-- Waits before another attempt. @return true | false, status, text
local function pause(job, policy, n, status, text)
    local wait = retries.delay(policy, n)
    if job.batch.spec.emit then
        job.batch.spec.emit("retry", {
            what = job.tool.name, call = label_of(job), attempt = n + 1, wait_ms = math.floor(wait * 1000 + 0.5),
            why = outcome.cap(text, WHY),
        })
    end
    local done, permitted = pcall(job.pause, wait)
    if not done then
        local reason = engine.cancel_reason(permitted)
        if not reason then
            return false, "error", outcome.error_text(permitted)
        end
        return false, cancelled(job, reason)
    elseif not permitted then
        return false, status, summary(job, n, status, text) .. "; its turn for another attempt did not come in time"
    end
    return true
end

--- Runs a call that may have several. Never raises.
-- @param job as of M.once, with pause = fn(seconds) -> true when it may go on then, false when its turn did not come
-- @param policy as of retries.policy
-- @return status, text
function M.run(job, policy)
    local n = 0
    while true do
        n = n + 1
        local status, text, final = apart(job, n)
        if (status ~= "error" and status ~= "timeout") or final or n >= policy.attempts then
            return status, summary(job, n, status, text)
        end
        local go, end_status, end_text = pause(job, policy, n, status, text)
        if not go then
            return end_status, end_text
        end
    end
end

return M
