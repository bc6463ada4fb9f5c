"""The console on a terminal: what entries do. Sessions are compared with the screen, line by line."""
from cli import lash, needs_prompt_signals, write
from console import Console

ENTRIES = """
lua> 1 + 1
2
lua> 1, 'two', nil
1       "two"   nil
lua> = 6 * 7
42
lua> 8;
lua> _
8
lua> _ + 1
9
lua> x = { 1, { a = 'b' } }
lua> x
{ 1, { a = "b" } }
lua> return 5
5
lua> do return 6 end
6
lua> ...
lua> select('#', ...)
0
lua> -- nothing
lua> 3 -- a comment
3
lua> local c = 4 -- a comment
lua> c
4
lua> nil
nil
lua> print 'p' return 7
p
7
lua> for i = 1, 2 do print(i) end
1
2
lua> goto e local skipped = 3 ::e::
lua> 10
10
"""

LOCALS = """
lua> local n = 1
lua> local function get() return n end
lua> local set = function(v) n = v end
lua> n = 2
lua> get()
2
lua> set(3)
lua> n, _G.n
3       nil
lua> local n = 'new'
lua> n, get()
"new"   3
lua> local a, b = 5
lua> a, b
5       nil
lua> local q = 8 return q, n
8       "new"
lua> q
8
lua> local k <const> = 9
lua> k + 1
10
lua> k = 1
lash: lua:1: attempt to assign to const variable 'k'
lua> local k = 1
lua> k = k + 1 return k
2
lua> m = setmetatable({}, { __close = function() print 'closed' end })
lua> local t <close> = m
closed
lua> t
nil
lua> local f <const>, g <close> = function() return g end, m
closed
lua> f()
nil
lua> local function fact(i) return i < 2 and 1 or i * fact(i - 1) end
lua> fact(5)
120
lua> do local inner = 1 end
lua> inner
nil
lua> local s = [==[ local z = 1 ]==] -- local y = 2
lua> s, z, y
" local z = 1 " nil     nil
lua> local _ENV = { only = 1 }
lua> print(only)
nil
"""

ERRORS = """
lua> nosuch.field
lash: lua:1: attempt to index a nil value (global 'nosuch')
lua> error 'no'
lash: lua:1: no
lua> _err
"lua:1: no"
lua> pcall(error, { code = 5 })
false   { code = 5 }
lua> x = = 1
lash: lua:1: unexpected symbol near '='
lua> what is the weather like
lash: lua:1: syntax error near 'is'
lash: to ask the agent, begin the line with >
lua> '日本語' .. 'e\u0301'
"日本語e\u0301"
lua> #'日本語'
9
lua> '\\0\\27[31m'
"\\0\\x1B[31m"
lua> .nosuch
lash: there is no command .nosuch; .help lists them
lua> !exit 3
lash: exit status 3
lua> !echo 日本
日本
"""


def test_entries():
    """console: expressions, several results, _, trailing ;, comments, a bare ...; locals live on as one variable"""
    c = Console()
    c.talk(ENTRIES)
    c.talk(LOCALS)
    c.leave()


def test_errors():
    """console: errors and hints; at 40x10, wide and combining letters"""
    c = Console(columns=40, rows=10)
    c.talk(ERRORS)
    c.leave()


def test_many_locals():
    """console: more locals than one function may have"""
    c = Console()
    for part in range(3):
        names = ["v%d_%d" % (part, i) for i in range(90)]
        write("part.lua", "local %s = %s" % (", ".join(names), ", ".join(str(i) for i in range(90))))
        c.paste(open("part.lua", encoding="utf-8").read())
        c.send("\n")
        c.wait_prompt()
    c.talk("""
lua> v0_0 + v1_1 + v2_89
90
lua> v0_7 = 1000
lua> v0_7
1000
""")
    c.leave()


def test_traceback():
    """console: an error tells which of the user's own lines led to it"""
    c = Console()
    c.talk("""
lua> function deep(x)
lua>>   local y = x.field
lua>>   return y
lua>> end
lua> function outer()
lua>>   deep(nil)
lua>>   return 1
lua>> end
""")
    c.send("outer()\n")
    text = "\n".join(c.wait_prompt())
    assert "lash: lua:2: attempt to index a nil value (local 'x')" in text and "[C]" not in text, text
    assert "deep" in text and "outer" in text and len(text.splitlines()) <= 6, text
    c.leave()


CONTINUED = """
lua> y = {
lua>>   1,
lua>>   2 }
lua> #y
2
lua> function f()
lua>>
lua>>   return [[a
lua>> b]]
lua>> end
lua> f()
"a\\nb"
"""


def test_continuation():
    """console: an unfinished chunk goes on; Ctrl-C takes it back, Ctrl-D ends it; neither leaves a trace behind"""
    c = Console()
    c.talk(CONTINUED)
    c.talk("lua> function f(", then="lua>>")
    c.send("abc")
    c.wait_line("lua>> abc")
    c.send("\x03")
    lines = c.wait_prompt()
    assert lines == ["lua>> abc^C"], lines
    c.talk("lua> g = {", then="lua>>")
    c.send("\x04")
    lines = c.wait_prompt()
    assert lines[0] == "lua>>" and lines[1].startswith("lash: lua:1: unexpected symbol near <eof>"), lines
    c.talk("lua> 1\n1\nlua> g\nnil")
    c.send("some text" + "x" * 80)
    c.wait(lambda s: s.row(s.y) == "x" * 14)
    c.send("\x01\x03")
    lines = c.wait_prompt()
    assert lines[1] == "x" * 14 + "^C", lines
    c.talk("lua> 2\n2")
    c.leave()


RUNAWAYS = """
print 'RUN' while true do end
print 'RUN' while true do pcall(function() while true do end end) end
print 'RUN' while true do pcall(error) end
print 'RUN' coroutine.wrap(function() while true do end end)()
print 'RUN' coroutine.wrap(function() pcall(coroutine.wrap(function() while true do end end)) while true do end end)()
print 'RUN' xpcall(function() while true do end end, function() while true do end end)
print 'RUN' local t = {} while true do t[#t % 100] = ('x'):rep(10000) end
print 'RUN' while true do ('x'):rep(1000):gsub('.', function() end) end
print 'RUN' table.sort({ 3, 2, 1 }, function() while true do end end)
print 'RUN' local v = setmetatable({}, { __index = function() while true do end end }).x
print 'RUN' lash.sleep(1000)
print 'RUN' lash.exec { 'sleep', '1000' }
print 'RUN' lash.channel(1):receive()
print 'RUN' lash.spawn(function() lash.sleep(1000) end):wait()
"""


def test_runaway():
    """console: Ctrl-C ends what runs, in any state; the next entry is none the wiser"""
    needs_prompt_signals()
    c = Console(rows=60, columns=130)
    for entry in RUNAWAYS.strip().split("\n"):
        c.send(entry + "\n")
        c.wait(lambda s: s.at() >= c.from_line and "RUN" in (s.row(s.y), s.row(s.y - 1)))
        c.send("\x03")
        lines = c.wait_prompt()
        assert lines[1] == "RUN" and lines[2:] in (["^C"], ["^Clash: cancelled"], ["^C", "lash: cancelled"]), lines
    c.talk("lua> 1 + 1\n2")
    for entry in ("os.execute 'echo RUN; exec sleep 1000'", "!echo RUN; exec sleep 1000"):
        c.send(entry + "\n")
        c.wait(lambda s: s.at() >= c.from_line and "RUN" in (s.row(s.y), s.row(s.y - 1)))
        c.send("\x03")
        lines = c.wait_prompt()
        assert "signal" in lines[-1] and not lines[-1].startswith("^Clash"), lines
    c.talk("lua> pcall(lash.sleep, 0)\ntrue")
    c.leave()


def test_dumb():
    """console: TERM=dumb: no control sequence at all, entries, continuation, Ctrl-C, Ctrl-D"""
    c = Console(env={"TERM": "dumb", "NO_COLOR": None})
    c.screen.sequence = None  # any would raise
    c.talk(CONTINUED + "lua> '日本', nil\n\"日本\"  nil")
    c.send("abc")
    c.wait_line("lua> abc")
    c.send("\x03")
    assert c.wait_prompt()[0].startswith("lua> abc^C")
    c.talk("lua> local x = 5\nlua> x\n5\nlua> .time on\ntimes are shown")
    c.send("\x04")
    assert c.exit_status() == 0


def test_dumb_tasks():
    """console: TERM=dumb: tasks go on while a line is typed"""
    c = Console(env={"TERM": "dumb"})
    c.talk("lua> t = lash.spawn(function() repeat lash.sleep(0.01) until io.open 'go' print('it ' .. 'goes on') end)")
    c.send("'ty")
    c.wait_line("lua> 'ty")
    write("go", "")
    c.wait(lambda s: any("it goes on" in s.row(y) for y in range(24)))
    c.send("ped'\n")
    c.wait(lambda s: '"typed"' in [s.row(y) for y in range(24)])
    c.leave()


def test_no_terminal():
    """console: without a terminal stdin is a script; -i reads entries from it; NO_COLOR"""
    assert lash(stdin="print(1)").out == "1\n"
    assert lash(stdin="local x = 5\nprint(x)\n").out == "5\n"
    done = lash("-i", stdin="local x = 5\nx + 1\nfunction f()\nreturn 7\nend\nf()\nnosuch.x\n'日本'\n")
    assert done.out == '6\n7\n"日本"\n' and done.status == 0, done
    assert done.err == "lash: lua:1: attempt to index a nil value (global 'nosuch')\n", done
    write("in.lua", "print 'file'\n")
    with open("in.lua", encoding="utf-8") as f:
        assert lash(stdin=f).out == "file\n"
    plain = Console(env={"NO_COLOR": "1"})
    plain.send("{ 1, 'a', nil, true, print }\n")
    plain.wait_prompt()
    plain.leave()
    assert "\x1b[3" not in plain.seen and "\x1b[m" not in plain.seen, plain.seen


def test_width():
    """console: the banner fits into 80 columns; texts of our own are broken between words, at 40 columns, too"""
    c = Console()
    assert len(c.screen.row(0)) < 80 and c.screen.row(1) == "lua>", c.screen.text()
    for columns in (80, 40):
        c.resize(columns, 24)
        for command in (".help", "?", "?lash.spawn"):
            words = " ".join(c.lines(command)).split()
            c.resize(200, 24)
            assert words == " ".join(c.lines(command)).split(), (columns, command)
            c.resize(columns, 24)
    c.leave()


def test_io_errors():
    """console: errors of io.write, io.read and their like name the function, the argument and the place"""
    c = Console()
    for entry, want in (("io.write({})", "bad argument #1 to 'write' (string expected, got table)"),
                        ("io.stdout:write(1, {})", "bad argument #2 to 'write' (string expected, got table)"),
                        ("io.read('x')", "bad argument #1 to 'read' (invalid format)"),
                        ("io.stdin:read('x')", "bad argument #1 to 'read' (invalid format)"),
                        ("io.write:read('x')", "attempt to index a function value (field 'write')"),
                        ("io.lines('nosuch')", "nosuch: No such file or directory")):
        text = c.enter(entry)
        assert text in ("lash: lua:1: " + want, "1\nlash: lua:1: " + want) or "nosuch" in want and "lua:1: " in text and "nosuch" in text, text
    c.leave()
