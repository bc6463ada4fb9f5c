-- lash.url: RFC 3986.
local t = require "t"
local fake = require "fake"
local lash = require "lash"

local url = lash.url

local function refused(words, fn, ...)
    local value, err = fn(...)
    t.equal(value, nil, t.show { ... })
    t.equal(err.code, "url")
    t.has(tostring(err), words)
end

t.case("url the references of RFC 3986, 5.4", function()
    local base = "http://a/b/c/d;p?q"
    for reference, want in pairs {
        -- 5.4.1 normal
        ["g:h"] = "g:h", ["g"] = "http://a/b/c/g", ["./g"] = "http://a/b/c/g", ["g/"] = "http://a/b/c/g/", ["/g"] = "http://a/g",
        ["//g"] = "http://g", ["?y"] = "http://a/b/c/d;p?y", ["g?y"] = "http://a/b/c/g?y", ["#s"] = "http://a/b/c/d;p?q#s",
        ["g#s"] = "http://a/b/c/g#s", ["g?y#s"] = "http://a/b/c/g?y#s", [";x"] = "http://a/b/c/;x", ["g;x"] = "http://a/b/c/g;x",
        ["g;x?y#s"] = "http://a/b/c/g;x?y#s", [""] = "http://a/b/c/d;p?q", ["."] = "http://a/b/c/", ["./"] = "http://a/b/c/",
        [".."] = "http://a/b/", ["../"] = "http://a/b/", ["../g"] = "http://a/b/g", ["../.."] = "http://a/", ["../../"] = "http://a/",
        ["../../g"] = "http://a/g",
        -- 5.4.2 abnormal
        ["../../../g"] = "http://a/g", ["../../../../g"] = "http://a/g", ["/./g"] = "http://a/g", ["/../g"] = "http://a/g",
        ["g."] = "http://a/b/c/g.", [".g"] = "http://a/b/c/.g", ["g.."] = "http://a/b/c/g..", ["..g"] = "http://a/b/c/..g",
        ["./../g"] = "http://a/b/g", ["./g/."] = "http://a/b/c/g/", ["g/./h"] = "http://a/b/c/g/h", ["g/../h"] = "http://a/b/c/h",
        ["g;x=1/./y"] = "http://a/b/c/g;x=1/y", ["g;x=1/../y"] = "http://a/b/c/y", ["g?y/./x"] = "http://a/b/c/g?y/./x",
        ["g?y/../x"] = "http://a/b/c/g?y/../x", ["g#s/./x"] = "http://a/b/c/g#s/./x", ["g#s/../x"] = "http://a/b/c/g#s/../x",
        ["http://a/../x"] = "http://a/x",
    } do
        t.equal(url.join(base, reference), want, reference)
    end
    refused("has no host", url.join, base, "http:g") -- the strict reading is a URL of its own, and none
    t.equal(url.join("http://a", "g"), "http://a/g")
    t.equal(url.join("http://a?x", "g"), "http://a/g")
    t.equal(url.join("http://a", "?y"), "http://a?y")
    t.equal(url.join("file:///a/b", "../c"), "file:///c")
    t.equal(url.join("urn:a:b", "#f"), "urn:a:b#f")
    t.equal(url.join("x:/a", "..//b"), "x:/.//b") -- not //b, which would be a host
end)

t.case("url parse", function()
    local function parts(text, want)
        want.path = want.path or ""
        t.equal(url.parse(text), want, text)
    end
    parts("http://a", { scheme = "http", host = "a" })
    parts("HTTPS://User:p%40ss@EXAMPLE.com:8443/A%2Fb?x=%20&y#Z", { scheme = "https", user = "User", password = "p@ss",
        host = "example.com", port = 8443, path = "/A%2Fb", query = "x=%20&y", fragment = "Z" })
    parts("http://a/?", { scheme = "http", host = "a", path = "/", query = "" })
    parts("http://a#", { scheme = "http", host = "a", fragment = "" })
    parts("http://a:/", { scheme = "http", host = "a", path = "/" })
    parts("http://a:0080/", { scheme = "http", host = "a", port = 80, path = "/" })
    parts("http://@a/", { scheme = "http", user = "", host = "a", path = "/" })
    parts("http://u:@a/", { scheme = "http", user = "u", password = "", host = "a", path = "/" })
    parts("http://u:p:q@a/", { scheme = "http", user = "u", password = "p:q", host = "a", path = "/" })
    parts("http://[2001:DB8::1]:80/", { scheme = "http", host = "[2001:db8::1]", port = 80, path = "/" })
    parts("http://a/b@c:d", { scheme = "http", host = "a", path = "/b@c:d" })
    parts("http://a?b@c/d", { scheme = "http", host = "a", query = "b@c/d" })
    parts("file:///etc/x", { scheme = "file", host = "", path = "/etc/x" })
    parts("mailto:a@b.c", { scheme = "mailto", path = "a@b.c" })
    parts("urn:isbn:0451450523", { scheme = "urn", path = "isbn:0451450523" })
    parts("ftp://ftp.is.co.za/rfc/rfc1808.txt", { scheme = "ftp", host = "ftp.is.co.za", path = "/rfc/rfc1808.txt" })
    parts("ldap://[2001:db8::7]/c=GB?objectClass?one", { scheme = "ldap", host = "[2001:db8::7]", path = "/c=GB",
        query = "objectClass?one" })
    parts("http://bücher.example/ü", { scheme = "http", host = "bücher.example", path = "/ü" })
end)

t.case("url parse refuses what readers disagree about", function()
    refused("no scheme", url.parse, "")
    refused("no scheme", url.parse, "host/path")
    refused("no scheme", url.parse, "//host/path")
    refused("no scheme", url.parse, "1http://host")
    refused("no host", url.parse, "http://")
    refused("no host", url.parse, "http:///path")
    refused("no host", url.parse, "http:path")
    refused("no host", url.parse, "https://user@/")
    refused("position 9", url.parse, "http://a b/")
    refused("position 10", url.parse, "http://a/\n")
    refused("position 9", url.parse, "http://a\0")
    refused("more than one @", url.parse, "http://good@evil@host/")
    refused("backslash", url.parse, "http://good\\@evil/")
    refused("1 to 65535", url.parse, "http://a:65536/")
    refused("1 to 65535", url.parse, "http://a:0/")
    refused("1 to 65535", url.parse, "http://a:b/")
    refused("1 to 65535", url.parse, "http://a:1:2/")
    refused("1 to 65535", url.parse, "http://a:" .. ("9"):rep(100000))
    refused("IPv6", url.parse, "http://[::1/")
    refused("IPv6", url.parse, "http://[x]/")
    refused("character that no host has", url.parse, "http://a]/")
    refused("write %25", url.parse, "http://a/100%")
    refused("position 11", url.parse, "http://a/b%%41")
    refused("position 10", url.parse, "http://a/%u1234")
end)

t.case("url errors show no secrets and have an end", function()
    for _, text in ipairs { "http://user:hunter2@a b/", "http://a b/?key=hunter2", "http://a b#hunter2", "1user:hunter2@host",
        ("x"):rep(1000) .. " hunter2" } do
        local _, err = url.parse(text)
        t.ok(not err.message:find("hunter2", 1, true) and #err.message < 250, err.message)
    end
end)

t.case("url build", function()
    local function built(fields, want)
        t.equal(url.build(fields), want)
    end
    built({ scheme = "https", host = "h" }, "https://h")
    built({ scheme = "HTTPS", host = "h", port = 8443, path = "/a b/ü?#%", query = { q = "50% &", n = { 1, 2 } }, fragment = "x y" },
        "https://h:8443/a%20b/%C3%BC%3F%23%25?n=1&n=2&q=50%25%20%26#x%20y")
    built({ scheme = "http", host = "h", path = "/%41%4%zz%", query = "a=%20 %" }, "http://h/%41%254%25zz%25?a=%20%20%25")
    built({ scheme = "http", user = "a@b", password = "x:/?#%41", host = "h", path = "/" }, "http://a%40b:x%3A%2F%3F%23%2541@h/")
    built({ scheme = "http", host = "::1", port = 80.0 }, "http://[::1]:80")
    built({ scheme = "http", host = "[::1]", query = {} }, "http://[::1]")
    built({ scheme = "http", host = "bücher" }, "http://b%C3%BCcher")
    built({ scheme = "mailto", path = "a@b" }, "mailto:a@b")
    built({ scheme = "file", host = "", path = "/x" }, "file:///x")
    built({ scheme = "x", path = "//evil/y" }, "x:/.//evil/y")
    for _, text in ipairs { "http://a", "https://u:p%40@h.example:81/a%2Fb;c?x=%26&y#z", "http://[::1]:8/?", "file:///etc",
        "mailto:a@b.c?subject=x", "urn:a:b", "http://a#" } do
        t.equal(url.build(url.parse(text)), text)
    end
end)

t.case("url build lets nothing be smuggled in", function()
    refused("no scheme", url.build, { host = "a" })
    refused("no scheme", url.build, { scheme = "java script", path = "x" })
    refused("no host", url.build, { scheme = "http", path = "/x" })
    refused("but no host", url.build, { scheme = "x", user = "u", path = "/x" })
    refused("begin with a slash", url.build, { scheme = "http", host = "a", path = "evil" })
    for _, host in ipairs { "a/b", "u@a", "a?b", "a#b", "a:80", "a b", "a\\b", "a\n", "a%", "[::1", "a]", "a:b@c" } do
        refused("the URL", url.build, { scheme = "http", host = host, path = "/" })
    end
    refused("1 to 65535", url.build, { scheme = "http", host = "a", port = 0 })
    refused("1 to 65535", url.build, { scheme = "http", host = "a", port = -80 })
end)

t.case("url encode, decode and queries", function()
    t.equal(url.encode "AZaz09-._~ !*'();:@&=+$,/?#[]%\0\xFF",
        "AZaz09-._~%20%21%2A%27%28%29%3B%3A%40%26%3D%2B%24%2C%2F%3F%23%5B%5D%25%00%FF")
    t.equal(url.decode "a%20b%2Bc+d%00%ff%C3%bc", "a b+c+d\0\xFF\u{FC}")
    for i = 0, 255 do
        t.equal(url.decode(url.encode(string.char(i, 65, i))), string.char(i, 65, i))
    end
    refused("position 1", url.decode, "%")
    refused("position 2", url.decode, "a%4")
    refused("position 4", url.decode, "%41%zz")
    t.equal(url.encode_query { b = 1, a = "x y", c = { true, 2.5, "&" }, [""] = "", d = {} }, "=&a=x%20y&b=1&c=true&c=2.5&c=%26")
    t.equal(url.encode_query {}, "")
    t.equal(url.decode_query "b=1&a=x+y%2B&c=1&c=2&c=3&d&e=&f=1=2&&%26=%3d",
        { b = "1", a = "x y+", c = { "1", "2", "3" }, d = "", e = "", f = "1=2", ["&"] = "=" })
    t.equal(url.decode_query "", {})
    refused("position 2", url.decode_query, "a=x%4")
    refused("position 1", url.decode_query, "%=x")
    local back = { a = { "1", "2" }, b = "\0\xFF=&+ %", ["x y"] = "" }
    t.equal(url.decode_query(url.encode_query(back)), back)
end)

t.case("url hostile texts take linear time", function()
    local started = os.clock()
    local n = t.times(30000, 12000)
    for _, long in ipairs { ("a"):rep(n), ("/"):rep(n), ("../"):rep(n), ("a/../"):rep(n), ("@"):rep(n), ("%41"):rep(n), ("&"):rep(n),
        ("a=1&"):rep(n), (":"):rep(n), ("?"):rep(n), ("#"):rep(n), ("["):rep(n), (" "):rep(n), ("/."):rep(n),
        "[" .. (":"):rep(n) .. "x]" } do
        url.parse("http://a/" .. long)
        url.parse("http://" .. long)
        url.parse(long)
        url.join("http://a/" .. long, long)
        url.build { scheme = "http", host = long, path = "/" .. long, query = long }
        url.decode(long)
        url.decode_query(long)
    end
    t.ok(os.clock() - started < 8 * t.slower)
end)

t.case("url misuse names the thing", function()
    for _, bad in ipairs { 12, {}, true } do
        for _, name in ipairs { "parse", "join", "encode", "decode", "decode_query" } do
            t.raises("lash.url." .. name, url[name], bad, "x")
        end
        t.raises("the reference must be", url.join, "http://a", bad)
        t.raises("host must be a string", url.build, { scheme = "x", host = bad })
    end
    t.raises("must be a table", url.build, "http://a")
    t.raises("must be a table", url.encode_query, "a=1")
    t.raises("did you mean 'host'?", url.build, { hosts = "a" })
    for _, bad in ipairs { "80", 80.5, {}, true } do
        t.raises("port must be an integer", url.build, { scheme = "http", host = "a", port = bad })
    end
    t.raises("query.a must be a text", url.build, { scheme = "http", host = "a", query = { a = print } })
    t.raises("the query must be written as", url.encode_query, { "a" })
    t.raises("the query.a must be a list of texts, not a table with names", url.encode_query, { a = { b = 1 } })
    t.has(t.raises(nil, function() url.parse(1) end), "url.lua:")
end)

t.case("url in a sync tool", function()
    local tool = lash.tool { name = "x", sync = function() return url.join("http://a/b", lash.url.encode "c d") end }
    t.equal(fake.batch({ tool }, { { "x" } })[1].output, "http://a/c%20d")
end)

return t.main(...)
