--- `.call`: a tool by hand, as a model's call would run it.
local dispatch = require "lash.dispatch"
local display = require "lash.console.display"
local engine = require "lash.core.engine"
local failure = require "lash.failure"
local json = require "lash.json"
local read = require "lash.console.read"
local system = require "lash.core.system"
local text = require "lash.text"
local words = require "lash.console.words"

local M = {}

local function answer_for(parameter)
    local hint = parameter.description ~= "" and (" (%s)"):format(text.line(parameter.description, 40)) or ""
    local given, taken = read.line(("%s: %s%s%s = "):format(parameter.name, parameter.type,
        parameter.required and "" or "?", hint))
    if not given then
        failure.raise(1, taken and "not called" or "no more input")
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
    for _, parameter in ipairs(require("lash.cmd.tools").parameters(tool)) do
        local given = answer_for(parameter)
        if given ~= "" or (parameter.required and parameter.type == "string") then
            args[parameter.name] = value_of(given, parameter.type)
        end
    end
    return json.encode(args, { lossy = true })
end

local function arguments(tool, given)
    if not given then
        return asked_arguments(tool)
    elseif given:find "^[%[{]" then
        return given
    end
    return require("lash.arguments").parse(tool.schema, words.cut(given), tool.name)
end

local function run(tool, args, view)
    local clock <close> = engine.group(false)
    local ticking = clock:spawn(view.refresh, view)
    local outcomes = dispatch.run({ { type = "call", id = "call_1", name = tool.name, args = args } }, {
        tools = { [tool.name] = tool }, agent = "console", cap = 1, key = "console/", turn = 1,
        emit = function(kind, fields)
            fields.type = kind
            view:take(fields)
        end,
    })
    ticking:cancel()
    return outcomes[1]
end

local closing_mt = {
    __close = function(closing)
        closing.view:finish()
    end,
}

--- call(console, rest): `rest` stands behind `.call`
function M.call(console, rest)
    local name, given = rest:match "^(%S+)%s*(.-)$"
    if not name then
        failure.raise(1, "say which: .call NAME [JSON | --ARG VALUE ...]")
    end
    local tool, err = console.workspace:find_tool(name)
    if not tool then
        failure.raise(1, "%s", err)
    end
    local args = arguments(tool, given ~= "" and given or nil)
    read.quiet()
    local view = display.new(console.session.paint)
    view.whole = true
    local closing <close> = setmetatable({ view = view }, closing_mt)
    local outcome = run(tool, args, view)
    local output = system.isatty(1) and text.plain(outcome.output) or outcome.output
    system.write(1, output .. "\n")
end

return M
