"""The program against the scripted model server: four protocols from request to final text, and what goes wrong."""
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import modeld  # noqa: E402
from cli import THOROUGH  # noqa: E402

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
local agent = lash.agent { name = "a", instructions = "Be brief.", tools = { weather, twice } }
local text, ready, kinds, retries = {}, {}, {}, 0
local result = agent:run(arg[1] or "Compare Oslo, Lima and Rome.", { no_raise = true, on_event = function(e)
  if e.type == "text" then text[#text + 1] = e.delta end
  if e.type == "call.ready" then ready[#ready + 1] = { e.name, e.args, e.call } end
  if e.type == "retry" then retries = retries + 1 end
  if e.type == "call.end" then kinds[#kinds + 1] = e.name .. " " .. e.status end
end })
table.sort(kinds)
io.write(lash.json.encode { text = result.text, ok = result.ok, exit = result.exit, reason = result.reason,
  usage = result.usage, retries = retries, error = result.error and result.error.message,
  told = table.concat(text), pieces = #text, ready = ready, ended = kinds }, "\\n")
"""
CALLS = [{"name": "get_weather", "args": {"city": "Oslo"}}, {"name": "get_weather", "args": {"city": "Lima"}},
         {"name": "twice", "args": {"n": 4611686018427387903}}]
ALL = ("openai", "openai-chat", "anthropic", "gemini")
WAYS = [(provider, streamed) for provider in ALL for streamed in (True, False)]


def lash(code, env, status=0, options=(), words=()):
    """Runs a script; gives its stdout. Wrong status or a message of an interpreter: AssertionError."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua", encoding="utf-8") as file:
        file.write(code)
        file.flush()
        done = subprocess.run([os.environ["LASH"], "run", *options, file.name, *words], env={**os.environ, **env},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout


def run(server, provider, streamed=True, env=None, model="m", words=(), code=RUN):
    """One run of the script, which names no model, with one provider."""
    options = ["-m", "%s/%s" % (provider, model)] + ([] if streamed else ["--no-stream"])
    return json.loads(lash(code, {**server.env, **(env or {})}, options=options, words=words))


def everywhere(turns_of, ways=WAYS, code=RUN):
    """Runs the script on all protocols, streamed and buffered, at one server; {(provider, streamed): (its result, the
    requests it sent)}. turns_of(provider): the script of the server."""
    rules = [{"when": {"protocol": p, "stream": s}, "turns": turns_of(p)} for p, s in ways]
    with modeld.Server({"rules": rules}) as server, concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda way: run(server, *way, code=code), ways))
        stats = followed(server)
        requests = server.requests()
    assert stats["connections"] == len(ways), (stats, len(ways))
    paths = {"openai": "/responses", "openai-chat": "/chat/completions", "anthropic": "/messages", "gemini": "models"}

    def of(provider, streamed):
        wants = lambda r: "stream" in r["path"] if provider == "gemini" else bool(r["json"].get("stream"))  # noqa: E731
        return [r for r in requests if paths[provider] in r["path"] and wants(r) == streamed]

    return {way: (result, of(*way)) for way, result in zip(ways, results)}


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


def test_everywhere():
    """J1 J4 P0 parallel calls, one failing: the same outcome on four protocols, streamed and not, the same bytes each time"""
    outcomes, bodies = set(), {}
    for (provider, streamed), (result, requests) in everywhere(lambda _: script()).items():
        assert result["text"] == "Oslo is cold." and result["ok"] and result["retries"] == 0, result
        assert result["usage"] == {"input": 300, "output": 30, "cached": 50, "reasoning": 0, "total": 330}, result
        assert result["told"] == "Looking.Oslo is cold.", result
        assert (result["pieces"] > 3) == streamed, (provider, streamed, result)
        ready = result.pop("ready")
        assert [[name, json.loads(args)] for name, args, _ in ready] == [[c["name"], c["args"]] for c in CALLS], ready
        assert len({call for _, _, call in ready}) == 3, ready
        assert "4611686018427387903" in ready[2][1]
        bodies[provider, streamed] = [r["body"] for r in requests]
        second = requests[1]["body"]
        assert "4611686018427387903" in second and "9007199254740993" in second, second
        result.pop("pieces")
        outcomes.add(json.dumps(result, sort_keys=True))
    assert len(outcomes) == 1, outcomes
    again = {way: [r["body"] for r in requests] for way, (_, requests) in everywhere(lambda _: script()).items()}
    assert bodies == again and all(len(of) == 2 for of in bodies.values()), "J4 another process sends other bytes"


def test_odd_ids():
    """D9 duplicate, empty and missing ids come back paired"""
    calls = [dict(CALLS[0], id=i) for i in ("x", "x", "", None, "x")]
    turns = [{"reply": {"calls": calls, "reasoning": False}}, {"expect": {"outputs": 5}, "reply": {"calls": calls,
             "reasoning": False}}, {"expect": {"outputs": 5}, "reply": {"text": "done"}}]
    for way, (result, _) in everywhere(lambda _: turns).items():
        assert result["text"] == "done", (way, result)
        assert len({call for _, _, call in result["ready"]}) == 10, (way, result)


def test_reasoning_comes_back():
    """P3 reasoning with text and calls comes back as it was, several turns long"""
    turns = [{"reply": {"reasoning": "Which city? %d" % n, "text": "So.", "calls": CALLS}} for n in range(3)]
    for way, (result, requests) in everywhere(lambda _: turns + [{"reply": {"text": "done"}}]).items():
        assert result["text"] == "done" and len(requests) == 4, (way, result)


def test_handoff_between_providers():
    """P3 P4 a conversation that goes round all four providers and back is valid for each"""
    code = AGENT + """
    local names = { "openai", "openai-chat", "anthropic", "gemini" }
    local agents = {}
    for i, name in ipairs(names) do
      agents[i] = lash.agent { name = name, model = name .. "/m", tools = { weather, twice },
        handoffs = function() return { agents[i % 4 + 1], agents[(i + 1) % 4 + 1] } end }
    end
    local conversation = agents[1]:conversation()
    for i = 1, 3 do io.write(tostring(conversation:send("message " .. i)), "\\n") end
    """
    over = lambda name: {"name": "handoff", "args": {"agent": name}}  # noqa: E731
    ring = lambda k: ALL[k % 4]  # noqa: E731
    turns = []
    for n in range(3):      # the user's next message finds the conversation at another provider each time
        for k in range(n * 5, n * 5 + 5):
            turns += [{"expect": {"protocol": ring(k)}, "reply": {"text": "So.", "calls": [CALLS[0], CALLS[1]]}},
                      {"expect": {"outputs": 2}, "reply": {"text": "over", "calls": [over(ring(k + 1)), CALLS[2]]}}]
        turns += [{"expect": {"protocol": ring(n * 5 + 5), "outputs": 2}, "reply": {"calls": [CALLS[2], CALLS[2]]}},
                  {"expect": {"outputs": 2}, "reply": {"text": "done"}}]
    for options in ((), ("--no-stream",)):
        with modeld.Server(turns) as server:
            assert lash(code, server.env, options=options) == "done\ndone\ndone\n"
            followed(server)


def test_cut_off():
    """D13 an answer that was cut runs none of its calls and stays valid history"""
    def turns(provider):
        args = {"args": {"city": "Oslo"}} if provider == "gemini" else {"args_text": '{"city":"O'}
        return [{"reply": {"calls": [CALLS[0], dict(name="get_weather", **args)], "stop": "length"}},
                {"expect": {"lacks": "temp"}, "reply": {"text": "short"}}]
    for way, (result, _) in everywhere(turns).items():
        assert result["text"] == "short" and result["ended"] == ["get_weather not_run"] * 2, (way, result)


def test_retries():
    """P5 failures that pass are asked again, with the waits of the server"""
    def turns(provider):
        first = [{"status": 503, "headers": {"retry-after-ms": "1"}}]
        if provider == "gemini":
            first = [{"status": 429, "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo",
                                                  "retryDelay": "30ms"}]}]
        return [dict(turn, first=first) for turn in script()]
    for way, (result, _) in everywhere(turns).items():
        assert result["text"] == "Oslo is cold." and result["retries"] == 2, (way, result)


def test_malformed_call():
    """P5 a call that Gemini itself could not read is asked for again"""
    turns = script()
    turns[1]["first"] = [{"calls": [{"name": "f", "args_text": "print("}]}]
    for way, (result, _) in everywhere(lambda _: turns, [("gemini", True), ("gemini", False)]).items():
        assert result["text"] == "Oslo is cold." and result["retries"] == 1, (way, result)


def test_connection_lost():
    """P5 a whole answer that breaks off is asked for again"""
    turns = script()
    turns[0]["first"] = [{"text": "x" * 5000, "cut": True}]
    with modeld.Server(turns) as server:
        assert run(server, "openai", False)["text"] == "Oslo is cold."
        followed(server)


def test_errors():
    """each failure has its exit status and one sentence"""
    anywhere = [
        ({"text": "No.", "stop": "refusal"}, 69, None),
        ({"text": "x", "stop": "filter"}, 69, None),
        ({"body_text": "<html>gateway</html>"}, 76, "not JSON"),
    ]
    cases = [("openai", {"status": 429, "code": "insufficient_quota"}, 69, "quota"),
             ("openai", {"status": 400, "code": "context_length_exceeded"}, 69, "too long"),
             ("openai-chat", {"status": 429, "code": "insufficient_quota"}, 69, "quota"),
             ("openai-chat", {"status": 400, "code": "context_length_exceeded"}, 69, "too long"),
             ("anthropic", {"status": 402}, 69, "quota"),
             ("anthropic", {"status": 400, "message": "prompt is too long: 9 tokens > 8 maximum"}, 69, "too long"),
             ("gemini", {"status": 400, "message": "The input token count (9) exceeds the maximum number of tokens "
                                                   "allowed (8)."}, 69, "too long"),
             ("openai", {"status": 500, "headers": {"x-should-retry": "false"}}, 75, "try again")]
    cases += [(provider, *case) for provider in ALL for case in anywhere]
    rules = [{"when": {"user_contains": "<%d>" % n}, "turns": [{"repeat": True, "reply": case[1]}]}
             for n, case in enumerate(cases)]
    with modeld.Server({"rules": rules}) as server, concurrent.futures.ThreadPoolExecutor(4) as pool:
        for turn in (0, 1) if THOROUGH else (0,):
            got = pool.map(lambda n: run(server, cases[n][0], (turn + n) % 2 == 0, words=["<%d>" % n]),
                           range(len(cases)))
            for (provider, reply, exit_status, words), result in zip(cases, got):
                streamed = "streamed by turns, from %d" % turn
                assert result["exit"] == exit_status and not result["ok"], (provider, streamed, reply, result)
                assert words is None or words in result["error"], (provider, streamed, reply, result)
                assert "test-key" not in json.dumps(result), result
        followed(server)


def test_bad_keys_and_models():
    """a refused key ends with 78 and its variable, an unknown model with 69 and its name"""
    variables = {"openai": "OPENAI_API_KEY", "openai-chat": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY",
                 "gemini": "GEMINI_API_KEY"}
    with modeld.Server([]) as server:
        for provider, variable in variables.items():
            result = run(server, provider, env={variable: "bad-key"})
            assert result["exit"] == 78 and variable in result["error"], (provider, result)
            assert "bad-key" not in json.dumps(result), result
            result = run(server, provider, model="no-such-model")
            assert result["exit"] == 69 and "no-such-model" in result["error"], (provider, result)


def test_server_down():
    """a server that is down ends with 75 after three attempts, naming the address"""
    with modeld.Server([]) as server:
        env = dict(server.env)
    start = time.monotonic()
    out = json.loads(lash(RUN, env, options=["-m", "openai/m"]))
    assert out["exit"] == 75 and out["retries"] == 2, out
    assert "127.0.0.1" in out["error"] and "3 attempts" in out["error"], out
    assert time.monotonic() - start < 20


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
