"""The commands of the console: files, calls by hand, models, tasks, .save, .edit, .tour, and ?name."""
import os

from cli import lash, write
from console import Console

TOOLS = """
local lash = require "lash"
local add = lash.tool { name = "add", description = "The sum", params = { a = "integer", b = "integer?" },
    sync = function(args) return args.a + (args.b or 0) end }
local bad = lash.tool { name = "bad", async = function() error "out of order" end }
local helper = lash.agent { name = "helper", description = "Helps", tools = { add } }
return helper, add, bad
"""


def test_files():
    """console: .load and what is wrong with files; .reload after a change; lash FILE -i"""
    write("t.lua", TOOLS)
    write("none.lua", "return 5")
    write("syntax.lua", "return = 5")
    write("fails.lua", "error 'while loading'")
    c = Console(columns=160)
    c.talk("""
lua> .reload
lash: nothing was loaded yet: .load FILE
lua> .load
lash: say which: .load FILE
lua> .load missing.lua
lash: cannot read missing.lua: No such file or directory
lua> .load none.lua
lash: none.lua: what it returns is a number, not a tool, prompt or agent; {*}
lua> .load syntax.lua
lash: syntax.lua:1: unexpected symbol near '='
lua> .load t.lua
agents: helper; tools: add, bad
> asks helper
lua> .agents
* helper  Helps
lua> .agents helpr
lash: there is no agent 'helpr' (did you mean 'helper'?)
lua> .call add --a 2 --b 3
{*} add(a=2 b=3)  sync {*}ms
5
""")
    assert "while loading" in c.enter(".load fails.lua")
    write("t.lua", TOOLS.replace("args.a +", "100 * args.a +").replace('"helper"', '"changed"'))
    c.talk("""
lua> .reload
t.lua: agents: changed; tools: add, bad
lua> .call add {"a": 2}
{*} add(a=2)  sync {*}ms
200
lua> .agents
* changed  Helps
""")
    c.leave()
    for args in (("t.lua", "-i"), ("-i", "t.lua")):
        c = Console(*args)
        c.talk("lua> .agents\n* changed  Helps")
        c.leave()
    write("own.lua", "print(...)")
    assert lash("own.lua", "-i").out == "-i\n"


def test_call():
    """console: .call asks for arguments, takes JSON and options; bad ones are told; Ctrl-C calls nothing"""
    write("t.lua", TOOLS)
    c = Console(columns=132)
    c.enter(".load t.lua")
    c.send(".call add\r")
    c.wait_line("a: integer = ")
    c.send("20\r")
    c.wait_line("b: integer? = ")
    c.send("\r")
    assert c.wait_prompt()[-1] == "20"
    c.send(".call add\r")
    c.wait_line("a: integer = ")
    c.send("many\r")
    c.wait_line("b: integer? = ")
    c.send("1\r")
    assert "/a: expected integer, found string" in c.wait_prompt()[-1]
    c.send(".call add\r")
    c.wait_line("a: integer = ")
    c.send("1\x03")
    assert c.wait_prompt()[-1] == "lash: not called"
    c.talk("""
lua> .call add --a x
lash: --a takes integer; got 'x'
lua> .call nosuch
lash: there is no tool 'nosuch'; there are: add, bad
lua> .call add {"a": "x"}
{*} add(a=x)  error, sync {*}ms
the arguments of 'add' do not fit its schema: /a: expected integer, found string "x"
lua> .call bad
{*} bad()  error, async {*}ms
t.lua:5: out of order
lua> .call
lash: say which: .call NAME [JSON | --ARG VALUE ...]
""")
    c.leave()


def test_models_tasks():
    """console: .model, .tasks, .kill, .time, .help and unknown commands"""
    c = Console(columns=132)
    assert "there is no provider 'nosuch'" in c.enter(".model nosuch/x")
    assert "no model is chosen" in c.enter(".model")
    c.talk("""
lua> .model demo
> asks demo
lua> .model
demo
lua> .tasks
nothing runs in the background: lash.spawn(fn) starts a task
lua> lash.spawn(function() lash.sleep(1000) end);
lua> .tasks
  1  running for {*} s  function <lua:1>
lua> .kill 2
lash: there is no task 2: .tasks lists them
lua> .kill
lash: there is no task without a number: .tasks lists them
lua> .kill 1
lua> .tasks
nothing runs in the background: lash.spawn(fn) starts a task
lua> .time on
times are shown
lua> 1
1
{*} ms
lua> .time off
times are not shown
lua> .time 5
lash: .time on, or .time off
lua> .halp
lash: there is no command .halp (did you mean '.help'?); .help lists them
""")
    names = {line.split()[0] for line in c.enter(".help").split("\n")}
    assert names >= set(".help .tools .prompts .agents .call .model .tasks .kill .load .reload .save .edit .time .tour"
                        " .quit".split()), names
    c.leave()


def test_save_edit():
    """console: .save writes a script that runs; .edit enters what EDITOR leaves"""
    write("ed.sh", "#!/bin/sh\nsed -i 's/one/two/' \"$1\"\n")
    write("bad.sh", "#!/bin/sh\nexit 3\n")
    os.chmod("ed.sh", 0o755)
    os.chmod("bad.sh", 0o755)
    c = Console(env={"EDITOR": "./ed.sh", "VISUAL": None})
    c.talk("""
lua> local x = 20
lua> function double(v)
lua>>   return v * 2
lua>> end
lua> double(x) + 2
42
lua> nosuch.field
lash: lua:1: attempt to index a nil value (global 'nosuch')
lua> x = x + 1;
lua> 'value of x', x -- a comment
"value of x"    21
lua> .save out.lua
5 entries in out.lua
lua> .save out.lua
lash: out.lua is there already: give another name
lua> .save no/out.lua
lash: cannot write 'no/out.lua': its directory does not exist: create it first
lua> 'one'
"one"
lua> .edit
'two'
"two"
""")
    c.leave()
    done = lash("out.lua")
    assert done.status == 0 and done.err == "" and done.out == "42\nvalue of x\t21\n", done
    c = Console(env={"EDITOR": "./bad.sh", "VISUAL": None})
    c.talk("lua> 1\n1\nlua> .edit\nlash: ./bad.sh has failed: nothing was entered")
    c.leave()
    c = Console(env={"EDITOR": None, "VISUAL": None})
    c.talk("lua> .edit\nlash: set EDITOR to the editor that you like")
    c.leave()


def test_about():
    """console: ?name of tools, agents, lash.*, Lua's own functions, own values, nothing; lash help NAME"""
    write("t.lua", TOOLS)
    c = Console(columns=132, rows=40)
    c.enter(".load t.lua")
    for name, *parts in (("add", "add(a: integer, b: integer?)", "The sum"), ("helper", "agent helper", "tools: add"),
                         ("lash.fs.read", "lash.fs.read(path: string [, options]) -> text: string | nil, err"),
                         ("fs.read", "lash.fs.read("), ("lash.spawn", "lash.spawn("),
                         ("string.format", "string.format(formatstring, ...)"), ("print", "print(...)"),
                         ("print()", "print(...)"), ("agent:run", "run("),
                         ("lash.fs.raed", "nothing is known of", "lash.fs.read"),
                         ("nosuchthing", "lash: nothing is known of 'nosuchthing'"), ("", ".tour", "lash help")):
        text = c.enter("?" + name)
        assert all(part in text for part in parts), (name, text)
    c.enter("local mine = { 1, 2 }")
    assert "mine = { 1, 2 }" in c.enter("?mine")
    c.leave()
    assert "lash.fs.read(path: string [, options]) -> text: string | nil, err" in lash("help", "fs.read").out


def test_annotations():
    """lash help --annotations: Lua that names every lash function and every library of it"""
    done = lash("help", "--annotations")
    assert done.status == 0 and done.out.startswith("---@meta"), done.out[:200]
    write("annotations.lua", done.out)
    write("check.lua", """
local lash = require "lash"
local file = assert(io.open("annotations.lua")):read "a"
local stub = assert(load(file))()
for name in pairs(getmetatable(lash).parts) do
    assert(rawget(stub, name) ~= nil or file:find("lash." .. name, 1, true), name)
    local part = lash[name]
    if type(part) == "table" and not (getmetatable(part) or {}).__call then
        for key, value in pairs(part) do
            if type(value) == "function" and key:sub(1, 1) ~= "_" then
                assert(file:find(("function lash.%s.%s("):format(name, key), 1, true), "lash." .. name .. "." .. key)
            end
        end
    end
end
for _, name in ipairs { "sleep", "now", "hrtime", "channel", "spawn", "tool", "agent", "prompt" } do
    assert(type(stub[name]) == "function", name)
end
print "all"
""")
    done = lash("check.lua")
    assert done.out == "all\n", done


def test_tour():
    """console: the tour to its end, at 80x24 and 40x10; q leaves it"""
    light = {3: ".call count_primes --n 1000", 5: "> count_primes of 2000 and count_primes of 3000"}
    for columns, rows in ((80, 24), (40, 10)):
        c = Console(columns=columns, rows=rows)
        c.send(".tour\r")
        for i in range(1, 8):
            c.wait(lambda s: s.at() > c.from_line and s.row(s.y) == "   Enter types it, q ends the tour:")
            c.here()
            c.send(light.get(i, "") + "\r")
        c.wait(lambda s: "That was all." in "\n".join(s.lines()))
        c.wait(lambda s: s.row(s.y) == "lua>")
        text = "\n".join(c.screen.lines())
        assert all(part in text for part in ("files = ", "\n168\n", "3000): 430", "2000): 303", "lash.spawn(")), text
        c.leave()
    c = Console()
    c.send(".tour\r")
    c.wait(lambda s: "Enter types it" in s.row(s.y))
    c.send("q\r")
    c.wait_prompt()
    c.talk("lua> 1\n1")
    c.leave()
