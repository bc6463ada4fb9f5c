--- Ways to put tasks together: lash.timeout, lash.group, lash.race, lash.retry, lash.every.
--
-- All of them wait for what they have started before they return or raise, also when the task that
-- called them is cancelled: nothing runs on behind their back.
local engine = require "lash.core.engine"
local json = require "lash.json"
local checks = require "lash.misuse"
local timer = require "lash.core.timer"

local M = {}

-- Misuse is raised where the user called us: `level` is that of the user's function as seen from the
-- function that has it as its argument, so it grows by one a call; no tail calls on the way.
local function misuse(level, text, ...)
    error(text:format(...), level + 1)
end

local function check_function(what, fn, level)
    if type(fn) ~= "function" then
        misuse(level + 1, "%s: expected a function, got a %s", what, type(fn))
    end
end

local function check_seconds(what, seconds, least, level)
    if type(seconds) ~= "number" or not (seconds >= least and seconds <= 1e9) then
        misuse(level + 1, "%s: expected a number of seconds between %s and a billion, got %s", what,
            least == 0 and "0" or "a millionth", type(seconds) == "number" and seconds or "a " .. type(seconds))
    end
end

-- `known`: a sorted list of names; `extra`: a key that is allowed beside them
local function check_options(what, options, known, level, extra)
    if type(options) ~= "table" then
        misuse(level + 1, "%s: its options are a table, not a %s", what, type(options))
    end
    local fault = checks.unknown(options, known, extra)
    if fault then
        misuse(level + 1, "%s: %s; the options are %s", what, fault, table.concat(known, ", "))
    end
end

local function failure(code, message, errors)
    return setmetatable({ code = code, message = message, errors = errors }, json.error_mt)
end

-- ---- how a child ends ----

local Watch = {}

-- Called when the child's function has returned or raised. It sees an error without catching it, so
-- that tracebacks stay whole. error(nil) is an error too.
function Watch:__close(err)
    if self.returned then
        self.ended(self, true)
    elseif not (engine.cancel_reason(err) and engine.current():cancelled()) then
        self.ended(self, false, err)
    end
end

local function returned(watch, ...)
    watch.returned = table.pack(...)
    return ...
end

-- The body of a child: watch.ended(watch, ok, err) is called at its end, unless it was cancelled.
local function watched(watch, fn, ...)
    local guard <close> = watch
    return returned(guard, fn(...))
end

local function watch_of(ended, more)
    more.ended = ended
    return setmetatable(more, Watch)
end

-- ---- timeout ----

local function values_of(ok, ...)
    if not ok then
        error((...), 0)
    end
    return ...
end

--- timeout(seconds: number, fn: function, ...) -> ... | nil, err
-- Runs fn(...) for at most so many seconds, and gives its results; err.code is "timeout".
-- When the time is over, fn and all that it has spawned are cancelled, and their end is awaited. A function
-- that computes without waiting is interrupted a little later on the main thread; on a worker it goes on until
-- it waits. An error of fn is raised. Of nested ones the first that expires ends its own function only.
function M.timeout(seconds, fn, ...)
    check_seconds("lash.timeout", seconds, 0, 2)
    check_function("lash.timeout", fn, 2)
    local group <close> = engine.group(false)
    local task = group:spawn(fn, ...)
    task:deadline(seconds)
    group:wait()
    if task:cancelled() == "deadline" then
        local ok, err = task:result()
        if not ok and engine.cancel_reason(err) == "deadline" then
            return nil, failure("timeout", ("not done within %g s"):format(seconds))
        end
    end
    return values_of(task:result())
end

-- ---- group ----

--- @class group  of tasks, made by lash.group
-- @alias cancel.reason  "user"|"deadline"|"sibling"|"parent"  who ended a task
local Group = { __name = "lash.group" }
Group.__index = Group

local function text_of(err)
    local ok, text = pcall(tostring, err)
    return ok and text or "(an error that cannot be shown)"
end

-- One error as it is; of several a value that has them all.
local function joined(errors)
    if #errors == 1 then
        return errors[1].value
    end
    local texts, values = {}, {}
    for i, err in ipairs(errors) do
        texts[i], values[i] = text_of(err.value), err.value
    end
    local first = errors[1].value
    local code = type(first) == "table" and rawget(first, "code") or "failed"
    return failure(code, ("%s (and %d more: %s)"):format(texts[1], #errors - 1, table.concat(texts, "; ", 2)), values)
end

-- The errors that nobody has been told of.
local function raise_errors(state)
    local errors = state.errors
    if #errors > 0 then
        state.errors = {}
        for _, err in ipairs(errors) do
            err.task:told()
        end
        error(joined(errors), 0)
    end
end

local function child_ended(watch, ok, err)
    local state = watch.state
    if not ok then
        state.errors[#state.errors + 1] = { value = err, task = engine.current() }
        if state.fail_fast then
            state.tasks:cancel("sibling")
        end
    end
end

--- group([opts]) -> group
-- A group of tasks that end together: `local g <close> = lash.group()`.
-- Leaving the scope cancels what still runs and waits for its end; an error of a child that g:wait()
-- has not raised is raised there, if the scope is not left by an error already.
-- @param opts
--   fail_fast?  boolean  false: an error of a child lets the others go on. Otherwise the first error cancels them.
-- @return g:spawn(fn, ...) starts a task of the group; g:wait() waits for all, and raises the first
--   error: with more than one a value whose `errors` are all of them; g:cancel() cancels all
function M.group(opts)
    if opts ~= nil then
        check_options("lash.group", opts, { "fail_fast" }, 2)
        if opts.fail_fast ~= nil and type(opts.fail_fast) ~= "boolean" then
            misuse(2, "lash.group: fail_fast is true or false, not a %s", type(opts.fail_fast))
        end
    end
    local fail_fast = not opts or opts.fail_fast ~= false
    return setmetatable({ tasks = engine.group(false), errors = {}, fail_fast = fail_fast }, Group)
end

--- spawn(fn: function, ...) -> task
-- Starts a task of the group, as lash.spawn.
function Group:spawn(fn, ...)
    check_function("lash.group", fn, 2)
    return self.tasks:spawn(watched, watch_of(child_ended, { state = self }), fn, ...)
end

--- wait() -> true
-- Waits until every task of the group has ended. Raises the error of a child, or all of them in one value.
function Group:wait()
    self.tasks:wait()
    raise_errors(self)
    return true
end

--- cancel([reason: cancel.reason])
-- Cancels every task of the group, also those that are spawned later. Idempotent.
-- @param reason  what cancelled children find in err.reason ("user")
function Group:cancel(reason)
    self.tasks:cancel(reason)
end

function Group:__close(err)
    self.tasks:cancel("parent")
    local tasks <close> = self.tasks -- waits, also where a cancelled task cannot
    if err == nil then
        tasks:wait()
        raise_errors(self)
    end
end

-- ---- race ----

local function check_list(what, list, level)
    if type(list) ~= "table" or #list == 0 then
        misuse(level + 1, "%s: expected a list of functions, got %s", what,
            type(list) == "table" and "none" or "a " .. type(list))
    end
    for i, fn in ipairs(list) do
        if type(fn) ~= "function" then
            misuse(level + 1, "%s: entry %d is a %s, not a function", what, i, type(fn))
        end
    end
end

-- `nil, err` is how functions of lash say that they failed.
local function failed(results)
    return results.n >= 2 and results[1] == nil and results[2] ~= nil
end

local function racer_ended(watch, ok, err)
    local race = watch.race
    if race.winner then
        return
    elseif race.any and (not ok or failed(watch.returned)) then
        if ok then
            err = watch.returned[2]
        end
        race.errors[watch.index] = { value = err }
        return
    end
    race.winner, race.ok, race.err = watch, ok, err
    race.tasks:cancel("sibling")
end

local function in_order(errors, children)
    local list = {}
    for i, task in ipairs(children) do
        list[i] = errors[i] or { value = select(2, task:result()) } -- or somebody cancelled that one
    end
    return list
end

--- race(list: function[] [, opts]) -> ...
-- Runs the functions of `list` at once; the first to end wins, the others are cancelled and awaited. An error
-- that wins is raised. With `any`, when all fail: raises a value whose `errors` are all of them, in
-- the order of the list.
-- @param opts
--   any?  boolean  true: the first that does not fail wins; to fail is to raise or to return nil, err
-- @return the values of the winner, at least one (nil), and after them its index in the list
function M.race(list, opts)
    check_list("lash.race", list, 2)
    if opts ~= nil then
        check_options("lash.race", opts, { "any" }, 2)
    end
    local tasks <close> = engine.group(false)
    local race = { tasks = tasks, any = opts ~= nil and opts.any, errors = {} }
    local children = {}
    for i, fn in ipairs(list) do
        children[i] = tasks:spawn(watched, watch_of(racer_ended, { race = race, index = i }), fn)
    end
    tasks:wait()
    for _, task in ipairs(children) do
        task:told()
    end
    if not race.winner then
        error(joined(in_order(race.errors, children)), 0)
    elseif not race.ok then
        error(race.err, 0)
    end
    local results = race.winner.returned
    local n = math.max(results.n, 1)
    results[n + 1] = race.winner.index
    return table.unpack(results, 1, n + 1)
end

-- ---- retry ----

local RETRY = { "attempts", "delay", "factor", "jitter", "max_delay", "on_retry", "when" }

local function check_retry(spec, level)
    check_options("lash.retry", spec, RETRY, level + 1, 1)
    check_function("lash.retry", spec[1], level + 1)
    local attempts = spec.attempts
    if attempts ~= nil and (math.type(attempts) ~= "integer" or attempts < 1) then
        misuse(level + 1, "lash.retry: attempts is a whole number of at least 1")
    end
    for _, name in ipairs { "delay", "factor", "max_delay" } do
        local value = spec[name]
        if value ~= nil and (type(value) ~= "number" or not (value >= 0 and value <= 1e9)) then
            misuse(level + 1, "lash.retry: %s is a number between 0 and a billion", name)
        end
    end
    for _, name in ipairs { "when", "on_retry" } do
        if spec[name] ~= nil and type(spec[name]) ~= "function" then
            misuse(level + 1, "lash.retry: %s is a function, not a %s", name, type(spec[name]))
        end
    end
    if spec.jitter ~= nil and type(spec.jitter) ~= "boolean" then
        misuse(level + 1, "lash.retry: jitter is true or false, not a %s", type(spec.jitter))
    end
end

-- Between 0 and 1. Not math.random: a script that has set its seed keeps its numbers.
local function fraction()
    return ((engine.hrtime() * 0x9E3779B97F4A7C15) >> 11) / (1 << 53)
end

local function pause(spec, attempt)
    local delay = spec.delay or 0.5
    if delay > 0 then -- 0 times infinite is no number
        delay = math.min(delay * (spec.factor or 2) ^ (attempt - 1), spec.max_delay or 30)
    end
    if spec.jitter ~= false then
        delay = delay * (0.5 + fraction() / 2)
    end
    return delay
end

-- How it failed goes out as it came in.
local function again(spec, attempt, results)
    local raised = not results[1]
    local err = results[raised and 2 or 3]
    if engine.cancel_reason(err) or (spec.when and not spec.when(err, attempt)) then
        return false
    end
    local delay = pause(spec, attempt)
    if spec.on_retry then
        spec.on_retry(err, attempt, delay)
    end
    timer.sleep(delay)
    return true
end

--- retry(spec) -> ...
-- Calls fn(attempt) until it does not fail; to fail is to raise or to return nil, err. The last failure is raised or
-- returned, as it came. A cancelled task does not try again.
-- @param spec
--   [1]         fun(attempt: integer): (any, any)  the function
--   attempts?   integer  how often it is called at most (3)
--   delay?      number   seconds before the second attempt (0.5)
--   factor?     number   each pause is so many times the one before (2)
--   max_delay?  number   seconds that no pause exceeds (30)
--   jitter?     boolean  each pause is between half of that and all of it, by chance (true)
--   when?       fun(err: any, attempt: integer): boolean?  false: this failure is final
--   on_retry?   fun(err: any, attempt: integer, pause: number)  called before each pause
-- @return the results of fn
function M.retry(spec)
    check_retry(spec, 2)
    local attempts = spec.attempts or 3
    for attempt = 1, attempts - 1 do
        local results = table.pack(pcall(spec[1], attempt))
        if results[1] and not (results.n >= 3 and results[2] == nil and results[3] ~= nil) then
            return table.unpack(results, 2, results.n)
        end
        engine.check()
        if not again(spec, attempt, results) then
            return values_of(table.unpack(results, 1, results.n))
        end
    end
    return spec[1](attempts)
end

-- ---- every ----

local function ticker_ended(watch, ok, err)
    if not ok then
        local info = debug.getinfo(watch.fn, "S")
        require("lash.log").error(("lash.every: the function of %s:%d failed and is not called any more: %s")
            :format(info.short_src, info.linedefined, text_of(err)))
        engine.current():told()
    end
end

local function tick(started, seconds, fn)
    local count = 0
    while true do
        local passed = (engine.hrtime() - started) / 1e9
        count = math.max(count + 1, math.ceil(passed / seconds))
        timer.sleep(math.max(0, count * seconds - passed))
        if fn() == false then
            return
        end
    end
end

--- every(seconds: number, fn: fun(): boolean?) -> task
-- Calls fn() every so many seconds, the first time after one such span, until it returns false.
-- Calls never overlap and keep to the beat: those that came due while one ran are left out. An error
-- of fn ends it, and is told on stderr.
-- @return task:cancel() ends it. It belongs to the task that called this.
function M.every(seconds, fn)
    check_seconds("lash.every", seconds, 1e-6, 2)
    check_function("lash.every", fn, 2)
    return engine.spawn(watched, watch_of(ticker_ended, { fn = fn }), tick, engine.hrtime(), seconds, fn)
end

return M
