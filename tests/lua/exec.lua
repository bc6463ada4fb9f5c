-- lash.exec, in tasks on main and in workers.
local t = require "t"
local engine = require "lash.core.engine"
local lash = require "lash"
local processes = require "support.processes"
local resident = require "support.resident"

local case, equal, ok, has, fails = t.case, t.equal, t.ok, t.has, t.fails
local exec = lash.exec
local new_path = t.path
local new_fifo, alive, gone, family = processes.new_fifo, processes.alive, processes.gone, processes.family

local SOON = math.min(t.slower, 4) -- a shell has begun by then, even on a busy machine

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

local function needs_execve()
    if t.slower >= 20 then
        t.skip("valgrind ends a process whose execve fails so late")
    end
end

case("what cannot start is nil and an error that names the remedy", function()
    needs_execve()
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
    needs_execve()
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
    local res, err = exec { shell = script:format(pids), timeout = SOON }
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
    t.patience()
    _, err = exec { shell = "trap 'echo bye; exit' TERM; while :; do sleep 0.01; done", timeout = SOON }
    equal({ err.code, err.stdout }, { "timeout", "bye\n" })
    equal(children(), 0)
end)

case("T4 cancel: the group is gone within 200 ms", function()
    for _, more in ipairs { "", "trap '' TERM;" } do
        t.soon(0.5, function()
            local fifo = new_fifo()
            local task = lash.spawn(function() return exec { shell = family(fifo, more) } end)
            local pids = lash.fs.read(fifo)
            ok(alive(pids:match("%d+")))
            local start = engine.hrtime()
            task:cancel()
            task:wait()
            local finished, err = task:result()
            equal({ finished, err.code }, { false, "cancelled" })
            gone(pids)
            return (engine.hrtime() - start) / 1e9
        end)
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
        ok(engine.hrtime() - start < 20e9 * t.slower, "they live")
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
    gone(pids)
    local done, res = offload(function() return require "lash".exec { shell = "echo again" } end)
    equal({ done, res.stdout }, { true, "again\n" })
end)

case("a program that leaves others with its pipes is over; they go with it", function()
    t.patience(10) -- until what is killed is taken for gone
    local pids = new_path()
    local res = exec { shell = ("(trap '' TERM; sleep 1000) & echo $! > %s; echo done"):format(pids) }
    equal({ res.code, res.stdout }, { 0, "done\n" })
    gone(lash.fs.read(pids), 0)
    res = exec { shell = ("sleep 1000 >/dev/null 2>&1 & echo $! > %s; echo done"):format(pids) }
    equal({ res.code, res.stdout }, { 0, "done\n" })
    gone(lash.fs.read(pids), 0)
end)

case("detach: what a program leaves in the background lives on, but not after a stop", function()
    t.patience(10)
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

return t.main(...)
