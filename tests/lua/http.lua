-- lash.http against tests/program/httpd.py, in tasks on main and in a worker.
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

-- Until the system knows that the server has closed the connection that we keep.
local function wait_until_closed()
    local CLOSE_WAIT = "08"
    local port = (":%04X"):format(tonumber(base:match("%d+$")))
    t.wait_until(function()
        for line in io.lines("/proc/net/tcp") do
            local remote, state = line:match("^%s*%d+: %x+:%x+ %x+(:%x+) (%x+)")
            if remote == port and state == CLOSE_WAIT then
                return true
            end
        end
    end, "the end of the connection")
end

local function echo(options)
    options.url = options.url or base .. "/echo"
    return ask(options)
end

case("an answer and its fields", function()
    serve()
    local res = assert(lash.http.get(base .. "/headers"))
    equal(res.status, 200)
    equal(res.ok, true)
    equal(res.body, "ok")
    equal(res.headers["x-twice"], "a, b")
    equal(res.headers["X-TWICE"], "a, b")
    equal(res.headers["Set-Cookie"], { "a=1; Path=/", "b=2, c" })
    equal(res.headers["x-empty"], "")
    equal(res.headers["none"], nil)
    equal(res.url, base .. "/headers")
    equal(res.version, "1.1")
    ok(res.first_byte > 0 and res.first_byte <= res.total)
    res = assert(lash.http.get(base .. "/status/503"))
    equal(res.status, 503)
    equal(res.ok, false)
    equal(res.body, "status 503")
    local value, err = res:json()
    equal(value, nil)
    equal(err.code, "json")
    equal(assert(lash.http.get(base .. "/gzip")).body, "hello, packed world")
    equal(#assert(lash.http.get(base .. "/big/3000000")).body, 3000000)
end)

case("what is sent", function()
    serve()
    local asked = echo { method = "post", json = { list = lash.json.array {}, n = 9007199254740993 } }
    equal(asked.method, "POST")
    equal(asked.body, '{"list":[],"n":9007199254740993}')
    equal(asked.header["content-type"], "application/json")
    asked = echo { method = "PUT", body = "a\0b", headers = { ["Content-Type"] = "x/y", A = { "1", 2 }, B = 3 } }
    equal(asked.method, "PUT")
    equal(asked.body, "a\0b")
    equal(asked.header["content-type"], "x/y")
    local seen = {}
    for _, pair in ipairs(asked.headers) do
        seen[#seen + 1] = pair[1] == "A" and pair[2] or nil
    end
    equal(seen, { "1", "2" })
    asked = echo { query = { q = "a b&c", n = { 1, 2 }, yes = true }, url = base .. "/echo?x=1#part" }
    equal(asked.path, "/echo?x=1&n=1&n=2&q=a%20b%26c&yes=true")
    asked = echo { method = "DELETE" }
    equal(asked.header["content-length"], nil)
    local inherited = setmetatable({ url = base .. "/echo" }, { __index = { query = { a = 1 }, json = { 1 }, method = "POST" } })
    local other = assert(lash.http.request(inherited)):json()
    equal({ other.path, other.body, other.method }, { "/echo?a=1", "[1]", "POST" })
    local res = assert(lash.http.post(base .. "/echo", { body = "text" }))
    equal(res:json().body, "text")
    equal(res:json().method, "POST")
end)

case("redirects and kept connections", function()
    serve()
    local asked, res = echo { url = base .. "/redirect?to=/echo", method = "POST", body = "x" }
    equal(asked.method, "GET")
    equal(res.url, base .. "/echo")
    equal(asked.connection, 1)
    equal(asked.nth, 2)
    equal(assert(lash.http.get(base .. "/redirect?to=/echo", { follow = false })).status, 302)
    local none, err = lash.http.get(base .. "/loop", { follow = 3 })
    equal(none, nil)
    equal(err.code, "protocol")
    has(err.message, "3 redirects")
    -- closed by the server between two requests
    assert(lash.http.get(base .. "/idle/10"))
    wait_until_closed()
    equal(assert(lash.http.get(base .. "/connections")).body, "2")
end)

case("failures are nil and an error", function()
    serve()
    local function fails(code, part, ...)
        local res, err = lash.http.get(...)
        equal(res, nil)
        equal(err.code, code)
        has(tostring(err), part)
        has(err.message, part)
        ok(not err.message:find("sesame"), err.message)
    end
    fails("connect", "no connection to http://127.0.0.1:1/", "http://user:sesame@127.0.0.1:1/?key=sesame")
    fails("resolve", "nowhere.invalid", "http://nowhere.invalid/")
    fails("timeout", "within 100 ms", base .. "/delay/5000", { timeout = 0.1 })
    fails("timeout", "idle_timeout", base .. "/stuck", { idle_timeout = 0.1 })
    fails("too_large", "64 KiB", base .. "/big/70000", { max_body = "64K" })
    fails("closed", "try again", base .. "/cut/10")
    fails("url", "begin it with http://", "localhost/?sesame")
    fails("url", "scheme", "ftp://localhost/")
    fails("request", "Content-Length", base, { headers = { ["Content-Length"] = "1" } })
    fails("request", "line break", base, { headers = { X = "a\r\nY: b" } })
    fails("request", "header", base, { headers = { ["a b"] = "x" } })
    fails("request", "header", base, { headers = { a = "x\0y" } })
end)

case("misuse raises", function()
    local get, request = lash.http.get, lash.http.request
    t.raises("the URL must be a string, not a nil", get)
    t.raises("lash.http: the URL contains a zero byte", get, "http://127.0.0.1/\0")
    t.raises("zero byte", get, "http://a\0b/")
    t.raises("unknown option 'timout' (did you mean 'timeout'?)", get, "http://a/", { timout = 1 })
    for _, time in ipairs { 0, -1, 0 / 0, math.huge, "1" } do
        t.raises("timeout must be a number of seconds", get, "http://a/", { timeout = time })
    end
    for _, size in ipairs { 0, -1, 1.5, "x", "1T", "999999999999999G", 0 / 0, {} } do
        t.raises("max_body must be", get, "http://a/", { max_body = size })
    end
    t.raises("follow must be", get, "http://a/", { follow = "yes" })
    t.raises("either body or json", lash.http.post, "http://a/", { body = "", json = {} })
    t.raises("a function has no JSON form", lash.http.post, "http://a/", { json = { f = print } })
    t.raises("body must be a string", lash.http.post, "http://a/", { body = {} })
    t.raises("headers must be", get, "http://a/", { headers = { "X: y" } })
    t.raises("header X must be", get, "http://a/", { headers = { X = true } })
    t.raises("query.a must be", get, "http://a/", { query = { a = print } })
    t.raises("table of options", request, "http://a/")
    t.raises("url and method", get, "http://a/", { method = "PUT" })
    local err = t.raises("lash.http", function() get(1) end)
    has(err, "http.lua:", "the place is the caller's")
    ok(not err:find("lash/http.lua"), err)
end)

case("many at once take as long as one", function()
    serve()
    assert(lash.http.get(base .. "/connections"))
    local began = lash.now()
    local list = {}
    for i = 1, 50 do
        list[i] = function() return assert(lash.http.get(base .. "/delay/500")).body end
    end
    for _, result in ipairs(lash.gather(list)) do
        equal(result.value, "late")
    end
    local took = lash.now() - began
    ok(took >= 0.5 and took < 20, took) -- not 25
end)

case("cancel ends a request, and what is left at the end too", function()
    serve()
    for _, path in ipairs { "/delay/60000", "/stuck", "/endless" } do
        local task = lash.spawn(function() return lash.http.get(base .. path, { max_body = "1G" }) end)
        lash.sleep(0.05)
        task:cancel()
        task:wait()
        equal((task:result()), false)
    end
    lash.spawn(function()
        lash.spawn(function() return lash.http.get(base .. "/delay/60000") end)
        lash.sleep(0.05)
    end):wait()
end)

case("the same in a worker", function()
    serve()
    local url = base .. "/echo"
    local code = engine.ship("test", function(n)
        local res = lash.http.post(url, { json = { n = n } })
        local none, err = lash.http.get("http://127.0.0.1:1/")
        -- where nothing can yield a worker still waits
        local text = ("x"):gsub("x", function() return lash.http.get(url).status end)
        return { body = res:json().body, none = none == nil, code = err.code, text = text }
    end)
    for _ = 1, 3 do
        local done, got = engine.offload(code, 5)
        equal(done, true)
        equal(got, { body = '{"n":5}', none = true, code = "connect", text = "200" })
    end
end)

case("a worker that is cancelled ends its request", function()
    serve()
    local url = base .. "/delay/60000"
    local code = engine.ship("test", function() return lash.http.get(url) end)
    local task = lash.spawn(function() return engine.offload(code) end)
    lash.sleep(0.1)
    task:cancel()
    task:wait()
    equal((task:result()), false)
end)

return t.main(...)
