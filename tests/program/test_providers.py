"""The program against the scripted model server: all protocols from request to final text, and what goes wrong."""
import json
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import modeld  # noqa: E402

AGENT = """
local lash = require "lash"
local weather = lash.tool {
  name = "get_weather", description = "Weather of a city", params = { city = "string" },
  async = function(args)
    if args.city == "Lima" then error("no such city: Lima", 0) end
    lash.sleep(args.city == "Oslo" and 0.05 or 0.01)
    return { city = args.city, temp = -3, big = 9007199254740993 }
  end,
}
local twice = lash.tool {
  name = "twice", description = "A number twice", params = { n = "integer" },
  sync = function(args) return args.n * 2 end,
}
"""
RUN = AGENT + """
local agent = lash.agent { name = "a", model = "%s/m", instructions = "Be brief.", tools = { weather, twice } }
local events = {}
local result = agent:run("Compare Oslo, Lima and Rome.", { no_raise = true,
  on_event = function(e) events[#events + 1] = e end })
local retries = 0
for _, e in ipairs(events) do retries = retries + (e.type == "retry" and 1 or 0) end
io.write(lash.json.encode { text = result.text, ok = result.ok, exit = result.exit, reason = result.reason,
  usage = result.usage, retries = retries, error = result.error and result.error.message }, "\\n")
"""
CALLS = [{"name": "get_weather", "args": {"city": "Oslo"}}, {"name": "get_weather", "args": {"city": "Lima"}},
         {"name": "twice", "args": {"n": 4611686018427387903}}]
ALL = ("openai", "gemini", "anthropic")


def lash(code, env, status=0):
    """Runs a script; gives its stdout. Wrong status or a message of an interpreter: AssertionError."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua", encoding="utf-8") as file:
        file.write(code)
        file.flush()
        done = subprocess.run([os.environ["LASH"], file.name], env={**os.environ, **env}, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=50)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout


def run(server, provider, extra=None):
    return json.loads(lash(RUN % provider, {**server.env, **(extra or {})}))


def followed(server):
    """Fails when the server was asked anything else than its script says."""
    stats = server.stats()
    assert not stats["problems"] and not stats["refused"] and not stats["unused"], stats
    return stats


def script(*more):
    return [{"reply": {"text": "Looking.", "calls": CALLS, "usage": {"input": 100, "output": 20}}},
            {"expect": {"outputs": 3, "outputs_contain": ["Oslo", "no such city: Lima", "9223372036854775806"],
                        "tools": ["get_weather", "twice"]},
             "reply": {"text": "Oslo is cold.", "usage": {"input": 200, "output": 10, "cached": 50}}}, *more]


def test_all():
    """J1 a conversation with parallel calls, one failing, ends with the final text, on all protocols"""
    for provider in ALL:
        with modeld.Server(script()) as server:
            result = run(server, provider)
            stats = followed(server)
            assert result["text"] == "Oslo is cold." and result["ok"], result
            assert result["usage"] == {"input": 300, "output": 30, "cached": 50, "reasoning": 0, "total": 330}, result
            assert stats["connections"] == 1, stats
            second = server.requests()[1]["body"]
            assert "4611686018427387903" in second and "9007199254740993" in second, second


def test_odd_ids():
    """D9 duplicate, empty and missing ids come back paired"""
    for provider in ALL:
        calls = [dict(CALLS[0], id=i) for i in ("x", "x", "", None, "x")]
        turns = [{"reply": {"calls": calls, "reasoning": False}}, {"expect": {"outputs": 5}, "reply": {"calls": calls,
                 "reasoning": False}}, {"expect": {"outputs": 5}, "reply": {"text": "done"}}]
        with modeld.Server(turns) as server:
            assert run(server, provider)["text"] == "done"
            followed(server)


def test_handoff_between_providers():
    """P3 P4 a conversation that goes to the other provider and back is valid for both"""
    code = AGENT + """
    local one, two
    one = lash.agent { name = "one", model = "openai/m", tools = { weather }, handoffs = function() return { two } end }
    two = lash.agent { name = "two", model = "gemini/m", tools = { twice }, handoffs = function() return { one } end }
    local conversation = one:conversation()
    for i = 1, 3 do io.write(tostring(conversation:send("message " .. i)), "\\n") end
    """
    over = lambda name: {"name": "handoff", "args": {"agent": name}}  # noqa: E731
    turns = []
    for _ in range(3):
        turns += [{"expect": {"protocol": "openai"}, "reply": {"calls": [CALLS[0], CALLS[0]]}},
                  {"expect": {"outputs": 2}, "reply": {"text": "over", "calls": [over("two"), CALLS[0]]}},
                  {"expect": {"protocol": "gemini", "outputs": 2}, "reply": {"calls": [CALLS[2], CALLS[2]]}},
                  {"reply": {"text": "back", "calls": [over("one")]}},
                  {"expect": {"protocol": "openai", "outputs": 1}, "reply": {"text": "done"}}]
    with modeld.Server(turns) as server:
        assert lash(code, server.env) == "done\ndone\ndone\n"
        followed(server)


def test_cut_off():
    """D13 an answer that was cut runs none of its calls and stays valid history"""
    for provider in ALL:
        args = {"args_text": '{"city":"O'} if provider != "gemini" else {"args": {"city": "Oslo"}}
        turns = [{"reply": {"calls": [CALLS[0], dict(name="get_weather", **args)], "stop": "length"}},
                 {"expect": {"outputs": 2, "lacks": "temp"}, "reply": {"text": "short"}}]
        with modeld.Server(turns) as server:
            assert run(server, provider)["text"] == "short"
            followed(server)


def test_retries():
    """P5 failures that pass are asked again, with the waits of the server"""
    first = {"openai": [{"status": 503}, {"status": 429, "headers": {"retry-after-ms": "30"}}],
             "anthropic": [{"status": 529}, {"status": 429, "headers": {"retry-after-ms": "30"}}],
             "gemini": [{"status": 429, "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo",
                                                     "retryDelay": "30ms"}]},
                        {"calls": [{"name": "f", "args_text": "print("}]}]}
    for provider in ALL:
        turns = script()
        turns[1]["first"] = first[provider]
        with modeld.Server(turns) as server:
            result = run(server, provider)
            followed(server)
            assert result["text"] == "Oslo is cold." and result["retries"] == 2, result


def test_connection_lost():
    """P5 an answer that breaks off is asked for again"""
    turns = script()
    turns[0]["first"] = [{"text": "x" * 5000, "cut": True}]
    with modeld.Server(turns) as server:
        assert run(server, "openai")["text"] == "Oslo is cold."
        followed(server)


def test_errors():
    """each failure has its exit status and one sentence"""
    cases = [
        ({"OPENAI_API_KEY": "bad-key"}, {"text": "x"}, 78, "OPENAI_API_KEY"),
        ({}, {"body_text": "<html>gateway</html>"}, 76, "not JSON"),
        ({}, {"status": 429, "code": "insufficient_quota"}, 69, "quota"),
        ({}, {"status": 400, "code": "context_length_exceeded"}, 69, "too long"),
        ({}, {"status": 403}, 69, "refused"),
        ({}, {"status": 500, "headers": {"x-should-retry": "false"}}, 75, "try again"),
        ({}, {"text": "No.", "stop": "refusal"}, 69, None),
        ({}, {"text": "x", "stop": "filter"}, 69, None),
    ]
    for env, reply, exit_status, words in cases:
        with modeld.Server([{"reply": reply}]) as server:
            result = run(server, "openai", env)
            assert result["exit"] == exit_status and not result["ok"], (reply, result)
            assert words is None or words in result["error"], (reply, result)
            assert "test-key" not in json.dumps(result) and "bad-key" not in json.dumps(result), result
    with modeld.Server([]) as server:
        result = run(server, "gemini", {"GEMINI_API_KEY": "bad-key"})
        assert result["exit"] == 78 and "GEMINI_API_KEY" in result["error"], result
    with modeld.Server([{"reply": {"stop": "refusal"}}]) as server:
        result = run(server, "gemini")
        assert result["exit"] == 69 and "PROHIBITED_CONTENT" in result["text"], result


def test_unknown_model():
    """a model that the provider does not know ends with 69 and its name"""
    for provider in ALL:
        with modeld.Server([]) as server:
            out = json.loads(lash((RUN % provider).replace(provider + "/m", provider + "/no-such-model"), server.env))
            assert out["exit"] == 69 and "no-such-model" in out["error"], out


def test_server_down():
    """a server that is down ends with 75 after three attempts, naming the address"""
    with modeld.Server([]) as server:
        env = dict(server.env)
    start = time.monotonic()
    out = json.loads(lash(RUN % "openai", env))
    assert out["exit"] == 75 and out["retries"] == 2, out
    assert "127.0.0.1" in out["error"] and "3 attempts" in out["error"], out
    assert time.monotonic() - start < 20


def test_same_bytes():
    """J4 two processes send the same bytes"""
    bodies = []
    for _ in range(2):
        for provider in ALL:
            with modeld.Server(script()) as server:
                run(server, provider)
                bodies.append([r["body"] for r in server.requests()])
    assert bodies[:len(ALL)] == bodies[len(ALL):]


def test_script_and_demo():
    """demo and script:FILE need no key and no network; the tools really run"""
    code = AGENT + """
    local agent = lash.agent { name = "a", model = "demo", tools = { weather, twice } }
    print(agent:run("What is the weather in Oslo, Lima and Rome? And 21 twice."))
    """
    assert lash(code, {}).splitlines() == [
        'get_weather(city = "Oslo"): {"big":9007199254740993,"city":"Oslo","temp":-3}',
        'get_weather(city = "Lima") failed: no such city: Lima',
        'get_weather(city = "Rome"): {"big":9007199254740993,"city":"Rome","temp":-3}',
        'twice(n = 21): 42']


def test_unused_turns():
    """turns of script:FILE that nobody used end with 65"""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "turns.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump([{"text": "one"}, {"text": "two"}], file)
        done = subprocess.run([os.environ["LASH"], "ask", "-m", "script:" + path, "hi"], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=20)
        assert done.returncode == 65 and done.stdout == "one\n", done
        assert "2 turns" in done.stderr and path in done.stderr, done
