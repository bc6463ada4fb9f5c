"""The size and the memory that the README tells of: at most a tenth above the figures of tests/bench/budget.json.

Figures are of the usual build on x86-64 with Debian 12's libraries; other builds are not judged. A person who makes
lash larger on purpose writes the new figures there, and into the README.
"""
import json
import os
import platform
import statistics
import subprocess
import sys

LASH = os.environ["LASH"]
BUILD = os.path.dirname(LASH)
BENCH = os.path.join(os.environ["LASH_TESTS"], "bench")

TURN = """
local lash = require "lash"
local memory
lash.agent { name = "bench", model = "openai/bench", instructions = "Look things up.", tools = { lash.tool {
    name = "noop", params = { n = "integer" }, async = function(args)
        local file <close> = assert(io.open "/proc/self/smaps_rollup")
        memory = file:read "a"
        return args.n
    end,
} } }:run("Look things up, then say what you found.")
io.write(memory)
"""


def judged():
    with open(os.path.join(BUILD, "flags"), encoding="utf-8") as file:
        flags = file.read().split()
    return not os.environ.get("LASH_WRAP") and platform.machine() == "x86_64" and "-O2" in flags \
        and not any(flag.startswith("-fsanitize") for flag in flags)


def within(name, value):
    with open(os.path.join(BENCH, "budget.json"), encoding="utf-8") as file:
        figure = json.load(file)[name]
    print("%s: %d, the figure is %d" % (name, value, figure))
    assert value <= figure * 1.1, "more than a tenth above the figure of tests/bench/budget.json: is that meant?"


def stripped():
    """lash as packages install it. Of a file that a linker has just written more is mapped at once."""
    subprocess.run(["strip", "-o", "stripped", LASH], check=True)
    with open("stripped", "rb") as file:
        os.fsync(file.fileno()) # what is not on the disk yet counts as the process's own
    return os.path.abspath("stripped")


def peak(*arguments):
    """kB of RSS at most: the mean of many runs. Where files are mapped is chance, and so how much of them is there:
    900 kB lie between the least and the most, but 50 between two such means."""
    found = json.loads(subprocess.run([os.path.join(BUILD, "bench", "run"), "100", "20", stripped(), *arguments],
                                      stdout=subprocess.PIPE, check=True).stdout)
    assert all(run["status"] == 0 for run in found["runs"]), found
    return statistics.fmean(run["maxrss_kb"] for run in found["runs"])


def turn():
    """kB while a tool runs in a turn with a model: all that is resident, and what is this process's own."""
    server = subprocess.Popen([os.path.join(BUILD, "bench", "server"), "--seconds", "20"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)
    with server:
        root = "http://127.0.0.1:%d/v1" % int(server.stdout.readline().split()[1])
        env = dict(os.environ, OPENAI_BASE_URL=root, OPENAI_API_KEY="test-key", no_proxy="127.0.0.1")
        text = subprocess.run([stripped(), "-e", TURN], env=env, stdout=subprocess.PIPE, check=True, text=True).stdout
        server.stdin.close()
    fields = dict(line.split(":", 1) for line in text.splitlines()[1:])
    return [int(fields[name].split()[0]) for name in ("Rss", "Private_Dirty")]


def test_size():
    """Q1 the stripped program is as small as it is said to be"""
    if not judged():
        sys.exit(77)
    within("stripped program, kB", os.path.getsize(stripped()) / 1000)


def test_start():
    """Q1 the memory of a program that has just started is what it is said to be"""
    if not judged():
        sys.exit(77)
    within("lash -e '', kB of RSS", peak("-e", ""))
    within("lash version, kB of RSS", peak("version"))


def test_turn():
    """Q2 the memory of a program in a turn is what it is said to be"""
    if not judged():
        sys.exit(77)
    resident, own = turn()
    within("in a turn, kB of RSS", resident)
    within("in a turn, kB of its own", own)
