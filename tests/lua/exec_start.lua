-- lash.exec.start: processes that run beside the task; and that nothing is left of any.
local t = require "t"
local engine = require "lash.core.engine"
local core = require "lash.core.exec"
local lash = require "lash"
local processes = require "support.processes"

local case, equal, ok, has = t.case, t.equal, t.ok, t.has
local exec = lash.exec
local new_path = t.path
local new_fifo, alive, gone, family = processes.new_fifo, processes.alive, processes.gone, processes.family

local SOON = math.min(t.slower, 4) -- a shell has begun by then, even on a busy machine

local function offload(fn, ...)
    return engine.offload(engine.ship("a test", fn), ...)
end

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
    t.patience(10) -- until what is killed is taken for gone
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
        local _, late = l.exec { shell = "echo x; sleep 1000", timeout = 2 }
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
    t.needs_prompt_signals()
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
