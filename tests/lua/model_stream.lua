-- lash.model and lash.provider.stream against tests/program/httpd.py, with a protocol made up for it: the data
-- of an event is a word of the answer, "." ends it, "?" says nothing, "!" is an error, "+" says that the rest
-- has to be asked for.
local fault = require "lash.provider.fault"
local json = require "lash.json"
local lash = require "lash"
local model = require "lash.model"
local start_server = require "support.serve"
local t = require "t"
local timer = require "lash.core.timer"
local wire = require "support.wire"

local case, equal, has, ok = t.case, t.equal, t.has, t.ok

local toy = { name = "toy" }

function toy.request(_, view, target, stream)
    toy.streamed = stream
    return { url = target.base_url .. "/play", headers = {}, body = table.remove(view.plays, 1) }
end

local function answer(words)
    return { type = "answer", provider = "toy", stop = "end", items = { { type = "text", text = table.concat(words) } } }
end

function toy.read(res, _, _, target)
    if res.status ~= 200 then
        return nil, fault.answer(target, res, { code = fault.status_kind(res.status),
            retry = select(2, fault.status_kind(res.status)) })
    end
    return answer { "whole ", res.body }
end

local Reader = {}
Reader.__index = Reader

function Reader:event(event, tell)
    if event.data == "." or event.data == "+" then
        self.ended, self.more = true, event.data == "+"
        return "end"
    elseif event.data == "?" then
        return "idle"
    elseif event.data == "!" then
        return nil, fault.answer(self.target, self.res, { code = "overloaded", retry = true, message = "in the stream" })
    end
    self.words[#self.words + 1] = event.data
    tell("text", event.data)
    return "more"
end

function Reader:finish(tail)
    if tail ~= "" then
        return nil, fault.answer(self.target, self.res, { code = "overloaded", retry = true, message = tail })
    elseif not self.ended then
        return nil, fault.broken(self.target, self.res)
    elseif self.more then
        return nil, nil, self.words
    end
    return answer(self.words)
end

function toy.reader(_, _, target, res, begun)
    return setmetatable({ words = table.move(begun or {}, 1, #(begun or {}), 1, {}), target = target, res = res }, Reader)
end

local base

local function start()
    base = base or start_server()
end

local HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Request-Id: req_7\r\n"
    .. "Transfer-Encoding: chunked\r\n\r\n"
local END = "0\r\n\r\n"

local function chunk(text)
    return ("%x\r\n%s\r\n"):format(#text, text)
end

-- What the server plays: words are events, other steps as httpd.py has them; `false` is the end of the body.
local function play(steps)
    local list = json.array { HEAD }
    for _, step in ipairs(steps) do
        if type(step) == "string" then
            step = chunk("data: " .. step .. "\n\n")
        elseif step == false then
            step = END
        end
        list[#list + 1] = step
    end
    return assert(json.encode(list))
end

local function plain(status, kind, body)
    return assert(json.encode(json.array { ("HTTP/1.1 %d X\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"):format(
        status, kind, #body, body) }))
end

-- Asks, and does not really wait between attempts.
local function ask(plays, options)
    start()
    options = options or {}
    local target = { provider = toy, provider_name = "toy", model = "m", label = "toy/m", base_url = base,
        shown_url = base, event_timeout = options.event_timeout, idle_timeout = options.idle_timeout }
    local told, retries = {}, 0
    local sleep = timer.sleep
    timer.sleep = function() end
    local listener = wire.listener(function(event)
        retries = retries + (event.type == "retry" and 1 or 0)
    end, function(kind, fields)
        told[#told + 1] = kind == "text" and fields or kind
        if options.on_tell then
            options.on_tell()
        end
        return options.delivered ~= false
    end, options.stream)
    local conv = wire.conversation { { type = "user", text = "x" } }
    local found, err = model.ask(target, conv, { plays = plays }, listener)
    timer.sleep = sleep
    return found, err, told, retries
end

local function text(found)
    return found and found.items[1].text
end

case("a streamed answer is told in its pieces", function()
    local found, err, told = ask { play { "a", "?", "b", ".", false } }
    equal(err, nil)
    equal(text(found), "ab")
    equal(told, { "a", "b" })
    equal(toy.streamed, true)
end)

case("P0 without a stream the answer is told at its end", function()
    local found, _, told = ask({ plain(200, "application/json", "x") }, { stream = false })
    equal(text(found), "whole x")
    equal(told, { "whole x" })
    equal(toy.streamed, false)
end)

case("D13 a call that was cut off is not told, whole answers or not", function()
    local told = {}
    require("lash.provider.stream").tell({ items = { { type = "call", id = "a", name = "f", args = "{}" },
        { type = "call", id = "b", name = "f", args = "{", complete = false },
        { type = "call", id = "c", name = "f", args = "{}" } } }, function(_, fields)
        told[#told + 1] = fields.n .. fields.id
    end)
    equal(told, { "1a", "3c" })
end)

case("a whole answer, or a page, in place of a stream is read as what it is", function()
    equal(text(ask { plain(200, "application/json; charset=utf-8", "x") }), "whole x")
    equal(text(ask { plain(200, "text/html", "<p>") }), "whole <p>")
    local _, err = ask { plain(404, "text/event-stream", "data: a\n\n") }
    equal({ err.status, err.retry }, { 404, false })
    has(err.message, "toy: ")
end)

case("P6 an answer without its end marker is asked for again, while nobody got anything of it", function()
    for _, broken in ipairs { play { "a", false }, play { "a", json.null }, play { false }, play { "!", false },
        plain(503, "text/html", "<p>") } do
        local found, err, told, retries = ask({ broken, play { "b", ".", false } }, { delivered = false })
        equal(text(found), "b", tostring(err))
        equal(retries, 1)
        equal(told[#told], "b")
    end
end)

case("P5 what was delivered in part is not asked for again", function()
    for _, broken in ipairs { play { "a", false }, play { "a", json.null }, play { "a", "!", false } } do
        local found, err, told, retries = ask { broken, play { "b", ".", false } }
        equal(found, nil)
        equal(err.exit, 75)
        has(err.message, "a part of the answer was delivered")
        has(err.message, "[request req_7]")
        equal(told, { "a" })
        equal(retries, 0)
    end
end)

case("an answer that comes in several requests is told as one; each of them may be made again", function()
    local found, err, told, retries = ask { play { "a", "+", false }, play { "!" }, play { "b", "+", false }, play { ".", false } }
    equal(err, nil)
    equal({ found.items[1].text, table.concat(told), retries }, { "ab", "ab", 1 })
    found, err, told = ask { play { "a", "+", false }, play { "b", "!" } }
    equal({ found, table.concat(told) }, { nil, "ab" })
    has(err.message, "was delivered")
end)

case("an error that is no event is told", function()
    local bare = chunk '{"error":"out of memory"}\n'
    start()
    local list = json.array { HEAD, bare, END }
    local _, err = ask { assert(json.encode(list)), assert(json.encode(list)), assert(json.encode(list)) }
    has(err.message, "out of memory")
    has(err.message, "after 3 attempts")
end)

case("T8 signs of life without anything of the answer end by event_timeout, silence by idle_timeout", function()
    local pings = { { ["repeat"] = json.array { chunk "data: ?\n\n", 0.01 } } }
    local _, err = ask({ play { "a", table.unpack(pings) } }, { event_timeout = 0.3 * t.slower })
    equal(err.exit, 75)
    has(err.message, "no event came")
    _, err = ask({ play { "a", { wait = "never" } } }, { idle_timeout = 1 })
    equal(err.exit, 75)
    has(err.message, "nothing came")
end)

case("the connection of a stream is used again, also when its end comes behind the end marker", function()
    start()
    local function connections()
        return tonumber(assert(lash.http.get(base .. "/connections")).body)
    end
    local new
    for try = 1, 10 do -- on a busy machine the end may come too late
        local before = connections()
        for i = 1, 5 do
            local late = ("late%d.%d"):format(try, i)
            equal(text(ask { play { "a", ".", { wait = late }, false } }), "a")
            assert(lash.http.get(base .. "/go/" .. late))
        end
        new = connections() - before
        if new <= 1 then
            break
        end
    end
    ok(new <= 1, new) -- for the streams; the questions of this test have one already
end)

case("T4 a task that is cancelled in mid-stream leaves no transfer", function()
    start()
    local task
    task = lash.spawn(function()
        return ask({ play { "a", { wait = "never2" } } }, { on_tell = function()
            task:cancel()
        end })
    end)
    pcall(task.wait, task)
    local fine, err = task:result()
    equal(fine, false)
    equal(require("lash.core.engine").cancel_reason(err), "user")
end)

return t.main(...)
