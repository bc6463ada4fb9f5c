--- Streamed answers: sends a request, gives the events of its answer to the provider's reader, and tells
-- what comes while it comes. The readers know the protocols, this file knows the transport.
--
-- A provider has for it
--   reader(conv, view, target, res, begun) -> reader
--   reader:event({ event =, data = }, tell) -> "more": of the answer, "idle": a mere sign of life, "end" | nil, err;
--                    the table is used again for the next one
--   reader:finish(stray, tell) -> answer | nil, err | nil, nil, begun: stray is what was no event
-- and, so that most events need not be decoded,
--   picker           of lash.core.json: what of an event may be enough
--   reader:plain(tell, ...) -> as event(), of what was picked | nil: nothing has changed, event() shall read it
--                    | "more", true: another one of which all is the same but the picked value reader.TEXT, a text,
--                    may go to
--   reader:again(tell, text)
-- and, where the last event can have all of the answer once more, those that it repeats with a mark in the picker
-- (see l_http_events.c), and
--   settles(name, data, conv, view, target, res) -> answer | nil: whether an event is such a one
local engine = require "lash.core.engine"
local fault = require "lash.provider.fault"
local http = require "lash.core.http"

local M = {}

--- Bytes of one streamed answer, as they come over the wire, and of one event in it.
M.MAX_BODY, M.MAX_EVENT = 256 << 20, 64 << 20

-- What a server sends that did not understand that a stream is wanted: a whole answer, or a page.
local function is_whole(head)
    local kind = (http.header(head, "content-type") or ""):lower()
    return kind:find("json", 1, true) ~= nil and not kind:find("stream", 1, true) or kind:find("html", 1, true) ~= nil
end

local function read_whole(handle, target, res, conv, view, tell, begun)
    local broken
    res.body, broken = require("lash.http.stream").collect(handle)
    if not res.body then
        return nil, fault.transport(target, broken, res)
    end
    local answer, err, more = target.provider.read(res, conv, view, target, begun)
    if answer then
        M.tell(answer, tell)
    end
    return answer, err, more
end

-- An answer that comes: { handle =, reader =, tell =, picker =, event = for the reader, first = text of its first
-- event, more = something of the answer came }
local Coming = {}
Coming.__index = Coming

-- @return "more" | "idle" | "end" | nil, err
function Coming:feed(name, data)
    local event = self.event
    event.event, event.data = name, data
    self.first = self.first or data
    return self.reader:event(event, self.tell)
end

-- @param picked, ... of the event
local function feed_kept(self, name, data, picked, ...)
    local what = picked and self.reader:plain(self.tell, ...) or self:feed(name, data)
    self.first = self.first or data
    self.more = self.more or what == "more"
end

local function nothing() end

-- Reads the events that were kept back: what they say counts now.
function Coming:replay()
    local handle, picker = self.handle, self.picker
    local name, data = handle:kept()
    while name do
        feed_kept(self, name, data, picker(data))
        name, data = handle:kept()
    end
end

-- Feeds the reader until it has seen the end of the answer, or the server's stream is over.
-- @return true, whether its end marker came | nil, err
local function read_events(coming)
    local handle, reader, tell = coming.handle, coming.reader, coming.tell
    local picked_of, plain, what, err = handle.plain, reader.plain or nothing, "more", nil
    local add, again = reader.again, reader.again and handle:repeats(reader.TEXT)
    while true do
        what, err = plain(reader, tell, picked_of(handle, what == "more"))
        if err == true and add then
            local text = again()
            while text do
                add(reader, tell, text)
                text = again()
            end
        end
        if not what then -- no event, or none of the usual ones
            local name, data = handle:last()
            if not name then
                local _, broken = handle:next(true)
                if broken ~= nil then
                    error(broken, 0)
                end
                return true, false
            end
            what, err = coming:feed(name, data)
        end
        if what == "more" then
            coming.more = true
        elseif what == "idle" then
            coming.first = coming.first or "{" -- of what was picked: an object
        elseif not what then
            return nil, err
        else
            return true, true
        end
    end
end

-- As read_events(): the reader gets events as they are, and those that were kept back before the others.
-- @param name, data as next() of the handle gave them
local function read_quietly(coming, name, data)
    local handle = coming.handle
    while true do
        if not name and data ~= nil then
            error(data, 0)
        end
        coming:replay()
        if not name then
            return true, false
        end
        local what, err = coming:feed(name, data)
        if not what then
            return nil, err
        elseif what == "end" then
            return true, true
        end
        coming.more = coming.more or what == "more"
        name, data = handle:next(what == "more")
    end
end

-- What came of a stream that ended without its end, when that was no word of any protocol: a page, a text.
local function no_stream(coming, stray)
    local first = coming.first or stray
    return not coming.more and first:find "%S" and not first:find "^%s*{" and not first:find "^%s*%[DONE%]" and first
end

-- limits -> options of a request
local options_of_limits = setmetatable({}, { __mode = "k" })

local function options_of(limits)
    local options = options_of_limits[limits]
    if not options or options.max_body ~= M.MAX_BODY or options.max_event ~= M.MAX_EVENT then
        options = {
            idle_timeout = limits.idle_timeout,
            event_timeout = limits.event_timeout,
            max_body = M.MAX_BODY,
            max_event = M.MAX_EVENT,
            redirects = 0,
        }
        options_of_limits[limits] = options
    end
    return options
end

-- @param read, ... read_events or read_quietly, and what that one gets
-- @return answer | nil, err | nil, nil, begun
local function read_stream(coming, target, res, read, ...)
    local handle, reader, tell = coming.handle, coming.reader, coming.tell
    local called, ok, ended = pcall(read, coming, ...)
    if not called then
        coming:replay()
        if engine.cancel_reason(ok) or type(ok) ~= "table" or not ok.code then
            error(ok, 0)
        end
        return nil, fault.transport(target, ok, res)
    elseif not ok then
        return nil, ended
    elseif ended then
        handle:leave() -- the rest is the end of the transfer: the connection can be used again
    end
    local stray = ended and "" or handle:stray()
    local answer, err, more = reader:finish(stray, tell)
    local strange = err and err.code == "network" and no_stream(coming, stray)
    if strange then
        return nil, fault.nonsense(target, { headers = res.headers, body = strange }, "is no stream of events")
    end
    return answer, err, more
end

--- answer(target, conv, view, request, limits, tell, begun, quiet) -> answer | nil, err | nil, nil, begun
-- @param request of the provider: { url =, headers =, body = }
-- @param limits { idle_timeout = seconds without a byte, event_timeout = seconds in which nothing of the answer
--   comes, though the connection is alive }: always the same table for the same limits
-- @param tell fn(kind, text or fields), as ask() of lash.model has it
-- @param begun what an earlier request brought of this answer, for the provider
-- @param quiet nobody wants the answer before it is whole: `tell` matters where it breaks off
function M.answer(target, conv, view, request, limits, tell, begun, quiet)
    local exchange = require "lash.http.exchange" -- with the first request
    local headers = exchange.lines(request.headers)
    local handle <close>, broken = http.open("POST", request.url, headers, request.body, options_of(limits))
    if not handle then
        return nil, fault.transport(target, broken)
    end
    local provider = target.provider
    quiet = quiet and provider.settles ~= nil
    local called, status, head, is_events, name, data = pcall(handle.begin, handle, provider.picker, quiet)
    if called and not status then
        return nil, fault.transport(target, head)
    end
    local res = exchange.answer(called and status or 0, called and head or "")
    fault.log_id(target, res)
    if called and not is_events and (status < 200 or status > 299 or is_whole(head)) then
        return read_whole(handle, target, res, conv, view, tell, begun)
    end
    quiet = quiet and is_events
    local answer = quiet and name and provider.settles(name, data, conv, view, target, res)
    if answer then
        handle:leave()
        return answer
    end
    local reader = provider.reader(conv, view, target, res, begun)
    local coming = setmetatable({
        handle = handle, reader = reader, tell = tell, picker = provider.picker, event = {}, first = nil, more = false,
    }, Coming)
    if not called then
        coming:replay()
        error(status, 0)
    end
    if quiet then
        return read_stream(coming, target, res, read_quietly, name, data)
    end
    return read_stream(coming, target, res, read_events)
end

--- tell(answer, tell): a whole answer, told as if it had come in pieces.
function M.tell(answer, tell)
    local n = 0
    for _, item in ipairs(answer.items) do
        if item.type == "text" or item.type == "reasoning" then
            if item.text and item.text ~= "" then
                tell(item.type, item.text)
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
