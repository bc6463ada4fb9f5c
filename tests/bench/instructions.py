#!/usr/bin/env python3
"""`make bench-check`: counts the instructions of fixed work under callgrind; fails when they grew by more than 3 %.

    instructions.py [--build build] [--record]

Times on a shared machine vary by half; instructions hardly. Counted are the start of the program, and what one more
conversation takes (3 requests, 6 calls, one at a time): the difference between two runs, so that start, first use of
libcurl and warming up are not in it. What is left of chance is the seed of Lua's hashes, which has the time in it, and
in how many pieces answers come in: below half a percent, so the median of three is compared. Of the kernel nothing is
counted. The recorded figures, tests/bench/instructions.json, are those of a person who ran `make bench-record`: on
purpose, with the reason in the commit. Other versions of compiler and libraries have other figures.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
RECORD = os.path.join(HERE, "instructions.json")
GROWTH = 1.03
FEW, MANY, WARM, RUNS = 5, 25, 5, 3


class Counter:
    def __init__(self, build, home):
        self.build, self.lash = os.path.abspath(build), os.path.abspath(os.path.join(build, "lash"))
        self.env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": home, "LC_ALL": "C.UTF-8",
                    "OPENAI_API_KEY": "test-key", "no_proxy": "127.0.0.1", "NO_COLOR": "1"}

    def count(self, command):
        done = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command],
                              env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
                              check=False)
        found = re.search(r"Collected : (\d+)", done.stderr)
        if done.returncode != 0 or not found:
            sys.exit("instructions.py: %s ended with %d:\n%s" % (command[0], done.returncode, done.stderr[-2000:]))
        return int(found.group(1))

    def start(self, *arguments):
        return self.count([self.lash, *arguments])

    def conversation(self, command):
        """command(server's URL, conversations) -> words"""
        server = subprocess.Popen([os.path.join(self.build, "bench", "server"), "--seconds", "600"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with server:
            root = "http://127.0.0.1:%d/v1" % int(server.stdout.readline().split()[1])
            self.env["OPENAI_BASE_URL"] = root
            few, many = (self.count(command(root + "/responses", n)) for n in (FEW, MANY))
            server.stdin.close()
        return (many - few) / (MANY - FEW)

    def talk(self, mode):
        script = os.path.join(HERE, "conversations.lua")
        return self.conversation(lambda _, n: [self.lash, script, str(n), "1", str(WARM), mode])

    def rows(self):
        return (("start: lash -e ''", lambda: self.start("-e", "")),
                ("conversation, streamed", lambda: self.talk("stream")),
                ("conversation, whole answers", lambda: self.talk("whole")))


def versions():
    """What the figures depend on besides the source."""
    def said(*command):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.splitlines()[0] if done.returncode == 0 and done.stdout else "?"
    found = {name: said("pkg-config", "--modversion", name) for name in ("lua5.4", "libuv", "libcurl")}
    return dict(found, compiler=said(os.environ.get("CC", "cc"), "--version"), machine=os.uname().machine)


def check(name, value, old):
    if old is None:
        print("FAIL  %s: %d instructions, no figure is recorded: make bench-record" % (name, value))
        return False
    change = 100 * (value / old - 1)
    good = value <= old * GROWTH
    print("%s  %s: %d instructions, %+.1f %% beside the recorded %d%s" % (
        "ok  " if good else "FAIL", name, value, change, old,
        "; less by so much that it may be recorded: make bench-record" if change < -3 else ""))
    return good


def judged_build(build):
    with open(os.path.join(build, "flags"), encoding="utf-8") as file:
        flags = file.read().split()
    if "-O2" not in flags or any(flag.startswith("-fsanitize") for flag in flags):
        sys.exit("instructions.py: %s is no build with -O2 alone: its figures say nothing" % build)


def main():
    parser = argparse.ArgumentParser(description="counts instructions; see the head of this file")
    parser.add_argument("--build", default="build")
    parser.add_argument("--record", action="store_true", help="write the figures instead of judging them")
    args = parser.parse_args()
    judged_build(args.build)
    with tempfile.TemporaryDirectory() as home:
        figures = {name: round(statistics.median(count() for _ in range(RUNS)))
                   for name, count in Counter(args.build, home).rows()}
    if args.record:
        with open(RECORD, "w", encoding="utf-8") as out:
            json.dump({"versions": versions(), "instructions": figures}, out, indent=1)
            out.write("\n")
        print("\n".join("%s: %d instructions" % item for item in figures.items()))
        return 0
    with open(RECORD, encoding="utf-8") as file:
        recorded = json.load(file)
    for name, version in versions().items():
        if recorded["versions"].get(name) != version:
            print("note: %s is %s, the figures were recorded with %s" % (name, version, recorded["versions"].get(name)))
    good = [check(name, value, recorded["instructions"].get(name)) for name, value in figures.items()]
    print("%d passed, %d failed" % (sum(good), len(good) - sum(good)))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
