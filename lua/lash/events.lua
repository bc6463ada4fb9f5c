--- Events: everything that happens in a run, one table each. The live display, --jsonl and scripts all
-- read this one stream.
--
-- @class event.base  what every event has, beside its `type`
--   t      integer  ms since the start of the run
--   agent  string   its name
-- @class event.run.start: event.base { type: "run.start" }
-- @class event.model.request: event.base { type: "model.request", provider: string, model: string, turn: integer,
--   attempt: integer }  a request goes out; attempt counts from 1
-- @class event.model.end: event.base { type: "model.end", stop: stop, usage?: usage, ms: integer }
--   the answer is complete
-- @class event.text: event.base { type: "text", delta: string }
--   of an answer, while it comes; of one that comes whole, all at once
-- @class event.reasoning: event.base { type: "reasoning", delta: string }
--   likewise, what the model lets see of its thoughts
-- @class event.call.ready: event.base { type: "call.ready", call: string, name: string, args: string }
--   the model has asked for it; it runs when the answer is complete
-- @class event.call.start: event.base { type: "call.start", call: string, name: string, mark?: mark, args: string }
--   call is "turn.index", unique in the run
-- @class event.call.progress: event.base { type: "call.progress", call: string, name: string, text?: string,
--   fraction?: number }  what ctx.progress told
-- @class event.call.end: event.base { type: "call.end", call: string, name: string, status: status, ms: number,
--   output: string }
-- @class event.handoff: event.base { type: "handoff", from: string, to: string }
-- @class event.retry: event.base { type: "retry", what: string, wait_ms: integer, why: string, attempt?: integer,
--   call?: string }  of a model request, or with `call` of a call
-- @class event.warning: event.base { type: "warning", text: string }
-- @class event.run.end: event.base { type: "run.end", ok: boolean, exit: integer, reason: reason, text: string,
--   value?: any, usage: usage, turns: integer, error?: string, result?: result }
--   the last one; value where the answer fits a schema, result in a loop over agent:stream
-- @alias event  event.run.start|event.model.request|event.model.end|event.text|event.reasoning|event.call.ready|
--   event.call.start|event.call.progress|event.call.end|event.handoff|event.retry|event.warning|event.run.end
-- @alias stop  "end"|"calls"|"length"|"filter"|"refusal"|"pause"|"error"
local engine = require "lash.core.engine"
local log = require "lash.log"

local M = {}

--- Events whose text stands on stderr already: the live display leaves them out.
M.said = setmetatable({}, { __mode = "k" })

-- Of the command that runs, for all runs of the process.
local listeners = {}

--- The list of them, to look whether there is any.
M.listeners = listeners

--- Calls fn(event) for every event of every run that begins from now on.
function M.listen(fn)
    listeners[#listeners + 1] = fn
end

-- A listener that fails disturbs nobody. It is told once in a run: a stream has an event for every few letters.
local function fails(fn, event, run, err)
    if not (run.failed and run.failed[fn]) and not engine.cancel_reason(err) then
        run.failed = run.failed or {}
        run.failed[fn] = true
        local why = type(err) == "table" and rawget(err, "message") or err
        log.warn(("on_event failed at %s: %s (told once in a run)"):format(event.type, tostring(why)))
    end
end

local function tell(fn, event, run)
    local ok, err = pcall(fn, event)
    if not ok then
        fails(fn, event, run, err)
    end
end

--- emit(run, kind, agent, fields): tells of something in a run those of M.listen, which look at no answer before
-- its end, and those before them that the run has itself.
-- @param run { heard = whether anybody listens, listeners = functions | nil, began = engine.hrtime() of its start }
-- @param fields of the event; nobody else has this table
function M.emit(run, kind, agent, fields)
    local own = run.listeners
    if not run.heard then
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

--- told(run, event, ok, err): what emit() does besides, when the run's first listener was called with pcall(). A
-- stream has a delta for every few letters, and nearly always one listener: that one is called with as few steps as
-- possible, see lash.record.
function M.told(run, event, ok, err)
    local own = run.listeners
    if not ok then
        fails(own[1], event, run, err)
    end
    if own[2] then
        tell(own[2], event, run)
    end
    for i = 1, #listeners do
        tell(listeners[i], event, run)
    end
end

return M
