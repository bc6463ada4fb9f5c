"""Rows of bench.py: conversations of 3 requests and 6 calls, and those that wait."""
import contextlib
import os
import resource
import shutil
import subprocess
import tempfile
import time

import instructions
from kit import HERE, NotMeasured, Server, at_least, at_most, first_line, pinned, pss_mb, times_at_least, times_at_most

COUNT, AT_ONCE, WARM, RUNS = 300, 32, 32, 7
MODES = (("stream", "streamed"), ("whole", "whole answers"))


class TalkRows:
    def talks(self, mode, tls=False):
        """(CPU, wall) seconds a conversation of lash, and of the bare program: two lists, taken in turn.

        The server has one processor, the measured program another: where both share one, requests come in larger
        lumps and cost half, and which of the two happens is chance.
        """
        key = ("talks", mode, tls)
        if key in self.cache:
            return self.cache[key]
        lash, bare = [], []
        cpus = sorted(os.sched_getaffinity(0))
        self.bodies(mode)
        with pinned(cpus[-1]):
            server = Server(self, tls=tls)
        with server, pinned(cpus[0]):
            for _ in range(RUNS):
                cpu, wall = self.script(server, "conversations.lua", COUNT, AT_ONCE, WARM, mode)
                lash.append((cpu / COUNT, wall / COUNT))
                found = self.floor(server, COUNT, AT_ONCE, WARM, mode)
                bare.append((found["cpu_s"] / COUNT, found["wall_s"] / COUNT))
            stats = server.stats()
        self.served = getattr(self, "served", []) + [stats["requests"] / stats["cpu_us"] * 1e6]
        self.cache[key] = lash, bare
        return lash, bare

    def talk_cpu(self, mode, tls=False):
        lash, bare = self.talks(mode, tls)
        return [cpu * 1e6 for cpu, _ in lash], [cpu * 1e6 for cpu, _ in bare], "bare C"

    def talk_speed(self, mode, tls=False):
        lash, bare = self.talks(mode, tls)
        return [1 / wall for _, wall in lash], [1 / wall for _, wall in bare], "bare C"

    def talk_rows(self):
        for tls in (False, True):
            for mode, words in MODES:
                words += ", TLS" * tls
                self.row("Q5", "CPU per conversation, %s" % words, "us", lambda m=mode, t=tls: self.talk_cpu(m, t),
                         times_at_most(2, "bare C"))
                self.row("Q5", "conversations, %s" % words, "/s", lambda m=mode, t=tls: self.talk_speed(m, t),
                         times_at_least(0.6, "bare C"))

        for mode, words in MODES:
            self.row("Q5", "instructions per conversation, %s" % words, "million", lambda m=mode: self.talk_counted(m))
        self.row("M", "what the server could answer (one processor)", "/s", self.server_speed,
                 at_least(20000, "20000 /s"))

    def talk_counted(self, mode):
        """What other work on the machine does not change: see instructions.py. One conversation at a time."""
        if not shutil.which("valgrind"):
            raise NotMeasured("valgrind is not there")
        bodies, floor = self.bodies(mode), self.tool("floor")
        with tempfile.TemporaryDirectory() as home:
            counter = instructions.Counter(self.args.build, home)
            lash = counter.talk(mode)
            bare = counter.conversation(lambda url, n: [floor, url, str(n), "1", "5", *bodies])
        return [lash / 1e6], [bare / 1e6], "bare C"

    def server_speed(self):
        """Requests a second of the server's CPU time, without TLS: it must not be what is measured."""
        self.talks("stream")
        return self.served[:2]

    # -- waiting ----------------------------------------------------------

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
                    if child.wait(self.left(150)) != 0:
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
        if ("memory", count) in self.cache:
            return self.cache["memory", count]
        lash, bare = [], []
        for _ in range(3 if count <= 1000 else 1):
            with self.waiting_lash(count) as children:
                lash.append(pss_mb(children[0].pid))
                if count > 1000:
                    time.sleep(2)
                    self.growth = pss_mb(children[0].pid) - lash[0]
            with self.waiting_floor(count) as children:
                bare.append(pss_mb(children[0].pid))
        self.cache["memory", count] = lash, bare, "bare C"
        return self.cache["memory", count]

    def grown(self):
        if not hasattr(self, "growth"):
            raise NotMeasured("10 000 waiting conversations were not measured")
        return [self.growth]

    def ten(self):
        with self.waiting_lash(1, 10) as children:
            return [sum(pss_mb(c.pid) for c in children)]

    def waiting_rows(self):
        self.row("Q2", "PSS, HTTP in use, one request waiting", "MB", lambda: self.memory(1), at_most(12, "12 MB"))
        self.row("Q2", "PSS of ten such processes together", "MB", self.ten, at_most(60, "60 MB"))
        beside = times_at_most(1.4, "bare C")
        self.row("Q2", "PSS, 1 000 conversations waiting", "MB", lambda: self.memory(1000), beside)
        self.row("Q2", "PSS, 10 000 conversations waiting; all finish", "MB", lambda: self.memory(10000),
                 at_most(250, "250 MB"))
        self.row("Q2", "the same, beside bare C", "MB", lambda: self.memory(10000), beside)
        self.row("Q2", "growth of these over 2 s", "MB", self.grown, at_most(0.5, "0.5 MB"))
