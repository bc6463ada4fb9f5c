"""lash tools, check, new, help, version, and that what the manual shows runs."""
import glob
import json
import os
import re
import subprocess

from cli import LASH, expect, lash, one_line, tools, write

ROOT = os.path.dirname(os.environ["LASH_TESTS"])
PAGES = os.path.join(ROOT, "lua", "lash", "help")


def test_table():
    """tools: a table for people; what the file prints goes to stderr"""
    tools()
    r = expect(lash("tools", "tools.lua"), 0, ["tool   sync   add(a: integer, b: integer)", "The sum",
                                               "tags: string[]?", "mode: fast|slow?", "prompt async  hello"], "loading\n")
    assert "loading" not in r.out
    write("agent.lua", """local lash = require "lash"
        return lash.agent { name = "boss", model = "demo",
            tools = { lash.tool { name = "inner", description = "x", async = print } } }""")
    expect(lash("tools", "agent.lua", "tools.lua"), 0, ["agent.lua:", "agent         boss [demo]", "inner() (of boss)",
                                                        "tools.lua:"])


def test_schema():
    """tools --schema: what a model sees, the same bytes each time"""
    tools()
    write("raw.lua", """return require("lash").tool { name = "raw", description = "d", async = print,
        schema = { type = "object", properties = {}, required = {} } }""")
    r = expect(lash("tools", "--schema", "tools.lua", "raw.lua"), 0)
    assert r.out == lash("--schema", "tools", "tools.lua", "raw.lua").out
    add = json.loads(r.out)[0]
    assert add == {"name": "add", "description": "The sum", "parameters": {
        "type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"], "additionalProperties": False}}, add
    assert json.loads(r.out)[-1]["parameters"] == {"type": "object", "properties": {}, "required": []}, r.out


def test_json():
    """tools --json: everything, for programs"""
    tools()
    all_of = json.loads(expect(lash("tools", "--json", "tools.lua"), 0).out)
    assert [t["name"] for t in all_of["tools"]] == ["add", "echo", "slow", "broken", "quit", "noisy"]
    slow = all_of["tools"][2]
    assert (slow["mark"], slow["timeout"], slow["file"]) == ("async", 0.05, "tools.lua"), slow
    assert [p["name"] for p in all_of["prompts"]] == ["hello"] and all_of["agents"] == []
    write("fields.lua", """local lash = require "lash"
        local t = lash.tool { name = "t", sync = print, memory = "64M", idempotent = true, retry = { attempts = 5 },
            parallel = "x", limit = 2, max_output = "1K" }
        return lash.agent { name = "a", tools = { t }, fail_fast = true, retry = false, limits = { turns = 3 } }""")
    all_of = json.loads(expect(lash("tools", "--json", "fields.lua"), 0).out)
    tool, agent = all_of["tools"][0], all_of["agents"][0]
    assert (tool["memory"], tool["retry"], tool["max_output"]) == (64 << 20, {"attempts": 5}, 1024), tool
    assert (tool["idempotent"], tool["parallel"], tool["limit"]) == (True, "x", 2), tool
    assert (agent["fail_fast"], agent["retry"], agent["limits"]["turns"]) == (True, False, 3), agent


def test_tools_usage():
    """tools: wrong use and files without tools"""
    one_line(expect(lash("tools"), 64, "", "needs a file"))
    one_line(expect(lash("tools", "nosuch.lua"), 66, "", "nosuch.lua"))
    one_line(expect(lash("tools", "-o", "jsonl", "x.lua"), 64, "", "not jsonl"))
    write("empty.lua", "")
    one_line(expect(lash("tools", "empty.lua"), 65, "", "returns no tool"))
    write("map.lua", "local t = require('lash').tool { name = 'x', async = print } return { mine = t, other = 5 }")
    expect(lash("tools", "map.lua"), 0, "x()", "")


FAULTY = """local lash = require "lash"
function helper(n) return n end
local limit, file = 3, io.open("/dev/null")
local bar = "text"
local a = lash.tool { name = "a", description = "x", sync = function() return helper(limit) + mathh.pi end }
local b = lash.tool { name = "b", description = "x", sync = function() return file:read() end }
local c = lash.tool { name = "c", description = "x", sync = print, async = print }
local d = lash.tool { name = "d", description = "x", params = { n = "intiger" }, async = print }
local e = lash.tool { nam = "e", async = print }
local f = lash.tool { name = "f", async = print, schema = { type = "object", properties = 5 } }
if lash.main then pritn(arg[1]) end
local ok = unpack or table.unpack
return lash.agent { name = "g", model = "opnai/x", tools = { a, b, c, d, e, f } }
"""


def test_faults():
    """check: every fault with its line, and nothing else"""
    write("faulty.lua", FAULTY)
    r = expect(lash("check", "faulty.lua"), 65, None, "")
    want = [(5, "global 'helper' does not exist in a worker: make it local"), (5, "global 'mathh' does not exist"),
            (6, "'file' is a file handle"), (7, "both marks"), (8, "intiger"), (9, "did you mean 'name'?"),
            (10, "properties"), (11, "'pritn' is defined nowhere (did you mean 'print'?)"), (13, "'opnai'")]
    faults = [line for line in r.out.splitlines() if "note:" not in line]
    assert len(faults) == len(want), r.out
    for line, (number, part) in zip(faults, want):
        assert line.startswith("faulty.lua:%d: " % number) and part in line, (line, number, part)
    listed = json.loads(expect(lash("check", "--json", "faulty.lua"), 65).out)
    assert [f["line"] for f in listed[0]["faults"]] == [number for number, _ in want] and not listed[0]["ok"]


def test_globals_reached():
    """S check: globals in helpers that travel along, in nested functions and after 255 constants are found"""
    many = "".join("t[%d] = 'k%d' " % (i, i) for i in range(300))
    write("deep.lua", """local lash = require "lash"
local function inner() return function() return nowhere end end
local helpers = { run = function() return inner()() end }
local function long() local t = {} %s
  lateglobal = 1
  return lateglobal, later
end
return lash.tool { name = "x", description = "x", sync = function() long() return helpers.run() end }
""" % many)
    r = expect(lash("check", "deep.lua"), 65, ["deep.lua:2: tool 'x' (sync): global 'nowhere'",
                                               "deep.lua:6: tool 'x' (sync): global 'later'"], "")
    assert "'lateglobal'" not in r.out, r


def test_clean():
    """check: files without faults, each by itself; notes do not count"""
    tools()
    write("one.lua", "shared = 1 return require('lash').tool { name = 'x', async = function() return shared end }")
    write("two.lua", "print(shared)")
    r = expect(lash("check", "tools.lua", "one.lua", "two.lua"), 65, ["tools.lua: ok, 6 tools, 1 prompt",
                                                                      "one.lua: note: tool 'x' has no description",
                                                                      "one.lua: ok, 1 tool", "two.lua:1: global 'shared'"])
    assert "note" not in lash("-q", "check", "one.lua").out
    assert r.err == "loading\nnil\n", r


def test_check_runs_nothing():
    """check: no tool body runs, no agent, os.exit is a fault, errors and loops while loading too"""
    write("body.lua", """local lash = require "lash"
        local t = lash.tool { name = "x", description = "x", async = function() io.open("ran", "w"):close() end }
        lash.agent { name = "a", model = "demo", tools = { t } }:run("x")
        return t""")
    expect(lash("check", "body.lua"), 65, "body.lua:3: an agent was run while the file was loaded")
    assert not os.path.exists("ran")
    for text, part in (("os.exit(0)", "os.exit was called"), ("error('e')", ":1: e"), ("x = ", ":1: unexpected symbol"),
                       ("return 5", "is a number")):
        write("f.lua", text)
        expect(lash("check", "f.lua"), 65, ["f.lua", part], "")
    expect(lash("check", "nosuch.lua", "f.lua"), 66, ["nosuch.lua: cannot read", "f.lua: "], "")
    one_line(expect(lash("check"), 64, "", "needs a file"))


def test_examples_are_clean():
    """check: all example scripts"""
    files = sorted(glob.glob(os.path.join(ROOT, "scripts", "examples", "*.lua")))
    assert files
    expect(lash("check", *files), 0, None, "")


def test_new():
    """new: a script that runs and has no faults; nothing is overwritten"""
    expect(lash("new", "mine"), 0, ["mine.lua is written", "lash -m demo ./mine.lua"], "")
    assert os.access("mine.lua", os.X_OK)
    expect(lash("-m", "demo", "./mine.lua"), 0, ["Oslo", "count_primes", ": 168"], "")
    expect(lash("check", "mine.lua"), 0, "mine.lua: ok, 2 tools, 1 agent", "")
    expect(lash("call", "mine.lua", "count_primes", "--n", "100"), 0, "25\n", "")
    before = open("mine.lua").read()
    one_line(expect(lash("new", "mine.lua"), 73, "", "there already"))
    assert open("mine.lua").read() == before
    one_line(expect(lash("new", "no/such/place"), 73, "", "No such file"))
    one_line(expect(lash("new"), 64, "", "needs a name"))
    one_line(expect(lash("new", "a", "b"), 64, "", "'b'"))
    expect(lash("new", "42 odd-näme"), 0)
    expect(lash("check", "42 odd-näme.lua"), 0)


def test_help():
    """help: every page, other names for it, the nearest to an unknown one"""
    names = [os.path.basename(f)[:-4] for f in glob.glob(os.path.join(PAGES, "*.txt"))]
    for name in names:
        expect(lash("help", name), 0, open(os.path.join(PAGES, name + ".txt"), encoding="utf-8").read(), "")
    expect(lash("help"), 0, "lash help [TOPIC]", "")
    expect(lash("--help"), 0, "lash help [TOPIC]", "")
    expect(lash("help", "keys"), 0, "OPENAI_API_KEY", "")
    parts = expect(lash("-e", "for name, part in pairs(lash) do print(name) end"), 0).out.split()
    assert len(parts) > 30, parts
    for name in parts:
        expect(lash("help", "lash." + name), 0, name, "")
    expect(lash("help", "lash.uuid()"), 0, "lash.uuid.v7()", "")
    one_line(expect(lash("help", "handof"), 64, "", "did you mean 'handoff'?"))
    one_line(expect(lash("help", "nosuchthing"), 64, "", "lists the topics"))
    one_line(expect(lash("help", "../help/ask"), 64, ""))


def test_version():
    """version: one line; loads no agents"""
    r = expect(lash("version"), 0, "lash ", "")
    assert r.out == lash("--version").out and len(r.out.splitlines()) == 1
    r = lash("-e", "for name in pairs(package.loaded) do print(name) end")
    for name in ("lash.agent", "lash.run", "lash.tool", "lash.json", "lash.model"):
        assert name + "\n" not in r.out, r.out


def shown(page):
    """The files and the shell lines of a page of the manual, in order: `-- example:` is a file for commands of lash,
    `-- file:` any other."""
    block, steps = None, []
    for line in open(page, encoding="utf-8"):
        code = line[4:].rstrip("\n") if line.startswith("    ") else None
        named = code is not None and re.match(r"-- (example|file): (\S+)$", code)
        if named:
            block = [named.group(2), [], named.group(1) == "example"]
            steps.append(block)
        elif block and (code is not None and not code.startswith("$ ") or not line.strip()):
            block[1].append(code or "")
        else:
            block = None
            if code is not None and code.startswith("$ "):
                steps.append(code[2:])
    return steps


def run_pages(*pages):
    os.mkdir("bin")
    write("bin/lash", "#!/bin/sh\nexec %s \"$@\"\n" % " ".join(LASH))
    os.chmod("bin/lash", 0o755)
    env = dict(os.environ, PATH=os.path.abspath("bin") + ":" + os.environ["PATH"])
    count = 0
    for page in pages:
        os.makedirs("page-" + page)
        for step in shown(os.path.join(PAGES, page + ".txt")):
            if isinstance(step, list):
                write("page-%s/%s" % (page, step[0]), "\n".join(step[1]) + "\n")
                if step[2]:
                    expect(lash("check", "page-%s/%s" % (page, step[0])), 0)
                continue
            done = subprocess.run(["sh", "-c", step], env=env, cwd="page-" + page, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert done.returncode == 0 and (done.stdout or ">" in step), "%s: %s\nstatus %d\n%s" % (page, step, done.returncode,
                                                                                  done.stdout)
            count += 1
    assert count > 0


def test_manual_commands():
    """help: what the pages of commands show runs"""
    run_pages("overview", "run", "call", "tools", "check", "new", "help", "version")


def test_manual_ask():
    """help: what the pages of ask and the examples show runs"""
    run_pages("ask", "examples")


def test_manual_topics():
    """help: what the pages of topics show runs"""
    done = ("overview", "run", "call", "tools", "check", "new", "help", "version", "ask", "examples")
    names = [os.path.basename(f)[:-4] for f in sorted(glob.glob(os.path.join(PAGES, "*.txt")))]
    run_pages(*[name for name in names if name not in done])
