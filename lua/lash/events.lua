--- Events: everything that happens in a run, one table each. The live display, --jsonl and scripts all
-- read this one stream.
--
-- Every event has `type`, `t` (ms since the start of the run) and `agent`, and by its type:
--   run.start      {}
--   model.request  { provider, model, turn, attempt }
--   model.end      { stop, usage, ms }
--   text           { delta }           of an answer, while it comes; of one that comes whole, all at once
--   reasoning      { delta }           likewise, what the model lets see of its thoughts
--   call.ready     { call, name, args }  the model has asked for it; it runs when the answer is complete
--   call.start     { call, name, mark, args }       `call` is "turn.index", unique in the run
--   call.progress  { call, name, text, fraction }   what ctx.progress told; either may be missing
--   call.end       { call, name, status, ms, output }
--   handoff        { from, to }
--   retry          { what, wait_ms, why, attempt }  of a model request or a call, with `call`
--   warning        { text }
--   run.end        { ok, exit, reason, text, value, usage, turns, error }   `value` where the answer fits a schema
local engine = require "lash.core.engine"
local log = require "lash.log"

local M = {}

--- Events whose text stands on stderr already: the live display leaves them out.
M.said = setmetatable({}, { __mode = "k" })

local listeners = {} -- of the command that runs, for all runs of the process

--- Calls fn(event) for every event of every run from now on.
function M.listen(fn)
    listeners[#listeners + 1] = fn
end

-- A listener that fails disturbs nobody. It is told once in a run: a stream has an event for every few letters.
local function tell(fn, event, run)
    local ok, err = pcall(fn, event)
    if not ok and not (run.failed and run.failed[fn]) and not engine.cancel_reason(err) then
        run.failed = run.failed or {}
        run.failed[fn] = true
        local why = type(err) == "table" and rawget(err, "message") or err
        log.warn(("on_event failed at %s: %s (told once in a run)"):format(event.type, tostring(why)))
    end
end

--- Whether anybody listens to all runs: to a run that has no listeners of its own then.
function M.any()
    return #listeners > 0
end

--- emit(run, kind, agent, fields): tells of something in a run those of M.listen, which look at no answer before
-- its end, and those before them that the run has itself.
-- @param run { listeners = functions | nil, began = engine.hrtime() of its start }
-- @param fields of the event; nobody else has this table
function M.emit(run, kind, agent, fields)
    local own = run.listeners
    if not own and #listeners == 0 then
        return
    end
    fields.type, fields.t, fields.agent = kind, (engine.hrtime() - run.began) // 1000000, agent
    for i = 1, own and #own or 0 do
        tell(own[i], fields, run)
    end
    for i = 1, #listeners do
        tell(listeners[i], fields, run)
    end
end

return M
