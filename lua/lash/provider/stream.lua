--- Streamed answers: sends a request, gives the events of its answer to the provider's reader, and tells
-- what comes while it comes. The readers know the protocols, this file knows the transport.
local engine = require "lash.core.engine"
local fault = require "lash.provider.fault"

local M = {}

--- Bytes of one streamed answer, as they come over the wire, and of one event in it.
M.MAX_BODY, M.MAX_EVENT = 256 << 20, 64 << 20

-- What a server sends that did not understand that a stream is wanted: a whole answer, or a page.
local function is_whole(res)
    local kind = (res.headers["content-type"] or ""):lower()
    return kind:find("json", 1, true) ~= nil and not kind:find("stream", 1, true) or kind:find("html", 1, true) ~= nil
end

local function read_whole(target, res, conv, view, tell, begun)
    local body, broken = res:read "a"
    if not body then
        return nil, fault.transport(target, broken, res)
    end
    local whole = { status = res.status, headers = res.headers, body = body }
    local answer, err, more = target.provider.read(whole, conv, view, target, begun)
    if answer then
        M.tell(answer, tell)
    end
    return answer, err, more
end

-- An answer that comes: { handle =, reader =, tell =, event = for the reader, first = text of its first event,
-- more = something of the answer came }
local Coming = {}
Coming.__index = Coming

-- @return "more" | "idle" | "end" | nil, err
function Coming:feed(name, data)
    local event = self.event
    event.event, event.data = name, data
    self.first = self.first or data
    return self.reader:event(event, self.tell)
end

-- Reads the events that were kept back: what they say counts now.
function Coming:replay()
    local name, data = self.handle:kept()
    while name do
        self.more = self:feed(name, data) == "more" or self.more
        name, data = self.handle:kept()
    end
end

-- An event that was not kept back, though others were: most often the last one, which makes them needless.
function Coming:feed_quietly(name, data)
    local event = self.event
    event.event, event.data = name, data
    if self.reader:settles(event) then
        self.handle:forget()
        return "end"
    end
    self:replay()
    return self:feed(name, data)
end

-- Feeds the reader until it has seen the end of the answer, or the server's stream is over.
-- @param quiet nobody wants the answer before it is whole
-- @return true, whether its end marker came | nil, err
local function read_events(coming, quiet)
    local handle, reader, tell = coming.handle, coming.reader, coming.tell
    quiet = quiet and reader.echoes ~= nil
    if reader.picker then
        handle:picks(reader.picker, quiet and reader.echoes or nil)
    end
    local idle = false
    while true do
        local picked, a, b, c, d, e, f, g, h = handle:next(not idle)
        local what, err
        if picked then
            what = reader:plain(tell, a, b, c, d, e, f, g, h)
            if not what then
                what, err = coming:feed(handle:last())
            end
        elseif picked == nil and a ~= nil then
            error(a, 0)
        elseif picked == nil then
            coming:replay()
            return true, false
        elseif quiet then
            what, err = coming:feed_quietly(a, b)
        else
            what, err = coming:feed(a, b)
        end
        idle = what == "idle"
        if what == "more" then
            coming.more = true
        elseif idle then
            coming.first = coming.first or "{" -- of what was picked: an object
        elseif not what then
            return nil, err
        else
            return true, true
        end
    end
end

-- What came of a stream that ended without its end, when that was no word of any protocol: a page, a text.
local function no_stream(coming, stray)
    local first = coming.first or stray
    return not coming.more and first:find "%S" and not first:find "^%s*{" and not first:find "^%s*%[DONE%]" and first
end

-- As lash.http.stream, whose checks of what a user writes cost more than all else here.
-- @return res, its handle | nil, err
local function open(request, limits)
    local http = require "lash.http.stream"
    local plan = {
        method = "POST",
        url = request.url,
        headers = request.headers,
        body = request.body,
        idle_timeout = limits.idle_timeout,
        event_timeout = limits.event_timeout,
        max_body = M.MAX_BODY,
        max_event = M.MAX_EVENT,
        redirects = 0,
    }
    local handle, broken = http.open(plan)
    if not handle then
        return nil, broken
    end
    return http.new(handle, plan), handle
end

--- answer(target, conv, view, request, limits, tell, begun, quiet) -> answer | nil, err | nil, nil, begun
-- @param request of the provider: { url =, headers =, body = }
-- @param limits { idle_timeout = seconds without a byte, event_timeout = seconds in which nothing of the answer
--   comes, though the connection is alive }
-- @param tell fn(kind, fields), see the readers
-- @param begun what an earlier request brought of this answer, for the provider
-- @param quiet nobody wants the answer before it is whole: `tell` matters where it breaks off
function M.answer(target, conv, view, request, limits, tell, begun, quiet)
    local res <close>, handle = open(request, limits)
    if not res then
        return nil, fault.transport(target, handle)
    elseif not res.ok or is_whole(res) then
        return read_whole(target, res, conv, view, tell, begun)
    end
    local reader = target.provider.reader(conv, view, target, { status = res.status, headers = res.headers },
        begun)
    local coming = setmetatable({ handle = handle, reader = reader, tell = tell, event = {}, first = nil,
        more = false }, Coming)
    local called, ok, ended = pcall(read_events, coming, quiet)
    if not called then
        coming:replay()
        if engine.cancel_reason(ok) or type(ok) ~= "table" or not ok.code then
            error(ok, 0)
        end
        return nil, fault.transport(target, ok, res)
    elseif not ok then
        return nil, ended
    elseif ended then
        res:leave() -- the rest is the end of the transfer: the connection can be used again
    end
    local stray = ended and "" or res:stray()
    local answer, err, more = reader:finish(stray, tell)
    local strange = err and err.code == "network" and no_stream(coming, stray)
    if strange then
        return nil, fault.nonsense(target, { headers = res.headers, body = strange }, "is no stream of events")
    end
    return answer, err, more
end

--- tell(answer, tell): a whole answer, told as if it had come in pieces.
function M.tell(answer, tell)
    local n = 0
    for _, item in ipairs(answer.items) do
        if item.type == "text" or item.type == "reasoning" then
            if item.text and item.text ~= "" then
                tell(item.type, { delta = item.text })
            end
        elseif item.type == "call" then
            n = n + 1
            if item.complete ~= false then
                tell("call.ready", { n = n, id = item.id, name = item.name, args = item.args })
            end
        end
    end
end

return M
