--- lash.path: paths as text. Never looks at the disk: `a/../b` is `b` even where a is a symbolic link.
--
--   lash.path.join("notes", "today.md")            notes/today.md
--   lash.path.extension("archive.tar.gz")          .gz
--   lash.path.relative("/srv/data/x", "/srv")      data/x
local core = require "lash.core.codec"
local misuse = require "lash.misuse"

local M = {}

local SLASH = ("/"):byte()

-- Without the slashes at its end. No pattern: those try each slash of a long row again.
local function trimmed(path)
    local last = #path
    while last > 0 and path:byte(last) == SLASH do
        last = last - 1
    end
    return path:sub(1, last)
end

-- -> what stands before the last slash, with it; the last name
local function cut(path)
    local at = #path
    while at > 0 and path:byte(at) ~= SLASH do
        at = at - 1
    end
    return path:sub(1, at), path:sub(at + 1)
end

--- is_absolute(path: string) -> boolean
-- Does it begin with a slash?
function M.is_absolute(path)
    misuse.string("lash.path.is_absolute", "the path", path)
    return path:byte() == SLASH
end

--- join(...: string) -> path: string
-- The parts with one slash between them; empty parts count for nothing. A part
-- that begins with a slash does not begin anew: join("/srv", "/etc") is "/srv/etc". `..` stays.
function M.join(...)
    local parts, n = {}, 0
    for i = 1, select("#", ...) do
        local part = select(i, ...)
        misuse.string("lash.path.join", "part " .. i, part)
        local first = n > 0 and (part:find("[^/]") or #part + 1) or 1
        if first <= #part then
            parts[n] = n > 0 and trimmed(parts[n]) or nil
            n = n + 1
            parts[n] = part:sub(first)
        end
    end
    return table.concat(parts, "/")
end

local function names_of(path)
    local names = {}
    if path:byte() == SLASH then
        names[1] = "/"
    end
    for name in path:gmatch("[^/]+") do
        names[#names + 1] = name
    end
    return names
end

--- split(path: string) -> names: string[]
-- The list of its names, "/" as the first of an absolute path. join() puts them together.
function M.split(path)
    misuse.string("lash.path.split", "the path", path)
    return names_of(path)
end

--- dirname(path: string) -> string
-- The directory that holds it: "a" of "a/b" and of "a/b/", "." of "b", "/" of "/b".
function M.dirname(path)
    misuse.string("lash.path.dirname", "the path", path)
    local bare = trimmed(path)
    if bare == "" then
        return path == "" and "." or "/"
    end
    local before = cut(bare)
    if before == "" then
        return "."
    end
    local dir = trimmed(before)
    return dir == "" and "/" or dir
end

local function last_name(path)
    local bare = trimmed(path)
    if bare == "" then
        return path == "" and "" or "/"
    end
    local _, name = cut(bare)
    return name
end

-- -> where the extension begins; behind the end when there is none
local function dot_of(name)
    if not name:find("[^.]") then
        return #name + 1
    end
    local at = #name
    while at > 0 and name:sub(at, at) ~= "." do
        at = at - 1
    end
    return name:find("[^.]") < at and at or #name + 1
end

--- basename(path: string) -> string
-- Its last name: "b" of "a/b" and of "a/b/"; "/" of "/", "" of "".
function M.basename(path)
    misuse.string("lash.path.basename", "the path", path)
    return last_name(path)
end

--- extension(path: string) -> string
-- The end of its last name from the last dot on, ".gz" of "a.tar.gz"; "" when there
-- is none. Dots at the beginning of a name begin no extension: "" of ".profile".
function M.extension(path)
    misuse.string("lash.path.extension", "the path", path)
    local name = last_name(path)
    return name:sub(dot_of(name))
end

--- stem(path: string) -> string
-- Its last name without the extension: "a.tar" of "x/a.tar.gz".
function M.stem(path)
    misuse.string("lash.path.stem", "the path", path)
    local name = last_name(path)
    return name:sub(1, dot_of(name) - 1)
end

-- names without "." and, where that can be known, without ".."
local function normal_names(path)
    local names = {}
    for _, name in ipairs(names_of(path)) do
        local before = names[#names]
        if name == ".." and before ~= nil and before ~= ".." then
            names[#names] = before == "/" and "/" or nil
        elseif name ~= "." then
            names[#names + 1] = name
        end
    end
    return names
end

-- The path of the names from `first` on.
local function text_of(names, first)
    if names[first] == "/" then
        return "/" .. table.concat(names, "/", first + 1)
    end
    return #names < first and "." or table.concat(names, "/", first)
end

--- normalize(path: string) -> string
-- The path without `.`, needless `..`, double slashes and a slash at the end; "." for
-- what is empty then. `..` goes away with the name before it, and above the root.
function M.normalize(path)
    misuse.string("lash.path.normalize", "the path", path)
    return text_of(normal_names(path), 1)
end

-- -> names of the absolute path | nil, err
local function absolute_names(path, base)
    if path:byte() == SLASH then
        return normal_names(path)
    end
    if base:byte() ~= SLASH then
        local cwd, err = core.cwd()
        if not cwd then
            return nil, err
        end
        base = cwd .. "/" .. base
    end
    return normal_names(base .. "/" .. path)
end

--- absolute(path: string [, base: string]) -> string | nil, err
-- The normalized path, begun at `base` (the working directory) when it is
-- relative; nil, err when the working directory is gone.
function M.absolute(path, base)
    misuse.string("lash.path.absolute", "the path", path)
    if base ~= nil then
        misuse.string("lash.path.absolute", "the base", base)
    end
    local names, err = absolute_names(path, base or "")
    if not names then
        return nil, err
    end
    return text_of(names, 1)
end

--- relative(path: string [, base: string]) -> string | nil, err
-- The way from the directory `base` (the working directory) to the path; "."
-- when they are the same; nil, err when the working directory is needed and gone. Relative ones are
-- begun at the working directory.
function M.relative(path, base)
    misuse.string("lash.path.relative", "the path", path)
    if base ~= nil then
        misuse.string("lash.path.relative", "the base", base)
    end
    local to, err = absolute_names(path, "")
    local from
    if to then
        from, err = absolute_names(base or "", "")
    end
    if not from then
        return nil, err
    end
    local same = 0
    while same < #from and from[same + 1] == to[same + 1] do
        same = same + 1
    end
    local names = {}
    for _ = same + 1, #from do
        names[#names + 1] = ".."
    end
    table.move(to, same + 1, #to, #names + 1, names)
    return text_of(names, 1)
end

return M
