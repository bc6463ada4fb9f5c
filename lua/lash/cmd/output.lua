--- Writing the answer of a command to stdout, and to the file of --out.
local failure = require "lash.failure"
local system = require "lash.core.system"

local M = {}

local CANNOT_CREATE, IO, CLOSED = 73, 74, 141

--- Writes to the program's stdout. Raises a failure when that fails; a reader that went away ends the
-- program without a word.
function M.write(text)
    local ok, err, code = system.write(1, text)
    if ok then
        return
    elseif code == "EPIPE" then
        system.exit(CLOSED)
    end
    failure.raise(IO, "cannot write to stdout: %s", err)
end

--- Writes an answer as text: whole lines, and on a terminal without control characters unless `raw`.
function M.answer(text, raw)
    if system.isatty(1) and not raw then
        text = require("lash.text").plain(text)
    end
    if text ~= "" and text:sub(-1) ~= "\n" then
        text = text .. "\n"
    end
    M.write(text)
end

--- Raises a failure now rather than when the work is done, if --out cannot work.
function M.check_out(path)
    if not path then
        return
    end
    local kind = system.file_kind(path)
    local dir = path:match("^(.*)/[^/]*$")
    dir = dir == nil and "." or dir == "" and "/" or dir
    if kind == "directory" or path == "" then
        failure.raise(CANNOT_CREATE, "--out %s is a directory: name a file", path)
    elseif kind == nil and system.file_kind(dir) ~= "directory" then
        failure.raise(CANNOT_CREATE, "--out %s: there is no directory %s", path, dir)
    end
end

--- Writes the file of --out: all of it, or what was there before stays.
function M.save(path, text)
    if not path then
        return
    end
    local ok, err = system.write_file(path, text)
    if not ok then
        failure.raise(CANNOT_CREATE, "cannot write %s: %s", path, err)
    end
end

return M
