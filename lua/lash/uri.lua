--- What several parts need of URLs: RFC 3986, its pieces, its escapes and its references. Takes any text
-- and never fails: lash.url says what is wrong, and is what users see.

local M = {}

--- split(text) -> scheme (without ":"), authority (without "//"), path, query (without "?"), fragment
-- (without "#"); all but the path are nil when they are not there.
function M.split(text)
    local rest, fragment = text, nil
    local sharp = text:find("#", 1, true)
    if sharp then
        rest, fragment = text:sub(1, sharp - 1), text:sub(sharp + 1)
    end
    local scheme, behind = rest:match("^([A-Za-z][A-Za-z0-9+.-]*):(.*)$")
    rest = behind or rest
    local authority, tail = rest:match("^//([^/?]*)(.*)$")
    rest = tail or rest
    local query
    local mark = rest:find("?", 1, true)
    if mark then
        rest, query = rest:sub(1, mark - 1), rest:sub(mark + 1)
    end
    return scheme, authority, rest, query, fragment
end

--- join(scheme, authority, path, query, fragment) -> text: the other way
function M.join(scheme, authority, path, query, fragment)
    if not authority and path:sub(1, 2) == "//" then
        path = "/." .. path -- else its first step would be read as a host
    end
    return (scheme and scheme .. ":" or "") .. (authority and "//" .. authority or "") .. path
        .. (query and "?" .. query or "") .. (fragment and "#" .. fragment or "")
end

-- Removes the steps `.` and `..` of a path; above the root nothing is left to remove.
local function without_dots(path)
    local out, n = {}, 0
    for step, slash in path:gmatch("([^/]*)(/?)") do
        if step == ".." then
            -- the first step of an absolute path is "" before its first slash
            if n > 1 or n == 1 and out[1] ~= "/" then
                out[n] = nil
                n = n - 1
            end
        elseif step ~= "." and (step ~= "" or slash ~= "") then
            n = n + 1
            out[n] = step .. slash
        end
    end
    return table.concat(out, "", 1, n)
end

local function merged(authority, base, path)
    if authority and base == "" then
        return "/" .. path
    end
    local at = #base
    while at > 0 and base:sub(at, at) ~= "/" do -- no pattern: on long paths without a slash it is slow
        at = at - 1
    end
    return base:sub(1, at) .. path
end

--- resolve(base, reference) -> what the reference means where `base` is the URL: section 5.2, strict
function M.resolve(base, reference)
    local scheme, authority, path, query, fragment = M.split(reference)
    if scheme then
        return M.join(scheme, authority, without_dots(path), query, fragment)
    end
    local base_scheme, base_authority, base_path, base_query = M.split(base)
    if authority then
        path = without_dots(path)
    elseif path == "" then
        path, query = base_path, query or base_query
    elseif path:sub(1, 1) == "/" then
        path = without_dots(path)
    else
        path = without_dots(merged(base_authority, base_path, path))
    end
    return M.join(base_scheme, authority or base_authority, path, query, fragment)
end

local function escape(char)
    return ("%%%02X"):format(char:byte())
end

--- encode(text [, set]) -> the text with each byte of the pattern class `set` percent-encoded (all but
-- letters, digits and - . _ ~)
function M.encode(text, set)
    return (text:gsub(set or "[^A-Za-z0-9._~-]", escape))
end

--- decode(text) -> the text without its escapes; what is no escape stays
function M.decode(text)
    return (text:gsub("%%(%x%x)", function(hex)
        return string.char(tonumber(hex, 16))
    end))
end

--- query(fields) -> "a=1&b=2", sorted by name | nil, what is wrong, to be put behind the name of the
-- table
-- fields: { name = value or list of values }, values are texts, numbers or booleans.
function M.query(fields)
    local names, parts = {}, {}
    for name in pairs(fields) do
        if type(name) ~= "string" then
            return nil, (" must be written as { name = value }, found a %s as a name"):format(type(name))
        end
        names[#names + 1] = name
    end
    table.sort(names)
    for _, name in ipairs(names) do
        local values = fields[name]
        if type(values) == "table" and next(values) ~= nil and values[1] == nil then
            return nil, (".%s must be a list of texts, not a table with names: a query has no levels"):format(name)
        end
        for _, value in ipairs(type(values) == "table" and values or { values }) do
            local kind = type(value)
            if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
                return nil, (".%s must be a text, a number or a boolean, not a %s"):format(name, kind)
            end
            parts[#parts + 1] = M.encode(name) .. "=" .. M.encode(tostring(value))
        end
    end
    return table.concat(parts, "&")
end

return M
