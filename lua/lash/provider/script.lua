-- The provider `script:FILE`: answers that somebody wrote down, for tests and examples. No key, no
-- network; the tools really run.
--
-- FILE is JSON, or Lua that returns a list (or function(n, request) -> turn, for endless scripts).
-- Every conversation walks the turns from the first on:
--
--   { text = "...", calls = { { name =, args = {...} or args_text = "as sent", id = } },
--     stop = "end|calls|length|filter|refusal|error", delay = seconds, usage = { input =, output = },
--     reasoning = "...",
--     expect = { contains = TEXT or list, lacks = the same, outputs = N, outputs_contain = list,
--                tools = list of names, agent = NAME, tool_choice =,
--                parts = list of media types or URLs (images and files of the user's last words) },
--     error = { code =, message =, exit =, retry =, after = } }
--
-- contains and lacks look at everything that the request says, outputs at the outcomes since the last
-- answer. A request past the last turn and an expectation that fails are errors (65); so are turns that
-- nobody used, which unused() tells.
local fault = require "lash.provider.fault"
local history = require "lash.provider.history"
local json = require "lash.json"
local near = require "lash.near"
local timer = require "lash.core.timer"

local M = { name = "script" }

local TURN = { text = "string", calls = "table", stop = "string", delay = "number", expect = "table", error = "table",
    usage = "table", reasoning = "string" }
local CALL = { name = "string", args = "table", args_text = "string", id = "string" }
local EXPECT = { contains = "string|table", lacks = "string|table", outputs = "number", outputs_contain = "table",
    tools = "table", agent = "string", tool_choice = "string|table", parts = "table" }
local ERROR = { code = "string", message = "string", exit = "number", retry = "boolean", after = "number" }
local STOPS = { ["end"] = true, calls = true, length = true, filter = true, refusal = true, error = true }

local loaded = {} -- file -> script

local function wrong(exit, message, ...)
    return nil, fault.new { code = "script", exit = exit, message = message:format(...) }
end

-- ---- reading ----

local function fields_fault(where, value, fields)
    if type(value) ~= "table" then
        return ("%s is a %s, not a table of fields"):format(where, type(value))
    end
    for name, field in pairs(value) do
        local kinds = fields[name]
        if not kinds then
            return ("%s: unknown field '%s'%s; there are: %s"):format(where, tostring(name),
                near.hint(tostring(name), near.names(fields)), table.concat(near.names(fields), ", "))
        elseif field ~= json.null and not ("|" .. kinds .. "|"):find("|" .. type(field) .. "|", 1, true) then
            return ("%s: '%s' must be a %s, not a %s"):format(where, name, kinds:gsub("|", " or "), type(field))
        end
    end
    return nil
end

local function call_fault(where, call)
    local why = fields_fault(where, call, CALL)
    if why then
        return why
    elseif type(call.name) ~= "string" then
        return where .. ": 'name' is missing"
    elseif call.args and call.args_text then
        return where .. ": it has both 'args' and 'args_text'"
    end
    return nil
end

local function turn_fault(n, turn)
    local where = ("turn %d"):format(n)
    local why = fields_fault(where, turn, TURN)
        or turn.expect and fields_fault(where .. ", expect", turn.expect, EXPECT)
        or turn.error and fields_fault(where .. ", error", turn.error, ERROR)
    for i, call in ipairs(not why and turn.calls or {}) do
        why = why or call_fault(("%s, call %d"):format(where, i), call)
    end
    if not why and turn.stop and not STOPS[turn.stop] then
        why = ("%s: there is no stop '%s'; there are: %s"):format(where, turn.stop,
            table.concat(near.names(STOPS), ", "))
    end
    return why
end

local function list_fault(turns)
    if type(turns) == "function" then
        return nil
    elseif type(turns) ~= "table" or (next(turns) ~= nil and turns[1] == nil) then
        return "it must be a list of turns"
    end
    for n, turn in ipairs(turns) do
        local why = turn_fault(n, turn)
        if why then
            return why
        end
    end
    return nil
end

local function line_of(text, position)
    local _, lines = text:sub(1, position):gsub("\n", "")
    return lines + 1
end

local function parse(file, text)
    if not file:find("%.lua$") and text:find("^%s*[%[{]") then
        local turns, err = json.decode(text)
        if err then
            return nil, ("line %d: %s"):format(line_of(text, err.position or 1), err.message)
        end
        return turns
    end
    local chunk, err = load(text, "@" .. file, "t")
    if not chunk then
        return nil, err
    end
    local ok, turns = pcall(chunk)
    if not ok then
        return nil, tostring(turns)
    end
    return turns
end

--- load(file) -> script | nil, err. Read once in a process; exit 66 when there is no such file, 65 when
-- it is wrong.
function M.load(file)
    if file == "" then
        return wrong(64, "script: needs a file behind the colon: script:turns.json")
    elseif loaded[file] then
        return loaded[file]
    end
    local handle, why = io.open(file, "rb")
    local text = handle and handle:read("a")
    if handle then
        handle:close()
    end
    if not text then
        return wrong(66, "the script of the model cannot be read: %s", why or (file .. " is no file"))
    end
    local turns, err = parse(file, text)
    err = err or list_fault(turns)
    if err then
        return wrong(65, "the script %s: %s", file, err)
    end
    loaded[file] = { file = file, turns = turns, used = 0 }
    return loaded[file]
end

--- unused() -> list of { file =, used =, total = }: scripts of which no conversation came to the end.
-- Functions have no end.
function M.unused()
    local list = {}
    for file, script in pairs(loaded) do
        if type(script.turns) == "table" and script.used < #script.turns then
            list[#list + 1] = { file = file, used = script.used, total = #script.turns }
        end
    end
    table.sort(list, function(a, b)
        return a.file < b.file
    end)
    return list
end

-- ---- what a request says ----

local function tool_names(view)
    local names = {}
    for i, tool in ipairs(view.tools or {}) do
        names[i] = tool.name
    end
    return names
end

local function outputs_of(conv)
    local outputs = {}
    for i = #conv.entries, 1, -1 do
        local entry = conv.entries[i]
        if entry.type == "answer" then
            break
        elseif entry.type == "outcomes" then
            for _, item in ipairs(entry.items) do
                outputs[#outputs + 1] = item.output or ""
            end
        end
    end
    return outputs
end

local function last_user(conv)
    for i = #conv.entries, 1, -1 do
        if conv.entries[i].type == "user" then
            return conv.entries[i]
        end
    end
    return { text = "" }
end

local function last_text(conv)
    return last_user(conv).text
end

local function says(conv, view, text)
    if view.system and view.system:find(text, 1, true) then
        return true
    end
    for _, entry in ipairs(conv.entries) do
        if entry.text and entry.text:find(text, 1, true) then
            return true
        end
        for _, item in ipairs(entry.items or {}) do
            for _, field in ipairs { "text", "args", "output" } do
                if item[field] and item[field]:find(text, 1, true) then
                    return true
                end
            end
        end
    end
    return false
end

local function as_list(value)
    return type(value) == "table" and value or { value }
end

local function shown(value)
    return json.encode(value, { lossy = true }) or tostring(value)
end

local function tools_unmet(wanted, view)
    local names, sorted = tool_names(view), table.move(wanted, 1, #wanted, 1, {})
    table.sort(names)
    table.sort(sorted)
    if table.concat(names, "\0") ~= table.concat(sorted, "\0") then
        return ("expected the tools %s, found %s"):format(shown(json.array(sorted)), shown(json.array(names)))
    end
    return nil
end

local function outputs_unmet(expect, conv)
    local outputs = outputs_of(conv)
    if expect.outputs and #outputs ~= expect.outputs then
        return ("expected %d outputs, found %d"):format(expect.outputs, #outputs)
    end
    local wanted = expect.outputs_contain
    if wanted and #wanted ~= #outputs then
        return ("expected %d outputs, found %d"):format(#wanted, #outputs)
    end
    for i, text in ipairs(wanted or {}) do
        if not outputs[i]:find(text, 1, true) then
            return ("expected output %d to contain %s, found %s"):format(i, shown(text), shown(outputs[i]:sub(1, 200)))
        end
    end
    return nil
end

local function parts_unmet(wanted, conv)
    local found = {}
    for _, part in ipairs(last_user(conv).parts or {}) do
        if part.type ~= "text" then
            found[#found + 1] = part.mime or part.url
        end
    end
    if table.concat(wanted, "\0") ~= table.concat(found, "\0") then
        return ("expected the parts %s, found %s"):format(shown(json.array(wanted)), shown(json.array(found)))
    end
    return nil
end

-- The first expectation that the request does not meet, or nil.
local function unmet(expect, conv, view)
    for _, text in ipairs(as_list(expect.contains)) do
        if not says(conv, view, text) then
            return ("expected %s somewhere in the request; the user's last words are %s"):format(shown(text),
                shown(last_text(conv):sub(1, 200)))
        end
    end
    for _, text in ipairs(as_list(expect.lacks)) do
        if says(conv, view, text) then
            return ("expected no %s in the request"):format(shown(text))
        end
    end
    if expect.agent and expect.agent ~= view.agent then
        return ("expected the agent '%s', found '%s'"):format(expect.agent, tostring(view.agent))
    elseif expect.tool_choice and shown(expect.tool_choice) ~= shown(view.tool_choice) then
        return ("expected tool_choice %s, found %s"):format(shown(expect.tool_choice), shown(view.tool_choice))
    end
    return outputs_unmet(expect, conv) or expect.tools and tools_unmet(expect.tools, view)
        or expect.parts and parts_unmet(expect.parts, conv)
end

-- ---- answering ----

local function calls_into(items, turn, conv)
    local namer = history.namer(conv)
    for i, call in ipairs(turn.calls or {}) do
        local args = call.args_text or json.encode(call.args or {}, { lossy = true })
        local item = { type = "call", id = history.new_id(namer, call.id, i), name = call.name, args = args }
        if turn.stop == "length" and args ~= "" and not json.decode(args) then
            item.complete = false
        end
        items[#items + 1] = item
    end
end

local function make_answer(turn, conv, target)
    local items = {}
    if turn.reasoning then
        items[#items + 1] = { type = "reasoning", text = turn.reasoning }
    end
    if turn.text then
        items[#items + 1] = { type = turn.stop == "refusal" and "refusal" or "text", text = turn.text }
    end
    calls_into(items, turn, conv)
    local usage = { input = 0, output = 0, cached = 0, reasoning = 0 }
    for name, count in pairs(turn.usage or {}) do
        usage[name] = history.count(count)
    end
    usage.total = usage.total or usage.input + usage.output
    return {
        type = "answer",
        provider = M.name,
        model = target.model,
        items = items,
        usage = usage,
        stop = turn.stop or (turn.calls and #turn.calls > 0) and "calls" or "end",
    }
end

-- The turn of this request, or nil, err.
local function next_turn(script, conv, view)
    conv.scratch = conv.scratch or {}
    local places = conv.scratch.script or {}
    conv.scratch.script = places
    local n = (places[script.file] or 0) + 1
    places[script.file] = n
    script.used = math.max(script.used, n)
    if type(script.turns) == "table" then
        local turn = script.turns[n]
        if not turn then
            return wrong(65, "the script %s has %d turns, and this is request %d of the conversation (agent '%s', "
                .. "the user's last words are %s): add a turn, or see why it was asked again", script.file,
                #script.turns, n, tostring(view.agent), shown(last_text(conv):sub(1, 200)))
        end
        return turn, n
    end
    local ok, turn = pcall(script.turns, n, { text = last_text(conv), outputs = outputs_of(conv), agent = view.agent,
        tools = tool_names(view), tool_choice = view.tool_choice })
    if not ok then
        return wrong(65, "the script %s fails at turn %d: %s", script.file, n, tostring(turn))
    elseif turn == nil then
        return wrong(65, "the script %s has no turn %d", script.file, n)
    end
    local why = turn_fault(n, turn)
    if why then
        return wrong(65, "the script %s: %s", script.file, why)
    end
    return turn, n
end

--- answer(conv, view, target) -> answer | nil, err
function M.answer(conv, view, target)
    local script = target.script
    local turn, n = next_turn(script, conv, view)
    if not turn then
        return nil, n
    end
    local why = turn.expect and unmet(turn.expect, conv, view)
    if why then
        return wrong(65, "the script %s, turn %d: %s", script.file, n, why)
    end
    if turn.delay then
        timer.sleep(math.max(turn.delay, 0))
    end
    if turn.error then
        local e = turn.error
        return nil, fault.new { code = e.code or "overloaded", exit = e.exit and math.tointeger(e.exit),
            retry = e.retry or false, after = e.after,
            message = ("script: %s"):format(e.message or ("turn %d fails as it is written"):format(n)) }
    end
    return make_answer(turn, conv, target)
end

return M
