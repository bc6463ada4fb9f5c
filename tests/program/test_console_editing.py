"""The line editor of the console: what others print meanwhile, pastes, history, completion, sizes."""
import json
import os
import re

from cli import write
from console import Console
from screen import fold

SPAWN = """
for i = 1, 100 do
  lash.spawn(function()
    for n = 1, 5 do
      lash.sleep(0.001 * (i % 7))
      print(("task %d line %d|"):format(i, n))
    end
  end)
end
print "started"
"""


def test_others_print():
    """console: 100 background tasks print while a line is typed: no lost key, no torn line; 80x24 and 40x10"""
    write("spawn.lua", SPAWN)
    typed = "local typed = 'the quick brown fox jumps over the lazy dog, 日本語 twice' return typed"
    for columns, rows in ((80, 24), (40, 10)):
        c = Console(columns=columns, rows=rows)
        c.send("dofile 'spawn.lua'\n")
        for key in typed:
            c.send(key)
            c.pump(0)
        c.wait(lambda s: "\n".join(s.lines()).count("|") == 500)
        c.wait_typed("lua> " + typed)
        lines = c.screen.lines()
        for i in range(1, 101):
            got = [line for line in lines if line.startswith("task %d " % i)]
            assert got == ["task %d line %d|" % (i, n) for n in range(1, 6)], got
        strange = [line for line in lines[3:] if not re.match(r"task \d+ line \d\|$", line) and "task" in line]
        assert not strange, strange
        c.send("\r")
        c.see('"the quick brown fox jumps over the lazy')
        c.from_line = 0
        c.wait_prompt()
        c.leave()


WRITERS = """
local lash = require "lash"
local w = lash.tool { name = "w", description = "", params = { n = "integer" }, sync = function(args)
  for i = 1, 20 do
    print("p" .. args.n .. "." .. i .. "|")
    io.write("w", args.n, ".", i, "|\\n")
    io.stderr:write("e" .. args.n .. "." .. i .. "|\\n")
    io.stdout:write("o" .. args.n .. "." .. i .. "|\\n")
  end
  return "done"
end }
return { w }
"""


def test_workers_print():
    """console: print, io.write, io.stderr:write of worker threads and lines of children stand above the line"""
    write("w.lua", WRITERS)
    write("play.json", json.dumps([{"calls": [{"name": "w", "args": {"n": n}} for n in (1, 2, 3)]}, {"text": "end"}]))
    c = Console()
    c.enter(".load w.lua")
    c.send("lash.spawn(function() lash.sleep(0) lash.agent { name = 'a', model = 'script:play.json', "
           "tools = { tools.w } }:run 'go' end);\r")
    c.send("unfinished")
    c.wait(lambda s: "\n".join(s.lines()).count("|") == 240 and s.row(s.y) == "lua> unfinished")
    lines = c.screen.lines()
    for n in (1, 2, 3):
        for kind in "pweo":
            got = [line for line in lines if line.startswith("%s%d." % (kind, n))]
            assert got == ["%s%d.%d|" % (kind, n, i) for i in range(1, 21)], got
    c.send("\x15")
    c.wait_line("lua> ")
    c.here()
    c.enter("wait = function() repeat lash.sleep(0.01) until lash.fs.exists 'go' end")
    c.enter("say = function(s) io.write(s) lash.sleep(0.02) end")
    c.enter("lash.spawn(function() wait() say 'part' say 'ial' print ' line' end);")
    c.send("xyz")
    c.wait_line("lua> xyz")
    write("go", "")
    c.wait(lambda s: s.row(s.y) == "lua> xyz" and s.row(s.y - 1) == "partial line")
    c.send("\x15")
    c.wait_line("lua> ")
    c.here()
    c.enter("child = function(i) print(lash.exec({ shell = 'echo child ' .. i }).stdout:sub(1, -2)) end")
    c.enter("lash.spawn(function() for i = 1, 3 do child(i) end end);")
    c.send("xyz")
    c.wait(lambda s: s.text().endswith("lua> xyz") and all("\nchild %d\n" % i in s.text() for i in (1, 2, 3)))
    c.send("\x15")
    c.wait_line("lua> ")
    c.leave()


def test_partial_line():
    """console: a text without a line end is not written over, and the line breaks where the terminal does"""
    c = Console(columns=40, rows=10)
    c.send("io.write 'abc';\n")
    assert c.wait_prompt()[1:] == ["abc"]
    c.send("x" * 33)
    c.wait_line("lua> " + "x" * 33)
    c.send("yyyyyyyy")
    c.wait_line("y" * 6)
    c.send("\x01\x0b")
    c.wait_line("lua> ")
    c.send("io.write(('z'):rep(40));\n")
    assert c.wait_prompt()[1:] == ["z" * 40]
    c.leave()


def history():
    path = os.path.join(os.environ["XDG_STATE_HOME"], "lash", "history")
    with open(path, encoding="utf-8") as f:
        return f.read()


def test_paste():
    """console: many pasted lines are one entry, also in the history, and come back whole"""
    c = Console(env={"TERM": "xterm"})
    text = "local function f(x)\n\n    local y = x * 2 -- \\n no line end\n    return y\nend\nreturn f(21)"
    c.paste(text)
    c.wait(lambda s: s.row(s.y) == "return f(21)")
    c.send("\r")
    assert c.wait_prompt()[-1] == "42"
    assert history() == text.replace("\\", "\\\\").replace("\n", "\\n") + "\n", history()
    c.send("\x1b[A")
    c.wait(lambda s: s.row(s.y) == "return f(21)")
    c.send("\r")
    assert c.wait_prompt()[-1] == "42"
    assert history().count("\n") == 1
    c.leave()
    c = Console()
    c.send("\x1b[A")
    c.wait(lambda s: s.row(s.y) == "return f(21)")
    c.send("\x03")
    c.wait_prompt()
    c.paste("print 'one'\nprint 'two'\n")
    c.wait(lambda s: "print 'two'" in s.text())
    c.send("\r")
    assert c.wait_prompt()[-2:] == ["one", "two"]
    c.paste("print 'a'")
    c.wait_line("lua> print 'a'")
    c.send("\x03")
    c.wait_prompt()
    c.leave()


def test_history():
    """console: the history: 0600, XDG, no duplicates in a row, arrow keys, Ctrl-R, the next session"""
    c = Console()
    c.talk("lua> 'first'\n\"first\"\nlua> 'second'\n\"second\"\nlua> 'second'\n\"second\"\nlua> .time on\n"
           "times are shown\nlua> .time off\ntimes are not shown")
    path = os.path.join(os.environ["XDG_STATE_HOME"], "lash", "history")
    assert os.stat(path).st_mode & 0o777 == 0o600 and os.stat(os.path.dirname(path)).st_mode & 0o77 == 0
    assert history() == "'first'\n'second'\n.time on\n.time off\n", history()
    for line in (".time off", ".time on", "'second'", "'first'"):
        c.send("\x1b[A")
        c.wait_line("lua> " + line)
    c.send("\x1b[B")
    c.wait_line("lua> 'second'")
    c.send("\x15\x12fir")
    c.wait(lambda s: "(reverse-i-search)`fir': 'first'" in s.row(s.y))
    c.send("\r")
    assert c.wait_prompt()[1:] == ['"first"']
    c.leave()
    c = Console()
    c.send("\x12sec")
    c.wait(lambda s: "`sec': 'second'" in s.row(s.y))
    c.send("\x07")
    c.wait_line("lua> ")
    c.leave()


def test_history_nowhere():
    """console: without a home, or where nothing can be written, the history is the session's"""
    os.makedirs("ro/lash")
    os.mkdir("ro/lash/history")  # a file cannot be there
    for env in ({"XDG_STATE_HOME": None, "HOME": None}, {"XDG_STATE_HOME": os.path.abspath("ro")},
                {"XDG_STATE_HOME": "/proc/nosuch"}, {"XDG_STATE_HOME": "relative"}):
        c = Console(env=env)
        c.talk("lua> 1\n1\nlua> 2\n2")
        c.send("\x1b[A\x1b[A")
        c.wait_line("lua> 1")
        c.send("\r")
        c.wait_prompt()
        c.leave()


def test_history_damaged():
    """console: what is no text in the history's file is passed over; new entries are still remembered"""
    path = os.path.join(os.environ["XDG_STATE_HOME"], "lash", "history")
    os.makedirs(os.path.dirname(path))
    with open(path, "wb") as file:
        file.write(b"'first'\n\x00\x01\x02\n\xff\xfe bad\nescape \x1b[2J\n\\x\\\n" + bytes(range(256)) * 40 + b"\n'last'\n")
    c = Console()
    seen = []
    for _ in range(30):
        c.send("\x1b[A")
    c.wait_line("lua> 'first'")
    for want in ("x", "'last'"):
        c.send("\x1b[B")
        seen.append(c.wait(lambda s: s.row(s.y) != "lua> 'first'" and s.row(s.y)))
    c.send("\x15")
    c.wait_line("lua> ")
    c.talk("lua> 'new'\n\"new\"")
    c.leave()
    with open(path, "rb") as file:
        assert file.read().endswith(b"\n'last'\n'new'\n")


def completed(c, typed, want):
    """Types, presses Tab: the line is `want` then."""
    c.send(typed + "\t")
    c.wait_line("lua> " + want)
    c.send("\x05\x15")
    c.wait_line("lua> ")


def listed(c, typed, *want):
    """Types, presses Tab twice: the candidates are listed."""
    c.send(typed + "\t\t")
    c.wait(lambda s: s.at() >= c.from_line and s.row(s.y) == ("lua> " + typed).rstrip())
    lines = c.screen.lines()[c.from_line:c.screen.at()]
    words = " ".join(lines).split()
    assert set(want) <= set(words), words
    c.send("\x05\x15")
    c.wait_line("lua> ")
    c.here()


TRAP = """
calls = 0
local function trap() calls = calls + 1; print "TRAPPED"; error "trapped" end
trapped = setmetatable({ own_field = 1 }, { __index = trap, __pairs = trap, __len = trap, __tostring = trap })
object = setmetatable({ size = 1 }, { __index = { method_one = print, method_two = print, number = 5 } })
local mt = getmetatable(_G) or {}
local others = mt.__index
mt.__index = function(t, k)
  if k == "globaltrap" then trap() end
  return others and others(t, k)
end
setmetatable(_G, mt)
"""


def test_completion():
    """console: Tab completes all kinds of names, raw only"""
    write("tools.lua", """
local lash = require "lash"
local shout = lash.tool { name = "shout", description = "", params = { text = "string" },
    async = function(args) return args.text:upper() end }
return lash.agent { name = "loudspeaker", tools = { shout } }""")
    write("trap.lua", TRAP)
    os.mkdir("folder")
    write("folder/some file.txt", "")
    c = Console()
    c.enter("dofile 'trap.lua'")
    c.enter(".load tools.lua")
    c.enter("local my_local_name, t = 5, { deep = { deeper = 1 } }")
    completed(c, "my_lo", "my_local_name")
    completed(c, "collectg", "collectgarbage")
    completed(c, "x = string.for", "x = string.format")
    completed(c, "t.deep.dee", "t.deep.deeper")
    completed(c, "object:method_t", "object:method_two")
    completed(c, "lash.fs.tempf", "lash.fs.tempfile")
    completed(c, "lash.spaw", "lash.spawn")
    c.enter("tools.whisper = lash.tool { name = 'whisper', async = print }")
    completed(c, "tools.whi", "tools.whisper")
    completed(c, ".qui", ".quit")
    completed(c, ".call sho", ".call shout")
    completed(c, ".agents lou", ".agents loudspeaker")
    completed(c, ".load fol", ".load folder/")
    completed(c, "lash.fs.read 'folder/so", "lash.fs.read 'folder/some file.txt")
    completed(c, 'x("fold', 'x("folder/')
    completed(c, "trapped.own_", "trapped.own_field")
    completed(c, "trapped.nosuch.field", "trapped.nosuch.field")
    completed(c, "globaltrap.x", "globaltrap.x")
    completed(c, "object:", "object:method_")  # no field that is no function
    listed(c, "object:method_", "object:method_one", "object:method_two")
    listed(c, ".", ".help", ".tour")
    c.talk("lua> calls\n0")
    assert "TRAPPED" not in "\n".join(c.screen.lines())
    c.leave()


def test_wide():
    """console: wide and combining letters in the edited line: cursor keys, erasing, breaking lines; 40x10"""
    c = Console(columns=40, rows=10)
    c.send("'日本語'\x1b[D\x1b[D\x7f")
    c.wait(lambda s: s.row(s.y) == "lua> '日語'" and s.x == 8)
    c.send("\r")
    assert c.wait_prompt()[1:] == ['"日語"']
    c.send("'e\u0301a'\x1b[D\x1b[D\x7f")
    c.wait(lambda s: s.row(s.y) == "lua> 'a'" and s.x == 6)
    c.send("\x05\x15")
    c.wait_line("lua> ")
    text = "'" + "日" * 20 + "'"
    c.send(text)
    c.wait(lambda s: s.row(s.y - 1) == "lua> '" + "日" * 17 and s.row(s.y) == "日日日'")
    c.send("\x01")
    c.wait(lambda s: s.x == 5)
    c.send("#")
    c.wait(lambda s: s.row(s.y).startswith("lua> #'日"))
    c.send("\r")
    assert c.wait_prompt()[-1] == "60"
    c.leave()


def test_resize():
    """console: the size changes while a line is edited, while an entry runs, and before the next prompt"""
    c = Console()
    line = "local x = '" + "abcdefghij" * 6 + "' return #x"
    c.send(line)
    c.wait_typed("lua> " + line)
    c.resize(40, 10)
    c.wait_typed("lua> " + line)
    c.send("\x7f" * 20)
    c.wait_typed("lua> " + line[:-20])
    c.send(line[-20:] + "\r")
    assert c.wait_prompt()[-1] == "60"
    c.send("lash.sleep(0.01);\n")
    c.resize(80, 24)
    c.wait_prompt()
    c.send("y" * 74)
    c.wait_line("lua> " + "y" * 74)
    c.send("\x15")
    c.wait_line("lua> ")
    c.leave()


def test_tall():
    """console: an entry with more rows than the screen: the part around the cursor is shown, then all of it; 40x10"""
    c = Console(columns=40, rows=10)
    lines = ["local t%d = '%s'" % (i, "abcdefghij日本" * 2) for i in range(20)]
    text = "\n".join(["do", *lines, "print(t3, #t19)", "end"])
    c.paste(text)
    c.wait(lambda s: s.row(s.y) == "end" and "lua> [..." in s.text())
    shown = c.screen.text().split("\n")
    at = next(i for i, line in enumerate(shown) if line.startswith("lua> [..."))
    left = int(re.match(r"lua> \[\.\.\. (\d+) more lines\]$", shown[at]).group(1))
    assert shown[at + 1:] == fold("\n".join(text.split("\n")[left:]), 40), (left, shown)
    c.send("\x01")
    c.wait(lambda s: re.match(r"\[\.\.\. \d+ more lines\]$", s.text().split("\n")[-1]) and s.x == 5)
    assert c.screen.row(c.screen.y) == "lua> do"
    c.send("--\x05")
    c.wait(lambda s: s.row(s.y) == "end")
    c.resize(60, 12)
    c.wait(lambda s: s.row(s.y) == "end" and re.search(r"lua> \[\.\.\. (?!%d )\d+ more lines\]\n" % left, s.text()))
    c.send("\x01\x1b[3~\x1b[3~\x05\r")
    got = c.wait_prompt()
    whole = got[next(i for i, line in reversed(list(enumerate(got))) if line.startswith("lua> do")):]
    assert whole[:-1] == fold("lua> " + text, 60), got
    assert whole[-1].split() == ["abcdefghij日本" * 2, "32"], whole
    c.send("\x1b[A")
    c.wait(lambda s: s.row(s.y) == "end" and "lua> [..." in s.text())
    c.send("\x03")
    c.wait_prompt()
    c.leave()


def test_long_line():
    """console: one line of very many rows: its end, its begin, and it is entered whole"""
    c = Console(columns=40, rows=10)
    text = "return #'" + "日本abcdef" * 200 + "'"
    c.paste(text)
    c.wait(lambda s: "lua> [...]" in s.text() and s.row(s.y).endswith("'"))
    c.send("\x01")
    c.wait(lambda s: s.row(s.y).startswith("lua> return #'") and s.text().endswith("[...]") and s.x == 5)
    c.send("\x05\r")
    assert c.wait_prompt()[-1] == str(12 * 200)
    c.leave()
