"""lash FILE, -e, -l, -i, stdin: scripts."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import modeld  # noqa: E402
from cli import LASH, expect, lash, one_line, write  # noqa: E402


def test_arguments():
    """run: arg and ... as in stand-alone Lua, options before FILE only"""
    write("a.lua", "print(arg[0], arg[1], arg[2], arg[-1], select('#', ...), ...)")
    expect(lash("./a.lua", "x", "-m"), 0, "./a.lua\tx\t-m\t%s\t2\tx\t-m\n" % LASH[-1], "")
    expect(lash("run", "-m", "demo", "a.lua", "--help"), 0, "a.lua\t--help\tnil\tdemo\t1\t--help\n", "")
    expect(lash("-e", "x=1", "run", "--", "a.lua"), 0, "a.lua\tnil\tnil\t--\t0\n", "")


def test_main():
    """run: lash.main is true and the globals are the script's"""
    write("b.lua", "print(lash.main, require('lash') == lash, _VERSION)")
    expect(lash("b.lua"), 0, "true\ttrue\tLua 5.4\n", "")


def test_shebang():
    """run: a #! line is skipped, a file without ending runs by its path"""
    write("tool", "#!/usr/bin/env lash\nprint('ran', ...)")
    expect(lash("./tool", "1"), 0, "ran\t1\n", "")
    one_line(expect(lash("tool"), 64, "", ["unknown command 'tool'", "./tool"]))


def test_stdin_script():
    """run: without a terminal stdin is a script, `-` too; stdin belongs to the script"""
    expect(lash(stdin="print(6 * 7)"), 0, "42\n", "")
    expect(lash("-", "a", stdin="print(...)"), 0, "a\n", "")
    write("read.lua", "print(io.read('a'):upper())")
    expect(lash("read.lua", stdin="text"), 0, "TEXT\n", "")
    expect(lash(), 0, "", "")


def test_eval():
    """-e -l: in their order, with module and name; no script needed"""
    write("m.lua", "return { v = 7 }")
    expect(lash("-e", "x = 5", "-l", "m", "-l", "q=m", "-e", "print(x, m.v, q.v)"), 0, "5\t7\t7\n", "")
    expect(lash("-eprint(1)"), 0, "1\n", "")
    expect(lash("-e", ""), 0, "", "")
    one_line(expect(lash("-e", "x ="), 65, "", "(command line):1: unexpected symbol"))
    expect(lash("-l", "nosuchmodule"), 1, "", "module 'nosuchmodule' not found")


def test_unknown_words():
    """usage: unknown words and flags name the nearest, status 64"""
    one_line(expect(lash("aks", "hi"), 64, "", ["'aks'", "did you mean 'ask'?"]))
    one_line(expect(lash("chekc", "f.lua"), 64, "", "did you mean 'check'?"))
    one_line(expect(lash("ask", "--modell", "demo", "hi"), 64, "", ["'--modell'", "'--model'"]))
    one_line(expect(lash("ask", "--jsno", "hi"), 64, "", "'--json'"))
    one_line(expect(lash("-x"), 64, "", "unknown option '-x'"))
    one_line(expect(lash("replay"), 64, "", "not in this version"))
    one_line(expect(lash("docter"), 64, "", "did you mean 'doctor'?"))
    one_line(expect(lash("run"), 64, "", "needs a file"))


def test_option_values():
    """usage: values of options are checked, --flag=value works, an option of another command is refused"""
    for args, part in ((("--timeout", "5"), "a duration such as"), (("--timeout", "5x"), "got '5x'"),
                       (("--max-turns", "-1"), "a whole number"), (("--max-turns=x",), "got 'x'"),
                       (("--jobs", "0"), "between 1 and 1024"), (("--memory", "64m"), "a size such as 64M"),
                       (("--memory", "1K"), "at least 1M"), (("--color", "alway"), "always"),
                       (("-m",), "needs a value"), (("--raw=1",), "takes no value")):
        one_line(expect(lash("run", *args), 64, "", part))
    one_line(expect(lash("-t", "x.lua", "run", "a.lua"), 64, "", "-t is an option of ask"))
    one_line(expect(lash("tools", "-m", "demo", "a.lua"), 64, "", "-m is an option of run, ask, call"))
    one_line(expect(lash("-t", "x.lua", stdin="print(1)"), 64, "", "-t is an option of ask, not of a script"))
    expect(lash("--timeout=5s", "--max-turns=0", "--jobs=2", "-e", "print(1)"), 0, "1\n", "")
    one_line(expect(lash("-e", "", env={"LASH_JOBS": "many"}), 64, "", "LASH_JOBS"))
    one_line(expect(lash("-e", "", env={"LASH_TIMEOUT": "soon"}), 64, "", "LASH_TIMEOUT"))
    one_line(expect(lash("-e", "", env={"LASH_MEMORY": "much"}), 64, "", "LASH_MEMORY"))
    one_line(expect(lash("-e", "", env={"LASH_COLOR": "red"}), 64, "", "LASH_COLOR"))


def test_missing_file():
    """run: a file that cannot be read is 66, a syntax error 65, each one sentence"""
    one_line(expect(lash("nosuch.lua"), 66, "", ["nosuch.lua", "No such file"]))
    os.mkdir("dir.lua")
    one_line(expect(lash("dir.lua"), 66, "", ["dir.lua", "directory"]))
    write("bad.lua", "local x =\nprint(1)\nend")
    one_line(expect(lash("bad.lua"), 65, "", "bad.lua:3:"))
    with open("bytes.lua", "wb") as f:
        f.write(b"\x1bLua\x54\x00garbage")
    one_line(expect(lash("bytes.lua"), 65, "", "compiled chunk"))


def test_uncaught_errors():
    """run: an uncaught error is status 1, message and the user's own lines, none of ours"""
    write("e.lua", "local function deep()\n  error('oops')\nend\nlocal function outer()\n  deep()\n  return 1\nend\nouter()")
    r = expect(lash("e.lua"), 1, "", ["lash: e.lua:2: oops", "e.lua:5:", "e.lua:8: in main chunk"])
    assert "[C]" not in r.err and "lash/" not in r.err, r
    assert "lash/" in expect(lash("-v", "e.lua"), 1).err
    write("tail.lua", "return lash.tool { name = 'x' }")
    one_line(expect(lash("tail.lua"), 1, "", "lash: tail.lua: lash.tool 'x': it has no function"))
    one_line(expect(lash("tools", "tail.lua"), 1, "", "lash: tail.lua: lash.tool 'x': it has no function"))
    expect(lash("-e", "error('plain', 0)"), 1, "", "lash: plain\n")
    expect(lash("-e", "error(nil)"), 1, "", "nil")
    expect(lash("-e", "error({})"), 1, "", "error object is a table value")
    expect(lash("-e", "error(setmetatable({}, { __tostring = function() return 'mine' end }))"), 1, "", "lash: mine")
    expect(lash("-e", "error(setmetatable({}, { __tostring = function() error('no') end }))"), 1, "", "lash: ")
    expect(lash("-e", "local function f() return f() + 1 end f()"), 1, "", "stack overflow")
    one_line(expect(lash("-e", "x.y = 1"), 1, "", "global 'x'"))


def test_error_tables():
    """run: an uncaught error table ends with its exit status, its message alone"""
    one_line(expect(lash("-e", "error({ exit = 9, message = 'told' })"), 9, "", "lash: told"))
    expect(lash("-e", "error({ exit = 'x', message = 'told' })"), 1, "", "lash: told")
    expect(lash("-e", "error({ exit = 999, message = 'told' })"), 1, "", "lash: told")


def test_no_key():
    """run: an agent without a key or model ends the script with 78 and one sentence"""
    write("agent.lua", "print(lash.agent { name = 'a', model = 'openai/gpt-5' }:run('hi'))")
    one_line(expect(lash("agent.lua"), 78, "", ["OPENAI_API_KEY", "-m demo"]))
    expect(lash("-m", "demo", "agent.lua"), 0, "hi", "")
    write("none.lua", "print(lash.agent { name = 'a' }:run('hi'))")
    one_line(expect(lash("none.lua"), 78, "", "-m demo"))
    expect(lash("none.lua", env={"LASH_MODEL": "demo"}), 0, "hi", "")
    one_line(expect(lash("none.lua", env={"LASH_MODEL": "demoo/x"}), 64, "", "'demoo'"))


def test_exit():
    """run: os.exit ends with its status, after all output is written"""
    expect(lash("-e", "io.write('a') print('b') os.exit(7)"), 7, "ab\n", "")
    expect(lash("-e", "os.exit(true)"), 0)
    expect(lash("-e", "os.exit(false)"), 1)
    expect(lash("-e", "f = io.open('out.txt', 'w') f:write('kept') os.exit(0)"), 0)
    assert open("out.txt").read() == "kept"
    expect(lash("-e", "pcall(os.exit, 3) print('no')"), 3, "")
    expect(lash("-e", "table.sort({ 1, 2 }, function() os.exit(4) end)"), 4)
    expect(lash("-e", "lash.spawn(function() os.exit(5) end) lash.sleep(5)"), 5)


def test_exit_in_tool():
    """D15 run: os.exit in an async tool is an outcome, not the end"""
    write("t.lua", """
        local quit = lash.tool { name = "quit", description = "x", async = function() os.exit(3) end }
        local leave = lash.tool { name = "leave", description = "x", sync = function() os.exit(3) end }
        local r = lash.agent { name = "a", tools = { quit, leave } }:run("quit and leave")
        for _, call in ipairs(r.calls) do print(call.name, call.status, call.output) end""")
    r = expect(lash("-m", "demo", "t.lua"), 0, ["quit\terror", "leave\terror"], "")
    assert r.out.count("os.exit is not for tools") == 2, r


def test_timeout():
    """--timeout: 124 for a script that waits, one that holds the thread, and one that hides in pcall"""
    one_line(expect(lash("--timeout", "50ms", "-e", "lash.sleep(9)"), 124, "", "--timeout"))
    one_line(expect(lash("--timeout", "50ms", "-e", "while true do pcall(lash.sleep, 9) end"), 124, "", "--timeout"))
    one_line(expect(lash("-e", "lash.sleep(9)", env={"LASH_TIMEOUT": "50ms"}), 124, "", "time limit"))
    expect(lash("--timeout", "9s", "-e", "print(1)"), 0, "1\n", "")
    expect(lash("--timeout", "0", "-e", "lash.sleep(0.01) print(1)", env={"LASH_TIMEOUT": "1ms"}), 0, "1\n", "")
    expect(lash("--timeout", "9s", "-e", "error({ exit = 5, message = 'm' })"), 5, "", "lash: m")


def test_require_beside():
    """run: require finds modules beside the script from any directory, in sync tools too"""
    write("pack/helper.lua", "return { twice = function(n) return 2 * n end }")
    write("pack/deep/init.lua", "return { name = 'deep' }")
    write("pack/main.lua", """
        local helper = require "helper"
        local late = lash.tool { name = "late", description = "x", params = { n = "integer" },
            sync = function(args) return helper.twice(args.n) + #require("deep").name end }
        if lash.main then
            print(lash.agent { name = "a", tools = { late } }:run("late 4"))
        end
        return late""")
    expect(lash("-m", "demo", "pack/main.lua"), 0, ": 12", "")
    expect(lash("call", "pack/main.lua", "--n", "1"), 0, "6\n", "")
    os.chdir("pack")
    expect(lash("-m", "demo", "main.lua"), 0, ": 12", "")


def test_path_change():
    """run: workers that live already follow a change of package.path"""
    write("one/m1.lua", "return 1")
    write("two/m2.lua", "return 2")
    write("p.lua", """
        local lash = require "lash"
        local first = lash.prompt { name = "first", sync = function() return require("m1") end }
        local second = lash.prompt { name = "second", sync = function() return require("m2") end }
        local prompt = require "lash.prompt"
        package.path = "one/?.lua;" .. package.path
        print(prompt.text(first))
        print(prompt.text(second))
        package.path = "two/?.lua;" .. package.path
        print(prompt.text(second))""")
    r = expect(lash("p.lua", env={"LASH_JOBS": "1"}), 0, "1\n", "")
    assert r.out.splitlines()[0] == "1" and r.out.splitlines()[-1] == "2" and "m2' not found" in r.out, r


def test_options_in_workers():
    """run: -m, --max-turns, --no-stream and --dry-run hold for agents inside sync functions, too"""
    write("inner.lua", """
        local inner = lash.prompt { name = "inner", sync = function()
            local lash = require "lash"
            local spin = lash.tool { name = "spin", async = function() return "spun" end }
            local agent = lash.agent { name = "inner", model = "openai/never", tools = { spin } }
            local result = agent:run("spin")
            return result.model .. " " .. result.reason
        end }
        print(require("lash.prompt").text(inner))""")
    expect(lash("-m", "demo", "inner.lua"), 0, "demo done\n", "")
    expect(lash("-m", "demo", "--max-turns", "1", "inner.lua"), 0, "demo turns\n", "")
    expect(lash("--dry-run", "inner.lua", env={"OPENAI_API_KEY": "sk-test-key"}), 0,
           "--dry-run: this request is made on a worker")
    with modeld.Server([{"expect": {"stream": False, "model": "m"}, "reply": {"text": "whole"}}]) as server:
        expect(lash("--no-stream", "-m", "openai/m", "inner.lua", env=server.env), 0, "openai/m done\n", "")
    assert server.status == 0


def test_failing_listener():
    """run: on_event that fails at every event is told once, with the message of an error table, and the run goes on"""
    for thrown in ("'gone wrong'", "{ message = 'gone wrong', exit = 9 }"):
        r = expect(lash("-m", "demo", "-e", """
            local result = lash.agent { name = "a" }:run("Hello", { on_event = function() error(%s) end })
            print(result.reason)""" % thrown), 0, "done\n", "on_event failed at run.start: ")
        assert len(r.err.splitlines()) == 1 and "gone wrong" in r.err, r


def test_closed_stdout():
    """stdout: nobody reads any more is 141 at once, whatever writes; a full disk is 74"""
    for code in ("while true do print('x') end", "while true do io.write('x') end",
                 "while true do pcall(print, 'x') end"):
        process = subprocess.Popen(LASH + ["-e", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   stdin=subprocess.DEVNULL)
        process.stdout.read(1)
        process.stdout.close()
        assert process.wait(timeout=20) == 141, (code, process.returncode, process.stderr.read())
        assert process.stderr.read() == b""
    with open("/dev/full", "w") as full:
        for args in (["-e", "print(1)"], ["version"], ["help"], ["-e", "for i = 1, 1e5 do print(i) end"]):
            done = subprocess.run(LASH + args, stdout=full, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
            assert done.returncode == 74 and b"cannot write to stdout" in done.stderr, (args, done)


def test_no_descriptors():
    """streams: stdin, stdout or stderr that are closed harm nobody"""
    lash_words = os.environ["LASH"]  # not what wraps it: valgrind itself needs its stderr
    for code, redirect, status in (("print(1)", ">&-", 74), ("print(1)", "2>&-", 0), ("print(io.read())", "<&-", 0),
                                   ("f = io.open('x', 'w') f:write('x') f:close()", "<&- >&- 2>&-", 0)):
        done = subprocess.run(["sh", "-c", "%s -e \"%s\" %s" % (lash_words, code, redirect)], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
        assert done.returncode == status, (code, redirect, done)


def test_few_descriptors():
    """run: with too few descriptors it says so, or works; it never aborts"""
    lash_words = os.environ["LASH"]
    for n in range(4, 16):
        done = subprocess.run(["sh", "-c", "ulimit -n %d && %s -e 'print(1)'; exit $?" % (n, lash_words)],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert done.returncode == 0 and done.stdout == b"1\n" or 0 < done.returncode < 128, (n, done)


def test_left_running():
    """run: what the main chunk left running is cancelled, the program ends"""
    expect(lash("-e", "lash.spawn(function() lash.sleep(60) end) print('end')"), 0, "end\n", "")


def test_socket_gone():
    """streams: a socket that the peer closed is an error of the request, not the end of the program"""
    expect(lash("-e", "print(lash.http.get('http://127.0.0.1:1/', { timeout = 5 }))"), 0, "nil")


def test_script_turns():
    """-m script: a turn that nobody asked for ends the program with 65"""
    write("turns.json", '[{"text": "one"}, {"text": "two"}]')
    write("s.lua", "print(lash.agent { name = 'a' }:run('hi'))")
    one_line(expect(lash("-m", "script:turns.json", "s.lua"), 65, "one\n", ["turns.json", "2 turns"]))


def test_interactive():
    """-i: the console after the script, also without a terminal, and then without prompts"""
    expect(lash("-i", "-e", "x = 20", stdin="x + 1\n=x\nlocal y = \n5 print(y)\nerror('e1')\nnosuch.x\n"), 0,
           "21\n20\n5\n", ["lash: lua:1: e1", "global 'nosuch'"])


def test_dry_run():
    """--dry-run run: prints the first request instead of sending it, key masked"""
    write("d.lua", "print(lash.agent { name = 'a', instructions = 'Be kind.' }:run('hi')) print('after')")
    r = expect(lash("--dry-run", "-m", "openai/gpt-5", "d.lua", env={"OPENAI_API_KEY": "sk-verysecretkey"}), 0,
               ["POST https://", "/responses", "Be kind.", "****"], "")
    assert "verysecret" not in r.out and "after" not in r.out, r
