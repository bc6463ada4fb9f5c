"""Rows of bench.py: the console on a pseudo-terminal: its first prompt, its memory, how soon a key shows."""
import os
import pty
import select
import subprocess
import time

from kit import NotMeasured, at_most, times_at_most

KEYS = 200
# As many sync tools as there are processors, each of which computes until the console ends.
SPIN = """local burn = lash.tool { name = "burn", timeout = false, sync = function() while true do end end };
for _ = 1, %d do lash.spawn(function()
  lash.agent { name = "a", model = "demo", tools = { burn } }:run("burn") end) end;
"""


class Terminal:
    """A program on a pseudo-terminal of 80x24."""

    def __init__(self, bench, command):
        self.left = bench.left
        self.ours, its = pty.openpty()
        env = dict(os.environ, TERM="xterm", HOME=bench.dir, XDG_STATE_HOME=bench.dir, XDG_CONFIG_HOME=bench.dir)
        self.start, self.seen = time.monotonic(), b""
        self.child = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=env, start_new_session=True)
        os.close(its)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()
        os.close(self.ours)

    def until(self, text):
        """Reads up to these bytes and no further; seconds since the start of the program."""
        end = time.monotonic() + self.left(10)
        while text not in self.seen:
            if not select.select([self.ours], [], [], max(0, end - time.monotonic()))[0]:
                raise NotMeasured("no %r within 10 s" % text)
            try:
                self.seen += os.read(self.ours, 4096)
            except OSError as why:
                raise NotMeasured("the program ended") from why
        self.seen = self.seen.partition(text)[2]
        return time.monotonic() - self.start

    def send(self, data):
        os.write(self.ours, data)


class ConsoleRows:
    def first_prompt(self):
        """ms from the start to the first prompt, of lash and of lua5.4 -i in turn."""
        lash, stock = [], []
        for _ in range(15):
            with Terminal(self, [self.lash()]) as terminal:
                lash.append(terminal.until(b"lua> ") * 1e3)
            with Terminal(self, ["lua5.4", "-i"]) as terminal:
                stock.append(terminal.until(b"> ") * 1e3)
        return lash, stock, "lua5.4 -i"

    def console_memory(self):
        """MB resident of a console that waits for its first line."""
        with Terminal(self, [self.lash()]) as terminal:
            terminal.until(b"lua> ")
            with open("/proc/%d/status" % terminal.child.pid, encoding="ascii") as file:
                return [next(int(text.split()[1]) for text in file if text.startswith("VmRSS:")) / 1e3]

    def echo(self):
        """ms from a key to its echo while a worker burns every processor: the p99 of each of three consoles."""
        return [self.echo_p99() for _ in range(3)]

    def echo_p99(self):
        with Terminal(self, [self.lash()]) as terminal:
            terminal.until(b"lua> ")
            for line in (SPIN % len(os.sched_getaffinity(0))).splitlines():
                terminal.send(line.encode() + b"\r")
            terminal.send(b"'spin' .. 'ning'\r")
            terminal.until(b"spinning")
            terminal.until(b"lua> ")
            found = []
            for _ in range(KEYS):
                begin = time.monotonic()
                terminal.send(b"z")
                terminal.until(b"z")
                found.append((time.monotonic() - begin) * 1e3)
            return sorted(found)[int((KEYS - 1) * 0.99)]

    def console_rows(self):
        self.row("C", "console: first prompt", "ms", self.first_prompt, times_at_most(2, "lua5.4 -i"))
        self.row("C", "console: echo of a key, every processor burning: p99", "ms", self.echo,
                 at_most(10, "10 ms"))
        self.row("Q2", "idle console, resident", "MB", self.console_memory, at_most(6, "6 MB"))
