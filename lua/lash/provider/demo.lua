-- The provider `demo`: a model without a key, a network or chance. It reads the user's last words and
-- the tools, asks for every tool that the words name in one turn, with arguments made from the words,
-- and then tells what came back, a line for each call. The tools really run.
--
-- Where the answer has to fit a schema it is made of the words, too. Words that name an agent, of those
-- that can be handed over to, make it hand over. How words are read is in demo/words.lua, how arguments
-- are made in demo/args.lua.
local attach = require "lash.attach"
local arguments = require "lash.provider.demo.args"
local history = require "lash.provider.history"
local json = require "lash.json"
local words = require "lash.provider.demo.words"

local M = { name = "demo" }

local HANDOFF = "handoff"

-- ---- what has happened since the user spoke ----

-- { text = the user's words, parts = what came with them, outcomes = list of { call =, outcome = } since
-- control came here, visited = agents that had it since }
local function situation(conv)
    local from = #conv.entries
    while from > 1 and conv.entries[from].type ~= "user" do
        from = from - 1
    end
    local first = conv.entries[from]
    local spoke = first and first.type == "user" and first or {}
    local now = { text = spoke.text or "", parts = spoke.parts, outcomes = {}, visited = {} }
    local calls
    for i = from, #conv.entries do
        local entry = conv.entries[i]
        if entry.type == "answer" then
            calls = history.calls(entry)
        elseif entry.type == "outcomes" then
            local passed = false
            for n, outcome in ipairs(entry.items) do
                local call = calls[n]
                if call.name == HANDOFF and outcome.status == "ok" then
                    passed = true
                    local args = json.decode(call.args)
                    now.visited[type(args) == "table" and args.agent or ""] = true
                end
                now.outcomes[#now.outcomes + 1] = { call = call, outcome = outcome }
            end
            if passed then
                now.outcomes = {}
            end
        end
    end
    return now
end

-- ---- reporting ----

local function short(text, most)
    text = text:gsub("%s+", " "):gsub("^ ", ""):gsub(" $", "")
    if #text > most then
        text = text:sub(1, utf8.offset(text:sub(1, most), -1) - 1) .. "..."
    end
    return text
end

local function shown_call(call)
    local args = json.decode(call.args ~= "" and call.args or "{}")
    if type(args) ~= "table" or getmetatable(args) == json.array_mt then
        return ("%s(%s)"):format(call.name, short(call.args, 80))
    end
    local names, parts = {}, {}
    for name in pairs(args) do
        names[#names + 1] = name
    end
    table.sort(names)
    for i, name in ipairs(names) do
        parts[i] = name .. " = " .. json.encode(args[name])
    end
    return ("%s(%s)"):format(call.name, short(table.concat(parts, ", "), 80))
end

local function report(outcomes)
    local lines = {}
    for i, entry in ipairs(outcomes) do
        local outcome = entry.outcome
        local verb = outcome.status == "ok" and "" or outcome.status == "error" and " failed"
            or (" ended as '%s'"):format(outcome.status)
        lines[i] = ("%s%s: %s"):format(shown_call(entry.call), verb, short(outcome.output or "", 300))
    end
    return table.concat(lines, "\n")
end

local function signature(tool)
    local required, names = {}, {}
    local schema = type(tool.schema) == "table" and tool.schema or {}
    for _, name in ipairs(schema.required or {}) do
        required[name] = true
    end
    for name in pairs(schema.properties or {}) do
        names[#names + 1] = name
    end
    table.sort(names)
    for i, name in ipairs(names) do
        names[i] = name .. (required[name] and "" or "?")
    end
    return ("%s(%s)"):format(tool.name, table.concat(names, ", "))
end

-- What to say when the words name no tool.
local function helpless(view, text)
    if #(view.tools or {}) == 0 then
        return ("This is the demo model: it can only call tools, and there are none here. You said: %s"):format(
            short(text, 300))
    end
    local lines = { "This is the demo model: name a tool and its values, and it calls it. There are:" }
    for _, tool in ipairs(view.tools) do
        lines[#lines + 1] = ("  %s%s"):format(signature(tool),
            (tool.description or "") ~= "" and ": " .. short(tool.description, 100) or "")
    end
    return table.concat(lines, "\n")
end

-- ---- handing over ----

-- What the handoff tool says about each agent: "... Agents: NAME: text; NAME: text"
local function described(tool)
    local about = {}
    local list = (tool.description or ""):match "Agents:%s*(.*)$" or ""
    for part in (list .. ";"):gmatch "%s*(.-);" do
        local name, text = part:match "^([%w_-]+):%s*(.*)$"
        if name then
            about[name] = text
        end
    end
    return about
end

local function enum_of(tool)
    local properties = type(tool.schema) == "table" and tool.schema.properties or {}
    return type(properties.agent) == "table" and properties.agent.enum or {}
end

-- The agent that the words name best, or nil; and whether they do so by its name.
local function target_of(tool, text, visited)
    local said, about = words.words_of(text), described(tool)
    local best, most, by_name = nil, 0, false
    for _, name in ipairs(enum_of(tool)) do
        local score, named = 0, false
        for part in pairs(words.words_of(name:gsub("[_-]", " "))) do
            if said[part] then
                score, named = score + 10, true
            end
        end
        for part in pairs(words.words_of(about[name] or "")) do
            score = score + (said[part] and 1 or 0)
        end
        if score > most and not visited[name] then
            best, most, by_name = name, score, named
        end
    end
    return best, by_name
end

-- ---- calling ----

local function planned(view, text, only)
    local tools = {}
    for _, tool in ipairs(view.tools or {}) do
        if tool.name ~= HANDOFF and (not only or tool.name == only) then
            tools[#tools + 1] = tool
        end
    end
    local tokens = words.tokens(text)
    local mentions = words.mentions(tokens, tools)
    if #mentions == 0 and only and tools[1] then
        mentions[1] = { at = 1, tool = 1 }
    end
    local calls, seen = {}, {}
    for _, mention in ipairs(mentions) do
        if not seen[mention.tool] then
            seen[mention.tool] = true
            local tool = tools[mention.tool]
            local mine = words.stretch(tokens, mentions, mention.tool)
            for _, args in ipairs(arguments.calls(tool, mine, tokens, text)) do
                calls[#calls + 1] = { name = tool.name, args = args }
            end
        end
    end
    return calls
end

-- The calls that the words ask for, possibly none.
local function calls_for(view, now)
    local choice = view.tool_choice
    local only = type(choice) == "table" and choice.name or nil
    local handoff = not only and history.tool_named(view, HANDOFF)
    local target, by_name
    if handoff and #enum_of(handoff) > 0 then
        now.visited[view.agent or ""] = true
        target, by_name = target_of(handoff, now.text, now.visited)
    end
    local calls = not by_name and planned(view, now.text, only) or {}
    if target and #calls == 0 then
        calls[1] = { name = HANDOFF, args = json.encode { agent = target, reason = "the words name it" } }
    elseif #calls == 0 and choice == "required" and view.tools and view.tools[1] then
        calls = planned(view, now.text, view.tools[1].name)
    end
    return calls
end

-- What came with the user's words, in words: the demo model cannot look at it.
local function attachments(parts)
    local lines = {}
    for _, part in ipairs(parts or {}) do
        if part.type ~= "text" then
            lines[#lines + 1] = ("The demo model cannot look at the %s.\n"):format(attach.describe(part))
        end
    end
    return table.concat(lines)
end

-- Where the answer has to fit a schema it is made of the user's words, as arguments are.
local function structured(view, text)
    local tokens = words.tokens(text)
    return arguments.calls({ schema = view.output.schema }, tokens, tokens, text)[1]
end

local function items_for(view, conv)
    local now = situation(conv)
    if #now.outcomes > 0 and not view.output then
        return { { type = "text", text = attachments(now.parts) .. report(now.outcomes) } }
    end
    local calls = view.tool_choice ~= "none" and #now.outcomes == 0 and calls_for(view, now) or {}
    if #calls == 0 and view.output then
        return { { type = "text", text = structured(view, now.text) } }
    elseif #calls == 0 then
        return { { type = "text", text = attachments(now.parts) .. helpless(view, now.text) } }
    end
    local namer = history.namer(conv)
    local items = {}
    for i, call in ipairs(calls) do
        items[i] = { type = "call", id = history.new_id(namer, nil, i), name = call.name, args = call.args }
    end
    return items
end

--- answer(conv, view, target) -> answer. Never fails.
function M.answer(conv, view, target)
    conv.scratch = conv.scratch or {}
    local items = items_for(view, conv)
    return {
        type = "answer",
        provider = M.name,
        model = target.model,
        items = items,
        usage = { input = 0, output = 0, cached = 0, reasoning = 0, total = 0 },
        stop = items[1].type == "call" and "calls" or "end",
    }
end

return M
