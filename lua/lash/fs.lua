--- lash.fs: files and directories. A task waits while others run; a worker waits alone.
--
--   local text, err = lash.fs.read("notes.md")
--   local ok, err = lash.fs.write("notes.md", text)
--   for _, path in ipairs(lash.fs.glob("src/**/*.c")) do print(path) end
--
-- Expected failures are `nil, err` with err.code the system's name of the error ("ENOENT", "EACCES",
-- "EISDIR" ...) and err.message, or tostring(err), a sentence that names the file. Paths are bytes; one that
-- is relative begins at the current directory of the program. Lists are sorted by bytes.
--
-- Cancel ends the wait at once. A step that the system has begun is carried out, its result is dropped:
-- write and copy then leave the old file, read-only functions leave no trace, remove stops at the next name
-- (what is removed does not come back), and one that is a single step (rename, mkdir, chmod, link) may have
-- been done or not.

local core = require "lash.core.fs"
local check = require "lash.fs.check"
local temp = require "lash.fs.temp"
local watch = require "lash.fs.watch"

--- @class fs.entry
--   name  string
--   type  fs.type
-- @class fs.info
--   type    fs.type
--   size    integer  bytes
--   mode    string   permissions such as "644"
--   mtime   number   seconds since 1970 with a fraction; so atime and ctime
--   atime   number
--   ctime   number
--   uid     integer
--   gid     integer
--   links   integer  number of names
--   inode   integer
--   device  integer
--   target?  string  where a link leads, with follow = false
-- @alias fs.type  "file"|"directory"|"link"|"fifo"|"socket"|"device"|"unknown"
--   a link whatever it leads to; "unknown" where the system does not say
local M = {
    tempfile = temp.file,
    tempdir = temp.dir,
    watch = watch.watch,
}

local READ_OPTIONS = { "max" }
local WRITE_OPTIONS = { "append", "atomic", "mode", "sync" }
local APPEND_OPTIONS = { "mode", "sync" }
local LIST_OPTIONS = { "all", "max" }

--- read(path: string [, options]) -> text: string | nil, err
-- Reads to the end, also what has no size: files of /proc, /dev/stdin, a FIFO (waits for its writer).
-- @param options
--   max?  integer|string  bytes, or "8M" ("64M"): a larger file is the error EFBIG, never cut
function M.read(path, options)
    check.path(path)
    options = check.options(options, READ_OPTIONS)
    local text, err = core.read(path, check.bytes(options.max))
    return text, err
end

--- write(path: string, data: string|number [, options]) -> true | nil, err
-- Makes `data` (a string; a number is written as print shows it) the contents of the file. Others see the
-- old file or the new one, never a part: it is written beside it and renamed. What cannot be replaced so
-- (a device, a FIFO, a file with several names or another owner, in a directory that is read-only) is
-- written in place. A task that is cancelled meanwhile leaves the old file.
-- @param options
--   atomic?  boolean  false writes in place even where it could be replaced: the file keeps its inode, what
--            others have open changes under their eyes, and a failure or cancel may leave a part
--   append?  boolean  true adds to the end, in place
--   sync?    boolean  true waits for the disk
--   mode?    string   permissions such as "600" (those of the old file, or what the umask leaves of "666")
function M.write(path, data, options)
    check.path(path)
    data = check.data(data)
    options = check.options(options, WRITE_OPTIONS)
    local ok, err = core.write(path, data, check.flag(options, "append"), check.flag(options, "sync"),
        check.mode(options.mode), check.flag(options, "atomic") == false)
    return ok, err
end

--- append(path: string, data: string|number [, options]) -> true | nil, err
-- Adds to the end of the file, in place; makes it if there is none. Tasks and programs that append small
-- pieces to one file do not overwrite one another.
-- @param options
--   sync?  boolean  as of write
--   mode?  string   as of write
function M.append(path, data, options)
    check.path(path)
    data = check.data(data)
    options = check.options(options, APPEND_OPTIONS)
    local ok, err = core.write(path, data, true, check.flag(options, "sync"), check.mode(options.mode))
    return ok, err
end

--- list(path: string [, options]) -> fs.entry[] | nil, err
-- What is in a directory, sorted by name.
-- @param options
--   all?  boolean  true also lists names that begin with a dot
--   max?  integer  names (100000): more are the error E2BIG, never a part
function M.list(path, options)
    check.path(path)
    options = check.options(options, LIST_OPTIONS)
    local list, err = core.list(path, check.flag(options, "all"), check.names(options.max))
    return list, err
end

--- glob(pattern: string [, options]) -> paths: string[] | nil, err
-- The paths that match, sorted; an empty list when there are none. Between slashes stand for
--   *  any characters    ?  one character    [abc] [a-z] [[:digit:]]  one of these    [!abc]  one of the others
--   **  alone: any number of directories, also none; links are not entered; at the end: all that is below
-- A backslash takes the next character as it is (lash.fs.escape does it for a whole text); a [ without its ]
-- stands for itself. Names that begin with a dot are only found by a part that begins with a dot. A pattern
-- that ends in a slash finds directories only, with the slash. Directories that may not be read are passed
-- over.
-- @param options
--   max?  integer  paths (100000): more are the error E2BIG, never a part
function M.glob(pattern, options)
    check.path(pattern, "the pattern")
    options = check.options(options, READ_OPTIONS)
    local list, err = core.glob(pattern, check.names(options.max))
    return list, err
end

--- escape(text: string) -> pattern: string
-- A pattern for glob that means this very text.
function M.escape(text)
    check.path(text, "the text")
    return (text:gsub("[%*%?%[%]\\]", "\\%0"))
end

--- stat(path: string [, options]) -> fs.info | nil, err
-- What the system knows of a file.
-- @param options
--   follow?  boolean  false looks at a link itself
function M.stat(path, options)
    check.path(path)
    options = check.options(options, { "follow" })
    local info, err = core.stat(path, check.flag(options, "follow") ~= false)
    return info, err
end

--- exists(path: string) -> true | false | nil, err
-- Whether there is something; a link that leads nowhere is nothing. When that cannot be known (permission
-- denied on the way): nil, err.
function M.exists(path)
    check.path(path)
    local info, err = core.stat(path, true)
    if info then
        return true
    end
    if err.code == "ENOENT" or err.code == "ENOTDIR" then
        return false
    end
    return nil, err
end

--- mkdir(path: string [, options]) -> true | nil, err
-- Makes a directory.
-- @param options
--   parents?  boolean  true makes what is missing above it too, and finds nothing wrong in a directory that is
--             there already
--   mode?     string   permissions of the last one, such as "700" (what the umask leaves of "777")
function M.mkdir(path, options)
    check.path(path)
    options = check.options(options, { "mode", "parents" })
    local ok, err = core.mkdir(path, check.flag(options, "parents"), check.mode(options.mode))
    return ok, err
end

--- remove(path: string [, options]) -> true | nil, err
-- Removes a file, a link (never what it leads to) or an empty directory. "/", "" and paths that end in "." or ".."
-- are refused (EINVAL). It stops at the first thing that cannot be removed.
-- @param options
--   recursive?  boolean  true removes a directory with all that is in it, and follows no link on the way
function M.remove(path, options)
    check.path(path)
    options = check.options(options, { "recursive" })
    local ok, err = core.remove(path, check.flag(options, "recursive"))
    return ok, err
end

--- rename(from: string, to: string) -> true | nil, err
-- In one step; a file `to` is replaced. Only within a file system (EXDEV).
function M.rename(from, to)
    check.path(from)
    check.path(to, "the new path")
    local ok, err = core.rename(from, to)
    return ok, err
end

--- copy(from: string, to: string) -> true | nil, err
-- Copies a regular file with its permissions (an old file `to` keeps its own). Others see the old file `to` or
-- the whole copy, as with write.
function M.copy(from, to)
    check.path(from)
    check.path(to, "the new path")
    local ok, err = core.copy(from, to)
    return ok, err
end

--- link(file: string, path: string) -> true | nil, err
-- Makes `path` one more name of the file.
function M.link(file, path)
    check.path(file, "the file")
    check.path(path)
    local ok, err = core.link(file, path)
    return ok, err
end

--- symlink(target: string, path: string) -> true | nil, err
-- Makes `path` a symbolic link to `target`, which need not exist and, if relative, begins at the directory of the
-- link.
function M.symlink(target, path)
    check.path(target, "the target")
    check.path(path)
    local ok, err = core.symlink(target, path)
    return ok, err
end

--- readlink(path: string) -> target: string | nil, err
-- Where a symbolic link leads, as it is written there.
function M.readlink(path)
    check.path(path)
    local target, err = core.readlink(path)
    return target, err
end

--- realpath(path: string) -> path: string | nil, err
-- From "/", without links, "." and "..".
function M.realpath(path)
    check.path(path)
    local real, err = core.realpath(path)
    return real, err
end

--- chmod(path: string, mode: string) -> true | nil, err
-- Sets permissions such as "644"; links are followed.
function M.chmod(path, mode)
    check.path(path)
    local ok, err = core.chmod(path, check.mode(mode == nil and "" or mode))
    return ok, err
end

return M
