--- lash call FILE [TOOL] [--arg VALUE ... | JSON | -]: one tool by hand, as a model's call would run it;
-- or the text of a prompt.
local declared = require "lash.declared"
local dispatch = require "lash.dispatch"
local engine = require "lash.core.engine"
local failure = require "lash.failure"
local input = require "lash.cmd.input"
local json = require "lash.json"
local output = require "lash.cmd.output"
local script = require "lash.script"
local settings = require "lash.cmd.settings"
local system = require "lash.core.system"

local M = {}

local USAGE, DATA = 64, 65

-- Statuses of an outcome as exit statuses.
local EXITS = { ok = 0, error = 1, timeout = 124, denied = 77 }

local function only_entry(all, path)
    local entries = {}
    for _, kind in ipairs { "tools", "prompts" } do
        table.move(all[kind], 1, #all[kind], #entries + 1, entries)
    end
    if #all.tools == 1 then
        return all.tools[1]
    elseif #entries == 1 then
        return entries[1]
    end
    local names = {}
    for i, entry in ipairs(entries) do
        names[i] = entry.name
    end
    if #names == 0 then
        failure.raise(USAGE, "%s has no tools and no prompts", path)
    end
    failure.raise(USAGE, "%s has %d tools and prompts, say which: %s", path, #names, table.concat(names, ", "))
end

local function is_name(word)
    return word ~= nil and not word:find("^%-") and not word:find("^%s*[{%[]")
end

-- Which entry is meant, and the words that are its arguments.
local function choose(all, path, words)
    if not is_name(words[1]) then
        return only_entry(all, path), words
    end
    local entry, err = declared.find(all, words[1])
    if not entry then
        failure.raise(USAGE, "%s: %s", path, err)
    elseif entry.kind == "agent" then
        failure.raise(USAGE, "'%s' is an agent: ask it with `lash ask -t %s PROMPT`", entry.name, path)
    end
    return entry, table.move(words, 2, #words, 1, {})
end

local function help_of(entry)
    local lines = { ("%s (%s) %s"):format(entry.name, entry.value.mark, entry.value.description) }
    if entry.kind == "tool" then
        for _, p in ipairs(require("lash.cmd.tools").parameters(entry.value)) do
            lines[#lines + 1] = ("  --%s %s%s  %s"):format(p.name, p.type:upper(), p.required and "" or " (optional)",
                p.description)
        end
    end
    output.answer(table.concat(lines, "\n"))
    return 0
end

local function json_arguments(words, ends)
    if #words > 1 then
        failure.raise(USAGE, "arguments are either one JSON text or --NAME VALUE pairs; what is '%s'?", words[2])
    elseif words[1] ~= "-" then
        return words[1]
    end
    return require("lash.text").trim(input.read_stdin(ends))
end

local function arguments(entry, words, ends)
    if words[1] == "-" or (words[1] and words[1]:find("^%s*[{%[]")) then
        return json_arguments(words, ends)
    end
    return require("lash.arguments").parse(entry.value.schema, words, entry.name)
end

-- What people see while the call runs: how far it is, and that it is tried again.
local function live(color)
    local show
    return function(event)
        if event.type == "retry" or event.type == "call.progress" then
            show = show or require("lash.cmd.live").listener(color) or function() end
            show(event)
        end
    end
end

local function print_event(event, format)
    if format == "jsonl" then
        output.write(assert(json.encode(event, { lossy = true })) .. "\n")
    end
end

local function run_tool(entry, args, format, color)
    local tool = entry.value
    local show = live(color)
    local started = engine.hrtime()
    local problem
    local outcomes, whole, cancel = dispatch.run({ { type = "call", id = "call_1", name = tool.name, args = args } }, {
        tools = { [tool.name] = tool },
        agent = "call",
        cap = 1,
        key = ("%d-%x/"):format(system.getpid(), started),
        turn = 1,
        emit = function(kind, fields)
            fields.type, fields.t = kind, (engine.hrtime() - started) // 1000000
            show(fields)
            local ok, err = pcall(print_event, fields, format)
            problem = problem or (not ok and err or nil)
        end,
        on_traceback = system.verbosity() >= 2 and function(_, _, traceback)
            system.write(2, traceback:gsub("^%s*", "") .. "\n")
        end or nil,
    })
    if problem then
        error(problem, 0)
    end
    local outcome = outcomes[1]
    if not whole and engine.cancel_reason(cancel) == "deadline" then -- the whole command's, --timeout
        outcome.status, outcome.output = "timeout", "the time limit (--timeout) is over"
    end
    return outcome
end

local function finish(outcome, opts, format)
    local exit = outcome.status == "cancelled" and failure.cancelled_exit() or EXITS[outcome.status] or 1
    if format == "json" then
        output.write(assert(json.encode({
            name = outcome.name, status = outcome.status, ok = exit == 0, exit = exit, ms = outcome.ms,
            output = outcome.output,
        }, { lossy = true })) .. "\n")
    elseif exit == 0 and format == "text" then
        output.answer(outcome.output, opts.raw)
    end
    if exit == 0 then
        output.save(opts.out, outcome.output)
    elseif format == "text" or system.verbosity() >= 2 then
        script.say(("tool '%s'%s: %s"):format(outcome.name, outcome.status == "error" and " failed" or "",
            outcome.output))
    end
    return exit
end

local function call_tool(entry, words, parsed, format, ends)
    local args = arguments(entry, words, ends)
    local found, err = dispatch.classify({ name = entry.name, args = args }, { [entry.name] = entry.value })
    if not found then
        failure.raise(DATA, "%s (`lash call %s %s --help` lists them)", err, parsed.file, entry.name)
    end
    return finish(run_tool(entry, args, format, parsed.options.color), parsed.options, format)
end

local function render_prompt(entry, words, opts, format)
    if #words > 0 then
        failure.raise(USAGE, "'%s' is a prompt and takes no arguments; what is '%s'?", entry.name, words[1])
    end
    local text, err = require("lash.prompt").text(entry.value, { agent = "call" })
    if not text then
        failure.raise(script.EXIT.lua, "%s", err)
    elseif format == "text" then
        output.answer(text, opts.raw)
    else
        output.write(assert(json.encode({ name = entry.name, ok = true, exit = 0, output = text },
            { lossy = true })) .. "\n")
    end
    output.save(opts.out, text)
    return 0
end

local function body(parsed, format, limit, ends)
    local path = parsed.file
    local load_limit = limit > 0 and math.min(limit, script.LOAD_LIMIT) or nil
    local all = declared.all(declared.load(path, load_limit))
    script.last_resort(limit, ("the time limit of %g s (--timeout) is over, while the call held the main thread")
        :format(limit))
    local entry, words = choose(all, path, parsed.words)
    local properties = entry.kind == "tool" and type(entry.value.schema) == "table" and entry.value.schema.properties
    local has_help = type(properties) == "table" and properties.help ~= nil
    if words[1] == "-h" or (words[1] == "--help" and not has_help) then
        return help_of(entry)
    elseif entry.kind == "prompt" then
        return render_prompt(entry, words, parsed.options, format)
    end
    return call_tool(entry, words, parsed, format, ends)
end

--- @return exit status
function M.run(parsed)
    local opts = parsed.options
    local format = settings.format(opts)
    if not parsed.file then
        failure.raise(USAGE, "lash call needs a file: lash call FILE [TOOL] [--ARG VALUE...]")
    end
    settings.apply(opts)
    output.check_out(opts.out)
    system.reserve_stdout()
    local limit = settings.timeout(opts)
    local ends = limit > 0 and engine.hrtime() + math.floor(limit * 1e9) or nil
    local status = script.bounded(limit, nil, body, parsed, format, limit, ends)
    script.last_resort(nil)
    return status
end

return M
