--- lash.fs: whole files. A task waits while others run; a worker waits alone.
--
--   local text, err = lash.fs.read("notes.md")
--   local ok, err = lash.fs.write("notes.md", text)
--
-- Expected failures are `nil, err` with err.code the system's name of the error ("ENOENT", "EACCES",
-- "EISDIR" ...) and err.message, or tostring(err), a sentence that names the file.

local core = require "lash.core.fs"
local near = require "lash.near"
local size = require "lash.size"

local M = {}

local READ_OPTIONS = { "max" }
local WRITE_OPTIONS = { "append", "sync", "mode" }

-- Misuse is raised where the user called read or write, two functions up.
local function misuse(text, ...)
    error(("lash.fs: " .. text):format(...), 4)
end

local function check_options(options, known)
    if options == nil then
        return {}
    end
    if type(options) ~= "table" then
        misuse("options must be a table, not a %s", type(options))
    end
    for name in pairs(options) do
        local found = false
        for _, one in ipairs(known) do
            found = found or one == name
        end
        if not found then
            misuse("unknown option '%s'%s", tostring(name),
                type(name) == "string" and near.hint(name, known) or "")
        end
    end
    return options
end

local function check_path(path)
    if type(path) ~= "string" then
        misuse("the path must be a string, not a %s", type(path))
    end
    if path:find("\0", 1, true) then
        misuse("the path contains a zero byte")
    end
end

local function check_max(value)
    local bytes = size.bytes(value == nil and "64M" or value)
    if not bytes then
        misuse("max must be a number of bytes or a text like \"64M\", not %s", tostring(value))
    end
    return bytes
end

local function check_data(data)
    if type(data) == "number" then
        return tostring(data)
    end
    if type(data) ~= "string" then
        misuse("what is written must be a string, not a %s", type(data))
    end
    return data
end

local function check_mode(mode)
    if mode == nil then
        return nil
    end
    if type(mode) ~= "string" or not mode:find("^[0-7][0-7][0-7][0-7]?$") then
        misuse("mode must be octal permissions as a text like \"644\", not %s", tostring(mode))
    end
    return tonumber(mode, 8)
end

--- read(path [, options]) -> text | nil, err
-- Reads to the end, also what has no size: files of /proc, /dev/stdin, a FIFO (waits for its writer).
-- options.max = bytes, or "8M" ("64M"): a larger file is the error EFBIG, never cut.
function M.read(path, options)
    check_path(path)
    options = check_options(options, READ_OPTIONS)
    local text, err = core.read(path, check_max(options.max))
    return text, err
end

--- write(path, data [, options]) -> true | nil, err
-- Makes `data` (a string; a number is written as print shows it) the contents of the file. Others see the
-- old file or the new one, never a part: it is written beside it and renamed. What cannot be replaced so
-- (a device, a FIFO, a file with several names or another owner, in a directory that is read-only) is
-- written in place. A task that is cancelled meanwhile leaves the old file.
-- options.append = true adds to the end, in place; options.sync = true waits for the disk;
-- options.mode = permissions such as "600" (those of the old file, or what the umask leaves of "666").
function M.write(path, data, options)
    check_path(path)
    data = check_data(data)
    options = check_options(options, WRITE_OPTIONS)
    local ok, err = core.write(path, data, options.append, options.sync, check_mode(options.mode))
    return ok, err
end

return M
