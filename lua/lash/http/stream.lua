--- Requests whose body or answer goes in pieces: how they are driven, and the answer of lash.http.stream.
local core = require "lash.core.http"

local M = {}

local header_mt = {
    -- names in any case
    __index = function(headers, name)
        return type(name) == "string" and rawget(headers, name:lower()) or nil
    end,
}

--- The headers of an answer, as the core gives them, for users: a name may be written in any case.
function M.headers(headers)
    return setmetatable(headers, header_mt)
end

-- Gives the body until the head of the answer is there.
local function drive(handle, source)
    while true do
        local what, err = handle:step()
        if what == "head" then
            return true
        elseif what == "rewind" then
            source:rewind()
        elseif what == "send" then
            local chunk, broken = source:next()
            if chunk == nil and broken ~= nil then
                return nil, broken
            end
            handle:send(chunk)
        else
            return nil, err
        end
    end
end

local guard_mt = {
    __close = function(guard)
        if guard.source then
            guard.source:close()
        end
        if not guard.keep then
            guard.handle:close()
        end
    end,
}

--- open(plan) -> handle | nil, err: a started request, its body sent, the head of its answer there.
-- Whatever goes wrong, no transfer is left.
function M.open(plan)
    local source = plan.source
    if source then
        local ready, err = source:prepare()
        if not ready then
            return nil, err
        end
        plan.upload, plan.length, plan.replayable = true, source.length, source.replayable
    end
    local handle, err = core.open(plan.method, plan.url, plan.headers, plan.body, plan)
    if not handle then
        return nil, err
    end
    local guard <close> = setmetatable({ handle = handle, source = source }, guard_mt)
    local ok, broken = drive(handle, source)
    if not ok then
        return nil, broken
    end
    guard.keep = true
    return handle
end

--- collect(handle) -> the rest of the body | nil, err
function M.collect(handle)
    local pieces = {}
    while true do
        local piece, err = handle:read()
        if not piece then
            if err then
                return nil, err
            end
            return table.concat(pieces)
        end
        pieces[#pieces + 1] = piece
    end
end

-- ---- the answer ----

local HANDLE, KEEP_ALIVE = {}, {}

--- @class http.stream  an answer whose body is read in pieces
--   status      integer
--   ok          boolean  the status is 2xx
--   headers     http.headers
--   url         string   after redirects
--   first_byte  number   seconds
-- @class http.event  that a server sent
--   event   string  "message" where the server names none
--   data    string
--   id?     string  the last one of the stream
--   retry?  number  seconds
local answer = {}
answer.__index = answer
answer.__name = "lash.http.answer"

local function handle_of(res, name)
    local handle = type(res) == "table" and rawget(res, HANDLE)
    if not handle then
        error(("lash.http: %s is a method of a streamed answer: write res:%s(...)"):format(name, name), 3)
    end
    return handle
end

--- read([n: integer|"a"]) -> bytes: string | nil | nil, err: http.error
-- Without n what has come, at least a byte; with n so many bytes, fewer only at the end; with "a" the rest. nil at
-- the end. What came before a stream broke is read before its error, but for read(n) and read("a"), which give no
-- part.
function answer:read(n)
    local handle = handle_of(self, "read")
    if n == nil then
        return handle:read()
    elseif n == "a" or n == "*a" then
        return M.collect(handle)
    end
    local count = math.type(n) and math.tointeger(n)
    if not count or count < 1 then
        error(("lash.http: read expects a number of bytes, \"a\" or nothing, not %s"):format(tostring(n)), 2)
    end
    return handle:read(count)
end

local function iterator(handle, method)
    return function()
        local value, err = handle[method](handle)
        if err ~= nil then
            error(err, 0)
        end
        return value
    end
end

--- chunks() -> fun(): string?
-- for chunk in res:chunks() do: the body as it comes. A broken stream raises its error value, for a loop
-- cannot return one; so with lines and events.
function answer:chunks()
    return iterator(handle_of(self, "chunks"), "read")
end

--- lines() -> fun(): string?
-- for line in res:lines() do: without line ends, which are LF or CRLF; the last one may lack its end.
-- A line over max_line bytes ("1M") is the error too_large.
function answer:lines()
    return iterator(handle_of(self, "lines"), "line")
end

--- events() -> fun(): http.event?
-- for event in res:events() do: server-sent events. An event over max_event bytes ("16M") is the error too_large; one
-- that does not come within event_timeout of waiting for it is the error stalled.
function answer:events()
    local handle, keep_alive = handle_of(self, "events"), rawget(self, KEEP_ALIVE)
    local anew = true
    return function()
        local event, err = handle:event(anew)
        if err ~= nil then
            error(err, 0)
        end
        anew = event and not keep_alive(event)
        return event
    end
end

--- stray() -> string
-- The lines that events() passed over so far, joined by line feeds; "" without any.
-- The standard has no field for them, but servers write errors so when a stream has begun: a bare JSON
-- object, also over several lines, or a page of HTML. Comments and blank lines do not belong to them. Of all
-- such lines the first 16 KiB; a last line that lacks its end counts when the stream is over.
function answer:stray()
    return handle_of(self, "stray"):stray()
end

--- close()
-- Ends the transfer at once; nothing can be read any more.
function answer:close()
    handle_of(self, "close"):close()
end

--- leave()
-- Nothing more is read, as after close(); but what is left of the answer may come for a moment
-- more, so that its connection can be used again. For streams whose last event is known.
function answer:leave()
    handle_of(self, "leave"):leave()
end

answer.__close = answer.close

--- new(handle, plan) -> res
function M.new(handle, plan)
    local status, headers, first_byte, url = handle:head()
    return setmetatable({
        status = status,
        ok = status >= 200 and status < 300,
        headers = M.headers(headers),
        url = url,
        first_byte = first_byte,
        [HANDLE] = handle,
        [KEEP_ALIVE] = plan.keep_alive,
    }, answer)
end

return M
