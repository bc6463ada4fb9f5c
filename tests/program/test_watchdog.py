"""Tasks that hold the main loop are told, once, and only where that delays somebody."""
import json
import re

from cli import SLOWER, expect, lash, needs_prompt_signals, write

MS = int(30 * SLOWER)
ENV = {"LASH_WATCHDOG": str(MS)}

# burns(s): computes for s seconds of the machine's usual speed, and longer where it is slow
TOOLS = """
local lash = require "lash"
local scale = %g
local function burns(s)
    local ends = os.clock() + s * scale
    while os.clock() < ends do end
end
local computes = lash.tool { name = "computes", params = { n = "integer?" }, async = function(args)
    burns(0.18)
    return "computed"
end }
local offloads = lash.tool { name = "offloads", sync = function(args)
    burns(0.18)
    return "computed"
end }
local waits = lash.tool { name = "waits", async = function(args)
    lash.sleep(0.3 * scale)
    return "waited"
end }
local blocks = lash.tool { name = "blocks", async = function(args)
    os.execute("sleep " .. 0.3 * scale)
    return "blocked"
end }
local nested = lash.tool { name = "nested", async = function(args)
    coroutine.wrap(function()
        lash.gather { function() burns(0.18) end }
    end)()
    return "nested"
end }
return { computes, offloads, waits, blocks, nested }
""" % SLOWER


def play(*names, tools=TOOLS):
    write("tools.lua", tools)
    calls = [{"name": n, "args": {"n": i} if n == "computes" else {}} for i, n in enumerate(names)]
    write("play.json", json.dumps([{"calls": calls}, {"text": "end"}]))
    return ["ask", "-m", "script:play.json", "-t", "tools.lua", "hi"]


def told(done, who):
    """The one text, and the ms in it; others may have the processor for so long that it is told early."""
    found = re.findall(r"lash: warning: (.*) (?:held|holds) the main loop for (\d+) ms", done.err)
    assert len(found) == 1 and found[0][0] == who and done.err.count("main loop") == 1, done
    return int(found[0][1])


def line_of(part):
    return next(n for n, line in enumerate(TOOLS.splitlines(), 1) if part in line)


def test_async_tool():
    """watchdog: an async tool that computes is told once: its name, its line, the advice, where it was"""
    needs_prompt_signals()
    done = expect(lash(*play("computes"), env=ENV), 0, "end\n")
    place = "tools.lua:%d" % line_of('name = "computes"')
    assert told(done, "the tool 'computes' (async, %s)" % place) >= MS, done
    assert "mark it `sync`" in done.err and "stack traceback:\n\ttools.lua:" in done.err, done
    assert "in upvalue 'burns'" in done.err, done


def test_default():
    """watchdog: it is on by default, LASH_WATCHDOG=0 switches it off, a wrong value is refused"""
    needs_prompt_signals()
    longer = play("computes", tools=TOOLS.replace("burns(0.18)", "burns(0.3)"))
    expect(lash(*longer, env={"LASH_WATCHDOG": ""}), 0, None, "the main loop for ")
    expect(lash(*play("computes"), env={"LASH_WATCHDOG": "0"}), 0, None, "")
    expect(lash(*play("computes"), env={"LASH_WATCHDOG": "60000"}), 0, None, "")
    expect(lash(*play("computes"), env={"LASH_WATCHDOG": "soon"}), 64, None, "LASH_WATCHDOG")
    expect(lash("-q", *play("computes"), env=ENV), 0, "end\n", "")


def test_who_is_not_told():
    """watchdog: sync tools and tools that wait are not told"""
    needs_prompt_signals()
    expect(lash(*play("offloads", "waits", "offloads"), env=ENV), 0, "end\n", "")


def test_event():
    """watchdog: the run that holds the loop gets a warning event, before the call ends, and stderr one text"""
    needs_prompt_signals()
    done = expect(lash(*play("computes", "waits"), "--jsonl", env=ENV), 0)
    events = [json.loads(line) for line in done.out.splitlines()]
    warnings = [e for e in events if e["type"] == "warning"]
    assert len(warnings) == 1 and "the tool 'computes'" in warnings[0]["text"], done
    assert warnings[0]["agent"] == "lash" and set(warnings[0]) == {"type", "t", "agent", "text"}, warnings
    kinds = [e["type"] for e in events if e.get("name", "computes") == "computes"]
    assert kinds.index("call.start") < kinds.index("warning") < kinds.index("call.end"), done
    assert events[-1]["type"] == "run.end" and done.err.count("main loop") == 1, done


def test_once_per_place():
    """watchdog: the same tool is told once however often it runs; two tools are told once each"""
    needs_prompt_signals()
    done = expect(lash(*play("computes", "computes", "nested"), env=ENV), 0)
    assert done.err.count("main loop") == 2, done
    assert done.err.count("the tool 'computes'") == 1 and done.err.count("the tool 'nested'") == 1, done


def test_blocking():
    """watchdog: a tool that blocks in C is told when it goes on, with the whole time"""
    needs_prompt_signals()
    done = expect(lash(*play("blocks", "waits"), env=ENV), 0)
    assert told(done, "the tool 'blocks' (async, tools.lua:%d)" % line_of('name = "blocks"')) >= 200 * SLOWER, done


def test_call():
    """watchdog: lash call tells it too"""
    needs_prompt_signals()
    write("tools.lua", TOOLS)
    done = expect(lash("call", "--jsonl", "tools.lua", "computes", env=ENV), 0)
    assert told(done, "the tool 'computes' (async, tools.lua:%d)" % line_of('name = "computes"')) >= MS, done
    assert [json.loads(line)["type"] for line in done.out.splitlines()] == ["call.start", "warning", "call.end"], done


SCRIPT = """
local function burns(s)
    local ends = os.clock() + s
    while os.clock() < ends do end
end
%s
"""


def test_script_alone():
    """watchdog: a script that computes alone is not told, nor the one task that it waits for"""
    needs_prompt_signals()
    for body in ("burns(%g)", "lash.gather { function() burns(%g) end }",
                 "local t = lash.spawn(function() burns(%g) end) t:wait()"):
        write("s.lua", SCRIPT % (body % (0.18 * SLOWER)))
        expect(lash("s.lua", env=ENV), 0, "", "")
    expect(lash("run", "--timeout", "1h", "s.lua", env=ENV), 0, "", "")


def test_script_with_others():
    """watchdog: a script's task beside which others live is told with its place"""
    needs_prompt_signals()
    for body, place in (("lash.spawn(function() lash.sleep(3600) end)\nlash.sleep(0)\nburns(%g)", "a task (s.lua)"),
                        ("lash.gather { function() lash.sleep(0.01) end,\nfunction() burns(%g) end }",
                         "a task (s.lua:7)")):
        write("s.lua", SCRIPT % (body % (0.18 * SLOWER)))
        done = expect(lash("s.lua", env=ENV), 0, "")
        assert told(done, place) >= MS, done
        assert "lash.sleep(0)" in done.err and "s.lua:4: in " in done.err, done


def test_still_holding():
    """watchdog: what holds the loop for long is told while it does"""
    needs_prompt_signals()
    body = "lash.spawn(function() lash.sleep(3600) end) local start = lash.now() burns(%g) " \
        "while lash.now() < start + 1.2 do end io.stderr:write('after\\n')"
    write("s.lua", SCRIPT % (body % SLOWER))
    done = expect(lash("s.lua", env=ENV), 0, "", ["holds the main loop", "after"])
    assert done.err.index("holds the main loop") < done.err.index("after") and done.err.count("main loop") == 1, done


def test_handful():
    """watchdog: at most a handful is told"""
    needs_prompt_signals()
    body = "\n".join("lash.spawn(function() burns(%g) end)" % (0.09 * SLOWER) for _ in range(7))
    write("s.lua", SCRIPT % (body + "\nlash.sleep(0)"))
    done = expect(lash("s.lua", env=ENV), 0, "", "further ones are not told")
    assert done.err.count("main loop") == 5, done


def test_debug_hooks():
    """watchdog: a hook that a script has set itself stays"""
    needs_prompt_signals()
    write("s.lua", """
lash.spawn(function() lash.sleep(3600) end)
local n = 0
debug.sethook(function() n = n + 1 end, "", 1000)
local ends = os.clock() + %g
while os.clock() < ends do end
print(n > 100, debug.gethook() ~= nil)
""" % (0.18 * SLOWER))
    expect(lash("s.lua", env=ENV), 0, "true\ttrue\n", "")
