-- What references between schemas need of RFC 3986, and of JSON pointers.
local uri = require "lash.uri"

local M = {}

--- cut(reference) -> the URI before `#`, the fragment behind it ("" for none)
function M.cut(reference)
    local uri, fragment = reference:match("^([^#]*)#?(.*)$")
    return uri, fragment
end

--- resolve(base, reference) -> what a reference without fragment means where base is the URI
M.resolve = uri.resolve

--- decode(fragment) -> the fragment without percent escapes
M.decode = uri.decode

--- token(text) -> the text as one step of a JSON pointer
function M.token(text)
    return (text:gsub("~", "~0"):gsub("/", "~1"))
end

--- untoken(step) -> the text that a step of a JSON pointer names
function M.untoken(step)
    return (step:gsub("~1", "/"):gsub("~0", "~"))
end

return M
