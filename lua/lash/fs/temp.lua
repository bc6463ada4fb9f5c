--- Temporary files and directories: lash.fs.tempfile and lash.fs.tempdir.
local core = require "lash.core.fs"
local check = require "lash.fs.check"
local engine = require "lash.core.engine"
local log = require "lash.log"

local M = {}

--- @class fs.temp  a file or directory that goes away at the end of its block
--   path       string
--   directory  boolean
local Temp = {}
Temp.__index = Temp
Temp.__name = "lash.fs.temp"

--- remove() -> true | nil, err
-- Removes it now, a directory with all that is in it. Once removed, or moved elsewhere, it is no error to do so
-- again.
function Temp:remove()
    if self.removed then
        return true
    end
    local ok, err = core.remove(self.path, self.directory)
    self.removed = ok or err.code == "ENOENT"
    if self.removed then
        return true
    end
    return nil, err
end

-- A cancelled task may not wait: then the file goes without it.
function Temp:__close()
    local ran, ok, err = pcall(self.remove, self)
    if not ran then
        self.removed = true
        core.discard(self.path, self.directory)
        if engine.cancel_reason(ok) then
            error(ok, 0)
        end
    elseif not ok then
        log.warn("a temporary file stays: " .. tostring(err))
    end
end

function Temp:__tostring()
    return self.path
end

local function new(path, directory)
    return setmetatable({ path = path, directory = directory, removed = false }, Temp)
end

local function where(options)
    local dir = options.dir or os.getenv "TMPDIR"
    return dir and dir ~= "" and dir or "/tmp"
end

--- tempfile([options]) -> fs.temp | nil, err
-- Makes an empty file that nobody else has, temp.path is its path.
--
--   local temp <close> = assert(lash.fs.tempfile { suffix = ".json" })
--   lash.fs.write(temp.path, text)
--
-- It is removed by temp:remove(), or at the end of the block where it was declared <close>: also when that
-- ends by an error, or because the task is cancelled. If the program crashes or is killed, it stays.
-- @param options
--   dir?     string  where ($TMPDIR, or /tmp)
--   suffix?  string  the end of its name
--   mode?    string  permissions ("600")
function M.file(options)
    options = check.options(options, { "dir", "suffix", "mode" })
    check.path(where(options), "dir")
    local path, err = core.temp(where(options), check.suffix(options.suffix), check.mode(options.mode) or 384, false)
    if not path then
        return nil, err
    end
    return new(path, false)
end

--- tempdir([options]) -> fs.temp | nil, err
-- The same as tempfile for a directory, which is removed with all that is in it.
-- @param options
--   dir?     string  where ($TMPDIR, or /tmp)
--   suffix?  string  the end of its name
--   mode?    string  permissions ("700")
function M.dir(options)
    options = check.options(options, { "dir", "suffix", "mode" })
    check.path(where(options), "dir")
    local path, err = core.temp(where(options), check.suffix(options.suffix), check.mode(options.mode) or 448, true)
    if not path then
        return nil, err
    end
    return new(path, true)
end

return M
