"""Rows of bench.py: calls of tools in a turn."""
import os

from kit import HERE, NotMeasured, Server, at_most, times_at_most


CAPS = {"process": 256, "jobs": 16}


class CallRows:
    def dispatch(self, mark, quantile):
        key = "dispatch " + mark
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
                     at_most(goal, "%d us" % goal))
            self.row("Q3", "call ready -> tool body, %s, p99" % mark, "us", lambda m=mark: self.dispatch(m, 0.99))
        for mark, goal in (("async", 15), ("sync", 60)):
            for n in (1, 8, 64, 1000):
                self.row("D3", "%d empty %s tool%s in a turn, per call" % (n, mark, "s" * (n > 1)), "us",
                         lambda m=mark, n=n: [t / n * 1e6 for t in self.batch(m, "noop", n, 9)],
                         at_most(goal, "%d us" % goal))
        for mark in ("async", "sync"):
            for n in (1, 8, 64, 512):
                at_once = min(n, CAPS["process" if mark == "async" else "jobs"])
                least = -(-n // at_once) * 100
                self.row("D3", "%d %s tool%s of 100 ms, %d at once" % (n, mark, "s" * (n > 1), at_once), "ms",
                         lambda m=mark, n=n, r=3 if least < 1000 else 1:
                         [t * 1e3 for t in self.batch(m, "sleep", n, r, None if m == "async" else CAPS["jobs"])],
                         at_most(least + 2 + 0.02 * n, "%d + 2 + %g ms" % (least, 0.02 * n)))

    def workers(self, jobs):
        alone = self.batch("sync", "spin", 1, 3, 1)
        return self.batch("sync", "spin", 2, 3, jobs), alone, "one alone"

    def worker_rows(self):
        enough = len(os.sched_getaffinity(0)) >= 2
        self.row("D4", "2 CPU-bound tools, 1 worker", "s", lambda: self.workers(1))
        self.row("D4", "2 CPU-bound tools, 2 workers", "s", lambda: self.workers(2),
                 times_at_most(1.3, "one") if enough else None)
