"""What the rows of bench.py are measured with: the server, programs that are run, figures and their goals."""
import contextlib
import json
import os
import re
import ssl
import statistics
import subprocess
import time
import urllib.request
from typing import NamedTuple

HERE = os.path.dirname(os.path.abspath(__file__))
CALLS, ROUNDS = 3, 2        # of a conversation: 3 requests, 6 calls


class NotMeasured(Exception):
    pass


class Goal(NamedTuple):
    limit: float
    text: str
    least: bool = False     # the figure has to reach it; else it must not go beyond
    of: str = "median"      # which figure of the row

    def met(self, entry):
        value = entry[self.of]
        return value >= self.limit if self.least else value <= self.limit


def at_most(limit, text):
    return Goal(limit, "<= " + text)


def p99_at_most(limit, text):
    return Goal(limit, "p99 <= " + text, of="p99")


def at_least(limit, text):
    return Goal(limit, ">= " + text, least=True)


def times_at_most(limit, of):
    return Goal(limit, "<= x%g of %s" % (limit, of), of="ratio")


def times_at_least(limit, of):
    return Goal(limit, ">= x%g of %s" % (limit, of), least=True, of="ratio")


class Server:
    """tests/bench/server.c with the given options; tls=True: over TLS."""

    def __init__(self, bench, *options, tls=False):
        cert = os.path.join(bench.dir, "certificate.pem")
        options = (*options, "--tls", cert) if tls else options
        self.child = subprocess.Popen([bench.tool("server"), "--seconds", "300", *map(str, options)],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        line_of_port = self.child.stdout.readline().split()
        if len(line_of_port) != 2:
            told = self.child.stderr.read().decode().strip()
            self.__exit__()
            raise NotMeasured("the bench server did not start: " + told)
        self.root = "%s://127.0.0.1:%d" % ("https" if tls else "http", int(line_of_port[1]))
        self.url = self.root + "/v1/responses"
        self.env = dict(os.environ, OPENAI_BASE_URL=self.root + "/v1", OPENAI_API_KEY="test-key",
                        NO_COLOR="1", no_proxy="127.0.0.1")
        self.context = None
        if tls:
            self.env["SSL_CERT_FILE"] = cert
            self.context = ssl.create_default_context(cafile=cert)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pipe in (self.child.stdin, self.child.stdout, self.child.stderr):
            pipe.close()
        self.child.wait(10)

    def get(self, path, data=None):
        request = urllib.request.Request(self.root + path, data=data)
        with urllib.request.urlopen(request, timeout=20, context=self.context) as answer:
            return json.load(answer)

    def stats(self):
        return self.get("/stats")

    def release(self):
        self.get("/release", b"")


class Kit:
    """Runs programs; keeps the rows."""

    def __init__(self, args):
        self.args, self.rows = args, []
        self.dir = os.path.abspath(os.path.join(args.build, "bench"))
        self.end = time.monotonic() + args.seconds
        self.cache, self.bodies_from = {}, {}

    def tool(self, name):
        path = os.path.join(self.dir, name)
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

    def floor(self, server, conversations, concurrency, warm, mode="stream", turns=3):
        return json.loads(self.output([self.tool("floor"), server.url, str(conversations), str(concurrency), str(warm),
                                       *self.bodies(mode)[:turns]], server.env))

    def bodies(self, mode="stream"):
        """Files with what lash sends in the three turns, recorded from it; without lash, bodies of the same shape."""
        folder = os.path.join(self.dir, mode)
        files = [os.path.join(folder, "turn%d.json" % n) for n in (1, 2, 3)]
        if mode not in self.bodies_from:
            os.makedirs(folder, exist_ok=True)
            for file in files:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(file)
            try:
                with Server(self, "--record", folder) as server:
                    self.script(server, "conversations.lua", 1, 1, 0, mode)
                self.bodies_from[mode] = "lash"
            except NotMeasured as why:
                self.bodies_from[mode] = "bench.py (lash: %s)" % why
                for n, file in enumerate(files):
                    with open(file, "w", encoding="utf-8") as out:
                        json.dump(made_body(n, mode), out, separators=(",", ":"))
        return files

    def wanted(self, ident, name):
        return not self.args.only or self.args.only in ident + " " + name

    def row(self, ident, name, unit, measure, goal=None):
        """measure() -> samples, or (samples, samples of the program beside, its name)."""
        if not self.wanted(ident, name):
            return
        entry = {"id": ident, "name": name, "unit": unit}
        try:
            self.left()
            got = measure()
            samples, beside, beside_name = got if isinstance(got, tuple) else (got, None, "")
            entry.update(summary(samples))
            if beside:
                entry.update(beside=dict(summary(beside), name=beside_name),
                             ratio=entry["median"] / max(statistics.median(beside), 1e-12))
        except NotMeasured as why:
            entry["not_measured"] = str(why)
        self.add(entry, goal)

    def add(self, entry, goal):
        entry["row"] = re.sub(r"\W+", "-", (entry["id"] + " " + entry["name"]).lower()).strip("-")
        if goal:
            entry.update(goal=goal.limit, goal_text=goal.text)
            if "not_measured" not in entry:
                entry["met"] = goal.met(entry)
        self.rows.append(entry)
        print(line(entry), flush=True)


@contextlib.contextmanager
def pinned(cpu):
    """Programs that are started meanwhile run on this processor."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def made_body(turns, mode):
    """A request of the usual shape after so many turns."""
    items = [{"role": "user", "content": "Look things up, then say what you found."}]
    for t in range(turns):
        items.append({"id": "rs_%d" % t, "type": "reasoning", "summary": [], "encrypted_content":
                      "gAAAAABbench-%d-0123456789abcdef0123456789abcdef==" % t})
        items += [{"id": "fc_%d_%d" % (t, k), "type": "function_call", "status": "completed", "arguments": "{\"n\":1}",
                   "call_id": "call_%d_%d" % (t, k), "name": "noop"} for k in range(CALLS)]
        items += [{"type": "function_call_output", "call_id": "call_%d_%d" % (t, k), "output": "1"}
                  for k in range(CALLS)]
    body = {"model": "bench", "instructions": "Look things up.", "input": items, "store": False,
            "include": ["reasoning.encrypted_content"], "parallel_tool_calls": True,
            "tools": [{"type": "function", "name": "noop", "description": "Looks something up", "strict": False,
                       "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"],
                                      "additionalProperties": False}}]}
    return dict(body, stream=True) if mode == "stream" else body


def pss_mb(pid):
    with open("/proc/%d/smaps_rollup" % pid, encoding="ascii") as file:
        for text in file:
            if text.startswith("Pss:"):
                return int(text.split()[1]) / 1e3
    raise NotMeasured("/proc/%d/smaps_rollup has no Pss" % pid)


def summary(samples):
    samples = sorted(samples)
    return {"median": statistics.median(samples), "least": samples[0], "most": samples[-1], "samples": len(samples)}


def first_line(file):
    file.seek(0)
    return (file.read().strip().splitlines() or ["nothing on stderr"])[0][:160]


def number(value):
    return "%.0f" % value if abs(value) >= 100 else "%.3g" % value


def markdown(rows):
    """A table for a page."""
    out = ["| | what | lash | beside | goal |", "| --- | --- | --- | --- | --- |"]
    for entry in rows:
        cells = [entry["id"], entry["name"]]
        if "not_measured" in entry:
            cells += ["not measured: " + entry["not_measured"], "", entry.get("goal_text", "")]
        else:
            value = number(entry["p99"]) + " (p99)" if "p99" in entry else number(entry["median"])
            cells += ["%s %s" % (value, entry["unit"]),
                      "%s %s (x%.2f)" % (entry["beside"]["name"], number(entry["beside"]["median"]), entry["ratio"])
                      if "beside" in entry else "",
                      entry["goal_text"] + ("" if entry["met"] else " **not met**") if "met" in entry else ""]
        out.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(out) + "\n"


def line(entry):
    head = "%-4s %-52s " % (entry["id"], entry["name"])
    if "not_measured" in entry:
        return head + "not measured: " + entry["not_measured"]
    value = "%s %s" % (number(entry["median"]), entry["unit"])
    if "p99" in entry:
        value = "%s / %s %s p50 / p99" % (number(entry["median"]), number(entry["p99"]), entry["unit"])
    elif entry["samples"] > 1:
        value += " [%s .. %s]" % (number(entry["least"]), number(entry["most"]))
    beside = "%s %s x%.2f" % (entry["beside"]["name"], number(entry["beside"]["median"]), entry["ratio"]) \
        if "beside" in entry else ""
    goal = "%s  %s" % (entry["goal_text"], "met" if entry["met"] else "NOT MET") if "met" in entry else ""
    return head + "%-32s %-26s %s" % (value, beside, goal)
