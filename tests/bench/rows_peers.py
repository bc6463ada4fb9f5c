"""Rows of bench.py: the loop of a tool-calling agent with nothing but the standard libraries of Python and Node.

Each program of peers/ does what lash does in rows_talks.py: the same conversations, the same server, the same mode.
In these rows the figure is that of lash and the peer is beside it.
"""
import json
import os
import shutil
import sys

from kit import HERE, NotMeasured, Server, pinned, times_at_least
from rows_talks import AT_ONCE, COUNT, MODES, WARM

PEERS = (("python threads", "threads.py", 5), ("python asyncio", "asyncio_loop.py", 5), ("node fetch", "fetch.mjs", 20))
RUNS = 3


class PeerRows:
    def peer(self, name):
        file = next(file for peer, file, _ in PEERS if peer == name)
        program = shutil.which("node") if file.endswith(".mjs") else sys.executable
        if not program:
            raise NotMeasured("node is not there")
        return [program, os.path.join(HERE, "peers", file)]

    def beside_peer(self, name, mode):
        """RUNS figures of lash and of the peer, taken in turn, pinned as in talks()."""
        command = self.peer(name)
        key = ("peer", name, mode)
        if key not in self.cache:
            lash, other = [], []
            cpus = sorted(os.sched_getaffinity(0))
            with pinned(cpus[-1]):
                server = Server(self)
            with server, pinned(cpus[0]):
                for _ in range(RUNS):
                    cpu, wall = self.script(server, "conversations.lua", COUNT, AT_ONCE, WARM, mode)
                    lash.append({"cpu_s": cpu, "wall_s": wall})
                    other.append(json.loads(self.output(
                        [*command, server.url, str(COUNT), str(AT_ONCE), str(WARM), mode], server.env)))
                if server.stats()["odd"]:
                    raise NotMeasured("%s sent outputs that do not pair with the calls" % name)
            self.cache[key] = lash, other
        return self.cache[key]

    def peer_speed(self, name, mode):
        return (*([COUNT / run["wall_s"] for run in runs] for runs in self.beside_peer(name, mode)), name)

    def peer_cpu(self, name, mode):
        return (*([run["cpu_s"] / COUNT * 1e6 for run in runs] for runs in self.beside_peer(name, mode)), name)

    def peer_first_byte(self, name):
        """ms from the start of the program to the first byte of its first request."""
        lash, other = [], []
        with Server(self, "--rounds", 0) as server:
            command = [*self.peer(name), server.url, "1", "1", "0", "stream"]
            for _ in range(5):
                for words, into in (([self.lash(), os.path.join(HERE, "first.lua")], lash), (command, other)):
                    start = self.starts(words, 1, server.env)[0][0]["start_ns"]
                    into.append((server.stats()["last_post_ns"] - start) / 1e6)
        return lash, other, name

    def peer_memory(self, name):
        """MB at most, in a program that had AT_ONCE conversations at a time."""
        lash, other = [], []
        with Server(self) as server:
            words = [server.url, str(COUNT), str(AT_ONCE), "0", "stream"]
            mine = [self.lash(), os.path.join(HERE, "conversations.lua"), *words[1:]]
            for _ in range(RUNS):
                for command, into in ((mine, lash), ([*self.peer(name), *words], other)):
                    into.append(self.starts(command, 1, server.env)[0][0]["maxrss_kb"] / 1e3)
        return lash, other, name

    def peer_rows(self):
        for name, _, times in PEERS:
            for mode, words in MODES:
                self.row("P", "conversations, %s, %s" % (words, name), "/s",
                         lambda n=name, m=mode: self.peer_speed(n, m), times_at_least(times, name))
                self.row("P", "CPU per conversation, %s, %s" % (words, name), "us",
                         lambda n=name, m=mode: self.peer_cpu(n, m))
            self.row("P", "first request byte after start, %s" % name, "ms", lambda n=name: self.peer_first_byte(n))
            self.row("P", "peak RSS, %d conversations at a time, %s" % (AT_ONCE, name), "MB",
                     lambda n=name: self.peer_memory(n))
