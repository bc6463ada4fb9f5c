--- lash.url: URLs taken apart, put together and resolved, RFC 3986.
--
--   local u, err = lash.url.parse("https://me@host.example:8080/a%20b?q=1#top")
--   u.scheme, u.user, u.host, u.port, u.path, u.query, u.fragment
--   lash.url.build { scheme = "https", host = "host.example", path = "/a b", query = { q = 1 } }
--   lash.url.join("http://host/a/b", "../c")         http://host/c
--   lash.url.encode("a b&c")                         a%20b%26c
--
-- Failures are `nil, err` with err.code == "url" and err.message. What readers of URLs disagree about is
-- refused: spaces and control characters, several @ before the host, a backslash there, a `%` without two
-- digits behind it. Nothing here asks a name server or loads libcurl: libcurl's own parser refuses
-- schemes that it cannot fetch, and would cost its load time where nothing is fetched.
local json = require "lash.json"
local misuse = require "lash.misuse"
local uri = require "lash.uri"

local M = {}

-- Schemes that mean nothing without a host.
local NEEDS_HOST = { http = true, https = true, ws = true, wss = true, ftp = true }
local FIELDS = { "scheme", "user", "password", "host", "port", "path", "query", "fragment" }

-- What must be escaped there. A "%" is looked at before.
local IN_USER = "[^A-Za-z0-9._~!$&'()*+,;=-]"
local IN_PATH = "[^A-Za-z0-9._~!$&'()*+,;=:@/%%-]"
local IN_QUERY = "[^A-Za-z0-9._~!$&'()*+,;=:@/?%%-]"

local function fault(text, ...)
    return nil, setmetatable({ code = "url", message = text:format(...) }, json.error_mt)
end

-- The text without what may be secret or endless.
local function shown(text)
    text = text:match("^[^?#]*"):gsub("[\0-\31\127]", "?")
    local at = text:find("@", 1, true)
    text = at and (text:match("^[^:]*") .. "...") or text
    return #text > 60 and text:sub(1, 60) .. "..." or text
end

local function wrong_characters(text)
    local at = text:find("[\0-\32\127]")
    if at then
        return ("contains a space or a control character at position %d: percent-encode it"):format(at)
    end
    local from = 1
    while true do
        at = text:find("%", from, true)
        if not at then
            return nil
        elseif not text:find("^%x%x", at + 1) then
            return ("has a %% without two hexadecimal digits behind it at position %d: write %%25"):format(at)
        end
        from = at + 3
    end
end

local function wrong_host(host)
    if host:sub(1, 1) == "[" then
        local ipv6 = host:find("^%[[0-9A-Fa-f:.]+%]$") and host:find(":", 1, true)
        return not ipv6 and not host:find("^%[[vV]%x+%.[^%[%]]+%]$") and "has a broken IPv6 address"
    end
    return host:find("[%[%]<>\"^`{|}:@/?#\\]") and "has a host with a character that no host has"
end

-- host[:port] -> host, port | nil, what is wrong
local function host_and_port(text)
    local host, digits = text:match("^(%[[^%]]*%])(.*)$")
    if not host then
        host, digits = text:match("^([^:]*)(.*)$")
    end
    local wrong = wrong_host(host)
    if wrong then
        return nil, wrong
    end
    if digits == "" or digits == ":" then
        return host:lower(), nil
    end
    digits = digits:match("^:0*([0-9]+)$")
    local port = digits and #digits <= 5 and math.tointeger(tonumber(digits))
    if not port or port < 1 or port > 65535 then
        return nil, "has a port that is not a number from 1 to 65535"
    end
    return host:lower(), port
end

-- [user[:password]@]host[:port] -> fields | nil, what is wrong
local function authority_of(text)
    if text:find("\\", 1, true) then
        return nil, "contains a backslash before its path"
    end
    local userinfo, rest = text:match("^([^@]*)@(.*)$")
    rest = rest or text
    if rest:find("@", 1, true) then
        return nil, "has more than one @ before its host: percent-encode those of the password"
    end
    local host, port = host_and_port(rest)
    if not host then
        return nil, port
    end
    local found = { host = host, port = port }
    if userinfo then
        local user, password = userinfo:match("^([^:]*):(.*)$")
        found.user = uri.decode(user or userinfo)
        found.password = password and uri.decode(password)
    end
    return found
end

-- -> fields | nil, what is wrong
local function parsed(text)
    local wrong = wrong_characters(text)
    if wrong then
        return nil, wrong
    end
    local scheme, authority, path, query, fragment = uri.split(text)
    if not scheme then
        return nil, "has no scheme: begin it with https://, or join it to the URL that it belongs to"
    end
    local found = {}
    if authority then
        found, wrong = authority_of(authority)
        if not found then
            return nil, wrong
        end
    end
    found.scheme, found.path, found.query, found.fragment = scheme:lower(), path, query, fragment
    if NEEDS_HOST[found.scheme] and (found.host or "") == "" then
        return nil, "has no host"
    end
    return found
end

--- parse(text: string) -> url.parts | nil, err
-- Scheme and host are in lower case, the host of an IPv6 address has its brackets, the port is an integer.
-- user and password are decoded; path, query and fragment stay as they are written, since an escaped slash
-- is no slash: use decode() and decode_query(). What the text does not have is nil, but the path is "".
-- @class url.parts { scheme?: string, user?: string, password?: string, host?: string, port?: integer, path: string,
--   query?: string, fragment?: string }
function M.parse(text)
    misuse.string("lash.url.parse", "the URL", text)
    local found, wrong = parsed(text)
    if not found then
        return fault("the URL '%s' %s", shown(text), wrong)
    end
    return found
end

-- Escapes what cannot stand in that part; what is escaped already stays.
local function part(text, set)
    text = uri.encode(text, set)
    return (text:gsub("%%(%x?%x?)", function(digits)
        return #digits < 2 and "%25" .. digits or nil
    end))
end

local function authority_text(fields)
    local host = fields.host
    if not host then
        return nil
    elseif host:sub(1, 1) ~= "[" and select(2, host:gsub(":", "")) > 1 then
        host = "[" .. host .. "]"
    end
    host = host:gsub("[\128-\255]", function(char) return uri.encode(char) end)
    local user = fields.user and uri.encode(fields.user, IN_USER)
    local password = fields.password and ":" .. uri.encode(fields.password, IN_USER)
    return ((user or password) and (user or "") .. (password or "") .. "@" or "") .. host
        .. (fields.port and (":%d"):format(fields.port) or "")
end

-- What is wrong with the values that build() got, if anything.
local function wrong_fields(fields)
    if not fields.scheme or not fields.scheme:find("^[A-Za-z][A-Za-z0-9+.-]*$") then
        return "has no scheme such as https"
    elseif fields.host == nil and (fields.user or fields.password or fields.port) then
        return "has a user, a password or a port, but no host"
    elseif fields.host and fields.path ~= "" and fields.path:sub(1, 1) ~= "/" then
        return "has a host and a path that does not begin with a slash"
    end
end

local function check_fields(fields)
    local given = {}
    for name, value in pairs(fields) do
        local kind = type(value)
        if name == "port" then
            value = math.type(value) and math.tointeger(value) or nil
            if not value then
                return nil, ("port must be an integer, not %s"):format(tostring(fields.port))
            end
        elseif name == "query" and kind == "table" then
            local text, wrong = uri.query(value)
            if not text then
                return nil, "query" .. wrong
            end
            value = text ~= "" and text or nil
        elseif kind ~= "string" then
            return nil, ("%s must be a string, not a %s"):format(tostring(name), kind)
        end
        given[name] = value
    end
    given.path = given.path or ""
    return given
end

--- build(fields) -> text: string | nil, err
-- What cannot stand in a part is percent-encoded: all of user and password, and of path, query and fragment what is
-- no escape yet, so that a "%" which means itself is written "%25" where two hexadecimal digits follow.
-- @param fields  as from parse()
--   scheme?    string
--   user?      string
--   password?  string
--   host?      string
--   port?      integer
--   path?      string
--   query?     string|url.query  a text, or a table as of encode_query()
--   fragment?  string
function M.build(fields)
    misuse.table("lash.url.build", "what it gets", fields)
    misuse.options("lash.url.build", fields, FIELDS)
    local given, misused = check_fields(fields)
    if not given then
        misuse.raise("lash.url.build", "%s", misused)
    end
    local wrong = wrong_fields(given)
    if wrong then
        return fault("the URL %s", wrong)
    end
    local text = uri.join(given.scheme:lower(), authority_text(given), part(given.path, IN_PATH),
        given.query and part(given.query, IN_QUERY), given.fragment and part(given.fragment, IN_QUERY))
    local found
    found, wrong = parsed(text) -- a host from outside cannot smuggle in a user or a path
    if not found then
        return fault("the URL %s", wrong)
    elseif given.host and found.host:lower() ~= authority_text({ host = given.host }):lower() then
        return fault("the URL has a host with a character that no host has")
    end
    return text
end

--- join(base: string, reference: string) -> text: string | nil, err
-- What the reference, as it stands in a document or a redirect,
-- means where `base` is the URL of that. `.` and `..` are resolved.
function M.join(base, reference)
    misuse.string("lash.url.join", "the base", base)
    misuse.string("lash.url.join", "the reference", reference)
    local found, wrong = parsed(base)
    if not found then
        return fault("the URL '%s' %s", shown(base), wrong)
    end
    local text = uri.resolve(base, reference)
    found, wrong = parsed(text)
    if not found then
        return fault("the reference '%s' %s", shown(reference), wrong)
    end
    return text
end

--- encode(text: string) -> string
-- The text for any one part of a URL: all but letters, digits and - . _ ~ percent-encoded.
function M.encode(text)
    misuse.string("lash.url.encode", "the text", text)
    return uri.encode(text)
end

--- decode(text: string) -> string | nil, err
-- The text without percent escapes. "+" stays: that is a space in queries only.
function M.decode(text)
    misuse.string("lash.url.decode", "the text", text)
    local at = text:find("%", 1, true)
    while at do
        if not text:find("^%x%x", at + 1) then
            return fault("no percent-encoded text: the %% at position %d has no two hexadecimal digits behind it", at)
        end
        at = text:find("%", at + 3, true)
    end
    return uri.decode(text)
end

--- encode_query(fields: url.query) -> string
-- Gives "a=1&b=2", sorted by name. Spaces become %20, which all readers understand.
-- @alias url.query  table<string, string|number|boolean|(string|number|boolean)[]>  name = value or list of values
function M.encode_query(fields)
    misuse.table("lash.url.encode_query", "the query", fields)
    local text, wrong = uri.query(fields)
    if not text then
        misuse.raise("lash.url.encode_query", "the query%s", wrong)
    end
    return text
end

--- decode_query(text: string) -> table<string, string|string[]> | nil, err
-- A name that stands there several times has the list of its values, in their order; one without "=" has "".
-- "+" is a space.
function M.decode_query(text)
    misuse.string("lash.url.decode_query", "the query", text)
    local fields = {}
    for pair in text:gmatch("[^&]+") do
        local name, value = pair:match("^([^=]*)=?(.*)$")
        local err
        name, err = M.decode((name:gsub("%+", " ")))
        if name then
            value, err = M.decode((value:gsub("%+", " ")))
        end
        if not value or err then
            return nil, err
        end
        local before = fields[name]
        if before == nil then
            fields[name] = value
        elseif type(before) == "table" then
            before[#before + 1] = value
        else
            fields[name] = { before, value }
        end
    end
    return fields
end

return M
