-- What lash.http sends in pieces, against tests/program/httpd.py; and downloads.
local t = require "t"
local engine = require "lash.core.engine"
local lash = require "lash"
local ask = require "support.ask"
local start_server = require "support.serve"

local case, equal, ok, has = t.case, t.equal, t.ok, t.has

local base

local function serve()
    base = start_server()
end

-- A function that gives the pieces of a list.
local function pieces(list)
    local i = 0
    return function()
        i = i + 1
        return list[i]
    end
end

local function echo(options, path)
    options.url = base .. (path or "/echo")
    options.method = options.method or "POST"
    return ask(options)
end

case("a function's body goes in chunks, or with its length", function()
    serve()
    local asked, res = echo { body = pieces { "one ", "", "two ", ("x"):rep(100000) } }
    equal(asked.body, "one two " .. ("x"):rep(100000))
    equal(asked.chunked, true)
    equal(asked.header["content-length"], nil)
    equal(asked.header["content-type"], nil)
    equal({ res.version, res.status, res.ok }, { "1.1", 200, true })
    ok(res.first_byte > 0 and res.total >= res.first_byte)
    asked = echo { method = "PUT", body = pieces { "one ", "two" }, length = 7 }
    equal({ asked.method, asked.body, asked.chunked, asked.length }, { "PUT", "one two", false, 7 })
    asked = echo { body = pieces {} }
    equal({ asked.body, asked.chunked }, { "", true })
    asked = echo { body = pieces {}, length = 0 }
    equal({ asked.body, asked.length, asked.header["content-length"] }, { "", 0, "0" })
    -- it runs in the task and may wait; others go on meanwhile
    local ticks = 0
    local ticker = lash.spawn(function()
        while true do
            lash.sleep(0.01)
            ticks = ticks + 1
        end
    end)
    local n = 0
    asked = echo { body = function()
        n = n + 1
        local before = ticks
        t.wait_until(function() return ticks > before end, "a tick")
        return n <= 3 and assert(lash.http.get(base .. "/status/200")).body or nil
    end }
    ticker:cancel()
    ticker:wait()
    equal(asked.body, ("status 200"):rep(3))
    ok(ticks > 2, ticks)
end)

case("a body that fails, lies about its length, or is no text", function()
    serve()
    local post = lash.http.post
    local failure = setmetatable({ code = "mine" }, {})
    local none, err = post(base .. "/count", { body = function() return nil, failure end })
    equal(none, nil)
    ok(err == failure)
    none, err = post(base .. "/count", { body = pieces { "1234", "56" }, length = 5 })
    equal({ none == nil, err.code }, { true, "request" })
    has(err.message, "longer")
    none, err = post(base .. "/count", { body = pieces { "1234" }, length = 5 })
    equal({ none == nil, err.code }, { true, "request" })
    has(err.message, "shorter")
    t.raises("must return a string", post, base .. "/count", { body = function() return 1 end })
    t.raises("out of ideas", post, base .. "/hold/raised?how=upload", { body = function() error("out of ideas") end })
    assert(lash.http.get(base .. "/closed/raised"))
    t.raises("length goes with", post, base, { body = "x", length = 1 })
    t.raises("length must be", post, base, { body = pieces {}, length = -1 })
    t.raises("either body or file", post, base, { body = "x", file = "y" })
    none, err = lash.http.head(base, { body = pieces {} })
    equal({ none == nil, err.code }, { true, "request" })
end)

case("helpers for the methods", function()
    serve()
    for _, method in ipairs { "get", "post", "put", "delete", "patch" } do
        local res = assert(lash.http[method](base .. "/echo"))
        equal(res:json().method, method:upper())
    end
    local res = assert(lash.http.head(base .. "/big/1000"))
    equal({ res.body, res.headers["content-length"] }, { "", "1000" })
    t.raises("url and method", lash.http.put, base, { method = "GET" })
    local err = t.raises("lash.http", function() lash.http.patch(1) end)
    has(err, "http_upload.lua:", "the place is the caller's")
end)

case("web forms", function()
    serve()
    local asked = echo { form = { q = "a b&c=d+\u{e4}~", n = { 1, 2.5 }, yes = true, empty = "" } }
    equal(asked.body, "empty=&n=1&n=2.5&q=a+b%26c%3Dd%2B%C3%A4~&yes=true")
    equal(asked.header["content-type"], "application/x-www-form-urlencoded")
    asked = echo { form = {}, headers = { ["content-type"] = "x/y" } }
    equal({ asked.body, asked.header["content-type"] }, { "", "x/y" })
    t.raises("form.a must be", lash.http.post, base, { form = { a = {{}} } })
    t.raises("form must be", lash.http.post, base, { form = { "a" } })
    t.raises("form must be a table", lash.http.post, base, { form = "a=b" })
end)

case("forms with files", function()
    serve()
    local path = t.file("\0binary\r\n--x", ".png")
    local empty = t.file("", ".txt")
    local asked = echo { multipart = {
        { name = "note", value = "a\r\nb" },
        { name = "picture", file = path, type = "image/png" },
        { name = 'q"\r\n', value = 7, filename = "seven.txt" },
        { name = "none", file = empty, filename = "of\"me" },
    } }
    local boundary = asked.header["content-type"]:match("^multipart/form%-data; boundary=([%w-]+)$")
    ok(boundary, asked.header["content-type"])
    equal(asked.chunked, false)
    equal(asked.length, #asked.body)
    local function part(head, body)
        return "--" .. boundary .. "\r\n" .. head .. "\r\n\r\n" .. body .. "\r\n"
    end
    local want = part('Content-Disposition: form-data; name="note"', "a\r\nb")
        .. part(('Content-Disposition: form-data; name="picture"; filename="%s"\r\nContent-Type: image/png'):format(
            path:match("[^/]*$")), "\0binary\r\n--x")
        .. part('Content-Disposition: form-data; name="q%22%0D%0A"; filename="seven.txt"\r\n'
            .. "Content-Type: application/octet-stream", "7")
        .. part('Content-Disposition: form-data; name="none"; filename="of%22me"\r\nContent-Type: application/octet-stream', "")
        .. "--" .. boundary .. "--\r\n"
    equal(asked.body, want)
    local function bad(part_of_error, list)
        t.raises(part_of_error, lash.http.post, base, { multipart = list })
    end
    bad("must be a list", {})
    bad("must be a list", { name = "x" })
    bad("multipart[1] must be a table", { "x" })
    bad("has no name", { { value = "x" } })
    bad("either value or file", { { name = "x" } })
    bad("either value or file", { { name = "x", value = 1, file = "y" } })
    bad("unknown field 'fil'", { { name = "x", fil = "y" } })
    bad("multipart[1].value must be", { { name = "x", value = {} } })
    bad("media type", { { name = "x", value = "y", type = "a\r\nB: c" } })
end)

case("a file that is sent is read in pieces", function()
    serve()
    local path = t.file(("0123456789"):rep(100000))
    local res = assert(lash.http.put(base .. "/count", { file = path }))
    local got = res:json()
    equal({ got.bytes, got.chunked, got.method, got.type }, { 1000000, false, "PUT", "application/octet-stream" })
    equal(assert(lash.http.post(base .. "/count", { body = ("0123456789"):rep(100000) })):json().crc, got.crc)
    equal(assert(lash.http.post(base .. "/count", { file = t.file("") })):json().bytes, 0)
    for given, code in pairs { [path .. ".not"] = "ENOENT", ["/"] = "EISDIR", ["/dev/null"] = "ESPIPE" } do
        for _, options in ipairs { { file = given }, { multipart = { { name = "x", file = given } } } } do
            local none, err = lash.http.post(base .. "/count", options)
            equal({ none == nil, err.code }, { true, code })
            has(err.message, given)
        end
    end
end)

case("a file that becomes shorter meanwhile", function()
    serve()
    local path = t.file(("x"):rep(8 << 20))
    local none, err = nil, nil
    local task = lash.spawn(function()
        none, err = lash.http.post(base .. "/hold/short?how=upload", { file = path })
    end)
    assert(lash.http.get(base .. "/held/short"))
    -- the server may have taken all by now: then there is nothing to see
    assert(io.open(path, "w")):close()
    task:wait()
    equal(none, nil)
    ok(err.code == "changed" or err.code == "closed", err)
end)

case("much goes up in bounded memory", function()
    serve()
    local mb = (t.slower > 1 and 20 or t.times(200, 50))
    local path = t.path()
    local f = assert(io.open(path, "wb"))
    f:seek("set", mb * 1000000 - 1) -- a sparse file
    f:write("x")
    f:close()
    t.remove_later(path)
    collectgarbage()
    collectgarbage()
    local function peak()
        return tonumber(assert(io.open("/proc/self/status")):read("a"):match("VmHWM:%s+(%d+)")) * 1024
    end
    local before = peak()
    local got = assert(lash.http.post(base .. "/count", { file = path })):json()
    equal(got.bytes, mb * 1000000)
    got = assert(lash.http.post(base .. "/count", { multipart = { { name = "a", file = path } } })):json()
    ok(got.bytes > mb * 1000000)
    local block, left = ("b"):rep(1 << 20), mb
    got = assert(lash.http.post(base .. "/count", { body = function()
        left = left - 1
        return left >= 0 and block or nil
    end })):json()
    equal(got.bytes, mb << 20)
    if t.slower == 1 then -- the sanitizers keep freed memory
        ok(peak() - before < 32 << 20, peak() - before)
    end
end)

case("redirects of bodies", function()
    serve()
    local path = t.file("from a file")
    local function go(code, options)
        options.method = options.method or "POST"
        options.url = base .. "/redirect?to=/echo&code=" .. code
        local res, err = lash.http.request(options)
        return res and res:json(), err
    end
    for _, code in ipairs { 307, 308 } do
        local asked = assert(go(code, { file = path }))
        equal({ asked.method, asked.body, asked.length }, { "POST", "from a file", 11 })
        local none, err = go(code, { body = pieces { "once" } })
        equal({ none == nil, err.code }, { true, "redirect" })
        has(err.message, "give the body as a text or a file")
    end
    local none, err = go(302, { method = "PUT", body = pieces { "once" } })
    equal({ none == nil, err.code }, { true, "redirect" })
    -- those that make a GET of it need no body
    for _, code in ipairs { 301, 302, 303 } do
        local asked = assert(go(code, { body = pieces { "once" } }))
        equal({ asked.method, asked.body }, { "GET", "" })
        asked = assert(go(code, { multipart = { { name = "a", file = path } } }))
        equal({ asked.method, asked.body }, { "GET", "" })
    end
    -- in the middle of the body
    local large = t.file(("y"):rep(3 << 20))
    local res = assert(lash.http.post(base .. "/refuse/1000?status=307&location=/count", { file = large }))
    equal(res:json().bytes, 3 << 20)
end)

case("an answer before the body is over", function()
    serve()
    local res = assert(lash.http.post(base .. "/refuse/1000", { body = function()
        lash.sleep(0)
        return ("x"):rep(1000)
    end }))
    equal({ res.status, res.body }, { 413, "too much" })
    -- the answer comes while libcurl waits for a piece
    local n = 0
    res = assert(lash.http.post(base .. "/refuse/5", { body = function()
        n = n + 1
        if n == 2 then
            lash.sleep(0.2)
        end
        return n < 50 and "12345" or nil
    end }))
    equal({ res.status, res.body }, { 413, "too much" })
end)

case("a streamed answer to a streamed body", function()
    serve()
    local res <close> = assert(lash.http.stream { url = base .. "/echo", method = "POST", body = pieces { "a", "b" } })
    equal(lash.json.decode(res:read("a")).body, "ab")
end)

case("a body that is read from another answer", function()
    serve()
    local source <close> = assert(lash.http.stream { url = base .. "/big/5000000" })
    local got = assert(lash.http.post(base .. "/count", { body = function() return source:read() end })):json()
    equal(got.bytes, 5000000)
    -- if that one breaks, so does this
    local broken <close> = assert(lash.http.stream { url = base .. "/cut/100" })
    local none, err = lash.http.post(base .. "/count", { body = function() return broken:read() end })
    equal({ none == nil, err.code }, { true, "closed" })
end)

-- ---- downloads ----

local function contents(path)
    local f = io.open(path, "rb")
    if not f then
        return nil
    end
    local text = f:read("a")
    f:close()
    return text
end

-- The names in the directory of `path`.
local function beside(path)
    local pipe = assert(io.popen("ls -A '" .. path:match("^(.*)/") .. "'"))
    local names = pipe:read("a")
    pipe:close()
    return names
end

case("a download is written whole or not at all", function()
    serve()
    local path = t.path()
    local got = assert(lash.http.download(base .. "/big/3000000", path))
    equal({ got.status, got.bytes, got.url, got.headers["content-length"] },
        { 200, 3000000, base .. "/big/3000000", "3000000" })
    local text = contents(path)
    equal(#text, 3000000)
    equal(text:byte(2999999), 2999998 % 256)
    equal(assert(lash.http.download(base .. "/gzip", path)).bytes, 19)
    equal(contents(path), "hello, packed world")
    local before = beside(path)
    local function fails(code, part, ...)
        local none, err = lash.http.download(...)
        equal({ none == nil, err.code }, { true, code })
        has(err.message, part)
        equal(beside(path), before, "nothing is left beside")
        return err
    end
    local old = contents(path)
    fails("closed", "try again", base .. "/cut/100", path)
    fails("timeout", "idle_timeout", base .. "/stuck", path, { idle_timeout = 0.1 })
    fails("too_large", "64 KiB", base .. "/big/70000", path, { max_body = "64K" })
    fails("too_large", "1 MiB", base .. "/endless", path, { max_body = "1M" })
    fails("too_large", "8 MiB", base .. "/bomb", path, { max_body = "8M" })
    local err = fails("status", "404", base .. "/nowhere?key=sesame", path)
    equal(err.status, 404)
    ok(not err.message:find("sesame"), err.message)
    fails("connect", "no connection", "http://127.0.0.1:1/", path)
    fails("ENOENT", "create it first", base .. "/gzip", path:match("^(.*)/") .. "/not/x")
    fails("EISDIR", "name a file", base .. "/gzip", path:match("^(.*)/"))
    fails("ESPIPE", "/dev/null", base .. "/gzip", "/dev/null")
    equal(contents(path), old)
    t.raises("the path must be", lash.http.download, base, nil)
    t.raises("url and method", lash.http.download, base, path, { method = "PUT" })
    t.raises("unknown option 'max'", lash.http.download, base, path, { max = 1 })
end)

case("a download that is cancelled leaves nothing", function()
    serve()
    local path = t.path()
    local before = beside(path)
    local task = lash.spawn(function() return lash.http.download(base .. "/hold/d?how=flood", path) end)
    for _ = 1, 1000 do
        if beside(path) ~= before then
            break
        end
        lash.sleep(0.01)
    end
    ok(beside(path) ~= before, "it has begun")
    task:cancel()
    task:wait()
    assert(lash.http.get(base .. "/closed/d"))
    for _ = 1, 500 do
        if beside(path) == before then
            break
        end
        lash.sleep(0.01)
    end
    equal(beside(path), before)
end)

case("a download keeps permissions and follows a link", function()
    serve()
    local path = t.file("old")
    local link = t.path()
    assert(os.execute(("chmod 640 '%s' && ln -s '%s' '%s'"):format(path, path, link)))
    t.remove_later(link)
    assert(lash.http.download(base .. "/status/200", link))
    equal(contents(path), "status 200")
    local pipe = assert(io.popen(("stat -c %%a '%s'; stat -c %%F '%s'"):format(path, link)))
    equal(pipe:read("a"), "640\nsymbolic link\n")
    pipe:close()
end)

case("the same in a worker", function()
    serve()
    local url, path, target = base, t.file("up"), t.path()
    t.remove_later(target)
    local code = engine.ship("test", function()
        local got = assert(lash.http.put(url .. "/count", { file = path })):json()
        local n = 0
        local chunked = assert(lash.http.post(url .. "/echo", { body = function()
            n = n + 1
            lash.sleep(0.001)
            return n < 4 and tostring(n) or nil
        end })):json()
        local down = assert(lash.http.download(url .. "/big/100000", target))
        return { got.bytes, chunked.body, down.bytes }
    end)
    local done, got = engine.offload(code, nil)
    equal(done, true)
    equal(got, { 2, "123", 100000 })
    equal(#contents(target), 100000)
end)

return t.main(...)
