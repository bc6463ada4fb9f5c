--- lash.fs.watch: what happens to files, as events.
local core = require "lash.core.fs.watch"
local check = require "lash.fs.check"

local M = {}

--- @class fs.watcher
--   path  string
-- @class fs.event
--   kind   "change"|"rename"|"overflow"
--   path   string
--   name?  string  below the directory, or the file's own
local Watcher = {}
Watcher.__index = Watcher
Watcher.__name = "lash.fs.watcher"

--- next() -> fs.event | nil | nil, err
-- Waits for the next event; nil when there will be none.
function Watcher:next()
    local path, name, kind = core.next(self.handle)
    if kind then
        return { path = path, name = name, kind = kind }
    end
    return nil, name
end

--- events() -> fun(): fs.event?
-- for event in watcher:events() do ... end
-- Ends when the watcher is closed, or the watched directory itself was removed or moved (which is its last
-- event); raises when watching cannot go on.
function Watcher:events()
    return function()
        local event, err = self:next()
        if err then
            error(err, 0)
        end
        return event
    end
end

--- close()
-- Those who wait for an event get none any more.
function Watcher:close()
    core.close(self.handle)
end

Watcher.__close = Watcher.close

--- watch(path: string [, options]) -> fs.watcher | nil, err
--
--   local watcher <close> = assert(lash.fs.watch("src", { recursive = true }))
--   for event in watcher:events() do print(event.kind, event.path) end
--
-- Watches a directory, or a file: by its name, so that replacing it (as lash.fs.write does) is an event and
-- not the end. The kind of an event is
--   "change"    the contents, permissions or times of something changed
--   "rename"    something came, went, or has another name
--   "overflow"  events were lost here: look at everything again. path is what is watched
-- Events that nobody has taken yet are kept, each once, up to 1000 different ones. One without a name is
-- about the directory itself. Of the files that write and copy make on the way nothing is told.
-- A missing path is the error ENOENT; ENOSPC or EMFILE with a message that names the sysctl when the limits of
-- inotify are reached. The watcher is closed at the end of the block where it is declared <close>, or by
-- watcher:close(), or with the program.
-- @param options
--   recursive?  boolean  true: all directories below too, links not followed, also those that come later; what
--               is in these when they are first seen is told as "rename"
function M.watch(path, options)
    check.path(path)
    options = check.options(options, { "recursive" })
    local handle, err = core.watch(path, check.flag(options, "recursive"))
    if not handle then
        return nil, err
    end
    return setmetatable({ path = path, handle = handle }, Watcher)
end

return M
