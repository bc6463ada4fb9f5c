--- The plain prompt: Lua line by line. Each entry runs as a task; a bare expression prints its values,
-- an unfinished chunk goes on at `lua>>`, an error is one line, Ctrl-D leaves.
local engine = require "lash.core.engine"
local failure = require "lash.failure"
local lash = require "lash"
local script = require "lash.script"
local settings = require "lash.cmd.settings"
local signals = require "lash.core.signals"
local system = require "lash.core.system"

local M = {}

-- @return a line | nil at the end of the input | nil, true when Ctrl-C took what was typed
local function ask(prompt)
    io.stdout:write(prompt)
    io.stdout:flush()
    if system.isatty(0) and not signals.line(0) then
        return nil, true
    end
    return io.stdin:read("L")
end

local function is_unfinished(err)
    return err:sub(-5) == "<eof>"
end

-- An expression first: `x` and `f()` print; `=x` as in old times.
local function compile(text)
    local expression = text:gsub("^%s*=", "", 1)
    local chunk = load("return " .. expression, "=stdin", "t")
    if chunk then
        return chunk, true
    end
    return load(text, "=stdin", "t")
end

-- @return chunk, whether it is an expression | nil, message | nil at the end of the input | nil, true
--   when Ctrl-C took it
local function read_entry()
    local text, taken = ask("lua> ")
    if not text then
        return nil, taken == true or nil
    end
    while true do
        local chunk, result = compile(text)
        if chunk then
            return chunk, result
        elseif not is_unfinished(result) then
            return nil, result
        end
        local more
        more, taken = ask("lua>> ")
        if not more then
            return nil, taken == true or result
        end
        text = text .. more
    end
end

local function one_line(text)
    return (text:gsub("%s*\n%s*", " "))
end

-- On a terminal Ctrl-C is for the entry, or for the line that is being typed.
local function console(task)
    if system.isatty(0) then
        signals.console(task)
    end
end

local function run_entry(chunk, prints)
    local group <close> = engine.group()
    local task = group:spawn(script.protected, chunk)
    console(task)
    group:wait()
    console(nil)
    local results = table.pack(task:result())
    if not results[1] then
        script.say(one_line(tostring(results[2])))
    elseif not results[2] then
        local problem = results[3]
        script.say(problem.full and script.problem_text(problem)
            or one_line(script.problem_text { err = problem.err }))
    elseif prints and results.n > 2 then
        local ok, err = pcall(print, table.unpack(results, 3, results.n))
        if not ok then
            script.say(one_line(tostring(err)))
        end
    end
end

--- lash on a terminal.
-- @return exit status
function M.run(parsed)
    if parsed.options.timeout then
        failure.raise(64, "--timeout is for a script: give a FILE or -e CODE")
    end
    settings.apply(parsed.options)
    script.prepare()
    lash.main = false
    _G.arg = { [0] = parsed.argv[0] }
    script.add_path("./prompt")
    return M.loop()
end

--- The prompt after a script (-i), in its globals.
-- @return exit status
function M.loop()
    if system.isatty(0) then
        print(("lash %s, Lua at a prompt: `lash` is loaded, Ctrl-D leaves, `lash help` in a shell tells more")
            :format(lash.version))
    end
    console(nil)
    while true do
        local chunk, result = read_entry()
        if chunk then
            run_entry(chunk, result)
        elseif result == true then
            io.stdout:write("\n")
        elseif result then
            script.say(one_line(result))
        else
            break
        end
    end
    console(false)
    io.stdout:write("\n")
    return 0
end

return M
