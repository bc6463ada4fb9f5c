-- lash.exec, in tasks on main and in workers.
local t = require "t"
local engine = require "lash.core.engine"
local core = require "lash.core.exec"
local lash = require "lash"
local resident = require "support.resident"

local case, equal, ok, has, fails = t.case, t.equal, t.ok, t.has, t.fails
local exec = lash.exec

local SOON = 0.5 * math.min(t.slower, 6) -- a shell has begun by then, even on a busy machine

local function new_path()
    local path = t.path()
    t.remove_later(path)
    return path
end

local function new_fifo()
    local path = new_path()
    equal(exec { "mkfifo", path }.code, 0)
    return path
end

-- True while the process runs; a zombie does not.
local function alive(pid)
    local file = io.open(("/proc/%d/stat"):format(pid))
    local text = file and file:read("a")
    if file then
        file:close()
    end
    return text and not text:find("%) [ZX]") or false
end

-- Fails unless all are gone within `seconds`.
local function gone(pids, seconds)
    local start = lash.now()
    for pid in pids:gmatch("%d+") do
        while alive(pid) do
            if lash.now() - start > (seconds or 2) * t.slower then
                error(("process %s lives"):format(pid), 2)
            end
            lash.sleep(0.002)
        end
    end
end

local function own_pid()
    local file <close> = io.open("/proc/self/stat")
    return file:read("n")
end

local function children()
    local n = 0
    local list = io.popen(("ls /proc/%d/task"):format(own_pid()))
    local tasks = list:read("a")
    list:close()
    for task in tasks:gmatch("%d+") do
        local file = io.open(("/proc/self/task/%s/children"):format(task))
        for _ in (file and file:read("a") or ""):gmatch("%d+") do
            n = n + 1
        end
        if file then
            file:close()
        end
    end
    return n
end

local function descriptors()
    collectgarbage()
    -- it looks when it is told to: we have closed its ends of the pipes by then
    local p <close> = exec.start { shell = ("read x; ls /proc/%d/fd"):format(own_pid()) }
    p:write("\n")
    return select(2, p:read(10000):gsub("\n", ""))
end

local function offload(fn, ...)
    return engine.offload(engine.ship("a test", fn), ...)
end

case("arguments arrive as they are, outputs come back", function()
    local res = exec { "printf", "%s|", "a b", "", "$HOME", "'\"", "*", 12, 1.5, "\xff\n" }
    equal(res, { code = 0, ok = true, stdout = "a b||$HOME|'\"|*|12|1.5|\xff\n|", stderr = "", truncated = false })
    res = exec { shell = "echo out; echo err >&2; echo $0" }
    equal({ res.stdout, res.stderr }, { "out\n/bin/sh\n", "err\n" })
    equal(exec { shell = "echo a; echo b >&2; echo c", stderr = "stdout" }.stdout, "a\nb\nc\n")
    equal(exec { shell = "printf 'a\\0b'" }.stdout, "a\0b")
end)

case("a status other than 0 is a result, and so is a signal", function()
    for _, code in ipairs { 0, 1, 127, 255 } do
        local res = exec { shell = "exit " .. code }
        equal({ res.code, res.ok, res.signal }, { code, code == 0 })
    end
    for name, number in pairs { SIGTERM = 15, SIGKILL = 9, SIGSEGV = 11, SIGPIPE = 13, SIGHUP = 1 } do
        local res = exec { shell = ("kill -%d $$"):format(number) }
        equal({ res.code, res.ok, res.signal }, { 128 + number, false, name })
    end
end)

case("what cannot start is nil and an error that names the remedy", function()
    fails("ENOENT", "cannot run 'no-such': there is no such command in PATH (/none:/bin)",
        exec { "no-such", env = { PATH = "/none:/bin" } })
    fails("ENOENT", "each argument is an element of its own", exec { "ls -l" })
    fails("ENOENT", "cannot run '/no/such': there is no such file", exec { "/no/such" })
    fails("ENOENT", "there is no such file", exec { "" })
    fails("ENOENT", "PATH (/usr/local/bin:/usr/bin:/bin)", exec { "no-such", clear_env = true })
    fails("EACCES", "permission denied", exec { t.file("") })
    fails("EACCES", "permission denied", exec { "/tmp" })
    fails("cwd", "cwd '/no/dir': there is no such directory", exec { "ls", cwd = "/no/dir" })
    fails("cwd", "is not a directory", exec { "ls", cwd = t.file("") })
    local script = t.file("#!/no/interpreter\n")
    exec { "chmod", "+x", script }
    fails("ENOENT", "the interpreter that its first line names", exec { script })
    fails("ENOENT", "cannot run 'a?b", exec { "a\nb" })
    equal(children(), 0)
end)

case("what the system refuses to start", function()
    if t.slower >= 20 then
        t.skip("valgrind ends a process whose execve fails so late")
    end
    fails("E2BIG", "too long: pass the text on stdin", exec { "echo", ("x"):rep(4 << 20) })
    local script = t.file("echo hi\n")
    exec { "chmod", "+x", script }
    fails("ENOEXEC", "a script needs a first line such as #!/bin/sh", exec { script })
    equal(children(), 0)
end)

case("misuse raises where it was called", function()
    for part, options in pairs {
        ["the command is missing"] = {},
        ["unknown option 'timeuot' (did you mean 'timeout'?)"] = { "ls", timeuot = 1 },
        ["argument 1 is nil"] = { "ls", nil, "x" },
        ["argument 1 must be a string or a number, not a table"] = { "ls", {} },
        ["argument 2 contains a zero byte"] = { "ls", "x", "a\0b" },
        ["the command must be"] = { true },
        ["without an element [0]"] = { [0] = "x", "ls" },
        ["without an element [1.5]"] = { [1.5] = "x", "ls" },
        ["either a command or shell"] = { "ls", shell = "ls" },
        ["shell must be"] = { shell = true },
        ["env must be a table"] = { "ls", env = "A=1" },
        ["found the name A=B"] = { "ls", env = { ["A=B"] = 1 } },
        ["found the name 1"] = { "ls", env = { "A=B" } },
        ["env.A must be a string or a number, not a boolean (false removes it)"] = { "ls", env = { A = true } },
        ["timeout must be a number of seconds above 0"] = { "ls", timeout = 0 },
        ["max_output must be"] = { "ls", max_output = "1T" },
        ["cwd must be the path of a directory, not an empty text"] = { "ls", cwd = "" },
        ["cwd must be the path of a directory, not a number"] = { "ls", cwd = 1 },
        ["stdin must be a string, not a table"] = { "ls", stdin = {} },
        ['stderr can only be "stdout"'] = { "ls", stderr = "x" },
        ["detach must be true or false"] = { "ls", detach = 1 },
    } do
        t.raises("lash.exec: ", exec, options)
        t.raises(part, exec, options)
        t.raises("lash.exec.start: ", exec.start, options)
    end
    t.raises('{ shell = "ls -l" }, got a string', exec, "ls -l")
    has(t.raises("lash.exec", function() exec {} end), "lua/exec.lua:")
    has(t.raises("lash.exec", function() local p = exec.start {} return p end), "lua/exec.lua:")
    t.raises("cannot run a command here", table.sort, { 2, 1 }, function() exec { "true" } end)
end)

case("stdin: a text of any size, nothing by default, and a program that does not read it", function()
    local text = ("0123456789abcde\n"):rep(400000)
    local res = exec { "cat", stdin = text, max_output = "64M" }
    ok(res.stdout == text)
    equal(exec { "cat" }.stdout, "")
    equal(exec { "cat", stdin = "" }.stdout, "")
    equal(exec { "cat", stdin = 42 }.stdout, "42")
    equal(exec { "readlink", "/proc/self/fd/0" }.stdout, "/dev/null\n")
    equal(exec { "cat", "/dev/stdin", stdin = "by name" }.stdout, "by name")
    equal(exec { "true", stdin = text }.ok, true)
    equal(exec { "head", "-c", 5, stdin = text }.stdout, "01234")
    equal(exec { shell = "exec 0<&-; echo on", stdin = text }.stdout, "on\n")
end)

case("the directory and the environment", function()
    equal(exec { "pwd", cwd = "/usr/lib" }.stdout, "/usr/lib\n")
    equal(exec { "./exec.lua", cwd = "/" }, nil)
    equal(exec { shell = "echo $LANG.$MORE", env = { LANG = "x", MORE = 7 } }.stdout, "x.7\n")
    equal(exec { shell = "echo ${HOME-none}", env = { HOME = false } }.stdout, "none\n")
    equal(exec { "env", clear_env = true, env = { B = "2", A = "1 1" } }.stdout, "A=1 1\nB=2\n")
    ok(#exec { "env" }.stdout > 20)
end)

case("keys of providers are not in a child's environment, unless given", function()
    local script = [[
        local lash = require "lash"
        local res = lash.exec { "env", env = { GEMINI_API_KEY = "given" } }
        for _, name in ipairs { "OPENAI_API_KEY", "GEMINI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN",
            "MISTRAL_API_KEY", "OPENAI_BASE_URL" } do
            assert(os.getenv(name))
            print(name, res.stdout:match(name .. "=(%w+)"))
        end
        local p = lash.exec.start { shell = "cat /proc/$$/environ" }
        print("found", p:wait().stdout:find("secret", 1, true))
    ]]
    local path = t.file(script)
    local env = { OPENAI_BASE_URL = "http" }
    for _, name in ipairs { "OPENAI_API_KEY", "GEMINI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN",
        "MISTRAL_API_KEY" } do
        env[name] = "secret"
    end
    local res = exec { os.getenv "LASH", path, env = env }
    equal(res.stderr, "")
    equal(res.stdout, "OPENAI_API_KEY\tnil\nGEMINI_API_KEY\tgiven\nANTHROPIC_API_KEY\tnil\n" ..
        "ANTHROPIC_AUTH_TOKEN\tnil\nMISTRAL_API_KEY\tnil\nOPENAI_BASE_URL\thttp\nfound\tnil\n")
end)

case("D17 of much output head and tail are kept, and the size is told", function()
    local res = exec { shell = "seq 1 1000000", max_output = "64K" }
    equal({ res.code, res.truncated }, { 0, true })
    ok(#res.stdout <= 65536 and #res.stdout > 65000)
    equal({ res.stdout:sub(1, 6), res.stdout:sub(-8) }, { "1\n2\n3\n", "1000000\n" })
    has(res.stdout, "\n[... 6888896 bytes in all, the middle is left out ...]\n")
    res = exec { shell = "head -c 10000000 /dev/zero | tr '\\0' a; head -c 3000000 /dev/zero | tr '\\0' b >&2" }
    ok(#res.stdout <= 1 << 20 and #res.stderr <= 1 << 20 and res.truncated)
    has(res.stdout, "10000000 bytes in all")
    has(res.stderr, "3000000 bytes in all")
    for _, n in ipairs { 99, 100 } do
        equal(exec { "printf", ("%0" .. n .. "d"), "7", max_output = 100 }.truncated, false)
    end
    for max = 1, 400 do -- every place of the cut, with characters of three bytes
        local text = ("\u{20AC}"):rep(140)
        local cut = exec { "printf", "%s", text, max_output = max }
        ok(utf8.len(cut.stdout), max)
        has(cut.stdout, "[... 420 bytes in all")
        ok(#cut.stdout <= math.max(max, 70))
    end
end)

case("D17 bytes that are no text are cut too", function()
    for _, byte in ipairs { "200", "377", "302" } do
        local res = exec { shell = ("head -c 3000 /dev/zero | tr '\\0' '\\%s'"):format(byte), max_output = 1000 }
        equal(#res.stdout, 1000)
        has(res.stdout, "3000 bytes in all")
    end
end)

case("what a program writes does not stay in memory", function()
    exec { "echo" }
    collectgarbage()
    local before = resident()
    local res = exec { "head", "-c", 300000000, "/dev/zero" }
    has(res.stdout, "300000000 bytes in all")
    collectgarbage()
    ok(resident() - before < 30000 << 10, resident() - before)
end)

case("timeout: what came until then, and nothing is left", function()
    local pids = new_path()
    local script = "sleep 1000 & echo $$ $! > %s; echo out; echo err >&2; wait"
    local start = lash.now()
    local res, err = exec { shell = script:format(pids), timeout = SOON }
    ok(lash.now() - start < 10 * t.slower)
    equal(res, nil)
    equal({ err.code, err.stdout, err.stderr }, { "timeout", "out\n", "err\n" })
    has(tostring(err), ("was stopped after %g s"):format(SOON))
    for pid in lash.fs.read(pids):gmatch("%d+") do
        ok(not alive(pid))
    end
    equal(exec { "true", timeout = 60 }.ok, true)
end)

case("T4 a program that ignores SIGTERM is killed, one that obeys may say good-bye", function()
    local _, err = exec { shell = "trap '' TERM; echo deaf; while :; do sleep 1000; done", timeout = SOON }
    equal({ err.code, err.stdout }, { "timeout", "deaf\n" })
    _, err = exec { shell = "trap 'echo bye; exit' TERM; while :; do sleep 0.01; done", timeout = SOON }
    equal({ err.code, err.stdout }, { "timeout", "bye\n" })
    equal(children(), 0)
end)

-- A command that tells its own number and that of its child through a FIFO, and waits.
local function family(fifo, more)
    return ("%s sleep 1000 & echo $$ $! > %s; wait; sleep 1000"):format(more or "", fifo)
end

case("T4 cancel: the group is gone within 200 ms", function()
    for _, more in ipairs { "", "trap '' TERM;" } do
        local fifo = new_fifo()
        local task = lash.spawn(function() return exec { shell = family(fifo, more) } end)
        local pids = lash.fs.read(fifo)
        ok(alive(pids:match("%d+")))
        local start = lash.now()
        task:cancel()
        task:wait()
        ok(lash.now() - start < 1 * t.slower)
        local finished, err = task:result()
        equal({ finished, err.code }, { false, "cancelled" })
        gone(pids, 1)
    end
end)

case("T4 cancel: the end is seen to while the main loop is busy", function()
    local fifo = new_fifo()
    local task = lash.spawn(function() return exec { shell = family(fifo, "trap '' TERM;") } end)
    local pids = lash.fs.read(fifo)
    task:cancel()
    local start = engine.hrtime()
    repeat
        local left = false
        for pid in pids:gmatch("%d+") do
            left = left or alive(pid)
        end
        ok(engine.hrtime() - start < 2e9 * t.slower, "they live")
    until not left
    task:wait()
    while children() > 0 do
        lash.sleep(0.002)
    end
end)

case("T4 the deadline of a sync call blocked in a command; its worker is used again", function()
    local fifo = new_fifo()
    local code = engine.ship("a test", function(script)
        local res = require "lash".exec { shell = script }
        return res
    end)
    local task = lash.spawn(engine.offload, code, family(fifo, "trap '' TERM;"))
    local pids = lash.fs.read(fifo)
    task:deadline(0.01)
    task:wait()
    local finished, err = task:result()
    equal({ finished, err.code }, { false, "timeout" })
    gone(pids, 1)
    local done, res = offload(function() return require "lash".exec { shell = "echo again" } end)
    equal({ done, res.stdout }, { true, "again\n" })
end)

case("a program that leaves others with its pipes is over; they go with it", function()
    local pids = new_path()
    local start = lash.now()
    local res = exec { shell = ("(trap '' TERM; sleep 1000) & echo $! > %s; echo done"):format(pids) }
    ok(lash.now() - start < 5 * t.slower)
    equal({ res.code, res.stdout }, { 0, "done\n" })
    gone(lash.fs.read(pids), 0)
    res = exec { shell = ("sleep 1000 >/dev/null 2>&1 & echo $! > %s; echo done"):format(pids) }
    equal({ res.code, res.stdout }, { 0, "done\n" })
    gone(lash.fs.read(pids), 0)
end)

case("detach: what a program leaves in the background lives on, but not after a stop", function()
    local res = exec { shell = "sleep 1000 >/dev/null 2>&1 & echo $!", detach = true }
    local pid = res.stdout:match("%d+")
    ok(alive(pid))
    equal(exec { shell = "kill " .. pid }.ok, true)
    gone(pid)
    local _, err = exec { shell = "sleep 1000 & echo $!; wait", detach = true, timeout = SOON }
    gone(err.stdout, 0)
end)

-- Signal 32 belongs to the C library: the thread sanitizer has it ignored.
local PROBE = "ls /proc/self/fd | tr '\\n' ' '; grep -E 'Sig(Blk|Ign|Pnd)' /proc/self/status | " ..
    "sed s/0000000080000000/0000000000000000/; ulimit -n; " ..
    "test -t 0 -o -t 1 -o -t 2 && echo tty; (: < /dev/tty) 2>/dev/null && echo terminal; " ..
    "test $$ = $(cut -d' ' -f6 /proc/$$/stat) && echo leader"

case("what a child gets of us: three descriptors, default signals, the old limits, no terminal", function()
    local limit = io.popen("ulimit -n"):read("n")
    local file = assert(io.open(t.file("x")))
    lash.http.get("http://127.0.0.1:1/", { timeout = 1 }) -- raises our limit
    local fifo = new_fifo()
    local reader = lash.spawn(lash.fs.read, fifo)
    local want = "0 1 2 3 SigPnd:\t0000000000000000\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n" ..
        ("%d\nleader\n"):format(limit)
    equal(exec { shell = PROBE }.stdout, want)
    equal(exec { shell = PROBE, stdin = "x" }.stdout, want)
    equal(exec.start { shell = PROBE }:wait().stdout, want)
    local _, res = offload(function(probe) return require "lash".exec { shell = probe } end, PROBE)
    equal(res.stdout, want)
    exec { shell = "echo > " .. fifo }
    reader:wait()
    file:close()
end)

case("a hundred at once leave no zombie, no descriptor, no handle", function()
    local before = descriptors()
    local list = {}
    for i = 1, 100 do
        list[i] = i
    end
    local results = lash.map(list, function(i)
        return exec { "cat", stdin = tostring(i) }.stdout
    end, { raise = true })
    for i = 1, 100 do
        equal(results[i], tostring(i))
    end
    equal(children(), 0)
    equal(descriptors(), before)
end)

case("no descriptors left: an error, and nothing is lost by it", function()
    local path = t.file([[
        local lash = require "lash"
        local ok = assert(lash.exec { "echo", "first" })
        local files = {}
        for file in function() return (io.open("/dev/null")) end do
            files[#files + 1] = file
        end
        for n = 0, 9 do
            local res, err = lash.exec { "echo", "on", stdin = "x" }
            if res then
                assert(res.stdout == "on\n")
            else
                assert(err.code == "EMFILE", err)
                assert(tostring(err):find("ulimit %-n"), err)
            end
            print(n, res and res.stdout or err.code)
            files[#files]:close()
            files[#files] = nil
        end
        assert(lash.exec { "echo", "last" }.ok)
    ]])
    local res = exec { shell = ('ulimit -n 40; exec "$LASH" %s'):format(path) }
    equal(res.stderr, "")
    equal(res.code, 0)
    has(res.stdout, "0\tEMFILE\n1\tEMFILE")
    has(res.stdout, "9\ton\n")
end)

case("lines, one after the other, as they come", function()
    local fifo = new_fifo()
    local p <close> = exec.start { shell = ("echo one; echo; read x < %s; echo $x; printf last"):format(fifo) }
    local got = {}
    for line in p:lines() do
        got[#got + 1] = line
        if #got == 2 then -- it goes on only now
            equal(exec { shell = "echo three > " .. fifo }.code, 0)
        end
    end
    equal(got, { "one", "", "three", "last" })
    equal({ p:read(), p:read(10) }, {})
    local res = p:wait()
    equal({ res.code, res.stdout, res.stderr }, { 0, "", "" })
    ok(p:wait() == res)
    t.raises("belongs to process:wait()", p.read, p)
end)

case("a slow reader holds the process back, not memory", function()
    local mark = new_path()
    local p <close> = exec.start { shell = ("yes | head -c 20000000; echo > %s"):format(mark) }
    equal(p:read(4), "y\ny\n")
    lash.sleep(0.2)
    equal(io.open(mark), nil)
    local n = 4
    for text in function() return p:read() end do
        n = n + #text
    end
    equal(n, 20000000)
    equal(p:wait().code, 0)
    ok(io.open(mark)):close()
end)

case("a reader that is slower than the process's end gets all of it", function()
    local p <close> = exec.start { shell = "head -c 330000 /dev/zero" } -- more than waits for a reader, by a pipe
    lash.sleep(0.3)
    equal(#p:read(1000000), 330000)
    equal(p:read(), nil)
end)

case("read by number, lines of any length up to max_output", function()
    local p <close> = exec.start { shell = "printf 0123456789; head -c 600000 /dev/zero | tr '\\0' x; echo; echo z" }
    equal({ p:read(3), p:read(4) }, { "012", "3456" })
    local line = p:lines()
    equal(#line(), 600003)
    equal(p:read(100), "z\n")
    equal(p:read(1), nil)
    local long <close> = exec.start { shell = "printf abcdef; printf '0123456789\\n'", max_output = 8 }
    equal(long:read(1), "a")
    equal(t.raises("a line is longer than 8 bytes", long:lines()).code, "too_long")
    equal(long:read(15), "bcdef0123456789")
    for _, n in ipairs { 0, -1, 1.5, "x" } do
        t.raises("expected a number of bytes", p.read, p, n)
    end
end)

case("a conversation: write, read, close_stdin, wait", function()
    local p <close> = exec.start { "cat" }
    has(tostring(p), tostring(p.pid))
    for i = 1, 3 do
        equal(p:write(("line %d\n"):format(i)), true)
        equal(p:lines()(), "line " .. i)
    end
    local text = ("x"):rep(3000000)
    local writer = lash.spawn(function()
        local done = p:write(text)
        p:close_stdin()
        return done
    end)
    equal(#p:read(3000000), 3000000)
    writer:wait()
    equal({ writer:result() }, { true, true })
    equal(p:read(), nil)
    equal(select(2, p:write("more")).code, "EPIPE")
    equal(p:wait().code, 0)
    local given <close> = exec.start { "wc", "-c", stdin = text }
    equal(given:wait().stdout, "3000000\n")
    local none <close> = exec.start { "cat", stdin = false }
    equal(none:read(), nil)
    t.raises("with a colon", p.write, "x")
    t.raises("got a table", p.write, p, {})
end)

case("a process that reads no more: EPIPE", function()
    local p <close> = exec.start { shell = "exec 0<&-; echo closed; sleep 1000" }
    equal(p:lines()(), "closed")
    local done, err = p:write("x")
    equal({ done, err.code }, { nil, "EPIPE" })
    local q <close> = exec.start { shell = "read x; exit" }
    local big
    big, err = q:write(("x\n"):rep(1000000))
    equal({ big, err.code }, { nil, "EPIPE" })
end)

case("wait takes what nobody has read, and stderr", function()
    local p <close> = exec.start { shell = "echo one; echo two; echo err >&2; seq 1 100000; exit 3", max_output = "2K" }
    equal(p:lines()(), "one")
    local res = p:wait()
    equal({ res.code, res.ok, res.truncated, res.stderr }, { 3, false, true, "err\n" })
    equal({ res.stdout:sub(1, 8), res.stdout:sub(-7) }, { "two\n1\n2\n", "100000\n" })
    has(res.stdout, "[... 588899 bytes in all")
    local both <close> = exec.start { shell = "echo out; echo err >&2", stderr = "stdout" }
    equal({ both:read(100), both:wait().stderr }, { "out\nerr\n", "" })
end)

case("kill: a signal to all of it", function()
    local p <close> = exec.start { shell = "trap 'echo got; exit 7' INT; echo ready; while :; do sleep 0.01; done" }
    local line = p:lines()
    equal(line(), "ready")
    equal(p:kill("SIGINT"), true)
    equal({ line(), p:wait().code }, { "got", 7 })
    local done, err = p:kill()
    equal({ done, err.code }, { nil, "ESRCH" })
    for _, signal in ipairs { "KILL", 9, "SIGKILL" } do
        local q <close> = exec.start { "sleep", 1000 }
        equal(q:kill(signal), true)
        equal(q:wait().signal, "SIGKILL")
    end
    t.raises("there is no signal 'SIGX'", p.kill, p, "SIGX")
    t.raises("there is no signal '0'", p.kill, p, 0)
    t.raises("got a boolean", p.kill, p, true)
end)

case("timeout of a started process", function()
    local p <close> = exec.start { shell = "echo one; sleep 1000", timeout = SOON }
    equal(p:read(4), "one\n")
    local text, err = p:read()
    equal({ text, err.code }, { nil, "timeout" })
    equal(t.raises("its time was up", p:lines()).code, "timeout")
    local res
    res, err = p:wait()
    equal({ res, err.code, err.stdout }, { nil, "timeout", "" })
end)

case("T4 a started process ends with its block, its task, or its last reference", function()
    local pids
    do
        local p <close> = exec.start { shell = "trap '' TERM; sleep 1000 & echo $$ $!; wait; sleep 1000" }
        pids = p:lines()()
    end
    gone(pids, 0)
    local task = lash.spawn(function()
        local p = exec.start { shell = "sleep 1000 & echo $$ $!; wait" }
        return p:lines()()
    end)
    task:wait()
    pids = select(2, task:result())
    gone(pids)
    local fifo = new_fifo()
    task = lash.spawn(function()
        local p = exec.start { shell = family(fifo) }
        p:read()
    end)
    pids = lash.fs.read(fifo)
    task:cancel()
    task:wait()
    gone(pids)
    do
        local p = exec.start { shell = "sleep 1000 & echo $$ $!; wait" }
        pids = p:lines()()
    end
    repeat
        collectgarbage()
        lash.sleep(0.002)
    until engine.live() == 1
    gone(pids)
end)

case("in a worker it is the same", function()
    equal({ offload(function() return exec { "echo", "captured" }.stdout end) }, { true, "captured\n" })
    local done, got = offload(function()
        local l = require "lash"
        local lines = {}
        local p <close> = l.exec.start { "cat" }
        p:write("a\nb\n")
        p:close_stdin()
        for line in p:lines() do
            lines[#lines + 1] = line
        end
        local missing, err = l.exec { "no-such" }
        local _, late = l.exec { shell = "echo x; sleep 1000", timeout = 1 }
        local many = l.map({ 1, 2, 3 }, function(n) return l.exec { "echo", n }.stdout end, { raise = true })
        local sorted = { 2, 1 }
        table.sort(sorted, function(a, b) return l.exec { "test", a, "-lt", b }.ok end)
        return { lines, p:wait().code, missing == nil and err.code, late.code, late.stdout, many, sorted }
    end)
    equal(done and got or tostring(got), { { "a", "b" }, 0, "ENOENT", "timeout", "x\n", { "1\n", "2\n", "3\n" }, { 1, 2 } })
    done, got = offload(function()
        local p = require "lash".exec.start { shell = "sleep 1000 & echo $$ $!; wait" }
        return p:lines()()
    end)
    ok(done)
    gone(got)
end)

case("T4 whatever way the program ends, nothing is left", function()
    local starts = [[
        local lash = require "lash"
        local p = lash.exec.start { shell = "trap '' TERM; sleep 1000 & echo $$ $!; wait; sleep 1000" }
        print(p:lines()())
        io.stdout:flush()
    ]]
    for ending, status in pairs {
        [""] = 0, ["os.exit(3)"] = 3, ["os.exit(4, true)"] = 4, ["error('x')"] = 1,
        ["lash.spawn(function() os.exit(5) end) lash.sleep(9)"] = 5,
        ["while true do print(('x'):rep(100000)) end"] = 141,
    } do
        local script = t.file(starts .. ending)
        -- 141: its stdout closes with its reader, who takes the first line only
        local p <close> = exec.start { shell = status == 141 and ('"$LASH" %s | head -n 1'):format(script) or
            ('exec "$LASH" %s'):format(script) }
        local pids = p:lines()()
        local res = p:wait()
        equal(res.code, status == 141 and 0 or status, ending)
        gone(pids)
    end
end)

case("T4 a signal that ends the program ends what it runs", function()
    for _, signal in ipairs { "SIGTERM", "SIGINT", "SIGHUP" } do
        local fifo = new_fifo()
        local path = t.file(([[
            local lash = require "lash"
            lash.exec { shell = %q }
        ]]):format(family(fifo, "trap '' TERM;")))
        local p <close> = exec.start { os.getenv "LASH", path }
        local pids = lash.fs.read(fifo)
        equal(p:kill(signal), true)
        p:wait()
        gone(pids)
    end
end)

case("T4 what a sync call started by os.execute ends with the program too", function()
    local fifo = new_fifo()
    local script = t.file(([[
        local lash = require "lash"
        local engine = require "lash.core.engine"
        local code = engine.ship("a test", function(path)
            os.execute("trap '' TERM; echo $$ > " .. path .. "; while :; do sleep 1000; done")
        end)
        lash.spawn(engine.offload, code, %q)
        lash.fs.read("/dev/stdin")
        os.exit(3)
    ]]):format(fifo))
    local p <close> = exec.start { os.getenv "LASH", script }
    local pid = lash.fs.read(fifo)
    ok(alive(pid:match("%d+")))
    equal(p:wait().code, 3)
    gone(pid)
end)

case("a hostile script gets errors, no crash", function()
    local options = { argv = { "/bin/sh", "-c", "echo x; sleep 1000" }, env = {}, max_output = 10 }
    local handle = core.start(options)
    local gc = debug.getmetatable(handle).__gc
    local task = lash.spawn(core.guard, handle)
    lash.sleep(0)
    t.raises("guards this process already", core.guard, handle)
    equal(core.read(handle), "x\n")
    local reader = lash.spawn(core.read, handle)
    lash.sleep(0)
    t.raises("another task reads", core.read, handle)
    t.raises("another task reads", core.capture, handle)
    gc(handle)
    gc(handle)
    task:wait()
    reader:wait()
    has(tostring(select(2, task:result())), "released")
    equal(select(3, reader:result()).code, "stopped")
    equal(select(2, core.read(handle)).code, "stopped")
    equal(select(2, core.write(handle, "x")).code, "stopped")
    core.stop(handle) core.capture(handle) core.close_input(handle)
    equal({ core.pid(handle), core.result(handle), core.guard(handle) }, {})
    handle = core.start(options)
    task = lash.spawn(core.guard, handle)
    lash.sleep(0)
    task:cancel()
    task:wait()
    equal(core.result(handle), nil)
    for _, bad in ipairs { {}, { argv = {} }, { argv = { 1 }, env = {} }, { argv = { "a\0" }, env = {} },
        { argv = { "ls" }, env = {}, max_output = 0 }, { argv = { "ls" }, env = {}, max_output = 9, timeout = -1 } } do
        t.raises(nil, core.run, bad)
        t.raises(nil, core.start, bad)
    end
    t.raises(nil, core.read, io.stdout)
end)

return t.main(...)
