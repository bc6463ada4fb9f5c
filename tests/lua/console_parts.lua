-- What the console works with: its history, the tools and agents of a session, the reference.
local evaluate = require "lash.console.evaluate"
local fs = require "lash.fs"
local history = require "lash.console.history"
local lash = require "lash"
local reference = require "lash.reference"
local t = require "t"
local workspace = require "lash.console.workspace"

local function opened()
    local list = {}
    return history.open(function(entry)
        list[#list + 1] = entry
    end), list
end

t.case("console: the history keeps whole entries, none twice in a row, for its owner only", function()
    local h, list = opened()
    t.equal(#list, 0)
    local entries = { "one", "two\nlines \\n and a \\ backslash", "\\\\", "日本", "two\nlines", "one" }
    for _, entry in ipairs(entries) do
        h:remember(entry)
        h:remember(entry)
    end
    h:remember " secret"
    h:remember ""
    h:remember "\n"
    t.equal(list, entries)
    local _, again = opened()
    t.equal(again, entries)
    t.equal(assert(fs.stat(history.path())).mode, "600")
end)

t.case("console: a history that is damaged or too long is read all the same", function()
    fs.mkdir(history.path():match "^(.*)/", { parents = true })
    assert(fs.write(history.path(), "a\n\n\nb\\\n\0\xff\nno end"))
    local _, list = opened()
    t.equal(list[1], "a")
    t.equal(list[#list], "no end")
    local lines = {}
    for i = 1, 2 * history.MAX + 10 do
        lines[i] = "entry " .. i
    end
    assert(fs.write(history.path(), table.concat(lines, "\n") .. "\n"))
    _, list = opened()
    t.equal(#list, history.MAX)
    t.equal(list[#list], "entry " .. 2 * history.MAX + 10)
    t.equal(select(2, assert(fs.read(history.path())):gsub("\n", "")), history.MAX)
end)

local function tool_named(name)
    return lash.tool { name = name, async = function() end }
end

local function tool_names(ws)
    local names = {}
    for i, one in ipairs(ws:tools()) do
        names[i] = one.name
    end
    return table.concat(names, " ")
end

t.case("console: tools that entries leave are the agent's, until they are taken away", function()
    local session = evaluate.new()
    local ws = workspace.new(session)
    session.locals:compile("local a = ...", "=lua")()
    _G.console_tool = tool_named "global_one"
    ws:notice(tool_named "result")
    t.equal(tool_names(ws), "global_one result")
    tools.result = nil
    ws:notice(nil)
    t.equal(tool_names(ws), "global_one")
    t.equal(ws:agent().by_name.global_one, console_tool)
    t.equal(ws:find_tool("global_one"), console_tool)
    t.has(select(2, ws:find_tool "global_on"), "did you mean 'global_one'?")
    _G.console_tool, _G.tools = nil, nil
end)

t.case("console: a file that is loaded again replaces what it declared", function()
    local path = t.file([[
        local lash = require "lash"
        local one = lash.tool { name = "one", async = function() end }
        return lash.agent { name = "first", tools = { one } }, one]], ".lua")
    local ws = workspace.new(evaluate.new())
    ws:load(path)
    t.equal(ws.chosen.name, "first")
    t.equal(tool_names(ws), "one")
    t.equal(assert(fs.write(path, [[
        local lash = require "lash"
        return lash.agent { name = "second" }, lash.tool { name = "two", async = function() end }]])), true)
    ws:load(path)
    t.equal(ws.chosen.name, "second")
    t.equal(tool_names(ws), "two")
    t.raises("cannot read", ws.load, ws, t.path ".lua")
    assert(fs.write(path, "return ="))
    t.raises("unexpected symbol", ws.load, ws, path)
    t.equal(tool_names(ws), "two")
    _G.tools = nil
end)

-- Of older versions of Lua, which a build may keep.
local OLD = { ["math.pow"] = true, ["math.tanh"] = true, ["math.frexp"] = true, ["math.log10"] = true,
    ["math.sinh"] = true, ["math.atan2"] = true, ["math.cosh"] = true, ["math.ldexp"] = true,
    ["debug.setcstacklimit"] = true }

t.case("console: the reference knows every function of lash and of Lua", function()
    for name, value in pairs(_G) do
        if type(value) == "function" and name ~= "t" then
            t.ok(reference.find(name), name)
        elseif type(value) == "table" and package.loaded[name] == value and name ~= "_G" and name ~= "lash" then
            for key, field in pairs(value) do
                if type(field) == "function" then
                    local full = name .. "." .. key
                    t.ok(OLD[full] or reference.find(full), full)
                end
            end
        end
    end
    for _, entry in ipairs(reference.all()) do
        t.ok(#entry.signature > 0 and not entry.signature:find "\n", entry.name)
        t.ok(entry.text:find "%S" or entry.signature:find "[>(]", entry.name .. " says nothing")
    end
    local entry, err = reference.find "lash.fs.raed"
    t.equal(entry, nil)
    t.has(err, "lash.fs.read")
    t.has(reference.text(assert(reference.find "lash.fs.tempfile")), "lash.fs.tempfile([options])")
end)

return t.main(...)
