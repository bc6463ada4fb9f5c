-- lash.http against servers that do not behave: tests/program/httpd.py plays them.
local t = require "t"
local engine = require "lash.core.engine"
local lash = require "lash"
local start_server = require "support.serve"

local case, equal, ok, has = t.case, t.equal, t.ok, t.has

local base

local function serve()
    base = start_server()
end

-- The answer that the steps make (see httpd.py): the whole body, or nil and the error, by both ways of asking.
local function play(steps, options)
    local all = { url = base .. "/play", method = "POST", json = lash.json.array(steps) }
    for name, value in pairs(options or {}) do
        all[name] = value
    end
    local whole, err = lash.http.request(all)
    local res <close>, broken = lash.http.stream(all)
    local text, why
    if res then
        text, why = res:read("a")
    else
        why = broken
    end
    equal(why and why.code, err and err.code, "both ways")
    equal(text, whole and whole.body)
    if whole then
        return whole.body, whole
    end
    return nil, err
end

local function fails(code, part, steps, options)
    local none, err = play(steps, options)
    equal({ none == nil, err and err.code }, { true, code })
    has(err.message, part)
    return err
end

local HEAD = "HTTP/1.1 200 OK\r\n"

case("a head without end", function()
    if t.slower >= 20 then
        t.skip("the server ends before a slow reader has had enough")
    end
    serve()
    local line = "X-Pad: " .. ("p"):rep(1000) .. "\r\n"
    fails("too_large", "256 KiB", { HEAD, { ["repeat"] = { line } } })
    fails("too_large", "256 KiB", { HEAD .. "X: y\r\n", { ["repeat"] = { " folded\r\n" } } })
    fails("too_large", "256 KiB", { HEAD .. "X: ", { ["repeat"] = { ("p"):rep(4096) } } })
    fails("protocol", "not HTTP", { HEAD, { ["repeat"] = { " folded\r\n" } } })
end)

case("a trailer without end", function()
    serve()
    fails("too_large", "256 KiB", { HEAD .. "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n",
        { ["repeat"] = { "X-After: " .. ("p"):rep(1000) .. "\r\n" } } })
end)

case("interim answers without end", function()
    serve()
    fails("protocol", "1xx", { { ["repeat"] = { "HTTP/1.1 100 Continue\r\n\r\n" } } })
    fails("protocol", "1xx", { { ["repeat"] = { "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" }, times = 40 }, HEAD .. "\r\n" })
    equal(play { { ["repeat"] = { "HTTP/1.1 102 Processing\r\n\r\n" }, times = 20 }, HEAD .. "Content-Length: 2\r\n\r\nok" }, "ok")
end)

case("a body longer or shorter than it says", function()
    serve()
    local text, res = play { HEAD .. "Content-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged" }
    equal(text, "ok")
    equal(res.status, 200)
    -- what came too much is no answer to the next request
    equal(assert(lash.http.get(base .. "/status/201")).status, 201)
    fails("closed", "try again", { HEAD .. "Content-Length: 10\r\n\r\nok", lash.null })
    local most = HEAD .. "Content-Length: 9223372036854775807\r\n\r\nok"
    fails("closed", "try again", { most, lash.null }, { max_body = math.maxinteger })
    fails("too_large", "1 MiB", { most, lash.null }, { max_body = "1M" })
    for _, length in ipairs { "-1", "x", "1, 2", "99999999999999999999999" } do
        local body, err = play({ HEAD .. "Content-Length: " .. length .. "\r\nConnection: close\r\n\r\nok", lash.null })
        ok(body == "ok" or err, length)
    end
end)

case("hangs up in the head, in a chunk, between chunks", function()
    serve()
    local chunked = HEAD .. "Transfer-Encoding: chunked\r\n\r\n"
    fails("closed", "closed the connection", { "HTTP/1.1 200 O", lash.null })
    fails("closed", "closed the connection", { HEAD .. "X-Half: ", lash.null })
    fails("closed", "closed the connection", { lash.null })
    fails("closed", "closed the connection", { chunked .. "5\r\nab", lash.null })
    fails("closed", "closed the connection", { chunked .. "5\r\nabcde\r\n", lash.null })
    fails("closed", "closed the connection", { chunked .. "5", lash.null })
    fails("closed", "closed the connection", { chunked .. "2\r\nab\r\n0\r\n", lash.null })
end)

case("chunks that are none", function()
    serve()
    local chunked = HEAD .. "Transfer-Encoding: chunked\r\n\r\n"
    for _, bad in ipairs { "zz\r\nab\r\n", "-5\r\nab\r\n", "2\r\nabXX\r\n", "ffffffffffffffffff\r\nab", "\r\n\r\n", "5;" } do
        local none, err = play { chunked .. bad, lash.null }
        ok(none == nil and (err.code == "protocol" or err.code == "closed"), bad)
    end
end)

case("a byte now and then", function()
    serve()
    local slow = { HEAD .. "Content-Length: 1000000\r\n\r\n", { ["repeat"] = { "x", 0.05 } } }
    -- never idle, so only the limit in all ends it
    fails("timeout", "raise timeout", slow, { timeout = 1, idle_timeout = 5 * t.slower })
    fails("timeout", "raise timeout", { HEAD .. "X: ", { ["repeat"] = { "p", 0.05 } } }, { timeout = 1 })
    local silent = { HEAD .. "Content-Length: 10\r\n\r\nx", { wait = "never" } }
    fails("timeout", "idle_timeout", silent, { idle_timeout = 0.3 })
    fails("timeout", "idle_timeout", { { wait = "never" } }, { idle_timeout = 0.3 })
end)

case("packed bodies that are bombs", function()
    serve()
    for _, ask in ipairs { "request", "stream" } do
        local res, err = lash.http[ask] { url = base .. "/bomb", max_body = "8M" }
        if ask == "stream" then
            res, err = res:read("a")
        end
        equal({ res == nil, err.code }, { true, "too_large" })
    end
    -- read slowly, the rest stays with the server or in a small buffer
    local res <close> = assert(lash.http.stream { url = base .. "/bomb" })
    local total = 0
    for chunk in res:chunks() do
        ok(#chunk <= 256 << 10, #chunk)
        total = total + #chunk
    end
    equal(total, 64 << 20)
    fails("encoding", "unpacked", { HEAD .. "Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope" })
end)

case("what is not HTTP", function()
    serve()
    fails("protocol", "not HTTP", { "SSH-2.0-OpenSSH_9.2\r\n", lash.null })
    fails("protocol", "not HTTP", { ("\0"):rep(100), lash.null })
    local none, err = play { "HTTP/0.9 what\r\n\r\n", lash.null }
    ok(none == nil and err.code == "protocol" or none, err)
end)

case("so many requests to one host at a time", function()
    serve()
    assert(lash.http.configure { per_host = 2 })
    local list = {}
    for i = 1, 8 do
        list[i] = function()
            return assert(lash.http.get(base .. "/gauge/50?id=" .. i)).status
        end
    end
    for _, result in ipairs(lash.gather(list)) do
        equal(result.value, 200)
    end
    local gauges = assert(lash.http.get(base .. "/gauges")):json()
    equal(gauges.peak, 2)
    equal(table.concat(gauges.order, " "):gsub("%d", function(n) return n end), "1 2 3 4 5 6 7 8")
    -- a stream counts until it is closed; who waits can be cancelled, or meets its limit
    local a <close> = assert(lash.http.stream { url = base .. "/hold/a?how=head" })
    do
        local b <close> = assert(lash.http.stream { url = base .. "/hold/b?how=head" })
        local none, err = lash.http.get(base .. "/status/200", { timeout = 0.2 })
        equal({ none == nil, err.code }, { true, "timeout" })
        local waiting = lash.spawn(function() return lash.http.get(base .. "/status/200") end)
        local behind = lash.spawn(function() return assert(lash.http.get(base .. "/status/202")).status end)
        lash.sleep(0)
        waiting:cancel()
        waiting:wait()
        equal((waiting:result()), false)
        equal(assert(lash.http.get(start_server() .. "/status/203")).status, 203, "another host is free")
        b:close()
        behind:wait()
        equal({ behind:result() }, { true, 202 })
    end
    -- a redirect goes back into the line
    equal(assert(lash.http.get(base .. "/redirect?to=/status/200")).status, 200)
    -- without a limit those that wait go on
    assert(lash.http.configure { per_host = 1 })
    local waiting = lash.spawn(function() return assert(lash.http.get(base .. "/status/200")).status end)
    lash.sleep(0)
    assert(lash.http.configure { per_host = false })
    waiting:wait()
    equal({ waiting:result() }, { true, 200 })
    for _, n in ipairs { 0, -1, 1.5, "2", true } do
        t.raises("per_host must be", lash.http.configure, { per_host = n })
    end
    t.raises("unknown option 'perhost'", lash.http.configure, { perhost = 1 })
    t.raises("table of options", lash.http.configure, 1)
end)

case("the rest is cancelled while requests wait for their turn", function()
    serve()
    assert(lash.http.configure { per_host = 1 })
    lash.spawn(function()
        for _ = 1, 5 do
            lash.spawn(function() return lash.http.get(base .. "/delay/60000") end)
        end
        lash.sleep(0.05)
    end):wait()
    equal(assert(lash.http.get(base .. "/status/200")).status, 200)
end)

case("proxies", function()
    serve()
    -- the server answers for every host
    local asked = assert(lash.http.get("http://nowhere.invalid/echo", { proxy = base })):json()
    equal(asked.path, "http://nowhere.invalid/echo")
    local res, err = lash.http.get("https://nowhere.invalid/echo", { proxy = base:gsub("//", "//user:sesame@") .. "/" })
    equal({ res == nil, err.code }, { true, "connect" })
    has(err.message, "proxy")
    ok(not err.message:find("sesame"), err.message)
    res, err = lash.http.get(base .. "/echo", { proxy = "http://127.0.0.1:1" })
    equal({ res == nil, err.code }, { true, "connect" })
    for _, bad in ipairs { "127.0.0.1:1", "ftp://a", "http://", "http://a/b" } do
        res, err = lash.http.get(base, { proxy = bad })
        equal({ res == nil, err.code }, { true, "request" }, bad)
        has(err.message, "proxy")
    end
    t.raises("proxy must be", lash.http.get, base, { proxy = 1 })
    t.raises("proxy must be", lash.http.get, base, { proxy = "" })
end)

case("proxies of the environment", function()
    serve()
    local script = t.file([[
        local lash = require "lash"
        local function path(options)
            local res = lash.http.get(arg[1] .. "/echo", options)
            return res and res:json().path or "none"
        end
        print(path(), path { proxy = false })
    ]], ".lua")
    local function run(env)
        local pipe = assert(io.popen(("env %s '%s' '%s' %s 2>&1"):format(env, os.getenv "LASH", script, base)))
        local text = pipe:read("a")
        pipe:close()
        return text
    end
    equal(run("http_proxy=" .. base), base .. "/echo\t/echo\n")
    equal(run("http_proxy=http://127.0.0.1:1"), "none\t/echo\n")
    equal(run("http_proxy=http://127.0.0.1:1 NO_PROXY=127.0.0.1"), "/echo\t/echo\n")
    equal(run("http_proxy=http://127.0.0.1:1 no_proxy='*'"), "/echo\t/echo\n")
    equal(run("all_proxy=" .. base), base .. "/echo\t/echo\n")
end)

case("certificate authorities, and HTTP/2", function()
    local tests = os.getenv "LASH_TESTS" or "tests"
    local dir = tests .. "/fixtures/tls/"
    base = start_server(("--tls '%sserver.pem' '%sserver.key'"):format(dir, dir))
    local url = base:gsub("^http://127.0.0.1", "https://localhost") .. "/echo"
    local res, err = lash.http.get(url)
    equal({ res == nil, err.code }, { true, "tls" })
    local ca = dir .. "ca.pem"
    equal(assert(lash.http.get(url, { ca_file = ca })).status, 200)
    local stream <close> = assert(lash.http.stream { url = url, ca_file = ca })
    equal(lash.json.decode(stream:read("a")).method, "GET")
    -- trust is of the request: a connection that another one's authority vouched for is not used
    res, err = lash.http.get(url)
    equal({ res == nil, err.code }, { true, "tls" })
    res, err = lash.http.get(url, { ca_file = "/nowhere/ca.pem" })
    equal({ res == nil, err.code }, { true, "tls" })
    has(err.message, "mend ca_file")
    res, err = lash.http.get(url, { ca_file = ca, version = "2" })
    if res then
        equal(res.status, 200) -- this server knows 1.1 only
    else
        equal(err.code, "request")
        has(err.message, "libcurl 8.0")
    end
    equal(assert(lash.http.get(url, { ca_file = ca, version = "1.1" })).version, "1.1")
    t.raises("version must be", lash.http.get, url, { version = 2 })
    t.raises("ca_file must be", lash.http.get, url, { ca_file = true })
end)

case("the core is not crashed by those who call it", function()
    serve()
    local core = require "lash.core.http"
    local stream = assert(core.open("GET", base .. "/big/1000", {}, nil, {}))
    local mt = getmetatable(stream)
    equal(stream:step(), "head")
    mt.__gc(stream)
    mt.__gc(stream)
    for _, method in ipairs { "step", "read", "line", "event" } do
        local none, err = stream[method](stream)
        equal({ none == nil, err.code }, { true, "cancelled" }, method)
    end
    stream:send("x")
    stream:send(nil)
    equal(table.pack(stream:head()), { n = 0 })
    equal(table.pack(stream:over()), { n = 0 })
    local file = core.file(t.path())
    equal(select(2, file:commit()).code, "EBADF")
    equal(select(2, file:read(0, 10)).code, "EBADF")
    equal(select(2, file:write("x")).code, "EBADF")
    equal(file:create(), true)
    equal(select(2, file:create()).code, "EBUSY")
    equal(select(2, file:open()).code, "EBUSY")
    local task = lash.spawn(function() return file:write(("x"):rep(1 << 20)) end)
    lash.sleep(0)
    pcall(getmetatable(file).__gc, file)
    task:wait()
    t.raises("closed", file.write, file, "x")
    t.raises("expected", core.limit_hosts, -1)
    ok(engine.live() == 1)
end)

return t.main(...)
