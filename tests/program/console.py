"""The console on a pseudo-terminal, seen through a screen. Nothing here sleeps: each step waits for what a person
would wait for."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

from cli import LASH, SLOWER
from screen import Screen, fold

PROMPT = re.compile(r"(lua>|lua>>|ask>)(?: (.*))?$")


def like(got, want):
    """Whether lines are as expected, where {*} stands for anything within a line."""
    if len(got) != len(want):
        return False
    return all(re.fullmatch(re.escape(w).replace(r"\{\*\}", ".*"), g) for g, w in zip(got, want))


class Console:
    """The program (or `command`) on a terminal. `screen` is what it shows."""

    def __init__(self, *args, columns=80, rows=24, env=None, command=None, start="lua>", stdin=None):
        try:
            self.master, self.slave = pty.openpty()
        except OSError as none:  # a container without /dev/pts
            print("skipped: no pseudo-terminal: %s" % none)
            sys.exit(77)
        self.screen = Screen(columns, rows)
        self.raw, self.seen = b"", ""
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        full = dict(os.environ, TERM="xterm", LC_ALL="C.UTF-8", NO_COLOR="1")
        full.update(env or {})
        full = {k: v for k, v in full.items() if v is not None}
        self.process = subprocess.Popen(
            command or LASH + list(args), env=full, stdin=self.slave if stdin is None else stdin, stdout=self.slave,
            stderr=self.slave, start_new_session=True, preexec_fn=self.own_terminal)
        self.end = os.pidfd_open(self.process.pid)
        self.from_line = 0
        if start:
            self.wait_prompt(start)

    def own_terminal(self):
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGTTOU, signal.SIGQUIT):
            signal.signal(sig, signal.SIG_DFL)
        fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)

    # ---- waiting ----

    def pump(self, left, also=()):
        """Takes what is there, within `left` seconds. @return whether anything came"""
        ready, _, _ = select.select([self.master, *also], [], [], max(0, left))
        if self.master in ready:
            data = os.read(self.master, 65536)
            whole = (self.raw + data).decode("utf-8", "surrogateescape")
            cut = len(whole)  # a character that has not come whole yet
            while cut > 0 and len(whole) - cut < 4 and 0xdc80 <= ord(whole[cut - 1]) <= 0xdcff:
                cut -= 1
            self.raw = whole[cut:].encode("utf-8", "surrogateescape")
            self.seen += whole[:cut]
            self.screen.feed(whole[:cut])
        return ready

    def wait(self, check, limit=25):
        """Until check(screen) is true, which is looked at after each piece of output; returns what it gave."""
        end = time.monotonic() + limit * SLOWER
        while True:
            found = check(self.screen)
            if found:
                return found
            assert time.monotonic() < end, "the screen did not come about:\n%s\ncursor %d, %d" % (
                self.screen.text(), self.screen.y, self.screen.x)
            if self.end in self.pump(end - time.monotonic(), [self.end]) and not self.pump(0):
                found = check(self.screen)
                assert found, "it ended with %r before this came:\n%s" % (self.process.wait(), self.screen.text())
                return found

    def see(self, *parts, limit=25):
        """Until all these texts are on the screen."""
        return self.wait(lambda s: all(part in s.text() for part in parts), limit)

    def wait_line(self, line):
        """Until the cursor stands behind this text, which is all of its line."""
        return self.wait(lambda s: s.row(s.y) == line.rstrip() and s.x == len(line))

    def wait_typed(self, text):
        """Until what is edited is this: prompt and text, on as many lines as they take; the cursor is at its end."""
        want = fold(text, self.screen.columns)

        def check(s):
            rows = [s.row(y) for y in range(s.y + 1)]
            return rows[-len(want):] == want and len(want) <= len(rows)
        return self.wait(check)

    def wait_prompt(self, prompt="lua>"):
        """Until the cursor is behind a new prompt. @return the lines since the prompt before"""
        def check(s):
            return (s.at() >= self.from_line and s.row(s.y) == prompt and s.x == len(prompt) + 1
                    and s.at() + 1)
        at = self.wait(check) - 1
        lines = self.screen.lines()[self.from_line - 1 if self.from_line else 0:at]
        self.from_line = at + 1
        return lines

    def here(self):
        """What is above the cursor's line belongs to no entry."""
        self.from_line = self.screen.at() + 1

    # ---- doing ----

    def send(self, text):
        data = text if isinstance(text, bytes) else text.encode()
        while data:
            data = data[os.write(self.master, data):]

    def lines(self, text, prompt="lua>"):
        """Types a line; the lines from its own to the one before the next prompt."""
        self.send(text + "\r")
        return self.wait_prompt(prompt)

    def enter(self, text, prompt="lua>"):
        """Types a line; what came of it."""
        before = self.screen.row(self.screen.y)
        lines = self.lines(text, prompt)
        typed = fold(before.ljust(len(before) + 1) + text, self.screen.columns)
        assert lines[:len(typed)] == typed, lines
        return "\n".join(lines[len(typed):])

    def talk(self, text, then="lua>"):
        """A session as it stands on the screen: what stands behind a prompt is typed, all else must come of it. {*}
        is anything within a line; `then` is the prompt at the end."""
        entries = []
        for line in text.strip("\n").split("\n"):
            found = PROMPT.match(line)
            if found:
                entries.append((found.group(1), found.group(2) or "", []))
            else:
                entries[-1][2].append(line)
        for i, (prompt, typed, rest) in enumerate(entries):
            got = self.lines(typed, entries[i + 1][0] if i + 1 < len(entries) else then)
            want = fold("\n".join(["%s %s" % (prompt, typed), *rest]), self.screen.columns)
            assert like(got, want), "expected\n%s\nbut there is\n%s" % ("\n".join(want), "\n".join(got))

    def paste(self, text):
        self.wait(lambda s: 2004 in s.modes)
        self.send("\x1b[200~" + text.replace("\n", "\r") + "\x1b[201~")

    def resize(self, columns, rows):
        self.screen.resize(columns, rows)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def narrow(self, columns):
        self.screen.narrow(columns)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", self.screen.rows, columns, 0, 0))

    def exit_status(self, limit=25):
        """Waits for its end, and takes the rest. The terminal must be as it was."""
        end = time.monotonic() + limit * SLOWER
        while self.end not in self.pump(end - time.monotonic(), [self.end]):
            assert time.monotonic() < end, "no end within %d s:\n%s" % (limit, self.screen.text())
        while self.pump(0):
            pass
        status = self.process.wait()
        self.check_terminal()
        return status

    def check_terminal(self):
        after = termios.tcgetattr(self.slave)
        assert after == self.before, "the terminal is not as it was: %r, before %r" % (after, self.before)
        assert not fcntl.fcntl(self.slave, fcntl.F_GETFL) & os.O_NONBLOCK, "the terminal was left non-blocking"
        assert 2004 not in self.screen.modes, "bracketed paste was left on"

    def leave(self):
        """Ctrl-D on an empty line."""
        self.send("\x04")
        status = self.exit_status()
        assert status == 0, (status, self.screen.text())
