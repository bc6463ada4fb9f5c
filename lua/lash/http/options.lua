--- What lash.http is asked for, checked and turned into what the core takes.
--
-- Misuse is raised where the user called us. `level` is everywhere that of the user's function as seen
-- from the function that has it as its argument, so it grows by one a call; no tail calls on the way.
local body = require "lash.http.body"
local core = require "lash.core.http"
local checks = require "lash.misuse"
local size = require "lash.size"

local M = {}

local REQUEST = { -- what all requests take
    "url", "method", "headers", "query", "body", "length", "json", "form", "multipart", "file", "timeout",
    "connect_timeout", "idle_timeout", "max_body", "follow", "proxy", "ca_file", "version",
}
local STREAM = table.move(REQUEST, 1, #REQUEST, 5, { "event_timeout", "max_event", "max_line", "keep_alive" })

local KNOWN = { request = REQUEST, stream = STREAM }

-- Nearly all requests have no others: those are looked for only when one is given.
local COMMON = { url = true, method = true, headers = true, body = true, json = true, timeout = true, follow = true }

local function misuse(level, text, ...)
    error(("lash.http: " .. text):format(...), level)
end
M.misuse = misuse

-- The functions below are called for options that are given: most are not, and calls cost more than looking.

local function check_time(options, name, level)
    local value = options[name]
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
    local bytes = size.bytes(value)
    if not bytes then
        misuse(level + 1, "%s must be a number of bytes or a text like \"64M\", not %s", name,
            tostring(value))
    end
    return bytes
end

local function check_follow(options, level)
    local value = options.follow
    if value == true then
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

local function check_text(options, name, what, level)
    local value = options[name]
    if type(value) ~= "string" or value == "" or value:find("\0", 1, true) then
        misuse(level + 1, "%s must be %s, not %s", name, what, tostring(value))
    end
    return value
end

local function check_proxy(options, level)
    if options.proxy == false then
        return ""
    end
    local proxy = check_text(options, "proxy", "the URL of a proxy, or false for none", level + 1)
    return proxy
end

local function check_version(options, level)
    local version = options.version
    if version ~= "1.1" and version ~= "2" then
        misuse(level + 1, "version must be \"1.1\" or \"2\", not %s", tostring(version))
    end
    return version == "2"
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

-- { name = value | { value, ... } } -> { name, value, ... } in an order that is always the same: for what the core does
-- not take as it is, which is either misuse or a table with a metatable
local function list_of(headers, level)
    local list = {}
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

-- Appends { name = value | { value, ... } } to the URL, sorted by name.
local function with_query(url, query, level)
    local text = body.pairs_text(query, "query", level + 1)
    if text == "" then
        return url
    end
    local base, fragment = url:match("^([^#]*)(.*)$")
    local sign = base:find("?", 1, true) and (base:find("[?&]$") and "" or "&") or "?"
    return base .. sign .. text .. fragment
end

-- @return whether one is given that is not common, or may be
local function check_known(options, kind, level)
    local rare = getmetatable(options) ~= nil
    for name in next, options do
        rare = rare or not COMMON[name]
    end
    local fault = rare and checks.unknown(options, KNOWN[kind])
    if fault then
        misuse(level + 1, "%s", fault)
    end
    return rare
end

-- function(event) -> true for an event that is only a sign of life
local function check_keep_alive(options, level)
    local names = options.keep_alive
    if type(names) == "function" then
        return names
    elseif type(names) == "string" then
        names = { names }
    end
    if names ~= nil and type(names) ~= "table" then
        misuse(level + 1, "keep_alive must be the name of an event, a list of names or a function, not a %s",
            type(names))
    end
    local known_names = {}
    for _, name in ipairs(names or {}) do
        if type(name) ~= "string" then
            misuse(level + 1, "keep_alive must be the name of an event or a list of names, found a %s", type(name))
        end
        known_names[name] = true
    end
    return function(event)
        return known_names[event.event]
    end
end

local function check_headers(options, level)
    local headers = options.headers
    if not core.plain_headers(headers) then
        headers = list_of(headers, level + 1)
    end
    return headers
end

local function check_method(method, level)
    if type(method) ~= "string" then
        misuse(level + 1, "method must be a string, not a %s", type(method))
    end
    return method:upper()
end

local function add_rare(plan, options, level)
    if options.query ~= nil then
        plan.url = with_query(plan.url, options.query, level + 1)
    end
    for _, name in ipairs { "connect_timeout", "idle_timeout", "event_timeout" } do
        if options[name] ~= nil then
            plan[name] = check_time(options, name, level + 1)
        end
    end
    for _, name in ipairs { "max_body", "max_event", "max_line" } do
        if options[name] ~= nil then
            plan[name] = check_size(options, name, level + 1)
        end
    end
    if options.proxy ~= nil then
        plan.proxy = check_proxy(options, level + 1)
    end
    if options.ca_file ~= nil then
        plan.ca_file = check_text(options, "ca_file", "the path of a file", level + 1)
    end
    if options.version ~= nil then
        plan.version_2 = check_version(options, level + 1)
    end
end

--- check(options, url, method | nil, kind, level) -> plan: url, method, headers, body (string or nil), source (of
-- lash.http.body, or nil), content_type (unless the headers have one, or nil), keep_alive, and the options of the
-- core. `kind` is "request" or "stream".
function M.check(options, url, method, kind, level)
    local rare = check_known(options, kind, level + 1)
    if type(url) ~= "string" then
        misuse(level + 1, "the URL must be a string, not a %s", type(url))
    elseif url:find("\0", 1, true) then
        misuse(level + 1, "the URL contains a zero byte")
    end
    if not method then
        method = options.method and check_method(options.method, level + 1) or "GET"
    end
    local headers = options.headers ~= nil and check_headers(options, level + 1) or nil
    local text, source, content = options.body, nil, nil
    if rare or options.json ~= nil or text ~= nil and type(text) ~= "string" then
        text, source, content = body.make(options, level + 1)
    end
    local plan = {
        method = method,
        url = url,
        headers = headers,
        body = text,
        source = source,
        content_type = content,
        timeout = options.timeout ~= nil and check_time(options, "timeout", level + 1) or nil,
        redirects = options.follow ~= nil and check_follow(options, level + 1) or nil,
        keep_alive = kind == "stream" and check_keep_alive(options, level + 1) or nil,
    }
    if rare then
        add_rare(plan, options, level + 1)
    end
    return plan
end

return M
