--- lash FILE [ARG...], -e CODE, -l MOD, -i: scripts, as a stand-alone Lua runs them.
local failure = require "lash.failure"
local lash = require "lash"
local script = require "lash.script"
local settings = require "lash.cmd.settings"
local system = require "lash.core.system"

local M = {}

-- As in stand-alone Lua: arg[0] is the script, what stood before it has negative indices.
local function arguments(parsed)
    local arg = {}
    local at = parsed.at or 0
    for i = 0, #parsed.argv do
        arg[i - at] = parsed.argv[i]
    end
    return arg
end

local function compile(code)
    local chunk, err = load(code, "=(command line)", "t")
    if not chunk then
        failure.raise(script.EXIT.data, "%s", err)
    end
    return chunk
end

-- -l MOD and -l NAME=MOD
local function load_module(text)
    local name, module = text:match("^([%a_][%w_]*)=(.+)$")
    _G[name or text] = require(module or text)
end

-- The pieces of code to run, in order: { fn, arguments... }
local function pieces(parsed)
    local list = {}
    for _, before in ipairs(parsed.before) do
        if before.kind == "eval" then
            list[#list + 1] = { compile(before.text) }
        else
            list[#list + 1] = { load_module, before.text }
        end
    end
    if parsed.file then
        local chunk = script.load(parsed.file)
        if parsed.file ~= "-" then
            script.add_path(parsed.file)
        end
        list[#list + 1] = { chunk, table.unpack(parsed.words) }
    elseif #parsed.before == 0 and not parsed.options.interactive then
        list[#list + 1] = { script.load("-") }
    end
    return list
end

-- @return the problem, or nil and what the last one returned
local function run_all(list)
    local results
    for _, piece in ipairs(list) do
        results = table.pack(script.protected(table.unpack(piece)))
        if not results[1] then
            return results[2]
        end
    end
    return nil, results
end

-- What the file that was run has declared, for the console behind it.
local function declared_by(results)
    local found = results and results.n > 1
        and require("lash.declared").of({ table.unpack(results, 2, results.n) }, results.n - 1)
    return found or nil
end

-- `lash FILE -i`: what stands behind FILE is the script's own; but one that returns an agent or tools has no use
-- for a lone -i.
local function wants_console(parsed, results)
    local words = parsed.words
    return parsed.options.interactive
        or parsed.file and #words == 1 and words[1] == "-i" and declared_by(results) ~= nil
end

--- @return exit status
function M.run(parsed)
    local opts = parsed.options
    if parsed.command and not parsed.file and #parsed.before == 0 and not opts.interactive then
        failure.raise(64, "lash run needs a file: lash run FILE [ARG...]")
    end
    settings.apply(opts)
    if system.verbosity() >= 2 then
        require("lash.cmd.live").listen(opts.color)
    end
    script.prepare()
    lash.main = true
    _G.arg = arguments(parsed)
    if opts.interactive then
        require("lash.console.read").open() -- workers that the file starts write above the line, too
    end
    local timeout = settings.timeout(opts)
    local list = pieces(parsed)
    script.last_resort(timeout, ("the time limit of %g s (--timeout) is over, while the script held the main thread")
        :format(timeout))
    local problem, results = script.bounded(timeout, nil, run_all, list)
    script.last_resort(nil)
    local fault = not problem and settings.script_fault()
    if problem then
        return script.report(problem, parsed.file)
    elseif fault then
        script.say(fault)
        return script.EXIT.data
    elseif wants_console(parsed, results) then
        return require("lash.console").loop(opts.color, parsed.file and declared_by(results), parsed.file)
    end
    return 0
end

return M
