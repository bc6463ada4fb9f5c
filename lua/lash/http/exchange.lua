--- Requests of lash itself whose answers are wanted whole: to models. What a user writes is checked by lash.http,
-- which costs more than all else here.
local core = require "lash.core.http"
local lazy = require "lash.lazy"
local stream = lazy "lash.http.stream"

local M = {}

local exchange, answer = core.exchange, {}

-- As a rule one header is looked at, with lash.core.http.header(res.head, name), and all only when something is wrong.
function answer.__index(res, name)
    if name == "headers" then
        res.headers = stream.headers(core.headers(res.head))
        return res.headers
    end
end

--- answer(status, head, body) -> { status =, headers =, head =, body = }: of a head as the core gives it
function M.answer(status, head, body)
    return setmetatable({ status = status, body = body, head = head }, answer)
end

-- headers -> what the core made of them; themselves where it refuses them: the request tells why
local lines_of = setmetatable({}, { __mode = "k" })

--- lines(headers) -> headers for the core, read and checked once
-- @param headers plain table that does not change any more, see lash.core.http; or nil
function M.lines(headers)
    local lines = lines_of[headers]
    if not lines and headers then
        lines = core.lines(headers) or headers
        lines_of[headers] = lines
    end
    return lines
end

--- post(url, headers, body, options) -> { status =, body =, headers =, head = } | nil, err
-- @param headers as of M.lines
-- @param options of the core: timeout, idle_timeout (seconds), max_body, redirects
function M.post(url, headers, body, options)
    local status, text, head = exchange("POST", url, lines_of[headers] or M.lines(headers), body, options)
    if not status then
        return nil, text
    end
    return M.answer(status, head, text)
end

return M
