--- The command line: which words are options, of which command, and what their values mean.
--
-- Options stand before or after the command and before FILE; all that follows the FILE of `run` and
-- `call` belongs to the script or to the tool. An unknown word is an error that names the nearest.
local failure = require "lash.failure"

local M = {}

local USAGE = 64

--- The commands, and what they do, in the order in which help lists them.
M.COMMANDS = {
    { "run", "[OPTION...] FILE [ARG...]", "run a script; `lash FILE` is short for it" },
    { "ask", "[OPTION...] PROMPT...", "one agent run: prompt, tools, answer; -p PROMPT is short for it" },
    { "call", "FILE [TOOL] [--ARG VALUE...]", "run one tool by hand, without a model" },
    { "tools", "FILE...", "list the tools, prompts and agents of a file" },
    { "check", "FILE...", "find faults without running any tool" },
    { "models", "[PROVIDER[/PREFIX]...]", "list the models that the keys at hand can use" },
    { "doctor", "[OPTION...]", "what is there: keys, addresses, whether they answer, the default model" },
    { "new", "NAME", "write an example script to begin with" },
    { "help", "[TOPIC]", "the manual" },
    { "version", "", "print the version" },
}

-- Words that mean something in other versions.
local LATER = { test = true, log = true, replay = true, serve = true, completions = true, trust = true }

local function is_command(word)
    for _, command in ipairs(M.COMMANDS) do
        if command[1] == word then
            return true
        end
    end
    return false
end

local function number_of(text)
    return text:find("^%d+$") and math.tointeger(tonumber(text))
end

local function whole(text, flag)
    local n = number_of(text)
    if not n then
        failure.raise(USAGE, "%s takes a whole number, 0 for no limit; got '%s'", flag, text)
    end
    return n
end

local UNITS = { ms = 0.001, s = 1, m = 60, h = 3600 }

--- A duration such as 250ms, 90s, 5m or 1h in seconds; "0" is 0.
-- @param flag what to name in the message when the text is none
function M.duration(text, flag)
    local number, unit = text:match("^(%d+%.?%d*)(%a+)$")
    if number and UNITS[unit] then
        return tonumber(number) * UNITS[unit]
    elseif text:find("^0+$") then
        return 0
    end
    failure.raise(USAGE, "%s takes a duration such as 250ms, 90s or 5m (0 for no limit); got '%s'", flag, text)
end

--- How many workers there may be.
function M.jobs(text, flag)
    local n = number_of(text)
    if not n or n < 1 or n > 1024 then
        failure.raise(USAGE, "%s takes a number of workers between 1 and 1024; got '%s'", flag, text)
    end
    return n
end

--- What a call of a sync tool may use of the memory of its worker, in bytes; 0 = no limit.
function M.memory(text, flag)
    local bytes = require("lash.size").memory(text, "0")
    if not bytes then
        failure.raise(USAGE, "%s takes a size such as 64M or 1G, at least 1M (0 for no limit); got '%s'", flag, text)
    end
    return bytes
end

--- How many milliseconds a task may hold the main loop untold; 0: any number.
function M.watchdog(text, flag)
    local ms = number_of((text:gsub("ms$", "")))
    if not ms or ms > 3600000 then
        failure.raise(USAGE, "%s takes a number of milliseconds, 0 to switch it off; got '%s'", flag, text)
    end
    return ms
end

local function one_of(...)
    local allowed = { ... }
    return function(text, flag)
        for _, word in ipairs(allowed) do
            if word == text then
                return text
            end
        end
        failure.raise(USAGE, "%s takes %s; got '%s'%s", flag, table.concat(allowed, ", "), text,
            require("lash.near").hint(text, allowed))
    end
end

--- The check of --color and LASH_COLOR.
M.color = one_of("auto", "always", "never")

-- long name -> short: its letter; value: what help calls its value, none for a switch; list: it may be
-- repeated; as: checks and converts; of: its commands (nil: all)
local OPTIONS = {
    model = { short = "m", value = "P/NAME", of = "run ask call doctor" },
    tools = { short = "t", value = "FILE", list = true, of = "ask" },
    system = { short = "s", value = "TEXT|@FILE", of = "ask" },
    file = { short = "f", value = "FILE", list = true, of = "ask" },
    output = { short = "o", value = "text|json|jsonl", as = one_of("text", "json", "jsonl"),
        of = "ask call tools check models doctor" },
    json = { of = "ask call tools check models doctor" },
    jsonl = { of = "ask call" },
    schema = { value = "FILE", of = "ask tools" }, -- of tools a switch
    out = { value = "FILE", of = "ask call" },
    ["max-turns"] = { value = "N", as = whole, of = "run ask call" },
    ["max-tokens"] = { value = "N", as = whole, of = "run ask call" },
    timeout = { value = "DUR", as = M.duration, of = "run ask call models doctor" },
    jobs = { value = "N", as = M.jobs, of = "run ask call" },
    memory = { value = "SIZE", as = M.memory, of = "run ask call" },
    ["no-stream"] = { of = "run ask call" },
    raw = { of = "run ask call" },
    color = { value = "auto|always|never", as = M.color },
    quiet = { short = "q" },
    verbose = { short = "v" },
    ["dry-run"] = { of = "run ask" },
    eval = { short = "e", value = "CODE", of = "run" },
    load = { short = "l", value = "MOD", of = "run" },
    interactive = { short = "i", of = "run" },
    prompt = { short = "p", value = "PROMPT", list = true, of = "ask" },
    annotations = { of = "help" },
    help = { short = "h" },
    version = {},
}

local SHORT = {}
for name, option in pairs(OPTIONS) do
    if option.short then
        SHORT[option.short] = name
    end
end

local function belongs(option, command)
    return option.of == nil or (" " .. option.of .. " "):find(" " .. command .. " ", 1, true) ~= nil
end

--- All long names, sorted: for messages and tests.
function M.names()
    local names = {}
    for name in pairs(OPTIONS) do
        names[#names + 1] = name
    end
    table.sort(names)
    return names
end

--- @return true when `name` (long, without dashes) is an option of lash
function M.known(name)
    return OPTIONS[name] ~= nil
end

local function unknown_option(flag)
    local known = {}
    for _, name in ipairs(M.names()) do
        known[#known + 1] = "--" .. name
    end
    for letter in pairs(SHORT) do
        known[#known + 1] = "-" .. letter
    end
    table.sort(known)
    failure.raise(USAGE, "unknown option '%s'%s; `lash help` lists the options, and -- ends them", flag,
        #flag > 2 and require("lash.near").hint(flag, known) or "")
end

-- "-mdemo" -> m, demo; "--model=demo" -> model, demo
local function split(word)
    local name, value = word:match("^%-%-([^=]+)=(.*)$")
    if name then
        return OPTIONS[name] and name, value
    elseif word:sub(1, 2) == "--" then
        name = word:sub(3)
        return OPTIONS[name] and name
    end
    return SHORT[word:sub(2, 2)], #word > 2 and word:sub(3) or nil
end

local function add(parsed, name, flag, value)
    local option = OPTIONS[name]
    if option.as then
        value = option.as(value, flag)
    end
    parsed.given[#parsed.given + 1] = { name = name, flag = flag }
    if name == "eval" or name == "load" then -- run in the order in which they stand
        parsed.before[#parsed.before + 1] = { kind = name, text = value }
    elseif option.list then
        local list = parsed.options[name] or {}
        parsed.options[name] = list
        list[#list + 1] = value
    else
        parsed.options[name] = value
    end
end

-- @return the index of the last word that the option took
local function take_option(parsed, argv, i)
    local word = argv[i]
    local name, value = split(word)
    if not name then
        unknown_option(word:match("^[^=]*"))
    end
    local option = OPTIONS[name]
    local flag = word:sub(1, 2) == "--" and "--" .. name or "-" .. option.short
    local takes = option.value
    if name == "schema" and (parsed.command == "tools" or not parsed.command and argv[i + 1] == "tools") then
        takes = nil -- a switch there
    end
    if not takes then
        if value then
            if flag:sub(1, 2) ~= "--" then
                failure.raise(USAGE, "unknown option '%s': options of one letter stand alone, as in %s", word, flag)
            end
            failure.raise(USAGE, "%s takes no value", flag)
        end
        add(parsed, name, flag, true)
        return i
    end
    if not value then
        i = i + 1
        value = argv[i]
        if not value then
            failure.raise(USAGE, "%s needs a value: %s %s", flag, flag, option.value)
        end
    end
    add(parsed, name, flag, value)
    return i
end

local function is_file(word)
    return word == "-" or word:find("/", 1, true) ~= nil or word:sub(-4) == ".lua"
end

local function unknown_command(word)
    if LATER[word] then
        failure.raise(USAGE, "`lash %s` is not in this version; `lash help` lists the commands", word)
    end
    local file = io.open(word)
    if file then
        file:close()
        failure.raise(USAGE, "unknown command '%s'; to run the file of that name write ./%s", word, word)
    end
    local names = {}
    for _, command in ipairs(M.COMMANDS) do
        names[#names + 1] = command[1]
    end
    failure.raise(USAGE, "unknown command '%s'%s; `lash help` lists them, and `lash ask %s` asks a model", word,
        require("lash.near").hint(word, names), word)
end

-- Which command the word names; a FILE is the command run.
local function command_of(parsed, word, plain)
    if parsed.options.prompt then
        return "ask", true
    elseif plain or is_file(word) then
        return "run", true
    elseif is_command(word) then
        return word, false
    end
    unknown_command(word)
end

local function check_options(parsed, command)
    if command == "tools" and type(parsed.options.schema) == "string" then
        failure.raise(USAGE, "--schema of tools takes no value: write `lash tools --schema FILE...`")
    end
    for _, given in ipairs(parsed.given) do
        local option = OPTIONS[given.name]
        if not belongs(option, command) then
            local more = command == "run" and given.name == "tools" and "; a script names its tools itself" or ""
            failure.raise(USAGE, "%s is an option of %s, not of %s%s", given.flag, (option.of:gsub(" ", ", ")),
                parsed.command or "a script", more)
        end
    end
end

--- Reads the command line.
-- @param argv list of words, argv[0] = the program
-- @return { command = name or nil, options = long name -> value, before = list of { kind, text } for -e
--   and -l, words = what is left, file = FILE of run and call or nil, at = index of FILE in argv }.
--   Raises a failure with status 64.
function M.parse(argv)
    local parsed = { options = {}, before = {}, words = {}, given = {} }
    local plain = false
    local i = 1
    while argv[i] do
        local word = argv[i]
        if not plain and word == "--" then
            plain = true
        elseif not plain and word:find("^%-.") then
            i = take_option(parsed, argv, i)
        else
            local is_word = true
            if not parsed.command then
                parsed.command, is_word = command_of(parsed, word, plain)
            end
            if is_word and (parsed.command == "run" or parsed.command == "call") then
                parsed.file, parsed.at = word, i
                parsed.words = table.move(argv, i + 1, #argv, 1, {})
                break
            elseif is_word then
                parsed.words[#parsed.words + 1] = word
            end
        end
        i = i + 1
    end
    if not parsed.command and parsed.options.prompt then
        parsed.command = "ask"
    elseif not parsed.command and (#parsed.before > 0 or parsed.options.interactive) then
        parsed.command = "run"
    end
    if not parsed.options.help and not parsed.options.version then
        check_options(parsed, parsed.command or "run")
    end
    return parsed
end

return M
