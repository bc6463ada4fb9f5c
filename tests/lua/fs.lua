-- lash.fs, in tasks on main and in a worker.
local t = require "t"
local engine = require "lash.core.engine"
local lash = require "lash"

local case, equal, ok, has = t.case, t.equal, t.ok, t.has
local fails = t.fails
local fs = lash.fs

local new_path = t.path

local function run(command, ...)
    assert(os.execute(command:format(...)))
end

case("what is written is read", function()
    local path = new_path()
    for _, text in ipairs { "", "one\n", "a\0b", ("x"):rep(1000000) } do
        equal(fs.write(path, text), true)
        ok(fs.read(path) == text)
    end
    equal(fs.write(path, 42), true)
    equal(fs.write(path, "!", { append = true, sync = true }), true)
    equal(fs.read(path), "42!")
    equal(fs.write(path, "x", { mode = "600" }), true)
    has(io.popen("ls -l " .. path):read("a"), "-rw-------")
    ok(#fs.read("/proc/self/status") > 100)
end)

case("failures are nil and an error", function()
    local path = new_path()
    fails("ENOENT", "'/none/x': there is no such file", fs.read("/none/x"))
    fails("EISDIR", "'/tmp': it is a directory", fs.read("/tmp"))
    fails("ENOENT", "create it first", fs.write("/none/x", ""))
    assert(fs.write(path, ("x"):rep(1025)))
    fails("EFBIG", "larger than 1024 bytes: raise max", fs.read(path, { max = "1K" }))
    equal(#fs.read(path, { max = 1025 }), 1025)
end)

case("misuse raises", function()
    t.raises("the path must be a string, not a nil", fs.read)
    t.raises("zero byte", fs.read, "a\0b")
    t.raises("unknown option 'maxx' (did you mean 'max'?)", fs.read, "/x", { maxx = 1 })
    for _, max in ipairs { 0, -1, 1.5, "x", "10T", 0 / 0 } do
        t.raises("max must be", fs.read, "/x", { max = max })
    end
    t.raises("must be a string, not a table", fs.write, "/x", {})
    t.raises("octal", fs.write, "/x", "", { mode = 600 })
    t.raises("options must be a table", fs.write, "/x", "", "a")
    local err = t.raises("lash.fs", function() fs.read(nil) end)
    ok(not err:find("lash/fs.lua"), err)
    has(err, "fs.lua:")
end)

case("waiting for a FIFO lets others run, and can be cancelled", function()
    local path = new_path()
    run("rm '%s'; mkfifo '%s'", path, path)
    local readers = {}
    for i = 1, 6 do
        readers[i] = lash.spawn(function() return fs.read(path) end)
    end
    lash.sleep(0.02)
    ok(#fs.read("/proc/self/status") > 100)
    for _, reader in ipairs(readers) do
        reader:cancel()
        reader:wait()
        equal((reader:result()), false)
    end
    path = new_path() -- of the other one a reader that was cancelled may still be open
    run("mkfifo '%s'", path)
    local reader = lash.spawn(function() return fs.read(path) end)
    t.wait_until(function() return (fs.write(path, "through")) end, "a reader")
    reader:wait()
    equal(select(2, reader:result()), "through")
    lash.spawn(function()
        lash.spawn(function() return fs.read(path) end) -- left behind
        lash.sleep(0.02)
    end):wait()
end)

case("the same in a worker", function()
    local path = new_path()
    local code = engine.ship("test", function()
        assert(lash.fs.write(path, "from a worker"))
        local none, err = lash.fs.read("/none/x")
        return { text = lash.fs.read(path), none = none == nil, code = err.code }
    end)
    local done, got = engine.offload(code)
    equal(done, true)
    equal(got, { text = "from a worker", none = true, code = "ENOENT" })
    equal(fs.read(path), "from a worker")
end)

case("sleep and now", function()
    t.soon(1, function()
        local before = lash.now()
        lash.sleep(0.03)
        local took = lash.now() - before
        ok(took >= 0.0299, took)
        return took
    end)
    for _, seconds in ipairs { -1, 0 / 0, math.huge, "x" } do
        t.raises("number", lash.sleep, seconds)
    end
    local order
    t.soon(0.02 / t.slower, function() -- or the machine was away between the first and the last of them
        order = {}
        local before = lash.hrtime()
        lash.gather {
            function() lash.sleep(0.04); order[#order + 1] = 3 end,
            function() lash.sleep(0.02); order[#order + 1] = 2 end,
            function() before = lash.hrtime() - before; lash.sleep(0); order[#order + 1] = 1 end,
        }
        return before / 1e9
    end)
    equal(order, { 1, 2, 3 })
    ok(math.abs(os.time() - lash.now()) < 60)
end)

return t.main(...)
