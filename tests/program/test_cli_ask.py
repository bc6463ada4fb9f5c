"""lash ask: prompt, material, tools, formats, exit statuses."""
import json
import os
import subprocess
import time

from cli import LASH, SLOWER, expect, lash, objects, one_line, tools, write

ADD = ("ask", "-m", "demo", "-t", "tools.lua")


def test_text():
    """ask: stdout carries the answer alone, whatever files and tools print"""
    tools()
    expect(lash(*ADD, "add 2 and 3"), 0, "add(a = 2, b = 3): 5\n", "loading\n")
    r = expect(lash(*ADD, "noisy"), 0, "noisy(): quiet\n", ["printed", "written", "raw"])
    assert r.out == "noisy(): quiet\n", r
    expect(lash("-m", "demo", "-p", "Hello you"), 0, "Hello you", "")
    expect(lash("ask", "-m", "demo", "several", "words", "--", "-m"), 0, "several words -m", "")


def test_nothing_by_itself():
    """ask: without -t the model gets no tools; demo is never taken by itself"""
    r = expect(lash("ask", "-m", "demo", "--dry-run", "--json", "add 1"), 0, None, "")
    assert json.loads(r.out)["body"]["tools"] == [], r
    one_line(expect(lash("ask", "hi"), 78, "", ["LASH_MODEL", "-m demo"]))
    one_line(expect(lash("ask", "-m", "openai/gpt-5", "hi"), 78, "", ["OPENAI_API_KEY"]))
    one_line(expect(lash("ask", "-m", "nosuch/x", "hi"), 64, "", "'nosuch'"))
    expect(lash("ask", "hi", env={"LASH_MODEL": "demo"}), 0, "hi")


def test_json():
    """ask --json: the fields of run.end with calls, agent and model, in every case"""
    tools()
    r = objects(expect(lash(*ADD, "--json", "add 2 and 3, then broken"), 0, None, "loading\n"))
    assert len(r) == 1 and r[0]["ok"] and r[0]["exit"] == 0 and r[0]["reason"] == "done", r
    assert r[0]["agent"] == "lash" and r[0]["model"] == "demo" and r[0]["turns"] == 2, r
    assert [(c["call"], c["name"], c["status"]) for c in r[0]["calls"]] == \
        [("1.1", "add", "ok"), ("1.2", "broken", "error")], r
    for args, status in ((["ask", "--json", "hi"], 78), (["ask", "-o", "json", "-m", "demo"], 64),
                         (["ask", "--json", "-m", "demo", "-t", "nosuch.lua", "hi"], 66),
                         (["ask", "--json", "-m", "demo", "-f", "nosuch.txt", "hi"], 66)):
        r = expect(lash(*args), status)
        one = objects(r)
        assert len(one) == 1 and not one[0]["ok"] and one[0]["exit"] == status and one[0]["error"] in r.err, r


def test_jsonl():
    """D18 ask --jsonl: one event a line, run.end last with the exit status, also on errors"""
    tools()
    events = objects(expect(lash(*ADD, "--jsonl", "add 2 and 3"), 0))
    assert [e["type"] for e in events] == ["run.start", "model.request", "call.ready", "model.end", "call.start",
                                           "call.end", "model.request", "text", "model.end", "run.end"], events
    assert all(isinstance(e["t"], int) and e["agent"] == "lash" for e in events)
    start, end = events[4], events[5]
    assert (start["call"], start["mark"], json.loads(start["args"])) == ("1.1", "sync", {"a": 2, "b": 3})
    assert (end["call"], end["status"], end["output"]) == ("1.1", "ok", "5")
    for args, status in ((["hi"], 78), (["-m", "nosuch/x", "hi"], 64), (["-m", "demo", "-t", "nosuch.lua", "hi"], 66),
                         (["-m", "demo"], 64)):
        last = objects(expect(lash("ask", "--jsonl", *args), status))[-1]
        assert last["type"] == "run.end" and last["exit"] == status and not last["ok"], last


def test_jsonl_flushed():
    """ask --jsonl: each line arrives when it happens"""
    write("t.lua", """return require("lash").tool { name = "wait", description = "x",
        async = function() repeat lash.sleep(0.01) until lash.fs.exists("go") return "done" end }""")
    process = subprocess.Popen(LASH + ["ask", "-m", "demo", "--jsonl", "-t", "t.lua", "wait"],
                               stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    types = []
    for line in process.stdout:
        types.append(json.loads(line)["type"])
        if types[-1] == "call.start":
            write("go", "")     # not before: the call would never end
    assert process.wait() == 0 and "call.start" in types and "call.end" in types, types


def test_formats():
    """ask: two formats at once are refused"""
    one_line(expect(lash("ask", "--json", "-o", "jsonl", "hi"), 64, "", "keep one"))
    one_line(expect(lash("ask", "-o", "yaml", "hi"), 64, "", "got 'yaml'"))


def message_of(*args, **options):
    r = expect(lash("ask", "-m", "demo", "--dry-run", "--json", *args, **options), 0)
    return json.loads(r.out)["body"]["entries"][0]["text"]


def test_material():
    """ask: stdin and -f are material in front of the prompt; stdin alone is the prompt"""
    write("notes.md", "some notes\n")
    assert message_of("say it") == "say it"
    assert message_of("say it", stdin="piped") == "<stdin>\npiped\n</stdin>\n\nsay it"
    assert message_of("say it", stdin="") == "say it"
    assert message_of(stdin="the prompt\n") == "the prompt\n"
    assert message_of("-f", "notes.md", "-f", "notes.md", "sum", "up") == \
        "<file name=\"notes.md\">\nsome notes\n</file>\n\n" * 2 + "sum up"
    assert message_of("-f", "-", "-f", "notes.md", "go", stdin="in") == \
        "<stdin>\nin\n</stdin>\n\n<file name=\"notes.md\">\nsome notes\n</file>\n\ngo"
    with open("notes.md") as f:
        assert message_of("say it", stdin=f) == "<stdin>\nsome notes\n</stdin>\n\nsay it"
    with open("notes.md") as f:
        assert message_of("-f", "notes.md", stdin=f).endswith("</file>\n\nsome notes\n")
    one_line(expect(lash("ask", "-m", "demo", "-f", "-", "-f", "-", "go", stdin="in"), 64, "", "stdin can be read once"))


def test_no_prompt():
    """ask: no prompt at all is 64, material that is none 66 or 65"""
    one_line(expect(lash("ask", "-m", "demo"), 64, "", "no prompt"))
    one_line(expect(lash("ask", "-m", "demo", stdin="  \n"), 64, "", "no prompt"))
    one_line(expect(lash("ask", "-m", "demo", "-f", "nosuch.txt", "hi"), 66, "", "nosuch.txt"))
    one_line(expect(lash("ask", "-m", "demo", "-f", ".", "hi"), 66, "", "directory"))
    with open("bytes", "wb") as f:
        f.write(b"ok \xff\xfe")
    one_line(expect(lash("ask", "-m", "demo", "-f", "bytes", "hi"), 65, "", "bytes is no UTF-8 text (byte 4)"))
    one_line(expect(lash("ask", "-m", "demo", "-f", "/dev/zero", "hi"), 65, "", "larger than"))
    expect(lash("ask", "-m", "demo", "hi", stdin=b"\xff", text=False), 65)


def test_open_pipe():
    """ask: an open pipe that delivers nothing is 66, never a hang; with --timeout 124"""
    code = "require('lash.cmd.input').FIRST_BYTE = 50 os.exit(require('lash.cmd')({ 'ask', '-m', 'demo', 'hi' }))"
    read, held = os.pipe()
    with os.fdopen(read) as stdin:
        one_line(expect(lash("-e", code, stdin=stdin), 66, "", ["stdin is open", "</dev/null"]))
        one_line(expect(lash("ask", "--timeout", "50ms", "-m", "demo", "hi", stdin=stdin), 124, "", "--timeout"))
        os.write(held, b"begun") # and never ended
        one_line(expect(lash("ask", "--timeout", "50ms", "-m", "demo", "hi", stdin=stdin), 124, "", "--timeout"))
    os.close(held)


def test_system():
    """ask -s: text or @FILE as system prompt; it replaces an agent's instructions"""
    write("sys.md", "From a file")
    write("agent.lua", "return require('lash').agent { name = 'mine', model = 'demo', instructions = 'Old' }")

    def system(*args):
        return json.loads(expect(lash("ask", "--dry-run", "--json", *args, "hi"), 0).out)["body"]["system"]

    assert system("-m", "demo", "-s", "Be brief") == "Be brief"
    assert system("-m", "demo", "-s", "@sys.md") == "From a file"
    assert system("-t", "agent.lua") == "Old"
    assert system("-t", "agent.lua", "-s", "New") == "New"
    one_line(expect(lash("ask", "-m", "demo", "-s", "@nosuch", "hi"), 66, "", "nosuch"))


def test_agent_file():
    """ask -t: an agent is asked, tools of other files are added, several agents are an error"""
    tools()
    write("agent.lua", """local lash = require "lash"
        local mine = lash.tool { name = "mine", description = "x", async = function() return "mine!" end }
        return lash.agent { name = "owner", model = "demo", tools = { mine } }""")
    r = objects(lash("ask", "-t", "agent.lua", "-t", "tools.lua", "--json", "mine and add 1 2"))[0]
    assert r["agent"] == "owner" and [c["name"] for c in r["calls"]] == ["mine", "add"], r
    write("two.lua", """local lash = require "lash"
        return { lash.agent { name = "one" }, lash.agent { name = "two" } }""")
    one_line(expect(lash("ask", "-m", "demo", "-t", "two.lua", "hi"), 64, "", "one, two"))
    write("clash.lua", """local lash = require "lash"
        return lash.tool { name = "mine", description = "x", async = function() end }""")
    one_line(expect(lash("ask", "-t", "agent.lua", "-t", "clash.lua", "hi"), 65, "", "two tools are named 'mine'"))


def test_tools_files():
    """ask -t: files that cannot be used: missing, syntax, faults, nothing returned, wrong values, os.exit, runs"""
    for name, text, status, part in (
            ("syntax.lua", "return {", 65, "syntax.lua:1:"),
            ("both.lua", "return require('lash').tool { name = 'x', sync = print, async = print }", 1, "both marks"),
            ("schema.lua", "return require('lash').tool { name = 'x', schema = 5, async = print }", 1, "schema"),
            ("nothing.lua", "local x = 1", 65, "returns no tool"),
            ("wrong.lua", "return { 5 }", 65, "is a number"),
            ("leaves.lua", "os.exit(0)", 1, "os.exit was called while the file was loaded"),
            ("runs.lua", "lash.agent { name = 'a' }:run('x')", 1, "`if lash.main then`"),
            ("raises.lua", "error('own fault')", 1, "raises.lua:1: own fault")):
        write(name, text)
        one_line(expect(lash("ask", "-m", "demo", "-t", name, "hi"), status, "", part))
    one_line(expect(lash("ask", "-m", "demo", "-t", "nosuch.lua", "hi"), 66, "", "nosuch.lua"))


def test_load_limit():
    """ask -t: a file that loads for ever is stopped, whether it waits or computes"""
    write("spins.lua", "while true do end")
    write("waits.lua", "lash.sleep(60)")
    for name in ("spins.lua", "waits.lua"):
        one_line(expect(lash("ask", "-m", "demo", "--timeout", "1s", "-t", name, "hi"), 124, "", name))


def play(*turns):
    write("play.json", json.dumps(list(turns)))
    return "script:play.json"


def test_status():
    """ask: only a normal end with an answer is success; each other end has its status in all formats"""
    tools()
    call = {"calls": [{"name": "add", "args": {"a": 1, "b": 2}}]}
    for text, args, status in (("  ", [], 65), ("cut", ["length"], 80), ("no", ["refusal"], 69), ("x", ["filter"], 69)):
        model = play(dict({"text": text}, **({"stop": args[0]} if args else {})))
        expect(lash("ask", "-m", model, "hi"), status, None, "lash: ")
        assert objects(lash("ask", "-m", model, "--json", "hi"))[0]["exit"] == status
        assert objects(lash("ask", "-m", model, "--jsonl", "hi"))[-1]["exit"] == status
    model = play(call, {"text": "so far"})
    expect(lash("ask", "-m", model, "-t", "tools.lua", "--max-turns", "1", "hi"), 80, "so far\n", "--max-turns")
    used = dict(call, usage={"input": 50, "output": 60})
    r = lash("ask", "-m", play(used, {"text": "x"}), "-t", "tools.lua", "--max-tokens", "100", "hi")
    expect(r, 80, None, "--max-tokens")
    model = play({"error": {"code": "overloaded", "message": "the server is busy"}})
    expect(lash("ask", "-m", model, "hi"), 75, "", "busy")
    model = play({"text": "one"}, {"text": "two"})
    one_line(expect(lash("ask", "-m", model, "hi"), 65, "one\n", "2 turns"))
    assert objects(lash("ask", "-m", model, "--jsonl", "hi"))[-1]["exit"] == 65


def test_timeout():
    """B1 T7 ask --timeout: covers the run, run.end tells it"""
    model = play({"text": "late", "delay": 30})
    one_line(expect(lash("ask", "-m", model, "--timeout", "80ms", "hi"), 124, "", "--timeout"))
    last = objects(expect(lash("ask", "-m", model, "--timeout", "80ms", "--jsonl", "hi"), 124))[-1]
    assert last["type"] == "run.end" and last["reason"] == "time" and last["exit"] == 124, last


def test_out():
    """ask --out: the answer in a file, whole or not at all, only when it succeeds"""
    write("old.txt", "old")
    os.chmod("old.txt", 0o640)
    os.symlink("old.txt", "link.txt")
    expect(lash("ask", "-m", "demo", "--out", "link.txt", "Hello"), 0, "Hello")
    assert "Hello" in open("old.txt").read() and os.path.islink("link.txt")
    assert os.stat("old.txt").st_mode & 0o777 == 0o640
    expect(lash("ask", "-m", play({"text": ""}), "--out", "new.txt", "hi"), 65)
    assert not os.path.exists("new.txt")
    one_line(expect(lash("ask", "-m", "demo", "--out", "no/such/x", "hi"), 73, "", "no/such"))
    one_line(expect(lash("ask", "-m", "demo", "--out", ".", "hi"), 73, "", "directory"))
    expect(lash("ask", "-m", "demo", "--out", "/dev/full", "hi"), 73, "hi", "/dev/full")
    assert os.path.exists("/dev/full") and [f for f in os.listdir(".") if f.endswith(".tmp")] == []


def test_closed_stdout():
    """ask: a reader that goes away ends it with 141, a full disk with 74"""
    tools()
    for form in ("text", "jsonl"):
        with open("/dev/full", "w") as full:
            done = subprocess.run(LASH + [*ADD, "-o", form, "add 1 2"], stdout=full, stderr=subprocess.PIPE,
                                  stdin=subprocess.DEVNULL, timeout=20 * SLOWER)
        assert done.returncode == 74 and b"cannot write to stdout" in done.stderr, done
        read, wrote = os.pipe()
        os.close(read)
        done = subprocess.run(LASH + [*ADD, "-o", form, "add 1 2"], stdout=wrote, stderr=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, timeout=20 * SLOWER)
        os.close(wrote)
        assert done.returncode == 141 and b"lash" not in done.stderr, done


def test_slow_reader():
    """ask: a slow reader gets all bytes"""
    text = "x" * 300000
    process = subprocess.Popen(LASH + ["ask", "-m", play({"text": text})], stdout=subprocess.PIPE,
                               stdin=subprocess.PIPE)
    process.stdin.write(b"hi")
    process.stdin.close()
    time.sleep(0.1)
    assert process.stdout.read() == text.encode() + b"\n" and process.wait() == 0


def test_quiet_and_verbose():
    """ask -q -v: nothing about calls without a terminal, all of it with -v"""
    tools()
    expect(lash("-q", *ADD, "add 1 2"), 0, "3", "loading\n")
    r = expect(lash("-v", *ADD, "add 1 2"), 0, "3", ["turn 1: asking demo/demo", "add a=1 b=2  ok", "answer after"])
    assert "\x1b" not in r.err, r
    assert "\x1b[32m" in lash("-v", "--color", "always", *ADD, "add 1 2").err


def test_help_and_version():
    """ask: --help and --version work after any command"""
    for command in ("run", "ask", "call", "tools", "check", "new", "help", "version"):
        expect(lash(command, "--help"), 0, "lash " + command, "")
        expect(lash(command, "-h"), 0, "lash " + command, "")
        expect(lash(command, "--version"), 0, "lash ", "")
