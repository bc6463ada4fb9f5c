--- The command line of the program: one command runs, and gives its exit status. Everything that a
-- command needs is loaded by that command.
local engine = require "lash.core.engine"
local failure = require "lash.failure"
local options = require "lash.options"
local system = require "lash.core.system"

local BUG, MEMORY = 70, 71

-- Without a command: the console on a terminal, else stdin is a script.
local function default_command()
    if system.isatty(0) and system.isatty(1) then
        return "console"
    end
    return "run"
end

local function choose(parsed)
    if parsed.options.help then
        return "help", parsed.command or ""
    elseif parsed.options.version then
        return "version"
    end
    return parsed.command or default_command()
end

local function start(argv)
    local parsed = options.parse(argv)
    if parsed.options.quiet or parsed.options.verbose then
        system.verbosity(parsed.options.verbose and 2 or 0)
    end
    parsed.argv = argv
    local name, topic = choose(parsed)
    return require("lash.cmd." .. name).run(parsed, topic)
end

-- Keeps a failure as it is; anything else is a bug of ours and needs its place.
local function with_place(err)
    if failure.is(err) or engine.cancel_reason(err) then
        return err
    end
    return { bug = tostring(err), traceback = debug.traceback("", 2) }
end

-- Turns that a script:FILE has left at a good end are an error: it is not what its writer expected.
local function with_script(status)
    local model = package.loaded["lash.provider.script"]
    for _, left in ipairs(status == 0 and model and model.unused() or {}) do
        require("lash.script").say(("the script %s has %d turns, and only %d were used"):format(left.file, left.total,
            left.used))
        status = 65
    end
    return status
end

--- Runs the command line `argv` (argv[0] = the program).
-- @return exit status
return function(argv)
    local ok, status = xpcall(start, with_place, argv)
    if ok then
        return with_script(status or 0)
    elseif failure.is(status) then
        require("lash.script").say(status.message)
        return status.exit
    elseif engine.cancel_reason(status) == "user" then
        require("lash.script").say("cancelled")
        return failure.cancelled_exit()
    end
    local bug = type(status) == "table" and status or { bug = tostring(status), traceback = "" }
    if bug.bug:find("not enough memory", 1, true) then
        system.write(2, "lash: out of memory\n")
        return MEMORY
    end
    system.write(2, ("lash: bug: %s%s\n"):format(bug.bug, system.verbosity() >= 2 and bug.traceback or ""))
    return BUG
end
