--- lash.http: HTTP requests. A task waits for the answer while others run; a worker waits alone.
--
--   local res, err = lash.http.get("https://example.com/data.json", { timeout = 5 })
--   if not res then error(err) end
--   if res.ok then print(res:json().name) end
--
-- An answer of any status is an answer; `nil, err` means that there is none. err.code is one of
--   "url" "request"          the request itself is wrong; nothing was sent, or not all of it
--   "resolve" "connect" "tls" no connection
--   "timeout"                a limit of time was reached: timeout, connect_timeout, idle_timeout
--   "stalled"                the connection is alive, but no event came within event_timeout
--   "closed"                 the server hung up before the end of its answer
--   "too_large" "encoding" "protocol"  the answer is too large, cannot be unpacked, is not HTTP
--   "redirect"               a redirect asks for a body that is gone
--   "status"                 download: the answer is none of success; err.status has it
--   "cancelled"              the answer was closed while it was read
--   "no_libcurl"             libcurl is not installed
-- or, where a file is sent or written, the system's name of the error (ENOENT, EACCES, ENOSPC ...), or
-- "changed" for one that became shorter meanwhile; err.message, or tostring(err), is a sentence without keys: of
-- URLs no query, user or password.
--
-- Certificates are always verified; SSL_CERT_FILE and SSL_CERT_DIR name other authorities. Proxies are
-- taken from http_proxy, https_proxy, HTTPS_PROXY and no_proxy. Connections are kept for later requests. A
-- redirect to another scheme, host or port does not take headers along whose names look like keys.

local checked = require "lash.http.options"
local core = require "lash.core.http"
local json = require "lash.json"
local stream = require "lash.http.stream"
local uri = require "lash.uri"

local M = {}

local misuse = checked.misuse

--- escape(text: string) -> string
-- Percent-encodes text for a part of a URL: all but letters, digits and - . _ ~
function M.escape(text)
    return uri.encode(tostring(text))
end

--- @class http.answer
--   status      integer
--   ok          boolean  the status is 2xx
--   body        string
--   headers     http.headers
--   url         string   after redirects
--   version     string
--   first_byte  number   seconds
--   total       number   seconds
-- @class http.headers  in any case; of equal names joined by ", "
--   ["set-cookie"]?  string[]
--   [string]  string
-- @class http.download { status: integer, bytes: integer, headers: http.headers, url: string }
-- @class http.error: error  its code is as of lash.http, or the system's
--   status?  integer  of a download that was answered otherwise than by 2xx
-- @alias http.fields  table<string, string|number|boolean|(string|number|boolean)[]>
-- @class http.options
--   method?           string       ("GET")
--   headers?          http.fields  { name = value or list of values }
--   query?            http.fields  added to the URL, sorted by name
--   body?             string|(fun(): (string?, any))  what is sent; or a function: called, in the task, for one piece
--                     after the other; it may wait; nil ends the body, nil and an error value ends the request
--   length?           integer      bytes of a function's body, if they are known
--   json?             any          or a value to send as JSON
--   form?             http.fields  or a web form, sorted by name
--   multipart?        http.part[]  or a form with files
--   file?             string       or the file of that path
--   timeout?          number|false  seconds for all of it (no limit); false takes a limit away
--   connect_timeout?  number|false  seconds until there is a connection (10)
--   idle_timeout?     number|false  seconds without a byte in either direction (300), looked at once a second
--   max_body?         integer|string  bytes of the unpacked body, or "8M" ("64M"): more is an error, never cut
--   follow?           boolean|integer  false, or the number of redirects to follow (10)
--   proxy?            string|false  the URL of a proxy, false = none
--   ca_file?          string       path of the certificate authorities
--   version?          "1.1"|"2"    "2" where libcurl is 8.0 or newer
-- @class http.part { name: string, value?: string|number, file?: string, filename?: string, type?: string }
-- @class http.request.options: http.options
--   url  string
-- @class http.stream.options: http.request.options  as of request, but max_body has no limit unless you give one
--   event_timeout?  number|false  seconds to wait for an event (no limit): comments, by which servers keep
--                   connections alive, do not count as events, though they do for idle_timeout
--   keep_alive?     string|string[]|(fun(event: http.event): boolean?)  name, or list of names, of events that do not
--                   count either ("ping"), or a function that returns true for such a one
--   max_event?      integer|string  bytes of an event ("16M")
--   max_line?       integer|string  bytes of a line ("1M")
local answer = {}
answer.__index = answer

--- json() -> value: any | nil, err
-- The body as JSON, by lash.json.decode.
function answer:json()
    return json.decode(self.body)
end

local function finish(status, body, headers, url, version, first_byte, total)
    if not status then
        return nil, body
    end
    return setmetatable({
        status = status,
        ok = status >= 200 and status < 300,
        body = body,
        headers = stream.headers(headers),
        url = url,
        version = version,
        first_byte = first_byte,
        total = total,
    }, answer)
end

-- A body that goes in pieces; its answer is wanted whole.
local function send_pieces(plan)
    local handle <close>, err = stream.open(plan)
    if not handle then
        return nil, err
    end
    local body, broken = stream.collect(handle)
    if not body then
        return nil, broken
    end
    local status, headers, first_byte, url = handle:head()
    local version, total = handle:over()
    return finish(status, body, headers, url, version, first_byte, total)
end

local function send(options, url, method, level)
    local plan = checked.check(options, url, method, "request", level + 1)
    if plan.source then
        return send_pieces(plan)
    end
    return finish(core.send(plan.method, plan.url, plan.headers, plan.body, plan))
end

--- request(options: http.request.options) -> res: http.answer | nil, err: http.error
-- Sends a request and waits for the whole answer. Files are read while they are sent: memory holds a piece of them.
-- A function's body cannot be sent again when a redirect asks for it, which is the error "redirect", and a limit of
-- time that passes while the function waits is told when it returns.
function M.request(options)
    if type(options) ~= "table" then
        misuse(3, "request expects a table of options, not a %s", type(options))
    end
    local res, err = send(options, options.url, nil, 3)
    return res, err
end

--- stream(options: http.stream.options) -> res: http.stream | nil, err: http.error
-- Like request, but returns when the head of the answer is there.
--
--   local res <close> = assert(lash.http.stream { url = url, json = question, method = "POST" })
--   for event in res:events() do print(event.data) end
--
-- The body is read by res:read(), res:chunks(), res:lines() and res:events() (of which res:stray() tells what was no
-- event). Who reads slowly holds the server back. One task reads at a time. The transfer ends at once when res is
-- closed, when the task that reads it, or that opened it, is cancelled, and when that one fails; else with its last
-- byte, or when it is collected: write `<close>`.
function M.stream(options)
    if type(options) ~= "table" then
        misuse(3, "stream expects a table of options, not a %s", type(options))
    end
    local plan = checked.check(options, options.url, nil, "stream", 3)
    plan.max_body = plan.max_body or 0
    local handle, err = stream.open(plan)
    if not handle then
        return nil, err
    end
    return stream.new(handle, plan)
end

local function check_options(options, level)
    if type(options) ~= "table" then
        misuse(level + 1, "options must be a table, not a %s", type(options))
    elseif options.url ~= nil or options.method ~= nil then
        misuse(level + 1, "url and method are options of request only")
    end
end

local NO_OPTIONS = {}

--- get, head, delete (url [, options]) -> res | nil, err; options as of request.
--- post, put, patch (url [, options]) -> res | nil, err; options.body, json, form, multipart or file is what is sent.
for _, method in ipairs { "get", "head", "delete", "post", "put", "patch" } do
    local name = method:upper()
    M[method] = function(url, options)
        if options ~= nil then
            check_options(options, 3)
        end
        local res, err = send(options or NO_OPTIONS, url, name, 3)
        return res, err
    end
end

-- Copies the body into the file, which is created only when the answer is one of success.
local function save(handle, file)
    local made, err = file:create()
    if not made then
        return nil, err
    end
    while true do
        local chunk, broken = handle:read()
        if broken then
            return nil, broken
        elseif not chunk then
            break
        end
        local written, why = file:write(chunk)
        if not written then
            return nil, why
        end
    end
    return file:commit()
end

local function bad_status(url, status)
    return nil, setmetatable({
        code = "status",
        status = status,
        message = ("%s answered with status %d: nothing was written"):format(url, status),
    }, json.error_mt)
end

--- download(url: string, path: string [, options: http.options]) -> http.download | nil, err: http.error
-- Writes the body to the file as it comes: memory holds a piece of it. The file is written beside `path` and
-- renamed when it is complete, so `path` has the old contents, or nothing, until then, and when anything fails.
-- An answer that is none of success (2xx) is the error "status". max_body has no limit unless you give one.
function M.download(url, path, options)
    if type(path) ~= "string" or path:find("\0", 1, true) then
        misuse(3, "the path must be a string without zero bytes, not %s", tostring(path))
    end
    if options ~= nil then
        check_options(options, 3)
    end
    local plan = checked.check(options or NO_OPTIONS, url, "GET", "request", 3)
    plan.max_body = plan.max_body or 0
    local handle <close>, err = stream.open(plan)
    if not handle then
        return nil, err
    end
    local status, headers, _, final = handle:head()
    if status < 200 or status > 299 then
        return bad_status(final:match("^[^?#]*"), status)
    end
    local file <close> = core.file(path)
    local saved, why = save(handle, file)
    if not saved then
        file:discard()
        return nil, why
    end
    local _, _, bytes = handle:over()
    return { status = status, bytes = bytes, headers = stream.headers(headers), url = final }
end

--- configure(options) -> true | nil, err
-- In this runtime: the main one, or that of the sync tool that calls it.
-- @param options
--   per_host?  integer|false  at most so many requests to one host and port at once; the others wait, in the order
--              they came, for as long as their `timeout` lets them. false takes the limit away, as at first. Streams
--              count until they are closed: who holds one open and asks the same host again needs a limit above 1.
function M.configure(options)
    if type(options) ~= "table" then
        misuse(3, "configure expects a table of options, not a %s", type(options))
    end
    for name in pairs(options) do
        if name ~= "per_host" then
            misuse(3, "unknown option '%s' of configure: per_host is known", tostring(name))
        end
    end
    local n = options.per_host
    if n == nil then
        return true
    end
    local limit = n == false and 0 or math.type(n) and math.tointeger(n)
    if not limit or limit < 0 or n == 0 or limit > 1000000 then
        misuse(3, "per_host must be a number of requests above 0, or false, not %s", tostring(n))
    end
    local ok, err = core.limit_hosts(limit)
    return ok, err
end

return M
