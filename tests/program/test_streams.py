"""The program and streamed answers: any split of the bytes, what breaks off, silence, cancel, rate limits."""
import concurrent.futures
import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import modeld                                                   # noqa: E402
from cli import SLOWER, THOROUGH, needs_prompt_signals, write            # noqa: E402
from test_providers import ALL, CALLS, RUN, followed, lash, run  # noqa: E402
from test_signals import Program                                # noqa: E402

TEXT = "Grüße aus Zürich: 世界 🌍 — all is well, and then some."


def rules(cases, turns_of):
    """A script in which each case is a conversation of its own, known by the text of its user: <0>, <1> ..."""
    return {"rules": [{"when": {"user_contains": "<%d>" % n}, "turns": turns_of(case)}
                      for n, case in enumerate(cases)]}


def run_all(server, cases, way_of, **options):
    """Results of RUN for all cases, several at once; way_of(case) -> provider."""
    with concurrent.futures.ThreadPoolExecutor(options.pop("jobs", 4)) as pool:
        return list(pool.map(lambda n: run(server, way_of(cases[n]), words=["<%d>" % n], **options),
                             range(len(cases))))


def lash_out(code, server, provider, env=None, options=()):
    return lash(code, {**server.env, **(env or {})}, options=["-m", provider + "/m", *options])


def config(**timeouts):
    """A config.lua that gives all providers these; in the environment of the program."""
    fields = ", ".join("%s = %g" % pair for pair in timeouts.items())
    text = "return { providers = { %s } }\n" % ", ".join('["%s"] = { %s }' % (name, fields) for name in ALL)
    write("config/lash/config.lua", text)
    return {"XDG_CONFIG_HOME": os.path.abspath("config")}


def test_any_split():
    """P2 whole conversations come out the same byte by byte, split at random, with every line end, zipped"""
    hows = [{"split": 1}, {"split": 1, "eol": "crlf"}, {"split": 2, "eol": "cr"}, {"gzip": True, "split": 3},
            {"close": True, "eol": "cr"}, {"comments": True, "pings": True, "split": 5},
            {"interleave": True, "pieces": 1}]
    hows += [{"split": "random", "seed": seed, "eol": ("lf", "crlf", "cr")[seed % 3]} for seed in range(3)]
    cases = [(provider, how) for p, provider in enumerate(ALL) for n, how in enumerate(hows)
             if THOROUGH or (p + n) % 2 == 0]

    def turns(case):
        calls = [dict(CALLS[0], args={"city": "Oslo", "note": TEXT}), *CALLS[1:]]
        return [{"reply": {"text": TEXT, "reasoning": TEXT, "calls": calls, **case[1]}},
                {"expect": {"outputs": 3, "outputs_contain": ["Oslo", "no such city", "9223372036854775806"]},
                 "reply": {"text": TEXT, **case[1]}}]
    code = RUN.replace('{ city = "string" }', '{ city = "string", note = "string?" }')
    with modeld.Server(rules(cases, turns)) as server:
        for case, result in zip(cases, run_all(server, cases, lambda case: case[0], code=code)):
            assert result["text"] == TEXT and result["told"] == TEXT + TEXT, (case, result)
            assert [name for name, _, _ in result["ready"]] == [call["name"] for call in CALLS], (case, result)
            assert json.loads(result["ready"][0][1]) == {"city": "Oslo", "note": TEXT}, (case, result)
        followed(server)


TALK = RUN.split("local agent =")[0] + """
local conversation = lash.agent { name = "a", tools = { weather, twice } }:conversation()
local told, statuses, retries = {}, {}, 0
local result = conversation:send(arg[1], { no_raise = true, on_event = function(e)
  if e.type == "text" then told[#told + 1] = e.delta end
  if e.type == "call.end" then statuses[#statuses + 1] = e.status end
  if e.type == "retry" then retries = retries + 1 end
end })
local again = conversation:send("again", { no_raise = true })
io.write(lash.json.encode { exit = result.exit, reason = result.reason, told = table.concat(told), statuses = statuses,
  error = result.error and result.error.message, retries = retries, again = again.text,
  fault = again.error and again.error.message, text = result.text }, "\\n")
"""


def test_broken_streams():
    """P6 a stream without its end runs none of its calls; what was told stays, and the conversation goes on"""
    hows = [{"no_done": True}, {"stop_after": 12}, {"stop_after": 12, "end": "clean"},
            {"stop_after": 12, "end": "reset"}, {"no_done": True, "close": True}]
    hows += [{"error_after": 12, "error": {"status": status, "form": form}}
             for status, form in ((529, "event"), (429, "bare"), (500, "failed"), (500, "choice"))]
    cases = [(provider, how) for p, provider in enumerate(ALL) for n, how in enumerate(hows)
             if (THOROUGH or (p + n) % 2 == 0) and how.get("error", {}).get("form") not in {"openai": ("choice",), "openai-chat": ("failed",)}.get(
                 provider, ("choice", "failed"))]

    def turns(case):
        return [{"reply": {"text": TEXT, "calls": CALLS, "pieces": 5, **case[1]}},
                {"repeat": True, "expect": {"contains": "again", "lacks": "temp"}, "reply": {"text": "done"}}]
    script_of = rules(cases, turns)
    for rule in script_of["rules"]:     # what came of a broken answer is in the history, or is not
        rule["turns"][0]["first"] = [rule["turns"][0]["reply"]]
        rule["turns"][0]["reply"] = {"text": "done"}
    with modeld.Server(script_of) as server:
        for case, result in zip(cases, run_all(server, cases, lambda case: case[0], code=TALK)):
            assert not result["statuses"] and result["again"] == "done", (case, result)
            if case[1].get("end") == "reset" and result["retries"]:     # the reset took what had come with it
                assert result["told"] == "done", (case, result)
                continue
            assert result["exit"] == 75 and result["retries"] == 0, (case, result)
            assert case[0] in result["error"] and "delivered" in result["error"], (case, result)
            assert TEXT.startswith(result["told"]) and result["told"], (case, result)
        stats = server.stats()
        assert not stats["problems"] and not stats["refused"], stats


def test_retried_while_nothing_was_delivered():
    """P5 a stream that breaks before anything of the answer came is asked for again; one without listeners always"""
    cases = [(provider, stop, told) for provider in ALL for stop, told in ((0, True), (1, True), (14, False))]
    code = RUN.replace("no_raise = true", "no_raise = true, deltas = TOLD")

    def turns(case):
        whole = {"text": TEXT, "calls": CALLS, "pieces": 3}
        before = 0 if case[2] and case[0] == "gemini" else case[1]
        return [{"first": [{**whole, "stop_after": before}, {"error_after": before, **whole,
                                                             "error": {"status": 503}}], "reply": whole},
                {"expect": {"outputs": 3}, "reply": {"text": "done"}}]
    with modeld.Server(rules(cases, turns)) as server:
        with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
            got = pool.map(lambda n: run(server, cases[n][0], words=["<%d>" % n], code=code.replace(
                "TOLD", str(cases[n][2]).lower())), range(len(cases)))
        for case, result in zip(cases, got):
            assert result["text"] == "done" and result["retries"] == 2, (case, result)
            assert result["told"] == (TEXT + "done" if case[2] else ""), (case, result)
        followed(server)


def test_waits_of_servers():
    """P5 retry-after in its forms, x-should-retry both ways, and a wait that is too long"""
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 1))
    again = [{"retry-after-ms": "20"}, {"retry-after": "0.02"}, {"retry-after": later}, {"retry-after": "0"}]
    cases = [(provider, 429, headers, 0) for provider in ALL for headers in again]
    cases += [(provider, 400, {"x-should-retry": "true", "retry-after-ms": "5"}, 0) for provider in ALL]
    cases += [(provider, 529, {"x-should-retry": "false"}, 75) for provider in ALL]
    cases += [(provider, 429, {"retry-after": "3600"}, 75) for provider in ALL]

    def turns(case):
        return [{"first": [{"status": case[1], "headers": case[2]}], "reply": {"text": "done"}}]
    with modeld.Server(rules(cases, turns)) as server:
        for case, result in zip(cases, run_all(server, cases, lambda case: case[0])):
            assert result["exit"] == case[3], (case, result)
            assert result["retries"] == (0 if case[3] else 1), (case, result)
            if case[2].get("retry-after") == "3600":
                assert "3600" in result["error"], result
            else:
                assert case[3] or result["text"] == "done", (case, result)
        stats = server.stats()
        assert not stats["problems"] and not stats["refused"], stats


MANY = """
local lash = require "lash"
local agent = lash.agent { name = "a" }
local waited, texts = 0, {}
local function ask(name)
  local told = false
  local result = agent:run(name, { on_event = function(e)
    if e.type == "retry" and not told then
      told = true
      waited = waited + 1
      if e.why:find "429" and waited == 1 then met() end
    end
  end })
  texts[#texts + 1] = result.text
end
local group <close> = lash.group()
function met()
  for n = 1, 12 do group:spawn(ask, "number " .. n) end
end
ask "first ASKS"
group:wait()
print(#texts, waited)
"""


def test_one_gate_for_all():
    """P5 a 429 that one conversation met makes all others at that key wait, and none is refused again"""
    busy = [{"user_contains": "%s %s" % (name, asks)} for name, asks in (("first", "150 ms"), ("first", "nothing"))]
    headers = [{"retry-after-ms": "150"}, {}]
    rules_ = [{"when": when, "turns": [{"first": [{"status": 429, "headers": h}], "reply": {"text": "x"}}]}
              for when, h in zip(busy, headers)]
    rules_.append({"when": {}, "turns": [{"repeat": True, "reply": {"text": "x"}}]})

    def one(provider):
        with modeld.Server({"rules": rules_}) as server:
            for asks, least in (("150 ms", 0.14), ("nothing", 0.3)):
                before = len(server.requests())
                out = lash_out(MANY.replace("ASKS", asks), server, provider)
                assert out == "13\t13\n", (provider, asks, out)
                requests = server.requests()[before:]
                assert [r["status"] for r in requests] == [429] + [200] * 13, (provider, asks)
                # from when it came: the server may write down late when its answer went
                gap = min(r["t_in"] for r in requests[1:]) - requests[0]["t_in"]
                assert gap >= least, (provider, asks, gap)
            followed(server)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(one, ALL))


OFFLOADED = """
local lash = require "lash"
local inner = lash.agent { name = "inner" }
local told = lash.channel(1)
local ask = lash.tool { name = "ask", description = "asks", sync = function()
  return lash.agent { name = "inner", model = "openai/m" }:run("second").text
end }
local task = lash.spawn(function()
  return inner:run("first 150 ms", { model = "openai/m", on_event = function(event)
    if event.type == "retry" then told:try_send(true) end
  end }).text
end)
told:receive()
local outer = lash.agent { name = "outer", model = "demo", tools = { ask } }:run("ask")
task:wait()
io.write(outer.text, "\\n")
"""


def test_gate_of_workers():
    """P5 a 429 makes agents of sync functions at that key wait, too"""
    script = {"rules": [{"when": {"user_contains": "first 150 ms"}, "turns": [
        {"first": [{"status": 429, "headers": {"retry-after-ms": "150"}}], "reply": {"text": "x"}}]},
        {"when": {"user_contains": "second"}, "turns": [{"reply": {"text": "two"}}]}]}
    with modeld.Server(script) as server:
        assert "two" in lash(OFFLOADED, server.env)
        requests = server.requests()
        assert [r["status"] for r in requests] == [429, 200, 200], requests
        assert min(r["t_in"] for r in requests[1:]) - requests[0]["t_in"] >= 0.14
        followed(server)


def test_idle_timers():
    """T8 silence ends a stream, and so do keep-alives without anything new; keep-alives hold the first timer back"""
    wait = min(SLOWER, 4)
    quiet, chatty = config(idle_timeout=wait), None
    cases = [(provider, "none") for provider in ALL]
    reply = {"text": TEXT, "pieces": 5, "pause_after": 6}
    with modeld.Server(rules(cases, lambda _: [{"reply": reply}])) as server:
        start = time.monotonic()
        for case, result in zip(cases, run_all(server, cases, lambda case: case[0], env=quiet)):
            assert result["exit"] == 75 and case[0] in result["error"], (case, result)
            assert TEXT.startswith(result["told"]) and result["told"], (case, result)
        assert time.monotonic() - start < 25 * SLOWER
        followed(server)
    chatty = config(idle_timeout=wait, event_timeout=3 * wait)
    cases = [(provider, kind) for provider in ALL for kind in ("comments", "pings")]
    with modeld.Server(rules(cases, lambda case: [{"reply": {**reply, "keep_alive": case[1]}}])) as server:
        start = time.monotonic()
        for case, result in zip(cases, run_all(server, cases, lambda case: case[0], env=chatty, jobs=len(cases))):
            assert result["exit"] == 75 and case[0] in result["error"], (case, result)
            assert TEXT.startswith(result["told"]) and result["told"], (case, result)
        assert time.monotonic() - start >= 3 * wait * 0.9
        followed(server)


def test_interrupted():
    """T9 T4 P6 SIGINT in the middle of an answer ends the program as SIGINT does; the connection is closed"""
    needs_prompt_signals()
    reply = {"text": TEXT, "pieces": 5, "pause_after": 6, "keep_alive": "pings"}
    for form in ("text", "jsonl"):
        with modeld.Server(rules(ALL, lambda _: [{"reply": reply}])) as server:
            programs = [Program("ask", "-m", name + "/m", "-o", form, "<%d>" % n, env=server.env)
                        for n, name in enumerate(ALL)]
            server.wait(len(ALL))
            for program in programs if form == "jsonl" else ():
                program.until('"delta":"Gr')
            for program in programs:
                program.send()
            for name, program in zip(ALL, programs):
                out, err = program.end(signal.SIGINT)
                assert "Traceback" not in err and "traceback" not in err, err
                if form == "jsonl":
                    last = json.loads(out.splitlines()[-1])
                    assert (last["type"], last["reason"], last["exit"]) == ("run.end", "cancelled", 130), (name, out)
            server.wait(0)
            assert [r["left"] for r in server.requests()] == [True] * 4
            followed(server)


CANCEL = RUN.split("local agent =")[0] + """
local conversation = lash.agent { name = "a", tools = { weather, twice } }:conversation()
local ended, cancelled = {}, false
local function on_event(e)
  if e.type == arg[1] and not cancelled then
    cancelled = conversation:cancel()
  elseif e.type == "call.start" then
    ended[#ended + 1] = e.name
  end
end
local first = conversation:send("first", { on_event = on_event, no_raise = true })
local second = conversation:send("second", { no_raise = true })
print(cancelled, first.reason, #ended, second.text, second.error)
"""


def test_cancelled_by_a_script():
    """T4 T5 a conversation that is cancelled in the middle of an answer, or with calls ready, can go on"""
    first = {"text": TEXT, "reasoning": TEXT, "calls": CALLS, "no_done": True, "pause_after": 999}
    turns = [{"reply": first}, {"expect": {"contains": "second", "lacks": "temp"}, "reply": {"text": "done"}}]
    ways = [(provider, kind) for provider in ALL for kind in ("text", "reasoning", "call.ready")]
    with modeld.Server(turns * len(ways)) as server:
        for provider, kind in ways:
            out = lash(CANCEL, server.env, options=["-m", provider + "/m"], words=[kind])
            assert out == "true\tcancelled\t0\tdone\tnil\n", (provider, kind, out)
        server.wait(0)
        followed(server)


def test_not_a_stream():
    """P0 servers that answer whole though a stream was asked, and streams as arrays, are understood"""
    hows = [{"ignore_stream": True}, {"ignore_stream": True, "gzip": True}, {"content_type": "text/event-stream"},
            {"ignore_stream": True, "chunked": True, "every_ms": 1}]
    cases = [(provider, how) for provider in ALL for how in hows]

    def turns(case):
        return [{"reply": {"text": TEXT, "calls": CALLS, **case[1]}},
                {"expect": {"outputs": 3, "stream": True}, "reply": {"text": "done", **case[1]}}]
    with modeld.Server(rules(cases, turns)) as server:
        for case, result in zip(cases, run_all(server, cases, lambda case: case[0])):
            assert result["text"] == "done" and result["told"] == TEXT + "done", (case, result)
            assert len(result["ready"]) == 3, (case, result)
        followed(server)


def test_end_marker_is_the_end():
    """P6 an answer is complete at its end marker, though the server leaves the body open; the next one is asked anew"""
    turns = [{"reply": {"text": TEXT, "calls": CALLS, "pause_after": 999}}, {"reply": {"text": "done"}}]
    with modeld.Server(rules(ALL, lambda _: turns)) as server:
        for result in run_all(server, ALL, lambda name: name):
            assert result["text"] == "done" and result["told"] == TEXT + "done", result
            assert result["retries"] == 0 and len(result["ready"]) == 3, result
        server.wait(0)      # the connections that hung were closed
        assert sorted(r["left"] for r in server.requests()) == [False] * 4 + [True] * 4
        followed(server)


def test_time_limit():
    """T7 --timeout ends an answer that comes without end, with 124 in all forms of output"""
    reply = {"text": TEXT, "pieces": 5, "pause_after": 6, "keep_alive": "pings"}
    with modeld.Server([{"reply": reply, "repeat": True}]) as server:
        limit = "%gs" % (1.5 * SLOWER)
        programs = [(name, form, Program("ask", "-m", name + "/m", "-o", form, "--timeout", limit, "hi",
                                         env=server.env)) for name in ALL for form in ("text", "json", "jsonl")]
        for name, form, program in programs:
            out, err = program.end(124)
            assert len(err.splitlines()) == 1 and err.startswith("lash: "), (name, form, err)
            if form != "text":
                assert json.loads(out.splitlines()[-1])["exit"] == 124, (name, out)
        followed(server)


def test_connections_are_kept():
    """P5 refusals, broken requests and retries of one conversation go over one connection"""
    first = [{"status": 503, "headers": {"retry-after-ms": "1"}}, {"status": 429, "headers": {"retry-after-ms": "1"}}]
    turns = [{"first": first, "reply": {"text": "So.", "calls": CALLS}},
             {"first": first, "reply": {"calls": CALLS}}, {"reply": {"text": "done"}}]
    with modeld.Server(rules(ALL, lambda _: turns)) as server:
        for result in run_all(server, ALL, lambda name: name):
            assert result["text"] == "done" and result["retries"] >= 4, result
        stats = followed(server)
        assert stats["connections"] == len(ALL) and stats["requests"] == 7 * len(ALL), stats
