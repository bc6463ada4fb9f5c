-- As much of RFC 3986 as references between schemas need.

local M = {}

-- scheme (with ":"), authority (with "//"), path, query (with "?")
local function split(uri)
    local scheme, rest = uri:match("^(%a[%w+.-]*:)(.*)$")
    rest = rest or uri
    local authority, tail = rest:match("^(//[^/?]*)(.*)$")
    local path, query = (tail or rest):match("^([^?]*)(.*)$")
    return scheme, authority, path, query
end

-- Removes `.` and `..` from a path.
local function normal(path)
    local out = {}
    for part in path:gmatch("[^/]*/?") do
        local name = part:gsub("/$", "")
        if name == ".." then
            if #out > 0 and out[#out] ~= "/" then
                out[#out] = nil
            end
        elseif name ~= "." then
            out[#out + 1] = part
        end
    end
    return table.concat(out)
end

--- cut(reference) -> the URI before `#`, the fragment behind it ("" for none)
function M.cut(reference)
    local uri, fragment = reference:match("^([^#]*)#?(.*)$")
    return uri, fragment
end

--- resolve(base, reference) -> what a reference without fragment means where base is the URI
function M.resolve(base, reference)
    local scheme, authority, path, query = split(reference)
    if scheme then
        return reference
    end
    local base_scheme, base_authority, base_path, base_query = split(base)
    base_scheme = base_scheme or ""
    if authority then
        return base_scheme .. authority .. normal(path) .. query
    end
    base_authority = base_authority or ""
    if path == "" then
        path, query = base_path, query ~= "" and query or base_query
    elseif path:sub(1, 1) ~= "/" then
        path = (base_path:match("^.*/") or (base_authority ~= "" and "/" or "")) .. path
    end
    return base_scheme .. base_authority .. normal(path) .. query
end

--- decode(fragment) -> the fragment without percent escapes
function M.decode(fragment)
    return (fragment:gsub("%%(%x%x)", function(hex)
        return string.char(tonumber(hex, 16))
    end))
end

--- token(text) -> the text as one step of a JSON pointer
function M.token(text)
    return (text:gsub("~", "~0"):gsub("/", "~1"))
end

--- untoken(step) -> the text that a step of a JSON pointer names
function M.untoken(step)
    return (step:gsub("~1", "/"):gsub("~0", "~"))
end

return M
