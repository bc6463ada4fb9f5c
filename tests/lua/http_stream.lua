-- lash.http.stream against tests/program/httpd.py: answers that are read in pieces.
local t = require "t"
local engine = require "lash.core.engine"
local exchange = require "lash.http.exchange"
local lash = require "lash"
local start_server = require "support.serve"

local case, equal, ok, has = t.case, t.equal, t.ok, t.has

local base

local function serve()
    base = start_server()
end

local HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
local CHUNKED = HEAD .. "Transfer-Encoding: chunked\r\n\r\n"

-- Texts as chunks, other steps as they are.
local function chunks(steps)
    local all = lash.json.array { CHUNKED }
    for _, step in ipairs(steps) do
        all[#all + 1] = type(step) == "string" and ("%x\r\n%s\r\n"):format(#step, step) or step
    end
    return all
end

-- The answer that the steps make: see httpd.py.
local function play(steps, options)
    local all = { url = base .. "/play", method = "POST", json = steps }
    for name, value in pairs(options or {}) do
        all[name] = value
    end
    return lash.http.stream(all)
end

local function go(name)
    assert(lash.http.get(base .. "/go/" .. name))
end

local END = "0\r\n\r\n"

case("an answer is there with its head, and read as it comes", function()
    serve()
    local res <close> = assert(play(chunks { { wait = "one" }, "first", { wait = "two" }, "second" }))
    equal(res.status, 200)
    equal(res.ok, true)
    equal(res.headers["Content-Type"], "text/event-stream")
    equal(res.url, base .. "/play")
    ok(res.first_byte > 0)
    go "one"
    equal(res:read(), "first")
    go "two"
    equal(res:read(), "second")
    -- the server sends no end: it is the closing that ends this
end)

case("read by count, as it comes, and to the end", function()
    serve()
    local steps = chunks { "abc", "defgh", "i" }
    steps[#steps + 1] = END
    local res <close> = assert(play(steps))
    equal(res:read(4), "abcd")
    equal(res:read(2), "ef")
    equal(res:read(100), "ghi")
    equal(table.pack(res:read(1)), { n = 1 })
    equal(table.pack(res:read()), { n = 1 })
    local all <close> = assert(play(steps))
    equal(all:read("a"), "abcdefghi")
    equal(all:read("a"), "")
    local pieces = {}
    local chunked <close> = assert(play(steps))
    for chunk in chunked:chunks() do
        pieces[#pieces + 1] = chunk
    end
    equal(table.concat(pieces), "abcdefghi")
    local large <close> = assert(lash.http.stream { url = base .. "/big/3000000" })
    equal(#large:read(1000001), 1000001)
    equal(#large:read("a"), 1999999)
end)

case("lines", function()
    serve()
    local steps = chunks { "one\r", "\ntw", "o\n\n", "\r\nfive\rstill five\nlast" }
    steps[#steps + 1] = END
    local res <close> = assert(play(steps))
    local lines = {}
    for line in res:lines() do
        lines[#lines + 1] = line
    end
    equal(lines, { "one", "two", "", "", "five\rstill five", "last" })
    -- a loop that is left goes on where it was
    local again <close> = assert(play(steps))
    for line in again:lines() do
        equal(line, "one")
        break
    end
    equal(again:lines()(), "two")
    equal(again:read("a"), "\n\r\nfive\rstill five\nlast")
end)

case("a line has a limit", function()
    serve()
    local function first(text, options)
        local steps = chunks { text }
        steps[#steps + 1] = END
        local res <close> = assert(play(steps, options))
        local fine, line = pcall(res:lines())
        return fine and line or line.code
    end
    equal(first("12345678\n", { max_line = 8 }), "12345678")
    equal(first("12345678\r\n", { max_line = 8 }), "12345678")
    equal(first("12345678", { max_line = 8 }), "12345678")
    equal(first("123456789\n", { max_line = 8 }), "too_large")
    equal(first("123456789", { max_line = 8 }), "too_large")
    equal(first(("x"):rep(2000000)), "too_large")
    -- without an end, memory stays bounded
    local res <close> = assert(lash.http.stream { url = base .. "/hold/line?how=flood" })
    local err = t.raises("max_line", res:lines())
    equal(err.code, "too_large")
    assert(lash.http.get(base .. "/closed/line"))
    local none, again = res:read()
    equal(none, nil)
    equal(again.code, "too_large")
end)

case("P2 events in any pieces", function()
    serve()
    local text = "\u{feff}: hi\r\n\r\nevent: \u{e4}\r\nid: 7\r\ndata: \u{20ac}\r\ndata: two\r\n\r\ndata: x\rretry: 1500\r\r"
    local want = {
        { event = "\u{e4}", data = "\u{20ac}\ntwo", id = "7" },
        { event = "message", data = "x", id = "7", retry = 1.5 },
    }
    for _, size in ipairs { 1, 2, 3, 7, 1000 } do
        local pieces = {}
        for at = 1, #text, size do
            -- JSON has no bytes: the server takes characters up to 255 for them
            pieces[#pieces + 1] = text:sub(at, at + size - 1)
        end
        local steps = chunks(pieces)
        for i, step in ipairs(steps) do
            steps[i] = step:gsub("[\128-\255]", function(c) return utf8.char(c:byte()) end)
        end
        steps[#steps + 1] = END
        local res <close> = assert(play(steps))
        local got = {}
        for event in res:events() do
            got[#got + 1] = event
        end
        equal(got, want)
    end
end)

case("an event has a limit, and comments take no memory", function()
    serve()
    local res <close> = assert(play(chunks { "data: 12345678\n\ndata: ", { ["repeat"] = { "1000\r\n" .. ("x"):rep(4096) .. "\r\n" } } },
        { max_event = "64K" }))
    local next_event = res:events()
    equal(next_event().data, "12345678")
    local err = t.raises("max_event", next_event)
    equal(err.code, "too_large")
    local comments = "1000\r\n" .. (": " .. ("c"):rep(125) .. "\n"):rep(32) .. "\r\n"
    local steps = chunks { { ["repeat"] = { comments }, times = 2000 }, "data: after\n\n" }
    local long <close> = assert(play(steps, { max_event = 1000 }))
    equal(long:events()().data, "after")
end)

case("a broken stream: what came is read, then its error is raised", function()
    serve()
    local function broken()
        local steps = chunks { "data: whole\n\ndata: half\nda" }
        steps[#steps + 1] = lash.null
        return assert(play(steps))
    end
    local res <close> = broken()
    local seen = {}
    local err = t.raises("try again", function()
        for event in res:events() do
            seen[#seen + 1] = event.data
        end
    end)
    equal(seen, { "whole" })
    equal(err.code, "closed")
    local lines <close> = broken()
    local count = 0
    err = t.raises("closed the connection", function()
        for _ in lines:lines() do
            count = count + 1
        end
    end)
    equal({ count, err.code }, { 3, "closed" })
    local bytes <close> = broken()
    local text = ""
    err = t.raises(nil, function()
        for chunk in bytes:chunks() do
            text = text .. chunk
        end
    end)
    equal({ text, err.code }, { "data: whole\n\ndata: half\nda", "closed" })
    local all <close> = broken()
    local none, why = all:read("a")
    equal({ none == nil, why.code }, { true, "closed" })
    local counted <close> = broken()
    none, why = counted:read(1000)
    equal({ none == nil, why.code }, { true, "closed" })
    equal(counted:read(), "data: whole\n\ndata: half\nda")
    -- an event that only lacks its blank line is one, if the stream ended as it should
    local steps = chunks { "data: a\n\ndata: b" }
    steps[#steps + 1] = END
    local clean <close> = assert(play(steps))
    local next_event = clean:events()
    equal({ next_event().data, next_event().data, next_event() }, { "a", "b" })
end)

case("T8 comments reset the limit for bytes, not the one for events", function()
    serve()
    -- alive for ever: no limit for bytes is met, the one for events is
    local res <close> = assert(lash.http.stream { url = base .. "/hold/alive?how=comments", idle_timeout = 5 * t.slower,
        event_timeout = 1.5 })
    local began = lash.now()
    local err = t.raises("event_timeout", res:events())
    local took = lash.now() - began
    equal(err.code, "stalled")
    has(err.message, "keep-alive comments")
    ok(took >= 1.4 and took < 20 * t.slower, took)
    ok(tonumber(err.message:match("%((%d+) keep%-alive")) > 0, err.message)
    assert(lash.http.get(base .. "/closed/alive"))
    -- silence: the limit for bytes, looked at once a second
    local silent <close> = assert(play(chunks { "data: a\n\n", { wait = "never" } },
        { idle_timeout = 0.5, event_timeout = 60 }))
    local next_event = silent:events()
    equal(next_event().data, "a")
    err = t.raises("idle_timeout", next_event)
    equal(err.code, "timeout")
end)

case("T8 events reset both limits, named signs of life only the first", function()
    serve()
    local beat = "event: beat\ndata: {}\n\n"
    local function run(options)
        local res <close> = assert(play(chunks { { ["repeat"] = { ("%x\r\n%s\r\n"):format(#beat, beat), 0.05 } } }, options))
        local count, longest = 0, 0
        local began = lash.now()
        local last = began
        local function look()
            longest, last = math.max(longest, lash.now() - last), lash.now()
        end
        local fine, err = pcall(function()
            for _ in res:events() do
                count = count + 1
                look()
                if last - began > 3 then
                    break
                end
            end
        end)
        look()
        return fine, err, count, longest
    end
    local fine, err, count = run { event_timeout = 1.5, keep_alive = "beat" }
    equal(fine, false)
    equal(err.code, "stalled")
    ok(count > 1, count)
    local longest
    for _ = 1, 5 do -- on a busy machine as much may pass between two of them: that is not judged
        fine, err, count, longest = run { event_timeout = 1.5, keep_alive = { "other" } }
        if fine or count > 0 and longest < 1.6 then
            break
        end
    end
    equal(fine, true, err)
end)

case("T8 a function tells which events are only signs of life", function()
    serve()
    local function body(data)
        local event = ("data: %s\n\n"):format(data)
        return ("%x\r\n%s\r\n"):format(#event, event)
    end
    local seen = {}
    local res <close> = assert(play(chunks { { ["repeat"] = { body "", 0.05 } } }, {
        event_timeout = 1.5,
        keep_alive = function(event)
            seen[event.event .. event.data] = true
            return event.data == ""
        end,
    }))
    local count = 0
    local err = t.raises("event_timeout", function()
        for _ in res:events() do
            count = count + 1
        end
    end)
    equal(err.code, "stalled")
    ok(count > 1, count)
    equal(seen, { message = true })
    -- as fast as they come: none of the waits is long
    local flood <close> = assert(play(chunks { { ["repeat"] = { body(""):rep(20) } } }, {
        event_timeout = 0.2,
        keep_alive = function() return true end,
    }))
    local began = lash.now()
    equal(t.raises("event_timeout", function()
        for _ in flood:events() do end
    end).code, "stalled")
    ok(lash.now() - began < 20, lash.now() - began)
    -- its error is the loop's
    local broken <close> = assert(play(chunks { "data: a\n\n" }, { keep_alive = function() error("mine", 0) end }))
    equal(t.raises("mine", broken:events()), "mine")
    t.raises("keep_alive must be", play, {}, { keep_alive = 1 })
    t.raises("keep_alive must be", play, {}, { keep_alive = { 1 } })
end)

case("lines that are no event are remembered", function()
    serve()
    local function stray(steps, options)
        local res <close> = assert(play(steps, options))
        local events = {}
        local fine, err = pcall(function()
            for event in res:events() do
                events[#events + 1] = event.data
            end
        end)
        local text = res:stray()
        res:close()
        equal(res:stray(), text, "also when it is closed")
        return text, events, not fine and err.code or nil
    end
    local function whole(...)
        local steps = chunks { ... }
        steps[#steps + 1] = END
        return steps
    end
    equal({ stray(whole("data: a\n\n{\"error\":", "\"no memory\"}\n")) }, { '{"error":"no memory"}', { "a" } })
    equal({ stray(whole("data: a\n\n{\n  \"error\": 1\n}")) }, { '{\n  "error": 1\n}', { "a" } })
    equal({ stray(whole(": c\n\nid: 1\nretry: 2\nevent: x\ndata: a\n\n")) }, { "", { "a" } })
    equal({ stray(whole()) }, { "", {} })
    -- the server hangs up behind it, or says nothing more
    local cut = chunks { "data: a\n\ndata: half\n{\"error\":1}" }
    cut[#cut + 1] = lash.null
    equal({ stray(cut) }, { '{"error":1}', { "a" }, "closed" })
    local silent = chunks { "data: a\n\n<html>\n</ht", { wait = "never" } }
    equal({ stray(silent, { event_timeout = 1.5 }) }, { "<html>\n</ht", { "a" }, "stalled" })
    -- so much of it as one wants to read
    local flood = chunks { { ["repeat"] = { ("%x\r\n%s\r\n"):format(6000, ("stray\n"):rep(1000)) } } }
    local text, events, code = stray(flood, { event_timeout = 1.5 })
    equal({ #text, #events, code }, { 16 << 10, 0, "stalled" })
    local other <close> = assert(play(whole("stray\n")))
    equal({ other:stray(), other:read("a"), other:stray() }, { "", "stray\n", "" })
end)

case("T8 a slow reader is not a slow server", function()
    serve()
    local steps = chunks { "data: a\n\n", "data: b\n\n", { wait = "c" }, "data: c\n\n" }
    local res <close> = assert(play(steps, { event_timeout = 10 * t.slower }))
    local short <close> = assert(play(steps, { event_timeout = 1 }))
    local next_short = short:events()
    equal(next_short().data, "a")
    lash.sleep(1.2) -- longer than its limit
    equal(next_short().data, "b")
    equal(t.raises("event_timeout", next_short).code, "stalled")
    local next_event = res:events()
    equal({ next_event().data, next_event().data }, { "a", "b" })
    go "c"
    equal(next_event().data, "c")
end)

case("a slow reader holds the server back", function()
    serve()
    local res <close> = assert(lash.http.stream { url = base .. "/hold/slow?how=flood" })
    collectgarbage()
    local function resident()
        return tonumber(assert(io.open("/proc/self/statm")):read("a"):match("^%d+ (%d+)")) * 4096
    end
    local before = resident()
    assert(res:read())
    lash.sleep(0.5)
    ok(resident() - before < 16 << 20, resident() - before)
    ok(res:read(1 << 20))
end)

case("one task reads at a time", function()
    serve()
    local res <close> = assert(play(chunks { { wait = "a" }, "a" }))
    local task = lash.spawn(function() return res:read() end)
    lash.sleep(0)
    t.raises("another task", res.read, res)
    t.raises("another task", res:lines())
    go "a"
    task:wait()
    equal({ task:result() }, { true, "a" })
end)

case("closing ends the transfer at once, and a reader is told", function()
    serve()
    do
        local res <close> = assert(lash.http.stream { url = base .. "/hold/one?how=drip" })
        assert(res:read())
    end
    assert(lash.http.get(base .. "/closed/one"))
    local res = assert(lash.http.stream { url = base .. "/hold/two?how=head" })
    local task = lash.spawn(function() return res:read() end)
    lash.sleep(0)
    res:close()
    task:wait()
    local fine, none, err = task:result()
    equal({ fine, none == nil, err.code }, { true, true, "cancelled" })
    none, err = res:read()
    equal({ none == nil, err.code }, { true, "cancelled" })
    has(err.message, "closed")
    res:close()
    assert(lash.http.get(base .. "/closed/two"))
    -- without closing: when it is collected
    res = assert(lash.http.stream { url = base .. "/hold/three?how=head" })
    res = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    assert(lash.http.get(base .. "/closed/three"))
end)

case("T4 a cancel closes the connection within 200 ms", function()
    serve()
    local ways = {
        head = function(url) return lash.http.stream { url = url } end,
        read = function(url)
            local res <close> = assert(lash.http.stream { url = url .. "?how=head" })
            return res:read()
        end,
        events = function(url)
            local res <close> = assert(lash.http.stream { url = url .. "?how=comments", event_timeout = 60 })
            return res:events()()
        end,
        lines = function(url)
            local res <close> = assert(lash.http.stream { url = url .. "?how=drip" })
            return res:lines()()
        end,
        busy = function(url) -- in another wait than that of the stream
            local res <close> = assert(lash.http.stream { url = url .. "?how=flood" })
            lash.sleep(60)
        end,
        forgotten = function(url) -- nothing closes it
            local res = assert(lash.http.stream { url = url .. "?how=flood" })
            lash.sleep(60)
            return res
        end,
        plain = function(url) return lash.http.get(url) end,
        exchange = function(url) return exchange.post(url, {}, "", {}) end,
        upload = function(url)
            return lash.http.post(url .. "?how=upload", { body = function()
                lash.sleep(0.01)
                return "piece"
            end })
        end,
        download = function(url)
            return lash.http.download(url .. "?how=drip", t.path())
        end,
    }
    for name, run in pairs(ways) do
        t.soon(0.2, function(n)
            local which = name .. n
            local task = lash.spawn(run, base .. "/hold/" .. which)
            assert(lash.http.get(base .. "/held/" .. which))
            lash.sleep(0.05)
            local cancelled = lash.now()
            task:cancel()
            task:wait()
            local fine, err = task:result()
            equal(fine, false, name)
            equal(err.code, "cancelled", name)
            return tonumber(assert(lash.http.get(base .. "/closed/" .. which)).body) - cancelled
        end)
    end
end)

case("a stream goes on when its task ends well, and not when it fails", function()
    serve()
    local task = lash.spawn(function() return assert(lash.http.stream { url = base .. "/trickle/26?ms=10" }) end)
    task:wait()
    local _, res = task:result()
    task = nil -- luacheck: ignore
    collectgarbage()
    equal(res:read("a"), "abcdefghijklmnopqrstuvwxyz")
    task = lash.spawn(function()
        local open = assert(lash.http.stream { url = base .. "/hold/failed?how=head" })
        error({ open })
    end)
    task:wait()
    local _, err = task:result()
    assert(lash.http.get(base .. "/closed/failed"))
    equal(select(2, err[1]:read()).code, "cancelled")
end)

case("the same in a worker", function()
    serve()
    local url = base
    local code = engine.ship("test", function()
        local res <close> = assert(lash.http.stream { url = url .. "/trickle/30?ms=1" })
        local text = ""
        for chunk in res:chunks() do
            text = text .. chunk
        end
        local held = assert(lash.http.stream { url = url .. "/hold/worker?how=head" })
        return { text = text, status = held.status }
    end)
    local done, got = engine.offload(code, nil)
    equal(done, true)
    equal(got, { text = "abcdefghijklmnopqrstuvwxyzabcd", status = 200 })
    -- what a call leaves open is closed with it, at the latest when its worker ends
end)

case("misuse raises", function()
    serve()
    local stream = lash.http.stream
    t.raises("table of options", stream, "http://a/")
    t.raises("unknown option 'event_timout' (did you mean 'event_timeout'?)", stream, { url = base, event_timout = 1 })
    t.raises("unknown option 'event_timeout'", lash.http.get, base, { event_timeout = 1 })
    t.raises("event_timeout must be", stream, { url = base, event_timeout = 0 })
    t.raises("max_line must be", stream, { url = base, max_line = 0 })
    t.raises("keep_alive must be", stream, { url = base, keep_alive = 1 })
    t.raises("keep_alive must be", stream, { url = base, keep_alive = { 1 } })
    local res <close> = assert(stream { url = base .. "/status/404" })
    equal({ res.status, res.ok }, { 404, false })
    for _, n in ipairs { 0, -1, 1.5, "x", {} } do
        t.raises("read expects", res.read, res, n)
    end
    t.raises("res:read(...)", res.read)
    t.raises("res:events(...)", res.events, {})
    equal(res:read(1 << 40), "status 404")
    local err = t.raises("lash.http", function() stream { url = 1 } end)
    has(err, "http_stream.lua:", "the place is the caller's")
end)

return t.main(...)
