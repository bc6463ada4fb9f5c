--- Loading and running the Lua that users write: scripts, -e, files that declare tools. Errors in it
-- become one message with the user's own lines, and an exit status.
local engine = require "lash.core.engine"
local failure = require "lash.failure"
local lash = require "lash"
local system = require "lash.core.system"

local M = {}

--- Exit statuses that this module gives.
M.EXIT = { lua = 1, data = 65, input = 66, bug = 70, io = 74, time = 124, closed = 141 }

--- Seconds that a file may take to declare its tools.
M.LOAD_LIMIT = 10

-- After a deadline a task gets this long to end by itself before the program is ended from outside.
local GRACE = 1
local HOOK_COUNT = 1000000 -- instructions between two looks at the clock while declarations load
local FRAMES = 12          -- lines of a traceback

local function is_table(err)
    return type(err) == "table"
end

-- ---- messages ----

--- Writes one message on stderr. Control characters do not reach a terminal.
function M.say(text)
    text = "lash: " .. text:gsub("%s+$", "") .. "\n"
    if text:find("[%c\x80-\xff]") and system.isatty(2) then
        text = require("lash.text").plain(text)
    end
    system.write(2, text)
end

--- Whether the source of a function is a file of lash itself, in the binary or below LASH_LUA.
function M.is_own(source)
    local dir = os.getenv("LASH_LUA")
    if dir and dir ~= "" then
        return source:sub(1, #dir + 7) == "@" .. dir .. "/lash/"
    end
    return source:sub(1, 6) == "@lash/" and system.embedded(source:sub(2)) ~= nil
end

local function frame_name(info)
    if info.what == "main" then
        return "main chunk"
    elseif info.name then
        return ("%s '%s'"):format(info.namewhat ~= "" and info.namewhat or "function", info.name)
    end
    return ("function <%s:%d>"):format(info.short_src, info.linedefined)
end

--- The user's own lines from `level` of the caller on, innermost first: { at =, name = } each.
function M.user_frames(level)
    local frames = {}
    while #frames < FRAMES do
        level = level + 1
        local info = debug.getinfo(level, "Sln")
        if not info then
            break
        elseif info.what ~= "C" and info.currentline > 0 and not M.is_own(info.source) then
            frames[#frames + 1] = { at = ("%s:%d:"):format(info.short_src, info.currentline), name = frame_name(info) }
        end
    end
    return frames
end

-- The message handler of user code: keeps the error, and where it happened.
local function with_place(err)
    local problem = { problem = true, err = err }
    if not engine.cancel_reason(err) then
        problem.frames = M.user_frames(2)
        problem.full = system.verbosity() >= 2 and debug.traceback("", 2) or nil
    end
    return problem
end

local function text_of(err)
    if is_table(err) and not getmetatable(err) and type(rawget(err, "message")) ~= "string" then
        return "(error object is a table value)"
    end
    return require("lash.outcome").error_text(err)
end

--- The exit status of an uncaught error: err.exit of a table that has one, else 1.
function M.exit_of(err)
    if engine.cancel_reason(err) == "user" then
        return failure.cancelled_exit()
    end
    local exit = is_table(err) and rawget(err, "exit")
    if math.type(exit) == "integer" and exit > 0 and exit < 256 then
        return exit
    end
    return M.EXIT.lua
end

--- What to print of a problem of M.protected: the message and, where they tell more, the user's lines.
-- @param path of the file, named where nothing else tells it: `return lash.tool {...}` leaves no line behind
function M.problem_text(problem, path)
    local err = problem.err
    local text = text_of(err)
    if path and type(err) == "string" and #(problem.frames or {}) == 0 and not text:find(path, 1, true) then
        text = path .. ": " .. text
    end
    if problem.full then
        return text .. problem.full
    end
    local frames = problem.frames or {}
    local known = is_table(err) and rawget(err, "exit") ~= nil -- lash names what and how to mend it
    if known or #frames == 0 or (#frames == 1 and text:find(frames[1].at, 1, true)) then
        return text
    end
    local lines = { text, "stack traceback:" }
    for _, frame in ipairs(frames) do
        lines[#lines + 1] = ("\t%s in %s"):format(frame.at, frame.name)
    end
    return table.concat(lines, "\n")
end

--- Runs user code.
-- @return true, results... | false, problem for M.problem_text and M.exit_of(problem.err)
function M.protected(fn, ...)
    local results = table.pack(xpcall(fn, with_place, ...))
    local problem = results[2]
    if not results[1] and not (is_table(problem) and problem.problem) then
        results[2] = { problem = true, err = problem, frames = {} } -- the handler had no stack or memory left
    end
    return table.unpack(results, 1, results.n)
end

--- Reports a problem on stderr.
-- @param path of the script, or nil
-- @return the exit status
function M.report(problem, path)
    if failure.is(problem.err) then
        error(problem.err, 0)
    end
    M.say(M.problem_text(problem, path))
    local ok, _, code = system.flush()
    if not ok then -- most likely the reason of the error, and what the caller has to know
        return code == "EPIPE" and M.EXIT.closed or M.EXIT.io
    end
    return M.exit_of(problem.err)
end

-- ---- time ----

local function out_of_time(seconds)
    failure.raise(M.EXIT.time, "the time limit of %g s (--timeout) is over", seconds)
end

--- Runs fn(...) for at most `seconds` (nil or 0: for ever), as a task of its own.
-- @param late called when the time is over; raises (nil: a failure with status 124)
-- @return its results; raises what it raises
function M.bounded(seconds, late, fn, ...)
    if not seconds or seconds <= 0 then
        return fn(...)
    end
    late = late or out_of_time
    local begin = engine.hrtime()
    local group <close> = engine.group()
    local task = group:spawn(fn, ...)
    task:deadline(seconds)
    group:wait()
    local results = table.pack(task:result())
    local err = results[2]
    local problem = is_table(err) and rawget(err, "problem") and err.err or err
    if (engine.hrtime() - begin) / 1e9 >= seconds or (problem and engine.cancel_reason(problem) == "deadline") then
        late(seconds)
    elseif not results[1] then
        error(err, 0)
    end
    return table.unpack(results, 2, results.n)
end

--- Ends the program from outside when code holds the main thread after its deadline.
-- @param seconds of the deadline; nil or 0 takes it back
function M.last_resort(seconds, text)
    if seconds and seconds > 0 then
        system.alarm(seconds + GRACE, M.EXIT.time, ("lash: %s\n"):format(text))
    else
        system.alarm(0)
    end
end

-- ---- loading ----

local real_exit = os.exit

local function exit_status(code)
    if code == nil or code == true then
        return 0
    elseif code == false then
        return 1
    end
    return (math.tointeger(code) or error("bad argument #1 to 'exit' (number or boolean expected)", 3)) & 0xff
end

--- The globals of user code: `lash`, and an os.exit that flushes, but ends no program from within a
-- tool's function or while a file is only loaded.
function M.prepare()
    _G.lash = lash
    if os.exit ~= real_exit then
        return
    end
    function os.exit(code)
        if engine.in_call() then
            error("os.exit is not for tools: return a value, or raise an error", 2)
        elseif lash.loading then
            error("os.exit was called while the file was loaded for what it declares: put what is only for a "
                .. "script under `if lash.main then`", 2)
        end
        system.exit(exit_status(code))
    end
end

--- Puts the directory of a file in front of where `require` looks, also for workers.
function M.add_path(path)
    local dir = path:match("^(.*)/[^/]*$") or "."
    dir = dir == "" and "/" or dir
    if dir:find("[;?]") then
        return -- such a name cannot stand in a search path
    end
    local entry = ("%s/?.lua;%s/?/init.lua;"):format(dir, dir)
    if package.path:sub(1, #entry) ~= entry then
        package.path = entry .. package.path
    end
end

-- stdin as a chunk. loadfile would read on after a signal; this ends with the first read that one ends.
local function load_stdin()
    local first, problem = true, nil
    local how = system.isatty(0) and "L" or 65536 -- a terminal would be asked for its end twice
    local function piece()
        local text, err = io.read(how)
        problem = err or problem
        if text and first then
            text = text:gsub("^\xEF\xBB\xBF", "", 1):gsub("^#[^\n]*", "", 1)
            first = false
            text = text == "" and "\n" or text -- "" would be the end
        end
        return text
    end
    local chunk, err = load(piece, "=stdin", "t")
    if not chunk or problem then
        engine.check() -- a signal ends the read, or raises in it
    end
    if problem then
        return nil, ("cannot read stdin: %s"):format(problem)
    end
    return chunk, err
end

--- Compiles a file; "-" is stdin. Raises a failure: 66 when it cannot be read, 65 when it is no Lua.
-- @return the chunk
function M.load(path)
    if path ~= "-" then
        local kind, err = system.file_kind(path)
        if kind == nil or kind == "directory" then
            failure.raise(M.EXIT.input, "cannot read %s: %s", path, err or "it is a directory")
        end
    end
    local chunk, err
    if path == "-" then
        chunk, err = load_stdin()
    else
        chunk, err = loadfile(path, "t")
    end
    if chunk then
        return chunk
    elseif err:find("^cannot %a+ ") then
        failure.raise(M.EXIT.input, "%s", err)
    elseif err:find("attempt to load a binary chunk", 1, true) then
        failure.raise(M.EXIT.data, "%s is a compiled chunk or not Lua at all; lash runs Lua source",
            path == "-" and "stdin" or path)
    end
    failure.raise(M.EXIT.data, "%s", err)
end

-- Code that never waits is stopped by a hook: while loading only, where speed does not matter.
local function load_body(chunk, path, limit, on_line)
    local ends = engine.hrtime() + limit * 1e9
    debug.sethook(function(event, line)
        if event == "line" then
            on_line(debug.getinfo(2, "S").source, line)
        elseif engine.hrtime() > ends then
            engine.current():cancel("deadline") -- so that pcall cannot hide it
            error(("loading took longer than %g s"):format(limit), 2)
        end
    end, on_line and "l" or "", HOOK_COUNT)
    local results = table.pack(M.protected(chunk, path))
    debug.sethook()
    return results
end

--- Runs a file for what it returns: lash.main is false, no agent runs, the program cannot be ended.
-- @param path the file
-- @param limit seconds that it may take (LOAD_LIMIT)
-- @param on_line function(source, line) that is told of every line, or nil
-- @return true, values... | false, problem. Raises a failure when the file cannot be read or compiled,
--   or takes too long.
function M.declarations(path, limit, on_line)
    limit = limit or M.LOAD_LIMIT
    M.prepare()
    local chunk = M.load(path)
    M.add_path(path)
    _G.arg = { [0] = path }
    local late = ("%s: loading took longer than %g s; put what is only for a script under `if lash.main then`")
        :format(path, limit)
    M.last_resort(limit, late)
    lash.main, lash.loading = false, path
    local ok, results = pcall(M.bounded, limit, function()
        failure.raise(M.EXIT.time, "%s", late)
    end, load_body, chunk, path, limit, on_line)
    lash.loading = nil
    M.last_resort(nil)
    if not ok then
        error(results, 0)
    end
    return table.unpack(results, 1, results.n)
end

return M
