--- The record of a run: what it has, what it tells those who listen, and why it is stopped. lash.run makes them and
-- runs them.
--
-- Thousands of runs may wait at once: what most of them do not need yet is not in their tables. The methods are what
-- lash.model tells while it asks, and what lash.calls needs while calls run.
local engine = require "lash.core.engine"
local events = require "lash.events"
local limits = require "lash.limits"
local system = require "lash.core.system"

local hrtime, pcall, told, everywhere = engine.hrtime, pcall, events.told, events.listeners

local M = {}

--- What commands and tests set for all runs, see lash.run.
M.overrides = require("lash.overrides").inherited()

local overrides = M.overrides

local Run = {
    opts = {},
    heard = false,     -- whether anybody gets its events
    turn = 0,
    handoffs = 0,
    called = 0,        -- calls of its answers so far, with a limit of them
    last_text = "",
    pieces = nil,      -- texts of the answer that comes
    delivered = false, -- whether anybody got any of them
    current = nil,     -- as of prepare.agent
    label = nil,       -- of the model that was asked last
    tokens = 0,        -- of the answers so far, with a limit of them
    cut = nil,         -- the turn whose answer was cut off last
    key = nil,         -- its name for the workers, when it has calls
    dispatched = nil,  -- what the dispatcher knows of it, and
    dispatched_for = nil, -- of which agent that tells; see lash.calls
    task = nil,        -- its own, if it has one
}
Run.__index = Run

--- Whether an answer is delivered while it comes: then it cannot be asked for again.
function Run:hears()
    return self.listeners ~= nil and self.opts.deltas ~= false
end

--- An event. Who makes a table for it looks at `heard` before.
-- @param agent its name, if it is not the one that has the conversation
function Run:emit(kind, fields, agent)
    events.emit(self, kind, agent or self.conv.agent.name, fields)
end

--- Whether a stream may be asked for: not when anybody says that it cannot be.
function Run:streams()
    return overrides.stream ~= false and self.opts.stream ~= false and self.conv.agent.streaming ~= false
end

--- An attempt of a request begins, or, if it `goes_on`, a request for the rest of an answer.
function Run:attempt(n, goes_on)
    if not goes_on then
        self.pieces = nil
    end
    if self.heard then
        local target = self.current.target
        self:emit("model.request", {
            provider = target.provider_name, model = target.model, turn = self.turn, attempt = n,
        })
    end
end

--- What comes of an answer, while it comes. The text of it is kept: should the rest never come, that much was
-- said. Readers of streams call the run as a function, which needs no closure for each run.
--
-- A stream has a delta for every few letters: this is short for them.
function Run:__call(kind, what)
    if kind == "text" then
        local pieces = self.pieces
        if pieces then
            pieces[#pieces + 1] = what
        else
            self.pieces = { what }
        end
    end
    local own = self.listeners
    if not own or self.opts.deltas == false then -- nobody hears
        return false
    elseif kind == "call.ready" then
        self:emit(kind, { call = ("%d.%d"):format(self.turn, what.n), name = what.name, args = what.args })
    else
        local ms = (hrtime() - self.began) // 1000000
        local event = { type = kind, delta = what, t = ms, agent = self.conv.agent.name }
        local ok, err = pcall(own[1], event)
        if not ok or own[2] or everywhere[1] then
            told(self, event, ok, err)
        end
    end
    self.delivered = true
    return true
end

--- The name of the model that an agent of this run has; nil for the default one.
function Run:model_name(agent)
    return self.opts.model or overrides.model or agent.model
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

--- The reason with which a cancelled run ends, nil when it is not cancelled.
function Run:stop_reason()
    local reason = stopped_by(self)
    return reason and (reason == "deadline" and "time" or "cancelled")
end

-- What --timeout leaves to a run is no round number.
local function short_number(seconds)
    return ("%g"):format(seconds >= 0.1 and tonumber(("%.1f"):format(seconds)) or seconds)
end

--- Why its calls end, for the model.
function Run:cause()
    local reason, own = stopped_by(self)
    if reason == "deadline" then
        return own and ("the run's time limit of %s s was over"):format(short_number(self.limits.time))
            or "the time limit of who asked for the run was over"
    elseif reason == "sibling" then
        return "the run was cancelled because something beside it failed"
    end
    return "the run was cancelled"
end

-- ---- making them ----

local count, PREFIX = 0, ("%d-%x-"):format(system.getpid(), engine.hrtime())

--- Makes the name that its calls have for the workers: no two runs of a machine have the same.
function Run:need_key()
    if not self.key then
        count = count + 1
        self.key = PREFIX .. count .. "/"
    end
end

--- new(conv, opts) -> the record of a run in this conversation; opts as of agent:run, or nil
function M.new(conv, opts)
    local own, given = conv.agent.on_event, opts and opts.on_event
    local heard = (own or given or everywhere[1]) and true or nil
    return setmetatable({
        conv = conv,
        opts = opts,
        limits = limits.merged(conv.agent.limits, opts and opts.limits, overrides.limits),
        listeners = (own or given) and { own or given, own and given } or nil,
        heard = heard,
        caller = engine.current(), -- the task that asked for the run
        began = heard and hrtime(),
        first = #conv.entries + 1, -- of its entries
    }, Run)
end

return M
