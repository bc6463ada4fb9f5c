--- The attempts of one call: one, or for tools marked `idempotent` some more while they fail.
--
-- A timeout counts for each attempt, so every attempt that others may follow is a task of its own. The
-- deadline and the cancel of the run end them all.
local engine = require "lash.core.engine"
local outcome = require "lash.outcome"
local retries = require "lash.retries"
local signals = require "lash.core.signals"
local tool = require "lash.tool"

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
    return M.cancelled(job.tool, reason, job.cause)
end

-- One attempt, in the running task.
-- @return status, text, whether it forbids another attempt
local function attempt(job, n)
    local task = engine.current()
    task:mark_call(job)
    if job.tool.mark == "sync" then
        task:tag(job.key .. " " .. job.tool.name) -- should its result come too late
    end
    if job.tool.timeout then
        task:deadline(job.tool.timeout)
    end
    local args = n == 1 and job.args or job.fresh_args()
    local ctx = { -- with room for the functions
        call = job.label, agent = job.agent, key = job.key, attempt = n, progress = nil, cancelled = nil,
    }
    local done, status, text, traceback, final = pcall(tool.run, job.tool, args, ctx, job.on_report)
    local held = signals.held()
    if held then -- before the end of the call that it tells of
        held()
    end
    if not done then
        local reason = engine.cancel_reason(status)
        if reason then
            status, text = cancelled(job, reason)
            if task:lost() then
                status, text = "lost", text .. MAY_RUN
            end
        else -- tool.run itself failed: a message that is too large to travel, no memory
            status, text = "error", outcome.error_text(status)
        end
    end
    if traceback and job.on_traceback then
        job.on_traceback(job.tool.name, text, traceback)
    end
    return status, text, final
end

-- One attempt in a task of its own.
local function apart(job, n)
    local group <close> = engine.group()
    local task = group:spawn(attempt, job, n)
    local waited, cancel = pcall(group.wait, group)
    local done, status, text, final = task:result()
    if not waited then -- the call itself is cancelled: nobody but it knows for what
        local lost = status == "lost"
        status, text = cancelled(job, engine.cancel_reason(cancel))
        return lost and "lost" or status, lost and text .. MAY_RUN or text
    elseif done then
        return status, text, final
    end
    return M.killed(task, job.tool, job.cause)
end

local function summary(job, n, status, text)
    if n == 1 or (status ~= "error" and status ~= "timeout") then
        return text
    end
    return outcome.cap(("failed %d times; the last error: %s"):format(n, text), job.tool.max_output)
end

-- Waits before another attempt. @return true | false, status, text
local function pause(job, n, status, text)
    local wait = retries.delay(job.policy, n)
    job.emit("retry", {
        what = job.tool.name, call = job.label, attempt = n + 1, wait_ms = math.floor(wait * 1000 + 0.5),
        why = outcome.cap(text, WHY),
    })
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

--- Runs a call. Never raises.
-- @param job { tool =, args =, label =, agent =, key = of its context, policy = as of retries.policy or nil,
--   emit = fn(type, fields), on_report = as of tool.run, on_traceback = fn(name, text, traceback) or nil,
--   cause = fn() -> why the run is cancelled, or nil }, and with a policy fresh_args = fn() -> the arguments
--   once more, pause = fn(seconds) -> true when it may go on then, false when its turn did not come
-- @return status, text
function M.run(job)
    if not job.policy then
        local status, text = attempt(job, 1)
        return status, text
    end
    local n = 0
    while true do
        n = n + 1
        local status, text, final = apart(job, n)
        if (status ~= "error" and status ~= "timeout") or final or n >= job.policy.attempts then
            return status, summary(job, n, status, text)
        end
        local go, end_status, end_text = pause(job, n, status, text)
        if not go then
            return end_status, end_text
        end
    end
end

return M
