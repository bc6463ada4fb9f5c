--- The commands of the console: `.help` lists them. Each is { usage, what it does, fn(console, words, rest),
-- more about it or nil }.
local engine = require "lash.core.engine"
local failure = require "lash.failure"
local fold = require "lash.console.fold"
local fs = require "lash.fs"
local near = require "lash.near"
local read = require "lash.console.read"
local script = require "lash.script"
local show = require "lash.console.show"
local system = require "lash.core.system"
local turn = require "lash.console.turn"

local M = {}

local function line(format, ...)
    fold.out(select("#", ...) > 0 and format:format(...) or format)
end

-- ---- tools, prompts, agents ----

local function list_tools(console)
    local ws = console.workspace
    local list, seen = ws:tools(), {}
    for _, tool in ipairs(list) do
        seen[tool.name] = true
    end
    for _, tool in ipairs(ws.chosen and ws.chosen.tools or {}) do
        if not seen[tool.name] then
            list[#list + 1] = tool
        end
    end
    if #list == 0 then
        line "no tools: .load FILE, or declare one with lash.tool"
    end
    for _, tool in ipairs(list) do
        line("%-5s  %s", tool.mark, show.signature(tool))
        if tool.description ~= "" then
            line("       %s", tool.description)
        end
    end
end

local function list_prompts(console)
    local list = console.workspace:prompts()
    if #list == 0 then
        line "no prompts: an agent's instructions may have some, lash.prompt { name =, async = function(ctx) ... end }"
    end
    for _, entry in ipairs(list) do
        line("%-5s  %s  %s", entry.value.mark, entry.name, entry.value.description)
    end
end

local function list_agents(console, words)
    local ws = console.workspace
    local list = ws:agents()
    if not words[1] then
        for _, entry in ipairs(list) do
            line("%s %s%s", entry.value == ws.chosen and "*" or " ", entry.name,
                entry.value.description ~= "" and "  " .. entry.value.description or "")
        end
        if #list == 0 then
            line "no agents: .load FILE, or declare one with lash.agent; > asks one with the tools in `tools`"
        end
        return
    end
    local names = {}
    for i, entry in ipairs(list) do
        if entry.name == words[1] then
            ws:choose(entry.value)
            return line("> asks %s", entry.name)
        end
        names[i] = entry.name
    end
    failure.raise(1, "there is no agent '%s'%s", words[1], near.hint(words[1], names))
end

-- ---- models, tasks, files ----

local function choose_model(console, words)
    local ws = console.workspace
    if not words[1] then
        local chosen = ws.model or require("lash.run").overrides.model or ws:agent().model
        local target, err = require("lash.model").resolve(chosen)
        return line("%s", target and target.label or err.message)
    end
    local target, err = require("lash.model").resolve(words[1])
    if not target then
        failure.raise(1, "%s", err.message)
    end
    ws.model = words[1]
    line("> asks %s", target.label)
end

local function list_tasks(console)
    local numbers = {}
    for n in pairs(console.tasks) do
        numbers[#numbers + 1] = n
    end
    table.sort(numbers)
    for _, n in ipairs(numbers) do
        local entry = console.tasks[n]
        line("%3d  running for %.1f s  %s", n, (engine.hrtime() - entry.started) / 1e9, entry.what)
    end
    if #numbers == 0 then
        line "nothing runs in the background: lash.spawn(fn) starts a task"
    end
end

local function kill(console, words)
    local n = math.tointeger(tonumber(words[1]))
    local entry = n and console.tasks[n]
    if not entry then
        failure.raise(1, "there is no task %s: .tasks lists them", words[1] or "without a number")
    end
    entry.task:cancel()
end

local function said(found)
    local parts = {}
    for _, kind in ipairs { "agents", "tools", "prompts" } do
        local names = {}
        for i, entry in ipairs(found[kind]) do
            names[i] = entry.name
        end
        if names[1] then
            parts[#parts + 1] = ("%s: %s"):format(kind, table.concat(names, ", "))
        end
    end
    return table.concat(parts, "; ")
end

local function load_file(console, _, rest)
    if rest == "" then
        failure.raise(1, "say which: .load FILE")
    end
    local path = rest:gsub("^~/", (os.getenv "HOME" or "~") .. "/")
    local found = console.workspace:load(path)
    local entries = console.session.entries
    entries[#entries + 1] = { kind = "load", text = path }
    line("%s", said(found))
    if found.agents[1] then
        line("> asks %s", console.workspace.chosen.name)
    end
end

local function reload(console)
    local files = table.move(console.workspace.files, 1, #console.workspace.files, 1, {})
    if #files == 0 then
        failure.raise(1, "nothing was loaded yet: .load FILE")
    end
    for _, file in ipairs(files) do
        line("%s: %s", file.path, said(console.workspace:load(file.path)))
    end
end

local function save(console, _, rest)
    if rest == "" then
        failure.raise(1, "say where: .save FILE")
    elseif fs.exists(rest) then
        failure.raise(1, "%s is there already: give another name", rest)
    end
    local ok, err = fs.write(rest, require("lash.console.save").text(console))
    if not ok then
        failure.raise(74, "%s", tostring(err))
    end
    local n = #console.session.entries
    line("%d entr%s in %s", n, n == 1 and "y" or "ies", rest)
end

-- The last one of Lua; also one that has failed, which is what one wants to edit.
local function last_entry(console)
    return console.last or ""
end

local function edit(console)
    local editor = os.getenv "VISUAL" or os.getenv "EDITOR"
    if not editor or editor == "" then
        failure.raise(1, "set EDITOR to the editor that you like")
    end
    local temp <close> = assert(fs.tempfile { suffix = ".lua" })
    local path, before = temp.path, last_entry(console)
    assert(fs.write(path, before ~= "" and before .. "\n" or ""))
    system.flush()
    local ran, ok = turn.run(os.execute, ("%s '%s'"):format(editor, path:gsub("'", "'\\''")))
    local entry = (fs.read(path) or ""):gsub("%s+$", "")
    temp:remove() -- before what was entered runs
    if not ran then
        error(ok, 0)
    elseif not ok then
        failure.raise(1, "%s has failed: nothing was entered", editor)
    elseif entry:find "%S" then
        line("%s", entry)
        console.enter(entry)
    end
end

local function time(console, words)
    if words[1] ~= nil and words[1] ~= "on" and words[1] ~= "off" then
        failure.raise(1, ".time on, or .time off")
    end
    console.session.time = words[1] ~= "off" and (words[1] == "on" or not console.session.time)
    line("times are %s", console.session.time and "shown" or "not shown")
end

local function quit(console)
    console.over = true
end

local COMMANDS -- below

local function help()
    for _, command in ipairs(COMMANDS) do
        line("  %-28s %s", command[1], command[2])
    end
end

COMMANDS = {
    { ".help", "this list", help },
    { ".tools", "the tools that the agent gets (the table `tools`)", list_tools },
    { ".prompts", "the prompts of the agent", list_prompts },
    { ".agents [NAME]", "the agents; NAME is the one that > asks", list_agents },
    { ".call NAME [JSON | --ARG V]", "runs a tool by hand; asks for its arguments", function(console, _, rest)
        require("lash.console.call").call(console, rest)
    end },
    { ".attach FILE...", "files that go with the next message; - takes them back", function(console, _, rest)
        require("lash.console.attach").attach(console, rest)
    end, [[
Texts, images (PNG, JPEG, GIF, WebP) and PDFs, as `lash ask -f` takes them; *.md is every file that matches. They are
read now. Quotes, or a backslash before a blank, keep a name together; Tab completes it. Alone it tells what is
attached.]] },
    { ".model [PROVIDER/NAME]", "the model that > asks", choose_model },
    { ".tasks", "what runs in the background", list_tasks },
    { ".kill N", "ends one of them", kill },
    { ".load FILE", "brings in the tools and agents that FILE returns", load_file },
    { ".reload", "loads the files again", reload },
    { ".save FILE", "writes the entries so far as a script", save },
    { ".edit", "the last entry in $EDITOR", edit },
    { ".time on|off", "tells how long entries take", time },
    { ".tour", "five things in two minutes, without a key", function(console)
        require("lash.console.tour").run(console)
    end },
    { ".quit", "leaves; so does Ctrl-D", quit },
}

--- names() -> list of the commands, with their dots
function M.names()
    local names = {}
    for i, command in ipairs(COMMANDS) do
        names[i] = command[1]:match "^%S+"
    end
    return names
end

-- What enters something runs as that does; all else as a task that Ctrl-C ends.
local ENTERS = { [".edit"] = true, [".tour"] = true }

local function run(console, command, words, rest)
    local enters = ENTERS[command[1]:match "^%S+"]
    if not enters then
        read.quiet()
    end
    local ok, err = (enters and pcall or turn.run)(command[3], console, words, rest)
    if not ok and engine.cancel_reason(err) then
        engine.check() -- of the program itself
        read.fresh_line()
        script.say "cancelled"
    elseif not ok then
        script.say(failure.is(err) and err.message or tostring(err))
    end
end

--- about(name) -> what `.NAME` does, or nil
function M.about(name)
    for _, command in ipairs(COMMANDS) do
        if command[1]:match "^%S+" == name then
            return ("%s  %s%s"):format(command[1], command[2], command[4] and "\n" .. command[4] or "")
        end
    end
    return nil
end

--- run(console, line): `line` begins with a dot
function M.run(console, typed)
    local name, rest = typed:match "^%s*(%.%S*)%s*(.-)%s*$"
    local words = {}
    for word in rest:gmatch "%S+" do
        words[#words + 1] = word
    end
    for _, command in ipairs(COMMANDS) do
        if command[1]:match "^%S+" == name then
            return run(console, command, words, rest)
        end
    end
    script.say(("there is no command %s%s; .help lists them"):format(name, near.hint(name, M.names())))
end

return M
