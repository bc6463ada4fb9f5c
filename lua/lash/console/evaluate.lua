--- One entry of Lua: compiled with the session's locals, run as a task that Ctrl-C can end, its results shown.
local engine = require "lash.core.engine"
local locals = require "lash.console.locals"
local script = require "lash.script"
local show = require "lash.console.show"
local signals = require "lash.core.signals"
local system = require "lash.core.system"

local M = {}

--- The name of entries in messages.
M.CHUNK = "=lua"

--- new() -> { locals =, time = false, entries = texts that ran without an error }
function M.new()
    return { locals = locals.new(), time = false, entries = {} }
end

local function is_unfinished(err)
    return err:sub(-5) == "<eof>"
end

--- check(text) -> "expression" | "chunk" | "unfinished" | nil, message
function M.check(text)
    local expression = text:gsub("^%s*=", "", 1)
    if load("return " .. expression, M.CHUNK, "t") then
        return "expression"
    end
    local chunk, err = load(text, M.CHUNK, "t")
    if chunk then
        return "chunk"
    elseif is_unfinished(err) then
        return "unfinished"
    end
    return nil, err
end

local function compile(session, text, kind)
    if kind == "expression" then
        text = "return " .. text:gsub("^%s*=", "", 1)
    end
    return session.locals:compile(text, M.CHUNK)
end

-- Runs fn as a task; Ctrl-C is for it. @return as script.protected, or false, { err = cancel error }
local function run(fn)
    local group <close> = engine.group(false)
    local task = group:spawn(script.protected, fn)
    signals.console(task)
    group:wait()
    signals.console(nil)
    local results = table.pack(task:result())
    if not results[1] then
        return { n = 2, false, { err = results[2], frames = {} } }
    end
    return table.pack(table.unpack(results, 2, results.n))
end

local function report(problem)
    if engine.cancel_reason(problem.err) == "user" then
        script.say "cancelled"
    else
        script.say(script.problem_text(problem))
    end
end

-- What is shown of the results; many lines are cut to the height of the terminal.
local function print_results(results)
    local text = show.values(results.n - 1, table.unpack(results, 2, results.n))
    if system.isatty(1) then
        text = require("lash.text").plain(text)
    end
    system.write(1, text .. "\n")
end

local function tell_time(started)
    system.write(2, ("%.3f ms\n"):format((engine.hrtime() - started) / 1e6))
end

--- entry(session, text, kind): runs what check() found fit, and shows its results or its error. A `;` at its
-- end hides the results. `_` is the first result, `_err` the last error.
-- @return the first result
function M.entry(session, text, kind)
    local quiet = text:find ";%s*$" ~= nil
    local fn, err = compile(session, text, kind)
    if not fn then
        script.say(err)
        return
    end
    local started = engine.hrtime()
    local results = run(fn)
    system.flush()
    if not results[1] then
        _G._err = results[2].err
        report(results[2])
    else
        local saved = kind == "expression" and ("print(%s)"):format(text:gsub("^%s*=", ""):gsub(";%s*$", "")) or text
        session.entries[#session.entries + 1] = saved
        if results.n > 1 then
            _G._ = results[2]
            if not quiet then
                print_results(results)
            end
        end
    end
    if session.time then
        tell_time(started)
    end
    return results[1] and results[2] or nil
end

return M
