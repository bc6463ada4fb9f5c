"""The scripts in scripts/examples: each runs without a key and shows what it promises; with the test
server as the model, so does what stands behind -m."""
import os
import re
import shlex
import subprocess
import tempfile

import modeld
from cli import THOROUGH

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EXAMPLES = os.path.join(ROOT, "scripts", "examples")
SLOWER = float(os.environ.get("TEST_SLOWER", 1))


def lash(*args, env=None, status=0):
    command = shlex.split(os.environ.get("LASH_WRAP", "")) + [os.environ["LASH"]] + list(args)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=25 * SLOWER,
                          env=dict(os.environ, **(env or {})))
    assert done.returncode == status, "%s: status %s\n%s\n%s" % (args, done.returncode, done.stdout, done.stderr)
    return done.stdout


def example(name, *args, options=(), env=None):
    return lash(*options, os.path.join(EXAMPLES, name + ".lua"), *args, env=env)


def contains(text, *parts):
    """All parts, in this order."""
    at = 0
    for part in parts:
        found = text.find(part, at)
        assert found >= 0, "%r is missing, or in the wrong place, in:\n%s" % (part, text)
        at = found + len(part)


def seconds_of(pattern, text):
    found = re.search(pattern, text)
    assert found, "%r is not in:\n%s" % (pattern, text)
    return float(found.group(1))


def test_arithmetic():
    """arithmetic tools"""
    output = example("arithmetic")
    contains(output, 'add {"a":17,"b":25} -> ok 42', 'multiply {"a":6,"b":7} -> ok 42', "divide", "-> ok 42.0")
    contains(example("arithmetic", "Divide 1 by 0"), "error", "nothing can be divided by 0")


def lookups(*args):
    output = example("lookups", *args)
    events = re.findall(r"^ *([\d.]+) s +(start|end|the run)", output, re.M)
    assert [e[1] for e in events] == ["start"] * 3 + ["end"] * 3 + ["the run"], output
    # The answer is in the order of the calls, whichever ended first.
    contains(output, "the run", "mathematics", "compilers", "kernels")
    assert SLOWER > 1 or float(events[-1][0]) < 6, "one after the other?\n" + output


def test_lookups_async():
    """three lookups of two seconds, async"""
    lookups()


def test_lookups_sync():
    """three lookups of two seconds, sync"""
    lookups("sync")


def test_primes():
    """CPU-bound tools run at once"""
    if SLOWER > 1:
        contains(example("primes", "Count the primes below 100 and 1000"), '"primes":25', '"primes":168')
        return
    output = example("primes", *([] if THOROUGH else ["Count the primes below 200000, 210000, 220000 and 230000"]))
    contains(output, *('"primes":%d' % n for n in
                       ((63951, 67617, 71274, 74907) if THOROUGH else (17984, 18807, 19618, 20437))))
    calls = [float(s) for s in re.findall(r"^count_primes .* ([\d.]+) s$", output, re.M)]
    wall = seconds_of(r"computing in ([\d.]+) s", output)
    assert len(calls) == 4 and sum(calls) > 1.5 * wall, "one after the other?\n" + output


def test_one_fails():
    """one failing tool among good ones"""
    contains(example("one_fails"), "temperature  ok     21.5", "wind         error", "anemometer", "rain         error",
             "No such file", "pressure     ok     1013", "temperature", "wind() failed", "pressure")


def stopped(run, answer):
    """The output of run(): the two that never end time out, after their siblings have answered. Where others compute
    the siblings may take longer than those are given, or a worker be given up: so one of some runs counts."""
    for _ in range(4):
        try:
            return check_stopped(run(), answer)
        except AssertionError as why:
            print(why)
    return check_stopped(run(), answer)


def check_stopped(output, answer):
    if SLOWER >= 20:  # signals come late there: the looping thread may have been given up
        output = re.sub(r"lost     (timed out after 0.5 s); .*", r"timeout  \1", output)
    contains(output, "timeout", "timeout")
    for line in ("program  timeout  timed out after 0.5 s", "loop     timeout  timed out after 0.5 s"):
        assert line in output, output
        for sibling in (answer, "clock    ok "):
            assert sibling in output and output.index(sibling) < output.index(line), output
    return output


def test_runaway():
    """T2 T4 a loop and a program that do not want to end are stopped; their siblings answer"""
    output = stopped(lambda: example("runaway"), "primes   ok       17984")
    contains(output, "2 turns", "primes\tok\t17984")


def test_triage():
    """triage hands over to the specialist that fits"""
    contains(example("triage"), "triage hands over to billing", "billing called find_invoice", "billing answers")
    contains(example("triage", "Handoff to technical: measure my line"), "triage hands over to technical",
             "measure_line", "technical answers")


def test_triage_crosses_providers():
    """triage on one provider, the specialist on the other"""
    turns = [
        {"expect": {"protocol": "openai"},
         "reply": {"calls": [{"name": "handoff", "args": {"agent": "technical", "reason": "router"}}]}},
        {"expect": {"protocol": "gemini", "tools": ["measure_line"], "outputs": 1},
         "reply": {"calls": [{"name": "measure_line", "args": {}}]}},
        {"expect": {"protocol": "gemini", "outputs": 1, "outputs_contain": ["31 %"]},
         "reply": {"text": "Replace the router."}},
    ]
    with modeld.Server(turns) as server:
        output = example("triage", "My router has lost the network", env=server.env)
        contains(output, "triage asks openai/", "hands over to technical", "technical asks gemini/",
                 "technical answers: Replace the router.")
        stats = server.stats()
        assert not stats["problems"] and not stats["refused"], stats


def test_ten():
    """ten conversations at once"""
    output = example("ten")
    cities = "Accra Bergen Cairo Dakar Essen Fargo Genoa Hanoi Izmir Jena".split()
    contains(output, *["%-7s %d degrees in %s" % (c, 12 + len(c), c) for c in cities])
    wall = seconds_of(r"10 conversations, ([\d.]+) s", output)
    assert SLOWER > 1 or wall < 9, "one after the other?\n" + output


def test_briefing():
    """a prompt that reads files"""
    with modeld.Server([{"expect": {"contains": ["Today is", "-- A prompt that reads files"]},
                         "reply": {"text": "It reads files."}}]) as server:
        output = example("briefing", options=("-m", "openai/test"), env=server.env)
        contains(output, "It reads files.")
        assert not server.stats()["problems"], server.stats()
    example("briefing")


def test_textpack():
    """a tool pack, and what `lash ask -t` and `lash call` make of it"""
    contains(example("textpack"), "count_words", "-> 6", "roman", "-> MCMXCIV")
    pack = os.path.join(EXAMPLES, "textpack.lua")
    contains(lash("ask", "-m", "demo", "-t", pack, "Write 2024 in Roman numerals"), "MMXXIV")
    assert lash("call", pack, "roman", "--number", "1999").strip() == "MCMXCIX"


def test_timeline():
    """the timeline of the demo shows calls that overlap"""
    output = example("timeline")
    names = "weather weather weather count_primes count_primes stock exchange_rate".split()
    bars = re.findall(r"^  (\w+) .*\|([ =#]{40})\| +[\d.]+ s(.*)$", output, re.M)
    assert [b[0] for b in bars] == names, output
    assert [b[2].strip() for b in bars] == [""] * 6 + ["error"], output
    assert all(("#" in bar) == (name in ("stock", "count_primes")) for name, bar, _ in bars), output
    waiting = [bar for name, bar, _ in bars if name == "weather"]
    assert any(all(bar[column] == "=" for bar in waiting) for column in range(40)), "not at once:\n" + output
    contains(output, "What to try next:", "lookups.lua sync", "ask -m demo", "-m openai/")


def test_model_option():
    """-m and LASH_MODEL replace the model of an example"""
    turns = [{"expect": {"model": "test-1", "tools": ["add", "subtract", "multiply", "divide"]},
              "reply": {"calls": [{"name": "add", "args": {"a": 1, "b": 2}},
                                  {"name": "multiply", "args": {"a": 3, "b": 4}}]}},
             {"expect": {"outputs_contain": ["3", "12"]}, "reply": {"text": "3 and 12."}}]
    for options, extra in (["-m", "gemini/test-1"], {}), ([], {"LASH_MODEL": "openai/test-1"}):
        with modeld.Server(turns) as server:
            contains(example("arithmetic", options=options, env=dict(server.env, **extra)), "3 and 12.")
            stats = server.stats()
            assert not stats["problems"] and not stats["refused"], stats


def readme_files(folder):
    """Writes the Lua files that README.md shows, named in their first lines."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        blocks = re.findall(r"^```lua\n(-- (\w+\.lua)\b.*?)^```", file.read(), re.M | re.S)
    for text, name in blocks:
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)
    return sorted(name for _, name in blocks)


def test_readme():
    """README: the scripts that it shows work as it says"""
    with tempfile.TemporaryDirectory() as folder:
        assert readme_files(folder) == ["desk.lua", "host.lua", "price.lua", "runaway.lua", "shop.lua"]
        shop = os.path.join(folder, "shop.lua")
        contains(lash(shop, "Total price of 3 cups, and the delivery to Berlin?"), "total_price", "16.06",
                 "delivery_days", ": 1")
        lash("check", shop)
        assert lash("call", shop, "total_price", "--article", "teapot", "--pieces", "2").strip() == "47.6"
        contains(lash(os.path.join(folder, "desk.lua")), "handoff", "billing\tdone\t")
        stopped(lambda: lash(os.path.join(folder, "runaway.lua")), "sum      ok       500000500000")


def test_readme_refusal():
    """README: a captured file handle is refused at the declaration, with the way out"""
    with tempfile.TemporaryDirectory() as folder:
        script = os.path.join(folder, "x.lua")
        with open(script, "w", encoding="utf-8") as file:
            file.write('local lash = require "lash"\nlocal file = io.tmpfile()\n'
                       'lash.tool { name = "x", sync = function() return file:read("a") end }\n')
        command = shlex.split(os.environ.get("LASH_WRAP", "")) + [os.environ["LASH"], script]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=25 * SLOWER)
        with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
            said = re.search(r"^(lash\.tool 'x': .*?)\n```", file.read(), re.M | re.S).group(1).replace("\n", " ")
        assert done.returncode == 1 and said in done.stderr, (done, said)


def test_every_example_is_tested():
    """each has a test"""
    with open(os.path.abspath(__file__), encoding="utf-8") as file:
        text = file.read()
    for name in sorted(os.listdir(EXAMPLES)):
        assert 'example("%s"' % name.removesuffix(".lua") in text, name + " has no test"
