--- `.attach`: files that go with the next message, as `lash ask -f` gives them. They are read when they are attached.
local failure = require "lash.failure"
local fs = require "lash.fs"
local input = require "lash.cmd.input"
local material = require "lash.cmd.material"
local system = require "lash.core.system"
local text = require "lash.text"
local words = require "lash.console.words"

local M = {}

local USAGE = 1

local function say(format, ...)
    local made = format:format(...)
    system.write(1, (system.isatty(1) and text.plain(made) or made) .. "\n")
end

local function size_text(bytes)
    if bytes < 1000 then
        return ("%d bytes"):format(bytes)
    elseif bytes < 1e6 then
        return ("%.1f kB"):format(bytes / 1e3)
    end
    return ("%.1f MB"):format(bytes / 1e6)
end

-- A file as { path =, piece = as of lash.cmd.material, bytes =, kind = }. Raises a failure that names the remedy.
local function read(path)
    local kind, why = system.file_kind(path)
    if not kind then
        failure.raise(USAGE, "cannot attach %s: %s; Tab completes the names of files", path, why)
    elseif kind == "directory" then
        failure.raise(USAGE, "%s is a directory: attach the files in it, .attach %s/*", path,
            words.escaped((path:gsub("/+$", ""))))
    elseif kind ~= "file" then
        failure.raise(USAGE, "%s is no file that has an end: write what comes from it to a file, and attach that",
            path)
    end
    local bytes = input.read_file(path)
    if bytes == "" then
        failure.raise(USAGE, "%s is empty: there is nothing to attach", path)
    end
    local piece = material.file(path, bytes)
    return { path = path, piece = piece, bytes = #bytes, kind = type(piece) == "string" and "text" or piece.mime }
end

-- The files that a word means: itself, or what a pattern matches.
local function paths_of(word)
    local home = os.getenv "HOME"
    local path = home and word:gsub("^~/", function() return home .. "/" end) or word
    if not path:find "[*?[]" or system.file_kind(path) then
        return { path }
    end
    local found, err = fs.glob(path)
    local files = {}
    for _, one in ipairs(found or {}) do
        files[#files + 1] = system.file_kind(one) == "file" and one or nil
    end
    if not files[1] then
        failure.raise(USAGE, "no file is %s: %s", word, err and tostring(err) or "Tab completes the names of files")
    end
    return files
end

local function tell(files)
    for _, file in ipairs(files) do
        say("%s  (%s, %s)", file.path, file.kind, size_text(file.bytes))
    end
end

local function total(files)
    local bytes = 0
    for _, file in ipairs(files) do
        bytes = bytes + file.bytes
    end
    return bytes
end

-- The list with these files, each once; all of them, or a failure is raised.
local function with(attached, paths)
    local list, at = {}, {}
    for i, file in ipairs(attached) do
        list[i], at[file.path] = file, i
    end
    for _, path in ipairs(paths) do
        local file = read(path)
        at[path] = at[path] or #list + 1
        list[at[path]] = file
        if total(list) > input.MAX then
            failure.raise(USAGE, "with %s it is more than %d MiB, more than a model can read: ask about fewer at a "
                .. "time (.attach - takes back what is attached)", path, input.MAX >> 20)
        end
    end
    return list
end

--- names(files) -> their paths as one text
function M.names(files)
    local names = {}
    for i, file in ipairs(files) do
        names[i] = file.path
    end
    return table.concat(names, ", ")
end

--- attach(console, rest): `rest` stands behind `.attach`
function M.attach(console, rest)
    local ws = console.workspace
    local list = system.file_kind(rest) == "file" and { rest } or words.cut(rest)
    if #list == 0 and #ws.attached == 0 then
        return say "nothing is attached: .attach FILE ... adds files to the next message"
    elseif #list == 0 then
        return tell(ws.attached)
    elseif rest == "-" then
        local names = M.names(ws.attached)
        ws.attached = {}
        return say("%s", names ~= "" and "taken back: " .. names or "nothing was attached")
    end
    local paths = {}
    for _, word in ipairs(list) do
        if word == "-" then
            failure.raise(USAGE, ".attach - takes back all, and stands alone; a file of that name is ./-")
        end
        local found = paths_of(word)
        table.move(found, 1, #found, #paths + 1, paths)
    end
    ws.attached = with(ws.attached, paths)
    tell(ws.attached)
    say "they go with the next message; .attach - takes them back"
end

--- message(files, line) -> what agent:run takes
function M.message(files, line)
    local list = {}
    for i, file in ipairs(files) do
        list[i] = file.piece
    end
    list[#list + 1] = line
    return material.message(list)
end

return M
