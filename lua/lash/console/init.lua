--- The console: an interactive Lua shell. Each entry is a task; all else goes on while a line is edited.
--
--   anything    Lua; bare expressions print          ?name     help on a name
--   > text      asks the current agent               ! command a shell command
--   .command    see lash.console.commands
local engine = require "lash.core.engine"
local evaluate = require "lash.console.evaluate"
local lash = require "lash"
local lazy = require "lash.lazy"
local read = require "lash.console.read"
local script = require "lash.script"
local signals = require "lash.core.signals"
local system = require "lash.core.system"
local turn = require "lash.console.turn"

local ask = lazy "lash.console.ask"
local commands = lazy "lash.console.commands"

local M = {}

-- The workspace is made when it is first needed.
local console_mt = {
    __index = function(console, key)
        if key ~= "workspace" then
            return nil
        end
        local workspace = require("lash.console.workspace").new(console.session)
        rawset(console, key, workspace)
        return workspace
    end,
}

local function over(console, n, task)
    pcall(task.wait, task)
    console.tasks[n] = nil
    local ok, fine, problem = task:result()
    if ok and fine == false and not engine.cancel_reason(problem.err) then
        script.say(("task %d: %s"):format(n, evaluate.problem_text(problem)))
    end
end

-- Tasks that entries start go on behind them, until the console ends. A group is its who spawned first in it:
-- one task that only waits makes it the console's.
local function keep_tasks(console)
    local spawn = lash.spawn
    console.background:spawn(lash.sleep, 1e9)
    rawset(lash, "spawn", function(fn, ...)
        if engine.in_call() then
            return spawn(fn, ...)
        end
        local task = console.background:spawn(script.protected, fn, ...)
        local info = debug.getinfo(fn, "S")
        console.started = console.started + 1
        console.tasks[console.started] = { task = task, started = engine.hrtime(),
            what = ("function <%s:%d>"):format(info.short_src, info.linedefined) }
        console.background:spawn(over, console, console.started, task)
        return task
    end)
end

-- Reads lines until they make an entry. @return text, kind | nil, message | nil | nil, true (Ctrl-C)
local function read_lua(first)
    local text = first
    while true do
        local kind, err = evaluate.check(text)
        if kind ~= "unfinished" then
            return text, kind, err
        end
        local more, taken = read.line "lua>> "
        if not more then
            if taken then
                return nil
            end
            return text, nil, select(2, load(text, evaluate.CHUNK, "t"))
        end
        text = text .. "\n" .. more
    end
end

-- One whole entry of Lua.
local function enter(console, text, kind, err)
    console.last = text
    if kind then
        local result = evaluate.entry(console.session, text, kind)
        console.workspace:notice(result)
    else
        script.say(err)
        if text:find "^%s*%a+[%a',]*%s+%a+[%a',]*%s+%a" and not text:find "[={}()]" then
            script.say "to ask the agent, begin the line with >"
        end
    end
end

local function lua_entry(console, first)
    local text, kind, err = read_lua(first)
    if text then
        console.history:remember(text)
        enter(console, text, kind, err)
    end
end

local dispatch

local function remember_question(console, line)
    local files = console.workspace.attached
    console.session.entries[#console.session.entries + 1] = { kind = "ask", text = line,
        files = files[1] and require("lash.console.attach").names(files) or nil }
end

-- `>`: sticky, until an empty line or the end of the input. What begins with another mark is what it is in Lua.
local function ask_mode(console, line, once)
    while line do
        line = line:gsub("^%s*>%s*", "")
        if line:find "^%s*[!?]" or line:find "^%s*%.%a" then
            dispatch(console, line)
        elseif line:find "%S" then
            read.quiet()
            console.history:remember("> " .. line)
            remember_question(console, line)
            ask.ask(console.workspace, line, console.session.paint)
        end
        if once or console.over then
            return
        end
        local taken
        line, taken = read.line "ask> "
        if taken then
            line = ""
        elseif not line or not line:find "%S" then
            return
        end
    end
end

local function shell_command(line)
    if line == "" then
        return script.say "say which: !COMMAND"
    end
    system.flush()
    local ran, ok, what, code = turn.run(os.execute, line)
    if not ran then
        read.fresh_line()
        script.say(engine.cancel_reason(ok) and "cancelled" or tostring(ok))
    elseif not ok then
        if what == "signal" or code > 128 then
            read.recover()
            read.fresh_line()
        end
        script.say(("%s %d"):format(what == "signal" and "ended by signal" or "exit status", code))
    end
end

-- One line, and what belongs to it. once: `>` asks one question only
function dispatch(console, line, once)
    local mark, rest = line:match "^%s*([?!>.])%s*(.-)%s*$"
    if mark == ">" then
        ask_mode(console, rest, once)
    elseif mark == "." and not rest:find "^[%d.]" then
        console.history:remember(line)
        commands.run(console, line)
    elseif mark == "!" then
        console.history:remember(line)
        shell_command(rest)
    elseif mark == "?" then
        console.history:remember(line)
        read.quiet()
        turn.run(require("lash.console.about").about, console, rest)
    elseif line:find "%S" then
        lua_entry(console, line)
    end
end

-- An entry that computes holds the loop: that is told where something else waits.
local function mind_others(console)
    require("lash.watchdog").nobody = function()
        return next(console.tasks) == nil
    end
end

local function new_console(group, color)
    local console = { session = evaluate.new(color), background = group, tasks = {}, started = 0, over = false }
    _G.tools = _G.tools or {}
    setmetatable(console, console_mt)
    console.history = require("lash.console.history").open(read.add_history)
    function console.enter(text)
        local kind, err = evaluate.check(text)
        if kind == "unfinished" then
            kind, err = nil, "the entry is not finished"
        else
            console.history:remember(text)
        end
        enter(console, text, kind, err)
    end
    function console.dispatch(line, once)
        dispatch(console, line, once)
    end
    return console
end

local function greet(why)
    if not system.isatty(0) then
        return
    end
    print(("lash %s, a Lua shell: > asks an agent, ? helps, .tour shows, Ctrl-D leaves"):format(lash.version))
    if why and os.getenv "TERM" ~= "dumb" and system.isatty(1) then
        script.say(why)
    end
end

local function read_and_run(console)
    while not console.over do
        local line, taken = read.line "lua> "
        if line then
            dispatch(console, line)
        elseif not taken then
            return
        end
    end
end

--- loop(color, found, path) -> exit status: reads and runs entries to the end of the input.
-- @param color of --color, or nil
-- @param found as of lash.declared: what a file that was run before returned, or nil; and its path
function M.loop(color, found, path)
    local group <close> = engine.group(false)
    local _, why = read.open()
    local console = new_console(group, color)
    if found then
        console.workspace:take(found, path)
    end
    local complete
    read.complete_with(function(...)
        complete = complete or require("lash.console.complete").of(console)
        return complete(...)
    end)
    keep_tasks(console)
    mind_others(console)
    signals.console(nil)
    greet(why)
    read_and_run(console)
    signals.console(false)
    group:cancel "parent"
    if system.isatty(0) and not read.is_edited() then -- the editor has ended its line
        system.write(1, "\n")
    end
    return 0
end

return M
