"""Ask mode of the console: texts stream in, calls are seen to run, Ctrl-C, errors, handoffs."""
import json
import time

import modeld
from cli import SLOWER, write
from console import Console

TOOLS = """
local lash = require "lash"
local wait = lash.tool { name = "wait", description = "Waits", params = { n = "integer" }, async = function(args)
    repeat lash.sleep(0.01) until lash.fs.exists("go" .. args.n)
    return "waited " .. args.n
end }
local broken = lash.tool { name = "broken", description = "Fails", async = function() error "out of order" end }
"""


def asking(server, *args, **more):
    return Console("-m", "openai/gpt-5", *args, env=dict(server.env), **more)


def test_ask():
    """console: ask mode is sticky; text streams in with its pauses; an empty line and Ctrl-D go back to Lua"""
    script = {"rules": [{"when": {}, "turns": [
        {"reply": {"text": "Hello from 東京, and more", "pieces": 5, "pause_after": 5,
                   "usage": {"input": 11, "output": 7}}},
        {"reply": {"text": "Second answer"}}, {"reply": {"text": "Third answer"}}]}]}
    with modeld.Server(script) as server:
        c = asking(server)
        c.send("> say hello\r")
        c.wait(lambda s: s.row(s.y).startswith("Hel") and not s.row(s.y).endswith("more"))
        server.release()
        lines = c.wait_prompt("ask>")
        assert lines[0] == "lua> > say hello" and lines[1] == "Hello from 東京, and more", lines
        assert "gpt-5" in lines[2] and "11 tokens in, 7 out" in lines[2] and len(lines) == 3, lines
        lines = c.lines("and again", "ask>")
        assert lines[1] == "Second answer", lines
        c.talk("ask> \nlua> 1 + 1\n2")
        assert c.lines("> once more", "ask>")[1] == "Third answer"
        c.send("\x04")
        c.wait_prompt()
        c.talk("lua> 2 + 2\n4")
        c.leave()
        assert not server.stats()["problems"]


def test_calls():
    """console: parallel calls are two lines at once, each with its outcome; at 40x10 too"""
    write("t.lua", TOOLS + "return wait, broken")
    for columns, rows in ((80, 24), (40, 10)):
        write("play.json", json.dumps([
            {"text": "I look", "calls": [{"name": "wait", "args": {"n": columns + i}} for i in (1, 2)]},
            {"calls": [{"name": "broken", "args": {}}]}, {"text": "All done"}]))
        c = Console("-m", "script:play.json", columns=columns, rows=rows)
        c.enter(".load t.lua")
        c.send("> go\r")
        c.wait(lambda s: all("wait(n=%d)" % (columns + i) in s.row(s.y - 2 + i) and "async" in s.row(s.y - 2 + i)
                             for i in (1, 2)))
        assert "I look" in c.screen.text()
        write("go%d" % (columns + 2), "")  # the second one ends first
        c.wait(lambda s: "\u2713 wait(n=%d)" % (columns + 2) in s.row(s.y - 1)
               and "wait(n=%d)" % (columns + 1) in s.row(s.y) and "\u2713" not in s.row(s.y))
        write("go%d" % (columns + 1), "")
        text = "\n".join(c.wait_prompt("ask>"))
        assert text.index("wait(n=%d)" % (columns + 2)) < text.index("wait(n=%d)" % (columns + 1)), text
        assert text.count("\u2713 wait") == 2 and text.count("wait(") == 2, text
        assert "\u2717 broken()  error" in text and "out of order" in text and "\nAll done\n" in text, text
        c.send("\x04")
        c.wait_prompt()
        c.leave()


def test_calls_narrower():
    """console: the window gets narrower while calls run, and their lines are broken: nothing of them is left over"""
    write("t.lua", TOOLS + "return wait")
    write("play.json", json.dumps([{"calls": [{"name": "wait", "args": {"n": n}} for n in (100000001, 100000002)]},
                                   {"text": "All done"}]))
    c = Console("-m", "script:play.json", rows=12)
    c.enter(".load t.lua")
    c.send("> go\r")
    c.wait(lambda s: "wait(n=100000002)" in s.row(s.y))
    c.narrow(20)
    c.wait(lambda s: all(s.row(s.y - i).startswith("\u00b7 wai") for i in (0, 1)) and s.row(s.y - 2) == "lua> > go")
    write("go100000001", "")
    write("go100000002", "")
    c.wait(lambda s: s.row(s.y) == "ask>")
    text = c.screen.text()
    assert text.count("\u00b7") == 0 and "lua> > go\n\u2713 wai" in text and "\nAll done\n" in text, text
    c.send("\x04")
    c.wait(lambda s: s.row(s.y) == "lua>")
    c.leave()


def test_calls_and_others():
    """console: lines of background tasks stand above running calls and above a text that comes in pieces"""
    write("t.lua", TOOLS + "return wait")
    script = {"rules": [{"when": {}, "turns": [
        {"reply": {"calls": [{"name": "wait", "args": {"n": 1}}]}},
        {"reply": {"text": "one two three four", "pieces": 4, "pause_after": 5}}]}]}
    with modeld.Server(script) as server:
        c = asking(server)
        c.enter(".load t.lua")
        c.enter("say = function(f) repeat lash.sleep(0.01) until lash.fs.exists(f) print(f) end")
        c.enter("for _, f in ipairs { 'a', 'b' } do lash.spawn(say, f) end")
        c.send("> go\r")
        c.wait(lambda s: "wait(n=1)" in s.row(s.y))
        write("a", "")
        c.wait(lambda s: "wait(n=1)" in s.row(s.y) and s.row(s.y - 1) == "a")
        write("go1", "")
        c.wait(lambda s: s.row(s.y).startswith("one"))
        write("b", "")
        c.wait(lambda s: s.row(s.y).startswith("one") and s.row(s.y - 1) == "b")
        server.release()
        lines = c.wait_prompt("ask>")
        assert lines.count("one two three four") == 1 and lines.count("b") == 1, lines
        c.send("\x04")
        c.wait_prompt()
        c.leave()


def test_cancel():
    """console: Ctrl-C cancels a turn: while the model is asked, in the middle of its text, in a call; the next works"""
    write("t.lua", TOOLS + "return wait")
    script = {"rules": [
        {"when": {"user_contains": "hang"}, "turns": [{"reply": {"hang": True}}]},
        {"when": {}, "turns": [
            {"reply": {"text": "some text that is cut off here", "pieces": 6, "pause_after": 6}},
            {"reply": {"calls": [{"name": "wait", "args": {"n": 1}}]}},
            {"reply": {"text": "well again"}}]}]}
    with modeld.Server(script) as server:
        c = asking(server)
        c.enter(".load t.lua")
        c.send("> hang\r")
        end = time.monotonic() + 15 * SLOWER
        while server.stats()["requests"] == 0:  # of which the screen does not tell
            assert time.monotonic() < end, server.stats()
            c.pump(0.02)
        c.send("\x03")
        lines = c.wait_prompt("ask>")
        assert any("cancelled" in line for line in lines), lines
        c.send("\x04")
        c.wait_prompt()
        c.leave()
        assert not server.stats()["problems"]
    with modeld.Server({"rules": script["rules"][1:]}) as server:
        c = asking(server)
        c.enter(".load t.lua")
        c.send("> tell\r")
        c.wait(lambda s: s.row(s.y).startswith("some"))
        c.send("\x03")
        assert any("cancelled" in line for line in c.wait_prompt("ask>"))
        server.release()
        c.send("go on\r")
        c.wait(lambda s: s.row(s.y).strip("\u00b7 ").startswith(("wait", "some", "well")) and s.at() > c.from_line)
        c.send("\x03")
        c.wait_prompt("ask>")
        for _ in range(3):
            lines = c.lines("and now", "ask>") if "well again" not in c.screen.text() else lines
            if "well again" in lines:
                break
        assert "well again" in lines, lines
        assert not server.stats()["problems"] and not server.stats()["refused"], server.stats()
        c.send("\x04")
        c.wait_prompt()
        c.leave()


def test_agents():
    """console: a handoff is shown; a model's error is one sentence; without a model it is said what to do"""
    write("team.lua", """
local lash = require "lash"
local expert = lash.agent { name = "expert", model = "script:expert.json" }
return lash.agent { name = "front", model = "script:front.json", handoffs = { expert } }
""")
    write("front.json", json.dumps([{"calls": [{"name": "handoff", "args": {"agent": "expert"}}]}]))
    write("expert.json", json.dumps([{"text": "I am the expert"}]))
    c = Console("team.lua", "-i")
    lines = c.lines("> help", "ask>")
    assert "-> expert" in lines and "I am the expert" in lines, lines
    c.send("\x04")
    c.wait_prompt()
    c.leave()
    c = Console()
    text = " ".join(c.lines("> hello", "ask>"))
    assert "no model is chosen" in text and "-m demo" in text, text
    c.talk("ask> .model demo\n> asks demo", "ask>")
    assert "hello you" in " ".join(c.lines("hello you", "ask>"))
    c.talk("ask> \nlua> 1\n1")
    c.leave()
    with modeld.Server([{"reply": {"status": 400, "message": "no such thing"}}]) as server:
        c = asking(server, columns=160)
        text = "\n".join(c.lines("> hello", "ask>"))
        assert "lash: " in text and "no such thing" in text and "traceback" not in text, text
        c.send("\x04")
        c.wait_prompt()
        c.leave()


def test_control_characters():
    """console: what a model says does not steer the terminal"""
    write("play.json", json.dumps([{"text": "a\x1b[2Jb\x07c"}]))
    c = Console("-m", "script:play.json")
    lines = c.lines("> x", "ask>")
    assert lines[1] == "a^[[2Jb^Gc", lines
    c.send("\x04")
    c.wait_prompt()
    c.leave()


def test_dumb():
    """console: ask mode with TERM=dumb: no control sequences, a line for each call when it is over"""
    write("t.lua", TOOLS + "return wait")
    write("go1", "")
    write("play.json", json.dumps([{"calls": [{"name": "wait", "args": {"n": 1}}]}, {"text": "fine"}]))
    c = Console("-m", "script:play.json", env={"TERM": "dumb"})
    c.screen.sequence = None
    c.enter(".load t.lua")
    lines = c.lines("> go", "ask>")
    assert "wait(n=1)" in lines[1] and lines[2] == "fine", lines
    c.talk("ask> \nlua> 1\n1")
    c.leave()
