"""lash call: one tool by hand."""
import json

from cli import expect, lash, objects, one_line, tools, write


def call(*args, **options):
    return lash("call", "tools.lua", *args, **options)


def echoed(*args):
    return json.loads(expect(call("echo", *args), 0, None, "loading\n").out)


def test_words():
    """call: words are typed by the schema"""
    tools()
    assert echoed() == {}
    assert echoed("--text", "3", "--n", "3") == {"text": "3", "n": 3}
    assert echoed("--n=2.50") == {"n": 2.5}
    assert echoed("--flag") == {"flag": True} and echoed("--no-flag") == {"flag": False}
    assert echoed("--flag", "false") == {"flag": False} and echoed("--flag=true") == {"flag": True}
    assert echoed("--flag", "--n", "1") == {"flag": True, "n": 1}
    assert echoed("--tags", "a", "--tags", "b") == {"tags": ["a", "b"]}
    assert echoed("--tags", '["x","y"]') == {"tags": ["x", "y"]}
    assert echoed("--box", '{"w": [1]}') == {"box": {"w": [1]}}
    assert echoed("--mode", "fast", "--max-items", "9") == {"mode": "fast", "max_items": 9}
    assert echoed("--text", "--n") == {"text": "--n"}
    assert echoed("--text=") == {"text": ""}


def test_exact_numbers():
    """J1 call: 64-bit integers pass unchanged"""
    tools()
    expect(call("add", "--a", "9223372036854775806", "--b", "1"), 0, "9223372036854775807\n")
    expect(call("echo", "--n", "1.0"), 0, '{"n":1.0}\n')


def test_memory():
    """D15 call: a sync tool over its memory limit fails with a sentence that names it; --memory, LASH_MEMORY"""
    write("big.lua", """return {
        lash.tool { name = "big", sync = function() return #("x"):rep(20000000) end },
        lash.tool { name = "own", memory = "2M", sync = function() return #("x"):rep(20000000) end },
    }""")
    expect(lash("call", "big.lua", "big"), 0, "20000000\n", "")
    for args, env in ((("--memory", "4M"), {}), (("--memory", "4M"), {"LASH_MEMORY": "1G"}), ((), {"LASH_MEMORY": "4M"})):
        one_line(expect(lash("call", *args, "big.lua", "big", env=env), 1, "", "its limit of 4M of memory"))
    one_line(expect(lash("call", "--memory", "0", "big.lua", "own"), 1, "", "its limit of 2M of memory"))
    expect(lash("call", "--memory=0", "big.lua", "big", env={"LASH_MEMORY": "4M"}), 0, "20000000\n", "")


def test_json_arguments():
    """call: arguments as one JSON text, or from stdin"""
    tools()
    expect(call("add", '{"a": 1, "b": 2}'), 0, "3\n")
    expect(call("add", "-", stdin='{"a": 1, "b": 5}\n'), 0, "6\n")
    expect(call("add", '{"a": 1, "b": 2}', "x"), 64, "", "'x'")
    expect(call("add", '{"a": 1'), 65, "", "not valid JSON")
    expect(call("add", "[1, 2]"), 65, "", "JSON object")
    expect(call("add", "-", stdin=""), 65, "", "missing required")


def test_wrong_arguments():
    """D11 call: arguments that do not fit are 65 and name the argument"""
    tools()
    expect(call("add", "--a", "x", "--b", "1"), 65, "", ["--a takes integer", "'x'"])
    expect(call("add", "--a", "1"), 65, "", ['missing required property "b"', "--help"])
    expect(call("add", "--a", "1", "--c", "2"), 65, "", ["no parameter 'c'", "a, b"])
    expect(call("add", "--a", "1", "--json"), 65, "", "options of lash stand before the FILE")
    expect(call("add", "--a", "1", "--a", "2"), 65, "", "--a is given twice")
    expect(call("add", "--a"), 65, "", "--a needs a value")
    expect(call("add", "--a", "1", "2"), 65, "", "'2' is no argument")
    expect(call("echo", "--mode", "medium"), 65, "", "mode")
    expect(call("echo", "--box", "5"), 65, "", ["--box takes object", "JSON"])
    expect(call("add", "--a", "1.5", "--b", "1"), 65, "", "a")


def test_failures():
    """call: a tool that fails is 1, its text on stderr; timeouts are 124"""
    tools()
    expect(call("broken"), 1, "", ["tool 'broken' failed", "attempt to index a nil value"])
    expect(call("slow", "--s", "5"), 124, "", "timed out after 0.05 s")
    expect(lash("call", "--timeout", "30ms", "tools.lua", "slow", "--s", "5"), 124, "")
    expect(call("quit"), 1, "", "os.exit is not for tools")
    r = expect(lash("call", "-v", "tools.lua", "broken"), 1, "", "stack traceback")
    assert "tools.lua:" in r.err


def test_which():
    """call: which tool; unknown and missing names"""
    tools()
    expect(call("ad"), 64, "", "did you mean 'add'?")
    expect(call(), 64, "", "say which: add, echo")
    write("one.lua", "return require('lash').tool { name = 'only', params = { n = 'integer?' }, async = function(args)"
                     " return args.n or 'none' end }")
    expect(lash("call", "one.lua"), 0, "none\n", "")
    expect(lash("call", "one.lua", "--n", "4"), 0, "4\n", "")
    expect(lash("call", "one.lua", "only", "--n", "4"), 0, "4\n", "")
    one_line(expect(lash("call"), 64, "", "needs a file"))
    one_line(expect(lash("call", "nosuch.lua", "x"), 66, "", "nosuch.lua"))


def test_inside_agents():
    """call: tools and prompts inside agents, by their name or AGENT.NAME"""
    write("agents.lua", """local lash = require "lash"
        local function get(text) return lash.tool { name = "get", async = function() return text end } end
        local b = lash.agent { name = "b", tools = { get "from b" } }
        return lash.agent { name = "a", tools = { get "from a" }, handoffs = { b },
            instructions = { lash.prompt { name = "rules", sync = function(ctx) return "rules of " .. ctx.agent end } } }""")
    expect(lash("call", "agents.lua", "a.get"), 0, "from a\n", "")
    expect(lash("call", "agents.lua", "b.get"), 0, "from b\n", "")
    one_line(expect(lash("call", "agents.lua", "get"), 64, "", "a.get or b.get"))
    expect(lash("call", "agents.lua", "rules"), 0, "rules of call\n", "")
    one_line(expect(lash("call", "agents.lua", "b"), 64, "", "lash ask -t agents.lua"))


def test_prompt():
    """call: the text of a prompt; its failure is 1"""
    tools()
    expect(call("hello"), 0, "Hello there\n", "loading\n")
    expect(call("hello", "--x", "1"), 64, "", "takes no arguments")
    write("p.lua", "return require('lash').prompt { name = 'p', async = function() return nil, 'not today' end }")
    one_line(expect(lash("call", "p.lua"), 1, "", ["'p'", "not today"]))


def test_formats():
    """call -o: one object, or the events of the call"""
    tools()
    one = objects(expect(lash("call", "--json", "tools.lua", "add", "--a", "1", "--b", "2"), 0))[0]
    assert (one["ok"], one["status"], one["output"], one["exit"]) == (True, "ok", "3", 0), one
    one = objects(expect(lash("call", "--json", "tools.lua", "broken"), 1))[0]
    assert (one["ok"], one["status"], one["exit"]) == (False, "error", 1), one
    events = objects(expect(lash("call", "--jsonl", "tools.lua", "add", "--a", "1", "--b", "2"), 0))
    assert [e["type"] for e in events] == ["call.start", "call.end"], events
    expect(lash("call", "--out", "o.txt", "tools.lua", "hello"), 0, "Hello there\n")
    assert open("o.txt").read() == "Hello there"


def test_tool_help():
    """call TOOL --help: its parameters"""
    tools()
    write("h.lua", "return require('lash').tool { name = 'h', params = { help = 'string?' }, async = function(args)"
                   " return args.help or 'none' end }")
    expect(lash("call", "h.lua", "--help", "me"), 0, "me\n")
    expect(lash("call", "h.lua", "-h"), 0, "--help STRING")
    expect(call("echo", "--help"), 0, ["echo (async)", "--tags STRING[] (optional)"])


def test_stdout():
    """call: what the tool prints goes to stderr"""
    tools()
    r = expect(call("noisy"), 0, "quiet\n", ["printed", "written", "raw"])
    assert r.out == "quiet\n", r
