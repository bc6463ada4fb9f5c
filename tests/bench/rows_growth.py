"""Rows of bench.py: work that grows, memory that must not; and the picture of it, build/growth.svg."""
import os

from kit import HERE, NotMeasured, Server, at_most, p99_at_most, pss_mb, summary, times_at_least
from svg import plot

LONG = 670      # turns of one call: 2000 items and more
FACTORS = (1, 10, 100)


def at_turn(times, turn):
    """The median of the turns around."""
    around = sorted(times[max(0, turn - 3):turn + 2])
    return around[len(around) // 2]


class GrowthRows:
    def long(self, turns, size):
        """us of CPU of each turn, of 3 conversations."""
        key = ("long", turns, size)
        if key not in self.cache:
            with Server(self, "--calls", 1, "--rounds", turns) as server:
                self.cache[key] = [self.script(server, "long.lua", turns, size) for _ in range(3)]
            if any(len(times) != turns for times in self.cache[key]):
                raise NotMeasured("%d turns instead of %d" % (len(self.cache[key][0]), turns))
        return self.cache[key]

    def long_turn(self, size, items):
        return [at_turn(times, items // 3 - 1) / 1e3 for times in self.long(LONG, size)]

    def lateness(self, calls, *words):
        with Server(self, "--calls", calls, "--rounds", 1) as server:
            return sorted(self.script(server, "spin.lua", calls, *words))

    def lateness_rows(self):
        for name, words in (("64 spinning sync tools", ()), ("64 waiting async tools", ("idle",))):
            name = "a 1 ms timer is late beside %s" % name
            if not self.wanted("D5", name):
                continue
            entry = {"id": "D5", "name": name, "unit": "ms"}
            try:
                late = [us / 1e3 for us in self.lateness(64, *words)]
                entry.update(summary(late), p99=late[int((len(late) - 1) * 0.99)])
            except NotMeasured as why:
                entry["not_measured"] = str(why)
            self.add(entry, p99_at_most(5, "5 ms"))

    def two_workers(self):
        """CPU-bound tools a second with two workers, beside one."""
        one, two = (self.batch("sync", "spin", 4, 3, jobs) for jobs in (1, 2))
        return [4 / t for t in two], [4 / t for t in one], "one worker"

    def large(self, result, *options):
        """ms of CPU a conversation."""
        with Server(self, "--calls", 1, "--rounds", 1, *options) as server:
            return self.script(server, "large.lua", result, 5)

    def large_cost(self, megabytes, result, *options):
        """ms a MB: what it costs more than a small one."""
        small = sorted(self.large(1))[2]
        return [(ms - small) / megabytes for ms in self.large(result, *options)]

    def grown_part(self, options, conversations):
        """% of memory that came with so many conversations, after as many."""
        with Server(self, *options) as server:
            runs = [self.script(server, "sequence.lua", "flat", conversations) for _ in range(3)]
        return [(after / before - 1) * 100 for before, after in runs]

    def kept(self, conversations):
        """kB of each conversation that is there after its answer."""
        with Server(self) as server:
            runs = [self.script(server, "sequence.lua", "kept", conversations) for _ in range(3)]
        return [(after - before) / conversations for before, after in runs]

    def growth_rows(self):
        self.lateness_rows()
        self.row("D4", "CPU-bound tools, 2 workers", "/s", self.two_workers,
                 times_at_least(1.9, "one worker") if len(os.sched_getaffinity(0)) >= 2 else None)
        for items in (10, 100, 1000, 2000):
            self.row("L", "CPU of a turn, history of %d items" % items, "ms", lambda i=items: self.long_turn(1, i))
        self.row("L", "CPU of a turn, history of 1 MB in 2000 items", "ms", lambda: self.long_turn(1500, 2000),
                 at_most(1, "1 ms"))
        self.row("L", "a tool's result of 1 MB, to the model", "ms/MB", lambda: self.large_cost(1, 1 << 20))
        self.row("L", "arguments of 10 MB, to the tool and back to the model", "ms/MB",
                 lambda: self.large_cost(10, 1, "--args-size", 10 << 20))
        self.row("Q2", "a conversation that is kept after its answer", "kB", lambda: self.kept(1000),
                 at_most(16, "16 kB"))
        self.row("Q4", "growth over 10 000 conversations in sequence", "%", lambda: self.grown_part((), 10000),
                 at_most(1, "1 %"))
        self.row("Q4", "growth over 100 000 calls", "%",
                 lambda: self.grown_part(("--calls", 100, "--rounds", 10), 100), at_most(1, "1 %"))

    # -- 1x, 10x, 100x ----------------------------------------------------

    def total_turns(self, factor):
        return sum(self.script_of(("--calls", 1, "--rounds", 6 * factor), "long.lua", 6 * factor, 1)) / 1e3

    def total_calls(self, factor):
        return sorted(self.batch("async", "noop", 10 * factor, 9))[4] * 1e3

    def total_conversations(self, factor):
        return self.script_of((), "conversations.lua", 30 * factor, 16, 30)[0] * 1e3

    def script_of(self, options, *words):
        with Server(self, *options) as server:
            return self.script(server, *words)

    def total_waiting(self, factor):
        if not hasattr(self, "one_waits"):
            with self.waiting_lash(1) as children:
                self.one_waits = pss_mb(children[0].pid)
        with self.waiting_lash(100 * factor) as children:
            return pss_mb(children[0].pid) - self.one_waits

    def plot_rows(self):
        """Each series at 1x, 10x and 100x of its work; the goal for all is that cost grows no faster than work."""
        series = []
        for name, unit, measure, limit in (
                ("turns of a conversation (6, 60, 600), CPU", "ms", self.total_turns, None),
                ("calls in a turn (10, 100, 1000), time", "ms", self.total_calls, 1.2),
                ("conversations (30, 300, 3000), CPU", "ms", self.total_conversations, 1.2),
                ("conversations waiting (100, 1000, 10 000), memory", "MB", self.total_waiting, 1.2)):
            values = []

            def grows(values=values, measure=measure):
                values += [measure(factor) for factor in FACTORS]
                return [values[2] / values[1] / 10]
            self.row("G", name + ": 100x beside 10x, per unit", "x", grows,
                     at_most(limit, "%g" % limit) if limit else None)
            if len(values) == len(FACTORS):
                self.rows[-1].update(work=FACTORS, cost=values, cost_unit=unit)
                series.append((name, unit, values))
        if series:
            with open(os.path.join(self.args.build, "growth.svg"), "w", encoding="utf-8") as out:
                out.write(plot(FACTORS, series))
