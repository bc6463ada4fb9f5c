"""Runs the program for the tests of its command line, in the case's own directory."""
import fcntl
import json
import os
import pty
import select
import shlex
import struct
import subprocess
import sys
import termios
import time

LASH = shlex.split(os.environ.get("LASH_WRAP", "")) + [os.environ["LASH"]]
SLOW = 10 if os.environ.get("LASH_WRAP") else 1
SLOWER = SLOW * float(os.environ.get("TEST_SLOWER", "1"))
THOROUGH = bool(os.environ.get("LASH_THOROUGH"))    # `make check-all`: all combinations, the full numbers
KEPT_BACK = SLOWER >= 20  # the thread sanitizer keeps signals back while Lua, which it does not know, runs

TOOLS = """
local lash = require "lash"
local add = lash.tool { name = "add", description = "The sum", params = { a = "integer", b = "integer" },
    sync = function(args) return args.a + args.b end }
local echo = lash.tool { name = "echo", description = "Gives back what it gets",
    params = { text = "string?", n = "number?", flag = "boolean?", tags = "string[]?", box = "object?",
        mode = "fast|slow?", max_items = "integer?" },
    async = function(args) return args end }
local slow = lash.tool { name = "slow", description = "Sleeps", params = { s = "number" }, timeout = 0.05,
    async = function(args) lash.sleep(args.s) return "slept" end }
local broken = lash.tool { name = "broken", description = "Fails",
    async = function() local t = nil; return t.x end }
local quit = lash.tool { name = "quit", description = "Tries to end the program",
    async = function() os.exit(3) end }
local noisy = lash.tool { name = "noisy", description = "Prints",
    async = function() print("printed") io.write("written\\n") io.stdout:write("raw\\n") return "quiet" end }
local hello = lash.prompt { name = "hello", async = function() return "Hello there" end }
print("loading")
return { add, echo, slow, broken, quit, noisy, hello }
"""


class Result:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def __repr__(self):
        return "status %r\nstdout: %r\nstderr: %r" % (self.status, self.out, self.err)


def lash(*args, stdin=None, env=None, text=True, limit=20):
    """Runs the program; stdin is a text, None for /dev/null, or an open file."""
    full = dict(os.environ, **(env or {}))
    options = {"input": stdin if not text or stdin is None else stdin.encode()} if not hasattr(stdin, "fileno") \
        else {"stdin": stdin}
    if stdin is None:
        options = {"stdin": subprocess.DEVNULL}
    done = subprocess.run(LASH + list(args), env=full, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=limit * SLOWER, **options)
    out, err = done.stdout, done.stderr.decode("utf-8", "replace")
    return Result(done.returncode, out.decode("utf-8", "replace") if text else out, err)


def needs_prompt_signals():
    if KEPT_BACK:
        print("skipped: signals come too late here")
        sys.exit(77)


def write(name, text):
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    with open(name, "w", encoding="utf-8") as f:
        f.write(text)
    return name


def tools():
    return write("tools.lua", TOOLS)


def expect(result, status, out=None, err=None):
    """The exit status, and parts that must stand in stdout and stderr; "" means nothing at all."""
    for what, got, want in (("stdout", result.out, out), ("stderr", result.err, err)):
        if want == "":
            assert got == "", "expected nothing on %s\n%r" % (what, result)
        for part in [want] if isinstance(want, str) else want or []:
            assert part in got, "expected %r on %s\n%r" % (part, what, result)
    assert result.status == status, "expected status %r\n%r" % (status, result)
    return result


def one_line(result):
    """stderr is one sentence for people."""
    lines = result.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("lash: "), "expected one line on stderr\n%r" % result
    return result


def objects(result):
    return [json.loads(line) for line in result.out.splitlines()]


class Terminal:
    """The program on a terminal; stdout too unless it is given."""

    def __init__(self, *args, env=None, stdout=None, stderr=None, stdin=None):
        try:
            self.master, slave = pty.openpty()
        except OSError as none:  # a container without /dev/pts
            print("skipped: no pseudo-terminal: %s" % none)
            sys.exit(77)
        self.text = ""
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        full = dict(dict(os.environ, TERM="xterm", LC_ALL="C.UTF-8"), **(env or {}))
        self.process = subprocess.Popen(LASH + list(args), env=full, stdin=slave if stdin is None else stdin,
                                        stdout=slave if stdout is None else stdout,
                                        stderr=slave if stderr is None else stderr, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(slave, termios.TIOCSCTTY, 0))
        os.close(slave)

    def read_until(self, part, limit=20):
        end = time.monotonic() + limit * SLOWER
        while part not in self.text:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, "no %r within %d s, but %r" % (part, limit, self.text)
            try:
                data = os.read(self.master, 65536)
            except OSError:
                data = b""
            assert data, "the end came before %r: %r" % (part, self.text)
            self.text += data.decode("utf-8", "replace")
        at = self.text.index(part) + len(part)
        before, self.text = self.text[:at], self.text[at:]
        return before

    def send(self, text):
        os.write(self.master, text.encode())

    def rest(self, limit=20):
        """What comes until the end, and the exit status."""
        end = time.monotonic() + limit * SLOWER
        while True:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, "no end within %d s: %r" % (limit, self.text)
            try:
                data = os.read(self.master, 65536)
            except OSError:
                data = b""
            if not data:
                break
            self.text += data.decode("utf-8", "replace")
        return self.text, self.process.wait(timeout=limit * SLOWER)
