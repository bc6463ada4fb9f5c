-- lash.path: paths as text.
local t = require "t"
local fake = require "fake"
local lash = require "lash"

local path = lash.path

-- Each line: the arguments, then the result.
local function table_of(fn, rows)
    for _, row in ipairs(rows) do
        local n = #row
        t.equal(fn(table.unpack(row, 1, n - 1)), row[n], t.show(row))
    end
end

t.case("path join and split", function()
    table_of(path.join, {
        { "" }, { "", "" }, { "a", "a" }, { "a", "b", "a/b" }, { "a/", "b", "a/b" }, { "a", "/b", "a/b" },
        { "a//", "//b", "a/b" }, { "/", "a", "/a" }, { "/", "/", "/" }, { "/", "", "/" }, { "", "a", "a" }, { "", "/a", "/a" },
        { "a", "", "b", "a/b" }, { "a", "/", "b", "a/b" }, { "a", "b/", "a/b/" }, { "/srv", "/etc", "/srv/etc" },
        { "a", "..", "b", "a/../b" }, { "//a", "//a" }, { "a", ".", "a/." }, { "a", "/", "a" },
    })
    for text, names in pairs { [""] = {}, ["/"] = { "/" }, a = { "a" }, ["/a/b"] = { "/", "a", "b" },
        ["a//b/"] = { "a", "b" }, ["./a/.."] = { ".", "a", ".." }, ["///a"] = { "/", "a" } } do
        t.equal(path.split(text), names, text)
        t.equal(path.normalize(path.join(table.unpack(names))), path.normalize(text))
    end
end)

t.case("path dirname and basename are those of POSIX", function()
    for text, want in pairs { [""] = { ".", "" }, ["/"] = { "/", "/" }, ["///"] = { "/", "/" }, a = { ".", "a" },
        ["a/"] = { ".", "a" }, ["/a"] = { "/", "a" }, ["/a/"] = { "/", "a" }, ["a/b"] = { "a", "b" },
        ["a/b//"] = { "a", "b" }, ["a//b"] = { "a", "b" }, ["/a/b/c"] = { "/a/b", "c" }, ["//a"] = { "/", "a" },
        ["."] = { ".", "." }, [".."] = { ".", ".." }, ["a/.."] = { "a", ".." }, ["a\0/b\0"] = { "a\0", "b\0" } } do
        t.equal({ path.dirname(text), path.basename(text) }, want, text)
    end
end)

t.case("path extension and stem", function()
    for text, want in pairs { ["a.txt"] = { "a", ".txt" }, ["x/a.tar.gz"] = { "a.tar", ".gz" }, a = { "a", "" },
        [".profile"] = { ".profile", "" }, [".a.b"] = { ".a", ".b" }, ["..a"] = { "..a", "" }, ["..a.b"] = { "..a", ".b" },
        ["a."] = { "a", "." }, [".."] = { "..", "" }, ["."] = { ".", "" }, ["..."] = { "...", "" }, [""] = { "", "" },
        ["/"] = { "/", "" }, ["a.b/c"] = { "c", "" }, ["a.b/c.d/"] = { "c", ".d" }, ["a..b"] = { "a.", ".b" } } do
        t.equal({ path.stem(text), path.extension(text) }, want, text)
        t.equal(path.stem(text) .. path.extension(text), path.basename(text))
    end
end)

t.case("path normalize", function()
    table_of(path.normalize, {
        { "", "." }, { ".", "." }, { "./", "." }, { "a", "a" }, { "a/", "a" }, { "a//b", "a/b" }, { "a/./b", "a/b" },
        { "a/../b", "b" }, { "a/..", "." }, { "a/b/../..", "." }, { "..", ".." }, { "../..", "../.." }, { "a/../..", ".." },
        { "../a/..", ".." }, { "/", "/" }, { "//", "/" }, { "/..", "/" }, { "/../..//a", "/a" }, { "/a/../..", "/" },
        { "/a/b/../c/.", "/a/c" }, { "...", "..." }, { "a/..b/..", "a" }, { "/.", "/" },
    })
end)

t.case("path absolute and relative", function()
    local cwd = assert(io.popen("pwd -P")):read("l")
    t.equal(path.absolute "x", path.join(cwd, "x"))
    t.equal(path.absolute "", cwd)
    t.equal(path.absolute "..", path.dirname(cwd))
    t.equal(path.absolute("x", "y"), path.join(cwd, "y/x"))
    table_of(path.absolute, { { "/a/../b/", "/b" }, { "x", "/a", "/a/x" }, { "../x", "/a/b/", "/a/x" }, { "/x", "/a", "/x" } })
    table_of(path.relative, {
        { "/a/b", "/a", "b" }, { "/a", "/a/b", ".." }, { "/a", "/a", "." }, { "/", "/", "." }, { "/a/x", "/b/y/z", "../../../a/x" },
        { "/", "/a/b", "../.." }, { "/a", "/", "a" }, { "a/b", "a/c", "../b" }, { "a", "..", path.basename(cwd) .. "/a" },
        { "/ab", "/a", "../ab" }, { "/a/../b", "/b/.", "." }, { "x", "x" }, { cwd, "." }, { "", "." },
    })
    for _ = 1, 300 do -- from base, the relative way leads to the path
        local function any()
            local names = {}
            for i = 1, math.random(0, 5) do
                names[i] = ({ "a", "b", "..", ".", "c" })[math.random(5)]
            end
            return (math.random(2) == 1 and "/" or "") .. table.concat(names, "/")
        end
        local to, from = any(), any()
        t.equal(path.absolute(path.relative(to, from), path.absolute(from)), path.absolute(to), to .. " from " .. from)
    end
end)

t.case("path is_absolute", function()
    for text, want in pairs { ["/"] = true, ["/a"] = true, a = false, [""] = false, ["./a"] = false, ["~/a"] = false } do
        t.equal(path.is_absolute(text), want)
    end
end)

t.case("path hostile texts take linear time, misuse names the thing", function()
    local started, n = os.clock(), t.times(100000, 40000)
    for _, long in ipairs { ("/"):rep(5 * n) .. "x", ("/"):rep(5 * n), ("."):rep(5 * n), ("a/"):rep(2 * n) .. "..",
        ("../"):rep(2 * n), ("a/../"):rep(n), ("x"):rep(5 * n) } do
        for _, name in ipairs { "split", "dirname", "basename", "extension", "stem", "normalize", "absolute", "relative" } do
            path[name](long)
        end
        path.join(long, long)
    end
    t.ok(os.clock() - started < 8 * t.slower)
    for _, name in ipairs { "join", "split", "dirname", "basename", "extension", "stem", "normalize", "absolute", "relative",
        "is_absolute" } do
        for _, bad in ipairs { 12, {}, true } do
            t.raises("lash.path." .. name, path[name], bad)
        end
    end
    t.raises("part 2 must be a string, not a nil", path.join, "a", nil)
    t.raises("the base must be", path.relative, "a", 1)
    t.has(t.raises(nil, function() path.stem(1) end), "path.lua:")
end)

t.case("path in a sync tool", function()
    local tool = lash.tool { name = "x", sync = function() return path.join("a", lash.path.relative("b/c", "b")) end }
    t.equal(fake.batch({ tool }, { { "x" } })[1].output, "a/c")
end)

return t.main(...)
