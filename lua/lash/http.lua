--- lash.http: HTTP/1.1 requests. A task waits for the answer while others run; a worker waits alone.
--
--   local res, err = lash.http.get("https://example.com/data.json", { timeout = 5 })
--   if not res then error(err) end
--   if res.ok then print(res:json().name) end
--
-- An answer of any status is an answer; `nil, err` means that there is none. err.code is one of
--   "url" "request"          the request itself is wrong; nothing was sent
--   "resolve" "connect" "tls" no connection
--   "timeout"                a limit of time was reached
--   "closed"                 the server hung up before the end of its answer
--   "too_large" "encoding" "protocol"  the answer is too large, cannot be unpacked, is not HTTP
--   "no_libcurl"             libcurl is not installed
-- and err.message, or tostring(err), a sentence without keys: of URLs no query, user or password.
--
-- Certificates are always verified; SSL_CERT_FILE and SSL_CERT_DIR name other authorities. Proxies are
-- taken from http_proxy, https_proxy and no_proxy. Connections are kept for later requests. A redirect
-- to another scheme, host or port does not take headers along whose names look like keys.

local core = require "lash.core.http"
local json = require "lash.json"
local near = require "lash.near"
local size = require "lash.size"
local uri = require "lash.uri"

local M = {}

local OPTIONS = {
    "url", "method", "headers", "query", "body", "json", "timeout", "connect_timeout",
    "idle_timeout", "max_body", "follow",
}
local known = {}
for _, name in ipairs(OPTIONS) do
    known[name] = true
end

-- Misuse is raised where the user called us. `level` is everywhere that of the user's function as seen
-- from the function that has it as its argument, so it grows by one a call; no tail calls on the way.
local function misuse(level, text, ...)
    error(("lash.http: " .. text):format(...), level)
end

local function check_time(options, name, level)
    local value = options[name]
    if value == nil then
        return nil
    end
    if value == false then
        return 0
    end
    if type(value) ~= "number" or not (value > 0 and value <= 1e6) then
        misuse(level + 1, "%s must be a number of seconds above 0 (false: no limit), not %s", name,
            tostring(value))
    end
    return value
end

local function check_size(options, name, level)
    local value = options[name]
    if value == nil then
        return nil
    end
    local bytes = size.bytes(value)
    if not bytes then
        misuse(level + 1, "%s must be a number of bytes or a text like \"64M\", not %s", name,
            tostring(value))
    end
    return bytes
end

local function check_follow(options, level)
    local value = options.follow
    if value == nil or value == true then
        return nil
    end
    if value == false then
        return 0
    end
    value = math.type(value) and math.tointeger(value)
    if not value or value < 0 or value > 100 then
        misuse(level + 1, "follow must be true, false or a number of redirects, not %s",
            tostring(options.follow))
    end
    return value
end

local function add_header(list, name, value, level)
    if type(value) == "number" then
        value = tostring(value)
    end
    if type(value) ~= "string" then
        misuse(level + 1, "header %s must be a string or a list of strings, not a %s", name, type(value))
    end
    list[#list + 1] = name
    list[#list + 1] = value
end

-- { name = value | { value, ... } } -> { name, value, ... } in an order that is always the same
local function check_headers(headers, level)
    local list = {}
    if headers == nil then
        return list
    end
    if type(headers) ~= "table" then
        misuse(level + 1, "headers must be a table of names and values, not a %s", type(headers))
    end
    local names = {}
    for name in pairs(headers) do
        if type(name) ~= "string" then
            misuse(level + 1, "headers must be written as { name = value }, found a %s as a name",
                type(name))
        end
        names[#names + 1] = name
    end
    table.sort(names)
    for _, name in ipairs(names) do
        local value = headers[name]
        if type(value) == "table" then
            for _, one in ipairs(value) do
                add_header(list, name, one, level + 1)
            end
        else
            add_header(list, name, value, level + 1)
        end
    end
    return list
end

local function has_header(list, name)
    for i = 1, #list, 2 do
        if list[i]:lower() == name then
            return true
        end
    end
    return false
end

--- Percent-encodes text for a part of a URL: all but letters, digits and - . _ ~
function M.escape(text)
    return uri.encode(tostring(text))
end

-- Appends { name = value | { value, ... } } to the URL, sorted by name.
local function with_query(url, query, level)
    if query == nil then
        return url
    end
    if type(query) ~= "table" then
        misuse(level + 1, "query must be a table of names and values, not a %s", type(query))
    end
    local text, wrong = uri.query(query)
    if not text then
        misuse(level + 1, "query%s", wrong)
    elseif text == "" then
        return url
    end
    local base, fragment = url:match("^([^#]*)(.*)$")
    local sign = base:find("?", 1, true) and (base:find("[?&]$") and "" or "&") or "?"
    return base .. sign .. text .. fragment
end

-- -> body | nil, err
local function make_body(options, headers, level)
    if options.json == nil then
        local body = options.body
        if body ~= nil and type(body) ~= "string" then
            misuse(level + 1, "body must be a string, not a %s; a table goes under json", type(body))
        end
        return body
    end
    if options.body ~= nil then
        misuse(level + 1, "give either body or json, not both")
    end
    local text, err = json.encode(options.json, { name = "json" })
    if not text then
        misuse(level + 1, "%s", tostring(err))
    end
    if not has_header(headers, "content-type") then
        headers[#headers + 1] = "Content-Type"
        headers[#headers + 1] = "application/json"
    end
    return text
end

local header_mt = {
    -- names in any case
    __index = function(headers, name)
        return type(name) == "string" and rawget(headers, name:lower()) or nil
    end,
}

-- Keys in lower case; repeated headers joined by ", " but for set-cookie, which is a list.
local function read_headers(list)
    local headers, joined = {}, {}
    for i = 1, #list, 2 do
        local name, value = list[i]:lower(), list[i + 1]
        local values = headers[name]
        if values then
            values[#values + 1] = value
        else
            headers[name] = { value }
        end
    end
    for name, values in next, headers do
        joined[name] = name == "set-cookie" and values or table.concat(values, ", ")
    end
    return setmetatable(joined, header_mt)
end

local answer = {}
answer.__index = answer

--- res:json() -> value | nil, err: the body as JSON, by lash.json.decode.
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
        headers = read_headers(headers),
        url = url,
        version = version,
        first_byte = first_byte,
        total = total,
    }, answer)
end

local function send(options, method, level)
    for name in pairs(options) do
        if not known[name] then
            misuse(level + 1, "unknown option '%s'%s", tostring(name),
                type(name) == "string" and near.hint(name, OPTIONS) or "")
        end
    end
    local url = options.url
    if type(url) ~= "string" then
        misuse(level + 1, "the URL must be a string, not a %s", type(url))
    end
    method = method or options.method or "GET"
    if type(method) ~= "string" then
        misuse(level + 1, "method must be a string, not a %s", type(method))
    end
    local headers = check_headers(options.headers, level + 1)
    local body = make_body(options, headers, level + 1)
    url = with_query(url, options.query, level + 1)
    return finish(core.send(method:upper(), url, headers, body, {
        timeout = check_time(options, "timeout", level + 1),
        connect_timeout = check_time(options, "connect_timeout", level + 1),
        idle_timeout = check_time(options, "idle_timeout", level + 1),
        max_body = check_size(options, "max_body", level + 1),
        redirects = check_follow(options, level + 1),
    }))
end

--- request(options) -> res | nil, err
-- options.url; options.method ("GET"); options.headers = { name = value or list of values };
-- options.query = { name = value or list of values }, added to the URL, sorted by name;
-- options.body = string, or options.json = any value, sent as JSON;
-- options.timeout = seconds for all of it (no limit); options.connect_timeout = seconds until there is
-- a connection (10); options.idle_timeout = seconds without a byte in either direction (300), looked at
-- once a second; `false` takes a limit away;
-- options.max_body = bytes of the unpacked body, or "8M" ("64M"): more is an error, never cut;
-- options.follow = false, or the number of redirects to follow (10).
-- res.status, res.ok (2xx), res.body, res.headers (any case; of equal names joined by ", ";
-- set-cookie is a list), res.url (after redirects), res.version, res.first_byte and res.total
-- (seconds), res:json().
function M.request(options)
    if type(options) ~= "table" then
        misuse(3, "request expects a table of options, not a %s", type(options))
    end
    local res, err = send(options, nil, 3)
    return res, err
end

local function with_url(url, options, level)
    if options ~= nil and type(options) ~= "table" then
        misuse(level + 1, "options must be a table, not a %s", type(options))
    end
    local all = {}
    for name, value in pairs(options or {}) do
        all[name] = value
    end
    if all.url ~= nil or all.method ~= nil then
        misuse(level + 1, "url and method are options of request only")
    end
    all.url = url
    return all
end

--- get(url [, options]) -> res | nil, err; options as of request.
function M.get(url, options)
    local res, err = send(with_url(url, options, 3), "GET", 3)
    return res, err
end

--- post(url [, options]) -> res | nil, err; options.body or options.json is what is sent.
function M.post(url, options)
    local res, err = send(with_url(url, options, 3), "POST", 3)
    return res, err
end

return M
