"""Conversations that wander among the four protocols, and what any of them must carry: every request is checked by the
rules of its service."""
import json
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import modeld                                                           # noqa: E402
from cli import THOROUGH                                                # noqa: E402
from modelwire import canon                                             # noqa: E402
from test_providers import AGENT, ALL, RUN, everywhere, followed, lash  # noqa: E402

WALK = AGENT + """
local names = { "openai", "openai-chat", "anthropic", "gemini" }
local agents = {}
local odd = lash.tool { name = "odd", description = "Any arguments", schema = lash.json.decode '{"type":"object"}',
  async = function(args) if args.fail then error("no " .. args.fail, 0) end return args.back end }
for i, name in ipairs(names) do
  agents[i] = lash.agent { name = name, model = name .. "/m", tools = i % 2 == 0 and { weather, twice, odd } or { odd },
    stream = (i + arg[1]) % 3 ~= 0, handoffs = function() return agents end }
end
local conversation = agents[tonumber(arg[1])]:conversation()
for i = 1, tonumber(arg[2]) do
  local result = conversation:send("message " .. i, { no_raise = true })
  assert(result.text == "done " .. i, i .. ": " .. tostring(result.text) .. " " .. tostring(result.error))
end
"""
TEXTS = ("", "So.", " \n", "Grüße 🌍", "a\tb \"quoted\" \\ end")


def walk(chance, messages):
    """The turns of a long conversation, made by chance; the number of the first agent."""
    here = first = chance.randrange(4)
    turns, expected = [], {}
    for n in range(1, messages + 1):
        cut = False
        for _ in range(chance.randrange(4)):
            calls = []
            for k in range(chance.randrange(1, 5)):
                args = {"fail": "way"} if chance.random() < 0.2 else {"back": chance.choice(
                    ("", None, [], {}, 1.0, 2**63 - 1, "x" * chance.choice((1, 5000)), {"deep": [{"er": [None]}]}))}
                calls.append({"name": "odd", "args": args})
                if chance.random() < 0.3:
                    calls[-1]["id"] = chance.choice(("x", "x:y/z", "", None, "call_%d" % k, "y" * 80))
            before = target = here
            if chance.random() < 0.5:
                target = chance.choice([k for k in range(4) if k != here])
                calls.insert(chance.randrange(len(calls) + 1), {"name": "handoff", "args": {"agent": ALL[target]}})
            reply = {"calls": calls, "reasoning": chance.choice((False, True, "Let me think."))}
            reply["text"] = chance.choice(TEXTS)
            reply.update(chance.choice(({}, {}, {"split": "random"}, {"interleave": True}, {"pieces": 2})))
            turns.append({"expect": {**expected, "protocol": ALL[here]}, "reply": reply})
            expected, here = {"outputs": len(calls)}, target
            if target == before and len(calls) > 1 and not cut and chance.random() < 0.2:
                cut = True      # its last call may be left out; a second such answer would end the run
                reply["stop"], expected = "length", {}
        turns.append({"expect": {**expected, "protocol": ALL[here]}, "reply": {
            "text": "done %d" % n, "reasoning": chance.choice((False, True, "Done with it."))}})
        expected = {"outputs": 0}
    return first + 1, turns


def walked(seed, messages):
    first, turns = walk(random.Random(seed), messages)
    with modeld.Server(turns) as server:
        try:
            lash(WALK, server.env, words=[str(first), str(messages)])
            followed(server)
        except AssertionError as why:
            raise AssertionError("seed %d: %s\n%s" % (seed, why, server.stats())) from None


def test_random_walks():
    """P3 P4 D9 long conversations that hand over by chance, with odd ids, results and texts, are valid everywhere"""
    for seed in range(6 if THOROUGH else 2):
        walked(seed, 12)


def objects(value):
    """Every object in a JSON value, also in texts that are JSON."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from objects(item)
    elif isinstance(value, str) and value[:1] in ("{", "["):
        try:
            yield from objects(json.loads(value))
        except ValueError:
            pass


def test_values():
    """J1 J2 J5 numbers, null and empty things pass model, tool, result and model unchanged, on four protocols"""
    chance = random.Random(64)
    args = {"one": 1, "float": 1.0, "list": [], "object": {}, "null": None, "text": "\u0000 é \U0001f30d",
            "deep": [[{"a": []}]]}
    args.update({"n%02d" % k: chance.getrandbits(64) - 2**63 for k in range(40)})
    args.update(low=-2**63, high=2**63 - 1, zero=0)
    code = RUN.replace("local agent =", """local back = lash.tool { name = "back", description = "d",
      schema = lash.json.decode '{"type":"object"}', async = function(args) return { got = args } end }
    local agent =""").replace("tools = { weather, twice }", "tools = { back }")
    huge = {"n": 123456789012345678901234567890}
    turns = [{"reply": {"calls": [{"name": "back", "args": args}, {"name": "back", "args": huge}]}},
             {"expect": {"outputs": 2, "outputs_contain": ["9223372036854775807", "123456789012345678901234567890"]},
              "reply": {"text": "done"}}]
    for way, (result, requests) in everywhere(lambda _: turns, code=code).items():
        assert result["text"] == "done", (way, result)
        found = [canon(value) for value in objects(requests[1]["json"])]
        assert found.count(canon(args)) >= 2, (way, requests[1]["body"])    # the call, and in its result


def test_last_request_without_tools():
    """B4 the last request of a run that reached its limit of turns is valid on four protocols"""
    code = RUN.replace("no_raise = true", "no_raise = true, limits = { turns = 2 }")
    calls = [{"name": "twice", "args": {"n": 1}}]
    turns = [{"reply": {"calls": calls, "text": "So."}}, {"reply": {"calls": calls}},
             {"reply": {"text": "That is it."}}]
    for way, (result, requests) in everywhere(lambda _: turns, code=code).items():
        assert result["text"] == "That is it." and result["exit"] == 80, (way, result)
        assert len(requests) == 3, way


def test_handoff_to_one_without_tools():
    """P4 an agent without tools takes over a history with calls, on four protocols"""
    code = RUN.replace("local agent =", """
    local plain = lash.agent { name = "plain" }
    local agent =""").replace("tools = { weather, twice }", "tools = { weather, twice }, handoffs = { plain }")
    calls = [{"name": "twice", "args": {"n": 1}}, {"name": "handoff", "args": {"agent": "plain"}}]
    turns = [{"reply": {"calls": calls[:1]}}, {"reply": {"calls": calls, "text": "So."}},
             {"expect": {"outputs": 2}, "reply": {"text": "plainly"}}]
    for way, (result, _) in everywhere(lambda _: turns, code=code).items():
        assert result["text"] == "plainly" and result["ok"], (way, result)
