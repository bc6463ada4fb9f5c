#!/usr/bin/env python3
"""Faults on purpose: runs small programs again and again, and each time another allocation or another
system call fails. Every run has to end by itself, with a normal exit status, and with a sentence when that
is not 0: no crash, no hang, no report of a sanitizer, no leak.

  tests/faults/run.py --alloc BUILD --calls BUILD [--only TEXT] [--every] [-v]

BUILD of --alloc is one with LASH_DEBUG and sanitizers (base/fault.h tells of LASH_FAIL_ALLOC); that of
--calls is a plain one, which runs under strace; without strace, or where nobody may trace, that is skipped.
Ends in a line `N passed, N failed`.
"""
import argparse
import concurrent.futures
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
LIMIT = 30  # seconds that one run may take; some wait for the end of a grace

# What a program of ours may end with: 70 is a bug, and 127 the dynamic linker without files.
GOOD = {0, 1, 65, 66, 71, 73, 74, 75, 76, 78, 80, 127}
BAD_WORDS = re.compile(r"Sanitizer|runtime error:|lash: bug|assertion failed|double free|corrupt")

# Calls that a signal may interrupt, and calls that need a descriptor.
EINTR = "read readv write writev epoll_wait epoll_pwait accept4 connect sendto recvfrom wait4 poll clock_nanosleep".split()
EMFILE = "openat socket eventfd2 pipe2 epoll_create1 accept4 socketpair dup3".split()
THREADS = "clone3 clone".split()
# "+": all that follow fail too, as they do when the descriptors are used up.
FAULTS = ([(call, "EINTR", "") for call in EINTR] + [(call, "EMFILE", "+") for call in EMFILE]
          + [("openat", "EMFILE", ""), ("socket", "EMFILE", "")]
          + [(call, "EAGAIN", plus) for call in THREADS for plus in ("", "+")])
# There libuv aborts. For its first pipe runtime.c asks before, so that this one never fails; its threads
# for files cannot be asked for.
HOPELESS = {("*", "pipe2", 2), ("files", "clone3", "*"), ("files", "clone", "*")}


def steps(first, last, dense, growth):
    """first, first + 1, ...: the first `dense` one by one, then further and further apart."""
    n, step = first, 1.0
    while n <= last:
        yield int(n)
        if n - first >= dense:
            step *= growth
        n += int(step)


def environment(build, tmp, extra):
    env = {k: v for k, v in os.environ.items()
           if not re.match(r"(LASH|OPENAI|GEMINI|GOOGLE|ANTHROPIC)_|.*_proxy$|.*_PROXY$", k)}
    env.update(LUA_PATH=os.path.join(TESTS, "lua", "?.lua") + ";;", TMPDIR=tmp, HOME=tmp, LC_ALL="C.UTF-8",
               ASAN_OPTIONS="detect_leaks=1:exitcode=99", UBSAN_OPTIONS="halt_on_error=1:exitcode=99",
               LSAN_OPTIONS="suppressions=%s:print_suppressions=0" % os.path.join(TESTS, "lsan.supp"))
    env.update(extra)
    return env


def run(command, build, **extra):
    """-> what is wrong or None, stdout, stderr"""
    tmp = tempfile.mkdtemp(prefix="lash-fault-")
    process = subprocess.Popen([tmp if word == "DIR" else word for word in command], cwd=tmp,
                               env=environment(build, tmp, extra), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True)
    try:
        out, err = process.communicate(timeout=LIMIT)
        status = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        status = None
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    shutil.rmtree(tmp, ignore_errors=True)
    return judge(status, out, err, "LASH_FAIL_ALLOC" in extra), out, err


def judge(status, out, err, of_memory):
    found = BAD_WORDS.search(err)
    if status is None:
        return "no end within %d s" % LIMIT
    elif status not in GOOD:
        return "status %d" % status
    elif found:
        return "it says '%s'" % found.group(0)
    elif status == 0 and not out.endswith("done\n"):
        return "status 0 without its work done"
    elif status != 0 and not err.strip():
        return "status %d without a word" % status
    elif status != 0 and of_memory and "memory" not in err:
        return "status %d, and nothing says that memory was the reason" % status
    return None


class Runner:
    def __init__(self, args):
        self.args = args
        self.passed, self.failures, self.skipped = 0, [], []
        self.pool = concurrent.futures.ThreadPoolExecutor(max(2, os.cpu_count() or 2))

    def sound(self, name, wrong, text):
        """Whether the program ran well without a fault; else it is told and counts as a failure."""
        if wrong:
            print("FAIL  %s: it fails without a fault: %s\n%s" % (name, wrong, text))
            self.failures.append(name)
        return not wrong

    def all(self, name, jobs):
        """jobs: list of (label, command, build, extra environment)"""
        begin = time.monotonic()
        futures = [(job, self.pool.submit(run, job[1], job[2], **job[3])) for job in jobs]
        bad = 0
        for (label, command, _, _), future in futures:
            wrong, out, err = future.result()
            if wrong is None:
                continue
            bad += 1
            if bad <= 3 or self.args.v:
                print("FAIL  %s, %s: %s\n      %s" % (name, label, wrong, " ".join(command)))
                print("".join("      " + line + "\n" for line in (out + err)[-4000:].splitlines()), end="")
        if bad:
            self.failures.append(name)
        else:
            self.passed += 1
        print("%s  %s: %d runs, %d bad, %.1f s" % ("FAIL" if bad else "ok  ", name, len(jobs), bad,
                                                   time.monotonic() - begin))
        sys.stdout.flush()


def count_allocations(command, build):
    wrong, out, err = run(command, build, LASH_FAIL_ALLOC="0")
    found = re.search(r"LASH_FAIL_ALLOC: (\d+)", err)
    if wrong or not found:
        return None, wrong or "no count: is it a build with LASH_DEBUG?", out + err
    return int(found.group(1)), None, None


def allocations(runner, build, programs):
    lash = os.path.join(build, "lash")
    nothing = ["-e", "print 'done'"]
    started = count_allocations([lash] + nothing, build)[0] or 0  # what all programs have in common
    for name, args in [("start", nothing)] + programs:
        title = "allocations of " + name
        if runner.args.only not in title:
            continue
        command = [lash] + args
        total, wrong, text = count_allocations(command, build)
        if not runner.sound(title, wrong, text):
            continue
        begin = 1 if name == "start" else max(1, started - 50)
        jobs = [("allocation %d of %d" % (n, total), command, build, {"LASH_FAIL_ALLOC": str(n)})
                for n in steps(begin, total + 10, 100, 1.0 if runner.args.every else 1.01)]
        jobs += [("allocations from %d on" % n, command, build, {"LASH_FAIL_ALLOC": "%d,on" % n})
                 for n in steps(begin, total + 10, 3, 1.6)]
        jobs += [("allocation %d of all" % n, command, build, {"LASH_FAIL_ALLOC": "%d,all" % n})
                 for n in steps(begin, total + 10, 3, 1.6)]
        runner.all(title, jobs)


def count_calls(command, build):
    """system call -> how often one thread made it at most"""
    with tempfile.NamedTemporaryFile(prefix="lash-fault-") as log:
        wrong, out, err = run(["strace", "-f", "-qq", "-o", log.name] + command, build)
        counts = {}
        for line in open(log.name, encoding="utf-8", errors="replace"):
            found = re.match(r"(\d+) +(\w+)\(", line)
            if found:
                counts[found.groups()] = counts.get(found.groups(), 0) + 1
    most = {}
    for (_, call), count in counts.items():
        most[call] = max(most.get(call, 0), count)
    return most, wrong, out + err


def may_trace():
    if not shutil.which("strace"):
        return "strace is not installed"
    done = subprocess.run(["strace", "-f", "-o", os.devnull, "-e", "inject=getpid:error=EPERM", "true"],
                          capture_output=True, text=True)
    return None if done.returncode == 0 else "strace cannot trace here: " + done.stderr.strip()


def calls(runner, build, programs):
    lash = os.path.join(build, "lash")
    why = may_trace()
    if why:
        print("skip  system calls: " + why)
        runner.skipped.append("system calls")
        return
    for name, args in programs:
        title = "system calls of " + name
        if runner.args.only not in title:
            continue
        command = [lash] + args
        counts, wrong, text = count_calls(command, build)
        if not runner.sound(title, wrong, text):
            continue
        jobs = []
        for call, error, plus in FAULTS:
            for n in steps(1, counts.get(call, 0), 6, 1.0 if runner.args.every else 1.4):
                if {("*", call, n), (name, call, "*")} & HOPELESS:
                    continue
                inject = "inject=%s:error=%s:when=%d%s" % (call, error, n, plus)
                jobs.append((inject, ["strace", "-f", "-qq", "-o", os.devnull, "-e", inject] + command, build, {}))
        runner.all(title, jobs)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--alloc")
    parser.add_argument("--calls")
    parser.add_argument("--only", default="")
    parser.add_argument("--every", action="store_true", help="no steps: each allocation, each call")
    parser.add_argument("-v", action="store_true")
    args = parser.parse_args()
    server = subprocess.Popen([sys.executable, os.path.join(TESTS, "program", "httpd.py")], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    begin = time.monotonic()
    try:
        address = "http://127.0.0.1:" + server.stdout.readline().strip()
        programs = []
        for file in sorted(os.listdir(HERE)):
            if file.endswith(".lua"):
                extra = {"http.lua": [address], "streams.lua": [address], "files.lua": ["DIR"]}.get(file, [])
                programs.append((file[:-4], [os.path.join(HERE, file)] + extra))
        runner = Runner(args)
        if args.alloc:
            allocations(runner, os.path.abspath(args.alloc), programs)
        if args.calls:
            calls(runner, os.path.abspath(args.calls), programs)
    finally:
        server.stdin.close()
        server.wait()
    for name in runner.failures:
        print("failed: " + name)
    print("%.1f s" % (time.monotonic() - begin))
    print("%d passed, %d failed%s" % (runner.passed, len(runner.failures),
                                      ", %d skipped" % len(runner.skipped) if runner.skipped else ""))
    return 1 if runner.failures or not (runner.passed or runner.skipped) else 0


if __name__ == "__main__":
    sys.exit(main())
