#!/usr/bin/env python3
"""`make bench`: what lash costs, each figure beside its goal and beside what a bare program costs in the same run.

    bench.py [--build build] [--lash build/lash] [--only TEXT] [--seconds 260]

Prints one table and writes build/bench.json. Every figure is the median of several runs with [least .. most]; a figure
that could not be taken is printed as `not measured` with the reason. Goals are those of semantics.md (Q, D). The bare
programs are stock lua5.4 for the start and floor.c, libcurl on libuv sending the bytes that lash sent, for the rest.
The soft limit of descriptors is set to the usual 1024: who wants 10 000 connections has to raise it.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import flood

HERE = os.path.dirname(os.path.abspath(__file__))
CALLS, ROUNDS = 3, 2        # of a conversation: 3 requests, 6 calls
CAPS = {"process": 256, "jobs": 16}


class NotMeasured(Exception):
    pass


class Server:
    """tests/bench/server.c with the given options."""

    def __init__(self, bench, *options):
        self.child = subprocess.Popen([bench.tool("server"), "--seconds", "100", *map(str, options)],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        line = self.child.stdout.readline().split()
        if len(line) != 2:
            raise NotMeasured("the bench server did not start")
        self.root = "http://127.0.0.1:%d" % int(line[1])
        self.url = self.root + "/v1/responses"
        self.env = dict(os.environ, OPENAI_BASE_URL=self.root + "/v1", OPENAI_API_KEY="test-key",
                        NO_COLOR="1", no_proxy="127.0.0.1")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        self.child.stdout.close()
        self.child.wait(10)

    def stats(self):
        with urllib.request.urlopen(self.root + "/stats", timeout=20) as answer:
            return json.load(answer)

    def release(self):
        urllib.request.urlopen(urllib.request.Request(self.root + "/release", data=b""), timeout=20).close()


class Bench:
    def __init__(self, args):
        self.args, self.rows = args, []
        self.dir = os.path.join(args.build, "bench")
        self.end = time.monotonic() + args.seconds

    # -- helpers ----------------------------------------------------------

    def tool(self, name):
        path = os.path.abspath(os.path.join(self.dir, name))
        if not os.access(path, os.X_OK):
            raise NotMeasured("%s is not built" % os.path.relpath(path))
        return path

    def lash(self):
        path = os.path.abspath(self.args.lash)
        if not os.access(path, os.X_OK):
            raise NotMeasured("%s is not built" % os.path.relpath(path))
        return path

    def left(self, most=60):
        seconds = min(most, self.end - time.monotonic())
        if seconds <= 1:
            raise NotMeasured("the time of this run is over (--seconds)")
        return seconds

    def output(self, command, env=None):
        """stdout of a command that has to end with 0."""
        try:
            done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=self.left())
        except subprocess.TimeoutExpired as late:
            raise NotMeasured("%s did not end in time" % os.path.basename(command[0])) from late
        if done.returncode != 0:
            told = (done.stderr.strip().splitlines() or ["nothing on stderr"])[0][:160]
            raise NotMeasured("%s ended with %d: %s" % (os.path.basename(command[0]), done.returncode, told))
        return done.stdout

    def script(self, server, name, *arguments, jobs=None):
        """The numbers that a script of lash prints."""
        env = dict(server.env, LASH_JOBS=str(jobs)) if jobs else server.env
        text = self.output([self.lash(), os.path.join(HERE, name), *map(str, arguments)], env)
        if server.stats()["odd"]:
            raise NotMeasured("lash sent outputs that do not pair with the calls")
        return [float(word) for word in text.split()]

    def floor(self, server, conversations, concurrency, warm, turns=3):
        return json.loads(self.output([self.tool("floor"), server.url, str(conversations), str(concurrency), str(warm),
                                       *self.bodies()[:turns]]))

    def bodies(self):
        """Files with what lash sends in the three turns, recorded from it; without lash, bodies of the same shape."""
        files = [os.path.join(self.dir, "turn%d.json" % n) for n in (1, 2, 3)]
        if not hasattr(self, "bodies_from"):
            for file in files:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(file)
            try:
                with Server(self, "--record", self.dir) as server:
                    self.script(server, "conversations.lua", 1, 1, 0)
                self.bodies_from = "lash"
            except NotMeasured as why:
                self.bodies_from = "bench.py (lash: %s)" % why
                for n, file in enumerate(files):
                    with open(file, "w", encoding="utf-8") as out:
                        json.dump(made_body(n), out, separators=(",", ":"))
        return files

    def row(self, ident, name, unit, measure, goal=None):
        """measure() -> samples, or (samples, samples of the bare program, its name). goal: (number, text)."""
        if self.args.only and self.args.only not in ident + " " + name:
            return
        entry = {"id": ident, "name": name, "unit": unit, "goal": goal[0] if goal else None,
                 "goal_text": goal[1] if goal else ""}
        try:
            self.left()
            got = measure()
            samples, bare, bare_name = got if isinstance(got, tuple) else (got, None, "")
            entry.update(summary(samples))
            if bare:
                entry.update(bare=summary(bare), bare_name=bare_name,
                             ratio=entry["value"] / max(statistics.median(bare), 1e-12))
            if goal:
                entry["met"] = (entry["ratio"] if goal[1].startswith("x") else entry["value"]) <= goal[0]
        except NotMeasured as why:
            entry["not_measured"] = str(why)
        self.rows.append(entry)
        print(line(entry), flush=True)

    # -- start ------------------------------------------------------------

    def starts(self, command, runs, env=None):
        text = self.output([self.tool("run"), str(runs), "10", *command], env)
        found = json.loads(text)
        bad = [r["status"] for r in found["runs"] if r["status"] != 0]
        if bad:
            raise NotMeasured("%s ended with %d" % (" ".join(command), bad[0]))
        return found["runs"], found["own_kb"]

    def start_pairs(self, *arguments):
        """Runs of lash and of stock Lua in turn, 48 of each."""
        lash, stock = [], []
        for _ in range(4):
            lash += self.starts([self.lash(), *arguments], 12)[0]
            stock += self.starts(["lua5.4", "-e", ""], 12)[0]
        return lash, stock

    def start_time(self, *arguments):
        lash, stock = self.start_pairs(*arguments)
        return [r["wall_ns"] / 1e6 for r in lash], [r["wall_ns"] / 1e6 for r in stock], "lua5.4"

    def start_memory(self, *arguments):
        lash, own_kb = self.starts([self.lash(), *arguments], 9)
        stock, _ = self.starts(["lua5.4", "-e", ""], 9)
        if min(r["maxrss_kb"] for r in lash + stock) <= own_kb:
            raise NotMeasured("the measuring program itself has %d kB" % own_kb)
        return [r["maxrss_kb"] / 1e3 for r in lash], [r["maxrss_kb"] / 1e3 for r in stock], "lua5.4"

    def first_byte(self):
        lash, bare = [], []
        with Server(self, "--rounds", 0) as server:
            floor = [self.tool("floor"), server.url, "1", "1", "0", self.bodies()[0]]
            for _ in range(11):
                for command, into in (([self.lash(), os.path.join(HERE, "first.lua")], lash), (floor, bare)):
                    start = self.starts(command, 1, server.env)[0][0]["start_ns"]
                    into.append((server.stats()["last_post_ns"] - start) / 1e6)
        return lash, bare, "bare C"

    def start_rows(self):
        for words in (("-e", ""), ("version",)):
            name = "lash " + " ".join(w or "''" for w in words)
            self.row("Q1", name + ": time", "ms", lambda w=words: self.start_time(*w), (2.5, "<= 2.5 ms"))
            self.row("Q1", name + ": peak RSS", "MB", lambda w=words: self.start_memory(*w), (4, "<= 4 MB"))
        self.row("Q1", "first request byte after start", "ms", self.first_byte, (20, "<= 20 ms"))

    # -- dispatch ---------------------------------------------------------

    def dispatch(self, mark, quantile):
        key = "dispatch " + mark
        if not hasattr(self, "cache"):
            self.cache = {}
        if key not in self.cache:
            with Server(self, "--calls", 1, "--rounds", 5) as server:
                self.cache[key] = [sorted(self.script(server, "dispatch.lua", mark, 100)) for _ in range(5)]
        return [run[min(len(run) - 1, int(len(run) * quantile))] / 1e3 for run in self.cache[key]]

    def batch(self, mark, kind, calls, rounds, jobs=None):
        """Seconds per batch."""
        with Server(self, "--calls", calls, "--rounds", rounds) as server:
            times = self.script(server, "batch.lua", mark, kind, calls, jobs=jobs)
        if len(times) != rounds:
            raise NotMeasured("%d batches instead of %d" % (len(times), rounds))
        return [t / 1e9 for t in times]

    def dispatch_rows(self):
        for mark, goal in (("async", 15), ("sync", 60)):
            self.row("Q3", "call ready -> tool body, %s, p50" % mark, "us", lambda m=mark: self.dispatch(m, 0.5),
                     (goal, "<= %d us" % goal))
            self.row("Q3", "call ready -> tool body, %s, p99" % mark, "us", lambda m=mark: self.dispatch(m, 0.99))
        for mark in ("async", "sync"):
            for n in (1, 8, 64, 512):
                self.row("D3", "%d empty %s tool%s in a turn, per call" % (n, mark, "s" * (n > 1)), "us",
                         lambda m=mark, n=n: [t / n * 1e6 for t in self.batch(m, "noop", n, 9)],
                         ((10e3 + 1e3 * n) / n, "<= (10 ms + 1 ms a tool) / tools"))
        for mark in ("async", "sync"):
            for n in (1, 8, 64, 512):
                at_once = min(n, CAPS["process" if mark == "async" else "jobs"])
                least = -(-n // at_once) * 100
                self.row("D3", "%d %s tool%s of 100 ms, %d at once" % (n, mark, "s" * (n > 1), at_once), "ms",
                         lambda m=mark, n=n, r=3 if least < 1000 else 1:
                         [t * 1e3 for t in self.batch(m, "sleep", n, r, None if m == "async" else CAPS["jobs"])],
                         (least + 10 + n, "<= %d + 10 + %d ms" % (least, n)))

    def workers(self, jobs):
        alone = self.batch("sync", "spin", 1, 3, 1)
        return self.batch("sync", "spin", 2, 3, jobs), alone, "one alone"

    def worker_rows(self):
        enough = len(os.sched_getaffinity(0)) >= 2
        self.row("D4", "2 CPU-bound tools, 1 worker", "s", lambda: self.workers(1))
        self.row("D4", "2 CPU-bound tools, 2 workers", "s", lambda: self.workers(2),
                 (1.3, "x1.3 of one") if enough else None)

    # -- streams ----------------------------------------------------------

    def stream(self, server, what, path):
        """Seconds of lash's processor for each run of a stream, and how many pieces or deltas were told."""
        key = (what, path)
        if key not in self.streams:
            env = dict(os.environ, NO_COLOR="1", no_proxy="127.0.0.1")
            for name in ("OPENAI", "GEMINI", "ANTHROPIC"):
                env.update({name + "_API_KEY": "test-key"})
            env.update(OPENAI_BASE_URL=server.root + "/v1", GOOGLE_GEMINI_BASE_URL=server.root, ANTHROPIC_BASE_URL=server.root)
            text = self.output([self.lash(), os.path.join(HERE, "stream.lua"), what, server.root + "/" + path, "5"], env)
            self.streams[key] = [tuple(map(float, run.split())) for run in text.splitlines()[1:]]
        return self.streams[key]

    def stream_speed(self, server, what, path):
        """MB/s of body, beside a reader that takes the bytes as they come."""
        size = len(server.bodies[path]) / 1e6
        return ([size / seconds for _, seconds in self.stream(server, what, path)],
                [size / seconds for _, seconds in self.stream(server, "bytes", path)], "bytes")

    def stream_deltas(self, server, what, path):
        """Microseconds from the socket to on_event, a delta of text."""
        runs = self.stream(server, what, path)
        if any(count != flood.DELTAS for count, _ in runs):
            raise NotMeasured("%d deltas were told, %d sent" % (runs[0][0], flood.DELTAS))
        return [seconds / count * 1e6 for count, seconds in runs]

    def stream_rows(self):
        self.streams = {}
        with flood.Flood() as server:
            self.row("S1", "stream as events", "MB/s", lambda: self.stream_speed(server, "events", "completions"))
            for model, path in (("openai", "responses"), ("openai-chat", "completions"), ("gemini", "streamGenerateContent"),
                                ("anthropic", "messages")):
                self.row("S1", "stream as answer, %s" % model, "MB/s",
                         lambda m=model, p=path: self.stream_speed(server, m + "/bench", p))
                self.row("S2", "delta of text -> on_event, %s" % model, "us",
                         lambda m=model, p=path: self.stream_deltas(server, m + "/bench", p))

    # -- stopping ---------------------------------------------------------

    def stop_row(self, ident, name, samples, goal):
        """One line with p50 and p99 of how long it took; the goal is for p99."""
        samples = sorted(samples)
        entry = {"id": ident, "name": name, "unit": "ms", "goal": goal, "goal_text": "p99 <= %g ms" % goal,
                 "p99": samples[int((len(samples) - 1) * 0.99)], **summary(samples)}
        entry["met"] = entry["p99"] <= goal
        self.rows.append(entry)
        print(line(entry), flush=True)

    def stop_rows(self):
        """T1 to T4: from the deadline or the cancel of a call to its end, for each misbehaving tool."""
        kinds = (("T2", "spins", 20, 50), ("T1", "held", 3, 200), ("T3", "blocked", 10, 150), ("T3", "stuck", 1, 150), ("T4", "gone", 10, 200))
        for ident, kind, rounds, goal in kinds:
            if self.args.only and self.args.only not in ident + " stop " + kind:
                continue
            try:
                with Server(self, "--hold") as server:
                    env = dict(server.env, LUA_PATH=os.path.join(HERE, "..", "lua", "?.lua") + ";;")
                    text = self.output([self.lash(), os.path.join(HERE, "stop.lua"), kind, str(rounds), server.root],
                                       env)
            except NotMeasured as why:
                self.rows.append({"id": ident, "name": "stop: " + kind, "unit": "ms", "goal": goal,
                                  "goal_text": "p99 <= %g ms" % goal, "not_measured": str(why)})
                print(line(self.rows[-1]), flush=True)
                continue
            found = {}
            for name, us in (each.split("\t") for each in text.splitlines()):
                found.setdefault(name, []).append(float(us) / 1e3)
            for name, samples in found.items():
                self.stop_row(ident, "stop: " + name, samples, goal)

    # -- conversations ----------------------------------------------------

    def conversations(self):
        """us of CPU per conversation of 3 requests and 6 calls.

        The server has one processor, the measured program another: where both share one, requests come in larger
        lumps and cost half, and which of the two happens is chance.
        """
        lash, bare = [], []
        cpus = sorted(os.sched_getaffinity(0))
        with pinned(cpus[-1]):
            server = Server(self)
        self.bodies()
        with server, pinned(cpus[0]):
            for _ in range(7):
                lash.append(self.script(server, "conversations.lua", 300, 16, 30)[0] / 300 * 1e6)
                bare.append(self.floor(server, 300, 16, 30)["cpu_s"] / 300 * 1e6)
        return lash, bare, "bare C"

    @contextlib.contextmanager
    def waiting(self, command, count, processes=1):
        """Processes that run command(server) while `count` requests of each wait in the server."""
        with Server(self, "--hold") as server, tempfile.TemporaryFile("w+") as told:
            children = [subprocess.Popen(command(server), env=server.env, stdin=subprocess.DEVNULL,
                                         stdout=subprocess.DEVNULL, stderr=told) for _ in range(processes)]
            try:
                self.all_wait(server, children, count * processes, told)
                yield children
                server.release()
                for child in children:
                    if child.wait(self.left(40)) != 0:
                        raise NotMeasured("ended with %d: %s" % (child.returncode, first_line(told)))
            except subprocess.TimeoutExpired as late:
                raise NotMeasured("did not end after the answers came") from late
            finally:
                for child in children:
                    if child.poll() is None:
                        child.kill()
                        child.wait()

    def all_wait(self, server, children, count, told):
        end = time.monotonic() + self.left(40)
        while True:
            here = server.stats()["waiting"]
            if here >= count:
                return
            if any(child.poll() is not None for child in children):
                raise NotMeasured("ended before all %d waited: %s" % (count, first_line(told)))
            if time.monotonic() > end:
                raise NotMeasured("only %d of %d requests came in: %s" % (here, count, first_line(told)))
            time.sleep(0.05)

    def waiting_lash(self, count, processes=1):
        script = os.path.join(HERE, "waiting.lua")
        return self.waiting(lambda _: [self.lash(), script, str(count)], count, processes)

    def waiting_floor(self, count):
        body = self.bodies()[0]
        return self.waiting(lambda server: [self.tool("floor"), server.url, str(count), str(count), "0", body], count)

    def memory(self, count):
        """MB of lash and of the bare program while `count` conversations wait."""
        need = count + 100
        if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < need:
            raise NotMeasured("the hard limit of descriptors is below %d" % need)
        lash, bare = [], []
        for _ in range(3 if count <= 1000 else 1):
            with self.waiting_lash(count) as children:
                lash.append(pss_mb(children[0].pid))
                if count > 1000:
                    time.sleep(2)
                    self.growth = pss_mb(children[0].pid) - lash[0]
            with self.waiting_floor(count) as children:
                bare.append(pss_mb(children[0].pid))
        return lash, bare, "bare C"

    def grown(self):
        if not hasattr(self, "growth"):
            raise NotMeasured("10 000 waiting conversations were not measured")
        return [self.growth]

    def ten(self):
        with self.waiting_lash(1, 10) as children:
            return [sum(pss_mb(c.pid) for c in children)]

    def conversation_rows(self):
        self.row("Q5", "CPU per conversation, 3 requests, 6 calls", "us", self.conversations, (2, "x2 of bare C"))
        self.row("Q2", "PSS, HTTP in use, one request waiting", "MB", lambda: self.memory(1), (12, "<= 12 MB"))
        self.row("Q2", "PSS of ten such processes together", "MB", self.ten, (60, "<= 60 MB"))
        self.row("Q2", "PSS, 1 000 conversations waiting", "MB", lambda: self.memory(1000))
        self.row("Q2", "PSS, 10 000 conversations waiting", "MB", lambda: self.memory(10000), (250, "<= 250 MB"))
        self.row("Q2", "growth of these over 2 s", "MB", self.grown, (0.5, "flat"))

    def run(self):
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, soft[1]), soft[1]))
        load = os.getloadavg()[0]
        print("%d processors, load %.1f%s\n" % (len(os.sched_getaffinity(0)), load,
                                                "  (other work is going on: times will be high)" if load > 1 else ""))
        print("%-4s %-46s %-32s %-20s %s" % ("", "", "lash [least .. most]", "beside", "goal"))
        self.start_rows()
        self.dispatch_rows()
        self.worker_rows()
        self.stream_rows()
        self.stop_rows()
        self.conversation_rows()
        measured = [r for r in self.rows if "not_measured" not in r]
        with_goal = [r for r in measured if r["goal"] is not None]
        print("\n%d figures, %d not measured; %d of %d goals met. Bodies of the bare program: %s." % (
            len(self.rows), len(self.rows) - len(measured), sum(r["met"] for r in with_goal), len(with_goal),
            getattr(self, "bodies_from", "not needed")))
        path = os.path.join(self.args.build, "bench.json")
        with open(path, "w", encoding="utf-8") as out:
            json.dump({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "load": load,
                       "processors": len(os.sched_getaffinity(0)), "kernel": os.uname().release,
                       "rows": self.rows}, out, indent=1)
        print("Written to %s" % path)


@contextlib.contextmanager
def pinned(cpu):
    """Programs that are started meanwhile run on this processor."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def made_body(turns):
    """A request of the usual shape after so many turns."""
    items = [{"role": "user", "content": "Look things up, then say what you found."}]
    for t in range(turns):
        items.append({"id": "rs_%d" % t, "type": "reasoning", "summary": [], "encrypted_content":
                      "gAAAAABbench-%d-0123456789abcdef0123456789abcdef==" % t})
        items += [{"id": "fc_%d_%d" % (t, k), "type": "function_call", "status": "completed", "arguments": "{\"n\":1}",
                   "call_id": "call_%d_%d" % (t, k), "name": "noop"} for k in range(CALLS)]
        items += [{"type": "function_call_output", "call_id": "call_%d_%d" % (t, k), "output": "1"}
                  for k in range(CALLS)]
    return {"model": "bench", "instructions": "Look things up.", "input": items, "store": False,
            "include": ["reasoning.encrypted_content"], "parallel_tool_calls": True,
            "tools": [{"type": "function", "name": "noop", "description": "Looks something up", "strict": False,
                       "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"],
                                      "additionalProperties": False}}]}


def pss_mb(pid):
    with open("/proc/%d/smaps_rollup" % pid, encoding="ascii") as file:
        for text in file:
            if text.startswith("Pss:"):
                return int(text.split()[1]) / 1e3
    raise NotMeasured("/proc/%d/smaps_rollup has no Pss" % pid)


def summary(samples):
    return {"value": statistics.median(samples), "least": min(samples), "most": max(samples), "samples": len(samples)}


def first_line(file):
    file.seek(0)
    return (file.read().strip().splitlines() or ["nothing on stderr"])[0][:160]


def number(value):
    return "%.0f" % value if abs(value) >= 100 else "%.3g" % value


def line(entry):
    head = "%-4s %-46s " % (entry["id"], entry["name"])
    if "not_measured" in entry:
        return head + "not measured: " + entry["not_measured"]
    spread = " [%s .. %s]" % (number(entry["least"]), number(entry["most"])) if entry["samples"] > 1 else ""
    value = "%s %s%s" % (number(entry["value"]), entry["unit"], spread)
    if "p99" in entry:
        value = "%s / %s %s p50 / p99" % (number(entry["value"]), number(entry["p99"]), entry["unit"])
    beside = "%s %s x%.2f" % (entry["bare_name"], number(entry["bare"]["value"]), entry["ratio"]) \
        if "bare" in entry else ""
    goal = "%s  %s" % (entry["goal_text"], "met" if entry["met"] else "NOT MET") if entry["goal"] is not None else ""
    return head + "%-32s %-20s %s" % (value, beside, goal)


def main():
    parser = argparse.ArgumentParser(description="what lash costs; see the head of this file")
    parser.add_argument("--build", default="build")
    parser.add_argument("--lash")
    parser.add_argument("--only", help="only rows with this text in their id or name")
    parser.add_argument("--seconds", type=float, default=260, help="no row is begun after this time")
    args = parser.parse_args()
    args.lash = args.lash or os.path.join(args.build, "lash")
    try:
        Bench(args).run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
