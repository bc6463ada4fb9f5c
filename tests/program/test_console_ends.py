"""Every way out of the console, and back: the terminal is as it was before."""
import fcntl
import os
import select
import signal
import termios
import time

from cli import LASH, SLOWER, write
from console import Console


def with_line(c):
    c.send("some text")
    c.wait_line("lua> some text")


def test_ctrl_d():
    """console: Ctrl-D, .quit, os.exit in an entry and in a background task: the terminal is as it was"""
    c = Console()
    c.talk("lua> 1\n1")
    c.leave()
    assert c.screen.text().endswith("lua> 1\n1\nlua>") and c.screen.x == 0, c.screen.text()
    c = Console()
    c.send(".quit\r")
    assert c.exit_status() == 0
    c = Console()
    c.send("os.exit(7)\r")
    assert c.exit_status() == 7
    c = Console()
    c.lines("lash.spawn(function() repeat lash.sleep(0.01) until lash.fs.exists 'go' os.exit(8) end);")
    with_line(c)
    write("go", "")
    assert c.exit_status() == 8
    assert "lua> some text" in c.screen.text()


def test_no_console():
    """console: with stdout in a file stdin is a script, which one Ctrl-D ends"""
    c = Console(command=["sh", "-c", "exec " + " ".join(LASH) + " >out"], start=None)
    c.send("local x = 5\rprint(x)\r")
    c.wait(lambda s: s.row(1) == "print(x)")
    c.send("\x04")
    assert c.exit_status() == 0
    with open("out", encoding="utf-8") as file:
        assert file.read() == "5\n"


def test_signals():
    """console: SIGTERM, SIGHUP, SIGQUIT while a line is edited, and while an entry runs"""
    for sig in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        c = Console()
        with_line(c)
        c.process.send_signal(sig)
        assert c.exit_status() == -sig, (sig, c.process.returncode)
    for sig in (signal.SIGTERM, signal.SIGHUP):
        c = Console()
        c.send("print 'RUN' lash.sleep(1000)\r")
        c.see("\nRUN")
        c.process.send_signal(sig)
        assert c.exit_status() == -sig
    c = Console()
    with_line(c)
    c.process.send_signal(signal.SIGINT)  # not from the keyboard
    c.wait_prompt()
    c.leave()


def test_crash():
    """console: a crash of a child, and of lash itself, leave the terminal right"""
    c = Console()
    assert c.enter("!kill -SEGV $$") .endswith("lash: ended by signal 11")
    c.talk("""
lua> lash.exec({ shell = 'stty -echo; kill -ABRT $$' }).signal
"SIGABRT"
lua> 1
1
""")
    c.leave()
    c = Console()
    with_line(c)
    c.process.send_signal(signal.SIGABRT)  # SIGSEGV belongs to the sanitizer where there is one
    assert c.exit_status() == -signal.SIGABRT
    c = Console()
    c.talk("lua> !stty raw -echo; kill -KILL $$\nlash: ended by signal 9\nlua> 1\n1")
    c.leave()


def test_second_ctrl_c():
    """console: what Ctrl-C does not end a second one ends, with the terminal as it was"""
    c = Console()
    c.send("print 'RUN' setmetatable({}, { __gc = function() while true do pcall(string.rep, 'x', 1e6) end end })"
           " collectgarbage()\r")
    c.see("\nRUN")
    c.send("\x03")
    end = time.monotonic() + 15 * SLOWER
    while c.screen.row(c.screen.y) != "lua>" and "a second" not in c.screen.text():
        assert time.monotonic() < end, c.screen.text()
        c.pump(1)
    if c.screen.row(c.screen.y) == "lua>":
        c.leave()
        return
    c.send("\x03")
    assert c.exit_status() == -signal.SIGINT


def test_suspend():
    """console: Ctrl-Z and fg under a shell with jobs: while a line is edited, twice, and while an entry runs"""
    c = Console(command=["bash", "--norc", "--noprofile", "-i"], env={"PS1": "sh> ", "HISTFILE": None}, start=None)
    c.wait_line("sh> ")
    shell = c.setting = termios.tcgetattr(c.slave)
    c.send(" ".join(LASH) + "\r")
    c.wait_line("lua> ")
    c.send("abc")
    c.wait_line("lua> abc")
    for _ in range(2):
        c.send("\x1a")
        c.wait(lambda s: s.row(s.y) == "sh>" and "Stopped" in s.row(s.y - 1))
        c.send("stty -a | grep -o ' icanon\\| echo ' | sort | tr -d '\\n'; echo .\r")
        c.wait(lambda s: s.row(s.y) == "sh>" and s.row(s.y - 1) == " echo  icanon.")
        c.send("fg\r")
        c.wait_line("lua> abc")
    c.send("\x15local x = 5\r")
    c.wait_line("lua> ")
    c.send("print 'RUN' lash.sleep(0.3) print 'awake'\r")
    c.see("\nRUN")
    c.send("\x1a")
    c.wait(lambda s: s.row(s.y) == "sh>" and "Stopped" in s.row(s.y - 1))
    c.send("fg\r")
    c.wait(lambda s: s.row(s.y) == "lua>" and s.row(s.y - 1) == "awake")
    c.send("x\r")
    c.wait(lambda s: s.row(s.y) == "lua>" and s.row(s.y - 1) == "5")
    c.send("\x04")
    c.wait(lambda s: s.row(s.y) == "sh>")
    assert termios.tcgetattr(c.slave) == shell
    assert not fcntl.fcntl(c.slave, fcntl.F_GETFL) & os.O_NONBLOCK
    c.send("exit\r")
    c.exit_status()


def gone(*args, env=None, busy=None):
    """The terminal goes away; the program must end soon and not burn time."""
    c = Console(*args, env=env)
    if busy:
        c.send(busy + "\r")
        c.see("\nRUN")
    else:
        with_line(c)
    os.close(c.slave)
    os.close(c.master)
    ready, _, _ = select.select([c.end], [], [], 15 * SLOWER)
    if not ready:
        c.process.kill()
    assert ready, "it goes on without its terminal"
    used = os.times().children_user
    c.process.wait()
    assert os.times().children_user - used < 3 * SLOWER, "it spun"


def test_gone():
    """console: the terminal goes away: the program ends, even if it does not get SIGHUP"""
    gone()
    gone(busy="print 'RUN' lash.sleep(1000)")
    gone(env={"TERM": "dumb"})


def test_gone_ignoring():
    """console: the terminal goes away while SIGHUP is ignored (nohup)"""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    original, Console.own_terminal = Console.own_terminal, own_terminal_ignoring
    try:
        gone()
        gone(env={"TERM": "dumb"})
    finally:
        Console.own_terminal = original
        signal.signal(signal.SIGHUP, before)


def own_terminal_ignoring(c):
    fcntl.ioctl(c.slave, termios.TIOCSCTTY, 0)
