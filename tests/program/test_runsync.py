"""S1, S2: the library inside a stock lua5.4, through build/lash.so: run_sync drives a loop and leaves no
handle, thread or descriptor behind."""
import os
import re
import shlex
import subprocess
import sys

from cli import THOROUGH

TESTS = os.environ["LASH_TESTS"]
BUILD = os.environ["LASH_SO"]

HELPERS = r"""
local fake = require "fake"
require("lash.core.engine").patience(20) -- no worker is given up, however late it comes
-- The number of threads, once it is 1 or a second of the processor has gone by: the kernel counts a thread that
-- has been joined for a moment longer (pthread_join waits for its memory to be let go, not for its entry).
local function threads()
    local bound = os.clock() + 1
    repeat
        local file <close> = io.open("/proc/self/status")
        local n = tonumber(file:read("a"):match("Threads:%s*(%d+)"))
        if n == 1 or os.clock() > bound then return n end
    until false
end
local function descriptors()
    local n = 0
    for fd = 0, 255 do
        local f = io.open("/proc/self/fdinfo/" .. fd)
        if f then f:close() n = n + 1 end
    end
    return n
end
"""


def sanitizer():
    """The library that a program built without the sanitizer has to be given: None when lash.so has none, ""
    when it has one that cannot be given."""
    with open(os.path.join(BUILD, "flags"), encoding="utf-8") as file:
        if "-fsanitize=" not in file.read():
            return None
    loaded = subprocess.run(["ldd", os.path.join(BUILD, "lash.so")], capture_output=True, text=True).stdout
    # Not the thread sanitizer: it does not see how a Lua that was built without it raises errors.
    found = re.search(r"lib(?:asan|clang_rt)\S* => (\S+)", loaded)
    return found.group(1) if found else ""


def expect(code, *parts):
    """Runs the chunk in a stock lua5.4, which must print the parts."""
    env = dict(os.environ, LUA_CPATH=BUILD + "/?.so;;", LUA_PATH=TESTS + "/lua/?.lua;;")
    library = sanitizer()
    if library == "":
        print("the sanitizer is inside lash.so: a stock lua5.4 cannot load it")
        return 77
    if library:
        env["LD_PRELOAD"] = library
    command = shlex.split(os.environ.get("LASH_WRAP", "")) + ["lua5.4", "-"]
    limit = 25 * int(os.environ.get("TEST_SLOWER", "1"))
    done = subprocess.run(command, input=code, env=env, capture_output=True, text=True, timeout=limit)
    status, output = done.returncode, done.stdout + done.stderr
    if status != 0 or any(part not in output for part in parts):
        print("status %d\n%s\nexpected %r" % (status, output, parts))
        return 1
    return 0


def test_thousand_runs():
    """S1 hundreds of runs leave no handle, thread or descriptor"""
    return expect("local lash = require 'lash'" + HELPERS + r"""
local double = lash.tool { name = "double", params = { n = "integer" }, async = function(args) lash.sleep(0) return 2 * args.n end }
local triple = lash.tool { name = "triple", params = { n = "integer" }, sync = function(args) return 3 * args.n end }
fake.models["fake/m"] = function(conv)
    return #conv.entries == 1 and fake.calls { { "double", { n = 2 } }, { "triple", { n = 2 } } } or
        fake.text(fake.outcomes(conv)[1].output .. fake.outcomes(conv)[2].output)
end
local agent = lash.agent { name = "a", model = "fake/m", tools = { double, triple } }
assert(agent:run_sync("go").text == "46")
local d0 = descriptors()
assert(threads() == 1)
for i = 1, """ + ("1000" if THOROUGH else "300") + r""" do
    assert(tostring(agent:run_sync("go")) == "46")
    fake.requests = {}
    if i % 100 == 0 then
        local left = threads()
        assert(left == 1, "threads: " .. left)
        assert(descriptors() == d0, "descriptors: " .. descriptors() .. " were " .. d0)
    end
end
print("all is gone")
""", "all is gone")


def test_errors():
    """S1 a run that fails, is cut by its time or whose tool fails leaves nothing either"""
    return expect("local lash = require 'lash'" + HELPERS + r"""
local slow = lash.tool { name = "slow", sync = function() while true do end end }
local wait = lash.tool { name = "wait", async = function() lash.sleep(60) end }
local bad = lash.tool { name = "bad", sync = function() error "bad" end }
local function agent(step, limits)
    fake.models["fake/e"] = step
    return lash.agent { name = "a", model = "fake/e", tools = { slow, wait, bad }, limits = limits }
end
local ok, err = pcall(function() return agent(function() return nil, { message = "down", exit = 69 } end):run_sync("go") end)
assert(not ok and tostring(err) == "down", err)
local result = agent(function() return fake.calls { { "slow" }, { "wait" } } end, { time = 0.1 }):run_sync("go")
assert(result.reason == "time", result.reason)
result = agent(function(conv) return #conv.entries == 1 and fake.calls { { "bad" } } or "done" end):run_sync("go")
assert(result.text == "done")
ok, err = pcall(function() return agent(function() error("in the model", 0) end):run_sync("go") end)
assert(not ok and tostring(err):find("in the model"), err)
ok, err = pcall(agent(print).run_sync, agent(print), 5)
assert(not ok and tostring(err):find("must be a string"), err)
assert(threads() == 1)
print("all is gone")
""", "all is gone")


def test_conversation():
    """S1 send_sync remembers; coroutines of the host may call it"""
    return expect("local lash = require 'lash'" + HELPERS + r"""
local agent = fake.agent({}, { "one", "two", "three" })
local conv = agent:conversation()
assert(conv:send_sync("a").text == "one")
local co = coroutine.wrap(function()
    local text = conv:send_sync("b").text
    coroutine.yield(text)
    return conv:send_sync("c").text
end)
assert(co() == "two" and co() == "three" and #conv.entries == 6)
assert(threads() == 1)
print("all is gone")
""", "all is gone")


def test_inside_a_task():
    """S2 inside a run run_sync fails at once, naming run; outside of one, what waits says so"""
    return expect("local lash = require 'lash'" + HELPERS + r"""
local inner = fake.agent({ name = "inner" }, { "never" })
local tool = lash.tool { name = "nest", async = function() return inner:run_sync("go").text end }
local agent = fake.agent({ tools = { tool } }, { fake.calls { { "nest" } }, function(conv)
    return fake.text(fake.outcomes(conv)[1].output)
end })
local text = agent:run_sync("go").text
assert(text:find("call run"), text)
local ok, err = pcall(lash.sleep, 0)
assert(not ok and tostring(err):find("cannot wait outside of a task"), err)
ok, err = pcall(inner.run, inner, "go")
assert(not ok and tostring(err):find("run_sync", 1, true), err)
ok, err = pcall(inner.stream, inner, "go")
assert(not ok and tostring(err):find("run_sync", 1, true), err)
print("told")
""", "told")


def test_close():
    """S1 a state that closes, also after a stray task, closes cleanly"""
    return expect("local lash = require 'lash'" + HELPERS + r"""
local agent = fake.agent({}, { "one" })
lash.spawn(function() lash.sleep(60) end) -- nobody drives it but the run
agent:run_sync("go")
lash.spawn(function() lash.sleep(60) end)
print("closing")
""", "closing")


def test_two_states():
    """the module may be required again, and errors of the host pass through"""
    return expect(r"""
local lash = require "lash"
assert(require "lash" == lash and require "lash.json".encode { a = 1 } == '{"a":1}')
assert(lash.json.decode("[9007199254740993]")[1] == 9007199254740993)
local ok, err = pcall(lash.tool, { name = "x" })
assert(not ok and err:find("no function"))
print("same")
""", "same")
