--- The commands of the console: `.help` lists them. Each is { usage, what it does, fn(console, words, rest) }.
local declared_text = require "lash.cmd.tools"
local dispatch = require "lash.dispatch"
local failure = require "lash.failure"
local fs = require "lash.fs"
local json = require "lash.json"
local near = require "lash.near"
local read = require "lash.console.read"
local script = require "lash.script"
local system = require "lash.core.system"
local text = require "lash.text"

local M = {}

local function line(format, ...)
    local made = select("#", ...) > 0 and format:format(...) or format
    system.write(1, (system.isatty(1) and text.plain(made) or made) .. "\n")
end

local function signature(tool)
    local parts = {}
    for i, p in ipairs(declared_text.parameters(tool)) do
        parts[i] = ("%s: %s%s"):format(p.name, p.type, p.required and "" or "?")
    end
    return ("%s(%s)"):format(tool.name, table.concat(parts, ", "))
end
M.signature = signature

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
        line("%-5s  %s", tool.mark, signature(tool))
        if tool.description ~= "" then
            line("       %s", tool.description)
        end
    end
end

local function list_prompts(console)
    local prompt = require "lash.prompt"
    local agent = console.workspace:agent()
    local any = false
    for _, part in ipairs(agent.instructions) do
        if prompt.is(part) then
            any = true
            line("%-5s  %s  %s", part.mark, part.name, part.description)
        end
    end
    if not any then
        line("the agent %s has no prompts", agent.name)
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

local function answer_for(parameter)
    local hint = parameter.description ~= "" and (" (%s)"):format(parameter.description) or ""
    local given, taken = read.line(("%s: %s%s%s = "):format(parameter.name, parameter.type,
        parameter.required and "" or "?", hint))
    if not given then
        failure.raise(1, taken and "cancelled" or "no more input")
    end
    return given
end

-- A value as its text was meant: JSON where it is, else the text.
local function value_of(given, kind)
    if kind == "string" or kind:find "|" then
        return given
    end
    local value, err = json.decode(given)
    if err then
        return given
    end
    return value
end

local function asked_arguments(tool)
    local args = {}
    for _, parameter in ipairs(declared_text.parameters(tool)) do
        local given = answer_for(parameter)
        if given ~= "" or (parameter.required and parameter.type == "string") then
            args[parameter.name] = value_of(given, parameter.type)
        end
    end
    return json.encode(args, { lossy = true })
end

local function call(console, words, rest)
    if not words[1] then
        failure.raise(1, "say which: .call NAME [JSON | --ARG VALUE ...]")
    end
    local tool, err = console.workspace:find_tool(words[1])
    if not tool then
        failure.raise(1, "%s", err)
    end
    local given = rest:match "^%S+%s+(.*)$"
    local args
    if not given then
        args = asked_arguments(tool)
    elseif given:find "^[%[{]" then
        args = given
    else
        args = require("lash.arguments").parse(tool.schema, table.move(words, 2, #words, 1, {}), tool.name)
    end
    local outcome = dispatch.run({ { type = "call", id = "call_1", name = tool.name, args = args } }, {
        tools = { [tool.name] = tool }, agent = "console", cap = 1, key = "console/",
        label = function() return "1.1" end,
        emit = function() end,
    })[1]
    line("%s  (%s, %d ms)", outcome.output, outcome.status, outcome.ms)
end

-- ---- models, tasks, files ----

local function choose_model(console, words)
    local ws = console.workspace
    if not words[1] then
        local target, err = require("lash.model").resolve(ws.model or ws:agent().model)
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
    local any = false
    for i, entry in pairs(console.tasks) do
        any = true
        line("%3d  running for %.1f s  %s", i, (require("lash").hrtime() - entry.started) / 1e9, entry.what)
    end
    if not any then
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
    line("%s", said(console.workspace:load(rest)))
end

local function reload(console)
    local files = table.move(console.workspace.files, 1, #console.workspace.files, 1, {})
    if #files == 0 then
        failure.raise(1, "nothing was loaded yet: .load FILE")
    end
    for _, path in ipairs(files) do
        line("%s: %s", path, said(console.workspace:load(path)))
    end
end

local function save(console, _, rest)
    if rest == "" then
        failure.raise(1, "say where: .save FILE")
    elseif fs.exists(rest) then
        failure.raise(1, "%s is there already: give another name", rest)
    end
    local lines = { "#!/usr/bin/env lash", 'local lash = require "lash"', "" }
    for _, entry in ipairs(console.session.entries) do
        lines[#lines + 1] = entry
    end
    local ok, err = fs.write(rest, table.concat(lines, "\n") .. "\n")
    if not ok then
        failure.raise(74, "%s", tostring(err))
    end
    line("%d entries in %s", #console.session.entries, rest)
end

local function edit(console)
    local editor = os.getenv "VISUAL" or os.getenv "EDITOR"
    if not editor or editor == "" then
        failure.raise(1, "set EDITOR to the editor that you like")
    end
    local path = assert(fs.tempfile { suffix = ".lua" })
    assert(fs.write(path, console.session.entries[#console.session.entries] or ""))
    local ok = os.execute(("%s '%s'"):format(editor, path:gsub("'", "'\\''")))
    local entry = fs.read(path)
    fs.remove(path)
    if ok and entry and entry:find "%S" then
        line("%s", (entry:gsub("%s+$", "")))
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
    { ".call NAME [JSON | --ARG V]", "runs a tool by hand; asks for its arguments", call },
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

--- run(console, line): `line` begins with a dot
function M.run(console, typed)
    local name, rest = typed:match "^%s*(%.%S*)%s*(.-)%s*$"
    local words = {}
    for word in rest:gmatch "%S+" do
        words[#words + 1] = word
    end
    for _, command in ipairs(COMMANDS) do
        if command[1]:match "^%S+" == name then
            local ok, err = pcall(command[3], console, words, rest)
            if not ok then
                script.say(failure.is(err) and err.message or tostring(err))
            end
            return
        end
    end
    script.say(("there is no command %s%s; .help lists them"):format(name, near.hint(name, M.names())))
end

return M
