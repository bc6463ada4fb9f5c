"""Runs commands and Python functions as processes, each in a session and a directory of its own, several at once.

One thread does it all: it forks, and reads what they write. A function runs in a copy of this process, which has
loaded already what the tests need of Python: to start Python anew for each costs more than most tests.
"""
import ctypes
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

PR_SET_CHILD_SUBREAPER = 36


class Job:
    """A command (list) or a function of Python that gives its exit status; env(directory) is its environment.

    serve(socket): a server of its own, in a copy of this process; it starts when somebody connects to the port that
    the environment has as LASH_TEST_SERVER, and ends with the job."""

    def __init__(self, name, work, env, limit, serve=None):
        self.name, self.work, self.env, self.limit, self.serve = name, work, env, limit, serve
        self.pid = self.pipe = self.status = self.socket = self.server = None
        self.seconds = self.cpu = 0     # on the clock; of the processor, with all that it started
        self.late, self.output = False, b""

    def start(self):
        self.dir = tempfile.mkdtemp(prefix="lash-test-")
        self.began = time.monotonic()
        env, (self.pipe, out) = self.env(self.dir), os.pipe()
        if self.serve:
            self.socket = socket.create_server(("127.0.0.1", 0), backlog=10000)
            env["LASH_TEST_SERVER"] = "%d" % self.socket.getsockname()[1]
        if callable(self.work):
            self.pid = fork(self.work, self.dir, env, out)
        else:
            child = subprocess.Popen(self.work, env=env, cwd=self.dir, stdin=subprocess.DEVNULL, stdout=out,
                                     stderr=out, start_new_session=True)
            self.pid, child.returncode = child.pid, 0   # we wait for it, not Popen
        os.close(out)
        os.set_blocking(self.pipe, False)

    def start_server(self):
        null = os.open(os.devnull, os.O_WRONLY)
        self.server = fork(self.serve, self.dir, self.env(self.dir), null, self.socket)
        os.close(null)

    def kill(self):
        for pid in (self.pid, self.server):
            try:
                if pid:
                    os.killpg(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass

    def ended(self, status):
        self.status, self.seconds = os.waitstatus_to_exitcode(status), time.monotonic() - self.began
        if self.late:
            self.status = "no end within %d s" % self.limit
        self.kill()     # what it left behind


def fork(work, directory, env, out, listening=None):
    """A copy of this process that does the work, as a program of its own would: work(), or work(the socket)."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid > 0:
        return pid
    status = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for sig in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sig, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDONLY)
        for fd, target in ((null, 0), (out, 1), (out, 2)):
            os.dup2(fd, target)
        if listening:
            listening = socket.socket(fileno=os.dup2(listening.fileno(), 3, False))
        os.closerange(4 if listening else 3, 1024)
        os.chdir(directory)
        os.environ.clear()
        os.environ.update(env)
        tempfile.tempdir = None
        status = (work(listening) if listening else work()) or 0
    except SystemExit as leave:
        status = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
        if status == 1 and leave.code != 1:
            print(leave.code, file=sys.stderr)
    except BaseException:   # pylint: disable=broad-except
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def end_children(ended):
    """Kills our children, when there should be none but those that are ended already; their command lines."""
    lines = []
    try:
        with open("/proc/self/task/%d/children" % os.getpid(), encoding="ascii") as file:
            pids = {int(pid) for pid in file.read().split()} - set(ended)
        for pid in pids:
            with open("/proc/%d/cmdline" % pid, encoding="utf-8", errors="replace") as file:
                line = file.read().replace("\0", " ").strip()
            if line:    # a zombie has none
                lines.append(line)
                os.kill(pid, signal.SIGKILL)
    except OSError:     # a kernel without such a list
        pass
    return lines


class Pool:
    """Keeps `count` jobs running; run() gives them as they end."""

    def __init__(self, count):
        self.count, self.running = count, {}
        self.left = []      # what jobs have left behind in sessions of their own: command lines
        self.sessions, self.others = {}, 0      # session -> job; processor time of those in none of these
        self.selector = selectors.DefaultSelector()
        # What a job leaves behind becomes our child: its time counts, and it is seen to end.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.woken, wake = os.pipe()
        for fd in (self.woken, wake):
            os.set_blocking(fd, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self.selector.register(self.woken, selectors.EVENT_READ)

    def run(self, jobs):
        jobs = list(reversed(jobs))
        try:
            while jobs or self.running:
                while jobs and len(self.running) < self.count:
                    job = jobs.pop()
                    job.start()
                    self.running[job.pid] = self.sessions[job.pid] = job
                    self.selector.register(job.pipe, selectors.EVENT_READ, job)
                    if job.socket:
                        self.selector.register(job.socket, selectors.EVENT_READ, job)
                self.wait()
                for job in [j for j in self.running.values() if j.status is not None and j.pipe is None]:
                    del self.running[job.pid]
                    self.forget_socket(job)
                    shutil.rmtree(job.dir, ignore_errors=True)
                    yield job
        finally:
            for job in self.running.values():
                job.kill()
                shutil.rmtree(job.dir, ignore_errors=True)
            self.left = end_children(self.sessions)

    def wait(self):
        """Until something happens: output, an end, or the time of a job is over."""
        now = time.monotonic()
        due = min(job.began + job.limit for job in self.running.values())
        for key, _ in self.selector.select(max(0, due - now) + 0.01):
            if key.data is None:
                self.drain()
            elif key.fileobj is key.data.socket:
                key.data.start_server()
                self.sessions[key.data.server] = key.data
                self.forget_socket(key.data)
            else:
                self.read(key.data)
        self.reap()
        for job in self.running.values():
            if time.monotonic() > job.began + job.limit and not job.late:
                job.late = True
                job.kill()
                if job.status is not None:  # it has ended, and who holds its pipe has left its session
                    job.status = "its output is held open beyond %d s" % job.limit
                    self.close(job)

    def drain(self):
        try:
            while os.read(self.woken, 4096):
                pass
        except BlockingIOError:
            pass

    def read(self, job):
        try:
            data = os.read(job.pipe, 65536)
        except BlockingIOError:
            return
        job.output += data
        if not data:
            self.close(job)

    def forget_socket(self, job):
        if job.socket:
            self.selector.unregister(job.socket)
            job.socket.close()
            job.socket = None

    def close(self, job):
        self.selector.unregister(job.pipe)
        os.close(job.pipe)
        job.pipe = None

    def reap(self):
        """Waits for all that have ended: jobs, and what jobs have left."""
        while True:
            try:
                gone = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if gone is None:
                return
            session = os.getsid(gone.si_pid)
            pid, status, usage = os.wait4(gone.si_pid, 0)
            cpu = usage.ru_utime + usage.ru_stime
            if session in self.sessions:
                self.sessions[session].cpu += cpu
            else:
                self.others += cpu
            if pid in self.running:
                self.running[pid].ended(status)
