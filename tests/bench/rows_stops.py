"""Rows of bench.py: from the deadline or the cancel of a call to its end."""
import os

from kit import HERE, NotMeasured, Server, p99_at_most, summary


class StopRows:
    def stop_row(self, ident, name, samples, goal):
        """One line with p50 and p99 of how long it took; the goal is for p99."""
        samples = sorted(samples)
        self.add({"id": ident, "name": name, "unit": "ms", "p99": samples[int((len(samples) - 1) * 0.99)],
                  **summary(samples)}, p99_at_most(goal, "%g ms" % goal))

    def stop_rows(self):
        """T1 to T4: from the deadline or the cancel of a call to its end, for each misbehaving tool."""
        kinds = (("T2", "spins", 20, 50), ("T1", "held", 3, 200), ("T3", "blocked", 10, 150), ("T3", "stuck", 1, 150),
                 ("T4", "gone", 10, 200))
        for ident, kind, rounds, goal in kinds:
            if not self.wanted(ident, "stop: " + kind):
                continue
            try:
                with Server(self, "--hold") as server:
                    env = dict(server.env, LUA_PATH=os.path.join(HERE, "..", "lua", "?.lua") + ";;")
                    text = self.output([self.lash(), os.path.join(HERE, "stop.lua"), kind, str(rounds), server.root],
                                       env)
            except NotMeasured as why:
                self.add({"id": ident, "name": "stop: " + kind, "unit": "ms", "not_measured": str(why)},
                         p99_at_most(goal, "%g ms" % goal))
                continue
            found = {}
            for name, us in (each.split("\t") for each in text.splitlines()):
                found.setdefault(name, []).append(float(us) / 1e3)
            for name, samples in found.items():
                self.stop_row(ident, "stop: " + name, samples, goal)
