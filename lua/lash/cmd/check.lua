--- lash check FILE...: compiles files, runs their declarations (never a tool's function), and reports
-- every fault that can be found that way: syntax, marks, schemas, what cannot travel to a worker, globals
-- that a worker lacks, and globals that nobody defines.
local agent = require "lash.agent"
local declared = require "lash.declared"
local failure = require "lash.failure"
local globals = require "lash.globals"
local handoff = require "lash.handoff"
local json = require "lash.json"
local lash = require "lash"
local model = require "lash.model"
local near = require "lash.near"
local output = require "lash.cmd.output"
local prompt = require "lash.prompt"
local script = require "lash.script"
local settings = require "lash.cmd.settings"
local system = require "lash.core.system"
local tool = require "lash.tool"

local M = {}

local USAGE, DATA, INPUT = 64, 65, 66

-- Names that scripts ask for to see in which Lua they are.
local OTHER_LUAS = { unpack = true, loadstring = true, setfenv = true, getfenv = true, jit = true, bit32 = true,
    bit = true, module = true, table_unpack = true, utf8 = true }

-- ---- faults of one file ----

local function add_fault(state, line, text, ...)
    local message = select("#", ...) > 0 and text:format(...) or text
    local key = ("%s:%s"):format(line, message)
    if not state.seen[key] then
        state.seen[key] = true
        state.faults[#state.faults + 1] = { line = line, message = message }
    end
end

local function add_note(state, text, ...)
    state.notes[#state.notes + 1] = text:format(...)
end

-- The line of the checked file from which the declaration was called; `return lash.tool {...}` leaves no
-- frame behind, so then it is the line that ran last.
local function user_line(state)
    local level = 3
    while true do
        local info = debug.getinfo(level, "Sl")
        if not info then
            return state.last_line
        elseif info.source == "@" .. state.path then
            return info.currentline
        end
        level = level + 1
    end
end

-- An error message begins with the place where it was raised; that becomes the line of the fault.
local function add_error(state, text)
    local path, line, rest = text:match("^([^\n]-):(%d+): (.*)$")
    if path and (path == state.path or path == state.short) then
        add_fault(state, tonumber(line), rest)
    else
        add_fault(state, nil, text)
    end
end

-- ---- declarations ----

local function good_name(state, spec)
    local name = type(spec) == "table" and spec.name
    if type(name) == "string" and name:find("^[%a_][%w_-]*$") and #name <= 63 then
        return name
    end
    state.nameless = state.nameless + 1
    return "nameless_" .. state.nameless
end

-- What stands for a declaration that cannot work, so that the rest of the file can be looked at.
local STAND_INS = {
    tool = function(real, name)
        return real { name = name, async = function() end }
    end,
    prompt = function(real, name)
        return real { name = name, async = function() end }
    end,
    agent = function(real, name)
        return real { name = name }
    end,
}

local function watch(state, kind, module)
    local real = module.new
    local function watched(spec)
        local ok, value = pcall(real, spec)
        if not ok then
            add_fault(state, user_line(state), tostring(value))
            return STAND_INS[kind](real, good_name(state, spec))
        end
        state.declared[#state.declared + 1] = { kind = kind, value = value, spec = spec, line = user_line(state) }
        return value
    end
    module.new = watched
    rawset(lash, kind, watched)
    return function()
        module.new = real
        rawset(lash, kind, real)
    end
end

-- ---- globals ----

local function names_of(set)
    local names = {}
    for name in pairs(set) do
        if type(name) == "string" then
            names[#names + 1] = name
        end
    end
    table.sort(names)
    return names
end

local function uses_of(state, fn, what)
    local uses, writes, known = {}, {}, true
    globals.reachable(fn, function(reached)
        local found = globals.of(reached)
        known = known and found ~= nil
        for _, use in ipairs(found or {}) do
            uses[#uses + 1] = use
            if use.kind == "set" then
                writes[use.name] = true
            end
        end
    end)
    if not known then
        add_note(state, "%s: its globals cannot be told: this Lua writes functions in a form unknown to lash", what)
    end
    return uses, writes
end

local function place(state, use)
    if use.source == "@" .. state.path then
        return use.line, ""
    end
    return nil, (" (%s:%d)"):format(use.source:gsub("^[@=]", ""), use.line)
end

local function check_sync(state, entry)
    local what = ("%s '%s' (sync)"):format(entry.kind, entry.value.name)
    local uses, writes = uses_of(state, entry.spec.sync, what)
    local told = {}
    for _, use in ipairs(uses) do
        local name = use.name
        if use.kind == "get" and not state.worker[name] and not writes[name] and not told[name] then
            told[name] = true
            state.told[name] = true
            local line, where = place(state, use)
            local mine = rawget(_G, name) ~= nil
            add_fault(state, line, "%s: global '%s' does not exist in a worker%s%s%s", what, name,
                mine and ": make it local or require it" or near.hint(name, names_of(state.worker)),
                (mine or near.best(name, names_of(state.worker))) and "" or ": make it local or require it", where)
        end
    end
end

local function check_script_globals(state, chunk)
    local uses = globals.of(chunk) or {}
    local defined = {}
    for _, use in ipairs(uses) do
        if use.kind == "set" then
            defined[use.name] = true
        end
    end
    local there = {}
    for _, set in ipairs { _G, defined } do
        for name in next, set do
            there[name] = true
        end
    end
    local candidates = names_of(there)
    for _, use in ipairs(uses) do
        local name = use.name
        if use.kind == "get" and not defined[name] and rawget(_G, name) == nil and not OTHER_LUAS[name]
            and not state.told[name] then
            state.told[name] = true
            add_fault(state, use.line, "global '%s' is defined nowhere%s", name, near.hint(name, candidates))
        end
    end
end

-- ---- one file ----

local function check_agent(state, entry)
    local targets, err = handoff.targets(entry.value)
    if not targets then
        add_fault(state, entry.line, err)
    end
    if entry.value.model then
        local _, bad = model.resolve(entry.value.model)
        if bad and bad.exit == USAGE then -- a name that can never work; a missing key is no fault of the file
            add_fault(state, entry.line, "agent '%s': %s", entry.value.name, bad.message)
        end
    end
end

local function check_declared(state)
    for _, entry in ipairs(state.declared) do
        if entry.kind == "agent" then
            check_agent(state, entry)
        elseif entry.spec.sync then
            check_sync(state, entry)
        end
        if entry.kind == "tool" and entry.value.description == "" then
            add_note(state, "tool '%s' has no description: a model sees only its name", entry.value.name)
        end
    end
end

local function check_values(state, values)
    if not values[1] then
        add_error(state, script.problem_text { err = values[2].err })
        return
    end
    local found, fault = declared.of({ table.unpack(values, 2, values.n) }, values.n - 1)
    if not found then
        add_fault(state, nil, "%s; a file returns a tool, a prompt, an agent or a list of them", fault)
    elseif #found.tools + #found.prompts + #found.agents == 0 then
        add_note(state, "it returns no tool, prompt or agent: ask, call and tools have no use for it")
    else
        state.found = declared.all(found)
    end
end

local function load_and_check(state)
    local chunk = script.load(state.path)
    local restore = {}
    for kind, module in pairs { tool = tool, prompt = prompt, agent = agent } do
        restore[#restore + 1] = watch(state, kind, module)
    end
    local ok, values = pcall(function()
        return table.pack(script.declarations(state.path, nil, function(source, line)
            if source == "@" .. state.path then
                state.last_line = line
            end
        end))
    end)
    for _, undo in ipairs(restore) do
        undo()
    end
    if not ok then
        error(values, 0)
    end
    check_values(state, values)
    check_declared(state)
    check_script_globals(state, chunk)
end

-- A file is looked at as if it were the only one.
local function isolated(fn, ...)
    local kept = {}
    for _, set in ipairs { _G, package.loaded } do
        kept[set] = {}
        for name, value in next, set do
            kept[set][name] = value
        end
    end
    local path = package.path
    local results = table.pack(pcall(fn, ...))
    package.path = path
    for set, values in pairs(kept) do
        for name in next, set do
            if not (type(name) == "string" and name:find("^lash")) then
                set[name] = values[name]
            end
        end
        for name, value in next, values do
            set[name] = value
        end
    end
    return table.unpack(results, 1, results.n)
end

local function check_file(path)
    local state = {
        path = path, short = debug.getinfo(load("", "@" .. path), "S").short_src, faults = {}, seen = {}, notes = {},
        declared = {}, told = {}, worker = {}, nameless = 0,
    }
    script.prepare()
    for name in next, _G do
        state.worker[name] = name ~= "arg" or nil
    end
    local ok, err = isolated(load_and_check, state)
    if not ok then
        if not failure.is(err) then
            error(err, 0)
        end
        state.missing = err.exit == INPUT
        add_error(state, err.message:find(path .. ": ", 1, true) == 1 and err.message:sub(#path + 3) or err.message)
    end
    table.sort(state.faults, function(a, b)
        return (a.line or 0) < (b.line or 0)
    end)
    return state
end

-- ---- the report ----

local function counted(list, what)
    return ("%d %s%s"):format(#list, what, #list == 1 and "" or "s")
end

local function summary(state)
    local found = state.found
    if not found then
        return "ok"
    end
    local parts = {}
    for _, kind in ipairs { "tool", "prompt", "agent" } do
        if #found[kind .. "s"] > 0 then
            parts[#parts + 1] = counted(found[kind .. "s"], kind)
        end
    end
    return "ok, " .. table.concat(parts, ", ")
end

local function print_text(states)
    local lines = {}
    for _, state in ipairs(states) do
        for _, fault in ipairs(state.faults) do
            local at = fault.line and (":%d"):format(fault.line) or ""
            lines[#lines + 1] = ("%s%s: %s"):format(state.path, at, fault.message)
        end
        if system.verbosity() > 0 then
            for _, note in ipairs(state.notes) do
                lines[#lines + 1] = ("%s: note: %s"):format(state.path, note)
            end
        end
        if #state.faults == 0 then
            lines[#lines + 1] = ("%s: %s"):format(state.path, summary(state))
        end
    end
    output.answer(table.concat(lines, "\n"))
end

local function print_json(states)
    local list = json.array {}
    for i, state in ipairs(states) do
        list[i] = { file = state.path, ok = #state.faults == 0, faults = json.array(state.faults),
            notes = json.array(state.notes) }
    end
    output.write(assert(json.encode(list, { lossy = true })) .. "\n")
end

--- @return exit status
function M.run(parsed)
    local format = settings.format(parsed.options)
    if #parsed.words == 0 then
        failure.raise(USAGE, "lash check needs a file: lash check FILE...")
    elseif format == "jsonl" then
        failure.raise(USAGE, "lash check prints text or json, not jsonl")
    end
    system.reserve_stdout()
    local states, exit = {}, 0
    for i, path in ipairs(parsed.words) do
        states[i] = check_file(path)
        if states[i].missing then
            exit = INPUT
        elseif #states[i].faults > 0 and exit == 0 then
            exit = DATA
        end
    end
    if format == "json" then
        print_json(states)
    else
        print_text(states)
    end
    return exit
end

return M
