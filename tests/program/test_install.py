"""What surrounds the program: make install, scripts/setup, the check of a change."""
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ["LASH_SO"]
SKIPPED = 77


def run(*command, env=None, cwd=ROOT, status=0, clean=False):
    base = {} if clean else {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100,
                          env=dict(base, **(env or {})))
    assert done.returncode == status, "%s: status %s\n%s\n%s" % (command, done.returncode, done.stdout, done.stderr)
    return done


def make(*args):
    # -o all: what is built is under test; nothing is made anew here
    return run("make", "--no-print-directory", "-o", "all", "B=" + BUILD, *args).stdout


def sanitized():
    with open(os.path.join(BUILD, "flags"), encoding="utf-8") as file:
        return "-fsanitize" in file.read()


def tree(folder):
    return sorted(os.path.relpath(os.path.join(path, name), folder)
                  for path, _, names in os.walk(folder) for name in names)


def fake(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\n" + text)
    os.chmod(path, 0o755)


def test_install():
    """make install and uninstall"""
    with tempfile.TemporaryDirectory() as destination:
        where = ["DESTDIR=" + destination, "PREFIX=/opt/lash"]
        make("install", *where)
        prefix = os.path.join(destination, "opt", "lash")
        installed = tree(prefix)
        for path in ("bin/lash", "lib/lua/5.4/lash.so", "share/doc/lash/LICENSE",
                     "share/lash/examples/arithmetic.lua"):
            assert path in installed, "%s is not among %s" % (path, installed)
        assert tree(destination) == [os.path.join("opt/lash", path) for path in installed], "something is elsewhere"
        assert stat.S_IMODE(os.stat(prefix + "/bin/lash").st_mode) == 0o755
        wrap = shlex.split(os.environ.get("LASH_WRAP", ""))
        example = prefix + "/share/lash/examples/arithmetic.lua"
        output = run(*wrap, prefix + "/bin/lash", example, cwd=destination).stdout
        assert "-> ok 42" in output, output
        make("uninstall", *where)
        assert tree(destination) == [], "left behind: %s" % tree(destination)


def test_install_paths():
    """make install: BINDIR and LUA_CMODDIR"""
    with tempfile.TemporaryDirectory() as destination:
        where = ["DESTDIR=" + destination, "PREFIX=/p", "BINDIR=/b", "LUA_CMODDIR=/l"]
        make("install", *where)
        assert {"b/lash", "l/lash.so"} <= set(tree(destination)), tree(destination)
        make("uninstall", *where)
        assert tree(destination) == [], tree(destination)


def test_stock_lua():
    """the installed lash.so in a stock lua5.4"""
    if sanitized() or not shutil.which("lua5.4"):
        print("skipped: a stock lua5.4 cannot load a module built with a sanitizer, or is not here")
        sys.exit(SKIPPED)
    with tempfile.TemporaryDirectory() as destination:
        make("install", "DESTDIR=" + destination, "PREFIX=/usr")
        code = """
            local lash = require "lash"
            local add = lash.tool { name = "add", params = { a = "number", b = "number" },
                sync = function(args) return args.a + args.b end }
            local agent = lash.agent { name = "calculator", model = "demo", tools = { add } }
            print(agent:run_sync("Add 17 and 25"))
        """
        output = run("lua5.4", "-e", code, cwd=destination,
                     env={"LUA_CPATH": destination + "/usr/lib/lua/5.4/?.so", "LUA_PATH": ""}).stdout
        assert "42" in output, output


def test_missing_packages():
    """the build says which packages it lacks"""
    error = run("/bin/sh", "scripts/missing", "lua5.4", "libuv", "libcurl", "readline", env={"PATH": "/nonexistent"},
                status=1, clean=True).stderr
    for word in "gcc pkg-config liblua5.4-dev libuv1-dev libcurl4-openssl-dev libreadline-dev scripts/setup".split():
        assert word in error, error
    assert error.count("\n") == 1, error


def setup(folder, *args, status=0, apt="", packages=""):
    fake(folder, "dpkg-query", 'for p; do case "$p" in -*|*{*) ;; %s) ;; *) echo "installed $p" ;; esac; done\n'
         % (packages or "none"))
    fake(folder, "apt-get", 'echo "$*" >> "%s/log"\necho "front $DEBIAN_FRONTEND" >> "%s/log"\n%s' % (
        folder, folder, apt))
    fake(folder, "sudo", 'exec "$@"\n')
    done = run("/bin/sh", os.path.join(ROOT, "scripts", "setup"), *args, cwd=folder, status=status, clean=True,
               env={"PATH": folder + ":/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": folder})
    log = ""
    if os.path.exists(os.path.join(folder, "log")):
        with open(os.path.join(folder, "log"), encoding="utf-8") as file:
            log = file.read()
    return done, log


def test_setup_with_all_there():
    """scripts/setup: does nothing, and says nothing, when all is there"""
    with tempfile.TemporaryDirectory() as folder:
        for args in ((), ("check",)):
            done, log = setup(folder, *args)
            assert done.stdout == done.stderr == log == "", (done, log)


def test_setup_installs():
    """scripts/setup: installs what is missing and nothing else, without a question"""
    with tempfile.TemporaryDirectory() as folder:
        done, log = setup(folder, packages="lua5.4|python3")
        assert re.match(r"\S+: installing lua5.4 python3\n\S+: done\n$", done.stdout), done.stdout
        lines = log.splitlines()
        assert len(lines) == 2 and lines[1] == "front noninteractive", log
        assert re.search(r"install .*-y --no-install-recommends .* lua5.4 python3$", lines[0]), log


def test_setup_along():
    """scripts/setup: what is only nice to have comes along, and is no reason to ask apt by itself"""
    with tempfile.TemporaryDirectory() as folder:
        _, log = setup(folder, packages="locales")
        assert log == "", log
        _, log = setup(folder, packages="gcc|locales")
        assert re.search(r" gcc locales$", log.splitlines()[0]), log


def test_setup_updates():
    """scripts/setup: fetches the package lists when the first attempt fails"""
    with tempfile.TemporaryDirectory() as folder:
        apt = 'case "$*" in *update*) touch "%s/updated" ;; *) test -e "%s/updated" ;; esac\n' % (folder, folder)
        done, log = setup(folder, "check", apt=apt, packages="valgrind")
        verbs = [re.search(r"\b(install|update)\b", line).group() for line in log.splitlines()[::2]]
        assert verbs == ["install", "update", "install"], log
        assert "done" in done.stdout, done.stdout


def test_setup_fails():
    """scripts/setup: shows the words of apt when it cannot install"""
    with tempfile.TemporaryDirectory() as folder:
        done, _ = setup(folder, apt="echo no such mirror; exit 100\n", packages="gcc", status=1)
        assert "no such mirror" in done.stderr and "apt-get update failed" in done.stderr, done.stderr


def ci(folder, make_text):
    os.makedirs(os.path.join(folder, ".ci"))
    shutil.copy(os.path.join(ROOT, ".ci", "run"), os.path.join(folder, ".ci", "run"))
    fake(folder, "make", make_text)
    done = subprocess.run([os.path.join(folder, ".ci", "run")], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60, env={"PATH": folder + ":/usr/bin:/bin"})
    return done.returncode, done.stdout.splitlines()[-1]


def test_ci_adds_up():
    """.ci/run: the last line counts all parts, and only all of them passing is success"""
    cases = [
        ('case $1 in test) echo "30 passed, 0 failed, 2 skipped" ;; *) echo "4 passed, 0 failed" ;; esac', 0,
         "38 passed, 0 failed"),
        ('case $1 in asan) echo "4 passed, 3 failed"; exit 2 ;; *) echo "4 passed, 0 failed" ;; esac', 1,
         "12 passed, 3 failed"),
        ('case $1 in lint) echo "no compiler" >&2; exit 2 ;; *) echo "4 passed, 0 failed" ;; esac', 1,
         "8 passed, 1 failed"),
        ('case $1 in test) ;; *) echo "4 passed, 0 failed" ;; esac', 1, "8 passed, 1 failed"),
        ('echo "4 passed, 0 failed"; test $1 != lint', 1, "12 passed, 1 failed"),
    ]
    for text, status, line in cases:
        with tempfile.TemporaryDirectory() as folder:
            found = ci(folder, text + "\n")
            assert found == (status, line), (text, found)
