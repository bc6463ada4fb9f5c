--- What was entered as a script that runs: chunks as they are, expressions where they do something, questions as
-- comments, and an agent with the tools at the end.
local agents = require "lash.agent"
local tokens = require "lash.console.tokens"
local tool = require "lash.tool"

local M = {}

local function expression_of(entry)
    return (entry:gsub("^%s*=", "", 1):gsub(";%s*$", "", 1))
end

local function as_name(name)
    local made = name:gsub("[^%w_]", "_"):gsub("^%d", "_%0")
    return load(("local %s"):format(made)) and made or made .. "_"
end

local function comment(text)
    return "-- " .. text:gsub("\n", "\n-- ")
end

-- `return x` in the middle of a script ends it: what it did stays, without the results.
local function chunk_text(entry)
    local outline = tokens.outline(entry)
    local last = outline.last
    if outline.ends_inside and #outline.locals == 0 then
        return ("(function()\n%s\nend)()"):format(entry)
    elseif outline.ends_inside then
        return comment("not saved, as it returns in the middle:\n" .. entry)
    end
    if not last then
        return entry
    end
    local results = entry:sub(last + 6):gsub("%-%-[^\n]*%s*$", ""):gsub(";?%s*$", "")
    local head = entry:sub(1, last - 1):gsub("[ \t]+$", "")
    if not results:find "%S" then
        return head
    elseif load(results) then -- a call
        return head .. "\n" .. results:gsub("^%s+", "")
    end
    return ("%s\nlocal _ = %s"):format(head, results:gsub("^%s+", ""))
end

local function shown_text(expression)
    local stop = expression:find("--", 1, true) and "\n" or ""
    return ("if lash.main then\n    print(%s%s)\nend"):format(expression, stop)
end

-- `is_needed`: the next entry uses `_`.
local function expression_text(saved, entry, is_needed)
    local expression = expression_of(entry.text)
    local result = entry.result
    if not expression:find "%S" or not load("return (" .. expression .. "\n)") then
        return load(expression) and expression or shown_text(expression) -- several values
    elseif is_needed then
        return "_ = " .. expression
    elseif (tool.is(result) or agents.is(result)) and not saved.names[result] and expression:find "[({\"']" then
        local name = as_name(result.name)
        saved.names[result] = name
        return ("local %s = %s"):format(name, expression)
    elseif type(result) == "table" and (debug.getmetatable(result) or {}).__name == "lash.result" then
        return shown_text(expression)
    elseif load(expression) then -- a call, for what it does
        return expression
    end
    return shown_text(expression)
end

local function entry_text(saved, entry, following)
    if entry.kind == "ask" then
        return comment((entry.files and ".attach " .. entry.files .. "\n" or "") .. "> " .. entry.text)
    elseif entry.kind == "load" then
        return comment((".load %s (what it declares is in that file)"):format(entry.text))
    elseif entry.kind == "chunk" then
        return chunk_text(entry.text)
    end
    local is_needed = following and following.kind ~= "ask" and following.kind ~= "load"
        and tokens.outline(expression_of(following.text)).used._
    return expression_text(saved, entry, is_needed)
end

-- Names of variables that have tools and agents now.
local function named(session)
    local names = {}
    for name, value in next, _G do
        if type(name) == "string" and (tool.is(value) or agents.is(value)) then
            names[value] = name
        end
    end
    for _, name in ipairs(session.locals:names()) do
        local value = session.locals:get(name)
        if tool.is(value) or agents.is(value) then
            names[value] = name
        end
    end
    return names
end

-- The agent at the end: the chosen one if a variable has it, else one with the tools that have names.
local function ending(saved, workspace, asked)
    local name = workspace.chosen and saved.names[workspace.chosen]
    local lines = {}
    if not name then
        local list = {}
        for _, one in ipairs(workspace:tools()) do
            list[#list + 1] = saved.names[one]
        end
        if #list == 0 then
            return ""
        end
        name = "agent"
        lines[1] = ('local agent = lash.agent { name = "lash", %stools = { %s } }'):format(
            workspace.model and ("model = %q, "):format(workspace.model) or "", table.concat(list, ", "))
    end
    local question = asked and ("arg[1] or %q"):format(asked):gsub("\\\n", "\\n") or "arg[1]"
    lines[#lines + 1] = ("if lash.main%s then"):format(asked and "" or " and arg[1]")
    lines[#lines + 1] = ("    print(%s:run(%s))"):format(name, question)
    lines[#lines + 1] = "end"
    lines[#lines + 1] = "return " .. name
    return "\n" .. table.concat(lines, "\n") .. "\n"
end

--- text(console) -> the text of the script
function M.text(console)
    local session = console.session
    local saved = { names = named(session) }
    local lines, asked, uses_tools = {}, nil, false
    for i, entry in ipairs(session.entries) do
        local made = entry_text(saved, entry, session.entries[i + 1])
        lines[i] = made:find "^%s*%(" and ";" .. made or made -- else it would be a call of what stands above
        asked = entry.kind == "ask" and entry.text or asked
        uses_tools = uses_tools or tokens.outline(made).used.tools
    end
    local head = '#!/usr/bin/env lash\nlocal lash = require "lash"\n' .. (uses_tools and "local tools = {}\n" or "")
    return ("%s\n%s\n%s"):format(head, table.concat(lines, "\n"), ending(saved, console.workspace, asked))
end

return M
