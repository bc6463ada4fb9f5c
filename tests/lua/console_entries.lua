-- The pieces of the console that need no terminal: words of an entry, locals, what is shown, completion.
local complete = require "lash.console.complete"
local evaluate = require "lash.console.evaluate"
local lash = require "lash"
local locals = require "lash.console.locals"
local show = require "lash.console.show"
local t = require "t"
local tokens = require "lash.console.tokens"

local function names(text)
    return table.concat(tokens.outline(text).locals, " ")
end

t.case("console: the locals at the top level of an entry", function()
    t.equal(names "local a, b = 1, 2", "a b")
    t.equal(names "local a <const>, b <close>, c = 1", "a c")
    t.equal(names "local function f(x) local y end", "f")
    t.equal(names "do local a end while x do local b end for i = 1, 2 do local c end", "")
    t.equal(names "repeat local a until a local b", "b")
    t.equal(names "if x then local a elseif y then local b else local c end local d", "d")
    t.equal(names "x = function() local a end local b", "b")
    t.equal(names "local a local a", "a")
    t.equal(names [==[s = [[ local no ]] --[[ local no ]] local a -- local no]==], "a")
    t.equal(names [==[s = "\" local no" .. ' \' local no' local a = [=[ ]] local no ]=]]==], "a")
    t.equal(names "local _ENV = {}", "")
    t.equal(names "goto x ::x:: local a", "a")
    t.equal(names "local a = 0x1p-3 local b = 3e-2 local c = 1 .. 2", "a b c")
end)

t.case("console: where the last return stands", function()
    t.equal(tokens.outline("local a return a").last, 9)
    t.equal(tokens.outline("do return 1 end").last, nil)
    t.equal(tokens.outline("function f() return 1 end").last, nil)
    t.equal(tokens.outline("-- return\nreturn 1").last, 11)
end)

local function run(session, text)
    local fn = assert(session:compile(text, "=lua"))
    return fn()
end

t.case("console: a local is one variable for all closures and entries", function()
    local s = locals.new()
    run(s, "local n = 1 function _G.console_get() return n end")
    run(s, "n = n + 1")
    t.equal(console_get(), 2)
    run(s, "local n = 'other'")
    t.equal(console_get(), 2)
    t.equal(run(s, "return n"), "other")
    t.equal((s:get "n"), "other")
    t.equal(select(2, s:get "nosuch"), false)
    _G.console_get = nil
end)

t.case("console: constants stay constant, closed values go, what failed is not kept", function()
    local s = locals.new()
    run(s, "local k <const>, u <const> = 5, {}")
    t.equal(run(s, "return k"), 5)
    t.equal((select(2, s:compile("k = 1", "=lua"))), "lua:1: attempt to assign to const variable 'k'")
    t.equal(s:compile("u = 1", "=lua"), nil)
    local closed = 0
    _G.console_mt = { __close = function() closed = closed + 1 end }
    run(s, "local c <close> = setmetatable({}, console_mt)")
    t.equal(closed, 1)
    t.equal(select(2, s:get "c"), false)
    t.equal(pcall(run, s, "local lost = 1 error 'x'"), false)
    t.equal(select(2, s:get "lost"), false)
    _G.console_mt = nil
end)

t.case("console: 400 locals of many entries; each can be used", function()
    local s = locals.new()
    for i = 1, 400 do
        run(s, ("local v%d = %d"):format(i, i))
    end
    t.equal(run(s, "return v1 + v200 + v400"), 601)
    run(s, "v1 = 'new'")
    t.equal((s:get "v1"), "new")
    local all = {}
    for i = 1, 400 do
        all[i] = "v" .. i
    end
    local fn, err = s:compile("return " .. table.concat(all, ", "), "=lua")
    t.equal(fn, nil)
    t.ok(err:find("at most", 1, true), err)
end)

t.case("console: what an entry is", function()
    t.equal(evaluate.check "1 + 1", "expression")
    t.equal(evaluate.check "= 1", "expression")
    t.equal(evaluate.check "1;", "expression")
    t.equal(evaluate.check "f(1)", "expression")
    t.equal(evaluate.check "...", "expression")
    t.equal(evaluate.check "x = 1", "chunk")
    t.equal(evaluate.check "", "expression")
    for _, text in ipairs { "x = {", "f(", "function f()", "if x then", "[[ a", "return [==[", "local x =", "--[[ a",
        "x =", "x = 'a\\" } do
        t.equal(evaluate.check(text), "unfinished", text)
    end
    for _, text in ipairs { "x = = 1", "end", "'open", "1 2", "goto nowhere" } do
        t.equal(evaluate.check(text), nil, text)
    end
end)

local function shown(...)
    return show.values(nil, nil, select("#", ...), ...)
end

t.case("console: values are shown bounded, cycles marked, strings harmless", function()
    t.equal(shown(1, 2.0, "a", nil, true), '1\t2.0\t"a"\tnil\ttrue')
    t.equal(shown("a\n\27[2J\0\"\\\xff"), [["a\n\x1B[2J\0\"\\\xFF"]])
    t.equal(shown { 1, { "x" }, k = 2, [true] = 3, ["a b"] = 4, ["end"] = 5 },
        '{ 1, { "x" }, ["a b"] = 4, ["end"] = 5, k = 2, [true] = 3 }')
    local cyclic = { n = 1 }
    cyclic.me = cyclic
    t.equal(shown(cyclic), "{ me = <cycle>, n = 1 }")
    local deep = {}
    local at = deep
    for _ = 1, 100 do
        at.d = {}
        at = at.d
    end
    t.ok(#shown(deep) < 100)
    local long = {}
    for i = 1, 100000 do
        long[i] = i
    end
    local text = shown(long)
    t.ok(#text < 1000 and text:find "more", text)
    t.ok(#shown(("x"):rep(1e6)) < 1200)
    t.ok(shown(("x"):rep(1e6)):find("1000000 bytes", 1, true))
    t.equal(shown(setmetatable({}, { __tostring = function() error "x" end })), "<__tostring fails>")
    local hostile = { __index = error, __pairs = error, __len = error, __eq = error }
    t.equal(shown(setmetatable({ a = 1 }, hostile)), "<metatable> { a = 1 }")
    t.equal(shown(lash.null, setmetatable({}, { __name = "thing" })), "lash.null\tthing {}")
    t.ok(shown(print):find "^function: ", shown(print))
    t.ok(shown(function() end):find "^function <.*console_entries.lua:%d+>$")
end)

t.case("console: what is too high for the screen is counted", function()
    local list = {}
    for i = 1, 40 do
        list[i] = ("line %d of a list that is longer"):format(i)
    end
    local text = show.values({ rows = 10, columns = 80 }, nil, 1, list)
    local _, lines = text:gsub("\n", "\n")
    t.ok(lines < 9 and text:find("more lines", 1, true), text)
end)

local function completions(line, session)
    local console = { session = session or evaluate.new(), workspace = {
        tools = function() return {} end, agents = function() return {} end } }
    local from = #line - #line:match "[^ \t\n\"'`@$><=;|&{}()%[%]+%-*/%%^#~,?!]*$" + 1
    return table.concat(complete.of(console)(line, from, #line), " ")
end

t.case("console: completion looks, and runs nothing", function()
    local ran = 0
    local function trap()
        ran = ran + 1
        error "trapped"
    end
    local session = evaluate.new()
    _G.console_trap = setmetatable({ own = { inner = 1 } },
        { __index = trap, __pairs = trap, __len = trap, __eq = trap, __name = 5, __tostring = trap, __call = trap })
    session.locals:compile("local mine = { field = { x = 1 }, fn = function() end }", "=lua")()
    t.equal(completions("console_trap.o", session), "console_trap.own")
    t.equal(completions("console_trap.own.i", session), "console_trap.own.inner")
    t.equal(completions("console_trap.nosuch.x", session), "")
    t.equal(completions("x = mine.fi", session), "mine.field")
    t.equal(completions("mine:f", session), "mine:fn")
    t.equal(completions("mine.field.x.y", session), "")
    t.equal(completions("('x'):re", session), "")
    t.equal(completions("string.repe", session), "")
    t.equal(completions("string.re", session), "string.rep string.reverse")
    t.equal(completions("-- coll", session), completions("-- coll", session))
    t.equal(ran, 0)
    _G.console_trap = nil
end)

return t.main(...)
