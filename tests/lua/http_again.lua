-- What lash.http does for speed must not be seen: libcurl's handles are used again, headers are read and made in C.
local t = require "t"
local core = require "lash.core.http"
local exchange = require "lash.http.exchange"
local lash = require "lash"
local start_server = require "support.serve"

local case, equal, ok = t.case, t.equal, t.ok

local base

-- What was sent, but for the connection that it came by.
local function seen(options)
    local res = assert(lash.http.request(options))
    if options.method == "HEAD" then
        return { head = true, status = res.status, body = res.body }
    end
    local asked = assert(res:json())
    return { method = asked.method, path = asked.path, headers = asked.headers, body = asked.body, url = res.url }
end

-- Each kind of request that libcurl is told otherwise than another.
local function kinds()
    local proxy = base:gsub("^http://", "http://user:secret@") .. "/"
    return {
        get = { url = base .. "/echo" },
        query = { url = base .. "/echo?other=1", headers = { ["User-Agent"] = "own", Accept = "x/y" } },
        post = { url = base .. "/echo", method = "POST", body = "posted" },
        longer = { url = base .. "/echo", method = "POST", body = ("long"):rep(40000) },
        empty = { url = base .. "/echo", method = "POST" },
        typed = { url = base .. "/echo", method = "POST", json = { 1, 2 }, timeout = 20, connect_timeout = 5 },
        put = { url = base .. "/echo", method = "PUT", body = "put" },
        delete = { url = base .. "/echo", method = "DELETE" },
        odd = { url = base .. "/echo", method = "PROPFINDSOMEMORE", body = "<x/>" },
        with_body = { url = base .. "/echo", method = "GET", body = "a GET with a body" },
        head = { url = base .. "/echo", method = "HEAD" },
        user = { url = base:gsub("^http://", "http://me:password@") .. "/echo" },
        proxied = { url = "http://nowhere.invalid/echo", proxy = proxy, method = "POST", body = "by proxy" },
        pieces = { url = base .. "/echo", method = "POST", body = function() return nil end, length = 0 },
        redirected = { url = base .. "/redirect?to=/echo", method = "POST", body = "gone with the redirect" },
        again = { url = base .. "/redirect?to=/echo&code=307", method = "POST", body = "sent again" },
        encoding = { url = base .. "/echo", headers = { ["accept-encoding"] = "identity", Expect = "" } },
    }
end

case("a long body that is no string is sent as one, once, and with a redirect again", function()
    base = start_server()
    local text = ("long"):rep(40000)
    local function body()
        return require "lash.core.json".body(text:sub(1, 4), { text:sub(5) }, "")
    end
    for _, path in ipairs { "/echo", "/redirect?to=/echo&code=307" } do
        local long = body()
        local status, answer = core.exchange("POST", base .. path, nil, long, {})
        equal(status, 200, path)
        equal(lash.json.decode(answer).body, text, path)
        equal(tostring(long), "")
        t.raises("was sent before", core.exchange, "POST", base .. path, nil, long, {})
        local handle <close> = assert(core.open("POST", base .. path, nil, body(), {}))
        equal(handle:step(), "head")
        equal(lash.json.decode(require("lash.http.stream").collect(handle)).body, text, path)
    end
    local _, err = core.exchange("HEAD", base .. "/echo", nil, body(), {})
    t.has(tostring(err), "HEAD request cannot have a body")
    t.raises("string expected", core.exchange, "POST", base, nil, io.stdout, {})
    body():__gc() -- as a script could
    local given_up = body()
    given_up:__gc()
    t.raises("was sent before", core.exchange, "POST", base, nil, given_up, {})
    local task = lash.spawn(core.exchange, "POST", base .. "/hold/long", nil, body(), {})
    assert(lash.http.get(base .. "/held/long"))
    task:cancel()
    task:wait()
    equal((task:result()), false)
end)

case("a handle that was used before sends what a new one sends", function()
    base = start_server()
    local all, alone, names = kinds(), {}, {}
    for name, options in pairs(all) do
        names[#names + 1] = name
        alone[name] = seen(options)
    end
    table.sort(names)
    ok(alone.post.body == "posted" and alone.query.path == "/echo?other=1" and alone.empty.body == "")
    local function header(of, wanted)
        for _, pair in ipairs(alone[of].headers) do
            if pair[1]:lower() == wanted then
                return pair[2]
            end
        end
    end
    equal({ header("get", "user-agent"), header("query", "user-agent") }, { "lash", "own" })
    ok(header("get", "accept-encoding"):find "gzip", "what libcurl can unpack is offered")
    equal({ header("encoding", "accept-encoding"), header("longer", "expect") }, { "identity", nil })
    equal({ header("user", "authorization"), header("get", "authorization") }, { "Basic bWU6cGFzc3dvcmQ=", nil })
    ok(header("proxied", "proxy-authorization") and not header("post", "proxy-authorization"))
    equal({ header("empty", "content-type"), header("empty", "content-length") }, { nil, "0" })
    for _, before in ipairs(names) do
        for _, name in ipairs(names) do
            seen(all[before])
            equal(seen(all[name]), alone[name], name .. " after " .. before)
        end
    end
end)

case("a limit of time of one request is not that of the next", function()
    base = start_server()
    for _ = 1, 3 do
        local none, err = lash.http.get(base .. "/delay/5000", { timeout = 0.1 })
        equal({ none, err.code }, { nil, "timeout" })
        equal(assert(lash.http.get(base .. "/echo", { timeout = 5 * t.slower })).status, 200)
        equal(assert(lash.http.get(base .. "/delay/300")).status, 200)
    end
end)

-- As they were made before C did it.
local function by_hand(pairs_of)
    local headers = {}
    for _, pair in ipairs(pairs_of) do
        local name, value = pair[1]:lower(), pair[2]
        local before = headers[name]
        if type(before) == "table" then
            before[#before + 1] = value
        elseif before then
            headers[name] = { before, value }
        else
            headers[name] = name == "set-cookie" and { value } or value
        end
    end
    for name, value in pairs(headers) do
        if type(value) == "table" and name ~= "set-cookie" then
            headers[name] = table.concat(value, ", ")
        end
    end
    return headers
end

case("headers of an answer: all of them, and one by one", function()
    local names = { "A", "a", "Set-Cookie", "set-cookie", "SET-COOKIE", "X-Request-Id", "x-request-id", "b", "",
        ("Long-Name-"):rep(20) }
    local values = { "", "1", "a, b", ("v"):rep(300), "\xff" }
    for _ = 1, 2000 do
        local list, head = {}, {}
        for i = 1, math.random(0, 8) do
            list[i] = { names[math.random(#names)], values[math.random(#values)] }
            head[i] = list[i][1] .. "\0" .. list[i][2] .. "\0"
        end
        head = table.concat(head)
        local wanted = by_hand(list)
        equal(core.headers(head), wanted)
        for _, name in ipairs(names) do
            local value = wanted[name:lower()]
            equal(core.header(head, name), type(value) == "table" and value[1] or value, name)
        end
    end
    local many = core.headers(("x\0y\0"):rep(50000))
    equal(#many.x, 50000 * 3 - 2)
    -- such come from nobody but a script that calls the core itself
    for _, broken in ipairs { "a", "a\0", "\0", "\0\0\0", "a\0b" } do
        equal(type(core.headers(broken)), "table")
        core.header(broken, "a")
    end
end)

-- What the server got of these headers, in order.
local function sent(headers)
    local res, err = lash.http.get(base .. "/echo", { headers = headers })
    return res and assert(res:json()).headers or err
end

case("headers of a request: a plain table and one that Lua has to look into", function()
    base = start_server()
    local many = {}
    for i = 1, 100 do
        many["X-" .. i] = i
    end
    for _, headers in ipairs {
        {}, { a = "1" }, { b = "2", a = "1", C = 3, A = 4.0 }, { list = { "x", 2, "" }, other = {} }, many,
        { Accept = "" }, { Expect = "nothing" }, { ["content-type"] = "x/y" }, { a = { "1", "2\0" } },
        { ["a\0b"] = "x" },
        { ["a b"] = "1" }, { Host = "else.where" }, { [""] = "x" }, { a = "\t x", b = "x\r\n" }, { a = 2^53, b = -0.0 },
    } do
        local plain = sent(headers)
        ok(core.plain_headers(headers))
        local looked_into = setmetatable(headers, {})
        ok(not core.plain_headers(looked_into))
        equal(sent(looked_into), plain)
    end
    for _, other in ipairs { { 1 }, { [1.5] = "x" }, { a = true }, { a = { {} } }, { a = print },
        { a = setmetatable({}, {}) }, { a = { "x", false } }, "text", 1 } do
        ok(not core.plain_headers(other))
    end
end)

case("an exchange gives what a request gives", function()
    base = start_server()
    for _, path in ipairs { "/headers", "/status/503", "/gzip", "/badgzip", "/big/300000", "/chunked", "/cut/10",
        "/hangup", "/redirect?to=/echo", "/hugehead", "/early", "/garbage", "/close", "/loop" } do
        local options = { url = base .. path, method = "POST", body = "x", headers = { A = "b" }, follow = false }
        local wanted, why = lash.http.request(options)
        local got, err = exchange.post(base .. path, { A = "b" }, "x", { redirects = 0 })
        if wanted then
            equal({ got.status, got.body, #got.head > 0 }, { wanted.status, wanted.body, true }, path)
            equal(got.headers, wanted.headers, path)
            equal(got.headers["X-ONE"], wanted.headers["x-one"])
            equal(core.header(got.head, "CONTENT-length"), wanted.headers["content-length"])
        else
            equal({ got, err.code, err.message }, { nil, why.code, why.message }, path)
        end
    end
    local none, err = exchange.post(base .. "/big/100", nil, nil, { max_body = 99 })
    equal({ none, err.code }, { nil, "too_large" })
    t.raises("header", exchange.post, base, { a = true }, "x", {})
    t.raises("zero byte", exchange.post, "http://a\0", {}, "x", {})
end)

return t.main(...)
