--- One entry of Lua: compiled with the session's locals, run as a task that Ctrl-C can end, its results shown.
local engine = require "lash.core.engine"
local lazy = require "lash.lazy"
local locals = require "lash.console.locals"
local read = require "lash.console.read"
local script = require "lash.script"
local system = require "lash.core.system"
local text = require "lash.text"
local turn = require "lash.console.turn"

local show = lazy "lash.console.show"

local M = {}

--- The name of entries in messages.
M.CHUNK = "=lua"

--- new(color) -> { locals =, time = false, entries = list of { kind =, text =, result = } that ran without an error }
-- @param color of --color, or nil
function M.new(color)
    return { locals = locals.new(), time = false, entries = {}, paint = text.painter(system.isatty(1), color) }
end

-- A string in quotes ends on its line, unless that ends in a backslash.
local function is_unfinished(err, entry)
    return err ~= nil and err:sub(-5) == "<eof>"
        and (not err:find("unfinished string near", 1, true) or entry:find "\\z?%s*$" ~= nil)
end

local function expression_of(entry)
    return (entry:gsub("^%s*=", "", 1):gsub(";%s*$", "", 1))
end

--- check(text) -> "expression" | "chunk" | "unfinished" | nil, message
function M.check(entry)
    local fn, problem = load("return " .. expression_of(entry), M.CHUNK, "t")
    if fn then
        return "expression"
    end
    local chunk, err = load(entry, M.CHUNK, "t")
    if chunk then
        return "chunk"
    elseif is_unfinished(err, entry) or is_unfinished(problem, entry) then
        return "unfinished"
    end
    return nil, err
end

local function compile(session, entry, kind)
    return session.locals:compile(kind == "expression" and "return " .. expression_of(entry) or entry, M.CHUNK)
end

-- Runs fn as a task; Ctrl-C is for it. @return as script.protected, or false, { err = cancel error }
local function run(fn, ...)
    local results = table.pack(turn.run(script.protected, fn, ...))
    if not results[1] then
        return { n = 2, false, { err = results[2], frames = {} } }
    end
    return table.pack(table.unpack(results, 2, results.n))
end

--- problem_text(problem) -> the message of an error, and where more than one line of the user's own led to it
function M.problem_text(problem)
    local frames = {}
    for i, frame in ipairs(problem.frames or {}) do
        frames[i] = { at = frame.at, name = frame.name:gsub("^function <lua:%d+>$", "the entry") }
    end
    if #frames == 1 and frames[1].name == "the entry" and type(problem.err) ~= "string" then
        frames = {} -- it is known where
    end
    local err = problem.err
    if type(err) == "table" and not debug.getmetatable(err) and type(rawget(err, "message")) ~= "string" then
        err = show.value(err)
    end
    return script.problem_text { err = err, frames = frames, full = problem.full }
end

local function report(problem)
    read.fresh_line()
    if engine.cancel_reason(problem.err) == "user" then
        script.say "cancelled"
    else
        script.say(M.problem_text(problem))
    end
end

-- What is shown of the results, as much as the terminal has room for.
local function print_results(session, results)
    local columns, rows = system.columns(1)
    local size = columns and { columns = columns, rows = rows } or nil
    local shown = show.values(size, session.paint, results.n - 1, table.unpack(results, 2, results.n))
    system.write(1, shown .. "\n")
end

local function tell_time(session, ns)
    local seconds = ns / 1e9
    local said = seconds < 1 and ("%.3f ms"):format(ns / 1e6) or ("%.3f s"):format(seconds)
    system.write(2, session.paint("dim", said) .. "\n")
end

-- What an error is or what is returned, for the next entries.
local function set(name, value)
    rawset(_G, name, value)
end

local function finish(session, entry, kind, results)
    if not results[1] then
        set("_err", results[2].err)
        return report(results[2])
    end
    session.entries[#session.entries + 1] = { kind = kind, text = entry, result = results[2] }
    if results.n == 1 then
        return nil
    end
    set("_", results[2])
    if not entry:find ";%s*$" then
        local shown = run(print_results, session, results) -- it may call __tostring
        if not shown[1] then
            report(shown[2])
        end
    end
    return results[2]
end

--- entry(session, text, kind): runs what check() found fit, and shows its results or its error. A `;` at its
-- end hides the results. `_` is the first result, `_err` the last error.
-- @return the first result
function M.entry(session, entry, kind)
    local fn, err = compile(session, entry, kind)
    if not fn then
        script.say(err)
        return nil
    end
    local started = engine.hrtime()
    local results = run(fn)
    local took = engine.hrtime() - started
    system.flush()
    local result = finish(session, entry, kind, results)
    if session.time then
        tell_time(session, took)
    end
    return result
end

return M
