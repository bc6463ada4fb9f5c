"""The program on a terminal: the console in short, live lines, control characters."""
import json
import re
import subprocess

from cli import Terminal, lash, tools, write


def test_prompt():
    """console: expressions print, chunks go on, errors are one line, Ctrl-D leaves"""
    t = Terminal(env={"NO_COLOR": "1"})
    banner = t.read_until("lua> ")
    assert banner.count("\n") <= 2 and "lash" in banner, banner
    t.send("1 + 1, 'two', nil\n")
    assert '2\t"two"\tnil\r\n' in t.read_until("lua> ")
    t.send("x = {\n")
    t.read_until("lua>> ")
    t.send("5 }\n")
    t.read_until("lua> ")
    t.send("= x[1]\n")
    assert "\r5\r\n" in t.read_until("lua> ")
    t.send("nosuch.field\n")
    error = t.read_until("lua> ")
    assert "lash: lua:1: attempt to index a nil value (global 'nosuch')\r\n" in error, error
    assert "traceback" not in error, error
    t.send("error({})\n")
    assert "lash: " in t.read_until("lua> ")
    t.send("x = = 1\n")
    assert "lash: lua:1: unexpected symbol" in t.read_until("lua> ")
    t.send("lash.sleep(0.01) print('slept')\n")
    assert "\rslept\r\n" in t.read_until("lua> ")
    t.send("\n")
    t.read_until("lua> ")
    t.send("\x04")
    assert t.rest()[1] == 0


def test_prompt_exit():
    """console: os.exit leaves with its status; Ctrl-D in an unfinished chunk too"""
    t = Terminal()
    t.read_until("lua> ")
    t.send("os.exit(6)\n")
    assert t.rest()[1] == 6
    t = Terminal()
    t.read_until("lua> ")
    t.send("function f(\n")
    t.read_until("lua>> ")
    t.send("\x04")
    t.read_until("lua> ")
    t.send("\x04")
    assert t.rest()[1] == 0


def test_prompt_runs_agents():
    """console: an agent runs in an entry, and what it started goes on behind it"""
    t = Terminal()
    t.read_until("lua> ")
    t.send("lash.agent { name = 'a', model = 'demo' }:run('Hello you').text\n")
    assert "Hello you" in t.read_until("lua> ")
    t.send("lash.spawn(function() lash.sleep(0.05) print('la' .. 'te') end);\n")
    t.read_until("late\r\n")
    t.send("print('end')\n")
    t.read_until("end\r\n")


def test_no_prompt_words():
    """ask: on a terminal stdin is no material, so a prompt must be given"""
    t = Terminal("ask", "-m", "demo")
    text, status = t.rest()
    assert status == 64 and "there is no prompt" in text, text


def test_live_lines():
    """ask: on a terminal stderr shows each call when it ends; -q does not"""
    tools()
    t = Terminal("ask", "-m", "demo", "-t", "tools.lua", "add 2 and 3, broken", stdout=subprocess.PIPE)
    text, status = t.rest()
    assert status == 0 and t.process.stdout.read() == \
        b"add(a = 2, b = 3): 5\nbroken() failed: tools.lua:12: attempt to index a nil value (local 't')\n"
    assert "\x1b[32m\u2713\x1b[0m add a=2 b=3" in text and re.search(r"\x1b\[2mok \d+ ms", text), repr(text)
    assert "\x1b[31m\u2717\x1b[0m broken" in text and "attempt to in" in text, repr(text)
    text, _ = Terminal("-q", "ask", "-m", "demo", "-t", "tools.lua", "add 2 and 3").rest()
    assert "\u2713" not in text, repr(text)


def test_colour():
    """--color NO_COLOR LASH_COLOR: no colour where it is not wanted, signs for other locales"""
    tools()
    args = ("ask", "-m", "demo", "-t", "tools.lua", "add 2 and 3")
    for env in ({"NO_COLOR": "1"}, {"LASH_COLOR": "never"}, {"TERM": "dumb"}):
        text, _ = Terminal(*args, env=env).rest()
        assert "\x1b" not in text and "\u2713 add" in text, (env, text)
    text, _ = Terminal("--color", "always", *args, env={"NO_COLOR": "1"}).rest()
    assert "\x1b[32m" in text
    text, _ = Terminal("--color=never", *args, env={"LC_ALL": "C"}).rest()
    assert "+ add a=2 b=3" in text, text


NASTY = "a\x1b[31mred\x07 \x9b2J bell\rback \u202ereversed\ttab\u2713"


def test_control_characters():
    """--raw: control characters of a model reach a terminal only with it, and are kept elsewhere"""
    write("play.json", json.dumps([{"text": NASTY}]))
    text, status = Terminal("ask", "-m", "script:play.json", "hi").rest()
    assert status == 0 and "a^[[31mred^G <U+009B>2J bell^Mback <U+202E>reversed\ttab\u2713\r\n" in text, repr(text)
    text, _ = Terminal("ask", "--raw", "-m", "script:play.json", "hi").rest()
    assert "a\x1b[31mred\x07" in text, repr(text)
    assert lash("ask", "-m", "script:play.json", "hi").out == NASTY + "\n"


def test_call_arguments_harmless():
    """ask: control characters in a call's arguments and output do not reach a terminal"""
    tools()
    write("play.json", json.dumps([{"calls": [{"name": "echo", "args": {"text": "x\x1b[2J" + "y" * 200}},
                                              {"name": "nosuch\x1b[2J", "args": {}}]}, {"text": "end"}]))
    text, status = Terminal("ask", "-m", "script:play.json", "-t", "tools.lua", "hi", env={"NO_COLOR": "1"}).rest()
    assert status == 0 and "\x1b" not in text and "..." in text, repr(text)


def test_tools_width():
    """tools: on a terminal descriptions are cut to its width, in a pipe they are whole"""
    write("long.lua", "return require('lash').tool { name = 'x', async = print, description = ('word '):rep(60) }")
    text, _ = Terminal("tools", "long.lua", env={"NO_COLOR": "1"}).rest()
    assert "..." in text and max(len(line) for line in text.splitlines()) <= 80, text
    assert "word " * 59 in lash("tools", "long.lua").out
