--- The history of what was entered: $XDG_STATE_HOME/lash/history (~/.local/state/lash/history), readable by its
-- owner only; an entry a line, with `\n` for its own line ends and `\\` for a backslash.
local fs = require "lash.lazy" "lash.fs"

local M = {}

--- Entries that are kept.
M.MAX = 5000

local History = {}
History.__index = History

--- path() -> where the history is, or nil without a home
function M.path()
    local dir = os.getenv "XDG_STATE_HOME"
    if dir and dir:sub(1, 1) == "/" then
        return dir .. "/lash/history"
    end
    local home = os.getenv "HOME"
    return home and home ~= "" and home .. "/.local/state/lash/history" or nil
end

local function packed(entry)
    return (entry:gsub("[\\\n]", { ["\\"] = "\\\\", ["\n"] = "\\n" }))
end

-- nil for what nobody has typed: the file is damaged.
local function unpacked(line)
    local entry = line:gsub("\\(.)", { ["\\"] = "\\", n = "\n" })
    return utf8.len(entry) and not entry:find "[\0-\8\11-\31\127]" and entry or nil
end

local function read(path)
    local list = {}
    local file = path and io.open(path, "rb")
    local text = file and file:read "a" or ""
    if file then
        file:close()
    end
    for line in text:gmatch "[^\n]+" do
        list[#list + 1] = unpacked(line)
    end
    return list, #text
end

--- open(add) -> history. add(entry) is called for each of the last ones, the oldest first. Without a file that
-- can be written it lasts as long as the program; `history.fault` says why.
function M.open(add)
    local history = setmetatable({ path = M.path(), add = add, last = nil, fault = nil }, History)
    if not history.path then
        history.fault = "there is no home directory"
        return history
    end
    local list = read(history.path)
    local from = math.max(1, #list - M.MAX + 1)
    for i = from, #list do
        add(list[i])
        history.last = list[i]
    end
    if #list > 2 * M.MAX then -- now and then, so that it does not grow for ever
        local lines = {}
        for i = from, #list do
            lines[#lines + 1] = packed(list[i]) .. "\n"
        end
        fs.write(history.path, table.concat(lines), { mode = "600" })
    end
    return history
end

local function append(history, line)
    local ok, err = fs.append(history.path, line, { mode = "600" })
    if not ok and err.code == "ENOENT" then
        fs.mkdir(history.path:match "^(.*)/", { parents = true, mode = "700" })
        ok, err = fs.append(history.path, line, { mode = "600" })
    end
    if not ok then
        history.fault = tostring(err)
    end
end

--- Remembers an entry, unless it is the one before again, or begins with a blank.
function History:remember(entry)
    entry = entry:gsub("%s+$", "")
    if entry == "" or entry == self.last or entry:find "^%s" then
        return
    end
    self.last = entry
    self.add(entry)
    if self.path and not self.fault then
        append(self, packed(entry) .. "\n")
    end
end

return M
