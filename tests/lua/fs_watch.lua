-- lash.fs.watch, in tasks on main and in a worker.
local t = require "t"
local engine = require "lash.core.engine"
local lash = require "lash"

local case, equal, ok, has = t.case, t.equal, t.ok, t.has
local fs = lash.fs

-- The next event with this kind and name; others before it are passed over.
local function await(watcher, kind, name)
    for event in watcher:events() do
        if event.kind == kind and event.name == name then
            return event
        end
    end
    error(("no %s of %s came"):format(kind, tostring(name)), 2)
end

case("events of a directory and of a file", function()
    local dir <close> = assert(fs.tempdir())
    local watcher <close> = assert(fs.watch(dir.path .. "/"))
    equal(watcher.path, dir.path .. "/")
    assert(fs.write(dir.path .. "/note", "one"))
    equal(watcher:next(), { kind = "rename", name = "note", path = dir.path .. "/note" })
    assert(fs.append(dir.path .. "/note", "two"))
    equal(watcher:next(), { kind = "change", name = "note", path = dir.path .. "/note" })
    local one <close> = assert(fs.watch(dir.path .. "/note"))
    for _ = 1, 3 do -- replaced, and watched on
        assert(fs.write(dir.path .. "/note", "new"))
        equal(one:next(), { kind = "rename", name = "note", path = dir.path .. "/note" })
    end
    assert(fs.append(dir.path .. "/note", "more"))
    equal(await(one, "change", "note").path, dir.path .. "/note")
end)

case("a tree, until it is removed", function()
    local dir <close> = assert(fs.tempdir())
    local watcher <close> = assert(fs.watch(dir.path, { recursive = true }))
    local seen = {}
    local reader = lash.spawn(function()
        for event in watcher:events() do
            seen[#seen + 1] = event
        end
        return "ended"
    end)
    assert(fs.mkdir(dir.path .. "/a/b/c", { parents = true }))
    assert(fs.write(dir.path .. "/a/b/c/f", "text"))
    assert(dir:remove())
    reader:wait()
    equal({ reader:result() }, { true, "ended" })
    equal(seen[#seen], { kind = "rename", path = dir.path })
    equal(watcher:next(), nil)
    local names = {}
    for _, event in ipairs(seen) do
        names[event.name or ""] = event.kind
    end
    equal(names.a, "rename")
end)

case("an overflow is told", function()
    local dir <close> = assert(fs.tempdir())
    local watcher <close> = assert(fs.watch(dir.path))
    assert(fs.mkdir(dir.path .. "/0"))
    for i = 1, 1100 do -- each a name of its own
        assert(fs.rename(("%s/%d"):format(dir.path, i - 1), ("%s/%d"):format(dir.path, i)))
    end
    local count = 0
    for event in watcher:events() do
        if event.kind == "overflow" then
            equal(event, { kind = "overflow", path = dir.path })
            break
        end
        count = count + 1
    end
    ok(count >= 1000 and count < 1100, count)
    assert(fs.mkdir(dir.path .. "/new"))
    await(watcher, "rename", "new")
end)

case("T4 waiting for an event lets others run, and can be cancelled", function()
    local dir <close> = assert(fs.tempdir())
    local watcher <close> = assert(fs.watch(dir.path))
    local got = {}
    local readers = {}
    for i = 1, 3 do
        readers[i] = lash.spawn(function()
            for event in watcher:events() do
                got[#got + 1] = event.name
            end
        end)
    end
    lash.sleep(0)
    readers[1]:cancel()
    readers[1]:wait()
    equal(engine.cancel_reason(select(2, readers[1]:result())), "user")
    for i = 1, 5 do
        assert(fs.mkdir(dir.path .. "/" .. i))
    end
    while #got < 5 do
        lash.sleep(0.001)
    end
    table.sort(got)
    equal(got, { "1", "2", "3", "4", "5" }) -- each to one of them
    watcher:close()
    watcher:close()
    readers[2]:wait()
    readers[3]:wait()
    equal({ readers[2]:result() }, { true })
    equal({ watcher:next() }, {})
end)

case("a watcher that is left alone, or behind, keeps nobody", function()
    local dir <close> = assert(fs.tempdir())
    assert(fs.watch(dir.path))
    local task = lash.spawn(function()
        local watcher <close> = assert(fs.watch(dir.path, { recursive = true }))
        lash.spawn(function() watcher:next() end)
        watcher:next()
    end)
    lash.sleep(0.01)
    task:cancel()
    task:wait()
    for i = 1, 20 do -- cancelled while it opens
        task = lash.spawn(fs.watch, "/usr", { recursive = true })
        for _ = 1, i % 3 do
            lash.sleep(0)
        end
        task:cancel()
        task:wait()
    end
end)

case("failures and misuse", function()
    local none, err = fs.watch("/none/x")
    equal(none, nil)
    equal(err.code, "ENOENT")
    has(tostring(err), "cannot watch '/none/x': there is no such file")
    t.raises("unknown option 'recursiv'", fs.watch, "/tmp", { recursiv = true })
    t.raises("recursive must be true or false", fs.watch, "/tmp", { recursive = 1 })
    has(t.raises("the path must be a string", function() fs.watch() end), "fs_watch.lua:")
end)

case("hostile calls of the finalizers", function()
    local dir <close> = assert(fs.tempdir())
    local watcher = assert(fs.watch(dir.path))
    local reader = lash.spawn(function() return watcher:next() end)
    lash.sleep(0)
    local mt = debug.getmetatable(watcher.handle)
    mt.__gc(watcher.handle)
    mt.__gc(watcher.handle)
    reader:wait()
    equal({ reader:result() }, { true })
    ok(not pcall(mt.__gc, io.stdout))
end)

case("the same in a worker", function()
    local code = engine.ship("test", function()
        local dir <close> = assert(lash.fs.tempdir())
        local watcher <close> = assert(lash.fs.watch(dir.path))
        local left = assert(lash.fs.watch(dir.path))
        assert(lash.fs.write(dir.path .. "/f", "text"))
        local event = watcher:next()
        return { kind = event.kind, name = event.name, left = left.path == dir.path }
    end)
    for _ = 1, 3 do
        local done, got = engine.offload(code)
        equal(done, true, got)
        equal(got, { kind = "rename", name = "f", left = true })
    end
end)

return t.main(...)
