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
local function tell(fn, event, failed)
    local ok, err = pcall(fn, event)
    if not ok and not failed[fn] and not engine.cancel_reason(err) then
        failed[fn] = true
        local why = type(err) == "table" and rawget(err, "message") or err
        log.warn(("on_event failed at %s: %s (told once in a run)"):format(event.type, tostring(why)))
    end
end

--- Makes the emitter of one run.
-- @param fns functions that get its events, beside those of M.listen, which look at no answer before its end
-- @return emit(type, agent_name, fields); whether anybody listens at the moment
function M.emitter(fns)
    local started, failed = engine.hrtime(), {}
    local function clock()
        return (engine.hrtime() - started) // 1000000
    end
    local function emit(kind, agent, fields)
        if #fns == 0 and #listeners == 0 then
            return -- nobody listens: no table is made
        end
        fields = fields or {}
        fields.type, fields.t, fields.agent = kind, clock(), agent
        for _, fn in ipairs(fns) do
            tell(fn, fields, failed)
        end
        for _, fn in ipairs(listeners) do
            tell(fn, fields, failed)
        end
    end
    return emit, #fns > 0 or #listeners > 0
end

return M
