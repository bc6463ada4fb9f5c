--- `?`: help on a name, and how to start.
local agents = require "lash.agent"
local out = require("lash.console.fold").out
local near = require "lash.near"
local prompt = require "lash.prompt"
local script = require "lash.script"
local system = require "lash.core.system"
local tool = require "lash.tool"

local M = {}

local START = [[
Lua at your finger tips: every line is a task, so calls that wait work as in a script.

    1 + 1                        bare expressions print; a ; at the end hides the result
    local x = 5                  lives on from entry to entry
    > what is the weather?       asks the agent; it gets the tools in the table `tools`
    ?lash.fs.read                help on a name; Tab completes names
    !ls                          a shell command
    .help                        the commands; .tour shows all of this in two minutes
    lash.spawn(fn)               runs beside what you type; .tasks lists it

Without a key: .model demo. Manual: `lash help` in a shell.
]]

local function of_tool(one)
    local lines = { ("%s  (%s)"):format(require("lash.console.show").signature(one), one.mark) }
    if one.description ~= "" then
        lines[2] = one.description
    end
    for _, p in ipairs(require("lash.cmd.tools").parameters(one)) do
        local about = p.description ~= "" and "  " .. p.description or ""
        lines[#lines + 1] = ("    %s: %s%s%s"):format(p.name, p.type, p.required and "" or "?", about)
    end
    return table.concat(lines, "\n")
end

local function of_agent(one)
    local names = {}
    for i, t in ipairs(one.tools) do
        names[i] = t.name
    end
    return ("agent %s%s\n%stools: %s"):format(one.name, one.model and (" [%s]"):format(one.model) or "",
        one.description ~= "" and one.description .. "\n" or "", names[1] and table.concat(names, ", ") or "none")
end

local function of_value(value)
    if tool.is(value) then
        return of_tool(value)
    elseif agents.is(value) then
        return of_agent(value)
    elseif prompt.is(value) then
        return ("prompt %s  (%s)\n%s"):format(value.name, value.mark, value.description)
    end
    return nil
end

local function variable(console, name)
    local value, found = console.session.locals:get(name)
    if not found then
        value = rawget(_G, name)
    end
    return value
end

local function page_of(name)
    local ok, page = pcall(require("lash.cmd.help").page, name)
    return ok and page or nil
end

--- about(console, name): "" tells how to start
function M.about(console, name)
    name = name:gsub("%s*%b()$", "")
    if name == "" then
        return out(START)
    end
    local known = name:find "^%." and require("lash.console.commands").about(name)
    known = known or of_value(variable(console, name)) or of_value((console.workspace:find_tool(name)))
    for _, one in ipairs(known and {} or console.workspace:agents()) do
        known = known or one.name == name and of_agent(one.value) or nil
    end
    local entry, err = nil, nil
    if not known then
        local reference = require "lash.reference" -- the text of the whole library: not for the first prompt
        entry, err = reference.find(name)
        known = entry and reference.text(entry, system.columns(1)) or page_of(name)
    end
    if known then
        return out(known)
    end
    local value = variable(console, name)
    if value ~= nil then
        return out(name .. " = " .. require("lash.console.show").value(value))
    end
    script.say(err or ("nothing is known of '%s'%s"):format(name, near.hint(name, {})))
end

return M
