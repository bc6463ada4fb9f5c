-- lash.fs: directories, links, searching, temporary files; on main and in a worker.
local t = require "t"
local engine = require "lash.core.engine"
local lash = require "lash"

local case, equal, ok, has, fails = t.case, t.equal, t.ok, t.has, t.fails
local fs = lash.fs

-- Runs fn(directory) in an empty directory of its own.
local function within(fn)
    local dir <close> = assert(fs.tempdir())
    fn(dir.path)
end

local function names(list)
    local all = {}
    for i, entry in ipairs(list) do
        all[i] = entry.name .. ":" .. entry.type
    end
    return table.concat(all, " ")
end

case("append, atomic and in place", function()
    within(function(dir)
        local path, twin = dir .. "/a", dir .. "/b"
        equal(fs.append(path, "one "), true)
        equal(fs.append(path, 2), true)
        equal(fs.read(path), "one 2")
        local inode = fs.stat(path).inode
        equal(fs.write(path, "in place", { atomic = false }), true)
        equal(fs.stat(path).inode, inode)
        equal(fs.write(path, "replaced"), true)
        ok(fs.stat(path).inode ~= inode)
        equal(fs.write(twin, "new", { atomic = false, mode = "600" }), true)
        equal(fs.stat(twin).mode, "600")
        fails("ENOSPC", "'/dev/full': no space", fs.append("/dev/full", "x"))
        fails("ENOSPC", "'/dev/full': no space", fs.write("/dev/full", "x", { atomic = false }))
    end)
end)

case("list, stat, exists", function()
    within(function(dir)
        assert(fs.write(dir .. "/file", "12345", { mode = "640" }))
        assert(fs.mkdir(dir .. "/sub", { mode = "750" }))
        assert(fs.symlink("file", dir .. "/link"))
        assert(fs.symlink("nowhere", dir .. "/dangling"))
        assert(fs.write(dir .. "/.hidden", ""))
        equal(names(fs.list(dir)), "dangling:link file:file link:link sub:directory")
        equal(names(fs.list(dir, { all = true })), ".hidden:file dangling:link file:file link:link sub:directory")
        equal(fs.list(dir .. "/sub"), {})
        fails("E2BIG", "more than 3 names", fs.list(dir, { max = 3 }))
        fails("ENOTDIR", "it is no directory", fs.list(dir .. "/file"))

        local info = fs.stat(dir .. "/link")
        equal({ info.type, info.size, info.mode, info.target }, { "file", 5, "640" })
        equal(math.type(info.mtime), "float")
        ok(math.abs(info.mtime - lash.now()) < 100, info.mtime)
        ok(info.links == 1 and math.type(info.inode) == "integer" and info.uid and info.gid and info.atime)
        info = fs.stat(dir .. "/link", { follow = false })
        equal({ info.type, info.target }, { "link", "file" })
        equal(fs.stat(dir .. "/sub").mode, "750")

        equal(fs.exists(dir .. "/link"), true)
        equal(fs.exists(dir .. "/dangling"), false)
        equal(fs.exists(dir .. "/file/x"), false)
        equal(fs.exists(""), false)
        fails("ENAMETOOLONG", "too long", fs.exists(dir .. "/" .. ("x"):rep(300)))
        assert(fs.symlink("circle", dir .. "/circle"))
        fails("ELOOP", "lead in a circle", fs.exists(dir .. "/circle"))
    end)
end)

case("mkdir, rename, copy, links, chmod", function()
    within(function(dir)
        fails("ENOENT", "{ parents = true }", fs.mkdir(dir .. "/a/b/c"))
        equal(fs.mkdir(dir .. "/a//b/c/", { parents = true, mode = "700" }), true)
        equal(fs.stat(dir .. "/a/b/c").mode, "700")
        equal(fs.mkdir(dir .. "/a/b", { parents = true }), true)
        fails("EEXIST", "something of that name", fs.mkdir(dir .. "/a"))
        assert(fs.write(dir .. "/f", "text", { mode = "644" }))
        fails("EEXIST", "something", fs.mkdir(dir .. "/f", { parents = true }))
        fails("ENOTDIR", "not a directory", fs.mkdir(dir .. "/f/x", { parents = true }))
        fails("ENOTDIR", "not a directory", fs.mkdir(dir .. "/f/x/y", { parents = true }))
        fails("ENOENT", "", fs.mkdir("", { parents = true }))

        equal(fs.copy(dir .. "/f", dir .. "/a/g"), true)
        equal(fs.read(dir .. "/a/g"), "text")
        equal(fs.chmod(dir .. "/a/g", "4711"), true)
        equal(fs.stat(dir .. "/a/g").mode, "4711")
        equal(fs.rename(dir .. "/a/g", dir .. "/f"), true)
        equal(fs.stat(dir .. "/f").mode, "4711")
        fails("ENOENT", "cannot rename '" .. dir .. "/none' to '" .. dir .. "/x'",
            fs.rename(dir .. "/none", dir .. "/x"))
        fails("EINVAL", "cannot go into itself", fs.rename(dir .. "/a", dir .. "/a/b/a"))
        fails("ENOTEMPTY", "not empty", fs.rename(dir .. "/a/b", dir .. "/a"))

        equal(fs.link(dir .. "/f", dir .. "/twin"), true)
        equal(fs.stat(dir .. "/f").links, 2)
        equal(fs.symlink("a/b", dir .. "/link"), true)
        equal(fs.readlink(dir .. "/link"), "a/b")
        equal(fs.realpath(dir .. "/link/../b/./c"), fs.realpath(dir) .. "/a/b/c")
        fails("EINVAL", "no symbolic link", fs.readlink(dir .. "/f"))
        fails("ENOENT", "no such file", fs.realpath(dir .. "/none"))
        fails("EEXIST", "cannot make the link '" .. dir .. "/link'", fs.symlink("x", dir .. "/link"))
    end)
end)

case("remove", function()
    within(function(dir)
        assert(fs.mkdir(dir .. "/a/b", { parents = true }))
        assert(fs.mkdir(dir .. "/keep"))
        assert(fs.write(dir .. "/keep/f", "safe"))
        assert(fs.symlink("../../keep", dir .. "/a/b/link"))
        fails("ENOTEMPTY", "{ recursive = true }", fs.remove(dir .. "/a"))
        equal(fs.remove(dir .. "/a", { recursive = true }), true)
        equal(names(fs.list(dir)), "keep:directory")
        equal(fs.read(dir .. "/keep/f"), "safe")
        fails("ENOENT", "no such file", fs.remove(dir .. "/a"))
        for _, path in ipairs { "", "/", "//", ".", dir .. "/..", dir .. "/keep/." } do
            fails("EINVAL", "never removed", fs.remove(path, { recursive = true }))
        end
        ok(fs.exists(dir .. "/keep/f"))
    end)
end)

case("glob", function()
    within(function(dir)
        assert(fs.mkdir(dir .. "/src/io", { parents = true }))
        for _, name in ipairs { "src/a.c", "src/io/b.c", "src/io/.c.c", "src/io/[x].c" } do
            assert(fs.write(dir .. "/" .. name, ""))
        end
        local function found(pattern)
            local list = fs.glob(dir .. pattern)
            for i, path in ipairs(list) do
                equal(path:sub(1, #dir + 1), dir .. "/")
                list[i] = path:sub(#dir + 2)
            end
            return table.concat(list, " ")
        end
        equal(found("/**/*.c"), "src/a.c src/io/[x].c src/io/b.c")
        equal(found("/src/io/.*"), "src/io/.c.c")
        equal(found("/src/io/" .. fs.escape("[x].c")), "src/io/[x].c")
        equal(found("/src/*/"), "src/io/")
        equal(fs.glob(dir .. "/none*"), {})
        equal(fs.glob(""), {})
        fails("E2BIG", "more than 2 names: raise max", fs.glob(dir .. "/**", { max = 2 }))
        equal(fs.glob(fs.escape(dir .. "/a*b?[c]\\")), {})
    end)
end)

case("T4 a search of everything lets others run, and ends when it is cancelled", function()
    local searches = {}
    for i = 1, 6 do -- more than the pool has threads
        searches[i] = lash.spawn(fs.glob, "/**/none/x")
    end
    lash.sleep(0.01)
    ok(#fs.read("/proc/self/status") > 100)
    local before = lash.now()
    for _, search in ipairs(searches) do
        search:cancel()
        search:wait()
        local done, err = search:result()
        ok(done or engine.cancel_reason(err) == "user", err)
    end
    ok(lash.now() - before < 20 * t.slower)
end)

case("temporary files are removed", function()
    within(function(dir)
        local path
        do
            local temp <close> = assert(fs.tempfile { dir = dir, suffix = ".json" })
            path = temp.path
            equal(tostring(temp), path)
            ok(path:find("^" .. dir:gsub("%p", "%%%0") .. "/lash%-%x+%.json$"), path)
            local info = fs.stat(path)
            equal({ info.type, info.size, info.mode }, { "file", 0, "600" })
        end
        equal(fs.exists(path), false)

        local temp = assert(fs.tempdir { dir = dir, mode = "750" })
        equal(fs.stat(temp.path).mode, "750")
        assert(fs.mkdir(temp.path .. "/a/b", { parents = true }))
        assert(fs.write(temp.path .. "/a/f", "x"))
        equal(temp:remove(), true)
        equal(temp:remove(), true)
        equal(fs.exists(temp.path), false)

        temp = assert(fs.tempfile { dir = dir }) -- what was moved is not missed
        assert(fs.rename(temp.path, dir .. "/kept"))
        equal(temp:remove(), true)
        equal(names(fs.list(dir, { all = true })), "kept:file")

        local raised, err = pcall(function()
            local one <close> = assert(fs.tempfile { dir = dir })
            error("inside " .. tostring(fs.exists(one.path)), 0)
        end)
        equal({ raised, err }, { false, "inside true" })
        equal(names(fs.list(dir, { all = true })), "kept:file")
        fails("ENOENT", "cannot make a temporary file in '/none'", fs.tempfile { dir = "/none" })
        fails("ENOENT", "TMPDIR", fs.tempdir { dir = "/none" })
    end)
    local temp <close> = assert(fs.tempfile())
    has(temp.path, os.getenv("TMPDIR") or "/tmp")
end)

case("T4 a cancelled task leaves no temporary files", function()
    within(function(dir)
        local ready = 0
        local task = lash.spawn(function()
            local tree <close> = assert(fs.tempdir { dir = dir })
            local file <close> = assert(fs.tempfile { dir = dir })
            assert(fs.mkdir(tree.path .. "/a/b", { parents = true }))
            assert(fs.write(tree.path .. "/a/f", fs.read(file.path)))
            ready = 1
            lash.sleep(1000)
        end)
        while ready == 0 do
            lash.sleep(0.001)
        end
        equal(#fs.list(dir), 2)
        task:cancel()
        task:wait()
        equal(engine.cancel_reason(select(2, task:result())), "user")
        local deadline = lash.now() + 10 * t.slower -- the files go behind its back
        while #fs.list(dir) > 0 and lash.now() < deadline do
            lash.sleep(0.001)
        end
        equal(fs.list(dir), {})
        -- cancelled while it is made, at any time
        for i = 1, 30 do
            local maker = lash.spawn(function()
                local one <close> = assert(fs.tempfile { dir = dir })
                lash.sleep(1000)
            end)
            for _ = 1, i % 4 do
                lash.sleep(0)
            end
            maker:cancel()
            maker:wait()
        end
        while #fs.list(dir) > 0 and lash.now() < deadline do
            lash.sleep(0.001)
        end
        equal(fs.list(dir), {})
    end)
end)

case("misuse raises where it is made", function()
    local dir = "/tmp"
    t.raises("the new path must be a string, not a nil", fs.rename, dir)
    t.raises("the target contains a zero byte", fs.symlink, "a\0", dir)
    t.raises("unknown option 'recursiv' (did you mean 'recursive'?)", fs.remove, "/none", { recursiv = true })
    t.raises("recursive must be true or false, not yes", fs.remove, "/none", { recursive = "yes" })
    t.raises("atomic must be true or false", fs.write, "/none/x", "", { atomic = 0 })
    t.raises("suffix must be the end of a file name", fs.tempfile, { suffix = "/x" })
    t.raises("dir must be a string", fs.tempdir, { dir = 1 })
    t.raises("octal", fs.chmod, "/none")
    t.raises("octal", fs.mkdir, "/none/x", { mode = "rwx" })
    for _, max in ipairs { 0, -1, 1.5, "5", 2 ^ 40 } do
        t.raises("max must be a number of names", fs.glob, "/none/*", { max = max })
    end
    for _, name in ipairs { "append", "chmod", "copy", "escape", "exists", "glob", "link", "list", "mkdir", "read",
        "readlink", "realpath", "remove", "rename", "stat", "symlink", "write" } do
        local err = t.raises("must be a string, not a table", function() fs[name]({}) end)
        has(err, "fs_tree.lua:", name)
        ok(not err:find("lash/fs", 1, true), err)
    end
end)

case("the same in a worker", function()
    local code = engine.ship("test", function()
        local dir <close> = assert(lash.fs.tempdir())
        assert(lash.fs.mkdir(dir.path .. "/a/b", { parents = true }))
        assert(lash.fs.write(dir.path .. "/a/b/c.txt", "text"))
        assert(lash.fs.copy(dir.path .. "/a/b/c.txt", dir.path .. "/d.txt"))
        local found = lash.fs.glob(dir.path .. "/**/*.txt")
        local _, err = lash.fs.remove(dir.path)
        return { found = #found, list = #lash.fs.list(dir.path), code = err.code, path = dir.path,
            size = lash.fs.stat(found[1]).size }
    end)
    local done, got = engine.offload(code)
    equal(done, true, got)
    equal(fs.exists(got.path), false)
    got.path = nil
    equal(got, { found = 2, list = 2, code = "ENOTEMPTY", size = 4 })
end)

return t.main(...)
