"""Keys that come while the console draws: they are not shown, and nothing of them is lost."""
import json
import signal
import termios

import modeld
from cli import LASH, write
from console import Console

TOOLS = """
local lash = require "lash"
local wait = lash.tool { name = "wait", description = "Waits", params = { n = "integer" }, async = function(args)
    repeat lash.sleep(0.01) until lash.fs.exists("go" .. args.n)
    return "waited " .. args.n
end }
local question = lash.tool { name = "question", description = "Asks", async = function()
    io.write "your name? "
    return "it is " .. tostring(io.read())
end }
local worker = lash.tool { name = "worker", description = "Asks, too", sync = function()
    io.write "your town? "
    return "it is " .. tostring(io.stdin:read "l")
end }
local lines = lash.tool { name = "lines", description = "Reads lines", async = function()
    io.write "lines: "
    for line in io.lines() do
        return "got " .. line
    end
end }
local child = lash.tool { name = "child", description = "A child that reads", async = function()
    os.execute "stty -a > settings; printf 'child: '; read x; echo got $x; stty raw -echo; kill -KILL $$"
    return "over"
end }
local pipe = lash.tool { name = "pipe", description = "A child with a pipe", async = function()
    io.write "pipe: "
    local file <close> = io.popen "read x; echo got $x"
    return file:read "a"
end }
"""


def turn(calls, then=("All done",), **more):
    """A console whose next turn makes these calls, and then says something."""
    write("t.lua", TOOLS + "return wait, question, worker, lines, child, pipe")
    write("play.json", json.dumps([{"calls": [{"name": name, "args": given} for name, given in calls]},
                                   *[{"text": text} for text in then]]))
    c = Console("-m", "script:play.json", **more)
    c.enter(".load t.lua")
    return c


def is_quiet(c):
    flags = termios.tcgetattr(c.slave)[3]
    return not flags & termios.ECHO and not flags & termios.ICANON and flags & termios.ISIG


def running(c, name="wait("):
    c.wait(lambda s: name in s.row(s.y))


def test_typed_ahead():
    """console: keys that come while calls run are not shown, and are the next line, with their corrections"""
    for columns, rows in ((80, 24), (40, 10)):
        c = turn([("wait", {"n": columns})], ("All done", "again"), columns=columns, rows=rows)
        c.send("> go\r")
        running(c)
        assert is_quiet(c)
        c.send("next queztion\x1b[D\x1b[D\x1b[D\x1b[D\x7fs日本\x05!")
        write("go%d" % columns, "")
        lines = c.wait(lambda s: s.row(s.y) == "ask> next ques日本tion!" and s.lines())
        assert "All done" in lines and "\n".join(lines).count("next") == 1, lines
        assert len([line for line in lines if "wait(" in line]) == 1, lines
        c.send("\r")
        c.see("\nagain")
        c.send("\r")
        c.wait(lambda s: s.row(s.y) == "lua>")
        c.here()
        c.talk("lua> 1\n1")
        c.leave()


def test_typed_ahead_lines():
    """console: whole lines, a paste of many lines and Ctrl-D that come while an answer streams are taken in turn"""
    script = {"rules": [{"when": {}, "turns": [{"reply": {"text": "one two three four", "pieces": 4, "pause_after": 5}},
                                               {"reply": {"text": "second"}}]}]}
    with modeld.Server(script) as server:
        c = Console("-m", "openai/gpt-5", env=dict(server.env))
        c.send("> go\r")
        c.wait(lambda s: s.row(s.y).startswith("one"))
        c.paste("a question\nof several\nlines")
        c.send("\r\x04local x = 5\rx\r")
        server.release()
        c.wait(lambda s: s.row(s.y) == "lua>" and s.row(s.y - 1) == "5")
        lines = c.screen.lines()
        at = lines.index("one two three four")
        assert [line for line in lines[at:] if "gpt-5" not in line and line] == [
            "one two three four", "ask> a question", "of several", "lines", "second", "ask>", "lua> local x = 5",
            "lua> x", "5", "lua>"], lines
        assert server.stats()["requests"] == 2
        c.leave()


def test_readers():
    """console: who reads from the terminal in a turn has it as it was: io.read in tasks and workers, children"""
    for name, prompt, typed in (("question", "your name? ", "An\x7fda"), ("worker", "your town? ", "Ulm"),
                                ("lines", "lines: ", "first"), ("child", "child: ", "something"),
                                ("pipe", "pipe: ", "a line")):
        c = turn([(name, {})])
        c.send("> ask me\r")
        c.wait(lambda s: s.row(s.y) == prompt.rstrip() and s.x == len(prompt))
        assert termios.tcgetattr(c.slave) == c.before
        c.send(typed)
        c.wait(lambda s: s.row(s.y) == prompt + typed.replace("n\x7f", ""))
        c.send("\r")
        lines = c.wait_prompt("ask>")
        assert prompt + typed.replace("n\x7f", "") in lines and "All done" in lines, lines
        assert len([line for line in lines if name + "()" in line]) == 1, lines
        c.send("\r")
        c.wait_prompt()
        c.leave()
    with open("settings", encoding="utf-8") as file:
        assert " echo " in file.read()


def test_reader_beside_calls():
    """console: what stands at the bottom goes while somebody reads, and comes back"""
    c = turn([("wait", {"n": 1}), ("worker", {})])
    c.send("> go\r")
    c.wait(lambda s: s.row(s.y) == "your town?")
    assert "\u00b7 wait" not in c.screen.text(), c.screen.text()
    c.send("Ulm\r")
    running(c, "\u00b7 wait(")
    assert is_quiet(c)
    write("go1", "")
    lines = c.wait_prompt("ask>")
    assert "your town? Ulm" in lines and len([line for line in lines if "wait(" in line]) == 1, lines
    c.send("\x04")
    c.wait_prompt()
    c.leave()


def test_ends():
    """console: in a turn: Ctrl-C, SIGTERM, SIGHUP, SIGQUIT, a crash, os.exit: the terminal is as it was"""
    c = turn([("wait", {"n": 1})], ())
    c.send("> go\r")
    running(c)
    c.send("\x03")
    lines = c.wait_prompt("ask>")
    assert any("cancelled" in line for line in lines), lines
    c.send("\x04")
    c.wait_prompt()
    c.leave()
    for sig in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGABRT):
        c = turn([("wait", {"n": 1})])
        c.send("> go\r")
        running(c)
        assert is_quiet(c) and 2004 in c.screen.modes
        c.process.send_signal(sig)
        assert c.exit_status() == -sig, (sig, c.process.returncode)
    c = turn([("wait", {"n": 1})])
    c.enter("lash.spawn(function() repeat lash.sleep(0.01) until lash.fs.exists 'leave' os.exit(9) end);")
    c.send("> go\r")
    running(c)
    write("leave", "")
    assert c.exit_status() == 9
    c = turn([("wait", {"n": 2})])
    c.send(".call wait --n 2\r")
    running(c)
    assert is_quiet(c)
    c.send("abc")
    write("go2", "")
    c.wait_typed("lua> abc")
    c.send("\x15")
    c.wait_line("lua> ")
    c.leave()


def test_suspended_turn():
    """console: Ctrl-Z in a turn: the shell has its terminal as it was; fg: what is at the bottom is drawn anew"""
    write("t.lua", TOOLS + "return wait")
    write("play.json", json.dumps([{"calls": [{"name": "wait", "args": {"n": n}} for n in (1, 2)]},
                                   {"text": "All done"}]))
    c = Console(command=["bash", "--norc", "--noprofile", "-i"], env={"PS1": "sh> ", "HISTFILE": None}, start=None,
                columns=200)
    c.wait_line("sh> ")
    c.send(" ".join(LASH) + " -m script:play.json t.lua -i\r")
    c.wait_line("lua> ")
    c.send("> go\r")
    running(c, "wait(n=2)")
    for _ in range(2):
        c.send("\x1a")
        c.wait(lambda s: s.row(s.y) == "sh>" and "Stopped" in s.row(s.y - 1))
        c.send("stty -a | grep -o ' icanon\\| echo ' | sort | tr -d '\\n'; echo .\r")
        c.wait(lambda s: s.row(s.y) == "sh>" and s.row(s.y - 1) == " echo  icanon.")
        c.send("fg\r")
        running(c, "wait(n=2)")
        lines = c.screen.lines()
        assert "sh> fg" in lines and lines[lines.index("sh> fg") + 1].startswith(LASH[0][:40]), lines
        c.wait(lambda s: is_quiet(c))
    c.send("typed")
    write("go1", "")
    write("go2", "")
    c.wait(lambda s: s.row(s.y) == "ask> typed")
    lines = c.screen.lines()
    assert "All done" in lines and lines.count(" echo  icanon.") == 2, lines
    c.send("\x15\r")
    c.wait(lambda s: s.row(s.y) == "lua>")
    c.send("\x04")
    c.wait(lambda s: s.row(s.y) == "sh>")
    c.send("exit\r")
    c.exit_status()
