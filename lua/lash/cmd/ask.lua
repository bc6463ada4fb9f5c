--- lash ask: one agent run. The prompt comes from the arguments or stdin, the tools from -t; stdout
-- carries the answer alone, as text, as one JSON object or as the stream of events. Material of -f and stdin
-- stands in front of the prompt, see lash.cmd.material.
local answers = require "lash.cmd.answer"
local engine = require "lash.core.engine"
local failure = require "lash.failure"
local input = require "lash.cmd.input"
local json = require "lash.json"
local live = require "lash.cmd.live"
local material = require "lash.cmd.material"
local output = require "lash.cmd.output"
local screens = require "lash.cmd.screen"
local script = require "lash.script"
local settings = require "lash.cmd.settings"
local system = require "lash.core.system"

local M = {}

local USAGE, DATA, BUG = 64, 65, 70

-- ---- the message ----

local function prompt_words(parsed)
    local words = table.move(parsed.options.prompt or {}, 1, #(parsed.options.prompt or {}), 1, {})
    table.move(parsed.words, 1, #parsed.words, #words + 1, words)
    return table.concat(words, " ")
end

--- The user's message: a text, or a list of texts and parts. Raises a failure when there is none, or material
-- cannot be read.
-- @param ends when the time is over, as engine.hrtime(), or nil
function M.message(parsed, ends)
    local words = input.check_text(prompt_words(parsed), "the prompt")
    local list, named = {}, false
    for _, path in ipairs(parsed.options.file or {}) do
        if path == "-" and named then
            failure.raise(USAGE, "-f - stands twice, and stdin can be read once; a file of that name is ./-")
        elseif path == "-" then
            named = true
            list[#list + 1] = material.stdin(input.read_stdin(ends))
        else
            list[#list + 1] = material.file(path, input.read_file(path))
        end
    end
    local has_words = words:find("%S") ~= nil
    if not named and input.has_stdin() then
        local bytes = input.read_stdin(ends)
        if not has_words and bytes:find("%S") and not input.material(bytes, "stdin") then
            failure.raise(USAGE, "stdin is an image or a document, and there is no prompt: write `lash ask PROMPT`")
        elseif not has_words and bytes:find("%S") then
            words, has_words = bytes, true
        elseif bytes ~= "" then
            list[#list + 1] = material.stdin(bytes)
        end
    end
    if not has_words then
        failure.raise(USAGE, "there is no prompt: write `lash ask PROMPT`, or give it on stdin")
    end
    list[#list + 1] = words
    return material.message(list)
end

-- ---- the agent ----

local function system_text(option)
    if option and option:sub(1, 1) == "@" then
        local path = option:sub(2)
        return input.check_text(input.read_file(path), path)
    end
    return option and input.check_text(option, "the text of -s")
end

-- The schema of --schema, as `output` of an agent.
local function schema_of(path)
    if not path then
        return nil
    end
    local text = input.check_text(input.read_file(path), "--schema " .. path)
    local schema, err = json.decode(text)
    if err then
        failure.raise(DATA, "--schema %s is no JSON: %s", path, (err.message:gsub("^JSON: ", "")))
    end
    local made
    made, err = require("lash.structured").of_schema(schema)
    if not made then
        failure.raise(DATA, "--schema %s: %s", path, err)
    end
    return made
end

-- All that the -t files return at their top level.
local function load_tools(paths, limit)
    local declared = require "lash.declared"
    local all = { tools = {}, agents = {} }
    for _, path in ipairs(paths) do
        local found = declared.load(path, limit)
        for kind, list in pairs(all) do
            table.move(found[kind], 1, #found[kind], #list + 1, list)
        end
    end
    return all
end

local function the_agent(agents)
    if #agents > 1 then
        local names = {}
        for i, entry in ipairs(agents) do
            names[i] = entry.name
        end
        failure.raise(USAGE, "there are several agents (%s), and ask talks to one: let the -t files return only "
            .. "that one; it reaches the others by its handoffs", table.concat(names, ", "))
    end
    return agents[1] and agents[1].value
end

local function extra_tools(tools, agent)
    local list = {}
    for _, entry in ipairs(tools) do
        if not agent or agent.by_name[entry.name] ~= entry.value then
            list[#list + 1] = entry.value
        end
    end
    return list
end

--- The agent to ask: the one that a -t file returns, with the tools of the other files, or a plain one
-- with the tools of all. -s replaces its instructions, --schema its output.
function M.agent(opts, limit)
    local found = load_tools(opts.tools or {}, limit)
    local base = the_agent(found.agents)
    local tools = extra_tools(found.tools, base)
    local instructions = system_text(opts.system)
    local bound = schema_of(opts.schema)
    local agents = require "lash.agent"
    if base and #tools == 0 and not instructions and not bound then
        return base
    end
    local spec = { name = "lash", instructions = instructions, tools = tools, output = bound }
    if base then
        spec = agents.spec(base)
        spec.instructions = instructions or spec.instructions
        spec.output = bound or spec.output
        spec.tools = table.move(tools, 1, #tools, #spec.tools + 1, spec.tools)
    end
    local ok, agent = pcall(agents.new, spec)
    if not ok then
        failure.raise(DATA, "%s", tostring(agent))
    end
    return agent
end

-- ---- the result ----

local REASONS = {
    empty = "the answer is empty",
    turns = "the limit of turns is reached (--max-turns)",
    handoff_limit = "the limit of handoffs is reached",
    requests = "the limit of model requests is reached",
    tool_calls = "the limit of tool calls is reached",
    tokens = "the limit of tokens is reached (--max-tokens)",
    length = "the model's answer was cut off by its limit of length",
    filter = "the provider's filter stopped the answer",
    refused = "the model refused to answer",
    time = "the time limit (--timeout) is over",
    cancelled = "the run was cancelled",
}

-- The end of a run as one table: text, json and jsonl all tell the same status.
local function ending_of(result)
    local err = result.error
    return {
        ok = result.ok, exit = result.exit, reason = result.reason, text = result.text, value = result.value,
        usage = result.usage, turns = result.turns, calls = json.array(result.calls), agent = result.agent,
        model = result.model,
        error = err and err.message or REASONS[result.reason],
    }
end

-- An end before anything ran.
local function ending_of_failure(err)
    if engine.cancel_reason(err) then
        return { ok = false, exit = failure.cancelled_exit(), reason = "cancelled", text = "", turns = 0,
            error = REASONS.cancelled, early = true }
    elseif not failure.is(err) then
        local bug = ("bug: %s%s"):format(tostring(err.bug or err), system.verbosity() >= 2 and err.place or "")
        return { ok = false, exit = BUG, reason = "error", text = "", turns = 0, error = bug, early = true }
    end
    local reason = err.exit == script.EXIT.time and "time" or "error"
    return { ok = false, exit = err.exit, reason = reason, text = "", turns = 0, error = err.message, early = true }
end

local function print_line(fields)
    output.write(assert(json.encode(fields, { lossy = true })) .. "\n")
end

-- @param shown { answer =, screen = } of a run that prints while it goes on, else empty
local function tell(ending, format, opts, shown)
    if shown.answer then
        shown.answer:finish(ending.text)
    elseif format == "text" then
        output.answer(ending.text, opts.raw)
    elseif format == "json" then
        ending.early = nil
        ending.usage, ending.calls = ending.usage or {}, ending.calls or json.array {}
        print_line(ending)
    elseif ending.early then -- a run has told its end itself
        print_line { type = "run.end", t = 0, agent = "lash", ok = false, exit = ending.exit, reason = ending.reason,
            text = "", usage = {}, turns = 0, error = ending.error }
    end
    if shown.screen then
        shown.screen:end_line(2)
    end
    if ending.ok then
        output.save(opts.out, ending.text)
    elseif ending.error then
        script.say(ending.error)
    end
    return ending.exit
end

-- ---- the run ----

-- Calls fn(event), which writes to stdout. When that fails nobody can be told anything more.
local function printing(fn, event)
    local ok, err = pcall(fn, event)
    if not ok then
        script.say(type(err) == "table" and err.message or tostring(err))
        system.exit(type(err) == "table" and err.exit or BUG)
    end
end

local function listeners(format, opts, shown)
    local show = live.listener(opts.color, false, shown.screen)
    local function print_answer(event)
        shown.answer:event(event)
    end
    return function(event)
        if event.type == "run.end" and event.ok then
            local fault = settings.script_fault()
            if fault then
                event.ok, event.exit, event.reason, event.error = false, DATA, "error", fault
            end
        end
        if format == "jsonl" then
            printing(print_line, event)
        elseif shown.answer then
            printing(print_answer, event)
        end
        if show then
            show(event)
        end
    end
end

-- Whether anything is made of an answer while it comes. If not, one that broke off can be asked for again.
local function wants_deltas(format, shown)
    return format == "jsonl" or format == "text" and (shown.answer:may_want() or live.shows_reasoning())
end

local function remaining(ends)
    return ends and math.max(0.001, (ends - engine.hrtime()) / 1e9)
end

local function run(parsed, format, ends, shown)
    local opts = parsed.options
    settings.apply(opts, format)
    output.check_out(opts.out)
    local message = M.message(parsed, ends)
    local left = remaining(ends)
    local agent = M.agent(opts, left and math.min(left, script.LOAD_LIMIT))
    script.prepare()
    script.last_resort(left, "the time limit (--timeout) is over, while a tool held the main thread")
    local conv = require("lash.conversation").new(agent)
    shown.screen = screens.new(output.write)
    shown.answer = format == "text" and answers.new {
        screen = shown.screen,
        raw = opts.raw,
        agent = function()
            return conv.agent
        end,
    } or nil
    local result = require("lash.run").send(conv, message, {
        on_event = not opts["dry-run"] and listeners(format, opts, shown) or nil,
        deltas = wants_deltas(format, shown),
        limits = ends and { time = remaining(ends) } or nil,
        no_raise = true,
    })
    script.last_resort(nil)
    local fault = result.ok and settings.script_fault()
    local ending = ending_of(result)
    if fault then
        ending.ok, ending.exit, ending.reason, ending.error = false, DATA, "error", fault
    end
    return ending
end

--- @return exit status
function M.run(parsed)
    local format = settings.format(parsed.options)
    local limit = settings.timeout(parsed.options)
    local ends = limit > 0 and engine.hrtime() + math.floor(limit * 1e9) or nil
    system.reserve_stdout()
    local shown = {}
    local ok, ending = xpcall(run, function(err)
        return (failure.is(err) or engine.cancel_reason(err)) and err or { bug = err, place = debug.traceback("", 2) }
    end, parsed, format, ends, shown)
    if not ok then
        ending = ending_of_failure(ending)
    end
    return tell(ending, format, parsed.options, shown)
end

return M
