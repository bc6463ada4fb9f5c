"""What ends runs and calls, seen from outside: fail_fast, attempts, limits, and the exit statuses."""
import json

from cli import expect, lash, objects, one_line, write

AGENT = """
local lash = require "lash"
local function tool(name, spec)
    spec.name, spec.params = name, { i = "integer?" }
    return lash.tool(spec)
end
local agent = lash.agent { name = "it", fail_fast = %s, limits = { concurrency = 2 }, tools = {
    tool("fall", { async = function() lash.sleep(0.01) return nil, "the floor is gone" end }),
    tool("nap", { async = function() lash.sleep(60) end }),
    tool("fine", { sync = function(_, ctx) ctx.progress(0.5, "half") return "fine" end }),
    tool("flaky", { idempotent = true, retry = { delay = 0.001 }, sync = function(_, ctx)
        if ctx.attempt < 3 then error("attempt " .. ctx.attempt, 0) end
        return "third time"
    end }),
    tool("never", { idempotent = true, retry = { attempts = 2, delay = 0.001 }, async = function() error("no", 0) end }),
} }
if lash.main then
    local result = agent:run("go")
    print(result.reason, result.text)
end
return agent
"""


def agent(*turns, fail_fast="false"):
    write("agent.lua", AGENT % fail_fast)
    write("play.json", json.dumps(list(turns)))
    return "script:play.json"


def calls(*names):
    return {"calls": [{"name": name, "args": {}} for name in names]}


def test_fail_fast():
    """E2 ask: the first failure ends the run with 1, its error on stderr, all calls in the events"""
    model = agent(calls("nap", "fall", "fine"), fail_fast="true")
    args = ("ask", "-m", model, "-t", "agent.lua")
    one_line(expect(lash(*args, "go"), 1, "", "lash: the call of 'fall' failed: the floor is gone"))
    one = objects(expect(lash(*args, "--json", "go"), 1))[0]
    assert (one["ok"], one["exit"], one["reason"]) == (False, 1, "call_failed"), one
    assert [c["status"] for c in one["calls"]] == ["cancelled", "error", "not_run"], one
    events = objects(expect(lash(*args, "--jsonl", "go"), 1))
    assert sorted(e["call"] for e in events if e["type"] == "call.end") == ["1.1", "1.2", "1.3"], events
    assert events[-1]["type"] == "run.end" and "the floor is gone" in events[-1]["error"], events
    expect(lash("-m", model, "agent.lua"), 1, "", "the call of 'fall' failed")


def test_attempts():
    """ask: retries and progress are events; the output names the attempts"""
    model = agent(calls("flaky", "never", "fine"), {"text": "done"})
    events = objects(expect(lash("ask", "-m", model, "-t", "agent.lua", "--jsonl", "go"), 0))
    again = [(e["what"], e["why"], e["attempt"]) for e in events if e["type"] == "retry"]
    assert sorted(again) == [("flaky", "attempt 1", 2), ("flaky", "attempt 2", 3), ("never", "no", 2)], again
    ends = {e["name"]: (e["status"], e["output"]) for e in events if e["type"] == "call.end"}
    assert ends == {"flaky": ("ok", "third time"), "fine": ("ok", "fine"),
                    "never": ("error", "failed 2 times; the last error: no")}, ends
    told = [(e["name"], e["fraction"], e["text"]) for e in events if e["type"] == "call.progress"]
    assert told == [("fine", 0.5, "half")], told
    r = expect(lash("call", "agent.lua", "flaky"), 0, "third time\n", ["flaky: attempt 2 in ", "flaky: attempt 3 in "])
    assert r.err.count("lash: flaky: attempt ") == 2, r
    events = objects(expect(lash("call", "--jsonl", "agent.lua", "never"), 1))
    assert [e["type"] for e in events] == ["call.start", "retry", "call.end"], events


def test_limits():
    """B1 B4 T7 run: --max-turns, --max-tokens and --timeout hold for the agents of a script"""
    model = agent(calls("fine"), {"text": "what I have"})
    expect(lash("-m", model, "--max-turns", "1", "agent.lua"), 0, "turns\twhat I have\n")
    model = agent(dict(calls("fine"), usage={"input": 50, "output": 60}))
    expect(lash("-m", model, "--max-tokens", "100", "agent.lua"), 0, "tokens\t\n")
    one_line(expect(lash("ask", "-m", agent(calls("nap", "fine", "nap")), "-t", "agent.lua", "--timeout", "200ms", "go"),
                    124, "", "--timeout"))
    one_line(expect(lash("-m", agent(calls("nap", "nap")), "--timeout", "200ms", "agent.lua"), 124, "", "--timeout"))
    one = objects(expect(lash("ask", "-m", agent(calls("nap", "fine", "nap")), "-t", "agent.lua", "--timeout", "3s",
                              "--json", "go"), 124))[0]
    assert one["reason"] == "time" and [c["status"] for c in one["calls"]] == ["cancelled", "ok", "cancelled"], one
