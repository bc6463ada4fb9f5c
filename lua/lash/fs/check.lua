--- What the functions of lash.fs take. Misuse is raised where the user called the function of lash.fs that
-- called one of these: so they are called by that function itself, never through another.
local checks = require "lash.misuse"
local size = require "lash.size"

local M = {}

local function misuse(text, ...)
    error(("lash.fs: " .. text):format(...), 4)
end

function M.options(options, known)
    if options == nil then
        return {}
    end
    if type(options) ~= "table" then
        misuse("options must be a table, not a %s", type(options))
    end
    local fault = checks.unknown(options, known)
    if fault then
        misuse("%s", fault)
    end
    return options
end

--- `what` names the argument, "the path" if nil.
function M.path(path, what)
    if type(path) ~= "string" then
        misuse("%s must be a string, not a %s", what or "the path", type(path))
    end
    if path:find("\0", 1, true) then
        misuse("%s contains a zero byte", what or "the path")
    end
end

function M.flag(options, name)
    local value = options[name]
    if value ~= nil and type(value) ~= "boolean" then
        misuse("%s must be true or false, not %s", name, tostring(value))
    end
    return value
end

function M.bytes(value)
    local bytes = size.bytes(value == nil and "64M" or value)
    if not bytes then
        misuse("max must be a number of bytes or a text like \"64M\", not %s", tostring(value))
    end
    return bytes
end

--- A number of names, 100000 if nil.
function M.names(value)
    local names = math.type(value or 100000) and math.tointeger(value or 100000)
    if not names or names < 1 or names > 0x7fffffff then
        misuse("max must be a number of names, not %s", tostring(value))
    end
    return names
end

function M.data(data)
    if type(data) == "number" then
        return tostring(data)
    end
    if type(data) ~= "string" then
        misuse("what is written must be a string, not a %s", type(data))
    end
    return data
end

--- "644" -> 420; nil stays nil
function M.mode(mode)
    if mode == nil then
        return nil
    end
    if type(mode) ~= "string" or not mode:find("^[0-7][0-7][0-7][0-7]?$") then
        misuse("mode must be octal permissions as a text like \"644\", not %s", tostring(mode))
    end
    return tonumber(mode, 8)
end

--- The end of a temporary file's name, "" if nil.
function M.suffix(suffix)
    if suffix == nil then
        return ""
    end
    if type(suffix) ~= "string" or suffix:find("[/\0]") then
        misuse("suffix must be the end of a file name, such as \".txt\", not %s", tostring(suffix))
    end
    return suffix
end

return M
