"""SIGINT, SIGTERM, SIGHUP: the first cancels what the command does, the second ends the program."""
import json
import os
import select
import signal
import subprocess
import time

import modeld
from cli import LASH, SLOWER, Terminal, needs_prompt_signals, write


class Program:
    """The program with pipes; its lines come as they are written."""

    def __init__(self, *args, env=None, stdin=subprocess.DEVNULL, ignore=()):
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # whatever the one who tests ignores
            signal.signal(sig, signal.SIG_IGN if sig in ignore else signal.SIG_DFL)
        self.process = subprocess.Popen(LASH + list(args), env=dict(os.environ, **(env or {})), stdin=stdin,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.text = {self.process.stdout: "", self.process.stderr: ""}
        self.seen = dict.fromkeys(self.text, 0)

    def until(self, part, err=False, limit=25):
        """Waits for a text on stdout or stderr, behind the one that was waited for before."""
        stream = self.process.stderr if err else self.process.stdout
        end = time.monotonic() + limit * SLOWER
        while self.text[stream].find(part, self.seen[stream]) < 0:
            ready, _, _ = select.select([stream], [], [], max(0, end - time.monotonic()))
            data = os.read(stream.fileno(), 65536) if ready else b""
            assert data, "no %r, but %r" % (part, self.text)
            self.text[stream] += data.decode("utf-8", "replace")
        self.seen[stream] = self.text[stream].index(part, self.seen[stream]) + len(part)

    def send(self, sig=signal.SIGINT):
        self.process.send_signal(sig)

    def end(self, want, limit=25):
        """The rest of both streams; `want` is the signal that it dies by, or an exit status."""
        try:
            out, err = self.process.communicate(timeout=limit * SLOWER)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            raise AssertionError("no end within %g s: %r %r" % (limit * SLOWER, out, err))
        out = self.text[self.process.stdout] + out.decode("utf-8", "replace")
        err = self.text[self.process.stderr] + err.decode("utf-8", "replace")
        want = -want if isinstance(want, signal.Signals) else want
        assert self.process.returncode == want, "status %r\nstdout: %s\nstderr: %s" % (
            self.process.returncode, out, err)
        return out, err


def wait_for(check, limit=25):
    """A state of another process, of which no event tells."""
    end = time.monotonic() + limit * SLOWER
    while not check():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


HANGS = {"rules": [{"when": {}, "turns": [{"reply": {"hang": True}}]}]}


def last_event(out):
    events = [json.loads(line) for line in out.splitlines()]
    assert [e["type"] for e in events].count("run.end") == 1 and events[-1]["type"] == "run.end", out
    return events[-1]


def test_ask_hanging_model():
    """T9 T4 ask: SIGINT ends a request that hangs; run.end is the last line, the connection is closed"""
    with modeld.Server(HANGS) as server:
        p = Program("ask", "--jsonl", "-m", "openai/gpt-5", "hi", env=server.env)
        p.until('"model.request"')
        wait_for(lambda: server.stats()["requests"] == 1)
        started = time.monotonic()
        p.send()
        out, err = p.end(signal.SIGINT)
        assert time.monotonic() - started < 20 * SLOWER
        end = last_event(out)
        assert (end["reason"], end["exit"], end["ok"]) == ("cancelled", 130, False), end
        assert "cancelled" in err and "bug" not in err, err
        wait_for(lambda: server.stats()["open"] <= 1)  # that of the question itself


TOOLS = """
local lash = require "lash"
local function say(text) io.stderr:write(text, "\\n") end
return {
    lash.tool { name = "waits", async = function()
        local closer <close> = setmetatable({}, { __close = function() say("waits closed") end })
        say("waits started")
        lash.sleep(3600)
    end },
    lash.tool { name = "spins", sync = function()
        io.stderr:write("spins started\\n")
        while true do pcall(function() while true do end end) end
    end },
    lash.tool { name = "quick", async = function() return "done" end },
    lash.tool { name = "computes", async = function()
        say("computes started")
        while true do pcall(function() while true do end end) end
    end },
    lash.tool { name = "stubborn", async = function()
        local closer <close> = setmetatable({}, { __close = function()
            say("closer started")
            os.execute("exec sleep 30 >/dev/null 2>&1")
        end })
        say("stubborn started")
        lash.sleep(3600)
    end },
}
"""


def play(*names):
    write("tools.lua", TOOLS)
    write("play.json", json.dumps([{"text": "first I look", "calls": [{"name": n, "args": {}} for n in names]},
                                   {"text": "end"}]))
    return ["ask", "-m", "script:play.json", "-t", "tools.lua", "hi"]


def test_ask_running_tools():
    """T9 T4 ask: SIGINT in a batch: settled calls stay, running ones end, a spinning worker too"""
    needs_prompt_signals()
    p = Program(*play("quick", "waits", "spins"), "--jsonl")
    p.until("waits started", err=True)
    p.until("spins started", err=True)
    p.send()
    out, err = p.end(signal.SIGINT)
    end = last_event(out)
    assert end["reason"] == "cancelled" and end["exit"] == 130 and end["text"] == "first I look", end
    ends = {e["name"]: e["status"] for e in map(json.loads, out.splitlines()) if e["type"] == "call.end"}
    assert ends == {"quick": "ok", "waits": "cancelled", "spins": "cancelled"}, ends
    assert "waits closed" in err, err


def test_ask_text_and_json():
    """T9 ask: what was answered so far is printed, as text and as json; the status is the signal's"""
    p = Program(*play("waits"))
    p.until("waits started", err=True)
    p.send()
    out, err = p.end(signal.SIGINT)
    assert out == "first I look\n" and "lash: the run was cancelled\n" in err, (out, err)
    p = Program(*play("waits"), "--json")
    p.until("waits started", err=True)
    p.send(signal.SIGTERM)
    result = json.loads(p.end(signal.SIGTERM)[0])
    assert (result["reason"], result["exit"]) == ("cancelled", 143), result
    assert [c["status"] for c in result["calls"]] == ["cancelled"], result


def test_ask_async_spin():
    """T9 ask: an async tool that spins in a pcall loop on the main thread is interrupted"""
    needs_prompt_signals()
    p = Program(*play("computes", "waits"), "--jsonl")
    p.until("computes started", err=True)
    p.send()
    end = last_event(p.end(signal.SIGINT)[0])
    assert end["reason"] == "cancelled", end


def test_call():
    """T9 call: SIGINT ends the call; its status is told"""
    write("tools.lua", TOOLS)
    p = Program("call", "--json", "tools.lua", "waits")
    p.until("waits started", err=True)
    p.send()
    result = json.loads(p.end(signal.SIGINT)[0])
    assert (result["status"], result["exit"]) == ("cancelled", 130), result


SPINS = {
    "plain": "while true do end",
    "pcall": "while true do pcall(function() while true do end end) end",
    "xpcall": "while true do xpcall(function() while true do end end, function() while true do end end) end",
    "coroutine": "coroutine.wrap(function() coroutine.wrap(function() while true do end end)() end)()",
    "coroutines": "while true do pcall(coroutine.wrap(function() for i = 1, 1000 do pcall(error) end end)) end",
    "meta": "local t = setmetatable({}, { __index = function() while true do end end }); while true do "
            "pcall(function() return t.x end) end",
    "gsub": "while true do pcall(string.gsub, 'aaa', 'a', function() while true do end end) end",
    "sort": "while true do pcall(table.sort, {3, 2, 1}, function() while true do end end) end",
    "waits": "while true do pcall(lash.sleep, 1000) end",
    "deep": "local function f() pcall(f) while true do end end f()",
}


def test_spinning_scripts():
    """T9 T6 run: a script that spins, in pcall loops, coroutines and callbacks, is interrupted"""
    needs_prompt_signals()
    for name, code in SPINS.items():
        p = Program("-e", "io.write('started\\n') io.flush() " + code)
        p.until("started")
        p.send()
        out, err = p.end(signal.SIGINT)
        assert "lash: cancelled" in err and "bug" not in err, (name, err)


def test_timeout_spin():
    """T9 run: with --timeout the script is a task of its own, and is interrupted all the same"""
    needs_prompt_signals()
    p = Program("run", "--timeout", "1h", write("spin.lua", "print('started') io.flush() while true do end"))
    p.until("started")
    p.send()
    assert "lash: cancelled" in p.end(signal.SIGINT)[1]


CLOSES = """
local function closer(name)
    return setmetatable({}, { __close = function()
        local sum = 0
        for i = 1, 100000 do sum = sum + i end
        print(name, sum)
    end })
end
local outer <close> = closer("outer")
lash.spawn(function()
    local inner <close> = closer("inner")
    lash.sleep(3600)
end)
lash.sleep(0)
print("started")
io.flush()
%s
"""


def test_close_handlers():
    """T9 run: <close> handlers of a script and of its tasks run, and what they print arrives"""
    needs_prompt_signals()
    for body in ("lash.sleep(3600)", "while true do end"):
        p = Program(write("close.lua", CLOSES % body))
        p.until("started")
        p.send()
        out, err = p.end(signal.SIGINT)
        assert "outer\t5000050000\n" in out and "inner\t5000050000\n" in out, (body, out, err)
        assert err == "lash: cancelled\n", err


def test_terminate_and_hangup():
    """T9 T5 run: SIGTERM and SIGHUP are like SIGINT, and the program dies by them"""
    for sig in (signal.SIGTERM, signal.SIGHUP):
        p = Program("-e", "print('started') io.flush() lash.sleep(3600)")
        p.until("started")
        p.send(sig)
        assert p.end(sig)[1] == "lash: cancelled\n"


def test_exit_after_signal():
    """T9 run: a script cannot turn a signal into a status of its own: a loop in a shell would go on"""
    p = Program("-e", "print('started') io.flush() pcall(lash.sleep, 3600) os.exit(0)")
    p.until("started")
    p.send()
    p.end(signal.SIGINT)


def test_before_and_after():
    """T9 run: a signal while modules load or stdin is read ends the program too"""
    read, wrote = os.pipe()
    p = Program("ask", "-m", "demo", "-f", "-", stdin=read)
    os.write(wrote, b"some")
    wait_for(lambda: not select.select([read], [], [], 0)[0])
    p.send()
    out, err = p.end(signal.SIGINT)
    assert out == "" and "cancelled" in err and "bug" not in err, err
    os.close(read)
    os.close(wrote)


def test_blocked_read():
    """T9 run: a blocking io.read of a script ends by SIGINT"""
    read, wrote = os.pipe()
    p = Program("-e", "print('started') io.flush() print(io.read()) print('after')", stdin=read)
    p.until("started")
    def blocks():
        with open(f"/proc/{p.process.pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "S"
    wait_for(blocks)    # a signal that comes just before the read ends it later, see test_read_after_signal
    p.send()
    out, err = p.end(signal.SIGINT)
    assert "after" not in out and err == "lash: cancelled\n", (out, err)
    os.close(read)
    os.close(wrote)


def test_script_from_stdin():
    """T9 run: a script that stdin does not bring is waited for no longer after SIGINT"""
    read, wrote = os.pipe()
    p = Program("-", stdin=read)
    os.write(wrote, b"-- a script\n")
    def waits_again():
        with open(f"/proc/{p.process.pid}/stat", encoding="ascii") as stat:
            return not select.select([read], [], [], 0)[0] and stat.read().rpartition(")")[2].split()[0] == "S"
    while not waits_again():  # it has taken the line
        time.sleep(0.005)
    p.send()
    out, err = p.end(signal.SIGINT)
    assert out == "" and err == "lash: cancelled\n", (out, err)
    os.close(read)
    os.close(wrote)


def test_second_signal():
    """T9 ask: a closer that blocks is told after a while; the second SIGINT ends the program at once"""
    p = Program(*play("stubborn"), "--jsonl")
    p.until("stubborn started", err=True)
    p.send()
    p.until("closer started", err=True)
    started = time.monotonic()
    p.send()
    p.end(signal.SIGINT)
    assert time.monotonic() - started < 20 * SLOWER


STUCK = """
local closer <close> = setmetatable({}, { __close = function()
    string.find(("a"):rep(60), (".-"):rep(30) .. "b")
end })
print("started")
io.flush()
lash.sleep(3600)
"""


def test_patience():
    """T9 run: what the first SIGINT cannot stop is told once, and the second one ends it"""
    needs_prompt_signals()
    p = Program("-e", STUCK)
    p.until("started")
    p.send()
    p.until("a second Ctrl-C ends the program at once\n", err=True)
    p.send()
    out, err = p.end(signal.SIGINT)
    assert err.count("still ending") == 1, err


def test_terminate_by_itself():
    """T9 run: after SIGTERM nobody presses a key: what cannot be stopped is ended after 2 s"""
    needs_prompt_signals()
    p = Program("-e", STUCK)
    p.until("started")
    started = time.monotonic()
    p.send(signal.SIGTERM)
    p.end(signal.SIGTERM)
    assert time.monotonic() - started > 1


def test_ignored_stays_ignored():
    """T9 run: signals that were ignored at the start (nohup, a background job) stay ignored"""
    p = Program("-e", "print('started') io.flush() io.read() lash.sleep(0) print('after')", stdin=subprocess.PIPE,
                ignore=(signal.SIGHUP, signal.SIGINT))
    p.until("started")
    p.send(signal.SIGHUP)
    p.send(signal.SIGINT)
    p.process.stdin.write(b"go on\n")
    p.process.stdin.flush()
    assert "after" in p.end(0)[0]


def test_shell_loop():
    """T9 run: a shell that runs lash in a loop stops on Ctrl-C, and sees 130"""
    needs_prompt_signals()
    command = "for i in 1 2 3; do \"$LASH\" -e 'print(\"started\") io.flush() lash.sleep(3600)'; echo \"status $?\"; done"
    shell = subprocess.Popen(["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                             start_new_session=True, stdin=subprocess.DEVNULL)
    assert shell.stdout.readline() == b"started\n"
    os.killpg(shell.pid, signal.SIGINT)
    out, _ = shell.communicate(timeout=10 * SLOWER)
    assert shell.returncode == -signal.SIGINT and out in (b"", b"status 130\n"), (shell.returncode, out)


def test_prompt_entry():
    """T9 prompt: Ctrl-C cancels the running entry, waiting or spinning, and never leaves"""
    needs_prompt_signals()
    t = Terminal()
    t.read_until("lua> ")
    t.send("print('begun') lash.sleep(3600)\n")
    t.read_until("\rbegun")
    t.send("\x03")
    assert "lash: cancelled" in t.read_until("lua> ")
    t.send("print('begun') while true do pcall(function() while true do end end) end\n")
    t.read_until("\rbegun")
    t.send("\x03")
    assert "lash: cancelled" in t.read_until("lua> ")
    t.send("local n = 0 for i = 1, 20000000 do n = n + 1 end print('whole', n)\n")
    assert "whole\t20000000" in t.read_until("lua> ", limit=30)
    t.send("\x04")
    assert t.rest()[1] == 0


def test_prompt_line():
    """T9 prompt: Ctrl-C takes back the line that is being typed, and an unfinished chunk"""
    needs_prompt_signals()
    t = Terminal()
    t.read_until("lua> ")
    t.send("print('never'")
    t.read_until("print('never'")
    t.send("\x03")
    t.read_until("lua> ")
    t.send("x = {\n")
    t.read_until("lua>> ")
    t.send("\x03")
    t.read_until("lua> ")
    t.send("print('next', x)\n")
    text = t.read_until("lua> ")
    assert "next\tnil" in text and "\nnever" not in text, text
    t.process.send_signal(signal.SIGTERM)
    assert t.rest()[1] == -signal.SIGTERM


def test_execute():
    """T9 run: Ctrl-C while os.execute waits for a child reaches both"""
    needs_prompt_signals()
    t = Terminal("-e", "while true do os.execute('echo the child runs; exec sleep 30') end")
    t.read_until("the child runs")
    t.send("\x03")
    text, status = t.rest()
    assert status == -signal.SIGINT and "lash: cancelled" in text and "the child runs" not in text, text


ASKS = """
local command = "read x; echo stdin $?; (read y </dev/tty) 2>err; echo terminal $?; stty -echo </dev/tty 2>>err"
return require("lash").tool { name = "asks", description = "Asks for a password", sync = function()
    os.execute(command)
    return (io.popen("cat; " .. command):read("a"):gsub("\\n", ", "))
end }"""


def test_execute_of_worker():
    """T4 call: what a sync tool starts has no terminal: it reads nothing from there, and does not wait for it"""
    write("tools.lua", ASKS)
    t = Terminal("call", "tools.lua")
    text, status = t.rest()
    assert status == 0 and text.count("stdin 1") == 2 and text.count("terminal 2") == 2, (status, text)


# require calls one searcher after the other: the second child follows with no Lua between, where a signal could be
# noticed.
TWO = """package.searchers = { os.execute, os.execute }
require "if mkdir first; then kill -INT $PPID; else echo the child runs; exec sleep 30; fi" """


def test_execute_after_signal():
    """T9 run: a signal that comes just before os.execute starts a child is not lost"""
    p = Program("-e", TWO)
    out, _ = p.end(signal.SIGINT)
    assert "the child runs" not in out and os.path.isdir("first"), out


# The two of them run with no Lua between, the second with a format of io.read as its command: "l".
READS = """package.searchers = { os.execute, io.read }
require "l" """


def test_read_after_signal():
    """T9 run: a signal that comes just before a blocking read, where Lua cannot look, ends it in the end"""
    write("l", "#!/bin/sh\nkill -INT $(cat pid)\n")
    os.chmod("l", 0o755)
    read, wrote = os.pipe()
    p = Program("-e", "io.open('pid', 'w'):write(io.open('/proc/self/stat'):read('n')):close() " + READS,
                stdin=read, env={"PATH": os.getcwd() + ":" + os.environ["PATH"]})
    p.end(signal.SIGINT)
    os.close(read)
    os.close(wrote)


def test_execute_at_prompt():
    """T9 prompt: Ctrl-C is for the child that os.execute waits for, however often; then the entry is cancelled"""
    needs_prompt_signals()
    t = Terminal()
    t.read_until("lua> ")
    for command in ("os.execute [[%s]]", "!%s", "local ok = os.execute [[%s]] print('and', 'on')"):
        t.send(command % "trap 'echo got \"it\"' INT; echo ready \"now\"; until read x; do :; done; echo e$x" + "\n")
        t.read_until("ready now")
        for _ in range(3):
            t.send("\x03")
            t.read_until("got it")
        t.send("nd\n")
        text = t.read_until("lua> ")
        assert "\nend" in text and "and\ton" not in text, text
    t.send("os.execute 'echo ready \"now\"; exec sleep 30'\n")
    t.read_until("ready now")
    t.send("\x03")
    t.read_until("lua> ")
    t.send("print('it', 'lives')\n")
    assert "it\tlives" in t.read_until("lua> ")
    t.send("!echo ready \"now\"; exec sleep 30\n")
    t.read_until("ready now")
    t.send("\x03")
    assert "ended by signal 2" in t.read_until("lua> ")
    t.send("\x04")
    assert t.rest()[1] == 0


def test_execute_long():
    """T9 prompt: a program that goes on after Ctrl-C for longer than the patience is left alone"""
    needs_prompt_signals()
    t = Terminal()
    t.read_until("lua> ")
    t.send("os.execute [[trap '' INT; echo ready \"now\"; sleep 2.5; echo woke \"up\"; read x]]\n")
    t.read_until("ready now")
    t.send("\x03")
    assert "a second" not in t.read_until("woke up")
    t.send("\x03\n")
    t.read_until("lua> ")
    t.send("\x04")
    assert t.rest()[1] == 0
